// Codec 0, stored: the bytes as they are. Codes everything.
#include "codecs/codec.h"

namespace zipllm::codecs {
namespace {

class Plan final : public EncodePlan {
 public:
  explicit Plan(uint64_t size) : size_(size) {}
  uint64_t estimate() const override { return size_; }
  bool Encode(ByteSpan block, Scratch& /*scratch*/,
              Buffer* out) const override {
    out->Append(block);
    return true;
  }

 private:
  uint64_t size_;
};

std::unique_ptr<EncodePlan> MakePlan(const EncodeRequest& request,
                                     Scratch& /*scratch*/) {
  return std::make_unique<Plan>(request.data.size());
}

}  // namespace

extern const Encoder kStoredEncoder = {
    .id = 0, .name = "stored", .plan = MakePlan};

}  // namespace zipllm::codecs
