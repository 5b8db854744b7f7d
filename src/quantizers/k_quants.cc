#include "quantizers/k_quants.h"

#include "quantizers/quantizer.h"

namespace zipllm::quantizers {

#if defined(__x86_64__)
#define ZIPLLM_TARGETS(function) \
  function##Scalar, function##Avx2, function##Avx512
#else
#define ZIPLLM_TARGETS(function) function##Scalar, nullptr, nullptr
#endif

#define ZIPLLM_K_QUANTIZER(id, type, name)                               \
  extern const Quantizer k##type##Quantizer;                             \
  const Quantizer k##type##Quantizer = {id,                              \
                                        "ggml " name,                    \
                                        DType::kGgml##type,              \
                                        false,                           \
                                        false,                           \
                                        false,                           \
                                        ZIPLLM_TARGETS(Quantize##type)}; \
  extern const Quantizer k##type##ImportantQuantizer;                    \
  const Quantizer k##type##ImportantQuantizer = {                        \
      id + 1,                                                            \
      "ggml " name " imatrix",                                           \
      DType::kGgml##type,                                                \
      true,                                                              \
      false,                                                             \
      false,                                                             \
      ZIPLLM_TARGETS(Quantize##type##Important)};

ZIPLLM_K_QUANTIZER(16, Q2K, "Q2_K")
ZIPLLM_K_QUANTIZER(18, Q3K, "Q3_K")
ZIPLLM_K_QUANTIZER(20, Q4K, "Q4_K")
ZIPLLM_K_QUANTIZER(22, Q5K, "Q5_K")
ZIPLLM_K_QUANTIZER(24, Q6K, "Q6_K")

}  // namespace zipllm::quantizers
