// The profile max of text_cm, compiled for Avx2.
#include "codecs/text/cm_max_coder.h"

namespace zipllm::codecs::cm {

const MaxCoder kMaxCoderAvx2 = kMaxCoder;

}  // namespace zipllm::codecs::cm
