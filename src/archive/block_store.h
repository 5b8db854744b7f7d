#ifndef ZIPLLM_ARCHIVE_BLOCK_STORE_H_
#define ZIPLLM_ARCHIVE_BLOCK_STORE_H_

#include <array>
#include <memory>
#include <mutex>
#include <vector>

#include "archive/frame_decoder.h"
#include "zipllm/io.h"

namespace zipllm::archive {

/// Random access to frames of one archive that lie in a seekable source.
/// Thread-safe.
class BlockStore : public BlockFetcher {
 public:
  /// `source` must outlive it.
  BlockStore(Source& source, const container::Header& header)
      : source_(source), header_(header) {}

  /// Adds a Blocks frame at `offset` of the source whose first block has the
  /// number `first_block`; frames come in ascending order.
  void Add(uint64_t first_block, uint64_t offset);
  size_t frames() const;

  /// The frame's head, read and parsed; the last few are kept.
  absl::StatusOr<std::shared_ptr<const FrameDecoder>> Frame(size_t frame);
  /// Reads and decodes one block; `out` has its size.
  absl::Status Decode(size_t frame, size_t block, MutableByteSpan out);
  absl::Status Fetch(uint64_t number, MutableByteSpan out) override;

 private:
  struct Place {
    uint64_t first_block;
    uint64_t offset;
  };
  struct Cached {
    size_t frame = SIZE_MAX;
    std::shared_ptr<const FrameDecoder> decoder;
  };
  absl::Status DecodeFrom(const FrameDecoder& decoder, size_t block,
                          uint64_t number, MutableByteSpan out,
                          BlockFetcher* fetcher);

  Source& source_;
  const container::Header header_;
  mutable std::mutex mutex_;
  std::vector<Place> places_;
  std::array<Cached, 8> cache_;
  size_t next_slot_ = 0;
};

}  // namespace zipllm::archive

#endif  // ZIPLLM_ARCHIVE_BLOCK_STORE_H_
