// Context mixing of columns: sizes, dispatch, and the definition of what it
// computes, without SIMD.
#include <algorithm>
#include <bit>

#include "codecs/columns/mix_model.h"

namespace zipllm::codecs::columns {

const MixCoder kMixCoderScalar = {.encode = EncodeMixBlock,
                                  .decode = DecodeMixBlock};

MixSizes MixSizesOf(size_t size) {
  const int bits = static_cast<int>(std::bit_width(size));
  return {.line_bits = std::clamp(bits - 1, 8, 17),
          .index_bits = std::clamp(bits, 8, 20)};
}

size_t MixBytes(const MixSizes& sizes, size_t size) {
  return (cm::kLineBytes << sizes.line_bits) +
         (sizeof(uint32_t) << sizes.index_bits) + size + 2 * kMixMargin;
}

constinit const kernels::ByTarget<MixCoder> kMixCoders =
    ZIPLLM_BY_TARGET(kMixCoder);

}  // namespace zipllm::codecs::columns
