// Kernels of cascades for x86-64 with AVX2: bytes are expanded and compressed
// eight at a time by shuffles from a table. (pdep and pext would do it too but
// take hundreds of cycles on CPUs before Zen 3.)
#include "kernels/kernels_cascade.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define ZIPLLM_INLINE inline __attribute__((always_inline))

namespace zipllm::kernels {
namespace {

ZIPLLM_INLINE __m256i Load(const void* from) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}
ZIPLLM_INLINE void Store(void* to, __m256i value) {
  _mm256_storeu_si256(static_cast<__m256i*>(to), value);
}
ZIPLLM_INLINE __m256i Bytes(int value) {
  return _mm256_set1_epi8(static_cast<char>(value));
}
ZIPLLM_INLINE __m256i Words(int value) {
  return _mm256_set1_epi16(static_cast<int16_t>(value));
}
ZIPLLM_INLINE __m256i Join(__m128i low, __m128i high) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}
ZIPLLM_INLINE uint32_t Mask(__m256i bytes) {
  return static_cast<uint32_t>(_mm256_movemask_epi8(bytes));
}
ZIPLLM_INLINE size_t Count(uint32_t mask) {
  return static_cast<size_t>(__builtin_popcount(mask));
}

// 8 bytes from one place and 8 from another.
ZIPLLM_INLINE __m128i LoadHalves(const void* low, const void* high) {
  return _mm_castpd_si128(
      _mm_loadh_pd(_mm_load_sd(static_cast<const double*>(low)),
                   static_cast<const double*>(high)));
}

// Byte shuffles by a mask of 8 bytes.
struct ByteShuffles {
  // Byte k of the source goes to the k-th set bit; the others become 0.
  alignas(64) uint8_t expand[256][8];
  // The set bits' bytes go to the front, in order.
  alignas(64) uint8_t compress[256][8];
};

constexpr ByteShuffles MakeShuffles() {
  ByteShuffles shuffles{};
  for (unsigned mask = 0; mask < 256; ++mask) {
    unsigned taken = 0;
    for (unsigned i = 0; i < 8; ++i) {
      const bool set = (mask >> i & 1) != 0;
      shuffles.expand[mask][i] = static_cast<uint8_t>(set ? taken : 0x80);
      if (set) shuffles.compress[mask][taken++] = static_cast<uint8_t>(i);
    }
  }
  return shuffles;
}
constexpr ByteShuffles kByteShuffles = MakeShuffles();

// What turns the indices of 8 bytes to those of the upper half of 16.
ZIPLLM_INLINE __m256i UpperHalves() {
  return _mm256_set_epi64x(0x0808080808080808, 0, 0x0808080808080808, 0);
}

// 32 symbols: those of `next` where the mask is set.
ZIPLLM_INLINE void Fill(__m256i symbols, uint32_t mask, const uint8_t*& next,
                        uint8_t* out) {
  const uint8_t* const second = next + Count(mask & 0xff);
  const uint8_t* const third = next + Count(mask & 0xffff);
  const uint8_t* const fourth = next + Count(mask & 0xffffff);
  const auto& shuffles = kByteShuffles.expand;
  const __m256i shuffle = _mm256_or_si256(
      Join(LoadHalves(shuffles[mask & 255], shuffles[mask >> 8 & 255]),
           LoadHalves(shuffles[mask >> 16 & 255], shuffles[mask >> 24])),
      UpperHalves());
  const __m256i taken = _mm256_shuffle_epi8(
      Join(LoadHalves(next, second), LoadHalves(third, fourth)), shuffle);
  // The shuffle's sign is set where nothing was taken.
  Store(out, _mm256_blendv_epi8(taken, symbols, shuffle));
  next += Count(mask);
}

template <int kWidth>
size_t Expand(const uint8_t* codes, size_t groups, const uint8_t* symbols,
              const uint8_t* escaped, uint8_t* out) {
  const __m256i table = _mm256_broadcastsi128_si256(_mm_loadu_si128(
      static_cast<const __m128i*>(static_cast<const void*>(symbols))));
  const __m256i escape = Bytes((1 << kWidth) - 1);
  const uint8_t* next = escaped;
  const auto fill = [&](__m256i shifted, size_t quarter) {
    const __m256i code = _mm256_and_si256(shifted, escape);
    Fill(_mm256_shuffle_epi8(table, code),
         Mask(_mm256_cmpeq_epi8(code, escape)), next, out + quarter * 32);
  };
  for (; groups > 0; --groups, codes += 16 * kWidth, out += kGroup) {
    if constexpr (kWidth == 1) {
      for (size_t quarter = 0; quarter < 4; ++quarter) {
        uint32_t mask;
        __builtin_memcpy(&mask, codes + quarter * 4, sizeof mask);
        Fill(Bytes(symbols[0]), mask, next, out + quarter * 32);
      }
    } else if constexpr (kWidth == 2) {
      const __m256i all = Load(codes);
      fill(all, 0);
      fill(_mm256_srli_epi16(all, 2), 1);
      fill(_mm256_srli_epi16(all, 4), 2);
      fill(_mm256_srli_epi16(all, 6), 3);
    } else {
      const __m256i even = Load(codes);
      const __m256i odd = Load(codes + 32);
      fill(even, 0);
      fill(odd, 1);
      fill(_mm256_srli_epi16(even, 4), 2);
      fill(_mm256_srli_epi16(odd, 4), 3);
    }
  }
  return static_cast<size_t>(next - escaped);
}

// Moves the 16 bytes of `values` whose bits are set in `mask` to `next`.
ZIPLLM_INLINE void Compress(__m128i values, uint32_t mask, uint8_t*& next) {
  const auto& shuffles = kByteShuffles.compress;
  const __m128i shuffle =
      _mm_or_si128(LoadHalves(shuffles[mask & 255], shuffles[mask >> 8 & 255]),
                   _mm256_castsi256_si128(UpperHalves()));
  const __m128d packed = _mm_castsi128_pd(_mm_shuffle_epi8(values, shuffle));
  _mm_storel_pd(static_cast<double*>(static_cast<void*>(next)), packed);
  next += Count(mask & 255);
  _mm_storeh_pd(static_cast<double*>(static_cast<void*>(next)), packed);
  next += Count(mask >> 8 & 255);
}

template <int kWidth>
size_t Reduce(const uint8_t* ranks, size_t groups, uint8_t* codes,
              uint8_t* escaped) {
  const __m256i escape = Bytes((1 << kWidth) - 1);
  uint8_t* next = escaped;
  for (; groups > 0; --groups, ranks += kGroup, codes += 16 * kWidth) {
    __m256i code[4];
    for (size_t quarter = 0; quarter < 4; ++quarter) {
      const __m256i rank = Load(ranks + quarter * 32);
      code[quarter] = _mm256_min_epu8(rank, escape);
      const uint32_t mask = Mask(_mm256_cmpeq_epi8(code[quarter], escape));
      const __m256i rest = _mm256_sub_epi8(rank, escape);
      Compress(_mm256_castsi256_si128(rest), mask & 0xffff, next);
      Compress(_mm256_extracti128_si256(rest, 1), mask >> 16, next);
      if constexpr (kWidth == 1) {
        __builtin_memcpy(codes + quarter * 4, &mask, sizeof mask);
      }
    }
    const auto pair = [](__m256i low, __m256i high, int shift) {
      return _mm256_or_si256(low, _mm256_slli_epi16(high, shift));
    };
    if constexpr (kWidth == 2) {
      Store(codes,
            pair(pair(code[0], code[1], 2), pair(code[2], code[3], 2), 4));
    } else if constexpr (kWidth == 4) {
      Store(codes, pair(code[0], code[2], 4));
      Store(codes + 32, pair(code[1], code[3], 4));
    }
  }
  return static_cast<size_t>(next - escaped);
}

}  // namespace

size_t CascadeExpandAvx2(const uint8_t* codes, size_t groups, int width,
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

size_t CascadeReduceAvx2(const uint8_t* ranks, size_t groups, int width,
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

void JoinRestsAvx2(const uint8_t* exponents, const uint8_t* rests,
                   const uint8_t* low, size_t groups, int shift,
                   uint8_t* units) {
  const __m128i count = _mm_cvtsi32_si128(shift);
  // The 64-bit pieces such that interleaving within 128 bits gives the order.
  const auto load = [](const uint8_t* from) {
    return _mm256_permute4x64_epi64(Load(from), 0xd8);
  };
  // Exponent above mantissa above sign, to the place of each.
  const auto place = [=](__m256i word) {
    return _mm256_or_si256(_mm256_sll_epi16(_mm256_srli_epi16(word, 1), count),
                           _mm256_slli_epi16(word, 15));
  };
  const __m256i each =
      _mm256_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096,
                        8192, 16384, static_cast<int16_t>(32768));
  const auto add_low = [each](__m256i unit, const uint8_t* planes) {
    for (int p = 0; p < 3; ++p, planes += kGroup / 8) {
      int16_t bits;
      __builtin_memcpy(&bits, planes, sizeof bits);
      const __m256i set = _mm256_cmpeq_epi16(
          _mm256_and_si256(_mm256_set1_epi16(bits), each), each);
      unit = _mm256_or_si256(unit, _mm256_and_si256(set, Words(1 << p)));
    }
    return unit;
  };
  for (; groups > 0; --groups) {
    for (size_t quarter = 0; quarter < 4; ++quarter) {
      const __m256i exponent = load(exponents);
      const __m256i rest = load(rests);
      __m256i first = place(_mm256_unpacklo_epi8(rest, exponent));
      __m256i second = place(_mm256_unpackhi_epi8(rest, exponent));
      if (low != nullptr) {
        first = add_low(first, low + quarter * 4);
        second = add_low(second, low + quarter * 4 + 2);
      }
      Store(units, first);
      Store(units + 32, second);
      exponents += 32;
      rests += 32;
      units += 64;
    }
    if (low != nullptr) low += 3 * kGroup / 8;
  }
}

void TakeRestsAvx2(const uint16_t* units, size_t groups, int shift,
                   uint8_t* rests, uint8_t* low) {
  const __m128i count = _mm_cvtsi32_si128(shift);
  const auto rest = [=](__m256i unit) {
    const __m256i mantissa = _mm256_and_si256(
        _mm256_slli_epi16(_mm256_srl_epi16(unit, count), 1), Words(254));
    return _mm256_or_si256(mantissa, _mm256_srli_epi16(unit, 15));
  };
  // The words' order is that of 64-bit pieces 0, 2, 1, 3 after packing.
  const auto order = [](__m256i packed) {
    return _mm256_permute4x64_epi64(packed, 0xd8);
  };
  for (; groups > 0; --groups) {
    for (size_t quarter = 0; quarter < 4; ++quarter) {
      const __m256i first = Load(units);
      const __m256i second = Load(units + 16);
      Store(rests, order(_mm256_packus_epi16(rest(first), rest(second))));
      if (low != nullptr) {
        for (int p = 0; p < 3; ++p) {
          // The bit to the sign, which packing keeps.
          const uint32_t bits = Mask(
              order(_mm256_packs_epi16(_mm256_slli_epi16(first, 15 - p),
                                       _mm256_slli_epi16(second, 15 - p))));
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
