// Columns of a table as the encoder sees them: numbers and what stands for
// them.
#ifndef ZIPLLM_CODECS_TABLE_TABLE_COLUMNS_H_
#define ZIPLLM_CODECS_TABLE_TABLE_COLUMNS_H_

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/bytes.h"
#include "codecs/table/table_format.h"

namespace zipllm::codecs::table {

inline int BitLength(int64_t difference) {
  return static_cast<int>(std::bit_width(Magnitude(difference)));
}

/// The number of an element that is not a decimal.
inline int64_t NumberOf(uint64_t raw, const Field& field) {
  switch (field.kind) {
    case kSigned:
      return SignExtend(raw, field.bits());
    case kOrdered: {
      const uint64_t top = uint64_t{1} << (field.bits() - 1);
      return (raw & top) != 0 ? static_cast<int64_t>(~(raw & (top - 1)))
                              : static_cast<int64_t>(raw);
    }
    default:
      return static_cast<int64_t>(raw);
  }
}

/// log2(x) in 1/65536, for counts of samples.
uint32_t Log2OfCount(size_t x);

/// The entropy of what is hashed into some counts, in 1/65536 bit.
class Histogram {
 public:
  void Add(uint64_t key) {
    ++counts_[(key * 0x9E3779B97F4A7C15) >> 52];
    ++total_;
  }
  uint64_t Cost() const {
    uint64_t sum = 0, used = 0;
    for (const uint32_t c : counts_) {
      if (c == 0) continue;
      ++used;
      sum += uint64_t{c} * Log2OfCount(c);
    }
    if (total_ == 0) return 0;
    return uint64_t{total_} * Log2OfCount(total_) - sum + used * (4 << 16);
  }

 private:
  std::array<uint32_t, 4096> counts_{};
  uint32_t total_ = 0;
};

/// Elements of a block, by record and field.
class Elements {
 public:
  Elements(ByteSpan data, const Table& table) : data_(data), table_(table) {
    size_t offset = 0;
    for (const Field& field : table.fields) {
      offsets_.push_back(offset);
      offset += field.width();
    }
  }
  uint64_t At(size_t record, size_t field) const {
    return LoadRaw(
        data_.data() + record * table_.record_bytes + offsets_[field],
        table_.fields[field]);
  }

 private:
  ByteSpan data_;
  const Table& table_;
  std::vector<size_t> offsets_;
};

/// Numbers of one field and which elements have none.
struct Column {
  std::vector<int64_t> values;
  std::vector<uint8_t> is_special;
};

/// Whether most of some elements are decimals; sets the field so.
bool FindDecimals(const Elements& elements, size_t records, size_t f,
                  Field* field);
/// Numbers of the field as it stands.
void ReadColumn(const Elements& elements, size_t records, size_t f,
                const Field& field, Column* column);
/// Makes the field scaled where its numbers have a common step.
void FindScale(Column* column, Field* field);
/// Gives values that are few numbers of their own, in their order.
void FindDictionary(Column* column, Field* field);
/// Whether neighbours, in the record before or the row above, are alike.
void FindNumeric(const Column& column, uint64_t row, Field* field);
/// The elements without a number that are frequent.
void FindSpecials(const Elements& elements, size_t f, const Column& column,
                  Field* field);

}  // namespace zipllm::codecs::table

#endif  // ZIPLLM_CODECS_TABLE_TABLE_COLUMNS_H_
