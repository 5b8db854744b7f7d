// The types of ggml whose blocks are 32 weights with a scale, and perhaps a
// minimum, of their own (format-spec/quantizers.md, "Simple types").
#ifndef ZIPLLM_QUANTIZERS_SIMPLE_H_
#define ZIPLLM_QUANTIZERS_SIMPLE_H_

#include "quantizers/targets.h"

namespace zipllm::quantizers {

#define ZIPLLM_SIMPLE_QUANTIZERS(F) \
  F(Q8_0)                           \
  F(Q4_0)                           \
  F(Q4_1)                           \
  F(Q5_0)                           \
  F(Q5_1)                           \
  F(Q4_0Important)                  \
  F(Q4_1Important)                  \
  F(Q5_0Important)                  \
  F(Q5_1Important)

ZIPLLM_SIMPLE_QUANTIZERS(ZIPLLM_DECLARE_QUANTIZE)

}  // namespace zipllm::quantizers

#endif  // ZIPLLM_QUANTIZERS_SIMPLE_H_
