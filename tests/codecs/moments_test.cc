// What codec 17 promises beyond what all codecs do (registry_test.cc).
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>

#include "codecs/coding.h"
#include "codecs/generators.h"

namespace zipllm::codecs {
namespace {

constexpr CodecId kMoments = 17;
constexpr size_t kRows = 192;
constexpr size_t kColumns = 160;
constexpr size_t kCount = kRows * kColumns;

using Floats = std::vector<float>;

ByteSpan BytesOf(const Floats& floats) {
  return {reinterpret_cast<const uint8_t*>(floats.data()), 4 * floats.size()};
}
Reference Beside(Role role, const Floats& floats) {
  return {role, DType::kF32, BytesOf(floats), 0};
}

/// Between -1 and 1, about normal.
double Noise(Random& random) {
  double sum = 0;
  for (int i = 0; i < 4; ++i) sum += static_cast<double>(random.Below(1 << 20));
  return sum / (1 << 21) - 1;
}

/// What training a matrix by Adam makes. Gradients are sums of two products of
/// a row vector and a column vector.
struct Run {
  explicit Run(uint64_t seed) : random(seed) {
    for (float& w : weights) w = static_cast<float>(Noise(random));
  }
  void Train(int steps) {
    std::vector<double> left(2 * kRows), right(2 * kColumns);
    for (int step = 0; step < steps; ++step) {
      for (double& x : left) x = Noise(random);
      for (double& x : right) x = Noise(random);
      for (size_t i = 0; i < kCount; ++i) {
        const size_t r = i / kColumns, c = i % kColumns;
        const double scale = std::ldexp(1.0, static_cast<int>(r % 5 + c % 3));
        const double gradient =
            scale *
                (left[r] * right[c] + left[kRows + r] * right[kColumns + c]) +
            1e-3 * scale * Noise(random);
        first[i] = static_cast<float>(0.9 * first[i] + 0.1 * gradient);
        second[i] =
            static_cast<float>(0.999 * second[i] + 0.001 * gradient * gradient);
        weights[i] -=
            static_cast<float>(1e-3 * first[i] / (std::sqrt(second[i]) + 1e-8));
      }
    }
  }
  Random random;
  Floats weights = Floats(kCount);
  Floats first = Floats(kCount);
  Floats second = Floats(kCount);
};

struct Checkpoints {
  Run before{1};
  Run after{1};
  Checkpoints() {
    before.Train(20);
    after = before;
    after.Train(10);
  }
  std::vector<Reference> OfSecond() const {
    return {Beside(Role::kBase, before.second)};
  }
  std::vector<Reference> OfFirst() const {
    return {Beside(Role::kSecondMoment, after.second),
            Beside(Role::kBase, before.first),
            Beside(Role::kBaseSecondMoment, before.second)};
  }
  std::vector<Reference> OfWeights() const {
    return {Beside(Role::kBase, before.weights),
            Beside(Role::kFirstMoment, after.first),
            Beside(Role::kSecondMoment, after.second),
            Beside(Role::kBaseFirstMoment, before.first)};
  }
};

EncodeRequest Request(ByteSpan data, std::span<const Reference> references,
                      int level, DType dtype = DType::kF32) {
  return {.data = data,
          .block_size = size_t{1} << 20,
          .dtype = dtype,
          .level = level,
          .row = kColumns,
          .references = references};
}

/// Bits an element, or 1000 where the codec declines. What was coded is
/// decoded and compared.
double BitsOf(const EncodeRequest& request) {
  Scratch scratch;
  const auto frame = EncodeFrame(*FindEncoder(kMoments), request, scratch);
  if (!frame.has_value()) return 1000;
  EXPECT_EQ(CheckRoundTrip(kMoments, request), frame->blocks.size());
  size_t bytes = frame->params.size();
  for (const auto& block : frame->blocks) bytes += block->size();
  return 8.0 * static_cast<double>(bytes) /
         static_cast<double>(request.data.size() / 4);
}

// An FP32 whose logarithm is evenly spread over an octave takes 23 bits, and a
// normal one whose deviation is known 26.46 (entropy 2.05 + log2 of the
// deviation in units of the last place, which is 24.4 on average).
TEST(Moments, CodesWhatTrainingLeavesToSay) {
  const Checkpoints run;
  // A third is new, and not less than 0.
  EXPECT_LT(BitsOf(Request(BytesOf(run.after.second), run.OfSecond(), 3)),
            22.5);
  // Thirty gradients of rank two, of which a few count.
  EXPECT_LT(BitsOf(Request(BytesOf(run.after.first), run.OfFirst(), 3)), 25.46);
  // Ten steps of 1e-3 from weights of 0.3 would take 26.46 - 5.
  EXPECT_LT(BitsOf(Request(BytesOf(run.after.weights), run.OfWeights(), 3)),
            20.46);
}

TEST(Moments, SlowerLevelsAreSmaller) {
  const Checkpoints run;
  const auto all = [&](int level) {
    return BitsOf(Request(BytesOf(run.after.second), run.OfSecond(), level)) +
           BitsOf(Request(BytesOf(run.after.first), run.OfFirst(), level)) +
           BitsOf(Request(BytesOf(run.after.weights), run.OfWeights(), level));
  };
  const double fast = all(1), usual = all(3), best = all(9);
  EXPECT_LT(fast, 3 * 26);
  EXPECT_LT(usual, fast);
  EXPECT_LT(best, usual);
}

TEST(Moments, EveryReferenceMayLack) {
  const Checkpoints run;
  const std::vector<Reference> all = run.OfWeights();
  for (const int level : {1, 3, 9}) {
    for (unsigned which = 1; which < 16; ++which) {
      std::vector<Reference> some;
      for (size_t k = 0; k < all.size(); ++k) {
        if ((which >> k & 1) != 0) {
          some.push_back(all[k]);
          some.back().data = some.back().data.first(4 * 2000);
        }
      }
      Scratch scratch;
      const EncodeRequest request =
          Request(BytesOf(run.after.weights).first(4 * 2000), some, level);
      if (EncodeFrame(*FindEncoder(kMoments), request, scratch).has_value()) {
        EXPECT_GT(CheckRoundTrip(kMoments, request), 0u) << level << which;
      }
    }
  }
}

// Blocks that begin within a row, and tensors whose rows are longer than they.
TEST(Moments, BlocksAnywhere) {
  const Checkpoints run;
  const std::vector<Reference> all = run.OfFirst();
  for (const int level : {1, 3, 9}) {
    for (const uint64_t row : {0, 1, 7, 160, 100000}) {
      std::vector<Reference> part = all;
      constexpr size_t kBegin = 333, kPart = 5000;
      for (Reference& reference : part) {
        reference.data = reference.data.subspan(4 * kBegin, 4 * kPart);
      }
      EncodeRequest request = Request(
          BytesOf(run.after.first).subspan(4 * kBegin, 4 * kPart), part, level);
      request.row = row;
      request.position = kBegin;
      request.block_size = 4 * 1024;
      EXPECT_EQ(CheckRoundTrip(kMoments, request), 5u) << level << " " << row;
    }
  }
}

TEST(Moments, AnyBitsInElementsAndReferences) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    for (const Kind kind : kKinds) {
      const size_t n = 600;
      const Bytes data = MakeInput(kind, dtype, n, 1);
      for (const Kind beside : {Kind::kSpecial, Kind::kRandom, kind}) {
        const Bytes a = MakeInput(beside, dtype, n, 2);
        const Bytes b = MakeInput(beside, DType::kF32, n, 3);
        const std::vector<Reference> references = {
            {Role::kBase, dtype, a, 0},
            {Role::kSecondMoment, DType::kF32, b, 0},
            {Role::kFirstMoment, dtype, a, 0},
            {Role::kBaseSecondMoment, DType::kF32, b, 0}};
        for (const int level : {1, 3, 9}) {
          EncodeRequest request = Request(data, references, level, dtype);
          request.row = 60;
          CheckRoundTrip(kMoments, request);
        }
      }
    }
  }
}

// Rows that got no gradients: moments decay, weights stay.
TEST(Moments, UntouchedElementsCostLittle) {
  Checkpoints run;
  Floats& squares = run.after.second;
  for (size_t i = 0; i < kCount; ++i) {
    squares[i] = run.before.second[i];
    if (i / kColumns % 8 == 0) squares[i] *= 1.0f + 0.01f * float(i % 7);
    for (int step = 0; step < 10; ++step) squares[i] *= 0.999f;
  }
  // One element in eight has about 18 bits; the rounding of ten steps is left
  // of the others.
  EXPECT_LT(BitsOf(Request(BytesOf(squares), run.OfSecond(), 3)), 18 / 8 + 5);
}

TEST(Moments, ABaseThatIsNearIsLeftToOthersAtLevel3) {
  const Checkpoints run;
  const std::vector<Reference> base = {Beside(Role::kBase, run.before.weights)};
  Scratch scratch;
  const EncodeRequest request = Request(BytesOf(run.after.weights), base, 3);
  EXPECT_FALSE(
      EncodeFrame(*FindEncoder(kMoments), request, scratch).has_value());
}

TEST(Moments, WrongParametersAreRefused) {
  const Checkpoints run;
  const std::vector<Reference> beside = run.OfFirst();
  for (const int level : {1, 3}) {
    Scratch scratch;
    const EncodeRequest request =
        Request(BytesOf(run.after.first), beside, level);
    const auto frame = EncodeFrame(*FindEncoder(kMoments), request, scratch);
    ASSERT_TRUE(frame.has_value());
    const Decoder& decoder = *FindDecoder(kMoments);
    const auto refused = [&](size_t at, uint8_t value) {
      Bytes params = frame->params;
      params.at(at) = value;
      return !decoder.parse(params).ok();
    };
    EXPECT_TRUE(refused(0, 0));
    EXPECT_TRUE(refused(0, 4));
    EXPECT_TRUE(refused(1, 2));
    EXPECT_TRUE(refused(2, 3));
    Bytes longer = frame->params;
    longer.push_back(0);
    EXPECT_FALSE(decoder.parse(longer).ok());
    longer.resize(longer.size() - 2);
    EXPECT_FALSE(decoder.parse(longer).ok());
  }
}

TEST(Moments, CodeThatIsTooLongOrTooShortIsRefused) {
  const Checkpoints run;
  const std::vector<Reference> beside = run.OfFirst();
  for (const int level : {1, 3, 9}) {
    Scratch scratch;
    const EncodeRequest request =
        Request(BytesOf(run.after.first), beside, level);
    const auto frame = EncodeFrame(*FindEncoder(kMoments), request, scratch);
    ASSERT_TRUE(frame.has_value());
    const Context context(request, request.data);
    Bytes coded = *frame->blocks[0];
    coded.push_back(0);
    EXPECT_FALSE(DecodeBlock(*FindDecoder(kMoments), frame->params,
                             context.get(), coded, request.data.size())
                     .has_value());
    coded.resize(coded.size() - 2);
    EXPECT_FALSE(DecodeBlock(*FindDecoder(kMoments), frame->params,
                             context.get(), coded, request.data.size())
                     .has_value());
  }
}

}  // namespace
}  // namespace zipllm::codecs
