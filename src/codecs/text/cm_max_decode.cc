// The profile max of text_cm: sizes, dispatch, and the definition of what it
// computes, without SIMD.
#include "codecs/text/cm_max_coder.h"

namespace zipllm::codecs::cm {

const MaxCoder kMaxCoderScalar = kMaxCoder;

uint64_t MaxBytes(const MaxSizes& sizes) { return MaxModel::Bytes(sizes); }

constinit const kernels::ByTarget<MaxCoder> kMaxCoders =
    ZIPLLM_BY_TARGET(kMaxCoder);

}  // namespace zipllm::codecs::cm
