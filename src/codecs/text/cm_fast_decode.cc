// The fast profile of text_cm: sizes, dispatch, and the definition of what it
// computes, without SIMD.
#include <algorithm>
#include <bit>

#include "codecs/text/cm_fast_coder.h"
#include "kernels/by_target.h"

namespace zipllm::codecs::cm {

const FastCoder kFastCoderScalar = kFastCoder;

FastSizes FastSizesOf(const Params& params, uint64_t size) {
  const uint64_t text = PriorsOf(params).size + size;
  return {
      .line_bits = params.lines,
      .index_bits = std::clamp(static_cast<int>(std::bit_width(text)), 10, 20),
      .arena_size = static_cast<uint32_t>(text)};
}

uint64_t FastBytes(const FastSizes& sizes) {
  return (uint64_t{kLineBytes} << sizes.line_bits) + kFastOrder1Bytes +
         kFastRefinerBytes + (sizeof(uint32_t) << sizes.index_bits) +
         sizes.arena_size + 2 * kArenaMargin;
}

namespace {
constexpr kernels::ByTarget<FastCoder> kByTarget = ZIPLLM_BY_TARGET(kFastCoder);
}  // namespace

const FastCoder* FindFastCoder(kernels::Target target) {
  return kByTarget.Find(target);
}
const FastCoder& BestFastCoder() { return kByTarget.Best(); }

}  // namespace zipllm::codecs::cm
