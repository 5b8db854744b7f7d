// Codec 14, copy: the bytes of a reference as they are.
#include <algorithm>
#include <cstring>

#include "codecs/codec.h"

namespace zipllm::codecs {
namespace {

class Plan final : public EncodePlan {
 public:
  explicit Plan(const EncodeRequest& request) : request_(request) {
    const ByteSpan data = request.data;
    for (size_t at = 0; at < data.size(); at += request.block_size) {
      const ByteSpan block = data.subspan(
          at, std::min<size_t>(request.block_size, data.size() - at));
      estimate_ += Find(block).has_value() ? 1 : block.size();
    }
  }
  uint64_t estimate() const override { return estimate_; }
  bool Encode(ByteSpan block, Scratch& /*scratch*/,
              Buffer* out) const override {
    const std::optional<uint8_t> which = Find(block);
    if (which.has_value()) out->Append({&*which, 1});
    return which.has_value();
  }

 private:
  std::optional<uint8_t> Find(ByteSpan block) const {
    const auto at = static_cast<size_t>(block.data() - request_.data.data());
    for (size_t i = 0; i < request_.references.size(); ++i) {
      const ByteSpan data = request_.references[i].data;
      if (request_.references[i].role != Role::kFactor &&
          data.size() == request_.data.size() &&
          std::memcmp(&data[at], block.data(), block.size()) == 0) {
        return static_cast<uint8_t>(i);
      }
    }
    return std::nullopt;
  }

  const EncodeRequest request_;
  uint64_t estimate_ = 0;
};

std::unique_ptr<EncodePlan> MakePlan(const EncodeRequest& request,
                                     Scratch& /*scratch*/) {
  if (request.references.empty()) return nullptr;
  auto plan = std::make_unique<Plan>(request);
  if (plan->estimate() >= request.data.size()) return nullptr;
  return plan;
}

}  // namespace

extern const Encoder kCopyEncoder = {
    .id = 14, .name = "copy", .plan = MakePlan};

}  // namespace zipllm::codecs
