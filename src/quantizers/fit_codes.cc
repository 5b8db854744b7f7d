#include "quantizers/fit_codes.h"

#include "kernels/by_target.h"

namespace zipllm::quantizers {

namespace {
constexpr kernels::ByTarget<decltype(FitCodesScalar)> kFitCodes =
    ZIPLLM_BY_TARGET(FitCodes);
}  // namespace

void FitCodes(CodeFit fit, const float* x, const float* weights, size_t count,
              int8_t* codes) {
  kFitCodes.Best()(fit, x, weights, count, codes);
}

}  // namespace zipllm::quantizers
