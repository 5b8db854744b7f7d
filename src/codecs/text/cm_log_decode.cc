// The profile log of text_cm: sizes, dispatch, and the definition of what it
// computes, without SIMD.
#include "codecs/text/cm_log_coder.h"

namespace zipllm::codecs::cm {

const LogCoder kLogCoderScalar = kLogCoder;

uint64_t LogBytes(const LogSizes& sizes) { return LogModel::Bytes(sizes); }

constinit const kernels::ByTarget<LogCoder> kLogCoders =
    ZIPLLM_BY_TARGET(kLogCoder);

}  // namespace zipllm::codecs::cm
