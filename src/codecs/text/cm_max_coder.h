// Whole blocks coded by the profile max of text_cm, for one target.
#ifndef ZIPLLM_CODECS_TEXT_CM_MAX_CODER_H_
#define ZIPLLM_CODECS_TEXT_CM_MAX_CODER_H_

#include "codecs/text/cm_max.h"
#include "kernels/by_target.h"

namespace zipllm::codecs::cm {

/// What the profile max does.
struct MaxCoder {
  /// Makes a model in `memory`, which is kStateBytes and MaxBytes(sizes) zeros,
  /// 64-byte aligned, and lets it learn `prior`; sizes.text_size is that of the
  /// prior and of the block together.
  void (*prime)(uint8_t* memory, const MaxSizes& sizes, const uint8_t* prior,
                size_t prior_size);
  BlockCoder block;
};

// Each target's file defines its own.
extern const MaxCoder kMaxCoderScalar;
extern const MaxCoder kMaxCoderAvx2;
extern const MaxCoder kMaxCoderAvx512;
extern const kernels::ByTarget<MaxCoder> kMaxCoders;

inline namespace ZIPLLM_CM_TARGET {

inline void PrimeMax(uint8_t* memory, const MaxSizes& sizes,
                     const uint8_t* prior, size_t prior_size) {
  auto* state = new (memory)
      ModelState<MaxModel>{.model = MaxModel(memory + kStateBytes, sizes)};
  LearnAll(state->model, prior, prior_size);
}

inline constexpr MaxCoder kMaxCoder = {
    .prime = PrimeMax, .block = MakeBlockCoder<ModelState<MaxModel>>()};

}  // namespace ZIPLLM_CM_TARGET
}  // namespace zipllm::codecs::cm

#endif  // ZIPLLM_CODECS_TEXT_CM_MAX_CODER_H_
