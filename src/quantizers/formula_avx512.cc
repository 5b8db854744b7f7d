#include "quantizers/formula_loops.h"

namespace zipllm::quantizers {

#if defined(__x86_64__)
const FormulaKernels kFormulaAvx512 = {.fit = FormulaFit,
                                       .codes = FormulaCodes};
#endif

}  // namespace zipllm::quantizers
