#ifndef ZIPLLM_ARCHIVE_BLOCK_STORE_H_
#define ZIPLLM_ARCHIVE_BLOCK_STORE_H_

#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "archive/frame_decoder.h"
#include "archive/spool.h"
#include "zipllm/archive.h"
#include "zipllm/io.h"

namespace zipllm::archive {

/// Random access to frames of one archive that lie in a seekable source. What
/// others are made of and took long to decode is kept in a temporary file.
/// Thread-safe.
class BlockStore : public BlockFetcher {
 public:
  /// `source` and `outside` (null: there is nothing outside) must outlive it.
  BlockStore(Source& source, const container::Header& header,
             OutsideTensors* outside, DecodeSettings settings = {})
      : source_(source),
        header_(header),
        outside_(outside),
        settings_(std::move(settings)) {}

  /// Adds a Blocks frame at `offset` of the source whose first block has the
  /// number `first_block`; frames come in ascending order. `shared`: where its
  /// Shared frame stands in the source, if it names one.
  void Add(uint64_t first_block, uint64_t offset,
           std::optional<uint64_t> shared = std::nullopt);
  size_t frames() const;

  struct Frame {
    std::shared_ptr<const FrameDecoder> decoder;
    std::shared_ptr<const Buffer> shared;  ///< null: none
  };
  /// The frame's head, read and parsed, and what it shares; the last few are
  /// kept.
  absl::StatusOr<Frame> Open(size_t frame);
  /// Reads and decodes one block; `out` has its size.
  absl::Status Decode(size_t frame, size_t block, MutableByteSpan out);
  /// False: none of `needles` is in the block, as its coded form tells.
  absl::StatusOr<bool> MayContain(size_t frame, size_t block,
                                  const Needles& needles);
  /// How a block is coded: for a duplicate of one that was coded ahead, how
  /// that one is.
  absl::StatusOr<container::BlockRecord> Record(size_t frame, size_t block);
  /// The number in the archive of a frame's first block.
  uint64_t FirstBlock(size_t frame) const;
  /// The block that a duplicate refers to; nullopt for another block.
  absl::StatusOr<std::optional<uint64_t>> Original(size_t frame, size_t block);
  /// The first block that a duplicate or a twin is made of; nullopt for another
  /// block.
  absl::StatusOr<std::optional<uint64_t>> Repeated(size_t frame, size_t block);
  /// The frame that has block `number`, and its first block.
  absl::StatusOr<std::pair<size_t, uint64_t>> FrameOf(uint64_t number) const;
  absl::Status Fetch(uint64_t number, MutableByteSpan out, bool any,
                     FetchLimits& limits) override;

 private:
  struct Place {
    uint64_t first_block;
    uint64_t offset;
    std::optional<uint64_t> shared;
  };
  struct Cached {
    size_t frame = SIZE_MAX;
    Frame opened;
  };
  absl::StatusOr<std::shared_ptr<const Buffer>> Shared(uint64_t offset);
  /// False: it is not there.
  bool ReadKept(uint64_t number, MutableByteSpan out);
  void Keep(uint64_t number, ByteSpan plain);
  absl::Status DecodeFrom(const Frame& frame, size_t block, uint64_t number,
                          MutableByteSpan out, FetchLimits& limits);

  Source& source_;
  const container::Header header_;
  OutsideTensors* const outside_;
  const DecodeSettings settings_;
  mutable std::mutex mutex_;
  std::vector<Place> places_;
  std::array<Cached, 8> cache_;
  size_t next_slot_ = 0;
  std::mutex spool_mutex_;  // of appending; before mutex_
  Spool spool_;
  bool spool_failed_ = false;
  std::map<uint64_t, uint64_t> kept_;  // blocks by number: where in spool_
  // The Shared frame that was read last.
  uint64_t shared_offset_ = UINT64_MAX;
  std::shared_ptr<const Buffer> shared_;
};

/// Decodes a Shared frame, whose data are `data` (container.md).
absl::StatusOr<std::shared_ptr<const Buffer>> DecodeShared(
    const container::Frame& frame, ByteSpan data,
    const container::Header& header);

}  // namespace zipllm::archive

#endif  // ZIPLLM_ARCHIVE_BLOCK_STORE_H_
