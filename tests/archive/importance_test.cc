#include "archive/importance.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <random>

#include "base/dtype.h"
#include "quantizers/quantizer.h"

namespace zipllm::archive {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr size_t kColumns = 256;

class Matrix : public QuantizedMatrix {
 public:
  Matrix(const quantizers::Quantizer& quantizer, size_t rows_made,
         const std::vector<float>& importance, uint32_t seed)
      : quantizer_(quantizer) {
    dtype = quantizer.dtype;
    rows = rows_made;
    columns = kColumns;
    std::mt19937 random(seed);
    weights_.resize(rows * columns);
    for (float& weight : weights_) {
      // About as weights are: a sum of evenly spread numbers, as BF16.
      float sum = -8192;
      for (int i = 0; i < 4; ++i) sum += static_cast<float>(random() % 4096);
      uint32_t bits;
      sum /= 65536;
      std::memcpy(&bits, &sum, sizeof bits);
      bits &= 0xffff0000;
      std::memcpy(&weight, &bits, sizeof bits);
    }
    const DTypeInfo& info = *FindDType(dtype);
    row_bytes_ = columns / info.block_elements * info.block_bytes;
    blocks_ = Quantize(importance);
  }

  /// The share of blocks that `importance` makes again.
  double Share(const std::vector<float>& importance) const {
    const std::vector<uint8_t> made = Quantize(importance);
    const size_t bytes = FindDType(dtype)->block_bytes;
    size_t equal = 0;
    for (size_t at = 0; at < made.size(); at += bytes) {
      equal += std::memcmp(&made[at], &blocks_[at], bytes) == 0;
    }
    return static_cast<double>(equal * bytes) /
           static_cast<double>(made.size());
  }

  bool ReadBlocks(uint64_t row, MutableByteSpan out) override {
    std::memcpy(out.data(), blocks_.data() + row * row_bytes_, out.size());
    return true;
  }
  bool ReadWeights(uint64_t row, std::span<float> out) override {
    std::memcpy(out.data(), weights_.data() + row * columns,
                out.size() * sizeof(float));
    return true;
  }
  std::vector<uint8_t>& blocks() { return blocks_; }

 private:
  std::vector<uint8_t> Quantize(const std::vector<float>& importance) const {
    std::vector<uint8_t> blocks(rows * row_bytes_);
    quantizer_.Best()(weights_.data(), rows, columns, importance.data(),
                      blocks.data());
    return blocks;
  }

  const quantizers::Quantizer& quantizer_;
  std::vector<float> weights_;
  size_t row_bytes_;
  std::vector<uint8_t> blocks_;
};

std::vector<float> Truth() {
  std::vector<float> importance;
  for (size_t i = 0; i < kColumns; ++i) {
    importance.push_back(0.2f + static_cast<float>(i * 37 % 64) / 32);
  }
  return importance;
}
const std::vector<float> kNone(kColumns, 1.0f);

const quantizers::Quantizer& Find(DType dtype) {
  for (const quantizers::Quantizer* quantizer : quantizers::AllQuantizers()) {
    if (quantizer->dtype == dtype && quantizer->needs_importance) {
      return *quantizer;
    }
  }
  ADD_FAILURE() << "no quantizer";
  return *quantizers::AllQuantizers()[0];
}

TEST(Importance, IsFoundFromOneMatrix) {
  struct Case {
    DType dtype;
    size_t rows;
    double share;
  };
  for (const Case& c :
       {Case{DType::kGgmlQ40, 1024, 0.9}, Case{DType::kGgmlQ50, 1024, 0.9},
        Case{DType::kGgmlQ41, 512, 0.8}, Case{DType::kGgmlQ51, 512, 0.8},
        Case{DType::kGgmlQ2K, 1024, 0.25}, Case{DType::kGgmlQ3K, 1024, 0.25},
        Case{DType::kGgmlQ4K, 1024, 0.3}, Case{DType::kGgmlQ5K, 1024, 0.3},
        Case{DType::kGgmlQ6K, 1024, 0.3}}) {
    SCOPED_TRACE(FindDType(c.dtype)->name);
    EXPECT_TRUE(TellsImportance(c.dtype));
    Matrix matrix(Find(c.dtype), c.rows, Truth(), 1);
    QuantizedMatrix* matrices[] = {&matrix};
    const auto found = FitImportance(matrices);
    ASSERT_TRUE(found.has_value());
    ASSERT_EQ(found->size(), kColumns);
    EXPECT_GT(matrix.Share(*found), c.share);
    EXPECT_LT(matrix.Share(kNone), c.share / 2);
    for (const float number : *found) {
      EXPECT_GT(number, 0);
      uint32_t bits;
      std::memcpy(&bits, &number, sizeof bits);
      EXPECT_EQ(bits & 0x3fff, 0u);
    }
  }
  EXPECT_FALSE(TellsImportance(DType::kGgmlIQ2S));
}

TEST(Importance, ServesOthersThatHaveIt) {
  Matrix q4_0(Find(DType::kGgmlQ40), 1024, Truth(), 1);
  Matrix q4_k(Find(DType::kGgmlQ4K), 512, Truth(), 2);
  Matrix q6_k(Find(DType::kGgmlQ6K), 512, Truth(), 3);
  QuantizedMatrix* matrices[] = {&q6_k, &q4_k, &q4_0};
  const auto found = FitImportance(matrices);
  ASSERT_TRUE(found.has_value());
  EXPECT_GT(q4_0.Share(*found), 0.9);
  EXPECT_GT(q4_k.Share(*found), 0.75);
  EXPECT_GT(q6_k.Share(*found), 0.8);
}

TEST(Importance, IsNotFoundWhereThereIsNone) {
  Matrix flat(Find(DType::kGgmlQ40), 512, kNone, 1);
  QuantizedMatrix* matrices[] = {&flat};
  EXPECT_FALSE(FitImportance(matrices).has_value());
  // Nor in noise, or where there is nothing at all.
  Matrix noise(Find(DType::kGgmlQ4K), 64, Truth(), 1);
  std::mt19937 random(7);
  for (uint8_t& byte : noise.blocks()) byte = static_cast<uint8_t>(random());
  matrices[0] = &noise;
  EXPECT_FALSE(FitImportance(matrices).has_value());
  matrices[0] = &flat;
  flat.rows = 0;
  EXPECT_FALSE(FitImportance(matrices).has_value());
  EXPECT_FALSE(FitImportance({}).has_value());
}

TEST(Importance, OfSumsAndCounts) {
  EXPECT_THAT(ImportanceOf({{3, 1, 5, 7}}, {{2, 0}}, true),
              ElementsAre(1.5f, 0.5f, 1, 1));
  EXPECT_THAT(ImportanceOf({{3, 1}}, {{0}}, false), ElementsAre(3, 1));
  EXPECT_THAT(ImportanceOf({{1}}, {{3}}, false), ElementsAre(1.0f / 3));
  EXPECT_THAT(ImportanceOf({{1, 2, 3}}, {{1, 1}}, true), IsEmpty());
  EXPECT_THAT(ImportanceOf({{1}}, {}, true), IsEmpty());
}

TEST(Importance, TensorsWithOneInput) {
  EXPECT_EQ(ImportanceKey("blk.3.attn_q.weight"),
            ImportanceKey("blk.3.attn_v.weight"));
  EXPECT_EQ(ImportanceKey("blk.3.ffn_up.weight"),
            ImportanceKey("blk.3.ffn_gate.weight"));
  EXPECT_NE(ImportanceKey("blk.3.attn_q.weight"),
            ImportanceKey("blk.4.attn_q.weight"));
  EXPECT_NE(ImportanceKey("blk.3.ffn_up.weight"),
            ImportanceKey("blk.3.attn_q.weight"));
  EXPECT_EQ(ImportanceKey("output.weight"), "output.weight");
}

}  // namespace
}  // namespace zipllm::archive
