#include "archive/combine.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace zipllm::archive {
namespace {

// A sum costs less than a single parent by an eighth, and by a quarter of a bit
// or another eighth; one of three less than one of two by a sixteenth of a bit.
constexpr uint32_t kGain = 64;
constexpr uint32_t kThirdGain = 16;

using Vector = std::array<double, 3>;

// Solves the equations of `n` unknowns; false if they are singular.
bool Solve(std::array<Vector, 3> matrix, Vector right, size_t n, Vector* x) {
  for (size_t k = 0; k < n; ++k) {
    size_t pivot = k;
    for (size_t i = k + 1; i < n; ++i) {
      if (std::abs(matrix[i][k]) > std::abs(matrix[pivot][k])) pivot = i;
    }
    if (!(std::abs(matrix[pivot][k]) > 0)) return false;
    std::swap(matrix[k], matrix[pivot]);
    std::swap(right[k], right[pivot]);
    for (size_t i = k + 1; i < n; ++i) {
      const double factor = matrix[i][k] / matrix[k][k];
      for (size_t j = k; j < n; ++j) matrix[i][j] -= factor * matrix[k][j];
      right[i] -= factor * right[k];
    }
  }
  for (size_t k = n; k-- > 0;) {
    double sum = right[k];
    for (size_t j = k + 1; j < n; ++j) sum -= matrix[k][j] * (*x)[j];
    (*x)[k] = sum / matrix[k][k];
  }
  return true;
}

double Dot(std::span<const double> a, std::span<const double> b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

bool ToDoubles(std::span<const int32_t> ordered, std::vector<double>* out) {
  out->resize(ordered.size());
  for (size_t i = 0; i < ordered.size(); ++i) {
    (*out)[i] = FromOrdered(ordered[i]);
    if (!std::isfinite((*out)[i])) return false;
  }
  return true;
}

class Fitter {
 public:
  // False where values are not finite.
  bool Prepare(std::span<const int32_t> values,
               const std::vector<std::span<const int32_t>>& parents);

  struct Fit {
    std::vector<size_t> parents;
    Vector weights;
    double residual;
  };
  // The best of all choices of `count` parents.
  std::optional<Fit> Best(size_t count) const;

  uint32_t Cost(const ElementFormat& format, std::span<const int32_t> values,
                const Fit& fit) const;

 private:
  std::optional<Fit> Try(std::vector<size_t> chosen) const;
  // Of two weighted sums of the vectors.
  using Combination = std::array<double, kMaxParents + 1>;
  double Product(const Combination& a, const Combination& b) const;

  // Parents are nearly the same: equations about what they differ in keep
  // their digits. So vector 0 is the first parent, vector i parent i less it,
  // and the last one the values less it.
  std::vector<std::vector<double>> parents_;
  std::vector<std::vector<double>> vectors_;
  std::array<std::array<double, kMaxParents + 1>, kMaxParents + 1> products_;
};

bool Fitter::Prepare(std::span<const int32_t> values,
                     const std::vector<std::span<const int32_t>>& parents) {
  parents_.resize(std::min(parents.size(), kMaxParents));
  for (size_t i = 0; i < parents_.size(); ++i) {
    if (!ToDoubles(parents[i], &parents_[i])) return false;
  }
  vectors_ = parents_;
  if (!ToDoubles(values, &vectors_.emplace_back())) return false;
  for (size_t i = 1; i < vectors_.size(); ++i) {
    for (size_t k = 0; k < values.size(); ++k) {
      vectors_[i][k] -= vectors_[0][k];
    }
  }
  for (size_t i = 0; i < vectors_.size(); ++i) {
    for (size_t j = 0; j <= i; ++j) {
      products_[i][j] = products_[j][i] = Dot(vectors_[i], vectors_[j]);
    }
  }
  return true;
}

double Fitter::Product(const Combination& a, const Combination& b) const {
  double sum = 0;
  for (size_t i = 0; i < vectors_.size(); ++i) {
    for (size_t j = 0; j < vectors_.size(); ++j) {
      if (a[i] != 0 && b[j] != 0) sum += a[i] * b[j] * products_[i][j];
    }
  }
  return sum;
}

std::optional<Fitter::Fit> Fitter::Try(std::vector<size_t> chosen) const {
  const size_t n = chosen.size();
  // Values less the first chosen parent, by that parent and by what the others
  // have beyond it.
  std::array<Combination, 3> terms{};
  Combination target{};
  target[vectors_.size() - 1] = 1;
  terms[0][0] = 1;
  if (chosen[0] != 0) {
    terms[0][chosen[0]] = 1;
    target[chosen[0]] -= 1;
  }
  for (size_t i = 1; i < n; ++i) {
    terms[i][chosen[i]] = 1;
    if (chosen[0] != 0) terms[i][chosen[0]] -= 1;
  }
  std::array<Vector, 3> matrix{};
  Vector right{};
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) matrix[i][j] = Product(terms[i], terms[j]);
    right[i] = Product(terms[i], target);
  }
  Fit fit;
  Vector x{};
  if (!Solve(matrix, right, n, &x)) return std::nullopt;
  fit.residual = Product(target, target);
  for (size_t i = 0; i < n; ++i) fit.residual -= x[i] * right[i];
  fit.weights = x;
  fit.weights[0] += 1;
  for (size_t i = 1; i < n; ++i) fit.weights[0] -= x[i];
  fit.parents = std::move(chosen);
  return fit;
}

std::optional<Fitter::Fit> Fitter::Best(size_t count) const {
  std::optional<Fit> best;
  const auto take = [&](std::optional<Fit> fit) {
    if (fit && (!best || fit->residual < best->residual)) best = std::move(fit);
  };
  for (size_t i = 0; i < parents_.size(); ++i) {
    for (size_t j = i + 1; j < parents_.size(); ++j) {
      if (count == 2) take(Try({i, j}));
      for (size_t k = j + 1; k < parents_.size() && count == 3; ++k) {
        take(Try({i, j, k}));
      }
    }
  }
  return best;
}

uint32_t Fitter::Cost(const ElementFormat& format,
                      std::span<const int32_t> values, const Fit& fit) const {
  std::vector<int32_t> predicted(values.size());
  for (size_t k = 0; k < values.size(); ++k) {
    double sum = 0;
    for (size_t i = 0; i < fit.parents.size(); ++i) {
      sum += fit.weights[i] * parents_[fit.parents[i]][k];
    }
    predicted[k] = ToOrdered(static_cast<float>(sum));
  }
  return MeanCost(format, values, predicted);
}

}  // namespace

std::optional<WeightedSum> FindWeightedSum(
    const ElementFormat& format, std::span<const int32_t> values,
    const std::vector<std::span<const int32_t>>& parents, uint32_t single) {
  Fitter fitter;
  if (parents.size() < 2 || !format.is_float ||
      !fitter.Prepare(values, parents)) {
    return std::nullopt;
  }
  std::optional<WeightedSum> found;
  uint32_t least = single - single / 8;
  least -= std::min(least, std::clamp(single / 8, kThirdGain, kGain));
  for (const size_t count : {size_t{2}, size_t{3}}) {
    const auto fit = fitter.Best(count);
    if (!fit) continue;
    const uint32_t cost = fitter.Cost(format, values, *fit);
    if (cost >= least) continue;
    found = WeightedSum{fit->parents, cost};
    least = cost - std::min(cost, kThirdGain);
  }
  return found;
}

double Explained(std::span<const int32_t> values, std::span<const int32_t> base,
                 std::span<const double> product) {
  double both = 0;
  double difference = 0;
  double products = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double d =
        double{FromOrdered(values[i])} - double{FromOrdered(base[i])};
    both += d * product[i];
    difference += d * d;
    products += product[i] * product[i];
  }
  const double square = difference * products;
  return square > 0 ? both * both / square : 0;
}

}  // namespace zipllm::archive
