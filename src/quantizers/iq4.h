// The types of ggml whose 4-bit codes look up levels that are not evenly
// spaced (format-spec/quantizers.md, "IQ4_NL and IQ4_XS").
#ifndef ZIPLLM_QUANTIZERS_IQ4_H_
#define ZIPLLM_QUANTIZERS_IQ4_H_

#include "quantizers/targets.h"

namespace zipllm::quantizers {

#define ZIPLLM_IQ4_QUANTIZERS(F) \
  F(IQ4_NL)                      \
  F(IQ4_NLImportant)             \
  F(IQ4_XS)                      \
  F(IQ4_XSImportant)

ZIPLLM_IQ4_QUANTIZERS(ZIPLLM_DECLARE_QUANTIZE)

}  // namespace zipllm::quantizers

#endif  // ZIPLLM_QUANTIZERS_IQ4_H_
