// The profile log of text_cm, compiled for Avx2.
#include "codecs/text/cm_log_coder.h"

namespace zipllm::codecs::cm {

const LogCoder kLogCoderAvx2 = kLogCoder;

}  // namespace zipllm::codecs::cm
