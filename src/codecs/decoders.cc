// Table of decoding halves, made of codec_list.inc. Links no encoder.
#include <array>

#include "codecs/codec.h"

namespace zipllm::codecs {

#define ZIPLLM_CODEC(id, Name) extern const Decoder k##Name##Decoder;
#include "codecs/codec_list.inc"
#undef ZIPLLM_CODEC

namespace {
constexpr std::array kDecoders = {
#define ZIPLLM_CODEC(id, Name) &k##Name##Decoder,
#include "codecs/codec_list.inc"
#undef ZIPLLM_CODEC
};

// A number used twice fails to compile.
[[maybe_unused]] constexpr void CheckIds(int id) {
  switch (id) {
#define ZIPLLM_CODEC(id, Name) case id:
#include "codecs/codec_list.inc"
#undef ZIPLLM_CODEC
    default:
      break;
  }
}
}  // namespace

const Decoder* FindDecoder(CodecId id) {
  for (const Decoder* decoder : kDecoders) {
    if (decoder->id == id) return decoder;
  }
  return nullptr;
}

std::span<const Decoder* const> AllDecoders() { return kDecoders; }

}  // namespace zipllm::codecs
