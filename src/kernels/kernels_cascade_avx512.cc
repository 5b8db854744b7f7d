// Kernels of cascades for x86-64 with AVX-512 F, BW, VL, VBMI and VBMI2: the
// escapes of 64 codes are a mask, by which the next layer's symbols are
// expanded.
#include "kernels/kernels_cascade.h"

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
ZIPLLM_INLINE __m256i Load256(const void* from) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}
ZIPLLM_INLINE void Store256(void* to, __m256i value) {
  _mm256_storeu_si256(static_cast<__m256i*>(to), value);
}
ZIPLLM_INLINE __m512i Bytes(int value) {
  return _mm512_set1_epi8(static_cast<char>(value));
}
ZIPLLM_INLINE __m512i Words(int value) {
  return _mm512_set1_epi16(static_cast<int16_t>(value));
}
ZIPLLM_INLINE size_t Count(__mmask64 mask) {
  return static_cast<size_t>(__builtin_popcountll(mask));
}

// a | (b & mask), bit by bit.
ZIPLLM_INLINE __m512i OrAnd(__m512i a, __m512i b, __m512i mask) {
  return _mm512_ternarylogic_epi32(a, b, mask, 0xf8);
}

// Half of a group: 64 symbols from their codes' mask of escapes.
ZIPLLM_INLINE void Fill(__m512i symbols, __mmask64 escapes,
                        const uint8_t*& next, uint8_t* out) {
  Store(out, _mm512_mask_expand_epi8(symbols, escapes, Load(next)));
  next += Count(escapes);
}

template <int kWidth>
size_t Expand(const uint8_t* codes, size_t groups, const uint8_t* symbols,
              const uint8_t* escaped, uint8_t* out) {
  const __m512i table = _mm512_broadcast_i32x4(_mm_loadu_si128(
      static_cast<const __m128i*>(static_cast<const void*>(symbols))));
  const __m512i escape = Bytes((1 << kWidth) - 1);
  const uint8_t* next = escaped;
  const auto fill = [&](__m512i shifted, size_t half) {
    const __m512i code = _mm512_and_si512(shifted, escape);
    Fill(_mm512_shuffle_epi8(table, code), _mm512_cmpeq_epi8_mask(code, escape),
         next, out + half * 64);
  };
  for (; groups > 0; --groups, codes += 16 * kWidth, out += kGroup) {
    if constexpr (kWidth == 1) {
      const __m512i first = Bytes(symbols[0]);
      for (size_t half = 0; half < 2; ++half) {
        uint64_t mask;
        __builtin_memcpy(&mask, codes + half * 8, sizeof mask);
        Fill(first, mask, next, out + half * 64);
      }
    } else if constexpr (kWidth == 2) {
      const __m512i both = _mm512_broadcast_i64x4(Load256(codes));
      fill(_mm512_srlv_epi64(both, _mm512_setr_epi64(0, 0, 0, 0, 2, 2, 2, 2)),
           0);
      fill(_mm512_srlv_epi64(both, _mm512_setr_epi64(4, 4, 4, 4, 6, 6, 6, 6)),
           1);
    } else {
      const __m512i both = Load(codes);
      fill(both, 0);
      fill(_mm512_srli_epi16(both, 4), 1);
    }
  }
  return static_cast<size_t>(next - escaped);
}

template <int kWidth>
size_t Reduce(const uint8_t* ranks, size_t groups, uint8_t* codes,
              uint8_t* escaped) {
  const __m512i escape = Bytes((1 << kWidth) - 1);
  uint8_t* next = escaped;
  // Moves what escapes on; the mask of it.
  const auto move = [&](__m512i rank) {
    const __mmask64 escapes = _mm512_cmpge_epu8_mask(rank, escape);
    Store(next,
          _mm512_maskz_compress_epi8(escapes, _mm512_sub_epi8(rank, escape)));
    next += Count(escapes);
    return escapes;
  };
  for (; groups > 0; --groups, ranks += kGroup, codes += 16 * kWidth) {
    const __m512i first = Load(ranks);
    const __m512i second = Load(ranks + 64);
    const uint64_t masks[2] = {move(first), move(second)};
    if constexpr (kWidth == 1) {
      __builtin_memcpy(codes, masks, sizeof masks);
      continue;
    }
    const __m512i low = _mm512_min_epu8(first, escape);
    const __m512i both = _mm512_or_si512(
        low, _mm512_slli_epi16(_mm512_min_epu8(second, escape), 4));
    if constexpr (kWidth == 4) Store(codes, both);
    if constexpr (kWidth == 2) {
      const __m256i even = _mm512_castsi512_si256(both);
      const __m256i odd = _mm512_extracti64x4_epi64(both, 1);
      Store256(codes, _mm256_or_si256(even, _mm256_slli_epi16(odd, 2)));
    }
  }
  return static_cast<size_t>(next - escaped);
}

}  // namespace

size_t CascadeExpandAvx512(const uint8_t* codes, size_t groups, int width,
                           const uint8_t* symbols, const uint8_t* escaped,
                           uint8_t* out) {
  switch (width) {
    case 1:
      return Expand<1>(codes, groups, symbols, escaped, out);
    case 2:
      return Expand<2>(codes, groups, symbols, escaped, out);
    default:
      return Expand<4>(codes, groups, symbols, escaped, out);
  }
}

size_t CascadeReduceAvx512(const uint8_t* ranks, size_t groups, int width,
                           uint8_t* codes, uint8_t* escaped) {
  switch (width) {
    case 1:
      return Reduce<1>(ranks, groups, codes, escaped);
    case 2:
      return Reduce<2>(ranks, groups, codes, escaped);
    default:
      return Reduce<4>(ranks, groups, codes, escaped);
  }
}

void JoinRestsAvx512(const uint8_t* exponents, const uint8_t* rests,
                     const uint8_t* low, size_t groups, int shift,
                     uint8_t* units) {
  // The 64-bit pieces such that interleaving within 128 bits gives the order.
  const __m512i pieces = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
  const auto load = [pieces](const uint8_t* from) {
    return _mm512_permutexvar_epi64(pieces, Load(from));
  };
  // Exponent above mantissa above sign, to the place of each.
  const auto place = [shift](__m512i word) {
    if (shift == 0) return _mm512_shrdi_epi16(word, word, 1);
    return OrAnd(_mm512_slli_epi16(word, 15), _mm512_slli_epi16(word, 2),
                 Words(0xfff8));
  };
  const auto add_low = [](__m512i unit, const uint8_t* planes) {
    for (int p = 0; p < 3; ++p, planes += kGroup / 8) {
      uint32_t bits;
      __builtin_memcpy(&bits, planes, sizeof bits);
      unit = _mm512_mask_add_epi16(unit, bits, unit, Words(1 << p));
    }
    return unit;
  };
  for (; groups > 0; --groups) {
    for (size_t half = 0; half < 2; ++half) {
      const __m512i exponent = load(exponents);
      const __m512i rest = load(rests);
      __m512i first = place(_mm512_unpacklo_epi8(rest, exponent));
      __m512i second = place(_mm512_unpackhi_epi8(rest, exponent));
      if (low != nullptr) {
        first = add_low(first, low + half * 8);
        second = add_low(second, low + half * 8 + 4);
      }
      Store(units, first);
      Store(units + 64, second);
      exponents += 64;
      rests += 64;
      units += 128;
    }
    if (low != nullptr) low += 3 * kGroup / 8;
  }
}

void TakeRestsAvx512(const uint16_t* units, size_t groups, int shift,
                     uint8_t* rests, uint8_t* low) {
  const __m128i count = _mm_cvtsi32_si128(shift);
  for (; groups > 0; --groups) {
    for (size_t quarter = 0; quarter < 4; ++quarter) {
      const __m512i unit = Load(units);
      const __m512i mantissa =
          _mm512_slli_epi16(_mm512_srl_epi16(unit, count), 1);
      const __m512i rest =
          OrAnd(_mm512_srli_epi16(unit, 15), mantissa, Words(254));
      Store256(rests, _mm512_cvtepi16_epi8(rest));
      if (low != nullptr) {
        for (int p = 0; p < 3; ++p) {
          const uint32_t bits = _mm512_test_epi16_mask(unit, Words(1 << p));
          __builtin_memcpy(low + p * (kGroup / 8) + quarter * 4, &bits,
                           sizeof bits);
        }
      }
      units += 32;
      rests += 32;
    }
    if (low != nullptr) low += 3 * kGroup / 8;
  }
}

}  // namespace zipllm::kernels

#endif
