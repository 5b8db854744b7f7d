#include "quantizers/formula.h"

#include "kernels/by_target.h"

namespace zipllm::quantizers {

namespace {
constexpr kernels::ByTarget<FormulaKernels> kByTarget =
    ZIPLLM_BY_TARGET(kFormula);
}  // namespace

const FormulaKernels* FindFormula(kernels::Target target) {
  return kByTarget.Find(target);
}
const FormulaKernels& BestFormula() { return kByTarget.Best(); }

}  // namespace zipllm::quantizers
