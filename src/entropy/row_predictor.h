// Linear prediction of a matrix's elements from those before them in the row,
// learned from the rows before: recursive least squares with a ridge, in fixed
// point, so that every machine predicts alike.
#ifndef ZIPLLM_ENTROPY_ROW_PREDICTOR_H_
#define ZIPLLM_ENTROPY_ROW_PREDICTOR_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace zipllm::entropy {

/// The second moments of the rows so far are kept as a factorization
/// L D L' with L unit lower triangular, which a row changes by rank one (Gill,
/// Golub, Murray, Saunders 1974, method C1). Forward substitution with L makes
/// innovations e of a row x; what L predicts of an element is the sum over the
/// earlier ones of L e. A constant stands before the first element and learns
/// the means. Columns beyond kGroup form further groups, each by itself.
///
/// For each row: BeginRow, then for each column in order Prediction and Set,
/// then EndRow. Thread-compatible; memory 4 * kGroup bytes a column.
class RowPredictor {
 public:
  static constexpr size_t kGroup = 1024;
  /// Root mean square that elements should have; larger than 32767 is clipped.
  static constexpr int32_t kScale = 1024;
  static constexpr int kPredictionBits = 7;

  /// Rows of `columns` elements (at least 1). `ridge` is the weight of the
  /// prior knowledge that columns have nothing to do with each other, in 1/16
  /// row a column.
  RowPredictor(size_t columns, uint32_t ridge);

  void BeginRow();
  /// What column `column` will be, in 1/2^kPredictionBits.
  int32_t Prediction(size_t column) const {
    return static_cast<int32_t>(prediction_[column]);
  }
  /// Says what it is.
  void Set(size_t column, int32_t value);
  void EndRow();

 private:
  struct Group {
    size_t first;  // column
    size_t count;
    uint64_t constant_weight;       // D of the constant
    std::vector<int32_t> constant;  // L of the constant, by column
    std::vector<int32_t> factor;    // L by column, then by row below it
    std::vector<uint64_t> weight;   // D by column
  };
  void EndGroup(Group& group);

  size_t columns_;
  std::vector<Group> groups_;
  std::vector<uint32_t> prediction_;
  std::vector<int32_t> row_;
};

}  // namespace zipllm::entropy

#endif  // ZIPLLM_ENTROPY_ROW_PREDICTOR_H_
