// K-quants: the quantizers of ggml's Q2_K to Q6_K
// (format-spec/quantizers.md, "K-quants").
#ifndef ZIPLLM_QUANTIZERS_K_QUANTS_H_
#define ZIPLLM_QUANTIZERS_K_QUANTS_H_

#include <cstddef>
#include <cstdint>

namespace zipllm::quantizers {

// The functions of a target are Quantize<type><target>; those with importance
// Quantize<type>Important<target>. Parameters as of QuantizeFn.
#define ZIPLLM_K_QUANT_TYPES(X, target) \
  X(Q2K, target)                        \
  X(Q3K, target)                        \
  X(Q4K, target)                        \
  X(Q5K, target)                        \
  X(Q6K, target)

#define ZIPLLM_DECLARE_K_QUANT(type, target)                           \
  void Quantize##type##target(const float* weights, size_t rows,       \
                              size_t columns, const float* importance, \
                              uint8_t* out);                           \
  void Quantize##type##Important##target(                              \
      const float* weights, size_t rows, size_t columns,               \
      const float* importance, uint8_t* out);
ZIPLLM_K_QUANT_TYPES(ZIPLLM_DECLARE_K_QUANT, Scalar)
ZIPLLM_K_QUANT_TYPES(ZIPLLM_DECLARE_K_QUANT, Avx2)
ZIPLLM_K_QUANT_TYPES(ZIPLLM_DECLARE_K_QUANT, Avx512)
#undef ZIPLLM_DECLARE_K_QUANT

}  // namespace zipllm::quantizers

#endif  // ZIPLLM_QUANTIZERS_K_QUANTS_H_
