// Codec 16, sum: what a sum of references, and of a low-rank product, leaves.
// Format: format-spec/codecs/16-sum.md.
#include <algorithm>

#include "base/bytes.h"
#include "base/dtype.h"
#include "codecs/codec.h"
#include "codecs/reference/sum_format.h"

namespace zipllm::codecs {
namespace {

using namespace sum_format;
using residuals::ResidualBlock;
using residuals::ResidualDecoder;

struct Params final : DecodeParams {
  Formula formula;
  std::optional<ResidualDecoder> rows;
  std::optional<ResidualDecoder> elements;
};

absl::StatusOr<std::unique_ptr<const DecodeParams>> Parse(ByteSpan bytes) {
  ByteReader reader(bytes, "sum parameters");
  auto params = std::make_unique<Params>();
  ASSIGN_OR_RETURN(params->formula, ParseFormula(reader));
  if (params->formula.product == ProductKind::kOwn) {
    ASSIGN_OR_RETURN(
        params->rows,
        ResidualDecoder::Parse(FactorAlphabet(), params->formula.rank, reader));
  }
  ASSIGN_OR_RETURN(
      params->elements,
      ResidualDecoder::Parse(ElementAlphabet(params->formula.target), kContexts,
                             reader));
  RETURN_IF_ERROR(reader.ExpectEnd());
  return params;
}

/// Whether reference `number` is there, in `role`, of floats.
absl::Status Check(const BlockContext& context, uint8_t number, Role role) {
  if (number >= context.references.size() ||
      context.references[number].role != role ||
      !FloatTypeOf(context.references[number].dtype)) {
    return DataLoss("sum: reference ", int{number},
                    " is missing or of another kind");
  }
  return absl::OkStatus();
}

uint64_t ElementsOf(const Reference& reference) {
  return reference.data.size() / WidthOf(*FloatTypeOf(reference.dtype));
}

/// The block's rows: row number of the first, and how many.
struct Rows {
  uint64_t first;
  uint64_t count;
};

absl::StatusOr<Rows> RowsOf(const BlockContext& context, uint64_t count) {
  uint64_t end;
  if (context.row == 0 || !CheckedAdd(context.position, count, &end)) {
    return DataLoss("sum: a product for elements without rows");
  }
  const uint64_t first = context.position / context.row;
  return Rows{first, (end - 1) / context.row - first + 1};
}

/// Factors that are references, widened into `values`.
absl::StatusOr<Factors> ReferencedFactors(const Formula& formula,
                                          const BlockContext& context,
                                          const Rows& rows, Buffer* values) {
  RETURN_IF_ERROR(Check(context, formula.a, Role::kFactor));
  RETURN_IF_ERROR(Check(context, formula.b, Role::kFactor));
  const Reference& a = context.references[formula.a];
  const Reference& b = context.references[formula.b];
  const uint64_t rank = b.row;
  const uint64_t count = ElementsOf(a);
  uint64_t needed;
  uint64_t last;
  if (rank == 0 || rank > kMaxRank || a.row != context.row ||
      count > kMaxColumnFactors || !CheckedMul(rank, context.row, &needed) ||
      needed != count || !CheckedAdd(rows.first, rows.count, &last) ||
      !CheckedMul(last, rank, &needed) || needed > ElementsOf(b)) {
    return DataLoss("sum: factors of sizes that do not fit");
  }
  values->Resize(static_cast<size_t>(count) * sizeof(double));
  auto* const columns = reinterpret_cast<double*>(values->data());
  kernels::Best().widen(*FloatTypeOf(a.dtype), a.data.data(),
                        static_cast<size_t>(count), columns);
  Factors factors;
  factors.rank = static_cast<size_t>(rank);
  factors.columns = columns;
  factors.b = &b;
  return factors;
}

/// The codec's own: the rows' from the block into `integers`.
absl::StatusOr<Factors> OwnFactors(const Params& params,
                                   const BlockContext& context,
                                   const Rows& rows, uint64_t elements,
                                   ByteReader& reader, Buffer* raw,
                                   Buffer* contexts, Buffer* values,
                                   Buffer* integers) {
  const size_t rank = params.formula.rank;
  uint64_t count;
  if (!CheckedMul(rows.count, rank, &count) ||
      count > 4 * elements + kMaxRowFactors) {
    return DataLoss("sum: ", rows.count, " rows of rank ", rank,
                    " are too many for ", elements, " elements");
  }
  const auto n = static_cast<size_t>(count);
  contexts->Resize(n);
  for (size_t i = 0; i < n; ++i) {
    contexts->data()[i] = static_cast<uint8_t>(i % rank);
  }
  integers->Resize(n * sizeof(int32_t));
  std::fill(integers->begin(), integers->end(), uint8_t{0});
  ASSIGN_OR_RETURN(ResidualBlock block,
                   ResidualBlock::Start(*params.rows, n, reader, raw));
  block.Next(contexts->data(), integers->data(), n, integers->data());
  RETURN_IF_ERROR(block.Finish());

  ASSIGN_OR_RETURN(const ColumnFactors columns,
                   ParseColumnFactors(context.shared, raw, contexts, values));
  if (columns.rank != rank || columns.columns != context.row) {
    return DataLoss("sum: shared factors of ", columns.columns,
                    " columns of rank ", columns.rank, ", not ", context.row,
                    " of rank ", rank);
  }
  Factors factors;
  factors.rank = rank;
  factors.columns = columns.values;
  factors.scales = columns.scales;
  factors.rows = reinterpret_cast<const int32_t*>(integers->data());
  factors.first_row = rows.first;
  return factors;
}

absl::Status Decode(const DecodeParams* decode_params,
                    const BlockContext& context, ByteSpan coded,
                    MutableByteSpan out, Scratch& scratch) {
  if (decode_params == nullptr) return DataLoss("sum: no parameters");
  const auto& params = *static_cast<const Params*>(decode_params);
  const Formula& formula = params.formula;
  const size_t width = WidthOf(formula.target);
  if (out.size() % width != 0) {
    return DataLoss("sum: ", out.size(), " bytes are not whole elements");
  }
  const size_t count = out.size() / width;
  for (const Term& term : formula.terms) {
    RETURN_IF_ERROR(Check(context, term.reference, Role::kBase));
    const Reference& reference = context.references[term.reference];
    if (ElementsOf(reference) != count ||
        reference.data.size() % WidthOf(*FloatTypeOf(reference.dtype)) != 0) {
      return DataLoss("sum: ", reference.data.size(),
                      " bytes of a base beside ", count, " elements");
    }
  }
  ByteReader reader(coded, "sum block");
  auto& [raw, contexts, values, integers] = scratch.buffers;
  Factors factors;
  if (formula.product != ProductKind::kNone) {
    ASSIGN_OR_RETURN(const Rows rows, RowsOf(context, count));
    if (formula.product == ProductKind::kOwn) {
      ASSIGN_OR_RETURN(factors,
                       OwnFactors(params, context, rows, count, reader, &raw,
                                  &contexts, &values, &integers));
    } else {
      ASSIGN_OR_RETURN(factors,
                       ReferencedFactors(formula, context, rows, &values));
    }
  }
  ASSIGN_OR_RETURN(ResidualBlock block,
                   ResidualBlock::Start(*params.elements, count, reader, &raw));
  RETURN_IF_ERROR(reader.ExpectEnd());
  contexts.Resize(count);
  const Place place = {context.references, 0, context.position, context.row};
  Predict(formula, factors, place, count, out.data(), contexts.data());
  block.Next(contexts.data(), out.data(), count, out.data());
  return block.Finish();
}

}  // namespace

extern const Decoder kSumDecoder = {.id = 16,
                                    .name = "sum",
                                    .parse = Parse,
                                    .decode = nullptr,
                                    .decode_against = Decode};

}  // namespace zipllm::codecs
