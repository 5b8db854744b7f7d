// The quantizers of ggml's grid types, compiled once for each target. Lanes are
// candidates here: scales that are tried, points that may be the nearest.
#ifndef ZIPLLM_QUANTIZERS_GRID_QUANTS_LOOPS_H_
#define ZIPLLM_QUANTIZERS_GRID_QUANTS_LOOPS_H_

#include <cfloat>
#include <cstring>

#include "quantizers/grid_quants.h"
#include "quantizers/grids.h"
#include "quantizers/lanes.h"
#include "zipllm/types.h"

// In a namespace without name, so that each target has its own.
namespace zipllm::quantizers {
namespace {

typedef uint16_t LaneCodes __attribute__((vector_size(2 * kLanes)));

/// What the types differ in.
struct GridRules {
  DType dtype;
  int width, bits, levels, group;
  bool even_signs = false;
  /// Candidates: the largest magnitude is on the last level and `step` * i
  /// half levels further, -steps <= i <= steps.
  int steps;
  float step;
  /// Groups with no magnitude from here on are zero; 0: only those of zeros.
  float least = 0;
  float d;  ///< d by the 31st part of the largest scale
  /// A fit without a grid tells what the largest magnitude is.
  bool fits_first = false;
  /// All points are looked for again with the final scale, not only those that
  /// were off the grid.
  bool all_again = false;
  /// Blocks whose scales are all 0 keep nothing.
  bool clears = false;
  /// Groups that are not zero lie one after the other, but for the upper bits
  /// of their points.
  bool closes_up = false;
  float spread;            ///< that, times the mean square
  float plain_spread = 0;  ///< weights without importance: x^2 + as much of it
};

constexpr GridRules kIq3XxsRules = {
    .dtype = DType::kGgmlIQ3XXS,
    .width = 4,
    .bits = 3,
    .levels = 8,
    .group = 32,
    .even_signs = true,
    .steps = 15,
    .step = 0.2f,
    .least = 1e-8f,
    .d = 1.0125f,
    .clears = true,
    .spread = 2,
};
constexpr GridRules kIq3SRules = {
    .dtype = DType::kGgmlIQ3S,
    .width = 4,
    .bits = 3,
    .levels = 8,
    .group = 32,
    .steps = 9,
    .step = 0.2f,
    .d = 1.033f,
    .all_again = true,
    .closes_up = true,
    .spread = 2,
};
constexpr GridRules kIq2SRules = {
    .dtype = DType::kGgmlIQ2S,
    .width = 8,
    .bits = 2,
    .levels = 3,
    .group = 16,
    .steps = 9,
    .step = 0.1f,
    .least = 1e-8f,
    .d = 0.9875f,
    .spread = 2,
    .plain_spread = 0.25f,
};
constexpr GridRules kIq2XsRules = {
    .dtype = DType::kGgmlIQ2XS,
    .width = 8,
    .bits = 2,
    .levels = 3,
    .group = 16,
    .even_signs = true,
    .steps = 9,
    .step = 0.1f,
    .least = 1e-15f,
    .d = 1,
    .clears = true,
    .spread = 1,
};
constexpr GridRules kIq2XxsRules = {
    .dtype = DType::kGgmlIQ2XXS,
    .width = 8,
    .bits = 2,
    .levels = 3,
    .group = 32,
    .even_signs = true,
    .steps = 6,
    .step = 0.1f,
    .least = 1e-15f,
    .d = 1,
    .fits_first = true,
    .all_again = true,
    .clears = true,
    .spread = 1,
};

inline int NearestIntOf(float value) {
  value += 12582912.0f;
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return static_cast<int>(bits & 0x7fffff) - 0x00400000;
}

inline int Between(int value, int low, int high) {
  return value < low ? low : value > high ? high : value;
}

inline float OneNanOf(float value) {
  if (value == value) return value;
  return OneNan(Splat(value))[0];
}

inline uint16_t HalfOf(float value) {
  return static_cast<uint16_t>(ToHalf(Splat(value))[0]);
}

/// A group: its weights' magnitudes (less than 0 where the sign is not the
/// weight's), what each counts, the root of that.
struct GridGroup {
  float x[32];
  float weights[32];
  float roots[32];
};

/// Of a scale: each point's code, and whether rounding alone led there.
struct GridChoice {
  uint16_t codes[8];
  bool on_grid[8];
};

/// The code that each coordinate gives alone.
template <const GridRules& kRules>
inline uint32_t RoundedCode(const float* x, float inverse) {
  uint32_t code = 0;
  for (int i = 0; i < kRules.width; ++i) {
    const int level = NearestIntOf(0.5f * (inverse * x[i] - 1.0f));
    code |= static_cast<uint32_t>(Between(level, 0, kRules.levels - 1))
            << kRules.bits * i;
  }
  return code;
}

template <const GridRules& kRules>
inline Floats OddNumber(Ints codes, int i) {
  const Ints level = codes >> kRules.bits * i & ((1 << kRules.bits) - 1);
  return ToFloats(2 * level + 1);
}

/// Of the neighbours of `code`, which is not on the grid, the nearest.
template <const GridRules& kRules>
inline uint16_t NearestPoint(const GridNeighbours& neighbours, uint32_t code,
                             const float* x, const float* roots, float scale) {
  const auto list = neighbours.Of(code);
  float best = FLT_MAX;
  size_t nearest = 0;
  for (size_t j = 0; j < list.size(); j += kLanes) {
    LaneCodes shorts;
    std::memcpy(&shorts, list.data() + j, sizeof shorts);
    const Ints codes = __builtin_convertvector(shorts, Ints);
    Floats distances = {};
    for (int i = 0; i < kRules.width; ++i) {
      const Floats far = scale * OddNumber<kRules>(codes, i) - x[i];
      distances += roots[i] * far * far;
    }
    if (!Any(distances < best)) continue;
    for (size_t lane = 0; lane < kLanes; ++lane) {
      if (distances[lane] < best) {
        best = distances[lane];
        nearest = j + lane;
      }
    }
  }
  return list[nearest];
}

struct GridSums {
  float xq, q2;
};

template <const GridRules& kRules>
inline GridSums SumsOf(const GridGroup& group, const uint16_t* codes) {
  GridSums sums = {0, 0};
  for (int i = 0; i < kRules.group; ++i) {
    const int level =
        codes[i / kRules.width] >> kRules.bits * (i % kRules.width) &
        ((1 << kRules.bits) - 1);
    const auto q = static_cast<float>(2 * level + 1);
    const float w = group.weights[i];
    sums.xq += w * group.x[i] * q;
    sums.q2 += w * q * q;
  }
  return sums;
}

/// The scale of x = scale * integer, integers up to `most`, in which the large
/// weights are exact: first tries, then one integer at a time.
inline float FitIntegers(const GridGroup& group, int count, int most) {
  const float* x = group.x;
  const float* w = group.weights;
  float max = 0;
  for (int i = 0; i < count; ++i) max = max > x[i] ? max : x[i];
  if (max == 0.0f) return 0;
  const auto top = static_cast<float>(most);
  float inverse = top / max;
  float scale = 1 / inverse;
  float best = 0;
  // Integers are bytes: those below 0 are taken for large ones.
  uint8_t integers[32];
  for (int i = 0; i < count; ++i) {
    integers[i] = static_cast<uint8_t>(NearestIntOf(inverse * x[i]));
    const float far = x[i] - scale * static_cast<float>(integers[i]);
    best += w[i] * far * far;
  }
  for (int step = -4; step <= 4; ++step) {
    if (step == 0) continue;
    const float other = (0.1f * static_cast<float>(step) + top) / max;
    scale = 1 / other;
    float error = 0;
    for (int i = 0; i < count; ++i) {
      int integer = NearestIntOf(other * x[i]);
      integer = integer < most ? integer : most;
      const float far = x[i] - scale * static_cast<float>(integer);
      error += w[i] * far * far;
    }
    if (error < best) {
      best = error;
      inverse = other;
    }
  }
  float sum_xl = 0;
  float sum_l2 = 0;
  for (int i = 0; i < count; ++i) {
    int integer = NearestIntOf(inverse * x[i]);
    integer = integer < most ? integer : most;
    integers[i] = static_cast<uint8_t>(integer);
    const auto l = static_cast<float>(integer);
    sum_xl += w[i] * x[i] * l;
    sum_l2 += w[i] * l * l;
  }
  for (int round = 0; round < 5; ++round) {
    bool changed = false;
    for (int i = 0; i < count; ++i) {
      const auto l = static_cast<float>(integers[i]);
      float xl = sum_xl - w[i] * x[i] * l;
      float l2 = sum_l2 - w[i] * l * l;
      if (!(xl > 0 && l2 > 0)) continue;
      int integer = NearestIntOf(x[i] * l2 / xl);
      integer = integer < most ? integer : most;
      if (integer == integers[i]) continue;
      const auto other = static_cast<float>(integer);
      xl += w[i] * x[i] * other;
      l2 += w[i] * other * other;
      if (xl * xl * sum_l2 > sum_xl * sum_xl * l2) {
        integers[i] = static_cast<uint8_t>(integer);
        sum_xl = xl;
        sum_l2 = l2;
        changed = true;
      }
    }
    if (!changed) break;
  }
  return sum_l2 > 0.0f ? sum_xl / sum_l2 : 0.0f;
}

/// Tries scales; chooses the points of the best one.
template <const GridRules& kRules>
inline float FitGrid(const Grid& grid, const GridNeighbours& neighbours,
                     const GridGroup& group, float start, float scale,
                     GridChoice* choice) {
  constexpr int kPoints = kRules.group / kRules.width;
  constexpr int kCandidates = 2 * kRules.steps + 1;
  constexpr auto kLast = static_cast<float>(2 * kRules.levels - 1);
  float best = 0;
  for (int first = 0; first < kCandidates; first += static_cast<int>(kLanes)) {
    Floats inverses;
    for (int lane = 0; lane < static_cast<int>(kLanes); ++lane) {
      const auto step = static_cast<float>(first + lane - kRules.steps);
      inverses[static_cast<size_t>(lane)] =
          (kLast + step * kRules.step) / start;
    }
    const Floats scales = 1.0f / inverses;
    const int lanes = kCandidates - first < static_cast<int>(kLanes)
                          ? kCandidates - first
                          : static_cast<int>(kLanes);
    Floats sum_xq = {};
    Floats sum_q2 = {};
    Ints codes[kPoints];
    Ints on_grid[kPoints];
    for (int p = 0; p < kPoints; ++p) {
      const float* x = group.x + p * kRules.width;
      const float* weights = group.weights + p * kRules.width;
      Ints code = {};
      for (int i = 0; i < kRules.width; ++i) {
        Ints level = NearestInt(0.5f * (inverses * x[i] - 1.0f));
        level = Min(Max(level, Ints{}), SplatInt(kRules.levels - 1));
        code |= level << kRules.bits * i;
      }
      on_grid[p] = Ints{};
      for (int lane = 0; lane < lanes; ++lane) {
        const auto at = static_cast<size_t>(lane);
        const auto rounded = static_cast<uint32_t>(code[at]);
        const bool is_on = grid.index[rounded] >= 0;
        on_grid[p][at] = is_on ? 1 : 0;
        if (!is_on) {
          code[at] =
              NearestPoint<kRules>(neighbours, rounded, x,
                                   group.roots + p * kRules.width, scales[at]);
        }
      }
      codes[p] = code;
      for (int i = 0; i < kRules.width; ++i) {
        const Floats q = OddNumber<kRules>(code, i);
        sum_xq += weights[i] * x[i] * q;
        sum_q2 += weights[i] * q * q;
      }
    }
    for (int lane = 0; lane < lanes; ++lane) {
      const auto at = static_cast<size_t>(lane);
      const float xq = sum_xq[at];
      const float q2 = sum_q2[at];
      if (!(q2 > 0 && xq * xq > best * q2)) continue;
      scale = xq / q2;
      best = scale * xq;
      for (int p = 0; p < kPoints; ++p) {
        choice->codes[p] = static_cast<uint16_t>(codes[p][at]);
        choice->on_grid[p] = on_grid[p][at] != 0;
      }
    }
  }
  return scale;
}

/// Looks for points again, with the scale that was found.
template <const GridRules& kRules>
inline float FitAgain(const Grid& grid, const GridNeighbours& neighbours,
                      const GridGroup& group, float scale, GridChoice* choice) {
  constexpr int kPoints = kRules.group / kRules.width;
  bool any = kRules.fits_first;
  for (int p = 0; p < kPoints; ++p) any |= !choice->on_grid[p];
  if (!any || !(scale > 0)) return scale;
  const float inverse = 1 / scale;
  for (int p = 0; p < kPoints; ++p) {
    if (choice->on_grid[p] && !kRules.all_again) continue;
    const float* x = group.x + p * kRules.width;
    const uint32_t rounded = RoundedCode<kRules>(x, inverse);
    choice->codes[p] =
        grid.index[rounded] >= 0
            ? static_cast<uint16_t>(rounded)
            : NearestPoint<kRules>(neighbours, rounded, x,
                                   group.roots + p * kRules.width, scale);
  }
  const GridSums sums = SumsOf<kRules>(group, choice->codes);
  return sums.q2 > 0 ? sums.xq / sums.q2 : scale;
}

/// Magnitudes and signs of 8 weights.
inline uint8_t TakeSigns(const float* x, const float* weights, bool even,
                         float* magnitudes) {
  uint32_t signs = 0;
  for (uint32_t i = 0; i < 8; ++i) {
    const bool positive = x[i] >= 0;
    magnitudes[i] = positive ? x[i] : -x[i];
    signs |= (positive ? 0u : 1u) << i;
  }
  if (even && __builtin_popcount(signs) % 2 != 0) {
    int least = 0;
    float min = weights[0] * x[0] * x[0];
    for (int i = 1; i < 8; ++i) {
      const float loss = weights[i] * x[i] * x[i];
      if (loss < min) {
        min = loss;
        least = i;
      }
    }
    magnitudes[least] = -magnitudes[least];
    signs ^= 1u << least;
  }
  return static_cast<uint8_t>(signs);
}

/// What each of `count` weights counts.
inline void TakeWeights(const float* x, const float* importance, float spread,
                        float plain_spread, int count, float* weights) {
  for (int i = 0; i < count; i += static_cast<int>(kLanes)) {
    Floats numbers, factors;
    std::memcpy(&numbers, x + i, sizeof numbers);
    Floats result = numbers * numbers;
    if (importance != nullptr) {
      std::memcpy(&factors, importance + i, sizeof factors);
      result = OneNan(factors) * Sqrt(spread + result);
    } else if (plain_spread != 0) {
      result = plain_spread * spread + result;
    }
    std::memcpy(weights + i, &result, sizeof result);
  }
}

inline void TakeBlock(const float* from, float* x, float* mean_square) {
  float sum = 0;
  for (int i = 0; i < kGridBlock; ++i) {
    x[i] = OneNanOf(from[i]);
    sum += x[i] * x[i];
  }
  *mean_square = sum;
}

template <const GridRules& kRules>
inline void QuantizeSigned(const float* from, const float* importance,
                           const GridType& type,
                           const GridNeighbours& neighbours, uint8_t* block) {
  constexpr int kPoints = kRules.group / kRules.width;
  constexpr int kGroups = kGridBlock / kRules.group;
  const Grid& grid = *type.grid;
  float x[kGridBlock];
  float spread;
  TakeBlock(from, x, &spread);
  spread = kRules.spread * spread / kGridBlock;

  GridFields fields;
  std::memset(&fields, 0, sizeof fields);
  float scales[kGroups];
  float largest = 0;
  int taken = 0;
  for (int g = 0; g < kGroups; ++g) {
    const int at = g * kRules.group;
    GridGroup group;
    TakeWeights(x + at, importance == nullptr ? nullptr : importance + at,
                spread, kRules.plain_spread, kRules.group, group.weights);
    for (int i = 0; i < kRules.group; i += static_cast<int>(kLanes)) {
      Floats weights;
      std::memcpy(&weights, group.weights + i, sizeof weights);
      weights = Sqrt(weights);
      std::memcpy(group.roots + i, &weights, sizeof weights);
    }
    uint8_t signs[4];
    for (int e = 0; e < kRules.group / 8; ++e) {
      signs[e] = TakeSigns(x + at + 8 * e, group.weights + 8 * e,
                           kRules.even_signs, group.x + 8 * e);
    }
    float max = group.x[0];
    for (int i = 1; i < kRules.group; ++i) {
      max = max > group.x[i] ? max : group.x[i];
    }
    scales[g] = 0;
    if (kRules.least == 0 ? max == 0 : max < kRules.least) continue;
    constexpr auto kLast = static_cast<float>(2 * kRules.levels - 1);
    float scale = max / kLast;
    if (kRules.fits_first) {
      scale = FitIntegers(group, kRules.group, kRules.levels + 1);
      max = scale * static_cast<float>(kRules.levels);
      if (max <= 0) continue;
    }
    GridChoice choice;
    std::memset(&choice, 0, sizeof choice);
    for (bool& on_grid : choice.on_grid) on_grid = !kRules.all_again;
    scale = FitGrid<kRules>(grid, neighbours, group, max, scale, &choice);
    scale = FitAgain<kRules>(grid, neighbours, group, scale, &choice);
    const bool flip = scale < 0;
    if (flip) scale = -scale;
    const int place = kRules.closes_up ? taken++ : g;
    for (int e = 0; e < kRules.group / 8; ++e) {
      const int flipped = flip ? ~signs[e] : signs[e];
      fields.signs[place * kRules.group / 8 + e] =
          static_cast<uint8_t>(flipped);
    }
    for (int p = 0; p < kPoints; ++p) {
      const int index = grid.index[choice.codes[p]];
      const int low = kRules.closes_up ? 255 : 0xffff;
      uint16_t& lower = fields.index[place * kPoints + p];
      lower = static_cast<uint16_t>(lower | (index & low));
      uint16_t& upper = fields.index[g * kPoints + p];
      upper = static_cast<uint16_t>(upper | (index & ~low));
    }
    scales[g] = scale;
    largest = largest > scale ? largest : scale;
  }
  if (largest == 0) {
    if (kRules.clears) std::memset(&fields, 0, sizeof fields);
  } else {
    const float d = largest / 31;
    fields.d = HalfOf(d * kRules.d);
    const float inverse = 1 / d;
    for (int g = 0; g < kGroups; ++g) {
      const int code = NearestIntOf(0.5f * (inverse * scales[g] - 1));
      fields.scale[g] = static_cast<uint8_t>(Between(code, 0, 15));
    }
  }
  PackGridBlock(type, fields, block);
}

// ---- IQ1 ----

constexpr float kUp[3] = {-1 + 0.125f, 0.125f, 1 + 0.125f};
constexpr float kDown[3] = {-1 - 0.125f, -0.125f, 1 - 0.125f};

/// The neighbour of `code` that is nearest when levels stand for `levels`.
inline uint16_t NearestTernary(const GridNeighbours& neighbours, uint32_t code,
                               const float* x, const float* weights,
                               float scale, const float* levels) {
  const auto list = neighbours.Of(code);
  float best = FLT_MAX;
  size_t nearest = 0;
  for (size_t j = 0; j < list.size(); j += kLanes) {
    LaneCodes shorts;
    std::memcpy(&shorts, list.data() + j, sizeof shorts);
    const Ints numbers = __builtin_convertvector(shorts, Ints);
    Floats distances = {};
    for (int i = 0; i < 8; ++i) {
      const Ints level = numbers >> 2 * i & 3;
      const Floats q = level == 0   ? Splat(levels[0])
                       : level == 1 ? Splat(levels[1])
                                    : Splat(levels[2]);
      const Floats far = scale * q - x[i];
      distances += weights[i] * far * far;
    }
    if (!Any(distances < best)) continue;
    for (size_t lane = 0; lane < kLanes; ++lane) {
      if (distances[lane] < best) {
        best = distances[lane];
        nearest = j + lane;
      }
    }
  }
  return list[nearest];
}

/// Where the weights, in ascending order, pass from one level to the next.
struct TernaryFit {
  int first = -1;
  int second = -1;
  bool down = false;
  float scale;
};

inline void FitTernary(const float* sum_x, const float* sum_w,
                       TernaryFit* fit) {
  constexpr int kCount = 32;
  float best = -FLT_MAX;
  for (int i = 0; i <= kCount; ++i) {
    for (int j = i; j <= kCount; j += static_cast<int>(kLanes)) {
      Floats x_to, w_to;
      std::memcpy(&x_to, sum_x + j, sizeof x_to);
      std::memcpy(&w_to, sum_w + j, sizeof w_to);
      const auto sums = [&](const float* levels, Floats* xq, Floats* q2) {
        *xq = (sum_x[i] - sum_x[0]) * levels[0] +
              (x_to - sum_x[i]) * levels[1] +
              (sum_x[kCount] - x_to) * levels[2];
        *q2 = (sum_w[i] - sum_w[0]) * levels[0] * levels[0] +
              (w_to - sum_w[i]) * levels[1] * levels[1] +
              (sum_w[kCount] - w_to) * levels[2] * levels[2];
      };
      Floats xq[2], q2[2];
      sums(kUp, &xq[0], &q2[0]);
      sums(kDown, &xq[1], &q2[1]);
      const Ints better = ((q2[0] > 0.0f) & (xq[0] * xq[0] > best * q2[0])) |
                          ((q2[1] > 0.0f) & (xq[1] * xq[1] > best * q2[1]));
      if (!Any(better)) continue;
      for (int lane = 0; lane < static_cast<int>(kLanes) && j + lane <= kCount;
           ++lane) {
        for (int down = 0; down < 2; ++down) {
          const float a = xq[down][static_cast<size_t>(lane)];
          const float b = q2[down][static_cast<size_t>(lane)];
          if (!(b > 0 && a * a > best * b)) continue;
          fit->scale = a / b;
          best = fit->scale * a;
          fit->first = i;
          fit->second = j + lane;
          fit->down = down != 0;
        }
      }
    }
  }
}

inline void QuantizeIq1S(const float* from, const float* importance,
                         const GridType& type, const GridNeighbours& neighbours,
                         uint8_t* block) {
  constexpr int kCount = 32;
  constexpr int kGroups = kGridBlock / kCount;
  const Grid& grid = *type.grid;
  float all[kGridBlock];
  float spread;
  TakeBlock(from, all, &spread);
  spread = 2 * spread / kGridBlock;
  GridFields fields;
  std::memset(&fields, 0, sizeof fields);
  float scales[kGroups];
  float largest = 0;
  for (int g = 0; g < kGroups; ++g) {
    const float* x = all + g * kCount;
    float weights[kCount];
    TakeWeights(x, importance + g * kCount, spread, 0, kCount, weights);
    scales[g] = 0;
    float max = 0;
    for (int i = 0; i < kCount; ++i) {
      const float magnitude = x[i] < 0 ? -x[i] : x[i];
      max = i == 0 || !(max > magnitude) ? magnitude : max;
    }
    if (max < 1e-12f) continue;
    // Ascending; equal ones as they come.
    uint8_t order[kCount];
    for (int i = 0; i < kCount; ++i) {
      int place = i;
      for (; place > 0 && x[i] < x[order[place - 1]]; --place) {
        order[place] = order[place - 1];
      }
      order[place] = static_cast<uint8_t>(i);
    }
    float sum_x[kCount + 1 + kLanes] = {};
    float sum_w[kCount + 1 + kLanes] = {};
    for (int i = 0; i < kCount; ++i) {
      sum_x[i + 1] = sum_x[i] + weights[order[i]] * x[order[i]];
      sum_w[i + 1] = sum_w[i] + weights[order[i]];
    }
    TernaryFit fit;
    fit.scale = max;
    FitTernary(sum_x, sum_w, &fit);
    if (fit.first < 0) continue;
    uint8_t levels[kCount];
    for (int i = 0; i < kCount; ++i) {
      levels[order[i]] = i < fit.first ? 0 : i < fit.second ? 1 : 2;
    }
    if (fit.scale < 0) {
      for (uint8_t& level : levels) level = static_cast<uint8_t>(2 - level);
      fit.scale = -fit.scale;
      fit.down = !fit.down;
    }
    const float* numbers = fit.down ? kDown : kUp;
    bool all_on = true;
    uint16_t codes[4];
    for (int p = 0; p < 4; ++p) {
      uint32_t code = 0;
      for (int i = 0; i < 8; ++i) {
        code |= static_cast<uint32_t>(levels[8 * p + i]) << 2 * i;
      }
      codes[p] = static_cast<uint16_t>(code);
      if (grid.index[code] >= 0) continue;
      all_on = false;
      codes[p] = NearestTernary(neighbours, code, x + 8 * p, weights + 8 * p,
                                fit.scale, numbers);
    }
    if (!all_on) {
      float sum_xq = 0;
      float sum_q2 = 0;
      for (int i = 0; i < kCount; ++i) {
        const float q = numbers[codes[i / 8] >> 2 * (i % 8) & 3];
        sum_xq += weights[i] * q * x[i];
        sum_q2 += weights[i] * q * q;
      }
      if (sum_xq > 0 && sum_q2 > 0) fit.scale = sum_xq / sum_q2;
    }
    for (int p = 0; p < 4; ++p) {
      fields.index[4 * g + p] = static_cast<uint16_t>(grid.index[codes[p]]);
    }
    fields.signs[g] = fit.down ? 1 : 0;
    scales[g] = fit.scale;
    largest = largest > fit.scale ? largest : fit.scale;
  }
  if (largest == 0) {
    // What is left are points; nothing is moved.
    std::memset(fields.signs, 0, sizeof fields.signs);
  } else {
    const float d = largest / 15;
    fields.d = HalfOf(d * 1.125f);
    const float inverse = 1 / d;
    for (int g = 0; g < kGroups; ++g) {
      const int code = NearestIntOf(0.5f * (inverse * scales[g] - 1));
      fields.scale[g] = static_cast<uint8_t>(Between(code, 0, 7));
    }
  }
  PackGridBlock(type, fields, block);
}

// ---- Rows ----

using QuantizeBlockFn = void (*)(const float* from, const float* importance,
                                 const GridType& type,
                                 const GridNeighbours& neighbours,
                                 uint8_t* block);

inline void QuantizeGridRows(DType dtype, QuantizeBlockFn quantize,
                             const float* weights, size_t rows, size_t columns,
                             const float* importance, uint8_t* out) {
  const GridType& type = *FindGridType(dtype);
  const GridNeighbours& neighbours = NeighboursOf(*type.grid);
  for (size_t row = 0; row < rows; ++row) {
    for (size_t column = 0; column < columns; column += kGridBlock) {
      quantize(weights, importance == nullptr ? nullptr : importance + column,
               type, neighbours, out);
      weights += kGridBlock;
      out += type.bytes;
    }
  }
}

#define ZIPLLM_DEFINE_GRID_QUANT_OF(name, target, type, function, importance) \
  void Quantize##name##target(const float* weights, size_t rows,              \
                              size_t columns, const float* numbers,           \
                              uint8_t* out) {                                 \
    static_cast<void>(numbers);                                               \
    QuantizeGridRows(DType::kGgml##type, function, weights, rows, columns,    \
                     importance, out);                                        \
  }
#define ZIPLLM_DEFINE_GRID_QUANTS(target)                                     \
  ZIPLLM_DEFINE_GRID_QUANT_OF(IQ3XXS, target, IQ3XXS,                         \
                              QuantizeSigned<kIq3XxsRules>, nullptr)          \
  ZIPLLM_DEFINE_GRID_QUANT_OF(IQ3XXSImportant, target, IQ3XXS,                \
                              QuantizeSigned<kIq3XxsRules>, numbers)          \
  ZIPLLM_DEFINE_GRID_QUANT_OF(IQ3S, target, IQ3S, QuantizeSigned<kIq3SRules>, \
                              nullptr)                                        \
  ZIPLLM_DEFINE_GRID_QUANT_OF(IQ3SImportant, target, IQ3S,                    \
                              QuantizeSigned<kIq3SRules>, numbers)            \
  ZIPLLM_DEFINE_GRID_QUANT_OF(IQ2S, target, IQ2S, QuantizeSigned<kIq2SRules>, \
                              nullptr)                                        \
  ZIPLLM_DEFINE_GRID_QUANT_OF(IQ2SImportant, target, IQ2S,                    \
                              QuantizeSigned<kIq2SRules>, numbers)            \
  ZIPLLM_DEFINE_GRID_QUANT_OF(IQ2XXSImportant, target, IQ2XXS,                \
                              QuantizeSigned<kIq2XxsRules>, numbers)          \
  ZIPLLM_DEFINE_GRID_QUANT_OF(IQ2XSImportant, target, IQ2XS,                  \
                              QuantizeSigned<kIq2XsRules>, numbers)           \
  ZIPLLM_DEFINE_GRID_QUANT_OF(IQ1SImportant, target, IQ1S, QuantizeIq1S,      \
                              numbers)

}  // namespace
}  // namespace zipllm::quantizers

#endif  // ZIPLLM_QUANTIZERS_GRID_QUANTS_LOOPS_H_
