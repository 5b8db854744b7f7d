#include "archive/references.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>
#include <set>
#include <tuple>

#include "archive/gather.h"
#include "archive/importance.h"
#include "archive/moments_roles.h"
#include "base/dtype.h"
#include "base/file.h"
#include "codecs/quant/derived_format.h"
#include "codecs/quant/derived_trial.h"
#include "quantizers/dequantize.h"

namespace zipllm::archive {
namespace {

using container::FrameSource;
using container::FrameSources;
using container::Packing;
using container::PackingOf;

// A part of an input file.
class InputTensor : public TensorBytes {
 public:
  InputTensor(std::shared_ptr<Source> in, uint64_t offset)
      : in_(std::move(in)), offset_(offset) {}
  absl::Status Read(uint64_t offset, MutableByteSpan out) override {
    return ReadAtExactly(*in_, offset_ + offset, out);
  }

 private:
  std::shared_ptr<Source> in_;
  const uint64_t offset_;
};

// A tensor that was made.
class MadeTensor : public TensorBytes {
 public:
  MadeTensor(std::shared_ptr<const Buffer> bytes, uint64_t offset)
      : bytes_(std::move(bytes)), offset_(offset) {}
  absl::Status Read(uint64_t offset, MutableByteSpan out) override {
    const ByteSpan all = bytes_->span().subspan(offset_);
    if (offset > all.size() || out.size() > all.size() - offset) {
      return absl::OutOfRangeError("no such bytes");
    }
    std::ranges::copy(all.subspan(offset, out.size()), out.begin());
    return absl::OkStatus();
  }

 private:
  const std::shared_ptr<const Buffer> bytes_;
  const uint64_t offset_;
};

// A part of an outside base.
class OffsetTensor : public TensorBytes {
 public:
  OffsetTensor(TensorBytes& in, uint64_t offset) : in_(in), offset_(offset) {}
  absl::Status Read(uint64_t offset, MutableByteSpan out) override {
    return in_.Read(offset_ + offset, out);
  }

 private:
  TensorBytes& in_;
  const uint64_t offset_;
};

bool IsPacked(DType dtype) { return PackingOf(dtype).elements != 1; }

// What elements are taken as: complex numbers as two floats; packed ones of
// which nothing is known, and which are equal to others or not, as bytes.
DType SeenAs(DType dtype) {
  if (dtype == DType::kC64) return DType::kF32;
  if (dtype == DType::kC128) return DType::kF64;
  const bool is_known = !IsPacked(dtype) || quantizers::CanDequantize(dtype);
  return is_known ? dtype : DType::kU8;
}

// Rows of what is seen as another type are longer.
std::vector<uint64_t> ShapeSeen(DType dtype, std::vector<uint64_t> shape) {
  const DType seen = SeenAs(dtype);
  if (seen == dtype || shape.empty()) return shape;
  shape.back() =
      PackingOf(seen).ElementsIn(PackingOf(dtype).BytesOf(shape.back()));
  return shape;
}

bool IsEligible(DType dtype, uint64_t length) {
  const DTypeInfo* info = FindDType(dtype);
  return dtype != DType::kBytes && info != nullptr && length != 0 &&
         length % info->block_bytes == 0;
}

uint64_t RowOf(const LineageTensor& tensor) {
  return tensor.shape.empty() ? tensor.elements : tensor.shape.back();
}

// All of tensor number `source`, which has as many elements as `target`.
SourceView ViewOfAll(size_t source, const LineageTensor& target) {
  SourceView view;
  view.source = source;
  view.target_elements = target.elements;
  view.columns = RowOf(target);
  view.source_columns = view.columns;
  return view;
}

// The part of a view that begins with its row `first`.
SourceView SliceRows(SourceView view, uint64_t first, uint64_t rows) {
  view.target_begin += first * view.columns;
  view.target_elements = rows * view.columns;
  switch (view.order) {
    case SourceView::Order::kSame:
      view.row_offset += first;
      break;
    case SourceView::Order::kTransposed:
      view.column_offset += first;
      break;
    case SourceView::Order::kRows: {
      const auto begin = view.rows.begin() + static_cast<ptrdiff_t>(first);
      view.rows.assign(begin, begin + static_cast<ptrdiff_t>(rows));
      break;
    }
  }
  return view;
}

// Cuts a view of parts of a tensor of `matrices` matrices, one after the other,
// where a matrix ends; `elements` are the tensor's. Numbers of matrices, and
// their views; none where one has parts of several rows.
std::vector<std::pair<size_t, SourceView>> CutByMatrix(const SourceView& view,
                                                       uint64_t matrices,
                                                       uint64_t elements) {
  std::vector<std::pair<size_t, SourceView>> cut;
  const uint64_t size = elements / matrices;
  uint64_t at = view.target_begin;
  const uint64_t end = at + view.target_elements;
  while (at < end) {
    const uint64_t to = std::min(end, (at / size + 1) * size);
    if ((to - at) % view.columns != 0) return {};
    cut.emplace_back(at / size,
                     SliceRows(view, (at - view.target_begin) / view.columns,
                               (to - at) / view.columns));
    at = to;
  }
  return cut;
}

FrameSource::Order OrderOf(SourceView::Order order) {
  switch (order) {
    case SourceView::Order::kSame:
      return FrameSource::Order::kSame;
    case SourceView::Order::kTransposed:
      return FrameSource::Order::kTransposed;
    case SourceView::Order::kRows:
      return FrameSource::Order::kRows;
  }
  return FrameSource::Order::kSame;
}

}  // namespace

// Elements as they are stored.
class References::StoredReader : public LineageReader {
 public:
  /// `order` must outlive it: number k is tensor order[k]; null: tensor k.
  explicit StoredReader(const References& references,
                        const std::vector<size_t>* order = nullptr)
      : references_(references), order_(order) {}
  bool Read(size_t number, uint64_t begin, MutableByteSpan out) override {
    const size_t tensor = order_ == nullptr ? number : (*order_)[number];
    if (tensor != opened_) {
      opened_ = tensor;
      bytes_ = references_.Open(tensor, 0);
    }
    const DType seen = references_.tensors_[tensor].seen;
    return bytes_ != nullptr &&
           bytes_->Read(PackingOf(seen).BytesOf(begin), out).ok();
  }

 private:
  const References& references_;
  const std::vector<size_t>* order_;
  size_t opened_ = SIZE_MAX;
  std::unique_ptr<TensorBytes> bytes_;
};

// Quantized ones as numbers.
class References::Reader : public LineageReader {
 public:
  /// `order` must outlive it: number k is tensor order[k].
  Reader(const References& references, const std::vector<size_t>& order)
      : references_(references), order_(order), stored_(references) {}
  bool Read(size_t number, uint64_t begin, MutableByteSpan out) override {
    const size_t tensor = order_[number];
    const auto scaled = references_.scaled_.find(tensor);
    if (scaled != references_.scaled_.end()) {
      if (tensor != scaled_tensor_) {
        scaled_tensor_ = tensor;
        scaled_ = std::make_unique<WeightNumbers>(scaled->second,
                                                  references_.stored_, stored_);
      }
      numbers_.resize(out.size() / sizeof(float));
      if (!scaled_->Read(begin, numbers_)) return false;
      std::memcpy(out.data(), numbers_.data(), out.size());
      return true;
    }
    const DType seen = references_.tensors_[tensor].seen;
    if (IsPacked(seen)) return ReadNumbers(tensor, seen, begin, out);
    return stored_.Read(tensor, begin, out);
  }

 private:
  // Those that a packed tensor stands for, as FP32.
  bool ReadNumbers(size_t tensor, DType dtype, uint64_t begin,
                   MutableByteSpan out) {
    const Packing packing = PackingOf(dtype);
    const uint64_t first = begin / packing.elements;
    const uint64_t skipped = begin % packing.elements;
    const uint64_t count = out.size() / sizeof(float);
    const uint64_t units =
        (skipped + count + packing.elements - 1) / packing.elements;
    packed_.Resize(units * packing.bytes);
    if (!stored_.Read(tensor, first * packing.elements,
                      packed_.mutable_span())) {
      return false;
    }
    numbers_.resize(units * packing.elements);
    if (!quantizers::Dequantize(dtype, packed_.data(), units,
                                numbers_.data())) {
      return false;
    }
    std::memcpy(out.data(), &numbers_[skipped], count * sizeof(float));
    return true;
  }

  const References& references_;
  const std::vector<size_t>& order_;
  StoredReader stored_;
  size_t scaled_tensor_ = SIZE_MAX;
  std::unique_ptr<WeightNumbers> scaled_;
  Buffer packed_;
  std::vector<float> numbers_;
};

class References::PartView : public codecs::TensorView {
 public:
  PartView(const References& all, size_t tensor, const Part& part,
           int level_asked)
      : all_(all),
        packing_(all.PackingOfTensor(tensor)),
        target_(all.Open(tensor, part.begin)),
        part_(part) {
    dtype = all.tensors_[tensor].seen;
    elements = part.elements;
    weights_an_element = packing_.elements / PackingOf(dtype).elements;
    row = part.row;
    level = level_asked;
    for (const Part::Source& source : part.sources) {
      const bool whole = codecs::IsWhole(source.role);
      references.push_back(
          {source.role, all.tensors_[source.tensor].seen,
           whole ? all.stored_[source.tensor].elements : part.elements,
           whole ? source.view.source_columns : 0});
    }
  }

  absl::Status Read(int which, uint64_t begin,
                    MutableByteSpan out) const override {
    if (which < 0) {
      if (target_ == nullptr) return absl::NotFoundError("the file is gone");
      return target_->Read(packing_.BytesOf(begin), out);
    }
    const auto k = static_cast<size_t>(which);
    Part one = part_;
    one.sources = {part_.sources[k]};
    const Packing packing = PackingOf(references[k].dtype);
    const bool whole = codecs::IsWhole(references[k].role);
    const uint64_t count =
        whole ? part_.elements : packing.ElementsIn(out.size());
    std::vector<Buffer> read;
    RETURN_IF_ERROR(all_.Load(
        one, all_.SourcesOf(one, packing_, whole ? 0 : begin, count, 0), count,
        &read));
    const uint64_t from = whole ? packing.BytesOf(begin) : 0;
    if (read[0].size() < from + out.size()) {
      return absl::OutOfRangeError("no such elements");
    }
    std::copy_n(read[0].data() + from, out.size(), out.begin());
    return absl::OkStatus();
  }

 private:
  const References& all_;
  const Packing packing_;
  const std::unique_ptr<TensorBytes> target_;
  const Part part_;
};

// A quantized tensor and its source, by rows.
class References::RowsReader : public QuantizedMatrix {
 public:
  RowsReader(const References& all, size_t tensor, const SourceView& view)
      : all_(all),
        packing_(all.PackingOfTensor(tensor)),
        target_(all.Open(tensor, view.target_begin)) {
    source_dtype_ = all.tensors_[view.source].seen;
    part_ = {
        .elements = view.target_elements, .row = view.columns, .sources = {}};
    part_.sources.push_back({codecs::Role::kBase, view.source, 0, view});
    dtype = all.tensors_[tensor].seen;
    columns = view.columns;
    rows = view.target_elements / view.columns;
  }
  bool ReadBlocks(uint64_t row, MutableByteSpan out) override {
    return target_ != nullptr &&
           target_->Read(packing_.BytesOf(row * columns), out).ok();
  }
  bool ReadWeights(uint64_t row, std::span<float> out) override {
    const FrameSources against =
        all_.SourcesOf(part_, packing_, row * columns, columns, 0);
    return all_.Load(part_, against, columns, &read_).ok() &&
           codecs::derived::ToFloats(source_dtype_, read_[0].data(), out.size(),
                                     out.data());
  }

 private:
  const References& all_;
  const Packing packing_;
  const std::unique_ptr<TensorBytes> target_;
  DType source_dtype_ = DType::kBytes;
  Part part_;
  std::vector<Buffer> read_;
};

std::unique_ptr<TensorBytes> References::Open(size_t tensor,
                                              uint64_t begin) const {
  const Tensor& place = tensors_[tensor];
  const uint64_t offset = place.packing.BytesOf(begin);
  if (place.base != nullptr) {
    return std::make_unique<OffsetTensor>(*place.base, offset);
  }
  if (place.made != nullptr) {
    return std::make_unique<MadeTensor>(place.made, offset);
  }
  std::shared_ptr<Source> in = inputs_->Share(place.input);
  if (in == nullptr) return nullptr;
  return std::make_unique<InputTensor>(std::move(in), place.offset + offset);
}

absl::Status References::Scan(
    Inputs& inputs, std::deque<BaseTensor>* bases, bool inside, int level,
    Executor& executor, const std::function<absl::Status()>& check,
    const std::function<Place(const Place&)>& original, bool prefer_first) {
  inputs_ = &inputs;
  const auto add = [&](LineageTensor info, uint64_t length, Tensor place) {
    place.dtype = info.dtype;
    place.shape = info.shape;
    place.seen = SeenAs(info.dtype);
    place.packing = PackingOf(place.seen);
    info.shape = ShapeSeen(info.dtype, std::move(info.shape));
    info.elements = place.packing.ElementsIn(length);
    info.dtype = place.seen;
    if (IsPacked(place.seen)) {
      info.dtype = DType::kF32;
      info.quantized = static_cast<uint16_t>(128 * place.packing.bytes /
                                             place.packing.elements);
    }
    info_.push_back(std::move(info));
    tensors_.push_back(std::move(place));
  };
  std::map<std::string, size_t> files;
  // Files of a folder are of one checkpoint.
  std::map<std::string, std::vector<size_t>> folders;
  const auto folder_of = [](const std::string& path) {
    return path.substr(0, path.find_last_of("/:") + 1);
  };
  if (bases != nullptr) {
    for (BaseTensor& base : *bases) {
      if (!IsEligible(base.dtype, base.length)) continue;
      const size_t file =
          files.emplace("base " + base.model, files.size()).first->second;
      folders["base " + folder_of(base.model)].push_back(info_.size());
      add({.name = base.name,
           .dtype = base.dtype,
           .shape = base.shape,
           .file = file},
          base.length, {.base = &base, .shape = {}, .runs = {}});
    }
  }
  const size_t first_target = info_.size();
  for (size_t i = 0; i < inputs.size(); ++i) {
    Source* in = inputs.Open(i);
    if (in == nullptr) continue;
    const uint64_t size = in->Size().value_or(0);
    const Layout* layout = inputs.LayoutOf(i);
    if (layout == nullptr) continue;
    const std::string path = inputs.FileOf(i);
    const size_t file =
        files.emplace("input " + path, files.size()).first->second;
    for (const Segment& segment : layout->segments) {
      if (!IsEligible(segment.dtype, segment.length) ||
          segment.offset + segment.length > size) {
        continue;
      }
      by_place_[{i, segment.offset}] = info_.size();
      folders["input " + folder_of(path)].push_back(info_.size());
      add({.name = segment.name,
           .dtype = segment.dtype,
           .shape = segment.shape,
           .file = file},
          segment.length,
          {.input = i, .offset = segment.offset, .shape = {}, .runs = {}});
    }
  }
  std::vector<std::vector<size_t>> models;
  for (auto& [folder, tensors] : folders) models.push_back(std::move(tensors));
  FindScaled(models);
  FindBases(first_target, inside, prefer_first);
  DropCostly();
  beside_.resize(info_.size());
  AddMoments(first_target, models);
  AddScales();
  if (!inside) {
    for (Lineage& lineage : lineage_) {
      const auto is_inside = [&](const SourceView& view) {
        return view.source >= first_target;
      };
      std::erase_if(lineage.base, is_inside);
      std::erase_if(lineage.merge, is_inside);
    }
  }
  if (original != nullptr) TakeOriginals(original);
  ChooseSources(level);
  RETURN_IF_ERROR(AddImportance(level, executor, check));
  LimitDepth(first_target);
  RETURN_IF_ERROR(check());
  return NumberOutside(executor, check);
}

std::vector<float> References::ReadImportance(size_t sums,
                                              size_t counts) const {
  const auto read = [&](size_t tensor) {
    std::vector<float> floats(info_[tensor].elements);
    const std::unique_ptr<TensorBytes> bytes = Open(tensor, 0);
    std::vector<uint32_t> words(floats.size());
    if (bytes == nullptr ||
        !bytes
             ->Read(0, {reinterpret_cast<uint8_t*>(words.data()),
                        words.size() * sizeof(uint32_t)})
             .ok()) {
      return std::vector<float>();
    }
    const bool is_float = tensors_[tensor].seen == DType::kF32;
    for (size_t i = 0; i < words.size(); ++i) {
      floats[i] = is_float ? std::bit_cast<float>(words[i])
                           : static_cast<float>(static_cast<int32_t>(words[i]));
    }
    return floats;
  };
  return ImportanceOf(read(sums), read(counts),
                      tensors_[counts].seen == DType::kF32);
}

absl::Status References::AddImportance(
    int level, Executor& executor, const std::function<absl::Status()>& check) {
  // As exact as a recipe without importance gets: no other is looked for.
  constexpr double kExact = 0.01;  // bits a weight
  constexpr double kGain = 0.9;
  constexpr int kRecipes = 3;  // the lowest level with all of them
  // Matrices, or parts of them, that seem to have been made with importance.
  struct Target {
    size_t tensor;
    size_t matrix;  // of a tensor of several, experts
    SourceView view;
    double bits = 0;  // a weight, without
  };
  std::vector<Target> targets;
  for (size_t t = 0; t < lineage_.size(); ++t) {
    const std::vector<uint64_t>& shape = info_[t].shape;
    if (!IsPacked(tensors_[t].seen) || shape.size() < 2 || shape.size() > 3) {
      continue;
    }
    const uint64_t matrices = shape.size() == 3 ? shape[0] : 1;
    for (const SourceView& view : lineage_[t].base) {
      if (view.columns != shape.back()) continue;
      for (auto& [matrix, part] :
           CutByMatrix(view, matrices, info_[t].elements)) {
        targets.push_back({t, matrix, std::move(part)});
      }
    }
  }
  RETURN_IF_ERROR(ForEach(
      executor, targets.size(),
      [&](size_t i) {
        Target& target = targets[i];
        target.bits = Try(target.tensor, target.view, {}, kRecipes);
        if (target.bits > kExact && level < kRecipes) {
          target.bits = Try(target.tensor, target.view, {}, level);
        }
        return absl::OkStatus();
      },
      check));
  std::erase_if(targets,
                [&](const Target& target) { return !(target.bits > kExact); });
  // Of imatrix files, and by what they are of.
  std::map<std::string, size_t> by_name;
  for (size_t t = 0; t < info_.size(); ++t) {
    if (tensors_[t].seen == DType::kF32 || tensors_[t].seen == DType::kI32) {
      by_name.emplace(info_[t].name, t);
    }
  }
  // Gives it to those of `some` that it serves; others are left.
  const auto give = [&](std::span<const float> importance,
                        const std::string& name, std::vector<Target>& some) {
    size_t made = SIZE_MAX;
    std::erase_if(some, [&](const Target& target) {
      const SourceView& view = target.view;
      if (view.columns != importance.size() ||
          Try(target.tensor, view, importance, level) > kGain * target.bits) {
        return false;
      }
      if (made == SIZE_MAX) made = Make(name, importance);
      beside_[target.tensor].push_back(
          {codecs::Role::kImportance, made, view.target_begin,
           view.target_begin + view.target_elements});
      return true;
    });
  };
  using Key = std::tuple<std::string, size_t, uint64_t>;
  std::map<Key, std::vector<Target>> groups;  // name, matrix, columns
  std::map<std::pair<std::string, size_t>, std::vector<Target>> namesakes;
  for (Target& target : targets) {
    namesakes[{info_[target.tensor].name, target.matrix}].push_back(
        std::move(target));
  }
  std::pair<std::string, std::vector<float>> read;  // of what name
  for (auto& [name_and_matrix, some] : namesakes) {
    const auto& [name, matrix] = name_and_matrix;
    const auto sums = by_name.find(ImportanceSumsName(name));
    const auto counts = by_name.find(ImportanceCountsName(name));
    if (sums != by_name.end() && counts != by_name.end()) {
      if (read.first != name) {
        read = {name, ReadImportance(sums->second, counts->second)};
      }
      const uint64_t columns = some[0].view.columns;
      if (read.second.size() >= (matrix + 1) * columns) {
        give(std::span(read.second).subspan(matrix * columns, columns), name,
             some);
      }
    }
    for (Target& target : some) {
      const Key key(ImportanceKey(name), matrix, target.view.columns);
      groups[key].push_back(std::move(target));
    }
  }
  std::vector<std::vector<Target>> left;
  std::vector<std::string> keys;
  for (auto& [key, some] : groups) {
    keys.push_back(std::get<0>(key));
    left.push_back(std::move(some));
  }
  std::vector<std::optional<std::vector<float>>> found(left.size());
  RETURN_IF_ERROR(ForEach(
      executor, left.size(),
      [&](size_t k) {
        std::vector<std::unique_ptr<RowsReader>> matrices;
        std::vector<QuantizedMatrix*> pointers;
        for (const Target& target : left[k]) {
          matrices.push_back(
              std::make_unique<RowsReader>(*this, target.tensor, target.view));
          pointers.push_back(matrices.back().get());
        }
        found[k] = FitImportance(pointers);
        return absl::OkStatus();
      },
      check));
  for (size_t k = 0; k < left.size(); ++k) {
    if (found[k].has_value()) give(*found[k], keys[k], left[k]);
  }
  return absl::OkStatus();
}

void References::FindScaled(const std::vector<std::vector<size_t>>& models) {
  stored_ = info_;
  for (size_t i = 0; i < info_.size(); ++i) stored_[i].dtype = tensors_[i].seen;
  for (const std::vector<size_t>& model : models) {
    std::vector<LineageTensor> tensors;
    for (const size_t tensor : model) tensors.push_back(stored_[tensor]);
    StoredReader reader(*this, &model);
    for (QuantizedWeights weights : FindScales(tensors, reader)) {
      const size_t codes = model[weights.codes];
      LineageTensor& info = info_[codes];
      // Weights of several rows in one element have no row of their own.
      if (weights.interleaved != 1 ||
          weights.weights() != info.elements * weights.per_element) {
        continue;
      }
      info.dtype = DType::kF32;
      info.shape = weights.shape;
      info.elements = weights.weights();
      info.quantized = SixteenthsOf(weights, tensors);
      tensors_[codes].packing.elements = weights.per_element;
      weights.codes = codes;
      for (std::optional<size_t>* part :
           {&weights.scale, &weights.global_scale, &weights.zero}) {
        if (part->has_value()) *part = model[**part];
      }
      scaled_.emplace(codes, std::move(weights));
    }
  }
}

// Codes have their scales beside them; those of a base that is quantized
// likewise are elements like others.
void References::AddScales() {
  for (const auto& entry : scaled_) {
    const size_t codes = entry.first;
    const QuantizedWeights& weights = entry.second;
    Lineage& lineage = lineage_[codes];
    const auto likewise = [&](const SourceView& view) {
      const auto source = scaled_.find(view.source);
      return source != scaled_.end() &&
             source->second.per_element == weights.per_element &&
             tensors_[view.source].seen == tensors_[codes].seen;
    };
    if (std::ranges::all_of(lineage.base, likewise)) {
      lineage.candidates.clear();
      const uint64_t n = weights.per_element;
      tensors_[codes].packing.elements = 1;
      info_[codes] = stored_[codes];
      bool whole = true;
      for (SourceView& view : lineage.base) {
        for (uint64_t* count :
             {&view.target_begin, &view.target_elements, &view.columns,
              &view.source_columns, &view.column_offset}) {
          whole = whole && *count % n == 0;
          *count /= n;
        }
        // Inside, elements are counted as the source's weights.
        whole = whole && (n == 1 || tensors_[view.source].base != nullptr);
      }
      if (!whole) lineage.base.clear();
      continue;
    }
    const auto is_scaled = [&](const SourceView& view) {
      return scaled_.contains(view.source);
    };
    std::erase_if(lineage.base, is_scaled);
    std::erase_if(lineage.candidates, is_scaled);
    for (const auto& scale : {weights.scale, weights.global_scale}) {
      if (scale.has_value()) {
        beside_[codes].push_back({codecs::Role::kScale, *scale});
      }
    }
    if (weights.zero.has_value()) {
      beside_[codes].push_back({codecs::Role::kZero, *weights.zero});
    }
  }
}

// Bits a weight of samples of packed `tensor` against what `view` shows.
double References::Try(size_t tensor, const SourceView& view,
                       std::span<const float> importance, int level) const {
  constexpr uint64_t kSamples = 3;
  constexpr uint64_t kSampled = 8192;
  const Packing packing = PackingOfTensor(tensor);
  Part part = {.begin = view.target_begin,
               .elements = view.target_elements,
               .row = view.columns,
               .sources = {}};
  part.sources.push_back({codecs::Role::kBase, view.source, 0, view});
  if (!InWholeUnits(tensor, part) || part.row == 0) return HUGE_VAL;
  const std::unique_ptr<TensorBytes> target = Open(tensor, part.begin);
  if (target == nullptr) return HUGE_VAL;
  const uint64_t all_rows = part.elements / part.row;
  const uint64_t rows =
      std::min(all_rows, std::max<uint64_t>(1, kSampled / part.row));
  double bits = 0;
  for (uint64_t i = 0; i < kSamples; ++i) {
    const uint64_t begin = (all_rows - rows) * i / (kSamples - 1) * part.row;
    const uint64_t count = rows * part.row;
    Buffer blocks(packing.BytesOf(count));
    std::vector<Buffer> base;
    const FrameSources against = SourcesOf(part, packing, begin, count, 0);
    if (!target->Read(packing.BytesOf(begin), blocks.mutable_span()).ok() ||
        !Load(part, against, count, &base).ok()) {
      return HUGE_VAL;
    }
    bits += codecs::DerivedBitsPerWeight(
        tensors_[tensor].seen, blocks.span(), tensors_[view.source].seen,
        base[0].span(), part.row, part.begin + begin, importance, level,
        nullptr);
  }
  return bits / kSamples;
}

bool References::IsSumOf(size_t tensor, const SourceView& view,
                         int level) const {
  Part part = {.begin = view.target_begin,
               .elements = view.target_elements,
               .row = view.columns,
               .sources = {}};
  part.sources.push_back({codecs::Role::kBase, view.source, 0, view});
  if (!InWholeUnits(tensor, part)) return false;
  codecs::Scratch scratch;
  const auto seen = View(tensor, part, level);
  return std::ranges::any_of(codecs::AllEncoders(),
                             [&](const codecs::Encoder* encoder) {
                               return encoder->name == "sum" &&
                                      encoder->learn(*seen, scratch) != nullptr;
                             });
}

void References::ChooseSources(int level) {
  for (size_t tensor = 0; tensor < lineage_.size(); ++tensor) {
    Lineage& lineage = lineage_[tensor];
    if (!IsPacked(tensors_[tensor].seen)) {
      const auto sum = std::ranges::find_if(
          lineage.candidates,
          [&](const SourceView& view) { return IsSumOf(tensor, view, level); });
      if (sum != lineage.candidates.end() && lineage.merge.empty()) {
        lineage.base = {*sum};
      }
      continue;
    }
    if (lineage.candidates.size() < 2) continue;
    double least = HUGE_VAL;
    const SourceView* best = nullptr;
    for (const SourceView& view : lineage.candidates) {
      const double bits = Try(tensor, view, {}, level);
      if (bits < least) {
        least = bits;
        best = &view;
      }
    }
    if (best != nullptr) lineage.base = {*best};
  }
}

void References::FindBases(size_t first_target, bool inside,
                           bool prefer_first) {
  // Mean bits of the weights of each file that has quantized tensors.
  struct Size {
    uint64_t bits = 0;
    uint64_t elements = 0;
    bool quantized = false;
  };
  std::map<size_t, Size> sizes;
  for (const LineageTensor& tensor : info_) {
    Size& size = sizes[tensor.file];
    const uint64_t bits = tensor.quantized != 0
                              ? tensor.quantized
                              : uint64_t{128} * PackingOf(tensor.dtype).bytes;
    size.bits += tensor.elements * bits;
    size.elements += tensor.elements;
    size.quantized = size.quantized || tensor.quantized != 0;
  }
  const auto fineness = [&](size_t tensor) {
    const Size& size = sizes[info_[tensor].file];
    return size.quantized ? size.bits / size.elements : UINT64_MAX;
  };
  std::vector<size_t> order(info_.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin() + static_cast<ptrdiff_t>(first_target),
                   order.end(), [&](size_t a, size_t b) {
                     return std::pair(fineness(b), info_[a].file) <
                            std::pair(fineness(a), info_[b].file);
                   });
  std::vector<LineageTensor> ordered;
  ordered.reserve(order.size());
  for (const size_t tensor : order) ordered.push_back(info_[tensor]);
  Reader reader(*this, order);
  std::vector<Lineage> found =
      FindLineage(ordered, first_target, reader,
                  {.inside = inside, .prefer_first = prefer_first});
  lineage_.resize(info_.size());
  for (size_t k = 0; k < order.size(); ++k) {
    Lineage& lineage = found[k];
    for (auto* views : {&lineage.base, &lineage.merge, &lineage.candidates}) {
      for (SourceView& view : *views) view.source = order[view.source];
    }
    if (lineage.adapter.has_value()) {
      lineage.adapter = {order[lineage.adapter->a], order[lineage.adapter->b]};
    }
    lineage_[order[k]] = std::move(lineage);
  }
}

size_t References::Make(std::string name, std::span<const float> elements) {
  const size_t tensor = info_.size();
  LineageTensor info;
  info.name = std::move(name);
  info.dtype = DType::kF32;
  info.shape = {elements.size()};
  info.elements = elements.size();
  stored_.push_back(info);
  info_.push_back(std::move(info));
  auto bytes = std::make_shared<Buffer>(elements.size_bytes());
  std::memcpy(bytes->data(), elements.data(), elements.size_bytes());
  tensors_.push_back({.made = std::move(bytes),
                      .dtype = DType::kF32,
                      .seen = DType::kF32,
                      .packing = PackingOf(DType::kF32),
                      .shape = {elements.size()},
                      .runs = {}});
  lineage_.emplace_back();
  beside_.emplace_back();
  return tensor;
}

void References::TakeOriginals(
    const std::function<Place(const Place&)>& original) {
  std::vector<size_t> stead(tensors_.size());
  for (size_t t = 0; t < tensors_.size(); ++t) {
    stead[t] = t;
    const Tensor& tensor = tensors_[t];
    if (tensor.base != nullptr) continue;
    const auto [input, offset] = original({tensor.input, tensor.offset});
    const size_t coded = Find(input, offset);
    if (coded != SIZE_MAX && tensors_[coded].dtype == tensor.dtype &&
        tensors_[coded].shape == tensor.shape) {
      stead[t] = coded;
    }
  }
  for (size_t t = 0; t < lineage_.size(); ++t) {
    Lineage& lineage = lineage_[t];
    // What equals this tensor, which is coded first, came before it: that has
    // what this one may be made of.
    for (size_t steps = 0; steps < lineage_.size(); ++steps) {
      if (lineage.base.size() != 1 || lineage.base[0].source == t ||
          stead[lineage.base[0].source] != t) {
        break;
      }
      lineage = Lineage(lineage_[lineage.base[0].source]);
    }
    for (auto* views : {&lineage.base, &lineage.merge, &lineage.candidates}) {
      for (SourceView& view : *views) view.source = stead[view.source];
      std::erase_if(*views,
                    [&](const SourceView& view) { return view.source == t; });
    }
    if (lineage.base.empty() && !lineage.candidates.empty()) {
      lineage.base = {lineage.candidates[0]};
    }
  }
}

// Where a source's blocks have to be decoded, one that is seen otherwise is
// decoded nearly whole for each block: a large one takes too long.
void References::DropCostly() {
  constexpr uint64_t kLargest = uint64_t{1} << 26;
  for (Lineage& lineage : lineage_) {
    const auto is_costly = [&](const SourceView& view) {
      const Tensor& source = tensors_[view.source];
      const LineageTensor& info = info_[view.source];
      const bool decoded = source.base == nullptr || source.base->is_coded();
      return decoded && view.order != SourceView::Order::kSame &&
             PackingOf(source.seen).BytesOf(info.elements) > kLargest;
    };
    if (std::ranges::any_of(lineage.merge, is_costly)) lineage.merge.clear();
    std::erase_if(lineage.base, is_costly);
  }
}

void References::AddMoments(
    size_t first_target, const std::vector<std::vector<size_t>>& checkpoints) {
  std::vector<ParameterState> states;
  std::map<size_t, size_t> state_of;  // by any of its tensors
  for (const std::vector<size_t>& checkpoint : checkpoints) {
    std::vector<LineageTensor> tensors;
    for (const size_t tensor : checkpoint) tensors.push_back(info_[tensor]);
    for (ParameterState state : FindMoments(tensors)) {
      for (std::optional<size_t>* part :
           {&state.parameter, &state.first, &state.second}) {
        if (!part->has_value()) continue;
        *part = checkpoint[**part];
        state_of[**part] = states.size();
      }
      states.push_back(state);
    }
  }
  // What a tensor was before, as the base of the parameter tells it.
  const auto old_state = [&](const ParameterState& state) {
    for (const auto& part : {state.parameter, state.second, state.first}) {
      if (!part.has_value() || lineage_[*part].base.size() != 1) continue;
      const auto old = state_of.find(lineage_[*part].base[0].source);
      if (old != state_of.end()) return states[old->second];
    }
    return ParameterState{};
  };
  const auto set_base = [&](size_t tensor, std::optional<size_t> base) {
    if (!base.has_value() || info_[*base].elements != info_[tensor].elements) {
      return;
    }
    lineage_[tensor] = {};
    lineage_[tensor].base = {ViewOfAll(*base, info_[tensor])};
  };
  const auto set_beside = [&](size_t tensor, codecs::Role role,
                              std::optional<size_t> beside) {
    if (beside.has_value() &&
        info_[*beside].elements == info_[tensor].elements) {
      beside_[tensor].push_back({role, *beside});
    }
  };
  for (const ParameterState& state : states) {
    const ParameterState old = old_state(state);
    if (state.second.has_value() && *state.second >= first_target) {
      set_base(*state.second, old.second);
    }
    if (state.first.has_value() && *state.first >= first_target) {
      set_base(*state.first, old.first);
      set_beside(*state.first, codecs::Role::kSecondMoment, state.second);
      set_beside(*state.first, codecs::Role::kBaseSecondMoment, old.second);
    }
    if (state.parameter.has_value() && *state.parameter >= first_target &&
        !lineage_[*state.parameter].base.empty()) {
      set_beside(*state.parameter, codecs::Role::kFirstMoment, state.first);
      set_beside(*state.parameter, codecs::Role::kSecondMoment, state.second);
      set_beside(*state.parameter, codecs::Role::kBaseFirstMoment, old.first);
    }
  }
}

void References::LimitDepth(size_t first_target) {
  constexpr int kUnknown = -1;
  constexpr int kOpen = -2;
  std::vector<int> depths(info_.size(), kUnknown);
  // As deep as its sources let it; those that lead back to it are dropped.
  const std::function<int(size_t)> depth_of = [&](size_t tensor) -> int {
    int& depth = depths[tensor];
    if (tensor < first_target || depth == kOpen) return 0;
    if (depth != kUnknown) return depth;
    depth = kOpen;
    int deepest = 0;
    bool circle = false;
    for (const size_t source : SourcesInside(tensor)) {
      if (depths[source] == kOpen) {
        circle = true;
        continue;
      }
      deepest = std::max(deepest, 1 + depth_of(source));
    }
    if (circle || deepest > FetchLimits().depth) {
      lineage_[tensor] = {};
      beside_[tensor].clear();
      deepest = 0;
    }
    return depths[tensor] = deepest;
  };
  for (size_t i = first_target; i < info_.size(); ++i) depth_of(i);
}

// Only what is used is needed later.
absl::Status References::NumberOutside(
    Executor& executor, const std::function<absl::Status()>& check) {
  std::vector<size_t> used;
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const auto use = [&](size_t source) {
      if (!tensors_[source].is_source && tensors_[source].base != nullptr) {
        used.push_back(source);
      }
      tensors_[source].is_source = true;
    };
    for (const SourceView& view : lineage_[i].base) use(view.source);
    for (const SourceView& view : lineage_[i].merge) use(view.source);
    if (lineage_[i].adapter.has_value()) {
      use(lineage_[i].adapter->a);
      use(lineage_[i].adapter->b);
    }
    for (const Beside& beside : beside_[i]) use(beside.tensor);
  }
  RETURN_IF_ERROR(ForEach(
      executor, used.size(),
      [this, used](size_t k) {
        BaseTensor& base = *tensors_[used[k]].base;
        return Annotate(base.Digest().status(), base.model, ": ");
      },
      check));
  for (const size_t i : used) {
    Tensor& tensor = tensors_[i];
    ASSIGN_OR_RETURN(const Sha256Digest digest, tensor.base->Digest());
    tensor.outside_number = outside_.size();
    outside_.push_back({digest, tensor.base->length, tensor.base->depth,
                        tensor.base->name, tensor.base->model});
  }
  return absl::OkStatus();
}

size_t References::Find(size_t input, uint64_t offset) const {
  const auto found = by_place_.find({input, offset});
  return found == by_place_.end() ? SIZE_MAX : found->second;
}

std::vector<size_t> References::SourcesInside(size_t tensor) const {
  std::vector<size_t> sources;
  const auto add = [&](size_t source) {
    if (tensors_[source].base == nullptr) sources.push_back(source);
  };
  const Lineage& lineage = lineage_[tensor];
  for (const SourceView& view : lineage.base) add(view.source);
  for (const SourceView& view : lineage.merge) add(view.source);
  if (lineage.adapter.has_value()) {
    add(lineage.adapter->a);
    add(lineage.adapter->b);
  }
  for (const Beside& beside : beside_[tensor]) add(beside.tensor);
  return sources;
}

Segment References::SegmentOf(size_t tensor) const {
  const LineageTensor& info = info_[tensor];
  const Tensor& place = tensors_[tensor];
  return {info.name, place.dtype, place.shape, place.offset,
          place.packing.BytesOf(info.elements)};
}

void References::TakeMadeAsCoded() {
  for (size_t t = 0; t < tensors_.size(); ++t) {
    if (tensors_[t].made == nullptr) continue;
    AddRun(t, 0, info_[t].elements, 0,
           static_cast<uint32_t>(tensors_[t].made->size()));
  }
}

Packing References::PackingOfTensor(size_t tensor) const {
  return tensors_[tensor].packing;
}

Part::Source References::WholeSource(codecs::Role role, size_t tensor) const {
  SourceView whole;
  whole.source = tensor;
  whole.source_columns = RowOf(info_[tensor]);
  return {role, tensor, 0, whole};
}

// Blocks of packed elements have whole rows, but for huge ones
// (BlockBytes).
bool References::InWholeUnits(size_t tensor, const Part& part) const {
  const uint64_t unit = PackingOfTensor(tensor).elements;
  if (part.begin % unit != 0 || part.elements % unit != 0 ||
      (unit != 1 && part.row % unit != 0)) {
    return false;
  }
  return std::ranges::all_of(part.sources, [&](const Part::Source& source) {
    const uint64_t of_source = PackingOf(tensors_[source.tensor].seen).elements;
    const SourceView& view = source.view;
    return of_source == 1 || codecs::IsWhole(source.role) ||
           (view.order != SourceView::Order::kTransposed &&
            view.source_columns % of_source == 0 &&
            view.column_offset % of_source == 0 &&
            view.columns % of_source == 0);
  });
}

std::vector<Part> References::Parts(size_t tensor) const {
  const Lineage& lineage = lineage_[tensor];
  const uint64_t elements = info_[tensor].elements;
  const auto is_there = [&](size_t source) {
    return tensors_[source].base != nullptr || IsCoded(source);
  };
  const auto is_whole = [&](const SourceView& view) {
    return view.target_begin == 0 && view.target_elements == elements &&
           is_there(view.source);
  };
  std::vector<Part::Source> moments;
  std::vector<Beside> wholes;
  for (const Beside& beside : beside_[tensor]) {
    if (!is_there(beside.tensor)) continue;
    if (codecs::IsWhole(beside.role)) {
      wholes.push_back(beside);
      continue;
    }
    moments.push_back({beside.role, beside.tensor, 0,
                       ViewOfAll(beside.tensor, info_[tensor])});
  }
  if (!moments.empty()) {
    Part part = {
        .elements = elements, .row = moments[0].view.columns, .sources = {}};
    if (lineage.base.size() == 1 && is_whole(lineage.base[0]) &&
        lineage.base[0].columns == part.row) {
      part.sources.push_back(
          {codecs::Role::kBase, lineage.base[0].source, 0, lineage.base[0]});
    }
    part.sources.insert(part.sources.end(), moments.begin(), moments.end());
    if (part.sources.size() > codecs::kMaxReferences) {
      part.sources.resize(codecs::kMaxReferences);
    }
    // Those that are coded in pieces would have to be cut.
    const bool usable =
        std::ranges::all_of(part.sources, [&](const Part::Source& source) {
          return tensors_[source.tensor].runs.size() <= 1;
        });
    if (usable) return {part};
  }
  std::vector<Part> parts;
  uint64_t done = 0;
  const auto alone = [&](uint64_t end) {
    if (end > done) {
      parts.push_back({.begin = done, .elements = end - done, .sources = {}});
    }
    done = end;
  };
  for (const SourceView& view : lineage.base) {
    alone(view.target_begin);
    Part part = {.begin = view.target_begin,
                 .elements = view.target_elements,
                 .row = view.columns,
                 .sources = {}};
    part.sources.push_back({codecs::Role::kBase, view.source, 0, view});
    if (lineage.base.size() == 1) {
      for (const SourceView& merged : lineage.merge) {
        part.sources.push_back({codecs::Role::kBase, merged.source, 0, merged});
      }
      if (lineage.adapter.has_value()) {
        for (const size_t factor : {lineage.adapter->a, lineage.adapter->b}) {
          part.sources.push_back(WholeSource(codecs::Role::kFactor, factor));
        }
      }
    }
    // Those that are not coded in one run are cut where their runs are.
    std::set<uint64_t> cuts;  // elements of the part
    bool usable = part.sources.size() <= codecs::kMaxReferences &&
                  InWholeUnits(tensor, part);
    for (const Part::Source& source : part.sources) {
      const Tensor& place = tensors_[source.tensor];
      if (place.base != nullptr) continue;
      usable = usable && !place.runs.empty();
      if (place.runs.size() < 2) continue;
      const SourceView& seen = source.view;
      const bool plain = !codecs::IsWhole(source.role) &&
                         seen.order == SourceView::Order::kSame &&
                         seen.source_columns == seen.columns &&
                         seen.column_offset == 0;
      usable = usable && plain;
      for (const Run& run : place.runs) {
        const uint64_t at = seen.row_offset * seen.columns;
        if (run.begin > at && run.begin - at < part.elements) {
          cuts.insert(run.begin - at);
        }
        usable = usable && run.begin % seen.columns == 0;
      }
    }
    if (!usable) {
      alone(view.target_begin + view.target_elements);
      continue;
    }
    for (const Beside& whole : wholes) {
      for (const uint64_t border : {whole.begin, whole.end}) {
        if (border > part.begin && border < part.begin + part.elements) {
          cuts.insert(border - part.begin);
        }
      }
    }
    cuts.insert(part.elements);
    uint64_t from = 0;
    for (const uint64_t to : cuts) {
      Part piece = part;
      piece.begin = part.begin + from;
      piece.elements = to - from;
      for (Part::Source& source : piece.sources) {
        const std::vector<Run>& runs = tensors_[source.tensor].runs;
        SourceView& seen = source.view;
        if (runs.size() > 1) {
          const uint64_t first = seen.row_offset * seen.columns + from;
          while (source.run + 1 < runs.size() &&
                 runs[source.run + 1].begin <= first) {
            ++source.run;
          }
          seen.row_offset = (first - runs[source.run].begin) / seen.columns;
        } else if (!codecs::IsWhole(source.role)) {
          seen = SliceRows(seen, from / seen.columns,
                           piece.elements / seen.columns);
        }
      }
      for (const Beside& whole : wholes) {
        if (whole.begin <= piece.begin &&
            piece.begin + piece.elements <= whole.end &&
            piece.sources.size() < codecs::kMaxReferences &&
            tensors_[whole.tensor].runs.size() <= 1) {
          piece.sources.push_back(WholeSource(whole.role, whole.tensor));
        }
      }
      parts.push_back(std::move(piece));
      from = to;
    }
    done = part.begin + part.elements;
  }
  alone(elements);
  return parts;
}

void References::AddRun(size_t tensor, uint64_t begin, uint64_t elements,
                        uint64_t first_block, uint32_t block_size) {
  tensors_[tensor].runs.push_back({begin, elements, first_block, block_size});
}

FrameSources References::SourcesOf(const Part& part, const Packing& packing,
                                   uint64_t begin, uint64_t count,
                                   uint64_t first_block) const {
  FrameSources against;
  against.packing = packing;
  against.row = part.row;
  against.position = begin;
  const uint64_t first_row = part.row == 0 ? 0 : against.position / part.row;
  const uint64_t rows = RowsTouched(against, count);
  for (const Part::Source& from : part.sources) {
    const Tensor& tensor = tensors_[from.tensor];
    FrameSource source;
    source.role = from.role;
    source.dtype = tensor.seen;
    source.outside = tensor.base != nullptr;
    source.elements = stored_[from.tensor].elements;
    if (source.outside) {
      source.where = tensor.outside_number;
    } else if (!tensor.runs.empty()) {  // else it is looked at before
      const Run& run = tensor.runs[from.run];
      source.where = first_block - run.first_block;
      source.block_size = run.block_size;
      source.elements = PackingOf(tensor.seen)
                            .ElementsIn(tensor.packing.BytesOf(run.elements));
    }
    source.row = from.view.source_columns;
    if (codecs::IsWhole(from.role)) {
      source.order = FrameSource::Order::kWhole;
      against.sources.push_back(std::move(source));
      continue;
    }
    source.order = OrderOf(from.view.order);
    source.row_offset = from.view.row_offset;
    source.column_offset = from.view.column_offset;
    switch (from.view.order) {
      case SourceView::Order::kSame:
        source.row_offset += first_row;
        break;
      case SourceView::Order::kTransposed:
        source.column_offset += first_row;
        break;
      case SourceView::Order::kRows:
        source.row_offset = 0;
        source.rows.assign(
            from.view.rows.begin() + static_cast<ptrdiff_t>(first_row),
            from.view.rows.begin() + static_cast<ptrdiff_t>(first_row + rows));
        break;
    }
    against.sources.push_back(std::move(source));
  }
  return against;
}

absl::Status References::Load(const Part& part, const FrameSources& against,
                              uint64_t count, std::vector<Buffer>* out) const {
  out->clear();
  out->resize(against.sources.size());
  for (size_t k = 0; k < against.sources.size(); ++k) {
    const Part::Source& from = part.sources[k];
    const Tensor& tensor = tensors_[from.tensor];
    const std::unique_ptr<TensorBytes> bytes = Open(
        from.tensor, tensor.runs.empty() ? 0 : tensor.runs[from.run].begin);
    if (bytes == nullptr) return absl::NotFoundError("the file is gone");
    RETURN_IF_ERROR(
        Gather(against, against.sources[k], 0, count, *bytes, &(*out)[k]));
  }
  return absl::OkStatus();
}

std::unique_ptr<codecs::TensorView> References::View(size_t tensor,
                                                     const Part& part,
                                                     int level) const {
  return std::make_unique<PartView>(*this, tensor, part, level);
}

}  // namespace zipllm::archive
