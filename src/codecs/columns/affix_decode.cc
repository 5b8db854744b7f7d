// Kind affix: what all values begin and end with, and a part of what is
// between.
#include "codecs/columns/kinds.h"

namespace zipllm::codecs::columns {
namespace {

absl::Status Decode(ByteReader& body, const DecodeContext& context,
                    Values* out) {
  ASSIGN_OR_RETURN(const uint64_t prefix_size, body.Varint());
  ASSIGN_OR_RETURN(const ByteSpan prefix, body.Bytes(prefix_size));
  ASSIGN_OR_RETURN(const uint64_t suffix_size, body.Varint());
  ASSIGN_OR_RETURN(const ByteSpan suffix, body.Bytes(suffix_size));
  const size_t more = prefix.size() + suffix.size();
  if (more > context.max_bytes / context.count) {
    return body.Error("values are too long");
  }
  Values middles;
  RETURN_IF_ERROR(DecodePart(body, context.count,
                             context.max_bytes - more * context.count, context,
                             &middles));
  out->Reserve(context.count, middles.bytes().size() + more * context.count);
  for (size_t i = 0; i < context.count; ++i) {
    const ByteSpan middle = middles[i];
    uint8_t* next = out->Extend(middle.size() + more);
    for (const ByteSpan piece : {prefix, middle, suffix}) {
      if (piece.empty()) continue;
      std::memcpy(next, piece.data(), piece.size());
      next += piece.size();
    }
  }
  return absl::OkStatus();
}

}  // namespace

extern const KindDecoder kAffixDecoder = {.decode = Decode};

}  // namespace zipllm::codecs::columns
