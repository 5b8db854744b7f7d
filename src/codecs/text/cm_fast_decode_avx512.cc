// The fast profile of text_cm, compiled for Avx512.
#include "codecs/text/cm_fast_coder.h"

namespace zipllm::codecs::cm {

const FastCoder kFastCoderAvx512 = kFastCoder;

}  // namespace zipllm::codecs::cm
