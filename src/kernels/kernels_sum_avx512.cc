#include "kernels/kernels_sum.h"

namespace zipllm::kernels {

ZIPLLM_DEFINE_SUM_KERNELS(Avx512)

}  // namespace zipllm::kernels
