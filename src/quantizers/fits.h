// Searches for the scale of a block (format-spec/quantizers.md, "Fits"), in
// lanes: number i of each block is x[i]. Include it where lanes.h may be
// included.
#ifndef ZIPLLM_QUANTIZERS_FITS_H_
#define ZIPLLM_QUANTIZERS_FITS_H_

#include "quantizers/lanes.h"

// In a namespace without name, so that each target has its own.
namespace zipllm::quantizers {
namespace {

/// Blocks with no number above it are all zero.
constexpr float kLeastMagnitude = 1e-15f;

inline Floats SumOfSquares(const Floats* x, int count) {
  Floats sum = {};
  for (int i = 0; i < count; ++i) sum += x[i] * x[i];
  return sum;
}

inline Floats Sum(const Floats* x, int count) {
  Floats sum = {};
  for (int i = 0; i < count; ++i) sum += x[i];
  return sum;
}

/// What weights count with importance: `spread` is a mean square.
inline void ImportanceWeights(const Floats* importance, const Floats* x,
                              Floats spread, int count, Floats* counts) {
  for (int i = 0; i < count; ++i) {
    counts[i] = importance[i] * Sqrt(spread + x[i] * x[i]);
  }
}

// ---- Symmetric: x = scale * code, -kTop <= code < kTop ----

struct SymmetricFit {
  Floats scale;
  /// The codes are the integers nearest to x times this.
  Floats code_scale;
  /// All zero: so is the scale, and codes are -kTop.
  Ints zero;
};

/// The number of greatest magnitude, the first of them; its magnitude.
struct Extreme {
  Floats value;
  Floats magnitude;
};

template <int kCount>
inline Extreme FindExtreme(const Floats* x) {
  Extreme extreme = {};
  for (int i = 0; i < kCount; ++i) {
    const Floats magnitude = Abs(x[i]);
    const Ints greater = magnitude > extreme.magnitude;
    extreme.magnitude = greater ? magnitude : extreme.magnitude;
    extreme.value = greater ? x[i] : extreme.value;
  }
  return extreme;
}

/// Tries 19 scales about the one that makes the extreme -kTop; for each, the
/// scale that is best for its codes.
template <int kCount, int kTop>
inline SymmetricFit FitSymmetric(const Floats* x, const Floats* weights) {
  const Extreme extreme = FindExtreme<kCount>(x);
  Floats products[kCount];
  for (int i = 0; i < kCount; ++i) products[i] = weights[i] * x[i];

  struct Sums {
    Floats xl, l2;
  };
  const auto sum = [&](Floats code_scale) {
    Sums sums = {};
    for (int i = 0; i < kCount; ++i) {
      const Floats code = NearestBetween(code_scale * x[i], -kTop, kTop - 1);
      sums.xl += products[i] * code;
      sums.l2 += weights[i] * code * code;
    }
    return sums;
  };

  SymmetricFit fit;
  fit.zero = extreme.magnitude < kLeastMagnitude;
  fit.code_scale = static_cast<float>(-kTop) / extreme.value;
  const Sums first = sum(fit.code_scale);
  fit.scale = first.l2 != 0.0f ? first.xl / first.l2 : Splat(0.0f);
  Floats best = fit.scale * first.xl;
  for (int step = -9; step <= 9; ++step) {
    if (step == 0) continue;
    const float extreme_code =
        -(static_cast<float>(kTop) + 0.1f * static_cast<float>(step));
    const Floats code_scale = extreme_code / extreme.value;
    const Sums sums = sum(code_scale);
    const Ints better = (sums.l2 > 0.0f) & (sums.xl * sums.xl > best * sums.l2);
    const Floats scale = sums.xl / sums.l2;
    fit.scale = better ? scale : fit.scale;
    fit.code_scale = better ? code_scale : fit.code_scale;
    best = better ? scale * sums.xl : best;
  }
  fit.scale = fit.zero ? Splat(0.0f) : fit.scale;
  return fit;
}

/// The code of x, + kTop.
template <int kTop>
inline Floats SymmetricCode(const SymmetricFit& fit, Floats x) {
  const Floats code = NearestBetween(fit.code_scale * x, -kTop, kTop - 1);
  return fit.zero ? Splat(0.0f) : code + static_cast<float>(kTop);
}

// ---- Affine: x = scale * code - offset, 0 <= code <= kTop ----

struct AffineFit {
  Floats scale;
  Floats offset;  ///< never below zero
  /// The codes are the integers nearest to (x - code_min) * code_scale.
  Floats code_scale;
  Floats code_min;
  /// All equal and not above zero: the scale and all codes are zero.
  Ints flat;
  /// The codes are of a try, not the first ones.
  Ints tried;
};

/// Which scales FitAffine tries, and how it measures them: Tries has
///   kFirst, kStep, kCount: try number i, from 0 to kCount - 1, makes the range
///     kTop + kFirst + kStep * i codes;
///   kByMagnitude: errors count by magnitude instead of by square;
///   kCutFirst: tries cut their numbers before they round them. That gives
///     other codes only to numbers that are no code's.
///
/// These are the ones with importance:
struct ImportantTries {
  static constexpr float kFirst = -0.9f;
  static constexpr float kStep = 0.05f;
  static constexpr int kCount = 37;
  static constexpr bool kByMagnitude = false;
  static constexpr bool kCutFirst = true;
};

template <int kTop, bool kCutFirst>
inline Floats AffineTryCode(Floats value) {
  if constexpr (kCutFirst) {
    value = value > 0.0f ? value : Splat(0.0f);
    value = Min(value, Splat(kTop));
    return (value + 12582912.0f) - 12582912.0f;
  }
  return NearestBetween(value, 0, kTop);
}

template <int kCount, int kTop, typename Tries>
inline AffineFit FitAffine(const Floats* x, const Floats* weights) {
  Floats min = x[0];
  Floats max = x[0];
  Floats sum_w = weights[0];
  Floats sum_x = sum_w * x[0];
  for (int i = 1; i < kCount; ++i) {
    min = Min(x[i], min);
    max = Max(x[i], max);
    sum_w += weights[i];
    sum_x += weights[i] * x[i];
  }
  min = min > 0.0f ? Splat(0.0f) : min;

  const auto error_of = [&](const Floats* codes, Floats scale, Floats least) {
    Floats error = {};
    for (int i = 0; i < kCount; ++i) {
      Floats difference = scale * codes[i] + least - x[i];
      difference =
          Tries::kByMagnitude ? Abs(difference) : difference * difference;
      error += weights[i] * difference;
    }
    return error;
  };

  AffineFit fit;
  fit.flat = max == min;
  const Floats flat_offset = -min;
  fit.tried = SplatInt(0);
  fit.code_scale = static_cast<float>(kTop) / (max - min);
  fit.code_min = min;
  fit.scale = 1.0f / fit.code_scale;
  Floats codes[kCount];
  for (int i = 0; i < kCount; ++i) {
    codes[i] = NearestBetween(fit.code_scale * (x[i] - min), 0, kTop);
  }
  Floats best = error_of(codes, fit.scale, min);

  for (int i = 0; i < Tries::kCount; ++i) {
    const float range = Tries::kFirst + Tries::kStep * static_cast<float>(i) +
                        static_cast<float>(kTop);
    const Floats code_scale = range / (max - min);
    Floats sum_l = {};
    Floats sum_l2 = {};
    Floats sum_xl = {};
    for (int k = 0; k < kCount; ++k) {
      codes[k] =
          AffineTryCode<kTop, Tries::kCutFirst>(code_scale * (x[k] - min));
      const Floats weighted = weights[k] * codes[k];
      sum_l += weighted;
      sum_l2 += weighted * codes[k];
      sum_xl += weighted * x[k];
    }
    const Floats determinant = sum_w * sum_l2 - sum_l * sum_l;
    Floats scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
    Floats least = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
    const Ints above = least > 0.0f;
    scale = above ? sum_xl / sum_l2 : scale;
    least = above ? Splat(0.0f) : least;
    const Floats error = error_of(codes, scale, least);
    const Ints better = (determinant > 0.0f) & (error < best);
    best = better ? error : best;
    fit.scale = better ? scale : fit.scale;
    fit.code_scale = better ? code_scale : fit.code_scale;
    fit.code_min = better ? min : fit.code_min;
    fit.tried |= better;
    // The tries that follow start from it.
    min = better ? least : min;
  }
  fit.scale = fit.flat ? Splat(0.0f) : fit.scale;
  fit.offset = fit.flat ? flat_offset : -min;
  return fit;
}

template <int kTop, typename Tries>
inline Floats AffineCode(const AffineFit& fit, Floats x) {
  const Floats value = fit.code_scale * (x - fit.code_min);
  const Floats first = NearestBetween(value, 0, kTop);
  const Floats code =
      fit.tried ? AffineTryCode<kTop, Tries::kCutFirst>(value) : first;
  return fit.flat ? Splat(0.0f) : code;
}

// ---- Positive: x = scale * code, 0 <= code <= kTop ----
//
// For the scales and offsets of a block's parts. Codes are bytes: those of
// numbers below zero wrap.

/// Number i of `x` has the code codes[i], 0 to 255. Returns the scale.
template <int kCount, int kTop>
inline Floats FitPositive(const Floats* x, const Floats* weights, Ints* codes) {
  constexpr auto kTopFloat = static_cast<float>(kTop);
  Floats max = {};
  for (int i = 0; i < kCount; ++i) max = Max(max, x[i]);
  const Ints zero = max < kLeastMagnitude;

  const auto error_of = [&](Floats code, Floats scale, int i) {
    const Floats difference = x[i] - scale * code;
    return weights[i] * difference * difference;
  };
  Floats code_scale = kTopFloat / max;
  Floats best = {};
  for (int i = 0; i < kCount; ++i) {
    const Floats code = ToFloats(NearestInt(code_scale * x[i]) & 255);
    best += error_of(code, 1.0f / code_scale, i);
  }
  const Floats range = max;
  for (int step = -4; step <= 4; ++step) {
    if (step == 0) continue;
    const Floats tried = (0.1f * static_cast<float>(step) + kTopFloat) / range;
    const Floats scale = 1.0f / tried;
    Floats error = {};
    for (int i = 0; i < kCount; ++i) {
      const Ints code = Min(NearestInt(tried * x[i]), SplatInt(kTop));
      error += error_of(ToFloats(code), scale, i);
    }
    const Ints better = error < best;
    best = better ? error : best;
    code_scale = better ? tried : code_scale;
  }

  Floats sum_xl = {};
  Floats sum_l2 = {};
  for (int i = 0; i < kCount; ++i) {
    const Ints code = Min(NearestInt(code_scale * x[i]), SplatInt(kTop));
    const Floats l = ToFloats(code);
    sum_xl += weights[i] * x[i] * l;
    sum_l2 += weights[i] * l * l;
    codes[i] = code & 255;
  }
  // Each code in turn becomes the best one given the others.
  for (int round = 0; round < 5; ++round) {
    Ints changed = {};
    for (int i = 0; i < kCount; ++i) {
      const Floats product = weights[i] * x[i];
      const Floats old = ToFloats(codes[i]);
      Floats xl = sum_xl - product * old;
      Floats l2 = sum_l2 - weights[i] * old * old;
      const Ints code = Min(NearestInt(x[i] * l2 / xl), SplatInt(kTop));
      Ints better = (xl > 0.0f) & (l2 > 0.0f) & (code != codes[i]);
      const Floats l = ToFloats(code);
      xl += product * l;
      l2 += weights[i] * l * l;
      better &= xl * xl * sum_l2 > sum_xl * sum_xl * l2;
      codes[i] = better ? code & 255 : codes[i];
      sum_xl = better ? xl : sum_xl;
      sum_l2 = better ? l2 : sum_l2;
      changed |= better;
    }
    if (!Any(changed)) break;
  }
  for (int i = 0; i < kCount; ++i) codes[i] = zero ? SplatInt(0) : codes[i];
  const Floats scale = sum_l2 > 0.0f ? sum_xl / sum_l2 : Splat(0.0f);
  return zero ? Splat(0.0f) : scale;
}

}  // namespace
}  // namespace zipllm::quantizers

#endif  // ZIPLLM_QUANTIZERS_FITS_H_
