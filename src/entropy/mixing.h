// Models of bits and their logistic mixing (Mahoney 2005, "Adaptive weighing of
// context models for lossless data compression"), in integers throughout, so
// that every machine predicts alike.
//
// A probability is that of a one, of 65536. Its stretched form is
// ln(p / (1 - p)) in 1/256, -2047 to 2047: the domain where models add up.
#ifndef ZIPLLM_ENTROPY_MIXING_H_
#define ZIPLLM_ENTROPY_MIXING_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace zipllm::entropy {

inline constexpr int kStretchMax = 2047;

/// Tables of this room, computed once when first asked for.
struct MixingTables {
  /// 65536 / (1 + exp(-x / 256)), rounded; at index x + 2048.
  std::array<uint16_t, 4096> squash;
  /// By p / 16: the least x for which squash[x + 2048] >= p / 16 * 16 + 8.
  std::array<int16_t, 4096> stretch;
  /// By n: 65536 / (n + 1.5), rounded down: the step of a model that has seen n
  /// bits.
  std::array<uint16_t, 1024> step;
};
const MixingTables& GetMixingTables();

/// What one context predicts: an average over the bits it has seen, up to a
/// limit, from where on old ones count less and less. 32 bits: a probability of
/// 22 and a count of 10.
class AdaptiveBit {
 public:
  AdaptiveBit() = default;
  /// Begins as if it had seen `count` bits with the share `p16` of ones.
  AdaptiveBit(uint32_t p16, uint32_t count) : state_(p16 << 16 | count) {}
  uint32_t p16() const { return state_ >> 16; }
  uint32_t count() const { return state_ & 1023; }
  void Update(const MixingTables& tables, bool bit, uint32_t limit) {
    const uint32_t n = state_ & 1023;
    const uint32_t p = state_ >> 10;
    const uint32_t step = tables.step[n];
    // 22 bits by 16; the product's sign needs 64.
    const int64_t target = bit ? (1 << 22) - 1 : 0;
    const int64_t moved =
        p + (((target - static_cast<int64_t>(p)) * step) >> 16);
    state_ = static_cast<uint32_t>(moved) << 10 | (n < limit ? n + 1 : n);
  }

 private:
  uint32_t state_ = uint32_t{1} << 31;
};

/// A probability that a coder takes: 1 to 65535.
inline uint32_t ClampProbability(int64_t p) {
  return static_cast<uint32_t>(std::clamp<int64_t>(p, 1, 65535));
}

/// Weights that are chosen by a context, one for each of `kInputs` models.
/// Thread-compatible.
template <size_t kInputs>
class Mixer {
 public:
  using Inputs = std::array<int32_t, kInputs>;

  /// `sets` sets of weights, each `weight` of 65536 at first; `rate` is the
  /// binary logarithm of how slowly they end up learning.
  Mixer(size_t sets, const Inputs& weights, int rate)
      : sets_(sets), rate_(rate) {
    for (Set& set : sets_) set.weights = weights;
  }

  /// The stretched mix of `inputs` by the weights `set`, in 1/256, and what
  /// Update needs.
  int32_t Mix(const Inputs& inputs, size_t set) {
    inputs_ = &inputs;
    current_ = &sets_[set];
    int64_t sum = 0;
    for (size_t i = 0; i < kInputs; ++i) {
      sum += int64_t{current_->weights[i]} * inputs[i];
    }
    const int64_t mixed = (sum + 32768) >> 16;
    return static_cast<int32_t>(
        std::clamp<int64_t>(mixed, -kStretchMax, kStretchMax));
  }
  /// Moves the weights just used towards what would have predicted `bit`;
  /// `p` is the squashed mix.
  void Update(uint32_t p, bool bit) {
    const int32_t error = (bit ? 65536 : 0) - static_cast<int32_t>(p);
    const int shift = std::min(rate_, kFirstRate + (current_->count >> 5));
    current_->count += current_->count < 1024;
    const int32_t half = 1 << (shift - 1);
    for (size_t i = 0; i < kInputs; ++i) {
      int32_t& weight = current_->weights[i];
      weight = std::clamp(weight + (((*inputs_)[i] * error + half) >> shift),
                          -kWeightMax, kWeightMax);
    }
  }

 private:
  static constexpr int kFirstRate = 13;
  static constexpr int32_t kWeightMax = 8 * 65536;
  struct Set {
    std::array<int32_t, kInputs> weights;
    int count = 0;
  };
  std::vector<Set> sets_;
  int rate_;
  const Inputs* inputs_ = nullptr;
  Set* current_ = nullptr;
};

}  // namespace zipllm::entropy

#endif  // ZIPLLM_ENTROPY_MIXING_H_
