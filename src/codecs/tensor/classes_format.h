// What encoder and decoder of codec 8 share: the kinds of elements, and which
// class an element belongs to. Format: format-spec/codecs/8-classes.md.
#ifndef ZIPLLM_CODECS_TENSOR_CLASSES_FORMAT_H_
#define ZIPLLM_CODECS_TENSOR_CLASSES_FORMAT_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "codecs/tensor/bit_planes.h"

namespace zipllm::codecs::classes_format {

/// A kind of elements. Bytes are symbols as they are. Of others, a unit's sign
/// (bit 15) is bit 7 of the symbol, and its key, the `key_bits` bits from
/// `key_shift` on, is what the symbol's other bits stand for.
struct Kind {
  uint8_t number;
  uint8_t element_size;
  uint8_t key_shift;
  uint8_t key_bits;
  std::span<const Plane> planes;

  constexpr uint32_t Key(uint32_t unit) const {
    return (unit >> key_shift) & ((1u << key_bits) - 1);
  }
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
    Kind{1, 1, 0, 8, {}},
    Kind{2, 2, 4, 11, kBf16Planes},
    Kind{3, 2, 7, 8, kFp16Planes},
    Kind{4, 4, 4, 11, kFp32Planes},
};

inline constexpr uint8_t kSign = 0x80;
/// The other bits of a symbol whose key is not listed.
inline constexpr uint8_t kEscape = 0x7F;
inline constexpr size_t kMaxKeys = kEscape;

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
  uint64_t row = 1;  // elements
  /// By column; empty unless kByColumns or kBySigns. `contexts` has kScales
  /// times the skew, `flips` kSign for columns whose signs are turned.
  std::vector<uint8_t> offsets, contexts, flips;
  /// By scale + kScales * skew.
  std::array<uint8_t, kContexts> classes{};

  bool has_columns() const { return (flags & (kByColumns | kBySigns)) != 0; }
};

/// Walks a block's elements in order.
class ClassCursor {
 public:
  /// The first element is in column `phase`; `row_offsets` are those of its row
  /// and the ones that follow (unused unless kByRows).
  ClassCursor(const ClassMap& map, uint64_t phase, const uint8_t* row_offsets)
      : map_(map), column_(phase), row_offset_(row_offsets) {}

  /// The classes of the next `count` elements.
  void Next(size_t count, uint8_t* classes) {
    if (map_.flags == 0) {
      std::memset(classes, map_.classes[kScales / 2], count);
      return;
    }
    uint8_t* const first = classes;
    for (size_t left = count; left > 0;) {
      const auto run =
          static_cast<size_t>(std::min<uint64_t>(left, map_.row - column_));
      const uint8_t by_row =
          (map_.flags & kByRows) != 0 ? *row_offset_ : kNoOffset;
      if (map_.has_columns()) {
        AddColumns(by_row, run, classes);
      } else {
        std::memset(classes, Scale(kNoOffset, by_row), run);
      }
      classes += run;
      left -= run;
      Advance(run);
    }
    for (size_t i = 0; i < count; ++i) first[i] = map_.classes[first[i]];
  }

 private:
  static uint8_t Scale(uint8_t a, uint8_t b) {
    const auto sum = static_cast<uint8_t>(a + b);
    const auto scale =
        static_cast<uint8_t>(std::max(sum, kLeastSum) - kLeastSum);
    return std::min<uint8_t>(scale, kScales - 1);
  }
  void AddColumns(uint8_t by_row, size_t run, uint8_t* contexts) const {
    const uint8_t* const offsets = map_.offsets.data() + column_;
    const uint8_t* const bases = map_.contexts.data() + column_;
    for (size_t j = 0; j < run; ++j) {
      contexts[j] = static_cast<uint8_t>(Scale(offsets[j], by_row) + bases[j]);
    }
  }
  void Advance(size_t run) {
    column_ += run;
    if (column_ == map_.row) {
      column_ = 0;
      if ((map_.flags & kByRows) != 0) ++row_offset_;
    }
  }

  const ClassMap& map_;
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

}  // namespace zipllm::codecs::classes_format

#endif  // ZIPLLM_CODECS_TENSOR_CLASSES_FORMAT_H_
