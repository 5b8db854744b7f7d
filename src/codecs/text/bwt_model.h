// The model of a Burrows-Wheeler transformed block, the same for encoder and
// decoder. Format: format-spec/codecs/21-bwt.md.
//
// A transformed text has runs. For each symbol a flag says whether it goes on
// with the run; where a run ends, the bits of the next symbol's Huffman code
// follow, which are fewer than eight. Each is predicted from what came before
// by several contexts, which are mixed, and refined.
#ifndef ZIPLLM_CODECS_TEXT_BWT_MODEL_H_
#define ZIPLLM_CODECS_TEXT_BWT_MODEL_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "entropy/mixing.h"

namespace zipllm::codecs::bwt {

using entropy::AdaptiveBit;
using entropy::MixingTables;

/// Rows are 24-bit numbers.
inline constexpr size_t kMaxBlockSize = (size_t{1} << 24) - 1;
inline constexpr size_t kMaxWalks = 8;
/// How many walks the inverse transform of a block of `size` bytes takes at
/// once, each through an equal part of it.
inline size_t Walks(size_t size) { return size < 65536 ? 1 : kMaxWalks; }
/// Where the part of walk `i` of `walks` begins.
inline size_t PartBegin(size_t size, size_t i, size_t walks) {
  return size * i / walks;
}

inline constexpr int kMaxCodeLength = 15;
using CodeLengths = std::array<uint8_t, 256>;

/// A canonical Huffman code as a binary tree. Symbols are numbered in the order
/// of (length, byte), inner nodes from 0, the root, in the order in which these
/// symbols' codes first pass through them.
class CodeTree {
 public:
  /// False if the lengths, up to kMaxCodeLength, are no complete code: a single
  /// symbol has length 1.
  bool Init(const CodeLengths& lengths) {
    bytes_.clear();
    codes_.clear();
    nodes_.clear();
    uint32_t end = 0;  // of the codes so far, in units of 2^-kMaxCodeLength
    for (int length = 1; length <= kMaxCodeLength; ++length) {
      for (size_t byte = 0; byte < lengths.size(); ++byte) {
        if (lengths[byte] != length) continue;
        if (end >= kWhole) return false;
        Insert(end, length);
        bytes_.push_back(static_cast<uint8_t>(byte));
        end += kWhole >> length;
      }
    }
    return end == kWhole || (bytes_.size() == 1 && lengths[bytes_[0]] == 1);
  }

  size_t symbols() const { return bytes_.size(); }
  size_t nodes() const { return nodes_.size(); }
  uint8_t Byte(size_t symbol) const { return bytes_[symbol]; }

  struct Code {
    uint16_t bits;  ///< from bit kMaxCodeLength - 1 down
    uint16_t length;
    /// The `i`-th bit from the top, `i` < kMaxCodeLength; 0 past the end.
    bool Bit(size_t i) const { return bits >> (kMaxCodeLength - 1 - i) & 1; }
  };
  const Code& CodeOf(size_t symbol) const { return codes_[symbol]; }

  /// Where a bit leads: to a node, or to kLeaf + symbol.
  static constexpr uint16_t kLeaf = 256;
  uint16_t Child(size_t node, bool bit) const { return nodes_[node][bit]; }

 private:
  static constexpr uint32_t kWhole = uint32_t{1} << kMaxCodeLength;

  void Insert(uint32_t bits, int length) {
    const Code code{static_cast<uint16_t>(bits), static_cast<uint16_t>(length)};
    // Every child is a leaf until a longer code passes.
    constexpr std::array<uint16_t, 2> kNewNode = {kLeaf, kLeaf};
    if (nodes_.empty()) nodes_.push_back(kNewNode);
    size_t node = 0;
    for (size_t i = 0; i + 1 < code.length; ++i) {
      uint16_t& child = nodes_[node][code.Bit(i)];
      if (child >= kLeaf) {
        child = static_cast<uint16_t>(nodes_.size());
        node = child;
        nodes_.push_back(kNewNode);
      } else {
        node = child;
      }
    }
    nodes_[node][code.Bit(code.length - 1u)] =
        static_cast<uint16_t>(kLeaf + codes_.size());
    codes_.push_back(code);
  }

  std::vector<uint8_t> bytes_;
  std::vector<Code> codes_;
  std::vector<std::array<uint16_t, 2>> nodes_;
};

/// Codes the lengths of a Huffman code, by the lengths before them. `Coder` is
/// a BinaryEncoder or, where `lengths` is what it fills, a BinaryDecoder.
template <typename Coder>
void CodeCodeLengths(CodeLengths* lengths, Coder& coder) {
  constexpr uint32_t kLimit = 30;
  const MixingTables& tables = entropy::GetMixingTables();
  std::array<std::array<AdaptiveBit, 16>, 16> bits;
  size_t before = 0;
  for (uint8_t& length : *lengths) {
    size_t node = 1;
    for (int i = 3; i >= 0; --i) {
      AdaptiveBit& model = bits[before][node];
      const bool bit = coder.Code((length >> i & 1) != 0,
                                  entropy::ClampProbability(model.p16()));
      model.Update(tables, bit, kLimit);
      node = node * 2 + bit;
    }
    length = static_cast<uint8_t>(node - 16);
    before = length;
  }
}

/// How often each symbol was seen, where old ones fade: each counts for 1 -
/// 2^-`rate` of the one after it.
class FadingCounts {
 public:
  FadingCounts(size_t symbols, int rate) : counts_(symbols), rate_(rate) {}
  void Add(size_t symbol) {
    counts_[symbol] += one_;
    total_ += one_;
    one_ += one_ >> rate_;
    if (one_ < kMaxOne) return;
    one_ >>= kShift;
    total_ = 0;
    for (uint32_t& count : counts_) total_ += count >>= kShift;
  }
  /// log2 of `symbol`'s share to that of all others, in half bits from -8 to
  /// 7.5, as a number of 0 to 31.
  size_t Share(size_t symbol) const {
    const int ratio = Log2(counts_[symbol]) - Log2(total_ - counts_[symbol]);
    return static_cast<size_t>(std::clamp((ratio >> 2) + 16, 0, 31));
  }

 private:
  static constexpr int kShift = 11;
  static constexpr uint32_t kMaxOne = uint32_t{1} << 21;
  /// Of x + 1, in eighths; between powers of two linear.
  static int Log2(uint32_t x) {
    const uint32_t scaled = x * 8 + 8;  // counts stay below 2^28
    const int whole = std::bit_width(scaled) - 4;
    return whole * 8 + static_cast<int>(scaled >> whole & 7);
  }

  std::vector<uint32_t> counts_;
  int rate_;
  uint32_t total_ = 0;
  uint32_t one_ = 1024;
};

/// Weights of a mixer and what they mix: numbers of 16 bits, eight at once.
using Lanes = std::array<int16_t, 8>;

/// The sum of a[i] * (u[i] + v[i]); the sums in brackets saturate.
inline int32_t DotOfSum(const Lanes& a, const Lanes& u, const Lanes& v) {
#if defined(__SSE2__)
  const auto load = [](const Lanes& lanes) {
    return _mm_load_si128(reinterpret_cast<const __m128i*>(lanes.data()));
  };
  __m128i sum = _mm_madd_epi16(load(a), _mm_adds_epi16(load(u), load(v)));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, _MM_SHUFFLE(1, 0, 3, 2)));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, _MM_SHUFFLE(2, 3, 0, 1)));
  return _mm_cvtsi128_si32(sum);
#else
  int32_t sum = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    sum += a[i] * std::clamp(u[i] + v[i], -32768, 32767);
  }
  return sum;
#endif
}

/// Adds (a[i] * error * 2 / 65536, rounded) to u[i] and v[i], which saturate.
/// Inputs are less than 2^14.
inline void AddScaled(const Lanes& a, int16_t error, Lanes* u, Lanes* v) {
#if defined(__SSE2__)
  const __m128i one = _mm_set1_epi16(1);
  const auto at = [](Lanes* lanes) {
    return reinterpret_cast<__m128i*>(lanes->data());
  };
  __m128i step = _mm_load_si128(reinterpret_cast<const __m128i*>(a.data()));
  step = _mm_mulhi_epi16(_mm_add_epi16(step, step), _mm_set1_epi16(error));
  step = _mm_srai_epi16(_mm_add_epi16(step, one), 1);
  _mm_store_si128(at(u), _mm_adds_epi16(_mm_load_si128(at(u)), step));
  _mm_store_si128(at(v), _mm_adds_epi16(_mm_load_si128(at(v)), step));
#else
  const auto add = [](int16_t* to, int32_t step) {
    *to = static_cast<int16_t>(std::clamp(*to + step, -32768, 32767));
  };
  for (size_t i = 0; i < a.size(); ++i) {
    const int32_t step = ((2 * a[i] * error >> 16) + 1) >> 1;
    add(&(*u)[i], step);
    add(&(*v)[i], step);
  }
#endif
}

/// Predicts a bit by adaptive bits of several contexts, mixed by the sum of two
/// sets of weights.
template <size_t kContexts>
class Predictor {
 public:
  /// How many sets there are to choose from.
  Predictor(const MixingTables& tables, size_t sets1, size_t sets2)
      : tables_(tables),
        sets_{std::vector<Set>(sets1, FirstWeights()),
              std::vector<Set>(sets2, FirstWeights())} {}

  /// Codes `bit`, or decodes one: by BinaryEncoder or BinaryDecoder.
  template <typename Coder>
  bool Code(const std::array<AdaptiveBit*, kContexts>& bits,
            const std::array<uint32_t, kContexts>& limits, size_t set1,
            size_t set2, bool bit, Coder& coder) {
    Set inputs{};
    for (size_t i = 0; i < kContexts; ++i) {
      inputs.lanes[i] = tables_.stretch[bits[i]->p16() >> 4];
    }
    inputs.lanes[kContexts] = 256;
    Lanes& weights1 = sets_[0][set1].lanes;
    Lanes& weights2 = sets_[1][set2].lanes;
    const int32_t mix =
        std::clamp(DotOfSum(inputs.lanes, weights1, weights2) >> kOneBits,
                   -entropy::kStretchMax, entropy::kStretchMax);
    const uint32_t p = tables_.squash[static_cast<size_t>(mix + 2048)];
    bit = coder.Code(bit, p);
    const int32_t error = (bit ? 65536 : 0) - static_cast<int32_t>(p);
    AddScaled(inputs.lanes, static_cast<int16_t>(error >> kErrorShift),
              &weights1, &weights2);
    for (size_t i = 0; i < kContexts; ++i) {
      bits[i]->Update(tables_, bit, limits[i]);
    }
    return bit;
  }

 private:
  static constexpr int kOneBits = 14;
  static constexpr int kErrorShift = 3;
  static constexpr int16_t kFirstWeight = 8400 / kContexts;
  struct alignas(16) Set {
    Lanes lanes;
  };
  static constexpr Set FirstWeights() {
    Set set{};
    for (size_t i = 0; i < kContexts; ++i) set.lanes[i] = kFirstWeight;
    return set;
  }
  static_assert(kContexts < std::tuple_size_v<Lanes>);

  const MixingTables& tables_;
  std::array<std::vector<Set>, 2> sets_;
};

/// Codes the symbols of a block in turn. Thread-compatible.
class Model {
 public:
  /// For a block of `size` bytes. `tree` outlives this.
  Model(const CodeTree& tree, size_t size)
      : tree_(tree),
        tables_(entropy::GetMixingTables()),
        hash_bits_(std::clamp(static_cast<int>(std::bit_width(size)) - 9, 4,
                              kMaxHashBits)),
        symbols_(tree.symbols()),
        nodes_(tree.nodes()),
        recent_(symbols_, 4),
        usual_(symbols_, 6),
        flags_(tables_, 32 * 16, symbols_ * 16),
        flag_by_symbol_(symbols_ * 8),
        flag_by_share_(32 * 32 * 16),
        flag_by_runs_(16 * 16),
        at_node_(nodes_),
        after_last_(symbols_ * nodes_),
        bits_(tables_, nodes_ * 8, nodes_ * 16),
        bit_by_before_(symbols_ * nodes_),
        bit_by_two_(Slots() * nodes_),
        bit_by_history_(nodes_ * 128),
        bit_by_after_history_(nodes_ * 8 * 16) {}

  /// Codes `symbol`, or decodes one, by a BinaryEncoder or BinaryDecoder.
  template <typename Coder>
  size_t Code(size_t symbol, Coder& coder) {
    const size_t run = RunClass();
    if (CodeFlag(symbol == last_, run, coder)) {
      ++run_;
      recent_.Add(last_);
      usual_.Add(last_);
      return last_;
    }
    RepeatLast();
    symbol = CodeSymbol(symbol, coder);
    recent_.Add(symbol);
    usual_.Add(symbol);
    const size_t rank = symbol == before_ ? 0 : symbol == third_ ? 1 : 2;
    ranks_ = ranks_ << 2 | static_cast<uint32_t>(rank);
    run_before_ = run;
    third_ = before_;
    before_ = last_;
    last_ = symbol;
    run_ = 0;
    return symbol;
  }

 private:
  static constexpr int kMaxHashBits = 11;
  static constexpr uint32_t kSlow = 250;
  static constexpr uint32_t kMiddle = 30;
  static constexpr uint32_t kFast = 14;

  /// What is known of a node of the tree; the last bits there.
  struct AtNode {
    AdaptiveBit recent;
    uint32_t history = 0;
  };
  /// The same where a run of one symbol has ended.
  struct AfterLast {
    AdaptiveBit recent;
    AdaptiveBit usual;
    uint32_t history = 0;
  };
  static void Append(bool bit, uint32_t* history) {
    *history = *history << 1 | bit;
  }

  size_t Slots() const { return size_t{1} << hash_bits_; }
  size_t Hash(size_t x) const {
    return static_cast<uint32_t>(x * 0x9E3779B1) >> (32 - hash_bits_);
  }

  /// Of the run so far: 0 to 15.
  size_t RunClass() const {
    if (run_ < 8) return run_;
    const auto octave = static_cast<size_t>(std::bit_width(run_));  // from 4
    return std::min<size_t>(octave * 2 + (run_ >> (octave - 2) & 1), 15);
  }

  template <typename Coder>
  bool CodeFlag(bool flag, size_t run, Coder& coder) {
    const size_t recent = recent_.Share(last_);
    const size_t usual = usual_.Share(last_);
    return flags_.Code(
        {&flag_recent_, &flag_by_symbol_[last_ * 8 + std::min<size_t>(run, 7)],
         &flag_by_share_[(recent * 32 + usual) * 16 + run],
         &flag_by_runs_[run_before_ * 16 + run]},
        {kFast, kFast, kSlow, kSlow}, recent * 16 + run, last_ * 16 + run, flag,
        coder);
  }

  /// Tells the models of all symbols how long the run was.
  void RepeatLast() {
    const CodeTree::Code& code = tree_.CodeOf(last_);
    for (size_t i = std::min<size_t>(run_, 6); i > 0; --i) {
      size_t node = 0;
      for (size_t j = 0; j < code.length; ++j) {
        const bool bit = code.Bit(j);
        at_node_[node].recent.Update(tables_, bit, kFast);
        Append(bit, &at_node_[node].history);
        node = tree_.Child(node, bit);
      }
    }
  }

  template <typename Coder>
  size_t CodeSymbol(size_t symbol, Coder& coder) {
    const CodeTree::Code& code = tree_.CodeOf(symbol);
    const size_t last = last_ * nodes_;
    const size_t before = before_ * nodes_;
    const size_t two = Hash(last_ << 8 | before_) * nodes_;
    const size_t run = std::min<size_t>(run_, 7);
    size_t node = 0;
    for (size_t i = 0;; ++i) {
      AtNode& here = at_node_[node];
      AfterLast& after = after_last_[last + node];
      const bool bit = bits_.Code(
          {&here.recent, &after.recent, &after.usual,
           &bit_by_before_[before + node], &bit_by_two_[two + node],
           &bit_by_history_[node * 128 + (here.history & 127u)],
           &bit_by_after_history_[(node * 8 + run) * 16 +
                                  (after.history & 15u)]},
          {kFast, kFast, kSlow, kMiddle, kMiddle, kSlow, kSlow}, node * 8 + run,
          node * 16 + (ranks_ & 15), code.Bit(i), coder);
      Append(bit, &here.history);
      Append(bit, &after.history);
      const size_t child = tree_.Child(node, bit);
      if (child >= CodeTree::kLeaf) return child - CodeTree::kLeaf;
      node = child;
    }
  }

  const CodeTree& tree_;
  const MixingTables& tables_;
  int hash_bits_;
  size_t symbols_;
  size_t nodes_;

  // The last three runs' symbols and what is known of runs before.
  size_t last_ = 0;
  size_t before_ = 0;
  size_t third_ = 0;
  size_t run_ = 0;         // repeats of last_
  size_t run_before_ = 0;  // class
  uint32_t ranks_ = 0;
  FadingCounts recent_;
  FadingCounts usual_;

  Predictor<4> flags_;
  AdaptiveBit flag_recent_;
  std::vector<AdaptiveBit> flag_by_symbol_, flag_by_share_, flag_by_runs_;

  std::vector<AtNode> at_node_;
  std::vector<AfterLast> after_last_;
  Predictor<7> bits_;
  std::vector<AdaptiveBit> bit_by_before_, bit_by_two_, bit_by_history_,
      bit_by_after_history_;
};

}  // namespace zipllm::codecs::bwt

#endif  // ZIPLLM_CODECS_TEXT_BWT_MODEL_H_
