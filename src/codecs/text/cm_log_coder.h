// Whole blocks coded by the profile log of text_cm, for one target.
#ifndef ZIPLLM_CODECS_TEXT_CM_LOG_CODER_H_
#define ZIPLLM_CODECS_TEXT_CM_LOG_CODER_H_

#include "codecs/text/cm_log.h"
#include "kernels/kernels.h"

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

/// Null where the build or the CPU has not got the target.
const LogCoder* FindLogCoder(kernels::Target target);
/// That of kernels::Best().
const LogCoder& BestLogCoder();

// Each target's file defines its own.
extern const LogCoder kLogCoderScalar;
extern const LogCoder kLogCoderAvx2;
extern const LogCoder kLogCoderAvx512;

inline namespace ZIPLLM_CM_TARGET {

/// What LogModel codes with: gives back the bit that is coded.
struct LogEncoder {
  BitEncoder& coder;
  bool Code(bool bit, uint32_t p) {
    coder.Code(bit, p);
    return bit;
  }
};
struct LogDecoder {
  BitDecoder& coder;
  bool Code(bool, uint32_t p) { return coder.Code(p); }
};
struct LogLearner {
  bool Code(bool bit, uint32_t) { return bit; }
};

inline void ReadPrior(LogModel& model, const uint8_t* prior, size_t size,
                      size_t learnt) {
  LogLearner learner;
  for (size_t i = 0; i < size; ++i) {
    if (i < size - learnt) {
      model.Read(prior[i]);
    } else {
      model.Code(learner, prior[i]);
    }
  }
}

struct LogState {
  LogModel model;

  size_t Encode(const uint8_t* plain, size_t size, uint8_t* coded, size_t room,
                const Follower& follower) {
    BitEncoder coder(coded, coded + room);
    LogEncoder encoder{coder};
    for (size_t i = 0; i < size && !coder.is_full(); ++i) {
      if (i % Follower::kPeriod == Follower::kPeriod - 1 &&
          !follower.Advance(Follower::kPeriod)) {
        return 0;
      }
      model.Code(encoder, plain[i]);
    }
    const uint8_t* end = coder.Finish();
    return end == nullptr ? 0 : static_cast<size_t>(end - coded);
  }
  bool Decode(const uint8_t* coded, size_t coded_size, uint8_t* plain,
              size_t size, const Follower& follower) {
    BitDecoder coder(coded, coded_size);
    LogDecoder decoder{coder};
    for (size_t i = 0; i < size; ++i) {
      if (i % Follower::kPeriod == Follower::kPeriod - 1 &&
          (coder.IsPastEnd() || !follower.Advance(Follower::kPeriod))) {
        return false;
      }
      plain[i] = model.Code(decoder, 0);
    }
    return coder.IsAtEnd();
  }
  void Relocate(const Relocation& moved) { model.Relocate(moved); }
};

inline void PrimeLog(uint8_t* memory, const LogSizes& sizes,
                     const uint8_t* prior, size_t prior_size, size_t learnt) {
  auto* state =
      new (memory) LogState{.model = LogModel(memory + kStateBytes, sizes)};
  ReadPrior(state->model, prior, prior_size, learnt);
}

inline constexpr LogCoder kLogCoder = {.prime = PrimeLog,
                                       .block = MakeBlockCoder<LogState>()};

}  // namespace ZIPLLM_CM_TARGET
}  // namespace zipllm::codecs::cm

#endif  // ZIPLLM_CODECS_TEXT_CM_LOG_CODER_H_
