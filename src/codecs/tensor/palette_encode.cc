// Codec 13, palette: elements as numbers of the few values that their group
// has, by rANS. Integers only, so that every machine codes alike.
#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <type_traits>
#include <vector>

#include "base/bytes.h"
#include "codecs/sample.h"
#include "codecs/tensor/byte_plane_encode.h"
#include "codecs/tensor/palette_format.h"
#include "entropy/class_rans.h"
#include "kernels/kernels.h"

namespace zipllm::codecs {
namespace {

using namespace palette_format;
using entropy::ByteCounts;

constexpr int kMinLevel = 2;
// Values are few, and Zstandard finds multiples of them: it may look for long.
constexpr int kMinValuesLevel = 5;

/// Whether values with the highest bit set are the larger, the farther they are
/// from zero.
bool HasSignBit(DType dtype) {
  switch (dtype) {
    case DType::kI8:
    case DType::kI16:
    case DType::kI32:
    case DType::kI64:
      return false;
    default:
      return true;
  }
}

/// Finds the values of groups.
template <typename Element>
class Grouper {
 public:
  explicit Grouper(bool has_sign_bit) : has_sign_bit_(has_sign_bit) {}

  /// How many values `count` elements at `data` have; 0 if more than
  /// kMaxValues.
  size_t Count(const uint8_t* data, size_t count) {
    Start();
    for (size_t i = 0; i < count; ++i) {
      if (Find(LoadLe<Element>(data + i * sizeof(Element))) == kNone) return 0;
    }
    return size_;
  }
  /// The same; also writes the number of each element's value, from the least
  /// on.
  size_t Group(const uint8_t* data, size_t count, uint8_t* numbers) {
    Start();
    for (size_t i = 0; i < count; ++i) {
      const size_t index = Find(LoadLe<Element>(data + i * sizeof(Element)));
      if (index == kNone) return 0;
      numbers[i] = static_cast<uint8_t>(index);
    }
    Sort();
    for (size_t i = 0; i < count; ++i) numbers[i] = number_of_[numbers[i]];
    return size_;
  }
  /// The values that Group found, as they are stored.
  const Element* values() const { return values_.data(); }

 private:
  static constexpr size_t kNone = SIZE_MAX;
  static constexpr int kSlotBits = 10;

  struct Slot {
    Element value;
    uint32_t group = 0;  // the slot is free if this is another
    uint32_t index;
  };

  void Start() {
    ++group_;
    size_ = 0;
  }
  /// The index of `value`, a new one if it is new; kNone if there is none left.
  size_t Find(Element value) {
    uint64_t slot = (value * 0x9E3779B97F4A7C15u) >> (64 - kSlotBits);
    while (slots_[slot].group == group_) {
      if (slots_[slot].value == value) return slots_[slot].index;
      slot = (slot + 1) % slots_.size();
    }
    if (size_ == kMaxValues) return kNone;
    slots_[slot] = {value, group_, static_cast<uint32_t>(size_)};
    values_[size_] = value;
    return size_++;
  }
  /// Orders the values from the least to the greatest.
  void Sort() {
    using Signed = std::make_signed_t<Element>;
    constexpr Element kLow = kAllButTop<Element>;
    struct Entry {
      Signed order;
      uint8_t index;
    };
    std::array<Entry, kMaxValues> entries;
    for (size_t i = 0; i < size_; ++i) {
      const Element value = values_[i];
      const bool turned = has_sign_bit_ && value > kLow;
      entries[i] = {static_cast<Signed>(turned ? value ^ kLow : value),
                    static_cast<uint8_t>(i)};
    }
    std::sort(entries.begin(),
              entries.begin() + static_cast<std::ptrdiff_t>(size_),
              [](const Entry& a, const Entry& b) { return a.order < b.order; });
    std::array<Element, kMaxValues> values;
    std::copy_n(values_.begin(), size_, values.begin());
    for (size_t i = 0; i < size_; ++i) values_[i] = values[entries[i].index];
    for (size_t i = 0; i < size_; ++i) {
      number_of_[entries[i].index] = static_cast<uint8_t>(i);
    }
  }

  bool has_sign_bit_;
  uint32_t group_ = 0;
  size_t size_ = 0;
  std::array<Slot, size_t{1} << kSlotBits> slots_;
  std::array<Element, kMaxValues> values_;
  std::array<uint8_t, kMaxValues> number_of_;
};

// ---- The size of groups ----

/// A look at parts of a frame.
struct Chunks {
  size_t elements;  // of a chunk
  std::array<size_t, 4> starts;
};

Chunks ChooseChunks(size_t count, size_t elements) {
  Chunks chunks;
  chunks.elements = std::min(count, elements);
  for (size_t c = 0; c < chunks.starts.size(); ++c) {
    chunks.starts[c] =
        (count - chunks.elements) / (chunks.starts.size() - 1) * c;
  }
  return chunks;
}

/// Whether elements repeat so much that palettes may pay.
template <typename Element>
bool HasFewValues(ByteSpan data, Grouper<Element>& grouper) {
  constexpr size_t kRun = 32;
  // Codes of the elements themselves are as good for bytes of many values.
  constexpr size_t kMost = sizeof(Element) == 1 ? 64 : kMaxValues;
  constexpr size_t kMostOfRun = sizeof(Element) == 1 ? 12 : 16;
  const Chunks chunks = ChooseChunks(data.size() / sizeof(Element), 1024);
  for (const size_t start : chunks.starts) {
    const uint8_t* const chunk = data.data() + start * sizeof(Element);
    const size_t values = grouper.Count(chunk, chunks.elements);
    if (values != 0 && values <= kMost) continue;
    size_t sum = 0;
    for (size_t i = 0; i + kRun <= chunks.elements; i += kRun) {
      sum += grouper.Count(chunk + i * sizeof(Element), kRun);
    }
    if (sum > chunks.elements / kRun * kMostOfRun) return false;
  }
  return true;
}

/// How a frame is divided, and what its sample takes so, in 1/65536 bit.
struct Division {
  uint64_t group = 0;  // elements; 0: all of a block
  bool from_zero = false;
  uint64_t cost = UINT64_MAX;
};

/// What the chunks take in groups of `group` elements. All of them make one
/// group for 0: its palette takes next to nothing.
template <typename Element>
Division Measure(const EncodeRequest& request, const Chunks& chunks,
                 uint64_t group, Grouper<Element>& grouper) {
  ByteCounts from_least{};
  ByteCounts from_zero{};
  uint64_t palette_bytes = 0;
  std::vector<uint8_t> numbers;
  // False if there are too many values.
  const auto add = [&](ByteSpan data) {
    numbers.resize(data.size() / sizeof(Element));
    const size_t size =
        grouper.Group(data.data(), numbers.size(), numbers.data());
    const size_t negative = Negative(grouper.values(), size);
    for (const uint8_t number : numbers) {
      ++from_least[number];
      ++from_zero[static_cast<uint8_t>(number - negative)];
    }
    palette_bytes += 1 + size * sizeof(Element);
    return size != 0;
  };
  std::vector<uint8_t> all;
  for (const size_t start : chunks.starts) {
    const ByteSpan chunk = request.data.subspan(
        start * sizeof(Element), chunks.elements * sizeof(Element));
    if (group == 0) {
      all.insert(all.end(), chunk.begin(), chunk.end());
      continue;
    }
    const Groups groups(chunks.elements, group,
                        (request.position + start) % group);
    for (size_t g = 0; g < groups.count(); ++g) {
      const size_t begin = groups.Begin(g);
      if (!add(
              chunk.subspan(begin * sizeof(Element),
                            (groups.Begin(g + 1) - begin) * sizeof(Element)))) {
        return {};
      }
    }
  }
  if (group == 0) {
    if (!add(all)) return {};
    palette_bytes = 0;
  }
  const uint64_t least_cost = entropy::EntropyCost(from_least);
  const uint64_t zero_cost = entropy::EntropyCost(from_zero);
  return {group, zero_cost < least_cost,
          std::min(least_cost, zero_cost) + (palette_bytes * 8 << 16)};
}

/// The best division; nullopt if palettes do not pay.
template <typename Element>
std::optional<Division> Divide(const EncodeRequest& request,
                               Grouper<Element>& grouper) {
  constexpr uint64_t kSizes[] = {0, 1024, 256, 128, 64, 32};
  constexpr size_t kChunk = 8192;
  constexpr uint64_t kMinRow = 16;
  constexpr uint64_t kMaxRow = 32768;
  const bool try_rows = request.row >= kMinRow && request.row <= kMaxRow;
  const Chunks chunks = ChooseChunks(
      request.data.size() / sizeof(Element),
      try_rows ? std::max<size_t>(kChunk, 2 * request.row) : kChunk);
  Division best;
  const auto consider = [&](uint64_t group) {
    const Division division = Measure(request, chunks, group, grouper);
    if (division.cost < best.cost) best = division;
  };
  for (const uint64_t size : kSizes) consider(size);
  if (try_rows) consider(request.row);
  const uint64_t plain =
      chunks.elements * chunks.starts.size() * (8 * sizeof(Element)) << 16;
  if (best.cost >= plain - plain / 8) return std::nullopt;
  return best;
}

// ---- Classes ----

/// How often each symbol occurs, by values of the palette less 1.
using SizeCounts = std::vector<ByteCounts>;

struct Classes {
  std::vector<uint8_t> bounds;
  entropy::ClassFrequencies tables;
  std::array<uint8_t, kMaxValues> class_of{};
  uint64_t cost = 0;  // of all symbols, in 1/65536 bit
};

/// Palettes of about as many values share a class where that takes less.
Classes ChooseClasses(const SizeCounts& counts) {
  constexpr size_t kMost = 32;
  constexpr uint64_t kTable = 16 << 16;        // besides
  constexpr uint64_t kTableValue = (6 << 16);  // for each symbol
  Classes classes;
  ByteCounts shared{};
  uint64_t shared_cost = 0;
  const auto close = [&] {
    classes.tables.push_back(entropy::NormalizeBytes(shared));
    classes.cost += entropy::CodingCost(shared, classes.tables.back());
  };
  bool first = true;
  for (size_t s = 0; s < kMaxValues; ++s) {
    const uint64_t cost = entropy::EntropyCost(counts[s]);
    ByteCounts both = shared;
    for (size_t i = 0; i < both.size(); ++i) both[i] += counts[s][i];
    const uint64_t both_cost = entropy::EntropyCost(both);
    const bool occurs = counts[s] != ByteCounts{};
    if (occurs && !first && classes.bounds.size() + 1 < kMost &&
        both_cost > shared_cost + cost + kTable + kTableValue * (s + 1)) {
      close();
      classes.bounds.push_back(static_cast<uint8_t>(s));
      shared = counts[s];
      shared_cost = cost;
    } else {
      shared = both;
      shared_cost = both_cost;
    }
    first &= !occurs;
    classes.class_of[s] = static_cast<uint8_t>(classes.bounds.size());
  }
  close();
  return classes;
}

// ---- Plans ----

/// A block's groups.
struct GroupedBlock {
  uint64_t phase = 0;
  std::vector<uint8_t> sizes;    // of palettes, less 1
  std::vector<uint8_t> symbols;  // of elements
  Buffer palettes;               // as they are stored
};

class Plan final : public EncodePlan {
 public:
  Plan(const EncodeRequest& request, size_t width, uint8_t flags,
       uint64_t group, std::vector<GroupedBlock> blocks, Classes classes)
      : data_(request.data.data()),
        block_size_(request.block_size),
        group_(group),
        blocks_(std::move(blocks)),
        class_of_(classes.class_of),
        tables_(classes.tables) {
    ByteWriter writer(&params_);
    writer.Le(static_cast<uint8_t>(width));
    writer.Le(flags);
    writer.Varint(group);
    writer.Varint(classes.bounds.size());
    writer.Bytes(classes.bounds);
    entropy::WriteClassFrequencies(classes.tables, &params_);
    estimate_ = classes.cost >> 19;
    for (const GroupedBlock& block : blocks_) {
      const size_t streams =
          block.symbols.size() >= entropy::kFourStreams ? 4 : 1;
      estimate_ +=
          block.palettes.size() + streams * (4 * kernels::kLanes + 3) + 2;
    }
  }
  ByteSpan params() const override { return params_.span(); }
  uint64_t estimate() const override { return estimate_; }
  bool Encode(ByteSpan plain, Scratch& scratch, Buffer* out) const override {
    const size_t start = out->size();
    const GroupedBlock& block =
        blocks_[static_cast<size_t>(plain.data() - data_) / block_size_];
    const size_t count = block.symbols.size();
    if (group_ != 0) ByteWriter(out).Varint(block.phase);
    out->Append(block.palettes.span());
    Buffer& classes = scratch.buffers[0];
    classes.Resize(count);
    const Groups groups(count, group_ != 0 ? group_ : count, block.phase);
    for (size_t g = 0; g < groups.count(); ++g) {
      std::memset(classes.data() + groups.Begin(g), class_of_[block.sizes[g]],
                  groups.Begin(g + 1) - groups.Begin(g));
    }
    entropy::EncodeClassRans(tables_, block.symbols.data(), classes.data(),
                             count, &scratch.buffers[1], out);
    const bool smaller = out->size() - start < plain.size();
    if (!smaller) out->Resize(start);
    return smaller;
  }

 private:
  const uint8_t* data_;
  size_t block_size_;
  uint64_t group_;
  std::vector<GroupedBlock> blocks_;
  std::array<uint8_t, kMaxValues> class_of_;
  entropy::ClassEncodeTables tables_;
  Buffer params_;
  uint64_t estimate_;
};

/// Palettes, one after the other, mirrored or not, as they are stored.
template <typename Element>
Buffer StorePalettes(const std::vector<uint8_t>& sizes,
                     std::vector<Element> values, bool mirrored, int level,
                     Scratch& scratch) {
  Buffer stored;
  Buffer& frame = scratch.buffers[0];
  AppendBytePlane(sizes, level, &frame, &stored);
  if (mirrored) {
    Element* palette = values.data();
    for (const uint8_t size : sizes) {
      Mirror(palette, size + size_t{1});
      palette += size + size_t{1};
    }
  }
  Buffer& plane = scratch.buffers[1];
  plane.Resize(values.size());
  for (size_t p = 0; p < sizeof(Element); ++p) {
    for (size_t i = 0; i < values.size(); ++i) {
      plane.data()[i] = static_cast<uint8_t>(values[i] >> (8 * p));
    }
    AppendBytePlane(plane.span(), std::max(level, kMinValuesLevel), &frame,
                    &stored);
  }
  return stored;
}

/// Divides a block into groups and adds to `counts`. False if a group has too
/// many values.
template <typename Element>
bool GroupBlock(ByteSpan plain, const Division& division, uint64_t position,
                Grouper<Element>& grouper, SizeCounts* counts,
                GroupedBlock* block, std::vector<Element>* values) {
  const size_t count = plain.size() / sizeof(Element);
  block->symbols.resize(count);
  if (division.group != 0) block->phase = position % division.group;
  const Groups groups(count, division.group != 0 ? division.group : count,
                      block->phase);
  for (size_t g = 0; g < groups.count(); ++g) {
    const size_t begin = groups.Begin(g);
    const size_t end = groups.Begin(g + 1);
    uint8_t* const symbols = block->symbols.data();
    const size_t size = grouper.Group(plain.data() + begin * sizeof(Element),
                                      end - begin, symbols + begin);
    if (size == 0) return false;
    block->sizes.push_back(static_cast<uint8_t>(size - 1));
    values->insert(values->end(), grouper.values(), grouper.values() + size);
    const auto first = static_cast<uint8_t>(
        division.from_zero ? Negative(grouper.values(), size) : 0);
    ByteCounts& to = (*counts)[size - 1];
    for (size_t i = begin; i < end; ++i) {
      symbols[i] = static_cast<uint8_t>(symbols[i] - first);
      ++to[symbols[i]];
    }
  }
  return true;
}

template <typename Element>
std::unique_ptr<EncodePlan> MakePlanOf(const EncodeRequest& request,
                                       Scratch& scratch) {
  const ByteSpan data = request.data;
  Grouper<Element> grouper(HasSignBit(request.dtype));
  if (!HasFewValues(data, grouper)) return nullptr;
  const std::optional<Division> division = Divide(request, grouper);
  if (!division) return nullptr;
  bool mirrored = false;
  std::vector<GroupedBlock> blocks;
  SizeCounts counts(kMaxValues);
  for (size_t start = 0; start < data.size(); start += request.block_size) {
    GroupedBlock& block = blocks.emplace_back();
    std::vector<Element> values;
    if (!GroupBlock(data.subspan(start, std::min(request.block_size,
                                                 data.size() - start)),
                    *division, request.position + start / sizeof(Element),
                    grouper, &counts, &block, &values)) {
      return nullptr;
    }
    block.palettes =
        StorePalettes(block.sizes, values, mirrored, request.level, scratch);
    if (start == 0) {
      Buffer other =
          StorePalettes(block.sizes, values, true, request.level, scratch);
      mirrored = other.size() < block.palettes.size();
      if (mirrored) block.palettes = std::move(other);
    }
  }
  const auto flags = static_cast<uint8_t>(
      (division->from_zero ? kFromZero : 0) | (mirrored ? kMirrored : 0));
  return std::make_unique<Plan>(request, sizeof(Element), flags,
                                division->group, std::move(blocks),
                                ChooseClasses(counts));
}

std::unique_ptr<EncodePlan> MakePlan(const EncodeRequest& request,
                                     Scratch& scratch) {
  const DTypeInfo* const info = FindDType(request.dtype);
  if (request.level < kMinLevel || request.dtype == DType::kBytes ||
      info == nullptr || info->block_elements != 1 ||
      request.data.size() % info->block_bytes != 0 ||
      request.block_size % info->block_bytes != 0) {
    return nullptr;
  }
  switch (info->block_bytes) {
    case 1:
      return MakePlanOf<uint8_t>(request, scratch);
    case 2:
      return MakePlanOf<uint16_t>(request, scratch);
    case 4:
      return MakePlanOf<uint32_t>(request, scratch);
    case 8:
      return MakePlanOf<uint64_t>(request, scratch);
    default:
      return nullptr;
  }
}

}  // namespace

extern const Encoder kPaletteEncoder = {
    .id = 13, .name = "palette", .plan = MakePlan};

}  // namespace zipllm::codecs
