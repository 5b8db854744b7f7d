// The quantizers of grid types for x86-64 with AVX-512.
#include "quantizers/grid_quants_loops.h"

#if defined(__x86_64__)

namespace zipllm::quantizers {

ZIPLLM_DEFINE_GRID_QUANTS(Avx512)

}  // namespace zipllm::quantizers

#endif
