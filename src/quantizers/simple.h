// The types of ggml whose blocks are 32 weights with a scale, and perhaps a
// minimum, of their own (format-spec/quantizers.md, "Simple types").
#ifndef ZIPLLM_QUANTIZERS_SIMPLE_H_
#define ZIPLLM_QUANTIZERS_SIMPLE_H_

#include <cstddef>
#include <cstdint>

namespace zipllm::quantizers {

#define ZIPLLM_SIMPLE_QUANTIZERS(F) \
  F(Q8_0)                           \
  F(Q4_0)                           \
  F(Q4_1)                           \
  F(Q5_0)                           \
  F(Q5_1)                           \
  F(Q4_0Important)                  \
  F(Q4_1Important)                  \
  F(Q5_0Important)                  \
  F(Q5_1Important)

#define ZIPLLM_DECLARE(Name)                                                   \
  void Quantize##Name##Scalar(const float* weights, size_t rows,               \
                              size_t columns, const float* importance,         \
                              uint8_t* out);                                   \
  void Quantize##Name##Avx2(const float* weights, size_t rows, size_t columns, \
                            const float* importance, uint8_t* out);            \
  void Quantize##Name##Avx512(const float* weights, size_t rows,               \
                              size_t columns, const float* importance,         \
                              uint8_t* out);
ZIPLLM_SIMPLE_QUANTIZERS(ZIPLLM_DECLARE)
#undef ZIPLLM_DECLARE

}  // namespace zipllm::quantizers

#endif  // ZIPLLM_QUANTIZERS_SIMPLE_H_
