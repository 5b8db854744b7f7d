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

// Which scales FitAffine tries, and how it measures them, stands in a struct
// of constants:
//   kFirst, kStep, kCount: try number i, from 0 to kCount - 1, makes the range
//     kTop + kFirst + kStep * i codes;
//   kByMagnitude: errors count by magnitude instead of by square;
//   kCutFirst: tries cut their numbers before they round them. That gives
//     other codes only to numbers that are no code's.

/// The tries of ggml with importance.
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

/// Fits kParts parts at once, which do not depend on each other: together they
/// keep the processor busy. Part p is x[p * kCount + i], its fit fits[p].
template <int kCount, int kTop, typename Tries, int kParts>
inline void FitAffine(const Floats* x, const Floats* weights, AffineFit* fits) {
  Floats min[kParts];
  Floats max[kParts];
  Floats sum_w[kParts];
  Floats sum_x[kParts];
  Floats best[kParts];
  Floats codes[kParts * kCount];
  Floats scale[kParts];
  Floats least[kParts];
  Floats error[kParts];
  const auto measure = [&] {
    for (int p = 0; p < kParts; ++p) error[p] = Floats{};
    for (int i = 0; i < kCount; ++i) {
#pragma GCC unroll 4
      for (int p = 0; p < kParts; ++p) {
        const int k = p * kCount + i;
        Floats difference = scale[p] * codes[k] + least[p] - x[k];
        difference =
            Tries::kByMagnitude ? Abs(difference) : difference * difference;
        error[p] += weights[k] * difference;
      }
    }
  };

#pragma GCC unroll 4
  for (int p = 0; p < kParts; ++p) {
    const Floats* from = x + p * kCount;
    const Floats* counts = weights + p * kCount;
    min[p] = from[0];
    max[p] = from[0];
    sum_w[p] = counts[0];
    sum_x[p] = counts[0] * from[0];
    for (int i = 1; i < kCount; ++i) {
      min[p] = Min(from[i], min[p]);
      max[p] = Max(from[i], max[p]);
      sum_w[p] += counts[i];
      sum_x[p] += counts[i] * from[i];
    }
    min[p] = min[p] > 0.0f ? Splat(0.0f) : min[p];
    AffineFit& fit = fits[p];
    fit.flat = max[p] == min[p];
    fit.offset = -min[p];
    fit.tried = SplatInt(0);
    fit.code_scale = static_cast<float>(kTop) / (max[p] - min[p]);
    fit.code_min = min[p];
    fit.scale = 1.0f / fit.code_scale;
    scale[p] = fit.scale;
    least[p] = min[p];
    for (int i = 0; i < kCount; ++i) {
      codes[p * kCount + i] =
          NearestBetween(fit.code_scale * (from[i] - min[p]), 0, kTop);
    }
  }
  measure();
  for (int p = 0; p < kParts; ++p) best[p] = error[p];

  for (int t = 0; t < Tries::kCount; ++t) {
    const float range = Tries::kFirst + Tries::kStep * static_cast<float>(t) +
                        static_cast<float>(kTop);
    Floats code_scale[kParts];
    Floats sum_l[kParts] = {};
    Floats sum_l2[kParts] = {};
    Floats sum_xl[kParts] = {};
    for (int p = 0; p < kParts; ++p) code_scale[p] = range / (max[p] - min[p]);
    for (int i = 0; i < kCount; ++i) {
#pragma GCC unroll 4
      for (int p = 0; p < kParts; ++p) {
        const int k = p * kCount + i;
        const Floats code = AffineTryCode<kTop, Tries::kCutFirst>(
            code_scale[p] * (x[k] - min[p]));
        codes[k] = code;
        const Floats weighted = weights[k] * code;
        sum_l[p] += weighted;
        sum_l2[p] += weighted * code;
        sum_xl[p] += weighted * x[k];
      }
    }
    Floats determinant[kParts];
#pragma GCC unroll 4
    for (int p = 0; p < kParts; ++p) {
      determinant[p] = sum_w[p] * sum_l2[p] - sum_l[p] * sum_l[p];
      scale[p] = (sum_w[p] * sum_xl[p] - sum_x[p] * sum_l[p]) / determinant[p];
      least[p] = (sum_l2[p] * sum_x[p] - sum_l[p] * sum_xl[p]) / determinant[p];
      const Ints above = least[p] > 0.0f;
      scale[p] = above ? sum_xl[p] / sum_l2[p] : scale[p];
      least[p] = above ? Splat(0.0f) : least[p];
    }
    measure();
#pragma GCC unroll 4
    for (int p = 0; p < kParts; ++p) {
      AffineFit& fit = fits[p];
      const Ints better = (determinant[p] > 0.0f) & (error[p] < best[p]);
      best[p] = better ? error[p] : best[p];
      fit.scale = better ? scale[p] : fit.scale;
      fit.code_scale = better ? code_scale[p] : fit.code_scale;
      fit.code_min = better ? min[p] : fit.code_min;
      fit.tried |= better;
      // The tries that follow start from it.
      min[p] = better ? least[p] : min[p];
    }
  }
  for (int p = 0; p < kParts; ++p) {
    AffineFit& fit = fits[p];
    fit.scale = fit.flat ? Splat(0.0f) : fit.scale;
    fit.offset = fit.flat ? fit.offset : -min[p];
  }
}

template <int kCount, int kTop, typename Tries>
inline AffineFit FitAffine(const Floats* x, const Floats* weights) {
  AffineFit fit;
  FitAffine<kCount, kTop, Tries, 1>(x, weights, &fit);
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
