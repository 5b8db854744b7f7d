/// \file
/// Random access to a seekable archive: lists it, reads tensors and byte
/// ranges.
#ifndef ZIPLLM_ARCHIVE_H_
#define ZIPLLM_ARCHIVE_H_

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "zipllm/io.h"
#include "zipllm/options.h"
#include "zipllm/types.h"

namespace zipllm {

enum class EntryKind : uint8_t { kFile = 0, kDirectory = 1, kSymlink = 2 };

/// A file, directory or symlink of an archive.
struct Entry {
  EntryKind kind = EntryKind::kFile;
  std::string path;  ///< relative, '/' between parts; "" is the root directory
                     ///< or an unnamed stream
  bool has_metadata =
      false;          ///< mode and mtime are recorded (not for a stream)
  uint32_t mode = 0;  ///< permission bits, 0 to 07777
  int64_t mtime_seconds = 0;
  uint32_t mtime_nanoseconds = 0;
  std::string link_target;  ///< symlinks only
  uint64_t size = 0;        ///< plain bytes, files only
  uint64_t coded_size = 0;  ///< archive bytes of its frames
  std::array<uint8_t, 32> sha256{};
  Layout layout;  ///< files only
};

/// How the blocks of one segment are coded, from the frames' heads.
struct CodecUse {
  std::string codec;
  /// Of codec "derived": what makes its blocks of their source, a quantizer
  /// such as "ggml Q4_K" or "formula"; else empty.
  std::string recipe;
  /// Decodes at less than about 100 MB/s a core.
  bool slow = false;
  uint64_t blocks = 0;
  uint64_t plain_bytes = 0;
  uint64_t coded_bytes = 0;
};

/// A byte range of an entry.
struct TensorRef {
  size_t entry = 0;    ///< index into entries()
  size_t segment = 0;  ///< index into its layout

  bool operator==(const TensorRef&) const = default;
};

/// A tensor that blocks are coded against.
struct CodingSource {
  /// "base", "importance", "scale", ...
  std::string role;
  /// Where it is: a segment of the archive, or needed_bases()[base]; neither
  /// for what was made to code others against it.
  std::optional<TensorRef> tensor;
  std::optional<size_t> base;
  uint64_t plain_bytes = 0;  ///< of what is coded against it
};
struct SegmentCoding {
  uint64_t coded_bytes = 0;  ///< all of its frames, heads included
  std::vector<CodecUse> codecs;
  std::vector<CodingSource> sources;
  /// Other segments of the archive whose blocks stand for some of its own, as
  /// they are or seen otherwise (codecs duplicate and twin).
  std::vector<TensorRef> repeats;
};

/// A tensor outside of the archive without which some of it cannot be decoded.
struct NeededBase {
  std::string tensor;   ///< its name there
  std::string model;    ///< the file that it was in
  uint64_t length = 0;  ///< in bytes
  std::array<uint8_t, 32> sha256{};
  /// How many more archives it took to decode it; of an object of a store, its
  /// depth (format-spec/store.md).
  uint8_t depth = 0;
};

/// Lines `first` to `last` of a text, both included. 1 is the first line, -1
/// the last one. What stands behind the last line end is a line too, if it is
/// not empty.
struct LineRange {
  int64_t first = 1;
  int64_t last = -1;
};

/// Times in nanoseconds since 1970 (UTC), both included; nullopt is open. A
/// time of the year 1680 stands for one that names no year; where a line or a
/// bound names none, all are compared within a year.
struct TimeRange {
  std::optional<int64_t> since;
  std::optional<int64_t> until;
};

/// Bytes of a file that are decoded together.
struct FileBlock {
  uint64_t offset = 0;
  uint64_t size = 0;
  std::optional<uint64_t> line_ends;  ///< in it, if the archive tells
};

/// Strings of which at least one must be in what is looked for.
struct Needles {
  std::vector<std::string> any;  ///< empty: nothing is known
  bool ignore_case = false;      ///< of ASCII letters
};

/// Is shown the blocks of a file.
class ZIPLLM_EXPORT BlockVisitor {
 public:
  virtual ~BlockVisitor();
  /// Called for each block that is decoded, by several threads at once and in
  /// any order. What it returns is given to `Take`.
  virtual std::shared_ptr<void> Look(ByteSpan plain) = 0;
  /// Called for each block in order, by one thread. `plain` is null for a block
  /// that was passed over. False: no more blocks are wanted.
  virtual absl::StatusOr<bool> Take(const FileBlock& block,
                                    const ByteSpan* plain,
                                    const std::shared_ptr<void>& looked) = 0;
};

/// An open archive. Opening reads the trailer and the index only; reads touch
/// the blocks they need and nothing else. Thread-safety: all const members may
/// be called by several threads.
class ZIPLLM_EXPORT Archive {
 public:
  /// Takes a seekable source. DATA_LOSS where the archive is cut or damaged; a
  /// file that is readable front to back may still be (see Decompressor).
  static absl::StatusOr<Archive> Open(std::unique_ptr<Source> source,
                                      DecompressOptions options = {});
  static absl::StatusOr<Archive> OpenFile(const std::string& path,
                                          DecompressOptions options = {});
  Archive(Archive&&) noexcept;
  Archive& operator=(Archive&&) noexcept;
  ~Archive();

  const std::vector<Entry>& entries() const;
  /// What it was coded against, and needs (DecompressOptions::bases).
  const std::vector<NeededBase>& needed_bases() const;
  /// Archive size in bytes.
  uint64_t size() const;
  /// Bytes read from the source so far, opening included.
  uint64_t bytes_read() const;

  /// Index of the file with this path; NOT_FOUND.
  absl::StatusOr<size_t> FindEntry(const std::string& path) const;
  /// The tensor with this name; with `path` not empty, of that file only.
  /// NOT_FOUND, or INVALID_ARGUMENT where several files have it.
  absl::StatusOr<TensorRef> FindTensor(const std::string& name,
                                       const std::string& path = "") const;

  /// Decodes one tensor; RESOURCE_EXHAUSTED above `max_bytes`.
  absl::StatusOr<std::vector<uint8_t>> Read(const std::string& tensor,
                                            const std::string& path = "",
                                            uint64_t max_bytes = uint64_t{1}
                                                                 << 40) const;
  /// Decodes the bytes of a file from `offset` into `out`; OUT_OF_RANGE past
  /// its end.
  absl::Status ReadRange(size_t entry, uint64_t offset,
                         MutableByteSpan out) const;
  /// Decodes `length` bytes of a file from `offset` to a sink, in bounded
  /// memory.
  absl::Status CopyRange(size_t entry, uint64_t offset, uint64_t length,
                         Sink& out) const;

  /// The bytes of a file that are decoded together with the one at `offset`:
  /// begin and end. OUT_OF_RANGE past its end. Reads the head of a frame.
  absl::StatusOr<std::pair<uint64_t, uint64_t>> BlockAt(size_t entry,
                                                        uint64_t offset) const;

  /// Decodes lines of a file to a sink. Where the archive does not tell how
  /// many lines its blocks have, it decodes more than these. Lines that are not
  /// there are left out.
  absl::Status CopyLines(size_t entry, LineRange lines, Sink& out) const;
  /// Decodes the lines of a file whose time is in the range: the time that is
  /// found near a line's start, in any form that logs have. A line without one
  /// belongs to the line before it; lines before the first time come before all
  /// times.
  absl::Status CopyTimes(size_t entry, const TimeRange& times, Sink& out) const;
  /// Shows a file's blocks to `visitor`. Those whose whole lines contain none
  /// of `needles` may be passed over.
  absl::Status VisitBlocks(size_t entry, const Needles& needles,
                           BlockVisitor& visitor) const;

  /// How a segment is coded; reads the heads of its frames.
  absl::StatusOr<SegmentCoding> Coding(TensorRef segment) const;

 private:
  class Impl;
  friend class ArchiveOpener;
  explicit Archive(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace zipllm

#endif  // ZIPLLM_ARCHIVE_H_
