// Context mixing of columns, compiled for Avx512.
#include "codecs/columns/mix_model.h"

namespace zipllm::codecs::columns {

const MixCoder kMixCoderAvx512 = {.encode = EncodeMixBlock,
                                  .decode = DecodeMixBlock};

}  // namespace zipllm::codecs::columns
