// Rows of tensors, told from one another by bits of their first elements.
#ifndef ZIPLLM_ARCHIVE_ROW_INDEX_H_
#define ZIPLLM_ARCHIVE_ROW_INDEX_H_

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "archive/lineage.h"
#include "archive/ordered_reader.h"

namespace zipllm::archive {

/// A tensor seen as a matrix.
struct Matrix {
  uint64_t rows;
  uint64_t columns;
};
inline constexpr uint64_t kMinColumns = 32;
/// Rows are the innermost dimension, or if that is short all but the outermost
/// one. A vector has rows of 64 elements; what is left belongs to none.
std::optional<Matrix> MatrixOf(const LineageTensor& tensor);

inline constexpr uint64_t kVectorColumns = 64;

/// One bit an element of a row's first 256: whether it is above their mean. Of
/// related rows few differ (of those quantized to two bits one in ten), of
/// others half of them.
inline constexpr uint64_t kSignatureBits = 256;
using RowSignature = std::array<uint64_t, kSignatureBits / 64>;
/// Nothing where nearly all bits are equal, which says nothing.
std::optional<RowSignature> SignatureOf(std::span<const int32_t> row);
/// How many bits differ.
uint32_t Distance(const RowSignature& a, const RowSignature& b);
/// Whether signatures of rows of `columns` elements are those of related rows.
bool AreNear(const RowSignature& a, const RowSignature& b, uint64_t columns);

struct Row {
  uint32_t number;
  RowSignature signature;
};
/// Signatures of some rows of a matrix, about 6 times the root of how many
/// there are: of two tensors that have many rows in common, wherever those
/// stand, some are found in both. Which ones depends on their numbers: rows
/// added at the end do not change that. False if they cannot be read.
bool SampleRows(OrderedReader& reader, size_t t, const Matrix& matrix,
                std::vector<Row>* rows);
/// Whether they have row `row` of `rows`, and about how many they have.
bool IsSampled(uint64_t row, uint64_t rows);
uint64_t SampleSize(uint64_t rows);
/// Signatures of the rows `begin` to `end`.
bool ReadRows(OrderedReader& reader, size_t t, const Matrix& matrix,
              uint64_t begin, uint64_t end, std::vector<Row>* rows);

/// Finds rows by their signatures, though some bits differ.
class RowIndex {
 public:
  struct Entry {
    RowSignature signature;
    uint32_t tensor;
    uint32_t row;
  };

  RowIndex() {
    for (auto& heads : heads_) heads.assign(kBuckets, kNone);
  }
  /// Has 2^19 rows: no more are added.
  bool IsFull() const { return entries_.size() == kMaxEntries; }
  void Add(size_t tensor, uint64_t columns, const Row& row);
  /// Appends entries that are near, of matrices of as many columns and some
  /// others, each once.
  void Find(const RowSignature& signature, uint64_t columns,
            std::vector<Entry>* found) const;

 private:
  static constexpr size_t kMaxEntries = size_t{1} << 19;
  static constexpr size_t kBands = kSignatureBits / 16;
  static constexpr size_t kBuckets = size_t{1} << 16;
  static constexpr uint32_t kNone = UINT32_MAX;

  struct Linked {
    Entry entry;
    std::array<uint32_t, kBands> next;
  };
  static uint16_t Band(const RowSignature& signature, size_t band) {
    return static_cast<uint16_t>(signature[band / 4] >> (16 * (band % 4)));
  }
  static size_t Bucket(const RowSignature& signature, uint64_t columns,
                       size_t band) {
    return (Band(signature, band) ^ columns * 0x9e3779b1) % kBuckets;
  }
  static size_t BandsOf(uint64_t columns) {
    return columns < kSignatureBits ? columns / 16 : kBands;
  }

  std::vector<Linked> entries_;
  std::array<std::vector<uint32_t>, kBands> heads_;
};

}  // namespace zipllm::archive

#endif  // ZIPLLM_ARCHIVE_ROW_INDEX_H_
