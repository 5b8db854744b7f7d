#include "archive/importance.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <utility>

#include "base/dtype.h"
#include "quantizers/fit_codes.h"

namespace zipllm::archive {
namespace {

// A quantizer chooses the codes l of a piece of a row and then the scale a (and
// minimum b) that make the sum of w * (x - a * l - b)^2 least, where w is the
// importance of the column times a number that the weights alone tell. So each
// stored scale is one equation in the importance of the piece's columns, which
// all rows share, known up to the rounding of what is stored. Gauss-Newton
// steps solve them.

constexpr size_t kGroup = 32;        // columns that are solved for together
constexpr size_t kSuperblock = 256;  // columns whose groups have one factor
constexpr size_t kMostGroups = kSuperblock / kGroup;
constexpr size_t kMostPieces = kSuperblock / 16;
constexpr uint64_t kMostWeights = uint64_t{1} << 22;
constexpr uint64_t kMostRows = 1536;
constexpr uint64_t kRowsForFactors = 512;
constexpr size_t kMostMatrices = 4;  // of those that tell as much

// ---- Types ----

// How a type's quantizer finds codes; nothing: those that are stored are what
// it found.
using quantizers::CodeFit;
using Search = std::optional<CodeFit>;

struct Scheme {
  DType dtype;
  uint8_t width;  // weights of a piece
  bool affine;    // has minima
  Search search;
  uint16_t sigma;  // the weights whose mean square counts: 0: none does, 1: the
                   // row's
  double factor;   // times that
  bool summed;     // d and dmin are sums over pieces with their weights
};

constexpr uint16_t kRow = 1;

constexpr std::array kSchemes = {
    Scheme{DType::kGgmlQ40, 32, false, {}, kRow, 1, false},
    Scheme{DType::kGgmlQ50, 32, false, {}, kRow, 1, false},
    Scheme{DType::kGgmlQ41, 32, true, {}, kRow, 1, false},
    Scheme{DType::kGgmlQ51, 32, true, {}, kRow, 1, false},
    Scheme{DType::kGgmlQ2K, 16, true, CodeFit::kAffine3, 256, 1, true},
    Scheme{DType::kGgmlQ3K, 16, false, CodeFit::kSymmetric4, 256, 2, true},
    Scheme{DType::kGgmlQ4K, 32, true, CodeFit::kAffine15, 256, 2, true},
    Scheme{DType::kGgmlQ5K, 32, true, CodeFit::kAffine31, 256, 2, true},
    Scheme{DType::kGgmlQ6K, 16, false, CodeFit::kSymmetric32, 0, 0, false},
};

const Scheme* FindScheme(DType dtype) {
  const auto found = std::ranges::find(kSchemes, dtype, &Scheme::dtype);
  return found == kSchemes.end() ? nullptr : &*found;
}

// ---- Blocks ----

// A stored number and half of what it was rounded to; half 0: not known.
struct Stored {
  double value = 0;
  double half = 0;
};

struct Blocks {  // of one superblock, or of one block of 32
  std::array<Stored, kMostPieces> scale;
  std::array<Stored, kMostPieces> minimum;
  Stored d, dmin;                        // where they are sums
  std::array<int, kMostPieces> level{};  // scale = d * level
  std::array<int, kMostPieces> minimum_level{};
  std::array<int8_t, kGroup> codes{};  // where they are what was found
};

double FromHalf(uint32_t half) {
  const uint32_t exponent = half >> 10 & 31;
  const uint32_t mantissa = half & 1023;
  // Powers of two are made by their bits.
  const uint64_t power = uint64_t{exponent == 0 ? 1 : exponent} + 1023 - 25;
  const double unit = std::bit_cast<double>(power << 52);
  const double magnitude =
      unit * static_cast<double>(exponent == 0 ? mantissa : mantissa + 1024);
  return (half & 0x8000) != 0 ? -magnitude : magnitude;
}

Stored LoadHalf(const uint8_t* from) {
  const uint32_t half = static_cast<uint32_t>(from[0] | from[1] << 8);
  if ((half & 0x7fff) >= 0x7bff) return {};  // infinite, NaN or the greatest
  const double value = FromHalf(half);
  const double next = FromHalf(half + 1);
  return {value, std::abs(next - value) / 2};
}

Stored Multiple(const Stored& of, int level) {
  return {of.value * level, std::abs(of.value) / 2};
}

void LoadNibbles(const uint8_t* from, const uint8_t* fifth, int minus,
                 int8_t* codes) {
  for (size_t i = 0; i < 16; ++i) {
    int low = from[i] & 15;
    int high = from[i] >> 4;
    if (fifth != nullptr) {
      low |= (fifth[i / 8] >> i % 8 & 1) << 4;
      high |= (fifth[i / 8 + 2] >> i % 8 & 1) << 4;
    }
    codes[i] = static_cast<int8_t>(low - minus);
    codes[i + 16] = static_cast<int8_t>(high - minus);
  }
}

void Load(DType dtype, const uint8_t* block, Blocks* out) {
  switch (dtype) {
    case DType::kGgmlQ40:
      out->scale[0] = LoadHalf(block);
      LoadNibbles(block + 2, nullptr, 8, out->codes.data());
      break;
    case DType::kGgmlQ50:
      out->scale[0] = LoadHalf(block);
      LoadNibbles(block + 6, block + 2, 16, out->codes.data());
      break;
    case DType::kGgmlQ41:
      out->scale[0] = LoadHalf(block);
      out->minimum[0] = LoadHalf(block + 2);
      LoadNibbles(block + 4, nullptr, 0, out->codes.data());
      break;
    case DType::kGgmlQ51:
      out->scale[0] = LoadHalf(block);
      out->minimum[0] = LoadHalf(block + 2);
      LoadNibbles(block + 8, block + 4, 0, out->codes.data());
      break;
    case DType::kGgmlQ2K:
      out->d = LoadHalf(block + 80);
      out->dmin = LoadHalf(block + 82);
      for (size_t j = 0; j < 16; ++j) {
        out->level[j] = block[j] & 15;
        out->minimum_level[j] = block[j] >> 4;
      }
      break;
    case DType::kGgmlQ3K:
      out->d = LoadHalf(block + 108);
      for (size_t j = 0; j < 16; ++j) {
        const int low = block[96 + j % 8] >> 4 * (j / 8) & 15;
        const int high = block[104 + j % 4] >> 2 * (j / 4) & 3;
        out->level[j] = (low | high << 4) - 32;
      }
      break;
    case DType::kGgmlQ4K:
    case DType::kGgmlQ5K: {
      out->d = LoadHalf(block);
      out->dmin = LoadHalf(block + 2);
      const uint8_t* packed = block + 4;
      for (size_t j = 0; j < 4; ++j) {
        out->level[j] = packed[j] & 63;
        out->minimum_level[j] = packed[j + 4] & 63;
        out->level[j + 4] = (packed[j + 8] & 15) | packed[j] >> 6 << 4;
        out->minimum_level[j + 4] =
            packed[j + 8] >> 4 | packed[j + 4] >> 6 << 4;
      }
      break;
    }
    case DType::kGgmlQ6K:
      out->d = LoadHalf(block + 208);
      for (size_t j = 0; j < 16; ++j) {
        out->level[j] = static_cast<int8_t>(block[192 + j]);
      }
      break;
    default:
      break;
  }
}

/// The scales and minima of pieces, where they are multiples.
void Multiply(const Scheme& scheme, Blocks* blocks) {
  if (!scheme.search.has_value()) return;
  // The largest in magnitude is d times this to the last bit of d.
  const int exact = scheme.dtype == DType::kGgmlQ6K ? -128 : INT32_MIN;
  for (size_t j = 0; j < kSuperblock / scheme.width; ++j) {
    blocks->scale[j] = Multiple(blocks->d, blocks->level[j]);
    if (blocks->level[j] == exact) {
      blocks->scale[j].half = -exact * blocks->d.half;
    }
    blocks->minimum[j] = Multiple(blocks->dmin, -blocks->minimum_level[j]);
  }
}

// ---- Pieces ----

/// Some weights of a row that have a scale of their own.
struct Piece {
  const Scheme* scheme;
  size_t begin;  // column in the group
  size_t at;     // in the group's arrays
  Stored scale;
  Stored minimum;
};

/// What a piece's quantizer would store were nothing rounded.
struct Solution {
  double scale = 0;
  double minimum = 0;
  double weight = 0;  // the sum of w
  bool affine = false;
  // The inverse of the matrix of normal equations.
  double inverse[3] = {0, 0, 0};
  bool valid = false;
};

struct Sums {
  double w = 0, l = 0, l2 = 0, x = 0, xl = 0;
};

Solution Solve(const Sums& sums, bool affine) {
  Solution solution;
  solution.weight = sums.w;
  if (affine) {
    const double determinant = sums.w * sums.l2 - sums.l * sums.l;
    if (determinant > 0) {
      solution.scale = (sums.w * sums.xl - sums.x * sums.l) / determinant;
      solution.minimum = (sums.l2 * sums.x - sums.l * sums.xl) / determinant;
      if (solution.minimum <= 0) {
        solution.affine = true;
        solution.valid = true;
        solution.inverse[0] = sums.w / determinant;
        solution.inverse[1] = -sums.l / determinant;
        solution.inverse[2] = sums.l2 / determinant;
        return solution;
      }
    } else {
      return solution;
    }
  }
  solution.minimum = 0;
  if (sums.l2 > 0) {
    solution.scale = sums.xl / sums.l2;
    solution.inverse[0] = 1 / sums.l2;
    solution.valid = true;
  }
  return solution;
}

// ---- Groups ----

/// Solves A * x = b for a positive definite A, of which the lower triangle is
/// read; both are overwritten, b by x.
template <size_t kSize>
void SolvePositive(std::array<std::array<double, kSize>, kSize>& a,
                   std::array<double, kSize>& b) {
  for (size_t i = 0; i < kSize; ++i) {
    for (size_t j = 0; j <= i; ++j) {
      double sum = a[i][j];
      for (size_t k = 0; k < j; ++k) sum -= a[i][k] * a[j][k];
      a[i][j] = i == j ? std::sqrt(std::max(sum, 1e-30)) : sum / a[j][j];
    }
  }
  for (size_t i = 0; i < kSize; ++i) {
    for (size_t k = 0; k < i; ++k) b[i] -= a[i][k] * b[k];
    b[i] /= a[i][i];
  }
  for (size_t i = kSize; i-- > 0;) {
    for (size_t k = i + 1; k < kSize; ++k) b[i] -= a[k][i] * b[k];
    b[i] /= a[i][i];
  }
}

/// Normal equations for the change of `kSize` positive numbers, from
/// observations with outliers.
template <size_t kSize>
class Step {
 public:
  /// `residual`: what was observed less what the numbers say, `half` half the
  /// width of its rounding, `slope` how that changes with the numbers from
  /// `begin` on.
  void Add(double residual, double half, const double* slope, size_t begin,
           size_t width) {
    // Of codes that were not the quantizer's the residual says nothing.
    const double ratio = residual / (kUsual * half);
    const double weight = 1 / (half * half * (1 + ratio * ratio));
    for (size_t i = 0; i < width; ++i) {
      const double scaled = weight * slope[i];
      std::array<double, kSize>& row = a_[begin + i];
      for (size_t k = 0; k <= i; ++k) row[begin + k] += scaled * slope[k];
      b_[begin + i] += scaled * residual;
    }
  }

  /// Takes the step. The numbers are thought to be near 1; `to_mean`: their
  /// mean is made 1.
  void Take(std::array<double, kSize>& numbers, bool to_mean) {
    for (size_t i = 0; i < kSize; ++i) {
      a_[i][i] += kPrior;
      b_[i] += kPrior * (1 - numbers[i]);
    }
    SolvePositive(a_, b_);
    double sum = 0;
    for (size_t i = 0; i < kSize; ++i) {
      const double least = std::max(numbers[i] / 8, 0x1p-20);
      numbers[i] = std::clamp(numbers[i] + b_[i], least, 8 * numbers[i] + 1);
      sum += numbers[i];
    }
    if (!to_mean) return;
    for (double& number : numbers) number *= static_cast<double>(kSize) / sum;
  }

 private:
  static constexpr double kUsual = 2;
  static constexpr double kPrior = 0.7;
  std::array<std::array<double, kSize>, kSize> a_{};
  std::array<double, kSize> b_{};
};

/// How bad it is that a residual is that many times half the rounding: about
/// the bits to code it.
double Misfit(double residual, double half) {
  const double ratio = std::abs(residual) / half;
  if (ratio <= 1) return 0;
  return ratio < 4 ? 1 + ratio : 5 + std::min(ratio - 4, 16.0) / 8;
}

/// How a solution changes with the importance of each column.
struct Slopes {
  std::array<double, kGroup> scale;
  std::array<double, kGroup> minimum;
  std::array<double, kGroup> weight;
};

/// 32 columns of the sampled rows.
class Group {
 public:
  void Add(const Scheme& scheme, const float* x, size_t begin, double sigma2,
           const Blocks& blocks, size_t number);

  void Choose();
  void AddTo(Step<kGroup>* next) const;
  /// Rounds the importance to 10 significant bits.
  void Round();

  std::array<double, kGroup>& importance() { return importance_; }
  const std::vector<Piece>& pieces() const { return pieces_; }
  Solution SolutionOf(const Piece& piece) const {
    return Solve(SumsOf(piece), piece.scheme->affine);
  }
  Slopes SlopesOf(const Piece& piece, const Solution& solution) const;
  double Misfits() const;

 private:
  Sums SumsOf(const Piece& piece) const;
  double MisfitOf(const Piece& piece, const Sums& sums) const;

  std::vector<Piece> pieces_;
  // Of the weights of all pieces:
  std::vector<float> x_;
  std::vector<float> bases_;  // they count by these times their importance
  std::vector<int8_t> codes_;
  std::array<double, kGroup> importance_;
};

void Group::Add(const Scheme& scheme, const float* x, size_t begin,
                double sigma2, const Blocks& blocks, size_t number) {
  pieces_.push_back({&scheme, begin, x_.size(), blocks.scale[number],
                     blocks.minimum[number]});
  x_.insert(x_.end(), x, x + scheme.width);
  codes_.insert(codes_.end(), blocks.codes.begin(),
                blocks.codes.begin() + scheme.width);
  for (size_t i = 0; i < scheme.width; ++i) {
    const double value = x[i];
    bases_.push_back(scheme.sigma == 0 ? 1.0f
                                       : static_cast<float>(std::sqrt(
                                             sigma2 + value * value)));
  }
}

Sums Group::SumsOf(const Piece& piece) const {
  const float* x = x_.data() + piece.at;
  const float* bases = bases_.data() + piece.at;
  const int8_t* codes = codes_.data() + piece.at;
  const double* importance = importance_.data() + piece.begin;
  Sums sums;
  for (size_t i = 0; i < piece.scheme->width; ++i) {
    const double w = importance[i] * static_cast<double>(bases[i]);
    const double wl = w * codes[i];
    sums.w += w;
    sums.l += wl;
    sums.l2 += wl * codes[i];
    sums.x += w * static_cast<double>(x[i]);
    sums.xl += wl * static_cast<double>(x[i]);
  }
  return sums;
}

/// The codes that quantizers would take.
void Group::Choose() {
  std::vector<float> weights;
  for (size_t begin = 0, end = 0; begin < pieces_.size(); begin = end) {
    const Scheme& scheme = *pieces_[begin].scheme;
    while (end < pieces_.size() && pieces_[end].scheme == &scheme) ++end;
    if (!scheme.search.has_value()) continue;
    weights.clear();
    for (size_t k = begin; k < end; ++k) {
      for (size_t i = 0; i < scheme.width; ++i) {
        weights.push_back(
            static_cast<float>(importance_[pieces_[k].begin + i]) *
            bases_[pieces_[k].at + i]);
      }
    }
    const size_t at = pieces_[begin].at;
    quantizers::FitCodes(*scheme.search, x_.data() + at, weights.data(),
                         end - begin, codes_.data() + at);
  }
}

Slopes Group::SlopesOf(const Piece& piece, const Solution& solution) const {
  const float* x = x_.data() + piece.at;
  const float* bases = bases_.data() + piece.at;
  const int8_t* codes = codes_.data() + piece.at;
  Slopes slopes;
  for (size_t i = 0; i < piece.scheme->width; ++i) {
    const double l = codes[i];
    const double error =
        static_cast<double>(bases[i]) *
        (static_cast<double>(x[i]) - solution.scale * l - solution.minimum);
    slopes.scale[i] = error * (solution.inverse[0] * l + solution.inverse[1]);
    slopes.minimum[i] = error * (solution.inverse[1] * l + solution.inverse[2]);
    slopes.weight[i] = bases[i];
  }
  return slopes;
}

void Group::AddTo(Step<kGroup>* next) const {
  for (const Piece& piece : pieces_) {
    if (piece.scale.half == 0) continue;
    const Solution solution = SolutionOf(piece);
    if (!solution.valid) continue;
    const Slopes slopes = SlopesOf(piece, solution);
    const size_t width = piece.scheme->width;
    next->Add(piece.scale.value - solution.scale, piece.scale.half,
              slopes.scale.data(), piece.begin, width);
    if (solution.affine && piece.minimum.half != 0) {
      next->Add(piece.minimum.value - solution.minimum, piece.minimum.half,
                slopes.minimum.data(), piece.begin, width);
    }
  }
}

double Group::MisfitOf(const Piece& piece, const Sums& sums) const {
  if (piece.scale.half == 0) return 0;
  const Solution solution = Solve(sums, piece.scheme->affine);
  double misfit = Misfit(piece.scale.value - solution.scale, piece.scale.half);
  if (piece.scheme->affine && piece.minimum.half != 0) {
    misfit +=
        Misfit(piece.minimum.value - solution.minimum, piece.minimum.half);
  }
  return misfit;
}

double Group::Misfits() const {
  double misfits = 0;
  for (const Piece& piece : pieces_) {
    misfits += MisfitOf(piece, SumsOf(piece));
  }
  return misfits;
}

float RoundToTenBits(double value) {
  const uint32_t bits = std::bit_cast<uint32_t>(static_cast<float>(value));
  return std::bit_cast<float>((bits + 0x2000) & 0xffffc000);
}

void Group::Round() {
  for (double& number : importance_) {
    number = RoundToTenBits(std::clamp(number, 0x1p-40, 0x1p40));
  }
}

// ---- Superblocks ----

/// Sampled rows of a matrix.
struct Sample {
  const Scheme* scheme;
  uint64_t of_rows;  // that the matrix has
  std::vector<float> weights;
  std::vector<uint8_t> blocks;
  std::vector<double> sigma2;  // of rows
  size_t row_bytes;
  size_t rows;
};

double MeanSquare(const float* x, size_t count) {
  double sum = 0;
  for (size_t i = 0; i < count; ++i) {
    const double value = x[i];
    sum += value * value;
  }
  return sum / static_cast<double>(count);
}

/// Columns from `begin` on, `groups` times 32.
class Superblock {
 public:
  Superblock(const std::vector<Sample>& samples, size_t columns, size_t begin,
             size_t groups);
  /// Writes the importance of its columns; adds to what misfits of it cost
  /// with none, and with this.
  void Fit(float* out, double* without, double* with);

 private:
  /// A block of a type whose d (and dmin) is the scale that makes the sum of
  /// weight * (value - d * level)^2 least over its pieces, the values being
  /// their scales (or minima) and the weights the sums of theirs.
  struct Whole {
    const Scheme* scheme;
    Blocks blocks;
    std::array<size_t, kMostGroups> first;  // piece of each group
    std::array<Solution, kMostPieces> solutions;
  };
  struct Term {
    double value;
    double weight;
    double level;
  };
  struct Equation {
    Stored d;
    size_t pieces;
    std::array<Term, kMostPieces> terms;
  };
  using Factors = std::array<double, kMostGroups>;
  static constexpr Factors kOnes = {1, 1, 1, 1, 1, 1, 1, 1};

  static Equation EquationOf(const Whole& whole, bool minima);
  static std::optional<double> Solve(const Equation& equation,
                                     const Factors& factors, double* square);
  void FitFactors();
  void AddWholes(size_t g, Step<kGroup>* next) const;
  void Update(size_t g);

  std::vector<Group> groups_;
  std::vector<Whole> wholes_;
};

Superblock::Superblock(const std::vector<Sample>& samples, size_t columns,
                       size_t begin, size_t groups)
    : groups_(groups) {
  for (const Sample& sample : samples) {
    const Scheme& scheme = *sample.scheme;
    const DTypeInfo& info = *FindDType(scheme.dtype);
    const size_t step = info.block_elements;
    for (size_t row = 0; row < sample.rows; ++row) {
      const float* x = sample.weights.data() + row * columns + begin;
      const uint8_t* bytes = sample.blocks.data() + row * sample.row_bytes +
                             begin / step * info.block_bytes;
      for (size_t at = 0; at < groups * kGroup; at += step) {
        Blocks blocks;
        Load(scheme.dtype, bytes + at / step * info.block_bytes, &blocks);
        Multiply(scheme, &blocks);
        const double sigma2 =
            scheme.sigma == kRow
                ? sample.sigma2[row]
                : scheme.factor *
                      (scheme.sigma == 0 ? 0 : MeanSquare(x + at, step));
        if (scheme.summed) {
          Whole& whole = wholes_.emplace_back();
          whole.scheme = &scheme;
          whole.blocks = blocks;
          for (size_t g = 0; g < kMostGroups; ++g) {
            whole.first[g] = groups_[g].pieces().size();
          }
        }
        for (size_t j = 0; j < step / scheme.width; ++j) {
          const size_t column = at + j * scheme.width;
          groups_[column / kGroup].Add(scheme, x + column, column % kGroup,
                                       sigma2, blocks, j);
        }
      }
    }
  }
}

Superblock::Equation Superblock::EquationOf(const Whole& whole, bool minima) {
  Equation equation;
  equation.d = minima ? whole.blocks.dmin : whole.blocks.d;
  const auto& levels = minima ? whole.blocks.minimum_level : whole.blocks.level;
  equation.pieces = kSuperblock / whole.scheme->width;
  for (size_t j = 0; j < equation.pieces; ++j) {
    const Solution& solution = whole.solutions[j];
    equation.terms[j] = {minima ? -solution.minimum : solution.scale,
                         solution.weight, static_cast<double>(levels[j])};
  }
  return equation;
}

/// What d would be, of the sum of squares of levels.
std::optional<double> Superblock::Solve(const Equation& equation,
                                        const Factors& factors,
                                        double* square) {
  double product = 0;
  *square = 0;
  const size_t of_group = equation.pieces / kMostGroups;
  for (size_t j = 0; j < equation.pieces; ++j) {
    const Term& term = equation.terms[j];
    const double weight = factors[j / of_group] * term.weight * term.level;
    product += weight * term.value;
    *square += weight * term.level;
  }
  if (!(*square > 0) || equation.d.half == 0) return std::nullopt;
  return product / *square;
}

/// Gives each group a factor.
void Superblock::FitFactors() {
  constexpr int kSteps = 5;
  Factors factors = kOnes;
  for (int step = 0; step < kSteps; ++step) {
    Step<kMostGroups> next;
    for (const Whole& whole : wholes_) {
      for (const bool minima : {false, true}) {
        const Equation equation = EquationOf(whole, minima);
        double square;
        const std::optional<double> d = Solve(equation, factors, &square);
        if (!d.has_value()) continue;
        Factors slope = {};
        for (size_t j = 0; j < equation.pieces; ++j) {
          const Term& term = equation.terms[j];
          slope[j * kMostGroups / equation.pieces] +=
              term.weight * term.level * (term.value - *d * term.level) /
              square;
        }
        // The scales themselves are not known exactly.
        next.Add(equation.d.value - *d, 2 * equation.d.half, slope.data(), 0,
                 kMostGroups);
      }
    }
    next.Take(factors, true);
  }
  for (size_t g = 0; g < kMostGroups; ++g) {
    for (double& number : groups_[g].importance()) number *= factors[g];
  }
}

void Superblock::AddWholes(size_t g, Step<kGroup>* next) const {
  for (const Whole& whole : wholes_) {
    const size_t of_group = kSuperblock / whole.scheme->width / kMostGroups;
    for (const bool minima : {false, true}) {
      const Equation equation = EquationOf(whole, minima);
      double square;
      const std::optional<double> d = Solve(equation, kOnes, &square);
      if (!d.has_value()) continue;
      std::array<double, kGroup> slope;
      for (size_t k = 0; k < of_group; ++k) {
        const size_t j = g * of_group + k;
        const Piece& piece = groups_[g].pieces()[whole.first[g] + k];
        const Slopes slopes = groups_[g].SlopesOf(piece, whole.solutions[j]);
        const Term& term = equation.terms[j];
        const double level = term.level / square;
        const double error = term.value - *d * term.level;
        for (size_t i = 0; i < whole.scheme->width; ++i) {
          const double of_value = minima ? -slopes.minimum[i] : slopes.scale[i];
          slope[piece.begin + i] =
              level * (slopes.weight[i] * error + term.weight * of_value);
        }
      }
      next->Add(equation.d.value - *d, equation.d.half, slope.data(), 0,
                kGroup);
    }
  }
}

void Superblock::Update(size_t g) {
  for (Whole& whole : wholes_) {
    const size_t of_group = kSuperblock / whole.scheme->width / kMostGroups;
    for (size_t k = 0; k < of_group; ++k) {
      whole.solutions[g * of_group + k] =
          groups_[g].SolutionOf(groups_[g].pieces()[whole.first[g] + k]);
    }
  }
}

void Superblock::Fit(float* out, double* without, double* with) {
  for (Group& group : groups_) {
    group.importance().fill(1);
    *without += group.Misfits();
  }
  // Groups by themselves first: superblocks say more, but only near the truth.
  constexpr int kAlone = 5;
  constexpr int kSweeps = 9;
  const int sweeps = wholes_.empty() ? kAlone : kSweeps;
  for (int sweep = 0; sweep < sweeps; ++sweep) {
    const bool together = sweep >= kAlone;
    if (together && (sweep - kAlone) % 2 == 0) {
      for (size_t g = 0; g < groups_.size(); ++g) Update(g);
      FitFactors();
      for (size_t g = 0; g < groups_.size(); ++g) Update(g);
    }
    for (size_t g = 0; g < groups_.size(); ++g) {
      groups_[g].Choose();
      if (together) Update(g);
      Step<kGroup> next;
      groups_[g].AddTo(&next);
      if (together) AddWholes(g, &next);
      next.Take(groups_[g].importance(), !together);
      if (together) Update(g);
    }
  }
  for (Group& group : groups_) group.Choose();
  for (Group& group : groups_) {
    group.Round();
    *with += group.Misfits();
    for (const double number : group.importance()) {
      *out++ = static_cast<float>(number);
    }
  }
}

/// Reads up to `rows` rows of a matrix that are evenly spread.
std::optional<Sample> Read(QuantizedMatrix& matrix, uint64_t rows) {
  Sample sample = {};
  sample.scheme = FindScheme(matrix.dtype);
  sample.of_rows = matrix.rows;
  const DTypeInfo& info = *FindDType(matrix.dtype);
  const auto columns = static_cast<size_t>(matrix.columns);
  sample.row_bytes = columns / info.block_elements * info.block_bytes;
  sample.rows = static_cast<size_t>(std::clamp<uint64_t>(rows, 1, matrix.rows));
  sample.weights.resize(sample.rows * columns);
  sample.blocks.resize(sample.rows * sample.row_bytes);
  for (size_t i = 0; i < sample.rows; ++i) {
    const uint64_t row = matrix.rows / sample.rows * i +
                         matrix.rows % sample.rows * i / sample.rows;
    const std::span<float> x(sample.weights.data() + i * columns, columns);
    if (!matrix.ReadWeights(row, x) ||
        !matrix.ReadBlocks(row, {sample.blocks.data() + i * sample.row_bytes,
                                 sample.row_bytes})) {
      return std::nullopt;
    }
    for (float& value : x) {
      // No weights that make sense, but then nothing is lost.
      if (!(std::abs(value) < 1e15f)) value = 0;
    }
    sample.sigma2.push_back(MeanSquare(x.data(), columns));
  }
  return sample;
}

}  // namespace

bool TellsImportance(DType dtype) { return FindScheme(dtype) != nullptr; }

std::optional<std::vector<float>> FitImportance(
    std::span<QuantizedMatrix* const> matrices) {
  if (matrices.empty() || matrices[0]->columns > kMostWeights) {
    return std::nullopt;
  }
  const auto columns = static_cast<size_t>(matrices[0]->columns);
  // Those whose codes are stored tell most; others then only tell factors.
  std::vector<Sample> samples;
  for (const bool stored : {true, false}) {
    std::vector<QuantizedMatrix*> telling;
    for (QuantizedMatrix* matrix : matrices) {
      const Scheme* scheme = FindScheme(matrix->dtype);
      if (scheme != nullptr && scheme->search.has_value() != stored &&
          matrix->rows > 0 && columns > 0 && matrix->columns == columns &&
          columns % FindDType(matrix->dtype)->block_elements == 0) {
        telling.push_back(matrix);
      }
    }
    if (telling.empty()) continue;
    telling.resize(std::min(telling.size(), kMostMatrices));
    const uint64_t rows =
        std::min(samples.empty() ? kMostRows : kRowsForFactors,
                 kMostWeights / columns) /
        telling.size();
    for (QuantizedMatrix* matrix : telling) {
      std::optional<Sample> sample = Read(*matrix, rows);
      if (!sample.has_value()) return std::nullopt;
      samples.push_back(std::move(*sample));
    }
  }
  if (samples.empty()) return std::nullopt;
  std::vector<float> importance(columns);
  double without = 0;
  double with = 0;
  for (size_t begin = 0; begin < columns; begin += kSuperblock) {
    const size_t width = std::min(kSuperblock, columns - begin);
    Superblock(samples, columns, begin, width / kGroup)
        .Fit(importance.data() + begin, &without, &with);
  }
  // What is saved in the sample, of each matrix as much, and so in all of them.
  double rows = 0;
  double sampled = 0;
  for (const Sample& sample : samples) {
    rows += static_cast<double>(sample.of_rows);
    sampled += static_cast<double>(sample.rows);
  }
  const double saved = (without - with) * (rows / sampled);
  if (with > without * 0.75 || saved < 16 * static_cast<double>(columns)) {
    return std::nullopt;
  }
  return importance;
}

std::string ImportanceKey(std::string_view name) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 12>
      kInputs = {{{".attn_q.weight", ".attn_norm"},
                  {".attn_k.weight", ".attn_norm"},
                  {".attn_v.weight", ".attn_norm"},
                  {".attn_q_a.weight", ".attn_norm"},
                  {".attn_kv_a_mqa.weight", ".attn_norm"},
                  {".ffn_gate.weight", ".ffn_norm"},
                  {".ffn_up.weight", ".ffn_norm"},
                  {".ffn_gate_shexp.weight", ".ffn_norm_shexp"},
                  {".ffn_up_shexp.weight", ".ffn_norm_shexp"},
                  {".ffn_gate_exps.weight", ".ffn_norm_exps"},
                  {".ffn_up_exps.weight", ".ffn_norm_exps"},
                  {".ffn_gate_inp.weight", ".ffn_norm"}}};
  for (const auto& [suffix, input] : kInputs) {
    if (name.ends_with(suffix)) {
      return std::string(name.substr(0, name.size() - suffix.size())) +
             std::string(input);
    }
  }
  return std::string(name);
}

std::string ImportanceSumsName(std::string_view name) {
  return std::string(name) + ".in_sum2";
}

std::string ImportanceCountsName(std::string_view name) {
  return std::string(name) + ".counts";
}

std::vector<float> ImportanceOf(std::span<const float> sums,
                                std::span<const float> counts,
                                bool float_counts) {
  std::vector<float> importance;
  if (counts.empty() || sums.size() % counts.size() != 0) return importance;
  const size_t columns = sums.size() / counts.size();
  importance.reserve(sums.size());
  for (size_t i = 0; i < sums.size(); ++i) {
    const float count = counts[i / columns];
    const float without = float_counts ? 1.0f : sums[i];
    importance.push_back(count > 0 ? sums[i] / count : without);
  }
  return importance;
}

}  // namespace zipllm::archive
