// Residuals: the encoder.
#include <algorithm>
#include <bit>
#include <cstring>

#include "base/log2.h"
#include "codecs/reference/residuals.h"
#include "codecs/reference/residuals_models.h"
#include "entropy/binary_coder.h"
#include "kernels/kernels.h"

namespace zipllm::codecs::residuals {
namespace {

using entropy::BinaryEncoder;
using entropy::ByteCounts;
using kernels::kProbabilityBits;

// ---- Symbols ----

template <typename Word>
Difference DifferenceOf(Number number, Word element, Word prediction) {
  constexpr int kBits = 8 * sizeof(Word);
  // The lowest bits are the difference; above, its sign.
  uint64_t wide = uint64_t{element} - prediction;
  int shift = 64 - kBits;
  bool crosses = false;
  if (number == Number::kFloat) {
    ++shift;
    crosses = ((element ^ prediction) >> (kBits - 1)) != 0;
  }
  const auto difference = static_cast<int64_t>(wide << shift) >> shift;
  const bool negative = difference < 0;
  return {negative ? 0 - static_cast<uint64_t>(difference)
                   : static_cast<uint64_t>(difference),
          negative, crosses};
}

uint8_t SymbolOf(const Alphabet& alphabet, const Difference& d) {
  if (d.crosses) {
    return static_cast<uint8_t>(alphabet.crossing +
                                std::bit_width(d.magnitude));
  }
  if (d.magnitude < uint64_t{1} << kDirectBits) {
    return static_cast<uint8_t>(2 * d.magnitude -
                                uint64_t{d.magnitude != 0 && !d.negative});
  }
  const int octave = static_cast<int>(std::bit_width(d.magnitude)) - 1;
  const Alphabet::Octave& of = alphabet.octaves[static_cast<size_t>(octave)];
  const uint64_t sub =
      (d.magnitude >> (octave - of.sub_bits)) - (uint64_t{1} << of.sub_bits);
  return static_cast<uint8_t>(
      of.first + (alphabet.raw_signs ? sub : 2 * sub + uint64_t{d.negative}));
}

// ---- Classes ----

/// Symbols of some contexts together. Costs are in 1/65536 bit.
struct Cluster {
  ByteCounts counts{};
  uint64_t cost = 0;  // of the symbols, and of their table
  bool empty = true;

  /// What symbols of these counts take; adds to `*tables` what their table
  /// does.
  static uint64_t SymbolsCost(const ByteCounts& counts, size_t size,
                              uint64_t* tables) {
    // A table tells what symbols occur in about as many bits each.
    constexpr uint64_t kSymbolBits = 4;
    constexpr uint64_t kTableBits = 4;
    uint64_t total = 0;
    uint64_t sum = 0;
    uint64_t used = 0;
    for (size_t s = 0; s < size; ++s) {
      if (counts[s] == 0) continue;
      ++used;
      total += counts[s];
      sum += uint64_t{counts[s]} * FastLog2(counts[s]);
    }
    if (total == 0) return 0;
    *tables += (used * kSymbolBits + kTableBits) << 16;
    return total * FastLog2(static_cast<uint32_t>(total)) - sum;
  }

  /// What a cluster of both takes.
  static uint64_t Cost(const ByteCounts& a, const ByteCounts& b, size_t size) {
    ByteCounts both;
    for (size_t s = 0; s < size; ++s) both[s] = a[s] + b[s];
    uint64_t tables = 0;
    const uint64_t symbols = SymbolsCost(both, size, &tables);
    return symbols + tables;
  }
};

/// Two clusters that may become one, and what that saves.
struct Edge {
  size_t a;
  size_t b;
  int64_t gain;
};

/// Merges contexts of the grid, best first, as long as it pays or there are too
/// many; returns by context one that stands for its cluster.
std::vector<size_t> MergeContexts(const ResidualCounts& counts,
                                  const ContextGrid& grid, size_t symbols,
                                  std::vector<Cluster>* clusters) {
  static constexpr ByteCounts kNone{};
  const size_t contexts = counts.contexts();
  clusters->resize(contexts);
  size_t left = 0;
  for (size_t c = 0; c < contexts; ++c) {
    Cluster& cluster = (*clusters)[c];
    cluster.counts = counts[c];
    cluster.cost = Cluster::Cost(cluster.counts, kNone, symbols);
    cluster.empty = cluster.cost == 0;
    left += !cluster.empty;
  }
  const auto gain = [&](size_t a, size_t b) {
    const Cluster& x = (*clusters)[a];
    const Cluster& y = (*clusters)[b];
    return static_cast<int64_t>(x.cost + y.cost) -
           static_cast<int64_t>(Cluster::Cost(x.counts, y.counts, symbols));
  };
  std::vector<Edge> edges;
  // To the next that is not empty, along the row and along the column.
  const size_t columns = std::min(grid.columns, contexts);
  for (size_t c = 0; c < contexts; ++c) {
    if ((*clusters)[c].empty) continue;
    const auto link = [&](size_t step, size_t end) {
      for (size_t d = c + step; d < end; d += step) {
        if ((*clusters)[d].empty) continue;
        edges.push_back({c, d, gain(c, d)});
        break;
      }
    };
    link(1, std::min(c / columns * columns + columns, contexts));
    link(columns, contexts);
  }
  std::vector<size_t> leader(contexts);
  for (size_t c = 0; c < contexts; ++c) leader[c] = c;
  const size_t most = std::min(grid.max_classes, entropy::kMaxClasses);
  while (!edges.empty()) {
    const auto best = std::max_element(
        edges.begin(), edges.end(),
        [](const Edge& x, const Edge& y) { return x.gain < y.gain; });
    if (best->gain <= 0 && left <= most) break;
    const size_t a = best->a;
    const size_t b = best->b;
    Cluster& into = (*clusters)[a];
    Cluster& from = (*clusters)[b];
    for (size_t s = 0; s < symbols; ++s) into.counts[s] += from.counts[s];
    into.cost = static_cast<uint64_t>(
        static_cast<int64_t>(into.cost + from.cost) - best->gain);
    from.empty = true;
    --left;
    for (size_t& of : leader) {
      if (of == b) of = a;
    }
    std::vector<Edge> kept;
    for (Edge edge : edges) {
      const bool touches =
          edge.a == a || edge.b == a || edge.a == b || edge.b == b;
      if (edge.a == b) edge.a = a;
      if (edge.b == b) edge.b = a;
      if (edge.a == edge.b) continue;
      if (touches) {
        if (edge.a > edge.b) std::swap(edge.a, edge.b);
        const bool known = std::any_of(
            kept.begin(), kept.end(),
            [&](const Edge& x) { return x.a == edge.a && x.b == edge.b; });
        if (known) continue;
        edge.gain = gain(edge.a, edge.b);
      }
      kept.push_back(edge);
    }
    edges = std::move(kept);
  }
  return leader;
}

/// Sums up what coded bits take, in 1/65536 bit.
class CostCounter {
 public:
  bool Code(bool bit, uint32_t p) {
    cost_ += (16 << 16) - FastLog2(bit ? p : 65536 - p);
    return bit;
  }
  uint64_t cost() const { return cost_; }

 private:
  uint64_t cost_ = 0;
};

/// Bits that counted symbols take without tables: about, since it depends on
/// their order and on raw bits, too.
uint64_t CostOfFew(const Alphabet& alphabet, const ResidualCounts& counts) {
  CostCounter counter;
  FewCoder coder(counts.contexts(), counter);
  for (size_t c = 0; c < counts.contexts(); ++c) {
    for (size_t s = 0; s < alphabet.size; ++s) {
      const Alphabet::Symbol& symbol = alphabet.symbols[s];
      const uint64_t low =
          0x5555555555555555 & ((uint64_t{1} << symbol.low_bits) - 1);
      for (uint32_t i = 0; i < counts[c][s]; ++i) {
        coder.Code({.magnitude = symbol.base + low,
                    .negative = symbol.raw_sign ? i % 2 != 0 : symbol.negative,
                    .crosses = symbol.crosses},
                   c);
      }
    }
  }
  return counter.cost() >> 16;
}

/// The level of each symbol that occurs.
ClassLevels LevelsOf(const ByteCounts& counts, size_t symbols) {
  ClassLevels levels{};
  uint32_t total = 0;
  for (size_t s = 0; s < symbols; ++s) total += counts[s];
  for (size_t s = 0; s < symbols; ++s) {
    if (counts[s] == 0) continue;
    const int64_t log2 = int64_t{FastLog2(counts[s])} +
                         (int64_t{kProbabilityBits} << 16) - FastLog2(total);
    const int64_t level = ((8 * log2 + (1 << 15)) >> 16) + 1;
    levels[s] =
        static_cast<uint8_t>(std::clamp<int64_t>(level, 1, kLevels - 1));
  }
  return levels;
}

// ---- Blocks ----

/// Appends raw bits, lowest first.
class RawWriter {
 public:
  /// `room` bytes and 16 more are there at `to`.
  explicit RawWriter(uint8_t* to) : start_(to), to_(to) {}
  /// At most 56 bits.
  void Put(uint64_t value, int count) {
    held_ |= value << held_bits_;
    held_bits_ += count;
    StoreLe(to_, held_);
    const int bytes = held_bits_ / 8;
    to_ += bytes;
    held_ = bytes == 8 ? 0 : held_ >> (8 * bytes);
    held_bits_ %= 8;
  }
  size_t Finish() {
    StoreLe(to_, held_);
    return static_cast<size_t>(to_ - start_) + (held_bits_ != 0);
  }

 private:
  uint8_t* start_;
  uint8_t* to_;
  uint64_t held_ = 0;
  int held_bits_ = 0;  // below 8
};

}  // namespace

uint32_t FastLog2(uint32_t x) {
  static const auto* const table = [] {
    auto* const made = new std::array<uint32_t, 8192>;
    for (uint32_t i = 1; i < made->size(); ++i) (*made)[i] = Log2Q16(i);
    return made;
  }();
  const int shift = std::max(static_cast<int>(std::bit_width(x)) - 13, 0);
  return (*table)[x >> shift] + (static_cast<uint32_t>(shift) << 16);
}

uint64_t ResidualCounts::Cost(const Alphabet& alphabet, uint64_t total) const {
  uint64_t counted = 0;
  uint64_t symbols = 0;
  uint64_t tables = 0;
  uint64_t raw_bits = 0;
  for (size_t c = 0; c < counts_.size(); c += 2) {
    ByteCounts both = counts_[c];
    if (c + 1 < counts_.size()) {
      for (size_t s = 0; s < alphabet.size; ++s) both[s] += counts_[c + 1][s];
    }
    symbols += Cluster::SymbolsCost(both, alphabet.size, &tables);
    for (size_t s = 0; s < alphabet.size; ++s) {
      counted += both[s];
      raw_bits += uint64_t{both[s]} * alphabet.symbols[s].raw_bits();
    }
  }
  if (counted == 0) return 0;
  return ((symbols >> 16) + raw_bits) * total / counted + (tables >> 16);
}

void ResidualCounts::Add(const uint8_t* contexts, const uint8_t* symbols,
                         size_t count) {
  // By turns in two tables: a count need not wait for the one before.
  const size_t pairs = count >= (size_t{1} << 16) ? count / 2 : 0;
  std::vector<entropy::ByteCounts> second(pairs != 0 ? counts_.size() : 0);
  entropy::ByteCounts* const even = counts_.data();
  entropy::ByteCounts* const odd = second.data();
  for (size_t i = 0; i < 2 * pairs; i += 2) {
    ++even[contexts[i]][symbols[i]];
    ++odd[contexts[i + 1]][symbols[i + 1]];
  }
  for (size_t i = 2 * pairs; i < count; ++i) ++even[contexts[i]][symbols[i]];
  for (size_t c = 0; c < second.size(); ++c) {
    for (size_t s = 0; s < second[c].size(); ++s) even[c][s] += odd[c][s];
  }
}

void ToSymbols(const Alphabet& alphabet, const uint8_t* elements,
               const uint8_t* predictions, size_t count, uint8_t* symbols) {
  if (alphabet.element_size <= 4) {
    kernels::Best().residual_symbols(
        elements, predictions, alphabet.element_size,
        alphabet.number == Number::kFloat, count, symbols);
    return;
  }
  for (size_t i = 0; i < count; ++i) {
    symbols[i] =
        SymbolOf(alphabet, DifferenceOf(alphabet.number,
                                        LoadLe<uint64_t>(elements + 8 * i),
                                        LoadLe<uint64_t>(predictions + 8 * i)));
  }
}

ResidualEncoder::ResidualEncoder(const Alphabet& alphabet,
                                 const ResidualCounts& counts,
                                 const ContextGrid& grid)
    : alphabet_(&alphabet), contexts_(counts.contexts()) {
  uint64_t total = 0;
  for (size_t c = 0; c < contexts_; ++c) {
    for (size_t s = 0; s < alphabet.size; ++s) total += counts[c][s];
  }
  if (total < kFewElements) {
    cost_ = CostOfFew(alphabet, counts);
    *written_.Extend(1) = 0;
    return;
  }
  std::vector<Cluster> clusters;
  const std::vector<size_t> leader =
      MergeContexts(counts, grid, alphabet.size, &clusters);
  // Classes are numbered as they come; contexts that do not occur go with the
  // one before.
  std::array<uint8_t, kMaxContexts> number;
  number.fill(entropy::kMaxClasses);
  std::vector<size_t> of_class;
  uint8_t last = 0;
  for (size_t c = 0; c < contexts_; ++c) {
    if (!clusters[leader[c]].empty) {
      uint8_t& of = number[leader[c]];
      if (of == entropy::kMaxClasses) {
        of = static_cast<uint8_t>(of_class.size());
        of_class.push_back(leader[c]);
      }
      last = of;
    }
    class_of_[c] = last;
  }

  Buffer coded;
  BinaryEncoder bits(&coded);
  CodeClasses(bits, std::span(class_of_).first(contexts_));
  LevelCoder level_coder(alphabet, bits);
  entropy::ClassFrequencies tables;
  uint64_t cost = 0;
  for (const size_t c : of_class) {
    const ByteCounts& of = clusters[c].counts;
    ClassLevels levels = LevelsOf(of, alphabet.size);
    level_coder.Code(&levels);
    tables.push_back(FrequenciesOf(levels));
    for (size_t s = 0; s < alphabet.size; ++s) {
      if (of[s] == 0) continue;
      cost += of[s] *
              ((uint64_t{kProbabilityBits} << 16) - FastLog2(tables.back()[s]));
      cost_ += uint64_t{of[s]} * alphabet.symbols[s].raw_bits();
    }
  }
  cost_ += cost >> 16;
  bits.Finish();
  ByteWriter(&written_).Varint(coded.size());
  written_.Append(coded.span());
  tables_ = std::make_unique<const entropy::ClassEncodeTables>(tables);
}

void ResidualEncoder::Encode(const uint8_t* contexts, const uint8_t* symbols,
                             const uint8_t* elements,
                             const uint8_t* predictions, size_t count,
                             Buffer* a, Buffer* b, Buffer* out) const {
  if (tables_ == nullptr) {
    b->Clear();
    BinaryEncoder bits(b);
    FewCoder coder(contexts_, bits);
    ForWord(*alphabet_, [&]<typename Word>() {
      for (size_t i = 0; i < count; ++i) {
        coder.Code(DifferenceOf(alphabet_->number,
                                LoadLe<Word>(elements + i * sizeof(Word)),
                                LoadLe<Word>(predictions + i * sizeof(Word))),
                   contexts[i]);
      }
    });
    bits.Finish();
    ByteWriter(out).Varint(b->size());
    out->Append(b->span());
    return;
  }
  a->Resize(count);
  uint8_t* const classes = a->data();
  kernels::Best().map_bytes(contexts, count, class_of_.data(), classes);
  entropy::EncodeClassRans(*tables_, symbols, classes, count, b, out);

  std::array<uint8_t, 256> raw_bits;
  for (size_t s = 0; s < raw_bits.size(); ++s) {
    raw_bits[s] = alphabet_->symbols[s].raw_bits();
  }
  ForWord(*alphabet_, [&]<typename Word>() {
    b->Resize(count * sizeof(Word) + 16);
    RawWriter raw(b->data());
    ForInexact(symbols, count, [&](size_t i) {
      const int width = raw_bits[symbols[i]];
      if (width == 0) return;
      const Alphabet::Symbol& symbol = alphabet_->symbols[symbols[i]];
      const Difference d = DifferenceOf(
          alphabet_->number, LoadLe<Word>(elements + i * sizeof(Word)),
          LoadLe<Word>(predictions + i * sizeof(Word)));
      uint64_t value = d.magnitude - symbol.base;
      if (symbol.raw_sign) value |= uint64_t{d.negative} << symbol.low_bits;
      if (sizeof(Word) == 8) {
        const int low = std::min(width, 32);
        raw.Put(value & ((uint64_t{1} << low) - 1), low);
        if (width > low) raw.Put(value >> low, width - low);
      } else {
        raw.Put(value, width);
      }
    });
    b->Resize(raw.Finish());
  });
  ByteWriter(out).Varint(b->size());
  out->Append(b->span());
}

}  // namespace zipllm::codecs::residuals
