// Codec 9, quant: ggml's quantized blocks by their fields, each in contexts.
// Integers only, so that every machine codes alike.
#include <algorithm>
#include <cstring>
#include <memory>
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

/// Levels up to this do not look at columns.
constexpr int kMaxHastyLevel = 2;
/// Levels from this on look at all of a frame.
constexpr int kMinThoroughLevel = 6;

/// What a frequency of a symbol of `bits` bits takes in the parameters, as
/// measured.
constexpr uint64_t FrequencyBits(int bits) {
  return static_cast<uint64_t>(std::max(4, 18 - 2 * bits));
}

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
  /// A class of symbols of `bits` bits: its counts by symbol.
  void Add(const uint32_t* counts, int bits) {
    uint32_t total = 0;
    uint64_t sum = 0;
    uint64_t present = 0;
    for (size_t s = 0; s < size_t{1} << bits; ++s) {
      if (counts[s] == 0) continue;
      total += counts[s];
      sum += counts[s] * QuickLog2(counts[s]);
      ++present;
    }
    if (present < 2) return;
    const uint64_t coded = total * QuickLog2(total);
    // Entropy seen in a sample is too low by half a nat a frequency (Miller).
    constexpr uint64_t kHalfNat = 47274;
    const uint64_t bias = scale_ > 1 ? kHalfNat * present : 0;
    cost_ += scale_ * ((coded > sum ? coded - sum : 0) + bias) +
             (present * FrequencyBits(bits) << 16);
  }
  uint64_t total() const { return cost_; }

 private:
  uint64_t scale_;
  uint64_t cost_ = 0;
};

// ---- Symbols of blocks ----

/// 0 but for the bytes of `word` that equal that of `each`, and of them only
/// the first can be told.
uint64_t FindByte(uint64_t word, uint64_t each) {
  const uint64_t x = word ^ each;
  return (x - kEach) & ~x & (128 * kEach);
}

/// positions[g] = the first element of group g that is in `set`; the size of a
/// group if none.
template <bool kTwo>
void FindFirst(const std::array<uint8_t, 2>& set, const uint8_t* symbols,
               size_t groups, size_t group, uint8_t* positions) {
  const uint64_t a = set[0] * kEach;
  const uint64_t b = set[1] * kEach;
  for (size_t g = 0; g < groups; ++g, symbols += group) {
    size_t first = group;
    for (size_t i = group; i > 0;) {
      i -= 8;
      const auto word = LoadLe<uint64_t>(symbols + i);
      uint64_t found = FindByte(word, a);
      if constexpr (kTwo) found |= FindByte(word, b);
      const auto at = i + static_cast<size_t>(std::countr_zero(found)) / 8;
      first = found != 0 ? at : first;
    }
    positions[g] = static_cast<uint8_t>(first);
  }
}

void FindAnchors(const Quants& quants, const uint8_t* symbols, size_t groups,
                 size_t anchor, uint8_t* positions) {
  const auto& set = quants.anchor[anchor];
  if (set[0] == set[1]) {
    FindFirst<false>(set, symbols, groups, quants.group, positions);
  } else {
    FindFirst<true>(set, symbols, groups, quants.group, positions);
  }
}

/// Symbols and classes of some blocks, in the order in which they are coded.
struct Arranged {
  Arranged(const Model& model, size_t blocks, Scratch& scratch)
      : layout(model, blocks),
        size(layout.size + Padded(blocks * model.type->quants.count)) {
    scratch.buffers[0].Resize(size);
    scratch.buffers[1].Resize(size);
    symbols = scratch.buffers[0].data();
    classes = scratch.buffers[1].data();
  }
  void Pad(size_t start, size_t count) {
    std::memset(symbols + start + count, 0, Padded(count) - count);
    std::memset(classes + start + count, 0, Padded(count) - count);
  }

  SideLayout layout;
  size_t size;
  uint8_t* symbols;
  uint8_t* classes;
};

void ArrangeSide(const Model& model, const uint8_t* data, size_t blocks,
                 Arranged* arranged) {
  const BlockType& type = *model.type;
  const SideLayout& layout = arranged->layout;
  uint8_t* const symbols = arranged->symbols;
  for (size_t f = 0; f < model.side_fields(); ++f) {
    const Field& field = type.field[f];
    const size_t start = layout.field[f];
    const size_t count = blocks * field.count;
    SplitField(type, field, data, blocks, symbols + start);
    const uint8_t* source =
        model.hinted(f)
            ? symbols + layout.field[static_cast<size_t>(field.hint.field)]
            : nullptr;
    SideClasses(model, f, source, 0, count, arranged->classes + start);
    arranged->Pad(start, count);
  }
}

/// The quants of `n` blocks from block `first` on, at most a piece, into
/// `symbols` and `classes`; positions of their anchors to where they belong.
void ArrangeQuants(const Model& model, const uint8_t* data, size_t first,
                   size_t n, size_t column, const Arranged& arranged,
                   uint8_t* symbols, uint8_t* classes) {
  const BlockType& type = *model.type;
  const size_t groups = model.groups_per_block();
  std::array<GroupKey, kPiece / 16> keys;
  SplitField(type, type.field[model.side_fields()], data + first * type.bytes,
             n, symbols);
  FindKeys(type, arranged.symbols, arranged.layout, first, n, keys.data());
  FlipQuants(model, keys.data(), n, column, symbols);
  std::array<const uint8_t*, kMaxAnchors> positions{};
  for (size_t a = 0; a < model.anchors; ++a) {
    const size_t at = arranged.layout.position[a] + first * groups;
    FindAnchors(type.quants, symbols, n * groups, a, arranged.symbols + at);
    std::memset(arranged.classes + at, model.position_class[a], n * groups);
    positions[a] = arranged.symbols + at;
  }
  QuantClasses(model, keys.data(), n, column, positions, classes);
}

/// `column`: of the first block.
void Arrange(const Model& model, const uint8_t* data, size_t blocks,
             size_t column, Arranged* arranged) {
  ArrangeSide(model, data, blocks, arranged);
  if (!model.has_quants()) return;
  const size_t count = model.type->quants.count;
  const size_t step = kPiece / count;
  for (size_t first = 0; first < blocks; first += step) {
    const size_t at = arranged->layout.size + first * count;
    ArrangeQuants(
        model, data, first, std::min(step, blocks - first),
        model.row_blocks == 0 ? 0 : (column + first) % model.row_blocks,
        *arranged, arranged->symbols + at, arranged->classes + at);
  }
  for (size_t a = 0; a < model.anchors; ++a) {
    arranged->Pad(arranged->layout.position[a],
                  blocks * model.groups_per_block());
  }
  arranged->Pad(arranged->layout.size, blocks * count);
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

/// Where an element stands to its group's anchors: bit a of `before`: before
/// anchor a; bit a of `is`: it is anchor a.
struct AnchorState {
  uint8_t before;
  uint8_t is;
};
/// States are numbers of these bits, the lower ones `before`.
constexpr AnchorState StateOf(size_t anchors, size_t state) {
  const size_t before = state & ((size_t{1} << anchors) - 1);
  return {static_cast<uint8_t>(before), static_cast<uint8_t>(state >> anchors)};
}
/// How many of them there are, by the anchors of a type: an element that is an
/// anchor is before none or the other one.
constexpr std::array<size_t, kMaxAnchors + 1> kStatesOf = {1, 3, 10};

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
    const uint64_t is_before = (uint64_t{1} << a) * kEach;
    const auto is_anchor = static_cast<uint8_t>(1u << (quants.anchors + a));
    uint8_t* states = result.states.data();
    for (const uint8_t position : positions) {
      ++result.positions[a][position];
      const uint8_t* before = &kBefore[kMaxGroup - position];
      for (size_t i = 0; i < quants.group; i += 8) {
        const uint64_t bits = LoadLe<uint64_t>(before + i) & is_before;
        StoreLe(states + i, LoadLe<uint64_t>(states + i) | bits);
      }
      if (position < quants.group) {
        states[position] = static_cast<uint8_t>(states[position] | is_anchor);
      }
      states += quants.group;
    }
  }
  return result;
}

/// Positions are 0 to 16 or 32.
constexpr int kPositionBits = 6;

/// A model, and what it takes by the sample.
struct Choice {
  Model model;
  uint64_t cost = UINT64_MAX;
};

/// What the quants of a sample take in the contexts of `model` with its
/// anchors. `counts` are by context, state and symbol.
uint64_t CostOf(const Sample& sample, const AnchorStates& anchors,
                const Model& model, const std::vector<uint32_t>& counts,
                int bits) {
  const size_t range = size_t{1} << bits;
  const size_t states = kStatesOf[model.type->quants.anchors];
  const auto used = static_cast<uint8_t>((1u << model.anchors) - 1);
  const uint8_t told_apart = model.split_by_anchors ? used : 0;
  Cost cost(sample.scale);
  for (size_t a = 0; a < model.anchors; ++a) {
    cost.Add(anchors.positions[a].data(), kPositionBits);
  }
  // Sums of the rows of a class: of each before-state, then of each anchor.
  std::array<uint32_t, 4 * 256> by_state;
  std::array<std::array<uint32_t, 256>, kMaxAnchors> by_anchor{};
  const uint32_t* row = counts.data();
  for (size_t c = 0; c < model.contexts; ++c) {
    std::fill_n(by_state.begin(), 4 * range, 0);
    for (size_t state = 0; state < states; ++state, row += range) {
      const AnchorState of = StateOf(model.type->quants.anchors, state);
      uint32_t* sum = &by_state[(of.before & told_apart) * range];
      if ((of.is & used) != 0) sum = by_anchor[of.is >> 1].data();
      for (size_t s = 0; s < range; ++s) sum[s] += row[s];
    }
    for (size_t before = 0; before <= told_apart; ++before) {
      cost.Add(&by_state[before * range], bits);
    }
  }
  for (const auto& sum : by_anchor) cost.Add(sum.data(), bits);
  constexpr uint64_t kColumnBits = 4;
  const uint64_t columns =
      model.column_scale.size() + model.column_group.size();
  return cost.total() + (columns * kColumnBits << 16);
}

/// Counts the sample's quants in the contexts of `model`, chooses its anchors,
/// and takes it over where it costs less.
void Try(const Sample& sample, const AnchorStates& anchors, Model model,
         int level, Choice* best) {
  const BlockType& type = *model.type;
  const int bits = type.field[model.side_fields()].bits;
  const size_t range = size_t{1} << bits;
  const size_t states = kStatesOf[type.quants.anchors];
  model.anchors = 0;
  model.split_by_anchors = false;
  model.Number();
  if (model.classes > kMaxClasses) return;

  // Two histograms, so that equal neighbours do not wait for each other.
  std::vector<uint32_t> counts(model.contexts * states * range);
  std::vector<uint32_t> others(counts.size());
  std::array<uint8_t, kPiece> classes;
  const uint8_t* symbols = sample.symbols.data();
  const uint8_t* state = anchors.states.data();
  const GroupKey* keys = sample.keys.data();
  for (const Sample::Piece& piece : sample.pieces) {
    QuantClasses(model, keys, piece.blocks, piece.column, {}, classes.data());
    const size_t n = piece.blocks * type.quants.count;
    const auto at = [&](size_t i) {
      const size_t row = (classes[i] - model.quant_class) * states + state[i];
      return row * range + symbols[i];
    };
    for (size_t i = 0; i < n; i += 2) {  // n is even
      ++counts[at(i)];
      ++others[at(i + 1)];
    }
    symbols += n;
    state += n;
    keys += piece.blocks * model.groups_per_block();
  }
  for (size_t i = 0; i < counts.size(); ++i) counts[i] += others[i];
  for (uint8_t used = 0; used <= type.quants.anchors; ++used) {
    for (const bool split : {false, true}) {
      if (split && (used == 0 || level <= kMaxHastyLevel)) continue;
      model.anchors = used;
      model.split_by_anchors = split;
      model.Number();
      if (model.classes > kMaxClasses) continue;
      const uint64_t cost = CostOf(sample, anchors, model, counts, bits);
      if (cost < best->cost) *best = {model, cost};
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
      const int32_t scale = fall > 31 ? 0 : kPowers[key->scale & 31] >> fall;
      int32_t zero = 0;  // in 1/16
      if (quants.dmin >= 0 && key->zero >= -128 && key->zero < 256) {
        zero = kPowers[key->zero & 31] << ((key->zero >> 5) + 4) >> 15;
      }
      const int32_t sign = key->negative != 0 ? -1 : 1;
      for (size_t j = 0; j < quants.group; ++j) {
        const int32_t weight = (value[symbols[j]] - zero) * scale;
        magnitude[column + j] += static_cast<uint32_t>(std::abs(weight));
        sum[column + j] += weight * sign;
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
    const int scale = logs[c] == 0 ? 0 : (logs[c] - lowest) >> kColumnShift;
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

/// Where the keys of a sample lie relative to the scales of columns.
KeyCounts CountRelativeKeys(const Sample& sample, const Model& model) {
  constexpr size_t kEach = 8;  // columns of a group are much the same
  const Quants& quants = model.type->quants;
  KeyCounts counts;
  const GroupKey* key = sample.keys.data();
  for (const Sample::Piece& piece : sample.pieces) {
    size_t column = piece.column * quants.count;
    for (size_t g = 0; g < piece.blocks * model.groups_per_block(); ++g) {
      for (size_t i = 0; i < quants.group; i += kEach) {
        counts.Add(key->scale -
                   (model.column_scale[column + i] << kColumnShift));
      }
      ++key;
      column += quants.group;
      if (column == model.column_scale.size()) column = 0;
    }
  }
  return counts;
}

/// Chooses the contexts of the quants.
Model ChooseContexts(const BlockType& type, const EncodeRequest& request,
                     size_t row_blocks, size_t column, Buffer* buffer) {
  Model plain;
  plain.type = &type;
  if (!plain.has_quants()) return plain;
  const bool hasty = request.level <= kMaxHastyLevel;
  const bool thorough = request.level >= kMinThoroughLevel;
  // Tables of 256 symbols are told by more.
  const bool wide = type.field[plain.side_fields()].bits == 8;
  const Sample sample = TakePieces(type, request.data,
                                   thorough ? 64
                                   : wide   ? 16
                                            : 10,
                                   row_blocks, column, buffer);
  const AnchorStates anchors = FindStates(type.quants, sample.symbols);
  Choice best;
  const auto consider = [&](const Model& model) {
    Try(sample, anchors, model, request.level, &best);
  };
  const bool has_zero = type.quants.dmin >= 0;
  KeyCounts scales, zeros;
  for (const GroupKey& key : sample.keys) {
    scales.Add(key.scale);
    zeros.Add(key.zero);
  }
  const int last_shift = thorough ? 5 : 4;
  Model model = plain;
  consider(model);
  for (int shift = 3; shift <= last_shift; ++shift) {
    if (has_zero) {
      model.second = zeros.Steps(shift - 1);
      model.scale = Axis();
      consider(model);
    }
    model.scale = scales.Steps(has_zero ? shift + 1 : shift);
    if (!hasty || (shift == 4 && !has_zero)) consider(model);
  }
  if (hasty || row_blocks == 0) return best.model;

  // Columns, by more rows than contexts are chosen by.
  const Sample rows = TakePieces(type, request.data,
                                 thorough ? 256
                                 : wide   ? 32
                                          : 20,
                                 row_blocks, column, buffer);
  Model by_column = plain;
  MeasureColumns(rows, row_blocks, &by_column);
  const KeyCounts relative = CountRelativeKeys(sample, by_column);
  model = by_column;
  model.column_group.clear();
  model.column_flip.clear();
  for (int shift = 3; shift <= last_shift; ++shift) {
    if (has_zero) model.second = zeros.Steps(3);
    model.scale = relative.Steps(has_zero ? shift + 1 : shift);
    consider(model);
  }
  if (!type.quants.linear) return best.model;

  model = by_column;
  model.by_column_group = true;
  model.second = {.count = 4};
  Sample flipped = sample;
  const GroupKey* key = sample.keys.data();
  uint8_t* symbols = flipped.symbols.data();
  for (const Sample::Piece& piece : sample.pieces) {
    FlipQuants(model, key, piece.blocks, piece.column, symbols);
    key += piece.blocks * plain.groups_per_block();
    symbols += piece.blocks * type.quants.count;
  }
  const AnchorStates flipped_anchors = FindStates(type.quants, flipped.symbols);
  for (int shift = 4; shift <= last_shift; ++shift) {
    model.scale = relative.Steps(shift);
    Try(flipped, flipped_anchors, model, request.level, &best);
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
    for (const ByteCounts& one : counts) apart.Add(one.data(), field.bits);
    together.Add(total.data(), field.bits);
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
    for (const ClassRange& range : model_.TableRanges()) {
      entropy::WriteClassFrequencies(
          {tables.begin() + range.first, tables.begin() + range.last},
          &params_);
    }
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
    Arranged arranged(model_, block.size() / bytes, scratch);
    Arrange(model_, block.data(), block.size() / bytes, column, &arranged);
    entropy::EncodeClassRans(tables_, arranged.symbols, arranged.classes,
                             arranged.size, &scratch.buffers[2], out);
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

/// How often symbols occur in each class. Quants are counted in every
/// `stride`-th piece; where that leaves some out, any may occur.
std::vector<ByteCounts> CountSymbols(const Model& model,
                                     const EncodeRequest& request,
                                     size_t column, size_t stride,
                                     Scratch& scratch) {
  std::vector<ByteCounts> counts(model.classes);
  std::vector<ByteCounts> others(model.classes);  // as in Try
  const auto count = [&](const uint8_t* symbols, const uint8_t* classes,
                         size_t n) {
    size_t i = 0;
    for (; i + 2 <= n; i += 2) {
      ++counts[classes[i]][symbols[i]];
      ++others[classes[i + 1]][symbols[i + 1]];
    }
    if (i < n) ++counts[classes[i]][symbols[i]];
  };
  const BlockType& type = *model.type;
  if (model.has_quants() && stride > 1) {
    const auto any = [&](size_t c, size_t symbols) {
      for (size_t s = 0; s < symbols; ++s) counts[c][s] = 1;
    };
    const size_t range = size_t{1} << type.field[model.side_fields()].bits;
    for (size_t c = model.quant_class; c < model.classes; ++c) any(c, range);
    for (size_t a = 0; a < model.anchors; ++a) {
      any(model.position_class[a], type.quants.group + size_t{1});
      for (uint8_t symbol : type.quants.anchor[a]) {
        counts[model.anchor_class[a]][symbol] = 1;
      }
    }
  }
  std::array<uint8_t, kPiece> symbols;
  std::array<uint8_t, kPiece> classes;
  counts[0][0] = 1;  // padding
  for (size_t at = 0; at < request.data.size(); at += request.block_size) {
    const uint8_t* data = request.data.data() + at;
    const size_t blocks =
        std::min(request.block_size, request.data.size() - at) / type.bytes;
    Arranged arranged(model, blocks, scratch);
    ArrangeSide(model, data, blocks, &arranged);
    for (size_t f = 0; f < model.side_fields(); ++f) {
      const size_t start = arranged.layout.field[f];
      count(arranged.symbols + start, arranged.classes + start,
            blocks * type.field[f].count);
    }
    if (!model.has_quants()) continue;
    const size_t step = kPiece / type.quants.count;
    const size_t groups = model.groups_per_block();
    for (size_t first = 0; first < blocks; first += stride * step) {
      const size_t n = std::min(step, blocks - first);
      const size_t block = at / type.bytes + first;
      ArrangeQuants(
          model, data, first, n,
          model.row_blocks == 0 ? 0 : (column + block) % model.row_blocks,
          arranged, symbols.data(), classes.data());
      count(symbols.data(), classes.data(), n * type.quants.count);
      for (size_t a = 0; a < model.anchors; ++a) {
        const size_t start = arranged.layout.position[a] + first * groups;
        count(arranged.symbols + start, arranged.classes + start, n * groups);
      }
    }
  }
  for (size_t c = 0; c < counts.size(); ++c) {
    for (size_t t = 0; t < 256; ++t) counts[c][t] += others[c][t];
  }
  return counts;
}

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

  // Tables of fewer symbols are told well by a part of a large frame.
  const bool part = request.level < kMinThoroughLevel && model.has_quants() &&
                    type->field[model.side_fields()].bits < 8 &&
                    blocks * type->quants.count >= size_t{1} << 21;
  const size_t stride = part ? 4 : 1;
  const std::vector<ByteCounts> counts =
      CountSymbols(model, request, column, stride, scratch);
  const size_t sampled_from =
      model.anchors > 0 ? model.position_class[0] : model.quant_class;
  const auto make = [&](bool smooth, uint64_t* cost) {
    ClassFrequencies tables;
    *cost = 0;
    for (size_t c = 0; c < counts.size(); ++c) {
      const bool is_quant = c >= model.quant_class;
      tables.push_back(entropy::NormalizeBytes(
          smooth && is_quant ? Smooth(counts[c]) : counts[c]));
      const uint64_t coded = entropy::CodingCost(counts[c], tables.back());
      *cost += c < sampled_from ? coded : coded * stride;
    }
    *cost >>= 19;
    return tables;
  };
  uint64_t cost;
  ClassFrequencies tables = make(false, &cost);
  if (model.has_quants() && type->field[model.side_fields()].bits == 8) {
    const auto size = [&](const ClassFrequencies& of) {
      Buffer coded;
      entropy::WriteClassFrequencies(
          {of.begin() + static_cast<std::ptrdiff_t>(model.quant_class),
           of.end()},
          &coded);
      return coded.size();
    };
    uint64_t smooth_cost;
    ClassFrequencies smooth = make(true, &smooth_cost);
    if (smooth_cost + size(smooth) < cost + size(tables)) {
      tables = std::move(smooth);
      cost = smooth_cost;
    }
  }
  // States of the streams, their sizes, the column.
  constexpr uint64_t kBlockOverhead = 600;
  const uint64_t estimate =
      cost + (request.data.size() + request.block_size - 1) /
                 request.block_size * kBlockOverhead;
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
