// How codec 19 codes bits and numbers: adaptive bits on a binary coder, the
// same calls for encoder, decoder and for counting what it would take.
// Format: format-spec/codecs/19-derived.md, "Numbers".
#ifndef ZIPLLM_CODECS_QUANT_DERIVED_MODELS_H_
#define ZIPLLM_CODECS_QUANT_DERIVED_MODELS_H_

#include <algorithm>
#include <bit>
#include <cstdint>

#include "base/log2.h"
#include "entropy/binary_coder.h"
#include "entropy/mixing.h"

namespace zipllm::codecs::derived {

/// Counts what a BinaryEncoder would write.
class BitCounter {
 public:
  bool Code(bool bit, uint32_t p) {
    cost_ += (uint64_t{16} << 16) - Log2Q16(bit ? p : 65536 - p);
    return bit;
  }
  /// In 1/65536 bit.
  uint64_t cost() const { return cost_; }

 private:
  uint64_t cost_ = 0;
};

template <class Coder>
inline constexpr bool kDecodes = false;
template <>
inline constexpr bool kDecodes<entropy::BinaryDecoder> = true;

// Hot loops copy the coder, so that compilers keep it in registers: that takes
// inlining.
#define ZIPLLM_INLINE inline __attribute__((always_inline))

/// Of a number from 0 on: small ones tell each alone, large ones by octave.
struct NumberModel {
  entropy::AdaptiveBit unary[4];
  entropy::AdaptiveBit octave[16];
  entropy::AdaptiveBit below[16][4];
};
/// Of a number of either sign.
struct SignedModel {
  entropy::AdaptiveBit sign;
  NumberModel magnitude;
};

/// Values to code are read by encoders alone; what is returned was coded.
template <class Coder>
class BitModels {
 public:
  explicit BitModels(Coder* coder)
      : coder_(coder), tables_(entropy::GetMixingTables()) {}

  ZIPLLM_INLINE bool Bit(entropy::AdaptiveBit& model, bool bit) {
    bit = coder_->Code(bit, entropy::ClampProbability(model.p16()));
    model.Update(tables_, bit, kLimit);
    return bit;
  }
  /// The lowest `count` bits, highest first, all as likely.
  ZIPLLM_INLINE uint32_t Raw(uint32_t value, int count) {
    uint32_t coded = 0;
    for (int i = count - 1; i >= 0; --i) {
      const bool bit = coder_->Code((value >> i & 1) != 0, 32768);
      coded = 2 * coded + (bit ? 1 : 0);
    }
    return coded;
  }
  /// 0 to 65538.
  ZIPLLM_INLINE uint32_t Number(NumberModel& model, uint32_t value) {
    for (uint32_t i = 0; i < std::size(model.unary); ++i) {
      if (!Bit(model.unary[i], value > i)) return i;
    }
    const uint32_t rest = value - 3;  // 1 or more
    const int top = kDecodes<Coder> ? 0 : std::bit_width(rest) - 1;
    int octave = 0;
    while (octave < 15 && Bit(model.octave[octave], top > octave)) ++octave;
    uint32_t coded = 1;
    const int near = std::min(octave, 2);
    for (int i = 1; i <= near; ++i) {
      const uint32_t node = i == 1 ? 0 : coded & 1;
      const bool bit = Bit(model.below[octave][2 * (i - 1) + node],
                           (rest >> (octave - i) & 1) != 0);
      coded = 2 * coded + (bit ? 1 : 0);
    }
    coded = coded << (octave - near) | Raw(rest, octave - near);
    return coded + 3;
  }
  /// Any number but 0, of magnitude up to 65539.
  ZIPLLM_INLINE int32_t SignedNumber(SignedModel& model, int32_t value) {
    const bool negative = Bit(model.sign, value < 0);
    const auto magnitude = static_cast<int32_t>(
        Number(model.magnitude,
               static_cast<uint32_t>((value < 0 ? -value : value) - 1)));
    return negative ? -1 - magnitude : 1 + magnitude;
  }

 private:
  static constexpr uint32_t kLimit = 1020;
  Coder* coder_;
  const entropy::MixingTables& tables_;
};

}  // namespace zipllm::codecs::derived

#endif  // ZIPLLM_CODECS_QUANT_DERIVED_MODELS_H_
