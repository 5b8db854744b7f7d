// What encoder and decoder of byte planes share.
// Format: format-spec/codecs/6-planes.md.
#ifndef ZIPLLM_CODECS_TENSOR_BYTE_PLANE_H_
#define ZIPLLM_CODECS_TENSOR_BYTE_PLANE_H_

#include <cstdint>

namespace zipllm::codecs {

enum class BytePlaneKind : uint8_t { kRaw = 0, kFill = 1, kZstd = 2 };

}  // namespace zipllm::codecs

#endif  // ZIPLLM_CODECS_TENSOR_BYTE_PLANE_H_
