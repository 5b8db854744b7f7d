// Inference for any CPU: what the other targets must equal.
#include "llm/kernels_loops.h"

namespace zipllm::llm {
namespace {

void Multiply(const Tile* tiles, size_t tile_rows, size_t tile_stride,
              size_t blocks, const Block* x, size_t vectors, float* out,
              size_t stride) {
  for (size_t t = 0; t < tile_rows;
       ++t, tiles += tile_stride, out += kTileRows) {
    for (size_t v = 0; v < vectors; ++v) {
      const Block* vector = x + v * blocks;
      float sums[kTileRows] = {};
      for (size_t b = 0; b < blocks; ++b) {
        const Block& block = vector[b];
        const Tile& tile = tiles[b];
        int32_t products[kTileRows];
        for (int32_t& product : products) product = block.offset;
        for (size_t k = 0; k < kBlock; k += 4) {
          for (size_t row = 0; row < kTileRows; ++row) {
            const uint8_t* codes = tile.codes[k / 4][row];
            products[row] +=
                codes[0] * block.codes[k] + codes[1] * block.codes[k + 1] +
                codes[2] * block.codes[k + 2] + codes[3] * block.codes[k + 3];
          }
        }
        for (size_t row = 0; row < kTileRows; ++row) {
          const float scale = tile.scales[row] * block.scale;
          sums[row] = sums[row] + static_cast<float>(products[row]) * scale;
        }
      }
      std::memcpy(out + v * stride, sums, sizeof sums);
    }
  }
}

}  // namespace

const Kernels kKernelsScalar = {kernels::Target::kScalar,
                                Quantize,
                                Multiply,
                                Normalize,
                                Silu,
                                Gelu,
                                Cap,
                                Soften,
                                SumWeights};

}  // namespace zipllm::llm
