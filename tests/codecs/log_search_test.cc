// Codec log: what a search passes over does not hold what is looked for.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "codecs/generators.h"
#include "codecs/log/search.h"

namespace zipllm::codecs {
namespace {

std::string Upper(std::string text) {
  for (char& c : text) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
  return text;
}
std::string Lower(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return text;
}

/// `format` with a value for each mark, so that columns of all kinds come up.
std::string Line(std::string_view format, size_t i, Random& random) {
  static constexpr std::string_view kWords[] = {"alpha", "Beta",  "gamma",
                                                "DELTA", "omega", "zeta"};
  const auto digits = [&](size_t count, std::string_view set) {
    std::string out;
    while (out.size() < count) out += set[random.Below(set.size())];
    return out;
  };
  const size_t second = 36000 + i / 3;
  const auto two = [](size_t n) {
    return std::string(n < 10 ? "0" : "") + std::to_string(n);
  };
  std::string out;
  std::string id;
  for (const char c : format) {
    switch (c) {
      case '#':  // a number
        out += std::to_string(random.Below(random.Below(2) == 0 ? 20 : 90000));
        break;
      case '+':  // one that grows
        out += std::to_string(1000 + 7 * i + random.Below(7));
        break;
      case '~':  // a decimal
        out += std::to_string(random.Below(40)) + "." + two(random.Below(100));
        break;
      case '@':  // a time
        out += "2024-03-05 " + two(second / 3600) + ":" +
               two(second / 60 % 60) + ":" + two(second % 60);
        break;
      case '$':  // a word
        out += kWords[random.Below(6)];
        break;
      case '!':  // a word and what belongs to it
        out += kWords[i % 6];
        out += i % 6 < 3 ? " low" : " high-" + std::to_string(i % 6 * 1111);
        break;
      case '?':  // an id
        id = digits(12, "0123456789abcdef");
        [[fallthrough]];
      case '=':  // and again
        out += id;
        break;
      case '*':  // free text, maybe none
        out += digits(random.Below(30), "abcdefghij klmnoPQRS.,;-\xc3\xa9");
        break;
      case '/':  // an address
        out += "10." + std::to_string(random.Below(3)) + ".7." +
               std::to_string(random.Below(250));
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string Log(uint64_t seed) {
  static constexpr std::string_view kFormats[] = {
      "@ host app[#]: job ? took # ms\n",
      "@ host app[#]: peer / says: *\n",
      "@ WARN cache evicted #, kept #, rate ~\n",
      "{\"ts\":\"@\",\"level\":\"$\",\"id\":\"?\",\"n\":+}\n",
      "+,$,~,/,*\n",
      "! and $ and !\r\n",
      "user_#_$_x done\n",
      "moved ? by $, now =\n",
      "*\n",
      "\n",
      "  at some.place(File:#)\n"};
  Random random(seed);
  std::vector<std::string_view> formats;
  for (size_t n = 1 + random.Below(4); n > 0; --n) {
    formats.push_back(kFormats[random.Below(std::size(kFormats))]);
  }
  std::string text;
  for (size_t i = 0, lines = 100 + random.Below(700); i < lines; ++i) {
    text += Line(formats[random.Below(formats.size())], i, random);
    if (random.Below(200) == 0) text += Line("odd one * #\n", i, random);
  }
  if (random.Below(3) == 0) text += "no end of line";
  return text;
}

/// Part of a line, perhaps changed.
std::string NeedleOf(std::string_view text, Random& random) {
  std::string needle;
  do {
    const size_t at = random.Below(text.size());
    const size_t end = std::min(text.find('\n', at), text.size());
    needle = text.substr(at, std::min(end - at, 1 + random.Below(90)));
  } while (needle.empty());
  if (random.Below(3) == 0) {
    needle[random.Below(needle.size())] = "x7Q-e "[random.Below(6)];
  }
  if (random.Below(6) == 0) needle = needle.substr(needle.size() / 2) + needle;
  return needle;
}

absl::StatusOr<bool> MayContain(ByteSpan coded, size_t size,
                                const std::vector<std::string>& needles,
                                bool ignore_case) {
  Scratch scratch;
  return log::MayContain(coded, size, {}, needles, ignore_case, scratch);
}

/// Empty where the codec does not want it.
std::vector<uint8_t> Code(std::string_view text, int level) {
  EncodeRequest request{.data = AsBytes(text),
                        .block_size = text.size(),
                        .dtype = DType::kBytes,
                        .level = level};
  request.is_text = request.is_lines = true;
  Scratch scratch;
  const auto plan = FindEncoder(log::kNumber)->plan(request, scratch);
  if (plan == nullptr) return {};
  Buffer coded;
  EXPECT_TRUE(plan->Encode(AsBytes(text), scratch, &coded));
  return {coded.begin(), coded.end()};
}

TEST(LogSearchTest, NothingIsMissed) {
  size_t blocks = 0, absent = 0, passed_over = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    const std::string text = Log(seed);
    const std::string lower = Lower(text);
    const std::vector<uint8_t> coded = Code(text, seed % 10 == 0 ? 6 : 3);
    if (coded.empty()) continue;
    ++blocks;
    Random random(seed);
    for (int i = 0; i < 60; ++i) {
      const bool ignore_case = random.Below(3) == 0;
      std::string needle = NeedleOf(text, random);
      if (random.Below(8) == 0) needle = Upper(needle);
      if (ignore_case) needle = Lower(needle);
      const bool is_there =
          (ignore_case ? lower : text).find(needle) != std::string::npos;
      const auto found = MayContain(coded, text.size(), {needle}, ignore_case);
      ASSERT_TRUE(found.ok()) << found.status() << ", seed " << seed;
      ASSERT_TRUE(*found || !is_there)
          << "seed " << seed << ": '" << needle << "'"
          << (ignore_case ? " in any case" : "");
      absent += !is_there;
      passed_over += !*found;
      if (is_there) {
        EXPECT_TRUE(
            *MayContain(coded, text.size(), {"%%", needle}, ignore_case));
      }
    }
  }
  EXPECT_GT(blocks, 25u);
  // Of what is not there most is seen not to be.
  EXPECT_GT(4 * passed_over, 3 * absent);
}

TEST(LogSearchTest, DamageIsRefusedOrNotSeen) {
  for (const uint64_t seed : {1u, 10u, 21u, 33u}) {
    const std::string text = Log(seed);
    const std::vector<uint8_t> coded = Code(text, seed % 10 == 0 ? 6 : 3);
    if (coded.empty()) continue;
    Random random(seed);
    for (size_t cut = 0; cut < coded.size(); cut += 1 + coded.size() / 60) {
      EXPECT_FALSE(
          MayContain(ByteSpan(coded).first(cut), text.size(), {"a"}, false)
              .ok());
    }
    for (int i = 0; i < 300; ++i) {
      std::vector<uint8_t> bad = coded;
      for (size_t n = 1 + random.Below(3); n > 0; --n) {
        bad[random.Below(bad.size())] ^=
            static_cast<uint8_t>(1 << random.Below(8));
      }
      (void)MayContain(bad, text.size(), {NeedleOf(text, random)}, i % 2 == 0);
    }
  }
}

}  // namespace
}  // namespace zipllm::codecs
