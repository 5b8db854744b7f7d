// rANS with a table by class for x86-64 with AVX2. Calls nothing inline from
// the standard library (see kernels_avx2.cc).
#include "kernels/kernels_class_rans.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <cstring>

#include "kernels/word_shuffles.h"

#define ZIPLLM_INLINE inline __attribute__((always_inline))

namespace zipllm::kernels {
namespace {

constexpr size_t kDwords = 8;  // in a vector

ZIPLLM_INLINE __m256i Load(const void* from) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}
ZIPLLM_INLINE __m128i Load128(const void* from) {
  return _mm_loadu_si128(static_cast<const __m128i*>(from));
}
ZIPLLM_INLINE void Store(void* to, __m256i value) {
  _mm256_storeu_si256(static_cast<__m256i*>(to), value);
}
ZIPLLM_INLINE __m256i Dwords(int value) { return _mm256_set1_epi32(value); }

// 8 bytes as double words.
ZIPLLM_INLINE __m256i LoadBytes(const uint8_t* from) {
  uint64_t bytes;
  std::memcpy(&bytes, from, sizeof bytes);
  return _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<int64_t>(bytes)));
}

// The lanes whose sign is set.
ZIPLLM_INLINE uint32_t Signs(__m256i dwords) {
  return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(dwords)));
}

// The double words `index` of `table`.
ZIPLLM_INLINE __m256i Gather(const void* table, __m256i index) {
  // gcc would leave out the clearing of the target if it knew the mask, and
  // each gather would wait for whatever that register held.
  __m256i mask = Dwords(-1);
  asm("" : "+x"(mask));
  return _mm256_mask_i32gather_epi32(
      _mm256_setzero_si256(), static_cast<const int*>(table), index, mask, 4);
}

// The next `count` words, zeros where there are fewer.
ZIPLLM_INLINE __m128i TakeWordsCarefully(const uint8_t*& next,
                                         const uint8_t* end, size_t count,
                                         bool& complete) {
  const auto left = static_cast<size_t>(end - next) / 2;
  uint16_t words[8] = {};
  if (count > left) {
    complete = false;
    count = left;
  }
  for (size_t i = 0; i < count; ++i) std::memcpy(&words[i], next + 2 * i, 2);
  next += 2 * count;
  return Load128(words);
}

// One step of one stream. Unless kCareful, 64 bytes of words can be read.
template <bool kCareful>
ZIPLLM_INLINE void DecodeStep(ClassStream& stream, const ClassSlots* tables,
                              const uint8_t* classes, uint8_t* symbols,
                              bool& complete) {
  const uint8_t* next = stream.words;
  const auto decode = [&](size_t i) {
    uint32_t* const states = stream.states + kDwords * i;
    __m256i state = Load(states);
    const __m256i slot = Gather(
        tables,
        _mm256_or_si256(_mm256_slli_epi32(LoadBytes(classes + kDwords * i),
                                          kProbabilityBits),
                        _mm256_and_si256(state, Dwords(kSlots - 1))));
    const __m256i frequency =
        _mm256_add_epi32(_mm256_and_si256(slot, Dwords(kSlots - 1)), Dwords(1));
    const __m256i rank =
        _mm256_and_si256(_mm256_srli_epi32(slot, 12), Dwords(kSlots - 1));
    state = _mm256_add_epi32(
        _mm256_mullo_epi32(frequency,
                           _mm256_srli_epi32(state, kProbabilityBits)),
        rank);
    const __m256i small = _mm256_cmpeq_epi32(_mm256_srli_epi32(state, 16),
                                             _mm256_setzero_si256());
    const uint32_t mask = Signs(small);
    const auto count = static_cast<size_t>(__builtin_popcount(mask));
    __m128i words;
    if constexpr (kCareful) {
      words = TakeWordsCarefully(next, stream.words_end, count, complete);
    } else {
      words = Load128(next);
      next += 2 * count;
    }
    words = _mm_shuffle_epi8(words, Load128(kShuffles.expand[mask]));
    state = _mm256_or_si256(
        _mm256_sllv_epi32(state, _mm256_and_si256(small, Dwords(16))),
        _mm256_cvtepu16_epi32(words));
    Store(states, state);
    return _mm256_srli_epi32(slot, 24);
  };
  const __m256i first = decode(0);
  const __m256i second = decode(1);
  const __m256i third = decode(2);
  const __m256i fourth = decode(3);
  stream.words = next;
  Store(symbols, _mm256_permutevar8x32_epi32(
                     _mm256_packus_epi16(_mm256_packus_epi32(first, second),
                                         _mm256_packus_epi32(third, fourth)),
                     _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
}

// Floor(state / frequency), or 1 less, for quotients up to 2^20. In 32-bit
// floats the quotient is off by less than 1/4, which is taken off it.
ZIPLLM_INLINE __m256i Quotients(__m256i states, __m256i frequencies) {
  const __m256 value = _mm256_add_ps(
      _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_srli_epi32(states, 16)),
                    _mm256_set1_ps(65536)),
      _mm256_cvtepi32_ps(_mm256_and_si256(states, Dwords(0xffff))));
  return _mm256_cvttps_epi32(
      _mm256_sub_ps(_mm256_div_ps(value, _mm256_cvtepi32_ps(frequencies)),
                    _mm256_set1_ps(0.25f)));
}

// Encodes 8 lanes. Writes 16 bytes below `words_end`, there being room for 8
// words.
ZIPLLM_INLINE void EncodeLanes(const ClassRanges* tables,
                               const uint8_t* classes, const uint8_t* symbols,
                               uint32_t* states, uint8_t*& words_end) {
  const __m256i range =
      Gather(tables, _mm256_or_si256(_mm256_slli_epi32(LoadBytes(classes), 8),
                                     LoadBytes(symbols)));
  const __m256i frequency =
      _mm256_add_epi32(_mm256_and_si256(range, Dwords(kSlots - 1)), Dwords(1));
  __m256i state = Load(states);

  const __m256i kept =
      _mm256_cmpgt_epi32(frequency, _mm256_srli_epi32(state, 20));
  const uint32_t mask = Signs(kept) ^ 0xff;
  const __m256i low = _mm256_and_si256(state, Dwords(0xffff));
  const __m128i words =
      _mm_shuffle_epi8(_mm_packus_epi32(_mm256_castsi256_si128(low),
                                        _mm256_extracti128_si256(low, 1)),
                       Load128(kShuffles.compress[mask]));
  _mm_storeu_si128(static_cast<__m128i*>(static_cast<void*>(words_end - 16)),
                   words);
  words_end -= 2 * __builtin_popcount(mask);
  state = _mm256_srlv_epi32(state, _mm256_andnot_si256(kept, Dwords(16)));

  __m256i quotient = Quotients(state, frequency);
  __m256i rank =
      _mm256_sub_epi32(state, _mm256_mullo_epi32(quotient, frequency));
  const __m256i right = _mm256_cmpgt_epi32(frequency, rank);
  rank = _mm256_sub_epi32(rank, _mm256_andnot_si256(right, frequency));
  quotient = _mm256_add_epi32(quotient, _mm256_andnot_si256(right, Dwords(1)));
  Store(states, _mm256_add_epi32(
                    _mm256_slli_epi32(quotient, kProbabilityBits),
                    _mm256_add_epi32(_mm256_srli_epi32(range, kProbabilityBits),
                                     rank)));
}

}  // namespace

bool ClassRansDecodeAvx2(ClassStream* streams_state, int streams,
                         const ClassSlots* tables, const uint8_t* classes,
                         uint8_t* symbols, size_t steps) {
  bool complete = true;
  while (steps > 0) {
    size_t safe = steps;
    for (int s = 0; s < streams; ++s) {
      const auto left = static_cast<size_t>(streams_state[s].words_end -
                                            streams_state[s].words);
      if (left / 64 < safe) safe = left / 64;
    }
    if (safe == 0) {
      for (int s = 0; s < streams; ++s, classes += kLanes, symbols += kLanes) {
        DecodeStep<true>(streams_state[s], tables, classes, symbols, complete);
      }
      --steps;
    }
    steps -= safe;
    for (; safe > 0; --safe) {
      for (int s = 0; s < streams; ++s, classes += kLanes, symbols += kLanes) {
        DecodeStep<false>(streams_state[s], tables, classes, symbols, complete);
      }
    }
  }
  return complete;
}

void ClassRansEncodeAvx2(uint32_t* states, int streams,
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
      i -= kDwords;
      EncodeLanes(tables, classes + i, symbols + i, states + i,
                  words_end[i / kLanes]);
    }
  }
}

}  // namespace zipllm::kernels

#endif
