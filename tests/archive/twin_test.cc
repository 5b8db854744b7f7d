// Tensors that are an earlier one seen otherwise.
#include "archive/twin.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "archive/testing.h"
#include "base/bytes.h"
#include "zipllm/archive.h"

namespace zipllm::archive {
namespace {

using testing::Bytes;
using testing::Compress;
using testing::Decompress;
using testing::Safetensors;
using testing::Tensor;

constexpr uint64_t kRows = 300;
constexpr uint64_t kColumns = 700;

Bytes Transposed(const Bytes& matrix, uint64_t rows, uint64_t columns,
                 size_t size) {
  Bytes out(matrix.size());
  for (uint64_t r = 0; r < rows; ++r) {
    for (uint64_t c = 0; c < columns; ++c) {
      std::memcpy(&out[(c * rows + r) * size],
                  &matrix[(r * columns + c) * size], size);
    }
  }
  return out;
}

Bytes Negated(Bytes bf16) {
  for (size_t i = 1; i < bf16.size(); i += 2) bf16[i] ^= 0x80;
  return bf16;
}

// BF16 numbers times 2^steps; none of them is 0.
Bytes Scaled(Bytes bf16, int steps) {
  for (size_t i = 0; i < bf16.size(); i += 2) {
    const auto value =
        static_cast<uint16_t>(LoadLe<uint16_t>(&bf16[i]) + steps * 128);
    std::memcpy(&bf16[i], &value, 2);
  }
  return bf16;
}

Bytes RowsReversed(const Bytes& matrix, uint64_t rows) {
  const size_t row = matrix.size() / rows;
  Bytes out;
  for (uint64_t r = rows; r-- > 0;) {
    out.insert(out.end(), matrix.begin() + static_cast<ptrdiff_t>(r * row),
               matrix.begin() + static_cast<ptrdiff_t>((r + 1) * row));
  }
  return out;
}

// Codecs of the second tensor's blocks.
std::vector<std::string> CodecsOfSecond(const Bytes& archive) {
  auto opened = Archive::Open(MakeMemorySource(archive));
  EXPECT_TRUE(opened.ok()) << opened.status();
  auto ref = opened->FindTensor("second");
  EXPECT_TRUE(ref.ok()) << ref.status();
  auto coding = opened->Coding(*ref);
  EXPECT_TRUE(coding.ok()) << coding.status();
  std::vector<std::string> names;
  for (const CodecUse& use : coding->codecs) names.push_back(use.codec);
  return names;
}

struct Case {
  std::string name;
  int level;
  std::vector<uint64_t> shape;
  Bytes bytes;
};

TEST(TwinTest, CostsNextToNothing) {
  const Bytes first = testing::Bf16Weights(kRows * kColumns, 1);
  const std::vector<uint64_t> shape = {kRows, kColumns};
  const std::vector<uint64_t> turned = {kColumns, kRows};
  const Bytes transposed = Transposed(first, kRows, kColumns, 2);
  for (const Case& c : {
           Case{"transposed", 3, turned, transposed},
           Case{"negated", 3, shape, Negated(first)},
           Case{"scaled", 1, shape, Scaled(first, 3)},
           Case{"scaled down", 9, shape, Scaled(first, -1)},
           Case{"all of it", 3, turned, Negated(Scaled(transposed, 2))},
           Case{"rows", 6, shape, RowsReversed(first, kRows)},
       }) {
    SCOPED_TRACE(c.name);
    const Bytes plain = Safetensors({{"first", "BF16", shape, first},
                                     {"second", "BF16", c.shape, c.bytes}});
    CompressOptions options;
    options.level = c.level;
    const Bytes archive = Compress(plain, options);
    EXPECT_LT(archive.size(), first.size() * 3 / 4);
    EXPECT_THAT(CodecsOfSecond(archive), ::testing::ElementsAre("twin"));
    auto back = Decompress(archive);
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(*back, plain);

    // As a pipe, and at random.
    testing::PipeSource pipe(archive, 1000);
    Bytes piped;
    auto sink = MakeMemorySink(&piped);
    ASSERT_TRUE(Decompressor().DecompressStream(pipe, *sink).ok());
    EXPECT_EQ(piped, plain);
    auto opened = Archive::Open(MakeMemorySource(archive));
    ASSERT_TRUE(opened.ok());
    auto second = opened->Read("second");
    ASSERT_TRUE(second.ok()) << second.status();
    EXPECT_EQ(*second, c.bytes);
  }
}

TEST(TwinTest, SeveralBlocksAndZeros) {
  // 2^18 elements a block: some three of them, and no whole rows in each.
  constexpr uint64_t kTall = 1501;
  constexpr uint64_t kWide = 513;
  Bytes first = testing::Bf16Weights(kTall * kWide, 2);
  for (size_t i = 0; i < first.size(); i += 2 * 7919)
    first[i] = first[i + 1] = 0;
  Bytes second = Negated(Transposed(first, kTall, kWide, 2));
  const Bytes plain = Safetensors({{"first", "BF16", {kTall, kWide}, first},
                                   {"second", "BF16", {kWide, kTall}, second}});
  const Bytes archive = Compress(plain);
  EXPECT_LT(archive.size(), first.size() * 3 / 4);
  auto back = Decompress(archive);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(*back, plain);
}

TEST(TwinTest, AnElementThatDiffersIsNoTwin) {
  const Bytes first = testing::Bf16Weights(kRows * kColumns, 3);
  Bytes second = Transposed(first, kRows, kColumns, 2);
  second[second.size() / 3] ^= 1;
  const Bytes plain =
      Safetensors({{"first", "BF16", {kRows, kColumns}, first},
                   {"second", "BF16", {kColumns, kRows}, second}});
  const Bytes archive = Compress(plain);
  EXPECT_THAT(CodecsOfSecond(archive), ::testing::ElementsAre("float"));
  auto back = Decompress(archive);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(*back, plain);
}

TEST(TwinTest, DamageGivesAnErrorOrTheRightBytes) {
  const Bytes first = testing::Bf16Weights(40 * 50, 4);
  const Bytes plain =
      Safetensors({{"first", "BF16", {40, 50}, first},
                   {"second", "BF16", {50, 40}, Transposed(first, 40, 50, 2)}});
  const Bytes archive = Compress(plain);
  ASSERT_THAT(CodecsOfSecond(archive), ::testing::ElementsAre("twin"));
  for (size_t i = 0; i < archive.size(); ++i) {
    for (const int bit : {0, 7}) {
      Bytes damaged = archive;
      damaged[i] ^= static_cast<uint8_t>(1 << bit);
      DecompressOptions options;
      options.threads = 1;
      auto back = Decompress(damaged, options);
      if (back.ok()) {
        EXPECT_EQ(*back, plain);
      }
    }
  }
}

// Gives bytes of a tensor in blocks, numbered from 5.
class Blocks : public BlockFetcher {
 public:
  Blocks(Bytes bytes, size_t block_size)
      : bytes_(std::move(bytes)), block_size_(block_size) {}
  absl::Status Fetch(uint64_t number, MutableByteSpan out, bool /*any*/,
                     FetchLimits& /*limits*/) override {
    const uint64_t start = (number - 5) * block_size_;
    if (number < 5 || start >= bytes_.size() ||
        out.size() != std::min(block_size_, bytes_.size() - start)) {
      return DataLoss("no block ", number);
    }
    std::copy_n(bytes_.begin() + static_cast<ptrdiff_t>(start), out.size(),
                out.begin());
    return absl::OkStatus();
  }

 private:
  Bytes bytes_;
  size_t block_size_;
};

TEST(TwinTest, HostileBytesAreRefusedOrFillTheBlock) {
  Blocks blocks(testing::RandomBytes(4096, 5), 512);
  TwinRecipe recipe;
  recipe.order = TwinRecipe::Order::kRows;
  recipe.element_size = 2;
  recipe.elements = 2048;
  recipe.row = 64;
  recipe.block_size = 512;
  recipe.rows.resize(32);
  std::iota(recipe.rows.rbegin(), recipe.rows.rend(), 0);
  Buffer coded;
  AppendTwin(recipe, 15, 1024, 1024, &coded);
  Bytes out(1024);
  FetchLimits limits;
  ASSERT_TRUE(DecodeTwin(coded.span(), 20, 0, 512, blocks, limits, out).ok());

  std::mt19937 random(6);
  for (int i = 0; i < 200000; ++i) {
    Bytes damaged(coded.begin(), coded.end());
    for (unsigned n = 1 + random() % 4; n > 0; --n) {
      damaged[random() % damaged.size()] = static_cast<uint8_t>(random());
    }
    if (i % 3 == 0) damaged.resize(random() % damaged.size());
    (void)DecodeTwin(damaged, 20, 0, 512, blocks, limits, out).ok();
  }
  // Blocks that come later, blocks of this frame, work without end.
  EXPECT_FALSE(DecodeTwin(coded.span(), 15, 0, 512, blocks, limits, out).ok());
  EXPECT_FALSE(DecodeTwin(coded.span(), 20, 8, 512, blocks, limits, out).ok());
  EXPECT_FALSE(DecodeTwin(coded.span(), 20, 0, 256, blocks, limits, out).ok());
  Bytes small(2);
  coded.Clear();
  AppendTwin(recipe, 15, 1024, 2, &coded);
  EXPECT_FALSE(
      DecodeTwin(coded.span(), 20, 0, 512, blocks, limits, small).ok());
}

}  // namespace
}  // namespace zipllm::archive
