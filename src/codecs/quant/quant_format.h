// The layout of codec 9, quant (format-spec/codecs/9-quant.md): what its
// encoder and its decoder share.
#ifndef ZIPLLM_CODECS_QUANT_QUANT_FORMAT_H_
#define ZIPLLM_CODECS_QUANT_QUANT_FORMAT_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "codecs/quant/ggml_blocks.h"
#include "entropy/class_rans.h"

namespace zipllm::codecs::quant {

/// Elements of a piece, for which classes and symbols stay in the cache.
inline constexpr size_t kPiece = 8192;
/// The symbols of each field are padded to a multiple of this.
inline constexpr size_t kPadding = entropy::ClassRansDecoder::kPiece;
static_assert(kPiece % kPadding == 0);

inline constexpr size_t kMaxColumns = 65536;
/// Scales of columns are in 2^kColumnShift of a Log.
inline constexpr int kColumnShift = 2;
inline constexpr size_t kMaxAnchors = 2;

// Flags of the parameters.
inline constexpr uint8_t kAnchorBits = 3;
inline constexpr uint8_t kSplitByAnchors = 4;
inline constexpr uint8_t kColumns = 8;
inline constexpr uint8_t kByColumnGroup = 16;
inline constexpr uint8_t kAllFlags = 31;

/// Times a byte: a number of eight such bytes.
inline constexpr uint64_t kEach = 0x0101010101010101;

/// Elements of the largest group of quants.
inline constexpr size_t kMaxGroup = 32;
/// From kMaxGroup - p on: p times 255, then 0.
inline constexpr std::array<uint8_t, 2 * kMaxGroup> kBefore = [] {
  std::array<uint8_t, 2 * kMaxGroup> bytes{};
  std::fill_n(bytes.begin(), kMaxGroup, uint8_t{255});
  return bytes;
}();

constexpr size_t Padded(size_t count) {
  return (count + kPadding - 1) / kPadding * kPadding;
}

/// 32 * log2(x), about; 0 for 0.
constexpr int Log(uint64_t x) {
  // round(32 * log2(1 + i / 32))
  constexpr std::array<uint8_t, 32> kFraction = {
      0,  1,  3,  4,  5,  7,  8,  9,  10, 11, 13, 14, 15, 16, 17, 18,
      19, 20, 21, 22, 22, 23, 24, 25, 26, 27, 27, 28, 29, 30, 31, 31};
  if (x == 0) return 0;
  const int top = static_cast<int>(std::bit_width(x)) - 1;
  const uint64_t below = top >= 5 ? x >> (top - 5) : x << (5 - top);
  return 32 * top + kFraction[below & 31];
}

/// Keys in `count` steps of 2^shift from `base` on, the ends open.
struct Axis {
  uint8_t count = 1;
  uint8_t shift = 0;
  int16_t base = 0;

  constexpr int Index(int key) const {
    return std::clamp((key - base) >> shift, 0, count - 1);
  }
};

/// What groups of quants are sorted by.
struct GroupKey {
  int16_t scale;     // Log of the group's scale
  int16_t zero;      // Log of the element that stands for zero
  uint8_t negative;  // whether the scale is below zero
};

/// Classes [first, last), whose symbols are below `symbols`.
struct ClassRange {
  std::ptrdiff_t first;
  std::ptrdiff_t last;
  size_t symbols;
};

/// How a frame's blocks are coded but for the frequencies.
struct Model {
  const BlockType* type = nullptr;
  uint8_t hints = 0;  // bit f: field f is coded by its hint
  uint8_t anchors = 0;
  bool split_by_anchors = false;  // elements before an anchor apart
  Axis scale;
  Axis second;  // over the zero, or groups of columns
  bool by_column_group = false;
  uint32_t row_blocks = 0;  // blocks a row; 0: nothing is known of columns
  // By column: what is subtracted from the scale's Log, in fours of it.
  std::vector<uint8_t> column_scale;
  std::vector<uint8_t> column_group;  // below second.count
  std::vector<uint8_t> column_flip;   // 0 or 255

  // Classes: that of padding is 0; the rest by Number().
  std::array<uint8_t, kMaxFields> first_class{};
  std::array<uint8_t, kMaxAnchors> position_class{};
  std::array<uint8_t, kMaxAnchors> anchor_class{};
  size_t quant_class = 0;
  size_t contexts = 0;  // classes of quants but for anchors
  size_t classes = 0;

  bool has_quants() const { return type->quants.count != 0; }
  /// Fields but for the quants.
  size_t side_fields() const { return type->fields - (has_quants() ? 1u : 0u); }
  bool hinted(size_t f) const { return (hints >> f & 1) != 0; }
  size_t groups_per_block() const {
    return static_cast<size_t>(type->quants.count / type->quants.group);
  }
  /// The classes whose tables are written together, since they are alike: those
  /// of padding, of each side field, of each anchor's positions, of each
  /// anchor, of the quants.
  std::vector<ClassRange> TableRanges() const;
  /// Numbers the classes. There may be more than entropy::kMaxClasses.
  void Number();
};

/// Where the symbols of a block's side fields and anchors lie in one buffer.
struct SideLayout {
  SideLayout(const Model& model, size_t blocks);
  std::array<size_t, kMaxFields> field{};
  std::array<size_t, kMaxAnchors> position{};
  size_t size = 0;
};

/// symbols[b * field.count + i] = element i of block b, for `blocks` blocks.
void SplitField(const BlockType& type, const Field& field, const uint8_t* data,
                size_t blocks, uint8_t* symbols);
/// The other way: sets the field's bits, which are 0, by any symbols.
void MergeField(const BlockType& type, const Field& field,
                const uint8_t* symbols, size_t blocks, uint8_t* data);

/// The classes of elements [first, first + count) of a side field of all
/// blocks, `source` being the symbols of the hint's field.
void SideClasses(const Model& model, size_t f, const uint8_t* source,
                 size_t first, size_t count, uint8_t* classes);

/// The keys of `blocks` blocks' groups, from block `first` of those whose side
/// fields lie in `side`.
void FindKeys(const BlockType& type, const uint8_t* side,
              const SideLayout& layout, size_t first, size_t blocks,
              GroupKey* keys);

/// The classes of the quants of `blocks` blocks, of which the first is in
/// column `column` of blocks (0 if rows are not known). positions[a] are those
/// of anchor a, by group.
void QuantClasses(const Model& model, const GroupKey* keys, size_t blocks,
                  size_t column,
                  const std::array<const uint8_t*, kMaxAnchors>& positions,
                  uint8_t* classes);

/// Turns quants of columns that flip into their opposites, and back.
void FlipQuants(const Model& model, const GroupKey* keys, size_t blocks,
                size_t column, uint8_t* symbols);

}  // namespace zipllm::codecs::quant

#endif  // ZIPLLM_CODECS_QUANT_QUANT_FORMAT_H_
