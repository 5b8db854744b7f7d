// Codec 9, quant: ggml's quantized blocks by their fields, each in contexts.
// Integers only, so that every machine codes alike.
#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "base/log2.h"
#include "codecs/codec.h"
#include "codecs/quant/quant_format.h"
#include "entropy/bits.h"

namespace zipllm::codecs {
namespace {

using entropy::ByteCounts;
using entropy::ByteFrequencies;
using entropy::ClassFrequencies;
using entropy::kMaxClasses;
using namespace quant;

constexpr uint8_t kSplitByAnchors = 4;
constexpr uint8_t kColumns = 8;
constexpr uint8_t kByColumnGroup = 16;

/// Levels up to this do not look at columns.
constexpr int kMaxHastyLevel = 2;
/// Levels from this on look at all of a frame.
constexpr int kMinThoroughLevel = 6;

// What a frequency takes in the parameters, roughly.
constexpr uint64_t kFrequencyBits = 5;

// ---- Costs, in 1/65536 bit ----

/// log2(x), to 1/1400; faster than Log2Q16.
uint64_t QuickLog2(uint32_t x) {
  constexpr int kBits = 11;
  static constexpr auto kLog2 = [] {
    std::array<uint32_t, 1 << kBits> table{};
    for (uint32_t i = 0; i < table.size(); ++i) {
      table[i] = Log2Q16((1u << kBits) + i) - (uint32_t{kBits} << 16);
    }
    return table;
  }();
  const int top = static_cast<int>(std::bit_width(x)) - 1;
  const uint32_t below = top >= kBits ? x >> (top - kBits) : x << (kBits - top);
  return (static_cast<uint64_t>(top) << 16) +
         kLog2[below & ((1u << kBits) - 1)];
}

/// Adds up what coding with tables made from counts takes, the tables
/// included. Counts are of a sample of which there are `scale` in the frame.
class Cost {
 public:
  explicit Cost(uint64_t scale) : scale_(scale) {}
  /// A class: its counts by symbol.
  void Add(const uint32_t* counts, size_t symbols) {
    uint32_t total = 0;
    uint64_t sum = 0;
    uint64_t present = 0;
    for (size_t s = 0; s < symbols; ++s) {
      if (counts[s] == 0) continue;
      total += counts[s];
      sum += counts[s] * QuickLog2(counts[s]);
      ++present;
    }
    if (present < 2) return;
    const uint64_t coded = total * QuickLog2(total);
    sample_ += coded > sum ? coded - sum : 0;
    present_ += present;
  }
  uint64_t total() const {
    // Entropy seen in a sample is too low by half a nat a frequency (Miller).
    constexpr uint64_t kHalfNat = 47274;
    const uint64_t bias = scale_ > 1 ? kHalfNat * present_ : 0;
    return scale_ * (sample_ + bias) + present_ * (kFrequencyBits << 16);
  }

 private:
  uint64_t scale_;
  uint64_t sample_ = 0;
  uint64_t present_ = 0;
};

// ---- Symbols of blocks ----

/// positions[g] = the first element of group g that is in `set`; group if none.
template <size_t kGroup>
void FindAnchors(const uint8_t* symbols, size_t groups,
                 const std::array<uint8_t, 2>& set, uint8_t* positions) {
  for (size_t g = 0; g < groups; ++g, symbols += kGroup) {
    uint8_t first = kGroup;
    for (size_t i = 0; i < kGroup; ++i) {
      const bool in_set = symbols[i] == set[0] || symbols[i] == set[1];
      const auto at = in_set ? static_cast<uint8_t>(i) : uint8_t{kGroup};
      first = std::min(first, at);
    }
    positions[g] = first;
  }
}

void FindAnchors(const Quants& quants, const uint8_t* symbols, size_t groups,
                 size_t anchor, uint8_t* positions) {
  if (quants.group == 16) {
    FindAnchors<16>(symbols, groups, quants.anchor[anchor], positions);
  } else {
    FindAnchors<32>(symbols, groups, quants.anchor[anchor], positions);
  }
}

/// Symbols and classes of some blocks, in the order in which they are coded.
struct Arranged {
  Buffer* symbols;
  Buffer* classes;
  size_t size = 0;
};

/// `column`: of the first block.
void Arrange(const Model& model, const uint8_t* data, size_t blocks,
             size_t column, Arranged* arranged) {
  const BlockType& type = *model.type;
  const SideLayout layout(model, blocks);
  const size_t quants = blocks * type.quants.count;
  arranged->size = layout.size + Padded(quants);
  arranged->symbols->Resize(arranged->size);
  arranged->classes->Resize(arranged->size);
  uint8_t* const symbols = arranged->symbols->data();
  uint8_t* const classes = arranged->classes->data();
  const auto pad = [&](size_t start, size_t count) {
    std::memset(symbols + start + count, 0, Padded(count) - count);
    std::memset(classes + start + count, 0, Padded(count) - count);
  };
  for (size_t f = 0; f < model.side_fields(); ++f) {
    const Field& field = type.field[f];
    const size_t start = layout.field[f];
    const size_t count = blocks * field.count;
    SplitField(type, field, data, blocks, symbols + start);
    const uint8_t* source =
        model.hinted(f)
            ? symbols + layout.field[static_cast<size_t>(field.hint.field)]
            : nullptr;
    SideClasses(model, f, source, 0, count, classes + start);
    pad(start, count);
  }
  if (!model.has_quants()) return;

  const Field& field = type.field[model.side_fields()];
  const size_t groups = model.groups_per_block();
  const size_t step = kPiece / type.quants.count;
  GroupKey keys[kPiece / 16];
  for (size_t first = 0; first < blocks; first += step) {
    const size_t n = std::min(step, blocks - first);
    const size_t at = layout.size + first * type.quants.count;
    SplitField(type, field, data + first * type.bytes, n, symbols + at);
    FindKeys(type, symbols, layout, first, n, keys);
    FlipQuants(model, keys, n, column, symbols + at);
    std::array<const uint8_t*, kMaxAnchors> positions{};
    for (size_t a = 0; a < model.anchors; ++a) {
      uint8_t* to = symbols + layout.position[a] + first * groups;
      FindAnchors(type.quants, symbols + at, n * groups, a, to);
      positions[a] = to;
    }
    QuantClasses(model, keys, n, column, positions, classes + at);
    if (model.row_blocks != 0) column = (column + n) % model.row_blocks;
  }
  for (size_t a = 0; a < model.anchors; ++a) {
    std::memset(classes + layout.position[a], model.position_class[a],
                blocks * groups);
    pad(layout.position[a], blocks * groups);
  }
  pad(layout.size, quants);
}

// ---- Choosing contexts ----

/// Some pieces of a frame, taken apart.
struct Sample {
  struct Piece {
    size_t blocks;
    size_t column;  // of blocks
  };
  std::vector<Piece> pieces;
  std::vector<uint8_t> symbols;
  std::vector<GroupKey> keys;
  uint64_t scale = 1;  // elements of the frame for one of the sample
};

/// `row_blocks` 0: columns are not known.
Sample TakePieces(const BlockType& type, ByteSpan data, size_t max_pieces,
                  size_t row_blocks, size_t column, Buffer* buffer) {
  const size_t blocks = data.size() / type.bytes;
  const size_t step = kPiece / type.quants.count;
  const size_t all = (blocks + step - 1) / step;
  const size_t pieces = std::min(all, max_pieces);
  Model model;
  model.type = &type;
  Sample sample;
  sample.symbols.resize(pieces * kPiece);
  sample.keys.resize(pieces * kPiece / type.quants.group);
  uint8_t* symbols = sample.symbols.data();
  GroupKey* keys = sample.keys.data();
  for (size_t p = 0; p < pieces; ++p) {
    const size_t first = p * all / pieces * step;
    const size_t n = std::min(step, blocks - first);
    const uint8_t* from = data.data() + first * type.bytes;
    const SideLayout layout(model, n);
    buffer->Resize(layout.size);
    for (size_t f = 0; f < model.side_fields(); ++f) {
      SplitField(type, type.field[f], from, n,
                 buffer->data() + layout.field[f]);
    }
    FindKeys(type, buffer->data(), layout, 0, n, keys);
    SplitField(type, type.field[model.side_fields()], from, n, symbols);
    sample.pieces.push_back(
        {n, row_blocks == 0 ? 0 : (column + first) % row_blocks});
    symbols += n * type.quants.count;
    keys += n * model.groups_per_block();
  }
  const auto taken = static_cast<size_t>(symbols - sample.symbols.data());
  sample.symbols.resize(taken);
  sample.keys.resize(static_cast<size_t>(keys - sample.keys.data()));
  sample.scale =
      std::max<uint64_t>(1, (blocks * type.quants.count + taken / 2) / taken);
  return sample;
}

/// Where an element stands to its group's anchors.
enum AnchorState : uint8_t {
  kBefore0 = 1,
  kBefore1 = 2,
  kIsAnchor0 = 4,
  kIsAnchor1 = 8,
  kAnchorStates = 16,
};

/// The states of a sample's elements, and how often each position occurs.
struct AnchorStates {
  std::vector<uint8_t> states;
  std::array<ByteCounts, kMaxAnchors> positions{};
};

AnchorStates FindStates(const Quants& quants,
                        const std::vector<uint8_t>& symbols) {
  AnchorStates result;
  result.states.resize(symbols.size());
  std::vector<uint8_t> positions(symbols.size() / quants.group);
  for (size_t a = 0; a < quants.anchors; ++a) {
    FindAnchors(quants, symbols.data(), positions.size(), a, positions.data());
    for (size_t g = 0; g < positions.size(); ++g) {
      uint8_t* states = &result.states[g * quants.group];
      const uint8_t position = positions[g];
      ++result.positions[a][position];
      const auto before = static_cast<uint8_t>(a == 0 ? kBefore0 : kBefore1);
      for (size_t i = 0; i < quants.group; ++i) {
        const bool is_before = static_cast<uint8_t>(i) < position;
        states[i] = static_cast<uint8_t>(states[i] | (is_before ? before : 0));
      }
      if (position < quants.group) {
        states[position] |= a == 0 ? kIsAnchor0 : kIsAnchor1;
      }
    }
  }
  return result;
}

/// A model that is being improved, and what it takes by the sample.
struct Choice {
  Model model;
  uint64_t cost = UINT64_MAX;
};

/// Counts the sample's quants in the contexts of `model`, chooses its anchors,
/// and takes it over where it costs less.
void Try(const Sample& sample, const std::vector<uint8_t>& symbols,
         const AnchorStates& anchors, Model model, int level, Choice* best) {
  const BlockType& type = *model.type;
  const size_t range = size_t{1} << type.field[model.side_fields()].bits;
  model.anchors = 0;
  model.split_by_anchors = false;
  model.Number();
  if (model.classes > kMaxClasses) return;

  // Counts by context, state and symbol.
  const size_t contexts = model.contexts;
  std::vector<uint32_t> counts(contexts * kAnchorStates * range);
  std::vector<uint8_t> classes(kPiece);
  size_t at = 0;
  const GroupKey* keys = sample.keys.data();
  for (const Sample::Piece& piece : sample.pieces) {
    QuantClasses(model, keys, piece.blocks, piece.column, {}, classes.data());
    const size_t n = piece.blocks * type.quants.count;
    for (size_t i = 0; i < n; ++i, ++at) {
      const size_t row =
          (classes[i] - model.quant_class) * kAnchorStates + anchors.states[at];
      ++counts[row * range + symbols[at]];
    }
    keys += piece.blocks * model.groups_per_block();
  }

  std::vector<uint32_t> sum(range);
  for (uint8_t used = 0; used <= type.quants.anchors; ++used) {
    for (const bool split : {false, true}) {
      if (split && (used == 0 || level <= kMaxHastyLevel)) continue;
      model.anchors = used;
      model.split_by_anchors = split;
      model.Number();
      if (model.classes > kMaxClasses) continue;
      Cost cost(sample.scale);
      for (size_t a = 0; a < used; ++a) {
        cost.Add(anchors.positions[a].data(), 256);
      }
      // Rows of the same class, by the states that the model tells apart.
      const uint8_t before = !split     ? 0
                             : used > 1 ? kBefore0 | kBefore1
                                        : uint8_t{kBefore0};
      const uint8_t is = used > 1   ? kIsAnchor0 | kIsAnchor1
                         : used > 0 ? uint8_t{kIsAnchor0}
                                    : uint8_t{0};
      std::array<std::vector<uint32_t>, kMaxAnchors> anchored{
          std::vector<uint32_t>(range), std::vector<uint32_t>(range)};
      for (size_t c = 0; c < contexts; ++c) {
        const uint32_t* of_context = &counts[c * kAnchorStates * range];
        for (uint8_t want = 0; want < 4; ++want) {
          if ((want & before) != want) continue;
          std::fill(sum.begin(), sum.end(), 0);
          for (uint8_t state = 0; state < kAnchorStates; ++state) {
            if ((state & is) != 0 || (state & before) != want) continue;
            const uint32_t* row = of_context + state * range;
            for (size_t s = 0; s < range; ++s) sum[s] += row[s];
          }
          cost.Add(sum.data(), range);
        }
        for (uint8_t state = kIsAnchor0; state < kAnchorStates; ++state) {
          if ((state & is) == 0) continue;
          auto& into = anchored[(state & kIsAnchor0) != 0 ? 0 : 1];
          const uint32_t* row = of_context + state * range;
          for (size_t s = 0; s < range; ++s) into[s] += row[s];
        }
      }
      for (const auto& row : anchored) cost.Add(row.data(), range);
      const uint64_t total =
          cost.total() + ((uint64_t{model.column_scale.size()} * 4 +
                           uint64_t{model.column_group.size()} * 4)
                          << 16);
      if (total < best->cost) *best = {model, total};
    }
  }
}

/// An axis in steps of 2^shift over nearly all of the keys, which come
/// counted from `lowest` on.
Axis MakeAxis(const std::vector<uint32_t>& counts, int lowest, int shift) {
  uint64_t total = 0;
  for (uint32_t count : counts) total += count;
  const uint64_t tail = total / 100;
  size_t low = 0, high = counts.size() - 1;
  for (uint64_t sum = counts[low]; low < high && sum <= tail;) {
    sum += counts[++low];
  }
  for (uint64_t sum = counts[high]; high > low && sum <= tail;) {
    sum += counts[--high];
  }
  Axis axis;
  axis.shift = static_cast<uint8_t>(shift);
  axis.base = static_cast<int16_t>(lowest + static_cast<int>(low));
  axis.count = static_cast<uint8_t>(
      std::min<size_t>(((high - low) >> shift) + 1, kMaxClasses));
  return axis;
}

/// Counts of keys from `lowest` on; beyond the ends they count there.
class KeyCounts {
 public:
  KeyCounts() : counts_(kHighest - kLowest + 1) {}
  void Add(int key) {
    ++counts_[static_cast<size_t>(std::clamp(key, kLowest, kHighest) -
                                  kLowest)];
  }
  Axis Steps(int shift) const { return MakeAxis(counts_, kLowest, shift); }

 private:
  static constexpr int kLowest = -2048;
  static constexpr int kHighest = 8191;
  std::vector<uint32_t> counts_;
};

/// What elements stand for where they are no numbers, as magnitudes.
int Magnitude(DType dtype, uint8_t symbol) {
  static constexpr uint8_t kIq4[] = {127, 104, 83, 65, 49, 35, 22, 10,
                                     1,   13,  25, 38, 53, 69, 89, 113};
  static constexpr uint8_t kFp4[] = {0, 1, 2, 3, 4, 6, 8, 12};
  if (dtype == DType::kGgmlMXFP4 || dtype == DType::kGgmlNVFP4) {
    return kFp4[symbol & 7];
  }
  return kIq4[symbol & 15];
}

/// Measures the columns and gives `*model` their scales and groups.
void MeasureColumns(const Sample& sample, size_t row_blocks, Model* model) {
  const BlockType& type = *model->type;
  const Quants& quants = type.quants;
  const size_t columns = row_blocks * quants.count;
  const int bits = type.field[model->side_fields()].bits;
  // 2^(i / 32) in 2^-15.
  static constexpr std::array<uint16_t, 32> kPowers = {
      32768, 33486, 34219, 34968, 35734, 36516, 37316, 38133,
      38968, 39821, 40693, 41584, 42495, 43425, 44376, 45348,
      46341, 47356, 48393, 49452, 50535, 51642, 52773, 53928,
      55109, 56316, 57549, 58809, 60097, 61413, 62757, 64132};
  int highest = INT16_MIN;
  for (const GroupKey& key : sample.keys) {
    highest = std::max<int>(highest, key.scale);
  }
  std::vector<uint64_t> magnitude(columns);
  std::vector<int64_t> sum(columns);
  std::array<int16_t, 256> value{};
  for (size_t s = 0; s < 256; ++s) {
    if (!quants.linear) {
      value[s] = static_cast<int16_t>(
          16 * (quants.dmin >= 0
                    ? static_cast<int>(s)
                    : Magnitude(type.dtype, static_cast<uint8_t>(s))));
    } else if (bits == 8) {
      value[s] = static_cast<int16_t>(16 * static_cast<int8_t>(s));
    } else {
      value[s] =
          static_cast<int16_t>(16 * (static_cast<int>(s) - (1 << (bits - 1))));
    }
  }
  const GroupKey* key = sample.keys.data();
  const uint8_t* symbols = sample.symbols.data();
  for (const Sample::Piece& piece : sample.pieces) {
    size_t column = piece.column * quants.count;
    for (size_t i = 0; i < piece.blocks * quants.count;
         i += quants.group, ++key) {
      const int fall = (highest >> 5) - (key->scale >> 5);
      const uint64_t scale =
          fall > 31 ? 0 : uint64_t{kPowers[key->scale & 31]} >> fall;
      int zero = 0;
      if (quants.dmin >= 0 && key->zero > -128 && key->zero < 256) {
        zero =
            (kPowers[key->zero & 31] << 4 << ((key->zero >> 5) + 4) >> 4) >> 15;
      }
      for (size_t j = 0; j < quants.group; ++j) {
        const int64_t v = value[symbols[j]] - zero;
        const int64_t weight = v * static_cast<int64_t>(scale);
        magnitude[column + j] +=
            static_cast<uint64_t>(weight < 0 ? -weight : weight);
        sum[column + j] += key->negative != 0 ? -weight : weight;
      }
      symbols += quants.group;
      column += quants.group;
      if (column == columns) column = 0;
    }
  }
  std::vector<int> logs;
  for (uint64_t m : magnitude) logs.push_back(Log(m));
  int lowest = INT32_MAX;
  for (int log : logs) {
    if (log != 0) lowest = std::min(lowest, log);
  }
  for (size_t c = 0; c < columns; ++c) {
    const int scale = logs[c] == 0 ? 0 : (logs[c] - lowest) / 4;
    model->column_scale.push_back(static_cast<uint8_t>(std::min(scale, 255)));
    const uint64_t mean = static_cast<uint64_t>(sum[c] < 0 ? -sum[c] : sum[c]);
    const uint64_t eighths = magnitude[c] == 0 ? 0 : 8 * mean / magnitude[c];
    model->column_group.push_back(eighths >= 4   ? 3
                                  : eighths >= 2 ? 2
                                  : eighths >= 1 ? 1
                                                 : 0);
    model->column_flip.push_back(sum[c] < 0 ? 255 : 0);
  }
  model->row_blocks = static_cast<uint32_t>(row_blocks);
}

/// Chooses the contexts of the quants.
Model ChooseContexts(const BlockType& type, const EncodeRequest& request,
                     size_t row_blocks, size_t column, Buffer* buffer) {
  Model plain;
  plain.type = &type;
  if (!plain.has_quants()) return plain;
  const size_t max_pieces = request.level >= kMinThoroughLevel ? 64 : 20;
  const Sample sample =
      TakePieces(type, request.data, max_pieces, row_blocks, column, buffer);
  const AnchorStates anchors = FindStates(type.quants, sample.symbols);
  Choice best;
  const auto consider = [&](const Model& model) {
    Try(sample, sample.symbols, anchors, model, request.level, &best);
  };
  const bool has_zero = type.quants.dmin >= 0;
  const bool hasty = request.level <= kMaxHastyLevel;
  KeyCounts scales, zeros;
  for (const GroupKey& key : sample.keys) {
    scales.Add(key.scale);
    zeros.Add(key.zero);
  }
  consider(plain);
  Model model = plain;
  if (has_zero) {
    for (int shift : {3, 2}) {
      model.second = zeros.Steps(shift);
      for (int scale_shift : {6, 5, 4}) {
        model.scale = scale_shift == 6 ? Axis{} : scales.Steps(scale_shift);
        if (scale_shift != 6 && hasty) continue;
        consider(model);
      }
    }
  } else {
    for (int shift : {5, 4, 3}) {
      if (hasty && shift != 4) continue;
      model.scale = scales.Steps(shift);
      consider(model);
    }
  }
  if (hasty || row_blocks == 0) return best.model;

  // Columns: by more rows than the contexts are chosen by.
  Model by_column = plain;
  const Sample rows =
      TakePieces(type, request.data, 64, row_blocks, column, buffer);
  MeasureColumns(rows, row_blocks, &by_column);
  KeyCounts relative;
  {
    const GroupKey* key = sample.keys.data();
    const size_t groups = plain.groups_per_block();
    for (const Sample::Piece& piece : sample.pieces) {
      size_t c = piece.column * type.quants.count;
      for (size_t g = 0; g < piece.blocks * groups; ++g, ++key) {
        for (size_t i = 0; i < type.quants.group; i += 8) {
          relative.Add(key->scale - 4 * by_column.column_scale[c + i]);
        }
        c += type.quants.group;
        if (c == by_column.column_scale.size()) c = 0;
      }
    }
  }
  model = by_column;
  model.column_group.clear();
  model.column_flip.clear();
  for (int shift : {6, 5, 4, 3}) {
    model.scale = relative.Steps(shift);
    if (has_zero) {
      for (int zero_shift : {3, 2}) {
        model.second = zeros.Steps(zero_shift);
        consider(model);
      }
    } else {
      consider(model);
    }
  }
  if (!type.quants.linear) return best.model;

  model = by_column;
  model.by_column_group = true;
  model.second = {.count = 4};
  Sample flipped = sample;
  {
    const GroupKey* key = sample.keys.data();
    uint8_t* symbols = flipped.symbols.data();
    for (const Sample::Piece& piece : sample.pieces) {
      FlipQuants(model, key, piece.blocks, piece.column, symbols);
      key += piece.blocks * plain.groups_per_block();
      symbols += piece.blocks * type.quants.count;
    }
  }
  const AnchorStates flipped_anchors = FindStates(type.quants, flipped.symbols);
  for (int shift : {6, 5, 4}) {
    model.scale = relative.Steps(shift);
    Try(flipped, flipped.symbols, flipped_anchors, model, request.level, &best);
  }
  return best.model;
}

/// Chooses which side fields are coded by their hints.
void ChooseHints(ByteSpan data, Buffer* buffer, Model* model) {
  constexpr size_t kMaxBlocks = 32768;
  const BlockType& type = *model->type;
  const size_t blocks = data.size() / type.bytes;
  const size_t looked_at = std::min(blocks, kMaxBlocks);
  const uint8_t* from = data.data() + (blocks - looked_at) / 2 * type.bytes;
  Model all;
  all.type = &type;
  const SideLayout layout(all, looked_at);
  buffer->Resize(layout.size);
  for (size_t f = 0; f < all.side_fields(); ++f) {
    SplitField(type, type.field[f], from, looked_at,
               buffer->data() + layout.field[f]);
  }
  std::vector<ByteCounts> counts;
  std::vector<uint8_t> classes;
  for (size_t f = 0; f < all.side_fields(); ++f) {
    const Field& field = type.field[f];
    if (field.hint.field < 0) continue;
    Model hinted = all;
    hinted.hints = static_cast<uint8_t>(1u << f);
    const size_t n = looked_at * field.count;
    classes.resize(n);
    SideClasses(
        hinted, f,
        buffer->data() + layout.field[static_cast<size_t>(field.hint.field)], 0,
        n, classes.data());
    counts.assign(size_t{1} << field.hint.bits, {});
    ByteCounts total{};
    const uint8_t* symbols = buffer->data() + layout.field[f];
    for (size_t i = 0; i < n; ++i) {
      ++counts[classes[i]][symbols[i]];
      ++total[symbols[i]];
    }
    const uint64_t scale = (blocks + looked_at / 2) / looked_at;
    Cost apart(scale), together(scale);
    for (const ByteCounts& one : counts) apart.Add(one.data(), one.size());
    together.Add(total.data(), total.size());
    if (apart.total() < together.total()) model->hints |= hinted.hints;
  }
}

// ---- Frequencies ----

/// Counts that differ less from one symbol to the next, so that frequencies
/// take fewer bits: weighted means of five. Extremes (a quantizer makes its
/// largest magnitudes more often) stay as they are.
ByteCounts Smooth(const ByteCounts& counts) {
  ByteCounts smooth = counts;
  for (size_t s = 0; s < 256; ++s) {
    if (s >= 124 && s <= 132) continue;
    const auto at = [&](size_t step) { return counts[(s + step) & 255]; };
    const uint32_t sum = at(253) + 2 * at(254) + 3 * at(255) + 4 * at(0) +
                         3 * at(1) + 2 * at(2) + at(3);
    smooth[s] = std::max<uint32_t>(sum / 16, counts[s] != 0);
  }
  return smooth;
}

class Plan final : public EncodePlan {
 public:
  Plan(Model model, const ClassFrequencies& tables, ByteSpan frame,
       size_t column, uint64_t estimate)
      : model_(std::move(model)),
        tables_(tables),
        frame_(frame),
        column_(column),
        estimate_(estimate) {
    ByteWriter writer(&params_);
    writer.Le(static_cast<uint8_t>(model_.type->dtype));
    writer.Le(model_.hints);
    if (model_.has_quants()) {
      const bool columns = model_.row_blocks != 0;
      writer.Le(static_cast<uint8_t>(
          model_.anchors | (model_.split_by_anchors ? kSplitByAnchors : 0) |
          (columns ? kColumns : 0) |
          (model_.by_column_group ? kByColumnGroup : 0)));
      for (const Axis& axis : {model_.scale, model_.second}) {
        writer.Le(axis.count);
        writer.Le(axis.shift);
        writer.Le(axis.base);
      }
      if (columns) WriteColumns();
    }
    entropy::WriteClassFrequencies(tables, &params_);
  }

  ByteSpan params() const override { return params_.span(); }
  uint64_t estimate() const override { return estimate_; }

  bool Encode(ByteSpan block, Scratch& scratch, Buffer* out) const override {
    const size_t bytes = model_.type->bytes;
    if (block.size() % bytes != 0) return false;
    size_t column = 0;
    const size_t start = out->size();
    if (model_.row_blocks != 0) {
      const auto offset = static_cast<size_t>(block.data() - frame_.data());
      column = (column_ + offset / bytes) % model_.row_blocks;
      ByteWriter(out).Varint(column);
    }
    Arranged arranged{&scratch.buffers[0], &scratch.buffers[1]};
    Arrange(model_, block.data(), block.size() / bytes, column, &arranged);
    entropy::EncodeClassRans(tables_, arranged.symbols->data(),
                             arranged.classes->data(), arranged.size,
                             &scratch.buffers[2], out);
    const bool smaller = out->size() - start < block.size();
    if (!smaller) out->Resize(start);
    return smaller;
  }

 private:
  void WriteColumns() {
    Buffer coded;
    entropy::BitWriter bits(&coded);
    entropy::AdaptiveRice code;
    int before = 0;
    for (uint8_t scale : model_.column_scale) {
      code.Write(entropy::ZigZag(scale - before), &bits);
      before = scale;
    }
    if (model_.by_column_group) {
      for (size_t i = 0; i < model_.column_group.size(); ++i) {
        bits.Put(model_.column_group[i], 3);
        bits.Put(model_.column_flip[i] & 1, 1);
      }
    }
    bits.Finish();
    ByteWriter writer(&params_);
    writer.Varint(model_.row_blocks);
    writer.Varint(coded.size());
    writer.Bytes(coded.span());
  }

  Model model_;
  entropy::ClassEncodeTables tables_;
  ByteSpan frame_;
  size_t column_;
  uint64_t estimate_;
  Buffer params_;
};

std::unique_ptr<EncodePlan> MakePlan(const EncodeRequest& request,
                                     Scratch& scratch) {
  constexpr size_t kMinSize = 512;
  constexpr uint64_t kMinRows = 16;
  const BlockType* type = FindBlockType(request.dtype);
  if (type == nullptr || request.data.size() < kMinSize ||
      request.data.size() % type->bytes != 0 ||
      request.block_size % type->bytes != 0) {
    return nullptr;
  }
  size_t row_blocks = 0;
  size_t column = 0;
  const size_t blocks = request.data.size() / type->bytes;
  const size_t count = type->quants.count;
  if (count != 0 && request.row != 0 && request.row % count == 0 &&
      request.row <= kMaxColumns &&
      blocks / (request.row / count) >= kMinRows) {
    row_blocks = static_cast<size_t>(request.row) / count;
    column = static_cast<size_t>(request.position / count % row_blocks);
  }

  Model model =
      ChooseContexts(*type, request, row_blocks, column, &scratch.buffers[0]);
  ChooseHints(request.data, &scratch.buffers[0], &model);
  model.Number();
  while (model.classes > kMaxClasses) {  // hints on top of many contexts
    model.hints &= static_cast<uint8_t>(model.hints - 1);
    model.Number();
  }

  std::vector<ByteCounts> counts(model.classes);
  Arranged arranged{&scratch.buffers[0], &scratch.buffers[1]};
  uint64_t block_count = 0;
  for (size_t at = 0; at < request.data.size(); at += request.block_size) {
    const size_t size = std::min(request.block_size, request.data.size() - at);
    const size_t first = model.row_blocks == 0
                             ? 0
                             : (column + at / type->bytes) % model.row_blocks;
    Arrange(model, request.data.data() + at, size / type->bytes, first,
            &arranged);
    const uint8_t* symbols = arranged.symbols->data();
    const uint8_t* classes = arranged.classes->data();
    for (size_t i = 0; i < arranged.size; ++i) {
      ++counts[classes[i]][symbols[i]];
    }
    ++block_count;
  }
  const auto make = [&](bool smooth, uint64_t* cost) {
    ClassFrequencies tables;
    *cost = 0;
    for (size_t c = 0; c < counts.size(); ++c) {
      const bool wide = smooth && c >= model.quant_class;
      tables.push_back(
          entropy::NormalizeBytes(wide ? Smooth(counts[c]) : counts[c]));
      *cost += entropy::CodingCost(counts[c], tables.back());
    }
    *cost >>= 19;
    return tables;
  };
  uint64_t cost;
  ClassFrequencies tables = make(false, &cost);
  if (model.has_quants() && type->field[model.side_fields()].bits == 8) {
    const auto size = [&](const ClassFrequencies& of) {
      Buffer coded;
      entropy::WriteClassFrequencies(of, &coded);
      return coded.size();
    };
    uint64_t smooth_cost;
    ClassFrequencies smooth = make(true, &smooth_cost);
    if (smooth_cost + size(smooth) < cost + size(tables)) {
      tables = std::move(smooth);
      cost = smooth_cost;
    }
  }
  const uint64_t estimate = cost + block_count * 300;
  auto plan = std::make_unique<Plan>(std::move(model), tables, request.data,
                                     column, estimate);
  if (plan->params().size() > kMaxParamsBytes ||
      estimate + plan->params().size() >= request.data.size()) {
    return nullptr;
  }
  return plan;
}

}  // namespace

extern const Encoder kQuantEncoder = {
    .id = 9, .name = "quant", .plan = MakePlan};

}  // namespace zipllm::codecs
