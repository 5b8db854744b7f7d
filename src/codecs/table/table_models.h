// The models of codec 26's mixed methods: each value of a table by binary
// decisions, whose probabilities are mixed of what contexts saw and of what
// candidates say. Integers throughout, but for the least squares, whose
// operations are single ones of IEEE 754.
// Format: format-spec/codecs/26-table.md.
#ifndef ZIPLLM_CODECS_TABLE_TABLE_MODELS_H_
#define ZIPLLM_CODECS_TABLE_TABLE_MODELS_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "codecs/text/cm_parts.h"
#include "entropy/mixing.h"

namespace zipllm::codecs::table {

/// a - b and a + b modulo 2^64.
inline int64_t Minus(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) -
                              static_cast<uint64_t>(b));
}
inline int64_t Plus(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) +
                              static_cast<uint64_t>(b));
}
inline int64_t Times4(int64_t x) { return Plus(Plus(x, x), Plus(x, x)); }
inline uint64_t Magnitude(int64_t x) {
  return x < 0 ? uint64_t{0} - static_cast<uint64_t>(x)
               : static_cast<uint64_t>(x);
}

/// A number as a part of a context: exact near 0, else its sign and the first
/// two bits of its magnitude. Below 256.
inline uint32_t Coarse(int64_t x) {
  const uint64_t m = Magnitude(x);
  const uint32_t sign = x < 0 ? 1 : 0;
  if (m < 8) return static_cast<uint32_t>(2 * m + sign);
  const int octave = static_cast<int>(std::bit_width(m)) - 1;
  const auto half = static_cast<uint32_t>((m >> (octave - 1)) & 1);
  return std::min<uint32_t>(
      16 + 4 * static_cast<uint32_t>(octave - 3) + 2 * half + sign, 255);
}

/// The binary logarithm of a magnitude in 1/16, about: linear in an octave; 0
/// of 0, 16 of 1.
inline uint32_t Logarithm(int64_t x) {
  const uint64_t m = Magnitude(x);
  if (m == 0) return 0;
  const auto length = static_cast<uint32_t>(std::bit_width(m));
  return length * 16 + static_cast<uint32_t>(m << (64 - length) >> 59 & 15);
}

/// 2^20 / 2^(i / 16), rounded.
inline constexpr std::array<int64_t, 16> kPowers = {
    1048576, 1004120, 961548, 920782, 881744, 844361, 808563, 774282,
    741455,  710020,  679917, 651091, 623487, 597053, 571740, 547500};

/// What contexts have seen, in buckets of kNodes decisions.
class Slots {
 public:
  static constexpr uint32_t kNodes = 16;

  explicit Slots(int log2) : slots_(size_t{1} << log2, kFresh), log2_(log2) {}

  /// Where the decisions `kNodes` * `group` and following are in a context.
  struct Bucket {
    uint32_t* slots;
    uint32_t check;
  };
  Bucket Find(uint32_t hash, uint32_t group) {
    uint32_t h = (hash + group * 0x9E3779B1u) * 0x2C1B3C6Du;
    h ^= h >> 15;
    h *= 0x297A2D39u;
    return {&slots_[size_t{h >> (32 - (log2_ - 4))} * kNodes], h & 63};
  }
  static uint32_t* In(const Bucket& bucket, uint32_t node) {
    uint32_t* const slot = bucket.slots + node % kNodes;
    if ((*slot & 63) != bucket.check) *slot = kFresh | bucket.check;
    return slot;
  }
  /// Probability of a one, of 4096.
  static uint32_t P12(uint32_t slot) { return slot >> 20; }
  static uint32_t Seen(uint32_t slot) { return slot >> 6 & 255; }
  static void Update(const entropy::MixingTables& tables, uint32_t* slot,
                     bool bit, uint32_t limit) {
    const uint32_t n = *slot >> 6 & 255;
    const auto p = static_cast<int64_t>(*slot >> 14);
    const int64_t target = bit ? (1 << 18) - 1 : 0;
    const int64_t moved = p + (((target - p) * int64_t{tables.step[n]}) >> 16);
    *slot = static_cast<uint32_t>(moved) << 14 | (n < limit ? n + 1 : n) << 6 |
            (*slot & 63);
  }

 private:
  static constexpr uint32_t kFresh = uint32_t{1} << 31;
  std::vector<uint32_t> slots_;
  int log2_;
};

/// Logistic mixing (entropy/mixing.h) of `kInputs` models by weights that a
/// context chooses, in arithmetic of 32 bits.
template <int kInputs>
class Weights {
 public:
  Weights(size_t sets, int32_t weight) : counts_(sets) {
    weights_.Resize(sets * kInputs * sizeof(int32_t));
    std::fill_n(reinterpret_cast<int32_t*>(weights_.data()), sets * kInputs,
                weight);
  }
  /// The stretched mix of `inputs` by the weights `set`.
  int32_t Mix(const int32_t* inputs, size_t set) {
    set_ = set;
    const auto dot =
        static_cast<uint32_t>(cm::MixDot(inputs, At(set), kInputs));
    return std::clamp(static_cast<int32_t>(dot + 128) >> 8,
                      -entropy::kStretchMax, entropy::kStretchMax);
  }
  /// Moves the weights just used towards what would have predicted `bit`; `p`
  /// is the squashed mix.
  void Update(const int32_t* inputs, uint32_t p, bool bit) {
    const int32_t error = (bit ? 65536 : 0) - static_cast<int32_t>(p);
    uint16_t& count = counts_[set_];
    const int shift = std::min(count >> 5, 2);
    count = static_cast<uint16_t>(count + (count < 1024 ? 1 : 0));
    cm::MixTrain(inputs, At(set_), kInputs, error * 8 >> shift);
  }

 private:
  int32_t* At(size_t set) {
    return reinterpret_cast<int32_t*>(weights_.data()) + set * kInputs;
  }
  Buffer weights_;
  std::vector<uint16_t> counts_;
  size_t set_ = 0;
};

/// Linear prediction by least squares over what was seen, old things counting
/// less and less.
template <size_t kOrder>
class LeastSquares {
 public:
  using Vector = std::array<double, kOrder>;

  double Predict(const Vector& x) {
    x_ = x;
    double sum = 0;
    for (size_t i = 0; i < kOrder; ++i) sum += weights_[i] * x[i];
    return sum;
  }
  void Update(double y) {
    for (size_t i = 0; i < kOrder; ++i) {
      for (size_t j = 0; j <= i; ++j) {
        moments_[i][j] = moments_[i][j] * kKeep + x_[i] * x_[j];
      }
      target_[i] = target_[i] * kKeep + x_[i] * y;
    }
    if (++since_ == kEvery) {
      since_ = 0;
      Solve();
    }
  }

 private:
  static constexpr double kKeep = 0.9985;
  static constexpr double kRidge = 1.0;
  static constexpr int kEvery = 8;

  /// By Cholesky's factors without roots.
  void Solve() {
    std::array<Vector, kOrder> l;
    Vector d, z;
    for (size_t i = 0; i < kOrder; ++i) {
      for (size_t j = 0; j <= i; ++j) {
        double sum = moments_[i][j] + (i == j ? kRidge : 0);
        for (size_t k = 0; k < j; ++k) sum -= l[i][k] * d[k] * l[j][k];
        if (i == j) {
          if (!(sum > kRidge / 2)) return;
          d[i] = sum;
        } else {
          l[i][j] = sum / d[j];
        }
      }
    }
    for (size_t i = 0; i < kOrder; ++i) {
      double sum = target_[i];
      for (size_t k = 0; k < i; ++k) sum -= l[i][k] * z[k];
      z[i] = sum;
    }
    for (size_t i = kOrder; i-- > 0;) {
      double sum = z[i] / d[i];
      for (size_t k = i + 1; k < kOrder; ++k) sum -= l[k][i] * weights_[k];
      weights_[i] = sum;
    }
  }

  std::array<Vector, kOrder> moments_{};
  Vector target_{};
  Vector weights_{};
  Vector x_{};
  int since_ = 0;
};

/// How a table of values is laid out.
struct Shape {
  size_t fields = 1;  // values of a record
  size_t records = 0;
  uint64_t row = 0;  // records from a value to the one above; 0: none
  std::vector<uint8_t> numeric;  // by field: values near each other mean alike
  std::vector<int64_t> center;   // by field, of those that are not numeric
};

/// Codes the values of a table in order. Thread-compatible.
template <bool kStrong>
class Model {
 public:
  static constexpr size_t kContexts = kStrong ? 17 : 5;
  static constexpr size_t kCandidates = kStrong ? 6 : 3;
  static constexpr size_t kInputs = kStrong ? 24 : 8;
  static constexpr bool kByField = kStrong;
  static constexpr uint32_t kLimit = 250;

  Model(const Shape& shape, int log2_slots)
      : shape_(shape),
        tables_(entropy::GetMixingTables()),
        above_(shape.row == 0 ? 2 : shape.row),
        pad_((std::max<uint64_t>(above_ * 2, 8) + 2) * shape.fields),
        values_(pad_ +
                (shape.records + 2) * shape.fields),  // rows of one or two
        residuals_(values_.size()),
        slots_(log2_slots),
        state_(shape.fields),
        memory_log2_(std::min(log2_slots - 2, 18)),
        memory_(size_t{1} << memory_log2_),
        by_node_(kNodeSets * kScales, kWeight),
        by_field_(shape.fields * kNodeSets, kWeight),
        by_hits_(kNodeSets * 64, kWeight) {
    for (auto& side : raw_)
      for (uint32_t& p : side) p = 1u << 31;
    for (auto& c : candidate_bits_)
      c = entropy::AdaptiveBit(uint32_t{3} << 14, 4);
    if (kStrong) squares_.resize(shape.fields);
  }

  /// Codes the value of `field` in `record`: the next one.
  template <typename Coder>
  int64_t Code(Coder& coder, size_t record, size_t field, int64_t value) {
    const size_t i = pad_ + record * shape_.fields + field;
    Look(i, record, field);
    const int64_t residual = CodeResidual(coder, Minus(value, base_));
    const int64_t coded = Plus(base_, residual);
    Learn(i, field, coded);
    return coded;
  }
  /// Passes over a value that is not coded here.
  void Skip(size_t record, size_t field) {
    const size_t i = pad_ + record * shape_.fields + field;
    values_[i] = values_[i - shape_.fields];
    residuals_[i] = 0;
  }

 private:
  static constexpr size_t kFixed = 10;  // predictors that do not learn
  static constexpr size_t kOrder = 12;
  static constexpr size_t kPredictors = kFixed + (kStrong ? 1 : 0);
  static constexpr size_t kNodeSets = 40;
  static constexpr size_t kScales = 12;
  static constexpr int kLeastStart = 4;
  static constexpr int32_t kWeight = 65536 * 3 / 10;

  struct FieldState {
    std::array<uint32_t, kPredictors> errors{};  // averages of logarithms
  };
  /// What followed a context the last time.
  struct Memory {
    int64_t value = 0;
    uint16_t check = 0;
    uint16_t hits = 0;
  };

  static uint32_t Hash(uint64_t a, uint64_t b, uint64_t c = 0) {
    uint64_t h = (a + 1) * 0x9E3779B97F4A7C15 + b;
    h = (h ^ h >> 29) * 0xBF58476D1CE4E5B9 + c;
    h = (h ^ h >> 32) * 0x94D049BB133111EB;
    return static_cast<uint32_t>(h >> 32);
  }

  /// What is known around the value that is coded. Values w, ww, www: before it
  /// in its field; n and nn: in the row above and the one above that, nw and ne
  /// beside n; without rows, further back. r...: residuals of the same.
  struct Around {
    int64_t w, ww, www, n, nw, ne, nn;
    int32_t rw, rww, rwww, rn, rnw, rne;
    int64_t a1, a2, a3;  ///< the values before it in its record
    int64_t d1, d2, d3;  ///< what these are more than in the record before
  };
  Around LookAround(size_t i, size_t field) const {
    const auto f = static_cast<ptrdiff_t>(shape_.fields);
    const ptrdiff_t up = static_cast<ptrdiff_t>(above_) * f;
    const int64_t* const v = &values_[i];
    const int32_t* const r = &residuals_[i];
    Around a;
    a.w = v[-f];
    a.ww = v[-2 * f];
    a.www = v[-3 * f];
    a.rw = r[-f];
    a.rww = r[-2 * f];
    a.rwww = r[-3 * f];
    if (shape_.row != 0) {
      a.n = v[-up];
      a.nw = v[-up - f];
      a.ne = v[-up + f];
      a.nn = v[-2 * up];
      a.rn = r[-up];
      a.rnw = r[-up - f];
      a.rne = r[-up + f];
    } else {
      a.n = a.ww;
      a.nw = a.www;
      a.ne = v[-4 * f];
      a.nn = v[-5 * f];
      a.rn = a.rww;
      a.rnw = a.rwww;
      a.rne = r[-4 * f];
    }
    a.a1 = field > 0 ? v[-1] : 0;
    a.a2 = field > 1 ? v[-2] : 0;
    a.a3 = field > 2 ? v[-3] : 0;
    a.d1 = field > 0 ? Minus(v[-1], v[-1 - f]) : 0;
    a.d2 = field > 1 ? Minus(v[-2], v[-2 - f]) : 0;
    a.d3 = field > 2 ? Minus(v[-3], v[-3 - f]) : 0;
    return a;
  }

  /// Prepares what codes the value.
  void Look(size_t i, size_t record, size_t field) {
    const Around around = LookAround(i, field);
    group_ = 0;
    field_ = field;
    if (shape_.numeric[field] == 0) {
      base_ = shape_.center[field];
    } else {
      Predict(around, &values_[i], field);
      base_ = Blend(around.w, field);
    }
    FindContexts(around, record, field);
    FindCandidates(around, field);
  }

  void Predict(const Around& a, const int64_t* v, size_t field) {
    std::array<int64_t, kPredictors>& p = predictions_;
    const int64_t step = Minus(a.w, a.ww);
    p[0] = a.w;
    p[1] = Plus(a.w, step);
    p[2] = a.n;
    p[3] = Plus(a.w, Minus(a.n, a.nw));
    p[4] = Plus(a.w, Minus(a.n, a.w) / 2);
    p[5] = Plus(a.w, Minus(a.ne, a.n));
    p[6] = Plus(a.n, Minus(a.n, a.nn));
    p[7] = Plus(a.w, Plus(step, Minus(step, Minus(a.ww, a.www))));
    p[8] = Minus(
        Times4(Plus(step, a.www)),
        Plus(Plus(a.ww, a.ww), v[-4 * static_cast<ptrdiff_t>(shape_.fields)]));
    p[9] = Plus(a.w, (Plus(Minus(a.n, a.w), Minus(a.ne, a.w)) / 3));
    if constexpr (kStrong) {
      w_ = a.w;
      const double y = squares_[field].Predict(Regressors(a, v));
      p[kFixed] = Plus(a.w, y > -1e15 && y < 1e15
                                ? static_cast<int64_t>(y + (y < 0 ? -0.5 : 0.5))
                                : 0);
    }
  }
  /// What the value less w is a linear function of.
  typename LeastSquares<kOrder>::Vector Regressors(const Around& a,
                                                   const int64_t* v) const {
    const auto bound = [](int64_t x) {
      return static_cast<double>(std::clamp<int64_t>(x, -(1 << 30), 1 << 30));
    };
    const auto at = [&](int64_t q) { return bound(Minus(q, a.w)); };
    const auto f = static_cast<ptrdiff_t>(shape_.fields);
    const ptrdiff_t up = static_cast<ptrdiff_t>(above_) * f;
    if (shape_.row != 0) {
      return {at(a.ww),           at(a.www),          at(a.n),
              at(a.nw),           at(a.ne),           at(a.nn),
              at(v[-up + 2 * f]), at(v[-up - 2 * f]), at(v[-2 * up - f]),
              at(v[-2 * up + f]), bound(a.d1),        bound(a.d2)};
    }
    return {at(a.ww),      at(a.www),     at(a.ne),      at(a.nn),
            at(v[-6 * f]), at(v[-7 * f]), at(v[-8 * f]), 16.0,
            bound(a.d1),   bound(a.d2),   bound(a.d3),   0};
  }
  /// The predictions' mean by the inverse cubes of the geometric means of their
  /// errors.
  int64_t Blend(int64_t w, size_t field) const {
    const FieldState& state = state_[field];
    const uint32_t least =
        *std::min_element(state.errors.begin(), state.errors.end());
    int64_t sum = 0, weights = 0;
    for (size_t k = 0; k < kPredictors; ++k) {
      const uint32_t steps = (state.errors[k] - least) * 3 >> 8;
      const int64_t weight =
          kPowers[steps & 15] >> std::min<uint32_t>(steps >> 4, 31);
      sum += std::clamp<int64_t>(Minus(predictions_[k], w), -(int64_t{1} << 38),
                                 int64_t{1} << 38) *
             weight;
      weights += weight;
    }
    const int64_t half = weights / 2;
    return Plus(w, (sum + (sum < 0 ? -half : half)) / weights);
  }

  void FindContexts(const Around& a, size_t record, size_t field) {
    const int64_t p = base_;
    const auto scale = static_cast<uint64_t>(2 * std::abs(int64_t{a.rw})) +
                       static_cast<uint64_t>(2 * std::abs(int64_t{a.rn})) +
                       static_cast<uint64_t>(std::abs(int64_t{a.rnw})) +
                       static_cast<uint64_t>(std::abs(int64_t{a.rne}));
    const uint32_t s = Coarse(static_cast<int64_t>(scale));
    start_ = shape_.numeric[field] != 0
                 ? static_cast<int>(std::bit_width(scale * 43 >> 8))
                 : 0;
    if (start_ < kLeastStart) start_ = 0;
    scale_ = std::min<size_t>(static_cast<size_t>(std::bit_width(scale)),
                              kScales - 1);
    size_t k = 0;
    const auto put = [&](uint64_t x, uint64_t y, uint64_t z) {
      hashes_[k] = Hash(field * 64 + k, x * 0x9E3779B97F4A7C15 + y, z);
      buckets_[k] = slots_.Find(hashes_[k], 0);
      __builtin_prefetch(buckets_[k].slots);
      ++k;
    };
    const auto off = [p](int64_t x) { return Coarse(Minus(x, p)); };
    const bool has_fields = shape_.fields > 1;
    put(s, 0, 0);
    put(off(a.w), off(a.n), 0);
    put(U(a.rw), U(a.rn), 0);
    put(U(p), 0, 0);
    if (has_fields) {
      put(U(a.a1), U(a.a2), U(p));
    } else {
      put(U(a.w), U(a.n), U(p));
    }
    if constexpr (kStrong) {
      put(0, 0, 0);
      put(off(a.w), off(a.n), off(a.ne));
      put(Coarse(Minus(a.w, a.ww)), Coarse(Minus(a.n, a.ne)), Coarse(a.rw));
      put(Coarse(a.rw), Coarse(a.rww), Coarse(a.rwww));
      put(U(a.w), U(p), 0);
      put(U(a.w), U(a.ww), U(p));
      put(U(a.n), U(p), Coarse(a.rn));
      if (has_fields) {
        put(U(a.a1), U(p), 0);
        put(Coarse(a.d1), Coarse(a.d2), off(a.w));
      } else {
        put(off(predictions_[3]), s, off(a.nw));
        put(Coarse(a.rn), Coarse(a.rne), Coarse(a.rnw));
      }
      put(shape_.row != 0 ? record % shape_.row / 4 : 0, s / 4, 1);
      put(off(a.nn), off(a.n), Coarse(a.rn));
      put(off(a.nw), off(a.w), s / 4);
    }
  }

  void FindCandidates(const Around& a, size_t field) {
    size_t k = 0;
    const auto remember = [&](uint64_t x, uint64_t y) {
      const uint32_t hash = Hash(field * 64 + 32 + k, x, y);
      Memory& memory = memory_[hash >> (32 - memory_log2_)];
      const auto check = static_cast<uint16_t>(hash);
      if (memory.check != check) memory = {a.w, check, 0};
      remembered_[k] = &memory;
      candidates_[k] = {.residual = Minus(memory.value, base_),
                        .hits = std::min<uint32_t>(memory.hits, 15)};
      ++k;
    };
    remember(U(a.a1), U(a.a2) * 31 + U(a.a3));
    remember(U(a.w), U(a.ww));
    remember(U(a.w), U(a.n));
    if constexpr (kStrong) {
      remember(U(a.w) * 31 + U(a.ww), U(a.www));
      remember(U(a.a1), U(a.w));
      remember(U(a.a1) * 31 + U(a.a2), U(a.w));
    }
  }
  static uint64_t U(int64_t x) { return static_cast<uint64_t>(x); }

  struct Candidate {
    int64_t residual = 0;
    uint32_t hits = 0;
    bool holds = true;
  };

  /// Sets of weights, by what is decided.
  enum Set : size_t {
    kZero = 0,
    kSign = 1,
    kUnary = 2,  // 12 octaves of either sign
    kMantissa = 26,
    kLow = 29,
    kFirst = 30,
    kUp = 31,
    kDown = 32,
    kWideSign = 33,
    kWideMantissa = 34,
    kSets = 37,
  };
  /// Buckets of what is decided, beside 0 to 7 for the first steps.
  enum Group : uint32_t {
    kMantissaGroup = 8,
    kLowGroup = 80,
    kWideGroup = 400,
    kWideMantissaGroup = 480,
    kWideSignGroup = 560,
  };

  template <typename BitOf>
  void Expect(const BitOf& bit_of) {
    for (size_t k = 0; k < kCandidates; ++k) {
      expected_[k] = bit_of(candidates_[k].residual);
    }
  }
  bool AnyHolds() const {
    for (const Candidate& candidate : candidates_) {
      if (candidate.holds) return true;
    }
    return false;
  }

  template <typename Coder>
  int64_t CodeResidual(Coder& coder, int64_t residual) {
    return start_ == 0 ? CodeNarrow(coder, residual)
                       : CodeWide(coder, residual);
  }

  /// Small ones, by the octave counted up from 0.
  template <typename Coder>
  int64_t CodeNarrow(Coder& coder, int64_t residual) {
    Expect([](int64_t r) { return r == 0; });
    if (Bit(coder, 0, 0, kZero, residual == 0)) return 0;
    Expect([](int64_t r) { return r < 0; });
    const bool negative = Bit(coder, 0, 1, kSign, residual < 0);
    const uint32_t sign = negative ? 1 : 0;
    const uint64_t magnitude = Magnitude(residual);
    const int octave = static_cast<int>(std::bit_width(magnitude)) - 1;
    int e = 0;
    while (e < 63) {
      Expect([e](int64_t r) { return Magnitude(r) >> e > 1; });
      const uint32_t node = 2 + 2 * static_cast<uint32_t>(e) + sign;
      const size_t set = kUnary + 2 * std::min<size_t>(e, 11) + sign;
      if (!Bit(coder, node / 16, node % 16, set, octave > e)) break;
      ++e;
    }
    uint64_t m = 1;
    for (int b = e - 1; b >= 0; --b) {
      const bool bit = (magnitude >> b & 1) != 0;
      const int depth = e - 1 - b;
      bool coded;
      if (depth < 3 || AnyHolds()) {
        Expect([b](int64_t r) { return (Magnitude(r) >> b & 1) != 0; });
        coded = depth < 3
                    ? Bit(coder, kMantissaGroup + static_cast<uint32_t>(e),
                          8 * sign + static_cast<uint32_t>(m),
                          kMantissa + static_cast<size_t>(depth), bit)
                    : Bit(coder,
                          kLowGroup + 4 * static_cast<uint32_t>(e) +
                              static_cast<uint32_t>(b) / 16,
                          static_cast<uint32_t>(b) % 16, kLow, bit);
      } else {
        coded = RawBit(coder, e, b, bit);
      }
      m = m << 1 | (coded ? 1 : 0);
    }
    return negative ? static_cast<int64_t>(uint64_t{0} - m)
                    : static_cast<int64_t>(m);
  }

  /// Others, by the length of the magnitude counted from what is expected.
  template <typename Coder>
  int64_t CodeWide(Coder& coder, int64_t residual) {
    constexpr int kModelled = kStrong ? 3 : 1;
    const uint64_t magnitude = Magnitude(residual);
    const int length = static_cast<int>(std::bit_width(magnitude));
    const uint32_t group = kWideGroup + static_cast<uint32_t>(start_);
    const auto longer = [&](int than, uint32_t node, size_t set) {
      Expect([than](int64_t r) {
        return static_cast<int>(std::bit_width(Magnitude(r))) > than;
      });
      return Bit(coder, group, node, set, length > than);
    };
    int n = start_;
    if (longer(n, 0, kFirst)) {
      ++n;
      while (n < 64 &&
             longer(n, std::min<uint32_t>(static_cast<uint32_t>(n - start_), 4),
                    kUp)) {
        ++n;
      }
    } else {
      while (n > 0 && !longer(n - 1,
                              std::min<uint32_t>(
                                  5 + static_cast<uint32_t>(start_ - n), 8),
                              kDown)) {
        --n;
      }
    }
    if (n == 0) return 0;
    Expect([](int64_t r) { return r < 0; });
    const auto off = static_cast<uint32_t>(std::clamp(n - start_ + 4, 0, 7));
    const uint32_t signs = kWideSignGroup + static_cast<uint32_t>(start_);
    const bool negative = Bit(coder, signs, off, kWideSign, residual < 0);
    uint64_t m = 1;
    for (int b = n - 2; b >= 0; --b) {
      const bool bit = (magnitude >> b & 1) != 0;
      const int depth = n - 2 - b;
      bool coded;
      if (depth < kModelled || AnyHolds()) {
        Expect([b](int64_t r) { return (Magnitude(r) >> b & 1) != 0; });
        if (depth == 0) {
          const uint32_t side = negative ? 12 : 8;
          coded = Bit(coder, signs, side + std::clamp<uint32_t>(off, 2, 5) - 2,
                      kWideMantissa, bit);
        } else if (depth < 3) {
          coded = Bit(coder, kWideMantissaGroup + static_cast<uint32_t>(n),
                      static_cast<uint32_t>(m),
                      kWideMantissa + static_cast<size_t>(depth), bit);
        } else {
          coded = Bit(coder,
                      kLowGroup + 4 * static_cast<uint32_t>(n - 1) +
                          static_cast<uint32_t>(b) / 16,
                      static_cast<uint32_t>(b) % 16, kLow, bit);
        }
      } else {
        coded = RawBit(coder, n - 1, b, bit);
      }
      m = m << 1 | (coded ? 1 : 0);
    }
    return negative ? static_cast<int64_t>(uint64_t{0} - m)
                    : static_cast<int64_t>(m);
  }

  template <typename Coder>
  bool RawBit(Coder& coder, int e, int b, bool bit) {
    uint32_t& p = raw_[static_cast<size_t>(e)][static_cast<size_t>(b)];
    const uint32_t p16 = std::clamp<uint32_t>(p >> 16, 32, 65503);
    const bool coded = coder.Code(bit, p16);
    if (coded) {
      p += (UINT32_MAX - p) >> 8;
    } else {
      p -= p >> 8;
    }
    return coded;
  }

  template <typename Coder>
  bool Bit(Coder& coder, uint32_t group, uint32_t node, size_t set, bool bit) {
    if (group != group_) {
      group_ = group;
      for (size_t j = 0; j < kContexts; ++j) {
        buckets_[j] = slots_.Find(hashes_[j], group);
      }
    }
    size_t k = 0;
    for (; k < kContexts; ++k) {
      found_[k] = Slots::In(buckets_[k], node);
      inputs_[k] = tables_.stretch[Slots::P12(*found_[k])];
    }
    uint32_t agree = 0;
    for (size_t c = 0; c < kCandidates; ++c, ++k) {
      const Candidate& candidate = candidates_[c];
      if (!candidate.holds) {
        inputs_[k] = 0;
        bits_[c] = nullptr;
        continue;
      }
      bits_[c] = &candidate_bits_[(c * 16 + candidate.hits) * kNodeSets + set];
      const int32_t s = tables_.stretch[bits_[c]->p16() >> 4];
      inputs_[k] = expected_[c] ? s : -s;
      if (c < 3)
        agree |= (candidate.hits == 0  ? 1u
                  : candidate.hits < 4 ? 2u
                                       : 3u)
                 << (2 * c);
    }
    if constexpr (kStrong) inputs_[k] = 256;
    const int32_t* const inputs = inputs_.data();
    const int32_t m0 = by_node_.Mix(inputs, set * kScales + scale_);
    const int32_t m1 =
        kByField ? by_field_.Mix(inputs, field_ * kNodeSets + set) : 0;
    const int32_t m2 = by_hits_.Mix(inputs, set * 64 + agree);
    const int32_t mixed = kByField ? (m0 + m1 + m2) / 3 : (m0 + m2) / 2;
    const auto squash = [&](int32_t m) {
      return uint32_t{tables_.squash[static_cast<size_t>(m + 2048)]};
    };
    const bool coded =
        coder.Code(bit, entropy::ClampProbability(squash(mixed)));
    by_node_.Update(inputs, squash(m0), coded);
    if constexpr (kByField) by_field_.Update(inputs, squash(m1), coded);
    by_hits_.Update(inputs, squash(m2), coded);
    for (k = 0; k < kContexts; ++k) {
      Slots::Update(tables_, found_[k], coded, kLimit);
    }
    for (size_t c = 0; c < kCandidates; ++c) {
      if (bits_[c] == nullptr) continue;
      const bool right = expected_[c] == coded;
      bits_[c]->Update(tables_, right, 255);
      if (!right) candidates_[c].holds = false;
    }
    return coded;
  }

  void Learn(size_t i, size_t field, int64_t value) {
    values_[i] = value;
    residuals_[i] = static_cast<int32_t>(
        std::clamp<int64_t>(Minus(value, base_), -(1 << 28), 1 << 28));
    if (shape_.numeric[field] != 0) {
      FieldState& state = state_[field];
      for (size_t k = 0; k < kPredictors; ++k) {
        state.errors[k] += Logarithm(Minus(value, predictions_[k])) * 16 -
                           state.errors[k] / 16;
      }
      if constexpr (kStrong) {
        squares_[field].Update(static_cast<double>(
            std::clamp<int64_t>(Minus(value, w_), -(1 << 30), 1 << 30)));
      }
    }
    for (size_t k = 0; k < kCandidates; ++k) {
      Memory& memory = *remembered_[k];
      if (memory.value == value) {
        memory.hits = static_cast<uint16_t>(std::min(memory.hits + 1, 255));
      } else {
        memory.hits = static_cast<uint16_t>(memory.hits / 4);
        if (memory.hits == 0) memory.value = value;
      }
    }
  }

  const Shape& shape_;
  const entropy::MixingTables& tables_;
  uint64_t above_;
  size_t pad_;
  std::vector<int64_t> values_;
  std::vector<int32_t> residuals_;
  Slots slots_;
  std::vector<FieldState> state_;
  int memory_log2_;
  std::vector<Memory> memory_;
  Weights<kInputs> by_node_, by_field_, by_hits_;
  std::array<std::array<uint32_t, 64>, 64> raw_;
  std::array<entropy::AdaptiveBit, kCandidates * 16 * kNodeSets>
      candidate_bits_;
  std::vector<LeastSquares<kOrder>> squares_;
  // Of the value that is coded:
  int64_t base_ = 0;
  int64_t w_ = 0;
  size_t scale_ = 0;
  int start_ = 0;  // expected length; 0: small
  size_t field_ = 0;
  std::array<int64_t, kPredictors> predictions_{};
  std::array<uint32_t, kContexts> hashes_{};
  std::array<Slots::Bucket, kContexts> buckets_{};
  uint32_t group_ = 0;
  std::array<Candidate, kCandidates> candidates_{};
  std::array<Memory*, kCandidates> remembered_{};
  // Of the decision:
  std::array<bool, kCandidates> expected_{};
  std::array<uint32_t*, kContexts> found_{};
  std::array<entropy::AdaptiveBit*, kCandidates> bits_{};
  alignas(64) std::array<int32_t, kInputs> inputs_{};
};

}  // namespace zipllm::codecs::table

#endif  // ZIPLLM_CODECS_TABLE_TABLE_MODELS_H_
