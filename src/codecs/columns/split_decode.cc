// Kind split: values that have the same punctuation; what stands between is a
// part each, beside those before.
#include "codecs/columns/kinds.h"
#include "codecs/columns/split.h"

namespace zipllm::codecs::columns {
namespace {

absl::Status Decode(ByteReader& body, const DecodeContext& context,
                    Values* out) {
  // Else a few bytes could ask for kMaxFields^kMaxDepth columns.
  if (context.depth > kMaxSplitDepth) {
    return body.Error("values are split too deep");
  }
  ASSIGN_OR_RETURN(const uint64_t fields, body.Varint(kMaxFields));
  if (fields < 2) return body.Error("values are split into nothing");
  std::vector<ByteSpan> marks(fields + 1);
  size_t more = 0;
  for (ByteSpan& mark : marks) {
    ASSIGN_OR_RETURN(const uint64_t size, body.Varint());
    ASSIGN_OR_RETURN(mark, body.Bytes(size));
    more += mark.size();
  }
  Exceptions exceptions;
  RETURN_IF_ERROR(exceptions.Decode(body, context));
  const size_t regular = context.count - exceptions.size();
  if (regular == 0) return body.Error("values are not split");
  if (more > context.max_bytes / regular) {
    return body.Error("values are too long");
  }
  RowsBeside rows_beside;
  RETURN_IF_ERROR(rows_beside.Set(
      context.beside, exceptions.OtherRows(context.count), context.count));
  std::vector<Values> parts(fields);
  size_t left = context.max_bytes - more * regular;
  for (size_t f = 0; f < fields; ++f) {
    const std::vector<Beside> beside =
        BesideField(parts, f, rows_beside.besides());
    DecodeContext part = context;
    part.beside = beside;
    RETURN_IF_ERROR(DecodePart(body, regular, left, part, &parts[f]));
    left -= parts[f].bytes().size();
  }
  out->Reserve(context.count, context.max_bytes - left);
  for (size_t i = 0, row = 0; i < context.count; ++i) {
    if (exceptions.IsNext(i)) {
      out->Append(exceptions.Take());
      continue;
    }
    size_t size = more;
    for (const Values& part : parts) size += part[row].size();
    uint8_t* next = out->Extend(size);
    const auto append = [&](ByteSpan piece) {
      if (!piece.empty()) std::memcpy(next, piece.data(), piece.size());
      next += piece.size();
    };
    for (size_t f = 0; f < fields; ++f) {
      append(marks[f]);
      append(parts[f][row]);
    }
    append(marks[fields]);
    ++row;
  }
  return absl::OkStatus();
}

}  // namespace

extern const KindDecoder kSplitDecoder = {.decode = Decode};

}  // namespace zipllm::codecs::columns
