// What encoder and decoder of codec 17 share: what is expected of each element
// from the arrays beside it, and the models that code an element by that.
// Format: format-spec/codecs/17-moments.md.
#ifndef ZIPLLM_CODECS_REFERENCE_MOMENTS_MODELS_H_
#define ZIPLLM_CODECS_REFERENCE_MOMENTS_MODELS_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include "codecs/codec.h"
#include "codecs/reference/residuals.h"
#include "codecs/tensor/mix_models.h"
#include "entropy/bits.h"
#include "entropy/mixing.h"
#include "entropy/row_predictor.h"

namespace zipllm::codecs::moments {

using mix::Fixed;
using mix::kUnitBits;

/// Floats: a sign bit on top, then the exponent, then the mantissa.
struct Kind {
  uint8_t number;
  DType dtype;
  uint8_t size;  ///< bytes
  uint8_t exponent_bits;
  uint8_t mantissa_bits;

  int width() const { return 8 * size; }
  int bias() const { return (1 << (exponent_bits - 1)) - 1; }
  int min_exponent() const { return 1 - bias(); }
  int max_exponent() const { return bias(); }
  uint32_t sign_bit() const { return uint32_t{1} << (width() - 1); }
  /// Magnitude of infinity; NaNs are above.
  uint32_t infinity() const {
    return ((uint32_t{1} << exponent_bits) - 1) << mantissa_bits;
  }
};
inline constexpr std::array kKinds = {
    Kind{1, DType::kBF16, 2, 8, 7},
    Kind{2, DType::kF16, 2, 5, 10},
    Kind{3, DType::kF32, 4, 8, 23},
};
inline const Kind* FindKind(DType dtype) {
  return codecs::FindKind(kKinds, dtype);
}

/// What a float stands for; infinities and NaNs as if the exponent went on.
inline double ToDouble(const Kind& kind, uint32_t element) {
  const uint32_t magnitude = element & (kind.sign_bit() - 1);
  const int exponent = static_cast<int>(magnitude >> kind.mantissa_bits);
  const uint32_t mantissa =
      magnitude & ((uint32_t{1} << kind.mantissa_bits) - 1);
  const int64_t significand =
      int64_t{mantissa} + (int64_t{exponent != 0} << kind.mantissa_bits);
  const int scale = std::max(exponent, 1) - kind.bias() - kind.mantissa_bits;
  const double power =
      std::bit_cast<double>(static_cast<uint64_t>(scale + 1023) << 52);
  const double value = static_cast<double>(significand) * power;
  return (element & kind.sign_bit()) != 0 ? -value : value;
}

/// 2^exponent, which is that of a normal double.
inline double PowerOfTwo(int exponent) {
  return std::bit_cast<double>(static_cast<uint64_t>(exponent + 1023) << 52);
}

/// log2 in fixed point, linear between powers of two; kLogOfZero of what is
/// not above zero, and the least otherwise.
inline constexpr Fixed kLogOfZero = -(Fixed{400} << kUnitBits);
inline constexpr Fixed kLogMax = Fixed{400} << kUnitBits;
inline Fixed Log(double x) {
  if (!(x > 0)) return kLogOfZero;
  const auto bits = static_cast<int64_t>(std::bit_cast<uint64_t>(x));
  return std::clamp((bits >> (52 - kUnitBits)) - (Fixed{1023} << kUnitBits),
                    kLogOfZero, kLogMax);
}
/// What Log is `x` of; `x` is clamped.
inline double Exp(Fixed x) {
  const Fixed clamped = std::clamp(x, kLogOfZero, kLogMax);
  return std::bit_cast<double>(
      static_cast<uint64_t>(clamped + (Fixed{1023} << kUnitBits))
      << (52 - kUnitBits));
}

/// What elements are numbers of. The number u is what is modelled.
enum class Map : uint8_t {
  kLinear = 0,       ///< value = center + 2^log_scale u
  kLogarithmic = 1,  ///< value = center + 2^(log_scale + u)
};
enum class Engine : uint8_t {
  kTables = 0,  ///< residuals with frequency tables
  kSingle = 1,  ///< one row predictor
  kMixed = 2,   ///< three experts, as codec 10 has
};

/// Terms of the center, each with a coefficient, besides 1 * base.
enum MeanTerm : uint8_t {
  kMeanBase,      ///< base
  kMeanStep,      ///< first moment / sqrt(second moment)
  kMeanBaseStep,  ///< base's first moment / sqrt(second moment)
  kMeanTerms,
};
/// Terms of the scale's logarithm: those of arrays, and for each what the
/// array's rows and columns have on average.
enum ScaleTerm : uint8_t {
  kScaleSecond,  ///< second moment
  kScaleSecondMeans,
  kScaleBase,  ///< |base|
  kScaleBaseMeans,
  kScaleEnergy,  ///< second moment - (1 + decay) * base's second moment
  kScaleEnergyMeans,
  kScaleTerms,
};

/// The frame's parameters.
struct Params {
  const Kind* kind = nullptr;
  Map map = Map::kLinear;
  Engine engine = Engine::kSingle;
  bool signs = false;  // of kTables: signs by themselves, centers are 0
  std::array<uint8_t, 2> ridge{};  // of the others
  uint8_t mean_terms = 0;          // bits
  uint8_t scale_terms = 0;         // bits
  std::array<float, kMeanTerms> mean{};
  float decay = 0;
  int32_t log_scale = 0;                     // Fixed
  std::array<int16_t, kScaleTerms> scale{};  // in 1/256

  bool HasScale(int term) const { return (scale_terms >> term & 1) != 0; }
  bool HasMean(int term) const { return (mean_terms >> term & 1) != 0; }
  bool HasEnergy() const {
    return HasScale(kScaleEnergy) || HasScale(kScaleEnergyMeans);
  }
};
inline constexpr size_t kMaxBlockBytes = mix::kMaxBlockBytes;

/// What is expected of a block's elements.
struct Expected {
  std::vector<double> center;
  std::vector<Fixed> log_scale;
};

/// Arrays beside a block that have its number of elements, floats of a kind.
class Arrays {
 public:
  Arrays(std::span<const Reference> references, size_t elements)
      : references_(references), elements_(elements) {}
  bool Has(Role role) const { return Find(role) != nullptr; }
  /// Finite numbers: what is not finite is 0, and so are arrays that lack.
  std::vector<double> Load(Role role) const;

 private:
  const Reference* Find(Role role) const;
  std::span<const Reference> references_;
  size_t elements_;
};

/// What the rows and columns of `logs` have on average, and not all: row mean +
/// column mean - mean. Elements at kLogOfZero do not count.
std::vector<Fixed> RowAndColumnMeans(const std::vector<Fixed>& logs,
                                     uint64_t row, uint64_t phase);

/// The terms of the parameters, as far as arrays are there.
std::vector<double> MeanValues(const Arrays& arrays, MeanTerm term);
std::vector<Fixed> ScaleLogs(const Arrays& arrays, ScaleTerm term, float decay);

Expected Expect(const Params& params, const Arrays& arrays, size_t elements,
                uint64_t row, uint64_t phase);

/// What kTables codes elements against: predictions of the elements' type, and
/// the contexts of what they differ by.
inline constexpr size_t kTableContexts = 248;
/// Of `count` elements from `begin` on; bit i of `signs` is the sign of element
/// i of the block, if the parameters say so.
void Predict(const Params& params, const Expected& expected, size_t begin,
             size_t count, const uint8_t* signs, uint8_t* contexts,
             uint8_t* predictions);

/// One row predictor, and how far from it elements are, by column and line.
template <class Coder>
class Single {
 public:
  Single(const Params& params, size_t columns, size_t nodes, size_t contexts)
      : predictor_(columns, params.ridge[0]),
        columns_(columns),
        nodes_(nodes),
        bits_(nodes * contexts) {
    for (uint32_t n = 0; n < kMostSeen; ++n) steps_[n] = 65536 / (n + 2);
  }

  void BeginLine() {
    predictor_.BeginRow();
    sum_ = kLinePrior * line_ratio_;
    in_line_ = kLinePrior;
    SetRatio();
  }
  void EndLine() {
    predictor_.EndRow();
    if (in_line_ > kLinePrior) {
      line_ratio_ += ((sum_ / in_line_ - line_ratio_) * Step(&lines_)) >> 16;
    }
  }
  void Skip(size_t column) {
    predictor_.Set(column, predictor_.Prediction(column) >>
                               entropy::RowPredictor::kPredictionBits);
  }
  void Begin(size_t column) {
    constexpr int kToFixed =
        mix::kPredictorShift - entropy::RowPredictor::kPredictionBits;
    mean_ = Fixed{predictor_.Prediction(column)} << kToFixed;
    scale_ = std::max<Fixed>(columns_[column].scale, 16);
    deviation_ = std::clamp<Fixed>(((scale_ * ratio_ >> 12) * 19) >> 4, 64,
                                   mix::kFixedMax);
  }
  Fixed mean() const { return mean_; }
  Fixed deviation() const { return deviation_; }
  template <class Bound>
  bool Bit(Coder& coder, const Bound&, size_t node, size_t context, bool want) {
    entropy::AdaptiveBit& model = bits_[context * nodes_ + node];
    const bool bit = coder.Code(want, entropy::ClampProbability(model.p16()));
    model.Update(tables_, bit, kLimit);
    return bit;
  }
  void Mirror() {}
  void End(size_t column, Fixed value) {
    predictor_.Set(column, static_cast<int32_t>(std::clamp<Fixed>(
                               value >> mix::kPredictorShift, -32767, 32767)));
    const Fixed deviation =
        std::min<Fixed>(std::abs(value - mean_), Fixed{1} << 24);
    sum_ += std::min<int64_t>((deviation << 12) / scale_, 64 * kRatioOne);
    ++in_line_;
    if (in_line_ % kRatioEvery == 0) SetRatio();
    Column& of = columns_[column];
    of.scale +=
        (((deviation * inverse_ratio_ >> 12) - of.scale) * Step(&of.seen)) >>
        16;
  }

 private:
  static constexpr int64_t kRatioOne = 4096;
  static constexpr int64_t kLinePrior = 12;
  static constexpr int64_t kRatioEvery = 8;
  static constexpr uint32_t kMostSeen = 128;
  static constexpr uint32_t kLimit = 1020;

  struct Column {
    Fixed scale = Fixed{1} << kUnitBits;
    uint32_t seen = 0;
  };

  /// 65536 / (seen + 2); counts what was seen.
  int64_t Step(uint32_t* seen) const {
    const int64_t step = steps_[*seen];
    *seen += *seen + 1 < kMostSeen;
    return step;
  }
  void SetRatio() {
    ratio_ = std::max<int64_t>(sum_ / in_line_, 64);
    inverse_ratio_ = (kRatioOne << 12) / ratio_;
  }

  const entropy::MixingTables& tables_ = entropy::GetMixingTables();
  entropy::RowPredictor predictor_;
  std::vector<Column> columns_;
  std::array<int64_t, kMostSeen> steps_;
  size_t nodes_;
  std::vector<entropy::AdaptiveBit> bits_;
  int64_t line_ratio_ = kRatioOne;
  uint32_t lines_ = 0;
  // Of the line: elements' deviations by their columns' scales.
  int64_t sum_ = 0;
  int64_t in_line_ = 0;
  int64_t ratio_ = kRatioOne;
  int64_t inverse_ratio_ = kRatioOne;
  // Of the element.
  Fixed mean_ = 0;
  Fixed deviation_ = 1;
  Fixed scale_ = 1;
};

/// The experts of codec 10.
template <class Coder>
class Mixed {
 public:
  Mixed(const Params& params, size_t columns, size_t nodes, size_t contexts)
      : ridges_{.ridge = params.ridge},
        experts_(ridges_, columns, nodes,
                 {16000, 16000, 10000, 10000, 6000, 6000, 6000}),
        nodes_(nodes),
        bits_(nodes * contexts) {}

  void BeginLine() { experts_.BeginLine(); }
  void EndLine() { experts_.EndLine(); }
  void Skip(size_t column) { experts_.Skip(column); }
  void Begin(size_t column) {
    experts_.Begin(column);
    mean_ = experts_.first().mean;
    deviation_ = experts_.first().deviation;
    mirrored_ = false;
  }
  Fixed mean() const { return mean_; }
  Fixed deviation() const { return deviation_; }
  /// Whether the element is at the bound or beyond.
  template <class Bound>
  bool Bit(Coder& coder, const Bound& bound, size_t node, size_t context,
           bool want) {
    const Fixed at = bound();
    return experts_.Bit(coder, mirrored_ ? -at : at, node,
                        {&bits_[context * nodes_ + node]}, want);
  }
  void Mirror() {
    mirrored_ = true;
    experts_.Mirror();
  }
  void End(size_t column, Fixed value) { experts_.End(column, value); }

 private:
  const mix::Params ridges_;
  mix::Experts<Coder, 1> experts_;
  size_t nodes_;
  std::vector<entropy::AdaptiveBit> bits_;
  Fixed mean_ = 0;
  Fixed deviation_ = 1;
  bool mirrored_ = false;
};

/// Raw bits: entropy::BitWriter puts them, BitReader takes them.
struct RawWriter {
  entropy::BitWriter* bits;
  uint32_t Code(uint32_t value, int count) {
    bits->Put(value, count);
    return value;
  }
};
struct RawReader {
  entropy::BitReader* bits;
  uint32_t Code(uint32_t, int count) { return bits->Get(count); }
};

/// Codes elements. Values are counted in cells, each a power of two wide: which
/// one an element is in, counted from the expected one, is coded by modelled
/// bits; where in the cell by raw bits.
template <class Coder, class Raw, template <class> class EngineType>
class Elements {
 public:
  Elements(const Params& params, size_t columns, Coder& coder, Raw raw)
      : kind_(*params.kind),
        is_log_(params.map == Map::kLogarithmic),
        coder_(coder),
        raw_(raw),
        engine_(params, columns, 2 * kSide, kContexts) {}

  void BeginLine() { engine_.BeginLine(); }
  void EndLine() { engine_.EndLine(); }
  void Skip(size_t column) { engine_.Skip(column); }
  /// Codes the element `wanted`; returns it.
  uint32_t Code(size_t column, double center, Fixed log_scale, uint32_t wanted);

 private:
  // Modelled bits by node: whether below or above, how many octaves away, and
  // the top bits within the octave.
  static constexpr int kFirstOctave = 2;
  static constexpr int kOctaves = 25;
  static constexpr int kSubBits = 3;
  static constexpr int kSubTrees = 8;
  static constexpr size_t kOctaveNode = 1;
  static constexpr size_t kSubNode = kOctaveNode + kOctaves;
  static constexpr size_t kSide = kSubNode + (kSubTrees << kSubBits);
  // By the deviation in cells, in quarters of an octave from kNarrow on; below
  // kWide by where in its cell the expected value is, too.
  static constexpr int kNarrow = -8;
  static constexpr int kWide = 8;
  static constexpr int kPlaces = 4;
  static constexpr size_t kContexts = (kWide - kNarrow) * kPlaces + 4;
  static constexpr int kZeroNodes = 40;

  struct Cell {
    bool finite;
    int64_t number;
  };
  Cell CellOf(uint32_t element) const;
  uint32_t Inside(int64_t cell, uint32_t wanted);
  uint32_t NearZero(uint32_t wanted);
  Fixed NumberAt(double value) const;

  const Kind kind_;
  const bool is_log_;
  Coder& coder_;
  Raw raw_;
  EngineType<Coder> engine_;
  std::array<entropy::AdaptiveBit, kZeroNodes> zero_;

  // Of the element.
  double center_ = 0;
  Fixed log_scale_ = 0;
  double inverse_ = 1;
  int cell_ = 0;  // its width's exponent
};

/// The cell that holds a float: 0 and up from 0 on, -1 and down from -0 on.
template <class Coder, class Raw, template <class> class EngineType>
auto Elements<Coder, Raw, EngineType>::CellOf(uint32_t element) const -> Cell {
  const uint32_t magnitude = element & (kind_.sign_bit() - 1);
  if (magnitude >= kind_.infinity()) return {false, 0};
  const int m = kind_.mantissa_bits;
  const int exponent = static_cast<int>(magnitude >> m);
  const int64_t significand =
      (int64_t{exponent != 0} << m) | (magnitude & ((uint32_t{1} << m) - 1));
  const int shift = std::max(exponent, 1) - kind_.bias() - m - cell_;
  if (shift > 12 + 23 - m) return {false, 0};
  const int64_t cell =
      shift >= 0 ? significand << shift : significand >> std::min(-shift, 63);
  return {true, (element & kind_.sign_bit()) != 0 ? -1 - cell : cell};
}

/// An element within the cells next to 0, without the sign: how far below the
/// cell's end its exponent is, and the mantissa.
template <class Coder, class Raw, template <class> class EngineType>
uint32_t Elements<Coder, Raw, EngineType>::NearZero(uint32_t wanted) {
  const int m = kind_.mantissa_bits;
  const auto flag = [&](int node, bool want) {
    entropy::AdaptiveBit& model = zero_[static_cast<size_t>(node)];
    const bool bit = coder_.Code(want, entropy::ClampProbability(model.p16()));
    model.Update(entropy::GetMixingTables(), bit, 255);
    return bit;
  };
  if (flag(0, wanted == 0)) return 0;
  int exponent =
      std::clamp(cell_ - 1 + kind_.bias(), 0, 2 * kind_.max_exponent());
  const int wanted_exponent = static_cast<int>(wanted >> m);
  for (int node = 1; exponent > 0 && node < kZeroNodes; ++node, --exponent) {
    if (flag(node, wanted_exponent == exponent)) break;
    if (node == kZeroNodes - 1) {
      return raw_.Code(wanted, kind_.width() - 1);
    }
  }
  const uint32_t mantissa = raw_.Code(wanted & ((uint32_t{1} << m) - 1), m);
  return static_cast<uint32_t>(exponent) << m | mantissa;
}

/// The element of this cell.
template <class Coder, class Raw, template <class> class EngineType>
uint32_t Elements<Coder, Raw, EngineType>::Inside(int64_t cell,
                                                  uint32_t wanted) {
  const uint32_t sign = cell < 0 ? kind_.sign_bit() : 0;
  const auto number = static_cast<uint64_t>(cell < 0 ? -1 - cell : cell);
  const uint32_t magnitude = wanted & (kind_.sign_bit() - 1);
  const int m = kind_.mantissa_bits;
  const int min_ulp = kind_.min_exponent() - m;
  if (number == 0 && cell_ > min_ulp) return sign | NearZero(magnitude);
  const int exponent = static_cast<int>(std::bit_width(number)) - 1 + cell_;
  const int ulp = std::max(exponent - m, min_ulp);
  uint64_t significand;
  if (ulp < cell_) {
    const int raw_bits = cell_ - ulp;
    const uint32_t mask = (uint32_t{1} << raw_bits) - 1;
    significand = number << raw_bits | raw_.Code(magnitude & mask, raw_bits);
  } else {
    significand = number >> std::min(ulp - cell_, 63);
  }
  const uint64_t result =
      significand + (static_cast<uint64_t>(ulp - min_ulp) << m);
  return sign |
         static_cast<uint32_t>(std::min<uint64_t>(result, kind_.infinity()));
}

/// u of a value.
template <class Coder, class Raw, template <class> class EngineType>
Fixed Elements<Coder, Raw, EngineType>::NumberAt(double value) const {
  const double distance = value - center_;
  if (is_log_) {
    return std::clamp(Log(distance) - log_scale_, -mix::kFixedMax,
                      mix::kFixedMax);
  }
  constexpr double kLimit = double{mix::kFixedMax >> kUnitBits};
  return static_cast<Fixed>(std::clamp(distance * inverse_, -kLimit, kLimit) *
                            double{Fixed{1} << kUnitBits});
}

template <class Coder, class Raw, template <class> class EngineType>
uint32_t Elements<Coder, Raw, EngineType>::Code(size_t column, double center,
                                                Fixed log_scale,
                                                uint32_t wanted) {
  engine_.Begin(column);
  const Fixed mean = engine_.mean();
  center_ = center;
  log_scale_ = log_scale;
  const Fixed spread =
      Log(static_cast<double>(engine_.deviation())) - (kUnitBits << kUnitBits);
  double expected;
  Fixed deviation;  // log2
  if (is_log_) {
    expected = center + Exp(log_scale + mean);
    deviation = log_scale + mean + std::min<Fixed>(spread, -(1 << kUnitBits));
  } else {
    const double scale = Exp(log_scale);
    inverse_ = 1 / scale;
    expected =
        center + static_cast<double>(mean) * PowerOfTwo(-kUnitBits) * scale;
    deviation = log_scale + spread;
  }
  // Cells are an eighth to a quarter of the deviation, or as fine as the
  // elements are.
  const double limit = PowerOfTwo(kind_.max_exponent());
  expected = std::clamp(expected, -limit, limit);
  const int exponent =
      std::max(static_cast<int>(Log(std::abs(expected)) >> kUnitBits),
               kind_.min_exponent());
  cell_ = std::clamp(static_cast<int>(deviation >> kUnitBits) - 2,
                     exponent - kind_.mantissa_bits, kind_.max_exponent());
  const double at = expected * PowerOfTwo(-cell_) + 0.5;
  const double bottom = std::floor(at);
  const auto first = static_cast<int64_t>(bottom);
  const int octaves = std::clamp<int>(
      static_cast<int>((deviation - (Fixed{cell_} << kUnitBits)) >>
                       (kUnitBits - 2)),
      kNarrow, kWide + 3);
  const auto context = static_cast<size_t>(
      octaves < kWide ? (octaves - kNarrow) * kPlaces +
                            static_cast<int>((at - bottom) * double{kPlaces})
                      : (kWide - kNarrow) * kPlaces + octaves - kWide);

  const Cell cell = CellOf(wanted);
  const bool above = cell.finite ? cell.number >= first : true;
  const auto bound = [&](int64_t number) {
    return [this, number] {
      return NumberAt(static_cast<double>(number) * PowerOfTwo(cell_));
    };
  };
  const bool up = engine_.Bit(coder_, bound(first), 0, context, above);
  if (!up) engine_.Mirror();
  const size_t side = up ? 0 : kSide;
  const uint64_t far =
      !cell.finite ? UINT64_MAX
                   : static_cast<uint64_t>(above ? cell.number - first
                                                 : first - 1 - cell.number);
  const auto at_least = [&](uint64_t distance, size_t node) {
    const auto by = static_cast<int64_t>(distance);
    return engine_.Bit(coder_, bound(up ? first + by : first - by), side + node,
                       context, far >= distance);
  };
  int octave = 0;
  while (octave < kOctaves &&
         at_least(uint64_t{1} << (kFirstOctave + octave),
                  kOctaveNode + static_cast<size_t>(octave))) {
    ++octave;
  }
  uint32_t element;
  if (octave == kOctaves) {
    element = raw_.Code(wanted, kind_.width());
  } else {
    int bits = kFirstOctave + std::max(octave - 1, 0);
    uint64_t distance = octave == 0 ? 0 : uint64_t{1} << bits;
    const size_t tree = static_cast<size_t>(std::min(octave, kSubTrees - 1))
                        << kSubBits;
    size_t place = 1;
    for (int i = 0; i < kSubBits && bits > 0; ++i) {
      --bits;
      const uint64_t middle = distance | uint64_t{1} << bits;
      const bool bit = at_least(middle, kSubNode + tree + place);
      if (bit) distance = middle;
      place = place << 1 | size_t{bit};
    }
    if (bits > 0) {
      const uint64_t mask = (uint64_t{1} << bits) - 1;
      distance |= raw_.Code(static_cast<uint32_t>(far & mask), bits);
    }
    const auto by = static_cast<int64_t>(distance);
    element = Inside(up ? first + by : first - 1 - by, wanted);
  }
  const bool finite = (element & (kind_.sign_bit() - 1)) < kind_.infinity();
  engine_.End(column, finite ? NumberAt(ToDouble(kind_, element)) : mean);
  return element;
}

/// Codes a block's elements in the order of the grid: `get(i)` is what to code
/// (anything, when decoding), `put(i, element)` takes it.
template <class Coder, class Raw, template <class> class EngineType, class Get,
          class Put>
void CodeBlock(const Params& params, const mix::Grid& grid,
               const Expected& expected, Coder& coder, Raw raw, Get get,
               Put put) {
  Elements<Coder, Raw, EngineType> elements(params, grid.columns, coder, raw);
  for (uint64_t line = 0; line < grid.lines; ++line) {
    elements.BeginLine();
    for (uint64_t column = 0; column < grid.columns; ++column) {
      const uint64_t i = grid.At(line, column);
      if (i < grid.count) {
        put(i, elements.Code(column, expected.center[i], expected.log_scale[i],
                             get(i)));
      } else {
        elements.Skip(column);
      }
    }
    elements.EndLine();
  }
}

}  // namespace zipllm::codecs::moments

#endif  // ZIPLLM_CODECS_REFERENCE_MOMENTS_MODELS_H_
