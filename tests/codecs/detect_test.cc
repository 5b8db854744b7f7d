// What looks like text: in many codes, and nothing that is none.
#include "codecs/text/detect.h"

#include <gtest/gtest.h>
#include <lzma.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "codecs/generators.h"

namespace zipllm::codecs {
namespace {

constexpr std::string_view kProse =
    "It was the best of times, it was the worst of times, it was the age of "
    "wisdom, it was the age of foolishness.\n";
constexpr std::u16string_view kGreek =
    u"Εν αρχή ην ο λόγος, και ο λόγος ην προς τον Θεόν.\n";
constexpr std::u16string_view kRussian =
    u"Все счастливые семьи похожи друг на друга, каждая несчастливая семья.\n";
constexpr std::u16string_view kGerman =
    u"Als Gregor Samsa eines Morgens aus unruhigen Träumen erwachte, fand er "
    u"sich in seinem Bett zu einem ungeheueren Ungeziefer verwandelt.\n";
constexpr std::u16string_view kChinese =
    u"道可道，非常道。名可名，非常名。无名天地之始；有名万物之母。\n";
constexpr std::u16string_view kJapanese =
    u"吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。\n";
constexpr std::u16string_view kFaces = u"fine 😀, and so on 🚀🚀 to the moon\n";
constexpr std::u16string_view kTexts[] = {kGreek,   kRussian,  kGerman,
                                          kChinese, kJapanese, kFaces};

bool Looks(std::string_view text) { return LooksLikeText(AsBytes(text)); }

std::string Repeat(std::string_view text, size_t times) {
  std::string out;
  for (size_t i = 0; i < times; ++i) out += text;
  return out;
}

std::string Utf16(std::u16string_view text, bool big_endian) {
  std::string out;
  for (const char16_t c : text) {
    out += static_cast<char>(big_endian ? c >> 8 : c & 255);
    out += static_cast<char>(big_endian ? c & 255 : c >> 8);
  }
  return out;
}

std::string Utf8(std::u16string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    uint32_t c = text[i];
    if (c >> 10 == 0xD800 >> 10) {
      c = 0x10000 + ((c & 0x3FF) << 10) + (text[++i] & 0x3FFu);
    }
    const int rest = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    constexpr uint32_t kFirst[] = {0, 0xC0, 0xE0, 0xF0};
    out += static_cast<char>(kFirst[rest] | c >> (6 * rest));
    for (int k = rest - 1; k >= 0; --k) {
      out += static_cast<char>(0x80 | (c >> (6 * k) & 0x3F));
    }
  }
  return out;
}

/// By one byte a character: ISO 8859-1, or Windows-1251 from U+0410 on.
std::string OneByte(std::u16string_view text) {
  std::string out;
  for (const char16_t c : text) {
    out += static_cast<char>(c < 0x100 ? c : c - 0x410 + 0xC0);
  }
  return out;
}

std::string RandomOf(std::string_view alphabet, size_t size) {
  Random random(3);
  std::string out;
  while (out.size() < size) out += alphabet[random.Below(alphabet.size())];
  return out;
}

TEST(LooksLikeTextTest, TextInManyCodes) {
  for (const size_t times : {1, 30, 3000}) {
    SCOPED_TRACE(times);
    EXPECT_TRUE(Looks(Repeat(kProse, times)));
    for (const std::u16string_view text : kTexts) {
      const std::string utf8 = Repeat(Utf8(text), times);
      SCOPED_TRACE(Utf8(text));
      EXPECT_TRUE(Looks(utf8));
      // Cut within characters.
      EXPECT_TRUE(Looks(std::string_view(utf8).substr(1)));
      EXPECT_TRUE(Looks(std::string_view(utf8).substr(2, utf8.size() - 3)));
      EXPECT_TRUE(Looks(Repeat(Utf16(text, false), times)));
      EXPECT_TRUE(Looks("\xFF\xFE" + Repeat(Utf16(text, false), times)));
      EXPECT_TRUE(Looks(Repeat(Utf16(text, true), times)));
    }
    EXPECT_TRUE(Looks(Repeat(OneByte(kGerman), times)));
    EXPECT_TRUE(Looks(Repeat(OneByte(kRussian), times)));
    // Mixed: parts in other codes than the rest.
    EXPECT_TRUE(Looks(Repeat(Utf8(kRussian) + OneByte(kGerman) + "\n", times)));
  }
}

TEST(LooksLikeTextTest, CodeAndRecords) {
  EXPECT_TRUE(Looks("{\"a\":[1,2,3]}"));
  EXPECT_TRUE(Looks("x"));
  std::string json, csv, log, code;
  Random random(1);
  for (int i = 0; i < 2000; ++i) {
    const std::string n = std::to_string(random.Below(1000000));
    json += "{\"id\":" + n + ",\"name\":\"item" + n + "\"},";
    csv += n + "," + std::to_string(i) + ",0." + n + "\n";
    log += "\x1b[32m2026-11-22 10:00:00\x1b[0m INFO step " + n + "\r\n";
    code += "\tif (x < " + n + ") {\n\t\treturn y[" + n + "];\n\t}\n";
  }
  for (const std::string& text : {json, csv, log, code}) {
    EXPECT_TRUE(Looks(text)) << text.substr(0, 60);
  }
}

TEST(LooksLikeTextTest, NotWhatIsNone) {
  EXPECT_FALSE(Looks(""));
  EXPECT_FALSE(Looks(std::string(10, '\0')));
  for (const size_t size : {1000, 5000, 300000}) {
    SCOPED_TRACE(size);
    for (const DType dtype :
         {DType::kBytes, DType::kBF16, DType::kF16, DType::kF32, DType::kI8,
          DType::kI16, DType::kI32, DType::kF8E4M3, DType::kGgmlQ40,
          DType::kGgmlQ4K, DType::kGgmlQ80}) {
      for (const Kind kind : kKinds) {
        if (kind == Kind::kText || kind == Kind::kConstant) continue;
        const auto data =
            MakeInput(kind, dtype, 1 + size / ElementBytes(dtype));
        EXPECT_FALSE(LooksLikeText(data))
            << KindName(kind) << " " << static_cast<int>(dtype);
      }
    }
  }
}

TEST(LooksLikeTextTest, NotRandomBytesInLetters) {
  std::string base64;
  for (char c = 'A'; c <= 'Z'; ++c) base64 += c;
  for (char c = 'a'; c <= 'z'; ++c) base64 += c;
  base64 += "0123456789+/";
  for (const size_t size : {5000, 20000, 100000, 1000000}) {
    SCOPED_TRACE(size);
    std::string lines;
    const std::string random = RandomOf(base64, size);
    for (size_t i = 0; i < size; i += 76) lines += random.substr(i, 76) + "\n";
    EXPECT_FALSE(Looks(random));
    EXPECT_FALSE(Looks(lines));
    EXPECT_FALSE(Looks(RandomOf("0123456789abcdef", size)));
    EXPECT_FALSE(Looks(RandomOf("0123456789", size)));
    // Separators make records of them.
    std::string digits = RandomOf("0123456789", size);
    for (size_t i = 1; i < size; i += 2) digits[i] = ',';
    EXPECT_TRUE(Looks(digits));
    // A field of it in a record does not matter.
    EXPECT_TRUE(Looks(random.substr(0, size / 3) + Repeat(kProse, size / 50)));
  }
}

TEST(LooksLikeTextTest, MostlyBinaryIsNone) {
  const auto random = MakeInput(Kind::kRandom, DType::kBytes, 200000);
  const std::string noise(random.begin(), random.end());
  EXPECT_FALSE(Looks(noise + Repeat(kProse, 1000)));
  EXPECT_FALSE(Looks(Repeat(kProse, 1000) + noise));
  EXPECT_TRUE(Looks(Repeat(kProse, 10000) + noise.substr(0, 50000)));
}

TEST(LooksLikeTextTest, LogsThatQuoteAnyBytes) {
  // What a web server logs of attacks: most bytes are none of text.
  const auto random = MakeInput(Kind::kRandom, DType::kBytes, 30000);
  std::string attack(random.begin(), random.end());
  std::erase(attack, '\n');
  std::string log;
  for (int i = 0; i < 40; ++i) {
    const std::string n = std::to_string(100 + i);
    log += "10.0.0." + n + " - - [22/Nov/2026:10:00:12] \"SEARCH /";
    log += attack + "\" 414 " + n + "\n";
    for (int k = 0; k < 20; ++k) {
      log += "10.0.0." + n + " - - [22/Nov/2026:10:00:13] \"GET / HTTP/1.1\"\n";
    }
  }
  EXPECT_TRUE(Looks(log));
  EXPECT_TRUE(LooksLikeLines(AsBytes(log)));
  // Noise between lines of text has line ends of its own.
  std::string mixed;
  for (int i = 0; i < 40; ++i) {
    mixed.append(random.begin(), random.end());
    mixed += "\n" + Repeat(kProse, 5);
  }
  EXPECT_FALSE(Looks(mixed));
}

TEST(LooksLikeLinesTest, LogsAndTablesButNoProse) {
  const auto lines_of = [](auto line) {
    std::string out;
    for (int i = 0; i < 300; ++i) out += line(std::to_string(i * 977 % 1000));
    return out;
  };
  using String = const std::string&;
  const std::string logs[] = {
      lines_of([](String n) { return "2026-11-22 10:00 job " + n + " x\n"; }),
      lines_of([](String n) { return n + "," + n + ",a\r\n"; }),
      lines_of([](String n) { return n + "\t" + n + "\ta b\n"; }),
      lines_of([](String n) { return "{\"id\":" + n + ",\"v\":\"a\"}\n"; }),
      "[" + lines_of([](String n) { return "{\"id\":" + n + ",\"v\":1},"; }),
      // Longer than a sample.
      lines_of([](String n) {
        return "{\"id\":" + n + "," + std::string(9000, ' ') + "\"v\":1}\n";
      }),
  };
  for (const std::string& log : logs) {
    EXPECT_TRUE(LooksLikeLines(AsBytes(log))) << log.substr(0, 60);
  }
  const auto text = MakeInput(Kind::kText, DType::kBytes, 50000);
  EXPECT_FALSE(LooksLikeLines(text));
  EXPECT_FALSE(
      LooksLikeLines(AsBytes(Repeat("as it was in the old days\n"
                                    "so will it be again\n",
                                    300))));
  EXPECT_FALSE(LooksLikeLines({}));
  EXPECT_FALSE(LooksLikeLines(AsBytes("a=1 b=2\n")));
}

TEST(LooksLikeTextTest, RealFiles) {
  const auto folder =
      std::filesystem::path(ZIPLLM_SOURCE_DIR) / "../shared/data/text";
  if (!std::filesystem::exists(folder)) {
    GTEST_SKIP() << "../shared/data/text is not here";
  }
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".xz") continue;
    SCOPED_TRACE(entry.path());
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string packed{std::istreambuf_iterator<char>(file), {}};
    std::vector<uint8_t> data(size_t{8} << 20);
    uint64_t memory = UINT64_MAX;
    size_t read = 0;
    size_t size = 0;
    ASSERT_EQ(lzma_stream_buffer_decode(
                  &memory, 0, nullptr, AsBytes(packed).data(), &read,
                  packed.size(), data.data(), &size, data.size()),
              LZMA_OK);
    data.resize(size);
    const std::string name = entry.path().stem();
    const bool is_binary = name == "geo" || name == "obj2" || name == "pic";
    EXPECT_EQ(LooksLikeText(data), !is_binary);
    // Any large part alike.
    for (size_t begin = 0; begin + 65536 <= size; begin += size / 5) {
      EXPECT_EQ(LooksLikeText(ByteSpan(data).subspan(begin, 65536)), !is_binary)
          << begin;
    }
  }
}

}  // namespace
}  // namespace zipllm::codecs
