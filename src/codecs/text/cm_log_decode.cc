// The profile log of text_cm: sizes, dispatch, and the definition of what it
// computes, without SIMD.
#include "codecs/text/cm_log_coder.h"
#include "kernels/by_target.h"

namespace zipllm::codecs::cm {

const LogCoder kLogCoderScalar = kLogCoder;

uint64_t LogBytes(const LogSizes& sizes) {
  using namespace log_shape;
  const auto round = [](uint64_t bytes) { return (bytes + 63) / 64 * 64; };
  constexpr uint64_t kFlagBytes =
      (sizeof(MapEntry) * kFlagContexts << kFlagBits) +
      sizeof(int32_t) * kFlagSets * kFlagInputs +
      (sizeof(uint16_t) * Refiner::kPoints << kFlagRefinedBits);
  return (uint64_t{kLineBytes} << sizes.line_bits) +
         2 * round(sizeof(uint32_t) << sizes.index_bits) +
         (3 * sizeof(uint32_t) << kPlaceBits) +
         (kNumbers * kNumberBytes << kNumberBits) +
         (kCounted * sizeof(MapEntry) << (kCountedBits + 4)) +
         sizeof(int32_t) * kAllSets * kInputs +
         sizeof(int32_t) * kFinalSets * kFinalInputs +
         (kRefined * sizeof(uint16_t) * Refiner::kPoints << kRefinedBits) +
         sizeof(MapEntry) * (kContexts * 256 + 3 * kMatches * kMatchStates) +
         (sizeof(MapEntry) * kMatches << kFieldBits) + 2 * kFlagBytes +
         round(uint64_t{kMargin} + sizes.text_size + kMargin);
}

namespace {
constexpr kernels::ByTarget<LogCoder> kByTarget = ZIPLLM_BY_TARGET(kLogCoder);
}  // namespace

const LogCoder* FindLogCoder(kernels::Target target) {
  return kByTarget.Find(target);
}
const LogCoder& BestLogCoder() { return kByTarget.Best(); }

}  // namespace zipllm::codecs::cm
