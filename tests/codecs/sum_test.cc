// Codec 16: low-rank products are found and recomputed to the bit; merges in
// the arithmetic that made them; what means nothing is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <vector>

#include "codecs/coding.h"
#include "codecs/generators.h"
#include "codecs/reference/sum_format.h"

namespace zipllm::codecs {
namespace {

using kernels::FloatType;
using sum_format::Factors;
using sum_format::Formula;
using sum_format::Method;
using sum_format::ProductKind;
using sum_format::ProductSteps;
using sum_format::Term;

constexpr CodecId kSum = 16;
constexpr size_t kRows = 160;
constexpr size_t kColumns = 200;
constexpr size_t kCount = kRows * kColumns;

using Values = std::vector<double>;

/// About normal, of deviation 1.
double Noise(Random& random) {
  double sum = 0;
  for (int i = 0; i < 12; ++i) sum += static_cast<double>(random.Below(4096));
  return sum / 4096 - 6;
}

Values Normal(size_t count, double scale, uint64_t seed) {
  Random random(seed);
  Values values(count);
  for (double& value : values) value = Noise(random) * scale;
  return values;
}

/// Of rank `rank`, elements of about `scale`.
Values LowRank(size_t rank, double scale, uint64_t seed) {
  const Values u = Normal(kRows * rank, 1, seed);
  const Values v = Normal(rank * kColumns, 1, seed + 1);
  Values product(kCount);
  for (size_t i = 0; i < kCount; ++i) {
    for (size_t k = 0; k < rank; ++k) {
      product[i] += u[i / kColumns * rank + k] * v[k * kColumns + i % kColumns];
    }
    product[i] *= scale / std::sqrt(static_cast<double>(rank));
  }
  return product;
}

Values Plus(const Values& a, const Values& b, double by = 1) {
  Values sum = a;
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += by * b[i];
  return sum;
}

size_t Width(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

/// Rounded to nearest; BF16 and F16 by way of F32, normal numbers only.
Bytes Cast(const Values& values, DType dtype) {
  Bytes bytes(values.size() * Width(dtype));
  for (size_t i = 0; i < values.size(); ++i) {
    const auto narrow = static_cast<float>(values[i]);
    uint32_t bits = std::bit_cast<uint32_t>(narrow);
    if (dtype == DType::kBF16) {
      bits = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
    } else if (dtype == DType::kF16) {
      const auto places = static_cast<float>(
          std::ldexp(std::nearbyint(std::ldexp(
                         narrow, 10 - std::max(std::ilogb(narrow), -14))),
                     std::max(std::ilogb(narrow), -14) - 10));
      const float magnitude = std::abs(places);
      bits = magnitude < 0x1p-14f
                 ? static_cast<uint32_t>(std::ldexp(magnitude, 24))
                 : (std::bit_cast<uint32_t>(magnitude) >> 13) - (112u << 10);
      if (std::signbit(narrow)) bits |= 0x8000;
    }
    std::memcpy(&bytes[i * Width(dtype)], &bits, Width(dtype));
  }
  return bytes;
}

Values ToValues(const Bytes& bytes, DType dtype) {
  Values values(bytes.size() / Width(dtype));
  for (size_t i = 0; i < values.size(); ++i) {
    uint32_t bits = 0;
    std::memcpy(&bits, &bytes[i * Width(dtype)], Width(dtype));
    if (dtype == DType::kF16) {
      const int exponent = static_cast<int>(bits >> 10) & 31;
      const double fraction = (bits & 1023) + (exponent > 0 ? 1024 : 0);
      values[i] = std::ldexp(fraction, std::max(exponent, 1) - 25) *
                  ((bits & 0x8000) != 0 ? -1 : 1);
    } else {
      if (dtype == DType::kBF16) bits <<= 16;
      values[i] = std::bit_cast<float>(bits);
    }
  }
  return values;
}

/// A tensor with what lies beside it.
struct Tensor {
  DType dtype;
  Bytes data;
  std::vector<Bytes> arrays;
  std::vector<Reference> references;

  Tensor(DType type, Bytes bytes) : dtype(type), data(std::move(bytes)) {
    arrays.reserve(kMaxReferences);
  }
  void Add(Role role, DType type, Bytes bytes, uint64_t row = 0) {
    arrays.push_back(std::move(bytes));
    references.push_back({role, type, arrays.back(), row});
  }
  EncodeRequest Request(size_t block = kCount, int level = 3) const {
    return {.data = data,
            .block_size = block * Width(dtype),
            .dtype = dtype,
            .level = level,
            .row = kColumns,
            .references = references};
  }
  /// Bits an element with all that is stored; 1000 where nothing is offered.
  double Bits() const {
    Scratch scratch;
    const auto frame = EncodeFrame(*FindEncoder(kSum), Request(), scratch);
    if (!frame) return 1000;
    size_t size = frame->params.size() + frame->shared.size();
    for (const auto& block : frame->blocks) {
      size += block ? block->size() : data.size();
    }
    return 8 * static_cast<double>(size) / static_cast<double>(kCount);
  }
};

constexpr DType kTypes[] = {DType::kBF16, DType::kF16, DType::kF32};

TEST(SumTest, LowRankBesideEveryType) {
  const Values weights = Normal(kCount, 0.05, 1);
  const Values product = LowRank(3, 0.01, 2);
  for (const DType base : kTypes) {
    for (const DType type : kTypes) {
      SCOPED_TRACE(testing::Message() << static_cast<int>(base) << " to "
                                      << static_cast<int>(type));
      // The base as it is held is the base of the merge.
      const Bytes held = Cast(weights, base);
      Tensor tensor(type, Cast(Plus(ToValues(held, base), product), type));
      tensor.Add(Role::kBase, base, held);
      // The factors take about 3 (160 + 200) / 32000 of 10 to 25 bits.
      EXPECT_LT(tensor.Bits(), type == DType::kF32 ? 2.0 : 1.0);
      EXPECT_EQ(CheckRoundTrip(kSum, tensor.Request()), 1u);
    }
  }
}

TEST(SumTest, LowRankWhereTheBaseWasRounded) {
  const Values weights = Normal(kCount, 0.05, 3);
  Tensor tensor(DType::kBF16,
                Cast(Plus(weights, LowRank(2, 0.01, 4)), DType::kBF16));
  tensor.Add(Role::kBase, DType::kBF16, Cast(weights, DType::kBF16));
  // Rounding of the base alone leaves about 0.8 bits.
  EXPECT_LT(tensor.Bits(), 1.4);
}

TEST(SumTest, BlocksNeedNotEndWithRows) {
  const Values weights = Normal(kCount, 0.05, 5);
  Tensor tensor(DType::kF32,
                Cast(Plus(weights, LowRank(4, 0.01, 6)), DType::kF32));
  tensor.Add(
      Role::kBase, DType::kF32,
      Cast(ToValues(Cast(weights, DType::kF32), DType::kF32), DType::kF32));
  for (const size_t block : {1000, 4096, 7777, 20001}) {
    SCOPED_TRACE(block);
    const EncodeRequest request = tensor.Request(block);
    EXPECT_EQ(CheckRoundTrip(kSum, request), BlocksOf(request).size());
  }
}

TEST(SumTest, FramesShareTheModel) {
  const Values weights = Normal(kCount, 0.05, 7);
  Tensor tensor(DType::kBF16,
                Cast(Plus(weights, LowRank(2, 0.02, 8)), DType::kBF16));
  tensor.Add(Role::kBase, DType::kF32, Cast(weights, DType::kF32));
  Scratch scratch;
  const EncodeRequest whole = tensor.Request();
  const auto model = Learn(*FindEncoder(kSum), whole, scratch);
  ASSERT_NE(model, nullptr);
  EXPECT_FALSE(model->shared().empty());
  // A frame that begins within a row.
  constexpr size_t kBegin = 12345;
  constexpr size_t kLength = 10000;
  EncodeRequest frame = whole;
  Reference base = tensor.references[0];
  base.data = base.data.subspan(4 * kBegin, 4 * kLength);
  frame.data = frame.data.subspan(2 * kBegin, 2 * kLength);
  frame.references = {&base, 1};
  frame.position = kBegin;
  frame.model = model.get();
  const auto plan = FindEncoder(kSum)->plan(frame, scratch);
  ASSERT_NE(plan, nullptr);
  Buffer coded;
  ASSERT_TRUE(plan->Encode(frame.data, scratch, &coded));
  const auto decoded =
      DecodeBlock(*FindDecoder(kSum), plan->params(),
                  {frame.references, kColumns, kBegin, model->shared()},
                  coded.span(), frame.data.size());
  ASSERT_TRUE(decoded.has_value());
  EXPECT_TRUE(std::ranges::equal(*decoded, frame.data));
}

TEST(SumTest, NoModelWhereTheRankIsHigh) {
  const Values weights = Normal(kCount, 0.05, 9);
  for (const DType type : kTypes) {
    for (const double step : {1e-2, 1e-4, 0.0}) {
      Tensor tensor(type, Cast(Plus(weights, Normal(kCount, step, 10)), type));
      tensor.Add(Role::kBase, type, Cast(weights, type));
      Scratch scratch;
      EXPECT_EQ(Learn(*FindEncoder(kSum), tensor.Request(), scratch), nullptr)
          << step;
    }
  }
}

/// Rounds to the type and back.
Values Through(const Values& values, DType type) {
  return ToValues(Cast(values, type), type);
}

TEST(SumTest, MergesInTheArithmeticThatMadeThem) {
  const Values weights = Normal(kCount, 0.05, 11);
  for (const DType type : kTypes) {
    SCOPED_TRACE(static_cast<int>(type));
    const Values base = Through(weights, type);
    const Values a = Through(Plus(weights, Normal(kCount, 1e-3, 12)), type);
    const Values b = Through(Plus(weights, Normal(kCount, 1e-3, 13)), type);
    const auto each = [&](const std::function<float(float, float, float)>& f) {
      Values values(kCount);
      for (size_t i = 0; i < kCount; ++i) {
        values[i] = f(static_cast<float>(base[i]), static_cast<float>(a[i]),
                      static_cast<float>(b[i]));
      }
      return values;
    };
    const auto check = [&](const char* what, const Values& merged,
                           const std::vector<const Values*>& of) {
      SCOPED_TRACE(what);
      Tensor tensor(type, Cast(merged, type));
      for (const Values* values : of) {
        tensor.Add(Role::kBase, type, Cast(*values, type));
      }
      // One stream of 32 states, and parameters.
      EXPECT_LT(tensor.Bits(), 0.06);
      EXPECT_EQ(CheckRoundTrip(kSum, tensor.Request(9000)), 4u);
    };
    check("mean", each([](float, float x, float y) { return (x + y) / 2; }),
          {&a, &b});
    check("mean of three",
          each([](float x, float y, float z) { return (x + y + z) / 3; }),
          {&base, &a, &b});
    check("weighted",
          each([](float, float x, float y) { return 0.3f * x + 0.7f * y; }),
          {&a, &b});
    check("task arithmetic", each([](float x, float y, float z) {
            return x + (0.6f * (y - x) + 0.9f * (z - x));
          }),
          {&base, &a, &b});
    if (type == DType::kF32) continue;
    // Each step rounded to the type.
    const auto round = [&](float x) {
      return static_cast<float>(Through({x}, type)[0]);
    };
    check("weighted, rounded", each([&](float, float x, float y) {
            return round(round(0.3f * x) + round(0.7f * y));
          }),
          {&a, &b});
    check("task arithmetic, rounded", each([&](float x, float y, float z) {
            return round(x + round(round(0.6f * round(y - x)) +
                                   round(0.9f * round(z - x))));
          }),
          {&base, &a, &b});
  }
}

TEST(SumTest, MergesWithFittedCoefficients) {
  // SLERP's are no round numbers.
  const Values weights = Normal(kCount, 0.05, 14);
  const Values a = Through(weights, DType::kBF16);
  const Values b =
      Through(Plus(weights, Normal(kCount, 2e-3, 15)), DType::kBF16);
  Values merged(kCount);
  for (size_t i = 0; i < kCount; ++i) {
    merged[i] = 0.6180339 * a[i] + 0.3819732 * b[i];
  }
  Tensor tensor(DType::kBF16, Cast(merged, DType::kBF16));
  tensor.Add(Role::kBase, DType::kBF16, Cast(a, DType::kBF16));
  tensor.Add(Role::kBase, DType::kBF16, Cast(b, DType::kBF16));
  EXPECT_LT(tensor.Bits(), 0.2);
}

TEST(SumTest, AdaptersInTheArithmeticOfTheirMerge) {
  constexpr size_t kRank = 6;
  const Values weights = Through(Normal(kCount, 0.05, 16), DType::kF32);
  const Values a = Through(Normal(kRank * kColumns, 0.05, 17), DType::kF32);
  const Values b = Through(Normal(kRows * kRank, 0.05, 18), DType::kF32);
  for (const bool fused : {false, true}) {
    Values merged(kCount);
    for (size_t i = 0; i < kCount; ++i) {
      float sum = 0;
      for (size_t k = 0; k < kRank; ++k) {
        const auto x = static_cast<float>(b[i / kColumns * kRank + k]);
        const auto y = static_cast<float>(a[k * kColumns + i % kColumns]);
        sum = fused ? std::fma(x, y, sum) : sum + x * y;
      }
      merged[i] = static_cast<float>(weights[i]) + 5.0f / kRank * sum;
    }
    Tensor tensor(DType::kF32, Cast(merged, DType::kF32));
    tensor.Add(Role::kBase, DType::kF32, Cast(weights, DType::kF32));
    tensor.Add(Role::kFactor, DType::kF32, Cast(a, DType::kF32), kColumns);
    tensor.Add(Role::kFactor, DType::kF32, Cast(b, DType::kF32), kRank);
    EXPECT_LT(tensor.Bits(), 0.06) << fused;
    EXPECT_EQ(CheckRoundTrip(kSum, tensor.Request(1234)), 26u);
  }
}

TEST(SumTest, ValuesThatAreNoNumbers) {
  Values weights = Normal(kCount, 0.05, 19);
  const Values product = LowRank(2, 0.01, 20);
  const float specials[] = {std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN(),
                            0.0f,
                            -0.0f,
                            1e-44f,
                            3e38f};
  for (const DType type : {DType::kBF16, DType::kF32}) {
    Tensor tensor(type, Cast(Plus(weights, product), type));
    Bytes base = Cast(weights, type);
    Random random(21);
    for (const float special : specials) {
      for (Bytes* bytes : {&base, &tensor.data}) {
        uint32_t bits = std::bit_cast<uint32_t>(special);
        if (type == DType::kBF16) bits >>= 16;
        std::memcpy(&(*bytes)[random.Below(kCount) * Width(type)], &bits,
                    Width(type));
      }
    }
    tensor.Add(Role::kBase, type, base);
    EXPECT_EQ(CheckRoundTrip(kSum, tensor.Request()), 1u);
    // The few do not spoil the fit.
    if (type == DType::kBF16) {
      EXPECT_LT(tensor.Bits(), 1.6);
    }
  }
}

// ---- The format ----

/// What the formula and one block of zero residuals say of one element.
struct Predicted {
  uint32_t bits;
  int context;
};
Predicted PredictOne(const Formula& formula, const std::vector<float>& bases,
                     double column = 0, double by = 0) {
  std::vector<Reference> references;
  for (const float& base : bases) {
    references.push_back({Role::kBase,
                          DType::kF32,
                          {reinterpret_cast<const uint8_t*>(&base), 4}});
  }
  const int32_t one = 1;
  Factors factors;
  factors.rank = 1;
  factors.columns = &column;
  factors.rows = &one;
  factors.scales = &by;
  uint32_t bits = 0;
  uint8_t context = 0;
  sum_format::Predict(formula, factors, {references, 0, 0, 1}, 1,
                      reinterpret_cast<uint8_t*>(&bits), &context);
  return {bits, context};
}

TEST(SumTest, RoundsToNearestTiesToEven) {
  Formula formula;
  formula.terms = {{0, 1}};
  formula.product = ProductKind::kOwn;
  formula.settle.noise_exponent = 1023;
  // BF16 has 7 bits of fraction: ties at 2^-8.
  formula.target = FloatType::kBF16;
  EXPECT_EQ(PredictOne(formula, {1.0f}, 1, 0x1p-8).bits, 0x3F80u);
  EXPECT_EQ(PredictOne(formula, {1.0f}, 1, 0x1.8p-8).bits, 0x3F81u);
  EXPECT_EQ(PredictOne(formula, {1.0f}, 3, 0x1p-8).bits, 0x3F82u);
  EXPECT_EQ(PredictOne(formula, {-1.0f}, 3, -0x1p-8).bits, 0xBF82u);
  EXPECT_EQ(PredictOne(formula, {0x1.FFp0f}, 0, 0).bits, 0x4000u);
  // Subnormal numbers, zeros, what is too large, what is no number.
  EXPECT_EQ(PredictOne(formula, {0x1.8p-132f}, 0, 0).bits, 0x0003u);
  EXPECT_EQ(PredictOne(formula, {-0x1p-140f}, 0, 0).bits, 0x8000u);
  EXPECT_EQ(PredictOne(formula, {0x1.FFFFFEp127f}, 0, 0).bits, 0x7F80u);
  EXPECT_EQ(PredictOne(formula, {-0x1.FFFFFEp127f}, -1, 0x1p199).bits, 0xFF80u);
  for (const float special : {std::numeric_limits<float>::infinity(),
                              std::numeric_limits<float>::quiet_NaN()}) {
    EXPECT_EQ(PredictOne(formula, {special}, 0, 0).bits, 0u);
    EXPECT_EQ(PredictOne(formula, {special}, 0, 0).context, 0);
  }
  EXPECT_EQ(PredictOne(formula, {1.0f}, 1, 0x1p200).bits, 0u);
  formula.target = FloatType::kF16;
  EXPECT_EQ(PredictOne(formula, {1.0f}, 1, 0x1p-11).bits, 0x3C00u);
  EXPECT_EQ(PredictOne(formula, {1.0f}, 3, 0x1p-11).bits, 0x3C02u);
  EXPECT_EQ(PredictOne(formula, {-0x1.8p-24f}, 0, 0).bits, 0x8002u);
  EXPECT_EQ(PredictOne(formula, {0x1.FFEp15f}, 0, 0).bits, 0x7C00u);
  formula.target = FloatType::kF32;
  EXPECT_EQ(PredictOne(formula, {1.0f}, 1, 0x1p-24).bits, 0x3F800000u);
  EXPECT_EQ(PredictOne(formula, {1.0f}, 3, 0x1p-24).bits, 0x3F800002u);
  EXPECT_EQ(PredictOne(formula, {1e-45f}, 0, 0).bits, 1u);
}

TEST(SumTest, ContextsTellDistanceAndScale) {
  Formula formula;
  formula.terms = {{0, 1}};
  formula.product = ProductKind::kOwn;
  formula.target = FloatType::kBF16;
  formula.settle.noise_exponent = 1023;
  // Scale 3: exponents are equal. 1 + x / 2^13 is x / 64 places off.
  const auto context = [&](double base, int of_64) {
    return PredictOne(formula, {static_cast<float>(base)}, of_64, 0x1p-13)
        .context;
  };
  EXPECT_EQ(context(1, 0), 3 * 32 + 31 - 15);
  EXPECT_EQ(context(1, 1), 3 * 32 + 31 - 15);   // 31 of 64
  EXPECT_EQ(context(1, 16), 3 * 32 + 31 - 12);  // 16
  EXPECT_EQ(context(1, 24), 3 * 32 + 31 - 8);   // 8
  EXPECT_EQ(context(1, 29), 3 * 32 + 31 - 3);   // 3
  EXPECT_EQ(context(1, 32), 3 * 32 + 31 - 0);   // a tie, rounded down
  EXPECT_EQ(context(1, 33), 3 * 32 + 1);        // rounded up
  EXPECT_EQ(context(1, 63), 3 * 32 + 15);
  EXPECT_EQ(context(-1, -33), 3 * 32 + 1);  // away from zero is up
  EXPECT_EQ(context(-1, -24), 3 * 32 + 31 - 8);
  EXPECT_EQ(context(4, 0), 5 * 32 + 16);
  EXPECT_EQ(context(1024, 0), 7 * 32 + 16);
  EXPECT_EQ(context(0.125, 0), 16);
  EXPECT_EQ(context(0, 0), 16);
  formula.settle.noisy_bases = true;
  EXPECT_EQ(context(1024, 0), 3 * 32 + 16);
  EXPECT_EQ(context(0.125, 0), 16);  // the greater of both
}

TEST(SumTest, AllCpusPredictAlike) {
  Random random(22);
  constexpr size_t kN = 1000;
  std::vector<double> sums(kN), bases(kN), factors(3 * kN);
  for (size_t i = 0; i < kN; ++i) {
    // Any bits, and numbers of all sizes.
    sums[i] = i % 4 == 0
                  ? std::bit_cast<double>(random.Next())
                  : std::ldexp(Noise(random),
                               static_cast<int>(random.Below(400)) - 200);
    bases[i] = std::bit_cast<double>(random.Next());
  }
  for (double& factor : factors) factor = Noise(random);
  const double by[3] = {0.1, -1.7, 3e-5};
  const kernels::Table& scalar = *kernels::Find(kernels::Target::kScalar);
  for (const kernels::Target target :
       {kernels::Target::kNeon, kernels::Target::kAvx2,
        kernels::Target::kAvx512}) {
    const kernels::Table* const table = kernels::Find(target);
    if (table == nullptr) continue;
    SCOPED_TRACE(table->name);
    for (const size_t count : {size_t{0}, size_t{1}, size_t{37}, kN}) {
      for (const FloatType type :
           {FloatType::kBF16, FloatType::kF16, FloatType::kF32}) {
        const size_t width = type == FloatType::kF32 ? 4 : 2;
        for (const bool noisy : {false, true}) {
          std::vector<uint8_t> p(count * width), q(count * width), c(count),
              d(count);
          const kernels::SettleOptions options = {1000, noisy};
          scalar.settle_sums(type, options, sums.data(), bases.data(), count,
                             p.data(), c.data());
          table->settle_sums(type, options, sums.data(), bases.data(), count,
                             q.data(), d.data());
          EXPECT_EQ(p, q);
          EXPECT_EQ(c, d);
        }
        std::vector<double> x(count), y(count);
        const Bytes elements =
            MakeInput(Kind::kRandom, DType::kBytes, count * width);
        scalar.widen(type, elements.data(), count, x.data());
        table->widen(type, elements.data(), count, y.data());
        for (size_t i = 0; i < count; ++i) {
          EXPECT_TRUE(x[i] == y[i] || (std::isnan(x[i]) && std::isnan(y[i])));
        }
        x.assign(sums.begin(), sums.begin() + static_cast<int>(count));
        y = x;
        scalar.round_to(type, count, x.data());
        table->round_to(type, count, y.data());
        // By bits: -0 is not 0. (No memcmp of nothing.)
        const auto bits = [](double v) { return std::bit_cast<uint64_t>(v); };
        EXPECT_TRUE(std::ranges::equal(x, y, {}, bits, bits));
      }
      std::vector<double> x(kN, 0.25), y(kN, 0.25);
      const auto same = [&] {
        return std::memcmp(x.data(), y.data(), kN * sizeof(double)) == 0;
      };
      scalar.add_product(by, factors.data(), kN, 3, count, x.data());
      table->add_product(by, factors.data(), kN, 3, count, y.data());
      EXPECT_TRUE(same());
      for (const bool fused : {false, true}) {
        scalar.add_product_f32(by, factors.data(), kN, 3, fused, count,
                               x.data());
        table->add_product_f32(by, factors.data(), kN, 3, fused, count,
                               y.data());
        EXPECT_TRUE(same());
      }
      scalar.add_outer(by, 1, factors.data(), count, kN, x.data());
      table->add_outer(by, 1, factors.data(), count, kN, y.data());
      EXPECT_TRUE(same());
      EXPECT_EQ(scalar.dot(factors.data(), x.data(), count),
                table->dot(factors.data(), x.data(), count));
    }
  }
}

/// A coded low-rank tensor.
struct Coded {
  Tensor tensor;
  CodedFrame frame;
  Context context;

  Coded() : tensor(DType::kBF16, {}) {
    const Values weights = Normal(kCount, 0.05, 23);
    tensor.data = Cast(Plus(weights, LowRank(2, 0.02, 24)), DType::kBF16);
    tensor.Add(Role::kBase, DType::kF32, Cast(weights, DType::kF32));
    Scratch scratch;
    frame = *EncodeFrame(*FindEncoder(kSum), tensor.Request(), scratch);
    context = Context(tensor.Request(), tensor.data, frame.shared);
  }
  std::string Error(const Context& with) const {
    absl::Status why;
    DecodeBlock(*FindDecoder(kSum), frame.params, with.get(), *frame.blocks[0],
                tensor.data.size(), &why);
    return std::string(why.message());
  }
};

TEST(SumTest, ContextsThatDoNotFit) {
  const Coded coded;
  ASSERT_EQ(coded.Error(coded.context), "");
  Context wrong = coded.context;
  wrong.references.clear();
  EXPECT_THAT(coded.Error(wrong), testing::HasSubstr("missing"));
  wrong = coded.context;
  wrong.references[0].role = Role::kSecondMoment;
  EXPECT_THAT(coded.Error(wrong), testing::HasSubstr("another kind"));
  wrong = coded.context;
  wrong.references[0].dtype = DType::kI32;
  EXPECT_THAT(coded.Error(wrong), testing::HasSubstr("another kind"));
  wrong.references[0].dtype = DType::kBF16;
  EXPECT_THAT(coded.Error(wrong), testing::HasSubstr("beside"));
  wrong = coded.context;
  wrong.references[0].data = wrong.references[0].data.first(100);
  EXPECT_THAT(coded.Error(wrong), testing::HasSubstr("beside"));
  wrong = coded.context;
  wrong.row = 0;
  EXPECT_THAT(coded.Error(wrong), testing::HasSubstr("without rows"));
  wrong.row = 1;  // as many rows as elements
  EXPECT_NE(coded.Error(wrong), "");
  wrong.row = 100;
  EXPECT_NE(coded.Error(wrong), "");
  wrong = coded.context;
  wrong.position = UINT64_MAX - 3;
  EXPECT_THAT(coded.Error(wrong), testing::HasSubstr("without rows"));
}

TEST(SumTest, SharedFactorsThatMeanNothing) {
  const Coded coded;
  Random random(25);
  for (size_t size = 0; size < coded.frame.shared.size(); size += 7) {
    Context wrong = coded.context;
    wrong.shared = wrong.shared.first(size);
    EXPECT_NE(coded.Error(wrong), "");
  }
  for (int i = 0; i < 500; ++i) {
    Bytes shared = coded.frame.shared;
    shared[random.Below(shared.size())] ^=
        static_cast<uint8_t>(1 << random.Below(8));
    Context wrong = coded.context;
    wrong.shared = shared;
    coded.Error(wrong);  // sanitizers look on
  }
  // Scales: the first begins at byte 3 (rank 2, columns 200 in two bytes).
  Bytes shared = coded.frame.shared;
  const double infinity = std::numeric_limits<double>::infinity();
  std::memcpy(&shared[3], &infinity, sizeof infinity);
  Context wrong = coded.context;
  wrong.shared = shared;
  EXPECT_THAT(coded.Error(wrong), testing::HasSubstr("not finite"));
  // 2^22 columns of rank 2 are more than are allowed.
  shared = {2, 0x80, 0x80, 0x80, 0x02};
  wrong.shared = shared;
  EXPECT_THAT(coded.Error(wrong), testing::HasSubstr("columns of rank"));
  shared = {0, 200, 1};
  wrong.shared = shared;
  EXPECT_THAT(coded.Error(wrong), testing::HasSubstr("columns of rank"));
}

TEST(SumTest, FormulasThatMeanNothing) {
  Formula good;
  good.terms = {{0, 1}, {1, 0.5}};
  good.product = ProductKind::kReferences;
  good.a = 2;
  good.b = 3;
  const auto parse = [](const Bytes& bytes) {
    ByteReader reader(bytes);
    return std::string(sum_format::ParseFormula(reader).status().message());
  };
  Buffer buffer;
  sum_format::WriteFormula(good, &buffer);
  const Bytes bytes(buffer.begin(), buffer.end());
  ASSERT_EQ(parse(bytes), "");
  const auto with = [&](size_t at, uint8_t value) {
    Bytes changed = bytes;
    changed[at] = value;
    return parse(changed);
  };
  EXPECT_THAT(with(0, 3), testing::HasSubstr("unknown type"));
  EXPECT_THAT(with(1, 3), testing::HasSubstr("unknown method"));
  EXPECT_THAT(with(2, 4), testing::HasSubstr("unknown rounding"));
  EXPECT_THAT(with(3, 5), testing::HasSubstr("number of bases"));
  EXPECT_THAT(with(3, 0), testing::HasSubstr("sum of nothing"));
  EXPECT_THAT(with(4, 4), testing::HasSubstr("unknown reference"));
  // A coefficient that is not finite.
  Bytes changed = bytes;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  std::memcpy(&changed[5], &nan, sizeof nan);
  EXPECT_THAT(parse(changed), testing::HasSubstr("not finite"));
  EXPECT_THAT(with(22, 2), testing::HasSubstr("unknown kind of noise"));
  EXPECT_THAT(with(24, 3), testing::HasSubstr("unknown product"));
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_NE(parse({bytes.begin(), bytes.begin() + static_cast<int>(size)}),
              "");
  }
}

TEST(SumTest, FactorsOfWrongSizes) {
  const Input input = PutBeside(Beside::kFactors, DType::kF32,
                                MakeInput(Kind::kGaussian, DType::kF32, 6000));
  const EncodeRequest request = input.Request(24000, 3);
  Scratch scratch;
  const auto frame = EncodeFrame(*FindEncoder(kSum), request, scratch);
  ASSERT_TRUE(frame && frame->blocks[0]);
  const Context context(request, input.data, frame->shared);
  const auto error = [&](const Context& with) {
    absl::Status why;
    DecodeBlock(*FindDecoder(kSum), frame->params, with.get(),
                *frame->blocks[0], input.data.size(), &why);
    return std::string(why.message());
  };
  ASSERT_EQ(error(context), "");
  for (const size_t factor : {1, 2}) {
    Context wrong = context;
    Reference& reference = wrong.references[factor];
    ASSERT_EQ(reference.role, Role::kFactor);
    for (const uint64_t row : {uint64_t{0}, uint64_t{1}, UINT64_MAX}) {
      reference.row = row;
      EXPECT_NE(error(wrong), "");
    }
    reference = context.references[factor];
    reference.data = reference.data.first(reference.data.size() - 4);
    EXPECT_NE(error(wrong), "");
    reference.data = {};
    EXPECT_NE(error(wrong), "");
  }
}

}  // namespace
}  // namespace zipllm::codecs
