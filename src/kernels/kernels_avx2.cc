// Kernels for x86-64 with AVX2 and BMI2. Calls nothing inline from the standard
// library: such code would be compiled for AVX2 and might be linked into other
// targets.
#include "kernels/kernels.h"
#include "kernels/kernels_cascade.h"
#include "kernels/kernels_class_rans.h"
#include "kernels/kernels_delta.h"
#include "kernels/kernels_moments.h"
#include "kernels/kernels_scaled.h"
#include "kernels/kernels_sum.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <cstring>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "kernels/bit_sink_bmi2.h"
#include "kernels/kernels_units.h"
#include "kernels/word_shuffles.h"

#define ZIPLLM_INLINE inline __attribute__((always_inline))

namespace zipllm::kernels {
namespace {

ZIPLLM_INLINE __m256i Load(const void* from) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}
ZIPLLM_INLINE __m128i Load128(const void* from) {
  return _mm_loadu_si128(static_cast<const __m128i*>(from));
}
ZIPLLM_INLINE void Store(void* to, __m256i value) {
  _mm256_storeu_si256(static_cast<__m256i*>(to), value);
}
ZIPLLM_INLINE __m256i Words(int value) {
  return _mm256_set1_epi16(static_cast<int16_t>(value));
}
ZIPLLM_INLINE __m256i Dwords(int value) { return _mm256_set1_epi32(value); }

// The lanes of 32 bits whose sign is set.
ZIPLLM_INLINE uint32_t Signs(__m256i dwords) {
  return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(dwords)));
}

// The 64-bit pieces 0, 2, 1, 3: the order that packing within 128 bits needs.
ZIPLLM_INLINE __m256i SwapMiddle(__m256i value) {
  return _mm256_permute4x64_epi64(value, 0xd8);
}

// The low bytes of 32 words, of which the high bytes are 0.
ZIPLLM_INLINE __m256i PackWords(__m256i a, __m256i b) {
  return SwapMiddle(_mm256_packus_epi16(a, b));
}

// The 32 bits at index * scale bytes from `base`.
template <int scale>
ZIPLLM_INLINE __m256i Gather(const void* base, __m256i index) {
  // gcc would leave out the clearing of the target if it knew the mask, and
  // each gather would wait for whatever that register held.
  __m256i mask = Dwords(-1);
  asm("" : "+x"(mask));
  return _mm256_mask_i32gather_epi32(_mm256_setzero_si256(),
                                     static_cast<const int*>(base), index, mask,
                                     scale);
}

constexpr size_t kDwords = 8;  // in a vector

// ---- rANS decoding ----

// The low or high bytes of a table's keys, 16 symbols each in both halves.
struct KeyBytes {
  __m256i first;
  __m256i second;
};

ZIPLLM_INLINE KeyBytes SplitKeys(__m256i a, __m256i b) {
  const __m256i bytes = PackWords(a, b);
  return {_mm256_permute2x128_si256(bytes, bytes, 0x00),
          _mm256_permute2x128_si256(bytes, bytes, 0x11)};
}

// The bytes for 32 symbols.
ZIPLLM_INLINE __m256i LookUp(const KeyBytes& bytes, __m256i symbols) {
  return _mm256_blendv_epi8(_mm256_shuffle_epi8(bytes.first, symbols),
                            _mm256_shuffle_epi8(bytes.second, symbols),
                            _mm256_slli_epi16(symbols, 3));
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

// 2 bits for each lane of `bare`, in a byte a lane.
ZIPLLM_INLINE __m256i TakeMantissas(RansStream& stream, uint32_t bare,
                                    bool& complete) {
  const auto count = static_cast<unsigned>(__builtin_popcount(bare));
  const uint64_t bits = TakeExtraBits(stream, 2 * count, complete);
  const uint64_t fields =
      _pdep_u64(bits, 3 * _pdep_u64(bare, 0x5555555555555555));
  const auto spread = [fields](int shift) {
    return static_cast<int64_t>(_pdep_u64(fields >> shift, 0x0303030303030303));
  };
  return _mm256_setr_epi64x(spread(0), spread(16), spread(32), spread(48));
}

// Moves the states of a stream on by a symbol each and returns these, a byte
// each. Unless kCareful, 64 bytes of words can be read.
template <bool kCareful>
ZIPLLM_INLINE __m256i NextSymbols(const uint32_t* slots, RansStream& stream,
                                  bool& complete) {
  const uint8_t* next = stream.words;
  const auto decode = [&](size_t i) {
    uint32_t* const states = stream.states + kDwords * i;
    __m256i state = Load(states);
    const __m256i entry =
        Gather<4>(slots, _mm256_and_si256(state, Dwords(kSlots - 1)));
    const __m256i frequency = _mm256_and_si256(entry, Dwords(2 * kSlots - 1));
    const __m256i rank =
        _mm256_and_si256(_mm256_srli_epi32(entry, 13), Dwords(kSlots - 1));
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
    return _mm256_srli_epi32(entry, 25);
  };
  const __m256i first = decode(0);
  const __m256i second = decode(1);
  const __m256i third = decode(2);
  const __m256i fourth = decode(3);
  stream.words = next;
  return _mm256_permutevar8x32_epi32(
      _mm256_packus_epi16(_mm256_packus_epi32(first, second),
                          _mm256_packus_epi32(third, fourth)),
      _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

// Stores 32 words of which the low and high bytes are given.
ZIPLLM_INLINE void StoreWords(void* to, __m256i low, __m256i high) {
  const __m256i even = _mm256_unpacklo_epi8(low, high);
  const __m256i odd = _mm256_unpackhi_epi8(low, high);
  uint8_t* const bytes = static_cast<uint8_t*>(to);
  Store(bytes, _mm256_permute2x128_si256(even, odd, 0x20));
  Store(bytes + 32, _mm256_permute2x128_si256(even, odd, 0x31));
}

// One step of one stream.
template <bool kCareful>
ZIPLLM_INLINE void DecodeStep(const uint32_t* slots, const KeyBytes& low_bytes,
                              const KeyBytes& high_bytes, RansStream& stream,
                              uint16_t* keys, bool& complete) {
  const __m256i symbols = NextSymbols<kCareful>(slots, stream, complete);
  __m256i low = LookUp(low_bytes, symbols);
  __m256i high = LookUp(high_bytes, symbols);
  const auto bare = static_cast<uint32_t>(_mm256_movemask_epi8(high));
  uint32_t escaped = 0;
  if (bare != 0) {
    escaped =
        static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_slli_epi16(high, 1)));
    low = _mm256_add_epi8(low, TakeMantissas(stream, bare, complete));
    high = _mm256_and_si256(high, _mm256_set1_epi8(0x3f));
  }
  StoreWords(keys, low, high);
  for (; escaped != 0; escaped &= escaped - 1) {
    if (stream.escapes == stream.escapes_end) {
      complete = false;
      break;
    }
    uint16_t& key = keys[__builtin_ctz(escaped)];
    key = static_cast<uint16_t>(key + (*stream.escapes++ << 2));
  }
}

bool RansDecode(RansStream* streams_state, int streams,
                const RansDecodeTable& table, uint16_t* keys, size_t steps) {
  const __m256i a = Load(table.keys);
  const __m256i b = Load(table.keys + 16);
  const KeyBytes low_bytes = SplitKeys(_mm256_and_si256(a, Words(255)),
                                       _mm256_and_si256(b, Words(255)));
  const KeyBytes high_bytes =
      SplitKeys(_mm256_srli_epi16(a, 8), _mm256_srli_epi16(b, 8));
  bool complete = true;
  while (steps > 0) {
    size_t safe = steps;
    for (int s = 0; s < streams; ++s) {
      const auto left = static_cast<size_t>(streams_state[s].words_end -
                                            streams_state[s].words);
      if (left / 64 < safe) safe = left / 64;
    }
    if (safe == 0) {
      for (int s = 0; s < streams; ++s, keys += kLanes) {
        DecodeStep<true>(table.slots, low_bytes, high_bytes, streams_state[s],
                         keys, complete);
      }
      --steps;
    }
    steps -= safe;
    for (; safe > 0; --safe) {
      for (int s = 0; s < streams; ++s, keys += kLanes) {
        DecodeStep<false>(table.slots, low_bytes, high_bytes, streams_state[s],
                          keys, complete);
      }
    }
  }
  return complete;
}

// ---- rANS encoding ----

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
ZIPLLM_INLINE void EncodeLanes(const int* ranges, const uint16_t* slot_of,
                               uint32_t* states, const uint8_t* symbols,
                               uint8_t*& words_end) {
  uint64_t bytes;
  std::memcpy(&bytes, symbols, sizeof bytes);
  const __m256i range = Gather<4>(
      ranges,
      _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<int64_t>(bytes))));
  const __m256i frequency = _mm256_and_si256(range, Dwords(0xffff));
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

  // The gather takes 32 bits: the slot and, below it, what lies before it, so
  // that nothing behind the table is read.
  const __m256i slot = _mm256_srli_epi32(
      Gather<2>(slot_of - 1,
                _mm256_add_epi32(_mm256_srli_epi32(range, 16), rank)),
      16);
  Store(states,
        _mm256_add_epi32(_mm256_slli_epi32(quotient, kProbabilityBits), slot));
}

void RansEncode(uint32_t* states, int streams, const RansEncodeTable& table,
                const uint8_t* symbols, size_t steps, uint8_t** words_end) {
  alignas(32) int ranges[kMaxSymbols];  // frequency | start << 16
  for (size_t i = 0; i < kMaxSymbols; i += kDwords) {
    Store(ranges + i,
          _mm256_or_si256(Load(table.frequency + i),
                          _mm256_slli_epi32(Load(table.start + i), 16)));
  }
  const size_t lanes = static_cast<size_t>(streams) * kLanes;
  symbols += steps * lanes;
  for (; steps > 0; --steps) {
    symbols -= lanes;
    for (size_t i = lanes; i > 0;) {
      i -= kDwords;
      EncodeLanes(ranges, table.slot_of, states + i, symbols + i,
                  words_end[i / kLanes]);
    }
  }
}

// ---- Planes ----

constexpr size_t kWords = 16;  // in a vector

ZIPLLM_INLINE __m256i ShiftRight(__m256i words, int shift) {
  return _mm256_srl_epi16(words, _mm_cvtsi32_si128(shift));
}
ZIPLLM_INLINE __m256i ShiftLeft(__m256i words, int shift) {
  return _mm256_sll_epi16(words, _mm_cvtsi32_si128(shift));
}

void ExtractPlane(const uint16_t* values, size_t groups, int width, int shift,
                  uint8_t* plane) {
  for (; groups > 0; --groups, values += kGroup) {
    const auto field = [&](size_t i, int mask) {
      return _mm256_and_si256(ShiftRight(Load(values + kWords * i), shift),
                              Words(mask));
    };
    if (width == 1) {
      const auto signs = [&](size_t i) {
        return ShiftLeft(Load(values + kWords * i), 15 - shift);
      };
      for (size_t i = 0; i < 4; ++i) {
        const int bits = _mm256_movemask_epi8(
            SwapMiddle(_mm256_packs_epi16(signs(2 * i), signs(2 * i + 1))));
        std::memcpy(plane + 4 * i, &bits, 4);
      }
      plane += kGroup / 8;
    } else if (width == 4) {
      const auto pair = [&](size_t i) {
        return _mm256_or_si256(field(i, 15),
                               _mm256_slli_epi16(field(i + 4, 15), 4));
      };
      Store(plane, PackWords(pair(0), pair(1)));
      Store(plane + 32, PackWords(pair(2), pair(3)));
      plane += kGroup / 2;
    } else {
      for (size_t i = 0; i < 4; ++i) {
        Store(plane + 32 * i,
              PackWords(field(2 * i, 255), field(2 * i + 1, 255)));
      }
      plane += kGroup;
    }
  }
}

void InsertPlane(uint16_t* values, size_t groups, int width, int shift,
                 const uint8_t* plane) {
  const __m256i each_bit =
      _mm256_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096,
                        8192, 16384, -32768);
  for (; groups > 0; --groups, values += kGroup) {
    const auto insert = [&](size_t i, __m256i bits) {
      uint16_t* const at = values + kWords * i;
      Store(at, _mm256_or_si256(Load(at), ShiftLeft(bits, shift)));
    };
    const auto bytes = [&](size_t i) {
      return _mm256_cvtepu8_epi16(Load128(plane + kWords * i));
    };
    if (width == 1) {
      for (size_t i = 0; i < 8; ++i) {
        int16_t bits;
        std::memcpy(&bits, plane + 2 * i, 2);
        const __m256i set = _mm256_cmpeq_epi16(
            _mm256_and_si256(_mm256_set1_epi16(bits), each_bit), each_bit);
        insert(i, _mm256_and_si256(set, Words(1)));
      }
      plane += kGroup / 8;
    } else if (width == 4) {
      for (size_t i = 0; i < 4; ++i) {
        insert(i, _mm256_and_si256(bytes(i), Words(15)));
        insert(i + 4, _mm256_srli_epi16(bytes(i), 4));
      }
      plane += kGroup / 2;
    } else {
      for (size_t i = 0; i < 8; ++i) insert(i, bytes(i));
      plane += kGroup;
    }
  }
}

void MapSymbols(const uint16_t* values, size_t count, int shift, uint16_t mask,
                const uint8_t* map, uint8_t* symbols) {
  ScalarTable()->map_symbols(values, count, shift, mask, map, symbols);
}

void PlaceKeys(const uint16_t* keys, size_t count, int shift,
               uint16_t* values) {
  size_t i = 0;
  for (; i + kWords <= count; i += kWords) {
    Store(values + i, ShiftLeft(Load(keys + i), shift));
  }
  ScalarTable()->place_keys(keys + i, count - i, shift, values + i);
}

// ---- Units ----

// `value` in the bytes whose bits of a plane of width 1 are set, for 32 units.
ZIPLLM_INLINE __m256i BitBytes(const uint8_t* plane, int value) {
  int mask;
  std::memcpy(&mask, plane, sizeof mask);
  const __m256i each_bit =
      _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201));
  const __m256i copies = _mm256_shuffle_epi8(
      Dwords(mask), _mm256_setr_epi64x(0, 0x0101010101010101,
                                       0x0202020202020202, 0x0303030303030303));
  const __m256i set =
      _mm256_cmpeq_epi8(_mm256_and_si256(copies, each_bit), each_bit);
  return _mm256_and_si256(set, _mm256_set1_epi8(static_cast<char>(value)));
}

// What the planes of a group have for the low and high bytes of the 32 units of
// stream `s`.
struct UnitBytes {
  __m256i low;
  __m256i high;
};
template <UnitKind kKind>
ZIPLLM_INLINE UnitBytes PlaneBytes(const uint8_t* const* planes, size_t s) {
  constexpr bool kIsBf16 = kKind == UnitKind::kBf16;
  const __m256i fifteen = _mm256_set1_epi8(15);
  __m256i low = Load(planes[kIsBf16 ? 0 : 3] + s % 2 * 32);
  if (s >= 2) low = _mm256_srli_epi16(low, 4);
  low = _mm256_and_si256(low, fifteen);
  if constexpr (kIsBf16) {
    return {_mm256_or_si256(low, BitBytes(planes[1] + 4 * s, 1 << 4)),
            BitBytes(planes[2] + 4 * s, 1 << 7)};
  } else {
    low = _mm256_slli_epi16(low, 3);
    for (int p = 0; p < 3; ++p) {
      low = _mm256_or_si256(low, BitBytes(planes[p] + 4 * s, 1 << p));
    }
    return {_mm256_or_si256(low, BitBytes(planes[4] + 4 * s, 1 << 7)),
            BitBytes(planes[5] + 4 * s, 1 << 7)};
  }
}

// As DecodeUnitsFn, where no read passes the readable end: see SafeChunks.
template <UnitKind kKind>
bool DecodeUnitsFast(RansStream* streams, const RansDecodeTable* tables,
                     const uint8_t* selectors, size_t first_chunk,
                     size_t chunks, const PlaneRef* planes, uint8_t* units) {
  constexpr int kShift = KeyShift(kKind);
  constexpr size_t kPlanes = PlaneCount(kKind);
  // Where a byte has its two extra bits, and what of a table's bytes are bits
  // of the unit.
  constexpr uint64_t kExtraBits = 0x0101010101010101 * (3 << kShift % 8);
  constexpr char kLowBits = kKind == UnitKind::kBf16 ? -0x20 : 0;

  const uint8_t* groups[kPlanes];
  for (size_t p = 0; p < kPlanes; ++p) groups[p] = planes[p].first;
  bool complete = true;
  for (size_t c = 0; c < chunks; ++c) {
    const RansDecodeTable& table = tables[Selector(selectors, first_chunk + c)];
    // By symbol: the units' bytes. The flag for bare is the high bit of the
    // high one, that for escapes the low bit of the low one.
    const auto unit = [&](size_t i) {
      const __m256i key = Load(table.keys + kDwords * 2 * i);
      const __m256i escape =
          _mm256_and_si256(_mm256_srli_epi16(key, 14), Words(kKeyEscape >> 14));
      const __m256i bits = _mm256_and_si256(_mm256_slli_epi16(key, kShift),
                                            Words(0x3ff << kShift & 0x7fff));
      return _mm256_or_si256(_mm256_or_si256(bits, escape),
                             _mm256_and_si256(key, Words(-0x8000)));
    };
    const __m256i a = unit(0);
    const __m256i b = unit(1);
    const KeyBytes low_bytes = SplitKeys(_mm256_and_si256(a, Words(255)),
                                         _mm256_and_si256(b, Words(255)));
    const KeyBytes high_bytes =
        SplitKeys(_mm256_srli_epi16(a, 8), _mm256_srli_epi16(b, 8));
    for (size_t step = 0; step < kUnitSteps; ++step) {
      for (size_t s = 0; s < kMaxStreams; ++s) {
        RansStream& stream = streams[s];
        const __m256i symbols =
            NextSymbols<false>(table.slots, stream, complete);
        const __m256i low = LookUp(low_bytes, symbols);
        const __m256i high = LookUp(high_bytes, symbols);
        const auto bare = static_cast<uint32_t>(_mm256_movemask_epi8(high));
        const uint64_t bits = NextExtraBits(stream, __builtin_popcount(bare));
        const uint64_t fields =
            _pdep_u64(bits, 3 * _pdep_u64(bare, 0x5555555555555555));
        const auto spread = [fields](int shift) {
          return static_cast<int64_t>(_pdep_u64(fields >> shift, kExtraBits));
        };
        const __m256i extra =
            _mm256_setr_epi64x(spread(0), spread(16), spread(32), spread(48));
        UnitBytes bytes = PlaneBytes<kKind>(groups, s);
        bytes.low = _mm256_or_si256(
            bytes.low, _mm256_and_si256(low, _mm256_set1_epi8(kLowBits)));
        bytes.high = _mm256_or_si256(
            bytes.high, _mm256_and_si256(high, _mm256_set1_epi8(0x7f)));
        __m256i& with_extra = kShift < 8 ? bytes.low : bytes.high;
        with_extra = _mm256_or_si256(with_extra, extra);
        uint8_t* const to = units + 2 * kLanes * s;
        StoreWords(to, bytes.low, bytes.high);
        const auto escaped = static_cast<uint32_t>(
            _mm256_movemask_epi8(_mm256_slli_epi16(low, 7)));
        if (escaped != 0) [[unlikely]] {
          complete &= AddEscapes(escaped, kShift + 2, stream, to);
        }
      }
      units += 2 * kLanes * kMaxStreams;
      for (size_t p = 0; p < kPlanes; ++p) groups[p] += planes[p].stride;
    }
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
      *Avx2Table(), streams, tables, selectors, kind, planes, chunks,
      readable_end, units);
}

void SplitHalves(const uint8_t* elements, size_t count, uint16_t* low,
                 uint16_t* high) {
  size_t i = 0;
  for (; i + kWords <= count; i += kWords) {
    const __m256i a = Load(elements + 4 * i);
    const __m256i b = Load(elements + 4 * i + 32);
    Store(low + i,
          SwapMiddle(_mm256_packus_epi32(_mm256_and_si256(a, Dwords(0xffff)),
                                         _mm256_and_si256(b, Dwords(0xffff)))));
    Store(high + i, SwapMiddle(_mm256_packus_epi32(_mm256_srli_epi32(a, 16),
                                                   _mm256_srli_epi32(b, 16))));
  }
  ScalarTable()->split_halves(elements + 4 * i, count - i, low + i, high + i);
}

void JoinHalves(const uint16_t* low, const uint16_t* high, size_t count,
                uint8_t* elements) {
  size_t i = 0;
  for (; i + kWords <= count; i += kWords) {
    const __m256i l = SwapMiddle(Load(low + i));
    const __m256i h = SwapMiddle(Load(high + i));
    Store(elements + 4 * i, _mm256_unpacklo_epi16(l, h));
    Store(elements + 4 * i + 32, _mm256_unpackhi_epi16(l, h));
  }
  ScalarTable()->join_halves(low + i, high + i, count - i, elements + 4 * i);
}

uint8_t TakeExtra(const uint16_t* values, int shift, size_t rows, int streams,
                  uint8_t* symbols, BitSink* sinks) {
  const __m128i count = _mm_cvtsi32_si128(shift);
  const __m256i three = _mm256_set1_epi16(3);
  uint32_t any_extra = 0, any_escape = 0;
  for (size_t row = 0; row < rows; ++row) {
    const __m256i coded = Load(symbols + row * kLanes);
    // Bit 5 and bit 6 of each byte to where movemask looks.
    const auto present = static_cast<uint32_t>(
        _mm256_movemask_epi8(_mm256_slli_epi16(coded, 2)));
    any_extra |= present;
    any_escape |= static_cast<uint32_t>(
        _mm256_movemask_epi8(_mm256_slli_epi16(coded, 1)));
    Store(symbols + row * kLanes,
          _mm256_and_si256(coded, _mm256_set1_epi8(kMaxSymbols - 1)));
    const auto four = [&](const uint16_t* from) {
      return _mm256_madd_epi16(
          _mm256_and_si256(_mm256_srl_epi16(Load(from), count), three),
          _mm256_set1_epi32(4 << 16 | 1));
    };
    // Double words of 4 bits, 8 of each half, to words in order.
    const __m256i fours = _mm256_permute4x64_epi64(
        _mm256_packs_epi32(four(values + row * kLanes),
                           four(values + row * kLanes + 16)),
        0xD8);
    const __m256i eights =
        _mm256_madd_epi16(fours, _mm256_set1_epi32(16 << 16 | 1));
    // The low bytes of 8 double words.
    const __m256i bytes = _mm256_shuffle_epi8(
        eights, _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1,
                                 -1, -1, -1, -1, 0, 4, 8, 12, -1, -1, -1, -1,
                                 -1, -1, -1, -1, -1, -1, -1, -1));
    const uint64_t fields =
        static_cast<uint32_t>(_mm256_extract_epi32(bytes, 0)) |
        uint64_t{static_cast<uint32_t>(_mm256_extract_epi32(bytes, 4))} << 32;
    PutFields(fields, present, &sinks[row % static_cast<size_t>(streams)]);
  }
  return static_cast<uint8_t>((any_extra != 0 ? kHasExtra : 0) |
                              (any_escape != 0 ? kHasEscape : 0));
}

uint64_t Xxh3(const uint8_t* data, size_t size) {
  return XXH3_64bits(data, size);
}

constexpr Table kTable = {
    .target = Target::kAvx2,
    .name = "avx2",
    .reads_slots = true,
    .rans_decode = RansDecode,
    .rans_encode = RansEncode,
    .class_rans_decode = ClassRansDecodeAvx2,
    .class_rans_encode = ClassRansEncodeAvx2,
    .extract_plane = ExtractPlane,
    .insert_plane = InsertPlane,
    .map_symbols = MapSymbols,
    .take_extra = TakeExtra,
    .cascade_expand = CascadeExpandAvx2,
    .cascade_reduce = CascadeReduceAvx2,
    .join_rests = JoinRestsAvx2,
    .take_rests = TakeRestsAvx2,
    .place_keys = PlaceKeys,
    .decode_units = DecodeUnits,
    .split_halves = SplitHalves,
    .join_halves = JoinHalves,
    .delta_steps = DeltaStepsAvx2,
    .delta_measure = DeltaMeasureAvx2,
    .residual_symbols = ResidualSymbolsAvx2,
    .residual_apply = ResidualApplyAvx2,
    .map_bytes = MapBytesAvx2,
    .add_scaled = AddScaledAvx2,
    .learn_scaled = LearnScaledAvx2,
    .widen = WidenAvx2,
    .add_product = AddProductAvx2,
    .add_product_f32 = AddProductF32Avx2,
    .add_outer = AddOuterAvx2,
    .dot = DotAvx2,
    .round_to = RoundToAvx2,
    .settle_sums = SettleSumsAvx2,
    .widen_f32 = WidenF32Avx2,
    .code_weights = CodeWeightsAvx2,
    .group_ranges = GroupRangesAvx2,
    .xxh3 = Xxh3,
};

}  // namespace

const Table* Avx2Table() { return &kTable; }

}  // namespace zipllm::kernels

#else

namespace zipllm::kernels {
const Table* Avx2Table() { return nullptr; }
}  // namespace zipllm::kernels

#endif
