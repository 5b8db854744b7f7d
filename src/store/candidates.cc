#include "store/candidates.h"

#include <algorithm>
#include <bit>
#include <map>
#include <set>
#include <span>
#include <tuple>
#include <utility>

#include "archive/sketch.h"
#include "base/dtype.h"
#include "base/log2.h"
#include "quantizers/dequantize.h"

namespace zipllm::store {
namespace {

using archive::kSampled;

// Below, a tensor is coded alone or against its namesake.
constexpr uint64_t kMinElements = 4096;
// A tensor says nothing if fewer of its bits are of the rarer kind.
constexpr int kMinRarer = kSampled / 8;

// What is looked up at most, whatever the store holds: tensors of the new
// model; sketches like one of them; of these, the nearest; models that have one
// of those, and that have one of the tensors that are known.
constexpr size_t kMaxTensors = 1024;
constexpr size_t kMaxSimilar = 64;
constexpr size_t kNearest = 8;
constexpr size_t kMaxUsers = 64;
constexpr size_t kMaxKnown = 256;

// The part of what all tensors gain for which a further model is worth it.
constexpr uint64_t kWorthwhile = 32;

// Bits that a weight takes less, in 1/65536, against a tensor in whose sketch
// `distance` bits differ. Signs of jointly normal values with correlation r
// differ with the probability p = arccos(r) / pi (Sheppard, 1899), and a
// prediction leaves sqrt(1 - r^2) = sin(pi p) of their spread: it saves
// -log2 sin(pi p) bits, about -log2(pi p). That is 0 at a distance of 163, more
// than 8 standard deviations below the 256 of unrelated tensors. One is added
// to the distance, since one of 0 is chance.
constexpr uint32_t kNone = 163;  // kSampled / pi
uint64_t Gain(uint32_t distance) {
  if (distance + 1 >= kNone) return 0;
  return Log2Q16(kNone << 8) - Log2Q16((distance + 1) << 8);
}

// Whether distances differ by more than two standard deviations.
bool IsNearer(uint32_t distance, uint32_t than) {
  if (distance >= than) return false;
  const uint32_t d = than - distance;
  return d * d > 4 * (than + distance);
}

// Whether a type holds numbers only nearly: no more than 8 bits of each.
struct SketchedType {
  bool near = false;
  std::optional<archive::ElementFormat> format;  // nothing: ggml blocks
};
std::optional<SketchedType> FindSketchedType(DType dtype) {
  const auto format = archive::FindElementFormat(dtype);
  if (format && (format->is_float || format->size == 1)) {
    return SketchedType{format->size == 1, format};
  }
  if (!format && quantizers::CanDequantize(dtype)) {
    return SketchedType{true, std::nullopt};
  }
  return std::nullopt;
}

absl::Status ReadValues(const SketchedType& type, const DTypeInfo& info,
                        const archive::Run& run, const ReadTensor& read,
                        std::vector<int32_t>* values) {
  const uint64_t first = run.begin / info.block_elements;
  const uint64_t blocks =
      (run.begin + run.count - 1) / info.block_elements + 1 - first;
  std::vector<uint8_t> bytes(blocks * info.block_bytes);
  RETURN_IF_ERROR(read(first * info.block_bytes, bytes));
  if (type.format) {
    const size_t before = values->size();
    values->resize(before + run.count);
    archive::ToOrdered(*type.format, bytes.data(),
                       std::span(*values).subspan(before));
    return absl::OkStatus();
  }
  std::vector<float> numbers(blocks * info.block_elements);
  quantizers::Dequantize(info.dtype, bytes.data(), blocks, numbers.data());
  for (uint64_t i = 0; i < run.count; ++i) {
    values->push_back(archive::ToOrdered(
        numbers[run.begin - first * info.block_elements + i]));
  }
  return absl::OkStatus();
}

// What a model has for a tensor of the new one.
struct Match {
  size_t tensor = 0;
  Sha256Digest object{};
  uint32_t distance = 0;
  uint64_t gain = 0;  // bits, in 1/65536
};

struct Model {
  Sha256Digest manifest{};
  std::vector<Match> matches;  // by tensor, one of each
  uint64_t gain = 0;           // of all
  size_t known = 0;            // how many tensors it has in common
};

class Finder {
 public:
  Finder(Catalogue& catalogue, int max_depth)
      : catalogue_(catalogue), max_depth_(max_depth) {}

  absl::Status AddTensor(const TensorSketch& sketch);
  absl::Status AddKnown(const Sha256Digest& object);
  std::vector<ModelCandidate> Choose(size_t limit);

 private:
  absl::Status AddRelatives(const TensorSketch& sketch, size_t tensor,
                            uint64_t* best_gain);
  uint64_t Explained(const Model& model) const;
  uint64_t Offered(const Model& model) const;
  void Take(const Model& model);

  Catalogue& catalogue_;
  const int max_depth_;
  std::vector<uint64_t> elements_;  // by tensor, about
  std::map<Sha256Digest, Model> models_;
  uint64_t best_gain_ = 0;  // of all tensors, each with its nearest
  // Of the models that were chosen, by tensor: the nearest distance, its gain,
  // all objects.
  std::vector<uint32_t> distance_;
  std::vector<uint64_t> gain_;
  std::vector<std::set<Sha256Digest>> objects_;
};

// Those of the type that `sketch` says.
absl::Status Finder::AddRelatives(const TensorSketch& sketch, size_t tensor,
                                  uint64_t* best_gain) {
  const SimilarLimits limits = {
      .depth = static_cast<uint64_t>(std::max(max_depth_, 0)),
      .distance = kNone - 2,
      .looked_at = kMaxSimilar,
      .nearest = kNearest,
      .users = kMaxUsers};
  ASSIGN_OR_RETURN(const std::vector<Relative> relatives,
                   catalogue_.Similar(sketch, limits));
  for (const Relative& relative : relatives) {
    Match match{tensor, relative.object, relative.distance,
                elements_[tensor] * Gain(relative.distance)};
    // What is quantized is of half the use for what else was: both lack
    // something.
    if (sketch.log2_elements >= kNearSketch) match.gain /= 2;
    if (!relative.users.empty()) *best_gain = std::max(*best_gain, match.gain);
    for (const Sha256Digest& user : relative.users) {
      Model& model = models_[user];
      model.manifest = user;
      if (model.matches.empty() || model.matches.back().tensor != tensor) {
        model.matches.push_back(match);
        model.gain += match.gain;
      } else if (match.gain > model.matches.back().gain) {
        model.gain += match.gain - model.matches.back().gain;
        model.matches.back() = match;
      }
    }
  }
  return absl::OkStatus();
}

absl::Status Finder::AddTensor(const TensorSketch& sketch) {
  const uint8_t log2_elements = sketch.log2_elements % kNearSketch;
  const size_t tensor = elements_.size();
  // Sums of gains, at most 2^20 each, of kMaxTensors shall fit.
  elements_.push_back(uint64_t{1} << std::min<uint8_t>(log2_elements, 33));
  uint64_t best_gain = 0;
  TensorSketch exact = sketch;
  exact.log2_elements = log2_elements;
  RETURN_IF_ERROR(AddRelatives(exact, tensor, &best_gain));
  if (sketch.log2_elements >= kNearSketch)
    RETURN_IF_ERROR(AddRelatives(sketch, tensor, &best_gain));
  best_gain_ += best_gain;
  return absl::OkStatus();
}

absl::Status Finder::AddKnown(const Sha256Digest& object) {
  ASSIGN_OR_RETURN(const std::vector<Sha256Digest> users,
                   catalogue_.UsersOf(object, kMaxUsers));
  for (const Sha256Digest& user : users) {
    Model& model = models_[user];
    model.manifest = user;
    ++model.known;
  }
  return absl::OkStatus();
}

// What tensors gain for which it has something surely nearer than all that was
// chosen.
uint64_t Finder::Explained(const Model& model) const {
  uint64_t sum = 0;
  for (const Match& match : model.matches) {
    if (match.gain > gain_[match.tensor] &&
        IsNearer(match.distance, distance_[match.tensor])) {
      sum += match.gain - gain_[match.tensor];
    }
  }
  return sum;
}

// What tensors gain for which it has something else than all that was chosen.
uint64_t Finder::Offered(const Model& model) const {
  uint64_t sum = 0;
  for (const Match& match : model.matches) {
    if (!objects_[match.tensor].contains(match.object)) {
      sum += match.gain;
    }
  }
  return sum;
}

void Finder::Take(const Model& model) {
  for (const Match& match : model.matches) {
    objects_[match.tensor].insert(match.object);
    if (match.gain > gain_[match.tensor]) {
      gain_[match.tensor] = match.gain;
      distance_[match.tensor] = match.distance;
    }
  }
}

std::vector<ModelCandidate> Finder::Choose(size_t limit) {
  distance_.assign(elements_.size(), kSampled);
  gain_.assign(elements_.size(), 0);
  objects_.assign(elements_.size(), {});
  std::vector<ModelCandidate> chosen;
  while (chosen.size() < limit && !models_.empty()) {
    // First those that explain something; then those that offer something else,
    // as do the parents of a merge, which are equally near.
    std::tuple<uint64_t, uint64_t, uint64_t, size_t> most{};
    auto best = models_.end();
    for (auto i = models_.begin(); i != models_.end(); ++i) {
      const Model& model = i->second;
      uint64_t explained = Explained(model);
      if (explained < best_gain_ / kWorthwhile) explained = 0;
      const std::tuple value(explained, Offered(model), model.gain,
                             model.known);
      if (value <= most) continue;
      most = value;
      best = i;
    }
    if (best == models_.end()) break;
    const bool is_related = std::get<1>(most) != 0;
    // Of what only has tensors in common, one is enough for what else there is.
    if (!is_related && !chosen.empty()) break;
    const Model& model = best->second;
    ModelCandidate candidate{model.manifest, 0, 0};
    double distance = 0;
    for (const Match& match : model.matches) {
      candidate.matched_elements += elements_[match.tensor];
      distance += static_cast<double>(elements_[match.tensor]) * match.distance;
    }
    if (candidate.matched_elements != 0) {
      candidate.distance =
          distance / static_cast<double>(candidate.matched_elements);
    }
    chosen.push_back(candidate);
    Take(model);
    models_.erase(best);
  }
  return chosen;
}

}  // namespace

std::optional<TensorSketch> SketchTensor(const Sha256Digest& object,
                                         const Segment& segment,
                                         const ReadTensor& read) {
  const DTypeInfo* const info = FindDType(segment.dtype);
  const auto type = FindSketchedType(segment.dtype);
  if (info == nullptr || !type) return std::nullopt;
  const uint64_t elements =
      segment.length / info->block_bytes * info->block_elements;
  if (elements < kMinElements) return std::nullopt;
  TensorSketch sketch;
  sketch.object = object;
  const auto log2_elements = static_cast<uint8_t>(std::bit_width(elements) - 1);
  std::vector<int32_t> values;
  for (const archive::Run& run :
       archive::SampleRuns(uint64_t{1} << log2_elements)) {
    if (!ReadValues(*type, *info, run, read, &values).ok()) return std::nullopt;
  }
  std::vector<int32_t> sorted = values;
  const auto middle =
      sorted.begin() + static_cast<ptrdiff_t>((sorted.size() - 1) / 2);
  std::ranges::nth_element(sorted, middle);
  int above = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const uint64_t bit = values[i] > *middle;
    sketch.bits[i / 64] |= bit << (i % 64);
    above += static_cast<int>(bit);
  }
  if (above < kMinRarer) return std::nullopt;
  sketch.log2_elements =
      static_cast<uint8_t>(log2_elements + (type->near ? kNearSketch : 0));
  return sketch;
}

absl::StatusOr<std::vector<ModelCandidate>> FindCandidates(
    Catalogue& catalogue, const std::vector<TensorSketch>& sketches,
    const std::vector<Sha256Digest>& known, size_t limit, int max_depth) {
  Finder finder(catalogue, max_depth);
  const std::set<Sha256Digest> is_known(known.begin(), known.end());
  std::vector<const TensorSketch*> wanted;
  for (const TensorSketch& sketch : sketches) {
    if (!is_known.contains(sketch.object)) wanted.push_back(&sketch);
  }
  std::ranges::stable_sort(wanted, std::ranges::greater(),
                           [](const TensorSketch* sketch) {
                             return sketch->log2_elements % kNearSketch;
                           });
  // Of many, some of all sizes.
  const size_t count = std::min(wanted.size(), kMaxTensors);
  for (size_t i = 0; i < count; ++i) {
    RETURN_IF_ERROR(finder.AddTensor(*wanted[i * wanted.size() / count]));
  }
  size_t looked_up = 0;
  for (const Sha256Digest& object : is_known) {
    if (looked_up++ == kMaxKnown) break;
    RETURN_IF_ERROR(finder.AddKnown(object));
  }
  return finder.Choose(limit);
}

}  // namespace zipllm::store
