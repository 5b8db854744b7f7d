#ifndef ZIPLLM_CONTAINER_XXH3_H_
#define ZIPLLM_CONTAINER_XXH3_H_

#include "kernels/kernels.h"
#include "zipllm/types.h"

namespace zipllm {

/// XXH3-64 with seed 0: guards against accident, not against intent.
inline uint64_t Xxh3(ByteSpan data) {
  return kernels::Best().xxh3(data.data(), data.size());
}

}  // namespace zipllm

#endif  // ZIPLLM_CONTAINER_XXH3_H_
