// Kind constant: all values are the body.
#include "codecs/columns/kinds.h"

namespace zipllm::codecs::columns {
namespace {

absl::Status Decode(ByteReader& body, const DecodeContext& context,
                    Values* out) {
  ASSIGN_OR_RETURN(const ByteSpan value, body.Bytes(body.remaining()));
  if (value.size() > context.max_bytes / context.count) {
    return body.Error("values are too long");
  }
  out->Reserve(context.count, context.count * value.size());
  for (size_t i = 0; i < context.count; ++i) out->Append(value);
  return absl::OkStatus();
}

}  // namespace

extern const KindDecoder kConstantDecoder = {.decode = Decode};

}  // namespace zipllm::codecs::columns
