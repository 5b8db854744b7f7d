// Codec text_lm: what the language model knows, the same bits on each target,
// damage.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>

#include "base/hash.h"
#include "codecs/coding.h"
#include "codecs/text/cm_memory.h"
#include "codecs/text/lm.h"
#include "codecs/text/lm_format.h"

namespace zipllm::codecs {
namespace {

using lm::Profile;
using testing::HasSubstr;

// Not out of the texts that the model was trained with.
constexpr std::string_view kEnglish =
    "The children walked slowly down to the harbour, where their grandfather "
    "was mending a net. He had promised to show them how the old boat could "
    "be made to float again, but the weather had changed during the night and "
    "nobody knew whether the wind would let them go out before the evening.\n";

Bytes Read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

ByteSpan SpanOf(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

Bytes CodeOf(const lm::Params& params, ByteSpan text) {
  Buffer coded;
  EXPECT_TRUE(lm::EncodeBlock(params, text, &coded));
  return {coded.begin(), coded.end()};
}

/// Text of several kinds.
Bytes Mixture(size_t size) {
  Bytes text = MakeInput(Kind::kText, DType::kBytes, size / 2);
  while (text.size() < size) {
    text.insert(text.end(), kEnglish.begin(), kEnglish.end());
    text.push_back(static_cast<uint8_t>(text.size()));
  }
  return text;
}

TEST(TextLmTest, WeightsAreThoseOfTheFormat) {
  const Bytes file = Read(ZIPLLM_SOURCE_DIR "/src/codecs/text/lm_weights.bin");
  ASSERT_EQ(file.size(), sizeof(lm::File));
  const std::string hex = Hex(Sha256Of(file));
  const Bytes page =
      Read(ZIPLLM_SOURCE_DIR "/format-spec/codecs/23-text_lm.md");
  EXPECT_THAT(std::string(page.begin(), page.end()), HasSubstr(hex));
  EXPECT_EQ(std::memcmp(lm::BuiltInWeights().lines, file.data(),
                        sizeof(lm::File::lines)),
            0);
}

TEST(TextLmTest, OutputWeightsCannotOverflow) {
  for (const auto& node : lm::BuiltInWeights().output) {
    for (const int16_t w : node) ASSERT_LE(std::abs(w), lm::kOutputMax);
  }
}

TEST(TextLmTest, KnowsEnglish) {
  const size_t plain = kEnglish.size();
  EXPECT_LT(CodeOf({.profile = Profile::kAlone}, SpanOf(kEnglish)).size() * 8,
            plain * 3);
  EXPECT_LT(
      CodeOf({.lines = 1, .prior = Prior::kProse}, SpanOf(kEnglish)).size() * 8,
      plain * 3);
}

TEST(TextLmTest, AdaptsToWhatItReads) {
  const Bytes once = Mixture(3000);
  Bytes twice = once;
  twice.insert(twice.end(), once.begin(), once.end());
  const lm::Params alone{.profile = Profile::kAlone};
  const size_t first = CodeOf(alone, once).size();
  EXPECT_LT(CodeOf(alone, twice).size(), first + first * 4 / 5);
}

TEST(TextLmTest, TargetsCodeAlike) {
  const Bytes text = Mixture(6000);
  const Bytes prior = Mixture(500);
  const cm::MaxSizes sizes{
      .lines = 1 << 12, .index_bits = 12, .text_size = 6500};
  for (const bool alone : {false, true}) {
    Bytes expected;
    for (const auto target : {kernels::Target::kScalar, kernels::Target::kAvx2,
                              kernels::Target::kAvx512}) {
      const lm::Coder* coder = lm::kCoders.Find(target);
      if (coder == nullptr) continue;
      const uint64_t bytes =
          cm::kStateBytes + (alone ? lm::kAloneBytes : cm::MaxBytes(sizes));
      const auto prime = [&](uint8_t* memory) {
        coder->prime[alone](memory, sizes, lm::BuiltInWeights(), prior.data(),
                            prior.size());
      };
      Bytes coded(text.size());
      {
        const cm::ZeroedMemory memory(bytes);
        prime(memory.data());
        coded.resize(coder->block[alone].encode(memory.data(), text.data(),
                                                text.size(), coded.data(),
                                                coded.size(), {}));
      }
      ASSERT_GT(coded.size(), 0u);
      if (expected.empty()) expected = coded;
      EXPECT_EQ(coded, expected);
      const cm::ZeroedMemory memory(bytes);
      prime(memory.data());
      Bytes decoded(text.size());
      EXPECT_TRUE(coder->block[alone].decode(memory.data(), coded.data(),
                                             coded.size(), decoded.data(),
                                             decoded.size(), {}));
      EXPECT_EQ(decoded, text);
    }
  }
}

TEST(TextLmTest, TakesTheSmallerProfile) {
  for (const size_t size : {60, 300, 2000}) {
    const Bytes text = Mixture(size);
    Scratch scratch;
    const auto plan = FindEncoder(23)->plan({.data = text,
                                             .block_size = text.size(),
                                             .dtype = DType::kBytes,
                                             .level = 9,
                                             .is_text = true},
                                            scratch);
    ASSERT_NE(plan, nullptr);
    EXPECT_LE(plan->estimate(),
              CodeOf({.profile = Profile::kAlone}, text).size());
    Buffer coded;
    ASSERT_TRUE(plan->Encode(text, scratch, &coded));
    EXPECT_EQ(plan->estimate(), coded.size());
    const auto decoded = DecodeBlock(*FindDecoder(23), plan->params(),
                                     coded.span(), text.size());
    EXPECT_TRUE(decoded.has_value() && *decoded == text);
  }
}

TEST(TextLmTest, OnlyTextAtLevelNineIsPlanned) {
  const Bytes text = Mixture(1000);
  Scratch scratch;
  EncodeRequest request{.data = text,
                        .block_size = text.size(),
                        .dtype = DType::kBytes,
                        .level = 8,
                        .is_text = true};
  EXPECT_EQ(FindEncoder(23)->plan(request, scratch), nullptr);
  request.level = 9;
  request.is_text = false;
  EXPECT_EQ(FindEncoder(23)->plan(request, scratch), nullptr);
}

TEST(TextLmTest, RefusesParametersItDoesNotKnow) {
  const auto message = [](const Bytes& params) {
    return std::string(lm::ParseParams(params).status().message());
  };
  EXPECT_THAT(message({1, 0, 1}), HasSubstr("3 bytes"));
  EXPECT_THAT(message({2, 0, 1, 0}), HasSubstr("weights 2"));
  EXPECT_THAT(message({1, 2, 1, 0}), HasSubstr("profile 2"));
  EXPECT_THAT(message({1, 0, 0, 0}), HasSubstr("size 0"));
  EXPECT_THAT(message({1, 0, 97, 0}), HasSubstr("size 97"));
  EXPECT_THAT(message({1, 0, 1, kPriors}), HasSubstr("prior"));
  EXPECT_THAT(message({1, 1, 1, 0}), HasSubstr("size 1"));
  EXPECT_THAT(message({1, 1, 0, 1}), HasSubstr("prior 1"));
  Bytes out(40000);
  EXPECT_THAT(std::string(lm::DecodeBlock({.lines = 3}, {}, out).message()),
              HasSubstr("too large"));
  EXPECT_TRUE(lm::ParseParams(Bytes{1, 1, 0, 0}).ok());
  EXPECT_TRUE(lm::ParseParams(Bytes{1, 0, 96, 9}).ok());
}

TEST(TextLmTest, DamageEndsInAnErrorOrInBytes) {
  const Bytes text = Mixture(400);
  const lm::Params alone{.profile = Profile::kAlone};
  const Bytes coded = CodeOf(alone, text);
  Bytes out(text.size());
  for (size_t size = 0; size < coded.size(); ++size) {
    const Exact cut(ByteSpan(coded).first(size));
    if (lm::DecodeBlock(alone, cut.span(), out).ok()) {
      EXPECT_NE(out, text) << size;
    }
  }
  Random random(1);
  for (int i = 0; i < 200; ++i) {
    Bytes flipped = coded;
    flipped[random.Below(flipped.size())] ^=
        static_cast<uint8_t>(1 << random.Below(8));
    (void)lm::DecodeBlock(alone, Exact(flipped).span(), out);
  }
}

}  // namespace
}  // namespace zipllm::codecs
