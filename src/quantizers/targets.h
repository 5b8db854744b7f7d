// What the files of quantizers share that are compiled once for each target.
#ifndef ZIPLLM_QUANTIZERS_TARGETS_H_
#define ZIPLLM_QUANTIZERS_TARGETS_H_

#include <cstddef>
#include <cstdint>

/// QuantizeNameScalar, QuantizeNameAvx2, QuantizeNameAvx512: a QuantizeFn each.
#define ZIPLLM_DECLARE_QUANTIZE(Name)                                          \
  void Quantize##Name##Scalar(const float* weights, size_t rows,               \
                              size_t columns, const float* importance,         \
                              uint8_t* out);                                   \
  void Quantize##Name##Avx2(const float* weights, size_t rows, size_t columns, \
                            const float* importance, uint8_t* out);            \
  void Quantize##Name##Avx512(const float* weights, size_t rows,               \
                              size_t columns, const float* importance,         \
                              uint8_t* out);

/// They, as the last fields of a Quantizer.
#if defined(__x86_64__)
#define ZIPLLM_QUANTIZE_TARGETS(Name) \
  Quantize##Name##Scalar, Quantize##Name##Avx2, Quantize##Name##Avx512
#else
#define ZIPLLM_QUANTIZE_TARGETS(Name) Quantize##Name##Scalar, nullptr, nullptr
#endif

#endif  // ZIPLLM_QUANTIZERS_TARGETS_H_
