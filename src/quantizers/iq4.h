// The types of ggml whose 4-bit codes look up levels that are not evenly
// spaced (format-spec/quantizers.md, "IQ4_NL and IQ4_XS").
#ifndef ZIPLLM_QUANTIZERS_IQ4_H_
#define ZIPLLM_QUANTIZERS_IQ4_H_

#include <cstddef>
#include <cstdint>

namespace zipllm::quantizers {

#define ZIPLLM_IQ4_QUANTIZERS(F) \
  F(IQ4_NL)                      \
  F(IQ4_NLImportant)             \
  F(IQ4_XS)                      \
  F(IQ4_XSImportant)

#define ZIPLLM_DECLARE(Name)                                                   \
  void Quantize##Name##Scalar(const float* weights, size_t rows,               \
                              size_t columns, const float* importance,         \
                              uint8_t* out);                                   \
  void Quantize##Name##Avx2(const float* weights, size_t rows, size_t columns, \
                            const float* importance, uint8_t* out);            \
  void Quantize##Name##Avx512(const float* weights, size_t rows,               \
                              size_t columns, const float* importance,         \
                              uint8_t* out);
ZIPLLM_IQ4_QUANTIZERS(ZIPLLM_DECLARE)
#undef ZIPLLM_DECLARE

}  // namespace zipllm::quantizers

#endif  // ZIPLLM_QUANTIZERS_IQ4_H_
