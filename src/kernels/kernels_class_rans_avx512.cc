// rANS with a table by class for x86-64 with AVX-512 F, BW, VL, DQ and VBMI2.
// Calls nothing inline from the standard library (see kernels_avx512.cc).
#include "kernels/kernels_class_rans.h"

#if defined(__x86_64__)

// False alarms of gcc 12 on the headers of intrinsics (gcc bug 105593).
#pragma GCC diagnostic push
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop

#define ZIPLLM_INLINE inline __attribute__((always_inline))

namespace zipllm::kernels {
namespace {

ZIPLLM_INLINE __m512i Load(const void* from) {
  return _mm512_loadu_si512(from);
}
ZIPLLM_INLINE void Store(void* to, __m512i value) {
  _mm512_storeu_si512(to, value);
}
ZIPLLM_INLINE __m512i Dwords(int value) { return _mm512_set1_epi32(value); }

// 16 bytes as double words.
ZIPLLM_INLINE __m512i LoadBytes(const uint8_t* from) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(
      static_cast<const __m128i*>(static_cast<const void*>(from))));
}

// The double words `index` of `table`.
ZIPLLM_INLINE __m512i Gather(const void* table, __m512i index) {
  // gcc would leave out the clearing of the target if it knew the mask, and
  // each gather would wait for whatever that register held.
  __mmask16 mask = 0xffff;
  asm("" : "+Yk"(mask));
  return _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), mask, index, table,
                                     4);
}

// The 32 lanes of a stream.
struct States {
  __m512i first;
  __m512i second;
};

// frequency * (state >> 12) + rank
ZIPLLM_INLINE __m512i Advance(__m512i state, __m512i slot) {
  const __m512i frequency =
      _mm512_add_epi32(_mm512_and_si512(slot, Dwords(kSlots - 1)), Dwords(1));
  const __m512i rank =
      _mm512_and_si512(_mm512_srli_epi32(slot, 12), Dwords(kSlots - 1));
  return _mm512_add_epi32(
      _mm512_mullo_epi32(frequency, _mm512_srli_epi32(state, kProbabilityBits)),
      rank);
}

// One step of one stream. Unless kCareful, 64 bytes of words can be read.
template <bool kCareful>
ZIPLLM_INLINE void DecodeStep(States& states, const uint8_t*& words,
                              const uint8_t* words_end,
                              const ClassSlots* tables, const uint8_t* classes,
                              uint8_t* symbols, bool& complete) {
  const auto look_up = [&](__m512i state, const uint8_t* of) {
    return Gather(
        tables,
        _mm512_add_epi32(_mm512_slli_epi32(LoadBytes(of), kProbabilityBits),
                         _mm512_and_si512(state, Dwords(kSlots - 1))));
  };
  const __m512i first = look_up(states.first, classes);
  const __m512i second = look_up(states.second, classes + 16);
  states.first = Advance(states.first, first);
  states.second = Advance(states.second, second);
  const auto store = [](uint8_t* to, __m512i slot) {
    _mm_storeu_si128(static_cast<__m128i*>(static_cast<void*>(to)),
                     _mm512_cvtepi32_epi8(_mm512_srli_epi32(slot, 24)));
  };
  store(symbols, first);
  store(symbols + 16, second);

  const auto small = [](__m512i state) {
    return _mm512_cmplt_epu32_mask(state, Dwords(kStateLow));
  };
  const __mmask16 first_small = small(states.first);
  const __mmask16 second_small = small(states.second);
  const auto first_count = static_cast<size_t>(__builtin_popcount(first_small));
  const auto second_count =
      static_cast<size_t>(__builtin_popcount(second_small));
  size_t count = first_count + second_count;
  const auto take = [](__m512i state, __mmask16 taking, __m256i from) {
    return _mm512_mask_or_epi32(
        state, taking, _mm512_slli_epi32(state, 16),
        _mm512_maskz_expand_epi32(taking, _mm512_cvtepu16_epi32(from)));
  };
  if constexpr (kCareful) {
    const auto left = static_cast<size_t>(words_end - words) / 2;
    if (count > left) {
      complete = false;
      count = left;
    }
    alignas(64) uint16_t taken[3 * kLanes / 2] = {};
    const __mmask32 present =
        _bzhi_u32(~uint32_t{0}, static_cast<uint32_t>(count));
    Store(taken, _mm512_maskz_loadu_epi16(present, words));
    const auto load = [&](size_t i) {
      return _mm256_loadu_si256(
          static_cast<const __m256i*>(static_cast<const void*>(taken + i)));
    };
    states.first = take(states.first, first_small, load(0));
    states.second = take(states.second, second_small, load(first_count));
  } else {
    const auto load = [&](size_t i) {
      return _mm256_loadu_si256(
          static_cast<const __m256i*>(static_cast<const void*>(words + 2 * i)));
    };
    states.first = take(states.first, first_small, load(0));
    states.second = take(states.second, second_small, load(first_count));
  }
  words += 2 * count;
}

template <int kStreams>
bool DecodeStreams(ClassStream* streams, const ClassSlots* tables,
                   const uint8_t* classes, uint8_t* symbols, size_t steps) {
  bool complete = true;
  States states[kStreams];
  const uint8_t* words[kStreams];
  for (int s = 0; s < kStreams; ++s) {
    states[s] = {Load(streams[s].states), Load(streams[s].states + 16)};
    words[s] = streams[s].words;
  }
  const auto step = [&]<bool kCareful>() {
    const auto decode = [&](size_t s) {
      DecodeStep<kCareful>(states[s], words[s], streams[s].words_end, tables,
                           classes + kLanes * s, symbols + kLanes * s,
                           complete);
    };
    decode(0);
    if constexpr (kStreams == 4) {
      decode(1);
      decode(2);
      decode(3);
    }
    classes += kLanes * kStreams;
    symbols += kLanes * kStreams;
  };
  while (steps > 0) {
    size_t safe = steps;
    for (int s = 0; s < kStreams; ++s) {
      const auto left = static_cast<size_t>(streams[s].words_end - words[s]);
      if (left / 64 < safe) safe = left / 64;
    }
    if (safe == 0) {
      step.template operator()<true>();
      --steps;
    }
    steps -= safe;
    for (; safe > 0; --safe) step.template operator()<false>();
  }
  for (int s = 0; s < kStreams; ++s) {
    Store(streams[s].states, states[s].first);
    Store(streams[s].states + 16, states[s].second);
    streams[s].words = words[s];
  }
  return complete;
}

constexpr int kTowardsZero = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC;

// Encodes 16 lanes.
ZIPLLM_INLINE void EncodeLanes(const ClassRanges* tables,
                               const uint8_t* classes, const uint8_t* symbols,
                               uint32_t* states, uint8_t*& words_end) {
  const __m512i range =
      Gather(tables, _mm512_or_si512(_mm512_slli_epi32(LoadBytes(classes), 8),
                                     LoadBytes(symbols)));
  const __m512i frequency =
      _mm512_add_epi32(_mm512_and_si512(range, Dwords(kSlots - 1)), Dwords(1));
  __m512i state = Load(states);

  const __mmask16 large =
      _mm512_cmpge_epu32_mask(_mm512_srli_epi32(state, 20), frequency);
  const auto count = static_cast<unsigned>(__builtin_popcount(large));
  words_end -= 2 * count;
  _mm512_mask_cvtepi32_storeu_epi16(
      words_end, static_cast<__mmask16>(_bzhi_u32(0xffff, count)),
      _mm512_maskz_compress_epi32(large, state));
  state = _mm512_mask_srli_epi32(state, large, state, 16);

  // Everything is rounded towards zero, and quotients are below 2^20, so that
  // they are exact or 1 too small, which the remainder tells.
  const __m512i quotient = _mm512_cvttps_epi32(_mm512_mul_round_ps(
      _mm512_cvt_roundepu32_ps(state, kTowardsZero),
      _mm512_div_round_ps(_mm512_set1_ps(1), _mm512_cvtepi32_ps(frequency),
                          kTowardsZero),
      kTowardsZero));
  const __m512i rank =
      _mm512_sub_epi32(state, _mm512_mullo_epi32(quotient, frequency));
  const __mmask16 too_small = _mm512_cmpge_epu32_mask(rank, frequency);
  // One more in the quotient is kSlots more in the state.
  const __m512i right = _mm512_mask_add_epi32(
      rank, too_small, _mm512_sub_epi32(rank, frequency), Dwords(kSlots));
  Store(states, _mm512_add_epi32(
                    _mm512_slli_epi32(quotient, kProbabilityBits),
                    _mm512_add_epi32(_mm512_srli_epi32(range, kProbabilityBits),
                                     right)));
}

}  // namespace

bool ClassRansDecodeAvx512(ClassStream* streams_state, int streams,
                           const ClassSlots* tables, const uint8_t* classes,
                           uint8_t* symbols, size_t steps) {
  return streams == 1
             ? DecodeStreams<1>(streams_state, tables, classes, symbols, steps)
             : DecodeStreams<4>(streams_state, tables, classes, symbols, steps);
}

void ClassRansEncodeAvx512(uint32_t* states, int streams,
                           const ClassRanges* tables, const uint8_t* classes,
                           const uint8_t* symbols, size_t steps,
                           uint8_t** words_end) {
  const size_t lanes = static_cast<size_t>(streams) * kLanes;
  classes += steps * lanes;
  symbols += steps * lanes;
  for (; steps > 0; --steps) {
    classes -= lanes;
    symbols -= lanes;
    for (size_t i = lanes; i > 0;) {
      i -= 16;
      EncodeLanes(tables, classes + i, symbols + i, states + i,
                  words_end[i / kLanes]);
    }
  }
}

}  // namespace zipllm::kernels

#endif
