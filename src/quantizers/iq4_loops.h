// The quantizers of iq4.h, compiled once for each target: a block in each
// lane.
#ifndef ZIPLLM_QUANTIZERS_IQ4_LOOPS_H_
#define ZIPLLM_QUANTIZERS_IQ4_LOOPS_H_

#include "quantizers/blocks.h"
#include "quantizers/fits.h"
#include "quantizers/iq4.h"
#include "quantizers/lanes.h"

// In a namespace without name, so that each target has its own.
namespace zipllm::quantizers {
namespace {

constexpr int kIq4Part = 32;  // weights that share a scale
constexpr int kIq4Levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                1,    13,   25,  38,  53,  69,  89,  113};

/// Twice the border between level i - 1 and level i.
constexpr float Iq4Border(int i) {
  return static_cast<float>(kIq4Levels[i - 1] + kIq4Levels[i]);
}

/// A number's level, the greater one at a border, and which one it is. For
/// NaNs the first.
struct Iq4Level {
  Floats value;
  Ints index;
};

#if defined(__AVX512F__)

/// What follows from the upper bits of the index: the border that decides its
/// next bit, `step`.
template <int kStep>
inline Floats Iq4Borders() {
  Floats borders = {};
  for (int i = 0; i < 16; i += 2 * kStep) borders[i] = Iq4Border(i + kStep);
  return borders;
}

inline Iq4Level FindIq4Level(Floats x) {
  const auto twice = reinterpret_cast<__m512>(x + x);
  const auto next = [&](__m512i index, int step, Floats borders) {
    const __mmask16 above = _mm512_cmp_ps_mask(
        twice, _mm512_permutexvar_ps(index, reinterpret_cast<__m512>(borders)),
        _CMP_GE_OQ);
    return _mm512_mask_or_epi32(index, above, index, _mm512_set1_epi32(step));
  };
  __m512i index = _mm512_maskz_set1_epi32(
      _mm512_cmp_ps_mask(twice, _mm512_set1_ps(Iq4Border(8)), _CMP_GE_OQ), 8);
  index = next(index, 4, Iq4Borders<4>());
  index = next(index, 2, Iq4Borders<2>());
  index = next(index, 1, Iq4Borders<1>());
  Floats values;
  for (int i = 0; i < 16; ++i) values[i] = static_cast<float>(kIq4Levels[i]);
  return {reinterpret_cast<Floats>(
              _mm512_permutexvar_ps(index, reinterpret_cast<__m512>(values))),
          reinterpret_cast<Ints>(index)};
}

#elif defined(__AVX2__)

/// Tables that the low three bits of minus an upper part of the index look up:
/// comparisons give -1, so that parts add up without more ado.
template <int kStep>
inline Floats Iq4Borders() {
  Floats borders = {};
  for (int i = 0; i < 8 / kStep; ++i) {
    borders[-i & 7] = Iq4Border(2 * kStep * i + kStep);
  }
  return borders;
}

inline Floats LookUp(Floats table, Ints index) {
  return reinterpret_cast<Floats>(_mm256_permutevar8x32_ps(
      reinterpret_cast<__m256>(table), reinterpret_cast<__m256i>(index)));
}

inline Iq4Level FindIq4Level(Floats x) {
  const Floats twice = x + x;
  Ints index = twice >= Iq4Border(8);
  index += index + (twice >= LookUp(Iq4Borders<4>(), index));
  index += index + (twice >= LookUp(Iq4Borders<2>(), index));
  const Ints last = twice >= LookUp(Iq4Borders<1>(), index);
  Floats even;
  Floats odd;
  for (int i = 0; i < 8; ++i) {
    even[-i & 7] = static_cast<float>(kIq4Levels[2 * i]);
    odd[-i & 7] = static_cast<float>(kIq4Levels[2 * i + 1]);
  }
  return {last ? LookUp(odd, index) : LookUp(even, index),
          -(index + index + last)};
}

#else

inline Iq4Level FindIq4Level(Floats x) {
  const Floats twice = x + x;
  Iq4Level level = {Splat(kIq4Levels[0]), Ints{}};
  for (int i = 1; i < 16; ++i) {
    const Ints above = twice >= Iq4Border(i);
    level.value =
        above ? Splat(static_cast<float>(kIq4Levels[i])) : level.value;
    level.index -= above;
  }
  return level;
}

#endif

/// Tries 16 scales, those that have the extreme near the first level; for each
/// the scale that is best for its codes. Zero where all is zero.
inline Floats FitIq4(const Floats* x, const Floats* counts) {
  struct Sums {
    Floats xl, l2;
  };
  const auto sum = [&](Floats code_scale) {
    Sums sums = {};
    for (int i = 0; i < kIq4Part; ++i) {
      const Floats level = FindIq4Level(code_scale * x[i]).value;
      const Floats product = counts[i] * level;
      sums.xl += product * x[i];
      sums.l2 += product * level;
    }
    return sums;
  };

  constexpr auto kFirst = static_cast<float>(kIq4Levels[0]);
  const Extreme extreme = FindExtreme<kIq4Part>(x);
  const Sums first = sum(1.0f / (-extreme.value / kFirst));
  Floats scale = first.l2 > 0.0f ? first.xl / first.l2 : Splat(0.0f);
  Floats best = scale * first.xl;
  for (int step = -7; step <= 7; ++step) {
    const Sums sums = sum((static_cast<float>(step) + kFirst) / extreme.value);
    const Ints better = (sums.l2 > 0.0f) & (sums.xl * sums.xl > best * sums.l2);
    const Floats tried = sums.xl / sums.l2;
    scale = better ? tried : scale;
    best = better ? tried * sums.xl : best;
  }
  return extreme.magnitude < kLeastMagnitude ? Splat(0.0f) : scale;
}

/// Four words of codes.
inline void Iq4Codes(const Floats* x, Floats inverse, Words* words) {
  Ints codes[kIq4Part];
  for (int i = 0; i < kIq4Part; ++i) {
    codes[i] = FindIq4Level(inverse * x[i]).index;
  }
  PackNibbles<kIq4Part>(codes, words);
}

struct Iq4Nl {
  static constexpr int kElements = kIq4Part;
  using Blocks = BlockLanes<2, 1, 4>;

  static void Fit(const Floats* x, const Floats* counts, Blocks* blocks) {
    const Floats scale = FitIq4(x, counts);
    blocks->numbers[0] = ToHalf(scale);
    Iq4Codes(x, Inverse(scale), blocks->words);
  }
};

struct Iq4Xs {
  static constexpr int kElements = 256;
  static constexpr int kParts = kElements / kIq4Part;
  using Blocks = BlockLanes<2, 2, 33>;

  static void Fit(const Floats* x, const Floats* counts, Blocks* blocks) {
    Floats scales[kParts];
    for (int part = 0; part < kParts; ++part) {
      scales[part] = FitIq4(x + kIq4Part * part, counts + kIq4Part * part);
    }
    const Floats scale = -FindExtreme<kParts>(scales).value / 32.0f;
    const Floats inverse = Inverse(scale);
    Words high = {};
    Words low = {};
    for (int part = 0; part < kParts; ++part) {
      const Floats code = NearestBetween(inverse * scales[part], -32, 31);
      Iq4Codes(x + kIq4Part * part, Inverse(scale * code),
               blocks->words + 1 + 4 * part);
      const Words bits = AsWords(ToInts(code) + 32);
      low |= (bits & 15u) << (4 * part);
      high |= bits >> 4 << (2 * part);
    }
    blocks->numbers[0] = ToHalf(scale);
    blocks->numbers[1] = AsInts(high);
    blocks->words[0] = low;
  }
};

/// Weights count by their squares.
template <typename Type>
struct BySquare : Type {
  static void Quantize(const Floats* x, typename Type::Blocks* blocks) {
    Floats counts[Type::kElements];
    for (int i = 0; i < Type::kElements; ++i) counts[i] = x[i] * x[i];
    Type::Fit(x, counts, blocks);
  }
};

/// Weights count by their importance and the mean square of the block.
template <typename Type>
struct ByImportance : Type {
  static void Quantize(const Floats* x, const Floats* importance,
                       typename Type::Blocks* blocks) {
    Floats counts[Type::kElements];
    const Floats spread =
        SumOfSquares(x, Type::kElements) * (2.0f / Type::kElements);
    ImportanceWeights(importance, x, spread, Type::kElements, counts);
    Type::Fit(x, counts, blocks);
  }
};

using IQ4_NL = BySquare<Iq4Nl>;
using IQ4_NLImportant = ByImportance<Iq4Nl>;
using IQ4_XS = BySquare<Iq4Xs>;
using IQ4_XSImportant = ByImportance<Iq4Xs>;

}  // namespace
}  // namespace zipllm::quantizers

#endif  // ZIPLLM_QUANTIZERS_IQ4_LOOPS_H_
