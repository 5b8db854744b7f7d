// Codec 8: what rows, columns and signs save, that any frame comes back, and
// that parameters which mean nothing are refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "codecs/coding.h"
#include "codecs/generators.h"

namespace zipllm::codecs {
namespace {

constexpr CodecId kFloat = 5;
constexpr CodecId kClasses = 8;

constexpr DType kTypes[] = {
    DType::kBF16,   DType::kF16,        DType::kF32,        DType::kF8E4M3,
    DType::kF8E5M2, DType::kF8E4M3FNUZ, DType::kF8E5M2FNUZ, DType::kF8E8M0,
    DType::kF4,     DType::kI8,         DType::kU8,         DType::kBool,
    DType::kI16,    DType::kU16,        DType::kI32,        DType::kU32};

/// Bytes of all blocks and the parameters; nullopt where nothing is offered.
std::optional<size_t> CodedSize(CodecId id, const EncodeRequest& request) {
  Scratch scratch;
  const auto frame = EncodeFrame(*FindEncoder(id), request, scratch);
  if (!frame) return std::nullopt;
  size_t size = frame->params.size();
  for (const auto& block : frame->blocks) {
    if (!block) return std::nullopt;
    size += block->size();
  }
  return size;
}

/// Rows of `row` BF16 elements, each bell-shaped with the scale 2^(row's +
/// column's), and with `mean` (in 1/16 of the scale) times the column's sign.
Bytes Matrix(size_t rows, size_t row, int row_octaves, int column_octaves,
             int mean, uint64_t seed = 3) {
  Random random(seed);
  std::vector<int> columns(row), signs(row);
  for (size_t j = 0; j < row; ++j) {
    columns[j] =
        static_cast<int>(random.Below(static_cast<size_t>(column_octaves) + 1));
    signs[j] = random.Below(2) == 0 ? 1 : -1;
  }
  Bytes bytes;
  for (size_t i = 0; i < rows; ++i) {
    const int by_row =
        static_cast<int>(random.Below(static_cast<size_t>(row_octaves) + 1));
    for (size_t j = 0; j < row; ++j) {
      int sum = mean * signs[j] * 256;
      for (int k = 0; k < 12; ++k) sum += static_cast<int>(random.Below(4096));
      const auto value = static_cast<float>(sum - 12 * 2048);
      uint32_t bits;
      std::memcpy(&bits, &value, sizeof bits);
      const auto shift = static_cast<uint32_t>(by_row + columns[j]) << 23;
      const uint32_t unit = (value == 0 ? 0 : bits - shift) >> 16;
      bytes.push_back(static_cast<uint8_t>(unit));
      bytes.push_back(static_cast<uint8_t>(unit >> 8));
    }
  }
  return bytes;
}

/// The same numbers in FP8, E4M3 (cut).
Bytes ToE4M3(const Bytes& bf16) {
  Bytes bytes;
  for (size_t i = 0; i < bf16.size(); i += 2) {
    const int exponent =
        ((bf16[i + 1] & 0x7F) << 1 | bf16[i] >> 7) - 127 - 6;  // to 2^8
    const int code = std::clamp(exponent + 7, 0, 15) << 3 | (bf16[i] >> 4 & 7);
    bytes.push_back(static_cast<uint8_t>(code | (bf16[i + 1] & 0x80)));
  }
  return bytes;
}

TEST(ClassesTest, ScalesOfRowsAndColumnsPay) {
  const size_t row = 256;
  const Bytes bf16 = Matrix(1024, row, 3, 3, 0);
  const Bytes bytes = ToE4M3(bf16);
  const EncodeRequest with = {bytes, size_t{1} << 17, DType::kF8E4M3, 3, row};
  EncodeRequest without = with;
  without.row = 0;
  const auto with_size = CodedSize(kClasses, with);
  const auto without_size = CodedSize(kClasses, without);
  ASSERT_TRUE(with_size && without_size);
  EXPECT_LT(*with_size, *without_size * 97 / 100);
  EXPECT_EQ(CheckRoundTrip(kClasses, with), 2u);

  const auto classes =
      CodedSize(kClasses, {bf16, bf16.size(), DType::kBF16, 6, row});
  const auto floats =
      CodedSize(kFloat, {bf16, bf16.size(), DType::kBF16, 6, row});
  ASSERT_TRUE(classes && floats);
  EXPECT_LT(*classes, *floats * 98 / 100);
}

TEST(ClassesTest, SignsOfColumnsPay) {
  const size_t row = 256;
  const Bytes even = Matrix(1024, row, 0, 0, 0);
  const Bytes skewed = Matrix(1024, row, 0, 0, 24);
  const auto even_size =
      CodedSize(kClasses, {even, even.size(), DType::kBF16, 6, row});
  const auto skewed_size =
      CodedSize(kClasses, {skewed, skewed.size(), DType::kBF16, 6, row});
  ASSERT_TRUE(even_size && skewed_size);
  // About half of the sign's bit.
  EXPECT_LT(*skewed_size + skewed.size() / 16 * 2 / 5, *even_size);
  EXPECT_EQ(
      CheckRoundTrip(kClasses, {skewed, skewed.size(), DType::kBF16, 6, row}),
      1u);
}

TEST(ClassesTest, HalvesThatAreZeroAreFree) {
  const Bytes bf16 = Matrix(256, 256, 0, 0, 0);
  Bytes fp32;
  for (size_t i = 0; i < bf16.size(); i += 2) {
    fp32.insert(fp32.end(), {0, 0, bf16[i], bf16[i + 1]});
  }
  const auto narrow =
      CodedSize(kClasses, {bf16, bf16.size(), DType::kBF16, 6, 256});
  const auto wide =
      CodedSize(kClasses, {fp32, fp32.size(), DType::kF32, 6, 256});
  ASSERT_TRUE(narrow && wide);
  EXPECT_LE(*wide, *narrow + 16);
}

TEST(ClassesTest, EveryTypeRowAndPlaceInTheTensor) {
  for (const DType dtype : kTypes) {
    for (const Kind kind : kKinds) {
      const size_t count = 20000;
      const Bytes data = MakeInput(kind, dtype, count);
      for (const uint64_t row : {0, 1, 3, 100, 999, 20000, 70000}) {
        SCOPED_TRACE(testing::Message() << FindDType(dtype)->name << " "
                                        << KindName(kind) << ", row " << row);
        const size_t block = 7000 * ElementBytes(dtype);
        CheckRoundTrip(kClasses, {data, block, dtype, 6, row, 12345});
      }
    }
  }
}

TEST(ClassesTest, EverySize) {
  const Bytes bytes = ToE4M3(Matrix(16, 128, 2, 2, 8));
  const Bytes floats = MakeInput(Kind::kSpecial, DType::kF32, 700);
  for (size_t size = 1; size < 1400; size += size < 300 ? 1 : 17) {
    SCOPED_TRACE(size);
    CheckRoundTrip(kClasses, {ByteSpan(bytes).first(size), size, DType::kF8E4M3,
                              3, 64, 5});
    CheckRoundTrip(kClasses, {ByteSpan(floats).first(size / 4 * 4 + 4), 2048,
                              DType::kF32, 6, 10, 3});
  }
}

TEST(ClassesTest, LevelsOfItsOwn) {
  const Bytes bf16 = MakeInput(Kind::kGaussian, DType::kBF16, 5000);
  const Bytes fp8 = MakeInput(Kind::kGaussian, DType::kF8E4M3, 5000);
  for (int level = 1; level <= 9; ++level) {
    EXPECT_EQ(
        CodedSize(kClasses, {bf16, 10000, DType::kBF16, level, 50}).has_value(),
        level >= 6);
    EXPECT_EQ(
        CodedSize(kClasses, {fp8, 5000, DType::kF8E4M3, level, 50}).has_value(),
        level >= 2);
  }
}

TEST(ClassesTest, EstimateIsClose) {
  const Bytes bf16 = Matrix(512, 256, 2, 2, 6);
  const EncodeRequest request = {bf16, size_t{1} << 16, DType::kBF16, 6, 256};
  Scratch scratch;
  const auto frame = EncodeFrame(*FindEncoder(kClasses), request, scratch);
  ASSERT_TRUE(frame.has_value());
  size_t size = 0;
  for (const auto& block : frame->blocks) size += block->size();
  EXPECT_NEAR(static_cast<double>(frame->estimate), static_cast<double>(size),
              static_cast<double>(size) / 100);
}

TEST(ClassesTest, ParametersThatMeanNothing) {
  const Bytes bytes = ToE4M3(Matrix(64, 64, 3, 3, 8));
  Scratch scratch;
  const auto frame =
      EncodeFrame(*FindEncoder(kClasses),
                  {bytes, bytes.size(), DType::kF8E4M3, 3, 64}, scratch);
  ASSERT_TRUE(frame.has_value());
  const auto parse = [](const Bytes& params) {
    return FindDecoder(kClasses)->parse(params).status();
  };
  ASSERT_TRUE(parse(frame->params).ok());
  Bytes changed = frame->params;
  for (const auto kind : {uint8_t{0}, uint8_t{6}, uint8_t{255}}) {
    changed[0] = kind;
    EXPECT_THAT(std::string(parse(changed).message()),
                testing::HasSubstr("unknown kind"));
  }
  changed = frame->params;
  changed[1] = 8;
  EXPECT_THAT(std::string(parse(changed).message()),
              testing::HasSubstr("unknown flags"));
  changed = {1, 4};  // signs of bytes without sign
  EXPECT_THAT(std::string(parse(changed).message()),
              testing::HasSubstr("unknown flags"));
  changed = {2, 1, 0};
  EXPECT_THAT(std::string(parse(changed).message()),
              testing::HasSubstr("no elements"));
  for (size_t size = 0; size < frame->params.size(); ++size) {
    EXPECT_FALSE(
        parse({frame->params.begin(),
               frame->params.begin() + static_cast<std::ptrdiff_t>(size)})
            .ok());
  }
  changed = frame->params;
  changed.push_back(0);
  EXPECT_FALSE(parse(changed).ok());
}

}  // namespace
}  // namespace zipllm::codecs
