// Quantizers of types with few levels for any machine.
#include "quantizers/tiny_loops.h"

namespace zipllm::quantizers {

#define ZIPLLM_DEFINE(Name)                                            \
  void Quantize##Name##Scalar(const float* weights, size_t rows,       \
                              size_t columns, const float* importance, \
                              uint8_t* out) {                          \
    QuantizeBlocks<Name>(weights, rows, columns, importance, out);     \
  }
ZIPLLM_TINY_QUANTIZERS(ZIPLLM_DEFINE)
#undef ZIPLLM_DEFINE

}  // namespace zipllm::quantizers
