// The types of ggml with few levels: those of E2M1 (MXFP4, NVFP4), three or
// four (TQ1_0, TQ2_0, Q2_0), two (Q1_0) (format-spec/quantizers.md, "E2M1",
// "Few levels").
#ifndef ZIPLLM_QUANTIZERS_TINY_H_
#define ZIPLLM_QUANTIZERS_TINY_H_

#include "quantizers/targets.h"

namespace zipllm::quantizers {

#define ZIPLLM_TINY_QUANTIZERS(F) \
  F(MXFP4)                        \
  F(NVFP4)                        \
  F(TQ1_0)                        \
  F(TQ2_0)                        \
  F(Q1_0)                         \
  F(Q2_0)

ZIPLLM_TINY_QUANTIZERS(ZIPLLM_DECLARE_QUANTIZE)

}  // namespace zipllm::quantizers

#endif  // ZIPLLM_QUANTIZERS_TINY_H_
