// Codec 16: formulas, predictions, factors.
// Format: format-spec/codecs/16-sum.md.
#include <algorithm>
#include <cmath>

#include "codecs/reference/sum_format.h"

namespace zipllm::codecs::sum_format {
namespace {

uint8_t CodeOf(Rounding rounding) {
  return rounding.has_value()
             ? static_cast<uint8_t>(static_cast<uint8_t>(*rounding) + 1)
             : uint8_t{0};
}

/// A byte of at most `max`.
absl::StatusOr<uint8_t> Small(ByteReader& reader, uint8_t max,
                              std::string_view what) {
  ASSIGN_OR_RETURN(const uint8_t value, reader.Le<uint8_t>());
  if (value > max) return reader.Error("unknown ", what, " ", int{value});
  return value;
}

absl::StatusOr<Rounding> ParseRounding(ByteReader& reader) {
  ASSIGN_OR_RETURN(const uint8_t code, Small(reader, 3, "rounding"));
  if (code == 0) return Rounding();
  return Rounding(static_cast<FloatType>(code - 1));
}

absl::StatusOr<double> ParseNumber(ByteReader& reader) {
  ASSIGN_OR_RETURN(const double value, reader.Le<double>());
  if (!std::isfinite(value)) return reader.Error("a number that is not finite");
  return value;
}

constexpr size_t kPiece = 512;

/// As programs do whose numbers are of the type: FP32 inside, then the type.
void RoundSteps(Rounding rounding, size_t count, double* values) {
  if (!rounding) return;
  const kernels::Table& kernel = kernels::Best();
  kernel.round_to(FloatType::kF32, count, values);
  if (*rounding != FloatType::kF32) kernel.round_to(*rounding, count, values);
}

/// Bases of a piece combined; `sums` and the bases have room for kPiece.
class Combiner {
 public:
  Combiner(const Formula& formula, std::span<const Reference> references)
      : formula_(formula), references_(references) {}

  void Combine(size_t begin, size_t count, double* sums) const {
    double x[kPiece];
    double first[kPiece];
    const std::vector<Term>& terms = formula_.terms;
    for (size_t k = 0; k < terms.size(); ++k) {
      double* const to = k == 0 ? sums : x;
      Widen(references_[terms[k].reference], begin, count, to);
      const double c = terms[k].coefficient;
      switch (formula_.method) {
        case Method::kLinear:
          if (c != 1) {
            for (size_t i = 0; i < count; ++i) to[i] *= c;
            Round(count, to);
          }
          break;
        case Method::kMean:
          break;
        case Method::kTask:
          if (k == 0) {
            std::copy_n(sums, count, first);
            continue;
          }
          for (size_t i = 0; i < count; ++i) x[i] -= first[i];
          Round(count, x);
          for (size_t i = 0; i < count; ++i) x[i] *= c;
          Round(count, x);
          if (k == 1) {
            std::copy_n(x, count, sums);
            continue;
          }
          break;
      }
      if (k > 0) {
        for (size_t i = 0; i < count; ++i) sums[i] += x[i];
        Round(count, sums);
      }
    }
    if (formula_.method == Method::kMean) {
      const auto number = static_cast<double>(terms.size());
      for (size_t i = 0; i < count; ++i) sums[i] /= number;
      Round(count, sums);
    } else if (formula_.method == Method::kTask && terms.size() > 1) {
      for (size_t i = 0; i < count; ++i) sums[i] += first[i];
      Round(count, sums);
    }
  }
  void Round(size_t count, double* values) const {
    RoundSteps(formula_.rounding, count, values);
  }

 private:
  void Widen(const Reference& reference, size_t begin, size_t count,
             double* values) const {
    const FloatType type = *FloatTypeOf(reference.dtype);
    kernel_.widen(type, reference.data.data() + begin * WidthOf(type), count,
                  values);
  }

  const Formula& formula_;
  std::span<const Reference> references_;
  const kernels::Table& kernel_ = kernels::Best();
};

/// by[k]: factor k of row `row`.
void RowFactors(const Factors& factors, uint64_t row, double* by) {
  if (factors.b != nullptr) {
    const FloatType type = *FloatTypeOf(factors.b->dtype);
    kernels::Best().widen(type,
                          factors.b->data.data() + static_cast<size_t>(row) *
                                                       factors.rank *
                                                       WidthOf(type),
                          factors.rank, by);
    return;
  }
  const int32_t* const rows =
      factors.rows +
      static_cast<size_t>(row - factors.first_row) * factors.rank;
  for (size_t k = 0; k < factors.rank; ++k) {
    by[k] = static_cast<double>(rows[k]) * factors.scales[k];
  }
}

}  // namespace

std::optional<FloatType> FloatTypeOf(DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return FloatType::kBF16;
    case DType::kF16:
      return FloatType::kF16;
    case DType::kF32:
      return FloatType::kF32;
    default:
      return std::nullopt;
  }
}

void WriteFormula(const Formula& formula, Buffer* out) {
  ByteWriter writer(out);
  writer.Le(static_cast<uint8_t>(formula.target));
  writer.Le(static_cast<uint8_t>(formula.method));
  writer.Le(CodeOf(formula.rounding));
  writer.Le(static_cast<uint8_t>(formula.terms.size()));
  for (const Term& term : formula.terms) {
    writer.Le(term.reference);
    writer.Le(term.coefficient);
  }
  writer.Le(static_cast<uint8_t>(formula.settle.noisy_bases));
  writer.Varint(formula.settle.noise_exponent);
  writer.Le(static_cast<uint8_t>(formula.product));
  if (formula.product == ProductKind::kNone) return;
  writer.Le(CodeOf(formula.product_rounding));
  if (formula.product == ProductKind::kOwn) {
    writer.Varint(formula.rank);
    return;
  }
  writer.Le(formula.a);
  writer.Le(formula.b);
  writer.Le(static_cast<uint8_t>(formula.steps));
  writer.Le(formula.scale);
}

absl::StatusOr<Formula> ParseFormula(ByteReader& reader) {
  Formula formula;
  ASSIGN_OR_RETURN(const uint8_t target, Small(reader, 2, "type"));
  formula.target = static_cast<FloatType>(target);
  ASSIGN_OR_RETURN(const uint8_t method, Small(reader, 2, "method"));
  formula.method = static_cast<Method>(method);
  ASSIGN_OR_RETURN(formula.rounding, ParseRounding(reader));
  constexpr uint8_t kLast = kMaxReferences - 1;
  ASSIGN_OR_RETURN(const uint8_t terms,
                   Small(reader, kMaxReferences, "number of bases"));
  if (terms == 0) return reader.Error("a sum of nothing");
  for (int i = 0; i < terms; ++i) {
    Term term;
    ASSIGN_OR_RETURN(term.reference, Small(reader, kLast, "reference"));
    ASSIGN_OR_RETURN(term.coefficient, ParseNumber(reader));
    formula.terms.push_back(term);
  }
  ASSIGN_OR_RETURN(const uint8_t noisy, Small(reader, 1, "kind of noise"));
  formula.settle.noisy_bases = noisy != 0;
  ASSIGN_OR_RETURN(formula.settle.noise_exponent,
                   reader.Varint(kMaxNoiseExponent));
  ASSIGN_OR_RETURN(const uint8_t product, Small(reader, 2, "product"));
  formula.product = static_cast<ProductKind>(product);
  if (formula.product == ProductKind::kNone) return formula;
  ASSIGN_OR_RETURN(formula.product_rounding, ParseRounding(reader));
  if (formula.product == ProductKind::kOwn) {
    ASSIGN_OR_RETURN(formula.rank, reader.Varint(kMaxOwnRank));
    if (formula.rank == 0) return reader.Error("a product of rank 0");
    return formula;
  }
  ASSIGN_OR_RETURN(formula.a, Small(reader, kLast, "reference"));
  ASSIGN_OR_RETURN(formula.b, Small(reader, kLast, "reference"));
  ASSIGN_OR_RETURN(const uint8_t steps, Small(reader, 2, "arithmetic"));
  formula.steps = static_cast<ProductSteps>(steps);
  ASSIGN_OR_RETURN(formula.scale, ParseNumber(reader));
  return formula;
}

void Predict(const Formula& formula, const Factors& factors, const Place& place,
             size_t count, uint8_t* predictions, uint8_t* contexts) {
  const kernels::Table& kernel = kernels::Best();
  const Combiner combiner(formula, place.references);
  const bool has_product = formula.product != ProductKind::kNone;
  double bases[kPiece];
  double sums[kPiece];
  double by[kMaxRank];
  std::optional<uint64_t> row_of_by;
  for (size_t at = 0; at < count;) {
    size_t n = std::min(kPiece, count - at);
    uint64_t column = 0;
    if (has_product) {
      const uint64_t position = place.position + at;
      const uint64_t row = position / place.row;
      column = position % place.row;
      n = static_cast<size_t>(std::min<uint64_t>(n, place.row - column));
      if (row_of_by != row) RowFactors(factors, row, by);
      row_of_by = row;
    }
    combiner.Combine(place.begin + at, n, bases);
    const double* settled = bases;
    if (has_product) {
      std::fill_n(sums, n, 0.0);
      const double* const columns = factors.columns + column;
      const auto stride = static_cast<size_t>(place.row);
      if (formula.steps == ProductSteps::kDouble) {
        kernel.add_product(by, columns, stride, factors.rank, n, sums);
      } else {
        kernel.add_product_f32(by, columns, stride, factors.rank,
                               formula.steps == ProductSteps::kF32Fused, n,
                               sums);
      }
      RoundSteps(formula.product_rounding, n, sums);
      if (formula.scale != 1) {
        for (size_t i = 0; i < n; ++i) sums[i] *= formula.scale;
        RoundSteps(formula.product_rounding, n, sums);
      }
      for (size_t i = 0; i < n; ++i) sums[i] += bases[i];
      combiner.Round(n, sums);
      settled = sums;
    }
    kernel.settle_sums(formula.target, formula.settle, settled, bases, n,
                       predictions + at * WidthOf(formula.target),
                       contexts + at);
    at += n;
  }
}

absl::StatusOr<ColumnFactors> ParseColumnFactors(ByteSpan shared,
                                                 Buffer* scratch_a,
                                                 Buffer* scratch_b,
                                                 Buffer* values) {
  ByteReader reader(shared, "shared factors");
  ColumnFactors factors;
  ASSIGN_OR_RETURN(factors.rank, reader.Varint(kMaxOwnRank));
  ASSIGN_OR_RETURN(factors.columns, reader.Varint(kMaxColumnFactors));
  const uint64_t count = factors.rank * factors.columns;
  if (count == 0 || count > kMaxColumnFactors) {
    return reader.Error(factors.columns, " columns of rank ", factors.rank);
  }
  values->Resize((factors.rank + count) * sizeof(double));
  auto* const scales = reinterpret_cast<double*>(values->data());
  double* const numbers = scales + factors.rank;
  for (size_t k = 0; k < factors.rank; ++k) {
    ASSIGN_OR_RETURN(scales[k], ParseNumber(reader));
  }
  const residuals::Alphabet& alphabet = FactorAlphabet();
  ASSIGN_OR_RETURN(
      const residuals::ResidualDecoder decoder,
      residuals::ResidualDecoder::Parse(alphabet, factors.rank, reader));
  ASSIGN_OR_RETURN(residuals::ResidualBlock block,
                   residuals::ResidualBlock::Start(
                       decoder, static_cast<size_t>(count), reader, scratch_a));
  // Components follow one another; pieces are of a size that the coder takes.
  constexpr size_t kRun = 16 * residuals::ResidualBlock::kPiece;
  uint8_t contexts[kRun];
  scratch_b->Resize(kRun * sizeof(int32_t));
  std::fill(scratch_b->begin(), scratch_b->end(), uint8_t{0});
  Buffer integers(kRun * sizeof(int32_t));
  for (uint64_t at = 0; at < count; at += kRun) {
    const auto n = static_cast<size_t>(std::min<uint64_t>(kRun, count - at));
    for (size_t i = 0; i < n; ++i) {
      contexts[i] = static_cast<uint8_t>((at + i) / factors.columns);
    }
    block.Next(contexts, scratch_b->data(), n, integers.data());
    for (size_t i = 0; i < n; ++i) {
      numbers[at + i] = LoadLe<int32_t>(integers.data() + i * sizeof(int32_t));
    }
  }
  RETURN_IF_ERROR(block.Finish());
  RETURN_IF_ERROR(reader.ExpectEnd());
  factors.scales = scales;
  factors.values = numbers;
  return factors;
}

}  // namespace zipllm::codecs::sum_format
