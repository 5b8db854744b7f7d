#include "quantizers/formula.h"

namespace zipllm::quantizers {

const FormulaKernels* FindFormula(kernels::Target target) {
  switch (target) {
    case kernels::Target::kScalar:
      return &kFormulaScalar;
#if defined(__x86_64__)
    case kernels::Target::kAvx2:
      return kernels::Find(target) != nullptr ? &kFormulaAvx2 : nullptr;
    case kernels::Target::kAvx512:
      return kernels::Find(target) != nullptr ? &kFormulaAvx512 : nullptr;
#endif
    default:
      return nullptr;
  }
}

const FormulaKernels& BestFormula() {
  static const FormulaKernels* const best = FindFormula(kernels::Best().target);
  return best != nullptr ? *best : kFormulaScalar;
}

}  // namespace zipllm::quantizers
