// Bits of 16-bit units that are not coded by rANS lie in planes: what encoders
// and decoders of several codecs share. Format: format-spec/codecs/5-float.md,
// "Planes".
#ifndef ZIPLLM_CODECS_TENSOR_BIT_PLANES_H_
#define ZIPLLM_CODECS_TENSOR_BIT_PLANES_H_

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"

namespace zipllm::codecs {

/// Bits [shift, shift + width) of the 16-bit units (of the low halves if
/// `low`).
struct Plane {
  uint8_t width;
  uint8_t shift;
  bool low;

  constexpr size_t group_bytes() const { return 16 * size_t{width}; }
};

inline constexpr size_t kMaxPlanes = 9;

/// How a plane of a block is coded.
enum PlaneMode : uint8_t {
  kZeroPlane = 0,
  kRawPlane = 1,
  kPlaneRuns = 2,
  kZstdPlane = 3
};

/// Groups of `elements`.
constexpr size_t PlaneGroups(size_t elements) {
  return (elements + kernels::kGroup - 1) / kernels::kGroup;
}

}  // namespace zipllm::codecs

#endif  // ZIPLLM_CODECS_TENSOR_BIT_PLANES_H_
