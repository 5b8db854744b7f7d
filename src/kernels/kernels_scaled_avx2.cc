#include "kernels/kernels_scaled.h"

namespace zipllm::kernels {

ZIPLLM_DEFINE_SCALED_KERNELS(Avx2)

}  // namespace zipllm::kernels
