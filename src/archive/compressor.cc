#include "zipllm/compressor.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <deque>
#include <functional>

#include "archive/duplicates.h"
#include "archive/frame_encoder.h"
#include "archive/input_tree.h"
#include "archive/ranges.h"
#include "base/buffer_pool.h"
#include "base/executor.h"
#include "base/file.h"
#include "base/hash.h"
#include "container/stream.h"

namespace zipllm {
namespace {

using archive::Duplicates;
using archive::FrameJob;
using archive::Input;

// Gives back first what the parser looked at, then the rest of the source.
class Prefixed {
 public:
  Prefixed(std::vector<uint8_t> prefix, Source& in)
      : prefix_(std::move(prefix)), in_(in) {}
  absl::StatusOr<size_t> Read(MutableByteSpan out) {
    size_t from_prefix = std::min(out.size(), prefix_.size() - pos_);
    std::copy_n(prefix_.begin() + static_cast<ptrdiff_t>(pos_), from_prefix,
                out.begin());
    pos_ += from_prefix;
    if (from_prefix == out.size()) return from_prefix;
    ASSIGN_OR_RETURN(size_t n, ReadFull(in_, out.subspan(from_prefix)));
    return from_prefix + n;
  }

 private:
  std::vector<uint8_t> prefix_;
  Source& in_;
  size_t pos_ = 0;
};

// Reads, encodes in parallel, writes in order. What is read goes through a
// window of a few frames, so that memory does not depend on the input's size.
class Compression {
 public:
  Compression(const CompressOptions& options, Sink& out)
      : options_(options),
        writer_(out),
        executor_(ThreadCount(options.threads)) {}

  absl::Status Begin() {
    return writer_.Begin({archive::kMaxBlockBytes, archive::kMaxFrameBytes});
  }
  void AddEntry(const Entry& entry) {
    Push({.finish = [this, entry] { return writer_.WriteEntry(entry); }});
  }
  // `source` gives the contents of `entry`, input number `input` of
  // `duplicates`.
  absl::Status AddFile(Source& source, const Entry& entry, size_t input,
                       Duplicates& duplicates);
  absl::StatusOr<Totals> Finish();

  void SetTotal(uint64_t bytes) { progress_.bytes_total = bytes; }
  void Warn(const std::string& message) {
    ++totals_.warnings;
    if (options_.warning) options_.warning(message);
  }

 private:
  // What the window holds: tasks, and what to do in order when they are done.
  struct Item {
    Executor::TaskPtr encode = nullptr;
    Executor::TaskPtr hash = nullptr;
    std::function<absl::Status()> finish;
  };
  // The file being read.
  struct File {
    std::string path;
    Sha256 sha256;
    Executor::TaskPtr last_hash;
    uint64_t size = 0;
  };

  absl::Status AddSegment(Prefixed& in, const std::shared_ptr<File>& file,
                          const Segment& segment, Duplicates::Family* family,
                          uint64_t* read);
  // Codes `job`, which has its bytes and their type, after what was added
  // before. `segment_block` is the number of its segment's first block.
  void AddFrame(const std::shared_ptr<File>& file,
                std::shared_ptr<FrameJob> job, Duplicates::Family* family,
                bool original, uint64_t segment_block);
  // `block` counts from the segment's first.
  void MarkDuplicates(FrameJob& job, Duplicates::Family& family, bool original,
                      uint64_t block);
  absl::Status FinishFrame(const std::shared_ptr<File>& file, FrameJob& job);
  void Push(Item item) { window_.push_back(std::move(item)); }
  absl::Status PopOne();
  absl::Status MakeRoom() {
    size_t limit = executor_.threads() == 1
                       ? 0
                       : static_cast<size_t>(2 * executor_.threads());
    while (window_.size() > limit) RETURN_IF_ERROR(PopOne());
    return absl::OkStatus();
  }

  const CompressOptions& options_;
  BufferPool pool_;
  container::ArchiveWriter writer_;
  std::deque<Item> window_;
  uint64_t next_block_ = 0;
  Totals totals_;
  Progress progress_;
  // Last: its tasks use what stands above, and its destructor waits for them.
  Executor executor_;
};

absl::Status Compression::PopOne() {
  Item item = std::move(window_.front());
  window_.pop_front();
  if (item.encode != nullptr) executor_.Wait(item.encode);
  if (item.hash != nullptr) executor_.Wait(item.hash);
  return item.finish();
}

absl::Status Compression::FinishFrame(const std::shared_ptr<File>& file,
                                      FrameJob& job) {
  if (job.verify_failed) {
    Warn(StrCat(file->path,
                ": a block did not decode to itself and was stored as it is; "
                "please report this"));
  }
  uint32_t size = static_cast<uint32_t>(job.plain->size());
  RETURN_IF_ERROR(
      writer_.WriteBlocks(job.head.span(), job.data->span(), size, job.blocks));
  totals_.plain_bytes += size;
  totals_.duplicate_bytes += job.duplicate_bytes;
  progress_.bytes_done += size;
  progress_.coded_bytes = writer_.offset();
  progress_.current = file->path;
  if (options_.progress && !options_.progress(progress_)) {
    return absl::CancelledError("interrupted");
  }
  return absl::OkStatus();
}

void Compression::MarkDuplicates(FrameJob& job, Duplicates::Family& family,
                                 bool original, uint64_t block) {
  job.kept = original;
  const ByteSpan plain = job.plain->span();
  for (size_t pos = 0; pos < plain.size(); pos += job.block_size, ++block) {
    const Sha256Digest digest = Sha256Of(plain.subspan(
        pos, std::min<size_t>(job.block_size, plain.size() - pos)));
    if (original) {
      family.blocks.push_back(digest);
      continue;
    }
    const bool equal =
        block < family.blocks.size() && family.blocks[block] == digest;
    job.duplicate_of.push_back(equal ? family.first_block + block
                                     : FrameJob::kNotDuplicate);
  }
}

absl::Status Compression::AddSegment(Prefixed& in,
                                     const std::shared_ptr<File>& file,
                                     const Segment& segment,
                                     Duplicates::Family* family,
                                     uint64_t* read) {
  const bool original = family != nullptr && !family->coded;
  if (original) {
    family->coded = true;
    family->first_block = next_block_;
  }
  const uint32_t block_size =
      archive::BlockBytes(segment.dtype, options_.level);
  const uint64_t frame_size = std::max<uint64_t>(
      block_size, archive::kFrameBytes / block_size * block_size);
  const DTypeInfo* info = FindDType(segment.dtype);
  const uint64_t first_block = next_block_;
  Buffer held;  // the start of an element, of which the rest is not read yet
  *read = 0;
  while (true) {
    RETURN_IF_ERROR(MakeRoom());
    std::shared_ptr<Buffer> plain = pool_.Get();
    plain->Append(held.span());
    const uint64_t wanted =
        std::min<uint64_t>(frame_size - held.size(), segment.length - *read);
    plain->Resize(held.size() + wanted);
    ASSIGN_OR_RETURN(const size_t n,
                     in.Read(plain->mutable_span().subspan(held.size())));
    plain->Resize(held.size() + n);
    held.Clear();
    const uint64_t start = *read - (plain->size() - n);
    *read += n;
    const bool ends = n < wanted || *read == segment.length;
    if (plain->empty()) break;

    auto job = std::make_shared<FrameJob>();
    job->plain = plain;
    job->dtype = segment.dtype;
    if (segment.shape.size() >= 2) job->row = segment.shape.back();
    if (info != nullptr) {
      job->position = start / info->block_bytes * info->block_elements;
    }
    if (segment.dtype != DType::kBytes) {
      AddFrame(file, std::move(job), family, original, first_block);
    } else {
      const std::vector<archive::Range> ranges =
          archive::FindRanges(plain->span());
      for (const archive::Range& range : ranges) {
        const ByteSpan bytes = plain->span().subspan(range.begin, range.size);
        if (!ends && ranges.size() > 1 && &range == &ranges.back() &&
            bytes.size() < archive::kMaxElement) {
          held.Append(bytes);
          break;
        }
        if (ranges.size() > 1) {
          job = std::make_shared<FrameJob>();
          job->plain = pool_.Get();
          job->plain->Append(bytes);
        }
        job->dtype = range.dtype;
        job->find_row = range.dtype != DType::kBytes;
        AddFrame(file, job, family, original, first_block);
      }
    }
    if (ends) break;
  }
  return absl::OkStatus();
}

void Compression::AddFrame(const std::shared_ptr<File>& file,
                           std::shared_ptr<FrameJob> job,
                           Duplicates::Family* family, bool original,
                           uint64_t segment_block) {
  job->data = pool_.Get();
  job->block_size = archive::BlockBytes(job->dtype, options_.level);
  job->level = options_.level;
  job->verify = options_.verify;
  job->first_block = next_block_;
  if (family != nullptr) {
    MarkDuplicates(*job, *family, original, next_block_ - segment_block);
  }
  const size_t size = job->plain->size();
  next_block_ += (size + job->block_size - 1) / job->block_size;
  file->size += size;
  Item item;
  item.hash = executor_.Submit(
      [file, plain = job->plain] { file->sha256.Update(plain->span()); },
      file->last_hash);
  file->last_hash = item.hash;
  item.encode = executor_.Submit([job] { archive::EncodeFrame(*job); });
  item.finish = [this, file, job] { return FinishFrame(file, *job); };
  Push(std::move(item));
}

absl::Status Compression::AddFile(Source& source, const Entry& entry,
                                  size_t input, Duplicates& duplicates) {
  auto file = std::make_shared<File>();
  file->path = source.Name();
  std::vector<uint8_t> prefix;
  ASSIGN_OR_RETURN(Layout planned, archive::ReadLayout(source, &prefix));
  if (source.Seekable())
    prefix.clear();  // it was read without moving the position
  Prefixed in(std::move(prefix), source);
  AddEntry(entry);

  Layout layout;
  layout.format = planned.format;
  auto add = [&](Segment segment) -> absl::Status {
    uint64_t read = 0;
    segment.offset = file->size;
    Duplicates::Family* family = duplicates.Find(input, segment.offset);
    RETURN_IF_ERROR(AddSegment(in, file, segment, family, &read));
    if (read == 0 && segment.length != 0) return absl::OkStatus();
    if (read <
        segment.length) {  // the file ends here, whatever its header said
      segment.dtype = DType::kBytes;
      segment.shape.clear();
      segment.length = read;
    }
    layout.segments.push_back(std::move(segment));
    return absl::OkStatus();
  };
  for (Segment& segment : planned.segments)
    RETURN_IF_ERROR(add(std::move(segment)));
  // What is there beyond the layout: the file grew, or the header spoke of
  // less.
  Segment rest;
  rest.length = INT64_MAX - file->size;
  RETURN_IF_ERROR(add(std::move(rest)));
  if (source.Size().has_value() && *source.Size() != file->size) {
    Warn(file->path + ": the file changed while it was read");
  }
  ++totals_.files;
  Push({.hash = file->last_hash,
        .finish = [this, file, layout = std::move(layout)]() mutable {
          return writer_.EndFile({file->size, file->sha256.Finish()},
                                 std::move(layout));
        }});
  return absl::OkStatus();
}

absl::StatusOr<Totals> Compression::Finish() {
  while (!window_.empty()) RETURN_IF_ERROR(PopOne());
  RETURN_IF_ERROR(writer_.Finish());
  totals_.archive_bytes = writer_.offset();
  return totals_;
}

absl::Status CheckOptions(const CompressOptions& options) {
  if (options.level < kMinLevel || options.level > kMaxLevel) {
    return InvalidArgument("level ", options.level, " does not exist: use ",
                           kMinLevel, " to ", kMaxLevel);
  }
  return absl::OkStatus();
}

// Has `write` fill a file that appears at `path` when it is complete.
absl::StatusOr<Totals> WriteArchive(
    const std::string& path, bool overwrite, bool sync,
    const std::function<absl::StatusOr<Totals>(Sink&)>& write) {
  return CatchExceptions([&]() -> absl::StatusOr<Totals> {
    auto [folder, name] = SplitPath(path);
    ASSIGN_OR_RETURN(UniqueFd dir, OpenDirectory(folder));
    struct stat st;
    if (!overwrite &&
        fstatat(dir.get(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0) {
      return absl::AlreadyExistsError(path + " exists already");
    }
    ASSIGN_OR_RETURN(AtomicFile file,
                     AtomicFile::CreateAt(dir.get(), name, path, 0666));
    std::unique_ptr<Sink> sink = MakeDescriptorSink(file.fd(), path);
    ASSIGN_OR_RETURN(Totals totals, write(*sink));
    RETURN_IF_ERROR(file.Commit(overwrite, sync));
    return totals;
  });
}

}  // namespace

Compressor::Compressor(CompressOptions options)
    : options_(std::move(options)) {}

absl::StatusOr<Totals> Compressor::CompressStream(Source& in,
                                                  const std::string& name,
                                                  Sink& out) const {
  return CatchExceptions([&]() -> absl::StatusOr<Totals> {
    RETURN_IF_ERROR(CheckOptions(options_));
    Entry entry;
    entry.path = name;
    RETURN_IF_ERROR(container::CheckPath(name, EntryKind::kFile));
    Duplicates duplicates;
    if (options_.deduplicate && in.Seekable()) duplicates.Scan(in);
    Compression compression(options_, out);
    compression.SetTotal(in.Size().value_or(0));
    RETURN_IF_ERROR(compression.Begin());
    RETURN_IF_ERROR(compression.AddFile(in, entry, 0, duplicates));
    return compression.Finish();
  });
}

absl::StatusOr<Totals> Compressor::CompressPath(const std::string& path,
                                                Sink& out) const {
  return CatchExceptions([&]() -> absl::StatusOr<Totals> {
    RETURN_IF_ERROR(CheckOptions(options_));
    Compression compression(options_, out);
    ASSIGN_OR_RETURN(std::vector<Input> inputs,
                     archive::ListInputs(path, options_.follow_symlinks,
                                         [&](const std::string& text) {
                                           compression.Warn(text);
                                         }));
    Duplicates duplicates;
    if (options_.deduplicate) duplicates.Scan(inputs);
    uint64_t total = 0;
    for (const Input& input : inputs) total += input.entry.size;
    compression.SetTotal(total);
    RETURN_IF_ERROR(compression.Begin());
    for (size_t i = 0; i < inputs.size(); ++i) {
      const Input& input = inputs[i];
      if (input.entry.kind != EntryKind::kFile) {
        compression.AddEntry(input.entry);
        continue;
      }
      ASSIGN_OR_RETURN(std::unique_ptr<Source> source,
                       OpenFileSource(input.path));
      RETURN_IF_ERROR(compression.AddFile(*source, input.entry, i, duplicates));
    }
    return compression.Finish();
  });
}

absl::StatusOr<Totals> Compressor::CompressPathToFile(
    const std::string& path, const std::string& archive_path,
    bool overwrite) const {
  return WriteArchive(archive_path, overwrite, options_.sync,
                      [&](Sink& out) { return CompressPath(path, out); });
}

absl::StatusOr<Totals> Compressor::CompressStreamToFile(
    Source& in, const std::string& name, const std::string& archive_path,
    bool overwrite) const {
  return WriteArchive(archive_path, overwrite, options_.sync,
                      [&](Sink& out) { return CompressStream(in, name, out); });
}

}  // namespace zipllm
