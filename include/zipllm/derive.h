/// \file
/// How quantized tensors were made: whether one is bit for bit what a known
/// recipe makes of the tensor that it comes from.
#ifndef ZIPLLM_DERIVE_H_
#define ZIPLLM_DERIVE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "zipllm/export.h"
#include "zipllm/options.h"
#include "zipllm/types.h"

namespace zipllm {

struct DeriveOptions {
  /// Files, folders and archives that have what the quantized tensors were made
  /// of. Which tensor fits which is found by content, whatever the names; also
  /// transposed, fused, split and with rows in another order.
  std::vector<std::string> sources;
  /// Files with importance matrices (GGUF or the older format).
  std::vector<std::string> importance;
  int threads = 0;  ///< 0: one a core. The report does not depend on it
  ProgressCallback progress = nullptr;
};

/// A tensor beside what recipes make of its source.
struct TensorDerivation {
  std::string path;  ///< of the file; "" for a single one
  std::string name;
  DType dtype = DType::kBytes;
  std::vector<uint64_t> shape;
  uint64_t weights = 0;

  bool found = false;  ///< a source; without, what follows stays as it is
  /// Tensors that it was made of, the first by name and file; how many.
  std::string source;
  std::string source_model;
  uint64_t sources = 0;
  /// The recipe that comes nearest: "copy", "cast", a quantizer such as
  /// "ggml Q4_K" or "ggml Q4_K imatrix"; empty where there is none for the
  /// type.
  std::string recipe;
  uint64_t blocks = 0;  ///< of the type; of one that is not packed, elements
  uint64_t different_blocks = 0;
  uint64_t different_bytes = 0;
  /// Of the tensor, where it begins to differ.
  uint64_t first_different_byte = 0;
  /// What codec 19 would take, about, given the source: as in the first rows,
  /// or where these are equal two bytes for each that differs.
  double bits_per_weight = 0;

  bool is_quantized() const;
  bool exact() const {
    return found && !recipe.empty() && different_bytes == 0;
  }
};

struct DerivationReport {
  std::vector<TensorDerivation> tensors;  ///< in the order of the files

  /// True if there are quantized tensors and all are what their recipes make.
  bool exact() const;
};

/// Compares each quantized tensor of `path`, a file or folder, with what each
/// recipe for its type makes of its source; tensors of floats with their
/// source's copy or cast. Reads files many times, but keeps none in memory.
/// INVALID_ARGUMENT without sources.
ZIPLLM_EXPORT absl::StatusOr<DerivationReport> CheckDerivation(
    const std::string& path, const DeriveOptions& options);

}  // namespace zipllm

#endif  // ZIPLLM_DERIVE_H_
