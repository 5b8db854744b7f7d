#include "codecs/tensor/bit_planes_encode.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/bytes.h"
#include "codecs/bytes/zstd_encode.h"
#include "codecs/sample.h"

namespace zipllm::codecs {
namespace {

using kernels::kGroup;

bool IsZero(const uint8_t* data, size_t size) {
  for (size_t i = 0; i < size; i += 8) {
    if (LoadLe<uint64_t>(data + i) != 0) return false;
  }
  return true;
}

/// Whether an order-0 coder would save 3 % of `plane`, by a few samples.
bool LooksCompressible(ByteSpan plane) {
  constexpr size_t kPieces = 4;
  constexpr size_t kPiece = 1024;
  uint8_t sample[kPieces * kPiece];
  if (plane.size() < sizeof sample) return false;
  for (size_t i = 0; i < kPieces; ++i) {
    const size_t offset = (plane.size() - kPiece) / (kPieces - 1) * i;
    std::memcpy(sample + i * kPiece, plane.data() + offset, kPiece);
  }
  // Entropy is at least the one of order 2, -log2(sum of p^2), which takes no
  // logarithm: 7.76 bits are left of 8 where that sum is 1.18 / 256.
  std::array<uint32_t, 256> counts{};
  for (uint8_t byte : sample) ++counts[byte];
  uint64_t squares = 0;
  for (uint64_t count : counts) squares += count * count;
  if (squares * 256 * 100 < sizeof sample * sizeof sample * 118) return false;
  return EntropyQ16(sample) < (8 << 16) * 97 / 100;
}

void AppendPlane(const Plane& plane, ByteSpan groups, ByteSpan bitmap,
                 int level, Buffer* frame, Buffer* out) {
  const size_t size = plane.group_bytes();
  size_t present = 0;
  for (uint8_t byte : bitmap) present += std::popcount(byte);
  ByteWriter writer(out);
  if (present == 0) {
    writer.Le<uint8_t>(kZeroPlane);
    return;
  }
  const size_t runs = bitmap.size() + present * size;
  frame->Clear();
  if (LooksCompressible(groups) &&
      AppendZstdFrame(groups, ZstdLevel(level), frame) &&
      frame->size() + VarintSize(frame->size()) <
          std::min(runs, groups.size() / 100 * 97)) {
    writer.Le<uint8_t>(kZstdPlane);
    writer.Varint(frame->size());
    writer.Bytes(frame->span());
    return;
  }
  if (runs >= groups.size()) {
    writer.Le<uint8_t>(kRawPlane);
    writer.Bytes(groups);
    return;
  }
  writer.Le<uint8_t>(kPlaneRuns);
  writer.Bytes(bitmap);
  for (size_t g = 0; g * size < groups.size(); ++g) {
    if ((bitmap[g / 8] >> (g % 8)) & 1) {
      writer.Bytes(groups.subspan(g * size, size));
    }
  }
}

}  // namespace

PlaneWriter::PlaneWriter(std::span<const Plane> planes, size_t groups,
                         Buffer* storage, Buffer* bitmaps)
    : planes_(planes), bitmap_bytes_((groups + 7) / 8) {
  size_t size = 0;
  for (const Plane& plane : planes) size += groups * plane.group_bytes();
  storage->Resize(size);
  bitmaps->Resize(planes.size() * bitmap_bytes_);
  bitmaps_ = bitmaps->data();
  begin_[0] = storage->data();
  for (size_t p = 0; p < planes.size(); ++p) {
    begin_[p + 1] = begin_[p] + groups * planes[p].group_bytes();
  }
}

void PlaneWriter::Take(const uint16_t* units, const uint16_t* low, size_t first,
                       size_t count) {
  const kernels::Table& kernel = kernels::Best();
  for (size_t p = 0; p < planes_.size(); ++p) {
    const Plane& plane = planes_[p];
    uint8_t* const to = begin_[p] + first * plane.group_bytes();
    kernel.extract_plane(plane.low ? low : units, count, plane.width,
                         plane.shift, to);
    uint32_t present = 0;
    for (size_t g = 0; g < count; ++g) {
      present |=
          uint32_t{!IsZero(to + g * plane.group_bytes(), plane.group_bytes())}
          << g;
    }
    bitmaps_[p * bitmap_bytes_ + first / 8] = static_cast<uint8_t>(present);
  }
}

void PlaneWriter::Append(int level, Buffer* frame, Buffer* out) const {
  for (size_t p = 0; p < planes_.size(); ++p) {
    AppendPlane(planes_[p], {begin_[p], begin_[p + 1]},
                {bitmaps_ + p * bitmap_bytes_, bitmap_bytes_}, level, frame,
                out);
  }
}

}  // namespace zipllm::codecs
