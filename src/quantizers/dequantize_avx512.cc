// Dequantizing for x86-64 with AVX-512.
#include "quantizers/dequantize_loops.h"

#if defined(__x86_64__)

namespace zipllm::quantizers {

bool DequantizeAvx512(DType dtype, bool steps, const uint8_t* blocks,
                      size_t count, float* out) {
  return DequantizeLoops(dtype, steps, blocks, count, out);
}

}  // namespace zipllm::quantizers

#endif
