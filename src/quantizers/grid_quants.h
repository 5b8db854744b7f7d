// The quantizers of ggml's grid types (format-spec/quantizers.md, "Grids").
#ifndef ZIPLLM_QUANTIZERS_GRID_QUANTS_H_
#define ZIPLLM_QUANTIZERS_GRID_QUANTS_H_

#include <cstddef>
#include <cstdint>

namespace zipllm::quantizers {

// The functions of a target are Quantize<name><target>. Parameters as of
// QuantizeFn.
#define ZIPLLM_GRID_QUANTS(X, target) \
  X(IQ3XXS, target)                   \
  X(IQ3XXSImportant, target)          \
  X(IQ3S, target)                     \
  X(IQ3SImportant, target)            \
  X(IQ2S, target)                     \
  X(IQ2SImportant, target)            \
  X(IQ2XXSImportant, target)          \
  X(IQ2XSImportant, target)           \
  X(IQ1SImportant, target)

#define ZIPLLM_DECLARE_GRID_QUANT(name, target)                        \
  void Quantize##name##target(const float* weights, size_t rows,       \
                              size_t columns, const float* importance, \
                              uint8_t* out);
ZIPLLM_GRID_QUANTS(ZIPLLM_DECLARE_GRID_QUANT, Scalar)
ZIPLLM_GRID_QUANTS(ZIPLLM_DECLARE_GRID_QUANT, Avx2)
ZIPLLM_GRID_QUANTS(ZIPLLM_DECLARE_GRID_QUANT, Avx512)
#undef ZIPLLM_DECLARE_GRID_QUANT

}  // namespace zipllm::quantizers

#endif  // ZIPLLM_QUANTIZERS_GRID_QUANTS_H_
