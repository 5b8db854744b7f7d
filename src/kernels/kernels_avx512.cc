// Kernels for x86-64 with AVX-512 F, BW, VL, DQ, VBMI and VBMI2. Calls nothing
// inline from the standard library: such code would be compiled for AVX-512
// and might be linked into other targets.
#include "kernels/kernels.h"
#include "kernels/kernels_cascade.h"
#include "kernels/kernels_class_rans.h"
#include "kernels/kernels_delta.h"
#include "kernels/kernels_moments.h"
#include "kernels/kernels_scaled.h"
#include "kernels/kernels_sum.h"

#if defined(__x86_64__)

// False alarms of gcc 12 on the headers of intrinsics (gcc bug 105593).
#pragma GCC diagnostic push
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop

#include <cstring>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "kernels/bit_sink_bmi2.h"
#include "kernels/kernels_units.h"

#define ZIPLLM_INLINE inline __attribute__((always_inline))

namespace zipllm::kernels {
namespace {

ZIPLLM_INLINE __m512i Load(const void* from) {
  return _mm512_loadu_si512(from);
}
ZIPLLM_INLINE void Store(void* to, __m512i value) {
  _mm512_storeu_si512(to, value);
}
ZIPLLM_INLINE __m512i Words(int value) {
  return _mm512_set1_epi16(static_cast<int16_t>(value));
}
ZIPLLM_INLINE int Count(uint32_t mask) { return __builtin_popcount(mask); }

// The lowest `count` (at most 32) bits.
ZIPLLM_INLINE __mmask32 FirstBits(size_t count) {
  return _bzhi_u32(~uint32_t{0}, static_cast<uint32_t>(count));
}

// `a`, `b` and `mask` bit by bit: a | (b & mask).
ZIPLLM_INLINE __m512i OrAnd(__m512i a, __m512i b, __m512i mask) {
  return _mm512_ternarylogic_epi32(a, b, mask, 0xf8);
}

// The bytes 0, 2, 4, ... of a, then of b; the odd bytes are 0.
ZIPLLM_INLINE __m512i PackWords(__m512i a, __m512i b) {
  return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7),
                                  _mm512_packus_epi16(a, b));
}

// ---- rANS decoding ----
//
// The 32 states of a stream are kept as two vectors of 16-bit halves in lane
// order, so that the slot is a part of one, renormalisation moves one to the
// other, and three 16-bit products make the 32-bit one.

struct States {
  __m512i low;
  __m512i high;
};

ZIPLLM_INLINE States LoadStates(const uint32_t* states) {
  const __m512i a = Load(states);
  const __m512i b = Load(states + 16);
  const auto join = [](__m256i first, __m256i second) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
  };
  return {join(_mm512_cvtepi32_epi16(a), _mm512_cvtepi32_epi16(b)),
          join(_mm512_cvtepi32_epi16(_mm512_srli_epi32(a, 16)),
               _mm512_cvtepi32_epi16(_mm512_srli_epi32(b, 16)))};
}

ZIPLLM_INLINE void StoreStates(const States& from, uint32_t* states) {
  const auto widen = [](__m256i low, __m256i high) {
    return _mm512_or_si512(_mm512_cvtepu16_epi32(low),
                           _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16));
  };
  Store(states, widen(_mm512_castsi512_si256(from.low),
                      _mm512_castsi512_si256(from.high)));
  Store(states + 16, widen(_mm512_extracti64x4_epi64(from.low, 1),
                           _mm512_extracti64x4_epi64(from.high, 1)));
}

// A decode table in registers: threshold by bucket, the rest by entry.
struct DecodeRegisters {
  __m512i threshold;
  __m512i frequency[2];
  __m512i bias[2];
  __m512i key[2];
};

ZIPLLM_INLINE DecodeRegisters LoadTable(const RansDecodeTable& table) {
  DecodeRegisters result;
  result.threshold = Load(table.threshold);
  const __m512i keys = Load(table.keys);
  for (int i = 0; i < 2; ++i) {
    result.frequency[i] = Load(table.frequency + 32 * i);
    result.bias[i] = Load(table.bias + 32 * i);
    result.key[i] = _mm512_permutexvar_epi16(Load(table.symbol + 32 * i), keys);
  }
  return result;
}

// The stream's next 64 extra bits, of which `count` are taken.
ZIPLLM_INLINE uint64_t TakeExtraBits(RansStream& stream, unsigned count,
                                     bool& complete) {
  const uint64_t byte = stream.extra_bit >> 3;
  const unsigned shift = stream.extra_bit & 7;
  const auto size = static_cast<uint64_t>(stream.extra_end - stream.extra);
  uint64_t first = 0;
  uint8_t last = 0;
  if (byte + 9 <= size) [[likely]] {
    std::memcpy(&first, stream.extra + byte, 8);
    last = stream.extra[byte + 8];
  } else {
    for (uint64_t i = byte; i < size; ++i) {
      first |= uint64_t{stream.extra[i]} << (8 * (i - byte));
    }
    const uint64_t left = 8 * size - stream.extra_bit;
    if (count > left) {
      complete = false;
      count = static_cast<unsigned>(left);
    }
  }
  stream.extra_bit += count;
  return first >> shift | uint64_t{last} << 1 << (63 - shift);
}

// The stream's next `count` escape bytes, zeros where there are fewer.
ZIPLLM_INLINE __m256i TakeEscapes(RansStream& stream, size_t count,
                                  bool& complete) {
  const auto left = static_cast<size_t>(stream.escapes_end - stream.escapes);
  if (count > left) {
    complete = false;
    count = left;
  }
  const __m256i bytes =
      _mm256_maskz_loadu_epi8(FirstBits(count), stream.escapes);
  stream.escapes += count;
  return bytes;
}

// Strips the flags of `keys` and adds what the stream has for them; `bare` has
// the lanes with kKeyBare.
ZIPLLM_INLINE __m512i CompleteKeys(__m512i keys, uint32_t bare,
                                   RansStream& stream, bool& complete) {
  const uint64_t bits =
      TakeExtraBits(stream, 2 * static_cast<unsigned>(Count(bare)), complete);
  const uint64_t fields =
      _pdep_u64(bits, 3 * _pdep_u64(bare, 0x5555555555555555));
  // Word i gets the bits from 2 * i of `fields`.
  const __m512i from = _mm512_set_epi16(
      62, 60, 58, 56, 54, 52, 50, 48, 46, 44, 42, 40, 38, 36, 34, 32, 30, 28,
      26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
  const __m512i mantissa = _mm512_and_si512(
      _mm512_multishift_epi64_epi8(
          from, _mm512_set1_epi64(static_cast<int64_t>(fields))),
      Words(3));
  const __mmask32 escaped = _mm512_test_epi16_mask(keys, Words(kKeyEscape));
  keys = _mm512_add_epi16(_mm512_and_si512(keys, Words(0x3fff)), mantissa);
  if (escaped != 0) {
    const __m256i bytes = _mm256_maskz_expand_epi8(
        escaped,
        TakeEscapes(stream, static_cast<size_t>(Count(escaped)), complete));
    keys = _mm512_add_epi16(keys,
                            _mm512_slli_epi16(_mm512_cvtepu8_epi16(bytes), 2));
  }
  return keys;
}

// Moves the states of a stream on by a symbol each and returns what
// `table.key` has for these. Unless kCareful, 64 bytes of words can be read.
template <bool kCareful>
ZIPLLM_INLINE __m512i NextKeys(const DecodeRegisters& table, States& states,
                               const uint8_t*& words, const uint8_t* words_end,
                               bool& complete) {
  const __m512i in_bucket = _mm512_and_si512(states.low, Words(127));
  const __m512i bucket = _mm512_srli_epi16(states.low, 7);
  const __m512i below = _mm512_sub_epi16(  // negative: below the threshold
      in_bucket, _mm512_permutexvar_epi16(bucket, table.threshold));
  // bucket & 31 | (below < 0 ? 0 : 32); vpermi2w ignores higher bits.
  const __m512i entry = _mm512_ternarylogic_epi32(
      bucket, _mm512_srli_epi16(below, 10), Words(32), 0x72);
  const auto look_up = [entry](const __m512i(&values)[2]) {
    return _mm512_permutex2var_epi16(values[0], entry, values[1]);
  };
  const __m512i frequency = look_up(table.frequency);
  const __m512i rank = _mm512_add_epi16(in_bucket, look_up(table.bias));

  // frequency * (state >> 12) + rank
  const __m512i low_factor = _mm512_shldi_epi16(states.high, states.low, 4);
  const __m512i high_factor = _mm512_srli_epi16(states.high, 12);
  const __m512i low =
      _mm512_add_epi16(_mm512_mullo_epi16(frequency, low_factor), rank);
  __m512i high = _mm512_add_epi16(_mm512_mulhi_epu16(frequency, low_factor),
                                  _mm512_mullo_epi16(frequency, high_factor));
  const __mmask32 carry = _mm512_cmplt_epu16_mask(low, rank);
  high = _mm512_mask_sub_epi16(high, carry, high, Words(-1));

  const __mmask32 small = _mm512_testn_epi16_mask(high, high);
  auto count = static_cast<size_t>(Count(small));
  __m512i taken;
  if constexpr (kCareful) {
    const auto left = static_cast<size_t>(words_end - words) / 2;
    if (count > left) {
      complete = false;
      count = left;
    }
    taken = _mm512_maskz_loadu_epi16(FirstBits(count), words);
  } else {
    taken = Load(words);
  }
  words += 2 * count;
  states.high = _mm512_mask_mov_epi16(high, small, low);
  states.low = _mm512_mask_expand_epi16(low, small, taken);
  return look_up(table.key);
}

// One step of one stream.
template <bool kCareful>
ZIPLLM_INLINE void DecodeStep(const DecodeRegisters& table, States& states,
                              const uint8_t*& words, RansStream& stream,
                              uint16_t* keys, bool& complete) {
  __m512i key =
      NextKeys<kCareful>(table, states, words, stream.words_end, complete);
  const __mmask32 bare = _mm512_movepi16_mask(key);
  if (bare != 0) key = CompleteKeys(key, bare, stream, complete);
  Store(keys, key);
}

template <int kStreams>
bool DecodeStreams(RansStream* streams, const RansDecodeTable& decode_table,
                   uint16_t* keys, size_t steps) {
  const DecodeRegisters table = LoadTable(decode_table);
  bool complete = true;
  States states[kStreams];
  const uint8_t* words[kStreams];
  for (int s = 0; s < kStreams; ++s) {
    states[s] = LoadStates(streams[s].states);
    words[s] = streams[s].words;
  }
  const auto step = [&]<bool kCareful>() {
    const auto decode = [&](int s) {
      DecodeStep<kCareful>(table, states[s], words[s], streams[s],
                           keys + kLanes * static_cast<size_t>(s), complete);
    };
    decode(0);
    if constexpr (kStreams == 4) {
      decode(1);
      decode(2);
      decode(3);
    }
    keys += kLanes * kStreams;
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
    StoreStates(states[s], streams[s].states);
    streams[s].words = words[s];
  }
  return complete;
}

bool RansDecode(RansStream* streams_state, int streams,
                const RansDecodeTable& table, uint16_t* keys, size_t steps) {
  return streams == 1 ? DecodeStreams<1>(streams_state, table, keys, steps)
                      : DecodeStreams<4>(streams_state, table, keys, steps);
}

// ---- rANS encoding ----
//
// The states are kept as for decoding. The quotients come from 32-bit floats:
// everything is rounded towards zero, and they are below 2^20, so that they are
// exact or 1 too small, which the remainder tells.

struct EncodeRegisters {
  __m512i frequency;  // by symbol, as the rest
  __m512i start;
  __m512 reciprocal[2];
  const uint16_t* slot_of;
};

constexpr int kTowardsZero = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC;

// The halves of 32-bit numbers: those of `even`, then those of `odd`, for even
// and odd lanes.
ZIPLLM_INLINE __m512i LowHalves(__m512i even, __m512i odd) {
  return OrAnd(_mm512_slli_epi32(odd, 16), even, _mm512_set1_epi32(0xffff));
}
ZIPLLM_INLINE __m512i HighHalves(__m512i even, __m512i odd) {
  return OrAnd(_mm512_srli_epi32(even, 16), odd, _mm512_set1_epi32(-0x10000));
}
// The reverse: the even and odd lanes from the halves.
ZIPLLM_INLINE __m512i EvenLanes(__m512i low, __m512i high) {
  return LowHalves(low, high);
}
ZIPLLM_INLINE __m512i OddLanes(__m512i low, __m512i high) {
  return HighHalves(low, high);
}

ZIPLLM_INLINE EncodeRegisters LoadTable(const RansEncodeTable& table) {
  EncodeRegisters result;
  const auto to_words = [](const uint32_t* values) {
    return _mm512_inserti64x4(
        _mm512_castsi256_si512(_mm512_cvtepi32_epi16(Load(values))),
        _mm512_cvtepi32_epi16(Load(values + 16)), 1);
  };
  result.frequency = to_words(table.frequency);
  result.start = to_words(table.start);
  for (int i = 0; i < 2; ++i) {
    result.reciprocal[i] = _mm512_div_round_ps(
        _mm512_set1_ps(1), _mm512_cvtepi32_ps(Load(table.frequency + 16 * i)),
        kTowardsZero);
  }
  result.slot_of = table.slot_of;
  return result;
}

ZIPLLM_INLINE __m512i Quotients(__m512i states, __m512 reciprocals) {
  return _mm512_cvttps_epi32(
      _mm512_mul_round_ps(_mm512_cvt_roundepu32_ps(states, kTowardsZero),
                          reciprocals, kTowardsZero));
}

ZIPLLM_INLINE void EncodeStep(const EncodeRegisters& table, States& states,
                              const uint8_t* symbols, uint8_t*& words_end) {
  const __m512i symbol = _mm512_cvtepu8_epi16(_mm256_loadu_si256(
      static_cast<const __m256i*>(static_cast<const void*>(symbols))));
  const __m512i frequency = _mm512_permutexvar_epi16(symbol, table.frequency);

  const __mmask32 large =
      _mm512_cmpge_epu16_mask(_mm512_srli_epi16(states.high, 4), frequency);
  const int count = Count(large);
  words_end -= 2 * count;
  _mm512_mask_storeu_epi16(words_end, FirstBits(static_cast<size_t>(count)),
                           _mm512_maskz_compress_epi16(large, states.low));
  const __m512i low = _mm512_mask_mov_epi16(states.low, large, states.high);
  const __m512i high =
      _mm512_mask_mov_epi16(states.high, large, _mm512_setzero_si512());

  const auto reciprocals = [&](__m512i of) {
    return _mm512_permutex2var_ps(table.reciprocal[0], of, table.reciprocal[1]);
  };
  const __m512i even = Quotients(EvenLanes(low, high), reciprocals(symbol));
  const __m512i odd = Quotients(OddLanes(low, high),
                                reciprocals(_mm512_srli_epi32(symbol, 16)));
  __m512i rank = _mm512_sub_epi16(
      low, _mm512_mullo_epi16(LowHalves(even, odd), frequency));
  const __mmask32 too_small = _mm512_cmpge_epu16_mask(rank, frequency);
  rank = _mm512_mask_sub_epi16(rank, too_small, rank, frequency);

  // Gathers take 32 bits: the slot and, below it, what lies before it, so that
  // nothing behind the table is read.
  const __m512i index =
      _mm512_add_epi16(rank, _mm512_permutexvar_epi16(symbol, table.start));
  // gcc would leave out the clearing of the target if it knew the mask, and
  // each gather would wait for whatever that register held.
  const auto gather = [&](__m512i of) {
    __mmask16 mask = 0xffff;
    asm("" : "+Yk"(mask));
    return _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), mask, of,
                                       table.slot_of - 1, 2);
  };
  const __m512i even_slots =
      gather(_mm512_and_si512(index, _mm512_set1_epi32(0xffff)));
  const __m512i odd_slots = gather(_mm512_srli_epi32(index, 16));
  __m512i slot = HighHalves(even_slots, odd_slots);
  slot = _mm512_mask_add_epi16(slot, too_small, slot, Words(kSlots));

  const __m512i next_even =
      _mm512_add_epi32(_mm512_slli_epi32(even, kProbabilityBits),
                       _mm512_and_si512(slot, _mm512_set1_epi32(0xffff)));
  const __m512i next_odd = _mm512_add_epi32(
      _mm512_slli_epi32(odd, kProbabilityBits), _mm512_srli_epi32(slot, 16));
  states = {LowHalves(next_even, next_odd), HighHalves(next_even, next_odd)};
}

template <int kStreams>
void EncodeStreams(uint32_t* all_states, const RansEncodeTable& encode_table,
                   const uint8_t* symbols, size_t steps, uint8_t** words_end) {
  const EncodeRegisters table = LoadTable(encode_table);
  States states[kStreams];
  uint8_t* ends[kStreams];
  for (size_t s = 0; s < kStreams; ++s) {
    states[s] = LoadStates(all_states + kLanes * s);
    ends[s] = words_end[s];
  }
  symbols += steps * kStreams * kLanes;
  for (; steps > 0; --steps) {
    symbols -= kStreams * kLanes;
    const auto encode = [&](size_t s) {
      EncodeStep(table, states[s], symbols + kLanes * s, ends[s]);
    };
    encode(0);
    if constexpr (kStreams == 4) {
      encode(1);
      encode(2);
      encode(3);
    }
  }
  for (size_t s = 0; s < kStreams; ++s) {
    StoreStates(states[s], all_states + kLanes * s);
    words_end[s] = ends[s];
  }
}

void RansEncode(uint32_t* states, int streams, const RansEncodeTable& table,
                const uint8_t* symbols, size_t steps, uint8_t** words_end) {
  if (streams == 1) {
    EncodeStreams<1>(states, table, symbols, steps, words_end);
  } else {
    EncodeStreams<4>(states, table, symbols, steps, words_end);
  }
}

// ---- Planes ----

constexpr size_t kWords = 32;  // in a vector

ZIPLLM_INLINE __m512i ShiftRight(__m512i words, int shift) {
  return _mm512_srl_epi16(words, _mm_cvtsi32_si128(shift));
}
ZIPLLM_INLINE __m512i ShiftLeft(__m512i words, int shift) {
  return _mm512_sll_epi16(words, _mm_cvtsi32_si128(shift));
}

void ExtractPlane(const uint16_t* values, size_t groups, int width, int shift,
                  uint8_t* plane) {
  for (; groups > 0; --groups, values += kGroup) {
    const auto field = [&](size_t i, int mask) {
      return _mm512_and_si512(ShiftRight(Load(values + kWords * i), shift),
                              Words(mask));
    };
    if (width == 1) {
      for (size_t i = 0; i < 4; ++i) {
        const uint32_t bits = _mm512_test_epi16_mask(Load(values + kWords * i),
                                                     Words(1 << shift));
        std::memcpy(plane + 4 * i, &bits, 4);
      }
      plane += kGroup / 8;
    } else if (width == 4) {
      const auto pair = [&](size_t i) {
        return _mm512_or_si512(field(i, 15),
                               _mm512_slli_epi16(field(i + 2, 15), 4));
      };
      Store(plane, PackWords(pair(0), pair(1)));
      plane += kGroup / 2;
    } else {
      Store(plane, PackWords(field(0, 255), field(1, 255)));
      Store(plane + kGroup / 2, PackWords(field(2, 255), field(3, 255)));
      plane += kGroup;
    }
  }
}

void InsertPlane(uint16_t* values, size_t groups, int width, int shift,
                 const uint8_t* plane) {
  for (; groups > 0; --groups, values += kGroup) {
    const auto insert = [&](size_t i, __m512i bits) {
      uint16_t* const at = values + kWords * i;
      Store(at, _mm512_or_si512(Load(at), ShiftLeft(bits, shift)));
    };
    const auto bytes = [&](size_t i) {
      return _mm512_cvtepu8_epi16(_mm256_loadu_si256(
          static_cast<const __m256i*>(static_cast<const void*>(plane)) + i));
    };
    if (width == 1) {
      for (size_t i = 0; i < 4; ++i) {
        uint32_t bits;
        std::memcpy(&bits, plane + 4 * i, 4);
        insert(i, _mm512_maskz_mov_epi16(bits, Words(1)));
      }
      plane += kGroup / 8;
    } else if (width == 4) {
      for (size_t i = 0; i < 2; ++i) {
        insert(i, _mm512_and_si512(bytes(i), Words(15)));
        insert(i + 2, _mm512_srli_epi16(bytes(i), 4));
      }
      plane += kGroup / 2;
    } else {
      for (size_t i = 0; i < 4; ++i) insert(i, bytes(i));
      plane += kGroup;
    }
  }
}

// Calls body(i, mask) for the vectors of `count` 16-bit elements: those from i
// on in `mask` are in the array.
template <typename Body>
ZIPLLM_INLINE void ForVectors(size_t count, const Body& body) {
  size_t i = 0;
  for (; i + kWords <= count; i += kWords) body(i, ~__mmask32{0});
  if (i < count) body(i, FirstBits(count - i));
}

void PlaceKeys(const uint16_t* keys, size_t count, int shift,
               uint16_t* values) {
  ForVectors(count, [=](size_t i, __mmask32 mask) {
    _mm512_mask_storeu_epi16(
        values + i, mask,
        ShiftLeft(_mm512_maskz_loadu_epi16(mask, keys + i), shift));
  });
}

void SplitHalves(const uint8_t* elements, size_t count, uint16_t* low,
                 uint16_t* high) {
  const __m512i even = _mm512_set_epi16(
      62, 60, 58, 56, 54, 52, 50, 48, 46, 44, 42, 40, 38, 36, 34, 32, 30, 28,
      26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
  const __m512i odd = _mm512_add_epi16(even, Words(1));
  ForVectors(count, [=](size_t i, __mmask32 mask) {
    const uint8_t* const from = elements + 4 * i;
    const __m512i first =
        _mm512_maskz_loadu_epi32(static_cast<__mmask16>(mask), from);
    const __m512i second =
        _mm512_maskz_loadu_epi32(static_cast<__mmask16>(mask >> 16), from + 64);
    _mm512_mask_storeu_epi16(low + i, mask,
                             _mm512_permutex2var_epi16(first, even, second));
    _mm512_mask_storeu_epi16(high + i, mask,
                             _mm512_permutex2var_epi16(first, odd, second));
  });
}

void JoinHalves(const uint16_t* low, const uint16_t* high, size_t count,
                uint8_t* elements) {
  ForVectors(count, [=](size_t i, __mmask32 mask) {
    // The 64-bit pieces such that interleaving within 128 bits gives the order.
    const __m512i pieces = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
    const __m512i l = _mm512_permutexvar_epi64(
        pieces, _mm512_maskz_loadu_epi16(mask, low + i));
    const __m512i h = _mm512_permutexvar_epi64(
        pieces, _mm512_maskz_loadu_epi16(mask, high + i));
    uint8_t* const to = elements + 4 * i;
    _mm512_mask_storeu_epi32(to, static_cast<__mmask16>(mask),
                             _mm512_unpacklo_epi16(l, h));
    _mm512_mask_storeu_epi32(to + 64, static_cast<__mmask16>(mask >> 16),
                             _mm512_unpackhi_epi16(l, h));
  });
}

// ---- Units ----

// The 2-bit fields of `bits` go to the lanes of `bare`, from bit `kShift` of a
// word on, with other bits around them.
template <int kShift>
ZIPLLM_INLINE __m512i SpreadExtra(uint64_t bits, uint32_t bare) {
  const auto fields = static_cast<int64_t>(
      _pdep_u64(bits, 3 * _pdep_u64(bare, 0x5555555555555555)));
  // Byte kShift / 8 of word i gets the bits from 2 * i - kShift % 8 of
  // `fields`, which is rotated.
  const __m512i from = _mm512_slli_epi16(
      _mm512_sub_epi16(
          _mm512_set_epi16(62, 60, 58, 56, 54, 52, 50, 48, 46, 44, 42, 40, 38,
                           36, 34, 32, 30, 28, 26, 24, 22, 20, 18, 16, 14, 12,
                           10, 8, 6, 4, 2, 0),
          Words(kShift % 8)),
      kShift / 8 * 8);
  return _mm512_multishift_epi64_epi8(from, _mm512_set1_epi64(fields));
}

ZIPLLM_INLINE __m512i WidenBytes(const uint8_t* from) {
  return _mm512_cvtepu8_epi16(_mm256_loadu_si256(
      static_cast<const __m256i*>(static_cast<const void*>(from))));
}

// Adds `bit` to the units whose bits of a plane of width 1 are set.
ZIPLLM_INLINE __m512i AddBit(__m512i units, const uint8_t* plane, int bit) {
  uint32_t mask;
  std::memcpy(&mask, plane, sizeof mask);
  return _mm512_mask_add_epi16(units, mask, units, Words(bit));
}

// What the planes of a group have for the 32 units of stream `s`.
template <UnitKind kKind>
ZIPLLM_INLINE __m512i PlaneBits(const uint8_t* const* planes, size_t s) {
  constexpr bool kIsBf16 = kKind == UnitKind::kBf16;
  const __m512i pair = WidenBytes(planes[kIsBf16 ? 0 : 3] + s % 2 * 32);
  __m512i bits;
  if constexpr (kIsBf16) {
    bits =
        s < 2 ? _mm512_and_si512(pair, Words(15)) : _mm512_srli_epi16(pair, 4);
    bits = AddBit(bits, planes[1] + 4 * s, 1 << 4);
    return AddBit(bits, planes[2] + 4 * s, 1 << 15);
  } else {
    bits = _mm512_and_si512(
        s < 2 ? _mm512_slli_epi16(pair, 3) : _mm512_srli_epi16(pair, 1),
        Words(15 << 3));
    for (int p = 0; p < 3; ++p) {
      bits = AddBit(bits, planes[p] + 4 * s, 1 << p);
    }
    bits = AddBit(bits, planes[4] + 4 * s, 1 << 7);
    return AddBit(bits, planes[5] + 4 * s, 1 << 15);
  }
}

// As DecodeUnitsFn, where no read passes the readable end: see SafeChunks.
template <UnitKind kKind>
bool DecodeUnitsFast(RansStream* streams, const RansDecodeTable* tables,
                     const uint8_t* selectors, size_t first_chunk,
                     size_t chunks, const PlaneRef* planes, uint8_t* units) {
  constexpr int kShift = KeyShift(kKind);
  constexpr size_t kPlanes = PlaneCount(kKind);
  const __m512i key_bits = Words(0x3ff << kShift & 0x7fff);
  const __m512i extra_bits = Words(3 << kShift);
  const __m512i escape_bit = Words(1);

  States states[kMaxStreams];
  const uint8_t* words[kMaxStreams];
  const uint8_t* const base = streams[0].extra;
  std::ptrdiff_t extra_begin[kMaxStreams];
  std::ptrdiff_t extra_bit[kMaxStreams];  // from `base`
  for (size_t s = 0; s < kMaxStreams; ++s) {
    states[s] = LoadStates(streams[s].states);
    words[s] = streams[s].words;
    extra_begin[s] = (streams[s].extra - base) * 8;
    extra_bit[s] =
        extra_begin[s] + static_cast<std::ptrdiff_t>(streams[s].extra_bit);
  }
  const uint8_t* groups[kPlanes];
  for (size_t p = 0; p < kPlanes; ++p) groups[p] = planes[p].first;

  bool complete = true;
  for (size_t c = 0; c < chunks; ++c) {
    DecodeRegisters table =
        LoadTable(tables[Selector(selectors, first_chunk + c)]);
    for (__m512i& key : table.key) {
      // The flags lie where the key has no bits: bare on top, escape below.
      const __m512i flags =
          OrAnd(_mm512_srli_epi16(_mm512_and_si512(key, Words(kKeyEscape)), 14),
                key, Words(-0x8000));
      key = OrAnd(flags, _mm512_slli_epi16(key, kShift), key_bits);
    }
    for (size_t step = 0; step < kUnitSteps; ++step) {
      __m512i seen = _mm512_setzero_si512();
      __m512i keys[kMaxStreams];
      const auto decode = [&](size_t s) {
        const __m512i key =
            NextKeys<false>(table, states[s], words[s], nullptr, complete);
        const uint32_t bare = _mm512_movepi16_mask(key);
        const int count = Count(bare);
        const uint8_t* const from = base + (extra_bit[s] >> 3);
        const auto shift = static_cast<unsigned>(extra_bit[s] & 7);
        uint64_t bits;
        std::memcpy(&bits, from, sizeof bits);
        bits >>= shift;
        if (count > 28) [[unlikely]] {  // maybe more than those 57 bits
          bits |= uint64_t{from[8]} << 1 << (63 - shift);
        }
        extra_bit[s] += 2 * count;
        __m512i unit = OrAnd(PlaneBits<kKind>(groups, s),
                             SpreadExtra<kShift>(bits, bare), extra_bits);
        unit = OrAnd(unit, key, key_bits);
        Store(units + 2 * kLanes * s, unit);
        seen = _mm512_or_si512(seen, key);
        keys[s] = key;
      };
      decode(0);
      decode(1);
      decode(2);
      decode(3);
      if (_mm512_test_epi16_mask(seen, escape_bit) != 0) [[unlikely]] {
        for (size_t s = 0; s < kMaxStreams; ++s) {
          complete &=
              AddEscapes(_mm512_test_epi16_mask(keys[s], escape_bit),
                         kShift + 2, streams[s], units + 2 * kLanes * s);
        }
      }
      units += 2 * kLanes * kMaxStreams;
      for (size_t p = 0; p < kPlanes; ++p) groups[p] += planes[p].stride;
    }
  }
  for (size_t s = 0; s < kMaxStreams; ++s) {
    StoreStates(states[s], streams[s].states);
    streams[s].words = words[s];
    streams[s].extra_bit = static_cast<uint64_t>(extra_bit[s] - extra_begin[s]);
  }
  return complete;
}

bool DecodeUnits(RansStream* streams, const RansDecodeTable* tables,
                 const uint8_t* selectors, UnitKind kind,
                 const PlaneRef* planes, size_t chunks,
                 const uint8_t* readable_end, uint8_t* units) {
  const auto fast = kind == UnitKind::kBf16 ? DecodeUnitsFast<UnitKind::kBf16>
                                            : DecodeUnitsFast<UnitKind::kFp16>;
  return DecodeUnitsBy(
      [&](size_t first, size_t count, const PlaneRef* at, uint8_t* to) {
        return fast(streams, tables, selectors, first, count, at, to);
      },
      *Avx512Table(), streams, tables, selectors, kind, planes, chunks,
      readable_end, units);
}

// ---- Symbols ----

constexpr size_t kMapSize = 1024;

// Calls body(i, keys, more_keys, mask) for the keys of 64 elements at a time;
// those from i on in `mask` are in the array.
template <typename Body>
ZIPLLM_INLINE void ForKeys(const uint16_t* values, size_t count, int shift,
                           uint16_t mask, const Body& body) {
  const auto keys = [=](size_t i, __mmask32 present) {
    return _mm512_and_si512(
        ShiftRight(_mm512_maskz_loadu_epi16(present, values + i), shift),
        Words(mask));
  };
  for (size_t i = 0; i < count; i += 64) {
    const size_t left = count - i;
    const uint64_t present =
        left >= 64 ? ~uint64_t{0} : _bzhi_u64(~uint64_t{0}, left);
    body(i, keys(i, static_cast<__mmask32>(present)),
         keys(i + 32, static_cast<__mmask32>(present >> 32)), present);
  }
}

void MapSymbols(const uint16_t* values, size_t count, int shift, uint16_t mask,
                const uint8_t* map, uint8_t* symbols) {
  // Mostly the entries differ from the last one in one small range only.
  const __m512i rest = _mm512_set1_epi8(static_cast<char>(map[kMapSize - 1]));
  size_t first = kMapSize;
  size_t end = 0;
  for (size_t i = 0; i < kMapSize; i += 64) {
    const uint64_t other = _mm512_cmpneq_epi8_mask(Load(map + i), rest);
    if (other == 0) continue;
    if (first == kMapSize)
      first = i + static_cast<size_t>(__builtin_ctzll(other));
    end = i + 64 - static_cast<size_t>(__builtin_clzll(other));
  }
  if (first > kMapSize - 128) first = kMapSize - 128;

  if (end <= first + 128) {
    const __m512i low = Load(map + first);
    const __m512i high = Load(map + first + 64);
    const __m512i begin = Words(static_cast<int>(first));
    ForKeys(
        values, count, shift, mask,
        [=](size_t i, __m512i keys, __m512i more_keys, uint64_t present) {
          const auto place = [=](__m512i of) {
            return _mm512_min_epu16(_mm512_sub_epi16(of, begin), Words(128));
          };
          const __m512i index = PackWords(place(keys), place(more_keys));
          const __m512i found =
              _mm512_mask_mov_epi8(_mm512_permutex2var_epi8(low, index, high),
                                   _mm512_movepi8_mask(index), rest);
          _mm512_mask_storeu_epi8(symbols + i, present, found);
        });
    return;
  }
  ForKeys(values, count, shift, mask,
          [=](size_t i, __m512i keys, __m512i more_keys, uint64_t present) {
            const __m512i index =
                PackWords(_mm512_and_si512(keys, Words(127)),
                          _mm512_and_si512(more_keys, Words(127)));
            const __m512i part = PackWords(_mm512_srli_epi16(keys, 7),
                                           _mm512_srli_epi16(more_keys, 7));
            __m512i found = _mm512_setzero_si512();
            for (int p = 0; p < 8; ++p) {
              found = _mm512_mask_mov_epi8(
                  found,
                  _mm512_cmpeq_epi8_mask(
                      part, _mm512_set1_epi8(static_cast<char>(p))),
                  _mm512_permutex2var_epi8(Load(map + 128 * p), index,
                                           Load(map + 128 * p + 64)));
            }
            _mm512_mask_storeu_epi8(symbols + i, present, found);
          });
}

uint8_t TakeExtra(const uint16_t* values, int shift, size_t rows, int streams,
                  uint8_t* symbols, BitSink* sinks) {
  const __m128i count = _mm_cvtsi32_si128(shift);
  const __m256i flag = _mm256_set1_epi8(kHasExtra);
  __m256i seen = _mm256_setzero_si256();
  for (size_t row = 0; row < rows; ++row) {
    const __m256i coded = _mm256_loadu_si256(
        reinterpret_cast<const __m256i*>(symbols + row * kLanes));
    const uint32_t present = _mm256_test_epi8_mask(coded, flag);
    seen = _mm256_or_si256(seen, coded);
    _mm256_storeu_si256(
        reinterpret_cast<__m256i*>(symbols + row * kLanes),
        _mm256_and_si256(coded, _mm256_set1_epi8(kMaxSymbols - 1)));
    // 2 bits of 32 words to 4 bits of 16 double words, 8 bits of 8 bytes.
    const __m512i two = _mm512_and_si512(
        _mm512_srl_epi16(_mm512_loadu_si512(values + row * kLanes), count),
        _mm512_set1_epi16(3));
    const __m256i four = _mm512_cvtepi32_epi16(
        _mm512_madd_epi16(two, _mm512_set1_epi32(4 << 16 | 1)));
    const __m128i eight = _mm256_cvtepi32_epi8(
        _mm256_madd_epi16(four, _mm256_set1_epi32(16 << 16 | 1)));
    PutFields(static_cast<uint64_t>(_mm_cvtsi128_si64(eight)), present,
              &sinks[row % static_cast<size_t>(streams)]);
  }
  uint8_t flags = 0;
  if (_mm256_test_epi8_mask(seen, flag) != 0) flags |= kHasExtra;
  if (_mm256_test_epi8_mask(seen, _mm256_set1_epi8(kHasEscape)) != 0) {
    flags |= kHasEscape;
  }
  return flags;
}

uint64_t Xxh3(const uint8_t* data, size_t size) {
  return XXH3_64bits(data, size);
}

constexpr Table kTable = {
    .target = Target::kAvx512,
    .name = "avx512",
    .reads_slots = false,
    .rans_decode = RansDecode,
    .rans_encode = RansEncode,
    .class_rans_decode = ClassRansDecodeAvx512,
    .class_rans_encode = ClassRansEncodeAvx512,
    .extract_plane = ExtractPlane,
    .insert_plane = InsertPlane,
    .map_symbols = MapSymbols,
    .take_extra = TakeExtra,
    .cascade_expand = CascadeExpandAvx512,
    .cascade_reduce = CascadeReduceAvx512,
    .join_rests = JoinRestsAvx512,
    .take_rests = TakeRestsAvx512,
    .place_keys = PlaceKeys,
    .decode_units = DecodeUnits,
    .split_halves = SplitHalves,
    .join_halves = JoinHalves,
    .delta_steps = DeltaStepsAvx512,
    .delta_measure = DeltaMeasureAvx512,
    .residual_symbols = ResidualSymbolsAvx512,
    .residual_apply = ResidualApplyAvx512,
    .map_bytes = MapBytesAvx512,
    .add_scaled = AddScaledAvx512,
    .learn_scaled = LearnScaledAvx512,
    .widen = WidenAvx512,
    .add_product = AddProductAvx512,
    .add_product_f32 = AddProductF32Avx512,
    .add_outer = AddOuterAvx512,
    .dot = DotAvx512,
    .round_to = RoundToAvx512,
    .settle_sums = SettleSumsAvx512,
    .widen_f32 = WidenF32Avx512,
    .code_weights = CodeWeightsAvx512,
    .group_ranges = GroupRangesAvx512,
    .xxh3 = Xxh3,
};

}  // namespace

const Table* Avx512Table() { return &kTable; }

}  // namespace zipllm::kernels

#else

namespace zipllm::kernels {
const Table* Avx512Table() { return nullptr; }
}  // namespace zipllm::kernels

#endif
