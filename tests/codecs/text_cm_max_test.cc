// The profile max of text_cm: the same bits on each target, round trips, inputs
// from outside, damage.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "codecs/coding.h"
#include "codecs/text/cm_max_coder.h"
#include "codecs/text/cm_memory.h"

namespace zipllm::codecs {
namespace {

using cm::MaxCoder;
using cm::MaxSizes;

constexpr std::array kTargets = {
    kernels::Target::kScalar, kernels::Target::kAvx2, kernels::Target::kAvx512};

Bytes BytesOf(const std::string& text) { return {text.begin(), text.end()}; }

/// Lines of records: what match models, columns and fields are for.
Bytes Records(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    text += "{\"time\": " + std::to_string(1700000000 + 13 * i) +
            ", \"name\": \"user-" + std::to_string(i * 7919 % 100) +
            "\", \"tags\": [\"Alpha\", \"beta\", (" + std::to_string(i % 3) +
            ")]}\n";
  }
  return BytesOf(text);
}

/// Two lists of the same words, one with a space in each: what the match that
/// goes on is for.
Bytes Vocabulary(int count) {
  std::string first;
  std::string second;
  uint32_t state = 12345;
  for (int i = 0; i < count; ++i) {
    std::string word;
    for (int k = 0; k < 9; ++k) {
      state = state * 1664525 + 1013904223;
      word += static_cast<char>('a' + (state >> 24) % 26);
    }
    first += "    \"" + word + "\": " + std::to_string(i) + ",\n";
    second += "    \"" + word.substr(0, 4) + " " + word.substr(4) + "\",\n";
  }
  return BytesOf(first + second);
}

MaxSizes SizesOf(size_t size, uint32_t lines = 1 << 12) {
  return {.lines = lines,
          .index_bits = 12,
          .text_size = static_cast<uint32_t>(size)};
}

uint64_t MemoryOf(const MaxSizes& sizes) {
  return cm::kStateBytes + cm::MaxBytes(sizes);
}

Bytes Encode(const MaxCoder& coder, const Bytes& text, const Bytes& prior = {},
             size_t spare = 64) {
  const MaxSizes sizes = SizesOf(text.size() + prior.size());
  const cm::ZeroedMemory memory(MemoryOf(sizes));
  coder.prime(memory.data(), sizes, prior.data(), prior.size());
  Bytes coded(text.size() + spare);
  coded.resize(coder.block.encode(memory.data(), text.data(), text.size(),
                                  coded.data(), coded.size(), {}));
  return coded;
}

/// Empty where it fails.
Bytes Decode(const MaxCoder& coder, const Bytes& coded, size_t size,
             const Bytes& prior = {}) {
  const MaxSizes sizes = SizesOf(size + prior.size());
  const cm::ZeroedMemory memory(MemoryOf(sizes));
  coder.prime(memory.data(), sizes, prior.data(), prior.size());
  const Exact exact(coded);
  Bytes text(size);
  const bool ok = coder.block.decode(memory.data(), exact.span().data(),
                                     coded.size(), text.data(), size, {});
  return ok ? text : Bytes();
}

TEST(TextCmMaxTest, CodesTheSameBytesOnEachTarget) {
  const std::vector<Bytes> texts = {
      BytesOf("a"), Records(40), Vocabulary(60),
      MakeInput(Kind::kText, DType::kBytes, 3000),
      // All bytes, in no order: slots of lines are given up.
      MakeInput(Kind::kRandom, DType::kBytes, 2000), Bytes(3000, '\n')};
  for (const Bytes& text : texts) {
    const Bytes coded = Encode(cm::kMaxCoderScalar, text);
    ASSERT_FALSE(coded.empty());
    for (const kernels::Target target : kTargets) {
      const MaxCoder* coder = cm::kMaxCoders.Find(target);
      if (coder == nullptr) continue;
      EXPECT_EQ(Encode(*coder, text), coded);
      EXPECT_EQ(Decode(*coder, coded, text.size()), text);
    }
  }
}

TEST(TextCmMaxTest, PriorIsReadFirst) {
  const Bytes prior = Records(20);
  const Bytes text = Records(30);
  const Bytes alone = Encode(cm::kMaxCoders.Best(), text);
  const Bytes after = Encode(cm::kMaxCoders.Best(), text, prior);
  EXPECT_LT(after.size(), alone.size());
  EXPECT_EQ(Decode(cm::kMaxCoders.Best(), after, text.size(), prior), text);
  EXPECT_NE(Decode(cm::kMaxCoders.Best(), after, text.size()), text);
}

TEST(TextCmMaxTest, FollowsAListThatIsRepeatedWithSpaces) {
  const size_t some = Encode(cm::kMaxCoders.Best(), Vocabulary(200)).size();
  Bytes first = Vocabulary(200);
  first.resize(first.size() - 200 * 18);
  // 9 letters of a word are 5.3 bytes. The second list tells where the space
  // is, which is ever the same.
  const size_t added = some - Encode(cm::kMaxCoders.Best(), first).size();
  EXPECT_LT(added, 200 * 5.3 / 2);
}

TEST(TextCmMaxTest, WhatDoesNotFitIsNotCoded) {
  const Bytes text = MakeInput(Kind::kRandom, DType::kBytes, 1000);
  Bytes coded(100);
  const MaxSizes sizes = SizesOf(text.size());
  const cm::ZeroedMemory memory(MemoryOf(sizes));
  const MaxCoder& coder = cm::kMaxCoders.Best();
  coder.prime(memory.data(), sizes, nullptr, 0);
  EXPECT_EQ(coder.block.encode(memory.data(), text.data(), text.size(),
                               coded.data(), coded.size(), {}),
            0u);
}

TEST(TextCmMaxTest, LearnsToTrustInputsFromOutside) {
  const Bytes text = MakeInput(Kind::kRandom, DType::kBytes, 1000);
  const MaxSizes sizes = SizesOf(text.size());
  std::array<double, 2> bits{};
  for (size_t told = 0; told < 2; ++told) {
    const cm::ZeroedMemory memory(cm::MaxBytes(sizes));
    const auto model = std::make_unique<cm::MaxModel>(memory.data(), sizes);
    for (const uint8_t byte : text) {
      for (int k = 7; k >= 0; --k) {
        const bool bit = byte >> k & 1;
        std::array<int32_t, cm::kMaxExtraInputs> extra{};
        extra[3] = told == 0 ? 0 : bit ? 1000 : -1000;
        const uint32_t p = model->Predict(extra);
        ASSERT_GE(p, 1u);
        ASSERT_LE(p, 65535u);
        bits[told] -= std::log2((bit ? p : 65536 - p) / 65536.0);
        model->Update(bit);
      }
    }
  }
  EXPECT_GT(bits[0], 7900);
  EXPECT_LT(bits[1], 4000);
}

TEST(TextCmMaxTest, DamagedCodeStaysInBounds) {
  const Bytes text = Records(8);
  const Bytes coded = Encode(cm::kMaxCoders.Best(), text);
  for (size_t i = 0; i < coded.size(); i += 7) {
    Bytes damaged = coded;
    damaged[i] ^= static_cast<uint8_t>(1 << i % 8);
    EXPECT_NE(Decode(cm::kMaxCoders.Best(), damaged, text.size()), text);
    damaged.resize(i);
    Decode(cm::kMaxCoders.Best(), damaged, text.size());
  }
  Bytes longer = coded;
  longer.push_back(0);
  EXPECT_EQ(Decode(cm::kMaxCoders.Best(), longer, text.size()), Bytes());
}

TEST(TextCmMaxTest, OneLineOfTheTableIsEnough) {
  const Bytes text = Records(10);
  const MaxSizes sizes = SizesOf(text.size(), 1);
  Bytes coded(text.size());
  {
    const cm::ZeroedMemory memory(MemoryOf(sizes));
    cm::kMaxCoderScalar.prime(memory.data(), sizes, nullptr, 0);
    coded.resize(cm::kMaxCoderScalar.block.encode(memory.data(), text.data(),
                                                  text.size(), coded.data(),
                                                  coded.size(), {}));
  }
  ASSERT_FALSE(coded.empty());
  for (const kernels::Target target : kTargets) {
    const MaxCoder* coder = cm::kMaxCoders.Find(target);
    if (coder == nullptr) continue;
    const cm::ZeroedMemory memory(MemoryOf(sizes));
    coder->prime(memory.data(), sizes, nullptr, 0);
    Bytes out(text.size());
    EXPECT_TRUE(coder->block.decode(memory.data(), coded.data(), coded.size(),
                                    out.data(), out.size(), {}));
    EXPECT_EQ(out, text);
  }
}

}  // namespace
}  // namespace zipllm::codecs
