// The byte layout of format-spec/container.md: the only code that knows it.
// Everything here works on memory; reading and writing files is above.
#ifndef ZIPLLM_CONTAINER_FORMAT_H_
#define ZIPLLM_CONTAINER_FORMAT_H_

#include <array>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "base/hash.h"
#include "base/status.h"
#include "zipllm/archive.h"
#include "zipllm/types.h"

namespace zipllm::container {

inline constexpr uint8_t kMajorVersion = 1;
inline constexpr uint8_t kMinorVersion = 0;
inline constexpr std::array<uint8_t, 8> kMagic = {0x89, 'Z',  'L',  'L',
                                                  'M',  '\r', '\n', 0x1A};

inline constexpr size_t kHeaderSize = 32;
inline constexpr size_t kPrefixSize = 12;
inline constexpr size_t kHashSize = 8;
inline constexpr size_t kTrailerSize = 44;

// format-spec/limits.md
inline constexpr uint32_t kMaxHead = uint32_t{1} << 24;
inline constexpr uint32_t kMaxBlock = uint32_t{1} << 26;
inline constexpr uint32_t kMaxFrame = uint32_t{1} << 27;
inline constexpr size_t kMaxPath = 4096;
inline constexpr size_t kMaxPathPart = 255;
inline constexpr size_t kMaxIndexPiece = size_t{1} << 20;

/// Codec number of a block that equals an earlier one.
inline constexpr uint8_t kDuplicate = 2;
/// A block that is a part of an earlier tensor, seen otherwise.
inline constexpr uint8_t kTwin = 11;

struct Header {
  uint32_t max_block = 0;
  uint32_t max_frame = 0;
};
std::array<uint8_t, kHeaderSize> WriteHeader(const Header& header);
/// `bytes` has kHeaderSize bytes. UNIMPLEMENTED for a newer version, DATA_LOSS
/// else.
absl::StatusOr<Header> ParseHeader(ByteSpan bytes);
/// True if the bytes (any number) begin as an archive does.
bool LooksLikeArchive(ByteSpan bytes);

enum class FrameType : uint8_t {
  kEntry = 1,
  kBlocks = 2,
  kEntryEnd = 3,
  kIndex = 4,
  kTrailer = 5
};

/// First 12 bytes of a frame.
struct FramePrefix {
  uint8_t type = 0;
  bool optional = false;
  uint32_t head_size = 0;
  uint32_t data_size = 0;

  /// One of FrameType.
  bool Known() const {
    return type >= static_cast<uint8_t>(FrameType::kEntry) &&
           type <= static_cast<uint8_t>(FrameType::kTrailer);
  }
  bool Is(FrameType wanted) const {
    return type == static_cast<uint8_t>(wanted);
  }
  uint64_t FrameSize() const {
    return kPrefixSize + head_size + kHashSize + uint64_t{data_size};
  }
};
/// `offset` is where the frame starts, for messages.
absl::StatusOr<FramePrefix> ParsePrefix(ByteSpan bytes, uint64_t offset);
/// Checks the XXH3 of a prefix and head: `bytes` is both and the 8 bytes of the
/// hash.
absl::Status CheckHead(ByteSpan bytes, uint64_t offset);
/// Prefix, head and hash: what stands before the data of a frame.
Buffer WriteFrameStart(FrameType type, ByteSpan head, uint32_t data_size);

/// The fields of an Entry frame go to and from zipllm::Entry; the others of it
/// stay untouched.
void WriteEntryHead(const Entry& entry, Buffer* out);
absl::StatusOr<Entry> ParseEntryHead(ByteSpan head);
/// OK if a reader may take it as a path below some root (container.md, "Entry
/// frame").
absl::Status CheckPath(const std::string& path, EntryKind kind);
/// True of a file, which is then alone, and of the root of a tree.
bool MayComeFirst(const Entry& entry);

struct BlockRecord {
  uint8_t codec = 0;
  uint32_t coded_size = 0;
  uint64_t hash = 0;  ///< XXH3 of the decoded bytes
  // Derived when parsed:
  uint32_t coded_offset = 0;  ///< from the start of the frame's data
  uint32_t size = 0;          ///< decoded bytes
};
struct CodecParams {
  uint8_t codec = 0;
  ByteSpan bytes;  ///< a view into the head that was parsed, or the caller's
                   ///< bytes to write
};
struct BlocksHead {
  bool kept = false;  ///< later duplicates may refer to its blocks
  uint32_t block_size = 0;
  uint32_t size = 0;  ///< decoded bytes of the frame
  std::vector<CodecParams> params;
  std::vector<BlockRecord> blocks;
};
void WriteBlocksHead(const BlocksHead& blocks, Buffer* out);
/// The result has views into `head`.
absl::StatusOr<BlocksHead> ParseBlocksHead(ByteSpan head, uint32_t data_size,
                                           const Header& header);

struct EntryEnd {
  uint64_t size = 0;
  Sha256Digest sha256{};
};
void WriteEntryEnd(const EntryEnd& end, Buffer* out);
absl::StatusOr<EntryEnd> ParseEntryEnd(ByteSpan head);

/// Where a Blocks frame stands.
struct FrameRecord {
  uint64_t offset = 0;  ///< from the start of the archive
  uint32_t head_size = 0;
  uint32_t data_size = 0;
  uint32_t size = 0;  ///< decoded bytes
  uint32_t blocks = 0;
};
struct IndexEntry {
  Entry entry;
  std::vector<FrameRecord> frames;
};

/// Head of an Index frame.
struct IndexPiece {
  uint32_t size = 0;
  uint8_t codec = 0;
  uint64_t hash = 0;
};
void WriteIndexPiece(const IndexPiece& piece, Buffer* out);
absl::StatusOr<IndexPiece> ParseIndexPiece(ByteSpan head);

/// One entry of the joined index; the number of entries stands before the
/// first.
void WriteIndexEntry(const IndexEntry& entry, uint64_t* previous_offset,
                     Buffer* out);
/// The entries are one file or a tree, as container.md has it.
/// RESOURCE_EXHAUSTED where the result would take more than `max_memory` bytes.
absl::StatusOr<std::vector<IndexEntry>> ParseIndex(ByteSpan bytes,
                                                   uint64_t max_memory);

struct Trailer {
  uint64_t index_offset = 0;
  uint64_t archive_size = 0;
};
/// The whole frame, kTrailerSize bytes.
Buffer WriteTrailer(const Trailer& trailer);
absl::StatusOr<Trailer> ParseTrailer(ByteSpan head);

}  // namespace zipllm::container

#endif  // ZIPLLM_CONTAINER_FORMAT_H_
