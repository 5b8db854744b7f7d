// Blocks in lanes: what they consist of, and going through those of a tensor.
// Include it where lanes.h may be included.
#ifndef ZIPLLM_QUANTIZERS_BLOCKS_H_
#define ZIPLLM_QUANTIZERS_BLOCKS_H_

#include "quantizers/lanes.h"

// In a namespace without name, so that each target has its own.
namespace zipllm::quantizers {
namespace {

/// 1 / value; 0 for 0.
inline Floats Inverse(Floats value) {
  return value != 0 ? 1.0f / value : Floats{};
}

/// Numbers of kSize bytes, then words. A lane is a block.
template <size_t kSize, size_t kNumbers, size_t kWords>
struct BlockLanes {
  static constexpr size_t kBytes = kSize * kNumbers + 4 * kWords;
  Ints numbers[kNumbers];
  Words words[kWords];

  void Store(size_t lanes, uint8_t* to) const {
    StoreLanes<kSize>(numbers, kNumbers, lanes, kBytes, to);
    StoreLanes<4>(words, kWords, lanes, kBytes, to + kSize * kNumbers);
  }
};

/// The low four bits of kCount codes: the first and the second half of them
/// share bytes.
template <int kCount>
inline void PackNibbles(const Ints* codes, Words* words) {
  for (int w = 0; w < kCount / 8; ++w) {
    Words word = {};
    for (int i = 0; i < 4; ++i) {
      const Ints* low = codes + 4 * w + i;
      const Ints pair = (low[0] & 15) | (low[kCount / 2] & 15) << 4;
      word |= AsWords(pair) << (8 * i);
    }
    words[w] = word;
  }
}

/// All blocks of a type that looks at nothing beyond a block. Type has
///   kElements: of a block, a multiple of 16;
///   Blocks: BlockLanes or the like;
///   Quantize(weights, blocks) or Quantize(weights, importance, blocks).
template <typename Type>
inline void QuantizeBlocks(const float* weights, size_t rows, size_t columns,
                           const float* importance, uint8_t* out) {
  constexpr size_t kElements = Type::kElements;
  const size_t per_row = columns / kElements;
  const size_t count = rows * per_row;
  Floats x[kElements];
  typename Type::Blocks blocks;
  for (size_t b = 0; b < count; b += kLanes) {
    const size_t lanes = count - b < kLanes ? count - b : kLanes;
    const float* from[kLanes];
    for (size_t lane = 0; lane < lanes; ++lane) {
      from[lane] = weights + (b + lane) * kElements;
    }
    LoadLanes(from, lanes, kElements, x);
    if constexpr (requires { Type::Quantize(x, &blocks); }) {
      Type::Quantize(x, &blocks);
    } else {
      Floats counts[kElements];
      for (size_t lane = 0; lane < lanes; ++lane) {
        from[lane] = importance + (b + lane) % per_row * kElements;
      }
      LoadLanes(from, lanes, kElements, counts);
      Type::Quantize(x, counts, &blocks);
    }
    blocks.Store(lanes, out + b * Type::Blocks::kBytes);
  }
}

}  // namespace
}  // namespace zipllm::quantizers

#endif  // ZIPLLM_QUANTIZERS_BLOCKS_H_
