// The loops of inference, by the same bits on every target: products of
// integers, and floats by IEEE operations in one order (format-spec/
// inference.md).
#ifndef ZIPLLM_LLM_KERNELS_H_
#define ZIPLLM_LLM_KERNELS_H_

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"

namespace zipllm::llm {

/// Elements that share a scale.
inline constexpr size_t kBlock = 32;
/// Rows of a matrix that are multiplied at once.
inline constexpr size_t kTileRows = 16;

/// A block of each of 16 rows of a matrix: row r has scales[r] *
/// (codes[k / 4][r][k % 4] - 128) at column k. Codes are 1 to 255.
struct Tile {
  float scales[kTileRows];
  uint8_t codes[kBlock / 4][kTileRows][4];
};

/// A block of a vector: element k is scale * codes[k]. Codes are -127 to 127.
struct Block {
  int8_t codes[kBlock];
  float scale;
  int32_t offset;  ///< -128 times the sum of the codes
};

/// What is computed on one target. Functions never allocate; thread-safe.
/// Counts of floats are multiples of 32, but for `sum_weights`. A float that is
/// no finite number counts as 0 in `quantize`, `soften` and `sum_weights`.
struct Kernels {
  kernels::Target target;

  /// Rounds floats to blocks. `group` blocks have one scale; it divides
  /// `blocks`.
  void (*quantize)(const float* from, size_t blocks, size_t group, Block* to);

  /// out[v * stride + r] = row r of a matrix times vector v, for `tile_rows` *
  /// 16 rows and `vectors` vectors. A row and a vector have `blocks` blocks;
  /// from one 16 rows to the next are `tile_stride` tiles.
  void (*multiply)(const Tile* tiles, size_t tile_rows, size_t tile_stride,
                   size_t blocks, const Block* x, size_t vectors, float* out,
                   size_t stride);

  /// out = x / sqrt(mean of squares + epsilon) * weights; in place too.
  void (*normalize)(const float* x, const float* weights, size_t count,
                    float epsilon, float* out);

  /// out = SiLU(gate) * up and GELU(gate) * up, the latter by tanh.
  void (*silu)(const float* gate, const float* up, size_t count, float* out);
  void (*gelu)(const float* gate, const float* up, size_t count, float* out);

  /// x = cap * tanh(x / cap).
  void (*cap)(float* x, size_t count, float cap);

  /// x = exp(x - the greatest x); returns the sum of these.
  float (*soften)(float* x, size_t count);

  /// sums[i] = sum of 1 + floor(2^28 * exp(logit - the greatest)) over the
  /// logits before i, up to i = count.
  void (*sum_weights)(const float* logits, size_t count, uint64_t* sums);
};

/// The fastest that this CPU has, or the one that ZIPLLM_CPU names.
const Kernels& BestKernels();
/// Null if this build or CPU has not got it.
const Kernels* FindKernels(kernels::Target target);

// Each target's file defines its own.
extern const Kernels kKernelsScalar;
#if defined(__x86_64__)
extern const Kernels kKernelsAvx2;
extern const Kernels kKernelsAvx512;
#endif

}  // namespace zipllm::llm

#endif  // ZIPLLM_LLM_KERNELS_H_
