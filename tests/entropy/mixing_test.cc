// The models that codecs mix: tables against their formulas, coders against
// each other, predictors against what they must find.
#include "entropy/mixing.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <random>

#include "entropy/binary_coder.h"
#include "entropy/row_predictor.h"

namespace zipllm::entropy {
namespace {

TEST(MixingTablesTest, FollowTheirFormulas) {
  const MixingTables& tables = GetMixingTables();
  for (int x = -kStretchMax; x <= kStretchMax; ++x) {
    EXPECT_NEAR(tables.squash[x + 2048], 65536 / (1 + std::exp(-x / 256.0)),
                0.51);
  }
  for (int p = 0; p < 4096; ++p) {
    const int x = tables.stretch[p];
    if (x < kStretchMax) {
      EXPECT_GE(tables.squash[x + 2048], p * 16 + 8);
    }
    if (x > -kStretchMax) {
      EXPECT_LT(tables.squash[x + 2047], p * 16 + 8);
    }
  }
  for (int n = 0; n < 1024; ++n) {
    EXPECT_EQ(tables.step[n], static_cast<int>(65536 / (n + 1.5)));
  }
}

TEST(AdaptiveBitTest, LearnsAShare) {
  std::minstd_rand random(1);
  AdaptiveBit model;
  EXPECT_EQ(model.p16(), 32768u);
  for (int i = 0; i < 20000; ++i) {
    model.Update(GetMixingTables(), random() % 10 == 0, 1000);
  }
  EXPECT_NEAR(model.p16(), 6554, 1500);
  for (int i = 0; i < 100000; ++i) model.Update(GetMixingTables(), true, 1000);
  EXPECT_GT(model.p16(), 65500u);
  for (int i = 0; i < 100000; ++i) model.Update(GetMixingTables(), false, 1000);
  EXPECT_LT(model.p16(), 36u);
}

TEST(BinaryCoderTest, RoundTripsNearTheEntropy) {
  std::minstd_rand random(2);
  for (const uint32_t p : {1u, 700u, 32768u, 60000u, 65535u}) {
    Buffer code;
    BinaryEncoder encoder(&code);
    std::vector<bool> bits;
    double entropy = 0;
    for (int i = 0; i < 50000; ++i) {
      bits.push_back(random() % 65536 < p);
      entropy -= std::log2((bits.back() ? p : 65536 - p) / 65536.0);
      encoder.Code(bits.back(), p);
    }
    encoder.Finish();
    EXPECT_LE(static_cast<double>(code.size()), entropy / 8 * 1.001 + 8);
    BinaryDecoder decoder(code.data(), code.size());
    for (const bool bit : bits) ASSERT_EQ(decoder.Code(false, p), bit);
    EXPECT_TRUE(decoder.IsAtEnd());
  }
}

TEST(BinaryCoderTest, AnyBytesDecodeToSomething) {
  std::minstd_rand random(3);
  for (size_t size = 0; size < 20; ++size) {
    std::vector<uint8_t> garbage(size);
    for (uint8_t& byte : garbage) byte = static_cast<uint8_t>(random() >> 8);
    BinaryDecoder decoder(garbage.data(), garbage.size());
    for (uint32_t i = 0; i < 1000; ++i) {
      decoder.Code(false, 1 + i * 65 % 65535);
    }
    EXPECT_FALSE(decoder.IsAtEnd());
  }
}

TEST(MixerTest, FindsTheModelThatKnows) {
  std::minstd_rand random(4);
  const MixingTables& tables = GetMixingTables();
  Mixer<2> mixer(2, {0, 0}, 14);
  for (int i = 0; i < 5000; ++i) {
    const bool bit = random() % 2 == 0;
    // The first model knows in set 0, the second in set 1.
    const int32_t knows = bit ? 512 : -512;
    const int32_t guesses = random() % 2 == 0 ? 512 : -512;
    for (size_t set = 0; set < 2; ++set) {
      const Mixer<2>::Inputs inputs = {set == 0 ? knows : guesses,
                                       set == 0 ? guesses : knows};
      const uint32_t p = tables.squash[mixer.Mix(inputs, set) + 2048];
      if (i > 2000) {
        EXPECT_GT(bit ? p : 65536 - p, 60000u);
      }
      mixer.Update(p, bit);
    }
  }
}

TEST(RowPredictorTest, FindsWhatColumnsHaveInCommon) {
  // Two columns are noise, the third a sum of both, the fourth has a mean.
  std::minstd_rand random(5);
  const auto noise = [&] {
    return static_cast<int32_t>(random() % 3001) - 1500;
  };
  RowPredictor predictor(4, 1);
  for (int row = 0; row < 3000; ++row) {
    const int32_t a = noise(), b = noise();
    const int32_t values[] = {a, b, (a + b) / 2, 800 + noise() / 8};
    predictor.BeginRow();
    for (size_t column = 0; column < 4; ++column) {
      const int32_t predicted =
          predictor.Prediction(column) >> RowPredictor::kPredictionBits;
      if (row > 2500 && column == 2) {
        EXPECT_NEAR(predicted, values[2], 60);
      }
      if (row > 2500 && column == 3) {
        EXPECT_NEAR(predicted, 800, 100);
      }
      predictor.Set(column, values[column]);
    }
    predictor.EndRow();
  }
}

TEST(RowPredictorTest, EndsWellWhateverComes) {
  // The largest numbers, and more columns than a group has.
  for (const size_t columns : {size_t{1}, size_t{2}, size_t{1500}}) {
    RowPredictor predictor(columns, 0);
    for (int row = 0; row < 6; ++row) {
      predictor.BeginRow();
      for (size_t column = 0; column < columns; ++column) {
        predictor.Set(column, (row + column) % 3 == 0 ? 32767 : -32767);
      }
      predictor.EndRow();
    }
  }
}

}  // namespace
}  // namespace zipllm::entropy
