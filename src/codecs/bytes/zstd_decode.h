// Zstandard frames inside codecs.
#ifndef ZIPLLM_CODECS_BYTES_ZSTD_DECODE_H_
#define ZIPLLM_CODECS_BYTES_ZSTD_DECODE_H_

#include "codecs/codec.h"

namespace zipllm::codecs {

/// Decodes the one frame that `coded` is into exactly `out.size()` bytes, which
/// may be 0. DATA_LOSS if `coded` is anything else, or if the frame has what
/// format-spec/codecs/3-zstd.md does not allow. Memory: what a ZSTD_DCtx takes
/// (0.2 MB, kept in `scratch`); a window is never allocated.
absl::Status DecodeZstdFrame(ByteSpan coded, MutableByteSpan out,
                             Scratch& scratch);

}  // namespace zipllm::codecs

#endif  // ZIPLLM_CODECS_BYTES_ZSTD_DECODE_H_
