#include "zipllm/derive.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <utility>

#include "archive/bases.h"
#include "archive/duplicates.h"
#include "archive/input_tree.h"
#include "archive/references.h"
#include "base/buffer.h"
#include "base/dtype.h"
#include "base/executor.h"
#include "base/file.h"
#include "base/status.h"
#include "codecs/quant/derived_trial.h"
#include "codecs/reference/casts.h"
#include "quantizers/quantizer.h"

namespace zipllm {
namespace {

using archive::Part;
using archive::References;
using container::Packing;
using container::PackingOf;

// The recipe where elements are those of the source, or casts of them.
constexpr uint8_t kCopy = 0;

// Elements that are looked at to choose a recipe, and at once.
constexpr uint64_t kTried = 1 << 14;
constexpr uint64_t kChunk = 1 << 19;

bool IsPacked(DType dtype) { return PackingOf(dtype).elements != 1; }

// Rows of a part of a tensor beside those of its source.
struct Rows {
  uint64_t begin = 0;  // elements of the part before them
  Buffer target;
  Buffer base;
  std::vector<float> importance;
};

// What is compared of one tensor.
struct Work {
  size_t tensor = 0;
  Part part;
  std::shared_ptr<codecs::TensorView> view;
  int base = -1;        // places in the view's references, or -1
  int importance = -1;  // likewise
  uint8_t recipe = kCopy;
  bool has_recipe = false;
};

absl::StatusOr<Rows> ReadRows(const Work& work, uint64_t begin,
                              uint64_t count) {
  Rows rows;
  rows.begin = begin;
  rows.target.Resize(PackingOf(work.view->dtype).BytesOf(count));
  RETURN_IF_ERROR(work.view->Read(-1, begin, rows.target.mutable_span()));
  const auto& base = work.view->references[static_cast<size_t>(work.base)];
  rows.base.Resize(PackingOf(base.dtype).BytesOf(count));
  RETURN_IF_ERROR(work.view->Read(work.base, begin, rows.base.mutable_span()));
  if (work.importance < 0) return rows;
  const auto& importance =
      work.view->references[static_cast<size_t>(work.importance)];
  if (importance.dtype != DType::kF32) return rows;
  rows.importance.resize(importance.elements);
  Buffer bytes(importance.elements * sizeof(float));
  RETURN_IF_ERROR(work.view->Read(work.importance, 0, bytes.mutable_span()));
  std::memcpy(rows.importance.data(), bytes.data(), bytes.size());
  return rows;
}

// What the recipe makes of the source; false where it does not apply.
bool Make(uint8_t recipe, const Work& work, const Rows& rows,
          MutableByteSpan out) {
  const DType from =
      work.view->references[static_cast<size_t>(work.base)].dtype;
  const DType to = work.view->dtype;
  if (recipe != kCopy) {
    return codecs::PredictBlocks(recipe, to, from, rows.base.span(),
                                 work.part.row, work.part.begin + rows.begin,
                                 rows.importance, out);
  }
  if (from == to) {
    if (rows.base.size() != out.size()) return false;
    std::memcpy(out.data(), rows.base.data(), out.size());
    return true;
  }
  if (IsPacked(from) || IsPacked(to) || !codecs::CanCast(from, to)) {
    return false;
  }
  codecs::Cast(from, to, rows.base.data(), out.size() / PackingOf(to).bytes,
               out.data(), nullptr);
  return true;
}

struct Difference {
  uint64_t blocks = 0;
  uint64_t bytes = 0;
  uint64_t first = UINT64_MAX;  // byte
};

Difference Compare(ByteSpan a, ByteSpan b, size_t block_bytes) {
  Difference found;
  for (size_t begin = 0; begin < a.size(); begin += block_bytes) {
    const size_t end = std::min(begin + block_bytes, a.size());
    if (std::memcmp(&a[begin], &b[begin], end - begin) == 0) continue;
    ++found.blocks;
    for (size_t i = begin; i < end; ++i) {
      if (a[i] == b[i]) continue;
      ++found.bytes;
      found.first = std::min<uint64_t>(found.first, i);
    }
  }
  return found;
}

std::string RecipeName(uint8_t recipe, bool is_cast) {
  if (recipe == kCopy) return is_cast ? "cast" : "copy";
  const quantizers::Quantizer* quantizer = quantizers::FindQuantizer(recipe);
  return quantizer == nullptr ? "" : std::string(quantizer->name);
}

class Check {
 public:
  Check(const std::string& path, const DeriveOptions& options)
      : path_(path),
        options_(options),
        executor_(ThreadCount(options.threads)) {}

  absl::StatusOr<DerivationReport> Run() {
    if (options_.sources.empty()) {
      return InvalidArgument(
          "no source is given: name the model that the quantized one was made "
          "of");
    }
    DecompressOptions bases;
    bases.bases = options_.sources;
    bases.bases.insert(bases.bases.end(), options_.importance.begin(),
                       options_.importance.end());
    for (const std::string& source : options_.sources) {
      bases.base_directories.push_back(SplitPath(source).first);
    }
    ASSIGN_OR_RETURN(bases_, archive::Bases::Open(bases));
    ASSIGN_OR_RETURN(
        tree_, archive::ListInputs(path_, archive::Links::kFollow, nullptr));
    inputs_ = std::make_unique<archive::Inputs>(tree_);
    RETURN_IF_ERROR(references_.Scan(*inputs_, &bases_->tensors(), false,
                                     kDefaultLevel, executor_,
                                     [this] { return Report(); }));
    references_.TakeMadeAsCoded();
    RETURN_IF_ERROR(List());
    RETURN_IF_ERROR(ForEach(
        executor_, works_.size(), [this](size_t i) { return Choose(i); },
        [this] { return Report(); }));
    RETURN_IF_ERROR(CompareAll());
    RETURN_IF_ERROR(bases_->CheckUnchanged());
    RETURN_IF_ERROR(inputs_->CheckUnchanged());
    return std::move(report_);
  }

 private:
  absl::Status Report() {
    if (options_.progress == nullptr) return absl::OkStatus();
    Progress progress;
    {
      std::lock_guard lock(mutex_);
      progress = progress_;
    }
    return options_.progress(progress) ? absl::OkStatus()
                                       : absl::CancelledError("interrupted");
  }
  absl::Status List();
  void AddWork(size_t tensor, const Part& part, size_t place);
  // Takes the recipe that does best on the first rows.
  absl::Status Choose(size_t number);
  absl::Status CompareAll();
  absl::Status CompareRows(size_t number, uint64_t begin, uint64_t count);

  const std::string path_;
  const DeriveOptions& options_;
  std::unique_ptr<archive::Bases> bases_;
  std::vector<archive::Input> tree_;
  std::unique_ptr<archive::Inputs> inputs_;
  References references_;
  std::vector<Work> works_;
  std::mutex mutex_;  // of what follows
  DerivationReport report_;
  Progress progress_;
  Executor executor_;  // last: its tasks use what stands above
};

void Check::AddWork(size_t tensor, const Part& part, size_t place) {
  Work work;
  work.tensor = place;
  work.part = part;
  work.view = references_.View(tensor, part, kDefaultLevel);
  for (size_t k = 0; k < part.sources.size(); ++k) {
    const codecs::Role role = part.sources[k].role;
    if (role == codecs::Role::kBase && work.base < 0) {
      work.base = static_cast<int>(k);
    }
    if (role == codecs::Role::kImportance)
      work.importance = static_cast<int>(k);
  }
  // Codes with several weights in an element have no recipe here.
  if (work.base < 0 ||
      references_.PackingOfTensor(tensor) != PackingOf(work.view->dtype)) {
    return;
  }
  TensorDerivation& derivation = report_.tensors[place];
  const size_t base = part.sources[static_cast<size_t>(work.base)].tensor;
  if (!derivation.found) {
    derivation.found = true;
    derivation.source = references_.SegmentOf(base).name;
    derivation.source_model = references_.ModelOf(base);
  }
  ++derivation.sources;
  works_.push_back(std::move(work));
}

absl::Status Check::List() {
  for (size_t input = 0; input < tree_.size(); ++input) {
    const Layout* layout = inputs_->LayoutOf(input);
    if (layout == nullptr) continue;
    for (const Segment& segment : layout->segments) {
      const size_t tensor = references_.Find(input, segment.offset);
      if (tensor == SIZE_MAX || segment.length == 0) continue;
      TensorDerivation& derivation = report_.tensors.emplace_back();
      derivation.path = inputs_->PathOf(input);
      derivation.name = segment.name;
      derivation.dtype = segment.dtype;
      derivation.shape = segment.shape;
      derivation.weights =
          references_.PackingOfTensor(tensor).ElementsIn(segment.length);
      derivation.blocks = segment.length / PackingOf(segment.dtype).bytes;
      for (const Part& part : references_.Parts(tensor)) {
        AddWork(tensor, part, report_.tensors.size() - 1);
      }
    }
  }
  for (const Work& work : works_) {
    progress_.bytes_total +=
        PackingOf(work.view->dtype).BytesOf(work.part.elements);
  }
  return absl::OkStatus();
}

absl::Status Check::Choose(size_t number) {
  Work& work = works_[number];
  const uint64_t row = std::max<uint64_t>(work.part.row, 1);
  const uint64_t count =
      std::min(work.part.elements, std::max<uint64_t>(1, kTried / row) * row);
  const DType dtype = work.view->dtype;
  const size_t block_bytes = PackingOf(dtype).bytes;
  ASSIGN_OR_RETURN(const Rows rows, ReadRows(work, 0, count));
  Buffer made(rows.target.size());
  uint64_t least = UINT64_MAX;
  const auto attempt = [&](uint8_t recipe) {
    if (!Make(recipe, work, rows, made.mutable_span())) return;
    const Difference difference =
        Compare(rows.target.span(), made.span(), block_bytes);
    if (difference.bytes >= least) return;
    least = difference.bytes;
    work.recipe = recipe;
    work.has_recipe = true;
  };
  attempt(kCopy);
  for (const quantizers::Quantizer* quantizer : quantizers::AllQuantizers()) {
    if (quantizer->dtype == dtype) attempt(quantizer->id);
  }
  const DType base =
      work.view->references[static_cast<size_t>(work.base)].dtype;
  // About, of the first rows alone.
  const double bits =
      IsPacked(dtype) && least != 0
          ? codecs::DerivedBitsPerWeight(dtype, rows.target.span(), base,
                                         rows.base.span(), work.part.row,
                                         work.part.begin, rows.importance,
                                         kDefaultLevel, nullptr)
          : 0;
  std::lock_guard lock(mutex_);
  TensorDerivation& derivation = report_.tensors[work.tensor];
  const double share = static_cast<double>(work.part.elements) /
                       static_cast<double>(derivation.weights);
  derivation.bits_per_weight += bits * share;
  if (work.has_recipe && derivation.recipe.empty()) {
    derivation.recipe = RecipeName(work.recipe, base != dtype);
  }
  return absl::OkStatus();
}

absl::Status Check::CompareRows(size_t number, uint64_t begin, uint64_t count) {
  const Work& work = works_[number];
  const Packing packing = PackingOf(work.view->dtype);
  Difference difference;
  if (work.has_recipe) {
    ASSIGN_OR_RETURN(const Rows rows, ReadRows(work, begin, count));
    Buffer made(rows.target.size());
    if (!Make(work.recipe, work, rows, made.mutable_span())) {
      return Internal("a recipe that was chosen does not apply");
    }
    difference = Compare(rows.target.span(), made.span(), packing.bytes);
  }
  std::lock_guard lock(mutex_);
  progress_.bytes_done += packing.BytesOf(count);
  TensorDerivation& derivation = report_.tensors[work.tensor];
  progress_.current = derivation.path;
  if (difference.bytes == 0) return absl::OkStatus();
  const uint64_t first =
      packing.BytesOf(work.part.begin + begin) + difference.first;
  derivation.first_different_byte =
      derivation.different_bytes == 0
          ? first
          : std::min(first, derivation.first_different_byte);
  derivation.different_blocks += difference.blocks;
  derivation.different_bytes += difference.bytes;
  return absl::OkStatus();
}

absl::Status Check::CompareAll() {
  struct Job {
    size_t work;
    uint64_t begin;
    uint64_t count;
  };
  std::vector<Job> jobs;
  std::vector<uint64_t> compared(report_.tensors.size());
  for (size_t i = 0; i < works_.size(); ++i) {
    const Part& part = works_[i].part;
    const uint64_t row = std::max<uint64_t>(part.row, 1);
    const uint64_t step = std::max<uint64_t>(1, kChunk / row) * row;
    for (uint64_t begin = 0; begin < part.elements; begin += step) {
      jobs.push_back({i, begin, std::min(step, part.elements - begin)});
    }
    if (works_[i].has_recipe) compared[works_[i].tensor] += part.elements;
  }
  RETURN_IF_ERROR(ForEach(
      executor_, jobs.size(),
      [this, &jobs](size_t k) {
        return CompareRows(jobs[k].work, jobs[k].begin, jobs[k].count);
      },
      [this] { return Report(); }));
  // What has a source in part only is not what a recipe makes.
  for (size_t i = 0; i < report_.tensors.size(); ++i) {
    TensorDerivation& derivation = report_.tensors[i];
    if (derivation.recipe.empty() || compared[i] == derivation.weights)
      continue;
    const Packing packing = PackingOf(derivation.dtype);
    const uint64_t left = derivation.weights - compared[i];
    derivation.different_blocks += left / packing.elements;
    derivation.different_bytes += packing.BytesOf(left);
  }
  for (TensorDerivation& derivation : report_.tensors) {
    if (derivation.bits_per_weight == 0 && derivation.is_quantized()) {
      derivation.bits_per_weight =
          16.0 * static_cast<double>(derivation.different_bytes) /
          static_cast<double>(derivation.weights);
    }
  }
  return absl::OkStatus();
}

}  // namespace

bool TensorDerivation::is_quantized() const { return IsPacked(dtype); }

bool DerivationReport::exact() const {
  bool any = false;
  for (const TensorDerivation& tensor : tensors) {
    if (!tensor.is_quantized()) continue;
    if (!tensor.exact()) return false;
    any = true;
  }
  return any;
}

absl::StatusOr<DerivationReport> CheckDerivation(const std::string& path,
                                                 const DeriveOptions& options) {
  return CatchExceptions([&]() -> absl::StatusOr<DerivationReport> {
    return Check(path, options).Run();
  });
}

}  // namespace zipllm
