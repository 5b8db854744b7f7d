// One byte of each of some elements, coded by itself.
// Format: format-spec/codecs/6-planes.md.
#ifndef ZIPLLM_CODECS_TENSOR_BYTE_PLANE_DECODE_H_
#define ZIPLLM_CODECS_TENSOR_BYTE_PLANE_DECODE_H_

#include "base/bytes.h"
#include "codecs/codec.h"

namespace zipllm::codecs {

/// Takes a plane of `room.size()` bytes from `reader`: the plane, decoded to
/// `room` unless it lies in the reader's data as it is. DATA_LOSS where there
/// is none.
absl::StatusOr<const uint8_t*> ReadBytePlane(ByteReader& reader,
                                             MutableByteSpan room,
                                             Scratch& scratch);

}  // namespace zipllm::codecs

#endif  // ZIPLLM_CODECS_TENSOR_BYTE_PLANE_DECODE_H_
