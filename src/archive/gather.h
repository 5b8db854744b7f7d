// The elements of other tensors that lie beside those of a block.
// Format: format-spec/container.md, "Sources".
#ifndef ZIPLLM_ARCHIVE_GATHER_H_
#define ZIPLLM_ARCHIVE_GATHER_H_

#include "archive/block_fetcher.h"
#include "base/buffer.h"
#include "container/format.h"

namespace zipllm::archive {

/// A tensor that was coded earlier in the same archive. Keeps the block that
/// was read last. Thread-compatible.
class BlockTensor : public TensorBytes {
 public:
  /// The tensor has `size` bytes in blocks of `block_size` from number `first`
  /// on. `fetcher` and `limits` must outlive it.
  BlockTensor(BlockFetcher& fetcher, FetchLimits& limits, uint64_t first,
              uint64_t block_size, uint64_t size)
      : fetcher_(fetcher),
        limits_(limits),
        first_(first),
        block_size_(block_size),
        size_(size) {}
  absl::Status Read(uint64_t offset, MutableByteSpan out) override;

 private:
  BlockFetcher& fetcher_;
  FetchLimits& limits_;
  const uint64_t first_, block_size_, size_;
  Buffer block_;
  uint64_t number_ = UINT64_MAX;  // of block_
};

/// Reads what belongs to the elements `begin` to `begin + count` of the frame
/// from `in`, the tensor of `source`, which was parsed or covers the frame.
/// `out` becomes as large as `count` elements of the source, or for a factor as
/// the source.
absl::Status Gather(const container::FrameSources& against,
                    const container::FrameSource& source, uint64_t begin,
                    uint64_t count, TensorBytes& in, Buffer* out);

}  // namespace zipllm::archive

#endif  // ZIPLLM_ARCHIVE_GATHER_H_
