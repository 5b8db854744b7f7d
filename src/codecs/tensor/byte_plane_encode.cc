#include "codecs/tensor/byte_plane_encode.h"

#include <algorithm>
#include <cstring>

#include "base/bytes.h"
#include "codecs/bytes/zstd_encode.h"
#include "codecs/sample.h"
#include "codecs/tensor/byte_plane.h"

namespace zipllm::codecs {
namespace {

// Up to this level zstd does not try planes that look random.
constexpr int kMaxHastyLevel = 6;

}  // namespace

void AppendBytePlane(ByteSpan plane, int level, Buffer* frame, Buffer* out) {
  ByteWriter writer(out);
  if (std::memcmp(plane.data(), plane.data() + 1, plane.size() - 1) == 0) {
    writer.Le(BytePlaneKind::kFill);
    writer.Le<uint8_t>(plane[0]);
    return;
  }
  const ByteSpan head = plane.first(std::min<size_t>(plane.size(), 32768));
  const bool random = level <= kMaxHastyLevel && LooksRandom(head);
  frame->Clear();
  if (!random && AppendZstdFrame(plane, ZstdLevel(level), frame) &&
      VarintSize(frame->size()) + frame->size() < plane.size()) {
    writer.Le(BytePlaneKind::kZstd);
    writer.Varint(frame->size());
    writer.Bytes(frame->span());
    return;
  }
  writer.Le(BytePlaneKind::kRaw);
  writer.Bytes(plane);
}

}  // namespace zipllm::codecs
