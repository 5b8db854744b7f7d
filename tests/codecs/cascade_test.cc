// Codec cascade against its spec page: coded bytes written by hand and damaged
// with aim, every value of 16 bits, groups of every mode.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "codecs/coding.h"
#include "codecs/generators.h"

namespace zipllm::codecs {
namespace {

using testing::HasSubstr;

constexpr CodecId kCascade = 7;
constexpr int kLevel = 1;
constexpr DType kTypes[] = {DType::kBF16, DType::kF16, DType::kF32};
constexpr size_t kGroup = 128;

void Append16(Bytes* bytes, uint32_t value) {
  bytes->push_back(static_cast<uint8_t>(value));
  bytes->push_back(static_cast<uint8_t>(value >> 8));
}

void Append(Bytes* bytes, const Bytes& more) {
  bytes->insert(bytes->end(), more.begin(), more.end());
}

/// Codes as one block and decodes; the coded size, or nullopt if not coded.
std::optional<size_t> RoundTrip(const Bytes& data, DType dtype) {
  const EncodeRequest request = {data, data.size(), dtype, kLevel};
  if (CheckRoundTrip(kCascade, request) == 0) return std::nullopt;
  Scratch scratch;
  const auto frame = EncodeFrame(*FindEncoder(kCascade), request, scratch);
  return frame->params.size() + frame->blocks[0]->size();
}

// ---- The spec's example and aimed damage ----

Bytes ExampleParams() { return {0x01, 0x01, 0x01, 0x7F}; }

/// The parts of a block of one group and one layer.
struct Parts {
  Bytes head = {0x09, 0x01};
  Bytes codes = Bytes(16);
  Bytes raw = {0x7E};
  Bytes rests = Bytes(kGroup);
  Bytes low;

  Parts() {
    codes[0] = 1;
    rests[1] = 1;
  }
  Bytes Joined() const {
    Bytes block = head;
    for (const Bytes* part : {&codes, &raw, &rests, &low}) {
      Append(&block, *part);
    }
    return block;
  }
};

std::string Refusal(const Bytes& params, const Bytes& coded, size_t size) {
  absl::Status why;
  EXPECT_EQ(DecodeBlock(*FindDecoder(kCascade), params, coded, size, &why),
            std::nullopt);
  EXPECT_EQ(why.code(), absl::StatusCode::kDataLoss);
  return std::string(why.message());
}

void ExpectRefusedParams(const Bytes& params, const std::string& message) {
  const auto parsed = FindDecoder(kCascade)->parse(params);
  ASSERT_FALSE(parsed.ok()) << "expected: " << message;
  EXPECT_EQ(parsed.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(parsed.status().message()), HasSubstr(message));
}

TEST(CascadeSpecTest, Example) {
  EXPECT_EQ(
      DecodeBlock(*FindDecoder(kCascade), ExampleParams(), Parts().Joined(), 8),
      (Bytes{0x00, 0x3F, 0x80, 0xBF, 0x80, 0x3F, 0x80, 0x3F}));
}

TEST(CascadeSpecTest, LayersBelowTakeWhatEscapes) {
  // Codes of 2 bits, then of 4: elements 0, 32, 64 and 96 are in byte 0.
  const Bytes params = {1, 2, 2, 127, 126, 125, 4,  1,  2,  3,  4,
                        5, 6, 7, 8,   9,   10,  11, 12, 13, 14, 15};
  Bytes block = {0x09, 1, 1};
  Bytes first(32, 0), second(64, 0);
  first[0] = 0b11'10'01'11;  // 0 escapes, 32: 126, 64: 125, 96 escapes
  first[1] = 0b00'00'00'11;  // 1 escapes
  second[0] = 0x04;          // element 0 is 5
  second[1] = 0x0F;          // element 1 escapes
  second[2] = 0x0E;          // element 96 is 15
  Append(&block, first);
  Append(&block, second);
  block.push_back(200);
  Append(&block, Bytes(kGroup, 0));
  const auto decoded =
      DecodeBlock(*FindDecoder(kCascade), params, block, 2 * kGroup);
  ASSERT_TRUE(decoded.has_value());
  std::array<uint16_t, kGroup> values;
  std::memcpy(values.data(), decoded->data(), decoded->size());
  for (size_t i = 0; i < kGroup; ++i) {
    const int exponent = i == 0    ? 5
                         : i == 1  ? 200
                         : i == 32 ? 126
                         : i == 64 ? 125
                         : i == 96 ? 15
                                   : 127;
    EXPECT_EQ(values[i], exponent << 7) << i;
  }
}

TEST(CascadeSpecTest, LowBitsOfEachMode) {
  const Bytes params = {0x03, 0x01, 0x01, 0x7F};
  const auto decode = [&](uint8_t mode, const Bytes& low) {
    Parts parts;
    parts.head = {static_cast<uint8_t>(8 | mode), 0};
    parts.codes.assign(16, 0);
    parts.raw.clear();
    parts.rests[1] = 0;
    parts.low = low;
    return DecodeBlock(*FindDecoder(kCascade), params, parts.Joined(), 8);
  };
  EXPECT_EQ(decode(1, {}), (Bytes{0, 0, 0x80, 0x3F, 0, 0, 0x80, 0x3F}));
  Bytes planes(48);
  planes[0] = 2;   // bit 13 of element 1
  planes[32] = 1;  // bit 15 of element 0
  EXPECT_EQ(decode(2, planes),
            (Bytes{0, 0x80, 0x80, 0x3F, 0, 0x20, 0x80, 0x3F}));
  Bytes all(256);
  all[2] = 5;
  EXPECT_EQ(decode(3, all), (Bytes{0, 0, 0x80, 0x3F, 5, 0, 0x80, 0x3F}));
  EXPECT_EQ(decode(4, {2, 0, 3, 4, 127, 1, 1}),
            (Bytes{3, 4, 0x80, 0x3F, 0, 0, 0x80, 0x3F}));
  EXPECT_EQ(DecodeBlock(*FindDecoder(kCascade), params, Bytes{0x08, 0}, 8),
            Bytes(8, 0));
}

TEST(CascadeSpecTest, RefusesWrongParameters) {
  ExpectRefusedParams({}, "ends early");
  ExpectRefusedParams({0}, "kind");
  ExpectRefusedParams({4}, "kind");
  ExpectRefusedParams({1, 0}, "0 layers");
  ExpectRefusedParams({1, 9}, "9 layers");
  ExpectRefusedParams({1, 1, 3}, "3 bits");
  ExpectRefusedParams({1, 1, 2, 0, 0}, "ends early");
  ExpectRefusedParams({2, 1, 1, 32}, "exponent 32");
  ExpectRefusedParams({1, 1, 1, 0, 0}, "byte 4");
}

TEST(CascadeSpecTest, RefusesWrongBlocks) {
  const Bytes params = ExampleParams();
  const auto message = [&](const Parts& parts, size_t size = 8) {
    return Refusal(params, parts.Joined(), size);
  };
  EXPECT_THAT(message(Parts(), 7), HasSubstr("whole"));
  Parts parts;
  parts.head[0] = 0x01;
  EXPECT_THAT(message(parts), HasSubstr("run of 0 groups"));
  parts.head[0] = 0x11;
  EXPECT_THAT(message(parts), HasSubstr("run of 2 groups where 1"));
  for (const int mode : {2, 3, 4, 5, 7}) {
    parts.head[0] = static_cast<uint8_t>(8 | mode);
    EXPECT_THAT(message(parts), HasSubstr("mode"));
  }
  parts = Parts();
  parts.head[1] = 2;
  parts.raw.push_back(0);
  EXPECT_THAT(message(parts), HasSubstr("1 elements escape from layer 1"));
  parts = Parts();
  parts.head[1] = 0;
  parts.raw.clear();
  EXPECT_THAT(message(parts), HasSubstr("1 elements escape from layer 1"));
  parts = Parts();
  parts.low = {0};
  EXPECT_THAT(message(parts), HasSubstr("byte 147"));
  parts = Parts();
  parts.rests.pop_back();
  EXPECT_THAT(message(parts), HasSubstr("ends early"));
  EXPECT_THAT(std::string(FindDecoder(kCascade)
                              ->decode(nullptr, Parts().Joined(),
                                       Exact(8).mutable_span(),
                                       *std::make_unique<Scratch>())
                              .message()),
              HasSubstr("no parameters"));
}

TEST(CascadeSpecTest, RefusesWrongLowBits) {
  const Bytes params = {0x02, 0x01, 0x01, 0x0F};
  Parts parts;
  parts.head[0] = 0x0C;
  parts.raw[0] = 31;
  const auto with = [&](const Bytes& low) {
    parts.low = low;
    return parts.Joined();
  };
  EXPECT_TRUE(
      DecodeBlock(*FindDecoder(kCascade), params, with({2, 0, 7, 127, 1}), 256)
          .has_value());
  EXPECT_THAT(Refusal(params, with({1, 0, 8}), 256), HasSubstr("low bits 8"));
  EXPECT_THAT(Refusal(params, with({1, 128, 1}), 256),
              HasSubstr("element 128"));
  EXPECT_THAT(Refusal(params, with({2, 3, 1, 3, 1}), 256),
              HasSubstr("after element 3"));
  EXPECT_THAT(Refusal(params, with({2, 3, 1}), 256), HasSubstr("ends early"));
  parts.raw[0] = 32;
  EXPECT_THAT(Refusal(params, with({0}), 256), HasSubstr("exponent 32"));
}

// ---- Values and sizes ----

TEST(CascadeTest, OnlyAtItsLevel) {
  const Bytes data = MakeInput(Kind::kGaussian, DType::kBF16, 10000);
  Scratch scratch;
  for (int level = 1; level <= 9; ++level) {
    EXPECT_EQ(FindEncoder(kCascade)->plan(
                  {data, data.size(), DType::kBF16, level}, scratch) != nullptr,
              level == kLevel);
  }
}

TEST(CascadeTest, EveryValueAmongWeights) {
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    Bytes data = MakeInput(Kind::kGaussian, dtype, 300000);
    for (uint32_t v = 0; v < 65536; ++v) Append16(&data, v);
    EXPECT_TRUE(RoundTrip(data, dtype).has_value());
  }
  Bytes data = MakeInput(Kind::kGaussian, DType::kF32, 300000);
  for (uint32_t v = 0; v < 65536; ++v) {
    Append16(&data, v * 40503);
    Append16(&data, v);
  }
  EXPECT_TRUE(RoundTrip(data, DType::kF32).has_value());
}

TEST(CascadeTest, PlanMadeForOtherValues) {
  // Whatever a block holds, a plan for something else codes it or says no.
  const Bytes constant(8192, 0x3F);
  for (const DType dtype : kTypes) {
    Scratch scratch;
    const auto plan =
        FindEncoder(kCascade)->plan({constant, 4096, dtype, kLevel}, scratch);
    ASSERT_NE(plan, nullptr);
    const auto params =
        std::move(FindDecoder(kCascade)->parse(plan->params())).value();
    for (const Kind kind : kKinds) {
      const Bytes block = MakeInput(kind, dtype, 4096 / ElementBytes(dtype));
      Buffer coded;
      if (!plan->Encode(block, scratch, &coded)) continue;
      Exact out(block.size());
      const absl::Status status = FindDecoder(kCascade)->decode(
          params.get(), coded.span(), out.mutable_span(), scratch);
      ASSERT_TRUE(status.ok()) << status.message();
      EXPECT_TRUE(std::ranges::equal(out.span(), block));
    }
  }
}

TEST(CascadeTest, SizesUpTo4100) {
  for (const DType dtype : kTypes) {
    const Bytes all = MakeInput(Kind::kGaussian, dtype, 4100);
    size_t coded = 0;
    for (size_t n = 1; n <= 4100; n += n < 300 ? 1 : 37) {
      const size_t size = n * ElementBytes(dtype);
      coded +=
          RoundTrip(Bytes(all.begin(), all.begin() + size), dtype).has_value();
    }
    EXPECT_GT(coded, 100u);
  }
}

TEST(CascadeTest, ExponentsNearTheEntropy) {
  // Geometric: 2 bits an exponent, which codes of 1 bit with escapes reach.
  Bytes data;
  Random random(5);
  for (int i = 0; i < 100000; ++i) {
    const uint64_t bits = random.Next();
    const auto exponent = static_cast<uint32_t>(std::countl_zero(bits | 1) * 4);
    Append16(&data, exponent << 7 | (bits & 0x807F));
  }
  const auto coded = RoundTrip(data, DType::kBF16);
  ASSERT_TRUE(coded.has_value());
  EXPECT_LT(*coded, data.size() * 10 / 16 * 101 / 100 + 300);
}

TEST(CascadeTest, EqualExponentsTakeCodesOfFourBits) {
  Bytes data;
  Random random(6);
  for (int i = 0; i < 50000; ++i) {
    const uint64_t bits = random.Next();
    const auto exponent = static_cast<uint32_t>(100 + random.Below(15));
    Append16(&data, exponent << 7 | (bits & 0x807F));
  }
  const auto coded = RoundTrip(data, DType::kBF16);
  ASSERT_TRUE(coded.has_value());
  EXPECT_LT(*coded, data.size() * 12 / 16 + 200);
}

// ---- What groups are for ----

TEST(CascadeTest, UpcastsTakeNoMoreThanTheirSource) {
  const Bytes bf16 = MakeInput(Kind::kGaussian, DType::kBF16, 100000);
  const auto narrow = RoundTrip(bf16, DType::kBF16);
  Bytes fp32;
  for (size_t i = 0; i < bf16.size(); i += 2) {
    fp32.insert(fp32.end(), {0, 0, bf16[i], bf16[i + 1]});
  }
  const auto wide = RoundTrip(fp32, DType::kF32);
  ASSERT_TRUE(narrow && wide);
  EXPECT_LE(*wide, *narrow + 16);
}

TEST(CascadeTest, ExceptionsCostLittle) {
  // FP16 whose last three bits are 0 but for one element in 500.
  Bytes data = MakeInput(Kind::kGaussian, DType::kF16, 100000);
  for (size_t i = 0; i < data.size(); i += 2) data[i] &= 0xF8;
  const auto none = RoundTrip(data, DType::kF16);
  for (size_t i = 0; i < data.size(); i += 1000) data[i] |= 1;
  const auto few = RoundTrip(data, DType::kF16);
  ASSERT_TRUE(none && few);
  EXPECT_GT(*few, *none);
  EXPECT_LT(*few, *none + 200 * 5 + 8);
}

TEST(CascadeTest, RowsOfZerosAreFree) {
  const size_t row = 384;
  for (const DType dtype : kTypes) {
    const size_t bytes = row * ElementBytes(dtype);
    const Bytes some = MakeInput(Kind::kGaussian, dtype, row * 100);
    Bytes data(3 * some.size());
    for (size_t r = 0; r < 100; ++r) {
      std::copy_n(some.begin() + r * bytes, bytes,
                  data.begin() + 3 * r * bytes);
    }
    const auto alone = RoundTrip(some, dtype);
    const auto among = RoundTrip(data, dtype);
    ASSERT_TRUE(alone && among);
    EXPECT_LT(*among, *alone + 100 * 3);
  }
}

TEST(CascadeTest, RandomBitsHaveNoPlan) {
  for (const DType dtype : kTypes) {
    const Bytes data = MakeInput(Kind::kRandom, dtype, 70000);
    Scratch scratch;
    EXPECT_EQ(FindEncoder(kCascade)->plan({data, data.size(), dtype, kLevel},
                                          scratch),
              nullptr);
  }
}

TEST(CascadeTest, EstimateIsClose) {
  for (const DType dtype : kTypes) {
    const Bytes data = MakeInput(Kind::kGaussian, dtype, 500000);
    const size_t block = 100000 * ElementBytes(dtype);
    Scratch scratch;
    const auto frame = EncodeFrame(*FindEncoder(kCascade),
                                   {data, block, dtype, kLevel}, scratch);
    ASSERT_TRUE(frame.has_value());
    size_t coded = 0;
    for (const auto& bytes : frame->blocks) coded += bytes.value().size();
    EXPECT_LT(frame->estimate, coded * 101 / 100);
    EXPECT_GT(frame->estimate, coded * 99 / 100);
  }
}

}  // namespace
}  // namespace zipllm::codecs
