// Codec 16: tensors that are combinations of others: soups, SLERP, task
// arithmetic. Coefficients by weighted least squares; then the arithmetic that
// leaves the least is looked for, with the coefficients as they are and as
// round numbers. Basic operations of IEEE 754 in a fixed order.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "codecs/reference/sum_model.h"

namespace zipllm::codecs::sum_fit {
namespace {

constexpr size_t kMost = kMaxReferences;
using Numbers = std::array<double, kMost>;

bool IsFinite(double value) {
  return ((std::bit_cast<uint64_t>(value) >> 52) & 0x7FF) != 0x7FF;
}

/// Solves the symmetric system of the first `n` equations by Cholesky's method;
/// false if it is singular.
bool Solve(std::array<Numbers, kMost> m, Numbers right, size_t n,
           Numbers* solution) {
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j <= i; ++j) {
      double sum = m[i][j];
      for (size_t k = 0; k < j; ++k) sum -= m[i][k] * m[j][k];
      if (i == j) {
        if (!(sum > m[i][i] * 1e-14)) return false;
        m[i][i] = std::sqrt(sum);
      } else {
        m[i][j] = sum / m[j][j];
      }
    }
  }
  for (size_t i = 0; i < n; ++i) {
    for (size_t k = 0; k < i; ++k) right[i] -= m[i][k] * right[k];
    right[i] /= m[i][i];
  }
  for (size_t i = n; i-- > 0;) {
    for (size_t k = i + 1; k < n; ++k) right[i] -= m[k][i] * right[k];
    right[i] /= m[i][i];
  }
  *solution = right;
  return true;
}

/// The sample's values: of the target (-1) or a base.
std::vector<double> ValuesOf(const Sample& sample, FloatType type,
                             ByteSpan bytes) {
  std::vector<double> values(sample.count());
  kernels::Best().widen(type, bytes.data(), values.size(), values.data());
  return values;
}

/// c of target ~ sum of c_k base_k: least squares over the differences to the
/// first base, of which the first unknown is its own excess over 1. The less
/// the rounding of the target (and of the bases, where they are `rounded`)
/// leaves to be known, the less an element counts.
std::optional<Numbers> FitCoefficients(TensorReader& reader,
                                       const Sample& sample,
                                       const std::vector<uint8_t>& bases,
                                       bool rounded) {
  const size_t n = bases.size();
  const std::vector<double> target =
      ValuesOf(sample, reader.target(), sample.target());
  std::array<std::vector<double>, kMost> x;
  std::vector<double> noise(sample.count());
  const auto add_noise = [&](FloatType type,
                             const std::vector<double>& values) {
    for (size_t i = 0; i < noise.size(); ++i) {
      noise[i] += SquaredPlace(type, values[i]);
    }
  };
  add_noise(reader.target(), target);
  for (size_t k = 0; k < n; ++k) {
    const Reference& reference = sample.references()[bases[k]];
    const FloatType type = *FloatTypeOf(reference.dtype);
    x[k] = ValuesOf(sample, type, reference.data);
    if (rounded) add_noise(type, x[k]);
  }
  const auto is_known = [&](size_t i) {
    double sum = target[i];
    for (size_t k = 0; k < n; ++k) sum += x[k][i];
    return IsFinite(sum) && noise[i] < 0x1p200;
  };
  double floor = 0;
  for (size_t i = 0; i < noise.size(); ++i) {
    if (is_known(i)) floor += noise[i];
  }
  // Elements near zero are known well, but should not count alone.
  floor /= (rounded ? 16 : 1024) * static_cast<double>(noise.size());

  std::array<Numbers, kMost> m{};
  Numbers right{};
  for (size_t i = 0; i < noise.size(); ++i) {
    if (!is_known(i)) continue;
    Numbers row;
    row[0] = x[0][i];
    for (size_t k = 1; k < n; ++k) row[k] = x[k][i] - x[0][i];
    const double difference = target[i] - x[0][i];
    for (size_t k = 0; k < n; ++k) {
      const double weighted = row[k] / (noise[i] + floor);
      for (size_t l = 0; l <= k; ++l) m[k][l] += weighted * row[l];
      right[k] += weighted * difference;
    }
  }
  Numbers solution{};
  if (!Solve(m, right, n, &solution)) return std::nullopt;
  Numbers coefficients{};
  coefficients[0] = 1 + solution[0];
  for (size_t k = 1; k < n; ++k) {
    coefficients[k] = solution[k];
    coefficients[0] -= solution[k];
  }
  for (size_t k = 0; k < n; ++k) {
    if (!IsFinite(coefficients[k])) return std::nullopt;
  }
  return coefficients;
}

/// `value` to the nearest multiple of 1 / `parts`.
double Snap(double value, double parts) {
  constexpr double kMagic = 0x1.8p52;  // the last bit of sums is worth 1
  return (value * parts + kMagic - kMagic) / parts;
}

/// The nearest FP32 number.
double Narrow(double value) {
  return static_cast<double>(static_cast<float>(value));
}

}  // namespace

std::optional<Fit> FitMerge(TensorReader& reader, Sample& sample) {
  const std::vector<uint8_t> bases = BasesOf(reader.view());
  const size_t n = bases.size();
  if (n < 2) return std::nullopt;
  std::optional<Numbers> fitted = FitCoefficients(reader, sample, bases, true);
  if (!fitted) return std::nullopt;

  Formula best;
  std::optional<Sample::Outcome> outcome;
  const auto try_formula = [&](const Formula& formula) {
    const Sample::Outcome tried = sample.Try(formula, {}, kFewRuns);
    if (!outcome || tried.bits < outcome->bits) {
      best = formula;
      outcome = tried;
    }
    return tried.bits;
  };
  std::vector<Rounding> roundings = {Rounding(), Rounding(FloatType::kF32)};
  if (reader.target() != FloatType::kF32) {
    roundings.emplace_back(reader.target());
  }
  Formula formula;
  formula.target = reader.target();
  formula.settle.noise_exponent =
      NoiseExponentOf(sample.target(), formula.target);
  // Bases that are rounded themselves leave more doubt than the arithmetic.
  formula.settle.noisy_bases = true;
  formula.terms.resize(n);

  // Round numbers that do as well as those fitted come before them.
  const auto set = [&](const Numbers& numbers, bool narrow) {
    for (size_t k = 0; k < n; ++k) {
      formula.terms[k] = {bases[k], narrow ? Narrow(numbers[k]) : numbers[k]};
    }
  };
  set(*fitted, false);
  try_formula(formula);
  if (const auto exact = FitCoefficients(reader, sample, bases, false)) {
    const double bits = outcome->bits;
    set(*exact, false);
    if (try_formula(formula) < bits) fitted = exact;
  }
  const double fitted_bits = outcome->bits;
  std::vector<Numbers> candidates;
  for (const double parts : {1.0, 10.0, 100.0, 1000.0, 3.0, 6.0, 7.0}) {
    Numbers numbers{};
    for (size_t k = 0; k < n; ++k) numbers[k] = Snap((*fitted)[k], parts);
    if (std::ranges::find(candidates, numbers) != candidates.end()) continue;
    set(numbers, false);
    if (try_formula(formula) <= fitted_bits * 1.02 + 0.005) {
      candidates.push_back(numbers);
    }
  }
  candidates.push_back(*fitted);
  for (const Numbers& numbers : candidates) {
    for (const Rounding& rounding : roundings) {
      if (outcome->misses == 0) break;  // nothing is left to be found
      if (!rounding) continue;
      formula.rounding = rounding;
      formula.method = Method::kLinear;
      formula.terms.resize(n);
      set(numbers, true);
      try_formula(formula);
      // Each base may be the one that the others' tasks are added to.
      formula.method = Method::kTask;
      for (size_t first = 0; first < n; ++first) {
        formula.terms = {{bases[first], 1}};
        for (size_t k = 0; k < n; ++k) {
          if (k != first) {
            formula.terms.push_back({bases[k], Narrow(numbers[k])});
          }
        }
        try_formula(formula);
      }
    }
  }
  formula.method = Method::kMean;
  for (size_t k = 0; k < n; ++k) formula.terms[k] = {bases[k], 1};
  for (const Rounding& rounding : roundings) {
    formula.rounding = rounding;
    if (outcome->misses != 0) try_formula(formula);
  }
  formula = best;
  formula.settle.noisy_bases = false;
  try_formula(formula);
  return Fit{best, {}, outcome->bits};
}

}  // namespace zipllm::codecs::sum_fit
