// Searches for codes, for any CPU.
#include "quantizers/fit_codes_loops.h"

namespace zipllm::quantizers {

void FitCodesScalar(CodeFit fit, const float* x, const float* weights,
                    size_t count, int8_t* codes) {
  FitCodesOf(fit, x, weights, count, codes);
}

}  // namespace zipllm::quantizers
