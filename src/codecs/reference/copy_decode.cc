// Codec 14, copy: the bytes of a reference as they are.
// Format: format-spec/codecs/14-copy.md.
#include <algorithm>

#include "base/bytes.h"
#include "codecs/codec.h"

namespace zipllm::codecs {
namespace {

absl::Status Decode(const DecodeParams* /*params*/, const BlockContext& context,
                    ByteSpan coded, MutableByteSpan out, Scratch& /*scratch*/) {
  ByteReader reader(coded, "copy block");
  ASSIGN_OR_RETURN(const uint8_t which, reader.Le<uint8_t>());
  RETURN_IF_ERROR(reader.ExpectEnd());
  if (which >= context.references.size() ||
      context.references[which].data.size() != out.size()) {
    return reader.Error("no reference ", int{which}, " of ", out.size(),
                        " bytes");
  }
  std::ranges::copy(context.references[which].data, out.begin());
  return absl::OkStatus();
}

}  // namespace

extern const Decoder kCopyDecoder = {.id = 14,
                                     .name = "copy",
                                     .parse = nullptr,
                                     .decode = nullptr,
                                     .decode_against = Decode};

}  // namespace zipllm::codecs
