#ifndef ZIPLLM_CODECS_TENSOR_BIT_PLANES_DECODE_H_
#define ZIPLLM_CODECS_TENSOR_BIT_PLANES_DECODE_H_

#include <array>
#include <span>

#include "base/bytes.h"
#include "codecs/codec.h"
#include "codecs/tensor/bit_planes.h"

namespace zipllm::codecs {

/// Reads the planes of a block and puts them into units piece by piece.
/// Thread-compatible.
class PlaneReader {
 public:
  /// Takes the coded `planes` (at most kMaxPlanes) of `groups` groups from
  /// `reader`. Keeps views of its data and of `decoded`, a buffer for planes
  /// that are compressed once more.
  static absl::StatusOr<PlaneReader> Start(std::span<const Plane> planes,
                                           size_t groups, ByteReader& reader,
                                           Buffer* decoded, Scratch& scratch);
  /// Adds the bits of the groups `first` to `first + count` to `units`, and to
  /// `low` those of the low halves. Planes of what is null are left out.
  void Insert(size_t first, size_t count, uint16_t* units, uint16_t* low) const;
  /// Where plane `p` lies, from group `first` on.
  kernels::PlaneRef Ref(size_t p, size_t first) const {
    return {planes_[p].first + first * planes_[p].stride, planes_[p].stride};
  }

 private:
  std::span<const Plane> shapes_;
  std::array<kernels::PlaneRef, kMaxPlanes> planes_;  // all zero: stride 0
};

}  // namespace zipllm::codecs

#endif  // ZIPLLM_CODECS_TENSOR_BIT_PLANES_DECODE_H_
