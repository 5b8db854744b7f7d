// The profile max of text_cm, compiled for Avx512.
#include "codecs/text/cm_max_coder.h"

namespace zipllm::codecs::cm {

const MaxCoder kMaxCoderAvx512 = kMaxCoder;

}  // namespace zipllm::codecs::cm
