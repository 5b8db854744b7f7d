// Archives as streams: frames read and written in order, never seeking.
#ifndef ZIPLLM_CONTAINER_STREAM_H_
#define ZIPLLM_CONTAINER_STREAM_H_

#include <memory>
#include <optional>
#include <vector>

#include "base/buffer.h"
#include "base/buffer_pool.h"
#include "base/status.h"
#include "container/format.h"
#include "zipllm/io.h"

namespace zipllm::container {

/// A frame as read: its head is checked against its hash.
struct Frame {
  FramePrefix prefix;
  uint64_t offset = 0;  ///< of its prefix, from the start of the source
  std::shared_ptr<Buffer> start;  ///< prefix, head and hash

  ByteSpan head() const {
    return start->span().subspan(kPrefixSize, prefix.head_size);
  }
};

/// Reads archives one frame after the other, from the start of a source that is
/// seekable. Thread-compatible.
class FrameReader {
 public:
  /// `max_memory`: refuse archives that declare frames and blocks that need
  /// more.
  FrameReader(Source& in, uint64_t max_memory)
      : in_(in), max_memory_(max_memory) {}

  /// Reads the header of the first or next archive; nullopt at the end of the
  /// source.
  absl::StatusOr<std::optional<Header>> NextArchive();
  /// Reads the next frame of the archive up to its data; skips what is left of
  /// the frame before, and unknown optional frames.
  absl::StatusOr<Frame> Next();
  /// Reads the next `size` bytes of the frame's data; no more than it has.
  absl::Status ReadData(size_t size, Buffer* out);
  /// Passes over the next `size` bytes of the frame's data, which the caller
  /// reads at the offset that is returned. Only where the source is seekable.
  absl::StatusOr<uint64_t> PassData(size_t size);
  /// Bytes read and passed over so far.
  uint64_t offset() const { return offset_; }

 private:
  absl::StatusOr<size_t> Read(MutableByteSpan out);
  absl::Status ReadExactly(MutableByteSpan out);
  absl::Status SkipData();
  absl::Status Cut(uint64_t end) const;

  Source& in_;
  uint64_t max_memory_;
  Header header_;
  uint64_t offset_ = 0;
  uint64_t data_left_ = 0;  // of the current frame
  BufferPool pool_;
};

/// Reads one frame of a seekable source up to its data, which must all be
/// there.
absl::StatusOr<Frame> ReadFrameAt(Source& in, uint64_t offset);

/// Refuses a header whose bounds need more than `max_memory`.
absl::Status CheckBounds(const Header& header, uint64_t max_memory);

/// Decodes the data of an Index or Lines frame and appends its piece to
/// `*index`.
absl::Status AppendIndexPiece(const Frame& frame, ByteSpan data, Buffer* index);

/// Writes one archive: Begin, then for each entry Entry, Blocks..., EndFile;
/// then Finish. Thread-compatible.
class ArchiveWriter {
 public:
  explicit ArchiveWriter(Sink& out) : out_(out) {}

  absl::Status Begin(const Header& header);
  /// Directly after Begin, if at all.
  absl::Status WriteReferences(const std::vector<OutsideReference>& references);
  absl::Status WriteEntry(const Entry& entry);
  /// `head` comes from WriteBlocksHead.
  absl::Status WriteShared(ByteSpan head, ByteSpan data) {
    return WriteFrame(FrameType::kShared, head, data);
  }
  /// `head` comes from WriteBlocksHead; `size` and `blocks` repeat what it
  /// says.
  absl::Status WriteBlocks(ByteSpan head, ByteSpan data, uint32_t size,
                           uint32_t blocks);
  /// The same for blocks that are in no file until duplicates say where.
  absl::Status WriteAhead(ByteSpan head, ByteSpan data, uint32_t blocks);
  /// Ends a file; `layout` must tile its `end.size` bytes. `lines`: of all its
  /// blocks, or of none.
  absl::Status EndFile(const EntryEnd& end, Layout layout,
                       std::vector<BlockLines> lines = {});
  absl::Status Finish();

  /// Bytes written so far.
  uint64_t offset() const { return offset_; }

 private:
  absl::Status WriteFrame(FrameType type, ByteSpan head, ByteSpan data,
                          bool optional = false);
  // Cut into frames of this type.
  absl::Status WritePieces(FrameType type, ByteSpan bytes,
                           bool optional = false);
  absl::Status Write(ByteSpan bytes);
  void AppendToIndex();

  Sink& out_;
  uint64_t offset_ = 0;
  IndexEntry current_;
  Buffer index_;
  std::vector<FileLines> lines_;
  uint64_t entries_ = 0;
  uint64_t previous_offset_ = 0;
};

}  // namespace zipllm::container

#endif  // ZIPLLM_CONTAINER_STREAM_H_
