// The profile max of text_cm: sizes, dispatch, and the definition of what it
// computes, without SIMD.
#include "codecs/text/cm_max_coder.h"
#include "kernels/by_target.h"

namespace zipllm::codecs::cm {

const MaxCoder kMaxCoderScalar = kMaxCoder;

uint64_t MaxBytes(const MaxSizes& sizes) {
  using namespace max_shape;
  const auto round = [](uint64_t bytes) { return (bytes + 63) / 64 * 64; };
  return uint64_t{sizes.lines} * 64 +
         2 * round(sizeof(uint32_t) << sizes.index_bits) +
         sizeof(int32_t) * kAllSets * kInputs +
         sizeof(int32_t) * kFinalSets * kFinalInputs +
         3 * sizeof(uint16_t) * kRefined * Refiner::kPoints +
         sizeof(MapEntry) * (kContexts * 256 + kContexts * kRunCounts * 8 +
                             3 * 128 + 3 * 16 * 2048 + 256 + 65536) +
         sizeof(uint32_t) * (256 + 65536) +
         round(uint64_t{kMargin} + sizes.text_size + 8);
}

namespace {
constexpr kernels::ByTarget<MaxCoder> kByTarget = ZIPLLM_BY_TARGET(kMaxCoder);
}  // namespace

const MaxCoder* FindMaxCoder(kernels::Target target) {
  return kByTarget.Find(target);
}
const MaxCoder& BestMaxCoder() { return kByTarget.Best(); }

}  // namespace zipllm::codecs::cm
