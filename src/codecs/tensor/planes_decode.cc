// Codec 6, planes: the n-th bytes of all elements together, each plane coded by
// itself. Format: format-spec/codecs/6-planes.md.
#include <algorithm>
#include <array>
#include <cstring>

#include "base/bytes.h"
#include "codecs/codec.h"
#include "codecs/tensor/byte_plane_decode.h"

namespace zipllm::codecs {
namespace {

constexpr uint8_t kMaxTransform = 1;

class Params final : public DecodeParams {
 public:
  explicit Params(size_t width) : width_(width) {}
  size_t width() const { return width_; }

 private:
  size_t width_;  // bytes an element
};

absl::StatusOr<std::unique_ptr<const DecodeParams>> Parse(ByteSpan params) {
  if (params.size() != 1 ||
      (params[0] != 2 && params[0] != 4 && params[0] != 8)) {
    return DataLoss("planes parameters are not one element size (2, 4 or 8)");
  }
  return std::make_unique<Params>(params[0]);
}

// Elements are merged a tile at a time, which stays in cache.
constexpr size_t kTile = 512;

template <size_t kBytes>
struct UintOf;
template <>
struct UintOf<1> {
  using Type = uint8_t;
};
template <>
struct UintOf<2> {
  using Type = uint16_t;
};
template <>
struct UintOf<4> {
  using Type = uint32_t;
};

/// tile[i] = the (start + i)-th bytes of sizeof(Element) planes. Doubles the
/// width step by step: compilers turn each step into vector unpacking.
template <typename Element>
void MergeTile(const uint8_t* const* planes, size_t start, size_t n,
               Element* tile) {
  if constexpr (sizeof(Element) == 1) {
    std::memcpy(tile, *planes + start, n);
  } else {
    constexpr size_t kHalf = sizeof(Element) / 2;
    using Half = typename UintOf<kHalf>::Type;
    Half low[kTile];
    Half high[kTile];
    MergeTile(planes, start, n, low);
    MergeTile(planes + kHalf, start, n, high);
    for (size_t i = 0; i < n; ++i) {
      tile[i] = static_cast<Element>(low[i] | Element{high[i]} << (8 * kHalf));
    }
  }
}

/// out[i] = the i-th bytes of all planes, plus out[i - 1] if `differences`.
template <typename Element>
void Merge(const std::array<const uint8_t*, 8>& planes, size_t count,
           bool differences, uint8_t* out) {
  Element tile[kTile];
  Element last = 0;
  for (size_t start = 0; start < count; start += kTile) {
    const size_t n = std::min(kTile, count - start);
    MergeTile(planes.data(), start, n, tile);
    if (differences) {
      for (size_t i = 0; i < n; ++i) {
        last = static_cast<Element>(last + tile[i]);
        tile[i] = last;
      }
    }
    std::memcpy(out + start * sizeof(Element), tile, n * sizeof(Element));
  }
}

absl::Status Decode(const DecodeParams* params, ByteSpan coded,
                    MutableByteSpan out, Scratch& scratch) {
  if (params == nullptr) return DataLoss("planes block has no parameters");
  const size_t width = static_cast<const Params*>(params)->width();
  const size_t count = out.size() / width;
  if (count == 0) return DataLoss("planes block is shorter than one element");

  ByteReader reader(coded, "planes block");
  ASSIGN_OR_RETURN(const uint8_t transform, reader.Le<uint8_t>());
  if (transform > kMaxTransform) {
    return reader.Error("unknown transform ", int{transform});
  }
  Buffer& decoded = scratch.buffers[0];
  decoded.Resize(width * count);
  std::array<const uint8_t*, 8> planes{};
  for (size_t p = 0; p < width; ++p) {
    const MutableByteSpan plane =
        decoded.mutable_span().subspan(p * count, count);
    const auto read = ReadBytePlane(reader, plane, scratch);
    if (!read.ok())
      return Annotate(read.status(), "planes block, plane ", p, ": ");
    planes[p] = *read;
  }
  const MutableByteSpan tail = out.subspan(width * count);
  ASSIGN_OR_RETURN(const ByteSpan tail_bytes, reader.Bytes(tail.size()));
  RETURN_IF_ERROR(reader.ExpectEnd());

  const bool differences = transform == 1;
  switch (width) {
    case 2:
      Merge<uint16_t>(planes, count, differences, out.data());
      break;
    case 4:
      Merge<uint32_t>(planes, count, differences, out.data());
      break;
    default:
      Merge<uint64_t>(planes, count, differences, out.data());
      break;
  }
  std::copy(tail_bytes.begin(), tail_bytes.end(), tail.begin());
  return absl::OkStatus();
}

}  // namespace

extern const Decoder kPlanesDecoder = {
    .id = 6, .name = "planes", .parse = Parse, .decode = Decode};

}  // namespace zipllm::codecs
