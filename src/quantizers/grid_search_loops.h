// The kernels of grid_search.h, compiled once for each target: loops of
// integers that compilers vectorise.
#ifndef ZIPLLM_QUANTIZERS_GRID_SEARCH_LOOPS_H_
#define ZIPLLM_QUANTIZERS_GRID_SEARCH_LOOPS_H_

#include <cstring>

#include "quantizers/grid_search.h"

// In a namespace without name, so that each target has its own.
namespace zipllm::quantizers {
namespace {

inline uint32_t SearchBits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
inline float SearchFloat(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

typedef float Floats8 __attribute__((vector_size(32)));
typedef int32_t Ints8 __attribute__((vector_size(32)));

/// numbers[i] cut to [0, high], NaNs to 0, then rounded down.
inline void CutToInts(const Floats8& numbers, float high, Ints8* ints) {
  Floats8 cut = numbers > 0.0f ? numbers : Floats8{};
  cut = cut < high ? cut : Floats8{} + high;
  *ints = __builtin_convertvector(cut, Ints8);
}

// ---- Scales ----

/// Magnitudes are taken in 4096ths of the largest one: sums are of integers.
constexpr float kMagnitudes = 4096;

template <int kGroup>
inline void Magnitudes(const float* weights, int32_t* magnitudes,
                       float* largest) {
  uint32_t bits = 0;
  for (int i = 0; i < kGroup; ++i) {
    const uint32_t magnitude = SearchBits(weights[i]) & 0x7fffffff;
    bits = bits > magnitude ? bits : magnitude;
  }
  *largest = SearchFloat(bits);
  const float factor = kMagnitudes / *largest;
  for (int i = 0; i < kGroup; i += 8) {
    Ints8 numbers;
    std::memcpy(&numbers, weights + i, sizeof numbers);
    const auto absolute = reinterpret_cast<Floats8>(numbers & 0x7fffffff);
    CutToInts(absolute * factor + 0.5f, kMagnitudes, &numbers);
    std::memcpy(magnitudes + i, &numbers, sizeof numbers);
  }
}

/// The scale that suits the codes best that follow when the largest magnitude
/// is on the last level.
template <int kGroup, int kLevels>
inline float ScaleOf(const float* weights) {
  constexpr int kLast = 2 * kLevels - 1;
  int32_t magnitudes[kGroup];
  float largest;
  Magnitudes<kGroup>(weights, magnitudes, &largest);
  int32_t sum_x = 0;
  int32_t sum_q = 0;
  for (int i = 0; i < kGroup; ++i) {
    // Nearest of the odd numbers.
    const int32_t level = (magnitudes[i] * kLast) >> 13;
    const int32_t q = 2 * level + 1;
    sum_x += magnitudes[i] * q;
    sum_q += q * q;
  }
  return largest * (1 / kMagnitudes) * static_cast<float>(sum_x) /
         static_cast<float>(sum_q);
}

/// Of levels -1, 0, 1: those above about half of the mean are not 0.
template <int kGroup>
inline float TernaryScaleOf(const float* weights) {
  int32_t magnitudes[kGroup];
  float largest;
  Magnitudes<kGroup>(weights, magnitudes, &largest);
  int32_t sum = 0;
  for (int i = 0; i < kGroup; ++i) sum += magnitudes[i];
  int32_t sum_x = 0;
  int32_t count = 0;
  for (int i = 0; i < kGroup; ++i) {
    const int32_t is_far = magnitudes[i] * (4 * kGroup) > 3 * sum ? -1 : 0;
    sum_x += magnitudes[i] & is_far;
    count -= is_far;
  }
  return largest * (1 / kMagnitudes) * static_cast<float>(sum_x) /
         static_cast<float>(count);
}

template <int kGroup>
inline void ScalesOf(const GridType& type, const float* weights, size_t groups,
                     float* scales) {
  for (size_t g = 0; g < groups; ++g, weights += kGroup) {
    scales[g] = type.shifts              ? TernaryScaleOf<kGroup>(weights)
                : type.grid->levels == 3 ? ScaleOf<kGroup, 3>(weights)
                                         : ScaleOf<kGroup, 8>(weights);
  }
}

inline void SearchScales(const GridType& type, const float* weights,
                         size_t groups, float* scales) {
  if (type.group == 16) {
    ScalesOf<16>(type, weights, groups, scales);
  } else {
    ScalesOf<32>(type, weights, groups, scales);
  }
}

// ---- Signs ----

inline void SearchSigns(const float* weights, size_t eights, uint8_t* signs,
                        uint8_t* least, uint8_t* classes) {
  for (size_t e = 0; e < eights; ++e, weights += 8) {
    uint32_t mask = 0;
    uint64_t first = ~uint64_t{0};
    uint64_t second = ~uint64_t{0};
    for (uint32_t k = 0; k < 8; ++k) {
      mask |= (weights[k] < 0 ? 1u : 0u) << k;
      const uint64_t key =
          uint64_t{SearchBits(weights[k]) & 0x7fffffff} << 3 | k;
      const uint64_t larger = key > first ? key : first;
      first = key > first ? first : key;
      second = larger > second ? second : larger;
    }
    signs[e] = static_cast<uint8_t>(mask);
    least[e] = static_cast<uint8_t>(first & 7);
    // A quarter of an octave each, about.
    const uint64_t apart = ((second >> 3) - (first >> 3)) >> 21;
    classes[e] = static_cast<uint8_t>(
        apart < kSignClasses - 1 ? apart : kSignClasses - 1);
  }
}

// ---- Points ----

// A number for each candidate.
typedef int16_t Shorts __attribute__((vector_size(2 * kCandidates)));
typedef int32_t Keys __attribute__((vector_size(4 * kCandidates)));
typedef int16_t Shorts8 __attribute__((vector_size(16)));
typedef int32_t Keys8 __attribute__((vector_size(32)));
typedef int32_t Keys4 __attribute__((vector_size(16)));

/// By how much further the second candidate is, in kPlaceUnit-ths of a square
/// distance between levels; the last one is for all from there on.
struct SearchClassTable {
  uint8_t of[256] = {};

  constexpr SearchClassTable() {
    constexpr int kBounds[kSearchClasses - 1] = {
        4, 8, 12, 18, 24, 32, 40, 50, 62, 76, 92, 112, 136, 176, 240};
    for (int i = 0; i < 256; ++i) {
      for (const int bound : kBounds) {
        of[i] = static_cast<uint8_t>(of[i] + (i >= bound ? 1 : 0));
      }
    }
  }
};
constexpr SearchClassTable kSearchClassOf;

/// Of 8 weights.
template <int kLevels>
inline void Places(const float* weights, GridPlacing placing, uint32_t flips,
                   int16_t* places) {
  constexpr Ints8 kBits = {1, 2, 4, 8, 16, 32, 64, 128};
  Ints8 numbers;
  std::memcpy(&numbers, weights, sizeof numbers);
  const Ints8 flip = (kBits & static_cast<int32_t>(flips)) != 0;
  numbers ^= flip & INT32_MIN;
  // The least place is kPlaceUnit below the first level.
  CutToInts(reinterpret_cast<Floats8>(numbers) * placing.factor +
                placing.offset + (kPlaceUnit + 0.5f),
            kPlaceUnit * (kLevels + 1), &numbers);
  const auto shorts = __builtin_convertvector(numbers - kPlaceUnit, Shorts8);
  std::memcpy(places, &shorts, sizeof shorts);
}

template <int kWidth, int kLevels>
inline const GridCandidates& Near(const GridCandidates* candidates,
                                  const int16_t* places) {
  int32_t number = 0;
  for (int k = kWidth - 1; k >= 0; --k) {
    int32_t level = (places[k] + kPlaceUnit / 2) >> 7;
    level = level > 0 ? level : 0;
    level = level < kLevels ? level : kLevels - 1;
    number = number * kLevels + level;
  }
  return candidates[number];
}

/// Of candidate j: 16 * (its distance less a constant) + j.
template <int kWidth>
inline void MakeKeys(const GridCandidates& near, const int16_t* places,
                     Keys* keys) {
  constexpr int kBits = kWidth == 8 ? 2 : 3;
  constexpr int16_t kMask = (1 << kBits) - 1;
  constexpr Keys kOrder = {0, 1, 2,  3,  4,  5,  6,  7,
                           8, 9, 10, 11, 12, 13, 14, 15};
  // What the shifts bring in is masked.
  Shorts codes;
  std::memcpy(&codes, near.codes, sizeof codes);
  Shorts sums = {};
#pragma GCC unroll 8
  for (int k = 0; k < kWidth; ++k) {
    const Shorts levels = codes >> static_cast<int16_t>(kBits * k) & kMask;
    const auto twice = static_cast<int16_t>(2 * places[k]);
    sums += levels * (levels * static_cast<int16_t>(kPlaceUnit) - twice);
  }
  *keys = __builtin_convertvector(sums, Keys) * 16 + kOrder;
}

inline int32_t Least(const Keys& keys) {
  const auto a = __builtin_shufflevector(keys, keys, 0, 1, 2, 3, 4, 5, 6, 7);
  const auto b =
      __builtin_shufflevector(keys, keys, 8, 9, 10, 11, 12, 13, 14, 15);
  const Keys8 eight = a < b ? a : b;
  const auto c = __builtin_shufflevector(eight, eight, 0, 1, 2, 3);
  const auto d = __builtin_shufflevector(eight, eight, 4, 5, 6, 7);
  Keys4 four = c < d ? c : d;
  const auto e = __builtin_shufflevector(four, four, 2, 3, 0, 1);
  four = four < e ? four : e;
  const auto f = __builtin_shufflevector(four, four, 1, 0, 3, 2);
  four = four < f ? four : f;
  return four[0];
}

template <int kWidth, int kLevels>
inline void SearchOf(const GridType& type, const GridCandidates* candidates,
                     const float* weights, const GridPlacing* placings,
                     const uint8_t* flips, size_t blocks, uint16_t* codes,
                     uint8_t* classes) {
  constexpr size_t kPoints = kGridBlock / kWidth;
  int16_t places[kGridBlock];
  for (size_t b = 0; b < blocks; ++b) {
    for (size_t e = 0; e < kGridBlock / 8; ++e) {
      Places<kLevels>(weights + e * 8, placings[e],
                      type.shifts ? uint32_t{0} : flips[e], places + e * 8);
    }
    for (size_t p = 0; p < kPoints; ++p) {
      const int16_t* place = places + p * kWidth;
      const GridCandidates& near = Near<kWidth, kLevels>(candidates, place);
      Keys keys;
      MakeKeys<kWidth>(near, place, &keys);
      const int32_t first = Least(keys);
      keys = keys == first ? Keys{} + INT32_MAX : keys;
      const int32_t second = Least(keys);
      codes[p] = near.codes[first & 15];
      const int32_t further = (second >> 4) - (first >> 4);
      classes[p] = kSearchClassOf.of[further < 255 ? further : 255];
    }
    weights += kGridBlock;
    placings += kGridBlock / 8;
    flips += kGridBlock / 8;
    codes += kPoints;
    classes += kPoints;
  }
}

inline void SearchPoints(const GridType& type, const GridCandidates* candidates,
                         const float* weights, const GridPlacing* placings,
                         const uint8_t* flips, size_t blocks, uint16_t* codes,
                         uint8_t* classes) {
  const auto run = type.grid->width == 8 ? SearchOf<8, 3> : SearchOf<4, 8>;
  run(type, candidates, weights, placings, flips, blocks, codes, classes);
}

template <int kWidth, int kLevels>
inline void RankOf(const GridCandidates* candidates, const float* weights,
                   GridPlacing placing, uint32_t flips, int at, int count,
                   uint16_t* codes) {
  int16_t places[8];
  Places<kLevels>(weights, placing, flips, places);
  const GridCandidates& near = Near<kWidth, kLevels>(candidates, places + at);
  Keys keys;
  MakeKeys<kWidth>(near, places + at, &keys);
  for (int rank = 0; rank < count; ++rank) {
    const int32_t first = Least(keys);
    codes[rank] = near.codes[first & 15];
    keys = keys == first ? Keys{} + INT32_MAX : keys;
  }
}

inline void SearchRank(const GridType& type, const GridCandidates* candidates,
                       const float* weights, GridPlacing placing, uint8_t flips,
                       int at, int count, uint16_t* codes) {
  const auto run = type.grid->width == 8 ? RankOf<8, 3> : RankOf<4, 8>;
  run(candidates, weights, placing, type.shifts ? uint32_t{0} : flips, at,
      count, codes);
}

}  // namespace
}  // namespace zipllm::quantizers

#endif  // ZIPLLM_QUANTIZERS_GRID_SEARCH_LOOPS_H_
