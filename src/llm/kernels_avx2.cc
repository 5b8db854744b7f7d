// Inference for x86-64 with AVX2.
#include "llm/kernels_loops.h"

#if defined(__x86_64__)

namespace zipllm::llm {
namespace {

/// Half of the rows of a tile at once.
constexpr size_t kHalf = kTileRows / 2;

/// kVectors vectors at once, so that weights are prepared once for all.
template <size_t kVectors>
void MultiplyHalf(const Tile* tiles, size_t half, size_t blocks, const Block* x,
                  float* out, size_t stride) {
  const __m256i ones = _mm256_set1_epi16(1);
  const __m256i middle = _mm256_set1_epi8(-128);
  __m256 sums[kVectors];
  for (__m256& sum : sums) sum = _mm256_setzero_ps();
  for (size_t b = 0; b < blocks; ++b) {
    const Tile& tile = tiles[b];
    __m256i products[kVectors];
    for (__m256i& product : products) product = _mm256_setzero_si256();
    for (size_t k = 0; k < kBlock / 4; ++k) {
      const __m256i codes = _mm256_xor_si256(
          middle, _mm256_load_si256(reinterpret_cast<const __m256i*>(
                      tile.codes[k][half * kHalf])));
      const __m256i magnitudes = _mm256_abs_epi8(codes);
#pragma GCC unroll 8
      for (size_t v = 0; v < kVectors; ++v) {
        int32_t four;
        std::memcpy(&four, x[v * blocks + b].codes + 4 * k, sizeof four);
        // |w| times x with the sign of w: at most 2 * 127^2, which 16 bits
        // hold.
        const __m256i pairs = _mm256_maddubs_epi16(
            magnitudes, _mm256_sign_epi8(_mm256_set1_epi32(four), codes));
        products[v] =
            _mm256_add_epi32(products[v], _mm256_madd_epi16(pairs, ones));
      }
    }
    const __m256 scales = _mm256_load_ps(tile.scales + half * kHalf);
#pragma GCC unroll 8
    for (size_t v = 0; v < kVectors; ++v) {
      const __m256 scale =
          _mm256_mul_ps(scales, _mm256_set1_ps(x[v * blocks + b].scale));
      sums[v] = _mm256_add_ps(
          sums[v], _mm256_mul_ps(_mm256_cvtepi32_ps(products[v]), scale));
    }
  }
  for (size_t v = 0; v < kVectors; ++v) {
    _mm256_storeu_ps(out + v * stride + half * kHalf, sums[v]);
  }
}

void Multiply(const Tile* tiles, size_t tile_rows, size_t tile_stride,
              size_t blocks, const Block* x, size_t vectors, float* out,
              size_t stride) {
  for (size_t t = 0; t < tile_rows;
       ++t, tiles += tile_stride, out += kTileRows) {
    for (size_t half = 0; half < 2; ++half) {
      size_t v = 0;
      for (; v + 4 <= vectors; v += 4) {
        MultiplyHalf<4>(tiles, half, blocks, x + v * blocks, out + v * stride,
                        stride);
      }
      if (v + 2 <= vectors) {
        MultiplyHalf<2>(tiles, half, blocks, x + v * blocks, out + v * stride,
                        stride);
        v += 2;
      }
      if (v < vectors) {
        MultiplyHalf<1>(tiles, half, blocks, x + v * blocks, out + v * stride,
                        stride);
      }
    }
  }
}

}  // namespace

const Kernels kKernelsAvx2 = {kernels::Target::kAvx2,
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
