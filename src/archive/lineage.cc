#include "archive/lineage.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <map>
#include <string_view>
#include <tuple>

#include "archive/combine.h"
#include "archive/ordered_reader.h"
#include "archive/sketch.h"
#include "archive/structure.h"

namespace zipllm::archive {
namespace {

// Shorter ones are not worth a reference.
constexpr uint64_t kMinElements = 16;
// Below, bits say too little: only tensors of the same name are looked at.
constexpr uint64_t kMinSketched = 64;
// Of as many, how many are compared by their values.
constexpr size_t kCompared = 8;
// Of a quantized tensor, more of those that are not quantized and less of the
// others; and how many are told in the end.
constexpr size_t kComparedFloats = 16;
constexpr size_t kComparedQuants = 4;
constexpr size_t kCandidates = 4;
// What costs more, in 1/256 bit, may be less far from another in other ways: by
// a product of low rank.
constexpr uint32_t kFar = 8 * 256;
// What was made of the last of a chain is no link of it.
constexpr uint32_t kDeeper = 2;
// Same for those of the same name.
constexpr size_t kNamesakes = 4;
// Tensors of one size: where there are more, those that may be related are
// looked up by bands of their sketches.
constexpr size_t kManyAlike = 256;
// Bands of quantized ones are rarely equal: up to so many are all looked at.
constexpr size_t kManyQuants = 1 << 14;
constexpr size_t kBandBits = 16;
constexpr size_t kBands = kSampled / kBandBits;
// Of those that share a band, the first and the last.
constexpr size_t kFirst = 64;
constexpr size_t kLast = 192;
// Related tensors differ in no greater part of their sketches.
constexpr uint32_t kMaxDistancePercent = 30;
// Related tensors predict values better than chance by so much, in 1/256 bit:
// those that have a name and shape in common need less, those of one file
// more: layers have something in common, but copies much.
constexpr uint32_t kGain = 256;
constexpr uint32_t kOneFileGain = 768;
constexpr uint32_t kNamesakeGain = 64;
// Likewise for quantized tensors: half of the variance is explained; three
// quarters.
constexpr uint32_t kNearGain = 96;
constexpr uint32_t kOneFileNearGain = 256;
// Sources whose costs differ by less are as good as each other: then that one
// serves which serves other tensors of the same file.
constexpr uint32_t kTie = 64;
// With prefer_first: about what a source is worse that is twice as far in a
// run.
constexpr uint32_t kPreferredTie = 224;
// Services that differ by less, over all tensors of a file, differ by chance.
constexpr uint64_t kServiceTie = 16;
// A quantized tensor that is nearer by so much, half of the variance, is tried
// before what is not quantized.
constexpr uint32_t kMuchNearer = 128;
// As much is counted where a file has no source for a tensor.
constexpr uint32_t kMissing = 512;
// A product is of low rank if rows and columns are as many times more.
constexpr uint64_t kRankDivisor = 4;
constexpr uint64_t kMaxFactor = uint64_t{1} << 22;
constexpr size_t kAdaptersTried = 32;
// What a product must explain of the differences: far beyond what one that has
// nothing to do with them does, 1 / kSampled; and what ends the search.
constexpr double kExplained = 0.1;
constexpr double kSurelyExplained = 0.5;
// How many tensors of a file are looked for in parts of others, and how many
// more for each that has a source: a file that is unrelated costs little.
constexpr size_t kAttempts = 8;
// Matrices that lie in one tensor and are looked for one by one.
constexpr uint64_t kMinPart = 1024;
constexpr uint64_t kMaxParts = 4096;
constexpr uint64_t kMaxValues = (uint64_t{64} << 20) / sizeof(int32_t);

/// Tensors of one kind with equally many elements.
struct Class {
  std::vector<size_t> members;  // ascending
  bool is_sampled = false;
  // Where there are many: by band, the value of the band and the tensor.
  std::vector<std::vector<std::pair<uint16_t, uint32_t>>> bands;
};

struct Relative {
  uint32_t cost;
  size_t tensor;
  auto operator<=>(const Relative&) const = default;
};

uint16_t Band(const Sketch& sketch, size_t band) {
  return static_cast<uint16_t>(sketch.bits[band / 4] >> (band % 4 * kBandBits));
}

// How many of the last parts of a tensor's name, but for "weight", the name of
// another has in it: "layers.0.key.weight" and "x_layers_0_key.lora_A" have
// three.
size_t CommonParts(std::string_view name, std::string other) {
  std::string stem(name);
  std::ranges::replace(stem, '.', '_');
  std::ranges::replace(other, '.', '_');
  if (stem.ends_with("_weight")) stem.resize(stem.size() - 7);
  size_t common = 0;
  for (size_t end = stem.size(); end != std::string::npos && end != 0;) {
    end = stem.rfind('_', end - 1);
    const std::string_view last =
        std::string_view(stem).substr(end == std::string::npos ? 0 : end + 1);
    if (other.find(last) == std::string::npos) break;
    ++common;
  }
  return common;
}

class Finder {
 public:
  Finder(const std::vector<LineageTensor>& tensors, size_t first_target,
         LineageReader& reader, const LineageOptions& options)
      : tensors_(tensors),
        first_target_(first_target),
        reader_(tensors, reader),
        structure_(tensors, reader_),
        options_(options),
        states_(tensors.size()),
        found_(tensors.size()) {}

  std::vector<Lineage> Find();

 private:
  struct State {
    std::optional<ElementFormat> format;
    bool sampled = false;
    Sketch sketch;
    std::vector<int32_t> values;  // empty if there was no room
    Class* alike = nullptr;
    std::vector<Relative> relatives;
  };

  bool IsQuantized(size_t t) const { return tensors_[t].quantized != 0; }
  Class* PartsOf(size_t t);
  void Group();
  bool Sample(size_t t);
  /// The sampled values of `elements` elements from `begin` on.
  bool ReadValues(size_t t, uint64_t begin, uint64_t elements,
                  std::vector<int32_t>* values);
  /// The sampled values; of a tensor whose values are not kept, in `*room`.
  std::span<const int32_t> Values(size_t t, std::vector<int32_t>* room);

  std::vector<size_t> Similar(size_t t, const Sketch& sketch,
                              const Class& alike) const;
  std::optional<uint32_t> CostOf(size_t t, std::span<const int32_t> values,
                                 size_t other);
  void AddRelative(size_t t, size_t other, std::vector<Relative>* relatives);
  std::vector<Relative> Relatives(size_t t);
  void AddServices(size_t begin, size_t end);
  uint64_t ServiceOf(size_t t, size_t source) const;
  void Rank(size_t t);

  bool IsSource(size_t t) const { return options_.inside || t < first_target_; }
  bool IsWhole(size_t t) const;
  bool Allowed(size_t t, size_t source) const {
    const uint32_t more = IsQuantized(t) ? kDeeper : 0;
    return IsSource(source) && found_[source].depth < options_.max_depth + more;
  }
  /// Whether what is coded against it would be so deep that it is a keyframe.
  bool MakesKeyframe(size_t source) const {
    return options_.keyframes != 0 &&
           found_[source].depth + 1 >= options_.keyframes;
  }
  SourceView Whole(size_t t, size_t source) const;
  void Choose(size_t t, bool has_relatives);
  std::vector<SourceView> FindOrigins(size_t t);
  size_t PlaceAmongSiblings(size_t t, size_t source) const;
  void ChooseQuantized(size_t t);
  std::vector<SourceView> FindParts(size_t t);
  std::vector<SourceView> FindStructure(size_t t, bool floats_only);
  std::vector<size_t> Merge(size_t t);
  void GroupAdapters();
  bool ReadFloats(size_t t, uint64_t begin, uint64_t count,
                  std::vector<double>* out);
  std::vector<double> SampleProduct(const Lineage::Adapter& adapter);
  std::optional<Lineage::Adapter> FindAdapter(size_t t, size_t base);

  const std::vector<LineageTensor>& tensors_;
  const size_t first_target_;
  OrderedReader reader_;
  StructureFinder structure_;
  const LineageOptions& options_;
  std::vector<State> states_;
  std::vector<Lineage> found_;
  std::map<std::pair<bool, uint64_t>, Class> classes_;
  std::map<std::pair<uint64_t, std::string_view>, std::vector<size_t>> names_;
  std::map<std::pair<uint64_t, uint64_t>, std::vector<Lineage::Adapter>>
      adapters_;
  // By file, how well others serve its tensors, in bits saved on them.
  std::map<size_t, std::map<size_t, uint64_t>> services_;
  uint64_t kept_values_ = 0;
  size_t attempts_ = 0;
};

// Those that are like the parts of `t`, which is several matrices; null if
// there are none.
Class* Finder::PartsOf(size_t t) {
  const LineageTensor& tensor = tensors_[t];
  if (!states_[t].format || tensor.shape.size() < 3) return nullptr;
  const uint64_t parts = tensor.shape[0];
  if (parts < 2 || parts > kMaxParts || tensor.elements % parts != 0 ||
      tensor.elements / parts < kMinPart || !MatrixOf(tensor)) {
    return nullptr;
  }
  const auto found =
      classes_.find({states_[t].format->is_float, tensor.elements / parts});
  return found == classes_.end() ? nullptr : &found->second;
}

// Only tensors that share their size with another are sampled, file by file.
void Finder::Group() {
  for (size_t t = 0; t < tensors_.size(); ++t) {
    const LineageTensor& tensor = tensors_[t];
    states_[t].format = FindElementFormat(tensor.dtype);
    if (!states_[t].format || tensor.elements < kMinElements) continue;
    Class& alike = classes_[{states_[t].format->is_float, tensor.elements}];
    alike.members.push_back(t);
    states_[t].alike = &alike;
  }
  for (auto& [key, alike] : classes_) {
    alike.is_sampled =
        alike.members.size() >= 2 && alike.members.back() >= first_target_;
  }
  for (size_t t = first_target_; t < tensors_.size(); ++t) {
    Class* const parts = PartsOf(t);
    if (parts != nullptr) parts->is_sampled = true;
  }
  for (size_t t = 0; t < tensors_.size(); ++t) {
    State& state = states_[t];
    if (state.alike == nullptr || !state.alike->is_sampled) continue;
    state.sampled = Sample(t);
    if (state.sampled) {
      names_[{tensors_[t].elements, tensors_[t].name}].push_back(t);
    }
  }
  for (auto& [key, alike] : classes_) {
    if (alike.members.size() <= kManyAlike) continue;
    alike.bands.resize(std::min<uint64_t>(kBands, key.second / kBandBits));
    for (size_t band = 0; band < alike.bands.size(); ++band) {
      for (const size_t t : alike.members) {
        if (!states_[t].sketch.telling) continue;
        alike.bands[band].push_back(
            {Band(states_[t].sketch, band), static_cast<uint32_t>(t)});
      }
      std::ranges::sort(alike.bands[band]);
    }
  }
}

bool Finder::ReadValues(size_t t, uint64_t begin, uint64_t elements,
                        std::vector<int32_t>* values) {
  values->clear();
  for (const Run& run : SampleRuns(elements)) {
    values->resize(values->size() + run.count);
    if (!reader_.Read(t, begin + run.begin,
                      std::span(*values).last(run.count))) {
      return false;
    }
  }
  return true;
}

bool Finder::Sample(size_t t) {
  std::vector<int32_t> values;
  if (!ReadValues(t, 0, tensors_[t].elements, &values)) return false;
  states_[t].sketch = SketchOf(values);
  if (kept_values_ + values.size() <= kMaxValues) {
    kept_values_ += values.size();
    states_[t].values = std::move(values);
  }
  return true;
}

std::span<const int32_t> Finder::Values(size_t t, std::vector<int32_t>* room) {
  if (!states_[t].values.empty()) return states_[t].values;
  if (!ReadValues(t, 0, tensors_[t].elements, room)) return {};
  return *room;
}

// Tensors of `alike` before `t` whose sketches are near that of `t` or of a
// part of it, the nearest first.
std::vector<size_t> Finder::Similar(size_t t, const Sketch& sketch,
                                    const Class& alike) const {
  if (!sketch.telling || sketch.count < kMinSketched) return {};
  std::vector<std::pair<uint32_t, size_t>> near;
  const uint32_t limit = sketch.count * kMaxDistancePercent / 100;
  const auto look_at = [&](size_t other) {
    if (!states_[other].sketch.telling || !IsSource(other) ||
        !reader_.IsComparable(t, other)) {
      return;
    }
    const uint32_t distance = sketch.Distance(states_[other].sketch);
    if (distance <= limit) near.push_back({distance, other});
  };
  const bool by_bands =
      !alike.bands.empty() &&
      !(IsQuantized(t) && alike.members.size() <= kManyQuants);
  for (size_t band = 0; by_bands && band < alike.bands.size(); ++band) {
    const auto& all = alike.bands[band];
    const uint16_t value = Band(sketch, band);
    const auto begin = std::ranges::lower_bound(all, std::pair(value, 0U));
    const auto end = std::lower_bound(
        begin, all.end(), std::pair(value, static_cast<uint32_t>(t)));
    const auto count = static_cast<size_t>(end - begin);
    for (size_t i = 0; i < count; ++i) {
      if (i == kFirst && count > kFirst + kLast) i = count - kLast;
      look_at(begin[static_cast<ptrdiff_t>(i)].second);
    }
  }
  if (!by_bands) {
    for (const size_t other : alike.members) {
      if (other >= t) break;
      look_at(other);
    }
  }
  std::ranges::sort(near);
  near.erase(std::unique(near.begin(), near.end()), near.end());
  std::vector<size_t> similar;
  std::vector<size_t> quants;
  for (const auto& [distance, other] : near) {
    (IsQuantized(other) ? quants : similar).push_back(other);
  }
  const size_t compared = IsQuantized(t) ? kComparedFloats : kCompared;
  if (similar.size() > compared) similar.resize(compared);
  if (!quants.empty()) {
    // The nearest, and those of most bits.
    similar.push_back(quants[0]);
    std::ranges::sort(quants, {}, [&](size_t other) {
      return std::pair(-int{tensors_[other].quantized}, other);
    });
    if (quants.size() > kComparedQuants) quants.resize(kComparedQuants);
    similar.insert(similar.end(), quants.begin(), quants.end());
  }
  return similar;
}

// What `values` of `t` cost against another; nothing if that tells nothing.
std::optional<uint32_t> Finder::CostOf(size_t t,
                                       std::span<const int32_t> values,
                                       size_t other) {
  std::vector<int32_t> room;
  const std::span<const int32_t> predicted = Values(other, &room);
  if (predicted.size() != values.size()) return std::nullopt;
  const Comparison comparison = reader_.Compare(t, values, predicted);
  const bool one_file = tensors_[t].file == tensors_[other].file;
  const bool namesakes = tensors_[t].name == tensors_[other].name &&
                         tensors_[t].shape == tensors_[other].shape;
  const bool near = IsQuantized(t);
  const uint32_t gain = one_file    ? (near ? kOneFileNearGain : kOneFileGain)
                        : near      ? kNearGain
                        : namesakes ? kNamesakeGain
                                    : kGain;
  if (!comparison.Tells(gain)) return std::nullopt;
  return comparison.cost;
}

void Finder::AddRelative(size_t t, size_t other,
                         std::vector<Relative>* relatives) {
  for (const Relative& relative : *relatives) {
    if (relative.tensor == other) return;
  }
  std::vector<int32_t> room;
  const auto cost = CostOf(t, Values(t, &room), other);
  if (cost) relatives->push_back({*cost, other});
}

// What `t` may be coded against whole, the cheapest first.
std::vector<Relative> Finder::Relatives(size_t t) {
  std::vector<Relative> relatives;
  const State& state = states_[t];
  for (const size_t other : Similar(t, state.sketch, *state.alike)) {
    AddRelative(t, other, &relatives);
  }
  const std::vector<size_t>& namesakes =
      names_[{tensors_[t].elements, tensors_[t].name}];
  const auto here = std::ranges::lower_bound(namesakes, t);
  // The last ones: of a sequence, those right before.
  for (auto i = here; i != namesakes.begin();) {
    --i;
    if (static_cast<size_t>(here - i) > kNamesakes) break;
    if (tensors_[*i].shape == tensors_[t].shape && IsSource(*i) &&
        reader_.IsComparable(t, *i)) {
      AddRelative(t, *i, &relatives);
    }
  }
  std::ranges::sort(relatives);
  return relatives;
}

// Counts how well each file serves the tensors `begin` to `end`, which are
// those of one file: the fewer bits are lost on their nearest sources, the
// better.
void Finder::AddServices(size_t begin, size_t end) {
  std::map<size_t, uint64_t>& services = services_[tensors_[begin].file];
  for (size_t t = begin; t < end; ++t) {
    std::map<size_t, uint32_t> nearest;
    for (const Relative& relative : states_[t].relatives) {
      nearest.emplace(tensors_[relative.tensor].file, relative.cost);
    }
    if (nearest.empty()) continue;
    const uint32_t least = states_[t].relatives[0].cost;
    for (const auto& [file, cost] : nearest) {
      services[file] += kMissing - std::min(kMissing, cost - least);
    }
  }
}

uint64_t Finder::ServiceOf(size_t t, size_t source) const {
  const std::map<size_t, uint64_t>& services = services_.at(tensors_[t].file);
  const auto found = services.find(tensors_[source].file);
  return found == services.end() ? 0 : found->second;
}

// Whether it is coded against one tensor of its own size.
bool Finder::IsWhole(size_t t) const {
  const std::vector<SourceView>& base = found_[t].base;
  return base.size() == 1 && base[0].order == SourceView::Order::kSame &&
         base[0].target_elements == tensors_[t].elements &&
         tensors_[base[0].source].elements == tensors_[t].elements;
}

// Leaves the sources that `t` may have, and puts those that serve best first.
void Finder::Rank(size_t t) {
  std::vector<Relative>& relatives = states_[t].relatives;
  // A source that is too deep is replaced by what it is coded against.
  for (size_t i = 0; i < relatives.size(); ++i) {
    const size_t source = relatives[i].tensor;
    if (!Allowed(t, source) && IsWhole(source)) {
      AddRelative(t, found_[source].base[0].source, &relatives);
    }
  }
  std::erase_if(relatives,
                [&](const Relative& r) { return !Allowed(t, r.tensor); });
  std::ranges::sort(relatives);
  if (relatives.empty()) return;
  const uint32_t tie = options_.prefer_first ? kPreferredTie : kTie;
  const auto ties = std::ranges::find_if(relatives, [&](const Relative& r) {
    return r.cost - relatives[0].cost > tie;
  });
  uint64_t best = 0;
  for (auto i = relatives.begin(); i != ties; ++i) {
    best = std::max(best, ServiceOf(t, i->tensor));
  }
  // Of files that serve as well, what stands first: others were made of it.
  const auto loss = [&](const Relative& relative) {
    const uint64_t lost =
        options_.prefer_first ? 0 : best - ServiceOf(t, relative.tensor);
    return lost < kServiceTie + best / 128
               ? std::tuple(uint64_t{0}, found_[relative.tensor].depth,
                            relative.tensor)
               : std::tuple(lost, uint32_t{0}, size_t{0});
  };
  std::stable_sort(
      relatives.begin(), ties,
      [&](const Relative& a, const Relative& b) { return loss(a) < loss(b); });
  if (MakesKeyframe(relatives[0].tensor)) {
    std::erase_if(relatives, [&](const Relative& r) {
      return r.tensor >= first_target_ || MakesKeyframe(r.tensor);
    });
  }
}

SourceView Finder::Whole(size_t t, size_t source) const {
  SourceView view;
  view.source = source;
  view.target_elements = tensors_[t].elements;
  if (!tensors_[t].shape.empty()) view.columns = tensors_[t].shape.back();
  view.source_columns = view.columns;
  return view;
}

// Of a tensor that has relatives, but none that may serve, the parts are not
// looked for.
void Finder::Choose(size_t t, bool has_relatives) {
  const std::vector<Relative>& relatives = states_[t].relatives;
  Lineage& lineage = found_[t];
  if (IsQuantized(t)) {
    ChooseQuantized(t);
  } else if (!relatives.empty()) {
    lineage.base.push_back(Whole(t, relatives[0].tensor));
    structure_.AddRelative(t, relatives[0].tensor);
    // Those of its own precision, whose sum may hit all its bits; what others
    // were made of first.
    std::vector<SourceView>& candidates = lineage.candidates;
    for (const Relative& relative : relatives) {
      if (relatives[0].cost > kFar && candidates.size() < kCandidates &&
          tensors_[relative.tensor].dtype == tensors_[t].dtype) {
        candidates.push_back(Whole(t, relative.tensor));
      }
    }
    std::ranges::sort(candidates, {}, &SourceView::source);
    if (candidates == lineage.base) candidates.clear();
  } else if (!has_relatives) {
    lineage.base = FindStructure(t, false);
  }
  if (!lineage.base.empty() &&
      tensors_[lineage.base[0].source].file != tensors_[t].file) {
    attempts_ += kAttempts;
  }
  if (!IsQuantized(t) && !relatives.empty() && relatives[0].cost != 0) {
    for (const size_t parent : Merge(t)) {
      lineage.merge.push_back(Whole(t, parent));
    }
    if (!lineage.merge.empty()) {
      lineage.base[0] = std::move(lineage.merge[0]);
      lineage.merge.erase(lineage.merge.begin());
    } else {
      lineage.adapter = FindAdapter(t, lineage.base[0].source);
    }
  }
  const auto deepen = [&](size_t source) {
    lineage.depth = std::max(lineage.depth, found_[source].depth + 1);
  };
  for (const SourceView& view : lineage.base) deepen(view.source);
  for (const SourceView& view : lineage.merge) deepen(view.source);
  if (lineage.adapter) {
    deepen(lineage.adapter->a);
    deepen(lineage.adapter->b);
  }
}

std::vector<SourceView> Finder::FindStructure(size_t t, bool floats_only) {
  if (attempts_ == 0) return {};
  --attempts_;
  std::vector<SourceView> views = FindParts(t);
  if (!views.empty()) return views;
  return structure_.Find(t, [&](size_t source) {
    return Allowed(t, source) && !MakesKeyframe(source) &&
           !(floats_only && IsQuantized(source));
  });
}

// The matrices that `t` is made of, each of a tensor of its own.
std::vector<SourceView> Finder::FindParts(size_t t) {
  const Class* const alike = PartsOf(t);
  if (alike == nullptr || !alike->is_sampled) return {};
  const uint64_t parts = tensors_[t].shape[0];
  const uint64_t elements = tensors_[t].elements / parts;
  std::vector<SourceView> views;
  std::vector<int32_t> values;
  for (uint64_t part = 0; part < parts; ++part) {
    // Most are found, or none.
    if (part == kAttempts && views.empty()) return {};
    if (!ReadValues(t, part * elements, elements, &values)) return {};
    std::vector<Relative> found;
    for (const size_t other : Similar(t, SketchOf(values), *alike)) {
      if (!Allowed(t, other) || tensors_[other].file == tensors_[t].file)
        continue;
      if (const auto cost = CostOf(t, values, other)) {
        found.push_back({*cost, other});
      }
    }
    if (found.empty()) continue;
    const uint32_t least = std::ranges::min(found).cost;
    // All of one file, and not of quantized tensors, if that costs little.
    const auto best =
        std::ranges::min_element(found, {}, [&](const Relative& r) {
          const size_t file = tensors_[r.tensor].file;
          const bool other_file =
              !views.empty() && tensors_[views[0].source].file != file;
          return std::tuple(r.cost - least > kTie, IsQuantized(r.tensor),
                            other_file, r);
        });
    SourceView view;
    view.source = best->tensor;
    view.target_begin = part * elements;
    view.target_elements = elements;
    view.columns = view.source_columns = MatrixOf(tensors_[t])->columns;
    views.push_back(view);
  }
  return views;
}

// Of what `t` seems to be made if not of a tensor that is not quantized and as
// it is: what others were made of that are nearly the same, or what is found.
// Several views of the whole tensor, or some of its parts.
std::vector<SourceView> Finder::FindOrigins(size_t t) {
  const std::vector<Relative>& relatives = states_[t].relatives;
  std::vector<SourceView> views;
  bool was_looked_for = false;
  if (std::ranges::any_of(relatives, [&](const Relative& relative) {
        return !IsQuantized(relative.tensor);
      })) {
    return {};
  }
  for (const Relative& relative : relatives) {
    if (tensors_[relative.tensor].shape != tensors_[t].shape) continue;
    was_looked_for = was_looked_for || relative.tensor >= first_target_;
    const Lineage& other = found_[relative.tensor];
    const auto& sources =
        other.candidates.empty() ? other.base : other.candidates;
    for (const SourceView& view : sources) {
      if (!IsQuantized(view.source) && Allowed(t, view.source)) {
        views.push_back(view);
      }
    }
    if (!views.empty()) return views;
  }
  if (was_looked_for) return {};
  views = FindStructure(t, !relatives.empty());
  std::vector<std::vector<SourceView>> variants;  // by view
  for (const SourceView& view : views) {
    variants.push_back(structure_.Variants(t, view));
    std::erase_if(variants.back(), [&](const SourceView& variant) {
      return !Allowed(t, variant.source);
    });
  }
  if (views.size() == 1 && views[0].target_elements == tensors_[t].elements) {
    views.insert(views.end(), variants[0].begin(), variants[0].end());
    return views;
  }
  // Parts of one file: that of which all together are nearest.
  std::map<size_t, uint64_t> costs;
  std::map<size_t, std::vector<SourceView>> of;
  for (size_t i = 0; i < views.size(); ++i) {
    variants[i].push_back(views[i]);
    for (const SourceView& variant : variants[i]) {
      const size_t file = tensors_[variant.source].file;
      const auto cost = structure_.CostOf(t, variant);
      if (!cost || of[file].size() != i) continue;
      costs[file] += *cost * variant.target_elements;
      of[file].push_back(variant);
    }
  }
  std::pair<uint64_t, uint64_t> least{UINT64_MAX, UINT64_MAX};
  uint64_t best_service = 0;
  for (const auto& [file, parts] : of) {
    best_service = std::max(best_service, ServiceOf(t, parts[0].source));
  }
  for (auto& [file, parts] : of) {
    if (parts.size() != views.size()) continue;
    const uint64_t lost = best_service - ServiceOf(t, parts[0].source);
    const std::pair loss(lost < kServiceTie ? 0 : lost, costs[file]);
    if (loss >= least) continue;
    least = loss;
    views = parts;
  }
  return views;
}

// The place of `source` among what the nearest quantized tensor of at least as
// many bits may have been made of.
size_t Finder::PlaceAmongSiblings(size_t t, size_t source) const {
  for (const Relative& relative : states_[t].relatives) {
    const std::vector<SourceView>& views = found_[relative.tensor].candidates;
    if (views.empty()) continue;
    return static_cast<size_t>(
        std::ranges::find(views, source, &SourceView::source) - views.begin());
  }
  return 0;
}

void Finder::ChooseQuantized(size_t t) {
  Lineage& lineage = found_[t];
  const std::vector<Relative>& relatives = states_[t].relatives;
  struct Option {
    uint32_t cost;
    SourceView view;
  };
  std::vector<Option> options;
  uint64_t covered = 0;  // by views of parts
  std::vector<SourceView> origins = FindOrigins(t);
  for (const SourceView& view : origins) {
    if (view.target_elements != tensors_[t].elements) {
      covered += view.target_elements;
    } else if (const auto cost = structure_.CostOf(t, view)) {
      options.push_back({*cost, view});
    }
  }
  if (covered != 0 &&
      (relatives.empty() || covered > tensors_[t].elements / 2)) {
    lineage.base = std::move(origins);
    return;
  }
  for (const Relative& relative : relatives) {
    options.push_back({relative.cost, Whole(t, relative.tensor)});
  }
  if (options.empty()) return;
  const auto is_quantized = [&](const Option& option) {
    return IsQuantized(option.view.source);
  };
  std::vector<Option> quants;
  std::ranges::copy_if(options, std::back_inserter(quants), is_quantized);
  std::erase_if(options, is_quantized);
  const auto least = [](const std::vector<Option>& of) {
    uint32_t cost = UINT32_MAX;
    for (const Option& option : of) cost = std::min(cost, option.cost);
    return cost;
  };
  const uint32_t least_float = least(options);
  const uint32_t least_quant = least(quants);
  uint64_t best_service = 0;
  for (const Option& option : options) {
    best_service = std::max(best_service, ServiceOf(t, option.view.source));
  }
  // Of those that are as near: what serves other tensors of the file, and where
  // that does not tell, what the nearest quantized one was made of.
  std::ranges::stable_sort(options, {}, [&](const Option& option) {
    const size_t source = option.view.source;
    const uint64_t lost = best_service - ServiceOf(t, source);
    return option.cost - least_float > kTie
               ? std::tuple(option.cost, uint64_t{0}, size_t{0})
               : std::tuple(0U, lost < kServiceTie ? 0 : lost,
                            PlaceAmongSiblings(t, source));
  });
  // A copy, then what has most bits.
  std::ranges::stable_sort(quants, {}, [&](const Option& option) {
    const int bits = tensors_[option.view.source].quantized;
    const bool is_copy = option.cost == 0 && bits == tensors_[t].quantized;
    return option.cost - least_quant > kTie ? std::tuple(option.cost, false, 0)
                                            : std::tuple(0U, !is_copy, -bits);
  });
  // What is not quantized first, but if the others are much nearer.
  if (options.empty() ||
      (!quants.empty() && least_float > least_quant + kMuchNearer)) {
    options.swap(quants);
  }
  if (!quants.empty()) {
    const size_t most = is_quantized(options[0]) ? 2 : kCandidates - 1;
    options.resize(std::min(options.size(), most));
    options.insert(options.end(), quants.begin(), quants.end());
  }
  options.resize(std::min(options.size(), kCandidates));
  // None may make it much deeper than the first does.
  const uint32_t depth = found_[options[0].view.source].depth;
  for (Option& option : options) {
    if (found_[option.view.source].depth <= depth + 1) {
      lineage.candidates.push_back(std::move(option.view));
    }
  }
  lineage.base = {lineage.candidates[0]};
  if (!relatives.empty()) {
    structure_.AddRelative(t, relatives[0].tensor);
  }
}

// The parents of which `t` seems to be a sum, that which serves best first.
std::vector<size_t> Finder::Merge(size_t t) {
  const std::vector<Relative>& relatives = states_[t].relatives;
  const size_t count = std::min(relatives.size(), kMaxParents);
  if (count < 2) return {};
  std::vector<int32_t> room;
  std::array<std::vector<int32_t>, kMaxParents> rooms;
  std::vector<std::span<const int32_t>> parents;
  for (size_t i = 0; i < count; ++i) {
    parents.push_back(Values(relatives[i].tensor, &rooms[i]));
  }
  uint32_t single = relatives[0].cost;
  for (const Relative& relative : relatives) {
    single = std::min(single, relative.cost);
  }
  const auto sum =
      FindWeightedSum(*states_[t].format, Values(t, &room), parents, single);
  std::vector<size_t> merged;
  if (sum) {
    for (const size_t i : sum->parents) merged.push_back(relatives[i].tensor);
  }
  return merged;
}

// Small matrices A (rank x columns) and B (rows x rank) that lie together in a
// file, by rows and columns of their product.
void Finder::GroupAdapters() {
  // Shapes of an outside base may be anything.
  const auto is_matrix = [&](size_t t) {
    const auto format = reader_.format(t);
    const std::vector<uint64_t>& shape = tensors_[t].shape;
    return format && format->is_float && !IsQuantized(t) && shape.size() == 2 &&
           shape[0] != 0 && tensors_[t].elements % shape[0] == 0 &&
           tensors_[t].elements / shape[0] == shape[1];
  };
  const auto add = [&](size_t a, size_t b) {
    const std::vector<uint64_t>& of_a = tensors_[a].shape;
    const std::vector<uint64_t>& of_b = tensors_[b].shape;
    const uint64_t rank = of_a[0];
    if (rank != of_b[1] || of_a[1] / kRankDivisor < rank ||
        of_b[0] / kRankDivisor < rank || rank * of_a[1] > kMaxFactor) {
      return;
    }
    adapters_[{of_b[0], of_a[1]}].push_back({a, b});
  };
  for (size_t t = 0; t < tensors_.size(); ++t) {
    if (!is_matrix(t)) continue;
    // A scale may stand between them.
    for (size_t u = t + 1; u < std::min(t + 3, tensors_.size()); ++u) {
      if (tensors_[u].file != tensors_[t].file || !is_matrix(u)) continue;
      add(t, u);
      add(u, t);
    }
  }
}

bool Finder::ReadFloats(size_t t, uint64_t begin, uint64_t count,
                        std::vector<double>* out) {
  std::vector<int32_t> ordered(count);
  if (!reader_.Read(t, begin, ordered)) return false;
  for (const int32_t value : ordered) out->push_back(FromOrdered(value));
  return true;
}

// The elements of B·A that are sampled; empty if they cannot be read.
std::vector<double> Finder::SampleProduct(const Lineage::Adapter& adapter) {
  const uint64_t rank = tensors_[adapter.a].shape[0];
  const uint64_t columns = tensors_[adapter.a].shape[1];
  std::vector<double> a;
  if (!ReadFloats(adapter.a, 0, rank * columns, &a)) return {};
  std::vector<double> product;
  std::vector<double> b;
  uint64_t row = UINT64_MAX;
  for (const Run& run : SampleRuns(columns * tensors_[adapter.b].shape[0])) {
    for (uint64_t i = run.begin; i < run.begin + run.count; ++i) {
      if (i / columns != row) {
        row = i / columns;
        b.clear();
        if (!ReadFloats(adapter.b, row * rank, rank, &b)) return {};
      }
      double sum = 0;
      for (uint64_t k = 0; k < rank; ++k) {
        sum += b[k] * a[k * columns + i % columns];
      }
      product.push_back(sum);
    }
  }
  return product;
}

std::optional<Lineage::Adapter> Finder::FindAdapter(size_t t, size_t base) {
  if (tensors_[t].shape.size() != 2) return std::nullopt;
  const auto found =
      adapters_.find({tensors_[t].shape[0], tensors_[t].shape[1]});
  if (found == adapters_.end()) return std::nullopt;
  // Those whose names have most in common first.
  std::vector<std::pair<size_t, Lineage::Adapter>> tried;
  for (const Lineage::Adapter& adapter : found->second) {
    if (std::max(adapter.a, adapter.b) > t) continue;
    tried.push_back(
        {CommonParts(tensors_[t].name, tensors_[adapter.a].name), adapter});
  }
  std::ranges::stable_sort(tried, std::ranges::greater(),
                           [](const auto& entry) { return entry.first; });
  if (tried.size() > kAdaptersTried) tried.resize(kAdaptersTried);
  std::vector<int32_t> rooms[2];
  const std::span<const int32_t> values = Values(t, &rooms[0]);
  const std::span<const int32_t> before = Values(base, &rooms[1]);
  std::optional<Lineage::Adapter> best;
  double most = kExplained;
  for (const auto& [common, adapter] : tried) {
    if (!Allowed(t, adapter.a) || !Allowed(t, adapter.b)) continue;
    const std::vector<double> product = SampleProduct(adapter);
    if (product.size() != values.size()) continue;
    const double explained = Explained(values, before, product);
    if (explained > most) {
      most = explained;
      best = adapter;
    }
    if (most > kSurelyExplained) break;
  }
  return best;
}

std::vector<Lineage> Finder::Find() {
  for (size_t t = 0; t < tensors_.size(); ++t) {
    found_[t].depth = tensors_[t].depth;
  }
  Group();
  GroupAdapters();
  for (size_t begin = first_target_; begin < tensors_.size();) {
    size_t end = begin;
    for (; end < tensors_.size() && tensors_[end].file == tensors_[begin].file;
         ++end) {
      if (states_[end].sampled) states_[end].relatives = Relatives(end);
    }
    AddServices(begin, end);
    attempts_ = kAttempts;
    for (size_t t = begin; t < end; ++t) {
      found_[t].depth = 0;
      const bool has_relatives = !states_[t].relatives.empty();
      Rank(t);
      Choose(t, has_relatives);
    }
    begin = end;
  }
  return std::move(found_);
}

}  // namespace

std::vector<Lineage> FindLineage(const std::vector<LineageTensor>& tensors,
                                 size_t first_target, LineageReader& reader,
                                 const LineageOptions& options) {
  return Finder(tensors, first_target, reader, options).Find();
}

}  // namespace zipllm::archive
