#include "zipllm/archive.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string_view>
#include <utility>

#include "archive/bases.h"
#include "archive/block_store.h"
#include "archive/lines.h"
#include "archive/open_archive.h"
#include "archive/salvage.h"
#include "base/buffer_pool.h"
#include "base/bytes.h"
#include "base/executor.h"
#include "base/file.h"
#include "codecs/codec.h"
#include "codecs/quant/derived_format.h"
#include "container/stream.h"
#include "quantizers/quantizer.h"

namespace zipllm {

using archive::BlockStore;

namespace {

// Counts what is read, and shows one archive of a concatenation as if it were
// alone.
class ArchiveSource : public Source {
 public:
  ArchiveSource(Source& in, uint64_t start, uint64_t size,
                std::atomic<uint64_t>& bytes_read)
      : in_(in), start_(start), size_(size), bytes_read_(bytes_read) {}
  absl::StatusOr<size_t> Read(MutableByteSpan) override {
    return Unimplemented("an archive is read at offsets only");
  }
  std::optional<uint64_t> Size() const override { return size_; }
  bool Seekable() const override { return true; }
  absl::StatusOr<size_t> ReadAt(uint64_t offset, MutableByteSpan out) override {
    if (offset >= size_) return 0;
    size_t wanted = std::min<uint64_t>(out.size(), size_ - offset);
    ASSIGN_OR_RETURN(size_t n, in_.ReadAt(start_ + offset, out.first(wanted)));
    bytes_read_ += n;
    return n;
  }
  std::string Name() const override { return in_.Name(); }

 private:
  Source& in_;
  uint64_t start_;
  uint64_t size_;
  std::atomic<uint64_t>& bytes_read_;
};

// One archive of a concatenation.
struct Member {
  std::unique_ptr<ArchiveSource> source;
  std::unique_ptr<archive::Outside> outside;  // null: it needs nothing
  size_t first_base = 0;                      // in needed_bases
  std::unique_ptr<BlockStore> store;
  std::vector<uint64_t> lines_frames;  // where they stand
  // What they hold; null: nobody asked.
  std::unique_ptr<const std::vector<container::FileLines>> lines;
};

// Where the bytes of a file stand.
struct File {
  size_t member = 0;
  size_t number = 0;                 // of the entry in the member
  size_t first_frame = 0;            // in the member's store
  std::vector<uint64_t> frame_ends;  // plain offsets in the file
};

std::string RoleName(codecs::Role role) {
  switch (role) {
    case codecs::Role::kBase:
      return "base";
    case codecs::Role::kFirstMoment:
      return "first moment";
    case codecs::Role::kSecondMoment:
      return "second moment";
    case codecs::Role::kFactor:
      return "factor";
    case codecs::Role::kBaseFirstMoment:
      return "first moment of base";
    case codecs::Role::kBaseSecondMoment:
      return "second moment of base";
    case codecs::Role::kImportance:
      return "importance";
    case codecs::Role::kScale:
      return "scale";
    case codecs::Role::kZero:
      return "zero";
  }
  return "unknown";
}

// Those that decode at less than about 100 MB/s a core.
constexpr std::string_view kSlowCodecs[] = {"lzma", "mix", "moments",
                                            "mixdelta"};

// How a block of the frame is coded; sums stay 0.
CodecUse HowCoded(uint8_t id, const container::BlocksHead& head) {
  const codecs::Decoder* codec = codecs::FindDecoder(id);
  CodecUse use;
  use.codec = id == container::kDuplicate ? "duplicate"
              : id == container::kTwin    ? "twin"
              : codec == nullptr          ? StrCat("codec ", int{id})
                                          : std::string(codec->name);
  use.slow = std::ranges::count(kSlowCodecs, use.codec) != 0;
  if (use.codec != "derived") return use;
  for (const container::CodecParams& params : head.params) {
    ByteReader reader(params.bytes, "derived parameters");
    codecs::derived::Recipe recipe;
    if (params.codec != id ||
        !codecs::derived::ReadRecipe(reader, &recipe).ok()) {
      continue;
    }
    const quantizers::Quantizer* quantizer =
        quantizers::FindQuantizer(recipe.quantizer);
    use.recipe = quantizer == nullptr ? "formula" : quantizer->name;
    use.slow = quantizer != nullptr && !quantizer->is_fast;
  }
  return use;
}

}  // namespace

class Archive::Impl {
 public:
  // `bases` null: those of `options`.
  absl::Status Open(std::unique_ptr<Source> source, DecompressOptions options,
                    archive::BaseFinder* bases = nullptr);
  // The same for what is left of an archive of objects.
  absl::Status OpenDamaged(std::unique_ptr<Source> source,
                           DecompressOptions options,
                           archive::BaseFinder* bases);
  // Gives `take` the bytes in order. With `into` not empty, blocks that lie in
  // the range whole are decoded there, and `take` gets none of them.
  absl::Status Read(size_t entry, uint64_t offset, uint64_t length,
                    const std::function<absl::Status(uint64_t, ByteSpan)>& take,
                    MutableByteSpan into = {});
  absl::StatusOr<SegmentCoding> Coding(TensorRef ref);
  absl::StatusOr<std::pair<uint64_t, uint64_t>> BlockAt(size_t entry,
                                                        uint64_t offset);
  absl::Status CopyLines(size_t entry, LineRange lines, Sink& out);
  absl::Status CopyTimes(size_t entry, const TimeRange& times, Sink& out);
  absl::Status VisitBlocks(size_t entry, const Needles& needles,
                           BlockVisitor& visitor);

  std::vector<Entry> entries;
  std::vector<NeededBase> needed_bases;
  uint8_t depth = 0;  // as in archive::OpenedArchive
  uint64_t size = 0;
  std::atomic<uint64_t> bytes_read = 0;

 private:
  absl::StatusOr<uint64_t> OpenMember(uint64_t end);
  absl::Status ReadReferences(Member& member);
  absl::Status AddReferences(
      std::vector<container::OutsideReference> references, Member& member);
  // Adds an entry whose frames are those of `item`, from number `first_frame`
  // of the member's store on.
  void AddEntry(container::IndexEntry item, size_t first_frame,
                std::vector<Entry>* new_entries, std::vector<File>* new_files);
  absl::Status CheckRange(size_t entry, uint64_t offset, uint64_t length) const;
  // A block of a file.
  struct Block {
    size_t frame = 0;
    size_t index = 0;  // in the frame
    uint64_t offset = 0;
    uint64_t size = 0;
    std::optional<container::BlockLines> lines;  // if the archive tells
  };
  absl::StatusOr<std::vector<Block>> BlocksOf(size_t entry);
  // Those of the member's Lines frames.
  absl::StatusOr<const std::vector<container::FileLines>*> LinesOf(
      Member& member);
  absl::StatusOr<uint64_t> CountLines(size_t entry,
                                      const std::vector<Block>& blocks);
  // The segment that block `number` is of; nullopt if it is of none.
  absl::StatusOr<std::optional<TensorRef>> SegmentOfBlock(size_t member,
                                                          uint64_t number);
  absl::Status FindAhead();
  absl::Status AddSources(size_t member, size_t frame,
                          const container::BlocksHead& head,
                          SegmentCoding* coding);
  // Calls `take` for each frame that holds bytes of [offset, end) of the file:
  // its number in the member's store, its decoder, where its bytes start.
  absl::Status ForEachFrame(
      size_t entry, uint64_t offset, uint64_t end,
      const std::function<absl::Status(size_t, const archive::FrameDecoder&,
                                       uint64_t)>& take);

  std::unique_ptr<Source> source_;
  DecompressOptions options_;
  archive::DecodeSettings settings_;
  std::unique_ptr<archive::Bases> own_bases_;
  archive::BaseFinder* bases_ = nullptr;
  std::vector<Member> members_;
  std::vector<File> files_;  // by entry
  std::mutex mutex_;         // of ahead_, and of `lines` of members
  // What was coded ahead, by member and frame: whose it is. Found once.
  std::optional<std::map<std::pair<size_t, size_t>, TensorRef>> ahead_;
};

absl::StatusOr<uint64_t> Archive::Impl::OpenMember(uint64_t end) {
  Member member;
  // Before the size is known, the archive is all that stands before `end`.
  member.source = std::make_unique<ArchiveSource>(*source_, 0, end, bytes_read);
  if (end < container::kHeaderSize + container::kTrailerSize) {
    return DataLoss("not a zipllm archive, or one that is cut (", end,
                    " bytes)");
  }
  ASSIGN_OR_RETURN(
      container::Frame last,
      container::ReadFrameAt(*member.source, end - container::kTrailerSize));
  if (!last.prefix.Is(container::FrameType::kTrailer)) {
    return DataLoss("the archive does not end with a trailer");
  }
  ASSIGN_OR_RETURN(container::Trailer trailer,
                   container::ParseTrailer(last.head()));
  if (trailer.archive_size > end) {
    return DataLoss("the trailer says more bytes than there are");
  }
  uint64_t start = end - trailer.archive_size;
  member.source = std::make_unique<ArchiveSource>(
      *source_, start, trailer.archive_size, bytes_read);
  std::array<uint8_t, container::kHeaderSize> bytes;
  RETURN_IF_ERROR(ReadAtExactly(*member.source, 0, bytes));
  ASSIGN_OR_RETURN(container::Header header, container::ParseHeader(bytes));
  RETURN_IF_ERROR(container::CheckBounds(header, options_.max_memory));
  RETURN_IF_ERROR(ReadReferences(member));

  Buffer index;
  uint64_t offset = trailer.index_offset;
  while (offset < trailer.archive_size - container::kTrailerSize) {
    ASSIGN_OR_RETURN(container::Frame frame,
                     container::ReadFrameAt(*member.source, offset));
    offset += frame.prefix.FrameSize();
    if (!frame.prefix.Is(container::FrameType::kIndex)) {
      if (frame.prefix.Is(container::FrameType::kLines)) {
        member.lines_frames.push_back(frame.offset);
      }
      if (frame.prefix.optional) continue;
      return DataLoss("the frame at byte ", frame.offset,
                      " stands in the index and is none of it");
    }
    if (index.size() > options_.max_memory / 4) {
      return ResourceExhausted(
          "the archive's index is larger than allowed: allow more (--memory)");
    }
    Buffer data(frame.prefix.data_size);
    RETURN_IF_ERROR(ReadAtExactly(
        *member.source, offset - frame.prefix.data_size, data.mutable_span()));
    RETURN_IF_ERROR(container::AppendIndexPiece(frame, data.span(), &index));
  }
  ASSIGN_OR_RETURN(std::vector<container::IndexEntry> indexed,
                   container::ParseIndex(index.span(), options_.max_memory));
  member.store = std::make_unique<BlockStore>(*member.source, header,
                                              member.outside.get(), settings_);
  uint64_t block = 0;
  std::vector<Entry> new_entries;
  std::vector<File> new_files;
  for (container::IndexEntry& item : indexed) {
    const size_t first_frame = member.store->frames();
    for (const container::FrameRecord& frame : item.frames) {
      member.store->Add(block, frame.offset);
      block += frame.blocks;
    }
    AddEntry(std::move(item), first_frame, &new_entries, &new_files);
  }
  // Archives of a concatenation are opened last first.
  entries.insert(entries.begin(), std::make_move_iterator(new_entries.begin()),
                 std::make_move_iterator(new_entries.end()));
  files_.insert(files_.begin(), std::make_move_iterator(new_files.begin()),
                std::make_move_iterator(new_files.end()));
  members_.push_back(std::move(member));
  return start;
}

void Archive::Impl::AddEntry(container::IndexEntry item, size_t first_frame,
                             std::vector<Entry>* new_entries,
                             std::vector<File>* new_files) {
  File file{members_.size(), new_files->size(), first_frame, {}};
  uint64_t plain = 0;
  for (const container::FrameRecord& frame : item.frames) {
    plain += frame.size;
    file.frame_ends.push_back(plain);
  }
  new_entries->push_back(std::move(item.entry));
  new_files->push_back(std::move(file));
}

// They stand right after the header, or nowhere.
absl::Status Archive::Impl::ReadReferences(Member& member) {
  std::array<uint8_t, container::kPrefixSize> start;
  RETURN_IF_ERROR(ReadAtExactly(*member.source, container::kHeaderSize, start));
  ASSIGN_OR_RETURN(const container::FramePrefix prefix,
                   container::ParsePrefix(start, container::kHeaderSize));
  if (!prefix.Is(container::FrameType::kReferences)) return absl::OkStatus();
  ASSIGN_OR_RETURN(
      const container::Frame frame,
      container::ReadFrameAt(*member.source, container::kHeaderSize));
  ASSIGN_OR_RETURN(std::vector<container::OutsideReference> references,
                   container::ParseReferences(frame.head()));
  return AddReferences(std::move(references), member);
}

absl::Status Archive::Impl::AddReferences(
    std::vector<container::OutsideReference> references, Member& member) {
  member.first_base = needed_bases.size();
  for (const container::OutsideReference& reference : references) {
    depth = std::max<uint8_t>(depth, reference.depth + 1);
    needed_bases.push_back({reference.tensor, reference.model, reference.length,
                            reference.sha256, reference.depth});
  }
  if (bases_ == nullptr) {
    ASSIGN_OR_RETURN(own_bases_, archive::Bases::Open(options_));
    bases_ = own_bases_.get();
  }
  member.outside =
      std::make_unique<archive::Outside>(std::move(references), bases_);
  return absl::OkStatus();
}

absl::Status Archive::Impl::Open(std::unique_ptr<Source> source,
                                 DecompressOptions options,
                                 archive::BaseFinder* bases) {
  source_ = std::move(source);
  options_ = std::move(options);
  settings_ = archive::SettingsOf(options_);
  bases_ = bases;
  std::string name = source_->Name();
  if (!source_->Seekable()) {
    return InvalidArgument(name,
                           " is a pipe: random access needs a file; "
                           "decompress reads pipes");
  }
  size = source_->Size().value_or(0);
  uint64_t end = size;
  do {
    absl::StatusOr<uint64_t> start = OpenMember(end);
    if (!start.ok()) return Annotate(start.status(), name, ": ");
    end = *start;
  } while (end != 0);
  return absl::OkStatus();
}

absl::Status Archive::Impl::OpenDamaged(std::unique_ptr<Source> source,
                                        DecompressOptions options,
                                        archive::BaseFinder* bases) {
  source_ = std::move(source);
  options_ = std::move(options);
  settings_ = archive::SettingsOf(options_);
  bases_ = bases;
  size = source_->Size().value_or(0);
  absl::StatusOr<archive::Salvaged> found =
      archive::Salvage(*source_, options_);
  RETURN_IF_ERROR(Annotate(found.status(), source_->Name(), ": "));
  RETURN_IF_ERROR(container::CheckBounds(found->header, options_.max_memory));
  Member member;
  member.source =
      std::make_unique<ArchiveSource>(*source_, 0, size, bytes_read);
  if (!found->references.empty()) {
    RETURN_IF_ERROR(AddReferences(std::move(found->references), member));
  }
  member.store = std::make_unique<BlockStore>(*member.source, found->header,
                                              member.outside.get(), settings_);
  for (const archive::Salvaged::Frame& frame : found->frames) {
    member.store->Add(frame.first_block, frame.record.offset);
  }
  for (size_t i = 0; i < found->entries.size(); ++i) {
    AddEntry(std::move(found->entries[i]), found->first_frames[i], &entries,
             &files_);
  }
  members_.push_back(std::move(member));
  return absl::OkStatus();
}

absl::Status Archive::Impl::CheckRange(size_t entry, uint64_t offset,
                                       uint64_t length) const {
  if (entry >= entries.size() || entries[entry].kind != EntryKind::kFile) {
    return InvalidArgument("entry ", entry, " is no file of the archive");
  }
  uint64_t file_size = entries[entry].size;
  if (offset <= file_size && length <= file_size - offset) {
    return absl::OkStatus();
  }
  return MakeStatus(absl::StatusCode::kOutOfRange, "bytes ", offset, " to ",
                    offset + length, " are past the end of ",
                    entries[entry].path, " (", file_size, " bytes)");
}

absl::Status Archive::Impl::ForEachFrame(
    size_t entry, uint64_t offset, uint64_t end,
    const std::function<absl::Status(size_t, const archive::FrameDecoder&,
                                     uint64_t)>& take) {
  const File& file = files_[entry];
  BlockStore& store = *members_[file.member].store;
  auto frame_end =
      std::upper_bound(file.frame_ends.begin(), file.frame_ends.end(), offset);
  for (; frame_end != file.frame_ends.end(); ++frame_end) {
    const uint64_t start =
        frame_end == file.frame_ends.begin() ? 0 : *(frame_end - 1);
    if (start >= end) break;
    if (*frame_end == start) continue;  // an Ahead frame
    const size_t frame =
        file.first_frame +
        static_cast<size_t>(frame_end - file.frame_ends.begin());
    ASSIGN_OR_RETURN(const BlockStore::Frame opened, store.Open(frame));
    const auto& decoder = opened.decoder;
    if (decoder->head().size != *frame_end - start) {
      return DataLoss(entries[entry].path,
                      ": the index does not agree with the frame");
    }
    RETURN_IF_ERROR(take(frame, *decoder, start));
  }
  return absl::OkStatus();
}

absl::Status Archive::Impl::Read(
    size_t entry, uint64_t offset, uint64_t length,
    const std::function<absl::Status(uint64_t, ByteSpan)>& take,
    MutableByteSpan into) {
  RETURN_IF_ERROR(CheckRange(entry, offset, length));
  if (length == 0) return absl::OkStatus();
  const File& file = files_[entry];
  BlockStore& store = *members_[file.member].store;
  const uint64_t end = offset + length;
  struct Pending {
    MutableByteSpan plain;
    std::shared_ptr<Buffer> buffer;  // null: it is decoded in place
    uint64_t start;                  // in the file
    absl::Status status;
    Executor::TaskPtr task;
  };
  BufferPool pool;
  std::deque<std::shared_ptr<Pending>> window;
  Executor executor(ThreadCount(options_.threads));
  auto pop = [&]() -> absl::Status {
    std::shared_ptr<Pending> block = std::move(window.front());
    window.pop_front();
    executor.Wait(block->task);
    RETURN_IF_ERROR(Annotate(block->status, entries[entry].path, ": "));
    if (block->buffer == nullptr) return absl::OkStatus();
    uint64_t from = std::max(offset, block->start) - block->start;
    uint64_t to = std::min(end - block->start, uint64_t{block->plain.size()});
    return take(block->start + from - offset,
                block->plain.subspan(from, to - from));
  };
  auto add_blocks = [&](size_t frame, const archive::FrameDecoder& decoder,
                        uint64_t start) -> absl::Status {
    const container::BlocksHead& head = decoder.head();
    for (size_t i = 0; i < head.blocks.size(); ++i, start += head.block_size) {
      if (start + head.blocks[i].size <= offset) continue;
      if (start >= end) break;
      size_t limit =
          executor.threads() == 1 ? 0 : size_t{4} * executor.threads();
      while (window.size() > limit) RETURN_IF_ERROR(pop());
      auto block = std::make_shared<Pending>();
      block->start = start;
      const uint64_t block_bytes = head.blocks[i].size;
      if (!into.empty() && start >= offset && start + block_bytes <= end) {
        block->plain = into.subspan(start - offset, block_bytes);
      } else {
        block->buffer = pool.Get();
        block->buffer->Resize(block_bytes);
        block->plain = block->buffer->mutable_span();
      }
      block->task = executor.Submit([&store, block, frame, i] {
        block->status = store.Decode(frame, i, block->plain);
      });
      window.push_back(std::move(block));
    }
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(ForEachFrame(entry, offset, end, add_blocks));
  while (!window.empty()) RETURN_IF_ERROR(pop());
  return absl::OkStatus();
}

absl::StatusOr<std::pair<uint64_t, uint64_t>> Archive::Impl::BlockAt(
    size_t entry, uint64_t offset) {
  RETURN_IF_ERROR(CheckRange(entry, offset, 1));
  std::pair<uint64_t, uint64_t> block;
  RETURN_IF_ERROR(ForEachFrame(
      entry, offset, offset + 1,
      [&](size_t, const archive::FrameDecoder& decoder, uint64_t start) {
        const uint64_t step = decoder.head().block_size;
        block.first = start + (offset - start) / step * step;
        block.second =
            std::min(block.first + step, start + decoder.head().size);
        return absl::OkStatus();
      }));
  return block;
}

absl::StatusOr<const std::vector<container::FileLines>*> Archive::Impl::LinesOf(
    Member& member) {
  std::lock_guard lock(mutex_);
  if (member.lines == nullptr) {
    Buffer joined;
    for (const uint64_t offset : member.lines_frames) {
      ASSIGN_OR_RETURN(const container::Frame frame,
                       container::ReadFrameAt(*member.source, offset));
      if (joined.size() > options_.max_memory / 4) {
        return ResourceExhausted(
            "what the archive tells of lines is larger than allowed: allow "
            "more (--memory)");
      }
      Buffer data(frame.prefix.data_size);
      RETURN_IF_ERROR(ReadAtExactly(
          *member.source, offset + frame.start->size(), data.mutable_span()));
      RETURN_IF_ERROR(container::AppendIndexPiece(frame, data.span(), &joined));
    }
    std::vector<container::FileLines> lines;
    if (!joined.empty()) {
      ASSIGN_OR_RETURN(
          lines, container::ParseLines(joined.span(), options_.max_memory));
    }
    member.lines = std::make_unique<const std::vector<container::FileLines>>(
        std::move(lines));
  }
  return member.lines.get();
}

absl::StatusOr<std::vector<Archive::Impl::Block>> Archive::Impl::BlocksOf(
    size_t entry) {
  RETURN_IF_ERROR(CheckRange(entry, 0, 0));
  const File& file = files_[entry];
  std::vector<Block> blocks;
  RETURN_IF_ERROR(ForEachFrame(
      entry, 0, entries[entry].size,
      [&](size_t frame, const archive::FrameDecoder& decoder, uint64_t start) {
        const container::BlocksHead& head = decoder.head();
        for (size_t i = 0; i < head.blocks.size(); ++i) {
          blocks.push_back({frame, i, start, head.blocks[i].size, {}});
          start += head.blocks[i].size;
        }
        return absl::OkStatus();
      }));
  ASSIGN_OR_RETURN(const std::vector<container::FileLines>* lines,
                   LinesOf(members_[file.member]));
  const auto told = std::ranges::lower_bound(*lines, file.number, {},
                                             &container::FileLines::entry);
  if (told == lines->end() || told->entry != file.number) return blocks;
  if (told->blocks.size() != blocks.size()) {
    return DataLoss(entries[entry].path,
                    ": what is told of its lines does not agree with it");
  }
  for (size_t i = 0; i < blocks.size(); ++i) blocks[i].lines = told->blocks[i];
  return blocks;
}

absl::StatusOr<uint64_t> Archive::Impl::CountLines(
    size_t entry, const std::vector<Block>& blocks) {
  uint64_t count = 0;
  if (!blocks.empty() && blocks.front().lines.has_value()) {
    for (const Block& block : blocks) count += block.lines->line_ends;
    return count + (blocks.back().lines->ends_line ? 0 : 1);
  }
  uint8_t last = '\n';
  RETURN_IF_ERROR(
      Read(entry, 0, entries[entry].size, [&](uint64_t, ByteSpan text) {
        count += static_cast<uint64_t>(std::ranges::count(text, '\n'));
        if (!text.empty()) last = text.back();
        return absl::OkStatus();
      }));
  return count + (last == '\n' ? 0 : 1);
}

absl::Status Archive::Impl::CopyLines(size_t entry, LineRange lines,
                                      Sink& out) {
  ASSIGN_OR_RETURN(const std::vector<Block> blocks, BlocksOf(entry));
  // From 0, the last one included.
  uint64_t first = static_cast<uint64_t>(std::max<int64_t>(lines.first, 1)) - 1;
  uint64_t last = static_cast<uint64_t>(std::max<int64_t>(lines.last, 1)) - 1;
  if (lines.last == 0) return absl::OkStatus();
  if (lines.last == -1) last = UINT64_MAX;
  if (lines.first < 0 || lines.last < -1) {
    ASSIGN_OR_RETURN(const uint64_t count, CountLines(entry, blocks));
    const auto from_end = [&](int64_t line) {
      return count - std::min(count, uint64_t{0} - static_cast<uint64_t>(line));
    };
    if (lines.first < 0) first = from_end(lines.first);
    if (lines.last < -1) {
      if (uint64_t{0} - static_cast<uint64_t>(lines.last) > count) {
        return absl::OkStatus();
      }
      last = from_end(lines.last);
    }
  }
  // The blocks that have them, as far as that is known.
  uint64_t begin = 0, end = entries[entry].size;
  uint64_t line = 0;  // that the text from `begin` on begins in
  uint64_t line_ends = 0;
  for (const Block& block : blocks) {
    if (!block.lines.has_value()) break;
    line_ends += block.lines->line_ends;
    if (line_ends < first || (line_ends == first && block.lines->ends_line)) {
      begin = block.offset + block.size;
      line = line_ends;
    }
    if (line_ends > last) {
      end = block.offset + block.size;
      break;
    }
  }
  if (first > last || begin >= end) return absl::OkStatus();
  archive::NumberFilter filter(first, last, line,
                               [&](ByteSpan text) { return out.Write(text); });
  const absl::Status status =
      Read(entry, begin, end - begin, [&](uint64_t, ByteSpan text) {
        RETURN_IF_ERROR(filter.Add(text));
        return filter.done() ? absl::AbortedError("") : absl::OkStatus();
      });
  return filter.done() && absl::IsAborted(status) ? absl::OkStatus() : status;
}

absl::Status Archive::Impl::CopyTimes(size_t entry, const TimeRange& times,
                                      Sink& out) {
  ASSIGN_OR_RETURN(const std::vector<Block> blocks, BlocksOf(entry));
  archive::TimeFilter filter(times,
                             [&](ByteSpan text) { return out.Write(text); });
  const auto is_wanted = [&](const Block& block) {
    return !block.lines.has_value() || archive::MayContain(times, *block.lines);
  };
  for (size_t i = 0; i < blocks.size();) {
    size_t end = i;
    while (end < blocks.size() && is_wanted(blocks[end])) ++end;
    // What comes before may have a line that goes on, or others after it.
    if (end == i && filter.NeedsMore()) ++end;
    if (end == i) {
      filter.Skip(blocks[i].lines->ends_line);
      ++i;
      continue;
    }
    const uint64_t bytes =
        blocks[end - 1].offset + blocks[end - 1].size - blocks[i].offset;
    RETURN_IF_ERROR(
        Read(entry, blocks[i].offset, bytes,
             [&](uint64_t, ByteSpan text) { return filter.Add(text); }));
    i = end;
  }
  return filter.Finish();
}

absl::Status Archive::Impl::VisitBlocks(size_t entry, const Needles& needles,
                                        BlockVisitor& visitor) {
  ASSIGN_OR_RETURN(const std::vector<Block> blocks, BlocksOf(entry));
  // What is passed over must have whole lines, and be no binary data, which is
  // searched otherwise.
  const auto may_skip = [&](size_t i) {
    if (needles.any.empty()) return false;
    if (blocks.size() == 1) return true;
    return blocks[i].lines.has_value() && !blocks[i].lines->has_nul &&
           (i == 0 || blocks[i - 1].lines->ends_line) &&
           (i + 1 == blocks.size() || blocks[i].lines->ends_line);
  };
  BlockStore& store = *members_[files_[entry].member].store;
  struct Pending {
    std::shared_ptr<Buffer> plain;
    std::shared_ptr<void> looked;
    bool is_skipped = false;
    absl::Status status;
    Executor::TaskPtr task;  // null where nothing is read
  };
  BufferPool pool;
  std::deque<std::shared_ptr<Pending>> window;
  size_t tasks = 0;  // in the window: what is passed over waits for none
  size_t next = 0;   // the block in front of the window
  Executor executor(ThreadCount(options_.threads));
  const auto pop = [&]() -> absl::StatusOr<bool> {
    const std::shared_ptr<Pending> pending = std::move(window.front());
    window.pop_front();
    if (pending->task != nullptr) {
      executor.Wait(pending->task);
      --tasks;
    }
    RETURN_IF_ERROR(Annotate(pending->status, entries[entry].path, ": "));
    const Block& block = blocks[next++];
    FileBlock shown{block.offset, block.size, std::nullopt};
    if (block.lines.has_value()) shown.line_ends = block.lines->line_ends;
    if (pending->is_skipped) return visitor.Take(shown, nullptr, nullptr);
    const ByteSpan plain = pending->plain->span();
    return visitor.Take(shown, &plain, pending->looked);
  };
  constexpr size_t kMaxWindow = 256;
  const size_t limit =
      executor.threads() == 1 ? 0 : static_cast<size_t>(executor.threads()) + 1;
  for (size_t i = 0; i < blocks.size(); ++i) {
    while (tasks > limit || window.size() > kMaxWindow) {
      ASSIGN_OR_RETURN(const bool more, pop());
      if (!more) return absl::OkStatus();
    }
    const Block& block = blocks[i];
    auto pending = std::make_shared<Pending>();
    const bool skips = may_skip(i);
    if (skips && block.lines.has_value() &&
        !archive::MayContain(needles, block.lines->letters)) {
      pending->is_skipped = true;
    } else {
      ++tasks;
      pending->plain = pool.Get();
      pending->task = executor.Submit([&, skips, pending] {
        if (skips) {
          const absl::StatusOr<bool> may_contain =
              store.MayContain(block.frame, block.index, needles);
          pending->status = may_contain.status();
          pending->is_skipped = may_contain.ok() && !*may_contain;
          if (!may_contain.ok() || !*may_contain) return;
        }
        pending->plain->Resize(block.size);
        pending->status = store.Decode(block.frame, block.index,
                                       pending->plain->mutable_span());
        if (pending->status.ok()) {
          pending->looked = visitor.Look(pending->plain->span());
        }
      });
    }
    window.push_back(std::move(pending));
  }
  while (!window.empty()) {
    ASSIGN_OR_RETURN(const bool more, pop());
    if (!more) break;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<TensorRef>> Archive::Impl::SegmentOfBlock(
    size_t member, uint64_t number) {
  BlockStore& store = *members_[member].store;
  ASSIGN_OR_RETURN(const auto place, store.FrameOf(number));
  const auto [frame, first_block] = place;
  ASSIGN_OR_RETURN(const BlockStore::Frame opened, store.Open(frame));
  if (opened.decoder->ahead()) {
    RETURN_IF_ERROR(FindAhead());
    std::lock_guard lock(mutex_);
    const auto found = ahead_->find({member, frame});
    if (found == ahead_->end()) return std::nullopt;
    return found->second;
  }
  // Files of later members stand first.
  const auto key = [](const File& file) {
    return std::pair(SIZE_MAX - file.member, file.first_frame);
  };
  auto file = std::ranges::upper_bound(
      files_, std::pair(SIZE_MAX - member, frame), {}, key);
  if (file == files_.begin()) return std::nullopt;
  --file;
  const size_t i = frame - file->first_frame;
  if (file->member != member || i >= file->frame_ends.size()) {
    return std::nullopt;
  }
  const uint64_t offset =
      (i == 0 ? 0 : file->frame_ends[i - 1]) +
      (number - first_block) * opened.decoder->head().block_size;
  const auto entry = static_cast<size_t>(file - files_.begin());
  const std::vector<Segment>& segments = entries[entry].layout.segments;
  const auto after =
      std::ranges::upper_bound(segments, offset, {}, &Segment::offset);
  if (after == segments.begin()) return std::nullopt;
  return TensorRef{entry, static_cast<size_t>(after - segments.begin()) - 1};
}

// Whose blocks they are is told by those that refer to them.
absl::Status Archive::Impl::FindAhead() {
  {
    std::lock_guard lock(mutex_);
    if (ahead_.has_value()) return absl::OkStatus();
  }
  std::map<std::pair<size_t, size_t>, TensorRef> ahead;
  for (size_t entry = 0; entry < entries.size(); ++entry) {
    if (entries[entry].kind != EntryKind::kFile) continue;
    const size_t member = files_[entry].member;
    BlockStore& store = *members_[member].store;
    for (size_t i = 0; i < entries[entry].layout.segments.size(); ++i) {
      const Segment& segment = entries[entry].layout.segments[i];
      RETURN_IF_ERROR(ForEachFrame(
          entry, segment.offset, segment.offset + segment.length,
          [&](size_t frame, const archive::FrameDecoder&,
              uint64_t) -> absl::Status {
            ASSIGN_OR_RETURN(const std::optional<uint64_t> original,
                             store.Original(frame, 0));
            if (!original.has_value()) return absl::OkStatus();
            ASSIGN_OR_RETURN(const auto place, store.FrameOf(*original));
            ahead.try_emplace({member, place.first}, TensorRef{entry, i});
            return absl::OkStatus();
          }));
    }
  }
  std::lock_guard lock(mutex_);
  ahead_ = std::move(ahead);
  return absl::OkStatus();
}

absl::Status Archive::Impl::AddSources(size_t member, size_t frame,
                                       const container::BlocksHead& head,
                                       SegmentCoding* coding) {
  const uint64_t first_block = members_[member].store->FirstBlock(frame);
  for (const container::FrameSource& source : head.against.sources) {
    CodingSource use;
    use.role = RoleName(source.role);
    if (source.outside) {
      if (members_[member].outside == nullptr ||
          source.where >= members_[member].outside->references().size()) {
        return DataLoss("a source is none that the archive names");
      }
      use.base = members_[member].first_base + source.where;
    } else {
      if (source.where > first_block) {
        return DataLoss("a source begins before the archive");
      }
      ASSIGN_OR_RETURN(use.tensor,
                       SegmentOfBlock(member, first_block - source.where));
    }
    const auto is_same = [&](const CodingSource& other) {
      const auto place = [](const CodingSource& s) {
        return s.tensor.has_value()
                   ? std::pair(s.tensor->entry, s.tensor->segment)
                   : std::pair(SIZE_MAX, SIZE_MAX);
      };
      return other.role == use.role && other.base == use.base &&
             place(other) == place(use);
    };
    auto found = std::ranges::find_if(coding->sources, is_same);
    if (found == coding->sources.end()) {
      found = coding->sources.insert(found, std::move(use));
    }
    found->plain_bytes += head.size;
  }
  return absl::OkStatus();
}

absl::StatusOr<SegmentCoding> Archive::Impl::Coding(TensorRef ref) {
  if (ref.entry >= entries.size() ||
      ref.segment >= entries[ref.entry].layout.segments.size()) {
    return InvalidArgument("no such segment in the archive");
  }
  const Segment& segment = entries[ref.entry].layout.segments[ref.segment];
  const size_t member = files_[ref.entry].member;
  BlockStore& store = *members_[member].store;
  SegmentCoding coding;
  RETURN_IF_ERROR(ForEachFrame(
      ref.entry, segment.offset, segment.offset + segment.length,
      [&](size_t frame, const archive::FrameDecoder& decoder,
          uint64_t) -> absl::Status {
        coding.coded_bytes += decoder.size();
        // What stands in an Ahead frame is told and counted where it belongs.
        const container::BlocksHead* head = &decoder.head();
        BlockStore::Frame ahead;  // keeps what `head` points to
        size_t head_frame = frame;
        ASSIGN_OR_RETURN(const std::optional<uint64_t> original,
                         store.Original(frame, 0));
        if (original.has_value()) {
          ASSIGN_OR_RETURN(const auto place, store.FrameOf(*original));
          ASSIGN_OR_RETURN(ahead, store.Open(place.first));
          if (ahead.decoder->ahead()) {
            head = &ahead.decoder->head();
            head_frame = place.first;
          }
        }
        absl::Status added = AddSources(member, head_frame, *head, &coding);
        if (!added.ok()) return added;
        for (size_t i = 0; i < decoder.head().blocks.size(); ++i) {
          ASSIGN_OR_RETURN(const container::BlockRecord block,
                           store.Record(frame, i));
          if (block.codec != decoder.head().blocks[i].codec) {
            coding.coded_bytes += block.coded_size;
          }
          CodecUse how = HowCoded(block.codec, *head);
          auto use = std::find_if(coding.codecs.begin(), coding.codecs.end(),
                                  [&](const CodecUse& u) {
                                    return u.codec == how.codec &&
                                           u.recipe == how.recipe;
                                  });
          if (use == coding.codecs.end()) {
            use = coding.codecs.insert(use, std::move(how));
          }
          ++use->blocks;
          use->plain_bytes += block.size;
          use->coded_bytes += block.coded_size;
          ASSIGN_OR_RETURN(const std::optional<uint64_t> repeated,
                           store.Repeated(frame, i));
          if (!repeated.has_value()) continue;
          ASSIGN_OR_RETURN(const std::optional<TensorRef> segment_of,
                           SegmentOfBlock(member, *repeated));
          if (!segment_of.has_value() || *segment_of == ref ||
              std::ranges::count(coding.repeats, *segment_of) != 0) {
            continue;
          }
          coding.repeats.push_back(*segment_of);
        }
        return absl::OkStatus();
      }));
  return coding;
}

BlockVisitor::~BlockVisitor() = default;

Archive::Archive(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Archive::Archive(Archive&&) noexcept = default;
Archive& Archive::operator=(Archive&&) noexcept = default;
Archive::~Archive() = default;

// Sees what is private to Archive.
class ArchiveOpener {
 public:
  static absl::StatusOr<archive::OpenedArchive> Open(
      std::unique_ptr<Source> source, const DecompressOptions& options,
      archive::BaseFinder* bases) {
    auto impl = std::make_unique<Archive::Impl>();
    RETURN_IF_ERROR(impl->Open(std::move(source), options, bases));
    const uint8_t depth = impl->depth;
    return archive::OpenedArchive{Archive(std::move(impl)), depth};
  }
  static absl::StatusOr<Archive> OpenDamaged(std::unique_ptr<Source> source,
                                             const DecompressOptions& options,
                                             archive::BaseFinder* bases) {
    auto impl = std::make_unique<Archive::Impl>();
    RETURN_IF_ERROR(impl->OpenDamaged(std::move(source), options, bases));
    return Archive(std::move(impl));
  }
};

absl::StatusOr<archive::OpenedArchive> archive::OpenArchive(
    std::unique_ptr<Source> source, const DecompressOptions& options,
    BaseFinder* bases) {
  return ArchiveOpener::Open(std::move(source), options, bases);
}

absl::StatusOr<Archive> archive::OpenDamagedArchive(
    std::unique_ptr<Source> source, const DecompressOptions& options,
    BaseFinder* bases) {
  return ArchiveOpener::OpenDamaged(std::move(source), options, bases);
}

absl::StatusOr<Archive> Archive::Open(std::unique_ptr<Source> source,
                                      DecompressOptions options) {
  return CatchExceptions([&]() -> absl::StatusOr<Archive> {
    ASSIGN_OR_RETURN(archive::OpenedArchive opened,
                     ArchiveOpener::Open(std::move(source), options, nullptr));
    return std::move(opened.archive);
  });
}

absl::StatusOr<Archive> Archive::OpenFile(const std::string& path,
                                          DecompressOptions options) {
  ASSIGN_OR_RETURN(std::unique_ptr<Source> source, OpenFileSource(path));
  return Open(std::move(source), std::move(options));
}

const std::vector<Entry>& Archive::entries() const { return impl_->entries; }
const std::vector<NeededBase>& Archive::needed_bases() const {
  return impl_->needed_bases;
}
uint64_t Archive::size() const { return impl_->size; }
uint64_t Archive::bytes_read() const { return impl_->bytes_read; }

absl::StatusOr<size_t> Archive::FindEntry(const std::string& path) const {
  for (size_t i = 0; i < entries().size(); ++i) {
    if (entries()[i].path == path) return i;
  }
  return absl::NotFoundError("the archive has no file " + path);
}

absl::StatusOr<TensorRef> Archive::FindTensor(const std::string& name,
                                              const std::string& path) const {
  std::optional<TensorRef> found;
  for (size_t i = 0; i < entries().size(); ++i) {
    const Entry& entry = entries()[i];
    if (!path.empty() && entry.path != path) continue;
    for (size_t k = 0; k < entry.layout.segments.size(); ++k) {
      const Segment& segment = entry.layout.segments[k];
      if (segment.name.empty() || segment.name != name) continue;
      if (found.has_value()) {
        return InvalidArgument("tensor ", name, " stands in ",
                               entries()[found->entry].path, " and in ",
                               entry.path, ": name the file");
      }
      found = TensorRef{i, k};
    }
  }
  if (found.has_value()) return *found;
  return absl::NotFoundError("the archive has no tensor " + name);
}

absl::StatusOr<std::vector<uint8_t>> Archive::Read(const std::string& tensor,
                                                   const std::string& path,
                                                   uint64_t max_bytes) const {
  return CatchExceptions([&]() -> absl::StatusOr<std::vector<uint8_t>> {
    ASSIGN_OR_RETURN(TensorRef ref, FindTensor(tensor, path));
    const Segment& segment = entries()[ref.entry].layout.segments[ref.segment];
    if (segment.length > max_bytes) {
      return ResourceExhausted("tensor ", tensor, " has ", segment.length,
                               " bytes, more than the ", max_bytes, " allowed");
    }
    // Grows as blocks arrive: a length is a claim until they do.
    std::vector<uint8_t> out;
    RETURN_IF_ERROR(impl_->Read(ref.entry, segment.offset, segment.length,
                                [&](uint64_t, ByteSpan data) {
                                  out.insert(out.end(), data.begin(),
                                             data.end());
                                  return absl::OkStatus();
                                }));
    return out;
  });
}

absl::Status Archive::ReadRange(size_t entry, uint64_t offset,
                                MutableByteSpan out) const {
  return CatchExceptions([&]() -> absl::Status {
    return impl_->Read(
        entry, offset, out.size(),
        [&](uint64_t at, ByteSpan data) {
          std::ranges::copy(data, out.subspan(at).begin());
          return absl::OkStatus();
        },
        out);
  });
}

absl::Status Archive::CopyRange(size_t entry, uint64_t offset, uint64_t length,
                                Sink& out) const {
  return CatchExceptions([&]() -> absl::Status {
    return impl_->Read(entry, offset, length, [&](uint64_t, ByteSpan data) {
      return out.Write(data);
    });
  });
}

absl::StatusOr<std::pair<uint64_t, uint64_t>> Archive::BlockAt(
    size_t entry, uint64_t offset) const {
  using Block = std::pair<uint64_t, uint64_t>;
  return CatchExceptions(
      [&]() -> absl::StatusOr<Block> { return impl_->BlockAt(entry, offset); });
}

absl::Status Archive::CopyLines(size_t entry, LineRange lines,
                                Sink& out) const {
  return CatchExceptions(
      [&]() -> absl::Status { return impl_->CopyLines(entry, lines, out); });
}

absl::Status Archive::CopyTimes(size_t entry, const TimeRange& times,
                                Sink& out) const {
  return CatchExceptions(
      [&]() -> absl::Status { return impl_->CopyTimes(entry, times, out); });
}

absl::Status Archive::VisitBlocks(size_t entry, const Needles& needles,
                                  BlockVisitor& visitor) const {
  return CatchExceptions([&]() -> absl::Status {
    return impl_->VisitBlocks(entry, needles, visitor);
  });
}

absl::StatusOr<SegmentCoding> Archive::Coding(TensorRef segment) const {
  return CatchExceptions([&]() -> absl::StatusOr<SegmentCoding> {
    return impl_->Coding(segment);
  });
}

}  // namespace zipllm
