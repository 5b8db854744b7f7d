// Codec 1, fill: a short pattern, repeated.
#include <algorithm>
#include <cstring>

#include "codecs/codec.h"

namespace zipllm::codecs {
namespace {

constexpr size_t kMaxPattern = 16;

bool HasPeriod(ByteSpan data, size_t period) {
  return data.size() >= period && std::memcmp(data.data(), data.data() + period,
                                              data.size() - period) == 0;
}

/// The shortest allowed pattern that `block` repeats; 0 if there is none.
/// memcmp stops at the first difference, so that most answers cost nothing.
size_t FindPeriod(ByteSpan block) {
  ByteSpan head = block.first(std::min(block.size(), 2 * kMaxPattern));
  for (size_t period = 1; period <= kMaxPattern; period *= 2) {
    if (!HasPeriod(head, period)) continue;
    // A block that repeats its first 16 bytes has their period, too.
    const bool repeats =
        head.size() == block.size() || HasPeriod(block, kMaxPattern);
    return repeats ? period : 0;
  }
  return 0;
}

class Plan final : public EncodePlan {
 public:
  explicit Plan(uint64_t estimate) : estimate_(estimate) {}
  uint64_t estimate() const override { return estimate_; }
  bool Encode(ByteSpan block, Scratch& /*scratch*/,
              Buffer* out) const override {
    size_t period = FindPeriod(block);
    out->Append(block.first(period));
    return period != 0;
  }

 private:
  uint64_t estimate_;
};

/// Counts a block that is no repetition in full; offers nothing if none is.
std::unique_ptr<EncodePlan> MakePlan(const EncodeRequest& request,
                                     Scratch& /*scratch*/) {
  uint64_t estimate = 0;
  bool any = false;
  for (ByteSpan rest = request.data; !rest.empty();) {
    ByteSpan block = rest.first(std::min(rest.size(), request.block_size));
    rest = rest.subspan(block.size());
    size_t period = FindPeriod(block);
    any |= period != 0;
    estimate += period != 0 ? period : block.size();
  }
  if (!any) return nullptr;
  return std::make_unique<Plan>(estimate);
}

}  // namespace

extern const Encoder kFillEncoder = {.id = 1, .name = "fill", .plan = MakePlan};

}  // namespace zipllm::codecs
