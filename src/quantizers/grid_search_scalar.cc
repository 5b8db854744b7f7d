// Guesses at grid types for any machine.
#include "quantizers/grid_search_loops.h"

namespace zipllm::quantizers {

constexpr GridKernels kGridKernelsScalar = {SearchScales, SearchSigns,
                                            SearchPoints, SearchRank};

}  // namespace zipllm::quantizers
