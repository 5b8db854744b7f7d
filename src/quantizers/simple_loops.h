// The quantizers of simple.h, for whatever target the file that includes this
// is compiled for.
#ifndef ZIPLLM_QUANTIZERS_SIMPLE_LOOPS_H_
#define ZIPLLM_QUANTIZERS_SIMPLE_LOOPS_H_

#include "quantizers/blocks.h"
#include "quantizers/fits.h"
#include "quantizers/lanes.h"
#include "quantizers/simple.h"

namespace zipllm::quantizers {
namespace {

constexpr int kSimpleBlock = 32;

/// Bit 4 of each code.
inline Words PackFifthBits(const Ints* codes) {
  Words bits = {};
  for (int i = 0; i < kSimpleBlock; ++i) {
    bits |= (AsWords(codes[i]) >> 4 & 1u) << i;
  }
  return bits;
}

template <size_t kHalves, size_t kWords>
using SimpleBlocks = BlockLanes<2, kHalves, kWords>;

/// Codes from 0 to kMost; what no integer can hold becomes 0.
template <int kMost>
inline Ints Code(Floats value) {
  return Min(Max(Truncate(value), Ints{}), SplatInt(kMost));
}

struct Q8_0 {
  static constexpr int kElements = kSimpleBlock;
  using Blocks = SimpleBlocks<1, 8>;
  static void Quantize(const Floats* x, Blocks* blocks) {
    Floats most = {};
    for (int i = 0; i < kSimpleBlock; ++i) most = Max(most, Abs(x[i]));
    const Floats scale = most / 127.0f;
    const Floats inverse = Inverse(scale);
    blocks->numbers[0] = ToHalf(scale);
    for (size_t w = 0; w < 8; ++w) {
      Words word = {};
      for (size_t i = 0; i < 4; ++i) {
        const Ints code = RoundAway(x[4 * w + i] * inverse);
        word |= (AsWords(code) & 255u) << (8 * i);
      }
      blocks->words[w] = word;
    }
  }
};

/// Codes to -kHalf for the weight of the largest magnitude.
template <int kHalf>
inline Floats CodesByExtreme(const Floats* x, Ints* codes) {
  const Floats scale =
      FindExtreme<kSimpleBlock>(x).value / static_cast<float>(-kHalf);
  const Floats inverse = Inverse(scale);
  for (int i = 0; i < kSimpleBlock; ++i) {
    codes[i] = Code<2 * kHalf - 1>(x[i] * inverse + (kHalf + 0.5f));
  }
  return scale;
}

struct Q4_0 {
  static constexpr int kElements = kSimpleBlock;
  using Blocks = SimpleBlocks<1, 4>;
  static void Quantize(const Floats* x, Blocks* blocks) {
    Ints codes[kSimpleBlock];
    blocks->numbers[0] = ToHalf(CodesByExtreme<8>(x, codes));
    PackNibbles<kSimpleBlock>(codes, blocks->words);
  }
};

struct Q5_0 {
  static constexpr int kElements = kSimpleBlock;
  using Blocks = SimpleBlocks<1, 5>;
  static void Quantize(const Floats* x, Blocks* blocks) {
    Ints codes[kSimpleBlock];
    blocks->numbers[0] = ToHalf(CodesByExtreme<16>(x, codes));
    blocks->words[0] = PackFifthBits(codes);
    PackNibbles<kSimpleBlock>(codes, blocks->words + 1);
  }
};

/// Codes from 0 for the least weight to kMost for the greatest.
template <int kMost>
inline void CodesByRange(const Floats* x, Ints* halves, Ints* codes) {
  Floats least = Splat(0x1.fffffep127f);
  Floats greatest = Splat(-0x1.fffffep127f);
  for (int i = 0; i < kSimpleBlock; ++i) {
    least = Min(x[i], least);
    greatest = Max(x[i], greatest);
  }
  const Floats scale = (greatest - least) / static_cast<float>(kMost);
  const Floats inverse = Inverse(scale);
  halves[0] = ToHalf(scale);
  halves[1] = ToHalf(least);
  for (int i = 0; i < kSimpleBlock; ++i) {
    codes[i] = Code<kMost>((x[i] - least) * inverse + 0.5f);
  }
}

struct Q4_1 {
  static constexpr int kElements = kSimpleBlock;
  using Blocks = SimpleBlocks<2, 4>;
  static void Quantize(const Floats* x, Blocks* blocks) {
    Ints codes[kSimpleBlock];
    CodesByRange<15>(x, blocks->numbers, codes);
    PackNibbles<kSimpleBlock>(codes, blocks->words);
  }
};

struct Q5_1 {
  static constexpr int kElements = kSimpleBlock;
  using Blocks = SimpleBlocks<2, 5>;
  static void Quantize(const Floats* x, Blocks* blocks) {
    Ints codes[kSimpleBlock];
    CodesByRange<31>(x, blocks->numbers, codes);
    blocks->words[0] = PackFifthBits(codes);
    PackNibbles<kSimpleBlock>(codes, blocks->words + 1);
  }
};

// With importance: `counts` is how much each weight counts.

template <int kHalf>
inline Floats CodesByFit(const Floats* x, const Floats* counts, Ints* codes) {
  const SymmetricFit fit = FitSymmetric<kSimpleBlock, kHalf>(x, counts);
  for (int i = 0; i < kSimpleBlock; ++i) {
    codes[i] = ToInts(SymmetricCode<kHalf>(fit, x[i]));
  }
  return fit.scale;
}

struct Q4_0Important {
  static constexpr int kElements = kSimpleBlock;
  using Blocks = SimpleBlocks<1, 4>;
  static void Quantize(const Floats* x, const Floats* counts, Blocks* blocks) {
    Ints codes[kSimpleBlock];
    blocks->numbers[0] = ToHalf(CodesByFit<8>(x, counts, codes));
    PackNibbles<kSimpleBlock>(codes, blocks->words);
  }
};

struct Q5_0Important {
  static constexpr int kElements = kSimpleBlock;
  using Blocks = SimpleBlocks<1, 5>;
  static void Quantize(const Floats* x, const Floats* counts, Blocks* blocks) {
    Ints codes[kSimpleBlock];
    blocks->numbers[0] = ToHalf(CodesByFit<16>(x, counts, codes));
    blocks->words[0] = PackFifthBits(codes);
    PackNibbles<kSimpleBlock>(codes, blocks->words + 1);
  }
};

template <int kTop>
inline void CodesByAffineFit(const Floats* x, const Floats* counts,
                             Ints* halves, Ints* codes) {
  const AffineFit fit =
      FitAffine<kSimpleBlock, kTop, ImportantTries>(x, counts);
  halves[0] = ToHalf(fit.scale);
  halves[1] = ToHalf(-fit.offset);
  for (int i = 0; i < kSimpleBlock; ++i) {
    codes[i] = ToInts(AffineCode<kTop, ImportantTries>(fit, x[i]));
  }
}

struct Q4_1Important {
  static constexpr int kElements = kSimpleBlock;
  using Blocks = SimpleBlocks<2, 4>;
  static void Quantize(const Floats* x, const Floats* counts, Blocks* blocks) {
    Ints codes[kSimpleBlock];
    CodesByAffineFit<15>(x, counts, blocks->numbers, codes);
    PackNibbles<kSimpleBlock>(codes, blocks->words);
  }
};

struct Q5_1Important {
  static constexpr int kElements = kSimpleBlock;
  using Blocks = SimpleBlocks<2, 5>;
  static void Quantize(const Floats* x, const Floats* counts, Blocks* blocks) {
    Ints codes[kSimpleBlock];
    CodesByAffineFit<31>(x, counts, blocks->numbers, codes);
    blocks->words[0] = PackFifthBits(codes);
    PackNibbles<kSimpleBlock>(codes, blocks->words + 1);
  }
};

/// The mean squares of up to kLanes rows, each summed up from its beginning.
inline void MeanSquares(const float* weights, size_t rows, size_t columns,
                        float* means) {
  Floats sum = {};
  for (size_t column = 0; column < columns; column += kSimpleBlock) {
    const float* from[kLanes];
    for (size_t row = 0; row < rows; ++row) {
      from[row] = weights + row * columns + column;
    }
    Floats x[kSimpleBlock];
    LoadLanes(from, rows, kSimpleBlock, x);
    for (int i = 0; i < kSimpleBlock; ++i) sum += x[i] * x[i];
  }
  sum /= static_cast<float>(columns);
  std::memcpy(means, &sum, sizeof sum);
}

/// All blocks of a type whose weights count by the mean square of their row.
template <typename Type>
inline void QuantizeRows(const float* weights, size_t rows, size_t columns,
                         const float* importance, uint8_t* out) {
  const size_t per_row = columns / kSimpleBlock;
  Floats x[kSimpleBlock];
  Floats counts[kSimpleBlock];
  typename Type::Blocks blocks;
  for (size_t row = 0; row < rows; row += kLanes) {
    const size_t some = rows - row < kLanes ? rows - row : kLanes;
    float means[kLanes];
    MeanSquares(weights, some, columns, means);
    const size_t count = some * per_row;
    for (size_t b = 0; b < count; b += kLanes) {
      const size_t lanes = count - b < kLanes ? count - b : kLanes;
      const float* from[kLanes];
      const float* important[kLanes];
      Floats spread = {};
      for (size_t lane = 0; lane < lanes; ++lane) {
        from[lane] = weights + (b + lane) * kSimpleBlock;
        important[lane] = importance + (b + lane) % per_row * kSimpleBlock;
        spread[lane] = means[(b + lane) / per_row];
      }
      LoadLanes(from, lanes, kSimpleBlock, x);
      LoadLanes(important, lanes, kSimpleBlock, counts);
      ImportanceWeights(counts, x, spread, kSimpleBlock, counts);
      Type::Quantize(x, counts, &blocks);
      blocks.Store(lanes, out + b * Type::Blocks::kBytes);
    }
    weights += count * kSimpleBlock;
    out += count * Type::Blocks::kBytes;
  }
}

template <typename Type>
inline void QuantizeSimple(const float* weights, size_t rows, size_t columns,
                           const float* importance, uint8_t* out) {
  if constexpr (requires(const Floats* x, typename Type::Blocks* blocks) {
                  Type::Quantize(x, blocks);
                }) {
    QuantizeBlocks<Type>(weights, rows, columns, importance, out);
  } else {
    QuantizeRows<Type>(weights, rows, columns, importance, out);
  }
}

}  // namespace
}  // namespace zipllm::quantizers

#endif  // ZIPLLM_QUANTIZERS_SIMPLE_LOOPS_H_
