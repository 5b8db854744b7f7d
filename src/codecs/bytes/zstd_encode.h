// Zstandard frames inside codecs.
#ifndef ZIPLLM_CODECS_BYTES_ZSTD_ENCODE_H_
#define ZIPLLM_CODECS_BYTES_ZSTD_ENCODE_H_

#include "codecs/codec.h"

namespace zipllm::codecs {

/// Zstandard's level for ours (1 to 9).
int ZstdLevel(int level);

/// Appends `data` as one frame as format-spec/codecs/3-zstd.md wants it, if
/// that takes less than `data.size()` bytes; else returns false and leaves
/// `*out`. `zstd_level` is Zstandard's. Makes its own context: what a used one
/// writes may depend on what it wrote before.
bool AppendZstdFrame(ByteSpan data, int zstd_level, Buffer* out);

}  // namespace zipllm::codecs

#endif  // ZIPLLM_CODECS_BYTES_ZSTD_ENCODE_H_
