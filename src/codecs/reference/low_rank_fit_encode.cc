// Codec 16: tensors that differ from their base by a matrix of low rank, as
// when an adapter (LoRA; Hu et al., 2021) was merged into it.
//
// A sample of rows tells the rank: by Cholesky's method with pivots on their
// scalar products, which ends where rounding is all that is left. The pivot
// rows span the first guess. Alternating least squares then fit rows and
// columns, each difference weighted by how well rounding lets it be known; one
// Newton step each, since the weights hardly depend on the factors. At last
// factors are rounded: columns first, then the rows to fit those.
//
// Basic operations of IEEE 754 and square roots in a fixed order: the same on
// every machine.
#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <utility>

#include "codecs/reference/sum_model.h"

namespace zipllm::codecs::sum_fit {
namespace {

using Vector = std::vector<double>;

/// Of the sample: runs by which steps are compared.
constexpr size_t kSampledRuns = 64;

/// A lower triangle L with L L^T = a (n x n, symmetric), made regular where it
/// is not.
Vector Cholesky(const Vector& a, size_t n) {
  Vector l(n * n);
  double greatest = 0;
  for (size_t i = 0; i < n; ++i) greatest = std::max(greatest, a[i * n + i]);
  const double least = std::max(greatest * 1e-14, 0x1p-1000);
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j <= i; ++j) {
      double sum = a[i * n + j];
      for (size_t k = 0; k < j; ++k) sum -= l[i * n + k] * l[j * n + k];
      l[i * n + j] =
          i == j ? std::sqrt(std::max(sum, least)) : sum / l[j * n + j];
    }
  }
  return l;
}

/// x := (L L^T)^-1 x.
void Solve(const Vector& l, size_t n, double* x) {
  for (size_t i = 0; i < n; ++i) {
    for (size_t k = 0; k < i; ++k) x[i] -= l[i * n + k] * x[k];
    x[i] /= l[i * n + i];
  }
  for (size_t i = n; i-- > 0;) {
    for (size_t k = i + 1; k < n; ++k) x[i] -= l[k * n + i] * x[k];
    x[i] /= l[i * n + i];
  }
}

/// One-sided Jacobi (Hestenes 1958): turns the columns of a (n x n) until they
/// are orthogonal, and those of v with them.
void Orthogonalize(size_t n, Vector* a, Vector* v) {
  constexpr int kSweeps = 30;
  for (int sweep = 0; sweep < kSweeps; ++sweep) {
    bool done = true;
    for (size_t p = 0; p + 1 < n; ++p) {
      for (size_t q = p + 1; q < n; ++q) {
        double pp = 0;
        double qq = 0;
        double pq = 0;
        for (size_t i = 0; i < n; ++i) {
          const double x = (*a)[i * n + p];
          const double y = (*a)[i * n + q];
          pp += x * x;
          qq += y * y;
          pq += x * y;
        }
        if (pq * pq <= pp * qq * 1e-26) continue;
        done = false;
        const double zeta = (qq - pp) / (2 * pq);
        const double root = std::sqrt(1 + zeta * zeta);
        const double t = zeta < 0 ? -1 / (root - zeta) : 1 / (root + zeta);
        const double cosine = 1 / std::sqrt(1 + t * t);
        const double sine = cosine * t;
        for (Vector* m : {a, v}) {
          for (size_t i = 0; i < n; ++i) {
            const double x = (*m)[i * n + p];
            const double y = (*m)[i * n + q];
            (*m)[i * n + p] = cosine * x - sine * y;
            (*m)[i * n + q] = sine * x + cosine * y;
          }
        }
      }
    }
    if (done) return;
  }
}

/// The nearest integer, ties to even.
double RoundInteger(double value) {
  constexpr double kMagic = 0x1.8p52;
  return value + kMagic - kMagic;
}

/// log2 of a positive number, good to 1/1000: exponent and a few squarings.
double Log2(double value) {
  const uint64_t bits = std::bit_cast<uint64_t>(value);
  double log2 = static_cast<double>((bits >> 52) & 0x7FF) - 1023;
  double mantissa = std::bit_cast<double>((bits & ((uint64_t{1} << 52) - 1)) |
                                          uint64_t{1023} << 52);
  for (double part = 0.5; part > 0.0005; part /= 2) {
    mantissa *= mantissa;
    if (mantissa >= 2) {
      mantissa /= 2;
      log2 += part;
    }
  }
  return log2;
}

class LowRankFitter {
 public:
  LowRankFitter(TensorReader& reader, uint8_t base)
      : reader_(reader),
        base_(base),
        columns_(static_cast<size_t>(reader.view().row)),
        rows_(static_cast<size_t>(reader.view().elements / reader.view().row)),
        target_values_(columns_),
        difference_(columns_),
        noise_(columns_),
        weighted_(columns_),
        exact_noise_(columns_),
        // It may have been since.
        base_is_rounded_(reader.TypeOf(base) != FloatType::kF32) {}

  std::optional<Fit> Run(Sample& sample);

 private:
  bool Detect();
  bool ReadRow(size_t row);
  bool Sweep(size_t stride, bool first, bool rows_only);
  void FitRow(double* u, bool first);
  void ToPrincipal();
  bool Choose(Sample& sample, Fit* fit);
  std::pair<double, double> StepsOf(double step) const;
  bool RoundRows(double unit, Product* product) const;
  /// The product's integers for a step of `step` between values of it.
  Product RoundColumns(double step) const;
  Factors FactorsOf(const Product& product) const;

  TensorReader& reader_;
  const uint8_t base_;
  const size_t columns_;
  const size_t rows_;
  const kernels::Table& kernel_ = kernels::Best();

  // Of the row that was read: what differs, how uncertain that is (variance),
  // and room.
  Vector target_values_;
  Vector difference_;
  Vector noise_;
  Vector weighted_;
  Vector exact_noise_;  // if the base is what the product was added to

  bool base_is_rounded_;
  double mean_noise_ = 0;  // variance
  double extra_noise_ = 0;
  int sweeps_ = 0;
  size_t rank_ = 0;
  Vector u_;                 // rows x rank
  Vector v_;                 // rank x columns
  Vector v_triangle_;        // of v v^T
  Vector root_mean_square_;  // of each component's elements, descending
};

/// Differences that are not finite, or huge, are 0 of great uncertainty.
bool LowRankFitter::ReadRow(size_t row) {
  const uint64_t begin = uint64_t{row} * columns_;
  if (!reader_.Values(-1, begin, columns_, target_values_.data()) ||
      !reader_.Values(base_, begin, columns_, difference_.data())) {
    return false;
  }
  const FloatType target = reader_.target();
  const FloatType base = reader_.TypeOf(base_);
  for (size_t j = 0; j < columns_; ++j) {
    const double t = target_values_[j];
    const double b = difference_[j];
    double noise = SquaredPlace(target, t);
    exact_noise_[j] = noise / 12;
    if (base_is_rounded_) noise += SquaredPlace(base, b);
    const double d = t - b;
    const bool finite =
        ((std::bit_cast<uint64_t>(d) >> 52) & 0x7FF) < 1023 + 40;
    difference_[j] = finite ? d : 0;
    noise_[j] = finite ? noise / 12 + extra_noise_ : 0x1p300;
  }
  return true;
}

/// The rank, noise, and first guess of v. False if the rank is not low.
bool LowRankFitter::Detect() {
  // As many sampled rows, and four times as many columns, let a rank of a third
  // be seen.
  size_t sampled = 32;
  while (sampled < 384 && 64 * sampled * sampled < uint64_t{rows_} * columns_) {
    sampled += 16;
  }
  sampled = std::min({sampled, rows_, (size_t{1} << 20) / columns_});
  if (sampled < 6) return false;
  const size_t stride = std::max<size_t>(1, columns_ / (4 * sampled));
  const size_t width = columns_ / stride;
  Vector all(sampled * columns_);
  Vector some(sampled * width);
  double noise = 0;
  double exact_noise = 0;
  double energy = 0;
  size_t known = 0;
  for (size_t i = 0; i < sampled; ++i) {
    if (!ReadRow(rows_ * i / sampled)) return false;
    std::copy(difference_.begin(), difference_.end(),
              all.begin() + static_cast<std::ptrdiff_t>(i * columns_));
    for (size_t j = 0; j < width; ++j) {
      const double d = difference_[j * stride];
      some[i * width + j] = d;
      if (noise_[j * stride] > 0x1p200) continue;
      energy += d * d;
      noise += noise_[j * stride];
      exact_noise += exact_noise_[j * stride];
      ++known;
    }
  }
  if (known == 0 || energy < 1.5 * noise) return false;
  Vector gram(sampled * sampled);
  for (size_t i = 0; i < sampled; ++i) {
    for (size_t j = 0; j <= i; ++j) {
      gram[i * sampled + j] = gram[j * sampled + i] =
          kernel_.dot(&some[i * width], &some[j * width], width);
    }
  }
  // Cholesky with pivots: `left` is what the pivots so far do not explain.
  Vector left(sampled);
  for (size_t i = 0; i < sampled; ++i) left[i] = gram[i * sampled + i];
  Vector l;  // columns of the factor
  std::vector<size_t> pivots;
  const size_t most =
      std::min({sampled / 3, width / 4, kMaxOwnRank - 2, columns_ / 8});
  size_t rank = 0;
  while (pivots.size() < most) {
    const auto pivot = static_cast<size_t>(
        std::max_element(left.begin(), left.end()) - left.begin());
    if (!(left[pivot] > 0)) break;
    const double root = std::sqrt(left[pivot]);
    const size_t k = pivots.size();
    l.resize((k + 1) * sampled);
    double sum = 0;
    for (size_t i = 0; i < sampled; ++i) {
      double value = gram[i * sampled + pivot];
      for (size_t p = 0; p < k; ++p) {
        value -= l[p * sampled + i] * l[p * sampled + pivot];
      }
      value /= root;
      l[k * sampled + i] = value;
      left[i] = std::max(0.0, left[i] - value * value);
    }
    pivots.push_back(pivot);
    for (const size_t p : pivots) left[p] = 0;
    for (const double rest : left) sum += rest;
    const double share = static_cast<double>(sampled - pivots.size()) /
                         static_cast<double>(sampled);
    const double rest = sum / share;
    // What noise pivots add may be several times the noise.
    if ((rest < 4 * noise && rest < 0.35 * energy) || rest < 0.001 * energy) {
      if (rank == 0) rank = pivots.size();
      // Was a coarse base taken as it is? Then much less is left in the end.
      if (exact_noise > noise / 16) break;
      if (rest < 4 * exact_noise) {
        rank = pivots.size();
        base_is_rounded_ = false;
        noise = exact_noise;
        break;
      }
    }
  }
  if (rank == 0) return false;
  pivots.resize(rank);

  mean_noise_ = noise / static_cast<double>(known);
  // An orthonormal basis of what the pivot rows span.
  v_.clear();
  for (const size_t pivot : pivots) {
    Vector row(
        all.begin() + static_cast<std::ptrdiff_t>(pivot * columns_),
        all.begin() + static_cast<std::ptrdiff_t>((pivot + 1) * columns_));
    const double before = kernel_.dot(row.data(), row.data(), columns_);
    for (int twice = 0; twice < 2; ++twice) {
      for (size_t k = 0; k < rank_; ++k) {
        const double by = -kernel_.dot(row.data(), &v_[k * columns_], columns_);
        kernel_.add_outer(&by, 1, &v_[k * columns_], columns_, columns_,
                          row.data());
      }
    }
    const double after = kernel_.dot(row.data(), row.data(), columns_);
    if (!(after > before * 1e-24)) continue;
    const double scale = 1 / std::sqrt(after);
    for (double& value : row) value *= scale;
    v_.insert(v_.end(), row.begin(), row.end());
    ++rank_;
  }
  return rank_ > 0;
}

/// Fits a row's factors to what was read: least squares for those that are
/// first, then a Newton step with weights. Leaves the weighted rest in
/// `weighted_`, the weights in `noise_`.
void LowRankFitter::FitRow(double* u, bool first) {
  Vector gradient(rank_);
  if (first) {
    for (size_t k = 0; k < rank_; ++k) {
      u[k] = kernel_.dot(difference_.data(), &v_[k * columns_], columns_);
    }
    Solve(v_triangle_, rank_, u);
  }
  for (size_t k = 0; k < rank_; ++k) gradient[k] = -u[k];
  kernel_.add_product(gradient.data(), v_.data(), columns_, rank_, columns_,
                      difference_.data());
  // Elements near zero are known well, but should not count alone, least so
  // while the fit is coarse.
  const double floor = mean_noise_ / (sweeps_ == 0 ? 2 : sweeps_ == 1 ? 8 : 64);
  for (size_t j = 0; j < columns_; ++j) {
    noise_[j] = mean_noise_ / (noise_[j] + floor);
    weighted_[j] = noise_[j] * difference_[j];
  }
  // Nor those that something else has changed, far out of what is usual.
  const double usual =
      kernel_.dot(weighted_.data(), difference_.data(), columns_) /
      static_cast<double>(columns_);
  const double bound = 36 * mean_noise_ + 16 * usual;
  for (size_t j = 0; j < columns_; ++j) {
    const double square = weighted_[j] * difference_[j];
    noise_[j] *= bound / std::max(square, bound);
    weighted_[j] = noise_[j] * difference_[j];
  }
  double sum = 0;
  for (const double weight : noise_) sum += weight;
  const double mean = std::max(sum / static_cast<double>(columns_), 0x1p-40);
  for (size_t k = 0; k < rank_; ++k) {
    gradient[k] = kernel_.dot(weighted_.data(), &v_[k * columns_], columns_);
  }
  Solve(v_triangle_, rank_, gradient.data());
  for (size_t k = 0; k < rank_; ++k) {
    u[k] += gradient[k] / mean;
    gradient[k] /= -mean;
  }
  kernel_.add_product(gradient.data(), v_.data(), columns_, rank_, columns_,
                      difference_.data());
  for (size_t j = 0; j < columns_; ++j) {
    weighted_[j] = noise_[j] * difference_[j];
  }
}

/// Fits the factors of each `stride`-th row, then those of the columns to them.
bool LowRankFitter::Sweep(size_t stride, bool first, bool rows_only) {
  Vector v_gram(rank_ * rank_);
  for (size_t k = 0; k < rank_; ++k) {
    for (size_t l = 0; l <= k; ++l) {
      v_gram[k * rank_ + l] = v_gram[l * rank_ + k] =
          kernel_.dot(&v_[k * columns_], &v_[l * columns_], columns_);
    }
  }
  v_triangle_ = Cholesky(v_gram, rank_);
  Vector u_gram(rank_ * rank_);
  Vector gradient(rank_ * columns_);
  Vector weights(columns_);
  const double one = 1;
  size_t fitted = 0;
  double rest = 0;
  double known = 0;
  for (size_t i = 0; i < rows_; i += stride) {
    if (!ReadRow(i)) return false;
    double* const u = &u_[i * rank_];
    FitRow(u, first);
    kernel_.add_outer(u, rank_, weighted_.data(), columns_, columns_,
                      gradient.data());
    kernel_.add_outer(&one, 1, noise_.data(), columns_, columns_,
                      weights.data());
    for (size_t k = 0; k < rank_; ++k) {
      for (size_t l = 0; l <= k; ++l) u_gram[k * rank_ + l] += u[k] * u[l];
    }
    rest += kernel_.dot(weighted_.data(), difference_.data(), columns_);
    known += static_cast<double>(columns_);
    ++fitted;
  }
  if (rows_only) return true;
  const Vector triangle = Cholesky(u_gram, rank_);
  Vector column(rank_);
  for (size_t j = 0; j < columns_; ++j) {
    for (size_t k = 0; k < rank_; ++k) column[k] = gradient[k * columns_ + j];
    Solve(triangle, rank_, column.data());
    const double mean =
        std::max(weights[j] / static_cast<double>(fitted), 0x1p-40);
    for (size_t k = 0; k < rank_; ++k) {
      v_[k * columns_ + j] += column[k] / mean;
    }
  }
  // By now, what rounding does not explain is noise of the product's own, of
  // one size. (A perfect fit leaves weighted squares of the mean noise.)
  const double excess = rest / known - mean_noise_;
  if (++sweeps_ == 4 && excess > mean_noise_ / 8) {
    extra_noise_ = excess;
    mean_noise_ += excess;
  }
  return true;
}

/// Turns factors into those of the singular value decomposition, with v
/// orthonormal; drops components that are noise.
void LowRankFitter::ToPrincipal() {
  const size_t r = rank_;
  Vector u_gram(r * r);
  Vector v_gram(r * r);
  for (size_t i = 0; i < rows_; ++i) {
    const double* const u = &u_[i * r];
    for (size_t k = 0; k < r; ++k) {
      for (size_t l = 0; l <= k; ++l) u_gram[k * r + l] += u[k] * u[l];
    }
  }
  for (size_t k = 0; k < r; ++k) {
    for (size_t l = 0; l <= k; ++l) {
      v_gram[k * r + l] =
          kernel_.dot(&v_[k * columns_], &v_[l * columns_], columns_);
    }
  }
  const Vector lu = Cholesky(u_gram, r);
  const Vector lv = Cholesky(v_gram, r);
  // u v = (u lu^-T) (lu^T lv) (lv^-1 v); columns of m = lu^T lv are turned into
  // orthogonal ones, a, by w: m = a w^T.
  Vector a(r * r);
  Vector w(r * r);
  for (size_t i = 0; i < r; ++i) {
    w[i * r + i] = 1;
    for (size_t j = 0; j < r; ++j) {
      for (size_t k = std::max(i, j); k < r; ++k) {
        a[i * r + j] += lu[k * r + i] * lv[k * r + j];
      }
    }
  }
  Orthogonalize(r, &a, &w);
  Vector squares(r);
  for (size_t k = 0; k < r; ++k) {
    for (size_t i = 0; i < r; ++i) squares[k] += a[i * r + k] * a[i * r + k];
  }
  std::vector<size_t> order(r);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t x, size_t y) { return squares[x] > squares[y]; });
  // The greatest singular value of noise alone (Marchenko, Pastur 1967).
  const double roots = std::sqrt(static_cast<double>(rows_)) +
                       std::sqrt(static_cast<double>(columns_));
  const double edge = mean_noise_ * roots * roots;
  size_t kept = 0;
  while (kept < r && squares[order[kept]] > edge) ++kept;
  rank_ = kept;
  const double area =
      static_cast<double>(rows_) * static_cast<double>(columns_);
  root_mean_square_.clear();
  // v' = w^T lv^-1 v, u' = u lu^-T a: with u' v' = u v.
  Vector fresh_v(kept * columns_);
  Vector column(r);
  for (size_t j = 0; j < columns_; ++j) {
    for (size_t k = 0; k < r; ++k) {
      double sum = v_[k * columns_ + j];
      for (size_t l = 0; l < k; ++l) sum -= lv[k * r + l] * column[l];
      column[k] = sum / lv[k * r + k];
    }
    for (size_t k = 0; k < kept; ++k) {
      double sum = 0;
      for (size_t l = 0; l < r; ++l) sum += w[l * r + order[k]] * column[l];
      fresh_v[k * columns_ + j] = sum;
    }
  }
  Vector fresh_u(rows_ * kept);
  for (size_t i = 0; i < rows_; ++i) {
    for (size_t k = 0; k < r; ++k) {  // u lu^-T: lu x = u
      double sum = u_[i * r + k];
      for (size_t l = 0; l < k; ++l) sum -= lu[k * r + l] * column[l];
      column[k] = sum / lu[k * r + k];
    }
    for (size_t k = 0; k < kept; ++k) {
      double sum = 0;
      for (size_t l = 0; l < r; ++l) sum += a[l * r + order[k]] * column[l];
      fresh_u[i * kept + k] = sum;
    }
  }
  for (size_t k = 0; k < kept; ++k) {
    root_mean_square_.push_back(std::sqrt(squares[order[k]] / area));
  }
  u_ = std::move(fresh_u);
  v_ = std::move(fresh_v);
}

/// Steps of the product for both sides, such that each adds its share of the
/// error for as few bits as it may: the more rows, the coarser are theirs.
std::pair<double, double> LowRankFitter::StepsOf(double step) const {
  const auto rows = static_cast<double>(rows_);
  const auto columns = static_cast<double>(columns_);
  return {step * std::sqrt(2 * rows / (rows + columns)),
          step * std::sqrt(2 * columns / (rows + columns))};
}

Product LowRankFitter::RoundColumns(double step) const {
  const auto [row_step, column_step] = StepsOf(step);
  Product product;
  product.rank = rank_;
  product.columns.resize(v_.size());
  const double unit = std::sqrt(static_cast<double>(columns_));
  for (size_t k = 0; k < rank_; ++k) {
    const double size = root_mean_square_[k];
    product.scales.push_back(row_step * column_step / size);
    const double by = unit * size / column_step;
    for (size_t j = 0; j < columns_; ++j) {
      product.columns[k * columns_ + j] =
          RoundInteger(v_[k * columns_ + j] * by);
    }
  }
  return product;
}

/// The rows' integers: u in `unit`s. False if one is too large.
bool LowRankFitter::RoundRows(double unit, Product* product) const {
  product->rows.resize(u_.size());
  for (size_t i = 0; i < u_.size(); ++i) {
    const double value = RoundInteger(u_[i] / unit);
    if (!(value > -0x1p30 && value < 0x1p30)) return false;
    product->rows[i] = static_cast<int32_t>(value);
  }
  return true;
}

Factors LowRankFitter::FactorsOf(const Product& product) const {
  Factors factors;
  factors.rank = product.rank;
  factors.columns = product.columns.data();
  factors.scales = product.scales.data();
  factors.rows = product.rows.data();
  return factors;
}

/// Looks for the step that takes the least bits in all, and for the arithmetic.
bool LowRankFitter::Choose(Sample& sample, Fit* fit) {
  const auto rows = static_cast<double>(rows_);
  const auto columns = static_cast<double>(columns_);
  const double place = std::sqrt(12 * mean_noise_);
  Formula formula;
  formula.target = reader_.target();
  formula.terms = {{base_, 1}};
  formula.product = ProductKind::kOwn;
  formula.rank = rank_;
  formula.settle.noise_exponent =
      NoiseExponentOf(sample.target(), formula.target);
  const auto try_formula = [&](const Product& product) {
    const double bits =
        sample.Try(formula, FactorsOf(product), kSampledRuns).bits;
    if (bits < fit->bits) {
      fit->bits = bits;
      fit->formula = formula;
    }
    return bits;
  };
  double best = 1e9;
  double best_step = 0;
  for (double step = place / 4; step > place / 512; step /= 2) {
    const auto [row_step, column_step] = StepsOf(step);
    if (root_mean_square_[0] / row_step > 0x1p27 ||
        root_mean_square_[0] / column_step > 0x1p27) {
      break;
    }
    Product product = RoundColumns(step);
    RoundRows(row_step * std::sqrt(columns), &product);
    double factor_bits = 0;
    for (const double size : root_mean_square_) {
      // Those of a bell curve.
      factor_bits += rows * Log2(1 + 4.13 * size / row_step) +
                     columns * Log2(1 + 4.13 * size / column_step);
    }
    fit->bits = 1e9;
    const double bits = try_formula(product) + factor_bits / (rows * columns);
    if (bits > best) break;
    best = bits;
    best_step = step;
    fit->product = std::move(product);
  }
  if (best_step == 0) return false;
  fit->bits = 1e9;
  for (const bool noisy : {false, true}) {
    formula.settle.noisy_bases = noisy;
    formula.product_rounding = Rounding();
    try_formula(fit->product);
    if (formula.target == FloatType::kF32) continue;
    formula.product_rounding = formula.target;
    try_formula(fit->product);
  }
  // Rows once more, to fit the rounded columns.
  const double unit = StepsOf(best_step).first * std::sqrt(columns);
  for (double& value : u_) value /= unit;
  for (size_t k = 0; k < rank_; ++k) {
    for (size_t j = 0; j < columns_; ++j) {
      const size_t at = k * columns_ + j;
      v_[at] = fit->product.columns[at] * fit->product.scales[k];
    }
  }
  if (!Sweep(1, false, true)) return false;
  return RoundRows(1, &fit->product);
}

std::optional<Fit> LowRankFitter::Run(Sample& sample) {
  if (!Detect()) return std::nullopt;
  u_.resize(rows_ * rank_);
  // Most of the way with some of the rows, where there are many.
  const size_t stride =
      uint64_t{rows_} * columns_ > (size_t{1} << 20) ? rows_ / 512 : 0;
  if (stride > 1) {
    for (int i = 0; i < 3; ++i) {
      if (!Sweep(stride, i == 0, false)) return std::nullopt;
    }
  }
  const int sweeps = stride > 1 ? 2 : 5;
  for (int i = 0; i < sweeps; ++i) {
    if (!Sweep(1, i == 0, false)) return std::nullopt;
  }
  ToPrincipal();
  if (rank_ == 0) return std::nullopt;
  Fit fit;
  if (!Choose(sample, &fit)) return std::nullopt;
  return fit;
}

}  // namespace

std::optional<Fit> FitLowRank(TensorReader& reader, Sample& sample) {
  constexpr uint64_t kLeastSide = 24;
  const TensorView& view = reader.view();
  const std::vector<uint8_t> bases = BasesOf(view);
  if (bases.empty() || view.row < kLeastSide || view.row > (1u << 18) ||
      view.elements % view.row != 0 || view.elements / view.row < kLeastSide) {
    return std::nullopt;
  }
  return LowRankFitter(reader, bases[0]).Run(sample);
}

}  // namespace zipllm::codecs::sum_fit
