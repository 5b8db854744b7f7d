// Cheap guesses at the scales that any quantizer gives groups of weights, and
// the codes that follow from scales: what codec 19 predicts blocks by where
// their quantizer is not known (format-spec/codecs/19-derived.md, "Formulas").
// Bits are the same on every machine, as of quantizers.
#ifndef ZIPLLM_QUANTIZERS_FORMULA_H_
#define ZIPLLM_QUANTIZERS_FORMULA_H_

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"

namespace zipllm::quantizers {

/// How codes follow from scales.
enum class Rounding : uint8_t {
  kDivide,    ///< (x + offset) / scale, to nearest, ties to even
  kFloor,     ///< (x + offset) * (1 / scale) + 1/2, down
  kAway,      ///< x * (1 / scale), to nearest, ties away from zero
  kMultiply,  ///< x * (1 / scale), to nearest, ties to even
  kTable,     ///< x * (1 / scale) to the nearest of kIq4Values, ties up
};

/// A weight is about scale * code - offset.
struct CodeShape {
  uint16_t group = 32;  ///< weights that share a scale: 16 or 32
  int16_t low = 0;      ///< codes: low to high; kTable: indices, low is 0
  int16_t high = 0;
  /// Offsets are there, and what codes count from is the least weight.
  bool ranged = false;
  /// Ranged: offsets may be below zero. Else they are cut at zero.
  bool free_offset = false;
  /// Not ranged: the plain scale is not negative.
  bool positive = false;
  Rounding rounding = Rounding::kDivide;
  /// Not ranged: what the weight of largest magnitude is on, as a multiple of
  /// the scale.
  float anchor = 0;
  /// Between candidates.
  float unit = 0.1f;
};

/// How much each weight counts where scales are fitted.
enum class Weighting : uint8_t {
  kOne,
  kMagnitude,        ///< |x|
  kSquare,           ///< x^2
  kRmsAndMagnitude,  ///< root of the group's mean square, plus |x|
  kSquareAndSpread,  ///< x^2 + 2 * the spread
  kRootOfThose,      ///< sqrt of that
  /// |x|; of ranged codes the absolute errors count, not their squares.
  kMagnitudeAbsolute,
};
inline constexpr int kWeightings = 7;
constexpr bool NeedsSpread(Weighting weighting) {
  return weighting == Weighting::kSquareAndSpread ||
         weighting == Weighting::kRootOfThose;
}

/// Scales are those, of several candidates, whose codes fit best; candidate k,
/// for k = first, first + step, ..., puts the range or the anchor k units
/// further. None: the scale that the range or the largest magnitude gives.
struct Candidates {
  Weighting weighting = Weighting::kOne;
  int8_t first = 0;
  uint8_t step = 1;
  uint8_t count = 0;
};

struct FormulaKernels {
  /// scales and offsets of `groups` groups (offsets 0 unless ranged). `spread`
  /// has a number for each group, read where the weighting asks for it;
  /// `importance`, if not null, a factor for each weight.
  void (*fit)(const CodeShape& shape, const Candidates& candidates,
              const float* weights, const float* importance,
              const float* spread, size_t groups, float* scales,
              float* offsets);
  /// codes[i] - low of each weight of `groups` groups. `bins`, if not null:
  /// how near the weight is to where its code changes: 16ths of the doubt
  /// `doubt[0]` + `doubt[1]` * |code before rounding| + `doubt[2]` *
  /// steps[i] / |scale|, rounded down, kSure from there on; kUp is added where
  /// the near neighbour is above. `steps` is read where doubt[2] is not 0.
  void (*codes)(const CodeShape& shape, const float* weights,
                const float* steps, const float* doubt, size_t groups,
                const float* scales, const float* offsets, uint8_t* codes,
                uint8_t* bins);
};
inline constexpr uint8_t kSure = 16;
inline constexpr uint8_t kUp = 128;

/// The fastest for this machine.
const FormulaKernels& BestFormula();
/// Null where the machine lacks it.
const FormulaKernels* FindFormula(kernels::Target target);

extern const FormulaKernels kFormulaScalar;
#if defined(__x86_64__)
extern const FormulaKernels kFormulaAvx2;
extern const FormulaKernels kFormulaAvx512;
#endif

}  // namespace zipllm::quantizers

#endif  // ZIPLLM_QUANTIZERS_FORMULA_H_
