// Table of encoding halves, made of codec_list.inc.
#include <array>

#include "codecs/codec.h"

namespace zipllm::codecs {

#define ZIPLLM_CODEC(id, Name) extern const Encoder k##Name##Encoder;
#include "codecs/codec_list.inc"
#undef ZIPLLM_CODEC

namespace {
constexpr std::array kEncoders = {
#define ZIPLLM_CODEC(id, Name) &k##Name##Encoder,
#include "codecs/codec_list.inc"
#undef ZIPLLM_CODEC
};
}  // namespace

const Encoder* FindEncoder(CodecId id) {
  for (const Encoder* encoder : kEncoders) {
    if (encoder->id == id) return encoder;
  }
  return nullptr;
}

std::span<const Encoder* const> AllEncoders() { return kEncoders; }

}  // namespace zipllm::codecs
