// The fast profile of text_cm, compiled for Avx2.
#include "codecs/text/cm_fast_coder.h"

namespace zipllm::codecs::cm {

const FastCoder kFastCoderAvx2 = kFastCoder;

}  // namespace zipllm::codecs::cm
