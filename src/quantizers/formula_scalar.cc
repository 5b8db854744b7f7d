#include "quantizers/formula_loops.h"

namespace zipllm::quantizers {

const FormulaKernels kFormulaScalar = {.fit = FormulaFit,
                                       .codes = FormulaCodes};

}  // namespace zipllm::quantizers
