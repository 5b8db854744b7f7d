#include "zipllm/compressor.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <set>

#include "archive/duplicates.h"
#include "archive/frame_encoder.h"
#include "archive/input_tree.h"
#include "archive/lines.h"
#include "archive/patience.h"
#include "archive/ranges.h"
#include "archive/references.h"
#include "archive/text_model_file.h"
#include "archive/write_entries.h"
#include "base/buffer_pool.h"
#include "base/executor.h"
#include "base/file.h"
#include "base/hash.h"
#include "codecs/text/detect.h"
#include "container/stream.h"

namespace zipllm {
namespace {

using archive::Duplicates;
using archive::Family;
using archive::FrameJob;
using archive::Input;
using archive::Inputs;
using archive::Part;
using archive::Twin;

// The first level with a codec that knows records.
constexpr int kRecordsMatter = 3;

// Elements of its innermost dimension; 0: it has no rows.
uint64_t RowOf(const Segment& segment) {
  return segment.shape.size() < 2 ? 0 : segment.shape.back();
}

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

// Plain blocks of a tensor that is coded already, read once more: so that what
// a twin is made of is what its reader will have.
class SourceBlocks : public archive::BlockFetcher {
 public:
  SourceBlocks(Inputs& inputs, const Family& family, uint64_t block_size)
      : inputs_(inputs), family_(family), block_size_(block_size) {}
  absl::Status Fetch(uint64_t number, MutableByteSpan out, bool /*any*/,
                     archive::FetchLimits& /*limits*/) override {
    const uint64_t i = number - family_.first_block;
    Source* in = inputs_.Open(family_.original.input);
    if (in == nullptr || i >= family_.blocks.size()) {
      return absl::NotFoundError("no such block");
    }
    RETURN_IF_ERROR(
        ReadAtExactly(*in, family_.original.offset + i * block_size_, out));
    if (Sha256Of(out) != family_.blocks[i]) {
      return absl::AbortedError("the file changed");
    }
    return absl::OkStatus();
  }

 private:
  Inputs& inputs_;
  const Family& family_;
  const uint64_t block_size_;
};

// What each encoder makes of something by `learn`, where that may be stored.
template <class Learn>
void LearnModels(Learn learn, archive::TensorModels& models) {
  for (const codecs::Encoder* encoder : codecs::AllEncoders()) {
    std::unique_ptr<const codecs::TensorModel> model = learn(*encoder);
    if (model != nullptr && model->shared().size() <= archive::kMaxFrameBytes) {
      models.emplace(encoder->id, std::move(model));
    }
  }
}

// What is known of the lines of each block of `job`, unless it is a tensor.
void FindLines(bool begins_line, FrameJob& job) {
  if (job.dtype != DType::kBytes || job.ahead) return;
  const ByteSpan plain = job.plain->span();
  // Where text is coded as anything else nobody has asked yet.
  if (archive::TextBlockBytes(job.level, false) == 0) {
    job.is_text = codecs::LooksLikeText(plain);
  }
  for (size_t pos = 0; pos < plain.size(); pos += job.block_size) {
    job.lines.push_back(archive::LinesOf(
        plain.subspan(pos,
                      std::min<size_t>(job.block_size, plain.size() - pos)),
        begins_line, job.is_text));
    begins_line = job.lines.back().ends_line;
  }
}

// Reads, encodes in parallel, writes in order. What is read goes through a
// window of a few frames, so that memory does not depend on the input's size.
class Compression {
 public:
  Compression(const CompressOptions& options, Sink& out)
      : options_(options),
        writer_(out),
        text_model_(archive::OpenTextModel(options.text_model)),
        patience_(options.progress, progress_),
        executor_(ThreadCount(options.threads)) {
    executor_.SetIdle([this] { (void)patience_.Report(); });
  }

  absl::Status Begin() {
    if (text_model_ != nullptr) {
      ASSIGN_OR_RETURN(user_model_, text_model_->Get());
    }
    const uint32_t of_text = archive::TextBlockBytes(options_.level, true);
    RETURN_IF_ERROR(
        writer_.Begin({std::max(archive::kMaxBlockBytes, of_text),
                       std::max(archive::kMaxFrameBytes, of_text)}));
    if (references_.outside().empty()) return absl::OkStatus();
    return writer_.WriteReferences(references_.outside());
  }
  void AddEntry(const Entry& entry) {
    Push({.finish = [this, entry] { return writer_.WriteEntry(entry); }});
  }
  // What will be added, so that equal parts and references are found: not for
  // pipes. Before Begin.
  absl::Status Scan(Inputs& inputs) {
    std::deque<archive::BaseTensor>* tensors = nullptr;
    if (!options_.bases.empty()) {
      DecompressOptions bases;
      bases.bases = options_.bases;
      // Archives among them may need others, as they do when they are read.
      for (const std::string& path : options_.bases) {
        bases.base_directories.push_back(SplitPath(path).first);
      }
      ASSIGN_OR_RETURN(bases_, archive::Bases::Open(bases));
      tensors = &bases_->tensors();
    }
    return Scan(inputs, tensors, false);
  }
  // The same against `bases` (null: none); see WriteEntries.
  absl::Status Scan(Inputs& inputs, std::deque<archive::BaseTensor>* bases,
                    bool prefer_first) {
    inputs_ = &inputs;
    if (options_.deduplicate) duplicates_.Scan(inputs, options_.level);
    if (!options_.deduplicate && bases == nullptr) return absl::OkStatus();
    return references_.Scan(
        inputs, bases, options_.deduplicate, options_.level, executor_,
        [this] { return Report(); },
        [this](const archive::References::Place& place) {
          const Family* family = duplicates_.Find(place.first, place.second);
          return family == nullptr
                     ? place
                     : archive::References::Place(family->original.input,
                                                  family->original.offset);
        },
        prefer_first);
  }
  // `source` gives the contents of `entry`, input number `input`.
  absl::Status AddFile(Source& source, const Entry& entry, size_t input);
  // All of what was scanned, from begin to end.
  absl::StatusOr<Totals> AddAll(const std::vector<Input>& inputs);
  absl::StatusOr<Totals> Finish();
  absl::Status Report() { return patience_.Report(); }

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
    std::optional<uint64_t> expected_size;  // none: not known yet
    uint64_t size = 0;
    uint64_t coded = 0;  // bytes of its blocks
    archive::LineCollector lines;
    bool begins_line = true;  // what is read next
  };

  // The segment being read.
  struct Place {
    Family* family = nullptr;
    bool original = false;     // of the family
    size_t tensor = SIZE_MAX;  // number in references_
    bool is_source = false;    // others are coded against it
    bool adds_runs = false;    // it is not coded yet
    const Twin* twin = nullptr;
    uint64_t first_block = 0;
    uint64_t size = 0;  // bytes in frames so far
    // What is coded against the same sources; null: alone. And where it begins.
    std::shared_ptr<const Part> part;
    uint64_t part_begin = 0;  // in `size`
    std::shared_ptr<archive::TensorModels> models;
    Executor::TaskPtr learn;  // makes `models`
    std::shared_ptr<archive::TensorModels> text_models;
    Executor::TaskPtr learn_text;  // makes `text_models`
  };

  // Reads the next bytes; fewer only at the end.
  using Read = std::function<absl::StatusOr<size_t>(MutableByteSpan)>;
  // `file` is null for what is coded ahead.
  absl::Status AddSegment(const Read& read_next,
                          const std::shared_ptr<File>& file,
                          const Segment& segment, size_t tensor, Place place,
                          uint64_t* read);
  // Reads on while what comes is text, up to a block of `full` bytes and `end`;
  // what came last and is none goes to `held`. Whether the input ends there.
  absl::StatusOr<bool> ReadMoreText(const Read& read_next, size_t full,
                                    uint64_t end, uint64_t* read, Buffer* plain,
                                    Buffer* held);
  bool IsText(ByteSpan bytes, DType dtype) const {
    return dtype == DType::kBytes &&
           archive::TextBlockBytes(options_.level, false) != 0 &&
           codecs::LooksLikeText(bytes);
  }
  // Codes the sources of a tensor that come only after it, ahead of their
  // place.
  absl::Status AddSourcesAhead(size_t tensor);
  absl::Status AddAhead(size_t tensor);
  // Codes `job`, which has its bytes and their type, as what comes next.
  void AddFrame(const std::shared_ptr<File>& file,
                std::shared_ptr<FrameJob> job, Place& place);
  // The parts in which a segment is coded.
  std::vector<Part> PartsOf(const Segment& segment, size_t tensor,
                            const Place& place) const;
  // Begins the next of them.
  void StartPart(size_t tensor, const Part& part, uint32_t block_size,
                 Place& place);
  void AddSources(FrameJob& job, const Place& place);
  // Learns from `first`, a block of lines that others come after.
  void LearnText(const FrameJob& first, Place& place);
  void MarkDuplicates(FrameJob& job, Place& place);
  void MarkTwins(FrameJob& job, const Place& place);
  absl::Status FinishFrame(const std::shared_ptr<File>& file, FrameJob& job);
  absl::Status WriteShared(const FrameJob& job);
  static void AddLines(const FrameJob& job, File& file);
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
  Inputs* inputs_ = nullptr;
  Duplicates duplicates_;
  std::unique_ptr<archive::Bases> bases_;
  archive::References references_;
  std::set<size_t> coding_ahead_;  // tensors for which it was tried
  // Of the last Shared frame.
  std::shared_ptr<const archive::TensorModels> shared_models_;
  const codecs::TensorModel* shared_model_ = nullptr;
  uint64_t shared_offset_ = 0;
  // Each with buffers of about one size: growing one maps it anew.
  BufferPool plain_pool_;
  BufferPool coded_pool_;
  container::ArchiveWriter writer_;
  std::deque<Item> window_;
  uint64_t next_block_ = 0;
  Totals totals_;
  Progress progress_;
  std::shared_ptr<archive::TextModelFile> text_model_;  // null: none
  const codecs::TextModel* user_model_ = nullptr;       // in it
  archive::Patience patience_;
  archive::MemoryGate memory_{archive::kSlowCodecs};
  // Last: its tasks use what stands above, and its destructor waits for them.
  Executor executor_;
};

absl::Status Compression::PopOne() {
  Item item = std::move(window_.front());
  window_.pop_front();
  if (item.encode != nullptr) executor_.Wait(item.encode);
  if (item.hash != nullptr) executor_.Wait(item.hash);
  RETURN_IF_ERROR(patience_.Check());
  return item.finish();
}

absl::Status Compression::WriteShared(const FrameJob& job) {
  const ByteSpan bytes = job.shared_model->shared();
  FrameJob shared;
  shared.plain = std::make_shared<Buffer>();
  shared.plain->Append(bytes);
  shared.data = std::make_shared<Buffer>();
  shared.dtype = job.shared_model->shared_dtype();
  shared.level = options_.level;
  shared.block_size = archive::BlockBytes(shared.dtype, options_.level);
  archive::EncodeFrame(shared);
  Buffer head;
  container::WriteBlocksHead(shared.head, &head);
  shared_offset_ = writer_.offset();
  shared_model_ = job.shared_model;
  shared_models_ = job.models;
  return writer_.WriteShared(head.span(), shared.data->span());
}

absl::Status Compression::FinishFrame(const std::shared_ptr<File>& file,
                                      FrameJob& job) {
  if (job.verify_failed) {
    Warn(StrCat(file == nullptr ? "input" : file->path,
                ": a block did not decode to itself and was stored as it is; "
                "please report this"));
  }
  const uint32_t size = static_cast<uint32_t>(job.plain->size());
  if (job.shared_model != nullptr) {
    if (shared_model_ != job.shared_model) RETURN_IF_ERROR(WriteShared(job));
    job.head.shared_distance = writer_.offset() - shared_offset_;
  }
  Buffer head;
  container::WriteBlocksHead(job.head, &head);
  if (job.ahead) {
    return writer_.WriteAhead(head.span(), job.data->span(),
                              static_cast<uint32_t>(job.head.blocks.size()));
  }
  RETURN_IF_ERROR(
      writer_.WriteBlocks(head.span(), job.data->span(), size,
                          static_cast<uint32_t>(job.head.blocks.size())));
  AddLines(job, *file);
  totals_.plain_bytes += size;
  totals_.duplicate_bytes += job.duplicate_bytes;
  progress_.bytes_done += size;
  progress_.coded_bytes = writer_.offset();
  progress_.current = file->path;
  return Report();
}

void Compression::AddLines(const FrameJob& job, File& file) {
  file.coded += job.data->size();
  if (job.lines.empty()) file.lines.GiveUp();
  if (job.is_text) file.lines.FoundText();
  const ByteSpan plain = job.plain->span();
  for (size_t i = 0; i < job.lines.size(); ++i) {
    const size_t begin = i * job.block_size;
    file.lines.Add(
        job.lines[i],
        plain.subspan(begin,
                      std::min<size_t>(job.block_size, plain.size() - begin)));
  }
}

void Compression::MarkDuplicates(FrameJob& job, Place& place) {
  Family& family = *place.family;
  job.kept = job.kept || place.original;
  const ByteSpan plain = job.plain->span();
  uint64_t block = job.first_block - place.first_block;
  for (size_t pos = 0; pos < plain.size(); pos += job.block_size, ++block) {
    const Sha256Digest digest = Sha256Of(plain.subspan(
        pos, std::min<size_t>(job.block_size, plain.size() - pos)));
    if (place.original) {
      family.blocks.push_back(digest);
      continue;
    }
    const bool equal =
        block < family.blocks.size() && family.blocks[block] == digest;
    job.duplicate_of.push_back(equal ? family.first_block + block
                                     : FrameJob::kNotDuplicate);
  }
}

void Compression::MarkTwins(FrameJob& job, const Place& place) {
  const Family& family = *place.twin->source;
  if (!family.coded) return;
  const archive::TwinRecipe& recipe = place.twin->recipe;
  SourceBlocks blocks(*inputs_, family, recipe.block_size);
  archive::FetchLimits limits;
  const ByteSpan plain = job.plain->span();
  Buffer made;
  uint64_t number = job.first_block;
  for (size_t pos = 0; pos < plain.size(); pos += job.block_size, ++number) {
    const ByteSpan block = plain.subspan(
        pos, std::min<size_t>(job.block_size, plain.size() - pos));
    Buffer coded;
    archive::AppendTwin(recipe, number - family.first_block, place.size + pos,
                        block.size(), &coded);
    made.Resize(block.size());
    const bool equal =
        coded.size() < block.size() &&
        archive::DecodeTwin(coded.span(), number, pos / job.block_size,
                            archive::kMaxBlockBytes, blocks, limits,
                            made.mutable_span())
            .ok() &&
        std::ranges::equal(made.span(), block);
    if (!equal) coded.Clear();
    job.twin.push_back(std::move(coded));
  }
}

std::vector<Part> Compression::PartsOf(const Segment& segment, size_t tensor,
                                       const Place& place) const {
  const bool made_of_others =
      place.twin != nullptr || (place.family != nullptr && !place.original);
  if (tensor != SIZE_MAX && !made_of_others) return references_.Parts(tensor);
  if (tensor == SIZE_MAX) return {};
  return {{.elements =
               references_.PackingOfTensor(tensor).ElementsIn(segment.length),
           .sources = {}}};
}

void Compression::StartPart(size_t tensor, const Part& part,
                            uint32_t block_size, Place& place) {
  if (place.adds_runs) {
    references_.AddRun(tensor, part.begin, part.elements, next_block_,
                       block_size);
  }
  place.part = nullptr;
  place.models = nullptr;
  place.learn = nullptr;
  place.part_begin = place.size;
  if (part.sources.empty()) return;
  place.part = std::make_shared<const Part>(part);
  place.models = std::make_shared<archive::TensorModels>();
  place.learn = executor_.Submit(
      [this, tensor, part = place.part, models = place.models] {
        codecs::Scratch scratch;
        const auto view = references_.View(tensor, *part, options_.level);
        LearnModels(
            [&](const codecs::Encoder& encoder) {
              return encoder.learn == nullptr ? nullptr
                                              : encoder.learn(*view, scratch);
            },
            *models);
      });
}

void Compression::AddSources(FrameJob& job, const Place& place) {
  const container::Packing packing = references_.PackingOfTensor(place.tensor);
  const uint64_t begin = packing.ElementsIn(place.size - place.part_begin);
  const uint64_t count = packing.ElementsIn(job.plain->size());
  job.against = references_.SourcesOf(*place.part, packing, begin, count,
                                      job.first_block);
  job.models = place.models;
  job.load_sources = [this, part = place.part, against = &job.against,
                      count](std::vector<Buffer>* out) {
    return references_.Load(*part, *against, count, out);
  };
}

absl::Status Compression::AddSourcesAhead(size_t tensor) {
  for (const size_t source : references_.SourcesInside(tensor)) {
    if (!references_.IsCoded(source)) RETURN_IF_ERROR(AddAhead(source));
  }
  return absl::OkStatus();
}

absl::Status Compression::AddAhead(size_t tensor) {
  if (!coding_ahead_.insert(tensor).second) return absl::OkStatus();
  const size_t input = references_.InputOf(tensor);
  const Segment segment = references_.SegmentOf(tensor);
  Place place;
  if (input != SIZE_MAX) {
    place.family = duplicates_.Find(input, segment.offset);
    const bool is_original =
        place.family == nullptr ||
        (!place.family->coded && place.family->original.input == input &&
         place.family->original.offset == segment.offset);
    // What is made of others is coded where its place is.
    if (!is_original ||
        duplicates_.FindTwin(input, segment.offset) != nullptr) {
      return absl::OkStatus();
    }
  }
  const std::unique_ptr<archive::TensorBytes> in = references_.Open(tensor);
  if (in == nullptr) return absl::OkStatus();
  RETURN_IF_ERROR(AddSourcesAhead(tensor));
  if (input != SIZE_MAX && place.family == nullptr) {
    place.family = duplicates_.AddFamily(input, segment.offset);
  }
  place.is_source = true;
  uint64_t at = 0;
  uint64_t read = 0;
  return AddSegment(
      [&](MutableByteSpan out) -> absl::StatusOr<size_t> {
        RETURN_IF_ERROR(in->Read(at, out));
        at += out.size();
        return out.size();
      },
      nullptr, segment, tensor, place, &read);
}

void Compression::LearnText(const FrameJob& first, Place& place) {
  place.text_models = std::make_shared<archive::TensorModels>();
  place.learn_text = executor_.Submit([plain = first.plain,
                                       size = first.block_size,
                                       level = options_.level,
                                       models = place.text_models] {
    codecs::Scratch scratch;
    codecs::EncodeRequest request{plain->span(), size, DType::kBytes, level};
    request.is_text = true;
    request.is_lines = true;
    LearnModels(
        [&](const codecs::Encoder& encoder) {
          return encoder.learn_text == nullptr
                     ? nullptr
                     : encoder.learn_text(request, scratch);
        },
        *models);
  });
}

absl::StatusOr<bool> Compression::ReadMoreText(const Read& read_next,
                                               size_t full, uint64_t end,
                                               uint64_t* read, Buffer* plain,
                                               Buffer* held) {
  constexpr size_t kPiece = size_t{1} << 20;
  while (plain->size() < full && *read < end) {
    const size_t begin = plain->size();
    const size_t wanted =
        std::min<uint64_t>({kPiece, full - begin, end - *read});
    plain->Resize(begin + wanted);
    ASSIGN_OR_RETURN(const size_t n,
                     read_next(plain->mutable_span().subspan(begin)));
    plain->Resize(begin + n);
    *read += n;
    const ByteSpan piece = plain->span().subspan(begin);
    if (n != 0 && !codecs::LooksLikeText(piece)) {
      held->Append(piece);
      plain->Resize(begin);
      return false;
    }
    if (n < wanted) return true;
  }
  return false;
}

absl::Status Compression::AddSegment(const Read& read_next,
                                     const std::shared_ptr<File>& file,
                                     const Segment& segment, size_t tensor,
                                     Place place, uint64_t* read) {
  place.first_block = next_block_;
  place.tensor = tensor;
  place.adds_runs = tensor != SIZE_MAX && !references_.IsCoded(tensor);
  place.original = place.family != nullptr && !place.family->coded;
  if (place.original) {
    place.family->coded = true;
    place.family->first_block = next_block_;
  }
  const uint32_t block_size =
      archive::BlockBytes(segment.dtype, options_.level, RowOf(segment));
  const uint64_t frame_size = std::max<uint64_t>(
      block_size, archive::kFrameBytes / block_size * block_size);
  const DTypeInfo* info = FindDType(segment.dtype);
  const std::vector<Part> parts = PartsOf(segment, tensor, place);
  size_t next_part = 0;
  uint64_t part_end = parts.empty() ? segment.length : 0;
  Buffer held;  // the start of an element, of which the rest is not read yet
  *read = 0;
  while (true) {
    RETURN_IF_ERROR(MakeRoom());
    if (*read == part_end && next_part < parts.size()) {
      const Part& part = parts[next_part++];
      part_end = references_.PackingOfTensor(tensor).BytesOf(part.begin +
                                                             part.elements);
      StartPart(tensor, part, block_size, place);
    }
    std::shared_ptr<Buffer> plain = plain_pool_.Get();
    plain->Append(held.span());
    const uint64_t wanted =
        std::min<uint64_t>(frame_size - held.size(), part_end - *read);
    plain->Resize(held.size() + wanted);
    ASSIGN_OR_RETURN(const size_t n,
                     read_next(plain->mutable_span().subspan(held.size())));
    plain->Resize(held.size() + n);
    held.Clear();
    const uint64_t start = *read - (plain->size() - n);
    *read += n;
    bool ends = n < wanted || *read == segment.length;
    if (plain->empty()) break;
    const bool is_text = IsText(plain->span(), segment.dtype);
    const bool is_lines = is_text && codecs::LooksLikeLines(plain->span());
    if (is_text && !ends) {
      ASSIGN_OR_RETURN(
          ends, ReadMoreText(read_next,
                             archive::TextBlockBytes(options_.level, is_lines),
                             part_end, read, plain.get(), &held));
      ends = (ends || *read == segment.length) && held.empty();
      // Lines that lie in one block can be found there.
      const size_t cut = archive::LastLineEnd(plain->span());
      if (!ends && held.empty() && cut != 0) {
        held.Append(plain->span().subspan(cut));
        plain->Resize(cut);
      }
    }

    auto job = std::make_shared<FrameJob>();
    job->plain = plain;
    job->dtype = segment.dtype;
    job->row = RowOf(segment);
    if (info != nullptr) {
      job->position = start / info->block_bytes * info->block_elements;
    }
    job->is_text = is_text;
    job->is_lines = is_lines;
    if (segment.dtype != DType::kBytes || is_text) {
      AddFrame(file, std::move(job), place);
    } else {
      const std::vector<archive::Range> ranges =
          archive::FindRanges(plain->span(), options_.level >= kRecordsMatter);
      size_t least = archive::kMaxElement;
      for (const archive::Range& range : ranges) {
        least = std::max(least, range.record);
        const ByteSpan bytes = plain->span().subspan(range.begin, range.size);
        if (!ends && ranges.size() > 1 && &range == &ranges.back() &&
            bytes.size() < least) {
          held.Append(bytes);
          break;
        }
        if (ranges.size() > 1) {
          job = std::make_shared<FrameJob>();
          job->plain = plain_pool_.Get();
          job->plain->Append(bytes);
        }
        job->dtype = range.dtype;
        if (range.dtype == DType::kBytes) job->row = range.record;
        job->is_text = range.record == 0 && ranges.size() > 1 &&
                       IsText(bytes, range.dtype);
        job->is_lines = job->is_text && codecs::LooksLikeLines(bytes);
        job->find_row = range.dtype != DType::kBytes;
        AddFrame(file, job, place);
      }
    }
    if (ends) break;
  }
  return absl::OkStatus();
}

void Compression::AddFrame(const std::shared_ptr<File>& file,
                           std::shared_ptr<FrameJob> job, Place& place) {
  job->data = coded_pool_.Get();
  job->block_size = archive::BlockBytes(job->dtype, options_.level, job->row);
  job->level = options_.level;
  if (job->is_text) {
    job->block_size = archive::TextBlockBytes(options_.level, job->is_lines);
    job->text_model = user_model_;
    job->patience = &patience_;
    job->memory = &memory_;
  }
  job->verify = options_.verify;
  job->first_block = next_block_;
  job->kept = place.is_source;
  if (place.part != nullptr) AddSources(*job, place);
  Executor::TaskPtr learn = place.learn;
  if (job->is_lines && place.part == nullptr) {
    // One block has no use for what is learnt.
    if (place.learn_text == nullptr &&
        job->plain->size() + archive::kMaxCutLine >= job->block_size) {
      LearnText(*job, place);
    }
    job->models = place.text_models;
    learn = place.learn_text;
  }
  if (place.family != nullptr) MarkDuplicates(*job, place);
  if (place.twin != nullptr) MarkTwins(*job, place);
  const size_t size = job->plain->size();
  next_block_ += (size + job->block_size - 1) / job->block_size;
  place.size += size;
  job->ahead = file == nullptr;
  Item item;
  if (file != nullptr) {
    file->size += size;
    item.hash = executor_.Submit(
        [file, plain = job->plain] { file->sha256.Update(plain->span()); },
        file->last_hash);
    file->last_hash = item.hash;
  }
  const bool begins_line = file == nullptr || file->begins_line;
  // LineCollector has no use for the lines of one block that is all of a file.
  const bool is_file =
      file != nullptr && size <= job->block_size && size == file->expected_size;
  item.encode = executor_.Submit(
      [job, begins_line, is_file] {
        archive::EncodeFrame(*job);
        if (!is_file) FindLines(begins_line, *job);
      },
      learn);
  if (file != nullptr) file->begins_line = job->plain->span().back() == '\n';
  item.finish = [this, file, job] { return FinishFrame(file, *job); };
  Push(std::move(item));
}

absl::Status Compression::AddFile(Source& source, const Entry& entry,
                                  size_t input) {
  auto file = std::make_shared<File>();
  file->path = source.Name();
  file->expected_size = source.Size();
  std::vector<uint8_t> prefix;
  Layout planned;
  const Layout* known = source.Seekable() ? inputs_->LayoutOf(input) : nullptr;
  if (known != nullptr) {
    planned = *known;
  } else {
    ASSIGN_OR_RETURN(planned, archive::ReadLayout(source, &prefix));
    if (source.Seekable()) {
      prefix.clear();  // it was read without moving the position
    }
  }
  Prefixed in(std::move(prefix), source);
  AddEntry(entry);

  Layout layout;
  layout.format = planned.format;
  auto add = [&](Segment segment) -> absl::Status {
    uint64_t read = 0;
    segment.offset = file->size;
    Place place;
    place.twin = duplicates_.FindTwin(input, segment.offset);
    const size_t tensor = segment.length == 0
                              ? SIZE_MAX
                              : references_.Find(input, segment.offset);
    place.is_source = tensor != SIZE_MAX && references_.IsSource(tensor);
    if (tensor != SIZE_MAX) RETURN_IF_ERROR(AddSourcesAhead(tensor));
    // It may have been coded meanwhile.
    place.family = duplicates_.Find(input, segment.offset);
    RETURN_IF_ERROR(
        AddSegment([&](MutableByteSpan out) { return in.Read(out); }, file,
                   segment, tensor, place, &read));
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
        .finish = [this, file, expected = inputs_->DigestOf(input),
                   layout = std::move(layout)]() mutable -> absl::Status {
          const Sha256Digest digest = file->sha256.Finish();
          if (expected.has_value() && digest != *expected) {
            return absl::UnavailableError(
                file->path + ": changed while it was read: try again");
          }
          return writer_.EndFile({file->size, digest}, std::move(layout),
                                 file->lines.Finish(file->coded));
        }});
  return absl::OkStatus();
}

absl::StatusOr<Totals> Compression::AddAll(const std::vector<Input>& inputs) {
  for (const Input& input : inputs) progress_.bytes_total += input.entry.size;
  RETURN_IF_ERROR(Begin());
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Input& input = inputs[i];
    if (input.entry.kind != EntryKind::kFile) {
      AddEntry(input.entry);
      continue;
    }
    ASSIGN_OR_RETURN(
        std::unique_ptr<Source> source,
        input.open != nullptr ? input.open() : OpenFileSource(input.path));
    RETURN_IF_ERROR(AddFile(*source, input.entry, i));
  }
  return Finish();
}

absl::StatusOr<Totals> Compression::Finish() {
  while (!window_.empty()) RETURN_IF_ERROR(PopOne());
  // What was coded against a file that is no more would not decode.
  if (inputs_ != nullptr) RETURN_IF_ERROR(inputs_->CheckUnchanged());
  if (bases_ != nullptr) RETURN_IF_ERROR(bases_->CheckUnchanged());
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

}  // namespace

absl::StatusOr<Totals> archive::WriteArchiveFile(
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

absl::StatusOr<Totals> archive::WriteEntries(const std::vector<Input>& inputs,
                                             std::deque<BaseTensor>* bases,
                                             bool prefer_first,
                                             const CompressOptions& options,
                                             Sink& out) {
  RETURN_IF_ERROR(CheckOptions(options));
  Inputs opened(inputs);  // outlives the tasks of `compression`, which read it
  Compression compression(options, out);
  RETURN_IF_ERROR(compression.Scan(opened, bases, prefer_first));
  return compression.AddAll(inputs);
}

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
    Inputs inputs(in);
    Compression compression(options_, out);
    RETURN_IF_ERROR(compression.Scan(inputs));
    compression.SetTotal(in.Size().value_or(0));
    RETURN_IF_ERROR(compression.Begin());
    RETURN_IF_ERROR(compression.AddFile(in, entry, 0));
    return compression.Finish();
  });
}

absl::StatusOr<Totals> Compressor::CompressPath(const std::string& path,
                                                Sink& out) const {
  return CatchExceptions([&]() -> absl::StatusOr<Totals> {
    RETURN_IF_ERROR(CheckOptions(options_));
    // Before `compression`: its tasks may read them to its end.
    std::vector<Input> inputs;
    std::optional<Inputs> opened;
    Compression compression(options_, out);
    ASSIGN_OR_RETURN(
        inputs, archive::ListInputs(
                    path,
                    options_.follow_symlinks ? archive::Links::kFollow
                                             : archive::Links::kKeep,
                    [&](const std::string& text) { compression.Warn(text); }));
    opened.emplace(inputs);
    RETURN_IF_ERROR(compression.Scan(*opened));
    return compression.AddAll(inputs);
  });
}

absl::StatusOr<Totals> Compressor::CompressPathToFile(
    const std::string& path, const std::string& archive_path,
    bool overwrite) const {
  return archive::WriteArchiveFile(
      archive_path, overwrite, options_.sync,
      [&](Sink& out) { return CompressPath(path, out); });
}

absl::StatusOr<Totals> Compressor::CompressStreamToFile(
    Source& in, const std::string& name, const std::string& archive_path,
    bool overwrite) const {
  return archive::WriteArchiveFile(
      archive_path, overwrite, options_.sync,
      [&](Sink& out) { return CompressStream(in, name, out); });
}

}  // namespace zipllm
