// The format of codec 25, log, as far as both halves share it. Format:
// format-spec/codecs/25-log.md.
#ifndef ZIPLLM_CODECS_LOG_LOG_FORMAT_H_
#define ZIPLLM_CODECS_LOG_LOG_FORMAT_H_

#include <span>
#include <vector>

#include "base/buffer.h"
#include "base/bytes.h"
#include "codecs/columns/columns.h"

namespace zipllm::codecs::log {

/// Limits of the format.
inline constexpr size_t kMaxBlockSize = size_t{1} << 24;
inline constexpr size_t kMaxTemplates = size_t{1} << 16;
inline constexpr size_t kMaxColumns = size_t{1} << 16;
/// Earlier columns that one may be coded beside.
inline constexpr size_t kMaxChosen = 4;
/// Whether a column of `values` may be coded beside one of `others`: looking at
/// that takes time.
inline bool MayStandBeside(size_t values, size_t others) {
  return others > 0 && others <= 16 * values + 256;
}

/// In the text of a template: a value stands here; the next byte is none of
/// these three, but itself; a part of what blocks share.
inline constexpr uint8_t kSlot = 0;
inline constexpr uint8_t kEscape = 1;
inline constexpr uint8_t kCopyOfShared = 2;

/// A piece of a template: literal bytes, then the next value of a column.
struct Item {
  uint32_t begin;  ///< of the literal, in Templates::literals
  uint32_t end;
  uint32_t column;  ///< from 1 on; kNoColumn: the template ends here
};
inline constexpr uint32_t kNoColumn = UINT32_MAX;

/// What records are made of. Column 0 has the records' template numbers.
class Templates {
 public:
  size_t size() const { return firsts_.size() - 1; }
  /// The last one has no column.
  std::span<const Item> operator[](size_t i) const {
    return std::span(items_).subspan(firsts_[i], firsts_[i + 1] - firsts_[i]);
  }
  ByteSpan Literal(const Item& item) const {
    return literals_.span().subspan(item.begin, item.end - item.begin);
  }
  /// Columns, with column 0.
  size_t columns() const { return columns_; }

  /// Reads them for a block of `max_bytes` at most; DATA_LOSS on damage.
  absl::Status Read(ByteReader& reader, size_t max_bytes, ByteSpan shared,
                    Scratch& scratch);

 private:
  std::vector<Item> items_;
  std::vector<uint32_t> firsts_ = {0};
  Buffer literals_;
  size_t columns_ = 1;
};

/// Bytes of a template number.
inline size_t NumberBytes(size_t templates) { return templates > 256 ? 2 : 1; }

/// The template number in `value`, which is one or two bytes long.
inline size_t NumberAt(ByteSpan value) {
  return value.size() == 1 ? value[0] : LoadLe<uint16_t>(value.data());
}

/// Reads the template numbers and checks them.
absl::Status ReadNumbers(ByteReader& reader, size_t records, size_t templates,
                         Scratch& scratch, columns::Values* numbers);

/// How many values each column has; DATA_LOSS where they are more than a block
/// of `size` bytes can have.
absl::StatusOr<std::vector<uint32_t>> CountValues(
    const Templates& templates, const columns::Values& numbers, size_t size);

/// Of each column, where its values stand: the numbers of the values of all
/// columns are counted through as the block has them, each record beginning
/// with its template number.
std::vector<std::vector<uint32_t>> FindPlaces(const Templates& templates,
                                              const columns::Values& numbers);

/// For each value at `places` the last value before it at `others`, which is
/// not empty; 0 where there is none.
std::vector<uint32_t> FindBeside(std::span<const uint32_t> places,
                                 std::span<const uint32_t> others);

}  // namespace zipllm::codecs::log

#endif  // ZIPLLM_CODECS_LOG_LOG_FORMAT_H_
