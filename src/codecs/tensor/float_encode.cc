// Codec 5, float: exponents and the top of mantissas by rANS, the rest in
// planes. Integers only, so that every machine codes alike.
#include <algorithm>
#include <bit>
#include <cstring>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "codecs/sample.h"
#include "codecs/tensor/bit_planes_encode.h"
#include "codecs/tensor/float_format.h"
#include "entropy/rans_tables.h"
#include "kernels/kernels.h"

namespace zipllm::codecs {
namespace {

using namespace float_format;
using entropy::Counts;
using entropy::Frequencies;
using kernels::kGroup;
using kernels::kHasEscape;
using kernels::kHasExtra;
using kernels::kLanes;
using kernels::kMaxSymbols;
using kernels::kSlots;
using kernels::kStateLow;

// ---- Looking at a frame ----

constexpr size_t kKeys = 1024;
using Histogram = std::array<uint32_t, kKeys>;

/// What a sample of a frame looks like.
struct Statistics {
  std::span<const uint16_t> units;  // whole chunks but for the last
  Histogram keys{};
  // Groups looked at that are not all zero, by plane.
  std::array<uint64_t, kMaxPlanes> groups_present{};
};

void CountKeys(const Kind& kind, std::span<const uint16_t> units,
               Histogram* keys) {
  // Four histograms, so that equal neighbours do not wait for each other.
  std::array<Histogram, 4> parts{};
  size_t i = 0;
  for (; i + 4 <= units.size(); i += 4) {
    for (size_t j = 0; j < 4; ++j) ++parts[j][kind.Key(units[i + j])];
  }
  for (; i < units.size(); ++i) ++parts[0][kind.Key(units[i])];
  for (size_t k = 0; k < kKeys; ++k) {
    (*keys)[k] = parts[0][k] + parts[1][k] + parts[2][k] + parts[3][k];
  }
}

/// Looks at all elements up to 64 Ki, above at each sixteenth
/// chunk. The units lie
/// in `buffer`.
Statistics Look(const Kind& kind, ByteSpan data, Buffer* buffer) {
  const size_t count = data.size() / kind.element_size;
  const size_t stride = count <= 65536 ? kChunk : 16 * kChunk;
  const bool wide = kind.element_size == 4;
  const kernels::Table& kernel = kernels::Best();
  buffer->Resize((count + stride - 1) / stride * kChunk * sizeof(uint16_t));
  auto* const first = reinterpret_cast<uint16_t*>(buffer->data());
  uint16_t* units = first;
  Statistics statistics;
  alignas(64) uint16_t low[kChunk] = {};
  for (size_t start = 0; start < count; start += stride) {
    const size_t n = std::min(kChunk, count - start);
    const uint8_t* from = data.data() + start * kind.element_size;
    if (wide) {
      kernel.split_halves(from, n, low, units);
    } else {
      std::memcpy(units, from, n * sizeof *units);
    }
    for (size_t g = 0; g < n; g += kGroup) {
      uint32_t any_unit = 0, any_low = 0;
      for (size_t i = g; i < std::min(g + kGroup, n); ++i) {
        any_unit |= units[i];
        any_low |= low[i];
      }
      for (size_t p = 0; p < kind.planes.size(); ++p) {
        const Plane& plane = kind.planes[p];
        const uint32_t mask = ((1u << plane.width) - 1) << plane.shift;
        statistics.groups_present[p] +=
            ((plane.low ? any_low : any_unit) & mask) != 0;
      }
    }
    units += n;
  }
  statistics.units = {first, units};
  CountKeys(kind, statistics.units, &statistics.keys);
  return statistics;
}

// ---- Choosing symbols ----

/// Which exponents have symbols of their own, ascending.
struct Alphabet {
  struct Entry {
    uint8_t exponent;
    bool joined;
  };
  std::vector<Entry> entries;
  size_t escape = 0;  // the last symbol's number

  /// symbol_of[key]; keys without a symbol have the escape's.
  std::array<uint8_t, kKeys> SymbolOf() const {
    std::array<uint8_t, kKeys> symbol_of;
    symbol_of.fill(static_cast<uint8_t>(escape));
    uint8_t symbol = 0;
    for (const Entry& entry : entries) {
      for (size_t j = 0; j < 4; ++j) {
        symbol_of[size_t{entry.exponent} << 2 | j] = symbol;
        if (entry.joined) ++symbol;
      }
      if (!entry.joined) ++symbol;
    }
    return symbol_of;
  }
};

/// x * log2(x) in 1/65536 bit.
uint64_t XLogX(uint64_t x) {
  return x == 0 ? 0 : x * Log2Q16(static_cast<uint32_t>(x));
}

/// Lists the frequent exponents and joins those where the mantissa's top is
/// skewed most, up to kMaxSymbols symbols; of the ways to share these between
/// listing and joining the one with the fewest bits.
Alphabet ChooseAlphabet(const Statistics& statistics, uint64_t scale) {
  struct Exponent {
    uint8_t number;
    uint64_t count;
    uint64_t gain;  // of joining, in 1/65536 bit
  };
  std::vector<Exponent> exponents;  // that pay for their share of a table
  for (size_t e = 0; e < kKeys / 4; ++e) {
    const uint32_t* keys = &statistics.keys[4 * e];
    const uint64_t count = uint64_t{keys[0]} + keys[1] + keys[2] + keys[3];
    // A listed exponent costs 2 to 3 bytes of parameters and 1/4096 of the
    // code space, an element by escape some 8 bits more.
    if (count * scale < 4 || count * 16384 < statistics.units.size()) continue;
    const uint64_t joined =
        XLogX(keys[0]) + XLogX(keys[1]) + XLogX(keys[2]) + XLogX(keys[3]);
    const uint64_t bare = XLogX(count) - 2 * 65536 * count;
    exponents.push_back(
        {static_cast<uint8_t>(e), count, joined > bare ? joined - bare : 0});
  }
  const auto by_count = [](const Exponent& a, const Exponent& b) {
    return a.count != b.count ? a.count > b.count : a.number < b.number;
  };
  const auto by_gain = [](const Exponent& a, const Exponent& b) {
    return a.gain != b.gain ? a.gain > b.gain : a.number < b.number;
  };
  std::sort(exponents.begin(), exponents.end(), by_count);

  // Joining adds 3 symbols, some 5 bytes; an escaped element 8 bits and its
  // rarity.
  constexpr uint64_t kJoinCost = 40 * 65536;
  constexpr uint64_t kEscapeCost = 10 * 65536;
  Alphabet best;
  uint64_t best_gain = 0;
  for (size_t joins = 0; 4 * joins <= kMaxExponents; ++joins) {
    const size_t listed = std::min(exponents.size(), kMaxExponents - 3 * joins);
    if (joins > listed) break;
    std::vector<Exponent> chosen(exponents.begin(), exponents.begin() + listed);
    std::sort(chosen.begin(), chosen.end(), by_gain);
    uint64_t gain = 0;
    for (size_t i = 0; i < listed; ++i) {
      gain += chosen[i].count * kEscapeCost * scale;
      if (i < joins) gain += chosen[i].gain * scale;
    }
    if (gain < joins * kJoinCost) continue;
    gain -= joins * kJoinCost;
    if (joins > 0 && gain <= best_gain) continue;
    best_gain = gain;
    best.entries.clear();
    for (size_t i = 0; i < listed; ++i) {
      best.entries.push_back({chosen[i].number, i < joins});
    }
    best.escape = listed + 3 * joins;
  }
  std::sort(best.entries.begin(), best.entries.end(),
            [](const Alphabet::Entry& a, const Alphabet::Entry& b) {
              return a.exponent < b.exponent;
            });
  return best;
}

/// What a symbol costs, in 1/65536 bit.
uint64_t CostQ16(uint32_t frequency) {
  return (uint64_t{kernels::kProbabilityBits} << 16) - Log2Q16(frequency);
}

// ---- Choosing tables ----

/// Symbols of a chunk of the sample.
using ChunkCounts = std::array<int16_t, kMaxSymbols>;
static_assert(kChunk <= INT16_MAX);

std::vector<ChunkCounts> CountSymbols(const Kind& kind,
                                      const Alphabet& alphabet,
                                      std::span<const uint16_t> units) {
  const auto symbol_of = alphabet.SymbolOf();
  std::vector<ChunkCounts> chunks;
  chunks.reserve((units.size() + kChunk - 1) / kChunk);
  uint8_t symbols[kChunk];
  for (size_t start = 0; start < units.size(); start += kChunk) {
    const size_t n = std::min(kChunk, units.size() - start);
    kernels::Best().map_symbols(&units[start], n, kind.key_shift, kind.key_mask,
                                symbol_of.data(), symbols);
    std::array<ChunkCounts, 4> parts{};  // as in CountKeys
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
      for (size_t j = 0; j < 4; ++j) ++parts[j][symbols[i + j]];
    }
    for (; i < n; ++i) ++parts[0][symbols[i]];
    ChunkCounts& counts = chunks.emplace_back();
    for (size_t s = 0; s < kMaxSymbols; ++s) {
      counts[s] = static_cast<int16_t>(parts[0][s] + parts[1][s] + parts[2][s] +
                                       parts[3][s]);
    }
  }
  return chunks;
}

struct TableChoice {
  std::vector<Frequencies> tables;
  uint64_t cost = 0;  // of the sample's symbols, in 1/65536 bit
};

/// One table for all chunks.
TableChoice ChooseOneTable(const Counts& total) {
  TableChoice choice{{entropy::Normalize(total)}, 0};
  for (size_t s = 0; s < kMaxSymbols; ++s) {
    if (total[s] > 0) choice.cost += total[s] * CostQ16(choice.tables[0][s]);
  }
  return choice;
}

/// `count` tables for chunks of different scales: k-means by code length
/// (Lloyd 1957), begun with the chunks in the order of their mean symbol.
/// Every symbol in `total` gets a frequency in each.
TableChoice ClusterTables(const std::vector<ChunkCounts>& chunks,
                          const Counts& total, size_t count) {
  constexpr int kRounds = 4;
  std::vector<std::pair<uint64_t, size_t>> order(chunks.size());
  for (size_t c = 0; c < chunks.size(); ++c) {
    uint64_t sum = 0, weight = 0;
    for (size_t s = 0; s < kMaxSymbols; ++s) {
      sum += s * chunks[c][s];
      weight += chunks[c][s];
    }
    order[c] = {(sum << 16) / weight, c};
  }
  std::sort(order.begin(), order.end());
  std::vector<size_t> table_of(chunks.size());
  for (size_t i = 0; i < order.size(); ++i) {
    table_of[order[i].second] = i * count / order.size();
  }

  TableChoice choice;
  // In 1/256 bit: multiplying numbers of 16 bits is fast.
  std::vector<std::array<int16_t, kMaxSymbols>> costs(count);
  for (int round = 0; round < kRounds; ++round) {
    Counts present{};
    for (size_t s = 0; s < kMaxSymbols; ++s) present[s] = total[s] > 0;
    std::vector<Counts> counts(count, present);
    for (size_t c = 0; c < chunks.size(); ++c) {
      for (size_t s = 0; s < kMaxSymbols; ++s) {
        counts[table_of[c]][s] += static_cast<uint64_t>(chunks[c][s]) * 16;
      }
    }
    choice.tables.clear();
    for (size_t t = 0; t < count; ++t) {
      choice.tables.push_back(entropy::Normalize(counts[t]));
      for (size_t s = 0; s < kMaxSymbols; ++s) {
        costs[t][s] = static_cast<int16_t>(
            present[s] ? CostQ16(choice.tables[t][s]) >> 8 : 0);
      }
    }
    choice.cost = 0;
    for (size_t c = 0; c < chunks.size(); ++c) {
      int32_t best = INT32_MAX;
      for (size_t t = 0; t < count; ++t) {
        int32_t cost = 0;
        for (size_t s = 0; s < kMaxSymbols; ++s) {
          cost += chunks[c][s] * costs[t][s];
        }
        if (cost < best) {
          best = cost;
          table_of[c] = t;
        }
      }
      choice.cost += static_cast<uint64_t>(best) << 8;
    }
  }
  return choice;
}

/// As many tables as pay; `scale` is elements per sampled element.
TableChoice ChooseTables(const std::vector<ChunkCounts>& chunks,
                         const Counts& total, uint64_t scale) {
  // A table costs some 40 bytes of parameters, a selector 2 bits a chunk.
  constexpr uint64_t kTableBits = 320;
  constexpr size_t kLeastChunks = 8;
  TableChoice best = ChooseOneTable(total);
  if (chunks.size() < kLeastChunks) return best;
  for (const size_t count : {size_t{2}, kMaxTables}) {
    TableChoice choice = ClusterTables(chunks, total, count);
    choice.cost += (2 * chunks.size() + (count - 1) * kTableBits / scale) << 16;
    if (choice.cost < best.cost) best = std::move(choice);
  }
  return best;
}

// ---- Coding ----

/// The parts of a stream but for the words.
struct StreamTail {
  uint8_t* extra_begin;
  uint8_t* escapes_begin;
  uint8_t* escapes_end;
};

class Plan final : public EncodePlan {
 public:
  Plan(const Kind& kind, int level, const Alphabet& alphabet,
       const std::vector<Frequencies>& tables)
      : kind_(kind),
        level_(level),
        escape_(static_cast<uint8_t>(alphabet.escape)) {
    ByteWriter writer(&params_);
    writer.Le<uint8_t>(kind.number);
    writer.Le(static_cast<uint8_t>(alphabet.entries.size()));
    for (const auto& entry : alphabet.entries) writer.Le(entry.exponent);
    for (size_t i = 0; i < alphabet.entries.size(); i += 8) {
      uint32_t bits = 0;
      for (size_t j = i; j < std::min(i + 8, alphabet.entries.size()); ++j) {
        bits |= uint32_t{alphabet.entries[j].joined} << (j - i);
      }
      writer.Le(static_cast<uint8_t>(bits));
    }
    writer.Le(static_cast<uint8_t>(tables.size()));
    tables_.reserve(tables.size());
    for (const Frequencies& frequencies : tables) {
      for (size_t s = 0; s < alphabet.escape; ++s) {
        writer.Varint(frequencies[s]);
      }
      for (size_t s = 0; s < kMaxSymbols; ++s) {
        const uint64_t cost =
            frequencies[s] == 0 ? 0 : CostQ16(frequencies[s]) >> 12;
        costs_[s] |= cost << (16 * tables_.size());
      }
      entropy::BuildEncodeTable(frequencies, &tables_.emplace_back());
    }
    map_.fill(static_cast<uint8_t>(alphabet.escape | kHasExtra | kHasEscape));
    size_t symbol = 0;
    for (const auto& entry : alphabet.entries) {
      const uint32_t flags = entry.joined ? 0 : kHasExtra;
      for (size_t j = 0; j < 4; ++j) {
        // Keys that the sample did not show have no frequency: they escape.
        if (tables[0][symbol] != 0) {
          map_[size_t{entry.exponent} << 2 | j] =
              static_cast<uint8_t>(symbol | flags);
        }
        symbol += entry.joined || j == 3;
      }
    }
  }

  ByteSpan params() const override { return params_.span(); }
  uint64_t estimate() const override { return estimate_; }
  void set_estimate(uint64_t bytes) { estimate_ = bytes; }
  bool Encode(ByteSpan block, Scratch& scratch, Buffer* out) const override;

 private:
  size_t Select(const uint8_t* symbols, size_t count) const;

  const Kind& kind_;
  int level_;
  uint8_t escape_;
  std::array<uint8_t, kKeys> map_;  // of keys to symbols and flags
  std::vector<kernels::RansEncodeTable> tables_;
  // By symbol: what it costs in each table, in 1/16 bit, 16 bits a table.
  std::array<uint64_t, kMaxSymbols> costs_{};
  Buffer params_;
  uint64_t estimate_ = 0;
};

/// The table that codes a chunk in the fewest bits, by every fourth row of its
/// symbols: at most 256, so that no sum exceeds 16 bits.
size_t Plan::Select(const uint8_t* symbols, size_t count) const {
  uint64_t costs = 0;
  for (size_t row = 0; row < count; row += 4 * kLanes) {
    for (size_t i = row; i < row + kLanes; ++i) costs += costs_[symbols[i]];
  }
  size_t best = 0;
  const auto cost = [costs](size_t t) { return costs >> (16 * t) & 0xFFFF; };
  for (size_t t = 1; t < tables_.size(); ++t) {
    if (cost(t) < cost(best)) best = t;
  }
  return best;
}

bool Plan::Encode(ByteSpan block, Scratch& scratch, Buffer* out) const {
  if (block.size() < kind_.element_size ||
      block.size() % kind_.element_size != 0) {
    return false;
  }
  const kernels::Table& kernel = kernels::Best();
  const Shape shape(block.size() / kind_.element_size);
  const size_t streams = static_cast<size_t>(shape.streams);

  // Scratch: symbols; planes; words, extra bits and escapes of each stream;
  // bitmaps of the groups that are not zero.
  Buffer& symbols = scratch.buffers[0];
  symbols.Resize(shape.steps * shape.step);
  PlaneWriter planes(kind_.planes, shape.groups, &scratch.buffers[1],
                     &scratch.buffers[3]);
  const size_t lanes = shape.steps * kLanes;  // elements of a stream, padded
  const size_t extra_room = lanes / 4 + 8;
  Buffer& tails = scratch.buffers[2];
  tails.Resize(streams * (2 * lanes + extra_room + lanes));
  std::array<uint8_t*, kernels::kMaxStreams> words_end;
  std::array<StreamTail, kernels::kMaxStreams> tail;
  std::array<kernels::BitSink, kernels::kMaxStreams> sinks;
  for (size_t s = 0; s < streams; ++s) {
    words_end[s] = tails.data() + (s + 1) * 2 * lanes;
    uint8_t* rest =
        tails.data() + streams * 2 * lanes + s * (extra_room + lanes);
    sinks[s] = {rest, 0, 0};
    tail[s].extra_begin = rest;
    tail[s].escapes_begin = tail[s].escapes_end = rest + extra_room;
  }
  const auto words_begin = words_end;
  std::vector<uint8_t> selectors(tables_.size() > 1 ? (shape.chunks + 3) / 4
                                                    : 0);

  const bool wide = kind_.element_size == 4;
  alignas(64) uint16_t units[kChunk];
  alignas(64) uint16_t low[kChunk];
  for (size_t c = 0; c < shape.chunks; ++c) {
    const size_t count = shape.ChunkCount(c);
    const size_t padded = shape.ChunkSteps(c) * shape.step;
    const size_t groups = (count + kGroup - 1) / kGroup;
    const uint8_t* from = block.data() + c * kChunk * kind_.element_size;
    if (wide) {
      kernel.split_halves(from, count, low, units);
      std::fill(low + count, low + groups * kGroup, uint16_t{0});
    } else {
      std::memcpy(units, from, count * sizeof *units);
    }
    const uint16_t last = units[count - 1];
    std::fill(units + count, units + groups * kGroup, uint16_t{0});
    static_assert(kChunk / kGroup == 8);
    planes.Take(units, low, c * (kChunk / kGroup), groups);
    // rANS repeats the last element where planes have zeros.
    std::fill(units + count, units + padded, last);
    uint8_t* chunk = symbols.data() + c * kChunk;
    kernel.map_symbols(units, padded, kind_.key_shift, kind_.key_mask,
                       map_.data(), chunk);
    const uint8_t flags =
        kernel.take_extra(units, kind_.key_shift, padded / kLanes,
                          shape.streams, chunk, sinks.data());
    if (flags & kHasEscape) {
      for (size_t i = 0; i < padded; ++i) {
        if (chunk[i] != escape_) continue;
        *tail[i / kLanes % streams].escapes_end++ =
            static_cast<uint8_t>(kind_.Key(units[i]) >> 2);
      }
    }
    if (!selectors.empty()) {
      selectors[c / 4] = static_cast<uint8_t>(
          selectors[c / 4] | Select(chunk, padded) << (c % 4 * 2));
    }
  }

  alignas(64) uint32_t states[kernels::kMaxStreams * kLanes];
  std::fill(std::begin(states), std::end(states), kStateLow);
  for (size_t c = shape.chunks; c-- > 0;) {
    const uint8_t* chunk = symbols.data() + c * kChunk;
    const size_t table =
        selectors.empty() ? 0 : (selectors[c / 4] >> (c % 4 * 2)) & 3;
    kernel.rans_encode(states, shape.streams, tables_[table], chunk,
                       shape.ChunkSteps(c), words_end.data());
  }

  const size_t start = out->size();
  ByteWriter writer(out);
  for (size_t s = 0; s < streams; ++s) {
    writer.Varint(static_cast<uint64_t>(words_begin[s] - words_end[s]) / 2);
    writer.Varint(
        (8 * static_cast<uint64_t>(sinks[s].to - tail[s].extra_begin) +
         sinks[s].held_bits) /
        2);
    writer.Varint(
        static_cast<uint64_t>(tail[s].escapes_end - tail[s].escapes_begin));
  }
  writer.Bytes(selectors);
  for (size_t s = 0; s < streams; ++s) {
    writer.Bytes(
        {reinterpret_cast<const uint8_t*>(states + s * kLanes), 4 * kLanes});
    writer.Bytes({words_end[s], words_begin[s]});
    writer.Bytes(
        {tail[s].extra_begin, sinks[s].to + (sinks[s].held_bits != 0 ? 1 : 0)});
    writer.Bytes({tail[s].escapes_begin, tail[s].escapes_end});
  }
  planes.Append(level_, &symbols, out);
  const bool smaller = out->size() - start < block.size();
  if (!smaller) out->Resize(start);
  return smaller;
}

// ---- Planning ----

constexpr int kMinLevel = 2;  // codec 7 is for the one below

std::unique_ptr<EncodePlan> MakePlan(const EncodeRequest& request,
                                     Scratch& scratch) {
  const Kind* kind = FindKind(kKinds, request.dtype);
  if (kind == nullptr || request.level < kMinLevel ||
      request.data.size() < kind->element_size) {
    return nullptr;
  }
  const size_t count = request.data.size() / kind->element_size;
  const Statistics statistics = Look(*kind, request.data, &scratch.buffers[0]);
  const uint64_t scale = count / statistics.units.size();
  const Alphabet alphabet = ChooseAlphabet(statistics, scale);
  const std::vector<ChunkCounts> chunks =
      CountSymbols(*kind, alphabet, statistics.units);
  Counts counts{};
  for (const ChunkCounts& chunk : chunks) {
    for (size_t s = 0; s < kMaxSymbols; ++s) counts[s] += chunk[s];
  }
  const uint64_t escapes = counts[alphabet.escape];
  counts[alphabet.escape] += escapes == 0;  // whatever comes can be coded
  const TableChoice choice = ChooseTables(chunks, counts, scale);

  uint64_t extra_pairs = escapes;
  size_t symbol = 0;
  for (const auto& entry : alphabet.entries) {
    if (!entry.joined) extra_pairs += counts[symbol];
    symbol += entry.joined ? 4 : 1;
  }
  const uint64_t bits = (choice.cost >> 16) + 2 * extra_pairs + 8 * escapes;
  uint64_t plane_bytes = 0;
  for (size_t p = 0; p < kind->planes.size(); ++p) {
    plane_bytes += statistics.groups_present[p] * kind->planes[p].group_bytes();
  }
  const uint64_t coded = bits / 8 + plane_bytes;
  const size_t blocks =
      (request.data.size() + request.block_size - 1) / request.block_size;
  const Shape shape(std::min(request.block_size, request.data.size()) /
                    kind->element_size);
  const uint64_t overhead =
      blocks * (static_cast<uint64_t>(shape.streams) * (4 * kLanes + 7) +
                kind->planes.size());
  auto plan =
      std::make_unique<Plan>(*kind, request.level, alphabet, choice.tables);
  plan->set_estimate(ScaleUp(coded, statistics.units.size(), count) + overhead);
  if (plan->estimate() + plan->params().size() >= request.data.size()) {
    return nullptr;
  }
  return plan;
}

}  // namespace

extern const Encoder kFloatEncoder = {
    .id = 5, .name = "float", .plan = MakePlan};

}  // namespace zipllm::codecs
