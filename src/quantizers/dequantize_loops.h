// What the blocks of each type hold: codes, and a scale and an offset for each
// group of elements. Loops that compilers vectorise, compiled once for each
// target.
#ifndef ZIPLLM_QUANTIZERS_DEQUANTIZE_LOOPS_H_
#define ZIPLLM_QUANTIZERS_DEQUANTIZE_LOOPS_H_

#include <cstring>

#include "zipllm/types.h"

namespace zipllm::quantizers {

/// Numbers, or the steps between them. False where the type is not known.
bool DequantizeScalar(DType dtype, bool steps, const uint8_t* blocks,
                      size_t count, float* out);
bool DequantizeAvx2(DType dtype, bool steps, const uint8_t* blocks,
                    size_t count, float* out);
bool DequantizeAvx512(DType dtype, bool steps, const uint8_t* blocks,
                      size_t count, float* out);

// In a namespace without name, so that each target has its own.
namespace {

inline float FloatOfBits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
inline uint32_t BitsOfFloat(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float LoadF16(const uint8_t* from) {
  uint16_t half;
  std::memcpy(&half, from, sizeof half);
  const uint32_t magnitude = uint32_t{half} << 13 & 0x0fffe000;
  // The exponent is set right by a product, which is exact.
  const float value = FloatOfBits(magnitude) * 0x1p112f;
  const uint32_t infinite = magnitude >= 0x0f800000 ? 0x7f800000 : 0;
  return FloatOfBits(BitsOfFloat(value) | infinite |
                     (uint32_t{half} & 0x8000) << 16);
}

/// 2^(e - 128), as far as floats have it: half of what E8M0 means, since the
/// levels of E2M1 are twice what they mean.
inline float HalfOfE8m0(uint8_t e) {
  return FloatOfBits(e < 2 ? uint32_t{0x00200000} << e : (e - 1u) << 23);
}
/// Half of the number that UE4M3 means; the sign is ignored.
inline float HalfOfUe4m3(uint8_t bits) {
  if (bits == 0x7f) return 0;
  const uint32_t exponent = bits >> 3 & 15;
  const uint32_t mantissa = bits & 7;
  if (exponent == 0) return static_cast<float>(mantissa) * 0x1p-10f;
  return FloatOfBits((exponent + 127 - 8) << 23 | mantissa << 20);
}

// The number of an element is scale * code + offset of its group. kNone adds
// to any number and leaves it as it is, -0 too.
constexpr float kNone = -0.0f;
constexpr size_t kMostElements = 256;
constexpr size_t kMostGroups = 16;

struct Groups {
  float scales[kMostGroups];
  float offsets[kMostGroups];
};

// Each type: elements and bytes of a block, elements of a group, twice the
// distance between codes; what Scales() finds in a block, and Codes().

template <int kLevels>
inline void Nibbles(const uint8_t* __restrict bytes, size_t count,
                    int8_t* __restrict codes) {
  for (size_t i = 0; i < count; ++i) {
    codes[i] = static_cast<int8_t>((bytes[i] & 15) - kLevels);
    codes[i + count] = static_cast<int8_t>((bytes[i] >> 4) - kLevels);
  }
}

/// As Nibbles, with a fifth bit for each of 32 codes.
template <int kLevels>
inline void NibblesAndBits(const uint8_t* __restrict bytes,
                           const uint8_t* __restrict bits,
                           int8_t* __restrict codes) {
  uint8_t high[32];
  for (size_t i = 0; i < 32; ++i) {
    high[i] = static_cast<uint8_t>((bits[i / 8] >> i % 8 & 1) << 4);
  }
  for (size_t i = 0; i < 16; ++i) {
    codes[i] = static_cast<int8_t>(((bytes[i] & 15) | high[i]) - kLevels);
    codes[i + 16] =
        static_cast<int8_t>(((bytes[i] >> 4) | high[i + 16]) - kLevels);
  }
}

struct OneScale {
  static void Scales(const uint8_t* block, Groups* groups) {
    groups->scales[0] = LoadF16(block);
    groups->offsets[0] = kNone;
  }
};
struct ScaleAndMinimum {
  static void Scales(const uint8_t* block, Groups* groups) {
    groups->scales[0] = LoadF16(block);
    groups->offsets[0] = LoadF16(block + 2);
  }
};

struct Q4_0 : OneScale {
  static constexpr size_t kElements = 32, kBytes = 18, kGroup = 32, kGap2 = 2;
  static void Codes(const uint8_t* block, int8_t* codes) {
    Nibbles<8>(block + 2, 16, codes);
  }
};

struct Q4_1 : ScaleAndMinimum {
  static constexpr size_t kElements = 32, kBytes = 20, kGroup = 32, kGap2 = 2;
  static void Codes(const uint8_t* block, int8_t* codes) {
    Nibbles<0>(block + 4, 16, codes);
  }
};

struct Q5_0 : OneScale {
  static constexpr size_t kElements = 32, kBytes = 22, kGroup = 32, kGap2 = 2;
  static void Codes(const uint8_t* block, int8_t* codes) {
    NibblesAndBits<16>(block + 6, block + 2, codes);
  }
};

struct Q5_1 : ScaleAndMinimum {
  static constexpr size_t kElements = 32, kBytes = 24, kGroup = 32, kGap2 = 2;
  static void Codes(const uint8_t* block, int8_t* codes) {
    NibblesAndBits<0>(block + 8, block + 4, codes);
  }
};

struct Q8_0 : OneScale {
  static constexpr size_t kElements = 32, kBytes = 34, kGroup = 32, kGap2 = 2;
  static void Codes(const uint8_t* block, int8_t* codes) {
    std::memcpy(codes, block + 2, 32);
  }
};

struct Q8_1 : OneScale {
  static constexpr size_t kElements = 32, kBytes = 36, kGroup = 32, kGap2 = 2;
  static void Codes(const uint8_t* block, int8_t* codes) {
    std::memcpy(codes, block + 4, 32);
  }
};

struct Q8_K {
  static constexpr size_t kElements = 256, kBytes = 292, kGroup = 256,
                          kGap2 = 2;
  static void Scales(const uint8_t* block, Groups* groups) {
    std::memcpy(groups->scales, block, 4);
    groups->offsets[0] = kNone;
  }
  static void Codes(const uint8_t* block, int8_t* codes) {
    std::memcpy(codes, block + 4, 256);
  }
};

struct Q2_K {
  static constexpr size_t kElements = 256, kBytes = 84, kGroup = 16, kGap2 = 2;
  static void Scales(const uint8_t* block, Groups* groups) {
    const float scale = LoadF16(block + 80);
    const float minimum = LoadF16(block + 82);
    for (size_t g = 0; g < 16; ++g) {
      groups->scales[g] = scale * static_cast<float>(block[g] & 15);
      groups->offsets[g] = -(minimum * static_cast<float>(block[g] >> 4));
    }
  }
  static void Codes(const uint8_t* block, int8_t* codes) {
    for (size_t half = 0; half < 2; ++half) {
      for (size_t shift = 0; shift < 4; ++shift) {
        for (size_t i = 0; i < 32; ++i) {
          codes[half * 128 + shift * 32 + i] =
              static_cast<int8_t>(block[16 + half * 32 + i] >> (2 * shift) & 3);
        }
      }
    }
  }
};

struct Q3_K {
  static constexpr size_t kElements = 256, kBytes = 110, kGroup = 16, kGap2 = 2;
  static void Scales(const uint8_t* block, Groups* groups) {
    const uint8_t* packed = block + 96;
    const float scale = LoadF16(block + 108);
    for (size_t g = 0; g < 16; ++g) {
      const int low = packed[g % 8] >> (g / 8 * 4) & 15;
      const int high = packed[8 + g % 4] >> (g / 4 * 2) & 3;
      groups->scales[g] = scale * static_cast<float>((low | high << 4) - 32);
      groups->offsets[g] = kNone;
    }
  }
  static void Codes(const uint8_t* block, int8_t* codes) {
    for (size_t half = 0; half < 2; ++half) {
      for (size_t shift = 0; shift < 4; ++shift) {
        for (size_t i = 0; i < 32; ++i) {
          const int low = block[32 + half * 32 + i] >> (2 * shift) & 3;
          const int high = block[i] >> (half * 4 + shift) & 1;
          codes[half * 128 + shift * 32 + i] =
              static_cast<int8_t>((low | high << 2) - 4);
        }
      }
    }
  }
};

/// The scales of Q4_K and Q5_K: 6 bits each for 8 scales and 8 minima.
struct SixBitScales {
  static void Scales(const uint8_t* block, Groups* groups) {
    const float scale = LoadF16(block);
    const float minimum = LoadF16(block + 2);
    const uint8_t* packed = block + 4;
    for (size_t g = 0; g < 4; ++g) {
      const uint8_t first = packed[g];
      const uint8_t second = packed[g + 4];
      const uint8_t third = packed[g + 8];
      const int scales[2] = {first & 63, (third & 15) | first >> 6 << 4};
      const int minima[2] = {second & 63, third >> 4 | second >> 6 << 4};
      for (size_t half = 0; half < 2; ++half) {
        groups->scales[half * 4 + g] = scale * static_cast<float>(scales[half]);
        groups->offsets[half * 4 + g] =
            -(minimum * static_cast<float>(minima[half]));
      }
    }
  }
};

struct Q4_K : SixBitScales {
  static constexpr size_t kElements = 256, kBytes = 144, kGroup = 32, kGap2 = 2;
  static void Codes(const uint8_t* block, int8_t* codes) {
    for (size_t i = 0; i < 4; ++i) {
      Nibbles<0>(block + 16 + i * 32, 32, codes + i * 64);
    }
  }
};

struct Q5_K : SixBitScales {
  static constexpr size_t kElements = 256, kBytes = 176, kGroup = 32, kGap2 = 2;
  static void Codes(const uint8_t* block, int8_t* codes) {
    for (size_t part = 0; part < 8; ++part) {
      const uint8_t* low = block + 48 + part / 2 * 32;
      for (size_t i = 0; i < 32; ++i) {
        codes[part * 32 + i] = static_cast<int8_t>(
            (low[i] >> (part % 2 * 4) & 15) | (block[16 + i] >> part & 1) << 4);
      }
    }
  }
};

struct Q6_K {
  static constexpr size_t kElements = 256, kBytes = 210, kGroup = 16, kGap2 = 2;
  static void Scales(const uint8_t* block, Groups* groups) {
    const float scale = LoadF16(block + 208);
    for (size_t g = 0; g < 16; ++g) {
      groups->scales[g] =
          scale * static_cast<float>(static_cast<int8_t>(block[192 + g]));
      groups->offsets[g] = kNone;
    }
  }
  static void Codes(const uint8_t* block, int8_t* codes) {
    for (size_t half = 0; half < 2; ++half) {
      for (size_t part = 0; part < 4; ++part) {
        const uint8_t* low = block + half * 64 + part % 2 * 32;
        const uint8_t* high = block + 128 + half * 32;
        for (size_t i = 0; i < 32; ++i) {
          const int code = (low[i] >> (part / 2 * 4) & 15) |
                           (high[i] >> (part * 2) & 3) << 4;
          codes[half * 128 + part * 32 + i] = static_cast<int8_t>(code - 32);
        }
      }
    }
  }
};

// Types whose codes look levels up. Gaps: the distance from the level below to
// the level above; twice the only one at either end.
struct Iq4Levels {
  static constexpr int8_t kLevels[16] = {
      -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  static constexpr int8_t kGaps2[16] = {46, 44, 39, 34, 30, 27, 25, 23,
                                        23, 24, 25, 28, 31, 36, 44, 48};
};
struct E2m1Levels {
  static constexpr int8_t kLevels[16] = {0, 1,  2,  3,  4,  6,  8,  12,
                                         0, -1, -2, -3, -4, -6, -8, -12};
  static constexpr int8_t kGaps2[16] = {2, 2, 2, 2, 3, 4, 6, 8,
                                        2, 2, 2, 2, 3, 4, 6, 8};
};

inline void LevelsOfNibbles(const uint8_t* __restrict bytes, size_t count,
                            const int8_t* __restrict levels,
                            int8_t* __restrict codes) {
  for (size_t i = 0; i < count; ++i) {
    codes[i] = levels[bytes[i] & 15];
    codes[i + count] = levels[bytes[i] >> 4];
  }
}

struct IQ4_NL : OneScale, Iq4Levels {
  static constexpr size_t kElements = 32, kBytes = 18, kGroup = 32;
  static void Codes(const uint8_t* block, const int8_t* levels, int8_t* codes) {
    LevelsOfNibbles(block + 2, 16, levels, codes);
  }
};

struct IQ4_XS : Iq4Levels {
  static constexpr size_t kElements = 256, kBytes = 136, kGroup = 32;
  static void Scales(const uint8_t* block, Groups* groups) {
    const float scale = LoadF16(block);
    for (size_t g = 0; g < 8; ++g) {
      const int low = block[4 + g / 2] >> (g % 2 * 4) & 15;
      const int high = block[2 + g / 4] >> (g % 4 * 2) & 3;
      groups->scales[g] = scale * static_cast<float>((low | high << 4) - 32);
      groups->offsets[g] = kNone;
    }
  }
  static void Codes(const uint8_t* block, const int8_t* levels, int8_t* codes) {
    for (size_t g = 0; g < 8; ++g) {
      LevelsOfNibbles(block + 8 + g * 16, 16, levels, codes + g * 32);
    }
  }
};

struct MXFP4 : E2m1Levels {
  static constexpr size_t kElements = 32, kBytes = 17, kGroup = 32;
  static void Scales(const uint8_t* block, Groups* groups) {
    groups->scales[0] = HalfOfE8m0(block[0]);
    groups->offsets[0] = kNone;
  }
  static void Codes(const uint8_t* block, const int8_t* levels, int8_t* codes) {
    LevelsOfNibbles(block + 1, 16, levels, codes);
  }
};

struct NVFP4 : E2m1Levels {
  static constexpr size_t kElements = 64, kBytes = 36, kGroup = 16;
  static void Scales(const uint8_t* block, Groups* groups) {
    for (size_t g = 0; g < 4; ++g) {
      groups->scales[g] = HalfOfUe4m3(block[g]);
      groups->offsets[g] = kNone;
    }
  }
  static void Codes(const uint8_t* block, const int8_t* levels, int8_t* codes) {
    for (size_t g = 0; g < 4; ++g) {
      LevelsOfNibbles(block + 4 + g * 8, 8, levels, codes + g * 16);
    }
  }
};

/// `digits` base-3 digits of `count` bytes: a byte is the fraction
/// 0.d1 d2 … in base 3, times 256, rounded up.
inline int8_t* Trits(const uint8_t* __restrict bytes, size_t count, int digits,
                     int8_t* __restrict codes) {
  unsigned power = 1;
  for (int digit = 0; digit < digits; ++digit) {
    for (size_t i = 0; i < count; ++i) {
      const unsigned fraction = bytes[i] * power & 255;
      codes[i] = static_cast<int8_t>(static_cast<int>(fraction * 3 >> 8) - 1);
    }
    codes += count;
    power *= 3;
  }
  return codes;
}

struct TQ1_0 {
  static constexpr size_t kElements = 256, kBytes = 54, kGroup = 256, kGap2 = 2;
  static void Scales(const uint8_t* block, Groups* groups) {
    groups->scales[0] = LoadF16(block + 52);
    groups->offsets[0] = kNone;
  }
  static void Codes(const uint8_t* block, int8_t* codes) {
    codes = Trits(block, 32, 5, codes);
    codes = Trits(block + 32, 16, 5, codes);
    Trits(block + 48, 4, 4, codes);
  }
};

struct TQ2_0 {
  static constexpr size_t kElements = 256, kBytes = 66, kGroup = 256, kGap2 = 2;
  static void Scales(const uint8_t* block, Groups* groups) {
    groups->scales[0] = LoadF16(block + 64);
    groups->offsets[0] = kNone;
  }
  static void Codes(const uint8_t* block, int8_t* codes) {
    for (size_t half = 0; half < 2; ++half) {
      for (size_t shift = 0; shift < 4; ++shift) {
        for (size_t i = 0; i < 32; ++i) {
          const int code = block[half * 32 + i] >> (2 * shift) & 3;
          codes[half * 128 + shift * 32 + i] = static_cast<int8_t>(code - 1);
        }
      }
    }
  }
};

struct Q1_0 : OneScale {
  static constexpr size_t kElements = 128, kBytes = 18, kGroup = 128, kGap2 = 4;
  static void Codes(const uint8_t* block, int8_t* codes) {
    for (size_t i = 0; i < 128; ++i) {
      codes[i] = static_cast<int8_t>((block[2 + i / 8] >> i % 8 & 1) * 2 - 1);
    }
  }
};

struct Q2_0 : OneScale {
  static constexpr size_t kElements = 64, kBytes = 18, kGroup = 64, kGap2 = 2;
  static void Codes(const uint8_t* block, int8_t* codes) {
    for (size_t i = 0; i < 64; ++i) {
      codes[i] = static_cast<int8_t>((block[2 + i / 4] >> (i % 4 * 2) & 3) - 1);
    }
  }
};

/// Infinity or NaN.
inline bool IsOdd(float value) {
  return (BitsOfFloat(value) & 0x7f800000) == 0x7f800000;
}

/// Which NaN an operation gives depends on the machine: here all are one.
inline void OneNan(float* numbers, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    if (numbers[i] != numbers[i]) numbers[i] = FloatOfBits(0x7fc00000);
  }
}

template <typename Type>
inline bool NumbersOf(const uint8_t* __restrict blocks, size_t count,
                      float* __restrict out) {
  constexpr size_t kGroups = Type::kElements / Type::kGroup;
  static_assert(Type::kElements <= kMostElements && kGroups <= kMostGroups);
  int8_t codes[Type::kElements];
  Groups groups;
  for (size_t b = 0; b < count; ++b) {
    Type::Scales(blocks, &groups);
    if constexpr (requires { Type::kLevels; }) {
      Type::Codes(blocks, Type::kLevels, codes);
    } else {
      Type::Codes(blocks, codes);
    }
    bool is_odd = false;
    for (size_t g = 0; g < kGroups; ++g) {
      const float scale = groups.scales[g];
      const float offset = groups.offsets[g];
      for (size_t i = g * Type::kGroup; i < (g + 1) * Type::kGroup; ++i) {
        out[i] = scale * static_cast<float>(codes[i]) + offset;
      }
      is_odd |= IsOdd(scale) || IsOdd(offset);
    }
    if (is_odd) OneNan(out, Type::kElements);
    blocks += Type::kBytes;
    out += Type::kElements;
  }
  return true;
}

template <typename Type>
inline bool StepsOf(const uint8_t* __restrict blocks, size_t count,
                    float* __restrict out) {
  constexpr size_t kGroups = Type::kElements / Type::kGroup;
  Groups groups;
  for (size_t b = 0; b < count; ++b) {
    Type::Scales(blocks, &groups);
    for (size_t g = 0; g < kGroups; ++g) {
      const float step =
          FloatOfBits(BitsOfFloat(groups.scales[g]) & 0x7fffffff);
      groups.scales[g] = step == step ? step : FloatOfBits(0x7fc00000);
    }
    if constexpr (requires { Type::kGaps2; }) {
      int8_t gaps2[Type::kElements];
      Type::Codes(blocks, Type::kGaps2, gaps2);
      for (size_t i = 0; i < Type::kElements; ++i) {
        out[i] = groups.scales[i / Type::kGroup] *
                 (static_cast<float>(gaps2[i]) * 0.5f);
      }
    } else {
      for (size_t g = 0; g < kGroups; ++g) {
        const float step = groups.scales[g] * (0.5f * Type::kGap2);
        for (size_t i = 0; i < Type::kGroup; ++i) {
          out[g * Type::kGroup + i] = step;
        }
      }
    }
    blocks += Type::kBytes;
    out += Type::kElements;
  }
  return true;
}

inline bool DequantizeLoops(DType dtype, bool steps, const uint8_t* blocks,
                            size_t count, float* out) {
  switch (dtype) {
#define ZIPLLM_TYPE(symbol, Type)                    \
  case DType::kGgml##symbol:                         \
    return steps ? StepsOf<Type>(blocks, count, out) \
                 : NumbersOf<Type>(blocks, count, out);
    ZIPLLM_TYPE(Q40, Q4_0)
    ZIPLLM_TYPE(Q41, Q4_1)
    ZIPLLM_TYPE(Q50, Q5_0)
    ZIPLLM_TYPE(Q51, Q5_1)
    ZIPLLM_TYPE(Q80, Q8_0)
    ZIPLLM_TYPE(Q81, Q8_1)
    ZIPLLM_TYPE(Q2K, Q2_K)
    ZIPLLM_TYPE(Q3K, Q3_K)
    ZIPLLM_TYPE(Q4K, Q4_K)
    ZIPLLM_TYPE(Q5K, Q5_K)
    ZIPLLM_TYPE(Q6K, Q6_K)
    ZIPLLM_TYPE(Q8K, Q8_K)
    ZIPLLM_TYPE(IQ4NL, IQ4_NL)
    ZIPLLM_TYPE(IQ4XS, IQ4_XS)
    ZIPLLM_TYPE(TQ10, TQ1_0)
    ZIPLLM_TYPE(TQ20, TQ2_0)
    ZIPLLM_TYPE(MXFP4, MXFP4)
    ZIPLLM_TYPE(NVFP4, NVFP4)
    ZIPLLM_TYPE(Q10, Q1_0)
    ZIPLLM_TYPE(Q20, Q2_0)
#undef ZIPLLM_TYPE
    default:
      return false;
  }
}

}  // namespace
}  // namespace zipllm::quantizers

#endif  // ZIPLLM_QUANTIZERS_DEQUANTIZE_LOOPS_H_
