// The language model's coder, compiled for Avx2.
#include "codecs/text/lm_coder.h"

namespace zipllm::codecs::lm {

const Coder kCoderAvx2 = kCoder;

}  // namespace zipllm::codecs::lm
