#include "quantizers/simple.h"

#include "quantizers/quantizer.h"

namespace zipllm::quantizers {

// Number, type, its name.
#define ZIPLLM_PLAIN(id, symbol, Name)                           \
  extern const Quantizer k##symbol##Quantizer = {                \
      id,    "ggml " #Name, DType::kGgml##symbol,         false, \
      false, true,          ZIPLLM_QUANTIZE_TARGETS(Name)};
ZIPLLM_PLAIN(1, Q80, Q8_0)
ZIPLLM_PLAIN(2, Q40, Q4_0)
ZIPLLM_PLAIN(3, Q41, Q4_1)
ZIPLLM_PLAIN(4, Q50, Q5_0)
ZIPLLM_PLAIN(5, Q51, Q5_1)
#undef ZIPLLM_PLAIN

#define ZIPLLM_IMPORTANT(id, symbol, Name)                 \
  extern const Quantizer k##symbol##ImportantQuantizer = { \
      id,                                                  \
      "ggml " #Name " imatrix",                            \
      DType::kGgml##symbol,                                \
      true,                                                \
      true,                                                \
      false,                                               \
      ZIPLLM_QUANTIZE_TARGETS(Name##Important)};
ZIPLLM_IMPORTANT(6, Q40, Q4_0)
ZIPLLM_IMPORTANT(7, Q41, Q4_1)
ZIPLLM_IMPORTANT(8, Q50, Q5_0)
ZIPLLM_IMPORTANT(9, Q51, Q5_1)
#undef ZIPLLM_IMPORTANT

}  // namespace zipllm::quantizers
