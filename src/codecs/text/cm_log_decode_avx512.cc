// The profile log of text_cm, compiled for Avx512.
#include "codecs/text/cm_log_coder.h"

namespace zipllm::codecs::cm {

const LogCoder kLogCoderAvx512 = kLogCoder;

}  // namespace zipllm::codecs::cm
