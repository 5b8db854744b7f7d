#include "kernels/kernels.h"

namespace zipllm::kernels {
const Table* Avx2Table() { return nullptr; }
}  // namespace zipllm::kernels
