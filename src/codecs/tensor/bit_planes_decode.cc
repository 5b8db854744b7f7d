#include "codecs/tensor/bit_planes_decode.h"

#include <cstring>

#include "codecs/bytes/zstd_decode.h"

namespace zipllm::codecs {

namespace {

using kernels::kGroup;
using kernels::PlaneRef;

/// Reads a plane of `count` groups. `decoded` has room for groups that do not
/// lie in the block one after the other.
absl::StatusOr<PlaneRef> ReadPlane(const Plane& plane, size_t count,
                                   ByteReader& reader, MutableByteSpan decoded,
                                   Scratch& scratch) {
  static constexpr uint8_t kZeros[kGroup] = {};
  const size_t size = plane.group_bytes();
  ASSIGN_OR_RETURN(const uint8_t mode, reader.Le<uint8_t>());
  switch (mode) {
    case kZeroPlane:
      return PlaneRef{kZeros, 0};
    case kRawPlane: {
      ASSIGN_OR_RETURN(const ByteSpan bytes, reader.Bytes(count * size));
      return PlaneRef{bytes.data(), size};
    }
    case kPlaneRuns: {
      ASSIGN_OR_RETURN(const ByteSpan bitmap, reader.Bytes((count + 7) / 8));
      if (count % 8 != 0 && bitmap.back() >> (count % 8) != 0) {
        return reader.Error("bits after the last group's are not 0");
      }
      for (size_t g = 0; g < count; ++g) {
        uint8_t* const to = decoded.data() + g * size;
        if ((bitmap[g / 8] >> (g % 8)) & 1) {
          ASSIGN_OR_RETURN(const ByteSpan bytes, reader.Bytes(size));
          std::memcpy(to, bytes.data(), size);
        } else {
          std::memset(to, 0, size);
        }
      }
      return PlaneRef{decoded.data(), size};
    }
    case kZstdPlane: {
      ASSIGN_OR_RETURN(const uint64_t length,
                       reader.Varint(reader.remaining()));
      ASSIGN_OR_RETURN(const ByteSpan frame, reader.Bytes(length));
      RETURN_IF_ERROR(Annotate(DecodeZstdFrame(frame, decoded, scratch),
                               "plane ", int{plane.width}, "@",
                               int{plane.shift}, ": "));
      return PlaneRef{decoded.data(), size};
    }
    default:
      return reader.Error("unknown mode of plane ", int{mode});
  }
}

}  // namespace

absl::StatusOr<PlaneReader> PlaneReader::Start(std::span<const Plane> planes,
                                               size_t groups,
                                               ByteReader& reader,
                                               Buffer* decoded,
                                               Scratch& scratch) {
  PlaneReader result;
  result.shapes_ = planes;
  size_t size = 0;
  for (const Plane& plane : planes) size += groups * plane.group_bytes();
  decoded->Resize(size);
  size_t offset = 0;
  for (size_t p = 0; p < planes.size(); ++p) {
    size = groups * planes[p].group_bytes();
    ASSIGN_OR_RETURN(
        result.planes_[p],
        ReadPlane(planes[p], groups, reader,
                  decoded->mutable_span().subspan(offset, size), scratch));
    offset += size;
  }
  return result;
}

void PlaneReader::Insert(size_t first, size_t count, uint16_t* units,
                         uint16_t* low) const {
  const kernels::Table& kernel = kernels::Best();
  for (size_t p = 0; p < shapes_.size(); ++p) {
    const Plane& plane = shapes_[p];
    uint16_t* const values = plane.low ? low : units;
    if (values == nullptr || planes_[p].stride == 0) continue;
    kernel.insert_plane(values, count, plane.width, plane.shift,
                        Ref(p, first).first);
  }
}

}  // namespace zipllm::codecs
