// Codecs that take lines give back hostile logs, whatever the archive would
// have chosen for them.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <utility>

#include "base/bytes.h"
#include "codecs/coding.h"
#include "codecs/hostile_logs.h"
#include "codecs/text/detect.h"

namespace zipllm::codecs {
namespace {

constexpr CodecId kLog = 25;

EncodeRequest Request(std::string_view log, int level) {
  EncodeRequest request{.data = AsBytes(log),
                        .block_size = log.size(),
                        .dtype = DType::kBytes,
                        .level = level};
  request.is_text = request.is_lines = true;
  return request;
}

class LogHostile : public testing::TestWithParam<HostileLog> {};

TEST_P(LogHostile, BlocksComeBack) {
  Random random(1);
  const std::string log = GetParam().make(700, random);
  for (const int level : {3, 6}) CheckRoundTrip(kLog, Request(log, level));
}

TEST_P(LogHostile, CutAnywhere) {
  Random random(3);
  const std::string log = GetParam().make(40, random);
  for (size_t i = 0; i < 12; ++i) {
    const size_t begin = random.Below(log.size());
    const size_t size = 1 + random.Below(log.size() - begin);
    CheckRoundTrip(kLog, Request(std::string_view(log).substr(begin, size), 5));
  }
}

INSTANTIATE_TEST_SUITE_P(, LogHostile, testing::ValuesIn(HostileLogs()),
                         [](const auto& instance) {
                           std::string name(instance.param.name);
                           std::erase_if(name, [](char c) {
                             return !std::isalnum(
                                 static_cast<unsigned char>(c));
                           });
                           return name;
                         });

TEST(LogHostileSizes, TinyOnes) {
  for (const std::string_view log :
       {"\n", "a", "1", "\r\n", "1\n2\n", "\n\n1", " "}) {
    for (const int level : {3, 5, 7}) CheckRoundTrip(kLog, Request(log, level));
  }
}

// What is damaged ends in an error or in other bytes: never beyond a span.
TEST(LogHostileSizes, DamagedBlocks) {
  const Encoder& encoder = *FindEncoder(kLog);
  const Decoder& decoder = *FindDecoder(kLog);
  Random random(4);
  for (const HostileLog& kind : HostileLogs()) {
    const std::string log = kind.make(120, random);
    Scratch scratch;
    const EncodeRequest request = Request(log, 3);
    const auto frame = EncodeFrame(encoder, request, scratch);
    if (!frame || !frame->blocks[0]) continue;
    const Context context(request, request.data, frame->shared);
    for (int i = 0; i < 20; ++i) {
      codecs::Bytes coded = *frame->blocks[0];
      const bool is_cut = i % 4 == 0;
      if (is_cut) {
        coded.resize(random.Below(coded.size()));
      } else {
        coded[random.Below(coded.size())] ^=
            static_cast<uint8_t>(1 << random.Below(8));
      }
      const auto decoded =
          DecodeBlock(decoder, frame->params, context.get(), coded, log.size());
      if (is_cut) {
        EXPECT_FALSE(decoded && std::ranges::equal(*decoded, request.data));
      }
    }
  }
}

std::string Base64(size_t size) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  Random random(5);
  std::string out;
  while (out.size() < size) {
    out += out.size() % 77 == 76 ? '\n' : kDigits[random.Below(64)];
  }
  return out;
}

std::string Sources() {
  std::string out;
  for (const std::string name :
       {"src/codecs/bytes/zstd_encode.cc", "src/archive/compressor.cc",
        "format-spec/container.md", "tools/spec_decoder.py", "README.md"}) {
    std::ifstream in(ZIPLLM_SOURCE_DIR "/" + name, std::ios::binary);
    out.append(std::istreambuf_iterator<char>(in), {});
  }
  return out;
}

// Where lines are not those of a log, the codec leaves them to others, or is
// not worse than these by more than 0.1 %.
TEST(LogHostileSizes, NeverHarmful) {
  Random random(6);
  std::string noise;
  for (int i = 0; i < 200'000; ++i) noise += static_cast<char>(random.Next());
  for (const std::string& text : {Base64(200'000), Sources(), noise}) {
    if (!LooksLikeLines(AsBytes(text))) continue;
    for (const auto& [level, other] : {std::pair{3, 21}, {6, 22}}) {
      Scratch scratch;
      const EncodeRequest request = Request(text, level);
      const auto plan = FindEncoder(kLog)->plan(request, scratch);
      if (plan == nullptr) continue;
      const auto others =
          FindEncoder(static_cast<CodecId>(other))->plan(request, scratch);
      ASSERT_NE(others, nullptr);
      EXPECT_LE(static_cast<double>(plan->estimate()),
                1.001 * static_cast<double>(others->estimate()))
          << "level " << level << ", " << text.substr(0, 40);
    }
  }
}

}  // namespace
}  // namespace zipllm::codecs
