// Codec 13: what palettes of frames, rows and groups save, that any frame comes
// back, and that parameters and blocks which mean nothing are refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "codecs/coding.h"
#include "codecs/generators.h"

namespace zipllm::codecs {
namespace {

constexpr CodecId kPalette = 13;

/// Elements of `width` bytes: each group of `group` has 16 random values of its
/// own, all of which are as frequent as each other.
Bytes Palettes(size_t width, size_t elements, size_t group) {
  Random random(7);
  Bytes bytes;
  uint64_t values[16];
  for (size_t i = 0; i < elements; ++i) {
    if (i % group == 0) {
      for (uint64_t& value : values) value = random.Next();
    }
    const uint64_t value = values[random.Below(16)];
    for (size_t b = 0; b < width; ++b) {
      bytes.push_back(static_cast<uint8_t>(value >> (8 * b)));
    }
  }
  return bytes;
}

/// FP32 elements that are -7 to 7 times the scale of their group of 128.
Bytes Dequantized(size_t elements) {
  Random random(8);
  Bytes bytes(4 * elements);
  float scale = 0;
  for (size_t i = 0; i < elements; ++i) {
    if (i % 128 == 0) scale = static_cast<float>(random.Below(1 << 24)) + 1;
    const float value =
        scale * static_cast<float>(static_cast<int>(random.Below(15)) - 7);
    std::memcpy(bytes.data() + 4 * i, &value, sizeof value);
  }
  return bytes;
}

std::optional<CodedFrame> Encode(const EncodeRequest& request) {
  Scratch scratch;
  return EncodeFrame(*FindEncoder(kPalette), request, scratch);
}

/// Bytes of all blocks; 0 where nothing is offered.
size_t CodedSize(const EncodeRequest& request) {
  const auto frame = Encode(request);
  if (!frame) return 0;
  size_t size = frame->params.size();
  for (const auto& block : frame->blocks) {
    size += block.value_or(Bytes(request.block_size)).size();
  }
  return size;
}

TEST(PaletteTest, OnePaletteForAll) {
  const size_t count = size_t{1} << 17;
  for (const DType dtype : {DType::kU8, DType::kF16, DType::kF32, DType::kF64,
                            DType::kI16, DType::kBF16Be}) {
    const Bytes bytes = Palettes(ElementBytes(dtype), count, count);
    const EncodeRequest request = {bytes, bytes.size() / 2, dtype, 3};
    const size_t size = CodedSize(request);
    EXPECT_NEAR(static_cast<double>(size), count / 2, count / 2 / 50)
        << FindDType(dtype)->name;
    EXPECT_EQ(CheckRoundTrip(kPalette, request), 2u);
  }
}

TEST(PaletteTest, PalettesOfRowsCutByBlocks) {
  const size_t row = 3000;
  const Bytes all = Palettes(2, 40 * row, row);
  // The frame starts within a row; blocks hold some rows and a part.
  const size_t start = 1234;
  const Bytes bytes(all.begin() + 2 * start, all.end());
  const EncodeRequest request = {bytes, 40000, DType::kF16, 3, row, start};
  const size_t count = bytes.size() / 2;
  const size_t size = CodedSize(request);
  // Four bits an element, 16 values a row, and some rows twice.
  EXPECT_NEAR(static_cast<double>(size),
              static_cast<double>(count / 2 + 48 * 32 + 6 * 140),
              static_cast<double>(count) / 100);
  EXPECT_EQ(CheckRoundTrip(kPalette, request), 6u);
}

TEST(PaletteTest, PalettesOfGroups) {
  const size_t count = size_t{1} << 16;
  for (const size_t group : {64, 128, 256, 1024}) {
    const Bytes bytes = Palettes(4, count, group);
    const EncodeRequest request = {bytes, bytes.size(), DType::kF32, 3};
    const size_t size = CodedSize(request);
    EXPECT_GT(size, count / 2);
    EXPECT_LT(size, count / 2 + count / group * 64 + count / 50);
    EXPECT_EQ(CheckRoundTrip(kPalette, request), 1u);
  }
}

TEST(PaletteTest, ValuesThatMirrorEachOtherCostHalf) {
  const size_t count = size_t{1} << 16;
  const Bytes bytes = Dequantized(count);
  const EncodeRequest request = {bytes, bytes.size(), DType::kF32, 3};
  // At most log2(15) bits an element, and 7 values of 4 bytes a group.
  EXPECT_LT(CodedSize(request),
            count * 3907 / 1000 / 8 + count / 128 * (7 * 4 + 2) + 1000);
  EXPECT_EQ(CheckRoundTrip(kPalette, request), 1u);
}

TEST(PaletteTest, EveryTypeRowAndPlaceInTheTensor) {
  size_t coded = 0;
  for (const DType dtype :
       {DType::kBF16, DType::kF16, DType::kF32, DType::kF64, DType::kI8,
        DType::kU8, DType::kBool, DType::kI64, DType::kF16Be, DType::kF8E4M3}) {
    for (const Kind kind : kKinds) {
      const Bytes data = MakeInput(kind, dtype, 20000);
      for (const uint64_t row : {0, 1, 3, 100, 999, 20000, 70000}) {
        for (const uint64_t position : {0, 7, 123456}) {
          coded += CheckRoundTrip(kPalette, {data, 7000 * ElementBytes(dtype),
                                             dtype, 3, row, position});
        }
      }
    }
  }
  EXPECT_GT(coded, 0u);
}

TEST(PaletteTest, EverySize) {
  const Bytes bytes = Palettes(2, 3000, 3000);
  size_t coded = 0;
  for (size_t count = 1; count < 3000; count += 1 + count / 16) {
    for (const uint64_t position : {0, 31}) {
      coded +=
          CheckRoundTrip(kPalette, {ByteSpan(bytes).first(2 * count), 2 * count,
                                    DType::kF16, 3, 64, position});
    }
  }
  EXPECT_GT(coded, 0u);
}

TEST(PaletteTest, LeavesWeightsToOthers) {
  for (const DType dtype :
       {DType::kBF16, DType::kF16, DType::kF32, DType::kF64}) {
    const Bytes bytes = MakeInput(Kind::kGaussian, dtype, 100000);
    EXPECT_FALSE(Encode({bytes, bytes.size(), dtype, 3})) << int(dtype);
  }
  const Bytes text = MakeInput(Kind::kText, DType::kBytes, 100000);
  EXPECT_FALSE(Encode({text, text.size(), DType::kBytes, 3}));
  const Bytes bytes = Palettes(2, 100000, 100000);
  EXPECT_FALSE(Encode({bytes, bytes.size(), DType::kF16, 1}));
}

TEST(PaletteTest, EstimateIsClose) {
  const Bytes bytes = Palettes(2, 300000, 128);
  const auto frame = Encode({bytes, 400000, DType::kF16, 3});
  ASSERT_TRUE(frame.has_value());
  size_t size = 0;
  for (const auto& block : frame->blocks) size += block->size();
  EXPECT_NEAR(static_cast<double>(frame->estimate), static_cast<double>(size),
              static_cast<double>(size) / 100);
}

std::string WhyParams(const Bytes& params) {
  return std::string(FindDecoder(kPalette)->parse(params).status().message());
}

TEST(PaletteTest, ParametersThatMeanNothing) {
  const Bytes bytes = Palettes(2, 5000, 5000);
  const auto frame = Encode({bytes, bytes.size(), DType::kF16, 3});
  ASSERT_TRUE(frame.has_value());
  ASSERT_EQ(WhyParams(frame->params), "");
  for (size_t size = 0; size < frame->params.size(); ++size) {
    EXPECT_NE(
        WhyParams({frame->params.begin(),
                   frame->params.begin() + static_cast<std::ptrdiff_t>(size)}),
        "");
  }
  Bytes changed = frame->params;
  changed.push_back(0);
  EXPECT_NE(WhyParams(changed), "");
  for (const auto width : {uint8_t{0}, uint8_t{3}, uint8_t{16}}) {
    changed = frame->params;
    changed[0] = width;
    EXPECT_THAT(WhyParams(changed), testing::HasSubstr("elements of"));
  }
  changed = frame->params;
  changed[1] = 4;
  EXPECT_THAT(WhyParams(changed), testing::HasSubstr("unknown flags"));
  EXPECT_THAT(WhyParams({1, 0, 0, 2, 7, 7}), testing::HasSubstr("ascend"));
  EXPECT_THAT(WhyParams({1, 0, 0, 1, 0}), testing::HasSubstr("ascend"));
  EXPECT_NE(WhyParams({1, 0, 0, 64}), "");
}

TEST(PaletteTest, BlocksThatMeanNothing) {
  const Bytes bytes = Palettes(2, 5000, 5000);
  const auto frame = Encode({bytes, bytes.size(), DType::kF16, 3});
  ASSERT_TRUE(frame.has_value() && frame->blocks[0].has_value());
  const Bytes& good = *frame->blocks[0];
  const auto why = [&](const Bytes& coded, size_t size) {
    absl::Status status;
    EXPECT_FALSE(DecodeBlock(*FindDecoder(kPalette), frame->params, coded, size,
                             &status));
    return std::string(status.message());
  };
  EXPECT_THAT(why(good, bytes.size() + 1), testing::HasSubstr("whole"));
  // One group: its size as a byte repeated.
  ASSERT_EQ(good[0], 1);
  ASSERT_EQ(good[1], 15);
  EXPECT_THAT(why(good, 30), testing::HasSubstr("fewer elements"));
  Bytes changed = good;
  changed[0] = 3;
  EXPECT_THAT(why(changed, bytes.size()),
              testing::HasSubstr("unknown kind of plane"));
  // A palette of 15 values: the planes are raw, 16 bytes and their kind.
  ASSERT_EQ(good[2], 0);
  ASSERT_EQ(good[2 + 17], 0);
  changed = good;
  changed[1] = 14;
  changed.erase(changed.begin() + 2 + 17 + 16);
  changed.erase(changed.begin() + 2 + 16);
  EXPECT_THAT(why(changed, bytes.size()),
              testing::HasSubstr("without a value"));
  for (size_t size = 0; size < good.size(); size += 1 + size / 8) {
    why({good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size)},
        bytes.size());
  }
  changed = good;
  changed.push_back(0);
  why(changed, bytes.size());
}

}  // namespace
}  // namespace zipllm::codecs
