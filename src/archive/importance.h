// Importance: the number for each column that a quantizer was told how much its
// errors matter there (llama.cpp's "imatrix"). Quants can be made again only
// with it, and it is rarely published beside them: so it is found from them.
#ifndef ZIPLLM_ARCHIVE_IMPORTANCE_H_
#define ZIPLLM_ARCHIVE_IMPORTANCE_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "zipllm/types.h"

namespace zipllm::archive {

/// A matrix of weights and what a quantizer made of it.
class QuantizedMatrix {
 public:
  virtual ~QuantizedMatrix() = default;
  DType dtype = DType::kBytes;  ///< of the blocks
  uint64_t rows = 0;
  uint64_t columns = 0;

  /// Reads row number `row`, all of its blocks. False: it cannot be read.
  /// Numbers ascend, within a few passes.
  virtual bool ReadBlocks(uint64_t row, MutableByteSpan out) = 0;
  /// Reads the weights that row was made of, `columns` numbers.
  virtual bool ReadWeights(uint64_t row, std::span<float> out) = 0;
};

/// Whether blocks of the type tell something of the importance that they were
/// made with: Q4_0, Q4_1, Q5_0 and Q5_1 much, Q2_K to Q6_K less. Others (IQ1 to
/// IQ4) take what was found from those.
bool TellsImportance(DType dtype);

/// Finds the importance that all of `matrices`, which have equally many
/// columns, were made with: quants of one matrix of several types, and quants
/// of matrices with the same input (ImportanceKey). Null where it seems that
/// they were made without, or with several, or where the vector costs more than
/// it saves; those that are made exactly without importance must not be among
/// them. The numbers are positive and have 10 significant bits, about 12 bits a
/// column once coded; they are known only up to a factor for each 32 columns
/// where there are only Q4_0 to Q5_1 and Q6_K, for each 256 where there is a
/// Q2_K to Q5_K.
///
/// The same on every machine. Reads at most 2^22 weights of the legacy types,
/// else of the others (and 512 rows of those beside the former), and takes up
/// to 40 MiB of memory. On one core 2^20 weights take about 0.15 s, with those
/// types alone 0.4 s; matrices beyond what is read cost nothing. Thread-safe
/// but for `matrices`.
std::optional<std::vector<float>> FitImportance(
    std::span<QuantizedMatrix* const> matrices);

/// Tensors of a GGUF file with the same key have the same input, so that one
/// importance serves them all: attn_q, attn_k and attn_v of a layer; ffn_gate
/// and ffn_up. The name itself for others.
std::string ImportanceKey(std::string_view name);

/// The tensors of an imatrix file for the tensor `name`: of sums of squares,
/// `name`.in_sum2 (matrices x columns, F32), and of how many were added,
/// `name`.counts (one a matrix, F32 or I32). Parsers call them so in both kinds
/// of imatrix files.
std::string ImportanceSumsName(std::string_view name);
std::string ImportanceCountsName(std::string_view name);

/// What llama-quantize takes as importance: sums / count for each matrix
/// (expert), rounded once; where a count is not positive, ones in files that
/// have them as F32 (`float_counts`), else the sums as they are. Empty where
/// the sizes do not fit.
std::vector<float> ImportanceOf(std::span<const float> sums,
                                std::span<const float> counts,
                                bool float_counts);

}  // namespace zipllm::archive

#endif  // ZIPLLM_ARCHIVE_IMPORTANCE_H_
