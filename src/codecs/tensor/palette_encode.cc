// Codec 13, palette: elements as numbers of the few values that their group
// has, by rANS. Integers only, so that every machine codes alike.
#include <algorithm>
#include <array>
#include <cstring>
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
  /// The same; also writes each element's symbol.
  size_t Group(const uint8_t* data, size_t count, uint8_t* symbols) {
    Start();
    for (size_t i = 0; i < count; ++i) {
      const size_t index = Find(LoadLe<Element>(data + i * sizeof(Element)));
      if (index == kNone) return 0;
      symbols[i] = static_cast<uint8_t>(index);
    }
    Sort();
    for (size_t i = 0; i < count; ++i) symbols[i] = symbol_of_[symbols[i]];
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
    constexpr auto kLow = static_cast<Element>(~Element{0} >> 1);
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
    const size_t negative = Negative(values_.data(), size_);
    for (size_t i = 0; i < size_; ++i) {
      symbol_of_[entries[i].index] = static_cast<uint8_t>(i - negative);
    }
  }

  bool has_sign_bit_;
  uint32_t group_ = 0;
  size_t size_ = 0;
  std::array<Slot, size_t{1} << kSlotBits> slots_;
  std::array<Element, kMaxValues> values_;
  std::array<uint8_t, kMaxValues> symbol_of_;
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

constexpr uint64_t kNoCost = UINT64_MAX;

/// What the chunks take in groups of `size` elements, in 1/65536 bit; kNoCost
/// if a group has too many values.
template <typename Element>
uint64_t CostOfGroups(const EncodeRequest& request, const Chunks& chunks,
                      uint64_t size, Grouper<Element>& grouper,
                      std::vector<uint8_t>& symbols) {
  ByteCounts counts{};
  uint64_t values = 0;
  uint64_t groups_seen = 0;
  symbols.resize(chunks.elements);
  for (const size_t start : chunks.starts) {
    const Groups groups(chunks.elements, size,
                        (request.position + start) % size);
    for (size_t g = 0; g < groups.count(); ++g) {
      const size_t begin = groups.Begin(g);
      const size_t found =
          grouper.Group(request.data.data() + (start + begin) * sizeof(Element),
                        groups.Begin(g + 1) - begin, symbols.data() + begin);
      if (found == 0) return kNoCost;
      values += found;
    }
    groups_seen += groups.count();
    for (const uint8_t symbol : symbols) ++counts[symbol];
  }
  return entropy::EntropyCost(counts) +
         ((values * sizeof(Element) + groups_seen) * 8 << 16);
}

/// The same for one palette for all: that takes next to nothing.
template <typename Element>
uint64_t CostOfOne(const EncodeRequest& request, const Chunks& chunks,
                   Grouper<Element>& grouper, std::vector<uint8_t>& symbols) {
  // All chunks as one group.
  std::vector<uint8_t> data;
  for (const size_t start : chunks.starts) {
    const ByteSpan chunk = request.data.subspan(
        start * sizeof(Element), chunks.elements * sizeof(Element));
    data.insert(data.end(), chunk.begin(), chunk.end());
  }
  symbols.resize(data.size() / sizeof(Element));
  if (grouper.Group(data.data(), symbols.size(), symbols.data()) == 0) {
    return kNoCost;
  }
  ByteCounts counts{};
  for (const uint8_t symbol : symbols) ++counts[symbol];
  return entropy::EntropyCost(counts);
}

/// Elements a group, 0 for all of a block; false if palettes do not pay.
template <typename Element>
bool ChooseGroup(const EncodeRequest& request, Grouper<Element>& grouper,
                 uint64_t* group) {
  constexpr uint64_t kSizes[] = {1024, 256, 128, 64, 32};
  constexpr size_t kChunk = 8192;
  constexpr size_t kMaxChunk = 32768;
  const auto row =
      static_cast<size_t>(std::min<uint64_t>(request.row, kMaxChunk));
  const Chunks chunks = ChooseChunks(request.data.size() / sizeof(Element),
                                     std::max(kChunk, 2 * row));
  std::vector<uint8_t> symbols;
  uint64_t best = CostOfOne(request, chunks, grouper, symbols);
  *group = 0;
  const auto consider = [&](uint64_t size) {
    const uint64_t cost = CostOfGroups(request, chunks, size, grouper, symbols);
    if (cost >= best) return;
    best = cost;
    *group = size;
  };
  if (request.row >= 16 && request.row <= kMaxChunk) consider(request.row);
  for (const uint64_t size : kSizes) {
    if (size != request.row) consider(size);
  }
  const uint64_t plain =
      chunks.elements * chunks.starts.size() * (8 * sizeof(Element)) << 16;
  return best < plain - plain / 8;
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

/// A block: its palettes, as they are stored, and its symbols.
struct BlockSymbols {
  uint64_t phase = 0;
  Buffer palettes;
  std::vector<uint8_t> sizes;  // by group, less 1
  std::vector<uint8_t> symbols;
};

class Plan final : public EncodePlan {
 public:
  Plan(const EncodeRequest& request, size_t width, uint64_t group,
       std::vector<BlockSymbols> blocks, Classes classes)
      : data_(request.data.data()),
        block_size_(request.block_size),
        group_(group),
        blocks_(std::move(blocks)),
        class_of_(classes.class_of),
        tables_(classes.tables) {
    ByteWriter writer(&params_);
    writer.Le(static_cast<uint8_t>(width));
    writer.Varint(group);
    writer.Varint(classes.bounds.size());
    writer.Bytes(classes.bounds);
    entropy::WriteClassFrequencies(classes.tables, &params_);
    estimate_ = classes.cost >> 19;
    for (const BlockSymbols& block : blocks_) {
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
    const BlockSymbols& block =
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
  std::vector<BlockSymbols> blocks_;
  std::array<uint8_t, kMaxValues> class_of_;
  entropy::ClassEncodeTables tables_;
  Buffer params_;
  uint64_t estimate_;
};

/// Divides a block into groups; false if one has too many values.
template <typename Element>
bool GroupBlock(ByteSpan plain, uint64_t group, uint64_t position, int level,
                Grouper<Element>& grouper, Scratch& scratch, SizeCounts* counts,
                BlockSymbols* block) {
  const size_t count = plain.size() / sizeof(Element);
  block->symbols.resize(count);
  if (group != 0) block->phase = position % group;
  const Groups groups(count, group != 0 ? group : count, block->phase);
  std::vector<Element> values;
  for (size_t g = 0; g < groups.count(); ++g) {
    const size_t begin = groups.Begin(g);
    const size_t end = groups.Begin(g + 1);
    const size_t found =
        grouper.Group(plain.data() + begin * sizeof(Element), end - begin,
                      block->symbols.data() + begin);
    if (found == 0) return false;
    block->sizes.push_back(static_cast<uint8_t>(found - 1));
    values.insert(values.end(), grouper.values(), grouper.values() + found);
    ByteCounts& to = (*counts)[found - 1];
    for (size_t i = begin; i < end; ++i) ++to[block->symbols[i]];
  }
  Buffer& frame = scratch.buffers[0];
  AppendBytePlane(block->sizes, level, &frame, &block->palettes);
  Buffer& plane = scratch.buffers[1];
  plane.Resize(values.size());
  for (size_t p = 0; p < sizeof(Element); ++p) {
    for (size_t i = 0; i < values.size(); ++i) {
      plane.data()[i] = static_cast<uint8_t>(values[i] >> (8 * p));
    }
    AppendBytePlane(plane.span(), level, &frame, &block->palettes);
  }
  return true;
}

template <typename Element>
std::unique_ptr<EncodePlan> MakePlanOf(const EncodeRequest& request,
                                       Scratch& scratch) {
  const ByteSpan data = request.data;
  Grouper<Element> grouper(HasSignBit(request.dtype));
  uint64_t group = 0;
  if (!HasFewValues(data, grouper) || !ChooseGroup(request, grouper, &group)) {
    return nullptr;
  }
  std::vector<BlockSymbols> blocks;
  SizeCounts counts(kMaxValues);
  for (size_t start = 0; start < data.size(); start += request.block_size) {
    const ByteSpan block =
        data.subspan(start, std::min(request.block_size, data.size() - start));
    if (!GroupBlock(block, group, request.position + start / sizeof(Element),
                    request.level, grouper, scratch, &counts,
                    &blocks.emplace_back())) {
      return nullptr;
    }
  }
  return std::make_unique<Plan>(request, sizeof(Element), group,
                                std::move(blocks), ChooseClasses(counts));
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
