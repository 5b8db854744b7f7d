#include "codecs/hostile_logs.h"

#include <array>
#include <cstdarg>
#include <cstdio>

namespace zipllm::codecs {
namespace {

using std::string_view_literals::operator""sv;

__attribute__((format(printf, 1, 2))) std::string Format(const char* format,
                                                         ...) {
  char text[512];
  va_list values;
  va_start(values, format);
  const int size = std::vsnprintf(text, sizeof text, format, values);
  va_end(values);
  return std::string(text, static_cast<size_t>(size));
}

int Number(Random& random, size_t bound) {
  return static_cast<int>(random.Below(bound));
}

std::string_view Pick(std::span<const std::string_view> from, Random& random) {
  return from[random.Below(from.size())];
}

std::string From(std::string_view alphabet, size_t size, Random& random) {
  std::string out;
  for (size_t i = 0; i < size; ++i)
    out += alphabet[random.Below(alphabet.size())];
  return out;
}

std::string Bytes(size_t size, Random& random) {
  std::string out;
  for (size_t i = 0; i < size; ++i) out += static_cast<char>(random.Next());
  return out;
}

constexpr std::string_view kDigits = "0123456789";
constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz";
constexpr std::string_view kHex = "0123456789abcdef";
constexpr std::string_view kMixedHex = "0123456789abcdefABCDEF";
constexpr std::string_view kIds =
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The lines `line(i)`.
template <typename Line>
std::string Lines(size_t lines, Line line) {
  std::string out;
  for (size_t i = 0; i < lines; ++i) {
    out += line(i);
    out += '\n';
  }
  return out;
}

/// Plain lines; about one in `every` is `line()`.
template <typename Line>
std::string Among(size_t lines, size_t every, Random& random, Line line) {
  return Lines(lines, [&](size_t i) {
    return random.Below(every) == 0 ? line() : PlainLine(i, random);
  });
}

/// Lines with a field in three that `value` makes.
template <typename Value>
std::string Values(size_t lines, Value value) {
  return Lines(lines, [&](size_t i) {
    return Format("12:%02zu:%02zu event a=", i / 60 % 60, i % 60) + value() +
           " took " + value() + " ms, next " + value();
  });
}

std::string Crlf(size_t lines, Random& random) {
  return Lines(lines, [&](size_t i) { return PlainLine(i, random) + "\r"; });
}

std::string MixedEnds(size_t lines, Random& random) {
  constexpr std::array kEnds = {"\n"sv,   "\r\n"sv, "\r"sv,     "\n\r"sv,
                                "\n\n"sv, "\n"sv,   "\r\r\n"sv, " \n"sv};
  std::string out;
  for (size_t i = 0; i < lines; ++i) {
    out += PlainLine(i, random);
    out += Pick(kEnds, random);
  }
  return out;
}

std::string Nul(size_t lines, Random& random) {
  return Among(lines, 3, random, [&] {
    std::string line = PlainLine(random.Below(100), random);
    line[random.Below(line.size())] = '\0';
    return random.Below(4) == 0 ? std::string(random.Below(9), '\0') : line;
  });
}

std::string InvalidUtf8(size_t lines, Random& random) {
  constexpr std::array kBad = {"\x80"sv,         "\xC3"sv,     "\xC0\x80"sv,
                               "\xED\xA0\x80"sv, "\xFF\xFE"sv, "\xF5\x90\x80"sv,
                               "\xE2\x82"sv,     "\xEF\xBF"sv, "\xC3\xA9"sv};
  return Among(lines, 2, random, [&] {
    std::string line = PlainLine(random.Below(100), random);
    return line.insert(random.Below(line.size()), Pick(kBad, random));
  });
}

std::string NoFinalNewline(size_t lines, Random& random) {
  return Lines(lines, [&](size_t i) { return PlainLine(i, random); }) +
         "2026-11-22 12:0";
}

std::string OnlyNewlines(size_t lines, Random&) {
  return std::string(lines, '\n');
}

std::string OnlyEnds(size_t lines, Random&) {
  std::string out;
  for (size_t i = 0; i < lines; ++i) out += "\r\n";
  return out + "\r";
}

std::string LeadingZeros(size_t lines, Random& random) {
  return Values(lines, [&] {
    return std::string(random.Below(5), '0') +
           std::to_string(random.Below(1000));
  });
}

std::string FixedWidth(size_t lines, Random& random) {
  return Values(lines, [&] {
    return Format(random.Below(3) == 0 ? "%05d" : "%5d",
                  Number(random, 200'000));
  });
}

std::string Spaces(size_t lines, Random& random) {
  return Lines(lines, [&](size_t i) {
    std::string line;
    for (const char c : PlainLine(i, random)) {
      line += c;
      if (c == ' ' && random.Below(3) == 0) line.append(random.Below(6), ' ');
      if (c == ' ' && random.Below(9) == 0) line += "\t\t";
    }
    line.insert(0, random.Below(4), ' ');
    return line + std::string(random.Below(4), ' ');
  });
}

std::string Dates(size_t lines, Random& random) {
  constexpr std::array kZones = {""sv,       "Z"sv,    "+00:00"sv,
                                 " -0800"sv, " UTC"sv, "+5:30"sv};
  return Lines(lines, [&](size_t i) -> std::string {
    const int day = static_cast<int>(i / 40 % 33), hour = Number(random, 26),
              minute = Number(random, 61), second = Number(random, 62);
    const std::string fraction = From(kDigits, random.Below(10), random);
    switch (random.Below(8)) {
      case 0:
        return Format("Nov %2d %02d:%02d:%02d host a[1]: up", day, hour, minute,
                      second);
      case 1:
        return Format("Nov %02d %2d:%02d:%02d host a[1]: up", day, hour, minute,
                      second);
      case 2:
        return Format("2026-02-%02d %02d:%02d:%02d.", day, hour, minute,
                      second) +
               fraction + std::string(Pick(kZones, random)) + " INFO up";
      case 3:
        return Format("2026-2-%d %d:%d:%d,", day, hour, minute, second) +
               fraction + " INFO up";
      case 4:
        return Format("%2d/Nov/2026:%02d:%02d:%02d +0000 INFO up", day, hour,
                      minute, second);
      case 5:
        return Format("%02d/%02d/26 %02d:%02d INFO up", day, hour, minute,
                      second);
      case 6:
        return Format("0000-00-00T00:00:00Z INFO up %d", day);
      default:
        return Format("2026-11-22 12:%02zu:%02zu.%03zu INFO up", i / 60 % 60,
                      i % 60, i * 7 % 1000);
    }
  });
}

std::string Clocks(size_t lines, Random& random) {
  int64_t epoch = 1'500'000'000;
  return Lines(lines, [&](size_t i) {
    epoch += i % 50 == 49 ? -static_cast<int64_t>(random.Next() >> 34)
                          : static_cast<int64_t>(random.Below(3));
    if (random.Below(300) == 0) epoch = static_cast<int64_t>(random.Next()) / 2;
    return std::to_string(epoch) + "." + From(kDigits, 6, random) +
           " tick of clock " + std::to_string(epoch % 1'000'007 * 1000);
  });
}

/// Near the ends of what machine words hold, and far beyond.
std::string Overflow(size_t lines, Random& random) {
  constexpr std::array kEdges = {
      "2147483647"sv,           "2147483648"sv,
      "4294967295"sv,           "4294967296"sv,
      "9223372036854775807"sv,  "9223372036854775808"sv,
      "18446744073709551615"sv, "18446744073709551616"sv,
      "-9223372036854775808"sv, "-9223372036854775809"sv,
      "99999999999999999999"sv, "10000000000000000000"sv};
  return Values(lines, [&]() -> std::string {
    switch (random.Below(4)) {
      case 0:
        return std::string(Pick(kEdges, random));
      case 1:
        return "1" + std::string(random.Below(41), '0');
      case 2:
        return "-" + From(kDigits, 1 + random.Below(25), random);
      default:
        return std::to_string(random.Below(100));
    }
  });
}

std::string OddNumbers(size_t lines, Random& random) {
  constexpr std::array kOdd = {
      "-0"sv,   "+1"sv,    "1e5"sv,   "1E+05"sv, ".5"sv,     "5."sv,
      "1..2"sv, "0x"sv,    "0x0"sv,   "-"sv,     "+"sv,      "+-1"sv,
      "--1"sv,  "1_000"sv, "1,000"sv, "-0.0"sv,  "00.10"sv,  "1.10"sv,
      "1.1"sv,  "1.100"sv, "NaN"sv,   "-inf"sv,  "1/2"sv,    "1%"sv,
      "$1"sv,   "#1"sv,    "1st"sv,   "1e999"sv, "0.1e-7"sv, "-.0"sv,
      "0-0"sv,  "1-2-3"sv, "0b101"sv, "0o7"sv,   "1'000"sv};
  return Values(lines, [&]() -> std::string {
    return random.Below(3) == 0 ? std::string(Pick(kOdd, random))
                                : Format("%d.%02d", Number(random, 2000) - 1000,
                                         Number(random, 100));
  });
}

std::string Decimals(size_t lines, Random& random) {
  return Values(lines, [&] {
    return (random.Below(9) == 0 ? "-" : "") +
           std::to_string(random.Below(50)) + "." +
           From(kDigits, 1 + random.Below(3), random);
  });
}

std::string Hex(size_t lines, Random& random) {
  return Values(lines, [&] {
    const size_t size = random.Below(3) == 0 ? random.Below(20) : 8;
    return (random.Below(2) == 0 ? "0x" : "") +
           From(random.Below(5) == 0 ? kMixedHex : kHex, size, random);
  });
}

std::string Uuids(size_t lines, Random& random) {
  return Values(lines, [&] {
    const std::string_view digits = random.Below(9) == 0 ? kMixedHex : kHex;
    std::string id;
    for (const size_t size : {8u, 4u, 4u, 4u, 12u}) {
      if (!id.empty()) id += '-';
      id += From(digits, size - (random.Below(200) == 0), random);
    }
    return random.Below(20) == 0 ? "{" + id + "}" : id;
  });
}

std::string Ids(size_t lines, Random& random) {
  return Values(lines, [&] {
    return "C" +
           From(kIds, random.Below(6) == 0 ? random.Below(30) : 17, random);
  });
}

std::string Addresses(size_t lines, Random& random) {
  constexpr std::array kOdd = {"256.1.1.1"sv, "01.2.3.4"sv, "1.2.3"sv,
                               "1.2.3.4.5"sv, "::1"sv,      "fe80::1%eth0"sv,
                               "0.0.0.0"sv,   "1.2.3.4/8"sv};
  return Values(lines, [&]() -> std::string {
    if (random.Below(9) == 0) return std::string(Pick(kOdd, random));
    return Format("10.%d.0.%d:%d", Number(random, 3), Number(random, 300),
                  Number(random, 70'000));
  });
}

std::string Colours(size_t lines, Random& random) {
  constexpr std::array kCodes = {"\x1b[0m"sv,        "\x1b[1;31m"sv,
                                 "\x1b[38;5;196m"sv, "\x1b["sv,
                                 "\x1b"sv,           "\x1b[2K\r"sv};
  return Lines(lines, [&](size_t i) {
    std::string line = PlainLine(i, random);
    line.insert(line.find(' '), Pick(kCodes, random));
    return line + "\x1b[0m";
  });
}

std::string Traces(size_t lines, Random& random) {
  return Among(lines, 6, random, [&] {
    std::string text = "Exception in thread \"main\" java.lang.Error: no " +
                       From(kLetters, 3, random);
    for (size_t n = random.Below(9); n > 0; --n) {
      text += Format("\n\tat org.example.C%d.call(C.java:%d)",
                     Number(random, 5), Number(random, 400));
    }
    if (random.Below(3) == 0) text += "\nCaused by: it\n\t... 12 more";
    return text;
  });
}

std::string Json(size_t lines, Random& random) {
  return Lines(lines, [&](size_t i) -> std::string {
    const std::string time = Format("\"t\":%zu", 1'700'000'000 + i);
    const int n = Number(random, 1000);
    switch (random.Below(12)) {
      case 0:
        return Format("{ \"level\" : \"info\" ,  \"n\":%d}", n);
      case 1:
        return Format("{\"n\":%d,\"n\":%d,\"n\":\"%d\"}", n, n, n);
      case 2:
        return Format("{\"message\":\"not ended, n=%d}", n);
      case 3:
        return Format("{\"a\":{\"b\":{\"c\":[%d,[],{},[[%d]]]}}}", n, n);
      case 4:
        return Format(R"({"m":"say \"%d\" \\ \u00e9 \u12","n":%d})", n, n);
      case 5:
        return Format("{\"n\":%d,}", n);
      case 6:
        return std::string(random.Below(300), random.Below(2) ? '[' : '{');
      case 7:
        return Format("{\"n\":-%d.0e+%d,\"x\":00%d,\"y\":tru}", n, n, n);
      case 8:
        return "{" + time + ",\"m\":\"\xC3\xA9\xFF\t\"}";
      default:
        return "{" + time +
               Format(",\"level\":\"info\",\"n\":%d,\"ok\":%s,\"z\":null}", n,
                      n % 2 ? "true" : "false");
    }
  });
}

std::string Table(size_t lines, char comma, Random& random) {
  std::string out = "id,name,when,amount,note\n";
  const auto field = [&](size_t i, int column) -> std::string {
    switch (random.Below(14) == 0 ? random.Below(6) : 6) {
      case 0:
        return "\"a " + std::string(1, comma) + " b\"";
      case 1:
        return "\"line\nand line\"";
      case 2:
        return "\"she said \"\"no\"\"\"";
      case 3:
        return "\"not ended";
      case 4:
        return "  " + std::to_string(i) + " ";
      case 5:
        return "";
      default:
        break;
    }
    switch (column) {
      case 0:
        return std::to_string(i);
      case 1:
        return From("abc", 3, random);
      case 2:
        return Format("2026-11-%02zu", i % 30 + 1);
      default:
        return Format("%.2f", Number(random, 100'000) / 100.0);
    }
  };
  for (size_t i = 0; i < lines; ++i) {
    const int columns = random.Below(30) == 0 ? Number(random, 9) : 5;
    for (int c = 0; c < columns; ++c) {
      if (c > 0) out += comma;
      out += field(i, c);
    }
    out += random.Below(40) == 0 ? "\r\n" : "\n";
  }
  return out;
}

std::string Csv(size_t lines, Random& random) {
  return Table(lines, ',', random);
}
std::string Tsv(size_t lines, Random& random) {
  return Table(lines, '\t', random);
}

std::string Pairs(size_t lines, Random& random) {
  return Lines(lines, [&](size_t i) {
    std::string line = Format("ts=%zu ", 1'700'000'000 + i);
    for (const std::string_view key : {"a", "b", "user", "path", ""}) {
      if (random.Below(8) == 0) continue;
      line += std::string(key) + "=";
      if (random.Below(5) != 0) line += std::to_string(random.Below(50));
      if (random.Below(20) == 0) line += "\"x = y\"";
      line += random.Below(20) == 0 ? "; " : " ";
    }
    return line;
  });
}

std::string RandomInLines(size_t lines, Random& random) {
  return Among(lines, 4, random,
               [&] { return Bytes(random.Below(90), random); });
}

std::string RandomAlone(size_t lines, Random& random) {
  return Bytes(60 * lines, random);
}

std::string NewTemplates(size_t lines, Random& random) {
  return Lines(lines, [&](size_t) {
    std::string line;
    for (size_t n = random.Below(9); n > 0; --n) {
      line += From(kLetters, 1 + random.Below(9), random);
      line += Pick(std::array{" "sv, ": "sv, "=["sv, "] "sv, ", "sv, "\t"sv},
                   random);
    }
    return line;
  });
}

/// As long as the rest together.
std::string LongLine(size_t lines, Random& random) {
  std::string half =
      Lines(lines / 2, [&](size_t i) { return PlainLine(i, random); });
  std::string line = half;
  for (char& c : line) c = c == '\n' ? ' ' : c;
  return half + line + "\n" + PlainLine(1, random) + "\n";
}

std::string Paths(size_t lines, Random& random) {
  return Values(lines, [&] {
    std::string path;
    for (size_t n = random.Below(6); n > 0; --n) {
      path += Pick(std::array{"/var"sv, "/log"sv, "/"sv, "//"sv, "/../"sv,
                              "/a b"sv, "\\x"sv, "/%20"sv, "/."sv},
                   random);
    }
    return path + std::to_string(random.Below(9)) + ".gz";
  });
}

/// Marks that a log parser might put into templates itself.
std::string Marks(size_t lines, Random& random) {
  constexpr std::array kMarks = {"<*>"sv, "{}"sv,   "%s"sv,     "%d"sv,
                                 "$1"sv,  "\\0"sv,  "\1"sv,     "\2\3"sv,
                                 "<N>"sv, "\t"sv,   "\x1f"sv,   "\0"sv,
                                 "***"sv, "\xff"sv, "<TIME>"sv, "{0}"sv};
  return Values(lines, [&] { return std::string(Pick(kMarks, random)); });
}

/// What some call the end of a line and grep does not.
std::string OtherEnds(size_t lines, Random& random) {
  constexpr std::array kEnds = {"\v"sv,       "\f"sv,           "\x85"sv,
                                "\xC2\x85"sv, "\xE2\x80\xA8"sv, "\x1a"sv,
                                "\x1e"sv,     "\xEF\xBB\xBF"sv};
  return "\xEF\xBB\xBF" + Among(lines, 3, random, [&] {
           return PlainLine(1, random) + std::string(Pick(kEnds, random)) +
                  PlainLine(2, random);
         });
}

std::string Same(size_t lines, Random& random) {
  const std::string line = PlainLine(7, random);
  return Lines(lines, [&](size_t) { return line; });
}

/// Columns that are functions of others, nearly.
std::string Related(size_t lines, Random& random) {
  size_t id = 1000;
  return Lines(lines, [&](size_t i) {
    id += random.Below(3);
    const size_t odd = random.Below(50) == 0 ? 1 : 0;
    return Format("%zu GET /item/%zu size=%zu twice=%zu thread-%zu user%zu", id,
                  id + odd, i * 3, i * 6 + odd, id % 7, id % 7 + odd);
  });
}

std::string Flipped(size_t lines, Random& random) {
  std::string out =
      Lines(lines, [&](size_t i) { return PlainLine(i, random); });
  for (size_t n = out.size() / 500; n > 0; --n) {
    out[random.Below(out.size())] ^= static_cast<char>(1 << random.Below(8));
  }
  return out;
}

std::string Shuffled(size_t lines, Random& random) {
  std::string out;
  for (size_t i = 0; i < lines; i += 50) {
    const HostileLog& log =
        HostileLogs()[random.Below(HostileLogs().size() - 1)];
    out += log.make(50, random);
  }
  return out;
}

constexpr HostileLog kLogs[] = {
    {"CRLF", Crlf},
    {"mixed ends", MixedEnds},
    {"NUL", Nul},
    {"invalid UTF-8", InvalidUtf8},
    {"no final newline", NoFinalNewline},
    {"only newlines", OnlyNewlines},
    {"only line ends", OnlyEnds},
    {"leading zeros", LeadingZeros},
    {"fixed width", FixedWidth},
    {"spaces", Spaces},
    {"dates", Dates},
    {"clocks", Clocks},
    {"overflow", Overflow},
    {"odd numbers", OddNumbers},
    {"decimals", Decimals},
    {"hex", Hex},
    {"UUIDs", Uuids},
    {"ids", Ids},
    {"addresses", Addresses},
    {"colours", Colours},
    {"stack traces", Traces},
    {"JSON", Json},
    {"CSV", Csv},
    {"TSV", Tsv},
    {"pairs", Pairs},
    {"random bytes in lines", RandomInLines},
    {"random bytes", RandomAlone},
    {"new templates", NewTemplates},
    {"a long line", LongLine},
    {"paths", Paths},
    {"marks", Marks},
    {"other line ends", OtherEnds},
    {"the same line", Same},
    {"related columns", Related},
    {"flipped bits", Flipped},
    {"all of them", Shuffled},  // the last one
};

}  // namespace

std::span<const HostileLog> HostileLogs() { return kLogs; }

std::string PlainLine(size_t i, Random& random) {
  constexpr std::array kWhat = {"accepted"sv, "served"sv, "closed"sv,
                                "retried"sv};
  return Format("2026-11-22 %02zu:%02zu:%02zu.%03d INFO worker[%d]: request ",
                i / 3600 % 24, i / 60 % 60, i % 60, Number(random, 1000),
                100 + Number(random, 4)) +
         From(kHex, 8, random) + " of 10.0.0." +
         std::to_string(random.Below(20)) + " " +
         std::string(Pick(kWhat, random)) + " in " +
         std::to_string(random.Below(300)) + " ms";
}

}  // namespace zipllm::codecs
