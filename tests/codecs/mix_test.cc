// Codec mix: the shapes of tensors, values of all kinds, damage with aim.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "codecs/coding.h"
#include "codecs/generators.h"
#include "kernels/kernels.h"

namespace zipllm::codecs {
namespace {

using testing::HasSubstr;

constexpr CodecId kMix = 10;
constexpr DType kTypes[] = {DType::kBF16,   DType::kF16,    DType::kF32,
                            DType::kF8E4M3, DType::kF8E5M2, DType::kI8};

/// What one block of a tensor with rows takes, having been decoded again.
size_t CodedSize(ByteSpan data, DType dtype, uint64_t row, uint64_t position) {
  const EncodeRequest request = {data, data.size(), dtype, 9, row, position};
  Scratch scratch;
  const auto plan = FindEncoder(kMix)->plan(request, scratch);
  if (plan == nullptr) {
    ADD_FAILURE() << "no plan";
    return 0;
  }
  Buffer coded;
  if (!plan->Encode(data, scratch, &coded)) return data.size();
  EXPECT_EQ(plan->estimate(), coded.size());
  const auto decoded = DecodeBlock(*FindDecoder(kMix), plan->params(),
                                   coded.span(), data.size());
  EXPECT_TRUE(decoded.has_value() && std::ranges::equal(*decoded, data));
  return coded.size();
}

TEST(MixTest, RoundTripsRowsOfAnyLength) {
  const Bytes data = MakeInput(Kind::kGaussian, DType::kBF16, 3000);
  for (const uint64_t row : {1, 2, 7, 50, 54, 55, 1023, 3000, 3001, 100000}) {
    for (const uint64_t position :
         {uint64_t{0}, uint64_t{1}, row - 1, row, uint64_t{1} << 40}) {
      SCOPED_TRACE(testing::Message() << row << " " << position);
      CodedSize(data, DType::kBF16, row, position);
    }
  }
}

TEST(MixTest, RoundTripsEveryType) {
  for (const DType dtype : kTypes) {
    for (const Kind kind : kKinds) {
      for (const size_t elements : {1, 17, 1000}) {
        SCOPED_TRACE(testing::Message() << FindDType(dtype)->name << " "
                                        << KindName(kind) << " " << elements);
        CodedSize(MakeInput(kind, dtype, elements), dtype, 40, 3);
      }
    }
  }
}

TEST(MixTest, RoundTripsGgmlBlocksOfEveryType) {
  for (const DType dtype :
       {DType::kGgmlQ40, DType::kGgmlQ41, DType::kGgmlQ50, DType::kGgmlQ51,
        DType::kGgmlQ80, DType::kGgmlQ81, DType::kGgmlQ2K, DType::kGgmlQ3K,
        DType::kGgmlQ4K, DType::kGgmlQ5K, DType::kGgmlQ6K, DType::kGgmlIQ4NL,
        DType::kGgmlIQ4XS}) {
    const uint64_t count = FindDType(dtype)->block_elements;
    for (const Kind kind :
         {Kind::kRandom, Kind::kGaussian, Kind::kConstant, Kind::kSparse}) {
      SCOPED_TRACE(testing::Message()
                   << FindDType(dtype)->name << " " << KindName(kind));
      const Bytes data = MakeInput(kind, dtype, count == 256 ? 9 : 37);
      CodedSize(data, dtype, 4 * count, 3 * count);
      CodedSize(data, dtype, 20 * count, 0);
      CodedSize(data, dtype, 0, 0);
      CodedSize(data, dtype, 33, 5);  // rows end within blocks
    }
  }
}

TEST(MixTest, RoundTripsEveryValueOf16Bits) {
  Bytes data(2 * 65536);
  for (uint32_t i = 0; i < 65536; ++i) {
    const uint32_t value = i * 40503 % 65536;
    data[2 * i] = static_cast<uint8_t>(value);
    data[2 * i + 1] = static_cast<uint8_t>(value >> 8);
  }
  CodedSize(data, DType::kBF16, 256, 0);
  CodedSize(data, DType::kF16, 256, 0);
}

TEST(MixTest, SavesWhatRowsHaveInCommon) {
  // Each row is a multiple of the same one, and noise: by itself an element
  // looks like any other.
  Random random(9);
  constexpr size_t kRow = 64, kRows = 512;
  Bytes data(2 * kRow * kRows);
  const auto noise = [&](int range) {
    int sum = 0;
    for (int i = 0; i < 4; ++i) {
      sum += static_cast<int>(random.Below(static_cast<size_t>(range)));
    }
    return sum - 2 * range;
  };
  int pattern[kRow];
  for (int& value : pattern) value = noise(100);
  for (size_t r = 0; r < kRows; ++r) {
    const int factor = noise(100);
    for (size_t c = 0; c < kRow; ++c) {
      const auto value =
          static_cast<float>(factor * pattern[c] + noise(200)) / 65536;
      uint32_t bits;
      std::memcpy(&bits, &value, sizeof bits);
      std::memcpy(&data[2 * (r * kRow + c)],
                  reinterpret_cast<const uint8_t*>(&bits) + 2, 2);
    }
  }
  const size_t with_rows = CodedSize(data, DType::kBF16, kRow, 0);
  const size_t without = CodedSize(data, DType::kBF16, 0, 0);
  // More than a bit of 16 an element.
  EXPECT_LT(with_rows + data.size() / 16, without);
}

TEST(MixTest, CastElementsCostNoMoreThanWhatTheyWere) {
  const Bytes narrow = MakeInput(Kind::kGaussian, DType::kBF16, 20000);
  Bytes wide(2 * narrow.size());
  for (size_t i = 0; i < narrow.size(); i += 2) {
    std::memcpy(&wide[2 * i + 2], &narrow[i], 2);
  }
  const size_t before = CodedSize(narrow, DType::kBF16, 100, 0);
  EXPECT_LT(CodedSize(wide, DType::kF32, 100, 0), before + 200);
}

TEST(MixTest, RefusesWrongParameters) {
  const auto refusal = [](const Bytes& params) {
    const auto parsed = FindDecoder(kMix)->parse(params);
    return parsed.ok() ? std::string("none")
                       : std::string(parsed.status().message());
  };
  const Bytes good = {1, 4, 120, 2, 64, 0, 0};
  EXPECT_EQ(refusal(good), "none");
  const auto with = [&](size_t at, uint8_t value) {
    Bytes params = good;
    params[at] = value;
    return refusal(params);
  };
  EXPECT_THAT(with(0, 0), HasSubstr("kind"));
  EXPECT_THAT(with(0, 7), HasSubstr("kind"));
  EXPECT_THAT(with(0, 80), HasSubstr("kind"));  // quants without FP16 scales
  EXPECT_THAT(with(0, 66), HasSubstr("mantissa"));  // Q4_0
  EXPECT_THAT(with(1, 7), HasSubstr("mantissa"));
  EXPECT_THAT(with(5, 2), HasSubstr("zeros"));
  Bytes half = good;
  half[0] = 2;
  EXPECT_THAT(refusal(half), HasSubstr("unit"));
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_NE(refusal(Bytes(good.begin(), good.begin() + size)), "none");
  }
}

TEST(MixTest, RefusesWrongBlocks) {
  const Bytes data = MakeInput(Kind::kGaussian, DType::kBF16, 500);
  const EncodeRequest request = {data, data.size(), DType::kBF16, 9, 20, 5};
  Scratch scratch;
  const auto plan = FindEncoder(kMix)->plan(request, scratch);
  ASSERT_NE(plan, nullptr);
  Buffer coded;
  ASSERT_TRUE(plan->Encode(data, scratch, &coded));
  const Bytes good(coded.begin(), coded.end());
  const auto refusal = [&](const Bytes& block, size_t size) {
    absl::Status why;
    EXPECT_EQ(
        DecodeBlock(*FindDecoder(kMix), plan->params(), block, size, &why),
        std::nullopt);
    return std::string(why.message());
  };
  EXPECT_THAT(refusal(good, 999), HasSubstr("whole elements"));
  Bytes block = good;
  block[0] = 20;  // phase, of rows of 20
  EXPECT_THAT(refusal(block, 1000), HasSubstr("byte 0"));
  block = good;
  block.push_back(0);
  EXPECT_THAT(refusal(block, 1000), HasSubstr("end"));
  block = good;
  block.pop_back();
  EXPECT_THAT(refusal(block, 1000), HasSubstr("end"));
}

TEST(MixTest, KernelsOfAllTargetsAgree) {
  Random random(6);
  const kernels::Table& scalar = *kernels::Find(kernels::Target::kScalar);
  for (const auto target : {kernels::Target::kAvx2, kernels::Target::kAvx512}) {
    const kernels::Table* table = kernels::Find(target);
    if (table == nullptr) continue;
    for (size_t count = 0; count < 70; ++count) {
      std::vector<int32_t> factor(count), rest(count);
      std::vector<uint32_t> sums(count);
      for (size_t i = 0; i < count; ++i) {
        factor[i] = static_cast<int32_t>(random.Next());
        rest[i] = static_cast<int32_t>(random.Next());
        sums[i] = static_cast<uint32_t>(random.Next());
      }
      const auto by = static_cast<int32_t>(random.Below(65535)) - 32767;
      const auto step = static_cast<int32_t>(random.Below(16385)) - 8192;
      const int shift = static_cast<int>(random.Below(26));
      auto factor2 = factor, rest2 = rest;
      auto sums2 = sums;
      scalar.add_scaled(by, factor.data(), count, sums.data());
      table->add_scaled(by, factor2.data(), count, sums2.data());
      EXPECT_EQ(sums, sums2);
      scalar.learn_scaled(by, step, shift, count, rest.data(), factor.data());
      table->learn_scaled(by, step, shift, count, rest2.data(), factor2.data());
      EXPECT_EQ(rest, rest2);
      EXPECT_EQ(factor, factor2);
    }
  }
}

}  // namespace
}  // namespace zipllm::codecs
