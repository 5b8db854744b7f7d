// Codec 8, classes: symbols by rANS with a table by the scale of their row and
// column, the rest in planes. Integers only, so that every machine codes alike.
#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/log2.h"
#include "codecs/sample.h"
#include "codecs/tensor/bit_planes_encode.h"
#include "codecs/tensor/classes_format.h"
#include "entropy/bits.h"
#include "entropy/class_rans.h"
#include "kernels/kernels.h"

namespace zipllm::codecs {
namespace {

using namespace classes_format;
using entropy::AdaptiveRice;
using entropy::BitWriter;
using entropy::ByteCounts;
using kernels::kGroup;

constexpr int kMinLevelBytes = 2;
constexpr int kMinLevelUnits = 6;

// ---- Types ----

/// How the magnitude of an element follows from its key.
enum class Magnitude {
  kEighths,   // an eighth of an octave a key: exponent, 3 bits of mantissa
  kQuarters,  // exponent, 2 bits of mantissa
  kSigned,    // two's complement
  kCentered,  // distance from the median
};

struct Type {
  const Kind* kind;
  Magnitude magnitude = Magnitude::kCentered;
  int group_bits = 2;  // of keys that occur too rarely to have symbols
  // So many symbols for so many elements.
  uint64_t symbols = 1;
  uint64_t elements = 1;
};

/// kind is null where the codec is not for the type.
Type TypeOf(DType dtype) {
  const Kind* const bytes = &kKinds[0];
  const Kind* const signed_bytes = &kKinds[1];
  switch (dtype) {
    case DType::kBF16:
      return {&kKinds[2], Magnitude::kEighths, 3};
    case DType::kF16:
      return {&kKinds[3], Magnitude::kEighths, 3};
    case DType::kF32:
      return {&kKinds[4], Magnitude::kEighths, 3};
    case DType::kF8E4M3:
    case DType::kF8E4M3FNUZ:
      return {signed_bytes, Magnitude::kEighths, 3};
    case DType::kF8E5M2:
    case DType::kF8E5M2FNUZ:
      return {signed_bytes, Magnitude::kQuarters, 2};
    case DType::kI8:
      return {bytes, Magnitude::kSigned};
    case DType::kU8:
    case DType::kBool:
    case DType::kF8E8M0:
      return {bytes};
    case DType::kF4:
      return {bytes, Magnitude::kCentered, 2, 1, 2};
    // Often several small numbers packed into one.
    case DType::kI16:
    case DType::kU16:
      return {bytes, Magnitude::kCentered, 2, 2, 1};
    case DType::kI32:
    case DType::kU32:
      return {bytes, Magnitude::kCentered, 2, 4, 1};
    default:
      return {nullptr};
  }
}

// ---- Symbols of a frame ----

/// An element, if it is larger than 16 bits its high half.
uint16_t Unit(const Kind& kind, const uint8_t* element) {
  if (kind.element_size == 1) return *element;
  return LoadLe<uint16_t>(element + kind.element_size - 2);
}

using KeyCounts = std::vector<uint32_t>;

/// How often each key occurs in a part of the frame.
KeyCounts CountKeys(const Kind& kind, ByteSpan data) {
  constexpr size_t kRun = 512;
  const size_t count = data.size() / kind.element_size;
  const size_t stride = std::max<size_t>(1, count / (size_t{1} << 18)) * kRun;
  KeyCounts counts(size_t{1} << kind.key_bits);
  for (size_t start = 0; start < count; start += stride) {
    for (size_t i = start; i < std::min(start + kRun, count); ++i) {
      ++counts[kind.Key(Unit(kind, data.data() + i * kind.element_size))];
    }
  }
  return counts;
}

/// What symbols stand for: those below `exact` for a key, others for a group of
/// 2^group_bits keys, both ascending.
struct Alphabet {
  std::vector<uint16_t> keys;  // the first key, by symbol
  size_t exact = 0;
  int group_bits = 0;

  /// By key; `escape` for those that are not listed.
  std::vector<uint8_t> SymbolOf(const Kind& kind) const {
    std::vector<uint8_t> symbol_of(size_t{1} << kind.key_bits, kind.escape());
    for (size_t s = 0; s < keys.size(); ++s) {
      const size_t width = s < exact ? 1 : size_t{1} << group_bits;
      std::fill_n(symbol_of.begin() + keys[s], width, static_cast<uint8_t>(s));
    }
    return symbol_of;
  }
};

/// Lists keys, or groups of them, or neither, whichever promises to take the
/// least. A symbol takes a 4096th of all codes, however rare it is.
Alphabet ChooseAlphabet(const Type& type, const KeyCounts& counts) {
  struct Entry {
    uint32_t count;
    uint16_t key;
    bool is_group;
  };
  constexpr uint64_t kListed = 20 << 16;  // what a symbol takes in parameters
  const Kind& kind = *type.kind;
  uint32_t total = 0;
  for (uint32_t count : counts) total += count;
  const uint32_t least =
      std::max<uint32_t>(1, total / (kind.has_sign ? 2048 : 4096));
  const auto cost = [&](uint32_t count) {
    if (count == 0) return uint64_t{0};
    const uint32_t share = std::max(count, least);
    return uint64_t{count} * (Log2Q16(total) - Log2Q16(share)) +
           uint64_t{share - count} * 94548 + kListed;  // log2(e)
  };
  std::vector<Entry> entries;
  const size_t width = size_t{1} << type.group_bits;
  for (size_t group = 0; group < counts.size(); group += width) {
    uint32_t sum = 0;
    uint64_t exact_cost = 0;
    for (size_t k = group; k < group + width; ++k) {
      sum += counts[k];
      exact_cost += cost(counts[k]);
    }
    if (sum == 0) continue;
    const uint64_t group_cost =
        cost(sum) +
        (uint64_t{sum} * static_cast<uint32_t>(type.group_bits) << 16);
    const uint64_t escape_cost = uint64_t{sum} * (uint32_t{kind.key_bits} + 12)
                                 << 16;
    if (escape_cost < std::min(exact_cost, group_cost)) continue;
    if (group_cost < exact_cost) {
      entries.push_back({sum, static_cast<uint16_t>(group), true});
      continue;
    }
    for (size_t k = group; k < group + width; ++k) {
      if (counts[k] != 0) {
        entries.push_back({counts[k], static_cast<uint16_t>(k), false});
      }
    }
  }
  if (entries.size() > kind.escape()) {
    std::stable_sort(
        entries.begin(), entries.end(),
        [](const Entry& a, const Entry& b) { return a.count > b.count; });
    entries.resize(kind.escape());
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return a.is_group != b.is_group ? b.is_group : a.key < b.key;
  });
  Alphabet alphabet;
  alphabet.group_bits = type.group_bits;
  for (const Entry& entry : entries) {
    alphabet.keys.push_back(entry.key);
    alphabet.exact += !entry.is_group;
  }
  return alphabet;
}

/// Magnitudes in eighths of an octave, by symbol: 0 to 255.
using Levels = std::array<uint8_t, 256>;

/// `raw` magnitudes, shifted so that most of what occurs is within 0 to 127.
Levels FitLevels(const std::array<uint32_t, 256>& raw,
                 const ByteCounts& counts) {
  std::array<uint32_t, 256> order;
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(),
                   [&](uint32_t a, uint32_t b) { return raw[a] > raw[b]; });
  uint64_t total = 0;
  for (uint32_t count : counts) total += count;
  uint64_t above = 0;
  uint32_t top = 0;
  for (uint32_t symbol : order) {
    above += counts[symbol];
    top = raw[symbol];
    if (above > total / 1024) break;
  }
  const uint32_t base = top > 112 ? top - 112 : 0;
  Levels levels;
  for (size_t s = 0; s < levels.size(); ++s) {
    levels[s] = static_cast<uint8_t>(
        std::min<uint32_t>(raw[s] > base ? raw[s] - base : 0, 127));
  }
  return levels;
}

Levels LevelsOf(const Type& type, const Alphabet& alphabet,
                const KeyCounts& key_counts, const ByteCounts& counts) {
  const auto log2 = [](uint32_t distance) {
    return Log2Q16(2 * distance + 1) >> 13;
  };
  uint64_t total = 0;
  for (uint32_t count : key_counts) total += count;
  uint32_t median = 0;
  for (uint64_t below = key_counts[0]; 2 * below < total;) {
    below += key_counts[++median];
  }
  const auto level = [&](uint32_t key) {
    switch (type.magnitude) {
      case Magnitude::kEighths:
        return key;
      case Magnitude::kQuarters:
        return 2 * key;
      case Magnitude::kSigned:
        return log2(key < 128 ? key : 256 - key);
      default:
        return log2(key > median ? key - median : median - key);
    }
  };
  // Of escapes, which are rare, nothing is known.
  std::array<uint32_t, 256> raw;
  raw.fill(level(median));
  for (uint32_t s = 0; s < 256; ++s) {
    const uint32_t symbol = s & type.kind->escape();
    if (symbol >= alphabet.keys.size()) continue;
    const uint32_t middle =
        symbol < alphabet.exact ? 0 : (1u << alphabet.group_bits) / 2;
    raw[s] = level(alphabet.keys[symbol] + middle);
  }
  return FitLevels(raw, counts);
}

// ---- Rows and columns ----

/// A frame's elements as rows of symbols.
struct Grid {
  std::vector<uint8_t> symbols;
  uint64_t row = 1;    // elements
  uint64_t phase = 0;  // column of the first
  bool has_columns = false;

  size_t rows() const {
    return static_cast<size_t>((phase + symbols.size() - 1) / row + 1);
  }
  /// Calls body(row number, column, symbols) for the part of each `stride`-th
  /// row that is in the frame.
  template <typename Body>
  void ForRows(size_t stride, const Body& body) const {
    for (size_t r = 0; r < rows(); r += stride) {
      const uint64_t begin = std::max(r * row, phase);
      const uint64_t end = std::min((r + 1) * row, phase + symbols.size());
      body(r, begin - r * row,
           std::span(symbols.data() + (begin - phase),
                     static_cast<size_t>(end - begin)));
    }
  }
};

/// Divides the frame into rows: those of the tensor if they are worth offsets
/// (some of them together where they are short), else pieces.
void SetRows(const Type& type, const EncodeRequest& request, Grid* grid) {
  constexpr uint64_t kLeastRow = 64;
  constexpr uint64_t kPieceRow = 512;
  const uint64_t count = grid->symbols.size();
  const uint64_t row = request.row <= type.elements * count
                           ? request.row * type.symbols / type.elements
                           : 0;
  if (row == 0 || count / row < 4) {
    grid->row = kPieceRow;
    return;
  }
  grid->row = row * ((kLeastRow + row - 1) / row);
  grid->phase = request.position * type.symbols / type.elements % grid->row;
  grid->has_columns = count / grid->row >= 16 && grid->row <= 65536;
}

/// What the rows and columns of a frame have in common.
struct Offsets {
  std::vector<uint8_t> rows, columns;
  std::vector<int8_t> skews;  // by column; negative: mostly negative elements
};

uint8_t OffsetOf(uint64_t sum, uint64_t count, uint64_t all,
                 uint64_t all_count) {
  // Means to 1/256, the difference rounded.
  const auto mean = static_cast<int64_t>(sum * 256 / count);
  const auto mean_of_all = static_cast<int64_t>(all * 256 / all_count);
  const int64_t offset = kNoOffset + ((mean - mean_of_all + 128) >> 8);
  return static_cast<uint8_t>(std::clamp<int64_t>(offset, 0, kMaxOffset));
}

int8_t SkewOf(uint64_t negative, uint64_t count) {
  const uint64_t rest = count - negative;
  const uint64_t percent =
      100 * (std::max(negative, rest) - std::min(negative, rest)) / count;
  const int skew = percent < 8 ? 0 : percent < 25 ? 1 : percent < 50 ? 2 : 3;
  return static_cast<int8_t>(negative > rest ? -skew : skew);
}

Offsets MeasureOffsets(const Grid& grid, const Levels& levels) {
  const size_t columns = grid.has_columns ? static_cast<size_t>(grid.row) : 0;
  std::vector<uint64_t> row_sums(grid.rows()), row_counts(grid.rows());
  std::vector<uint32_t> sums(columns), counts(columns), negative(columns);
  std::vector<uint8_t> of_row(
      static_cast<size_t>(std::min<uint64_t>(grid.row, grid.symbols.size())));
  grid.ForRows(
      1, [&](size_t r, uint64_t column, std::span<const uint8_t> symbols) {
        uint32_t sum = 0;
        for (size_t i = 0; i < symbols.size(); ++i) {
          of_row[i] = levels[symbols[i]];
          sum += of_row[i];
        }
        row_sums[r] = sum;
        row_counts[r] = symbols.size();
        if (columns == 0) return;
        uint32_t* const to_sums = sums.data() + column;
        uint32_t* const to_counts = counts.data() + column;
        uint32_t* const to_negative = negative.data() + column;
        for (size_t i = 0; i < symbols.size(); ++i) {
          to_sums[i] += of_row[i];
          ++to_counts[i];
          to_negative[i] += symbols[i] / kSign;
        }
      });
  const uint64_t all =
      std::accumulate(row_sums.begin(), row_sums.end(), uint64_t{0});
  Offsets offsets;
  for (size_t r = 0; r < grid.rows(); ++r) {
    offsets.rows.push_back(
        OffsetOf(row_sums[r], row_counts[r], all, grid.symbols.size()));
  }
  for (size_t j = 0; j < columns; ++j) {
    offsets.columns.push_back(
        OffsetOf(sums[j], counts[j], all, grid.symbols.size()));
    offsets.skews.push_back(SkewOf(negative[j], counts[j]));
  }
  return offsets;
}

void WriteOffsets(std::span<const uint8_t> offsets, BitWriter* bits) {
  AdaptiveRice code;
  uint8_t last = kNoOffset;
  for (uint8_t offset : offsets) {
    code.Write(entropy::ZigZag(int{offset} - int{last}), bits);
    last = offset;
  }
}

void WriteSkews(std::span<const int8_t> skews, BitWriter* bits) {
  AdaptiveRice code;
  for (int8_t skew : skews) code.Write(entropy::ZigZag(skew), bits);
}

// ---- Classes ----

/// A map whose classes are the contexts themselves.
ClassMap MapOfContexts(const Grid& grid, const Offsets& offsets,
                       uint8_t flags) {
  ClassMap map;
  map.flags = flags;
  if (flags != 0) map.row = grid.row;
  if (map.has_columns()) {
    map.offsets.assign(offsets.columns.size(), kNoOffset);
    map.contexts.assign(offsets.columns.size(), 0);
    map.flips.assign(offsets.columns.size(), 0);
  }
  if (flags & kByColumns) map.offsets = offsets.columns;
  if (flags & kBySigns) {
    for (size_t j = 0; j < offsets.skews.size(); ++j) {
      const int skew = offsets.skews[j];
      map.contexts[j] = static_cast<uint8_t>(kScales * std::abs(skew));
      map.flips[j] = skew < 0 ? kSign : uint8_t{0};
    }
  }
  std::iota(map.classes.begin(), map.classes.end(), uint8_t{0});
  return map;
}

/// How often each symbol occurs in each context.
using ContextCounts = std::vector<ByteCounts>;

ContextCounts CountContexts(const Grid& grid, const Offsets& offsets,
                            const ClassMap& map, size_t stride) {
  ContextCounts counts(kContexts);
  std::vector<uint8_t> contexts(
      static_cast<size_t>(std::min<uint64_t>(grid.row, grid.symbols.size())));
  Buffer made;
  RowClasses rows(map, &made);
  grid.ForRows(
      stride, [&](size_t r, uint64_t column, std::span<const uint8_t> symbols) {
        rows.Get(offsets.rows[r], column, symbols.size(), contexts.data());
        if (map.flags & kBySigns) {
          const uint8_t* const flips = map.flips.data() + column;
          for (size_t i = 0; i < symbols.size(); ++i) {
            ++counts[contexts[i]][symbols[i] ^ flips[i]];
          }
        } else {
          for (size_t i = 0; i < symbols.size(); ++i) {
            ++counts[contexts[i]][symbols[i]];
          }
        }
      });
  return counts;
}

/// n log2(n) in 1/65536 bit, close enough to compare.
uint64_t NLogN(uint32_t n) {
  static constexpr std::array<uint32_t, 4096> kLogs = [] {
    std::array<uint32_t, 4096> logs{};
    for (uint32_t i = 1; i < logs.size(); ++i) logs[i] = Log2Q16(i);
    return logs;
  }();
  const int shift = std::max(0, static_cast<int>(std::bit_width(n)) - 12);
  return uint64_t{n} *
         (kLogs[n >> shift] + (static_cast<uint32_t>(shift) << 16));
}

/// What a table takes for itself, about, in 1/65536 bit.
constexpr uint64_t kTableCost = 16 << 16;
constexpr uint64_t kSymbolCost = 9 << 15;

/// Contexts that share a table, and what they take with it.
struct Cluster {
  ByteCounts counts;
  size_t end;  // behind its last context
  uint64_t cost;

  /// The cost where each symbol stands for `scale` of the frame's.
  static uint64_t CostOf(const ByteCounts& a, const ByteCounts& b,
                         uint64_t scale) {
    uint64_t parts = 0;
    uint32_t total = 0;
    uint64_t symbols = 0;
    for (size_t s = 0; s < a.size(); ++s) {
      const uint32_t n = a[s] + b[s];
      parts += NLogN(n);
      total += n;
      symbols += n != 0;
    }
    if (total == 0) return 0;
    return scale * (NLogN(total) - std::min(NLogN(total), parts)) + kTableCost +
           symbols * kSymbolCost;
  }
};

/// Puts together neighbours of contexts [begin, end) as long as that saves
/// anything, and until there are `most`; appends what is left to `clusters`.
void MergeContexts(const ContextCounts& counts, size_t begin, size_t end,
                   uint64_t scale, size_t most,
                   std::vector<Cluster>* clusters) {
  static constexpr ByteCounts kNone{};
  std::vector<Cluster> list;
  for (size_t c = begin; c < end; ++c) {
    const uint64_t cost = Cluster::CostOf(counts[c], kNone, scale);
    if (cost == 0 && !list.empty()) {
      list.back().end = c + 1;
    } else {
      list.push_back({counts[c], c + 1, cost});
    }
  }
  // saved[i]: by putting i and i + 1 together, negative if it costs.
  const auto saving = [&](size_t i) {
    return static_cast<int64_t>(
        list[i].cost + list[i + 1].cost -
        Cluster::CostOf(list[i].counts, list[i + 1].counts, scale));
  };
  std::vector<int64_t> saved;
  for (size_t i = 0; i + 1 < list.size(); ++i) saved.push_back(saving(i));
  while (!saved.empty()) {
    const auto best = std::max_element(saved.begin(), saved.end());
    if (*best < 0 && list.size() <= most) break;
    const auto i = static_cast<size_t>(best - saved.begin());
    Cluster& into = list[i];
    Cluster& other = list[i + 1];
    into.cost = into.cost + other.cost - static_cast<uint64_t>(*best);
    into.end = other.end;
    for (size_t s = 0; s < into.counts.size(); ++s) {
      into.counts[s] += other.counts[s];
    }
    list.erase(list.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    saved.erase(best);
    if (i < saved.size()) saved[i] = saving(i);
    if (i > 0) saved[i - 1] = saving(i - 1);
  }
  clusters->insert(clusters->end(), list.begin(), list.end());
}

std::vector<Cluster> ChooseClasses(const ContextCounts& counts, uint8_t flags,
                                   uint64_t scale) {
  const size_t skews = flags & kBySigns ? kSkews : 1;
  std::vector<Cluster> clusters;
  for (size_t skew = 0; skew < skews; ++skew) {
    MergeContexts(counts, skew * kScales, (skew + 1) * kScales, scale,
                  entropy::kMaxClasses / skews, &clusters);
  }
  return clusters;
}

/// What rows and columns take to be told, in 1/65536 bit.
uint64_t SideCost(const Offsets& offsets, uint8_t flags, Buffer* trial) {
  trial->Clear();
  BitWriter bits(trial);
  if (flags & kByRows) WriteOffsets(offsets.rows, &bits);
  if (flags & kByColumns) WriteOffsets(offsets.columns, &bits);
  if (flags & kBySigns) WriteSkews(offsets.skews, &bits);
  bits.Finish();
  return uint64_t{trial->size()} << 19;
}

/// The flags that promise the least, by a part of the rows.
uint8_t ChooseFlags(const Grid& grid, const Offsets& offsets, bool has_sign,
                    int level, Buffer* trial) {
  const bool is_thorough = level >= 6;
  std::vector<uint8_t> candidates = {0};
  if (grid.rows() > 1) candidates.push_back(kByRows);
  if (grid.has_columns) {
    candidates.push_back(kByRows | kByColumns);
    if (has_sign) candidates.push_back(kByRows | kByColumns | kBySigns);
    if (is_thorough) candidates.push_back(kByColumns);
    if (is_thorough && has_sign) candidates.push_back(kByColumns | kBySigns);
  }
  const size_t wanted = size_t{1} << (is_thorough ? 18 : 16);
  const size_t stride = std::max<size_t>(1, grid.symbols.size() / wanted);
  uint8_t best = 0;
  uint64_t best_cost = UINT64_MAX;
  for (uint8_t flags : candidates) {
    const ContextCounts counts = CountContexts(
        grid, offsets, MapOfContexts(grid, offsets, flags), stride);
    uint64_t cost = SideCost(offsets, flags, trial);
    for (const Cluster& cluster : ChooseClasses(counts, flags, stride)) {
      cost += cluster.cost;
    }
    if (cost < best_cost) {
      best = flags;
      best_cost = cost;
    }
  }
  return best;
}

// ---- Coding ----

class Plan final : public EncodePlan {
 public:
  Plan(const Kind& kind, const EncodeRequest& request, Alphabet alphabet,
       Grid grid, Offsets offsets, ClassMap map,
       const std::vector<Cluster>& clusters);

  ByteSpan params() const override { return params_.span(); }
  uint64_t estimate() const override { return estimate_; }
  bool Encode(ByteSpan block, Scratch& scratch, Buffer* out) const override;

 private:
  void WriteParams(const std::vector<Cluster>& clusters,
                   const entropy::ClassFrequencies& frequencies);
  uint64_t EstimatePlanes(size_t block_elements) const;
  void TakeExtra(ByteSpan symbols, ByteSpan block, Buffer* extra) const;
  /// Bits of the key that a symbol leaves to say.
  uint32_t ExtraBits(uint8_t symbol) const {
    symbol &= kind_.escape();
    if (symbol < alphabet_.exact) return 0;
    return symbol == kind_.escape()
               ? kind_.key_bits
               : static_cast<uint32_t>(alphabet_.group_bits);
  }

  const Kind& kind_;
  ByteSpan data_;  // of the frame
  int level_;
  Alphabet alphabet_;
  Grid grid_;
  Offsets offsets_;
  ClassMap map_;
  entropy::ClassEncodeTables tables_;
  Buffer params_;
  uint64_t estimate_ = 0;
};

entropy::ClassFrequencies FrequenciesOf(const std::vector<Cluster>& clusters) {
  entropy::ClassFrequencies frequencies;
  for (const Cluster& cluster : clusters) {
    frequencies.push_back(entropy::NormalizeBytes(cluster.counts));
  }
  return frequencies;
}

Plan::Plan(const Kind& kind, const EncodeRequest& request, Alphabet alphabet,
           Grid grid, Offsets offsets, ClassMap map,
           const std::vector<Cluster>& clusters)
    : kind_(kind),
      data_(request.data),
      level_(request.level),
      alphabet_(std::move(alphabet)),
      grid_(std::move(grid)),
      offsets_(std::move(offsets)),
      map_(std::move(map)),
      tables_(FrequenciesOf(clusters)) {
  const entropy::ClassFrequencies frequencies = FrequenciesOf(clusters);
  uint64_t cost = 0;
  for (size_t c = 0, context = 0; c < clusters.size(); ++c) {
    for (; context < clusters[c].end; ++context) {
      map_.classes[context] = static_cast<uint8_t>(c);
    }
    cost += entropy::CodingCost(clusters[c].counts, frequencies[c]);
    for (size_t s = 0; s < clusters[c].counts.size(); ++s) {
      cost +=
          uint64_t{clusters[c].counts[s]} * ExtraBits(static_cast<uint8_t>(s))
          << 16;
    }
  }
  WriteParams(clusters, frequencies);

  const size_t count = grid_.symbols.size();
  const size_t elements =
      std::min(request.block_size / kind_.element_size, count);
  const size_t blocks = (count + elements - 1) / elements;
  const uint64_t states =
      (elements >= entropy::kFourStreams ? 4 : 1) * 4 * kernels::kLanes;
  if (map_.flags & kByRows) {
    Buffer rows;
    cost += SideCost(offsets_, kByRows, &rows);
  }
  estimate_ = (cost >> 19) + blocks * (states + 16) + EstimatePlanes(elements);
}

void Plan::WriteParams(const std::vector<Cluster>& clusters,
                       const entropy::ClassFrequencies& frequencies) {
  ByteWriter writer(&params_);
  writer.Le<uint8_t>(kind_.number);
  writer.Le<uint8_t>(map_.flags);
  if (map_.flags != 0) writer.Varint(map_.row);
  Buffer coded;
  BitWriter bits(&coded);
  const size_t groups = alphabet_.keys.size() - alphabet_.exact;
  bits.Put(static_cast<uint32_t>(alphabet_.group_bits), 3);
  bits.Put(static_cast<uint32_t>(alphabet_.exact), 8);
  bits.Put(static_cast<uint32_t>(groups), 8);
  AdaptiveRice key_code;
  uint32_t next = 0;
  for (size_t s = 0; s < alphabet_.keys.size(); ++s) {
    if (s == alphabet_.exact) next = 0;
    const uint32_t key =
        alphabet_.keys[s] >> (s < alphabet_.exact ? 0 : alphabet_.group_bits);
    key_code.Write(key - next, &bits);
    next = key + 1;
  }
  if (map_.flags & kByColumns) WriteOffsets(offsets_.columns, &bits);
  if (map_.flags & kBySigns) WriteSkews(offsets_.skews, &bits);
  AdaptiveRice code;
  size_t begin = 0;
  for (const Cluster& cluster : clusters) {
    code.Write(static_cast<uint32_t>(cluster.end - begin - 1), &bits);
    begin = cluster.end;
  }
  bits.Finish();
  writer.Varint(coded.size());
  writer.Bytes(coded.span());
  entropy::WriteClassFrequencies(frequencies, &params_);
}

/// By each sixteenth run of groups.
uint64_t Plan::EstimatePlanes(size_t block_elements) const {
  constexpr size_t kRun = 1024;
  const size_t count = grid_.symbols.size();
  const size_t stride = count <= 65536 ? kRun : 16 * kRun;
  const size_t size = kind_.element_size;
  uint64_t bytes = 0;
  size_t seen = 0;
  for (size_t start = 0; start < count; start += stride) {
    for (size_t g = start; g < std::min(start + kRun, count); g += kGroup) {
      uint32_t any = 0;
      const size_t end = std::min(g + kGroup, count);
      for (size_t i = g; i < end; ++i) {
        const uint8_t* const element = data_.data() + i * size;
        any |= uint32_t{Unit(kind_, element)} << 16;
        if (size == 4) any |= LoadLe<uint16_t>(element);
      }
      for (const Plane& plane : kind_.planes) {
        const uint32_t mask = ((1u << plane.width) - 1)
                              << (plane.shift + (plane.low ? 0 : 16));
        bytes += (any & mask) != 0 ? plane.group_bytes() : 0;
      }
      seen += end - g;
    }
  }
  const size_t blocks = (count + block_elements - 1) / block_elements;
  return ScaleUp(bytes, seen, count) + blocks * kind_.planes.size();
}

/// The bits of keys that `symbols` leave to say.
void Plan::TakeExtra(ByteSpan symbols, ByteSpan block, Buffer* extra) const {
  std::array<uint8_t, 256> widths;
  for (size_t s = 0; s < widths.size(); ++s) {
    widths[s] = static_cast<uint8_t>(ExtraBits(static_cast<uint8_t>(s)));
  }
  extra->Resize(2 * symbols.size() + 8);
  uint8_t* to = extra->data();
  uint64_t held = 0;
  uint32_t held_bits = 0;
  ForExtra(kind_, static_cast<uint8_t>(alphabet_.exact), symbols.data(),
           symbols.size(), [&](size_t i) {
             const uint32_t width = widths[symbols[i]];
             const uint64_t key =
                 kind_.Key(Unit(kind_, block.data() + i * kind_.element_size));
             held |= (key & ((1u << width) - 1)) << held_bits;
             held_bits += width;
             StoreLe(to, held);
             to += held_bits / 8;
             held >>= held_bits / 8 * 8;
             held_bits %= 8;
           });
  extra->Resize(static_cast<size_t>(to - extra->data()) + (held_bits != 0));
}

bool Plan::Encode(ByteSpan block, Scratch& scratch, Buffer* out) const {
  const size_t size = kind_.element_size;
  if (block.empty() || block.size() % size != 0) return false;
  const size_t first = static_cast<size_t>(block.data() - data_.data()) / size;
  const size_t count = block.size() / size;
  const size_t start = out->size();
  ByteWriter writer(out);

  const uint64_t position = grid_.phase + first;
  const uint64_t first_row = position / map_.row;
  const uint64_t phase = position % map_.row;
  const std::span rows = std::span(offsets_.rows);
  if (map_.flags != 0) writer.Varint(phase);
  if (map_.flags & kByRows) {
    Buffer& coded = scratch.buffers[0];
    coded.Clear();
    BitWriter bits(&coded);
    const size_t end_row =
        static_cast<size_t>((position + count - 1) / map_.row + 1);
    WriteOffsets(rows.subspan(static_cast<size_t>(first_row),
                              end_row - static_cast<size_t>(first_row)),
                 &bits);
    bits.Finish();
    writer.Varint(coded.size());
    writer.Bytes(coded.span());
  }

  Buffer& symbols = scratch.buffers[0];
  symbols.Resize(count);
  std::memcpy(symbols.data(), grid_.symbols.data() + first, count);
  Buffer& classes = scratch.buffers[1];
  classes.Resize(count);
  ClassCursor(map_, phase,
              map_.flags & kByRows ? rows.data() + first_row : nullptr,
              &scratch.buffers[2])
      .Next(count, classes.data());
  if (map_.flags & kBySigns) {
    uint64_t column = phase;
    FlipSigns(map_, &column, count, symbols.data());
  }
  entropy::EncodeClassRans(tables_, symbols.data(), classes.data(), count,
                           &scratch.buffers[2], out);

  Buffer& extra = scratch.buffers[1];
  TakeExtra(symbols.span(), block, &extra);
  writer.Varint(extra.size());
  writer.Bytes(extra.span());

  if (!kind_.planes.empty()) {
    constexpr size_t kRun = 1024;
    static_assert(kRun == 8 * kGroup);
    PlaneWriter planes(kind_.planes, PlaneGroups(count), &scratch.buffers[2],
                       &scratch.buffers[3]);
    alignas(64) uint16_t units[kRun];
    alignas(64) uint16_t low[kRun];
    for (size_t i = 0; i < count; i += kRun) {
      const size_t n = std::min(kRun, count - i);
      const size_t groups = PlaneGroups(n);
      if (size == 4) {
        kernels::Best().split_halves(block.data() + i * size, n, low, units);
        std::fill(low + n, low + groups * kGroup, uint16_t{0});
      } else {
        std::memcpy(units, block.data() + i * size, n * size);
      }
      std::fill(units + n, units + groups * kGroup, uint16_t{0});
      planes.Take(units, low, i / kGroup, groups);
    }
    planes.Append(level_, &scratch.buffers[0], out);
  }
  const bool smaller = out->size() - start < block.size();
  if (!smaller) out->Resize(start);
  return smaller;
}

// ---- Planning ----

/// The symbols of `count` elements of kSize bytes.
template <size_t kSize>
void MapElements(const Kind& kind, const Alphabet& alphabet,
                 const uint8_t* elements, size_t count, uint8_t* symbols) {
  const std::vector<uint8_t> symbol_of = alphabet.SymbolOf(kind);
  const uint8_t* const map = symbol_of.data();
  const uint32_t mask = static_cast<uint32_t>(symbol_of.size() - 1);
  const int shift = kind.key_shift;
  constexpr int kSignShift = kSize == 1 ? 0 : 8;
  const uint32_t sign = kind.has_sign ? kSign : 0;
  for (size_t i = 0; i < count; ++i) {
    uint32_t unit = elements[kSize * i + kSize - 1];
    if constexpr (kSize > 1) unit = unit << 8 | elements[kSize * i + kSize - 2];
    symbols[i] = static_cast<uint8_t>(map[unit >> shift & mask] |
                                      (unit >> kSignShift & sign));
  }
}

/// The symbols of the frame's elements.
std::vector<uint8_t> SymbolsOf(const Kind& kind, const Alphabet& alphabet,
                               ByteSpan data) {
  std::vector<uint8_t> symbols(data.size() / kind.element_size);
  const auto map = [&](auto map_elements) {
    map_elements(kind, alphabet, data.data(), symbols.size(), symbols.data());
  };
  switch (kind.element_size) {
    case 1:
      map(MapElements<1>);
      break;
    case 2:
      map(MapElements<2>);
      break;
    default:
      map(MapElements<4>);
      break;
  }
  return symbols;
}

std::unique_ptr<EncodePlan> MakePlan(const EncodeRequest& request,
                                     Scratch& scratch) {
  const Type type = TypeOf(request.dtype);
  if (type.kind == nullptr) return nullptr;
  const Kind& kind = *type.kind;
  if (request.level <
          (kind.element_size == 1 ? kMinLevelBytes : kMinLevelUnits) ||
      request.data.size() < kind.element_size ||
      request.data.size() % kind.element_size != 0 ||
      request.block_size % kind.element_size != 0) {
    return nullptr;
  }
  const KeyCounts key_counts = CountKeys(kind, request.data);
  Alphabet alphabet = ChooseAlphabet(type, key_counts);
  Grid grid;
  grid.symbols = SymbolsOf(kind, alphabet, request.data);
  ByteCounts counts{};
  for (uint8_t symbol : grid.symbols) ++counts[symbol];
  SetRows(type, request, &grid);
  Offsets offsets =
      MeasureOffsets(grid, LevelsOf(type, alphabet, key_counts, counts));
  const uint8_t flags = ChooseFlags(grid, offsets, kind.has_sign, request.level,
                                    &scratch.buffers[0]);
  ClassMap map = MapOfContexts(grid, offsets, flags);
  const std::vector<Cluster> clusters =
      ChooseClasses(CountContexts(grid, offsets, map, 1), flags, 1);
  auto plan = std::make_unique<Plan>(kind, request, std::move(alphabet),
                                     std::move(grid), std::move(offsets),
                                     std::move(map), clusters);
  if (plan->params().size() > kMaxParamsBytes ||
      plan->estimate() + plan->params().size() >= request.data.size()) {
    return nullptr;
  }
  return plan;
}

}  // namespace

extern const Encoder kClassesEncoder = {
    .id = 8, .name = "classes", .plan = MakePlan};

}  // namespace zipllm::codecs
