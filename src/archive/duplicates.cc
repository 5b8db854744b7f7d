#include "archive/duplicates.h"

#include <algorithm>
#include <array>
#include <tuple>

#include "base/file.h"
#include "container/xxh3.h"
#include "parsers/parser.h"

namespace zipllm::archive {
namespace {

// Shorter ones are not worth a reference.
constexpr uint64_t kMinLength = 256;
constexpr size_t kSampleBytes = 64;
constexpr uint64_t kSamples = 4;

struct Candidate {
  DType dtype;
  uint64_t length;
  size_t input;
  uint64_t offset;
  uint64_t sketch = 0;

  auto Shape() const { return std::tuple(length, dtype); }
};

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

}  // namespace

absl::StatusOr<Layout> ReadLayout(Source& in, std::vector<uint8_t>* prefix) {
  std::optional<uint64_t> size = in.Size();
  uint64_t wanted = parsers::kFirstPrefix;
  while (true) {
    if (size.has_value()) wanted = std::min(wanted, *size);
    size_t have = prefix->size();
    prefix->resize(wanted);
    MutableByteSpan rest = MutableByteSpan(*prefix).subspan(have);
    absl::StatusOr<size_t> n =
        in.Seekable() ? in.ReadAt(have, rest) : ReadFull(in, rest);
    RETURN_IF_ERROR(n.status());
    prefix->resize(have + *n);
    // The stream ended before a size was known: now it is.
    if (*n < rest.size()) size = prefix->size();
    parsers::Outcome outcome = parsers::Detect(*prefix, size);
    if (outcome.layout.has_value()) return std::move(*outcome.layout);
    wanted = outcome.need_prefix;
  }
}

struct Duplicates::Segments {
  std::vector<Candidate> all;
};

void Duplicates::ScanInput(size_t input, Source& in, Segments* segments) {
  std::vector<uint8_t> prefix;
  absl::StatusOr<Layout> layout = ReadLayout(in, &prefix);
  if (!layout.ok()) return;
  for (const Segment& segment : layout->segments) {
    if (segment.length < kMinLength) continue;
    segments->all.push_back(
        {segment.dtype, segment.length, input, segment.offset});
  }
}

void Duplicates::Group(Segments& segments, const std::vector<Input>* inputs,
                       Source* single) {
  // Only those of equal type and length are sampled, file by file.
  std::vector<Candidate>& all = segments.all;
  std::sort(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) {
    return a.Shape() < b.Shape();
  });
  std::vector<Candidate> alike;
  for (size_t i = 0; i < all.size();) {
    size_t end = i + 1;
    while (end < all.size() && all[end].Shape() == all[i].Shape()) ++end;
    if (end - i > 1)
      alike.insert(alike.end(), all.begin() + i, all.begin() + end);
    i = end;
  }
  std::sort(alike.begin(), alike.end(),
            [](const Candidate& a, const Candidate& b) {
              return std::tie(a.input, a.offset) < std::tie(b.input, b.offset);
            });
  std::map<std::tuple<uint64_t, DType, uint64_t>, std::vector<const Candidate*>>
      groups;
  std::unique_ptr<Source> opened;
  size_t opened_input = SIZE_MAX;
  for (Candidate& candidate : alike) {
    Source* in = single;
    if (in == nullptr) {
      if (candidate.input != opened_input) {
        auto source = OpenFileSource((*inputs)[candidate.input].path);
        opened = source.ok() ? std::move(*source) : nullptr;
        opened_input = candidate.input;
      }
      in = opened.get();
    }
    if (in == nullptr || !Sketch(*in, candidate)) continue;
    groups[{candidate.length, candidate.dtype, candidate.sketch}].push_back(
        &candidate);
  }
  for (const auto& [key, group] : groups) {
    if (group.size() < 2) continue;
    families_.push_back(std::make_unique<Family>());
    for (const Candidate* candidate : group) {
      members_[{candidate->input, candidate->offset}] = families_.back().get();
    }
  }
}

void Duplicates::Scan(const std::vector<Input>& inputs) {
  Segments segments;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].entry.kind != EntryKind::kFile ||
        inputs[i].entry.size < kMinLength)
      continue;
    auto source = OpenFileSource(inputs[i].path);
    if (source.ok() && (*source)->Seekable()) ScanInput(i, **source, &segments);
  }
  Group(segments, &inputs, nullptr);
}

void Duplicates::Scan(Source& in) {
  Segments segments;
  ScanInput(0, in, &segments);
  Group(segments, nullptr, &in);
}

Duplicates::Family* Duplicates::Find(size_t input, uint64_t offset) {
  auto found = members_.find({input, offset});
  return found == members_.end() ? nullptr : found->second;
}

}  // namespace zipllm::archive
