#include "quantizers/dequantize.h"

#include "kernels/by_target.h"
#include "quantizers/dequantize_loops.h"
#include "quantizers/grids.h"

namespace zipllm::quantizers {
namespace {

constexpr kernels::ByTarget<decltype(DequantizeScalar)> kDequantize =
    ZIPLLM_BY_TARGET(Dequantize);

}  // namespace

bool Dequantize(DType dtype, const uint8_t* blocks, size_t count, float* out) {
  return kDequantize.Best()(dtype, false, blocks, count, out) ||
         DequantizeGrids(dtype, false, blocks, count, out);
}

bool CanDequantize(DType dtype) {
  return Dequantize(dtype, nullptr, 0, nullptr);
}

bool Steps(DType dtype, const uint8_t* blocks, size_t count, float* out) {
  return kDequantize.Best()(dtype, true, blocks, count, out) ||
         DequantizeGrids(dtype, true, blocks, count, out);
}

}  // namespace zipllm::quantizers
