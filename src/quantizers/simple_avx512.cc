// The quantizers of simple types for x86-64 with AVX-512.
#if defined(__x86_64__)

#include "quantizers/simple_loops.h"

namespace zipllm::quantizers {

#define ZIPLLM_DEFINE(Name)                                            \
  void Quantize##Name##Avx512(const float* weights, size_t rows,       \
                              size_t columns, const float* importance, \
                              uint8_t* out) {                          \
    QuantizeSimple<Name>(weights, rows, columns, importance, out);     \
  }
ZIPLLM_SIMPLE_QUANTIZERS(ZIPLLM_DEFINE)
#undef ZIPLLM_DEFINE

}  // namespace zipllm::quantizers

#endif
