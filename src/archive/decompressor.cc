#include "zipllm/decompressor.h"

#include <algorithm>
#include <deque>
#include <functional>
#include <optional>

#include "archive/bases.h"
#include "archive/block_store.h"
#include "archive/frame_decoder.h"
#include "archive/output.h"
#include "archive/spool.h"
#include "base/buffer_pool.h"
#include "base/executor.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/memory_budget.h"
#include "container/stream.h"

namespace zipllm {
namespace {

using archive::BlockStore;
using archive::FrameDecoder;
using archive::Output;
using container::Frame;
using container::FrameType;

// Reads frames, decodes blocks in parallel, writes in order through a window of
// a few blocks.
class Decompression {
 public:
  Decompression(const DecompressOptions& options, Source& in, Output& out,
                bool check_all)
      : options_(options),
        check_all_(check_all),
        in_(in),
        out_(out),
        reader_(in, options.max_memory),
        seen_budget_("the archive's index", options.max_memory),
        settings_(archive::SettingsOf(options)),
        patience_(options.progress, progress_),
        executor_(ThreadCount(options.threads)) {
    executor_.SetIdle([this] { (void)patience_.Report(); });
  }

  absl::StatusOr<Totals> Run();

 private:
  struct Block {
    std::shared_ptr<const FrameDecoder> decoder;
    std::shared_ptr<Buffer> coded;  // null: to be read at `offset`
    uint64_t offset = 0;
    std::shared_ptr<BlockStore> store;
    std::shared_ptr<const Buffer> shared;
    size_t index = 0;
    uint64_t number = 0;
    std::shared_ptr<Buffer> plain;
    absl::Status status;
  };
  struct Item {
    Executor::TaskPtr task;
    std::function<absl::Status()> finish;
  };

  absl::Status ReadArchive(const container::Header& header);
  absl::Status AddBlocks(const Frame& frame, const container::Header& header);
  absl::Status AddShared(const Frame& frame, const container::Header& header);
  // Finds them all, so that nothing is written where one is missing.
  absl::Status AddReferences(const Frame& frame);
  absl::Status DecodeBlock(Block& block);
  absl::Status FinishBlock(Block& block);
  absl::Status EndFile(const container::EntryEnd& end);
  absl::Status Report() { return patience_.Report(); }
  absl::Status CheckIndex(ByteSpan index);
  absl::Status InFile(const absl::Status& status) const {
    return entry_.path.empty() ? status : Annotate(status, entry_.path, ": ");
  }
  absl::Status PopOne();
  absl::Status Drain() {
    while (!window_.empty()) RETURN_IF_ERROR(PopOne());
    return absl::OkStatus();
  }

  const DecompressOptions& options_;
  const bool check_all_;  // SHA-256 and the index
  Source& in_;
  Output& out_;
  container::FrameReader reader_;
  BufferPool pool_;
  archive::Spool spool_;
  std::unique_ptr<archive::Bases> bases_;
  // The current archive's; null: it needs nothing from outside.
  std::shared_ptr<archive::Outside> outside_;
  std::shared_ptr<BlockStore> store_;
  // The last Shared frame of the file.
  struct Shared {
    uint64_t offset = 0;  // in the input
    uint64_t place = 0;   // where it can be read again
    std::shared_ptr<const Buffer> content;
  };
  std::optional<Shared> shared_;
  std::deque<Item> window_;

  bool in_file_ = false;
  Entry entry_;
  uint64_t file_size_ = 0;
  Sha256 sha256_;
  uint64_t next_block_ = 0;
  uint64_t archive_start_ = 0;
  // What the index must say, but for layouts.
  std::vector<container::IndexEntry> seen_;
  MemoryBudget seen_budget_;
  Totals totals_;
  Progress progress_;
  archive::DecodeSettings settings_;
  archive::Patience patience_;
  Executor executor_;  // last: its tasks use what stands above
};

absl::Status Decompression::PopOne() {
  Item item = std::move(window_.front());
  window_.pop_front();
  executor_.Wait(item.task);
  RETURN_IF_ERROR(patience_.Check());
  return item.finish();
}

// Runs on any thread. What can be read anywhere is read here: half of the
// kernel's work moves to where the cores are, and what was read is in cache.
absl::Status Decompression::DecodeBlock(Block& block) {
  thread_local codecs::Scratch scratch;
  thread_local Buffer read;
  const container::BlockRecord& record =
      block.decoder->head().blocks[block.index];
  ByteSpan coded;
  if (block.coded != nullptr) {
    coded = block.coded->span();
  } else {
    read.Resize(record.coded_size);
    RETURN_IF_ERROR(ReadAtExactly(in_, block.offset, read.mutable_span()));
    coded = read.span();
  }
  block.plain->Resize(record.size);
  archive::FetchLimits limits;
  archive::Patience::Block watch(patience_, 1);
  scratch.watch = &watch;
  const absl::Status status = block.decoder->Decode(
      block.index, block.number, coded, block.plain->mutable_span(),
      {block.store.get(), outside_.get(), block.shared.get(), &settings_},
      limits, scratch);
  scratch.watch = nullptr;
  return status;
}

absl::Status Decompression::FinishBlock(Block& block) {
  RETURN_IF_ERROR(InFile(block.status));
  ByteSpan plain = block.plain->span();
  if (options_.check_sha256 || check_all_) sha256_.Update(plain);
  RETURN_IF_ERROR(out_.Write(plain));
  file_size_ += plain.size();
  totals_.plain_bytes += plain.size();
  progress_.bytes_done += plain.size();
  progress_.coded_bytes = reader_.offset();
  return Report();
}

absl::Status Decompression::AddReferences(const Frame& frame) {
  ASSIGN_OR_RETURN(std::vector<container::OutsideReference> references,
                   container::ParseReferences(frame.head()));
  if (bases_ == nullptr) {
    ASSIGN_OR_RETURN(bases_, archive::Bases::Open(options_));
  }
  const size_t count = references.size();
  outside_ =
      std::make_shared<archive::Outside>(std::move(references), bases_.get());
  return ForEach(
      executor_, count,
      [this](size_t i) {
        return Annotate(outside_->Get(i).status(), in_.Name(), ": ");
      },
      [this] { return Report(); });
}

absl::Status Decompression::AddShared(const Frame& frame,
                                      const container::Header& header) {
  if (!in_file_) {
    return DataLoss("the frame at byte ", frame.offset, " belongs to no file");
  }
  Buffer data;
  RETURN_IF_ERROR(reader_.ReadData(frame.prefix.data_size, &data));
  shared_ =
      Shared{.offset = frame.offset, .place = frame.offset, .content = {}};
  ASSIGN_OR_RETURN(shared_->content,
                   archive::DecodeShared(frame, data.span(), header));
  if (!in_.Seekable()) {
    shared_->place = *spool_.Size();
    RETURN_IF_ERROR(spool_.Append(frame.start->span()));
    RETURN_IF_ERROR(spool_.Append(data.span()));
  }
  return absl::OkStatus();
}

absl::Status Decompression::AddBlocks(const Frame& frame,
                                      const container::Header& header) {
  if (!in_file_)
    return DataLoss("the frame at byte ", frame.offset,
                    " has blocks of no file");
  ASSIGN_OR_RETURN(std::shared_ptr<const FrameDecoder> decoder,
                   FrameDecoder::Create(frame, header));
  const uint64_t distance = decoder->head().shared_distance;
  if (distance != 0 && (!shared_.has_value() || distance > frame.offset ||
                        frame.offset - distance != shared_->offset)) {
    return DataLoss("the frame at byte ", frame.offset,
                    " shares what is not there");
  }
  const bool ahead = frame.prefix.Is(FrameType::kAhead);
  if (ahead && !decoder->head().kept) {
    return DataLoss("the frame at byte ", frame.offset, " is ahead of nothing");
  }
  const bool spooled = decoder->head().kept && !in_.Seekable();
  const uint64_t first_block = next_block_;
  const uint64_t place = spooled ? *spool_.Size() : frame.offset;
  if (spooled) RETURN_IF_ERROR(spool_.Append(frame.start->span()));
  if (check_all_) {
    RETURN_IF_ERROR(seen_budget_.Reserve(2 * sizeof(container::FrameRecord)));
    seen_.back().frames.push_back(
        {.offset = frame.offset - archive_start_,
         .head_size = frame.prefix.head_size,
         .data_size = frame.prefix.data_size,
         .size = ahead ? 0 : decoder->head().size,
         .blocks = static_cast<uint32_t>(decoder->head().blocks.size())});
  }
  for (size_t i = 0; i < decoder->head().blocks.size(); ++i) {
    size_t limit = executor_.threads() == 1
                       ? 0
                       : static_cast<size_t>(2 * executor_.threads());
    while (window_.size() > limit) RETURN_IF_ERROR(PopOne());
    auto block = std::make_shared<Block>();
    block->decoder = decoder;
    const uint32_t coded_size = decoder->head().blocks[i].coded_size;
    if (in_.Seekable()) {
      ASSIGN_OR_RETURN(block->offset, reader_.PassData(coded_size));
    } else {
      block->coded = pool_.Get();
      RETURN_IF_ERROR(reader_.ReadData(coded_size, block->coded.get()));
    }
    if (spooled) RETURN_IF_ERROR(spool_.Append(block->coded->span()));
    if (ahead) {  // decoded where a block says that it is of a file
      ++next_block_;
      continue;
    }
    block->store = store_;
    if (distance != 0) block->shared = shared_->content;
    block->index = i;
    block->number = next_block_++;
    block->plain = pool_.Get();
    Executor::TaskPtr task = executor_.Submit(
        [this, block] { block->status = DecodeBlock(*block); });
    const container::BlockRecord& record = decoder->head().blocks[i];
    if (record.codec == container::kDuplicate ||
        record.codec == container::kTwin) {
      totals_.duplicate_bytes += record.size;
    }
    window_.push_back({task, [this, block] { return FinishBlock(*block); }});
  }
  // Now all of it is there to be referred to.
  if (decoder->head().kept) {
    store_->Add(first_block, place,
                distance == 0 ? std::nullopt : std::optional(shared_->place));
  }
  return absl::OkStatus();
}

absl::Status Decompression::EndFile(const container::EntryEnd& end) {
  RETURN_IF_ERROR(Drain());
  if (end.size != file_size_) {
    return InFile(
        DataLoss("has ", file_size_, " bytes and should have ", end.size));
  }
  if ((options_.check_sha256 || check_all_) && sha256_.Finish() != end.sha256) {
    return InFile(DataLoss("SHA-256 does not agree"));
  }
  if (check_all_) {
    seen_.back().entry.size = end.size;
    seen_.back().entry.sha256 = end.sha256;
  }
  in_file_ = false;
  ++totals_.files;
  return out_.EndFile();
}

absl::Status Decompression::CheckIndex(ByteSpan index) {
  ASSIGN_OR_RETURN(std::vector<container::IndexEntry> entries,
                   container::ParseIndex(index, options_.max_memory));
  if (entries.size() != seen_.size()) {
    return DataLoss("the index has ", entries.size(),
                    " entries, and the archive ", seen_.size());
  }
  // Equal fields have equal bytes.
  Buffer said, seen;
  uint64_t said_offset = 0, seen_offset = 0;
  for (size_t i = 0; i < entries.size(); ++i) {
    said.Clear();
    seen.Clear();
    entries[i].entry.layout = {};
    container::WriteIndexEntry(entries[i], &said_offset, &said);
    container::WriteIndexEntry(seen_[i], &seen_offset, &seen);
    if (!std::ranges::equal(said.span(), seen.span())) {
      return DataLoss("the index does not agree with ", seen_[i].entry.path);
    }
  }
  return absl::OkStatus();
}

absl::Status Decompression::ReadArchive(const container::Header& header) {
  archive_start_ = reader_.offset() - container::kHeaderSize;
  Source& kept = in_.Seekable() ? in_ : spool_;
  outside_ = nullptr;
  store_ = std::make_shared<BlockStore>(kept, header, nullptr, settings_);
  next_block_ = 0;
  seen_.clear();
  seen_budget_ = MemoryBudget("the archive's index", options_.max_memory);
  bool first = true;
  bool tree = false;
  Buffer index;
  uint64_t index_offset = 0;
  for (bool begins = true;; begins = false) {
    ASSIGN_OR_RETURN(Frame frame, reader_.Next());
    if (frame.prefix.Is(FrameType::kReferences)) {
      // Not even behind what may be skipped.
      if (!begins || frame.offset != archive_start_ + container::kHeaderSize) {
        return DataLoss("the frame at byte ", frame.offset, " is out of place");
      }
      RETURN_IF_ERROR(AddReferences(frame));
      store_ =
          std::make_shared<BlockStore>(kept, header, outside_.get(), settings_);
      continue;
    }
    bool after_index = index_offset != 0;
    bool fits = frame.prefix.Is(FrameType::kIndex) ||
                        frame.prefix.Is(FrameType::kTrailer)
                    ? !in_file_
                    : !after_index;
    if (!fits)
      return DataLoss("the frame at byte ", frame.offset, " is out of place");
    switch (static_cast<FrameType>(frame.prefix.type)) {
      case FrameType::kEntry: {
        if (in_file_)
          return InFile(DataLoss("another entry begins before the file ends"));
        RETURN_IF_ERROR(Drain());
        ASSIGN_OR_RETURN(entry_, container::ParseEntryHead(frame.head()));
        if (first ? !container::MayComeFirst(entry_) : !tree) {
          return DataLoss("the entry at byte ", frame.offset,
                          " is neither a single file nor part of a tree");
        }
        if (first) tree = entry_.kind == EntryKind::kDirectory;
        first = false;
        progress_.current = entry_.path;
        in_file_ = entry_.kind == EntryKind::kFile;
        file_size_ = 0;
        shared_.reset();
        if (in_file_ && (options_.check_sha256 || check_all_))
          sha256_ = Sha256();
        if (check_all_) {
          RETURN_IF_ERROR(seen_budget_.Reserve(2 * sizeof(seen_[0]) +
                                               entry_.path.size() +
                                               entry_.link_target.size()));
          seen_.push_back({.entry = entry_, .frames = {}});
        }
        RETURN_IF_ERROR(out_.Begin(entry_));
        break;
      }
      case FrameType::kBlocks:
      case FrameType::kAhead:
        RETURN_IF_ERROR(InFile(AddBlocks(frame, header)));
        break;
      case FrameType::kShared:
        RETURN_IF_ERROR(InFile(AddShared(frame, header)));
        break;
      case FrameType::kReferences:  // was dealt with
        break;
      case FrameType::kEntryEnd: {
        if (!in_file_)
          return DataLoss("the frame at byte ", frame.offset, " ends no file");
        ASSIGN_OR_RETURN(container::EntryEnd end,
                         container::ParseEntryEnd(frame.head()));
        RETURN_IF_ERROR(EndFile(end));
        break;
      }
      case FrameType::kIndex:
        if (!after_index) index_offset = frame.offset - archive_start_;
        if (check_all_) {
          if (index.size() > options_.max_memory / 4) {
            return ResourceExhausted(
                "the archive's index is larger than allowed (--memory)");
          }
          std::shared_ptr<Buffer> data = pool_.Get();
          RETURN_IF_ERROR(reader_.ReadData(frame.prefix.data_size, data.get()));
          RETURN_IF_ERROR(
              container::AppendIndexPiece(frame, data->span(), &index));
        }
        break;
      case FrameType::kLines:  // passed over by FrameReader
        break;
      case FrameType::kTrailer: {
        ASSIGN_OR_RETURN(container::Trailer trailer,
                         container::ParseTrailer(frame.head()));
        if (trailer.index_offset != index_offset ||
            trailer.archive_size != reader_.offset() - archive_start_) {
          return DataLoss(
              "the archive's trailer does not agree with the archive");
        }
        if (first) return DataLoss("the archive has no entry");
        if (check_all_) RETURN_IF_ERROR(CheckIndex(index.span()));
        return absl::OkStatus();
      }
    }
  }
}

absl::StatusOr<Totals> Decompression::Run() {
  while (true) {
    ASSIGN_OR_RETURN(std::optional<container::Header> header,
                     reader_.NextArchive());
    if (!header.has_value()) break;
    RETURN_IF_ERROR(ReadArchive(*header));
  }
  RETURN_IF_ERROR(out_.Finish());
  totals_.archive_bytes = reader_.offset();
  return totals_;
}

absl::StatusOr<Totals> Run(const DecompressOptions& options, Source& in,
                           Output& out, bool check_all) {
  return Decompression(options, in, out, check_all).Run();
}

}  // namespace

Decompressor::Decompressor(DecompressOptions options)
    : options_(std::move(options)) {}

absl::StatusOr<Totals> Decompressor::DecompressStream(Source& in,
                                                      Sink& out) const {
  return CatchExceptions([&]() -> absl::StatusOr<Totals> {
    std::unique_ptr<Output> output = archive::MakeSinkOutput(&out);
    return Run(options_, in, *output, /*check_all=*/false);
  });
}

absl::StatusOr<Totals> Decompressor::DecompressTo(
    Source& in, const std::string& target) const {
  return CatchExceptions([&]() -> absl::StatusOr<Totals> {
    uint64_t warnings = 0;
    std::unique_ptr<Output> output =
        archive::MakePathOutput(target, options_.overwrite, options_.sync,
                                [&](const std::string& text) {
                                  ++warnings;
                                  if (options_.warning) options_.warning(text);
                                });
    ASSIGN_OR_RETURN(Totals totals,
                     Run(options_, in, *output, /*check_all=*/false));
    totals.warnings = warnings;
    return totals;
  });
}

absl::StatusOr<Totals> Decompressor::Test(Source& in) const {
  return CatchExceptions([&]() -> absl::StatusOr<Totals> {
    std::unique_ptr<Output> output = archive::MakeSinkOutput(nullptr);
    return Run(options_, in, *output, /*check_all=*/true);
  });
}

}  // namespace zipllm
