// Searches for codes, for x86-64 with AVX2.
#include "quantizers/fit_codes_loops.h"

#if defined(__x86_64__)

namespace zipllm::quantizers {

void FitCodesAvx2(CodeFit fit, const float* x, const float* weights,
                  size_t count, int8_t* codes) {
  FitCodesOf(fit, x, weights, count, codes);
}

}  // namespace zipllm::quantizers

#endif
