// Codec 23, text_lm: text by context mixing with a small language model.
#include <algorithm>

#include "codecs/codec.h"
#include "codecs/text/cm_format.h"
#include "codecs/text/coded_plan.h"
#include "codecs/text/lm_format.h"

namespace zipllm::codecs {
namespace {

using lm::Params;
using lm::Profile;

constexpr int kLevel = 9;
/// Up to this size of a block, the language model alone is tried.
constexpr size_t kMaxAlone = 1 << 12;

std::unique_ptr<EncodePlan> MakePlan(const EncodeRequest& request,
                                     Scratch& scratch) {
  if (!request.is_text || request.level != kLevel ||
      cm::SuitsLog(request, scratch)) {
    return nullptr;
  }
  const ByteSpan block = FirstBlock(request);
  Params params{.prior = ChoosePrior(block)};
  params.lines = static_cast<uint8_t>(std::clamp<size_t>(
      block.size() * cm::kLineBytesAByte / cm::kLineUnitBytes, 1,
      cm::kMaxLineUnits));
  Buffer first;
  bool is_smaller =
      lm::EncodeBlock(params, block, &first, cm::FollowerOf(scratch));
  if (block.size() <= kMaxAlone) {
    const Params alone{.profile = Profile::kAlone};
    Buffer other;
    if (lm::EncodeBlock(alone, block, &other) &&
        (!is_smaller || other.size() < first.size())) {
      params = alone;
      first = std::move(other);
      is_smaller = true;
    }
  }
  if (!is_smaller) return nullptr;
  return std::make_unique<CodedPlan>(
      request, lm::StoreParams(params), std::move(first),
      [params](ByteSpan other, Scratch& own, Buffer* out) {
        return lm::EncodeBlock(params, other, out, cm::FollowerOf(own));
      });
}

}  // namespace

extern const Encoder kTextLmEncoder = {
    .id = 23, .name = "text_lm", .plan = MakePlan};

}  // namespace zipllm::codecs
