// Kind text: lengths, and all bytes joined.
#include "codecs/columns/numbers.h"

namespace zipllm::codecs::columns {
namespace {

absl::Status Decode(ByteReader& body, const DecodeContext& context,
                    Values* out) {
  Numbers lengths;
  RETURN_IF_ERROR(DecodeNumbers(body, context.count, context, &lengths));
  uint64_t sum = 0;
  for (const uint64_t length : lengths) {
    if (length > context.max_bytes - sum) {
      return body.Error("values are too long");
    }
    sum += length;
  }
  Buffer bytes(sum);
  RETURN_IF_ERROR(DecodeBytes(body, bytes.mutable_span(), context));
  out->Adopt(std::move(bytes), lengths);
  return absl::OkStatus();
}

}  // namespace

extern const KindDecoder kTextDecoder = {.decode = Decode};

}  // namespace zipllm::codecs::columns
