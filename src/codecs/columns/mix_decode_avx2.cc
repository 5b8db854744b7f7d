// Context mixing of columns, compiled for Avx2.
#include "codecs/columns/mix_model.h"

namespace zipllm::codecs::columns {

const MixCoder kMixCoderAvx2 = {.encode = EncodeMixBlock,
                                .decode = DecodeMixBlock};

}  // namespace zipllm::codecs::columns
