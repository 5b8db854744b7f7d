#ifndef ZIPLLM_ARCHIVE_STORED_ARCHIVE_H_
#define ZIPLLM_ARCHIVE_STORED_ARCHIVE_H_

#include "base/status.h"
#include "zipllm/io.h"
#include "zipllm/types.h"

namespace zipllm::archive {

/// The most bytes that WriteStored writes for `size` bytes; UINT64_MAX where
/// that does not fit.
uint64_t StoredBound(uint64_t size);

/// Writes an archive of one unnamed file with the bytes as they are, without a
/// layout: the one archive whose size does not depend on what the bytes are.
absl::Status WriteStored(ByteSpan data, Sink& out);

}  // namespace zipllm::archive

#endif  // ZIPLLM_ARCHIVE_STORED_ARCHIVE_H_
