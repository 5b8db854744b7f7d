// What encoder and decoder of codec 8 share: the kinds of elements, and which
// class an element belongs to. Format: format-spec/codecs/8-classes.md.
#ifndef ZIPLLM_CODECS_TENSOR_CLASSES_FORMAT_H_
#define ZIPLLM_CODECS_TENSOR_CLASSES_FORMAT_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "codecs/tensor/bit_planes.h"

namespace zipllm::codecs::classes_format {

/// A kind of elements. An element's key is `key_bits` bits of it (of its high
/// half) from `key_shift` on, without the sign, which stays the symbol's bit 7;
/// kinds without sign have none.
struct Kind {
  uint8_t number;
  uint8_t element_size;
  uint8_t key_shift;
  uint8_t key_bits;
  bool has_sign;
  std::span<const Plane> planes;

  constexpr uint32_t Key(uint32_t unit) const {
    return (unit >> key_shift) & ((1u << key_bits) - 1);
  }
  /// The bits of a symbol but for the sign; also the symbol of keys that are
  /// not listed.
  constexpr uint8_t escape() const { return has_sign ? 0x7F : 0xFF; }
};

inline constexpr std::array kBf16Planes = {Plane{4, 0, false}};
inline constexpr std::array kFp16Planes = {
    Plane{1, 0, false}, Plane{1, 1, false}, Plane{1, 2, false},
    Plane{4, 3, false}};
inline constexpr std::array kFp32Planes = {
    Plane{8, 0, true},  Plane{4, 8, true},  Plane{1, 12, true},
    Plane{1, 13, true}, Plane{1, 14, true}, Plane{1, 15, true},
    Plane{4, 0, false}};
static_assert(kFp32Planes.size() <= kMaxPlanes);
inline constexpr std::array kKinds = {
    Kind{1, 1, 0, 8, false, {}},          Kind{2, 1, 0, 7, true, {}},
    Kind{3, 2, 4, 11, true, kBf16Planes}, Kind{4, 2, 7, 8, true, kFp16Planes},
    Kind{5, 4, 4, 11, true, kFp32Planes},
};

inline constexpr uint8_t kSign = 0x80;
/// Listed groups of keys have at most 2^this keys.
inline constexpr int kMaxGroupBits = 7;

enum Flags : uint8_t { kByRows = 1, kByColumns = 2, kBySigns = 4 };
inline constexpr uint8_t kAllFlags = kByRows | kByColumns | kBySigns;

/// Offsets of rows and columns: 0 to 127, this where there are none.
inline constexpr uint8_t kNoOffset = 64;
inline constexpr uint8_t kMaxOffset = 127;
/// The scale of an element: the sum of its row's and column's offset less this,
/// cut to 0 to kScales - 1.
inline constexpr uint8_t kLeastSum = 96;
inline constexpr uint8_t kScales = 64;
/// How uneven the signs of a column are: 0 to kSkews - 1.
inline constexpr uint8_t kSkews = 4;
/// Pairs of scale and skew.
inline constexpr size_t kContexts = size_t{kScales} * kSkews;
/// Rows with columns of their own are at most as long.
inline constexpr uint64_t kMaxColumns = uint64_t{1} << 19;
inline constexpr uint64_t kMaxRow = uint64_t{1} << 40;

/// Elements decoded at a time: whole groups of planes and steps of streams.
inline constexpr size_t kPiece = 2048;

/// Which class an element is of, by its row and column.
struct ClassMap {
  uint8_t flags = 0;
  uint64_t row = kMaxRow;  // elements
  /// By column; empty unless kByColumns or kBySigns. `contexts` has kScales
  /// times the skew, `flips` kSign for columns whose signs are turned.
  std::vector<uint8_t> offsets, contexts, flips;
  /// By scale + kScales * skew.
  std::array<uint8_t, kContexts> classes{};

  bool has_columns() const { return (flags & (kByColumns | kBySigns)) != 0; }
};

/// The classes of rows, each kind of row made once.
class RowClasses {
 public:
  /// `made` is any buffer; it holds the rows.
  RowClasses(const ClassMap& map, Buffer* made) : map_(map), made_(*made) {
    made_.Clear();
  }
  /// The classes of the columns from `column` on of a row with this offset (at
  /// most kMaxOffset; unused unless kByRows).
  void Get(uint8_t row_offset, uint64_t column, size_t count,
           uint8_t* classes) {
    const uint8_t offset = (map_.flags & kByRows) != 0 ? row_offset : kNoOffset;
    if (!map_.has_columns()) {
      std::memset(classes, map_.classes[Scale(kNoOffset, offset)], count);
    } else if (map_.row <= kMaxMadeRow) {
      std::memcpy(classes, Made(offset) + column, count);
    } else {
      Make(offset, static_cast<size_t>(column), count, classes);
    }
  }

 private:
  static constexpr uint64_t kMaxMadeRow = 8192;

  static uint8_t Scale(uint8_t a, uint8_t b) {
    const auto sum = static_cast<uint8_t>(a + b);
    const auto scale =
        static_cast<uint8_t>(std::max(sum, kLeastSum) - kLeastSum);
    return std::min<uint8_t>(scale, kScales - 1);
  }
  void Make(uint8_t offset, size_t column, size_t count,
            uint8_t* classes) const {
    const uint8_t* const offsets = map_.offsets.data() + column;
    const uint8_t* const contexts = map_.contexts.data() + column;
    for (size_t j = 0; j < count; ++j) {
      classes[j] = map_.classes[Scale(offsets[j], offset) + contexts[j]];
    }
  }
  const uint8_t* Made(uint8_t offset) {
    const auto row = static_cast<size_t>(map_.row);
    if (place_[offset] == 0) {
      Make(offset, 0, row, made_.Extend(row));
      place_[offset] = made_.size() / row;
    }
    return made_.data() + (place_[offset] - 1) * row;
  }

  const ClassMap& map_;
  Buffer& made_;
  // By offset: which row of `made_`, from 1 on; 0: none.
  std::array<size_t, kMaxOffset + 1> place_{};
};

/// Walks a block's elements in order.
class ClassCursor {
 public:
  /// The first element is in column `phase`; `row_offsets` are those of its row
  /// and the ones that follow (unused unless kByRows).
  ClassCursor(const ClassMap& map, uint64_t phase, const uint8_t* row_offsets,
              Buffer* made)
      : rows_(map, made),
        row_(map.row),
        by_rows_((map.flags & kByRows) != 0),
        column_(phase),
        row_offset_(row_offsets) {}

  /// The classes of the next `count` elements.
  void Next(size_t count, uint8_t* classes) {
    while (count > 0) {
      const auto run =
          static_cast<size_t>(std::min<uint64_t>(count, row_ - column_));
      rows_.Get(by_rows_ ? *row_offset_ : kNoOffset, column_, run, classes);
      classes += run;
      count -= run;
      column_ += run;
      if (column_ < row_) continue;
      column_ = 0;
      if (by_rows_) ++row_offset_;
    }
  }

 private:
  RowClasses rows_;
  uint64_t row_;
  bool by_rows_;
  uint64_t column_;
  const uint8_t* row_offset_;
};

/// Turns the signs (bit 7) of `count` symbols by their columns, the first being
/// in `*column`, which is moved on. Only for maps with kBySigns.
inline void FlipSigns(const ClassMap& map, uint64_t* column, size_t count,
                      uint8_t* symbols) {
  while (count > 0) {
    const auto run =
        static_cast<size_t>(std::min<uint64_t>(count, map.row - *column));
    const uint8_t* const flips = map.flips.data() + *column;
    for (size_t j = 0; j < run; ++j) symbols[j] ^= flips[j];
    symbols += run;
    count -= run;
    *column = *column + run == map.row ? 0 : *column + run;
  }
}

/// Calls body(i), ascending, for the `symbols` that leave something of the key
/// to say: those whose number is at least `exact` (at most kind.escape()).
template <typename Body>
void ForExtra(const Kind& kind, uint8_t exact, const uint8_t* symbols,
              size_t count, const Body& body) {
  // Bit 7 of each of 8 bytes is set where the number is that large; then these
  // bits are drawn together. 64 symbols at a time, so that few branches miss.
  constexpr uint64_t kEach = 0x0101010101010101;
  const uint64_t add = (0x80u - (exact & 0x7Fu)) * kEach;
  size_t i = 0;
  for (; i + 64 <= count; i += 64) {
    uint64_t mask = 0;
    for (size_t part = 0; part < 8; ++part) {
      uint64_t eight;
      std::memcpy(&eight, symbols + i + 8 * part, sizeof eight);
      uint64_t found = (eight & (0x7F * kEach)) + add;
      if (!kind.has_sign) found = exact < 0x80 ? found | eight : found & eight;
      found = ((found >> 7) & kEach) * 0x0102040810204080 >> 56;
      mask |= found << (8 * part);
    }
    for (; mask != 0; mask &= mask - 1) {
      body(i + static_cast<size_t>(std::countr_zero(mask)));
    }
  }
  for (; i < count; ++i) {
    if ((symbols[i] & kind.escape()) >= exact) body(i);
  }
}

}  // namespace zipllm::codecs::classes_format

#endif  // ZIPLLM_CODECS_TENSOR_CLASSES_FORMAT_H_
