#include "kernels/kernels_scaled.h"

namespace zipllm::kernels {

ZIPLLM_DEFINE_SCALED_KERNELS(Scalar)

}  // namespace zipllm::kernels
