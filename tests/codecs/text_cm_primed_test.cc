// Models that are kept primed: what they code does not depend on what was coded
// before, nor on where their memory lies.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <thread>
#include <vector>

#include "codecs/coding.h"
#include "codecs/generators.h"
#include "codecs/text/cm_fast_coder.h"
#include "codecs/text/cm_format.h"
#include "codecs/text/cm_log_coder.h"
#include "codecs/text/cm_max_coder.h"
#include "codecs/text/cm_primed.h"
#include "codecs/text/lm.h"
#include "codecs/text/lm_format.h"

namespace zipllm::codecs {
namespace {

using cm::Profile;

Bytes Code(const cm::Params& params, ByteSpan text) {
  Buffer coded;
  EXPECT_TRUE(cm::EncodeBlock(params, text, &coded));
  return Bytes(coded.begin(), coded.end());
}

/// Without anything that is kept.
Bytes CodeAnew(const cm::Params& params, ByteSpan text) {
  const cm::ZeroedMemory memory(cm::MemoryOf(params, text.size()));
  const cm::Priors priors = cm::PriorsOf(params);
  const ByteSpan prior = PriorText(params.prior);
  const auto all = static_cast<uint32_t>(priors.size + text.size());
  const auto learnt = static_cast<uint32_t>(priors.learnt);
  const auto bits = [](size_t size) {
    return std::clamp(static_cast<int>(std::bit_width(size)), 10, 20);
  };
  const cm::BlockCoder* coder = nullptr;
  switch (params.profile) {
    case Profile::kFast:
      cm::kFastCoderScalar.prime[params.records](
          memory.data(), cm::FastSizesOf(params, text.size()), priors);
      coder = &cm::kFastCoderScalar.block[params.records];
      break;
    case Profile::kMax: {
      const size_t read = learnt + text.size();
      cm::kMaxCoderScalar.prime(memory.data(),
                                {.lines = uint32_t{params.lines} << 16,
                                 .index_bits = bits(read),
                                 .text_size = static_cast<uint32_t>(read)},
                                prior.last(learnt).data(), learnt);
      coder = &cm::kMaxCoderScalar.block;
      break;
    }
    case Profile::kLog:
      cm::kLogCoderScalar.prime(memory.data(),
                                {.line_bits = params.lines,
                                 .index_bits = bits(all),
                                 .text_size = all},
                                prior.data(), prior.size(), learnt);
      coder = &cm::kLogCoderScalar.block;
      break;
  }
  Bytes coded(text.size());
  coded.resize(coder->encode(memory.data(), text.data(), text.size(),
                             coded.data(), coded.size(), {}));
  return coded;
}

const cm::Params kParams[] = {
    {.profile = Profile::kFast, .lines = 14, .prior = Prior::kCards},
    {.profile = Profile::kFast,
     .lines = 12,
     .prior = Prior::kCsv,
     .records = true},
    {.profile = Profile::kMax, .lines = 1, .prior = Prior::kJson},
    {.profile = Profile::kLog, .lines = 11, .prior = Prior::kLogs},
};

/// Of sizes with equal tables, and not.
std::vector<Bytes> Texts() {
  std::vector<Bytes> texts;
  for (const int size : {200, 265, 1100, 201}) {
    texts.push_back(
        MakeInput(Kind::kText, DType::kBytes, static_cast<size_t>(size)));
  }
  return texts;
}

TEST(PrimedTest, CodesAsIfItWereTheFirst) {
  for (const cm::Params& params : kParams) {
    for (const Bytes& text : Texts()) {
      const Bytes coded = Code(params, text);
      EXPECT_EQ(coded, CodeAnew(params, text));
      EXPECT_EQ(Code(params, text), coded);
      Bytes decoded(text.size());
      EXPECT_TRUE(cm::DecodeBlock(params, coded, decoded).ok());
      EXPECT_EQ(decoded, text);
    }
  }
}

TEST(PrimedTest, LanguageModelsToo) {
  for (const lm::Params& params :
       {lm::Params{
            .profile = lm::Profile::kMixed, .lines = 1, .prior = Prior::kProse},
        lm::Params{.profile = lm::Profile::kAlone}}) {
    for (const Bytes& text : Texts()) {
      Buffer coded[2];
      for (Buffer& one : coded) {
        ASSERT_TRUE(lm::EncodeBlock(params, text, &one));
        Bytes decoded(text.size());
        EXPECT_TRUE(lm::DecodeBlock(params, one.span(), decoded).ok());
        EXPECT_EQ(decoded, text);
      }
      EXPECT_TRUE(std::ranges::equal(coded[0], coded[1]));
    }
  }
}

TEST(PrimedTest, ThreadsShareThem) {
  const std::vector<Bytes> texts = Texts();
  std::vector<Bytes> expected;
  for (const Bytes& text : texts) expected.push_back(Code(kParams[0], text));
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (size_t i = 0; i < texts.size(); ++i) {
        EXPECT_EQ(Code(kParams[0], texts[i]), expected[i]);
      }
    });
  }
}

/// More models than are kept, among them one that is asked for all the time.
TEST(PrimedTest, ManyKeysStayBounded) {
  static constexpr cm::BlockCoder kCoder = {
      .encode = nullptr,
      .decode = nullptr,
      .relocate = [](uint8_t* memory, const uint8_t*) { memory[0] = 1; }};
  constexpr uint64_t kSize = 8 << 20;
  size_t made = 0;
  const auto use = [&](uint64_t key) {
    const cm::PrimedMemory memory(
        {.key = key,
         .used = kSize - 1000,
         .size = kSize,
         .prime =
             [&, key](uint8_t* to) {
               ++made;
               // Lines that differ: nothing of them can be left out.
               for (uint64_t i = 0; i < kSize - 1000; i += 8) {
                 const uint64_t x = (i + key) * 0x9E3779B97F4A7C15;
                 std::memcpy(to + i, &x, std::min<uint64_t>(8, kSize - i));
               }
               to[0] = 0;
             },
         .coder = &kCoder});
    EXPECT_EQ(memory.data()[kSize - 1], 0);
    memory.data()[kSize - 1] = 7;
    uint64_t x;
    std::memcpy(&x, memory.data() + 800, 8);
    EXPECT_EQ(x, (800 + key) * 0x9E3779B97F4A7C15);
    return memory.data()[0] == 1;
  };
  constexpr uint64_t kFirst = uint64_t{1} << 60;
  EXPECT_FALSE(use(kFirst));
  for (uint64_t key = 1; key < 30; ++key) {
    EXPECT_FALSE(use(kFirst + key));
    EXPECT_TRUE(use(kFirst));
  }
  EXPECT_EQ(made, 30u);
  // The one that was asked for longest ago is gone.
  EXPECT_FALSE(use(kFirst + 1));
}

}  // namespace
}  // namespace zipllm::codecs
