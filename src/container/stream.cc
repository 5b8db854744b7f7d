#include "container/stream.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/file.h"
#include "codecs/bytes/zstd_encode.h"
#include "codecs/codec.h"
#include "container/xxh3.h"

namespace zipllm::container {
namespace {

constexpr uint8_t kStored = 0;
constexpr uint8_t kZstd = 3;
constexpr int kIndexZstdLevel = 9;

}  // namespace

absl::Status CheckBounds(const Header& header, uint64_t max_memory) {
  uint64_t needed = header.max_frame + 2 * uint64_t{header.max_block};
  if (needed <= max_memory) return absl::OkStatus();
  return ResourceExhausted("the archive declares that decoding it takes ",
                           needed, " bytes of memory a thread, more than the ",
                           max_memory, " allowed: allow more (--memory)");
}

absl::Status FrameReader::Cut(uint64_t end) const {
  return DataLoss("the archive is cut: it ends at byte ", end,
                  " inside a frame");
}

absl::StatusOr<size_t> FrameReader::Read(MutableByteSpan out) {
  ASSIGN_OR_RETURN(
      size_t n, in_.Seekable() ? in_.ReadAt(offset_, out) : ReadFull(in_, out));
  offset_ += n;
  return n;
}

absl::Status FrameReader::ReadExactly(MutableByteSpan out) {
  ASSIGN_OR_RETURN(size_t n, Read(out));
  return n == out.size() ? absl::OkStatus() : Cut(offset_);
}

absl::StatusOr<std::optional<Header>> FrameReader::NextArchive() {
  std::array<uint8_t, kHeaderSize> bytes;
  uint64_t start = offset_;
  ASSIGN_OR_RETURN(size_t n, Read(bytes));
  if (n == 0 && start != 0) return std::nullopt;
  absl::StatusOr<Header> header = ParseHeader({bytes.data(), n});
  if (!header.ok() && start != 0) {
    return Annotate(header.status(), "after the archive that ends at byte ",
                    start, ": ");
  }
  RETURN_IF_ERROR(header.status());
  header_ = *header;
  RETURN_IF_ERROR(CheckBounds(header_, max_memory_));
  return header_;
}

absl::Status FrameReader::SkipData() {
  Buffer skipped;
  while (data_left_ > 0) {
    RETURN_IF_ERROR(
        ReadData(std::min<uint64_t>(data_left_, 1 << 16), &skipped));
  }
  return absl::OkStatus();
}

absl::Status FrameReader::ReadData(size_t size, Buffer* out) {
  if (size > data_left_) return DataLoss("a frame has less data than it says");
  out->Resize(size);
  data_left_ -= size;
  return ReadExactly(out->mutable_span());
}

absl::StatusOr<uint64_t> FrameReader::PassData(size_t size) {
  if (size > data_left_) return DataLoss("a frame has less data than it says");
  const uint64_t end = in_.Size().value_or(UINT64_MAX);
  if (offset_ > end || size > end - offset_) return Cut(end);
  data_left_ -= size;
  offset_ += size;
  return offset_ - size;
}

absl::StatusOr<Frame> FrameReader::Next() {
  while (true) {
    RETURN_IF_ERROR(SkipData());
    Frame frame;
    frame.offset = offset_;
    frame.start = pool_.Get();
    frame.start->Resize(kPrefixSize);
    RETURN_IF_ERROR(ReadExactly(frame.start->mutable_span()));
    ASSIGN_OR_RETURN(frame.prefix,
                     ParsePrefix(frame.start->span(), frame.offset));
    // A cut archive must not make us allocate what is not there: heads grow as
    // they are read.
    size_t rest = frame.prefix.head_size + kHashSize;
    constexpr size_t kStep = size_t{1} << 20;
    while (rest > 0) {
      size_t step = std::min(rest, kStep);
      RETURN_IF_ERROR(ReadExactly({frame.start->Extend(step), step}));
      rest -= step;
    }
    RETURN_IF_ERROR(CheckHead(frame.start->span(), frame.offset));
    data_left_ = frame.prefix.data_size;
    if (!frame.prefix.Known() && !frame.prefix.optional) {
      return Unimplemented("the frame at byte ", frame.offset, " has type ",
                           int{frame.prefix.type},
                           ", which this zipllm (format ", int{kMajorVersion},
                           ".", int{kMinorVersion},
                           ") does not know: use a newer one");
    }
    if (frame.prefix.data_size > header_.max_frame) {
      return DataLoss("the frame at byte ", frame.offset,
                      " is larger than the archive declares");
    }
    if (frame.prefix.Known()) return frame;
  }
}

absl::StatusOr<Frame> ReadFrameAt(Source& in, uint64_t offset) {
  Frame frame;
  frame.offset = offset;
  frame.start = std::make_shared<Buffer>(kPrefixSize);
  RETURN_IF_ERROR(ReadAtExactly(in, offset, frame.start->mutable_span()));
  ASSIGN_OR_RETURN(frame.prefix, ParsePrefix(frame.start->span(), offset));
  uint64_t size = in.Size().value_or(UINT64_MAX);
  if (offset > size || frame.prefix.FrameSize() > size - offset) {
    return DataLoss("the archive is cut inside the frame at byte ", offset);
  }
  size_t rest = frame.prefix.head_size + kHashSize;
  RETURN_IF_ERROR(ReadAtExactly(in, offset + kPrefixSize,
                                {frame.start->Extend(rest), rest}));
  RETURN_IF_ERROR(CheckHead(frame.start->span(), offset));
  return frame;
}

absl::Status AppendIndexPiece(const Frame& frame, ByteSpan data,
                              Buffer* index) {
  ASSIGN_OR_RETURN(IndexPiece piece, ParseIndexPiece(frame.head()));
  if (piece.codec != kStored && piece.codec != kZstd) {
    return DataLoss("the index at byte ", frame.offset, " has codec ",
                    int{piece.codec}, ", which an index may not have");
  }
  const codecs::Decoder* decoder = codecs::FindDecoder(piece.codec);
  codecs::Scratch scratch;
  MutableByteSpan out(index->Extend(piece.size), piece.size);
  RETURN_IF_ERROR(
      Annotate(decoder->decode(nullptr, data, out, scratch), "index: "));
  if (Xxh3(out) != piece.hash) {
    return DataLoss("the index at byte ", frame.offset,
                    " is damaged (checksum)");
  }
  return absl::OkStatus();
}

absl::Status ArchiveWriter::Write(ByteSpan bytes) {
  RETURN_IF_ERROR(out_.Write(bytes));
  offset_ += bytes.size();
  return absl::OkStatus();
}

absl::Status ArchiveWriter::WriteFrame(FrameType type, ByteSpan head,
                                       ByteSpan data, bool optional) {
  RETURN_IF_ERROR(Write(
      WriteFrameStart(type, head, static_cast<uint32_t>(data.size()), optional)
          .span()));
  return data.empty() ? absl::OkStatus() : Write(data);
}

absl::Status ArchiveWriter::Begin(const Header& header) {
  return Write(WriteHeader(header));
}

absl::Status ArchiveWriter::WriteReferences(
    const std::vector<OutsideReference>& references) {
  Buffer head;
  container::WriteReferences(references, &head);
  return WriteFrame(FrameType::kReferences, head.span(), {});
}

absl::Status ArchiveWriter::WriteEntry(const Entry& entry) {
  current_ = {};
  current_.entry = entry;
  Buffer head;
  WriteEntryHead(entry, &head);
  RETURN_IF_ERROR(WriteFrame(FrameType::kEntry, head.span(), {}));
  if (entry.kind != EntryKind::kFile) AppendToIndex();
  return absl::OkStatus();
}

absl::Status ArchiveWriter::WriteBlocks(ByteSpan head, ByteSpan data,
                                        uint32_t size, uint32_t blocks) {
  current_.frames.push_back({.offset = offset_,
                             .head_size = static_cast<uint32_t>(head.size()),
                             .data_size = static_cast<uint32_t>(data.size()),
                             .size = size,
                             .blocks = blocks});
  return WriteFrame(FrameType::kBlocks, head, data);
}

absl::Status ArchiveWriter::WriteAhead(ByteSpan head, ByteSpan data,
                                       uint32_t blocks) {
  current_.frames.push_back({.offset = offset_,
                             .head_size = static_cast<uint32_t>(head.size()),
                             .data_size = static_cast<uint32_t>(data.size()),
                             .size = 0,
                             .blocks = blocks});
  return WriteFrame(FrameType::kAhead, head, data);
}

absl::Status ArchiveWriter::EndFile(const EntryEnd& end, Layout layout,
                                    std::vector<BlockLines> lines) {
  Buffer head;
  WriteEntryEnd(end, &head);
  RETURN_IF_ERROR(WriteFrame(FrameType::kEntryEnd, head.span(), {}));
  current_.entry.size = end.size;
  current_.entry.sha256 = end.sha256;
  current_.entry.layout = std::move(layout);
  if (!lines.empty()) lines_.push_back({entries_, std::move(lines)});
  AppendToIndex();
  return absl::OkStatus();
}

void ArchiveWriter::AppendToIndex() {
  WriteIndexEntry(current_, &previous_offset_, &index_);
  ++entries_;
  current_ = {};
}

absl::Status ArchiveWriter::WritePieces(FrameType type, ByteSpan bytes,
                                        bool optional) {
  Buffer coded;
  for (size_t pos = 0; pos < bytes.size();) {
    ByteSpan plain =
        bytes.subspan(pos, std::min(bytes.size() - pos, kMaxIndexPiece));
    pos += plain.size();
    IndexPiece piece{.size = static_cast<uint32_t>(plain.size()),
                     .codec = kZstd,
                     .hash = Xxh3(plain)};
    coded.Clear();
    ByteSpan data = plain;
    if (codecs::AppendZstdFrame(plain, kIndexZstdLevel, &coded)) {
      data = coded.span();
    } else {
      piece.codec = kStored;
    }
    Buffer head;
    WriteIndexPiece(piece, &head);
    RETURN_IF_ERROR(WriteFrame(type, head.span(), data, optional));
  }
  return absl::OkStatus();
}

absl::Status ArchiveWriter::Finish() {
  Trailer trailer;
  trailer.index_offset = offset_;
  Buffer index;
  ByteWriter(&index).Varint(entries_);
  index.Append(index_.span());
  RETURN_IF_ERROR(WritePieces(FrameType::kIndex, index.span()));
  if (!lines_.empty()) {
    Buffer lines;
    WriteLines(lines_, &lines);
    RETURN_IF_ERROR(
        WritePieces(FrameType::kLines, lines.span(), /*optional=*/true));
  }
  trailer.archive_size = offset_ + kTrailerSize;
  return Write(WriteTrailer(trailer).span());
}

}  // namespace zipllm::container
