#ifndef ZIPLLM_ARCHIVE_BLOCK_FETCHER_H_
#define ZIPLLM_ARCHIVE_BLOCK_FETCHER_H_

#include <cstdint>

#include "base/status.h"
#include "zipllm/types.h"

namespace zipllm::archive {

/// Gives the decoded bytes of earlier blocks, for duplicates and twins.
class BlockFetcher {
 public:
  virtual ~BlockFetcher() = default;
  /// Decodes block `number` of the archive, which must have `out.size()` bytes
  /// and neither be a duplicate nor a twin. May be called by several threads at
  /// once.
  virtual absl::Status Fetch(uint64_t number, MutableByteSpan out) = 0;
};

}  // namespace zipllm::archive

#endif  // ZIPLLM_ARCHIVE_BLOCK_FETCHER_H_
