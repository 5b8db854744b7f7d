#include "archive/salvage.h"

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "base/bytes.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/memory_budget.h"
#include "container/stream.h"
#include "container/xxh3.h"

namespace zipllm::archive {
namespace {

using container::Frame;
using container::FrameType;

// Behind a gap numbers begin at the next multiple: no distance within the
// blocks of an archive leads from one to the other.
constexpr uint64_t kRegion = uint64_t{1} << 40;
// An Entry frame's prefix, its kind and the length of a path below 128 bytes
// stand before the path.
constexpr size_t kBeforePath = container::kPrefixSize + 2;
constexpr size_t kMaxObjectHead = 256;
constexpr uint64_t kFirstWindow = uint64_t{1} << 12;
constexpr uint64_t kWindow = uint64_t{1} << 20;
constexpr size_t kMaxProblems = 64;

class Walker {
 public:
  Walker(Source& in, const DecompressOptions& options)
      : in_(in),
        options_(options),
        end_(in.Size().value_or(0)),
        budget_("what is left of the archive", options.max_memory),
        heads_left_(3 * end_ + (uint64_t{64} << 20)) {}

  absl::StatusOr<Salvaged> Run();

 private:
  // The entry that is being read; its frames are the last of out_.frames.
  struct Open {
    container::IndexEntry indexed;
    size_t first_frame = 0;
    uint64_t plain = 0;
    bool broken = false;
  };
  enum class Index { kNone, kGood, kBad };

  absl::Status ReadHeader();
  absl::StatusOr<Frame> ReadFrame(uint64_t offset);
  absl::Status Take(const Frame& frame);
  absl::Status TakeBlocks(const Frame& frame);
  absl::Status AddFrame(uint64_t offset, const container::FramePrefix& prefix,
                        const container::BlocksHead& head);
  absl::Status TakeEnd(const container::EntryEnd& end);
  absl::Status AddEntry(container::IndexEntry indexed, size_t first_frame);
  void TakeIndex(const Frame& frame);
  // Goes on behind the damaged frame at pos_.
  absl::Status PassDamaged(const absl::Status& status);
  absl::StatusOr<bool> PassBySizes();
  absl::StatusOr<std::optional<uint64_t>> FindObject(uint64_t from);
  bool IsObject(uint64_t offset);
  absl::Status UseIndex();
  absl::Status CheckTree();

  template <typename... Parts>
  void Problem(const Parts&... parts) {
    if (out_.problems.size() < kMaxProblems) {
      out_.problems.push_back(StrCat(parts...));
    }
  }
  void Break() {
    if (open_.has_value()) open_->broken = true;
  }
  void LoseCount() { next_block_ = (next_block_ / kRegion + 1) * kRegion; }

  Source& in_;
  const DecompressOptions& options_;
  const uint64_t end_;
  MemoryBudget budget_;
  // So many bytes of heads may be read: what is damaged may lead anywhere.
  uint64_t heads_left_;
  uint64_t pos_ = 0;
  uint64_t next_block_ = 0;
  bool header_damaged_ = false;
  bool ended_ = false;  // by a trailer, at pos_
  std::optional<Open> open_;
  std::set<std::string> paths_;
  Index index_state_ = Index::kNone;
  Buffer index_;  // the pieces of the last Index frames that follow each other
  Salvaged out_;
};

absl::Status Walker::ReadHeader() {
  std::array<uint8_t, container::kHeaderSize> bytes;
  if (end_ < bytes.size()) {
    return DataLoss(in_.Name(), " has ", end_, " bytes: nothing of it is left");
  }
  RETURN_IF_ERROR(ReadAtExactly(in_, 0, bytes));
  pos_ = bytes.size();
  absl::StatusOr<container::Header> header = container::ParseHeader(bytes);
  if (header.ok()) {
    out_.header = *header;
    return container::CheckBounds(*header, options_.max_memory);
  }
  constexpr size_t kCovered = container::kHeaderSize - container::kHashSize;
  if (header.status().code() == absl::StatusCode::kUnimplemented &&
      LoadLe<uint64_t>(&bytes[kCovered]) ==
          Xxh3(ByteSpan(bytes).first(kCovered))) {
    return header.status();
  }
  header_damaged_ = true;
  Problem(std::string(header.status().message()));
  out_.header = {.max_block = container::kMaxBlock,
                 .max_frame = container::kMaxFrame};
  return absl::OkStatus();
}

absl::StatusOr<Frame> Walker::ReadFrame(uint64_t offset) {
  std::array<uint8_t, container::kPrefixSize> bytes;
  RETURN_IF_ERROR(ReadAtExactly(in_, offset, bytes));
  ASSIGN_OR_RETURN(const container::FramePrefix prefix,
                   container::ParsePrefix(bytes, offset));
  if (prefix.data_size > out_.header.max_frame) {
    return DataLoss("the frame at byte ", offset,
                    " is larger than the archive declares");
  }
  if (prefix.head_size > heads_left_) {
    return DataLoss("too much is damaged before byte ", offset);
  }
  heads_left_ -= prefix.head_size;
  return container::ReadFrameAt(in_, offset);
}

absl::Status Walker::AddFrame(uint64_t offset,
                              const container::FramePrefix& prefix,
                              const container::BlocksHead& head) {
  // Twice, since vectors grow by doubling.
  RETURN_IF_ERROR(budget_.Reserve(
      2 * (sizeof(Salvaged::Frame) + sizeof(container::FrameRecord))));
  const bool ahead = prefix.Is(FrameType::kAhead);
  const container::FrameRecord record = {
      .offset = offset,
      .head_size = prefix.head_size,
      .data_size = prefix.data_size,
      .size = ahead ? 0 : head.size,
      .blocks = static_cast<uint32_t>(head.blocks.size())};
  out_.frames.push_back({next_block_, record});
  next_block_ += record.blocks;
  if (!open_.has_value()) return absl::OkStatus();
  open_->indexed.frames.push_back(record);
  open_->indexed.entry.coded_size += prefix.FrameSize();
  open_->plain += record.size;
  return absl::OkStatus();
}

absl::Status Walker::TakeBlocks(const Frame& frame) {
  const absl::StatusOr<container::BlocksHead> head = container::ParseBlocksHead(
      frame.head(), frame.prefix.data_size, out_.header);
  if (head.ok()) return AddFrame(frame.offset, frame.prefix, *head);
  if (head.status().code() == absl::StatusCode::kUnimplemented) {
    return head.status();
  }
  Problem(std::string(head.status().message()));
  Break();
  LoseCount();
  return absl::OkStatus();
}

absl::Status Walker::AddEntry(container::IndexEntry indexed,
                              size_t first_frame) {
  const std::string& path = indexed.entry.path;
  RETURN_IF_ERROR(budget_.Reserve(2 * sizeof(container::IndexEntry) +
                                  2 * path.size() + 128));
  // Data that hold an archive may be taken for a part of this one.
  if (!paths_.insert(path).second) {
    Problem("the entry \"", path, "\" stands twice");
    return absl::OkStatus();
  }
  out_.entries.push_back(std::move(indexed));
  out_.first_frames.push_back(first_frame);
  return absl::OkStatus();
}

absl::Status Walker::TakeEnd(const container::EntryEnd& end) {
  if (!open_.has_value()) return absl::OkStatus();
  Open open = *std::exchange(open_, std::nullopt);
  Entry& entry = open.indexed.entry;
  if (end.size != open.plain) {
    Problem("of the ", end.size, " bytes of ", entry.path, ", ", open.plain,
            " are there");
    LoseCount();
    return absl::OkStatus();
  }
  if (open.broken) return absl::OkStatus();
  entry.size = end.size;
  entry.sha256 = end.sha256;
  Segment all;
  all.length = end.size;
  if (end.size != 0) entry.layout.segments.push_back(std::move(all));
  return AddEntry(std::move(open.indexed), open.first_frame);
}

void Walker::TakeIndex(const Frame& frame) {
  if (index_state_ == Index::kBad) return;
  index_state_ = Index::kBad;
  if (index_.size() > options_.max_memory / 4) return;
  Buffer data(frame.prefix.data_size);
  if (!ReadAtExactly(in_, frame.offset + frame.start->size(),
                     data.mutable_span())
           .ok()) {
    return;
  }
  if (container::AppendIndexPiece(frame, data.span(), &index_).ok()) {
    index_state_ = Index::kGood;
  }
}

absl::Status Walker::Take(const Frame& frame) {
  if (!frame.prefix.Known()) {
    if (frame.prefix.optional) return absl::OkStatus();
    return Unimplemented("the frame at byte ", frame.offset, " has type ",
                         int{frame.prefix.type},
                         ", which this zipllm does not know: use a newer one");
  }
  const auto type = static_cast<FrameType>(frame.prefix.type);
  if (open_.has_value() &&
      (type == FrameType::kEntry || type == FrameType::kIndex)) {
    Problem(open_->indexed.entry.path, " has no end");
    open_.reset();
  }
  if (type != FrameType::kIndex && type != FrameType::kTrailer) {
    index_.Clear();
    index_state_ = Index::kNone;
  }
  absl::Status status;
  switch (type) {
    case FrameType::kReferences: {
      auto references = container::ParseReferences(frame.head());
      status = references.status();
      if (status.ok() && frame.offset == container::kHeaderSize) {
        out_.references = *std::move(references);
      }
      break;
    }
    case FrameType::kEntry: {
      absl::StatusOr<Entry> entry = container::ParseEntryHead(frame.head());
      status = entry.status();
      if (!status.ok()) break;
      container::IndexEntry indexed{*std::move(entry), {}};
      if (indexed.entry.kind != EntryKind::kFile) {
        return AddEntry(std::move(indexed), out_.frames.size());
      }
      open_ = Open{std::move(indexed), out_.frames.size()};
      break;
    }
    case FrameType::kBlocks:
    case FrameType::kAhead:
      return TakeBlocks(frame);
    case FrameType::kShared:
    case FrameType::kLines:
      break;
    case FrameType::kEntryEnd: {
      const auto end = container::ParseEntryEnd(frame.head());
      status = end.status();
      if (status.ok()) return TakeEnd(*end);
      break;
    }
    case FrameType::kIndex:
      TakeIndex(frame);
      break;
    case FrameType::kTrailer: {
      const auto trailer = container::ParseTrailer(frame.head());
      status = trailer.status();
      ended_ = status.ok() &&
               trailer->archive_size == frame.offset + frame.prefix.FrameSize();
      if (status.ok() && !ended_)
        status = DataLoss("a trailer is out of place");
      break;
    }
  }
  if (!status.ok()) {
    Problem("the frame at byte ", frame.offset, ": ",
            std::string(status.message()));
    Break();
  }
  return absl::OkStatus();
}

// What a damaged head says is believed where another frame follows: if it is
// wrong, blocks do not prove themselves.
absl::StatusOr<bool> Walker::PassBySizes() {
  std::array<uint8_t, container::kPrefixSize> bytes;
  if (!ReadAtExactly(in_, pos_, bytes).ok()) return false;
  const auto prefix = container::ParsePrefix(bytes, pos_);
  if (!prefix.ok() || !prefix->Known() || prefix->head_size > heads_left_ ||
      prefix->FrameSize() >= end_ - pos_ ||
      !ReadFrame(pos_ + prefix->FrameSize()).ok()) {
    return false;
  }
  heads_left_ -= prefix->head_size;
  Buffer head(prefix->head_size);
  if (!ReadAtExactly(in_, pos_ + container::kPrefixSize, head.mutable_span())
           .ok()) {
    return false;
  }
  pos_ += prefix->FrameSize();
  if (prefix->Is(FrameType::kBlocks) || prefix->Is(FrameType::kAhead)) {
    const auto blocks =
        container::ParseBlocksHead(head.span(), prefix->data_size, out_.header);
    if (!blocks.ok()) {
      LoseCount();
    } else {
      next_block_ += blocks->blocks.size();
      if (open_.has_value() && prefix->Is(FrameType::kBlocks)) {
        open_->plain += blocks->size;
      }
    }
  }
  // The name of an object says its SHA-256, the blocks its size: one of them
  // proves the other.
  if (prefix->Is(FrameType::kEntryEnd) && open_.has_value() && !open_->broken) {
    const std::string& path = open_->indexed.entry.path;
    const std::optional<Sha256Digest> name =
        path.starts_with(kObjectMagic)
            ? ParseSha256(std::string_view(path).substr(kObjectMagic.size()))
            : std::nullopt;
    const auto end = container::ParseEntryEnd(head.span());
    if (name.has_value() && end.ok() &&
        (end->sha256 == *name || end->size == open_->plain)) {
      RETURN_IF_ERROR(TakeEnd({.size = open_->plain, .sha256 = *name}));
      return true;
    }
  }
  Break();
  if (prefix->Is(FrameType::kEntry) || prefix->Is(FrameType::kEntryEnd)) {
    open_.reset();
  }
  if (prefix->Is(FrameType::kIndex)) index_state_ = Index::kBad;
  return true;
}

// The next Entry frame of an object from `from` on.
absl::StatusOr<std::optional<uint64_t>> Walker::FindObject(uint64_t from) {
  const std::boyer_moore_horspool_searcher searcher(kObjectMagic.begin(),
                                                    kObjectMagic.end());
  Buffer window;
  // Windows overlap, so that a magic that lies across two is seen. They grow,
  // so that a short way takes a short time.
  uint64_t size = kFirstWindow;
  for (uint64_t start = from; start < end_;
       start += window.size() - kObjectMagic.size()) {
    window.Resize(std::min(size, end_ - start));
    size = std::min(2 * size, kWindow);
    RETURN_IF_ERROR(ReadAtExactly(in_, start, window.mutable_span()));
    for (auto at = window.begin(); at != window.end(); ++at) {
      at = std::search(at, window.end(), searcher);
      if (at == window.end()) break;
      const uint64_t offset =
          start + static_cast<uint64_t>(at - window.begin());
      if (offset >= from + kBeforePath && IsObject(offset - kBeforePath)) {
        return offset - kBeforePath;
      }
    }
    if (start + window.size() == end_) break;
  }
  return std::nullopt;
}

bool Walker::IsObject(uint64_t offset) {
  std::array<uint8_t, container::kPrefixSize> bytes;
  if (!ReadAtExactly(in_, offset, bytes).ok()) return false;
  const auto prefix = container::ParsePrefix(bytes, offset);
  if (!prefix.ok() || !prefix->Is(FrameType::kEntry) ||
      prefix->head_size > kMaxObjectHead) {
    return false;
  }
  const absl::StatusOr<Frame> frame = container::ReadFrameAt(in_, offset);
  if (!frame.ok()) return false;
  const absl::StatusOr<Entry> entry = container::ParseEntryHead(frame->head());
  return entry.ok() && entry->kind == EntryKind::kFile &&
         entry->path.starts_with(kObjectMagic);
}

absl::Status Walker::PassDamaged(const absl::Status& status) {
  // The source failed, not what is in it.
  if (status.code() != absl::StatusCode::kDataLoss) return status;
  Problem(std::string(status.message()));
  ASSIGN_OR_RETURN(const bool passed, PassBySizes());
  if (passed) return absl::OkStatus();
  if (open_.has_value()) {
    Problem(open_->indexed.entry.path, " is not whole");
    open_.reset();
  }
  LoseCount();
  index_.Clear();
  index_state_ = Index::kNone;
  ASSIGN_OR_RETURN(const std::optional<uint64_t> found, FindObject(pos_ + 1));
  pos_ = found.value_or(end_);
  return absl::OkStatus();
}

// The index knows what damaged frames were. It is believed if it agrees with
// those that are whole.
absl::Status Walker::UseIndex() {
  if (index_state_ != Index::kGood) {
    Problem("the index is lost");
    return absl::OkStatus();
  }
  absl::StatusOr<std::vector<container::IndexEntry>> indexed =
      container::ParseIndex(index_.span(), options_.max_memory);
  if (!indexed.ok()) {
    Problem(std::string(indexed.status().message()));
    return absl::OkStatus();
  }
  std::map<std::string_view, const container::IndexEntry*> by_path;
  for (const container::IndexEntry& entry : *indexed) {
    by_path[entry.entry.path] = &entry;
  }
  const auto is_same = [](const container::FrameRecord& a,
                          const container::FrameRecord& b) {
    return a.offset == b.offset && a.head_size == b.head_size &&
           a.data_size == b.data_size && a.size == b.size &&
           a.blocks == b.blocks;
  };
  for (const container::IndexEntry& entry : out_.entries) {
    const auto found = by_path.find(entry.entry.path);
    if (found == by_path.end() ||
        found->second->entry.kind != entry.entry.kind ||
        found->second->entry.size != entry.entry.size ||
        found->second->entry.sha256 != entry.entry.sha256 ||
        !std::ranges::equal(found->second->frames, entry.frames, is_same)) {
      Problem("the index does not agree with the frames of \"",
              entry.entry.path, "\"");
      return absl::OkStatus();
    }
  }
  for (const container::IndexEntry& entry : *indexed) {
    if (paths_.contains(entry.entry.path)) continue;
    RETURN_IF_ERROR(budget_.Reserve(2 * entry.entry.path.size() + 64));
    out_.not_whole.push_back(entry.entry.path);
    Problem("\"", entry.entry.path, "\" of the index is not whole");
  }
  out_.entries = *std::move(indexed);
  out_.frames.clear();
  out_.first_frames.clear();
  uint64_t block = 0;
  for (const container::IndexEntry& entry : out_.entries) {
    out_.first_frames.push_back(out_.frames.size());
    for (const container::FrameRecord& frame : entry.frames) {
      out_.frames.push_back({block, frame});
      block += frame.blocks;
    }
  }
  return absl::OkStatus();
}

// Less what stands in no directory.
absl::Status Walker::CheckTree() {
  const auto is_root = [](const container::IndexEntry& entry) {
    return container::MayComeFirst(entry.entry) &&
           entry.entry.kind == EntryKind::kDirectory;
  };
  if (out_.entries.empty()) {
    return DataLoss(
        "nothing of ", in_.Name(), " is left: ",
        out_.problems.empty() ? "it has no entry" : out_.problems.front());
  }
  if (out_.entries.size() > 1 && !is_root(out_.entries[0])) {
    container::IndexEntry root;
    root.entry.kind = EntryKind::kDirectory;
    out_.entries.insert(out_.entries.begin(), std::move(root));
    out_.first_frames.insert(out_.first_frames.begin(), 0);
  }
  std::set<std::string_view> directories = {""};
  std::vector<container::IndexEntry> entries;
  std::vector<size_t> first_frames;
  entries.reserve(out_.entries.size());
  for (size_t i = 0; i < out_.entries.size(); ++i) {
    const std::string& path = out_.entries[i].entry.path;
    const size_t slash = path.rfind('/');
    if (i != 0 && !directories.contains(std::string_view(path).substr(
                      0, slash == std::string::npos ? 0 : slash))) {
      Problem("the directory of \"", path, "\" is lost");
      continue;
    }
    entries.push_back(std::move(out_.entries[i]));
    first_frames.push_back(out_.first_frames[i]);
    if (entries.back().entry.kind == EntryKind::kDirectory) {
      directories.insert(entries.back().entry.path);
    }
  }
  out_.entries = std::move(entries);
  out_.first_frames = std::move(first_frames);
  return absl::OkStatus();
}

absl::StatusOr<Salvaged> Walker::Run() {
  if (!in_.Seekable()) {
    return InvalidArgument(in_.Name(), " is a pipe: salvage needs a file");
  }
  RETURN_IF_ERROR(ReadHeader());
  while (pos_ < end_) {
    if (ended_) {
      Problem("the archive goes on behind its end at byte ", pos_);
      ended_ = false;
    }
    const absl::StatusOr<Frame> frame = ReadFrame(pos_);
    if (!frame.ok()) {
      RETURN_IF_ERROR(PassDamaged(frame.status()));
      continue;
    }
    RETURN_IF_ERROR(Take(*frame));
    pos_ += frame->prefix.FrameSize();
  }
  if (open_.has_value()) Problem(open_->indexed.entry.path, " has no end");
  if (!ended_) Problem("the archive does not end with a trailer");
  RETURN_IF_ERROR(UseIndex());
  RETURN_IF_ERROR(CheckTree());
  if (header_damaged_) {
    // The walk took the largest that there may be: now what there is.
    container::Header bounds;
    for (const Salvaged::Frame& place : out_.frames) {
      const absl::StatusOr<Frame> frame = ReadFrame(place.record.offset);
      if (!frame.ok()) continue;
      const auto head =
          container::ParseBlocksHead(frame->head(), frame->prefix.data_size,
                                     {.max_block = container::kMaxBlock,
                                      .max_frame = container::kMaxFrame});
      if (!head.ok()) continue;
      bounds.max_block = std::max(bounds.max_block, head->block_size);
      bounds.max_frame =
          std::max({bounds.max_frame, head->size, frame->prefix.data_size});
    }
    out_.header = bounds;
    RETURN_IF_ERROR(container::CheckBounds(bounds, options_.max_memory));
  }
  return std::move(out_);
}

}  // namespace

absl::StatusOr<Salvaged> Salvage(Source& in, const DecompressOptions& options) {
  return Walker(in, options).Run();
}

}  // namespace zipllm::archive
