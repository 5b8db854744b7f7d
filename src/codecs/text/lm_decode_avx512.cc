// The language model's coder, compiled for Avx512.
#include "codecs/text/lm_coder.h"

namespace zipllm::codecs::lm {

const Coder kCoderAvx512 = kCoder;

}  // namespace zipllm::codecs::lm
