// Numbers in files of no known format: what is found, and that it pays.
#include "archive/ranges.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "archive/testing.h"
#include "base/bytes.h"

namespace zipllm::archive {
namespace {

using testing::Bytes;
using testing::RandomBytes;

uint32_t FloatBits(double value) {
  const float narrow = static_cast<float>(value);
  uint32_t bits;
  std::memcpy(&bits, &narrow, sizeof bits);
  return bits;
}

// Half precision of a normal number, cut off.
uint16_t HalfBits(double value) {
  const uint32_t bits = FloatBits(value);
  const int exponent = static_cast<int>((bits >> 23) & 255) - 112;
  if (exponent <= 0) return static_cast<uint16_t>(bits >> 16 & 0x8000);
  return static_cast<uint16_t>((bits >> 16 & 0x8000) |
                               static_cast<uint32_t>(exponent) << 10 |
                               (bits >> 13 & 0x3FF));
}

void AppendValue(double value, DType dtype, Bytes* out) {
  uint32_t bits = FloatBits(value);
  if (dtype == DType::kF16) bits = HalfBits(value);
  if (dtype == DType::kBF16 || dtype == DType::kBF16Be) bits >>= 16;
  const size_t size = FindDType(dtype)->block_bytes;
  for (size_t i = 0; i < size; ++i) {
    out->push_back(static_cast<uint8_t>(bits >> (8 * i)));
  }
  if (dtype == DType::kBF16Be || dtype == DType::kF32Be) {
    std::reverse(out->end() - static_cast<ptrdiff_t>(size), out->end());
  }
}

// Weights as training leaves them; columns have scales of their own where
// `row` is not 0.
void AppendWeights(DType dtype, size_t count, size_t row, uint32_t seed,
                   Bytes* out) {
  std::mt19937 random(seed);
  std::normal_distribution<double> gauss(0, 0.03);
  std::vector<double> scales(std::max<size_t>(row, 1), 1.0);
  if (row != 0) {
    for (double& scale : scales) scale = std::exp2(40 * gauss(random));
  }
  for (size_t i = 0; i < count; ++i) {
    AppendValue(gauss(random) * scales[i % scales.size()], dtype, out);
  }
}

void ExpectTiling(const std::vector<Range>& ranges, size_t size) {
  size_t at = 0;
  for (const Range& range : ranges) {
    EXPECT_EQ(range.begin, at);
    EXPECT_GT(range.size, 0u);
    EXPECT_EQ(range.size % FindDType(range.dtype)->block_bytes, 0u);
    at += range.size;
  }
  EXPECT_EQ(at, size);
}

TEST(RangesTest, NoNumbersInNothingTextOrNoise) {
  EXPECT_TRUE(FindRanges({}).empty());
  Bytes text;
  while (text.size() < 100000) {
    for (char c : "The quick brown fox jumps over the lazy dog. ") {
      text.push_back(static_cast<uint8_t>(c));
    }
  }
  for (const Bytes& bytes : {Bytes(1), Bytes(100000), text,
                             RandomBytes(100000, 1), RandomBytes(4095, 2)}) {
    const std::vector<Range> ranges = FindRanges(bytes);
    ASSERT_EQ(ranges.size(), 1u);
    EXPECT_EQ(ranges[0].dtype, DType::kBytes);
    EXPECT_EQ(ranges[0].size, bytes.size());
  }
}

TEST(RangesTest, FindsTypeAndPhase) {
  for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32,
                            DType::kBF16Be, DType::kF32Be}) {
    for (size_t phase = 0; phase < 4; ++phase) {
      Bytes bytes(phase, 'x');
      AppendWeights(dtype, 40000, 0, 1, &bytes);
      const std::vector<Range> ranges = FindRanges(bytes);
      ExpectTiling(ranges, bytes.size());
      const auto numbers = std::find_if(
          ranges.begin(), ranges.end(),
          [&](const Range& range) { return range.dtype == dtype; });
      ASSERT_NE(numbers, ranges.end()) << FindDType(dtype)->name << phase;
      const size_t size = FindDType(dtype)->block_bytes;
      EXPECT_EQ(numbers->begin % size, phase % size);
      EXPECT_GE(numbers->size, 40000 * size - 8);
    }
  }
}

TEST(RangesTest, FloatsThatWereShorterAreFloats) {
  Bytes bytes;
  Bytes narrow;
  AppendWeights(DType::kBF16, 40000, 0, 1, &narrow);
  for (size_t i = 0; i < narrow.size(); i += 2) {
    bytes.insert(bytes.end(), {0, 0, narrow[i], narrow[i + 1]});
  }
  const std::vector<Range> ranges = FindRanges(bytes);
  ASSERT_EQ(ranges.size(), 1u);
  EXPECT_EQ(ranges[0].dtype, DType::kF32);
}

TEST(RangesTest, RecordsAreWhole) {
  // A counter, a sample of 16 bits, a flag; something before and after.
  std::mt19937 random(5);
  Bytes bytes(6, 'x');
  for (uint32_t i = 0; i < 20000; ++i) {
    for (int b = 0; b < 4; ++b)
      bytes.push_back(static_cast<uint8_t>(i >> 8 * b));
    bytes.push_back(static_cast<uint8_t>(random()));
    bytes.push_back(static_cast<uint8_t>(i >> 10));
    bytes.push_back(random() % 2 != 0 ? 1 : 0);
  }
  bytes.push_back('y');
  for (const Range& range : FindRanges(bytes)) EXPECT_EQ(range.record, 0u);
  const std::vector<Range> ranges = FindRanges(bytes, true);
  ExpectTiling(ranges, bytes.size());
  size_t in_records = 0;
  for (const Range& range : ranges) {
    if (range.record == 0) continue;
    EXPECT_EQ(range.record, 7u);
    EXPECT_EQ(range.size % 7, 0u);
    in_records += range.size;
  }
  EXPECT_GE(in_records, bytes.size() - 2 * 7);
}

TEST(RangesTest, BordersAreWithinAFewElements) {
  Bytes bytes;
  AppendWeights(DType::kF16, 30001, 0, 1, &bytes);
  const size_t first_end = bytes.size();
  const Bytes header = testing::FromString(
      "decoder/layer_0/attention/layer_norm/beta: 1024 elements of float16.");
  bytes.insert(bytes.end(), header.begin(), header.end());
  bytes.push_back(7);
  const size_t second_begin = bytes.size();
  AppendWeights(DType::kF32, 20000, 0, 2, &bytes);
  const size_t second_end = bytes.size();
  const Bytes noise = RandomBytes(60001, 3);
  bytes.insert(bytes.end(), noise.begin(), noise.end());

  const std::vector<Range> ranges = FindRanges(bytes);
  ExpectTiling(ranges, bytes.size());
  ASSERT_EQ(ranges.size(), 4u);
  EXPECT_EQ(ranges[0].dtype, DType::kF16);
  EXPECT_NEAR(static_cast<double>(ranges[0].size),
              static_cast<double>(first_end), 16);
  EXPECT_EQ(ranges[1].dtype, DType::kBytes);
  EXPECT_EQ(ranges[2].dtype, DType::kF32);
  EXPECT_EQ(ranges[2].begin % 4, second_begin % 4);
  EXPECT_NEAR(static_cast<double>(ranges[2].begin),
              static_cast<double>(second_begin), 16);
  EXPECT_NEAR(static_cast<double>(ranges[3].begin),
              static_cast<double>(second_end), 64);
  EXPECT_EQ(ranges[3].dtype, DType::kBytes);
}

TEST(RangesTest, IntegersAreNotFloats) {
  std::mt19937 random(4);
  Bytes bytes;
  for (size_t i = 0; i < 50000; ++i) {
    const auto value = static_cast<uint32_t>(random() % 30000);
    for (size_t b = 0; b < 4; ++b) {
      bytes.push_back(static_cast<uint8_t>(value >> (8 * b)));
    }
  }
  const std::vector<Range> ranges = FindRanges(bytes);
  ASSERT_EQ(ranges.size(), 1u);
  EXPECT_EQ(ranges[0].dtype, DType::kI32);
}

TEST(RangesTest, TilesWhateverThereIs) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    std::mt19937 random(seed);
    Bytes bytes;
    while (bytes.size() < 300000) {
      const size_t count = random() % 30000;
      switch (random() % 5) {
        case 0:
          AppendWeights(DType::kBF16, count, 0, seed, &bytes);
          break;
        case 1:
          AppendWeights(DType::kF32, count, 96, seed, &bytes);
          break;
        case 2:
          bytes.resize(bytes.size() + count);
          break;
        case 3:
          AppendWeights(DType::kF16, count, 0, seed, &bytes);
          break;
        default: {
          const Bytes noise = RandomBytes(count, seed);
          bytes.insert(bytes.end(), noise.begin(), noise.end());
        }
      }
    }
    ExpectTiling(FindRanges(bytes), bytes.size());
  }
}

TEST(RowLengthTest, IsWhereColumnsRepeat) {
  for (const size_t row :
       {size_t{24}, size_t{100}, size_t{384}, size_t{768}, size_t{4096}}) {
    for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
      Bytes bytes;
      AppendWeights(dtype, 40000, row, 5, &bytes);
      EXPECT_EQ(FindRowLength(bytes, dtype), row);
    }
  }
}

TEST(RowLengthTest, IsZeroWhereNothingRepeats) {
  Bytes bytes;
  AppendWeights(DType::kBF16, 40000, 0, 6, &bytes);
  EXPECT_EQ(FindRowLength(bytes, DType::kBF16), 0u);
  EXPECT_EQ(FindRowLength(bytes, DType::kI16), 0u);
  EXPECT_EQ(FindRowLength({}, DType::kF32), 0u);
  EXPECT_EQ(FindRowLength(Bytes(100000), DType::kF32), 0u);
}

// The same weights, in a format that no parser knows, need hardly more.
TEST(RangesTest, UnknownContainersAreCodedAsFloats) {
  Bytes bytes = testing::FromString("MAGIC");
  for (uint32_t tensor = 0; tensor < 4; ++tensor) {
    AppendWeights(DType::kBF16, 150000, 0, tensor, &bytes);
    const Bytes name = testing::FromString("layer.weight");
    bytes.insert(bytes.end(), name.begin(), name.end());
    bytes.push_back(static_cast<uint8_t>(tensor));
  }
  for (const int level : {1, 3, 6}) {
    CompressOptions options;
    options.level = level;
    const Bytes archive = testing::Compress(bytes, options);
    EXPECT_LT(archive.size(), bytes.size() * 72 / 100) << level;
    const auto plain = testing::Decompress(archive);
    ASSERT_TRUE(plain.ok()) << plain.status();
    EXPECT_EQ(*plain, bytes);
  }
}

}  // namespace
}  // namespace zipllm::archive
