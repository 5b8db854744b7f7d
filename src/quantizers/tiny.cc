#include "quantizers/tiny.h"

#include "quantizers/quantizer.h"

namespace zipllm::quantizers {

#define ZIPLLM_TINY(id, symbol, Name)                            \
  extern const Quantizer k##symbol##Quantizer = {                \
      id,    "ggml " #Name, DType::kGgml##symbol,         false, \
      false, true,          ZIPLLM_QUANTIZE_TARGETS(Name)};
ZIPLLM_TINY(80, MXFP4, MXFP4)
ZIPLLM_TINY(81, NVFP4, NVFP4)
ZIPLLM_TINY(82, TQ10, TQ1_0)
ZIPLLM_TINY(83, TQ20, TQ2_0)
ZIPLLM_TINY(84, Q10, Q1_0)
ZIPLLM_TINY(85, Q20, Q2_0)
#undef ZIPLLM_TINY

}  // namespace zipllm::quantizers
