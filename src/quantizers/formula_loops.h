// The loops of formula.h, compiled once for each target.
#ifndef ZIPLLM_QUANTIZERS_FORMULA_LOOPS_H_
#define ZIPLLM_QUANTIZERS_FORMULA_LOOPS_H_

#include "quantizers/formula.h"
#include "quantizers/lanes.h"

namespace zipllm::quantizers {
namespace {

constexpr size_t kMostInGroup = 32;
constexpr int kLevels = 16;
constexpr float kIq4Values[kLevels] = {
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
constexpr float Middle(int k) {
  return (kIq4Values[k] + kIq4Values[k + 1]) / 2;
}

/// The nearest integer between two, ties to even.
inline Floats Nearest(Floats value, Floats low, Floats high) {
  // In this order NaNs become `high`, and what is added to is below 2^22.
  return (Max(Min(value, high), low) + 12582912.0f) - 12582912.0f;
}

#if defined(__AVX512F__)
/// By what lies in [8 c - 128, 8 c - 120): the level at its beginning, the next
/// one, and where that begins; no cell has two such places.
struct LevelCells {
  float level[32];
  float next[32];
  float middle[32];
};
constexpr LevelCells MakeLevelCells() {
  LevelCells cells{};
  for (int c = 0; c < 32; ++c) {
    const auto begin = static_cast<float>(8 * c - 128);
    int k = 0;
    while (k + 1 < kLevels && begin >= Middle(k)) ++k;
    cells.level[c] = kIq4Values[k];
    cells.next[c] = kIq4Values[k + 1 < kLevels ? k + 1 : k];
    cells.middle[c] = k + 1 < kLevels ? Middle(k) : 1e30f;
  }
  return cells;
}
alignas(64) constexpr LevelCells kLevelCells = MakeLevelCells();

inline Floats Cell(const float* table, Ints cell) {
  return reinterpret_cast<Floats>(_mm512_permutex2var_ps(
      _mm512_load_ps(table), reinterpret_cast<__m512i>(cell),
      _mm512_load_ps(table + 16)));
}
#endif

/// The nearest of kIq4Values, ties up.
inline Floats NearestLevel(Floats value) {
#if defined(__AVX512F__)
  // NaNs are the least.
  const Floats inside = Min(Max(value, Splat(-128)), Splat(127));
  const Ints cell = ToInts(inside * 0.125f + 16.0f);
  return inside >= Cell(kLevelCells.middle, cell)
             ? Cell(kLevelCells.next, cell)
             : Cell(kLevelCells.level, cell);
#else
  Floats level = Splat(kIq4Values[0]);
  for (int k = 0; k + 1 < kLevels; ++k) {
    level = value >= Middle(k) ? Splat(kIq4Values[k + 1]) : level;
  }
  return level;
#endif
}

/// `to` gets how much each weight counts. `group` weights of each lane.
inline void Weigh(Weighting weighting, const Floats* x, size_t group,
                  Floats spread, Floats* to) {
  switch (weighting) {
    case Weighting::kOne:
      for (size_t i = 0; i < group; ++i) to[i] = Splat(1);
      return;
    case Weighting::kMagnitude:
    case Weighting::kMagnitudeAbsolute:
      for (size_t i = 0; i < group; ++i) to[i] = Abs(x[i]);
      return;
    case Weighting::kSquare:
      for (size_t i = 0; i < group; ++i) to[i] = x[i] * x[i];
      return;
    case Weighting::kRmsAndMagnitude: {
      Floats sum = Splat(0);
      for (size_t i = 0; i < group; ++i) sum += x[i] * x[i];
      const Floats rms = Sqrt(sum / static_cast<float>(group));
      for (size_t i = 0; i < group; ++i) to[i] = rms + Abs(x[i]);
      return;
    }
    case Weighting::kSquareAndSpread:
      for (size_t i = 0; i < group; ++i) to[i] = x[i] * x[i] + 2.0f * spread;
      return;
    case Weighting::kRootOfThose:
      for (size_t i = 0; i < group; ++i) {
        to[i] = Sqrt(x[i] * x[i] + 2.0f * spread);
      }
      return;
  }
}

template <size_t kGroup, bool kTable>
inline Floats FitAnchored(const CodeShape& shape, const Candidates& candidates,
                          const Floats* x, const Floats* w) {
  Floats most = Splat(0);
  Floats anchor = Splat(0);
  for (size_t i = 0; i < kGroup; ++i) {
    const Floats magnitude = Abs(x[i]);
    anchor = magnitude > most ? x[i] : anchor;
    most = magnitude > most ? magnitude : most;
  }
  if (candidates.count == 0) {
    return (shape.positive ? most : anchor) / shape.anchor;
  }
  Floats wx[kGroup];
  for (size_t i = 0; i < kGroup; ++i) wx[i] = w[i] * x[i];
  const Floats low = Splat(shape.low);
  const Floats high = Splat(shape.high);
  Floats scale = Splat(0);
  Floats best = Splat(0);
  for (int c = 0; c < candidates.count; ++c) {
    const int k = candidates.first + c * candidates.step;
    const Floats inverse =
        (shape.anchor - static_cast<float>(k) * shape.unit) / anchor;
    Floats wxl = Splat(0);
    Floats wll = Splat(0);
    for (size_t i = 0; i < kGroup; ++i) {
      const Floats y = x[i] * inverse;
      const Floats level = kTable ? NearestLevel(y) : Nearest(y, low, high);
      wxl += wx[i] * level;
      wll += w[i] * level * level;
    }
    const Floats fitted = wll > 0.0f ? wxl / wll : Splat(0);
    const Floats gain = fitted * wxl;
    scale = gain > best ? fitted : scale;
    best = gain > best ? gain : best;
  }
  return scale;
}

template <size_t kGroup, bool kAbsolute>
inline Floats FitRange(const CodeShape& shape, const Candidates& candidates,
                       const Floats* x, const Floats* w, Floats* offset) {
  Floats least = shape.free_offset ? x[0] : Min(x[0], Splat(0));
  Floats most = x[0];
  for (size_t i = 1; i < kGroup; ++i) {
    least = x[i] < least ? x[i] : least;
    most = x[i] > most ? x[i] : most;
  }
  const Floats range = most - least;
  const auto top = static_cast<float>(shape.high);
  *offset = -least;
  Floats scale = range / top;
  if (candidates.count == 0) return scale;
  Floats wx[kGroup];
  Floats above[kGroup];
  Floats levels[kGroup];
  Floats sum_w = Splat(0);
  Floats sum_wx = Splat(0);
  for (size_t i = 0; i < kGroup; ++i) {
    wx[i] = w[i] * x[i];
    above[i] = x[i] - least;
    sum_w += w[i];
    sum_wx += wx[i];
  }
  Floats best = Splat(kAbsolute ? -1e38f : 0);
  for (int c = 0; c < candidates.count; ++c) {
    const int k = candidates.first + c * candidates.step;
    const Floats inverse = (top + static_cast<float>(k) * shape.unit) / range;
    Floats wl_sum = Splat(0);
    Floats wll = Splat(0);
    Floats wxl = Splat(0);
    for (size_t i = 0; i < kGroup; ++i) {
      // NaNs become `top`.
      const Floats level =
          (Min(above[i] * inverse, Splat(top)) + 12582912.0f) - 12582912.0f;
      const Floats wl = w[i] * level;
      wl_sum += wl;
      wll += wl * level;
      wxl += wx[i] * level;
      if (kAbsolute) levels[i] = level;
    }
    // x ~ fitted * level + minimum
    const Floats determinant = sum_w * wll - wl_sum * wl_sum;
    Floats fitted = (sum_w * wxl - sum_wx * wl_sum) / determinant;
    Floats minimum = (wll * sum_wx - wl_sum * wxl) / determinant;
    if (!shape.free_offset) {
      const Ints positive = minimum > 0.0f;
      fitted = positive ? wxl / wll : fitted;
      minimum = positive ? Splat(0) : minimum;
    }
    Floats gain = fitted * wxl + minimum * sum_wx;
    if (kAbsolute) {
      gain = Splat(0);
      for (size_t i = 0; i < kGroup; ++i) {
        gain -= w[i] * Abs(fitted * levels[i] + minimum - x[i]);
      }
    }
    const Ints better = (determinant > 0.0f) & (gain > best);
    scale = better ? fitted : scale;
    *offset = better ? -minimum : *offset;
    best = better ? gain : best;
  }
  return scale;
}

template <size_t kGroup>
inline void FitGroups(const CodeShape& shape, const Candidates& candidates,
                      const float* weights, const float* importance,
                      const float* spread, size_t groups, float* scales,
                      float* offsets) {
  Floats x[kGroup];
  Floats w[kGroup];
  Floats factor[kGroup];
  const bool weighs = candidates.count != 0;
  const bool spreads = NeedsSpread(candidates.weighting);
  for (size_t g = 0; g < groups; g += kLanes) {
    const size_t lanes = groups - g < kLanes ? groups - g : kLanes;
    const float* from[kLanes] = {};
    for (size_t l = 0; l < lanes; ++l) from[l] = weights + (g + l) * kGroup;
    LoadLanes(from, lanes, kGroup, x);
    if (weighs) {
      Floats near = Splat(0);
      if (spreads) {
        for (size_t l = 0; l < lanes; ++l) near[l] = spread[g + l];
      }
      Weigh(candidates.weighting, x, kGroup, near, w);
      if (importance != nullptr) {
        for (size_t l = 0; l < lanes; ++l) {
          from[l] = importance + (g + l) * kGroup;
        }
        LoadLanes(from, lanes, kGroup, factor);
        for (size_t i = 0; i < kGroup; ++i) w[i] *= factor[i];
      }
    }
    Floats offset = Splat(0);
    const Floats scale =
        shape.ranged
            ? (candidates.weighting == Weighting::kMagnitudeAbsolute
                   ? FitRange<kGroup, true>(shape, candidates, x, w, &offset)
                   : FitRange<kGroup, false>(shape, candidates, x, w, &offset))
        : shape.rounding == Rounding::kTable
            ? FitAnchored<kGroup, true>(shape, candidates, x, w)
            : FitAnchored<kGroup, false>(shape, candidates, x, w);
    std::memcpy(scales + g, &scale, lanes * sizeof(float));
    std::memcpy(offsets + g, &offset, lanes * sizeof(float));
  }
}

void FormulaFit(const CodeShape& shape, const Candidates& candidates,
                const float* weights, const float* importance,
                const float* spread, size_t groups, float* scales,
                float* offsets) {
  (shape.group == 16 ? FitGroups<16>
                     : FitGroups<32>)(shape, candidates, weights, importance,
                                      spread, groups, scales, offsets);
}

typedef uint8_t CodeBytes __attribute__((vector_size(kLanes)));
inline void StoreCodes(Ints codes, uint8_t* to) {
  const CodeBytes bytes = __builtin_convertvector(AsWords(codes), CodeBytes);
  std::memcpy(to, &bytes, sizeof bytes);
}

template <Rounding kRounding, bool kBins>
inline void CodeGroups(const CodeShape& shape, const float* weights,
                       const float* steps, const float* doubt, size_t groups,
                       const float* scales, const float* offsets,
                       uint8_t* codes, uint8_t* bins) {
  const Floats low = Splat(shape.low);
  const Floats high = Splat(shape.high);
  for (size_t g = 0; g < groups; ++g) {
    const float inverse = scales[g] != 0 ? 1 / scales[g] : 0;
    const bool zero = scales[g] == 0;
    float per_step = 0;
    if (kBins && doubt[2] != 0) {
      per_step = doubt[2] * (inverse < 0 ? -inverse : inverse);
    }
    for (size_t i = g * shape.group; i < (g + 1) * shape.group; i += kLanes) {
      Floats x;
      std::memcpy(&x, weights + i, sizeof x);
      Floats y;
      if (kRounding == Rounding::kDivide) {
        y = zero ? Splat(0) : (x + offsets[g]) / scales[g];
      } else {
        y = (x + offsets[g]) * inverse;
      }
      Floats level;  // a code, or its index
      Floats left;   // to where the code changes
      Ints up;
      if constexpr (kRounding == Rounding::kTable) {
        Ints index = SplatInt(0);
        Floats below = Splat(-1e30f);
        Floats above = Splat(1e30f);
        for (int k = 0; k + 1 < kLevels; ++k) {
          const Ints passed = y >= Middle(k);
          index -= passed;
          if constexpr (kBins) below = passed ? Splat(Middle(k)) : below;
        }
        if constexpr (kBins) {
          for (int k = kLevels - 2; k >= 0; --k) {
            above = y >= Middle(k) ? above : Splat(Middle(k));
          }
          const Floats down = y - below;
          const Floats rise = above - y;
          up = rise < down;
          left = up ? rise : down;
        }
        StoreCodes(index, codes + i);
      } else {
        if constexpr (kRounding == Rounding::kFloor) {
          const Floats top = Min(y + (0.5f - low), high - low + 0.5f);
          level = ToFloats(ToInts(Max(top, Splat(0)))) + low;
        } else if constexpr (kRounding == Rounding::kAway) {
          const Floats magnitude = Abs(Max(Min(y, high), low)) + 0.5f;
          level = ToFloats(ToInts(magnitude));
          level = y < 0.0f ? -level : level;
          level = Min(level, high);
        } else {
          level = Nearest(y, low, high);
        }
        if constexpr (kBins) {
          const Floats past = y - level;
          up = past >= 0.0f;
          left = 0.5f - Abs(past);
          const Ints outside = (up & (level >= high)) | (~up & (level <= low));
          left = outside ? Splat(1e30f) : Max(left, Splat(0));
        }
        StoreCodes(ToInts(level - low), codes + i);
      }
      if constexpr (kBins) {
        Floats doubts = doubt[0] + doubt[1] * Abs(y);
        if (per_step != 0) {
          Floats step;
          std::memcpy(&step, steps + i, sizeof step);
          doubts += per_step * step;
        }
        const Floats ratio = left * 16.0f / doubts;
        // NaNs are sure, and what has a doubt below 0.
        const Floats whole = ratio >= 0.0f ? ratio : Splat(16);
        const Ints bin = ToInts(whole < 16.0f ? whole : Splat(16));
        StoreCodes(bin >= 16 ? SplatInt(kSure) : (bin | (up & kUp)), bins + i);
      }
    }
  }
}

template <Rounding kRounding>
inline void CodeEither(const CodeShape& shape, const float* weights,
                       const float* steps, const float* doubt, size_t groups,
                       const float* scales, const float* offsets,
                       uint8_t* codes, uint8_t* bins) {
  (bins != nullptr ? CodeGroups<kRounding, true>
                   : CodeGroups<kRounding, false>)(shape, weights, steps, doubt,
                                                   groups, scales, offsets,
                                                   codes, bins);
}

void FormulaCodes(const CodeShape& shape, const float* weights,
                  const float* steps, const float* doubt, size_t groups,
                  const float* scales, const float* offsets, uint8_t* codes,
                  uint8_t* bins) {
  const auto run = [&](auto function) {
    function(shape, weights, steps, doubt, groups, scales, offsets, codes,
             bins);
  };
  switch (shape.rounding) {
    case Rounding::kDivide:
      return run(CodeEither<Rounding::kDivide>);
    case Rounding::kFloor:
      return run(CodeEither<Rounding::kFloor>);
    case Rounding::kAway:
      return run(CodeEither<Rounding::kAway>);
    case Rounding::kMultiply:
      return run(CodeEither<Rounding::kMultiply>);
    case Rounding::kTable:
      return run(CodeEither<Rounding::kTable>);
  }
}

}  // namespace
}  // namespace zipllm::quantizers

#endif  // ZIPLLM_QUANTIZERS_FORMULA_LOOPS_H_
