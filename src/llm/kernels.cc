#include "llm/kernels.h"

#include "kernels/by_target.h"

namespace zipllm::llm {

namespace {
constexpr kernels::ByTarget<Kernels> kByTarget = ZIPLLM_BY_TARGET(kKernels);
}  // namespace

const Kernels* FindKernels(kernels::Target target) {
  return kByTarget.Find(target);
}
const Kernels& BestKernels() { return kByTarget.Best(); }

}  // namespace zipllm::llm
