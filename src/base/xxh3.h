#ifndef ZIPLLM_BASE_XXH3_H_
#define ZIPLLM_BASE_XXH3_H_

#include "zipllm/types.h"

namespace zipllm {

/// XXH3-64 with seed 0: guards against accident, not against intent.
uint64_t Xxh3(ByteSpan data);

}  // namespace zipllm

#endif  // ZIPLLM_BASE_XXH3_H_
