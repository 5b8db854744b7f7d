#include "container/format.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string_view>
#include <unordered_map>

#include "base/bytes.h"
#include "base/memory_budget.h"
#include "codecs/codec.h"
#include "container/xxh3.h"
#include "entropy/bits.h"

namespace zipllm::container {
namespace {

using entropy::UnZigZag64;
using entropy::ZigZag64;

constexpr uint64_t kBlocksKept = 1;
constexpr uint64_t kBlocksSources = 2;
constexpr uint64_t kBlocksShared = 4;
constexpr uint8_t kFrameOptional = 1;
constexpr std::array<uint8_t, 8> kEndMagic = {'Z', 'L', 'L', 'M',
                                              'E', 'N', 'D', '\n'};
constexpr uint32_t kMaxNanoseconds = 999'999'999;
constexpr uint64_t kMaxFileSize = INT64_MAX;
constexpr uint64_t kMaxName = 65535;
// Names of files in a References frame, those that are told by leaving them out
// too.
constexpr uint64_t kMaxModelNames = uint64_t{1} << 26;

void WriteEntryFields(const Entry& entry, ByteWriter& writer) {
  writer.Varint(static_cast<uint64_t>(entry.kind));
  writer.String(entry.path);
  writer.Varint(entry.has_metadata ? 1 : 0);
  if (entry.has_metadata) {
    writer.Varint(entry.mode);
    writer.Varint(ZigZag64(entry.mtime_seconds));
    writer.Varint(entry.mtime_nanoseconds);
  }
  if (entry.kind == EntryKind::kSymlink) writer.String(entry.link_target);
}

absl::StatusOr<Entry> ReadEntryFields(ByteReader& reader) {
  Entry entry;
  ASSIGN_OR_RETURN(uint64_t kind, reader.Varint(2));
  entry.kind = static_cast<EntryKind>(kind);
  ASSIGN_OR_RETURN(entry.path, reader.String(kMaxPath));
  RETURN_IF_ERROR(CheckPath(entry.path, entry.kind));
  ASSIGN_OR_RETURN(uint64_t has_metadata, reader.Varint(1));
  entry.has_metadata = has_metadata != 0;
  if (entry.has_metadata) {
    ASSIGN_OR_RETURN(uint64_t mode, reader.Varint(07777));
    entry.mode = static_cast<uint32_t>(mode);
    ASSIGN_OR_RETURN(uint64_t seconds, reader.Varint());
    entry.mtime_seconds = UnZigZag64(seconds);
    ASSIGN_OR_RETURN(uint64_t nanoseconds, reader.Varint(kMaxNanoseconds));
    entry.mtime_nanoseconds = static_cast<uint32_t>(nanoseconds);
  }
  if (entry.kind == EntryKind::kSymlink) {
    ASSIGN_OR_RETURN(entry.link_target, reader.String(kMaxPath));
    if (entry.link_target.empty() ||
        entry.link_target.find('\0') != std::string::npos) {
      return reader.Error("target of a symbolic link is empty or has a NUL");
    }
  }
  return entry;
}

absl::Status ReadLayout(ByteReader& reader, MemoryBudget& budget,
                        Entry& entry) {
  ASSIGN_OR_RETURN(entry.layout.format, reader.String(64));
  // A segment takes at least 4 bytes: what is left bounds how many there can
  // be.
  ASSIGN_OR_RETURN(uint64_t count, reader.Varint(reader.remaining() / 4));
  RETURN_IF_ERROR(budget.Reserve(count * sizeof(Segment)));
  entry.layout.segments.resize(count);
  uint64_t offset = 0;
  for (Segment& segment : entry.layout.segments) {
    ASSIGN_OR_RETURN(uint8_t dtype, reader.Le<uint8_t>());
    segment.dtype = static_cast<DType>(dtype);
    if (FindDType(segment.dtype) == nullptr) segment.dtype = DType::kBytes;
    segment.offset = offset;
    ASSIGN_OR_RETURN(segment.length, reader.Varint(entry.size - offset));
    offset += segment.length;
    ASSIGN_OR_RETURN(segment.name, reader.String(kMaxName));
    ASSIGN_OR_RETURN(uint64_t rank, reader.Varint(64));
    RETURN_IF_ERROR(
        budget.Reserve(segment.name.size() + rank * sizeof(uint64_t)));
    segment.shape.resize(rank);
    for (uint64_t& dimension : segment.shape) {
      ASSIGN_OR_RETURN(dimension, reader.Varint());
    }
  }
  if (offset != entry.size)
    return reader.Error("segments of ", entry.path,
                        " do not add up to its size");
  return absl::OkStatus();
}

absl::Status ReadFrames(ByteReader& reader, MemoryBudget& budget,
                        uint64_t* previous_offset, IndexEntry& out) {
  // A frame takes at least 5 bytes here.
  ASSIGN_OR_RETURN(uint64_t count, reader.Varint(reader.remaining() / 5));
  RETURN_IF_ERROR(budget.Reserve(count * sizeof(FrameRecord)));
  out.frames.resize(count);
  uint64_t total = 0;
  for (FrameRecord& frame : out.frames) {
    ASSIGN_OR_RETURN(uint64_t gap, reader.Varint());
    if (!CheckedAdd(*previous_offset, gap, &frame.offset) ||
        frame.offset > kMaxFileSize) {
      return reader.Error("offset of a frame is too large");
    }
    *previous_offset = frame.offset;
    ASSIGN_OR_RETURN(uint64_t head_size, reader.Varint(kMaxHead));
    ASSIGN_OR_RETURN(uint64_t data_size, reader.Varint(kMaxFrame));
    ASSIGN_OR_RETURN(uint64_t size, reader.Varint(kMaxFrame));
    ASSIGN_OR_RETURN(uint64_t blocks,
                     reader.Varint(size == 0 ? kMaxFrame : size));
    frame.head_size = static_cast<uint32_t>(head_size);
    frame.data_size = static_cast<uint32_t>(data_size);
    frame.size = static_cast<uint32_t>(size);
    frame.blocks = static_cast<uint32_t>(blocks);
    out.entry.coded_size += kPrefixSize + head_size + kHashSize + data_size;
    total += size;  // at most 2^27 x 2^61: checked against the size below
    if (total > out.entry.size) break;
  }
  if (total != out.entry.size) {
    return reader.Error("frames of ", out.entry.path,
                        " do not add up to its size");
  }
  return absl::OkStatus();
}

}  // namespace

bool MayComeFirst(const Entry& entry) {
  return entry.kind == EntryKind::kFile ||
         (entry.kind == EntryKind::kDirectory && entry.path.empty());
}

absl::Status CheckTree(std::string_view what, size_t count,
                       const std::function<const Entry&(size_t)>& entry) {
  if (count == 0) return DataLoss(what, " has no entry");
  if (!MayComeFirst(entry(0)) ||
      (count > 1 && entry(0).kind == EntryKind::kFile)) {
    return DataLoss(what, " is neither one file nor a tree with a root");
  }
  std::unordered_map<std::string_view, EntryKind> kinds;
  for (size_t i = 0; i < count; ++i) {
    const std::string_view path = entry(i).path;
    if (!kinds.empty()) {
      const size_t slash = path.rfind('/');
      auto parent = kinds.find(
          path.substr(0, slash == std::string_view::npos ? 0 : slash));
      if (parent == kinds.end() || parent->second != EntryKind::kDirectory) {
        return DataLoss(what, " has the entry \"", path,
                        "\" before its directory");
      }
    }
    if (!kinds.emplace(path, entry(i).kind).second) {
      return DataLoss(what, " has the path \"", path, "\" twice");
    }
  }
  return absl::OkStatus();
}

std::array<uint8_t, kHeaderSize> WriteHeader(const Header& header) {
  std::array<uint8_t, kHeaderSize> bytes{};
  std::copy(kMagic.begin(), kMagic.end(), bytes.begin());
  bytes[8] = kMajorVersion;
  bytes[9] = kMinorVersion;
  StoreLe<uint32_t>(&bytes[12], header.max_block);
  StoreLe<uint32_t>(&bytes[16], header.max_frame);
  StoreLe<uint64_t>(&bytes[24], Xxh3({bytes.data(), 24}));
  return bytes;
}

bool LooksLikeArchive(ByteSpan bytes) {
  size_t n = std::min(bytes.size(), kMagic.size());
  return n > 0 &&
         std::equal(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(n),
                    kMagic.begin());
}

absl::StatusOr<Header> ParseHeader(ByteSpan bytes) {
  if (bytes.size() < kHeaderSize || !LooksLikeArchive(bytes)) {
    return DataLoss("not a zipllm archive (it does not begin as one)");
  }
  if (bytes[8] != kMajorVersion) {
    return Unimplemented("the archive has format version ", int{bytes[8]}, ".",
                         int{bytes[9]}, "; this zipllm reads version ",
                         int{kMajorVersion},
                         ": use a zipllm that reads version ", int{bytes[8]});
  }
  if (LoadLe<uint64_t>(&bytes[24]) != Xxh3(bytes.first(24))) {
    return DataLoss("the archive's header is damaged (checksum)");
  }
  if (LoadLe<uint16_t>(&bytes[10]) != 0 || LoadLe<uint32_t>(&bytes[20]) != 0) {
    return Unimplemented(
        "the archive's header asks for features this zipllm does not have: use "
        "a newer one");
  }
  Header header;
  header.max_block = LoadLe<uint32_t>(&bytes[12]);
  header.max_frame = LoadLe<uint32_t>(&bytes[16]);
  if (header.max_block > kMaxBlock || header.max_frame > kMaxFrame) {
    return DataLoss(
        "the archive's header declares blocks or frames above the format's "
        "limits");
  }
  return header;
}

absl::StatusOr<FramePrefix> ParsePrefix(ByteSpan bytes, uint64_t offset) {
  if (bytes.size() < kPrefixSize) {
    return DataLoss("the archive ends inside a frame that begins at byte ",
                    offset);
  }
  FramePrefix prefix;
  prefix.type = bytes[0];
  prefix.optional = (bytes[1] & kFrameOptional) != 0;
  prefix.head_size = LoadLe<uint32_t>(&bytes[4]);
  prefix.data_size = LoadLe<uint32_t>(&bytes[8]);
  const bool may_have_data = !prefix.Known() || prefix.Is(FrameType::kBlocks) ||
                             prefix.Is(FrameType::kIndex) ||
                             prefix.Is(FrameType::kShared) ||
                             prefix.Is(FrameType::kAhead);
  if ((bytes[1] & ~kFrameOptional) != 0 || LoadLe<uint16_t>(&bytes[2]) != 0 ||
      (prefix.Known() && prefix.optional) ||
      (!may_have_data && prefix.data_size != 0) ||
      prefix.head_size > kMaxHead || prefix.data_size > kMaxFrame) {
    return DataLoss("no valid frame at byte ", offset, " of the archive");
  }
  return prefix;
}

absl::Status CheckHead(ByteSpan bytes, uint64_t offset) {
  size_t covered = bytes.size() - kHashSize;
  if (LoadLe<uint64_t>(&bytes[covered]) == Xxh3(bytes.first(covered)))
    return absl::OkStatus();
  return DataLoss("the frame at byte ", offset,
                  " of the archive is damaged (checksum of its head)");
}

Buffer WriteFrameStart(FrameType type, ByteSpan head, uint32_t data_size,
                       bool optional) {
  Buffer out;
  ByteWriter writer(&out);
  writer.Le<uint8_t>(static_cast<uint8_t>(type));
  writer.Le<uint8_t>(optional ? kFrameOptional : 0);
  writer.Le<uint16_t>(0);
  writer.Le<uint32_t>(static_cast<uint32_t>(head.size()));
  writer.Le<uint32_t>(data_size);
  writer.Bytes(head);
  writer.Le<uint64_t>(Xxh3(out.span()));
  return out;
}

absl::Status CheckPath(const std::string& path, EntryKind kind) {
  if (path.empty()) {
    if (kind != EntryKind::kSymlink) return absl::OkStatus();
    return DataLoss("a symbolic link of the archive has no name");
  }
  if (path.size() > kMaxPath || path.find('\0') != std::string::npos) {
    return DataLoss("a path of the archive is too long or has a NUL");
  }
  for (size_t start = 0; start <= path.size();) {
    size_t end = std::min(path.find('/', start), path.size());
    std::string_view part(path.data() + start, end - start);
    if (part.empty() || part == "." || part == ".." ||
        part.size() > kMaxPathPart) {
      return DataLoss("the archive's path \"", path,
                      "\" is refused: it is absolute, leaves its folder or has "
                      "an invalid part");
    }
    start = end + 1;
  }
  return absl::OkStatus();
}

void WriteEntryHead(const Entry& entry, Buffer* out) {
  ByteWriter writer(out);
  WriteEntryFields(entry, writer);
}

absl::StatusOr<Entry> ParseEntryHead(ByteSpan head) {
  ByteReader reader(head, "Entry frame");
  ASSIGN_OR_RETURN(Entry entry, ReadEntryFields(reader));
  RETURN_IF_ERROR(reader.ExpectEnd());
  return entry;
}

namespace {

// Sources of more elements are none: products with rows do not overflow.
constexpr uint64_t kMaxElements = uint64_t{1} << 48;
// Of a unit of packed ones: elements a byte, and bytes.
constexpr uint64_t kMaxPacked = 8;
constexpr uint64_t kMaxUnitBytes = 4096;
// Bytes of a source that lie beside a block.
constexpr uint64_t kMaxBeside = kMaxBlock;

void WriteSource(const FrameSource& source, ByteWriter& writer) {
  writer.Le(static_cast<uint8_t>(source.role));
  writer.Le(static_cast<uint8_t>(source.dtype));
  writer.Le<uint8_t>(source.outside ? 1 : 0);
  writer.Varint(source.where);
  if (!source.outside) writer.Varint(source.block_size);
  writer.Varint(source.elements);
  writer.Varint(source.row);
  writer.Le(static_cast<uint8_t>(source.order));
  if (source.order == FrameSource::Order::kWhole) return;
  if (source.order != FrameSource::Order::kRows) {
    writer.Varint(source.row_offset);
  }
  writer.Varint(source.column_offset);
  for (const uint32_t row : source.rows) writer.Varint(row);
}

// Whether `source` has an element for each of `count` of the frame.
bool Covers(const FrameSources& against, const FrameSource& source,
            uint64_t count) {
  const uint64_t rows = RowsTouched(against, count);
  const uint64_t columns = against.row == 0 ? count : against.row;
  const uint64_t source_rows = source.elements / source.row;
  const auto fits = [](uint64_t offset, uint64_t size, uint64_t all) {
    return offset <= all && size <= all - offset;
  };
  switch (source.order) {
    case FrameSource::Order::kSame:
      return fits(source.row_offset, rows, source_rows) &&
             fits(source.column_offset, columns, source.row);
    case FrameSource::Order::kTransposed:
      return fits(source.row_offset, columns, source_rows) &&
             fits(source.column_offset, rows, source.row);
    case FrameSource::Order::kRows:
      return fits(source.column_offset, columns, source.row);
    case FrameSource::Order::kWhole:
      return true;
  }
  return false;
}

// Whether what lies beside each block of `block` elements, of a frame of
// `count`, is whole units of `unit` elements of the source, row by row.
bool InWholeUnits(const FrameSources& against, const FrameSource& source,
                  uint64_t unit, uint64_t block, uint64_t count) {
  if (unit == 1) return true;
  return source.order != FrameSource::Order::kTransposed &&
         source.row % unit == 0 && source.column_offset % unit == 0 &&
         against.row % unit == 0 && against.position % unit == 0 &&
         block % unit == 0 && count % unit == 0;
}

absl::StatusOr<FrameSource> ParseSource(const FrameSources& against,
                                        uint64_t block_size, uint64_t count,
                                        const Header& header,
                                        ByteReader& reader) {
  FrameSource source;
  ASSIGN_OR_RETURN(const uint8_t role, reader.Le<uint8_t>());
  if (role > static_cast<uint8_t>(codecs::kMaxRole)) {
    return Unimplemented("a source has role ", int{role},
                         ", which this zipllm does not know: use a newer one");
  }
  source.role = static_cast<codecs::Role>(role);
  ASSIGN_OR_RETURN(const uint8_t dtype, reader.Le<uint8_t>());
  source.dtype = static_cast<DType>(dtype);
  const DTypeInfo* info = FindDType(source.dtype);
  if (info == nullptr) {
    return reader.Error("a source of element type ", int{dtype});
  }
  const Packing packing = PackingOf(source.dtype);
  ASSIGN_OR_RETURN(const uint8_t outside, reader.Le<uint8_t>());
  if (outside > 1) return reader.Error("a source of no known place");
  source.outside = outside != 0;
  ASSIGN_OR_RETURN(source.where, reader.Varint());
  if (!source.outside) {
    ASSIGN_OR_RETURN(source.block_size, reader.Varint(header.max_block));
    if (source.where == 0 || source.block_size == 0 ||
        source.block_size % packing.bytes != 0) {
      return reader.Error("a source of blocks of ", source.block_size,
                          " bytes");
    }
  }
  ASSIGN_OR_RETURN(source.elements, reader.Varint(kMaxElements));
  ASSIGN_OR_RETURN(source.row, reader.Varint(source.elements));
  if (source.row == 0 || source.elements % source.row != 0 ||
      source.elements % packing.elements != 0) {
    return reader.Error(source.elements, " elements in rows of ", source.row);
  }
  ASSIGN_OR_RETURN(const uint8_t order, reader.Le<uint8_t>());
  const bool whole = codecs::IsWhole(source.role);
  if (order > static_cast<uint8_t>(FrameSource::Order::kWhole)) {
    return reader.Error("unknown order ", int{order});
  }
  source.order = static_cast<FrameSource::Order>(order);
  if (whole != (source.order == FrameSource::Order::kWhole)) {
    return reader.Error("a source of order ", int{order}, " and role ",
                        int{role});
  }
  if (whole) {
    if (packing.BytesOf(source.elements) > header.max_frame) {
      return reader.Error("a whole source of ", source.elements, " elements");
    }
    return source;
  }
  if (source.order != FrameSource::Order::kRows) {
    ASSIGN_OR_RETURN(source.row_offset, reader.Varint(source.elements));
  }
  ASSIGN_OR_RETURN(source.column_offset, reader.Varint(source.elements));
  if (source.order == FrameSource::Order::kRows) {
    const uint64_t rows = RowsTouched(against, count);
    if (rows > reader.remaining()) return reader.Error("ends in its rows");
    source.rows.resize(rows);
    const uint64_t last =
        std::min<uint64_t>(source.elements / source.row - 1, UINT32_MAX);
    for (uint32_t& row : source.rows) {
      ASSIGN_OR_RETURN(const uint64_t value, reader.Varint(last));
      row = static_cast<uint32_t>(value);
    }
  }
  if (!Covers(against, source, count)) {
    return reader.Error("a source that lacks elements");
  }
  if (!InWholeUnits(against, source, packing.elements,
                    against.packing.ElementsIn(block_size), count)) {
    return reader.Error("a source that lacks parts of its units");
  }
  const uint64_t beside =
      std::min(count, against.packing.ElementsIn(block_size));
  if (packing.BytesOf(beside) > kMaxBeside) {
    return reader.Error(packing.BytesOf(beside), " bytes beside a block");
  }
  return source;
}

absl::StatusOr<FrameSources> ParseSources(uint64_t block_size, uint64_t size,
                                          const Header& header,
                                          ByteReader& reader) {
  FrameSources against;
  ASSIGN_OR_RETURN(const uint8_t width, reader.Le<uint8_t>());
  Packing& packing = against.packing;
  packing.bytes = width;
  if (width == 0) {
    ASSIGN_OR_RETURN(const uint64_t unit,
                     reader.Varint(kMaxPacked * kMaxUnitBytes));
    ASSIGN_OR_RETURN(const uint64_t bytes, reader.Varint(kMaxUnitBytes));
    packing = {static_cast<uint32_t>(unit), static_cast<uint32_t>(bytes)};
  }
  const bool valid = width == 0
                         ? packing.elements > 1 && packing.bytes > 0 &&
                               packing.elements <= kMaxPacked * packing.bytes
                         : std::has_single_bit(width) && width <= 8;
  if (!valid || block_size % packing.bytes != 0 || size % packing.bytes != 0) {
    return reader.Error(packing.elements, " elements in ", packing.bytes,
                        " bytes");
  }
  ASSIGN_OR_RETURN(against.row, reader.Varint(kMaxElements));
  ASSIGN_OR_RETURN(against.position, reader.Varint(kMaxElements));
  ASSIGN_OR_RETURN(const uint64_t count, reader.Varint(codecs::kMaxReferences));
  if (count == 0) return reader.Error("no sources");
  for (uint64_t i = 0; i < count; ++i) {
    ASSIGN_OR_RETURN(FrameSource source,
                     ParseSource(against, block_size, packing.ElementsIn(size),
                                 header, reader));
    against.sources.push_back(std::move(source));
  }
  return against;
}

}  // namespace

Packing PackingOf(DType dtype) {
  const DTypeInfo* info = FindDType(dtype);
  return {info->block_elements, info->block_bytes};
}

uint64_t RowsTouched(const FrameSources& against, uint64_t count) {
  if (against.row == 0) return 1;
  const uint64_t first = against.position % against.row;
  return (first + count + against.row - 1) / against.row;
}

void WriteBlocksHead(const BlocksHead& blocks, Buffer* out) {
  const FrameSources& against = blocks.against;
  const bool has_sources = !against.sources.empty();
  const bool has_shared = blocks.shared_distance != 0;
  ByteWriter writer(out);
  writer.Varint((blocks.kept ? kBlocksKept : 0) |
                (has_sources ? kBlocksSources : 0) |
                (has_shared ? kBlocksShared : 0));
  writer.Varint(blocks.block_size);
  writer.Varint(blocks.size);
  if (has_sources) {
    const bool packed = against.packing.elements != 1;
    writer.Le<uint8_t>(packed ? 0
                              : static_cast<uint8_t>(against.packing.bytes));
    if (packed) {
      writer.Varint(against.packing.elements);
      writer.Varint(against.packing.bytes);
    }
    writer.Varint(against.row);
    writer.Varint(against.position);
    writer.Varint(against.sources.size());
    for (const FrameSource& source : against.sources) {
      WriteSource(source, writer);
    }
  }
  if (has_shared) writer.Varint(blocks.shared_distance);
  writer.Varint(blocks.params.size());
  for (const CodecParams& params : blocks.params) {
    writer.Le<uint8_t>(params.codec);
    writer.Varint(params.bytes.size());
    writer.Bytes(params.bytes);
  }
  for (const BlockRecord& block : blocks.blocks) {
    writer.Le<uint8_t>(block.codec);
    writer.Varint(block.coded_size);
    writer.Le<uint64_t>(block.hash);
  }
}

absl::StatusOr<BlocksHead> ParseBlocksHead(ByteSpan head, uint32_t data_size,
                                           const Header& header) {
  ByteReader reader(head, "Blocks frame");
  BlocksHead out;
  ASSIGN_OR_RETURN(uint64_t flags,
                   reader.Varint(kBlocksKept | kBlocksSources | kBlocksShared));
  out.kept = (flags & kBlocksKept) != 0;
  ASSIGN_OR_RETURN(uint64_t block_size, reader.Varint(header.max_block));
  ASSIGN_OR_RETURN(uint64_t size, reader.Varint(header.max_frame));
  if (block_size == 0 || size == 0)
    return reader.Error("a frame or block of no bytes");
  out.block_size = static_cast<uint32_t>(block_size);
  out.size = static_cast<uint32_t>(size);
  if ((flags & kBlocksSources) != 0) {
    ASSIGN_OR_RETURN(out.against,
                     ParseSources(block_size, size, header, reader));
  }
  if ((flags & kBlocksShared) != 0) {
    ASSIGN_OR_RETURN(out.shared_distance, reader.Varint());
    if (out.shared_distance == 0) return reader.Error("nothing is shared");
  }
  ASSIGN_OR_RETURN(uint64_t params_count, reader.Varint(256));
  for (uint64_t i = 0; i < params_count; ++i) {
    CodecParams params;
    ASSIGN_OR_RETURN(params.codec, reader.Le<uint8_t>());
    if (!out.params.empty() && params.codec <= out.params.back().codec) {
      return reader.Error("parameters are out of order");
    }
    ASSIGN_OR_RETURN(uint64_t length, reader.Varint(codecs::kMaxParamsBytes));
    ASSIGN_OR_RETURN(params.bytes, reader.Bytes(length));
    out.params.push_back(params);
  }
  uint64_t count = (size + block_size - 1) / block_size;
  // A record takes at least 10 bytes: what is left bounds how many there can
  // be.
  if (count > reader.remaining() / 10)
    return reader.Error("ends before its ", count, " blocks");
  out.blocks.resize(count);
  uint64_t coded_offset = 0;
  uint64_t left = size;
  for (BlockRecord& block : out.blocks) {
    block.size = static_cast<uint32_t>(std::min(left, block_size));
    left -= block.size;
    ASSIGN_OR_RETURN(block.codec, reader.Le<uint8_t>());
    ASSIGN_OR_RETURN(uint64_t coded_size, reader.Varint(block.size));
    ASSIGN_OR_RETURN(block.hash, reader.Le<uint64_t>());
    block.coded_size = static_cast<uint32_t>(coded_size);
    block.coded_offset = static_cast<uint32_t>(coded_offset);
    coded_offset += coded_size;
  }
  if (coded_offset != data_size)
    return reader.Error("coded blocks do not add up to the data");
  RETURN_IF_ERROR(reader.ExpectEnd());
  return out;
}

void WriteReferences(const std::vector<OutsideReference>& references,
                     Buffer* out) {
  ByteWriter writer(out);
  writer.Varint(references.size());
  const std::string* previous = nullptr;
  for (const OutsideReference& reference : references) {
    writer.Bytes(reference.sha256);
    writer.Varint(reference.length);
    writer.Varint(reference.depth);
    writer.String(reference.tensor);
    const bool same = previous != nullptr && *previous == reference.model;
    writer.String(same ? "" : reference.model);
    previous = &reference.model;
  }
}

absl::StatusOr<std::vector<OutsideReference>> ParseReferences(ByteSpan head) {
  ByteReader reader(head, "References frame");
  // A record takes at least 36 bytes.
  ASSIGN_OR_RETURN(const uint64_t count,
                   reader.Varint(reader.remaining() / 36));
  if (count == 0) return reader.Error("no references");
  std::vector<OutsideReference> references(count);
  std::string previous;
  uint64_t names = 0;
  for (OutsideReference& reference : references) {
    ASSIGN_OR_RETURN(const ByteSpan digest,
                     reader.Bytes(reference.sha256.size()));
    std::ranges::copy(digest, reference.sha256.begin());
    ASSIGN_OR_RETURN(reference.length, reader.Varint(kMaxFileSize));
    ASSIGN_OR_RETURN(const uint64_t depth, reader.Varint(kMaxDepth - 1));
    reference.depth = static_cast<uint8_t>(depth);
    ASSIGN_OR_RETURN(reference.tensor, reader.String(kMaxName));
    ASSIGN_OR_RETURN(reference.model, reader.String(kMaxPath));
    if (reference.model.empty()) reference.model = previous;
    previous = reference.model;
    names += reference.model.size();
    if (names > kMaxModelNames) return reader.Error("names without end");
  }
  RETURN_IF_ERROR(reader.ExpectEnd());
  return references;
}

void WriteEntryEnd(const EntryEnd& end, Buffer* out) {
  ByteWriter writer(out);
  writer.Varint(end.size);
  writer.Bytes(end.sha256);
}

absl::StatusOr<EntryEnd> ParseEntryEnd(ByteSpan head) {
  ByteReader reader(head, "EntryEnd frame");
  EntryEnd end;
  ASSIGN_OR_RETURN(end.size, reader.Varint(kMaxFileSize));
  ASSIGN_OR_RETURN(ByteSpan digest, reader.Bytes(end.sha256.size()));
  std::copy(digest.begin(), digest.end(), end.sha256.begin());
  RETURN_IF_ERROR(reader.ExpectEnd());
  return end;
}

void WriteIndexPiece(const IndexPiece& piece, Buffer* out) {
  ByteWriter writer(out);
  writer.Varint(piece.size);
  writer.Le<uint8_t>(piece.codec);
  writer.Le<uint64_t>(piece.hash);
}

absl::StatusOr<IndexPiece> ParseIndexPiece(ByteSpan head) {
  ByteReader reader(head, "Index or Lines frame");
  IndexPiece piece;
  ASSIGN_OR_RETURN(uint64_t size, reader.Varint(kMaxIndexPiece));
  if (size == 0) return reader.Error("a piece of no bytes");
  piece.size = static_cast<uint32_t>(size);
  ASSIGN_OR_RETURN(piece.codec, reader.Le<uint8_t>());
  ASSIGN_OR_RETURN(piece.hash, reader.Le<uint64_t>());
  RETURN_IF_ERROR(reader.ExpectEnd());
  return piece;
}

void WriteIndexEntry(const IndexEntry& indexed, uint64_t* previous_offset,
                     Buffer* out) {
  const Entry& entry = indexed.entry;
  ByteWriter writer(out);
  WriteEntryFields(entry, writer);
  if (entry.kind != EntryKind::kFile) return;
  writer.Varint(entry.size);
  writer.Bytes(entry.sha256);
  writer.String(entry.layout.format);
  writer.Varint(entry.layout.segments.size());
  for (const Segment& segment : entry.layout.segments) {
    writer.Le<uint8_t>(static_cast<uint8_t>(segment.dtype));
    writer.Varint(segment.length);
    writer.String(segment.name);
    writer.Varint(segment.shape.size());
    for (uint64_t dimension : segment.shape) writer.Varint(dimension);
  }
  writer.Varint(indexed.frames.size());
  for (const FrameRecord& frame : indexed.frames) {
    writer.Varint(frame.offset - *previous_offset);
    *previous_offset = frame.offset;
    writer.Varint(frame.head_size);
    writer.Varint(frame.data_size);
    writer.Varint(frame.size);
    writer.Varint(frame.blocks);
  }
}

absl::StatusOr<std::vector<IndexEntry>> ParseIndex(ByteSpan bytes,
                                                   uint64_t max_memory) {
  MemoryBudget budget("the archive's index", max_memory);
  ByteReader reader(bytes, "index");
  // An entry takes at least 3 bytes: what is there bounds how many there can
  // be.
  ASSIGN_OR_RETURN(uint64_t count, reader.Varint(bytes.size() / 3));
  std::vector<IndexEntry> entries;
  uint64_t previous_offset = 0;
  for (uint64_t i = 0; i < count; ++i) {
    // Twice, since the vector grows by doubling.
    RETURN_IF_ERROR(budget.Reserve(2 * sizeof(IndexEntry)));
    IndexEntry indexed;
    ASSIGN_OR_RETURN(indexed.entry, ReadEntryFields(reader));
    if (indexed.entry.kind == EntryKind::kFile) {
      ASSIGN_OR_RETURN(indexed.entry.size, reader.Varint(kMaxFileSize));
      ASSIGN_OR_RETURN(ByteSpan digest,
                       reader.Bytes(indexed.entry.sha256.size()));
      std::copy(digest.begin(), digest.end(), indexed.entry.sha256.begin());
      RETURN_IF_ERROR(ReadLayout(reader, budget, indexed.entry));
      RETURN_IF_ERROR(ReadFrames(reader, budget, &previous_offset, indexed));
    }
    entries.push_back(std::move(indexed));
  }
  RETURN_IF_ERROR(reader.ExpectEnd());
  constexpr size_t kBytesPerPath = 64;  // a node and its place in the table
  RETURN_IF_ERROR(budget.Reserve(entries.size() * kBytesPerPath));
  RETURN_IF_ERROR(CheckTree(
      "the archive", entries.size(),
      [&entries](size_t i) -> const Entry& { return entries[i].entry; }));
  return entries;
}

void WriteLines(const std::vector<FileLines>& files, Buffer* out) {
  ByteWriter writer(out);
  writer.Varint(files.size());
  uint64_t next_entry = 0;
  for (const FileLines& file : files) {
    writer.Varint(file.entry - next_entry);
    next_entry = file.entry + 1;
    writer.Varint(file.blocks.size());
    int64_t previous = 0;
    for (const BlockLines& block : file.blocks) {
      writer.Varint(uint64_t{block.line_ends} << 2 | (block.has_nul ? 2 : 0) |
                    (block.ends_line ? 1 : 0));
      writer.Le<uint8_t>(static_cast<uint8_t>(block.times));
      if (block.times != BlockLines::Times::kSome) continue;
      writer.Varint(ZigZag64(block.earliest - previous));
      writer.Varint(static_cast<uint64_t>(block.latest - block.earliest));
      previous = block.latest;
    }
    const bool has_letters =
        !file.blocks.empty() && !file.blocks.front().letters.empty();
    writer.Le<uint8_t>(has_letters ? 1 : 0);
    if (!has_letters) continue;
    // Blocks have much the same ones.
    std::array<uint8_t, kLetterBytes> before{};
    for (const BlockLines& block : file.blocks) {
      for (size_t i = 0; i < kLetterBytes; ++i) {
        writer.Le<uint8_t>(block.letters[i] ^ before[i]);
        before[i] = block.letters[i];
      }
    }
  }
}

absl::StatusOr<std::vector<FileLines>> ParseLines(ByteSpan bytes,
                                                  uint64_t max_memory) {
  MemoryBudget budget("what the archive tells of lines", max_memory);
  ByteReader reader(bytes, "Lines frame");
  // A file takes at least 2 bytes, a block too.
  ASSIGN_OR_RETURN(const uint64_t count, reader.Varint(reader.remaining() / 2));
  RETURN_IF_ERROR(budget.Reserve(count * sizeof(FileLines)));
  std::vector<FileLines> files(count);
  uint64_t next_entry = 0;
  for (FileLines& file : files) {
    ASSIGN_OR_RETURN(const uint64_t gap, reader.Varint(kMaxFileSize));
    file.entry = next_entry + gap;
    next_entry = file.entry + 1;
    if (next_entry > kMaxFileSize) return reader.Error("no such entry");
    ASSIGN_OR_RETURN(const uint64_t blocks,
                     reader.Varint(reader.remaining() / 2));
    RETURN_IF_ERROR(budget.Reserve(blocks * sizeof(BlockLines)));
    file.blocks.resize(blocks);
    int64_t previous = 0;
    for (BlockLines& block : file.blocks) {
      ASSIGN_OR_RETURN(const uint64_t ends,
                       reader.Varint(uint64_t{kMaxBlock} << 2 | 3));
      block.line_ends = static_cast<uint32_t>(ends >> 2);
      block.has_nul = (ends & 2) != 0;
      block.ends_line = (ends & 1) != 0;
      ASSIGN_OR_RETURN(const uint8_t times, reader.Le<uint8_t>());
      if (times > static_cast<uint8_t>(BlockLines::Times::kUnknown)) {
        return reader.Error("times are neither known nor unknown");
      }
      block.times = static_cast<BlockLines::Times>(times);
      if (block.times != BlockLines::Times::kSome) continue;
      ASSIGN_OR_RETURN(const uint64_t moved, reader.Varint());
      ASSIGN_OR_RETURN(const uint64_t span, reader.Varint(INT64_MAX));
      if (__builtin_add_overflow(previous, UnZigZag64(moved),
                                 &block.earliest) ||
          __builtin_add_overflow(block.earliest, static_cast<int64_t>(span),
                                 &block.latest)) {
        return reader.Error("a time is out of range");
      }
      previous = block.latest;
    }
    ASSIGN_OR_RETURN(const uint8_t has_letters, reader.Le<uint8_t>());
    if (has_letters > 1)
      return reader.Error("letters are neither told nor not");
    const BlockLines* before = nullptr;
    for (size_t i = 0; i < blocks && has_letters == 1; ++i) {
      ASSIGN_OR_RETURN(const ByteSpan changed, reader.Bytes(kLetterBytes));
      file.blocks[i].letters.assign(changed.begin(), changed.end());
      for (size_t k = 0; k < kLetterBytes && before != nullptr; ++k) {
        file.blocks[i].letters[k] ^= before->letters[k];
      }
      before = &file.blocks[i];
    }
  }
  RETURN_IF_ERROR(reader.ExpectEnd());
  return files;
}

Buffer WriteTrailer(const Trailer& trailer) {
  Buffer head;
  ByteWriter writer(&head);
  writer.Le<uint64_t>(trailer.index_offset);
  writer.Le<uint64_t>(trailer.archive_size);
  writer.Bytes(kEndMagic);
  return WriteFrameStart(FrameType::kTrailer, head.span(), 0);
}

absl::StatusOr<Trailer> ParseTrailer(ByteSpan head) {
  ByteReader reader(head, "trailer");
  Trailer trailer;
  ASSIGN_OR_RETURN(trailer.index_offset, reader.Le<uint64_t>());
  ASSIGN_OR_RETURN(trailer.archive_size, reader.Le<uint64_t>());
  ASSIGN_OR_RETURN(ByteSpan magic, reader.Bytes(kEndMagic.size()));
  if (!std::equal(magic.begin(), magic.end(), kEndMagic.begin()))
    return reader.Error("no end mark");
  RETURN_IF_ERROR(reader.ExpectEnd());
  if (trailer.archive_size < kHeaderSize + kTrailerSize ||
      trailer.index_offset < kHeaderSize ||
      trailer.index_offset > trailer.archive_size - kTrailerSize) {
    return reader.Error("offsets make no sense");
  }
  return trailer;
}

}  // namespace zipllm::container
