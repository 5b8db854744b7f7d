// What encoder and decoder of codec 18 share: the models that predict an
// element from the base beside it. Format: format-spec/codecs/18-mixdelta.md.
//
// An element is taken for its base, plus a step of unknown size, rounded. What
// a step will be is said by two experts: one predicts it from the steps of the
// row so far, as earlier rows had it; one takes it for zero on average. How
// far steps go is learned by row and column. Bits that halve where the element
// can be are predicted from that, and by contexts.
#ifndef ZIPLLM_CODECS_REFERENCE_MIXDELTA_MODELS_H_
#define ZIPLLM_CODECS_REFERENCE_MIXDELTA_MODELS_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "codecs/codec.h"
#include "codecs/reference/casts.h"
#include "codecs/tensor/mix_models.h"
#include "entropy/mixing.h"
#include "entropy/row_predictor.h"

namespace zipllm::codecs::mixdelta {

using mix::Distribution;
using mix::Grid;
using mix::LogRatio;

/// Numbers in fixed point: 2^22 is 2^unit, a typical step.
using Fixed = int64_t;
inline constexpr int kUnitBits = 22;
inline constexpr Fixed kFar = Fixed{1} << 58;  // what larger numbers are
/// From the row predictor's scale to these.
inline constexpr int kPredictorShift = 12;
inline constexpr int kMaxUnit = 1023;
/// Decoded bytes of a block: bounds the models' memory.
inline constexpr size_t kMaxBlockBytes = size_t{1} << 22;

/// The frame's parameters.
struct Params {
  DType dtype = DType::kBytes;  // of elements: a float
  bool equal = false;  // it is told whether an element is its base's cast
  uint8_t ridge = 0;   // of the row predictor
  int16_t unit = 0;    // exponent of a typical step
};

/// Elements of a type as numbers, and in their order.
class Numbers {
 public:
  Numbers(const FloatFormat& format, int unit)
      : mantissa_bits_(format.mantissa_bits),
        sign_bit_(uint32_t{1} << (8 * format.bytes - 1)),
        bias_((1 << (format.exponent_bits - 1)) - 1 + unit - kUnitBits),
        real_bias_((1 << (format.exponent_bits - 1)) - 1) {}

  uint32_t sign_bit() const { return sign_bit_; }
  int64_t min() const { return -int64_t{sign_bit_}; }
  int64_t max() const { return int64_t{sign_bit_} - 1; }

  /// Its place in the order: +0 has 0, -0 has -1.
  int64_t PlaceOf(uint32_t element) const {
    const int64_t magnitude = element & (sign_bit_ - 1);
    return (element & sign_bit_) != 0 ? ~magnitude : magnitude;
  }
  /// The element at a place, which counts modulo the number of elements.
  uint32_t At(int64_t place) const {
    const auto low = static_cast<uint32_t>(place) & (sign_bit_ - 1);
    return (static_cast<uint32_t>(place) & sign_bit_) != 0
               ? sign_bit_ | (low ^ (sign_bit_ - 1))
               : low;
  }
  static int64_t MagnitudeOf(int64_t place) {
    return place < 0 ? ~place : place;
  }
  /// The number there; infinities and NaNs as if the exponent went on.
  Fixed ValueOf(int64_t place) const {
    return place < 0 ? -OfMagnitude(~place) : OfMagnitude(place);
  }
  /// Between the place and the one below.
  Fixed Bound(int64_t place) const {
    return (ValueOf(std::clamp(place - 1, min(), max())) +
            ValueOf(std::clamp(place, min(), max()))) >>
           1;
  }
  /// To the next place away from zero.
  Fixed Step(int64_t place) const {
    const int64_t magnitude = MagnitudeOf(place);
    return OfMagnitude(magnitude + 1) - OfMagnitude(magnitude);
  }
  /// The place next to a number.
  int64_t Nearest(Fixed value) const {
    const Fixed size = std::min(value < 0 ? -value : value, kFar);
    int64_t magnitude = Below(size);
    const Fixed twice = OfMagnitude(magnitude) + OfMagnitude(magnitude + 1);
    if (2 * size >= twice) ++magnitude;
    magnitude = std::min(magnitude, max());
    return value < 0 ? ~magnitude : magnitude;
  }
  /// Exponent and the top three bits of the mantissa, for contexts.
  size_t OctaveOf(int64_t place, int unit) const {
    const int64_t magnitude = MagnitudeOf(place);
    const int exponent = static_cast<int>(magnitude >> mantissa_bits_);
    const int64_t top = ((magnitude << 3) >> mantissa_bits_) & 7;
    return static_cast<size_t>(
        std::clamp(exponent - real_bias_ - unit + 8, 0, 39) * 8 + top);
  }

 private:
  Fixed OfMagnitude(int64_t magnitude) const {
    const int exponent = static_cast<int>(magnitude >> mantissa_bits_);
    const int64_t significand =
        (magnitude & ((int64_t{1} << mantissa_bits_) - 1)) |
        (int64_t{exponent != 0} << mantissa_bits_);
    const int shift = std::max(exponent, 1) - bias_ - mantissa_bits_;
    if (shift <= 0) return significand >> std::min(-shift, 63);
    if (shift + mantissa_bits_ >= 57) return kFar;
    return significand << shift;
  }
  /// The greatest magnitude whose number is at most `size`, or one near it.
  int64_t Below(Fixed size) const {
    if (size == 0) return 0;
    const int top =
        static_cast<int>(std::bit_width(static_cast<uint64_t>(size))) - 1;
    const int exponent = top + bias_;
    const int shift = std::max(exponent, 1) - bias_ - mantissa_bits_;
    const int64_t significand =
        shift >= 0 ? size >> std::min(shift, 63) : size << std::min(-shift, 40);
    if (exponent < 1) return std::min(significand, max());
    if (exponent > static_cast<int>(max() >> mantissa_bits_)) return max();
    return (int64_t{exponent - 1} << mantissa_bits_) + significand;
  }

  int mantissa_bits_;
  uint32_t sign_bit_;
  int bias_;  // with it, exponents are those of fixed point
  int real_bias_;
};

/// Where a variable lies that is an expert's plus one that is anywhere within
/// +-`spread` of zero: the base has lost that much when it was rounded.
class SpreadDistribution {
 public:
  static const SpreadDistribution& Get() {
    static const SpreadDistribution distribution;
    return distribution;
  }
  /// The share below `z`, of 2^30; both in 1/65536 deviation, below 2^31.
  int64_t operator()(int64_t z, int64_t spread) const {
    if (spread < kNarrow) return distribution_(z);
    return ((Integral(z + spread) - Integral(z - spread)) << 9) / (2 * spread);
  }

 private:
  static constexpr int64_t kNarrow = 1 << 13;
  static constexpr int64_t kLimit = 8 << 16;
  static constexpr size_t kCells = 1024;

  SpreadDistribution() {
    int64_t sum = 0;
    for (size_t i = 0; i <= kCells; ++i) {
      table_[i] = i == kCells
                      ? Distribution::kOne
                      : distribution_(static_cast<int64_t>(i) * 1024 - kLimit);
      if (i > 0) sum += table_[i - 1] + table_[i];
      integral_[i] = sum;
    }
  }
  /// Of the distribution up to z, in 2^-37.
  int64_t Integral(int64_t z) const {
    if (z < -kLimit) return 0;
    if (z >= kLimit) return integral_[kCells] + ((z - kLimit) << 21);
    const size_t i = static_cast<size_t>(z + kLimit) >> 10;
    const int64_t t = (z + kLimit) & 1023;
    return integral_[i] +
           ((2 * table_[i] + (((table_[i + 1] - table_[i]) * t) >> 10)) * t >>
            10);
  }

  const Distribution& distribution_ = Distribution::Get();
  std::array<int64_t, kCells + 1> table_;
  std::array<int64_t, kCells + 1> integral_;  // in 2^-37
};

/// An average of what counts more or less: weights are up to 256.
class WeightedAverage {
 public:
  WeightedAverage() = default;
  WeightedAverage(int64_t value, int64_t weight)
      : value_(value), weight_(weight) {}
  int64_t value() const { return value_; }
  void Add(int64_t x, int64_t weight) {
    weight_ = std::min<int64_t>(weight_ + weight, 250 * 256);
    value_ += (x - value_) * weight / weight_;
  }

 private:
  int64_t value_ = 0;
  int64_t weight_ = 1;
};

/// The models of a block. `Coder` codes: Bit(bit, p) and Raw(bits, count)
/// return what they coded.
template <class Coder>
class Models {
 public:
  Models(const Params& params, const FloatFormat& element,
         const FloatFormat& base, const Grid& grid);

  void BeginLine();
  void EndLine();
  /// There is no element in this column.
  void Skip(size_t column) {
    predictor_.Set(column, predictor_.Prediction(column) >>
                               entropy::RowPredictor::kPredictionBits);
  }
  /// Codes the element of this column, beside `base`, whose cast to the
  /// element's type is `cast`.
  uint32_t Code(Coder& coder, size_t column, uint32_t base, uint32_t cast,
                uint32_t element);

 private:
  /// Blocks of fewer elements have no time to learn contexts.
  static constexpr size_t kSmall = 4096;
  static constexpr size_t kExperts = 3;
  static constexpr size_t kContexts = 4;
  static constexpr size_t kInputs = 2 * kExperts + kContexts;
  static constexpr size_t kGroupNodes = 32;  // by how wide steps are
  static constexpr size_t kEqualNode = kGroupNodes + 31;  // free there
  static constexpr size_t kNodes = 3 * kGroupNodes;
  static constexpr int64_t kMost = 12;  // of what is counted bit by bit
  static constexpr int kSubBits = 3;
  static constexpr size_t kLevels = 32;
  static constexpr size_t kFineRatios = 96;    // of quarter octaves
  static constexpr size_t kCoarseRatios = 21;  // of octaves
  static constexpr size_t kOctaves = 40;
  static constexpr size_t kSizes[kContexts] = {kFineRatios, 16 * kCoarseRatios,
                                               kOctaves * 8, kOctaves * 16};
  static constexpr std::array<int32_t, kInputs> kFirstWeights = {
      12000, 12000, 12000, 12000, 4000, 4000, 2000, 2000, 2000, 2000};
  static constexpr int kRatioBits = 16;
  static constexpr int64_t kOne = 1 << kRatioBits;
  static constexpr Fixed kLeastScale = 64;
  static constexpr Fixed kMostScale = Fixed{1} << 38;
  static constexpr std::array<int64_t, kExperts> kLinePrior = {
      32 * 256, 32 * 256, 8 * 256};
  static constexpr size_t kDecay = 2;  // the expert that goes by it
  static constexpr int kDecayBits = 24;

  struct Expert {
    Fixed mean;
    Fixed scale;  // mean deviation
    Fixed deviation;
    int64_t inverse;  // 2^48 / deviation
    int64_t spread;
    int64_t low, high;
  };
  /// How the predictor's steps compare with those that came.
  struct Trust {
    int64_t product = 1 << 19;
    int64_t square = 1 << 19;
  };

  /// How far elements go towards zero, by weight decay: the sum of the steps
  /// (away from it) and of the bases.
  struct Decay {
    int64_t steps = 0;
    int64_t bases = Fixed{1} << kUnitBits;
    int64_t count = 0;
    Fixed StepOf(Fixed base) const {
      const int64_t share = std::clamp<int64_t>((steps << kDecayBits) / bases,
                                                -(1 << 18), 1 << 18);
      return (std::min(base, Fixed{1} << 44) * share) >> kDecayBits;
    }
    void Add(Fixed step, Fixed base) {
      constexpr Fixed kMostSteps = Fixed{1} << 37;
      steps += std::clamp<Fixed>(step, -kMostSteps, kMostSteps);
      bases += std::min(base, Fixed{1} << 56);
      ++count;
      if (std::abs(steps) > kMostSteps || bases > Fixed{1} << 57) Halve();
    }
    void Halve() {
      steps /= 2;
      bases = bases / 2 + 1;
      count /= 2;
    }
  };

  void SetExperts(size_t column, Fixed base, Fixed base_spread, Fixed step);
  void SetContexts(size_t column, int64_t cast, Fixed step);
  int64_t Below(size_t k, Fixed bound) const;
  bool Bit(Coder& coder, const std::array<int32_t, kExperts>& odds, size_t node,
           bool want);
  bool IsAt(Coder& coder, int64_t place, bool want);
  bool IsFrom(Coder& coder, int64_t place, size_t node, bool want);
  int64_t CodePlace(Coder& coder, int64_t want);
  uint64_t CodeFar(Coder& coder, uint64_t want);
  void Learn(size_t column, Fixed base, Fixed value, Fixed step);

  const Params params_;
  const Numbers elements_;
  const Numbers bases_;
  const bool is_small_;
  const entropy::MixingTables& tables_ = entropy::GetMixingTables();
  const SpreadDistribution& distribution_ = SpreadDistribution::Get();
  const LogRatio& log_ratio_ = LogRatio::Get();

  entropy::RowPredictor predictor_;
  std::vector<std::array<WeightedAverage, kExperts>> columns_;
  std::array<int64_t, kExperts> line_scale_;
  int64_t lines_ = 2;
  std::array<Trust, 64> trust_;
  Decay quiet_decay_;           // of lines that went by it
  int64_t quiet_ = 64 * kOne;   // how far these went beyond
  std::vector<uint8_t> above_;  // how far elements above are from their casts

  std::vector<entropy::AdaptiveBit> calibration_;
  std::array<std::vector<entropy::AdaptiveBit>, kContexts> contexts_;
  entropy::Mixer<kInputs> by_node_;
  entropy::Mixer<kInputs> by_ratio_;
  std::vector<entropy::AdaptiveBit> last_;
  std::array<entropy::AdaptiveBit, 32> far_;

  // Of the line.
  std::array<int64_t, kExperts> sum_;
  std::array<int64_t, kExperts> weight_;
  Decay decay_;
  uint8_t left_ = 0;

  // Of the element.
  std::array<Expert, kExperts> experts_;
  bool mirrored_ = false;  // the base is negative: all signs are turned
  Fixed predicted_ = 0;
  Trust* trusted_ = nullptr;
  std::array<size_t, kContexts> context_{};
  size_t coarse_ratio_ = 0;
};

template <class Coder>
Models<Coder>::Models(const Params& params, const FloatFormat& element,
                      const FloatFormat& base, const Grid& grid)
    : params_(params),
      elements_(element, params.unit),
      bases_(base, params.unit),
      is_small_(grid.count < kSmall),
      predictor_(grid.columns, params.ridge),
      columns_(grid.columns),
      above_(grid.columns),
      calibration_(kExperts * kNodes * kLevels),
      by_node_(kNodes, kFirstWeights, 16),
      by_ratio_((is_small_ ? 1 : kCoarseRatios) * kNodes, kFirstWeights, 16),
      last_(kNodes * kLevels) {
  // At first what experts say is what is.
  const auto at_level = [this](size_t i, uint32_t count) {
    return entropy::AdaptiveBit(tables_.squash[(i % kLevels) * 128 + 64],
                                count);
  };
  for (size_t i = 0; i < calibration_.size(); ++i) {
    calibration_[i] = at_level(i, 6);
  }
  for (size_t i = 0; i < last_.size(); ++i) last_[i] = at_level(i, 20);
  for (size_t i = 0; i < kContexts; ++i) {
    contexts_[i].resize((is_small_ ? 1 : kSizes[i]) * kNodes);
  }
  for (auto& scales : columns_) {
    scales.fill(WeightedAverage(Fixed{1} << kUnitBits, 12 * 256));
  }
  line_scale_.fill(kOne);
}

template <class Coder>
void Models<Coder>::BeginLine() {
  predictor_.BeginRow();
  for (size_t k = 0; k < kExperts; ++k) {
    sum_[k] = kLinePrior[k] * line_scale_[k];
    weight_[k] = kLinePrior[k];
  }
  decay_ = quiet_decay_;
  left_ = 0;
}

template <class Coder>
void Models<Coder>::EndLine() {
  predictor_.EndRow();
  for (size_t k = 0; k < kExperts; ++k) {
    line_scale_[k] += (sum_[k] / weight_[k] - line_scale_[k]) / lines_;
  }
  lines_ = std::min<int64_t>(lines_ + 1, 64);
  const int64_t went = sum_[kDecay] / weight_[kDecay];
  if (went <= 2 * quiet_) {
    quiet_decay_ = decay_;
    while (quiet_decay_.count > 256) quiet_decay_.Halve();
    quiet_ = std::min(quiet_, went);
  }
  quiet_ += (quiet_ >> 3) + 1;
}

template <class Coder>
void Models<Coder>::SetExperts(size_t column, Fixed base, Fixed base_spread,
                               Fixed step) {
  constexpr Fixed kMostPredicted = Fixed{1} << 36;
  predicted_ = std::clamp<Fixed>(
      Fixed{predictor_.Prediction(column)} *
          (1 << (kPredictorShift - entropy::RowPredictor::kPredictionBits)),
      -kMostPredicted, kMostPredicted);
  if (mirrored_) predicted_ = -predicted_;
  trusted_ =
      &trust_[static_cast<size_t>(std::bit_width(static_cast<uint64_t>(step)))];
  const int64_t trust = std::clamp<int64_t>(
      trusted_->product / std::max<int64_t>(trusted_->square >> 12, 1), 0,
      4096 * 3 / 2);
  for (size_t k = 0; k < kExperts; ++k) {
    Expert& expert = experts_[k];
    expert.mean = base + (k == 0        ? (predicted_ * trust) >> 12
                          : k == kDecay ? decay_.StepOf(base)
                                        : 0);
    expert.scale = std::clamp<Fixed>(
        (columns_[column][k].value() * (sum_[k] / weight_[k])) >> kRatioBits,
        kLeastScale, kMostScale);
    // 9/8: what a mean deviation makes of Distribution's.
    expert.deviation = (expert.scale * 9) >> 3;
    expert.inverse = (int64_t{1} << 48) / expert.deviation;
    expert.spread =
        (std::min(base_spread, expert.deviation << 13) * expert.inverse) >> 32;
    expert.low = 0;
    expert.high = Distribution::kOne;
  }
}

template <class Coder>
void Models<Coder>::SetContexts(size_t column, int64_t cast, Fixed step) {
  if (is_small_) return;
  // How many steps of the type an element goes: log2 in 1/4096.
  const auto ratio = static_cast<int>(log_ratio_.Log2(experts_[1].scale) -
                                      log_ratio_.Log2(step));
  const auto bucket = [ratio](int shift, int zero, size_t buckets) {
    return static_cast<size_t>(
        std::clamp(((ratio + (1 << (shift - 1))) >> shift) + zero, 0,
                   static_cast<int>(buckets) - 1));
  };
  coarse_ratio_ = bucket(12, 10, kCoarseRatios);
  const size_t near = size_t{left_} * 4 + above_[column];
  const size_t octave = elements_.OctaveOf(cast, params_.unit);
  context_ = {bucket(10, 60, kFineRatios), near * kCoarseRatios + coarse_ratio_,
              octave, (octave >> 3) * 16 + near};
}

/// How likely expert k has it that the element is below `place`, of 2^30.
template <class Coder>
int64_t Models<Coder>::Below(size_t k, Fixed bound) const {
  const Expert& expert = experts_[k];
  const Fixed limit = expert.deviation << 14;
  const int64_t z =
      (std::clamp(bound - expert.mean, -limit, limit) * expert.inverse) >> 32;
  return distribution_(z, expert.spread);
}

/// Codes a bit that expert k has for a one with odds `odds[k]`, stretched.
template <class Coder>
bool Models<Coder>::Bit(Coder& coder, const std::array<int32_t, kExperts>& odds,
                        size_t node, bool want) {
  typename entropy::Mixer<kInputs>::Inputs inputs;
  std::array<entropy::AdaptiveBit*, kExperts + kContexts> used;
  for (size_t k = 0; k < kExperts; ++k) {
    inputs[2 * k] = odds[k];
    used[k] = &calibration_[(k * kNodes + node) * kLevels +
                            static_cast<size_t>((odds[k] + 2048) >> 7)];
    inputs[2 * k + 1] = tables_.stretch[used[k]->p16() >> 4];
  }
  for (size_t i = 0; i < kContexts; ++i) {
    entropy::AdaptiveBit& model = contexts_[i][context_[i] * kNodes + node];
    used[kExperts + i] = &model;
    inputs[2 * kExperts + i] = tables_.stretch[model.p16() >> 4];
  }
  const int32_t first = by_node_.Mix(inputs, node);
  const int32_t second = by_ratio_.Mix(inputs, coarse_ratio_ * kNodes + node);
  const int32_t both = (first + second) >> 1;
  entropy::AdaptiveBit& last =
      last_[node * kLevels + static_cast<size_t>((both + 2048) >> 7)];
  const uint32_t p = (3u * tables_.squash[both + 2048] + last.p16()) >> 2;
  const bool bit = coder.Bit(want, entropy::ClampProbability(p));

  by_node_.Update(tables_.squash[first + 2048], bit);
  by_ratio_.Update(tables_.squash[second + 2048], bit);
  for (entropy::AdaptiveBit* model : used) {
    model->Update(tables_, bit, mix::kLimit);
  }
  last.Update(tables_, bit, mix::kLimit);
  return bit;
}

/// Whether the element is the one at `place`.
template <class Coder>
bool Models<Coder>::IsAt(Coder& coder, int64_t place, bool want) {
  std::array<int32_t, kExperts> odds;
  const Fixed low = elements_.Bound(place), high = elements_.Bound(place + 1);
  for (size_t k = 0; k < kExperts; ++k) {
    const int64_t share = Below(k, high) - Below(k, low);
    odds[k] = log_ratio_(std::max<int64_t>(share, 1),
                         std::max<int64_t>(Distribution::kOne - share, 1));
  }
  return Bit(coder, odds, kEqualNode, want);
}

/// Whether the element is at `place` or above.
template <class Coder>
bool Models<Coder>::IsFrom(Coder& coder, int64_t place, size_t node,
                           bool want) {
  std::array<int64_t, kExperts> middle;
  std::array<int32_t, kExperts> odds;
  const Fixed bound = elements_.Bound(place);
  for (size_t k = 0; k < kExperts; ++k) {
    const Expert& expert = experts_[k];
    middle[k] = std::clamp(Below(k, bound), expert.low, expert.high);
    odds[k] = log_ratio_(std::max<int64_t>(expert.high - middle[k], 1),
                         std::max<int64_t>(middle[k] - expert.low, 1));
  }
  const bool bit = Bit(coder, odds, node, want);
  for (size_t k = 0; k < kExperts; ++k) {
    (bit ? experts_[k].low : experts_[k].high) = middle[k];
  }
  return bit;
}

/// What exceeds kMost: its number of bits, then these.
template <class Coder>
uint64_t Models<Coder>::CodeFar(Coder& coder, uint64_t want) {
  const int wanted = static_cast<int>(std::bit_width(want + 1)) - 1;
  int bits = 0;
  while (bits < 32) {
    entropy::AdaptiveBit& model = far_[static_cast<size_t>(bits)];
    const bool more =
        coder.Bit(bits < wanted, entropy::ClampProbability(model.p16()));
    model.Update(tables_, more, 255);
    if (!more) break;
    ++bits;
  }
  const uint64_t top = uint64_t{1} << bits;
  return top + coder.Raw(static_cast<uint32_t>(want + 1 - top), bits) - 1;
}

/// Where the element is, from the place where it is expected.
template <class Coder>
int64_t Models<Coder>::CodePlace(Coder& coder, int64_t want) {
  // The expert that is sure of itself says which bits need no model.
  const Expert& expert =
      experts_[experts_[kDecay].scale < experts_[0].scale >> 2 ? kDecay : 0];
  const int64_t centre = elements_.Nearest(expert.mean);
  // A mean deviation to both sides, in places.
  const int64_t width = elements_.Nearest(expert.mean + expert.scale) -
                        elements_.Nearest(expert.mean - expert.scale);
  int wide = 0;
  while (wide < 31 && (int64_t{8} << wide) < 3 * width) ++wide;
  const int shift = std::max(wide - 1, 0);
  const size_t group = static_cast<size_t>(std::min(wide, 2)) * kGroupNodes;

  const int64_t above = wide == 0 ? centre + 1 : centre;
  const bool up = IsFrom(coder, above, group, want >= above);
  if (!up && wide == 0 && IsFrom(coder, centre, group + 31, want >= centre)) {
    return centre;
  }
  const int64_t origin = up ? above : centre - 1;
  const auto away = static_cast<uint64_t>(up ? want - origin : origin - want);
  const size_t node = group + (up ? 1 : 16);
  // Whether it is that far from the origin.
  const auto is_beyond = [&](uint64_t distance, size_t at) {
    const auto far = static_cast<int64_t>(distance);
    return up ? IsFrom(coder, origin + far, at, away >= distance)
              : !IsFrom(coder, origin - far + 1, at, away < distance);
  };
  int64_t count = 0;
  while (count < kMost && is_beyond(static_cast<uint64_t>(count + 1) << shift,
                                    node + static_cast<size_t>(count))) {
    ++count;
  }
  uint64_t distance = static_cast<uint64_t>(count) << shift;
  int rest = shift;
  if (count == kMost) {
    distance += CodeFar(coder, (away - distance) >> shift) << shift;
  } else {
    for (size_t i = 0; i < kSubBits && rest > 0; ++i) {
      --rest;
      const uint64_t half = uint64_t{1} << rest;
      if (is_beyond(distance + half, node + kMost + i)) distance += half;
    }
  }
  distance += coder.Raw(
      static_cast<uint32_t>(away & ((uint64_t{1} << rest) - 1)), rest);
  // Damaged code may go around.
  const auto start = static_cast<uint64_t>(origin);
  return static_cast<int64_t>(up ? start + distance : start - distance);
}

template <class Coder>
void Models<Coder>::Learn(size_t column, Fixed base, Fixed value, Fixed step) {
  const Fixed went = value - base;
  for (size_t k = 0; k < kExperts; ++k) {
    const Expert& expert = experts_[k];
    const Fixed off =
        std::min<Fixed>(std::abs(value - expert.mean), Fixed{1} << 40);
    // Coarse elements know little of small steps.
    const int64_t weight = (expert.scale << 8) / (expert.scale + step);
    WeightedAverage& scale = columns_[column][k];
    sum_[k] += weight * std::min<int64_t>((off << kRatioBits) / scale.value(),
                                          64 * kOne);
    weight_[k] += weight;
    if (k == kDecay) {  // soon forgets
      sum_[k] -= sum_[k] >> 4;
      weight_[k] -= weight_[k] >> 4;
    }
    const int64_t line = std::max<int64_t>(sum_[k] / weight_[k], 16);
    scale.Add(std::clamp<int64_t>((off << kRatioBits) / line, kLeastScale,
                                  std::min(scale.value() << 6, kMostScale)),
              weight);
  }
  decay_.Add(went, base);
  // What the step was, as far as an element so coarse can tell.
  const Expert& expert = experts_[0];
  const int64_t coarseness =
      std::min<int64_t>((step << 8) / expert.scale, 1 << 14);
  const int64_t share =
      (int64_t{9} << 32) / ((9 << 16) + coarseness * coarseness);
  constexpr Fixed kMostOff = Fixed{1} << 40;
  const Fixed seen =
      expert.mean - base +
      ((std::clamp(value - expert.mean, -kMostOff, kMostOff) * share) >> 16);
  const auto told = static_cast<int32_t>(
      std::clamp<Fixed>(seen >> kPredictorShift, -32767, 32767));
  predictor_.Set(column, mirrored_ ? -told : told);
  const int64_t predicted =
      std::clamp<int64_t>(predicted_ >> kPredictorShift, -32768, 32767);
  trusted_->product +=
      std::clamp<int64_t>(went >> kPredictorShift, -(1 << 22), 1 << 22) *
      predicted;
  trusted_->square += predicted * predicted;
}

template <class Coder>
uint32_t Models<Coder>::Code(Coder& coder, size_t column, uint32_t base,
                             uint32_t cast, uint32_t element) {
  mirrored_ = (base & bases_.sign_bit()) != 0;
  base &= bases_.sign_bit() - 1;
  const uint32_t turn = mirrored_ ? elements_.sign_bit() : 0;
  cast ^= turn;
  element ^= turn;
  const int64_t base_place = bases_.PlaceOf(base);
  const Fixed base_value = bases_.ValueOf(base_place);
  const int64_t cast_place = elements_.PlaceOf(cast);
  const Fixed step = std::max<Fixed>(elements_.Step(cast_place), 1);
  SetExperts(column, base_value, bases_.Step(base_place) >> 1, step);
  SetContexts(column, cast_place, step);
  if (params_.equal) {
    const bool equal = IsAt(coder, cast_place, element == cast);
    if (equal) {
      Skip(column);
      left_ = above_[column] = 0;
      return cast ^ turn;
    }
  }
  element = elements_.At(CodePlace(coder, elements_.PlaceOf(element)));
  const int64_t place = elements_.PlaceOf(element);
  Learn(column, base_value, elements_.ValueOf(place), step);
  left_ = above_[column] =
      static_cast<uint8_t>(std::min<int64_t>(std::abs(place - cast_place), 3));
  return element ^ turn;
}

/// What elements of the type are made of; null where the codec does not take
/// them.
inline const FloatFormat* FindFormat(DType dtype) {
  const FloatFormat* const format = FindFloatFormat(dtype);
  return format != nullptr && format->bytes <= 4 ? format : nullptr;
}

/// The first reference that blocks of `elements` elements can be coded against;
/// null if there is none.
inline const Reference* FindBase(const Params& params,
                                 std::span<const Reference> references,
                                 size_t elements) {
  for (const Reference& reference : references) {
    const FloatFormat* const format = FindFormat(reference.dtype);
    if (reference.role == Role::kBase && format != nullptr &&
        CanCast(reference.dtype, params.dtype) &&
        reference.data.size() == elements * format->bytes) {
      return &reference;
    }
  }
  return nullptr;
}

inline uint32_t LoadElement(const uint8_t* elements, size_t size, uint64_t i) {
  uint32_t element = 0;
  std::memcpy(&element, elements + i * size, size);
  return element;
}

/// Codes all elements of a block of `count` beside `base`, in the grid's
/// order: `load(i)` is what element i is, if that is known, and `store(i,
/// element)` takes what it was coded as.
template <class Coder, class Load, class Store>
void CodeBlock(const Params& params, const Reference& base,
               const BlockContext& context, size_t count, Coder& coder,
               Scratch& scratch, Load load, Store store) {
  const FloatFormat& format = *FindFormat(params.dtype);
  const FloatFormat& base_format = *FindFormat(base.dtype);
  Buffer& casts = scratch.buffers[0];
  casts.Resize(count * format.bytes);
  Cast(base.dtype, params.dtype, base.data.data(), count, casts.data(),
       nullptr);
  const Grid grid(context.row,
                  context.row == 0 ? 0 : context.position % context.row, count);
  Models<Coder> models(params, format, base_format, grid);
  for (uint64_t line = 0; line < grid.lines; ++line) {
    models.BeginLine();
    for (uint64_t column = 0; column < grid.columns; ++column) {
      const uint64_t i = grid.At(line, column);
      if (i < grid.count) {
        store(i,
              models.Code(coder, column,
                          LoadElement(base.data.data(), base_format.bytes, i),
                          LoadElement(casts.data(), format.bytes, i), load(i)));
      } else {
        models.Skip(column);
      }
    }
    models.EndLine();
  }
}

}  // namespace zipllm::codecs::mixdelta

#endif  // ZIPLLM_CODECS_REFERENCE_MIXDELTA_MODELS_H_
