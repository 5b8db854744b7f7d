// One byte of each of some elements, coded by itself.
// Format: format-spec/codecs/6-planes.md.
#ifndef ZIPLLM_CODECS_TENSOR_BYTE_PLANE_ENCODE_H_
#define ZIPLLM_CODECS_TENSOR_BYTE_PLANE_ENCODE_H_

#include "base/buffer.h"
#include "zipllm/types.h"

namespace zipllm::codecs {

/// Appends `plane` (at least 1 byte) as a byte repeated, a Zstandard frame or
/// as it is, whichever is the smallest. `level` is ours (1 to 9); up to 6,
/// planes that begin like noise are stored untried. `frame` is any buffer but
/// `out`.
void AppendBytePlane(ByteSpan plane, int level, Buffer* frame, Buffer* out);

}  // namespace zipllm::codecs

#endif  // ZIPLLM_CODECS_TENSOR_BYTE_PLANE_ENCODE_H_
