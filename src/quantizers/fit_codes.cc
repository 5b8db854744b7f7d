#include "quantizers/fit_codes.h"

#include "kernels/kernels.h"

namespace zipllm::quantizers {

void FitCodes(CodeFit fit, const float* x, const float* weights, size_t count,
              int8_t* codes) {
  switch (kernels::Best().target) {
#if defined(__x86_64__)
    case kernels::Target::kAvx2:
      return FitCodesAvx2(fit, x, weights, count, codes);
    case kernels::Target::kAvx512:
      return FitCodesAvx512(fit, x, weights, count, codes);
#endif
    default:
      return FitCodesScalar(fit, x, weights, count, codes);
  }
}

}  // namespace zipllm::quantizers
