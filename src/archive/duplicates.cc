#include "archive/duplicates.h"

#include <algorithm>
#include <array>
#include <string>
#include <tuple>
#include <unordered_set>

#include "archive/frame_encoder.h"
#include "base/file.h"
#include "base/status.h"
#include "container/xxh3.h"
#include "parsers/parser.h"

namespace zipllm::archive {
namespace {

// Shorter ones are not worth a reference.
constexpr uint64_t kMinLength = 256;
constexpr size_t kSampleBytes = 64;
constexpr uint64_t kSamples = 4;

// XXH3 of a few bytes at fixed places; false if they cannot be read.
bool Sketch(Source& in, Candidate& candidate) {
  std::array<uint8_t, kSampleBytes * kSamples> bytes;
  for (uint64_t i = 0; i < kSamples; ++i) {
    uint64_t at = (candidate.length - kSampleBytes) / (kSamples - 1) * i;
    MutableByteSpan out(bytes.data() + i * kSampleBytes, kSampleBytes);
    if (!ReadAtExactly(in, candidate.offset + at, out).ok()) return false;
  }
  candidate.sketch = Xxh3(bytes);
  return true;
}

// Labels what begins at `begin` of `in`, `*size` bytes as far as that is known,
// by as long a prefix as a parser asks for. Sets `*size` where `in` ends
// before.
absl::StatusOr<parsers::Outcome> Label(Source& in, uint64_t begin,
                                       std::optional<uint64_t>* size,
                                       std::vector<uint8_t>* prefix) {
  prefix->clear();
  uint64_t wanted = parsers::kFirstPrefix;
  while (true) {
    if (size->has_value()) wanted = std::min(wanted, **size);
    const size_t have = prefix->size();
    prefix->resize(wanted);
    const MutableByteSpan rest = MutableByteSpan(*prefix).subspan(have);
    ASSIGN_OR_RETURN(const size_t n, in.Seekable()
                                         ? in.ReadAt(begin + have, rest)
                                         : ReadFull(in, rest));
    prefix->resize(have + n);
    if (n < rest.size()) *size = prefix->size();
    parsers::Outcome outcome = parsers::Detect(*prefix, *size);
    if (outcome.layout.has_value()) return outcome;
    wanted = outcome.need_prefix;
  }
}

// Labels what begins at `begin` of a file of `size` bytes as if it were a file,
// and what follows as far as parsers lead: instead of the end of `layout`.
absl::Status LabelParts(Source& in, uint64_t size, uint64_t begin,
                        Layout* layout) {
  std::unordered_set<std::string> names;
  std::vector<Segment>& segments = layout->segments;
  for (const Segment& segment : segments) names.insert(segment.name);
  std::vector<uint8_t> prefix;
  while (begin != 0) {
    std::optional<uint64_t> left = size - begin;
    ASSIGN_OR_RETURN(parsers::Outcome part, Label(in, begin, &left, &prefix));
    if (left != size - begin) return DataLoss(in.Name(), " became shorter");
    std::vector<Segment>& more = part.layout->segments;
    if (part.layout->format != layout->format ||
        segments.size() + more.size() > parsers::kMaxSegments ||
        !std::ranges::all_of(more, [&](const Segment& segment) {
          return segment.name.empty() || names.insert(segment.name).second;
        })) {
      return absl::OkStatus();
    }
    segments.back().length = begin - segments.back().offset;
    if (segments.back().length == 0) segments.pop_back();
    for (Segment& segment : more) {
      segment.offset += begin;
      segments.push_back(std::move(segment));
    }
    begin = part.next == 0 ? 0 : begin + part.next;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Layout> ReadLayout(Source& in, std::vector<uint8_t>* prefix) {
  std::optional<uint64_t> size = in.Size();
  ASSIGN_OR_RETURN(parsers::Outcome outcome, Label(in, 0, &size, prefix));
  if (outcome.next != 0 && in.Seekable() && size.has_value()) {
    RETURN_IF_ERROR(LabelParts(in, *size, outcome.next, &*outcome.layout));
  }
  return *std::move(outcome.layout);
}

absl::StatusOr<std::unique_ptr<Source>> Inputs::OpenFile(size_t number) const {
  const Input& input = (*inputs_)[number];
  // A FIFO, which has no size, must be opened once only.
  if (input.entry.kind != EntryKind::kFile || input.entry.size == 0) {
    return absl::NotFoundError("no file that can be read at offsets");
  }
  return input.open != nullptr ? input.open() : OpenFileSource(input.path);
}

const Layout* Inputs::LayoutOf(size_t number) {
  if (single_ == nullptr && (*inputs_)[number].has_layout) {
    return &(*inputs_)[number].entry.layout;
  }
  const auto found = layouts_.find(number);
  if (found != layouts_.end()) return &found->second;
  Source* in = Open(number);
  if (in == nullptr) return nullptr;
  std::vector<uint8_t> prefix;
  absl::StatusOr<Layout> layout = ReadLayout(*in, &prefix);
  if (!layout.ok()) return nullptr;
  return &layouts_.emplace(number, std::move(*layout)).first->second;
}

Source* Inputs::Open(size_t number) {
  if (single_ != nullptr) return single_->Seekable() ? single_ : nullptr;
  if (opened_number_ == number) return opened_.get();
  opened_ = nullptr;
  opened_number_ = number;
  auto source = OpenFile(number);
  if (source.ok() && (*source)->Seekable()) opened_ = std::move(*source);
  return opened_.get();
}

std::shared_ptr<Source> Inputs::Share(size_t number) {
  constexpr size_t kOpen = 16;
  if (single_ != nullptr) {
    return single_->Seekable()
               ? std::shared_ptr<Source>(std::shared_ptr<Source>(), single_)
               : nullptr;
  }
  std::lock_guard lock(mutex_);
  for (const auto& [opened, source] : shared_) {
    if (opened == number) return source;
  }
  states_.emplace(number, StateOfFile((*inputs_)[number].path));
  auto source = OpenFile(number);
  if (!source.ok() || !(*source)->Seekable()) return nullptr;
  if (shared_.size() == kOpen) shared_.pop_front();
  shared_.emplace_back(number, std::move(*source));
  return shared_.back().second;
}

absl::Status Inputs::CheckUnchanged() {
  std::lock_guard lock(mutex_);
  for (const auto& [number, state] : states_) {
    const std::string& path = (*inputs_)[number].path;
    if (StateOfFile(path) != state) {
      return absl::UnavailableError(
          path + ": changed while others were coded against it: try again");
    }
  }
  return absl::OkStatus();
}

// Only those of equal type and length are sampled, file by file.
void Duplicates::Group(Inputs& inputs, std::vector<Candidate>& all) {
  std::map<std::pair<uint64_t, DType>, size_t> shapes;
  const auto shape = [](const Candidate& c) {
    return std::pair(c.length, c.dtype);
  };
  for (const Candidate& candidate : all) ++shapes[shape(candidate)];
  std::map<std::tuple<uint64_t, DType, uint64_t>, std::vector<const Candidate*>>
      groups;
  for (Candidate& candidate : all) {
    if (shapes[shape(candidate)] < 2) continue;
    Source* in = inputs.Open(candidate.input);
    if (in == nullptr || !Sketch(*in, candidate)) continue;
    groups[{candidate.length, candidate.dtype, candidate.sketch}].push_back(
        &candidate);
  }
  for (const auto& [key, group] : groups) {
    if (group.size() < 2) continue;
    families_.push_back(std::make_unique<Family>());
    families_.back()->original = *group[0];
    for (const Candidate* candidate : group) {
      members_[{candidate->input, candidate->offset}] = families_.back().get();
    }
  }
}

void Duplicates::Scan(Inputs& inputs, int level) {
  constexpr int kRowsFrom = 6;
  std::vector<Candidate> all;  // in the order in which they will be coded
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Layout* layout = inputs.LayoutOf(i);
    if (layout == nullptr) continue;
    for (const Segment& segment : layout->segments) {
      if (segment.length < kMinLength) continue;
      all.push_back(
          {segment.dtype, segment.shape, segment.length, i, segment.offset});
    }
  }
  Group(inputs, all);

  std::vector<const Candidate*> tensors;
  for (const Candidate& candidate : all) {
    const Family* family = Find(candidate.input, candidate.offset);
    const bool is_original =
        family == nullptr || (family->original.input == candidate.input &&
                              family->original.offset == candidate.offset);
    if (is_original && candidate.dtype != DType::kBytes) {
      tensors.push_back(&candidate);
    }
  }
  for (FoundTwin& found : FindTwins(inputs, tensors, level >= kRowsFrom)) {
    const Candidate& twin = *tensors[found.twin];
    const Candidate& source = *tensors[found.source];
    // Others refer to it: it must be whole.
    if (members_.contains({twin.input, twin.offset})) continue;
    Family*& family = members_[{source.input, source.offset}];
    if (family == nullptr) {
      families_.push_back(std::make_unique<Family>());
      family = families_.back().get();
      family->original = source;
    }
    found.recipe.block_size = BlockBytes(
        source.dtype, level, source.shape.size() < 2 ? 0 : source.shape.back());
    twins_[{twin.input, twin.offset}] = {family, std::move(found.recipe)};
  }
}

Family* Duplicates::Find(size_t input, uint64_t offset) {
  auto found = members_.find({input, offset});
  return found == members_.end() ? nullptr : found->second;
}

Family* Duplicates::AddFamily(size_t input, uint64_t offset) {
  families_.push_back(std::make_unique<Family>());
  return members_[{input, offset}] = families_.back().get();
}

const Twin* Duplicates::FindTwin(size_t input, uint64_t offset) const {
  auto found = twins_.find({input, offset});
  return found == twins_.end() ? nullptr : &found->second;
}

}  // namespace zipllm::archive
