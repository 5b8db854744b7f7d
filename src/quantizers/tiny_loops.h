// The quantizers of tiny.h, compiled once for each target: a block in each
// lane.
#ifndef ZIPLLM_QUANTIZERS_TINY_LOOPS_H_
#define ZIPLLM_QUANTIZERS_TINY_LOOPS_H_

#include "quantizers/blocks.h"
#include "quantizers/lanes.h"
#include "quantizers/tiny.h"

// In a namespace without name, so that each target has its own.
namespace zipllm::quantizers {
namespace {

// ---- E2M1 ----

/// Twice the magnitudes of E2M1; its codes are in their order.
constexpr float kE2m1Levels[8] = {0, 1, 2, 3, 4, 6, 8, 12};

/// The greatest magnitude that is no NaN.
inline Floats Greatest(const Floats* x, int count) {
  Floats greatest = {};
  for (int i = 0; i < count; ++i) greatest = Max(Abs(x[i]), greatest);
  return greatest;
}

/// The codes whose levels times `scale` are nearest, the first of them; a sign
/// is in bit 3, but not of zero.
template <int kCount>
inline void PackE2m1(const Floats* x, Floats scale, Words* words) {
  Ints codes[kCount];
  for (int i = 0; i < kCount; ++i) {
    const Floats magnitude = Abs(x[i]);
    Floats least = magnitude;
    Ints code = {};
    for (int level = 1; level < 8; ++level) {
      const Floats error = Abs(kE2m1Levels[level] * scale - magnitude);
      const Ints nearer = error < least;
      least = nearer ? error : least;
      code = nearer ? SplatInt(level) : code;
    }
    codes[i] = code | ((code != 0) & (x[i] < 0.0f) & 8);
  }
  PackNibbles<kCount>(codes, words);
}

/// The logarithm to base 2 of numbers above zero, in FP32, rounded down: of a
/// number just below a power of 2 the logarithm is rounded up to an integer.
inline Ints FloorLog2(Floats value) {
  const Ints subnormal = value < 0x1p-126f;
  const Ints bits = AsInts(subnormal ? value * 0x1p64f : value);
  const Ints exponent = (bits >> 23) - 127 - (subnormal & 64);
  // 2^-24ths of the next power that are missing, and how many may be: those
  // that the logarithm, `next` but for them, has no bits for.
  const Ints missing = 0x800000 - (bits & 0x7fffff);
  const Ints next = exponent + 1;
  const Ints size = next > 0 ? next - 1 : -next;
  constexpr int kMissing[] = {1, 2, 5, 11, 22, 44, 88};
  Ints most = {};
  for (int i = 0; i < 7; ++i) {
    most = size >= 2 << i ? SplatInt(kMissing[i]) : most;
  }
  return missing <= most ? next : exponent;
}

/// A byte of E8M0, sixteen bytes of codes.
struct MXFP4 {
  static constexpr int kElements = 32;
  using Blocks = BlockLanes<1, 1, 4>;
  static void Quantize(const Floats* x, Blocks* blocks) {
    const Floats greatest = Greatest(x, kElements);
    const Ints finite = (greatest > 0.0f) & (greatest <= 0x1.fffffep127f);
    const Ints power = finite & (FloorLog2(greatest) + 125) & 255;
    blocks->numbers[0] = power;
    const Ints half_bits = (power - 1) << 23;
    const Ints subnormal = power == 0 ? SplatInt(0x200000) : SplatInt(0x400000);
    const Floats scale = AsFloats(power < 2 ? subnormal : half_bits);
    PackE2m1<kElements>(x, scale, blocks->words);
  }
};

/// As UE4M3, rounding up from the middle. From 240 on all is 448.
inline Ints ToUe4m3(Floats value) {
  const Floats cut = Min(value, Splat(448.0f));
  const Ints bits = AsInts(cut);
  const Ints whole = (bits >> 20) - (120 << 3);
  const Ints rounded = whole + (bits >> 19 & 1);
  const Ints normal = rounded >= 0x78 ? SplatInt(0x7e) : rounded;
  const Ints subnormal = Min(Truncate(cut * 512.0f + 0.5f), SplatInt(7));
  return (whole < 8 ? subnormal : normal) & (value > 0.0f);
}

/// Four bytes of UE4M3, then eight of codes for each.
struct NVFP4 {
  static constexpr int kElements = 64;
  static constexpr int kPart = 16;
  using Blocks = BlockLanes<1, 4, 8>;
  static void Quantize(const Floats* x, Blocks* blocks) {
    for (int part = 0; part < 4; ++part) {
      const Floats* from = x + kPart * part;
      const Ints code = ToUe4m3(Greatest(from, kPart) / 6.0f);
      blocks->numbers[part] = code;
      // Half of what it means.
      const Floats subnormal = ToFloats(code) * 0x1p-10f;
      const Floats normal = AsFloats((code << 20) + (119 << 23));
      PackE2m1<kPart>(from, code < 8 ? subnormal : normal,
                      blocks->words + 2 * part);
    }
  }
};

// ---- Few levels ----

/// kWords words, then an FP16 number.
template <int kWords>
struct WordsAndHalf {
  static constexpr size_t kBytes = 4 * kWords + 2;
  Words words[kWords];
  Ints half;

  void Store(size_t lanes, uint8_t* to) const {
    StoreLanes<4>(words, kWords, lanes, kBytes, to);
    StoreLanes<2>(&half, 1, lanes, kBytes, to + 4 * kWords);
  }
};

/// The greatest magnitude of the numbers from the last NaN on.
inline Floats GreatestSinceNan(const Floats* x, int count) {
  Floats greatest = {};
  for (int i = 0; i < count; ++i) greatest = Max(greatest, Abs(x[i]));
  return greatest;
}

/// -1, 0 or 1 for each number, + 1.
template <int kCount>
inline Floats TernaryCodes(const Floats* x, Ints* codes) {
  const Floats scale = GreatestSinceNan(x, kCount);
  const Floats inverse = Inverse(scale);
  for (int i = 0; i < kCount; ++i) codes[i] = RoundAway(x[i] * inverse) + 1;
  return scale;
}

/// Bytes of base-3 digits, in words: byte i has the digits codes[i], codes[i +
/// kBytes], ..., the first highest, of which five make the fraction of 256 that
/// the byte is, rounded up.
template <int kBytes, int kDigits>
inline void PackTrits(const Ints* codes, Words* words) {
  for (int w = 0; w < kBytes / 4; ++w) {
    Words word = {};
    for (int i = 0; i < 4; ++i) {
      Words digits = {};
      for (int digit = 0; digit < 5; ++digit) {
        digits *= 3u;
        if (digit < kDigits) {
          digits += AsWords(codes[4 * w + i + kBytes * digit]);
        }
        digits &= 255u;
      }
      // digits * 256 / 243, rounded up.
      const Words byte = digits + ((digits * 13u + 242u) * 1079u >> 18);
      word |= (byte & 255u) << (8 * i);
    }
    words[w] = word;
  }
}

/// 48 and 4 bytes of base-3 digits, the scale.
struct TQ1_0 {
  static constexpr int kElements = 256;
  using Blocks = WordsAndHalf<13>;
  static void Quantize(const Floats* x, Blocks* blocks) {
    Ints codes[kElements];
    blocks->half = ToHalf(TernaryCodes<kElements>(x, codes));
    PackTrits<32, 5>(codes, blocks->words);
    PackTrits<16, 5>(codes + 160, blocks->words + 8);
    PackTrits<4, 4>(codes + 240, blocks->words + 12);
  }
};

/// 64 bytes of two bits a code, the scale.
struct TQ2_0 {
  static constexpr int kElements = 256;
  using Blocks = WordsAndHalf<16>;
  static void Quantize(const Floats* x, Blocks* blocks) {
    Ints codes[kElements];
    blocks->half = ToHalf(TernaryCodes<kElements>(x, codes));
    for (int w = 0; w < 16; ++w) {
      Words word = {};
      for (int i = 0; i < 16; ++i) {
        const Ints code = codes[w / 8 * 128 + w % 8 * 4 + i / 4 + i % 4 * 32];
        word |= (AsWords(code) & 3u) << (2 * i);
      }
      blocks->words[w] = word;
    }
  }
};

/// The mean magnitude, 128 signs.
struct Q1_0 {
  static constexpr int kElements = 128;
  using Blocks = BlockLanes<2, 1, 4>;
  static void Quantize(const Floats* x, Blocks* blocks) {
    Floats sum = {};
    for (int i = 0; i < kElements; ++i) sum += Abs(x[i]);
    blocks->numbers[0] = ToHalf(sum / 128.0f);
    for (int w = 0; w < 4; ++w) {
      Words word = {};
      for (int i = 0; i < 32; ++i) {
        word |= (AsWords(x[32 * w + i] >= 0.0f) & 1u) << i;
      }
      blocks->words[w] = word;
    }
  }
};

/// The greatest magnitude, 64 codes of two bits.
struct Q2_0 {
  static constexpr int kElements = 64;
  using Blocks = BlockLanes<2, 1, 4>;
  static void Quantize(const Floats* x, Blocks* blocks) {
    const Floats scale = Greatest(x, kElements);
    const Floats inverse = scale > 0.0f ? 1.0f / scale : Splat(0.0f);
    blocks->numbers[0] = ToHalf(scale);
    for (int w = 0; w < 4; ++w) {
      Words word = {};
      for (int i = 0; i < 16; ++i) {
        const Ints code = RoundAway(x[16 * w + i] * inverse) + 1;
        const Ints cut = Max(Min(code, SplatInt(3)), SplatInt(0));
        word |= AsWords(cut) << (2 * i);
      }
      blocks->words[w] = word;
    }
  }
};

}  // namespace
}  // namespace zipllm::quantizers

#endif  // ZIPLLM_QUANTIZERS_TINY_LOOPS_H_
