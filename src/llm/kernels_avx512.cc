// Inference for x86-64 with AVX-512 and VNNI.
#include "llm/kernels_loops.h"

#if defined(__x86_64__)

namespace zipllm::llm {
namespace {

/// kVectors vectors at once, so that weights are loaded once for all.
template <size_t kVectors>
void MultiplyTiles(const Tile* tiles, size_t blocks, const Block* x, float* out,
                   size_t stride) {
  __m512 sums[kVectors];
  for (__m512& sum : sums) sum = _mm512_setzero_ps();
  for (size_t b = 0; b < blocks; ++b) {
    const Tile& tile = tiles[b];
    __m512i codes[kBlock / 4];
#pragma GCC unroll 8
    for (size_t k = 0; k < kBlock / 4; ++k) {
      codes[k] = _mm512_load_si512(tile.codes[k]);
    }
    const __m512 scales = _mm512_load_ps(tile.scales);
    // The same of the next rows, which come from memory otherwise.
    const auto* next = reinterpret_cast<const char*>(&tile + blocks);
#pragma GCC unroll 16
    for (size_t line = 0; line < sizeof(Tile); line += 64) {
      _mm_prefetch(next + line, _MM_HINT_T0);
    }
#pragma GCC unroll 8
    for (size_t v = 0; v < kVectors; ++v) {
      const Block& block = x[v * blocks + b];
      __m512i product = _mm512_set1_epi32(block.offset);
#pragma GCC unroll 8
      for (size_t k = 0; k < kBlock / 4; ++k) {
        int32_t four;
        std::memcpy(&four, block.codes + 4 * k, sizeof four);
        product =
            _mm512_dpbusd_epi32(product, codes[k], _mm512_set1_epi32(four));
      }
      const __m512 scale = _mm512_mul_ps(scales, _mm512_set1_ps(block.scale));
      sums[v] = _mm512_add_ps(
          sums[v], _mm512_mul_ps(_mm512_cvtepi32_ps(product), scale));
    }
  }
  for (size_t v = 0; v < kVectors; ++v) {
    _mm512_storeu_ps(out + v * stride, sums[v]);
  }
}

constexpr size_t kMostVectors = 8;
using MultiplyFn = void (*)(const Tile*, size_t, const Block*, float*, size_t);
constexpr MultiplyFn kMultiply[kMostVectors] = {
    MultiplyTiles<1>, MultiplyTiles<2>, MultiplyTiles<3>, MultiplyTiles<4>,
    MultiplyTiles<5>, MultiplyTiles<6>, MultiplyTiles<7>, MultiplyTiles<8>};

void Multiply(const Tile* tiles, size_t tile_rows, size_t tile_stride,
              size_t blocks, const Block* x, size_t vectors, float* out,
              size_t stride) {
  for (size_t t = 0; t < tile_rows; ++t, tiles += tile_stride) {
    for (size_t v = 0; v < vectors; v += kMostVectors) {
      const size_t left = vectors - v;
      const size_t count = left < kMostVectors ? left : kMostVectors;
      kMultiply[count - 1](tiles, blocks, x + v * blocks,
                           out + v * stride + t * kTileRows, stride);
    }
  }
}

}  // namespace

const Kernels kKernelsAvx512 = {kernels::Target::kAvx512,
                                Quantize,
                                Multiply,
                                Normalize,
                                Silu,
                                Gelu,
                                Cap,
                                Soften,
                                SumWeights};

}  // namespace zipllm::llm

#endif
