// Codec 6, planes: the n-th bytes of all elements together, each plane coded by
// itself.
#include <algorithm>
#include <cstring>

#include "base/bytes.h"
#include "codecs/sample.h"
#include "codecs/tensor/byte_plane_encode.h"

namespace zipllm::codecs {
namespace {

enum Transform : uint8_t { kNone = 0, kDifferences = 1 };

/// Bytes an element; 0 where the codec is not for the type.
size_t ElementSize(DType dtype) {
  switch (dtype) {
    case DType::kI16:
    case DType::kU16:
    case DType::kF16:
    case DType::kBF16:
      return 2;
    case DType::kI32:
    case DType::kU32:
    case DType::kF32:
      return 4;
    case DType::kI64:
    case DType::kU64:
    case DType::kF64:
    case DType::kC64:
    case DType::kC128:
      return 8;
    default:
      return 0;
  }
}

bool IsInteger(DType dtype) {
  switch (dtype) {
    case DType::kI16:
    case DType::kU16:
    case DType::kI32:
    case DType::kU32:
    case DType::kI64:
    case DType::kU64:
      return true;
    default:
      return false;
  }
}

/// planes[p * count + i] = byte p of element i (of element i - element i - 1).
template <typename Element>
void Split(const uint8_t* data, size_t count, Transform transform,
           uint8_t* planes) {
  // A tile of elements at a time, so that they are in cache for all planes.
  constexpr size_t kTile = 512;
  Element tile[kTile];
  Element last = 0;
  for (size_t start = 0; start < count; start += kTile) {
    const size_t n = std::min(kTile, count - start);
    std::memcpy(tile, data + start * sizeof(Element), n * sizeof(Element));
    if (transform == kDifferences) {
      for (size_t i = 0; i < n; ++i) {
        const Element value = tile[i];
        tile[i] = static_cast<Element>(value - last);
        last = value;
      }
    }
    for (size_t p = 0; p < sizeof(Element); ++p) {
      uint8_t* plane = planes + p * count + start;
      for (size_t i = 0; i < n; ++i) {
        plane[i] = static_cast<uint8_t>(tile[i] >> (8 * p));
      }
    }
  }
}

/// Appends the coded form of `data`, at least one element.
void AppendElements(ByteSpan data, size_t width, Transform transform, int level,
                    Scratch& scratch, Buffer* out) {
  const size_t count = data.size() / width;
  Buffer& planes = scratch.buffers[2];
  planes.Resize(width * count);
  switch (width) {
    case 2:
      Split<uint16_t>(data.data(), count, transform, planes.data());
      break;
    case 4:
      Split<uint32_t>(data.data(), count, transform, planes.data());
      break;
    default:
      Split<uint64_t>(data.data(), count, transform, planes.data());
      break;
  }
  ByteWriter writer(out);
  writer.Le<uint8_t>(transform);
  for (size_t p = 0; p < width; ++p) {
    AppendBytePlane(planes.span().subspan(p * count, count), level,
                    &scratch.buffers[3], out);
  }
  writer.Bytes(data.subspan(width * count));
}

class Plan final : public EncodePlan {
 public:
  Plan(size_t width, Transform transform, int level, uint64_t estimate)
      : width_(static_cast<uint8_t>(width)),
        transform_(transform),
        level_(level),
        estimate_(estimate) {}
  ByteSpan params() const override { return {&width_, 1}; }
  uint64_t estimate() const override { return estimate_; }
  bool Encode(ByteSpan block, Scratch& scratch, Buffer* out) const override {
    if (block.size() < width_) return false;
    const size_t start = out->size();
    AppendElements(block, width_, transform_, level_, scratch, out);
    const bool smaller = out->size() - start < block.size();
    if (!smaller) out->Resize(start);
    return smaller;
  }

 private:
  uint8_t width_;
  Transform transform_;
  int level_;
  uint64_t estimate_;
};

std::unique_ptr<EncodePlan> MakePlan(const EncodeRequest& request,
                                     Scratch& scratch) {
  const size_t width = ElementSize(request.dtype);
  if (width == 0 || request.data.size() < width) return nullptr;
  const ByteSpan sample = TakeSample(request, &scratch.buffers[0]);
  Buffer& trial = scratch.buffers[1];
  const auto measure = [&](Transform transform) {
    trial.Clear();
    AppendElements(sample, width, transform, request.level, scratch, &trial);
    return trial.size();
  };
  Transform transform = kNone;
  uint64_t best = measure(kNone);
  if (IsInteger(request.dtype)) {
    if (const uint64_t coded = measure(kDifferences); coded < best) {
      transform = kDifferences;
      best = coded;
    }
  }
  if (best >= sample.size()) return nullptr;
  return std::make_unique<Plan>(
      width, transform, request.level,
      ScaleUp(best, sample.size(), request.data.size()));
}

}  // namespace

extern const Encoder kPlanesEncoder = {
    .id = 6, .name = "planes", .plan = MakePlan};

}  // namespace zipllm::codecs
