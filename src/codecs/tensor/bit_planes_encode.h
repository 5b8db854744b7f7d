#ifndef ZIPLLM_CODECS_TENSOR_BIT_PLANES_ENCODE_H_
#define ZIPLLM_CODECS_TENSOR_BIT_PLANES_ENCODE_H_

#include <array>
#include <span>

#include "base/buffer.h"
#include "codecs/tensor/bit_planes.h"

namespace zipllm::codecs {

/// Collects the planes of a block, piece by piece, and codes them.
/// Thread-compatible.
class PlaneWriter {
 public:
  /// For the `planes` (at most kMaxPlanes) of `groups` groups. `storage` holds
  /// them, `bitmaps` which of their groups are not zero.
  PlaneWriter(std::span<const Plane> planes, size_t groups, Buffer* storage,
              Buffer* bitmaps);
  /// Takes the bits of the groups `first` (a multiple of 8) to `first + count`,
  /// `count` being at most 8.
  void Take(const uint16_t* units, const uint16_t* low, size_t first,
            size_t count);
  /// Appends the planes, all of whose groups were taken. `frame` is any buffer.
  void Append(int level, Buffer* frame, Buffer* out) const;

 private:
  std::span<const Plane> planes_;
  std::array<uint8_t*, kMaxPlanes + 1> begin_;
  uint8_t* bitmaps_;
  size_t bitmap_bytes_;
};

}  // namespace zipllm::codecs

#endif  // ZIPLLM_CODECS_TENSOR_BIT_PLANES_ENCODE_H_
