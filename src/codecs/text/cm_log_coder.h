// Whole blocks coded by the profile log of text_cm, for one target.
#ifndef ZIPLLM_CODECS_TEXT_CM_LOG_CODER_H_
#define ZIPLLM_CODECS_TEXT_CM_LOG_CODER_H_

#include "codecs/text/cm_log.h"
#include "kernels/by_target.h"

namespace zipllm::codecs::cm {

/// What the profile log does.
struct LogCoder {
  /// Makes a model in `memory`, which is kStateBytes and LogBytes(sizes) zeros,
  /// 64-byte aligned. It reads `prior`, and learns the last `learnt` bytes of
  /// it as if they were coded; sizes.text_size is that of the prior and of the
  /// block together.
  void (*prime)(uint8_t* memory, const LogSizes& sizes, const uint8_t* prior,
                size_t prior_size, size_t learnt);
  BlockCoder block;
};

// Each target's file defines its own.
extern const LogCoder kLogCoderScalar;
extern const LogCoder kLogCoderAvx2;
extern const LogCoder kLogCoderAvx512;
extern const kernels::ByTarget<LogCoder> kLogCoders;

inline namespace ZIPLLM_CM_TARGET {

inline void PrimeLog(uint8_t* memory, const LogSizes& sizes,
                     const uint8_t* prior, size_t prior_size, size_t learnt) {
  auto* state = new (memory)
      ModelState<LogModel>{.model = LogModel(memory + kStateBytes, sizes)};
  const size_t read = prior_size - learnt;
  for (size_t i = 0; i < read; ++i) state->model.Read(prior[i]);
  LearnAll(state->model, prior + read, learnt);
}

inline constexpr LogCoder kLogCoder = {
    .prime = PrimeLog, .block = MakeBlockCoder<ModelState<LogModel>>()};

}  // namespace ZIPLLM_CM_TARGET
}  // namespace zipllm::codecs::cm

#endif  // ZIPLLM_CODECS_TEXT_CM_LOG_CODER_H_
