// Dequantizing for any machine.
#include "quantizers/dequantize_loops.h"

namespace zipllm::quantizers {

bool DequantizeScalar(DType dtype, bool steps, const uint8_t* blocks,
                      size_t count, float* out) {
  return DequantizeLoops(dtype, steps, blocks, count, out);
}

}  // namespace zipllm::quantizers
