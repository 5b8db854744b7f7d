#include "kernels/kernels.h"

namespace zipllm::kernels {
const Table* NeonTable() { return nullptr; }
}  // namespace zipllm::kernels
