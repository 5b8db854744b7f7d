#include "codecs/quant/derived_grids.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "base/buffer.h"
#include "entropy/binary_coder.h"
#include "quantizers/quantizer.h"

namespace zipllm::codecs::derived {
namespace {

using quantizers::FindGridType;
using quantizers::GridType;
using quantizers::kGridBlock;

class EachGrid : public testing::TestWithParam<DType> {
 protected:
  static constexpr size_t kBlocks = 24;

  const GridType& type() const { return *FindGridType(GetParam()); }

  std::vector<float> Weights() const {
    std::mt19937 random(5);
    std::vector<float> weights(kBlocks * kGridBlock);
    for (float& weight : weights) {
      // About bell-shaped.
      int sum = 0;
      for (int i = 0; i < 4; ++i) sum += static_cast<int>(random() % 1001);
      weight = static_cast<float>(sum - 2000) / 65536;
    }
    return weights;
  }
  std::vector<uint8_t> AnyBlocks() const {
    std::mt19937 random(6);
    std::vector<uint8_t> blocks(kBlocks * type().bytes);
    for (uint8_t& byte : blocks) byte = static_cast<uint8_t>(random());
    return blocks;
  }
  /// What a quantizer makes of the weights; none where there is none.
  std::vector<uint8_t> Quantized(const std::vector<float>& weights) const {
    const std::vector<float> importance(kGridBlock, 1.0f);
    for (const auto* quantizer : quantizers::AllQuantizers()) {
      if (quantizer->dtype != GetParam()) continue;
      std::vector<uint8_t> blocks(kBlocks * type().bytes);
      quantizer->Best()(weights.data(), kBlocks, kGridBlock, importance.data(),
                        blocks.data());
      return blocks;
    }
    return {};
  }

  template <class Coder>
  void Run(Coder* coder, const std::vector<float>& weights,
           const uint8_t* predicted, uint8_t* blocks) const {
    GridCoder<Coder> grid(type(), coder);
    for (size_t b = 0; b < kBlocks; ++b) {
      grid.Code(weights.data() + b * kGridBlock, nullptr,
                predicted == nullptr ? nullptr : predicted + b * type().bytes,
                blocks + b * type().bytes);
    }
  }

  /// Bytes of the coded blocks, which decode to what they were.
  size_t RoundTrip(const std::vector<float>& weights, const uint8_t* predicted,
                   std::vector<uint8_t> blocks) const {
    Buffer coded;
    entropy::BinaryEncoder encoder(&coded);
    Run(&encoder, weights, predicted, blocks.data());
    encoder.Finish();
    entropy::BinaryDecoder decoder(coded.data(), coded.size());
    std::vector<uint8_t> decoded(blocks.size());
    Run(&decoder, weights, predicted, decoded.data());
    EXPECT_EQ(decoded, blocks);
    return coded.size();
  }
};

INSTANTIATE_TEST_SUITE_P(All, EachGrid,
                         testing::Values(DType::kGgmlIQ1S, DType::kGgmlIQ1M,
                                         DType::kGgmlIQ2XXS, DType::kGgmlIQ2XS,
                                         DType::kGgmlIQ2S, DType::kGgmlIQ3XXS,
                                         DType::kGgmlIQ3S));

TEST_P(EachGrid, AnyBlocksComeBack) {
  std::vector<float> weights = Weights();
  const std::vector<uint8_t> blocks = AnyBlocks();
  RoundTrip(weights, nullptr, blocks);
  RoundTrip(weights, blocks.data(), blocks);
  std::mt19937 random(7);
  for (float& weight : weights) {
    const auto bits = static_cast<uint32_t>(random());
    std::memcpy(&weight, &bits, sizeof weight);
  }
  RoundTrip(weights, nullptr, blocks);
  std::fill(weights.begin(), weights.end(), 0.0f);
  RoundTrip(weights, nullptr, blocks);
}

TEST_P(EachGrid, QuantizedWeightsTakeLittle) {
  const std::vector<float> weights = Weights();
  const std::vector<uint8_t> blocks = Quantized(weights);
  if (blocks.empty()) GTEST_SKIP() << "no quantizer";
  // Models have to learn in a few blocks here.
  EXPECT_LT(RoundTrip(weights, nullptr, blocks), blocks.size() / 2);
  EXPECT_LT(RoundTrip(weights, blocks.data(), blocks), blocks.size() / 20);
}

TEST_P(EachGrid, AnyBytesDecode) {
  const std::vector<float> weights = Weights();
  std::mt19937 random(8);
  for (int n = 0; n < 20; ++n) {
    std::vector<uint8_t> coded(random() % 600);
    for (uint8_t& byte : coded) {
      byte = n < 4 ? static_cast<uint8_t>(n % 2 * 255)
                   : static_cast<uint8_t>(random());
    }
    entropy::BinaryDecoder decoder(coded.data(), coded.size());
    std::vector<uint8_t> blocks(kBlocks * type().bytes);
    Run(&decoder, weights, nullptr, blocks.data());
    // They code again.
    RoundTrip(weights, nullptr, blocks);
  }
}

TEST(NearestHalf, RoundsToEven) {
  for (uint32_t half = 0; half < 0x7bff; ++half) {
    const float value = HalfValue(static_cast<uint16_t>(half));
    const float next = HalfValue(static_cast<uint16_t>(half + 1));
    EXPECT_EQ(NearestHalf(value), half);
    EXPECT_EQ(NearestHalf((value + next) / 2), half + (half & 1));
  }
  EXPECT_EQ(NearestHalf(INFINITY), 0x7bff);
  EXPECT_EQ(NearestHalf(NAN), 0x7bff);
  EXPECT_EQ(NearestHalf(-1.0f), 0);
}

}  // namespace
}  // namespace zipllm::codecs::derived
