#include "quantizers/grid_quants.h"

#include "quantizers/quantizer.h"

namespace zipllm::quantizers {

#if defined(__x86_64__)
#define ZIPLLM_TARGETS(function) \
  function##Scalar, function##Avx2, function##Avx512
#else
#define ZIPLLM_TARGETS(function) function##Scalar, nullptr, nullptr
#endif

#define ZIPLLM_GRID_QUANTIZER(id, name, type, title, important) \
  extern const Quantizer k##name##Quantizer;                    \
  const Quantizer k##name##Quantizer = {id,                     \
                                        title,                  \
                                        DType::kGgml##type,     \
                                        important,              \
                                        false,                  \
                                        false,                  \
                                        ZIPLLM_TARGETS(Quantize##name)};

ZIPLLM_GRID_QUANTIZER(48, IQ3XXS, IQ3XXS, "ggml IQ3_XXS", false)
ZIPLLM_GRID_QUANTIZER(49, IQ3XXSImportant, IQ3XXS, "ggml IQ3_XXS imatrix", true)
ZIPLLM_GRID_QUANTIZER(50, IQ3S, IQ3S, "ggml IQ3_S", false)
ZIPLLM_GRID_QUANTIZER(51, IQ3SImportant, IQ3S, "ggml IQ3_S imatrix", true)
ZIPLLM_GRID_QUANTIZER(52, IQ2S, IQ2S, "ggml IQ2_S", false)
ZIPLLM_GRID_QUANTIZER(53, IQ2SImportant, IQ2S, "ggml IQ2_S imatrix", true)
ZIPLLM_GRID_QUANTIZER(55, IQ2XXSImportant, IQ2XXS, "ggml IQ2_XXS imatrix", true)
ZIPLLM_GRID_QUANTIZER(57, IQ2XSImportant, IQ2XS, "ggml IQ2_XS imatrix", true)
ZIPLLM_GRID_QUANTIZER(59, IQ1SImportant, IQ1S, "ggml IQ1_S imatrix", true)

}  // namespace zipllm::quantizers
