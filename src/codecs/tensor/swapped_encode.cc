// Codec 12, swapped: floats whose highest byte comes first, by the codec that
// is best for them the other way round.
#include <optional>

#include "base/bytes.h"
#include "codecs/tensor/swapped.h"

namespace zipllm::codecs {
namespace {

std::optional<DType> LittleEndian(DType dtype) {
  switch (dtype) {
    case DType::kBF16Be:
      return DType::kBF16;
    case DType::kF16Be:
      return DType::kF16;
    case DType::kF32Be:
      return DType::kF32;
    case DType::kF64Be:
      return DType::kF64;
    default:
      return std::nullopt;
  }
}

class Plan final : public EncodePlan {
 public:
  /// `inner` is for the frame `data` swapped, which is `swapped`.
  Plan(uint8_t width, ByteSpan data, Buffer swapped, CodecId id,
       std::unique_ptr<EncodePlan> inner)
      : width_(width),
        data_(data),
        swapped_(std::move(swapped)),
        inner_(std::move(inner)) {
    ByteWriter writer(&params_);
    writer.Le(width);
    writer.Le(id);
    writer.Bytes(inner_->params());
  }
  ByteSpan params() const override { return params_.span(); }
  uint64_t estimate() const override { return inner_->estimate(); }
  bool Encode(ByteSpan block, Scratch& scratch, Buffer* out) const override {
    if (block.size() % width_ != 0) return false;
    // Plans know their blocks by where they stand in the frame.
    const auto offset = static_cast<size_t>(block.data() - data_.data());
    return inner_->Encode(swapped_.span().subspan(offset, block.size()),
                          scratch, out);
  }

 private:
  uint8_t width_;
  ByteSpan data_;
  Buffer swapped_;
  std::unique_ptr<EncodePlan> inner_;
  Buffer params_;
};

std::unique_ptr<EncodePlan> MakePlan(const EncodeRequest& request,
                                     Scratch& scratch) {
  const std::optional<DType> dtype = LittleEndian(request.dtype);
  if (!dtype) return nullptr;
  const auto width = static_cast<uint8_t>(FindDType(*dtype)->block_bytes);
  Buffer swapped;
  swapped.Append(request.data);
  SwapElements(width, swapped.mutable_span());
  EncodeRequest inner = request;
  inner.data = swapped.span();
  inner.dtype = *dtype;
  inner.references = {};  // theirs are not swapped
  inner.model = nullptr;
  std::unique_ptr<EncodePlan> best;
  CodecId best_id = 0;
  for (const Encoder* encoder : AllEncoders()) {
    if (encoder->id == kSwapped ||
        FindDecoderOfOneBlock(encoder->id) == nullptr)
      continue;
    std::unique_ptr<EncodePlan> plan = encoder->plan(inner, scratch);
    if (plan == nullptr || plan->params().size() + 2 > kMaxParamsBytes) {
      continue;
    }
    const auto size = [](const EncodePlan& p) {
      return p.estimate() + p.params().size();
    };
    if (best == nullptr || size(*plan) < size(*best)) {
      best = std::move(plan);
      best_id = encoder->id;
    }
  }
  if (best == nullptr) return nullptr;
  return std::make_unique<Plan>(width, request.data, std::move(swapped),
                                best_id, std::move(best));
}

}  // namespace

extern const Encoder kSwappedEncoder = {
    .id = kSwapped, .name = "swapped", .plan = MakePlan};

}  // namespace zipllm::codecs
