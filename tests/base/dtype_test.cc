#include "base/dtype.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <regex>
#include <string>

#include "base/utf8.h"

namespace zipllm {
namespace {

TEST(DTypeTest, FindsEveryTypeOfTheListAndNoOther) {
  size_t found = 0;
  for (int number = 0; number < 256; ++number) {
    const DTypeInfo* info = FindDType(static_cast<DType>(number));
    if (info == nullptr) continue;
    EXPECT_EQ(static_cast<int>(info->dtype), number);
    ++found;
  }
  EXPECT_EQ(found, AllDTypes().size());
  EXPECT_EQ(FindDType(DType::kBytes)->name, "bytes");
  EXPECT_EQ(FindDType(DType::kBF16)->name, "BF16");
  EXPECT_EQ(FindDType(static_cast<DType>(255)), nullptr);
}

// Block sizes from the structs of ggml-common.h, member by member.
TEST(DTypeTest, GgmlBlocksHaveTheSizeOfTheirStructs) {
  struct Block {
    int ggml;
    const char* name;
    uint32_t elements;
    uint32_t bytes;
  };
  constexpr uint32_t kHalf = 2;
  constexpr uint32_t kK = 256;
  const Block blocks[] = {
      {2, "Q4_0", 32, kHalf + 32 / 2},
      {3, "Q4_1", 32, 2 * kHalf + 32 / 2},
      {6, "Q5_0", 32, kHalf + 4 + 32 / 2},
      {7, "Q5_1", 32, 2 * kHalf + 4 + 32 / 2},
      {8, "Q8_0", 32, kHalf + 32},
      {9, "Q8_1", 32, 2 * kHalf + 32},
      {10, "Q2_K", kK, kK / 16 + kK / 4 + 2 * kHalf},
      {11, "Q3_K", kK, kK / 8 + kK / 4 + 12 + kHalf},
      {12, "Q4_K", kK, 2 * kHalf + 12 + kK / 2},
      {13, "Q5_K", kK, 2 * kHalf + 12 + kK / 8 + kK / 2},
      {14, "Q6_K", kK, kK / 2 + kK / 4 + kK / 16 + kHalf},
      {15, "Q8_K", kK, 4 + kK + kK / 16 * 2},
      {16, "IQ2_XXS", kK, kHalf + kK / 8 * 2},
      {17, "IQ2_XS", kK, kHalf + kK / 8 * 2 + kK / 32},
      {18, "IQ3_XXS", kK, kHalf + 3 * kK / 8},
      {19, "IQ1_S", kK, kHalf + kK / 8 + kK / 32 * 2},
      {20, "IQ4_NL", 32, kHalf + 32 / 2},
      {21, "IQ3_S", kK, kHalf + kK / 4 + kK / 32 + kK / 8 + kK / 64},
      {22, "IQ2_S", kK, kHalf + kK / 4 + kK / 32 + kK / 32},
      {23, "IQ4_XS", kK, kHalf + 2 + kK / 64 + kK / 2},
      {29, "IQ1_M", kK, kK / 8 + kK / 16 + kK / 32},
      {34, "TQ1_0", kK, (kK - 4 * kK / 64) / 5 + kK / 64 + kHalf},
      {35, "TQ2_0", kK, kK / 4 + kHalf},
      {39, "MXFP4", 32, 1 + 32 / 2},
      {40, "NVFP4", 64, 64 / 16 + 64 / 2},
      {41, "Q1_0", 128, kHalf + 128 / 8},
      {42, "Q2_0", 64, kHalf + 64 / 4},
  };
  size_t listed = 0;
  for (const DTypeInfo& info : AllDTypes()) {
    listed += static_cast<int>(info.dtype) >= kGgmlDTypeBase ? 1 : 0;
  }
  EXPECT_EQ(listed, std::size(blocks));
  for (const Block& block : blocks) {
    SCOPED_TRACE(block.name);
    const DTypeInfo* info =
        FindDType(static_cast<DType>(kGgmlDTypeBase + block.ggml));
    ASSERT_NE(info, nullptr);
    EXPECT_EQ(info->name, block.name);
    EXPECT_EQ(info->block_elements, block.elements);
    EXPECT_EQ(info->block_bytes, block.bytes);
  }
}

TEST(DTypeTest, ByteSizeCountsWholeBlocks) {
  uint64_t bytes = 0;
  ASSERT_TRUE(ByteSize(*FindDType(DType::kF64), 3, &bytes));
  EXPECT_EQ(bytes, 24u);
  ASSERT_TRUE(ByteSize(*FindDType(DType::kF4), 6, &bytes));
  EXPECT_EQ(bytes, 3u);
  ASSERT_TRUE(ByteSize(*FindDType(DType::kF6E2M3), 8, &bytes));
  EXPECT_EQ(bytes, 6u);
  ASSERT_TRUE(ByteSize(*FindDType(DType::kGgmlQ4K), 512, &bytes));
  EXPECT_EQ(bytes, 288u);
  ASSERT_TRUE(ByteSize(*FindDType(DType::kGgmlQ4K), 0, &bytes));
  EXPECT_EQ(bytes, 0u);
  EXPECT_FALSE(ByteSize(*FindDType(DType::kF4), 5, &bytes));
  EXPECT_FALSE(ByteSize(*FindDType(DType::kF6E3M2), 6, &bytes));
  EXPECT_FALSE(ByteSize(*FindDType(DType::kGgmlQ4K), 255, &bytes));
  EXPECT_FALSE(ByteSize(*FindDType(DType::kF64), UINT64_MAX / 8 + 1, &bytes));
  EXPECT_TRUE(ByteSize(*FindDType(DType::kU8), UINT64_MAX, &bytes));
}

// format-spec/dtypes.md is the list that others read: it must say the same.
TEST(DTypeTest, SpecPageAgreesWithTheList) {
  std::ifstream page(ZIPLLM_SOURCE_DIR "/format-spec/dtypes.md");
  ASSERT_TRUE(page.is_open());
  const std::regex row(R"(\| (\d+) \| (\w+) \| (\d+) \| (\d+) \| ([^|]+) \|)");
  size_t rows = 0;
  int previous = -1;
  for (std::string line; std::getline(page, line);) {
    std::smatch match;
    if (!std::regex_match(line, match, row)) continue;
    SCOPED_TRACE(line);
    const int number = std::stoi(match[1]);
    EXPECT_GT(number, previous);
    previous = number;
    const DTypeInfo* info = FindDType(static_cast<DType>(number));
    ASSERT_NE(info, nullptr);
    EXPECT_EQ(match[2].str(), info->name);
    EXPECT_EQ(std::stoul(match[3]), info->block_elements);
    EXPECT_EQ(std::stoul(match[4]), info->block_bytes);
    if (number >= kGgmlDTypeBase) {
      const std::string type =
          "ggml type " + std::to_string(number - kGgmlDTypeBase) + ",";
      EXPECT_EQ(match[5].str().rfind(type, 0), 0u);
    }
    ++rows;
  }
  EXPECT_EQ(rows, AllDTypes().size());
}

TEST(Utf8Test, TakesEveryCodePointAndNoSurrogate) {
  for (uint32_t c = 0; c <= 0x110000; ++c) {
    std::string text;
    auto add = [&](uint32_t byte) { text += static_cast<char>(byte); };
    if (c < 0x80) {
      add(c);
    } else if (c < 0x800) {
      add(0xC0 | c >> 6);
      add(0x80 | (c & 0x3F));
    } else if (c < 0x10000) {
      add(0xE0 | c >> 12);
      add(0x80 | (c >> 6 & 0x3F));
      add(0x80 | (c & 0x3F));
    } else {
      add(0xF0 | c >> 18);
      add(0x80 | (c >> 12 & 0x3F));
      add(0x80 | (c >> 6 & 0x3F));
      add(0x80 | (c & 0x3F));
    }
    const bool valid = c < 0xD800 || (c > 0xDFFF && c < 0x110000);
    ASSERT_EQ(IsUtf8(text), valid) << c;
    ASSERT_EQ(IsUtf8("a" + text + "b"), valid) << c;
    if (text.size() > 1) {
      ASSERT_FALSE(IsUtf8(text.substr(0, text.size() - 1)));
    }
  }
}

TEST(Utf8Test, RefusesOverlongFormsAndStrayBytes) {
  for (const char* text :
       {"\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF",
        "\xF0\x8F\xBF\xBF", "\xF5\x80\x80\x80", "\xFF", "\xC3(", "a\xE2\x82"}) {
    EXPECT_FALSE(IsUtf8(text));
  }
  EXPECT_TRUE(IsUtf8(""));
}

}  // namespace
}  // namespace zipllm
