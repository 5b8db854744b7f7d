// What the profiles log and max of text_cm have in common beside cm_parts.h:
// maps of histories, moved many at a time, and the mix of what selected sets of
// weights say.
#ifndef ZIPLLM_CODECS_TEXT_CM_STRONG_H_
#define ZIPLLM_CODECS_TEXT_CM_STRONG_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "codecs/text/cm_parts.h"

namespace zipllm::codecs::cm {
inline namespace ZIPLLM_CM_TARGET {

/// Of `contexts` contexts: entries by state, as histories guess at first.
inline void InitHistoryMaps(MapEntry* maps, size_t contexts) {
  for (size_t i = 0; i < contexts * 256; ++i) {
    maps[i] = MakeMapEntry(kHistories.p[i & 255], 0);
  }
}

// As UpdateMap, in 32 bits: `target` is 0, or kOneOfMap for a one.
inline constexpr int32_t kOneOfMap = (1 << 22) - 1;
#if defined(__AVX512VBMI2__)
inline __m512i Lanes() {
  return _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
}
inline __m512i Moved(__m512i entry, __m512i target, uint32_t limit) {
  const __m512i n = _mm512_and_si512(entry, _mm512_set1_epi32(1023));
  const __m512i p = _mm512_srli_epi32(entry, 10);
  const __m512i step = _mm512_i32gather_epi32(n, kTables.step.data(), 4);
  const __m512i away = _mm512_srai_epi32(_mm512_sub_epi32(target, p), 7);
  const __m512i moved =
      _mm512_add_epi32(p, _mm512_srai_epi32(_mm512_mullo_epi32(away, step), 9));
  const __m512i count =
      _mm512_min_epu32(_mm512_add_epi32(n, _mm512_set1_epi32(1)),
                       _mm512_set1_epi32(static_cast<int>(limit)));
  return _mm512_or_si512(_mm512_slli_epi32(moved, 10), count);
}
#else
inline MapEntry Moved(MapEntry entry, int32_t target, uint32_t limit) {
  const uint32_t n = entry & 1023;
  const auto p = static_cast<int32_t>(entry >> 10);
  const int32_t moved = p + (((target - p) >> 7) * kTables.step[n] >> 9);
  return static_cast<uint32_t>(moved) << 10 | std::min(n + 1, limit);
}
#endif

/// Moves the entries of contexts, a multiple of 16, in these states.
inline void MoveHistoryMaps(MapEntry* maps, const uint32_t* states,
                            const MapEntry* entries, size_t contexts,
                            bool bit) {
  const int32_t target = bit ? kOneOfMap : 0;
#if defined(__AVX512VBMI2__)
  const __m512i targets = _mm512_set1_epi32(target);
  for (size_t i = 0; i < contexts; i += 16) {
    _mm512_i32scatter_epi32(maps + 256 * i,
                            _mm512_add_epi32(_mm512_load_si512(states + i),
                                             _mm512_slli_epi32(Lanes(), 8)),
                            Moved(_mm512_load_si512(entries + i), targets, 255),
                            4);
  }
#else
  for (size_t i = 0; i < contexts; ++i) {
    maps[i << 8 | states[i]] = Moved(entries[i], target, 255);
  }
#endif
}

/// What sets of weights, one by each selector, make of some inputs; their
/// outputs are inputs of a last mix.
template <int kInputs, size_t kSelectors, int kFinalInputs>
struct SelectedSets {
  static constexpr int kBound = 2047;
  std::array<int32_t*, kSelectors> chosen;
  std::array<uint32_t, kSelectors> p;
  alignas(64) std::array<int32_t, kFinalInputs> outputs{};  ///< stretched

  void Predict(const int32_t* inputs) {
    for (size_t s = 0; s < kSelectors; ++s) {
      const int mix = (MixDot(inputs, chosen[s], kInputs) + 128) >> 8;
      outputs[s] = std::clamp(mix, -kBound, kBound);
      p[s] = Squash(outputs[s]);
    }
  }
  void Update(const int32_t* inputs, bool bit, int32_t rate) {
    const int32_t one = bit ? 65536 : 0;
    for (size_t s = 0; s < kSelectors; ++s) {
      const int32_t error = one - static_cast<int32_t>(p[s]);
      MixTrain(inputs, chosen[s], kInputs, error * rate >> 10);
    }
  }
  /// The last mix by `weights`, stretched, up to `bound` either way.
  int Mix(const int32_t* weights, int bound) const {
    return std::clamp(
        (MixDot(outputs.data(), weights, kFinalInputs) + 128) >> 8, -bound,
        bound);
  }
  /// `mixed` is the probability that Mix led to.
  void UpdateMix(int32_t* weights, uint32_t mixed, bool bit) const {
    const int32_t error = (bit ? 65536 : 0) - static_cast<int32_t>(mixed);
    MixTrain(outputs.data(), weights, kFinalInputs, error * 4 >> 5);
  }
};

/// Three refiners, each by a context of its own that grows bit by bit.
struct Refiners {
  static constexpr size_t kCount = 3;
  static constexpr size_t kContexts = 1 << 16;
  std::array<Refiner, kCount> refiners;
  std::array<uint32_t, kCount> base;  ///< the byte's contexts
  std::array<uint32_t, kCount> at;
  std::array<uint16_t*, kCount> near;

  template <typename Visitor>
  void VisitArrays(Visitor& visit) {
    for (Refiner& refiner : refiners) {
      visit(refiner.points, Refiner::kPoints * kContexts);
    }
  }
  void Init() {
    for (Refiner& refiner : refiners) Refiner::Init(refiner.points, kContexts);
  }
  /// `path`: 1, then the bits of the byte.
  void Prefetch(uint32_t path) {
    for (size_t i = 0; i < kCount; ++i) {
      at[i] = (base[i] + path * 0x9E35u) & (kContexts - 1);
      refiners[i].Prefetch(at[i]);
    }
  }
  /// Refines `p`, of which `x` is the stretched form: 1 to 65535.
  uint32_t Predict(uint32_t p, int x) {
    uint32_t sum = 2 * p + 4;
    for (size_t i = 0; i < kCount; ++i) {
      sum += 2 * refiners[i].Predict(x, at[i], &near[i]);
    }
    return std::clamp(sum >> 3, 1u, 65535u);
  }
  void Update(bool bit) {
    for (uint16_t* point : near) Refiner::Update(point, bit, 6);
  }
};

}  // namespace ZIPLLM_CM_TARGET
}  // namespace zipllm::codecs::cm

#endif  // ZIPLLM_CODECS_TEXT_CM_STRONG_H_
