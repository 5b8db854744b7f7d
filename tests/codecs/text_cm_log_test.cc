// The profile log of text_cm: the same bytes on each target, round trips of odd
// lines, what it is for, damage.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

#include "codecs/coding.h"
#include "codecs/text/cm_format.h"
#include "codecs/text/cm_log_coder.h"
#include "codecs/text/cm_memory.h"

namespace zipllm::codecs {
namespace {

using cm::LogCoder;
using cm::LogSizes;

constexpr std::array kTargets = {
    kernels::Target::kScalar, kernels::Target::kAvx2, kernels::Target::kAvx512};
constexpr size_t kLearnt = 300;
constexpr CodecId kTextCm = 22;
constexpr CodecId kTextLm = 23;

ByteSpan AsBytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

Bytes BytesOf(const std::string& text) { return {text.begin(), text.end()}; }

/// Random letters and digits.
std::string Id(uint32_t& state) {
  std::string id;
  for (int k = 0; k < 12; ++k) {
    state = state * 1664525 + 1013904223;
    id += "0123456789abcdefghijklmnopqrstuv"[state >> 27];
  }
  return id;
}

/// A log: times and counters that go on, ids that come twice, stack traces.
std::string Log(int lines) {
  std::string text;
  uint32_t state = 1;
  for (int i = 0; i < lines; ++i) {
    const std::string head = "2024-03-0" + std::to_string(1 + i / 500) +
                             "T10:" + std::to_string(10 + i / 60 % 50) + ":" +
                             std::to_string(10 + i % 50) + "." +
                             std::to_string(100000 + i * 37) + " host" +
                             std::to_string(i % 3) + " [INFO] ";
    const std::string id = Id(state);
    text += head + "opened id=" + id + " n=" + std::to_string(90071 + 3 * i) +
            "\n" + head + "closed id=" + id + "\n";
    if (i % 20 == 7) text += "\tat com.example.Main(Main.java:" + id + ")\n";
  }
  return text;
}

/// Lines of which hardly one is whole.
Bytes Odd() {
  std::string text = "\n\n\r\n";
  for (int i = 0; i < 60; ++i) {
    text += "007 " + std::string(static_cast<size_t>(i % 9), ' ') + "000" +
            std::to_string(i) + "\t-0\t" + std::string(30, '9') +
            "18446744073709551615,9223372036854775807;9223372036854775800|" +
            "\x1b[31m\xff\xc3\x28 \xe2\x82\xac\r\n";
    text += std::string(1, '\0');
  }
  return BytesOf(text);
}

LogSizes SizesOf(size_t size) {
  return {.line_bits = 12,
          .index_bits = 12,
          .text_size = static_cast<uint32_t>(size)};
}

uint64_t MemoryOf(const LogSizes& sizes) {
  return cm::kStateBytes + cm::LogBytes(sizes);
}

Bytes Encode(const LogCoder& coder, const Bytes& text, const Bytes& prior = {},
             size_t spare = 64) {
  const LogSizes sizes = SizesOf(text.size() + prior.size());
  const cm::ZeroedMemory memory(MemoryOf(sizes));
  coder.prime(memory.data(), sizes, prior.data(), prior.size(),
              std::min(kLearnt, prior.size()));
  Bytes coded(text.size() + spare);
  coded.resize(coder.block.encode(memory.data(), text.data(), text.size(),
                                  coded.data(), coded.size(), {}));
  return coded;
}

/// Empty where it fails.
Bytes Decode(const LogCoder& coder, const Bytes& coded, size_t size,
             const Bytes& prior = {}) {
  const LogSizes sizes = SizesOf(size + prior.size());
  const cm::ZeroedMemory memory(MemoryOf(sizes));
  coder.prime(memory.data(), sizes, prior.data(), prior.size(),
              std::min(kLearnt, prior.size()));
  const Exact exact(coded);
  Bytes text(size);
  const bool ok = coder.block.decode(memory.data(), exact.span().data(),
                                     coded.size(), text.data(), size, {});
  return ok ? text : Bytes();
}

TEST(TextCmLogTest, CodesTheSameBytesOnEachTarget) {
  const Bytes log = BytesOf(Log(60));
  const std::vector<Bytes> texts = {
      BytesOf("a"),
      log,
      Odd(),
      MakeInput(Kind::kText, DType::kBytes, 3000),
      MakeInput(Kind::kRandom, DType::kBytes, 3000),
      Bytes(5000, '\n'),
      Bytes(5000, '0')};
  for (const Bytes& prior : {Bytes(), BytesOf(Log(10))}) {
    for (const Bytes& text : texts) {
      const Bytes coded = Encode(cm::kLogCoderScalar, text, prior);
      ASSERT_FALSE(coded.empty());
      for (const kernels::Target target : kTargets) {
        const LogCoder* coder = cm::kLogCoders.Find(target);
        if (coder == nullptr) continue;
        EXPECT_EQ(Encode(*coder, text, prior), coded);
        EXPECT_EQ(Decode(*coder, coded, text.size(), prior), text);
      }
    }
  }
}

TEST(TextCmLogTest, PriorIsReadFirst) {
  const Bytes prior = BytesOf(Log(20));
  const Bytes text = BytesOf(Log(30));
  const Bytes alone = Encode(cm::kLogCoders.Best(), text);
  const Bytes after = Encode(cm::kLogCoders.Best(), text, prior);
  EXPECT_LT(after.size(), alone.size());
  EXPECT_NE(Decode(cm::kLogCoders.Best(), after, text.size()), text);
}

TEST(TextCmLogTest, NumbersThatGoOnCostNothing) {
  const auto counter = [](int begin, int end) {
    std::string text;
    for (int i = begin; i < end; ++i) {
      text += "n=" + std::to_string(100000 + 7919 * i) + ";\n";
    }
    return text;
  };
  const size_t some =
      Encode(cm::kLogCoders.Best(), BytesOf(counter(0, 500))).size();
  const size_t more =
      Encode(cm::kLogCoders.Best(), BytesOf(counter(0, 1500))).size();
  // Without the step, the last four digits are new in each line.
  EXPECT_LT(more - some, 1000 / 8);
}

TEST(TextCmLogTest, RandomIdsCostWhatTheyAre) {
  const size_t some = Encode(cm::kLogCoders.Best(), BytesOf(Log(500))).size();
  const size_t more = Encode(cm::kLogCoders.Best(), BytesOf(Log(1500))).size();
  // 12 letters of 5 bits; each stands there twice or more.
  EXPECT_GT(more - some, 1000 * 7.5);
  EXPECT_LT(more - some, 1000 * 8.5);
}

TEST(TextCmLogTest, WhatDoesNotFitIsNotCoded) {
  const Bytes text = MakeInput(Kind::kRandom, DType::kBytes, 1000);
  Bytes coded(100);
  const LogSizes sizes = SizesOf(text.size());
  const cm::ZeroedMemory memory(MemoryOf(sizes));
  const LogCoder& coder = cm::kLogCoders.Best();
  coder.prime(memory.data(), sizes, nullptr, 0, 0);
  EXPECT_EQ(coder.block.encode(memory.data(), text.data(), text.size(),
                               coded.data(), coded.size(), {}),
            0u);
}

TEST(TextCmLogTest, DamagedCodeStaysInBounds) {
  const Bytes text = BytesOf(Log(12));
  const Bytes coded = Encode(cm::kLogCoders.Best(), text);
  for (size_t i = 0; i < coded.size(); i += 23) {
    Bytes damaged = coded;
    damaged[i] ^= static_cast<uint8_t>(1 << i % 8);
    EXPECT_NE(Decode(cm::kLogCoders.Best(), damaged, text.size()), text);
    damaged.resize(i);
    Decode(cm::kLogCoders.Best(), damaged, text.size());
  }
  Bytes longer = coded;
  longer.push_back(0);
  EXPECT_EQ(Decode(cm::kLogCoders.Best(), longer, text.size()), Bytes());
}

TEST(TextCmLogTest, ParametersAreChecked) {
  const auto parse = [](std::array<uint8_t, 4> bytes) {
    return cm::ParseParams(bytes).status();
  };
  EXPECT_TRUE(parse({2, 10, 8, 0}).ok());
  EXPECT_TRUE(parse({2, 21, 0, 0}).ok());
  EXPECT_FALSE(parse({2, 9, 8, 0}).ok());
  EXPECT_FALSE(parse({2, 22, 8, 0}).ok());
  EXPECT_FALSE(parse({2, 10, 8, 1}).ok());
  EXPECT_FALSE(parse({2, 10, 8, 2}).ok());
  EXPECT_FALSE(parse({3, 10, 8, 0}).ok());
}

TEST(TextCmLogTest, IsForLines) {
  const std::string text = Log(600);
  Scratch scratch;
  for (int level = 6; level <= 9; ++level) {
    const EncodeRequest request{.data = AsBytes(text),
                                .block_size = text.size(),
                                .dtype = DType::kBytes,
                                .level = level,
                                .is_text = true,
                                .is_lines = true};
    EXPECT_EQ(FindEncoder(kTextLm)->plan(request, scratch), nullptr);
    const auto plan = FindEncoder(kTextCm)->plan(request, scratch);
    ASSERT_NE(plan, nullptr);
    EXPECT_EQ(plan->params()[0], 2);
    Buffer coded;
    ASSERT_TRUE(plan->Encode(request.data, scratch, &coded));
    const Decoder& decoder = *FindDecoder(kTextCm);
    const auto params = decoder.parse(plan->params());
    ASSERT_TRUE(params.ok());
    Bytes out(text.size());
    ASSERT_TRUE(decoder.decode(params->get(), coded.span(), out, scratch).ok());
    EXPECT_EQ(out, BytesOf(text));
  }
}

}  // namespace
}  // namespace zipllm::codecs
