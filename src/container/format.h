// The byte layout of format-spec/container.md: the only code that knows it.
// Everything here works on memory; reading and writing files is above.
#ifndef ZIPLLM_CONTAINER_FORMAT_H_
#define ZIPLLM_CONTAINER_FORMAT_H_

#include <array>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/buffer.h"
#include "base/hash.h"
#include "base/status.h"
#include "codecs/codec.h"
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
/// Outside references may lead from archive to archive so often.
inline constexpr uint8_t kMaxDepth = 4;
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
  kTrailer = 5,
  kShared = 6,
  kReferences = 7,
  kAhead = 8,
  kLines = 9,  ///< optional: FrameReader skips it
};

/// First 12 bytes of a frame.
struct FramePrefix {
  uint8_t type = 0;
  bool optional = false;
  uint32_t head_size = 0;
  uint32_t data_size = 0;

  /// One that every reader must know.
  bool Known() const {
    return type >= static_cast<uint8_t>(FrameType::kEntry) &&
           type <= static_cast<uint8_t>(FrameType::kAhead);
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
Buffer WriteFrameStart(FrameType type, ByteSpan head, uint32_t data_size,
                       bool optional = false);

/// The fields of an Entry frame go to and from zipllm::Entry; the others of it
/// stay untouched.
void WriteEntryHead(const Entry& entry, Buffer* out);
absl::StatusOr<Entry> ParseEntryHead(ByteSpan head);
/// OK if a reader may take it as a path below some root (container.md, "Entry
/// frame").
absl::Status CheckPath(const std::string& path, EntryKind kind);
/// True of a file, which is then alone, and of the root of a tree.
bool MayComeFirst(const Entry& entry);
/// OK if the entries 0 to `count` - 1 are one file, or a tree whose directories
/// come before what is in them; no path twice. Takes about 64 bytes an entry
/// meanwhile. `what` has them, for messages: "the archive".
absl::Status CheckTree(std::string_view what, size_t count,
                       const std::function<const Entry&(size_t)>& entry);

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

/// Elements of another tensor, the source, that lie beside those of a frame
/// (container.md, "Sources").
struct FrameSource {
  enum class Order : uint8_t {
    kSame = 0,        ///< (i, j) is the source's (row_offset + i, column_offset
                      ///< + j)
    kTransposed = 1,  ///< (i, j) is (row_offset + j, column_offset + i)
    kRows = 2,        ///< (i, j) is (rows[i], column_offset + j)
    kWhole = 3,       ///< all of the source: of roles that are IsWhole
  };
  codecs::Role role = codecs::Role::kBase;
  DType dtype = DType::kBytes;
  bool outside = false;
  /// Outside: number of the reference. Else how many blocks before the frame's
  /// first one the source begins.
  uint64_t where = 0;
  uint64_t block_size = 0;  ///< bytes of the source's blocks; not outside
  uint64_t elements = 0;    ///< of the source
  uint64_t row = 1;         ///< elements of a row of the source
  Order order = Order::kSame;
  uint64_t row_offset = 0;
  uint64_t column_offset = 0;
  std::vector<uint32_t> rows;

  bool operator==(const FrameSource&) const = default;
};
/// How elements are packed: so many of them, the weights, in so many bytes.
struct Packing {
  uint32_t elements = 1;
  uint32_t bytes = 1;

  /// `size` and `count` are of whole units.
  uint64_t ElementsIn(uint64_t size) const { return size / bytes * elements; }
  uint64_t BytesOf(uint64_t count) const { return count / elements * bytes; }
  bool operator==(const Packing&) const = default;
};
/// That of a type; it is known.
Packing PackingOf(DType dtype);

/// The elements of a frame are packed as `packing` says and stand in rows of
/// `row` elements (0: one row); the first is element `position` of the tensor.
/// Row i of a frame is the i-th of which it has elements.
struct FrameSources {
  Packing packing;
  uint64_t row = 0;
  uint64_t position = 0;
  std::vector<FrameSource> sources;  ///< none: the frame has no sources
};

struct BlocksHead {
  bool kept = false;  ///< later blocks may refer to its blocks
  uint32_t block_size = 0;
  uint32_t size = 0;  ///< decoded bytes of the frame
  FrameSources against;
  std::vector<CodecParams> params;
  std::vector<BlockRecord> blocks;
  /// Bytes from the Shared frame that its blocks need to the start of this one;
  /// 0: none.
  uint64_t shared_distance = 0;
};
/// The number of rows of which elements `position` to `position + count` of
/// the tensor are.
uint64_t RowsTouched(const FrameSources& against, uint64_t count);
void WriteBlocksHead(const BlocksHead& blocks, Buffer* out);
/// The result has views into `head`.
absl::StatusOr<BlocksHead> ParseBlocksHead(ByteSpan head, uint32_t data_size,
                                           const Header& header);

/// A tensor outside of the archive that blocks are coded against.
struct OutsideReference {
  Sha256Digest sha256{};
  uint64_t length = 0;  ///< bytes
  /// How many more archives it takes to decode it; 0: it is plain.
  uint8_t depth = 0;
  std::string tensor;  ///< its name, for messages and to find it sooner
  std::string model;   ///< the file it was in, likewise
};
void WriteReferences(const std::vector<OutsideReference>& references,
                     Buffer* out);
absl::StatusOr<std::vector<OutsideReference>> ParseReferences(ByteSpan head);

struct EntryEnd {
  uint64_t size = 0;
  Sha256Digest sha256{};
};
void WriteEntryEnd(const EntryEnd& end, Buffer* out);
absl::StatusOr<EntryEnd> ParseEntryEnd(ByteSpan head);

/// Where a Blocks or an Ahead frame stands.
struct FrameRecord {
  uint64_t offset = 0;  ///< from the start of the archive
  uint32_t head_size = 0;
  uint32_t data_size = 0;
  uint32_t size = 0;  ///< decoded bytes; 0: an Ahead frame, of no bytes of the
                      ///< file
  uint32_t blocks = 0;
};
struct IndexEntry {
  Entry entry;
  std::vector<FrameRecord> frames;
};

/// Head of an Index or Lines frame.
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

/// What is known of the lines of one block. A line belongs to the block that it
/// begins in.
struct BlockLines {
  enum class Times : uint8_t {
    kNone = 0,     ///< no line has a time
    kSome = 1,     ///< those that have one are of `earliest` to `latest`
    kUnknown = 2,  ///< nobody looked
  };
  uint32_t line_ends = 0;
  bool ends_line = false;  ///< its last byte is a line end
  bool has_nul = false;    ///< a byte of it is 0
  Times times = Times::kUnknown;
  /// Milliseconds since 1970, rounded down and up (base/timestamp.h).
  int64_t earliest = 0;
  int64_t latest = 0;
  /// A set of bits by LetterBit, of four letters each that follow each other in
  /// it; empty: not told.
  std::vector<uint8_t> letters;
};
/// Bytes of BlockLines::letters, and the bit of four letters that are numbers
/// from 0 to 25.
inline constexpr size_t kLetterBytes = size_t{1} << 10;
constexpr uint32_t LetterBit(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  return (((a * 26 + b) * 26 + c) * 26 + d) * 2654435761u >> 19;
}
/// Of all blocks of a file, in order.
struct FileLines {
  uint64_t entry = 0;  ///< its number in the archive
  std::vector<BlockLines> blocks;
};
/// What the Lines frames of an archive join to; files come in ascending order,
/// and have `letters` in all blocks or in none.
void WriteLines(const std::vector<FileLines>& files, Buffer* out);
/// RESOURCE_EXHAUSTED where the result would take more than `max_memory` bytes.
absl::StatusOr<std::vector<FileLines>> ParseLines(ByteSpan bytes,
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
