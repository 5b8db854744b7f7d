#include "quantizers/dequantize.h"

#include "kernels/kernels.h"
#include "quantizers/dequantize_loops.h"
#include "quantizers/grids.h"

namespace zipllm::quantizers {
namespace {

DequantizeFn Best() {
#if defined(__x86_64__)
  switch (kernels::Best().target) {
    case kernels::Target::kAvx512:
      return DequantizeAvx512;
    case kernels::Target::kAvx2:
      return DequantizeAvx2;
    default:
      break;
  }
#endif
  return DequantizeScalar;
}

}  // namespace

bool Dequantize(DType dtype, const uint8_t* blocks, size_t count, float* out) {
  return Best()(dtype, false, blocks, count, out) ||
         DequantizeGrids(dtype, false, blocks, count, out);
}

bool CanDequantize(DType dtype) {
  return Dequantize(dtype, nullptr, 0, nullptr);
}

bool Steps(DType dtype, const uint8_t* blocks, size_t count, float* out) {
  return Best()(dtype, true, blocks, count, out) ||
         DequantizeGrids(dtype, true, blocks, count, out);
}

}  // namespace zipllm::quantizers
