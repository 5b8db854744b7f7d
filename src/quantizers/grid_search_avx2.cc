// Guesses at grid types for x86-64 with AVX2.
#include "quantizers/grid_search_loops.h"

#if defined(__x86_64__)

namespace zipllm::quantizers {

constexpr GridKernels kGridKernelsAvx2 = {SearchScales, SearchSigns,
                                          SearchPoints, SearchRank};

}  // namespace zipllm::quantizers

#endif
