// Codec mixdelta: what it learns of steps, types on both sides, damage with
// aim.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cstring>

#include "codecs/coding.h"
#include "codecs/generators.h"

namespace zipllm::codecs {
namespace {

using testing::HasSubstr;

constexpr CodecId kDelta = 15;
constexpr CodecId kMixdelta = 18;

/// An array beside another.
struct Pair {
  DType dtype;
  Bytes data;
  DType base_dtype;
  Bytes base;
  uint64_t row;
};

Bytes BytesOf(const std::vector<float>& values, DType dtype) {
  Bytes bytes;
  for (const float value : values) {
    const auto bits = std::bit_cast<uint32_t>(value);
    const int size = dtype == DType::kF32 ? 4 : 2;
    for (int i = 4 - size; i < 4; ++i) {
      bytes.push_back(static_cast<uint8_t>(bits >> (8 * i)));
    }
  }
  return bytes;
}

/// Of about unit size.
float Normal(Random& random) {
  int64_t sum = 0;
  for (int i = 0; i < 12; ++i) sum += static_cast<int64_t>(random.Below(2001));
  return static_cast<float>(sum - 12000) / 2000;
}

/// `rows` x `row` weights, and where steps have brought them: a * (a vector by
/// row times one by column) + b * (noise) - c * (the weight).
Pair Steps(DType dtype, size_t rows, size_t row, float a, float b, float c) {
  Random random(1);
  std::vector<float> by_row(rows), by_column(row), before, after;
  for (float& x : by_row) x = Normal(random);
  for (float& x : by_column) x = Normal(random);
  for (size_t i = 0; i < rows * row; ++i) {
    before.push_back(Normal(random) / 16);
    after.push_back(before[i] + a * by_row[i / row] * by_column[i % row] +
                    b * Normal(random) - c * before[i]);
  }
  return {dtype, BytesOf(after, dtype), dtype, BytesOf(before, dtype), row};
}

/// What one block takes by a codec, having been decoded again.
size_t CodedSize(const Pair& pair, CodecId id) {
  const Reference base = {Role::kBase, pair.base_dtype, pair.base};
  const EncodeRequest request = {.data = pair.data,
                                 .block_size = pair.data.size(),
                                 .dtype = pair.dtype,
                                 .level = 9,
                                 .row = pair.row,
                                 .references = {&base, 1}};
  Scratch scratch;
  const auto plan = FindEncoder(id)->plan(request, scratch);
  if (plan == nullptr) return pair.data.size();
  Buffer coded;
  if (!plan->Encode(pair.data, scratch, &coded)) return pair.data.size();
  const auto decoded = DecodeBlock(
      *FindDecoder(id), plan->params(),
      {.references = {&base, 1}, .row = pair.row, .position = 0, .shared = {}},
      coded.span(), pair.data.size());
  EXPECT_TRUE(decoded.has_value() && *decoded == pair.data);
  return coded.size() + plan->params().size();
}

TEST(MixdeltaTest, LearnsWhatRowsHaveInCommon) {
  // A step of rank one is far from the noise that is in it.
  for (const DType dtype : {DType::kBF16, DType::kF32}) {
    const Pair steps = Steps(dtype, 300, 100, 1e-3f, 1e-4f, 0);
    const size_t bits = 8 * CodedSize(steps, kMixdelta);
    EXPECT_LT(bits + 30000, 8 * CodedSize(steps, kDelta))
        << FindDType(dtype)->name;
  }
}

TEST(MixdeltaTest, LearnsWeightDecay) {
  // What differs is the last bits of products.
  const Pair steps = Steps(DType::kF32, 300, 100, 0, 0, 3e-4f);
  EXPECT_LT(CodedSize(steps, kMixdelta), 300 * 100 * 4 / 8);
}

TEST(MixdeltaTest, RoundTripsEveryTypeBesideEveryOther) {
  constexpr DType kTypes[] = {DType::kBF16, DType::kF16, DType::kF32,
                              DType::kF8E4M3, DType::kF8E5M2};
  for (const DType dtype : kTypes) {
    for (const DType base_dtype : kTypes) {
      for (const Kind kind : kKinds) {
        for (const size_t elements : {1, 17, 5000}) {
          for (const uint64_t row : {0, 1, 40, 5001}) {
            SCOPED_TRACE(testing::Message()
                         << FindDType(dtype)->name << " beside "
                         << FindDType(base_dtype)->name << " " << KindName(kind)
                         << " " << elements << " " << row);
            if (elements == 5000 && row != 40) continue;
            CodedSize({dtype, MakeInput(kind, dtype, elements), base_dtype,
                       MakeInput(Kind::kSpecial, base_dtype, elements), row},
                      kMixdelta);
          }
        }
      }
    }
  }
}

TEST(MixdeltaTest, RefusesWrongParametersAndBases) {
  const Decoder& decoder = *FindDecoder(kMixdelta);
  const auto why_not = [&](Bytes params) {
    return std::string(decoder.parse(params).status().message());
  };
  const auto bf16 = static_cast<uint8_t>(DType::kBF16);
  EXPECT_TRUE(decoder.parse(Bytes{bf16, 0, 4, 0xff, 0xff}).ok());
  EXPECT_THAT(why_not({static_cast<uint8_t>(DType::kI8), 0, 4, 0, 0}),
              HasSubstr("elements of type"));
  EXPECT_THAT(why_not({static_cast<uint8_t>(DType::kF64), 0, 4, 0, 0}),
              HasSubstr("elements of type"));
  EXPECT_THAT(why_not({bf16, 2, 4, 0, 0}), HasSubstr("flag 2"));
  EXPECT_THAT(why_not({bf16, 0, 4, 0, 4}), HasSubstr("unit exponent 1024"));
  EXPECT_THAT(why_not({bf16, 0, 4, 0}), HasSubstr("mixdelta parameters"));
  EXPECT_FALSE(decoder.parse(Bytes{bf16, 0, 4, 0, 0, 0}).ok());

  const Bytes params = {bf16, 0, 4, 0, 0};
  const Bytes coded = {1, 0};
  const Bytes base(200);
  const auto refused = [&](Role role, DType dtype, size_t size) {
    const Reference reference = {role, dtype, ByteSpan(base).first(size)};
    absl::Status why;
    EXPECT_FALSE(DecodeBlock(decoder, params,
                             {.references = {&reference, 1},
                              .row = 0,
                              .position = 0,
                              .shared = {}},
                             coded, 40, &why)
                     .has_value());
    return std::string(why.message());
  };
  EXPECT_THAT(refused(Role::kBase, DType::kBF16, 38), HasSubstr("no base"));
  EXPECT_THAT(refused(Role::kBase, DType::kF64, 160), HasSubstr("no base"));
  EXPECT_THAT(refused(Role::kFirstMoment, DType::kBF16, 40),
              HasSubstr("no base"));
}

TEST(MixdeltaTest, OffersNothingWhereNothingGoesOrAtLowerLevels) {
  const Bytes data = MakeInput(Kind::kGaussian, DType::kBF16, 5000);
  const Bytes other = MakeInput(Kind::kGaussian, DType::kBF16, 5000, 2);
  Scratch scratch;
  for (const bool equal : {false, true}) {
    for (const int level : {8, 9}) {
      const Reference base = {Role::kBase, DType::kBF16, equal ? data : other};
      const EncodeRequest request = {.data = data,
                                     .block_size = data.size(),
                                     .dtype = DType::kBF16,
                                     .level = level,
                                     .references = {&base, 1}};
      EXPECT_EQ(FindEncoder(kMixdelta)->plan(request, scratch) != nullptr,
                !equal && level == 9);
    }
  }
}

}  // namespace
}  // namespace zipllm::codecs
