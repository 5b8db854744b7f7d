// Weights of language models: any type that GGUF files have, as tiles.
#ifndef ZIPLLM_LLM_MATRIX_H_
#define ZIPLLM_LLM_MATRIX_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "base/memory_budget.h"
#include "base/status.h"
#include "llm/gguf.h"
#include "llm/kernels.h"
#include "zipllm/io.h"

namespace zipllm::llm {

/// A matrix of 8 bits an element and a scale for 32 of them. Rows behind the
/// last, up to a multiple of 16, are zeros.
class Matrix {
 public:
  Matrix() = default;
  /// Zeros. `columns` is a multiple of 32.
  Matrix(size_t rows, size_t columns);

  static uint64_t Bytes(uint64_t rows, uint64_t columns);

  size_t rows() const { return rows_; }
  size_t tile_rows() const { return (rows_ + kTileRows - 1) / kTileRows; }
  /// Tiles, or blocks, of a row.
  size_t blocks() const { return blocks_; }
  /// Row t of tiles, followed by the others.
  const Tile* tiles(size_t t) const {
    return reinterpret_cast<const Tile*>(tiles_.data()) + t * blocks_;
  }

  /// `from` has blocks() blocks.
  void SetRow(size_t row, const Block* from);
  void GetRow(size_t row, float* to) const;

 private:
  size_t rows_ = 0;
  size_t blocks_ = 0;
  Buffer tiles_;
};

/// Reads the tensors of a model. Thread-compatible.
class WeightReader {
 public:
  /// `max_memory` bounds all that is read. Both must outlive the reader.
  WeightReader(const Gguf& gguf, Source& source, uint64_t max_memory)
      : gguf_(gguf), source_(source), budget_(gguf.name(), max_memory) {}

  bool Has(const std::string& name) const {
    return gguf_.FindTensor(name) != nullptr;
  }

  /// The tensor as floats. Errors: none of that name or not of that size
  /// (INVALID_ARGUMENT), a type that is not known (UNIMPLEMENTED).
  absl::StatusOr<std::vector<float>> Vector(const std::string& name,
                                            size_t count);

  /// One of the matrices that ReadMatrix puts below each other.
  struct Part {
    std::string name;
    size_t rows;
  };
  absl::StatusOr<Matrix> ReadMatrix(std::span<const Part> parts,
                                    size_t columns);
  /// Rows `ids` of a tensor of `rows` rows, in this order.
  absl::StatusOr<Matrix> ReadRows(const std::string& name, size_t rows,
                                  size_t columns,
                                  std::span<const uint32_t> ids);

 private:
  absl::StatusOr<const Segment*> Find(const std::string& name,
                                      std::span<const uint64_t> shape) const;
  absl::Status Read(const Segment& tensor, uint64_t first, uint64_t count,
                    std::vector<float>* numbers);
  absl::Status ReadInto(const Segment& tensor, size_t columns,
                        std::span<const uint32_t> ids, size_t row,
                        Matrix* matrix);

  const Gguf& gguf_;
  Source& source_;
  MemoryBudget budget_;
  Buffer bytes_;
};

}  // namespace zipllm::llm

#endif  // ZIPLLM_LLM_MATRIX_H_
