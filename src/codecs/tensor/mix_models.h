// What encoder and decoder of codec 10 share: the parameters, and the models
// that predict each bit. Format: format-spec/codecs/10-mix.md.
#ifndef ZIPLLM_CODECS_TENSOR_MIX_MODELS_H_
#define ZIPLLM_CODECS_TENSOR_MIX_MODELS_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <vector>

#include "codecs/quant/ggml_blocks.h"
#include "codecs/tensor/kinds.h"
#include "entropy/mixing.h"
#include "entropy/row_predictor.h"
#include "zipllm/types.h"

namespace zipllm::codecs::mix {

/// A kind of elements: a sign bit on top, then the exponent, then the mantissa;
/// or integers in two's complement, which are seen as such numbers.
struct Kind {
  DType dtype;
  uint8_t number;
  uint8_t element_size;   // bytes
  uint8_t exponent_bits;  // 0: integers
  uint8_t mantissa_bits;
  // Numbers of zeros that mantissas end in where elements were cast from
  // narrower ones, ascending; 0: no more.
  std::array<uint8_t, 2> zeros;

  constexpr bool is_integer() const { return exponent_bits == 0; }
  constexpr uint32_t max_exponent() const {
    return is_integer() ? 7 : (1u << exponent_bits) - 1;
  }
};

inline constexpr std::array kKinds = {
    Kind{DType::kBF16, 1, 2, 8, 7, {4}},
    Kind{DType::kF16, 2, 2, 5, 10, {3, 7}},
    Kind{DType::kF32, 3, 4, 8, 23, {13, 16}},
    Kind{DType::kF8E4M3, 4, 1, 4, 3, {}},
    Kind{DType::kF8E5M2, 5, 1, 5, 2, {}},
    Kind{DType::kI8, 6, 1, 0, 0, {}},
};

inline constexpr int kMaxModelled = 6;
/// Two by predictors of rows, one without.
inline constexpr size_t kExperts = 3;
/// Bits up to which models' rates fall.
inline constexpr uint32_t kLimit = 1020;
/// Kinds from here on are ggml types: their numbers as element types.
inline constexpr uint8_t kFirstBlockKind = 64;
inline constexpr uint8_t kMaxBlockUnit = 63;
inline constexpr uint64_t kMaxRow = uint64_t{1} << 32;
/// Decoded bytes of a block: bounds the models' memory.
inline constexpr size_t kMaxBlockBytes = size_t{1} << 22;

/// The frame's parameters.
struct Params {
  const Kind* kind = nullptr;
  const quant::BlockType* blocks = nullptr;  // instead of a kind
  uint8_t modelled = 0;  // mantissa bits from the top that are modelled
  uint8_t unit = 0;      // exponent of a typical magnitude
  std::array<uint8_t, 2> ridge{};  // of the row predictors, 1/16 row a column
  bool zeros = false;  // some tails end in as many zeros as kind.zeros says
  uint64_t row = 0;    // elements of a row; 0: no rows

  int tail_bits() const { return kind->mantissa_bits - modelled; }
};

/// Elements in the order in which they are coded: a grid whose lines are the
/// tensor's rows, or its columns where those have fewer elements. Rows longer
/// than the block are none.
struct Grid {
  Grid(uint64_t row, uint64_t phase, size_t elements) : count(elements) {
    const bool has_rows = row != 0 && row <= elements;
    const uint64_t width = has_rows ? row : 1;
    skip = has_rows ? phase : 0;
    const uint64_t rows = (skip + elements + width - 1) / width;
    by_column = rows < width;
    lines = by_column ? width : rows;
    columns = by_column ? rows : width;
    line_step = by_column ? 1 : width;
    column_step = by_column ? width : 1;
  }
  /// Which element stands there; `count` or more (modulo 2^64) if none does.
  uint64_t At(uint64_t line, uint64_t column) const {
    return line * line_step + column * column_step - skip;
  }
  uint64_t count, skip, lines, columns, line_step, column_step;
  bool by_column;
};

/// Numbers in fixed point: 2^18 is 2^unit.
using Fixed = int64_t;
inline constexpr int kUnitBits = 18;
inline constexpr Fixed kFixedMax = Fixed{1} << 34;
/// From these to the row predictor's scale.
inline constexpr int kPredictorShift = 8;

/// F(z), the distribution that the models assume: a normal one with a share of
/// a wider one. z is in 1/65536 standard deviation, F in 1/2^30.
class Distribution {
 public:
  static const Distribution& Get();
  int64_t operator()(int64_t z) const {
    const int64_t clamped =
        std::clamp<int64_t>(z, -kLimit, kLimit - 1) + kLimit;
    const size_t i = static_cast<size_t>(clamped >> 10);
    return table_[i] + (((table_[i + 1] - table_[i]) * (clamped & 1023)) >> 10);
  }
  static constexpr int64_t kOne = int64_t{1} << 30;

 private:
  static constexpr int64_t kLimit = 8 << 16;
  static constexpr uint64_t kNarrow = 31;  // times as much as the wide one
  Distribution();
  std::array<int64_t, 1025> table_;
};

/// ln(a / b) in 1/256, for 1 <= a, b <= 2^30; clamped as stretched values are.
class LogRatio {
 public:
  static const LogRatio& Get();
  int32_t operator()(int64_t a, int64_t b) const {
    const int64_t log2 = Log2(a) - Log2(b);  // in 1/4096
    return static_cast<int32_t>(std::clamp<int64_t>(
        (log2 * 2839) >> 16, -entropy::kStretchMax, entropy::kStretchMax));
  }

  /// log2(x) in 1/4096, for x >= 1.
  int64_t Log2(int64_t x) const {
    const int top =
        static_cast<int>(std::bit_width(static_cast<uint64_t>(x))) - 1;
    const uint64_t normal = static_cast<uint64_t>(x) << (63 - top);
    return (int64_t{top} << 12) + table_[(normal >> 53) & 1023];
  }

 private:
  LogRatio();
  std::array<int16_t, 1024> table_;
};

/// An average that begins as one over all and ends as one over the last
/// 2^kBits.
class Average {
 public:
  explicit Average(int64_t value = 0) : value_(value) {}
  int64_t value() const { return value_; }
  void Add(int64_t x, int limit) {
    value_ += (x - value_) / (count_ + 2);
    if (count_ < limit) ++count_;
  }

 private:
  int64_t value_;
  int count_ = 0;
};

/// Where a normal variable is thought to lie.
struct Expert {
  Fixed mean = 0;
  Fixed deviation = 1;
  int64_t inverse = 0;  // 2^40 / deviation

  void Set(Fixed new_mean, Fixed new_deviation) {
    mean = new_mean;
    deviation = std::clamp<Fixed>(new_deviation, 64, kFixedMax);
    inverse = (int64_t{1} << 40) / deviation;
  }
  /// F at `x`.
  int64_t At(const Distribution& distribution, Fixed x) const {
    const Fixed limit = deviation << 3;
    const Fixed d = std::clamp(x - mean, -limit, limit);
    return distribution((d * inverse) >> 24);
  }
};

/// What a block's elements are thought to be, by column and by line, and how
/// bits that halve the range of an element are predicted from that. `Coder` is
/// an entropy::BinaryEncoder or BinaryDecoder: Code(bit, p) returns the bit.
/// `kContexts` adaptive bits of the caller's are mixed in.
template <class Coder, size_t kContexts>
class Experts {
 public:
  using Contexts = std::array<entropy::AdaptiveBit*, kContexts>;
  using FirstWeights =
      typename entropy::Mixer<2 * kExperts + kContexts>::Inputs;

  Experts(const Params& params, size_t columns, size_t nodes,
          const FirstWeights& weights)
      : columns_(columns),
        predictors_{entropy::RowPredictor(columns, params.ridge[0]),
                    entropy::RowPredictor(columns, params.ridge[1])},
        nodes_(nodes),
        mixer_(nodes, weights, 16),
        calibration_(kExperts * nodes * kLevels) {
    for (size_t i = 0; i < calibration_.size(); ++i) {
      // At first what experts say is what is.
      calibration_[i] =
          entropy::AdaptiveBit(tables_.squash[(i % kLevels) * 128 + 64], 6);
    }
    const Fixed typical = Fixed{1} << kUnitBits;
    for (auto& scales : columns_) scales.fill(Average(typical));
    line_scale_.fill(Average(kRatioOne));
  }

  void BeginLine() {
    for (auto& predictor : predictors_) predictor.BeginRow();
    // A line begins as lines do on average, and soon goes by its own elements.
    for (size_t k = 0; k < kExperts; ++k) {
      sum_[k] = kLinePrior * line_scale_[k].value();
    }
    in_line_ = kLinePrior;
  }
  void EndLine() {
    for (auto& predictor : predictors_) predictor.EndRow();
    if (in_line_ > kLinePrior) {
      for (size_t k = 0; k < kExperts; ++k) {
        line_scale_[k].Add(sum_[k] / in_line_, 62);
      }
    }
  }
  /// There is no element in this column.
  void Skip(size_t column) {
    for (auto& predictor : predictors_) {
      predictor.Set(column, predictor.Prediction(column) >>
                                entropy::RowPredictor::kPredictionBits);
    }
  }

  /// The next element is in this column.
  void Begin(size_t column) {
    constexpr int kToFixed =
        kPredictorShift - entropy::RowPredictor::kPredictionBits;
    for (size_t k = 0; k < kExperts; ++k) {
      means_[k] = k < predictors_.size()
                      ? Fixed{predictors_[k].Prediction(column)} << kToFixed
                      : 0;
      // 19/16: what a mean deviation makes of Distribution's.
      scale_[k] = std::max<int64_t>(columns_[column][k].value(), 16);
      const int64_t ratio = sum_[k] / in_line_;
      experts_[k].Set(means_[k], ((scale_[k] * ratio >> 12) * 19) >> 4);
      low_[k] = 0;
      high_[k] = Distribution::kOne;
    }
  }
  /// Whether the element is at `bound` or above.
  bool Bit(Coder& coder, Fixed bound, size_t node, const Contexts& contexts,
           bool want);
  /// From here on the element's opposite is spoken of.
  void Mirror() {
    for (size_t k = 0; k < kExperts; ++k) {
      experts_[k].mean = -experts_[k].mean;
      const int64_t low = low_[k];
      low_[k] = Distribution::kOne - high_[k];
      high_[k] = Distribution::kOne - low;
    }
  }
  /// What is thought of the element, or its opposite.
  const Expert& first() const { return experts_[0]; }
  /// Says what the element is.
  void End(size_t column, Fixed value);

 private:
  static constexpr size_t kLevels = 32;
  static constexpr int64_t kRatioOne = 4096;
  static constexpr int64_t kLinePrior = 12;

  const entropy::MixingTables& tables_ = entropy::GetMixingTables();
  const Distribution& distribution_ = Distribution::Get();
  const LogRatio& log_ratio_ = LogRatio::Get();

  std::vector<std::array<Average, kExperts>> columns_;
  std::array<entropy::RowPredictor, 2> predictors_;
  size_t nodes_;
  entropy::Mixer<2 * kExperts + kContexts> mixer_;
  std::vector<entropy::AdaptiveBit> calibration_;
  std::array<Average, kExperts> line_scale_;

  // Of the line.
  int64_t sum_[kExperts];
  int64_t in_line_ = 0;

  // Of the element.
  Fixed means_[kExperts];
  int64_t scale_[kExperts];
  Expert experts_[kExperts];
  int64_t low_[kExperts], high_[kExperts];
};

template <class Coder, size_t kContexts>
bool Experts<Coder, kContexts>::Bit(Coder& coder, Fixed bound, size_t node,
                                    const Contexts& contexts, bool want) {
  FirstWeights inputs;
  int64_t middle[kExperts];
  entropy::AdaptiveBit* calibrated[kExperts];
  for (size_t k = 0; k < kExperts; ++k) {
    middle[k] = experts_[k].At(distribution_, bound);
    const int32_t stretched =
        log_ratio_(std::max<int64_t>(high_[k] - middle[k], 1),
                   std::max<int64_t>(middle[k] - low_[k], 1));
    inputs[2 * k] = stretched;
    calibrated[k] = &calibration_[(k * nodes_ + node) * kLevels +
                                  static_cast<size_t>((stretched + 2048) >> 7)];
    inputs[2 * k + 1] = tables_.stretch[calibrated[k]->p16() >> 4];
  }
  for (size_t i = 0; i < kContexts; ++i) {
    inputs[2 * kExperts + i] = tables_.stretch[contexts[i]->p16() >> 4];
  }
  const int32_t mixed = mixer_.Mix(inputs, node);
  const uint32_t p = tables_.squash[mixed + 2048];
  const bool bit = coder.Code(want, entropy::ClampProbability(p));
  mixer_.Update(p, bit);
  for (entropy::AdaptiveBit* model : calibrated) {
    model->Update(tables_, bit, kLimit);
  }
  for (entropy::AdaptiveBit* model : contexts) {
    model->Update(tables_, bit, kLimit);
  }
  for (size_t k = 0; k < kExperts; ++k) {
    (bit ? low_[k] : high_[k]) = middle[k];
  }
  return bit;
}

template <class Coder, size_t kContexts>
void Experts<Coder, kContexts>::End(size_t column, Fixed value) {
  for (auto& predictor : predictors_) {
    predictor.Set(column, static_cast<int32_t>(std::clamp<Fixed>(
                              value >> kPredictorShift, -32767, 32767)));
  }
  for (size_t k = 0; k < kExperts; ++k) {
    const Fixed deviation =
        std::min<Fixed>(std::abs(value - means_[k]), Fixed{1} << 24);
    sum_[k] += std::min<int64_t>((deviation << 12) / scale_[k], 64 * kRatioOne);
    columns_[column][k].Add(
        deviation * kRatioOne / std::max<int64_t>(sum_[k] / (in_line_ + 1), 64),
        250);
  }
  ++in_line_;
}

/// The models of a block's numbers.
template <class Coder>
class Models {
 public:
  Models(const Params& params, const Grid& grid)
      : params_(params),
        kind_(*params.kind),
        max_exponent_(kind_.max_exponent()),
        experts_(params, grid.columns, kNodes,
                 {16000, 16000, 10000, 10000, 6000, 6000, 2000}),
        absolute_(kAbsolute),
        zeros_above_(grid.columns) {}

  void BeginLine() {
    experts_.BeginLine();
    zeros_left_ = 0;
  }
  void EndLine() { experts_.EndLine(); }
  void Skip(size_t column) { experts_.Skip(column); }
  /// Codes the sign, exponent and modelled mantissa bits of an element, which
  /// stand above `tail_bits` others; returns them at the same place.
  uint32_t Code(Coder& coder, size_t column, uint32_t element);
  /// Codes how many of the other bits are 0 at the end, as far as kinds tell.
  int CodeZeros(Coder& coder, size_t column, uint32_t element);

 private:
  static constexpr int kUp = 4;     // steps above the expected exponent
  static constexpr int kDown = 16;  // and from there down
  static constexpr int kRelative = 8;
  static constexpr int kMantissaNodes = 11;
  static constexpr int kUpNode = 1;
  static constexpr int kDownNode = kUpNode + kUp;
  static constexpr int kMantissaNode = kDownNode + kDown;
  static constexpr size_t kNodes = kMantissaNode + kRelative * kMantissaNodes;
  static constexpr size_t kAbsolute = 256 * (2 + kMantissaNodes) + 1;

  bool Bit(Coder& coder, Fixed bound, size_t node, size_t absolute, bool want) {
    return experts_.Bit(coder, bound, node, {&absolute_[absolute]}, want);
  }
  uint32_t FarExponent(Coder& coder, uint32_t want);
  Fixed Bound(uint32_t exponent, uint32_t mantissa) const;
  Fixed Value(uint32_t magnitude) const;
  int Expect() const;

  const Params& params_;
  const Kind kind_;
  const uint32_t max_exponent_;
  const entropy::MixingTables& tables_ = entropy::GetMixingTables();

  Experts<Coder, 1> experts_;
  std::vector<entropy::AdaptiveBit> absolute_;
  std::array<entropy::AdaptiveBit, 256> far_;
  std::array<entropy::AdaptiveBit, 3 * 3 * 2 * 2> zeros_;
  // Indices of zeros, of the elements above and of the one to the left.
  std::vector<uint8_t> zeros_above_;
  size_t zeros_left_ = 0;

  // Of the element.
  bool negative_ = false;
  bool is_zero_ = false;  // as far as it is modelled
};

template <class Coder>
uint32_t Models<Coder>::FarExponent(Coder& coder, uint32_t want) {
  size_t node = 1;
  for (int i = 7; i >= 0; --i) {
    entropy::AdaptiveBit& model = far_[node];
    const bool bit =
        coder.Code((want >> i) & 1, entropy::ClampProbability(model.p16()));
    model.Update(tables_, bit, 255);
    node = 2 * node + bit;
  }
  return std::min(static_cast<uint32_t>(node) - 256, max_exponent_);
}

/// The least magnitude with this exponent and mantissa, less half a step where
/// steps are wide.
template <class Coder>
Fixed Models<Coder>::Bound(uint32_t exponent, uint32_t mantissa) const {
  const int unit = params_.unit;
  if (kind_.is_integer()) {
    const int64_t magnitude =
        exponent == 0 ? 0 : (int64_t{1} << (exponent - 1)) + mantissa;
    const Fixed half = Fixed{1} << (kUnitBits - unit - 1);
    return (magnitude << (kUnitBits - unit)) + (negative_ ? half : -half);
  }
  const int m = kind_.mantissa_bits;
  const int64_t significand =
      (int64_t{exponent != 0} << m) | static_cast<int64_t>(mantissa);
  const int shift =
      static_cast<int>(std::max(exponent, 1u)) - m - unit + kUnitBits;
  // In half steps.
  const int64_t halves =
      2 * significand - (kind_.element_size == 1 && significand != 0);
  if (shift <= 0) return halves >> std::min(1 - shift, 63);
  if (shift + m >= 34) return kFixedMax;
  return halves << (shift - 1);
}

/// What the magnitude stands for.
template <class Coder>
Fixed Models<Coder>::Value(uint32_t magnitude) const {
  if (kind_.is_integer()) {
    return static_cast<Fixed>(magnitude + negative_)
           << (kUnitBits - params_.unit);
  }
  const int m = kind_.mantissa_bits;
  const uint32_t exponent = magnitude >> m;
  const int64_t significand =
      (int64_t{exponent != 0} << m) | (magnitude & ((1u << m) - 1));
  const int shift =
      static_cast<int>(std::max(exponent, 1u)) - m - params_.unit + kUnitBits;
  if (shift <= 0) return significand >> std::min(-shift, 63);
  if (shift + m >= 34) return kFixedMax;
  return significand << shift;
}

/// The exponent that is expected, given the sign.
template <class Coder>
int Models<Coder>::Expect() const {
  const Fixed mean = std::max<Fixed>(experts_.first().mean, 0);
  const Fixed typical = mean + (experts_.first().deviation >> 1);
  const int top =
      static_cast<int>(std::bit_width(static_cast<uint64_t>(typical))) - 1;
  const int exponent =
      top - kUnitBits + params_.unit + (kind_.is_integer() ? 1 : 0);
  return std::clamp(exponent, 0, static_cast<int>(max_exponent_));
}

template <class Coder>
uint32_t Models<Coder>::Code(Coder& coder, size_t column, uint32_t element) {
  experts_.Begin(column);
  const int width = 8 * kind_.element_size;
  const int m = kind_.mantissa_bits;
  const uint32_t sign_bit = uint32_t{1} << (width - 1);
  const bool integer = kind_.is_integer();
  // Sign: whether the element is above zero, or at it.
  negative_ = false;
  const Fixed zero =
      integer ? -(Fixed{1} << (kUnitBits - params_.unit - 1)) : 0;
  negative_ = !Bit(coder, zero, 0, kAbsolute - 1, (element & sign_bit) == 0);
  uint32_t magnitude = element & (sign_bit - 1);
  if (negative_) {
    if (integer) magnitude ^= sign_bit - 1;
    experts_.Mirror();
  }
  const uint32_t exponent_wanted =
      integer ? static_cast<uint32_t>(std::bit_width(magnitude))
              : magnitude >> m;

  // Exponent: up from the expected one, or down from there.
  const int expected = Expect();
  int exponent = expected;
  const auto at_least = [&](int bound, size_t node, size_t direction) {
    return Bit(coder, Bound(static_cast<uint32_t>(bound), 0), node,
               direction * 256 + static_cast<size_t>(bound),
               static_cast<int>(exponent_wanted) >= bound);
  };
  const int top = static_cast<int>(max_exponent_);
  bool far = false;
  if (exponent < top && at_least(exponent + 1, kUpNode, 0)) {
    ++exponent;
    int steps = 1;
    while (exponent < top && steps < kUp &&
           at_least(exponent + 1, kUpNode + steps, 0)) {
      ++exponent;
      ++steps;
    }
    far = steps == kUp;
  } else {
    int steps = 0;
    while (exponent > 0 && steps < kDown &&
           !at_least(exponent, kDownNode + steps, 1)) {
      --exponent;
      ++steps;
    }
    far = steps == kDown;
  }
  if (far) {
    exponent = static_cast<int>(FarExponent(coder, exponent_wanted));
  }

  // Mantissa, from the top.
  const uint32_t e = static_cast<uint32_t>(exponent);
  const int bits = integer ? std::max(exponent - 1, 0) : params_.modelled;
  const int below = integer ? 0 : params_.tail_bits();
  const size_t relative = static_cast<size_t>(
      std::clamp(exponent - expected + kRelative - 3, 0, kRelative - 1));
  uint32_t mantissa = 0;
  for (int level = 0; level < bits; ++level) {
    const uint32_t bit = uint32_t{1} << (bits - 1 - level);
    const size_t place =
        level < 3 ? (size_t{1} << level) - 1 + (mantissa >> (bits - level))
                  : static_cast<size_t>(4 + level);
    mantissa |= bit;
    if (!Bit(coder, Bound(e, mantissa << below),
             kMantissaNode + relative * kMantissaNodes + place,
             512 + e * kMantissaNodes + place,
             ((magnitude >> below) & bit) != 0)) {
      mantissa &= ~bit;
    }
  }
  if (integer) {
    magnitude = e == 0 ? 0 : (uint32_t{1} << (e - 1)) | mantissa;
  } else {
    magnitude = e << m | mantissa << below;
  }

  is_zero_ = magnitude == 0;

  // Learn.
  const Fixed middle =
      Value(magnitude | (below > 0 ? uint32_t{1} << (below - 1) : 0));
  experts_.End(column, negative_ ? -middle : middle);
  if (negative_) {
    magnitude = integer ? magnitude ^ (sign_bit - 1) : magnitude;
    magnitude |= sign_bit;
  }
  return magnitude;
}

template <class Coder>
int Models<Coder>::CodeZeros(Coder& coder, size_t column, uint32_t element) {
  if (!params_.zeros) return 0;
  const size_t context =
      ((zeros_left_ * 3 + zeros_above_[column]) * 2 + is_zero_) * 2;
  const int below = params_.tail_bits();
  const int wanted = element == 0 ? 32 : std::countr_zero(element);
  size_t index = 0;
  int zeros = 0;
  while (index < 2 && kind_.zeros[index] != 0 && zeros < below) {
    const int next = std::min<int>(kind_.zeros[index], below);
    entropy::AdaptiveBit& model = zeros_[context + index];
    const bool bit =
        coder.Code(wanted >= next, entropy::ClampProbability(model.p16()));
    model.Update(tables_, bit, kLimit);
    if (!bit) break;
    zeros = next;
    ++index;
  }
  zeros_above_[column] = static_cast<uint8_t>(index);
  zeros_left_ = index;
  return zeros;
}

/// Codes all elements of a grid: `code(i, models, column)` for each, in order.
template <class Coder, class CodeElement>
void CodeGrid(const Params& params, const Grid& grid, Coder&,
              CodeElement code) {
  Models<Coder> models(params, grid);
  for (uint64_t line = 0; line < grid.lines; ++line) {
    models.BeginLine();
    for (uint64_t column = 0; column < grid.columns; ++column) {
      const uint64_t i = grid.At(line, column);
      if (i < grid.count) {
        code(i, models, column);
      } else {
        models.Skip(column);
      }
    }
    models.EndLine();
  }
}

}  // namespace zipllm::codecs::mix

#endif  // ZIPLLM_CODECS_TENSOR_MIX_MODELS_H_
