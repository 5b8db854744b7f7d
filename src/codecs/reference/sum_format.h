// Codec 16, sum: what encoder and decoder share.
// Format: format-spec/codecs/16-sum.md.
#ifndef ZIPLLM_CODECS_REFERENCE_SUM_FORMAT_H_
#define ZIPLLM_CODECS_REFERENCE_SUM_FORMAT_H_

#include <optional>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "codecs/codec.h"
#include "codecs/reference/residuals.h"
#include "kernels/kernels.h"

namespace zipllm::codecs::sum_format {

using kernels::FloatType;

/// Ranks that a codec's own factors, and those of references, may have.
inline constexpr size_t kMaxOwnRank = 256;
inline constexpr size_t kMaxRank = 1024;
/// Rank times columns.
inline constexpr uint64_t kMaxColumnFactors = uint64_t{1} << 22;
/// Row factors of a block of N elements: at most this and 4 N.
inline constexpr uint64_t kMaxRowFactors = 4096;
/// Greatest exponent field that sums are rounded at.
inline constexpr uint64_t kMaxNoiseExponent = 1223;

/// Contexts of elements: 8 scales of the noise, 32 distances from where
/// rounding turns.
inline constexpr size_t kContexts = 256;
inline constexpr size_t kContextColumns = 32;

/// nullopt for types that are no floats of 16 or 32 bits.
std::optional<FloatType> FloatTypeOf(DType dtype);
inline size_t WidthOf(FloatType type) {
  return type == FloatType::kF32 ? 4 : 2;
}
inline const residuals::Alphabet& ElementAlphabet(FloatType type) {
  return residuals::AlphabetOf(WidthOf(type), residuals::Number::kFloat);
}
inline const residuals::Alphabet& FactorAlphabet() {
  return residuals::AlphabetOf(4, residuals::Number::kInteger);
}

/// To which type results are rounded; nullopt: they stay doubles.
using Rounding = std::optional<FloatType>;

/// How bases are combined; x_k are their elements, c_k the coefficients.
enum class Method : uint8_t {
  kLinear = 0,  ///< sum of c_k x_k
  kMean = 1,    ///< (sum of x_k) / how many
  kTask = 2,    ///< x_0 + sum of c_k (x_k - x_0), k > 0
};

struct Term {
  uint8_t reference = 0;  ///< number of the reference, of role kBase
  double coefficient = 1;
};

/// Where the factors of a low-rank product are.
enum class ProductKind : uint8_t {
  kNone = 0,
  kOwn = 1,         ///< integers: the columns' shared, the rows' in the block
  kReferences = 2,  ///< two references of role kFactor
};
enum class ProductSteps : uint8_t {
  kDouble = 0,
  kF32Fused = 1,  ///< sums are FP32, products are not
  kF32 = 2,       ///< both are
};

/// How a prediction is made of references.
struct Formula {
  FloatType target = FloatType::kBF16;
  Method method = Method::kLinear;
  Rounding rounding;  ///< of each step of the method
  std::vector<Term> terms;

  ProductKind product = ProductKind::kNone;
  Rounding product_rounding;
  size_t rank = 0;  ///< kOwn
  uint8_t a = 0;    ///< kReferences: rank x columns
  uint8_t b = 0;    ///< rows x rank
  ProductSteps steps = ProductSteps::kDouble;
  double scale = 1;

  kernels::SettleOptions settle;
};

void WriteFormula(const Formula& formula, Buffer* out);
absl::StatusOr<Formula> ParseFormula(ByteReader& reader);

/// The factors of a product, ready for use. Views.
struct Factors {
  size_t rank = 0;
  const double* columns = nullptr;  ///< rank x columns of the tensor
  /// Of role kFactor, rows x rank; or null, and:
  const Reference* b = nullptr;
  const double* scales = nullptr;  ///< of the components
  const int32_t* rows = nullptr;   ///< rank a row
  uint64_t first_row = 0;          ///< that of `rows`
};

/// Elements of the tensor that are to be predicted.
struct Place {
  std::span<const Reference> references;
  size_t begin = 0;       ///< in the references' arrays, elements
  uint64_t position = 0;  ///< in the tensor, elements
  uint64_t row = 0;       ///< of the tensor, elements; for products, above 0
};

/// Predicts `count` elements and tells their contexts. Everything that the
/// formula reads is there.
void Predict(const Formula& formula, const Factors& factors, const Place& place,
             size_t count, uint8_t* predictions, uint8_t* contexts);

/// A scale and an integer a column for each component of a product, shared by
/// the blocks of a tensor.
struct ColumnFactors {
  size_t rank = 0;
  uint64_t columns = 0;
  const double* scales = nullptr;  // rank
  const double* values = nullptr;  // rank x columns
};
/// Reads what SharedFactors in sum_encode.cc wrote; the result lies in
/// `values`.
absl::StatusOr<ColumnFactors> ParseColumnFactors(ByteSpan shared,
                                                 Buffer* scratch_a,
                                                 Buffer* scratch_b,
                                                 Buffer* values);

}  // namespace zipllm::codecs::sum_format

#endif  // ZIPLLM_CODECS_REFERENCE_SUM_FORMAT_H_
