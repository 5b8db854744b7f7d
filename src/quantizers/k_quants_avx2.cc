// K-quants for x86-64 with AVX2.
#include "quantizers/k_quants_loops.h"

#if defined(__x86_64__)

namespace zipllm::quantizers {

ZIPLLM_K_QUANT_TYPES(ZIPLLM_DEFINE_K_QUANT, Avx2)

}  // namespace zipllm::quantizers

#endif
