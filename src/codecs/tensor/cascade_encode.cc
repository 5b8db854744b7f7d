// Codec 7, cascade: exponents as short codes with escapes, layer below layer;
// the rest of the elements as bytes. Integers only, so that every machine codes
// alike.
#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <vector>

#include "base/bytes.h"
#include "codecs/sample.h"
#include "codecs/tensor/cascade_format.h"
#include "kernels/kernels.h"

namespace zipllm::codecs {
namespace {

using namespace cascade_format;
using kernels::kGroup;

constexpr int kLevel = 1;

// ---- Groups ----

/// Up to kChunkGroups groups of elements, whose last is filled up: the units
/// with the last one, so that it adds no exponent, the low halves with zeros.
struct Chunk {
  alignas(64) uint16_t units[kChunk];
  alignas(64) uint16_t low[kChunk];
  size_t groups = 0;

  void Load(const Kind& kind, ByteSpan elements) {
    const size_t count = elements.size() / kind.element_size;
    groups = (count + kGroup - 1) / kGroup;
    if (kind.wide()) {
      kernels::Best().split_halves(elements.data(), count, low, units);
      std::fill(low + count, low + groups * kGroup, uint16_t{0});
    } else {
      std::memcpy(units, elements.data(), elements.size());
    }
    std::fill(units + count, units + groups * kGroup, units[count - 1]);
  }
  /// The 16-bit words that hold the low bits of group `g`.
  const uint16_t* LowOf(const Kind& kind, size_t g) const {
    return (kind.wide() ? low : units) + g * kGroup;
  }
};

bool IsZero(const uint16_t* words) {
  // Mostly the first ones tell.
  for (size_t i = 0; i < kGroup; i += 4) {
    if (LoadLe<uint64_t>(words + i) != 0) return false;
  }
  return true;
}

/// How a group's low bits take the fewest bytes, and how many.
struct LowChoice {
  Mode mode;
  size_t bytes;
};

LowChoice ChooseLow(const Kind& kind, const uint16_t* words) {
  if (kind.low_bits == 0) return {kTop, 0};
  const uint32_t mask = (1u << kind.low_bits) - 1;
  const uint32_t below_three = mask >> 3;
  const bool has_all = kind.low_bits == 16;
  uint32_t any = 0;
  size_t some = 0;  // elements whose low bits are not all 0
  const auto look = [&](size_t begin, size_t end) {
    uint32_t seen = 0;
    uint16_t present = 0;
    for (size_t i = begin; i < end; ++i) {
      seen |= words[i];
      present = static_cast<uint16_t>(present + ((words[i] & mask) != 0));
    }
    any |= seen & mask;
    some += present;
  };
  const auto dense = [&]() -> LowChoice {
    if (has_all && (any & below_three) != 0) return {kAll, kAllBytes};
    return {kThree, kThreeBytes};
  };
  // Mostly a few elements tell.
  constexpr size_t kProbe = 16;
  look(0, kProbe);
  if (some > kProbe / 2 && dense().mode == (has_all ? kAll : kThree)) {
    return dense();
  }
  look(kProbe, kGroup);
  if (any == 0) return {kTop, 0};
  const size_t few = 1 + some * kind.few_bytes();
  return few < dense().bytes ? LowChoice{kFew, few} : dense();
}

LowChoice ChooseMode(const Kind& kind, const Chunk& chunk, size_t g) {
  if (IsZero(chunk.units + g * kGroup) &&
      (!kind.wide() || IsZero(chunk.low + g * kGroup))) {
    return {kZero, 0};
  }
  return ChooseLow(kind, chunk.LowOf(kind, g));
}

/// Appends the low bits of a group to `to`, which has room for kAllBytes,
/// unless they are part of what kernels take from units.
uint8_t* PutLow(const Kind& kind, Mode mode, const uint16_t* words,
                uint8_t* to) {
  if (mode == kThree && kind.wide()) {
    for (int bit = kThreeShift; bit < 16; ++bit, to += kGroup / 8) {
      kernels::Best().extract_plane(words, 1, 1, bit, to);
    }
  } else if (mode == kAll) {
    std::memcpy(to, words, kAllBytes);
    to += kAllBytes;
  } else if (mode == kFew) {
    uint8_t* const count = to++;
    *count = 0;
    for (size_t i = 0; i < kGroup; ++i) {
      const auto low =
          static_cast<uint16_t>(words[i] & ((1u << kind.low_bits) - 1));
      if (low == 0) continue;
      ++*count;
      to[0] = static_cast<uint8_t>(i);
      std::memcpy(to + 1, &low, kind.few_bytes() - 1);
      to += kind.few_bytes();
    }
  }
  return to;
}

// ---- Choosing layers ----

constexpr size_t kMapSize = 1024;  // what kernels want
using Counts = std::array<uint64_t, 256>;

struct Layers {
  std::vector<int> widths;
  uint64_t bits = 0;  // of the sample's exponents
};

/// The widths that code exponents with these counts, descending, in the fewest
/// bits, by dynamic programming from the last layer to the first. `scale` is
/// elements per sampled one, `blocks` how many will have such layers.
Layers ChooseLayers(const Counts& sorted, uint64_t scale, uint64_t blocks) {
  // An element costs time in each layer: as much as 1/16 bit is worth.
  constexpr uint64_t kUnit = 16;
  constexpr int kWidths[] = {1, 2, 4};
  constexpr size_t kListed = kMaxLayers * (kMaxSymbols - 1) + 1;
  // Elements whose exponent has this rank or a greater one.
  std::array<uint64_t, kListed> left{};
  uint64_t sum = std::accumulate(sorted.begin(), sorted.end(), uint64_t{0});
  for (size_t i = 0; i < kListed; ++i) {
    left[i] = sum;
    sum -= sorted[i];
  }
  struct Choice {
    uint64_t cost;
    int width;  // 0: no more layers
  };
  // best[k][i]: coding the elements of left[i] with at most k layers.
  std::array<std::array<Choice, kListed>, kMaxLayers + 1> best;
  for (size_t k = 0; k <= kMaxLayers; ++k) {
    for (size_t i = 0; i < kListed; ++i) {
      Choice& choice = best[k][i];
      choice = {left[i] * scale * (8 * kUnit + 1), 0};
      if (k == 0) continue;
      for (const int width : kWidths) {
        const size_t next = i + (size_t{1} << width) - 1;
        if (next >= kListed) continue;
        const auto bits = static_cast<uint64_t>(width);
        // Half a group is lost at the end, on average, and there is the list.
        const uint64_t fixed =
            blocks * bits * kGroup / 2 + (uint64_t{8} << width);
        const uint64_t cost = left[i] * scale * (bits * kUnit + 1) +
                              fixed * kUnit + best[k - 1][next].cost;
        if (cost < choice.cost) choice = {cost, width};
      }
    }
  }
  Layers layers;
  size_t i = 0;
  for (size_t k = kMaxLayers; k > 0 && best[k][i].width != 0; --k) {
    const int width = best[k][i].width;
    layers.widths.push_back(width);
    layers.bits += left[i] * static_cast<uint64_t>(width);
    i += (size_t{1} << width) - 1;
  }
  layers.bits += 8 * left[i];
  if (layers.widths.empty()) layers.widths.push_back(1);
  return layers;
}

// ---- Coding ----

class Plan final : public EncodePlan {
 public:
  /// `order` has the exponents by rank.
  Plan(const Kind& kind, const std::vector<int>& widths,
       const std::array<uint8_t, 256>& order)
      : kind_(kind), widths_(widths) {
    ByteWriter writer(&params_);
    writer.Le(kind.number);
    writer.Le(static_cast<uint8_t>(widths.size()));
    size_t rank = 0;
    for (const int width : widths) {
      const size_t symbols = (size_t{1} << width) - 1;
      writer.Le(static_cast<uint8_t>(width));
      writer.Bytes(ByteSpan(order).subspan(rank, symbols));
      rank += symbols;
    }
    unlisted_ = static_cast<uint8_t>(rank);
    map_.fill(unlisted_);
    // Ranks beyond the kind's exponents repeat one; the lowest counts.
    while (rank-- > 0) map_[order[rank]] = static_cast<uint8_t>(rank);
  }

  ByteSpan params() const override { return params_.span(); }
  uint64_t estimate() const override { return estimate_; }
  void set_estimate(uint64_t bytes) { estimate_ = bytes; }
  bool Encode(ByteSpan block, Scratch& scratch, Buffer* out) const override;

 private:
  const Kind& kind_;
  std::vector<int> widths_;
  uint8_t unlisted_ = 0;  // the rank of exponents that escape everywhere
  std::array<uint8_t, kMapSize> map_;  // of exponents to ranks
  Buffer params_;
  uint64_t estimate_ = 0;
};

bool Plan::Encode(ByteSpan block, Scratch& scratch, Buffer* out) const {
  if (block.empty() || block.size() % kind_.element_size != 0) return false;
  const kernels::Table& kernel = kernels::Best();
  const size_t group_size = kGroup * kind_.element_size;
  const size_t groups = (block.size() + group_size - 1) / group_size;
  const size_t room = groups * kGroup + kSlack;

  Buffer& rest_bytes = scratch.buffers[0];
  rest_bytes.Resize(groups * kGroup);
  Buffer& code_bytes = scratch.buffers[1];
  code_bytes.Resize(
      groups * CodeBytes(std::accumulate(widths_.begin(), widths_.end(), 0)));
  // What escapes from a layer, in turns; and from the last one.
  Buffer& escaped = scratch.buffers[2];
  escaped.Resize(3 * room);
  uint8_t* ranks = escaped.data();
  uint8_t* next_ranks = ranks + room;
  uint8_t* const raw = next_ranks + room;
  Buffer& low_bytes = scratch.buffers[3];
  low_bytes.Resize(kind_.low_bits == 0 ? 0 : groups * kAllBytes);

  // Runs of groups of one mode.
  std::vector<uint64_t> runs;
  const auto add = [&runs](Mode mode) {
    if (runs.empty() || runs.back() % kModes != mode) runs.push_back(mode);
    runs.back() += kModes;
  };

  uint8_t* rests = rest_bytes.data();
  uint8_t* codes = code_bytes.data();
  uint8_t* low = low_bytes.data();
  uint8_t* raw_end = raw;
  size_t count = 0;  // of `ranks`
  Chunk chunk;
  alignas(64) uint8_t chunk_ranks[kChunk];
  const auto code_groups = [&](Mode mode, size_t first, size_t end) {
    if (mode == kZero) return;
    const uint16_t* units = chunk.units + first * kGroup;
    const size_t elements = (end - first) * kGroup;
    kernel.map_symbols(units, elements, kind_.exponent_shift(),
                       kind_.max_exponent, map_.data(), chunk_ranks);
    const uint8_t* at = chunk_ranks;
    const uint8_t* const last = chunk_ranks + elements;
    while ((at = static_cast<const uint8_t*>(std::memchr(
                at, unlisted_, static_cast<size_t>(last - at)))) != nullptr) {
      *raw_end++ = static_cast<uint8_t>(
          (units[at - chunk_ranks] >> kind_.exponent_shift()) &
          kind_.max_exponent);
      ++at;
    }
    const bool three = mode == kThree && !kind_.wide();
    kernel.take_rests(units, end - first, kind_.shift, rests,
                      three ? low : nullptr);
    if (three) low += (end - first) * kThreeBytes;
    rests += elements;
    count += kernel.cascade_reduce(chunk_ranks, end - first, widths_[0], codes,
                                   ranks + count);
    codes += (end - first) * CodeBytes(widths_[0]);
    for (size_t g = first; g < end; ++g) {
      low = PutLow(kind_, mode, chunk.LowOf(kind_, g), low);
    }
  };
  for (size_t at = 0; at < block.size(); at += kChunk * kind_.element_size) {
    chunk.Load(kind_, block.subspan(at, std::min(block.size() - at,
                                                 kChunk * kind_.element_size)));
    Mode mode = kZero;
    size_t first = 0;  // of the groups in a row that have this mode
    for (size_t g = 0; g < chunk.groups; ++g) {
      const Mode next = ChooseMode(kind_, chunk, g).mode;
      add(next);
      if (next == mode) continue;
      code_groups(mode, first, g);
      mode = next;
      first = g;
    }
    code_groups(mode, first, chunk.groups);
  }

  const size_t start = out->size();
  ByteWriter writer(out);
  for (const uint64_t run : runs) writer.Varint(run);
  for (size_t k = 1; k < widths_.size(); ++k) {
    const size_t layer_groups = (count + kGroup - 1) / kGroup;
    writer.Varint(layer_groups);
    std::fill(ranks + count, ranks + layer_groups * kGroup, uint8_t{0});
    count = kernel.cascade_reduce(ranks, layer_groups, widths_[k], codes,
                                  next_ranks);
    codes += layer_groups * CodeBytes(widths_[k]);
    std::swap(ranks, next_ranks);
  }
  writer.Varint(count);
  writer.Bytes({code_bytes.data(), codes});
  writer.Bytes({raw, raw_end});
  writer.Bytes({rest_bytes.data(), rests});
  writer.Bytes({low_bytes.data(), low});
  const bool smaller = out->size() - start < block.size();
  if (!smaller) out->Resize(start);
  return smaller;
}

// ---- Planning ----

/// Looks at all elements up to 64 Ki, above at each sixteenth chunk.
struct Statistics {
  Counts exponents{};
  uint64_t groups = 0;   // looked at
  uint64_t present = 0;  // of which are not all zero
  uint64_t low_bytes = 0;
};

Statistics Look(const Kind& kind, ByteSpan data) {
  constexpr size_t kAllOf = 65536;
  const size_t stride = kChunk * kind.element_size *
                        (data.size() <= kAllOf * kind.element_size ? 1 : 16);
  Statistics statistics;
  // Four histograms, so that equal neighbours do not wait for each other.
  std::array<std::array<uint32_t, 256>, 4> parts{};
  Chunk chunk;
  for (size_t at = 0; at < data.size(); at += stride) {
    chunk.Load(kind, data.subspan(at, std::min(data.size() - at,
                                               kChunk * kind.element_size)));
    statistics.groups += chunk.groups;
    for (size_t g = 0; g < chunk.groups; ++g) {
      const LowChoice choice = ChooseMode(kind, chunk, g);
      if (choice.mode == kZero) continue;
      ++statistics.present;
      statistics.low_bytes += choice.bytes;
      const uint16_t* units = chunk.units + g * kGroup;
      for (size_t i = 0; i < kGroup; i += 4) {
        for (size_t j = 0; j < 4; ++j) {
          ++parts[j]
                 [(units[i + j] >> kind.exponent_shift()) & kind.max_exponent];
        }
      }
    }
  }
  for (const auto& part : parts) {
    for (size_t e = 0; e < part.size(); ++e) statistics.exponents[e] += part[e];
  }
  return statistics;
}

std::unique_ptr<EncodePlan> MakePlan(const EncodeRequest& request,
                                     Scratch& /*scratch*/) {
  const Kind* kind = FindKind(kKinds, request.dtype);
  if (kind == nullptr || request.level != kLevel ||
      request.data.size() < kind->element_size) {
    return nullptr;
  }
  const ByteSpan data = request.data.first(
      request.data.size() / kind->element_size * kind->element_size);
  const Statistics statistics = Look(*kind, data);
  const size_t group_size = kGroup * kind->element_size;
  const uint64_t groups = (data.size() + group_size - 1) / group_size;
  const uint64_t blocks =
      (data.size() + request.block_size - 1) / request.block_size;

  // Exponents by rank: the frequent ones first, then the others.
  std::array<uint8_t, 256> order{};
  const auto end = order.begin() + kind->max_exponent + 1;
  std::iota(order.begin(), end, uint8_t{0});
  std::stable_sort(order.begin(), end, [&](uint8_t a, uint8_t b) {
    return statistics.exponents[a] > statistics.exponents[b];
  });
  Counts sorted{};
  std::transform(order.begin(), end, sorted.begin(),
                 [&](uint8_t e) { return statistics.exponents[e]; });
  const Layers layers =
      ChooseLayers(sorted, groups / statistics.groups, blocks);

  auto plan = std::make_unique<Plan>(*kind, layers.widths, order);
  uint64_t overhead = 0;  // of a block: lengths, and half a group of each layer
  for (const int width : layers.widths) overhead += 2 + CodeBytes(width) / 2;
  plan->set_estimate(ScaleUp(layers.bits / 8 + statistics.present * kGroup +
                                 statistics.low_bytes,
                             statistics.groups, groups) +
                     blocks * overhead);
  if (plan->estimate() + plan->params().size() >= request.data.size()) {
    return nullptr;
  }
  return plan;
}

}  // namespace

extern const Encoder kCascadeEncoder = {
    .id = 7, .name = "cascade", .plan = MakePlan};

}  // namespace zipllm::codecs
