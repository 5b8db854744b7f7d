// The fast profile of text_cm: sizes, dispatch, and the definition of what it
// computes, without SIMD.
#include <algorithm>
#include <bit>

#include "codecs/text/cm_fast_coder.h"

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
  return FastModel<false>::Bytes(sizes);
}

constinit const kernels::ByTarget<FastCoder> kFastCoders =
    ZIPLLM_BY_TARGET(kFastCoder);

}  // namespace zipllm::codecs::cm
