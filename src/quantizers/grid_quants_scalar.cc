// The quantizers of grid types for any machine.
#include "quantizers/grid_quants_loops.h"

namespace zipllm::quantizers {

ZIPLLM_DEFINE_GRID_QUANTS(Scalar)

}  // namespace zipllm::quantizers
