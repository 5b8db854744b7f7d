// Codec 17, moments: checkpoints of a training run, each against the one
// before.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "base/bytes.h"
#include "codecs/codec.h"
#include "codecs/reference/moments_models.h"
#include "entropy/binary_coder.h"

namespace zipllm::codecs {
namespace {

using mix::Fixed;
using mix::kUnitBits;
using moments::Arrays;
using moments::Expected;
using moments::Kind;
using moments::Map;
using moments::Params;

/// Levels from which engines are used.
constexpr int kTablesLevel = 1;
constexpr int kSingleLevel = 3;
/// From here on also where there is nothing but a base.
constexpr int kBaseAloneLevel = 6;
constexpr int kMixedLevel = 9;
moments::Engine EngineOf(int level) {
  return level >= kMixedLevel    ? moments::Engine::kMixed
         : level >= kSingleLevel ? moments::Engine::kSingle
                                 : moments::Engine::kTables;
}
constexpr size_t kMinElements = 64;
/// Elements that parameters are fitted to, those that tell whether that is
/// worth it, and those that try them.
constexpr size_t kFitted = size_t{1} << 16;
constexpr size_t kLookedAt = size_t{1} << 12;
constexpr size_t kTried = size_t{1} << 13;

uint32_t LoadElement(const Kind& kind, ByteSpan data, size_t i) {
  uint32_t element = 0;
  std::memcpy(&element, data.data() + i * kind.size, kind.size);
  return element;
}

/// Some elements of a tensor with what lies beside them.
struct Piece {
  const Kind* kind;
  ByteSpan data;
  std::vector<Reference> references;
  uint64_t row = 0;
  uint64_t position = 0;

  size_t elements() const { return data.size() / kind->size; }
  uint64_t phase() const { return row == 0 ? 0 : position % row; }
  Arrays arrays() const { return Arrays(references, elements()); }
  Piece Part(size_t begin, size_t count) const;
};

/// `count` elements from `begin` on.
Piece Piece::Part(size_t begin, size_t count) const {
  Piece part{kind,
             data.subspan(begin * kind->size, count * kind->size),
             {},
             row,
             position + begin};
  for (const Reference& reference : references) {
    const size_t size = reference.data.size() / elements();
    if (reference.role == Role::kFactor ||
        reference.data.size() != size * elements()) {
      continue;
    }
    part.references.push_back(
        {reference.role, reference.dtype,
         reference.data.subspan(begin * size, count * size), 0});
  }
  return part;
}

template <template <class> class Engine>
void EncodeElements(const Params& params, const Piece& piece,
                    const Expected& expected, entropy::BinaryEncoder& coder,
                    entropy::BitWriter& raw) {
  const mix::Grid grid(piece.row, piece.phase(), piece.elements());
  moments::CodeBlock<entropy::BinaryEncoder, moments::RawWriter, Engine>(
      params, grid, expected, coder, moments::RawWriter{&raw},
      [&](uint64_t i) { return LoadElement(*piece.kind, piece.data, i); },
      [](uint64_t, uint32_t) {});
}

void AppendBlock(const Params& params, const Piece& block, Buffer* out) {
  Buffer code, tails;
  entropy::BinaryEncoder coder(&code);
  entropy::BitWriter raw(&tails);
  const Expected expected = moments::Expect(
      params, block.arrays(), block.elements(), block.row, block.phase());
  if (params.engine == moments::Engine::kMixed) {
    EncodeElements<moments::Mixed>(params, block, expected, coder, raw);
  } else {
    EncodeElements<moments::Single>(params, block, expected, coder, raw);
  }
  coder.Finish();
  raw.Finish();
  ByteWriter writer(out);
  writer.Varint(code.size());
  writer.Bytes(code.span());
  writer.Bytes(tails.span());
}

/// Elements as residuals, of one block or of several in turn.
struct Residuals {
  explicit Residuals(const Params& of)
      : params(of),
        alphabet(
            residuals::AlphabetOf(of.kind->size, residuals::Number::kFloat)) {}
  void Add(const Piece& block);
  /// Bytes of signs that blocks have.
  uint64_t sign_bytes() const { return signs.size(); }

  const Params params;
  const residuals::Alphabet& alphabet;
  residuals::ResidualCounts counts{moments::kTableContexts};
  Buffer contexts, symbols, predictions, signs;
};

void Residuals::Add(const Piece& block) {
  const size_t n = block.elements();
  const Kind& kind = *params.kind;
  const size_t first_sign = signs.size();
  if (params.signs) {
    std::memset(signs.Extend((n + 7) / 8), 0, (n + 7) / 8);
    for (size_t i = 0; i < n; ++i) {
      const uint32_t element = LoadElement(kind, block.data, i);
      const bool negative = (element & kind.sign_bit()) != 0;
      signs.data()[first_sign + i / 8] |=
          static_cast<uint8_t>(negative << i % 8);
    }
  }
  const Expected expected =
      moments::Expect(params, block.arrays(), n, block.row, block.phase());
  uint8_t* const its_contexts = contexts.Extend(n);
  uint8_t* const its_symbols = symbols.Extend(n);
  uint8_t* const its_predictions = predictions.Extend(n * kind.size);
  moments::Predict(params, expected, 0, n, signs.data() + first_sign,
                   its_contexts, its_predictions);
  residuals::ToSymbols(alphabet, block.data.data(), its_predictions, n,
                       its_symbols);
  counts.Add(its_contexts, its_symbols, n);
}

uint64_t CodedSize(const Params& params, const Piece& block) {
  if (params.engine == moments::Engine::kTables) {
    Residuals coded(params);
    coded.Add(block);
    const residuals::ResidualEncoder encoder(coded.alphabet, coded.counts, {});
    return (encoder.cost() + encoder.table_cost()) / 8 + coded.sign_bytes();
  }
  Buffer coded;
  AppendBlock(params, block, &coded);
  return coded.size();
}

// ---- Fitting ----

/// Least squares with a few terms, by normal equations.
class LeastSquares {
 public:
  explicit LeastSquares(size_t terms)
      : terms_(terms), matrix_(terms * (terms + 1), 0.0) {}
  void Add(const double* x, double y, double weight) {
    for (size_t a = 0; a < terms_; ++a) {
      const double scaled = weight * x[a];
      double* row = &matrix_[a * (terms_ + 1)];
      for (size_t b = 0; b < terms_; ++b) row[b] += scaled * x[b];
      row[terms_] += scaled * y;
    }
  }
  /// By Gauss and Jordan; terms that depend on those before them get 0.
  std::vector<double> Solve();

 private:
  size_t terms_;
  std::vector<double> matrix_;
};

std::vector<double> LeastSquares::Solve() {
  const size_t width = terms_ + 1;
  std::vector<double> diagonal(terms_);
  for (size_t a = 0; a < terms_; ++a) diagonal[a] = matrix_[a * width + a];
  std::vector<bool> used(terms_, false);
  for (size_t a = 0; a < terms_; ++a) {
    double* pivot = &matrix_[a * width];
    if (!(pivot[a] > 1e-9 * diagonal[a])) continue;
    used[a] = true;
    const double inverse = 1 / pivot[a];
    for (size_t b = 0; b < width; ++b) pivot[b] *= inverse;
    for (size_t other = 0; other < terms_; ++other) {
      if (other == a) continue;
      double* row = &matrix_[other * width];
      const double factor = row[a];
      for (size_t b = 0; b < width; ++b) row[b] -= factor * pivot[b];
    }
  }
  std::vector<double> solution(terms_, 0.0);
  for (size_t a = 0; a < terms_; ++a) {
    const double value = matrix_[a * width + terms_];
    if (used[a] && std::isfinite(value)) solution[a] = value;
  }
  return solution;
}

float ToFactor(double value) {
  return static_cast<float>(std::clamp(value, -1e30, 1e30));
}

/// Finds the parameters that code a piece of a tensor best.
class Fitter {
 public:
  Fitter(const Piece& piece, int level)
      : piece_(piece),
        level_(level),
        engine_(EngineOf(level)),
        arrays_(piece.arrays()),
        n_(piece.elements()) {
    values_.resize(n_);
    for (size_t i = 0; i < n_; ++i) {
      const uint32_t element = LoadElement(*piece.kind, piece.data, i);
      const bool finite =
          (element & (piece.kind->sign_bit() - 1)) < piece.kind->infinity();
      values_[i] = finite ? moments::ToDouble(*piece.kind, element) : 0.0;
      if ((element & piece.kind->sign_bit()) != 0) negative_ = true;
    }
  }

  /// Null where no parameters make sense.
  std::optional<Params> Best();

 private:
  struct Scale {
    uint8_t terms = 0;
    std::array<int16_t, moments::kScaleTerms> factors{};
    bool fitted = false;  // the factors are to be found
  };

  Params Start(Map map) const {
    Params params;
    params.kind = piece_.kind;
    params.map = map;
    // What row predictors do best with is what three experts do best with.
    params.engine =
        engine_ == moments::Engine::kMixed ? moments::Engine::kSingle : engine_;
    params.ridge = {1, 64};
    return params;
  }
  const std::vector<double>& Mean(int term);
  const std::vector<Fixed>& Log(int term);
  void FitMean(Params& params, const std::vector<Fixed>* log_scale);
  void FitScale(Params& params);
  void FitDecay(Params& params);
  std::vector<Fixed> LogScale(const Params& params);
  std::vector<double> Centers(const Params& params);
  void TryLinear(const Scale& scale);
  void TryLogarithmic(bool above_base);
  void Try(const Params& params);
  bool BaseIsFar();
  double LeastRatio(const std::vector<double>& values,
                    const std::vector<double>& base) const;

  const Piece& piece_;
  const int level_;
  const moments::Engine engine_;
  const Arrays arrays_;
  const size_t n_;
  std::vector<double> values_;
  bool negative_ = false;
  std::array<std::vector<double>, moments::kMeanTerms> mean_;
  std::array<std::vector<Fixed>, moments::kScaleTerms> log_;
  float decay_ = 0;
  std::optional<Params> best_;
  uint64_t best_size_ = 0;
};

const std::vector<double>& Fitter::Mean(int term) {
  std::vector<double>& values = mean_[static_cast<size_t>(term)];
  if (values.empty()) {
    values = moments::MeanValues(arrays_, static_cast<moments::MeanTerm>(term));
  }
  return values;
}

const std::vector<Fixed>& Fitter::Log(int term) {
  std::vector<Fixed>& logs = log_[static_cast<size_t>(term)];
  if (logs.empty()) {
    const bool means = term % 2 != 0;
    logs = means ? moments::RowAndColumnMeans(Log(term - 1), piece_.row,
                                              piece_.phase())
                 : moments::ScaleLogs(
                       arrays_, static_cast<moments::ScaleTerm>(term), decay_);
  }
  return logs;
}

/// The least of values / base, where both are above 0; 0 if there are few.
double Fitter::LeastRatio(const std::vector<double>& values,
                          const std::vector<double>& base) const {
  double least = 1e30;
  size_t count = 0;
  for (size_t i = 0; i < n_; ++i) {
    if (!(base[i] > 1e-30) || !(values[i] > 1e-30)) continue;
    ++count;
    least = std::min(least, values[i] / base[i]);
  }
  return count * 8 > n_ ? least : 0.0;
}

bool Fitter::BaseIsFar() {
  const std::vector<double>& base = Mean(moments::kMeanBase);
  double all = 0, rest = 0;
  for (size_t i = 0; i < n_; ++i) {
    all += std::abs(values_[i]);
    rest += std::abs(values_[i] - base[i]);
  }
  return rest > 0.25 * all;
}

std::vector<double> Fitter::Centers(const Params& params) {
  std::vector<double> centers = Mean(moments::kMeanBase);
  for (int term = 0; term < moments::kMeanTerms; ++term) {
    if (!params.HasMean(term)) continue;
    const std::vector<double>& values = Mean(term);
    const double factor = params.mean[static_cast<size_t>(term)];
    for (size_t i = 0; i < n_; ++i) centers[i] += factor * values[i];
  }
  return centers;
}

std::vector<Fixed> Fitter::LogScale(const Params& params) {
  std::vector<Fixed> scale(n_, params.log_scale);
  for (int term = 0; term < moments::kScaleTerms; ++term) {
    if (!params.HasScale(term)) continue;
    const std::vector<Fixed>& logs = Log(term);
    const int64_t factor = params.scale[static_cast<size_t>(term)];
    for (size_t i = 0; i < n_; ++i) scale[i] += (factor * logs[i]) >> 8;
  }
  return scale;
}

/// Factors of the center's terms, where elements count by how exactly they are
/// expected to be known.
void Fitter::FitMean(Params& params, const std::vector<Fixed>* log_scale) {
  std::vector<int> terms;
  if (arrays_.Has(Role::kBase)) terms.push_back(moments::kMeanBase);
  if (arrays_.Has(Role::kFirstMoment)) terms.push_back(moments::kMeanStep);
  if (arrays_.Has(Role::kBaseFirstMoment)) {
    terms.push_back(moments::kMeanBaseStep);
  }
  if (terms.empty()) return;
  const std::vector<double>& base = Mean(moments::kMeanBase);
  LeastSquares fit(terms.size());
  Fixed typical = 0;
  if (log_scale != nullptr) {
    int64_t sum = 0;
    for (const Fixed log : *log_scale) sum += log;
    typical = sum / static_cast<int64_t>(n_);
  }
  constexpr Fixed kMost = Fixed{20} << kUnitBits;
  for (size_t i = 0; i < n_; ++i) {
    double x[moments::kMeanTerms];
    for (size_t k = 0; k < terms.size(); ++k) x[k] = Mean(terms[k])[i];
    const double weight =
        log_scale == nullptr
            ? 1.0
            : moments::Exp(
                  std::clamp(2 * (typical - (*log_scale)[i]), -kMost, kMost));
    fit.Add(x, values_[i] - base[i], weight);
  }
  const std::vector<double> factors = fit.Solve();
  params.mean_terms = 0;
  for (size_t k = 0; k < terms.size(); ++k) {
    params.mean_terms |= static_cast<uint8_t>(1u << terms[k]);
    params.mean[static_cast<size_t>(terms[k])] = ToFactor(factors[k]);
  }
}

/// Factors of the scale's terms in params.scale_terms: of the logarithm of how
/// far from the center elements are.
void Fitter::FitScale(Params& params) {
  const std::vector<double> centers = Centers(params);
  std::vector<int> terms;
  for (int term = 0; term < moments::kScaleTerms; ++term) {
    if (params.HasScale(term)) terms.push_back(term);
  }
  constexpr double kUnit = 1.0 / double{Fixed{1} << kUnitBits};
  LeastSquares fit(terms.size() + 1);
  for (size_t i = 0; i < n_; ++i) {
    const double distance = values_[i] - centers[i];
    const Fixed log = moments::Log(
        params.map == Map::kLinear ? std::abs(distance) : distance);
    if (log == moments::kLogOfZero) continue;
    double x[moments::kScaleTerms + 1];
    bool whole = true;
    x[0] = 1;
    for (size_t k = 0; k < terms.size(); ++k) {
      const Fixed term = Log(terms[k])[i];
      whole = whole && term != moments::kLogOfZero;
      x[k + 1] = static_cast<double>(term) * kUnit;
    }
    if (whole) fit.Add(x, static_cast<double>(log) * kUnit, 1.0);
  }
  const std::vector<double> factors = fit.Solve();
  for (size_t k = 0; k < terms.size(); ++k) {
    params.scale[static_cast<size_t>(terms[k])] =
        static_cast<int16_t>(std::clamp(factors[k + 1] * 256, -1024.0, 1024.0));
  }
}

/// Moves the scale so that elements are about 1 from the center (linear), or
/// as far as it says on average (logarithmic).
void FitLevel(const std::vector<double>& values,
              const std::vector<double>& centers,
              const std::vector<Fixed>& log_scale, Params& params) {
  int64_t sum = 0, count = 0;
  double level = 0;
  const bool linear = params.map == Map::kLinear;
  for (size_t i = 0; i < values.size(); ++i) {
    const double distance = values[i] - centers[i];
    const Fixed log = moments::Log(linear ? std::abs(distance) : distance);
    if (log == moments::kLogOfZero || log_scale[i] < -(Fixed{190} << kUnitBits))
      continue;
    sum += log - log_scale[i];
    ++count;
  }
  if (count == 0) return;
  const Fixed middle = sum / count;
  Fixed moved = middle;
  if (linear) {
    for (size_t i = 0; i < values.size(); ++i) {
      const double distance = std::abs(values[i] - centers[i]);
      const Fixed log = moments::Log(distance) - log_scale[i] - middle;
      level += moments::Exp(std::min<Fixed>(log, Fixed{4} << kUnitBits));
    }
    moved += moments::Log(1.25 * level / static_cast<double>(values.size()));
  }
  constexpr Fixed kMost = INT32_MAX;
  params.log_scale =
      static_cast<int32_t>(std::clamp<Fixed>(moved, -kMost, kMost));
}

void Fitter::TryLinear(const Scale& scale) {
  Params params = Start(Map::kLinear);
  params.decay = decay_;
  params.scale_terms = scale.terms;
  params.scale = scale.factors;
  if (scale.fitted) {
    FitMean(params, nullptr);
    FitScale(params);
  }
  const std::vector<Fixed> log_scale = LogScale(params);
  FitMean(params, &log_scale);
  std::vector<double> centers = Centers(params);
  if (engine_ == moments::Engine::kTables) {
    // Where elements are hardly nearer to the center than to 0.
    double all = 0, rest = 0;
    for (size_t i = 0; i < n_; ++i) {
      const double weight = moments::Exp(-log_scale[i]);
      all += std::min(std::abs(values_[i]) * weight, 1e30);
      rest += std::min(std::abs(values_[i] - centers[i]) * weight, 1e30);
    }
    if (rest > 0.7 * all) {
      params.signs = true;
      params.mean_terms = 0;
      centers.assign(n_, 0.0);
    }
  }
  FitLevel(values_, centers, log_scale, params);
  Try(params);
}

void Fitter::TryLogarithmic(bool above_base) {
  Params params = Start(Map::kLogarithmic);
  if (arrays_.Has(Role::kBase)) {
    double ratio = 0;
    if (above_base) {
      ratio = LeastRatio(values_, Mean(moments::kMeanBase)) * (1 - 0x1p-20);
      if (!(ratio > 0.02 && ratio < 16)) return;
    }
    params.mean_terms = 1u << moments::kMeanBase;
    params.mean[moments::kMeanBase] = ToFactor(ratio - 1);
    params.scale_terms =
        1u << moments::kScaleBase | 1u << moments::kScaleBaseMeans;
    FitScale(params);
  }
  FitLevel(values_, Centers(params), LogScale(params), params);
  Try(params);
}

void Fitter::Try(const Params& params) {
  const Piece part = piece_.Part(0, std::min(n_, kTried));
  const uint64_t size = CodedSize(params, part);
  if (!best_.has_value() || size < best_size_) {
    best_ = params;
    best_size_ = size;
  }
}

std::optional<Params> Fitter::Best() {
  using moments::kScaleTerms;
  const auto scale = [](std::initializer_list<std::pair<int, int>> terms) {
    Scale result;
    for (const auto& [term, factor] : terms) {
      result.terms |= static_cast<uint8_t>(1u << term);
      result.factors[static_cast<size_t>(term)] = static_cast<int16_t>(factor);
      result.fitted = factor == 0;
    }
    return result;
  };
  const bool has_base = arrays_.Has(Role::kBase);
  if (!negative_) {
    TryLogarithmic(false);
    if (has_base) TryLogarithmic(true);
  }
  const bool has_second = arrays_.Has(Role::kSecondMoment);
  // Codec 15 is there for a base alone that is near, and much faster.
  if (has_second || arrays_.Has(Role::kFirstMoment) ||
      (has_base && (level_ >= kBaseAloneLevel || BaseIsFar()))) {
    TryLinear(scale({}));
  }
  if (has_second) {
    TryLinear(scale({{moments::kScaleSecond, 128}}));
    TryLinear(
        scale({{moments::kScaleSecond, 64}, {moments::kScaleSecondMeans, 64}}));
    TryLinear(scale({{moments::kScaleSecondMeans, 128}}));
    TryLinear(
        scale({{moments::kScaleSecond, 0}, {moments::kScaleSecondMeans, 0}}));
  }
  if (has_second && arrays_.Has(Role::kBaseSecondMoment)) {
    const double ratio = LeastRatio(arrays_.Load(Role::kSecondMoment),
                                    arrays_.Load(Role::kBaseSecondMoment));
    decay_ = ToFactor(ratio - 1);
    TryLinear(scale({{moments::kScaleEnergy, 128}}));
    TryLinear(
        scale({{moments::kScaleEnergy, 64}, {moments::kScaleEnergyMeans, 64}}));
    TryLinear(scale({{moments::kScaleSecond, 0},
                     {moments::kScaleSecondMeans, 0},
                     {moments::kScaleEnergy, 0},
                     {moments::kScaleEnergyMeans, 0}}));
  }
  return best_;
}

/// The parameters for a tensor.
class Model final : public TensorModel {
 public:
  explicit Model(const Params& found) : params(found) {}
  const Params params;
};

bool Suits(DType dtype, int level, size_t elements) {
  return level >= kTablesLevel && elements >= kMinElements &&
         moments::FindKind(dtype) != nullptr;
}

/// What `count` elements from the middle of the tensor, whole rows, tell.
std::optional<Params> Fit(const TensorView& tensor, uint64_t count) {
  count = std::min(tensor.elements, count);
  uint64_t begin = (tensor.elements - count) / 2;
  if (tensor.row != 0) begin -= begin % tensor.row;
  Piece piece{moments::FindKind(tensor.dtype), {}, {}, tensor.row, begin};
  std::vector<Buffer> arrays;
  const auto read = [&](int which, size_t size) -> std::optional<ByteSpan> {
    Buffer& data = arrays.emplace_back(static_cast<size_t>(count) * size);
    if (!tensor.Read(which, begin, data.mutable_span()).ok()) {
      return std::nullopt;
    }
    return data.span();
  };
  const std::optional<ByteSpan> data = read(-1, piece.kind->size);
  if (!data.has_value()) return std::nullopt;
  piece.data = *data;
  for (size_t k = 0; k < tensor.references.size(); ++k) {
    const TensorView::Beside& beside = tensor.references[k];
    const Kind* kind = moments::FindKind(beside.dtype);
    if (beside.role == Role::kFactor || kind == nullptr) continue;
    const std::optional<ByteSpan> array = read(static_cast<int>(k), kind->size);
    if (!array.has_value()) return std::nullopt;
    piece.references.push_back({beside.role, beside.dtype, *array, 0});
  }
  return Fitter(piece, tensor.level).Best();
}

std::unique_ptr<const TensorModel> Learn(const TensorView& tensor,
                                         Scratch& /*scratch*/) {
  if (!Suits(tensor.dtype, tensor.level, tensor.elements)) return nullptr;
  // Most tensors that have but a base are left to codec 15: few elements tell.
  const bool has_moments =
      std::ranges::any_of(tensor.references, [](const TensorView::Beside& b) {
        return b.role != Role::kBase && b.role != Role::kFactor;
      });
  if (!has_moments && tensor.level < kBaseAloneLevel &&
      !Fit(tensor, kLookedAt).has_value()) {
    return nullptr;
  }
  const std::optional<Params> best = Fit(tensor, kFitted);
  return best.has_value() ? std::make_unique<Model>(*best) : nullptr;
}

void WriteParams(const Params& params, Buffer* out) {
  ByteWriter writer(out);
  writer.Le(params.kind->number);
  writer.Le(static_cast<uint8_t>(params.map));
  writer.Le(static_cast<uint8_t>(params.engine));
  if (params.engine == moments::Engine::kTables) {
    writer.Le<uint8_t>(params.signs);
  } else {
    for (const uint8_t ridge : params.ridge) writer.Le(ridge);
  }
  writer.Le(params.mean_terms);
  writer.Le(params.scale_terms);
  for (int term = 0; term < moments::kMeanTerms; ++term) {
    if (params.HasMean(term)) {
      writer.Le(
          std::bit_cast<uint32_t>(params.mean[static_cast<size_t>(term)]));
    }
  }
  if (params.HasEnergy()) writer.Le(std::bit_cast<uint32_t>(params.decay));
  writer.Le(params.log_scale);
  for (int term = 0; term < moments::kScaleTerms; ++term) {
    if (params.HasScale(term)) {
      writer.Le(params.scale[static_cast<size_t>(term)]);
    }
  }
}

class Plan : public EncodePlan {
 public:
  ByteSpan params() const override { return params_.span(); }
  uint64_t estimate() const override { return estimate_; }

 protected:
  Plan(const EncodeRequest& request, const Params& params)
      : request_(request), model_(params) {
    WriteParams(params, &params_);
  }
  size_t Offset(ByteSpan block) const {
    return static_cast<size_t>(block.data() - request_.data.data());
  }
  ByteSpan BlockAt(size_t at) const {
    return request_.data.subspan(
        at, std::min(request_.block_size, request_.data.size() - at));
  }
  bool IsWhole(ByteSpan block) const {
    return block.size() % model_.kind->size == 0 &&
           block.size() <= moments::kMaxBlockBytes;
  }
  Piece All() const {
    return {model_.kind,
            request_.data,
            {request_.references.begin(), request_.references.end()},
            request_.row,
            request_.position};
  }
  Piece PieceOf(ByteSpan block) const {
    const size_t size = model_.kind->size;
    return All().Part(Offset(block) / size, block.size() / size);
  }

  const EncodeRequest request_;
  const Params model_;
  Buffer params_;
  uint64_t estimate_ = 0;
};

/// By engines that learn as they go.
class LearningPlan final : public Plan {
 public:
  LearningPlan(const EncodeRequest& request, const Params& params)
      : Plan(request, params) {
    if (params.engine != moments::Engine::kMixed) {
      const Piece all = All();
      const size_t tried = std::min(all.elements(), 2 * kTried);
      estimate_ =
          CodedSize(params, all.Part(0, tried)) * all.elements() / tried;
      return;
    }
    // How well mixing does is only known afterwards: the blocks are coded here.
    for (size_t at = 0; at < request.data.size(); at += request.block_size) {
      Buffer& coded = blocks_.emplace_back();
      const ByteSpan block = BlockAt(at);
      if (IsWhole(block)) AppendBlock(model_, PieceOf(block), &coded);
      estimate_ += coded.empty() ? block.size() : coded.size();
    }
  }
  bool Encode(ByteSpan block, Scratch& /*scratch*/,
              Buffer* out) const override {
    if (!IsWhole(block)) return false;
    const size_t start = out->size();
    if (blocks_.empty()) {
      AppendBlock(model_, PieceOf(block), out);
    } else {
      out->Append(blocks_[Offset(block) / request_.block_size].span());
    }
    const bool smaller = out->size() - start < block.size();
    if (!smaller) out->Resize(start);
    return smaller;
  }

 private:
  std::vector<Buffer> blocks_;
};

/// By tables for the frame.
class TablesPlan final : public Plan {
 public:
  TablesPlan(const EncodeRequest& request, const Params& params)
      : Plan(request, params), residuals_(params) {
    uint64_t blocks = 0;
    for (size_t at = 0; at < request.data.size(); at += request.block_size) {
      residuals_.Add(PieceOf(BlockAt(at)));
      ++blocks;
    }
    encoder_.emplace(residuals_.alphabet, residuals_.counts,
                     residuals::ContextGrid{});
    encoder_->Write(&params_);
    constexpr uint64_t kBlockBytes = 24;
    estimate_ =
        encoder_->cost() / 8 + residuals_.sign_bytes() + kBlockBytes * blocks;
  }
  bool Encode(ByteSpan block, Scratch& scratch, Buffer* out) const override {
    if (!IsWhole(block)) return false;
    const size_t start = out->size();
    const size_t size = model_.kind->size;
    const size_t first = Offset(block) / size;
    const size_t count = block.size() / size;
    if (model_.signs) {
      const size_t each = (request_.block_size / size + 7) / 8;
      const size_t sign = Offset(block) / request_.block_size * each;
      out->Append(residuals_.signs.span().subspan(sign, (count + 7) / 8));
    }
    encoder_->Encode(residuals_.contexts.data() + first,
                     residuals_.symbols.data() + first, block.data(),
                     residuals_.predictions.data() + first * size, count,
                     &scratch.buffers[0], &scratch.buffers[1], out);
    const bool smaller = out->size() - start < block.size();
    if (!smaller) out->Resize(start);
    return smaller;
  }

 private:
  Residuals residuals_;
  std::optional<residuals::ResidualEncoder> encoder_;
};

std::unique_ptr<EncodePlan> MakePlan(const EncodeRequest& request,
                                     Scratch& /*scratch*/) {
  const Kind* kind = moments::FindKind(request.dtype);
  if (kind == nullptr ||
      !Suits(request.dtype, request.level, request.data.size() / kind->size) ||
      request.data.size() % kind->size != 0) {
    return nullptr;
  }
  std::optional<Params> params;
  if (request.model != nullptr) {
    params = static_cast<const Model*>(request.model)->params;
  } else if (!request.references.empty()) {
    const Piece all{kind,
                    request.data,
                    {request.references.begin(), request.references.end()},
                    request.row,
                    request.position};
    params =
        Fitter(all.Part(0, std::min(all.elements(), kFitted)), request.level)
            .Best();
  }
  if (!params.has_value()) return nullptr;
  params->engine = EngineOf(request.level);
  std::unique_ptr<EncodePlan> plan;
  if (params->engine == moments::Engine::kTables) {
    plan = std::make_unique<TablesPlan>(request, *params);
  } else {
    plan = std::make_unique<LearningPlan>(request, *params);
  }
  if (plan->estimate() >= request.data.size()) return nullptr;
  return plan;
}

}  // namespace

extern const Encoder kMomentsEncoder = {
    .id = 17, .name = "moments", .plan = MakePlan, .learn = Learn};

}  // namespace zipllm::codecs
