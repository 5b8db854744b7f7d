// Finds, by names, shapes and types, which tensors of a model are quantized
// weights, and which of the others are their scales and zero points; shows
// quantized weights as numbers.
#ifndef ZIPLLM_ARCHIVE_SCALE_ROLES_H_
#define ZIPLLM_ARCHIVE_SCALE_ROLES_H_

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "archive/lineage.h"

namespace zipllm::archive {

/// What the bits of a quantized weight, its code, stand for.
enum class CodeType : uint8_t {
  kE4M3,
  kE5M2,
  kE4M3Fnuz,
  kE5M2Fnuz,
  kE2M1,
  kInteger,  ///< the number less the zero point
};

/// A quantized tensor of a model and what belongs to it, as places in the list
/// of tensors.
///
/// Its weights are seen as a matrix of `shape`, mostly that of what they were
/// made of, in the order in which they lie: weight w is in element w /
/// per_element. Of others (GPTQ, AWQ) the matrix is that of the source with
/// rows and columns exchanged, and where `interleaved` is not 1 (GPTQ: 8)
/// weights of so many rows, one below the other, share an element: weight
/// (i, j) is part i mod interleaved of element (i / interleaved) columns + j.
/// So what lies beside such a tensor, seen as rows of columns * interleaved
/// weights, is its source with *units* of `interleaved` elements exchanged:
/// row i, column j is beside (j / interleaved, i * interleaved + j mod
/// interleaved) of the source.
struct QuantizedWeights {
  size_t codes = 0;
  std::optional<size_t> scale;
  /// One number (or one a matrix of a stack) that scales are given in.
  std::optional<size_t> global_scale;
  std::optional<size_t> zero;
  CodeType type = CodeType::kInteger;
  uint8_t bits = 8;          ///< of a code: 2, 4 or 8
  uint16_t per_element = 1;  ///< codes in an element of `codes`
  uint16_t interleaved = 1;
  /// AWQ: of 8 codes in an element the k-th is that of column 0 2 4 6 1 3 5 7.
  bool alternating = false;
  std::vector<uint64_t> shape;  ///< of the weights, outermost first
  /// Weights of a scale: so many rows, and columns; the last of a row or a
  /// column may have fewer.
  uint64_t scale_rows = 1;
  uint64_t scale_columns = 1;
  /// Scales to a row of the scales' matrix.
  uint64_t scales_a_row = 1;
  /// A weight is code * scale / global scale; else code * scale * global scale.
  bool divides_by_global = false;
  /// What is subtracted from integer codes (8 of 4-bit codes that are stored
  /// without sign), less what `zero` says.
  int32_t offset = 0;
  /// Bits of a zero point; 0: `zero` has a number an element. Packed ones stand
  /// in their elements in the order of scales, or (compressed-tensors) those of
  /// rows one below the other share an element.
  uint8_t zero_bits = 0;
  bool zero_down = false;

  uint64_t weights() const {
    uint64_t count = 1;
    for (const uint64_t n : shape) count *= n;
    return count;
  }
  bool operator==(const QuantizedWeights&) const = default;
};

/// Looks at the names, shapes and types (as files have them: `quantized` is 0)
/// of all tensors of a model, in the order of its files. Knows what
/// compressed-tensors, modelopt, DeepSeek, gpt-oss, GPTQ, AWQ and torchao write
/// to safetensors. `reader` gives elements as they are stored; it is asked for
/// tensors of a few elements (weight_shape). By ascending `codes`. What is
/// wrong costs compression, nothing else.
std::vector<QuantizedWeights> FindScales(
    const std::vector<LineageTensor>& tensors, LineageReader& reader);

/// Bits a weight times 16, for LineageTensor::quantized: of codes and scales.
uint16_t SixteenthsOf(const QuantizedWeights& weights,
                      const std::vector<LineageTensor>& tensors);

/// Shows quantized weights as numbers: code times scale, near enough to find
/// what they were made of. Keeps some thousand of the codes and scales that
/// were read last. Thread-compatible.
class WeightNumbers {
 public:
  /// `reader` gives elements of `tensors` as they are stored; all outlive this.
  WeightNumbers(const QuantizedWeights& weights,
                const std::vector<LineageTensor>& tensors,
                LineageReader& reader);
  /// The weights from number `begin` on, row by row of `weights.shape`, as many
  /// as `out` has room for. False if they cannot be read.
  bool Read(uint64_t begin, std::span<float> out);

 private:
  /// A tensor's elements, read in pieces.
  class Elements {
   public:
    Elements(std::optional<size_t> tensor,
             const std::vector<LineageTensor>& tensors, LineageReader& reader);
    /// Element number `index`; null if it cannot be read.
    const uint8_t* At(uint64_t index);
    DType dtype() const { return dtype_; }
    uint64_t count() const { return count_; }

   private:
    size_t tensor_ = 0;
    DType dtype_ = DType::kBytes;
    uint64_t count_ = 0;
    size_t width_ = 1;
    LineageReader* reader_;
    uint64_t begin_ = 0;
    std::vector<uint8_t> bytes_;
  };
  bool ReadFactor(uint64_t row, uint64_t scale, float* factor);
  bool ReadZero(uint64_t row, uint64_t scale, int32_t* zero);

  const QuantizedWeights& weights_;
  const uint64_t columns_;
  const uint64_t rows_;
  Elements codes_, scales_, globals_, zeros_;
};

}  // namespace zipllm::archive

#endif  // ZIPLLM_ARCHIVE_SCALE_ROLES_H_
