// Codec 16: tensors made of their base and an adapter (LoRA) that is there too.
// What is looked for is the scale and the arithmetic that merged them.
#include <algorithm>
#include <bit>
#include <cmath>

#include "codecs/reference/sum_model.h"

namespace zipllm::codecs::sum_fit {
namespace {

/// Numbers of the references that are A (rank x columns) and B (rows x rank).
struct Adapter {
  uint8_t a;
  uint8_t b;
  size_t rank;
};

std::optional<Adapter> FindAdapter(const TensorView& view) {
  if (view.row == 0) return std::nullopt;
  const uint64_t rows = (view.elements + view.row - 1) / view.row;
  const size_t most = std::min(view.references.size(), kMaxReferences);
  const auto is_factor = [&](size_t i) {
    const TensorView::Beside& beside = view.references[i];
    return beside.role == Role::kFactor && FloatTypeOf(beside.dtype) &&
           beside.elements <= kMaxColumnFactors;
  };
  for (size_t a = 0; a < most; ++a) {
    for (size_t b = 0; b < most; ++b) {
      if (a == b || !is_factor(a) || !is_factor(b)) continue;
      const uint64_t rank = view.references[b].row;
      if (view.references[a].row == view.row && rank > 0 && rank <= kMaxRank &&
          view.references[a].elements == rank * view.row &&
          view.references[b].elements == rank * rows) {
        return Adapter{static_cast<uint8_t>(a), static_cast<uint8_t>(b),
                       static_cast<size_t>(rank)};
      }
    }
  }
  return std::nullopt;
}

/// The scale s that makes base + s B A nearest to the target.
std::optional<double> FitScale(const Sample& sample, FloatType target,
                               const Reference& base, const Reference& b,
                               const double* columns, size_t rank,
                               uint64_t row) {
  const kernels::Table& kernel = kernels::Best();
  const FloatType base_type = *FloatTypeOf(base.dtype);
  const FloatType b_type = *FloatTypeOf(b.dtype);
  std::vector<double> by(rank);
  double above = 0;
  double below = 0;
  constexpr size_t kRun = 256;
  double x[kRun];
  double y[kRun];
  double product[kRun];
  sample.ForRuns([&](uint64_t begin, size_t index, size_t count) {
    for (size_t at = 0; at < count;) {
      const uint64_t position = begin + at;
      const uint64_t column = position % row;
      const auto n = static_cast<size_t>(
          std::min<uint64_t>({kRun, count - at, row - column}));
      kernel.widen(b_type,
                   b.data.data() + static_cast<size_t>(position / row) * rank *
                                       WidthOf(b_type),
                   rank, by.data());
      kernel.widen(target,
                   sample.target().data() + (index + at) * WidthOf(target), n,
                   x);
      kernel.widen(base_type,
                   base.data.data() + (index + at) * WidthOf(base_type), n, y);
      std::fill_n(product, n, 0.0);
      kernel.add_product(by.data(), columns + column, static_cast<size_t>(row),
                         rank, n, product);
      for (size_t i = 0; i < n; ++i) {
        const double difference = x[i] - y[i];
        const double weight = product[i] / SquaredPlace(target, x[i]);
        if (((std::bit_cast<uint64_t>(difference * weight) >> 52) & 0x7FF) ==
            0x7FF) {
          continue;
        }
        above += weight * difference;
        below += weight * product[i];
      }
      at += n;
    }
  });
  const double scale = above / below;
  if (!(scale > -0x1p60 && scale < 0x1p60)) return std::nullopt;
  return scale;
}

double RoundInteger(double value) {
  constexpr double kMagic = 0x1.8p52;
  return value + kMagic - kMagic;
}

}  // namespace

std::optional<Fit> FitAdapter(TensorReader& reader, Sample& sample) {
  const TensorView& view = reader.view();
  const std::optional<Adapter> adapter = FindAdapter(view);
  const std::vector<uint8_t> bases = BasesOf(view);
  if (!adapter || bases.empty()) return std::nullopt;
  const Reference& a = sample.references()[adapter->a];
  const Reference& b = sample.references()[adapter->b];
  const auto count = static_cast<size_t>(adapter->rank * view.row);
  std::vector<double> columns(count);
  kernels::Best().widen(*FloatTypeOf(a.dtype), a.data.data(), count,
                        columns.data());
  const std::optional<double> fitted =
      FitScale(sample, reader.target(), sample.references()[bases[0]], b,
               columns.data(), adapter->rank, view.row);
  if (!fitted) return std::nullopt;

  Factors factors;
  factors.rank = adapter->rank;
  factors.columns = columns.data();
  factors.b = &b;
  Fit fit;
  fit.bits = 1e9;
  uint64_t misses = UINT64_MAX;
  Formula formula;
  formula.target = reader.target();
  formula.terms = {{bases[0], 1}};
  formula.product = ProductKind::kReferences;
  formula.a = adapter->a;
  formula.b = adapter->b;
  formula.settle.noise_exponent =
      NoiseExponentOf(sample.target(), formula.target);
  const auto try_formula = [&] {
    if (misses == 0) return;
    const Sample::Outcome tried = sample.Try(formula, factors, kFewRuns);
    if (tried.bits < fit.bits) {
      fit.formula = formula;
      fit.bits = tried.bits;
      misses = tried.misses;
    }
  };
  // Scales are alpha / rank, or alpha / sqrt(rank), alpha most often whole.
  const auto rank = static_cast<double>(adapter->rank);
  const double root = std::sqrt(rank);
  for (const double scale : {RoundInteger(*fitted * rank) / rank,
                             RoundInteger(*fitted * root) / root, *fitted}) {
    for (const ProductSteps steps :
         {ProductSteps::kF32Fused, ProductSteps::kF32, ProductSteps::kDouble}) {
      formula.steps = steps;
      formula.product_rounding = Rounding();
      formula.scale = scale;
      if (steps != ProductSteps::kDouble) {
        formula.product_rounding = FloatType::kF32;
        formula.scale = static_cast<double>(static_cast<float>(scale));
      }
      try_formula();
      if (formula.target != FloatType::kF32) {
        formula.product_rounding = formula.target;
        try_formula();
      }
    }
  }
  formula = fit.formula;
  formula.settle.noisy_bases = true;
  try_formula();
  return fit;
}

}  // namespace zipllm::codecs::sum_fit
