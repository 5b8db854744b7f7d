// Columns: what is the same for all kinds.
#include "codecs/columns/columns.h"
#include "codecs/columns/kinds.h"

namespace zipllm::codecs::columns {

#define ZIPLLM_COLUMN_KIND(id, name) extern const KindDecoder k##name##Decoder;
#include "codecs/columns/kind_list.inc"
#undef ZIPLLM_COLUMN_KIND

namespace {

/// In a whole column's kind: a stamp follows.
constexpr uint8_t kStamped = 0x80;

absl::Status DecodeBody(uint8_t kind, ByteReader& body,
                        const DecodeContext& context, Values* out) {
  out->Clear();
  const KindDecoder* decoder = FindKind(kind);
  if (decoder == nullptr) {
    return body.Error("column of unknown kind ", int{kind});
  }
  if (context.count == 0) return body.Error("a column without values");
  RETURN_IF_ERROR(decoder->decode(body, context, out));
  RETURN_IF_ERROR(body.ExpectEnd());
  if (out->size() != context.count || out->bytes().size() > context.max_bytes) {
    return body.Error("column does not hold what is due");
  }
  return absl::OkStatus();
}

}  // namespace

const KindDecoder* FindKind(uint8_t id) {
  switch (id) {
#define ZIPLLM_COLUMN_KIND(number, name) \
  case number:                           \
    return &k##name##Decoder;
#include "codecs/columns/kind_list.inc"
#undef ZIPLLM_COLUMN_KIND
    default:
      return nullptr;
  }
}

absl::StatusOr<Stamp> ReadStamp(ByteReader& reader) {
  ASSIGN_OR_RETURN(const uint64_t size, reader.Varint());
  ASSIGN_OR_RETURN(ByteReader column, reader.Sub(size, "column"));
  Stamp stamp;
  if (size == 0) {
    stamp.is_empty = true;
    return stamp;
  }
  ASSIGN_OR_RETURN(const uint8_t kind, column.Le<uint8_t>());
  stamp.kind = kind & ~kStamped;
  if ((kind & kStamped) != 0) {
    stamp.has_classes = true;
    ASSIGN_OR_RETURN(const uint64_t longest, column.Varint(UINT32_MAX));
    stamp.longest = static_cast<uint32_t>(longest);
    ASSIGN_OR_RETURN(stamp.classes, column.Le<uint8_t>());
  }
  ASSIGN_OR_RETURN(stamp.body, column.Bytes(column.remaining()));
  return stamp;
}

absl::Status DecodeColumn(ByteReader& reader, size_t count, size_t max_bytes,
                          std::span<const Beside> beside, Scratch& scratch,
                          Values* out) {
  out->Clear();
  ASSIGN_OR_RETURN(const Stamp stamp, ReadStamp(reader));
  if (stamp.is_empty) {
    return count == 0 ? absl::OkStatus() : reader.Error("column ends early");
  }
  ByteReader body(stamp.body, "column");
  return DecodeBody(stamp.kind, body,
                    {.count = count,
                     .max_bytes = max_bytes,
                     .beside = beside,
                     .scratch = scratch},
                    out);
}

absl::Status DecodePart(ByteReader& reader, size_t count, size_t max_bytes,
                        const DecodeContext& context, Values* out) {
  out->Clear();
  if (context.depth >= kMaxDepth) {
    return reader.Error("columns stand too deep in one another");
  }
  ASSIGN_OR_RETURN(const uint64_t size, reader.Varint());
  ASSIGN_OR_RETURN(ByteReader body, reader.Sub(size, "part of a column"));
  if (size == 0 && count == 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(const uint8_t kind, body.Le<uint8_t>());
  return DecodeBody(kind, body,
                    {.count = count,
                     .max_bytes = max_bytes,
                     .beside = context.beside,
                     .scratch = context.scratch,
                     .depth = context.depth + 1},
                    out);
}

absl::Status RowsBeside::Set(std::span<const Beside> beside,
                             std::span<const uint32_t> rows, size_t count) {
  indexes_.resize(beside.size());
  besides_.clear();
  for (size_t b = 0; b < beside.size(); ++b) {
    if (!HasBeside(beside[b], count)) {
      return DataLoss("column has too few values beside it");
    }
    indexes_[b].reserve(rows.size());
    for (const uint32_t row : rows) {
      indexes_[b].push_back(static_cast<uint32_t>(BesideIndex(beside[b], row)));
    }
    besides_.push_back({beside[b].values, indexes_[b]});
  }
  return absl::OkStatus();
}

}  // namespace zipllm::codecs::columns
