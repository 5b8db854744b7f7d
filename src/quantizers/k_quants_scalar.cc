// K-quants for any CPU.
#include "quantizers/k_quants_loops.h"

namespace zipllm::quantizers {

ZIPLLM_K_QUANT_TYPES(ZIPLLM_DEFINE_K_QUANT, Scalar)

}  // namespace zipllm::quantizers
