// Codecs' lists of the kinds of elements that they know.
#ifndef ZIPLLM_CODECS_TENSOR_KINDS_H_
#define ZIPLLM_CODECS_TENSOR_KINDS_H_

#include <array>
#include <cstddef>

#include "zipllm/types.h"

namespace zipllm::codecs {

/// The kind whose elements are of that type; null if there is none.
template <typename Kind, size_t kCount>
const Kind* FindKind(const std::array<Kind, kCount>& kinds, DType dtype) {
  for (const Kind& kind : kinds) {
    if (kind.dtype == dtype) return &kind;
  }
  return nullptr;
}

}  // namespace zipllm::codecs

#endif  // ZIPLLM_CODECS_TENSOR_KINDS_H_
