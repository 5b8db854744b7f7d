#ifndef ZIPLLM_ARCHIVE_BLOCK_FETCHER_H_
#define ZIPLLM_ARCHIVE_BLOCK_FETCHER_H_

#include <cstdint>

#include "base/status.h"
#include "zipllm/types.h"

namespace zipllm::archive {

/// What is left of what a block may ask for (format-spec/limits.md): so that
/// nothing goes in circles, and a small archive cannot cost much time.
struct FetchLimits {
  int depth = 6;  ///< references that follow each other
  uint64_t blocks = 4096;
};

/// Gives the decoded bytes of earlier blocks, for those that are made of them.
class BlockFetcher {
 public:
  virtual ~BlockFetcher() = default;
  /// Decodes block `number` of the archive, which must have `out.size()` bytes,
  /// stand in a frame that is kept, and, unless `any`, neither be a duplicate
  /// nor a twin. May be called by several threads at once, each with limits of
  /// its own.
  virtual absl::Status Fetch(uint64_t number, MutableByteSpan out, bool any,
                             FetchLimits& limits) = 0;
};

/// The bytes of a tensor. Thread-compatible.
class TensorBytes {
 public:
  virtual ~TensorBytes() = default;
  /// Reads `out.size()` bytes from `offset` on; an error where there are fewer.
  virtual absl::Status Read(uint64_t offset, MutableByteSpan out) = 0;
};

}  // namespace zipllm::archive

#endif  // ZIPLLM_ARCHIVE_BLOCK_FETCHER_H_
