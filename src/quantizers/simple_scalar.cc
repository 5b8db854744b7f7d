// The quantizers of simple types for any machine.
#include "quantizers/simple_loops.h"

namespace zipllm::quantizers {

#define ZIPLLM_DEFINE(Name)                                            \
  void Quantize##Name##Scalar(const float* weights, size_t rows,       \
                              size_t columns, const float* importance, \
                              uint8_t* out) {                          \
    QuantizeSimple<Name>(weights, rows, columns, importance, out);     \
  }
ZIPLLM_SIMPLE_QUANTIZERS(ZIPLLM_DEFINE)
#undef ZIPLLM_DEFINE

}  // namespace zipllm::quantizers
