#include "quantizers/iq4.h"

#include "quantizers/quantizer.h"

namespace zipllm::quantizers {

#define ZIPLLM_IQ4(id, symbol, Name)                             \
  extern const Quantizer k##symbol##Quantizer = {                \
      id,    "ggml " #Name, DType::kGgml##symbol,         false, \
      false, false,         ZIPLLM_QUANTIZE_TARGETS(Name)};      \
  extern const Quantizer k##symbol##ImportantQuantizer = {       \
      id + 1,                                                    \
      "ggml " #Name " imatrix",                                  \
      DType::kGgml##symbol,                                      \
      true,                                                      \
      false,                                                     \
      false,                                                     \
      ZIPLLM_QUANTIZE_TARGETS(Name##Important)};
ZIPLLM_IQ4(32, IQ4NL, IQ4_NL)
ZIPLLM_IQ4(34, IQ4XS, IQ4_XS)
#undef ZIPLLM_IQ4

}  // namespace zipllm::quantizers
