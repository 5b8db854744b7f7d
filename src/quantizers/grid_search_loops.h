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

/// NaNs become `low`.
inline float Cut(float value, float low, float high) {
  value = value > low ? value : low;
  return value < high ? value : high;
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
  for (int i = 0; i < kGroup; ++i) {
    const float magnitude = SearchFloat(SearchBits(weights[i]) & 0x7fffffff);
    magnitudes[i] =
        static_cast<int32_t>(Cut(magnitude * factor + 0.5f, 0.0f, kMagnitudes));
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

/// Where classes begin, in kPlaceUnit-ths of a square distance between levels.
constexpr int16_t kSearchBounds[kSearchClasses - 1] = {
    4, 8, 12, 18, 24, 32, 40, 50, 62, 76, 92, 112, 136, 176, 240};

template <int kWidth, int kLevels>
inline void Places(const float* weights, bool magnitudes, GridPlacing placing,
                   uint32_t flips, int16_t* places) {
  for (int k = 0; k < kWidth; ++k) {
    const uint32_t flip = magnitudes ? (flips >> k & 1) << 31 : 0;
    const float weight = SearchFloat(SearchBits(weights[k]) ^ flip);
    // The least place is kPlaceUnit below the first level.
    const float place = weight * placing.factor + placing.offset;
    const float cut =
        Cut(place + (kPlaceUnit + 0.5f), 0.0f, kPlaceUnit * (kLevels + 1));
    places[k] = static_cast<int16_t>(static_cast<int32_t>(cut) - kPlaceUnit);
  }
}

/// keys[j]: 16 * (distance of candidate j - a constant) + j.
template <int kWidth, int kLevels>
inline const GridCandidates& Keys(const GridCandidates* candidates,
                                  const int16_t* places, int32_t* keys) {
  constexpr int kBits = kWidth == 8 ? 2 : 3;
  uint32_t number = 0;
  for (int k = kWidth - 1; k >= 0; --k) {
    int level = (places[k] + kPlaceUnit / 2) >> 7;
    level = level < 0 ? 0 : level;
    level = level < kLevels ? level : kLevels - 1;
    number = number * kLevels + static_cast<uint32_t>(level);
  }
  const GridCandidates& near = candidates[number];
  int16_t sums[kCandidates] = {};
  for (int k = 0; k < kWidth; ++k) {
    const auto twice = static_cast<int16_t>(2 * places[k]);
    for (int j = 0; j < kCandidates; ++j) {
      const auto level =
          static_cast<int16_t>(near.codes[j] >> kBits * k & ((1 << kBits) - 1));
      sums[j] = static_cast<int16_t>(
          sums[j] + level * static_cast<int16_t>(level * kPlaceUnit - twice));
    }
  }
  for (int j = 0; j < kCandidates; ++j) keys[j] = sums[j] * 16 + j;
  return near;
}

template <int kWidth, int kLevels>
inline void SearchOf(const GridType& type, const GridCandidates* candidates,
                     const float* weights, const GridPlacing* placings,
                     const uint8_t* flips, size_t blocks, uint16_t* codes,
                     uint8_t* classes) {
  const size_t points = blocks * (kGridBlock / kWidth);
  for (size_t p = 0; p < points; ++p) {
    const size_t eight = p * kWidth / 8;
    int16_t places[kWidth];
    Places<kWidth, kLevels>(
        weights + p * kWidth, !type.shifts, placings[eight],
        static_cast<uint32_t>(flips[eight]) >> (p * kWidth % 8), places);
    int32_t keys[kCandidates];
    const GridCandidates& near =
        Keys<kWidth, kLevels>(candidates, places, keys);
    int32_t first = keys[0];
    for (int j = 1; j < kCandidates; ++j) {
      first = first < keys[j] ? first : keys[j];
    }
    int32_t second = INT32_MAX;
    for (int j = 0; j < kCandidates; ++j) {
      const int32_t other = keys[j] == first ? INT32_MAX : keys[j];
      second = second < other ? second : other;
    }
    codes[p] = near.codes[first & 15];
    const int32_t further = (second >> 4) - (first >> 4);
    int32_t place = 0;
    for (const int16_t bound : kSearchBounds) place += further >= bound ? 1 : 0;
    classes[p] = static_cast<uint8_t>(place);
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
inline void RankOf(const GridType& type, const GridCandidates* candidates,
                   const float* weights, GridPlacing placing, uint8_t flips,
                   uint16_t* codes) {
  int16_t places[kWidth];
  Places<kWidth, kLevels>(weights, !type.shifts, placing, flips, places);
  int32_t keys[kCandidates];
  const GridCandidates& near = Keys<kWidth, kLevels>(candidates, places, keys);
  for (int j = 0; j < kCandidates; ++j) {
    int before = 0;
    for (int i = 0; i < kCandidates; ++i) before += keys[i] < keys[j] ? 1 : 0;
    codes[before] = near.codes[j];
  }
}

inline void SearchRank(const GridType& type, const GridCandidates* candidates,
                       const float* weights, GridPlacing placing, uint8_t flips,
                       uint16_t* codes) {
  const auto run = type.grid->width == 8 ? RankOf<8, 3> : RankOf<4, 8>;
  run(type, candidates, weights, placing, flips, codes);
}

}  // namespace
}  // namespace zipllm::quantizers

#endif  // ZIPLLM_QUANTIZERS_GRID_SEARCH_LOOPS_H_
