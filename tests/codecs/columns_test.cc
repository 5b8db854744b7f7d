// Columns: any values come back, each type is found where it pays, damage is
// refused.
#include "codecs/columns/columns.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "codecs/columns/mix_coder.h"
#include "codecs/columns/number_format.h"
#include "codecs/columns/numbers.h"
#include "codecs/columns/time_format.h"

namespace zipllm::codecs::columns {
namespace {

using Strings = std::vector<std::string>;

constexpr uint8_t kConstant = 1;
constexpr uint8_t kDictionary = 2;
constexpr uint8_t kNumber = 3;
constexpr uint8_t kTime = 4;
constexpr uint8_t kGiven = 5;
constexpr uint8_t kCharacters = 6;

Values ToValues(const Strings& strings) {
  Values values;
  for (const std::string& string : strings) values.Append(AsBytes(string));
  return values;
}

std::string ToString(ByteSpan bytes) { return {bytes.begin(), bytes.end()}; }

struct Coded {
  Buffer bytes;
  Stamp stamp;
};

/// Codes a column, expects that it comes back, and returns it.
Coded RoundTrip(const Values& values, int level,
                std::span<const Beside> beside = {}) {
  Scratch scratch;
  Coded coded;
  EncodeColumn(values, beside, level, scratch, &coded.bytes);
  ByteReader stamps(coded.bytes.span());
  const auto stamp = ReadStamp(stamps);
  EXPECT_TRUE(stamp.ok() && stamps.AtEnd());
  if (stamp.ok()) coded.stamp = *stamp;
  Values decoded;
  ByteReader reader(coded.bytes.span());
  const absl::Status status = DecodeColumn(
      reader, values.size(), values.bytes().size(), beside, scratch, &decoded);
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_TRUE(reader.AtEnd());
  EXPECT_EQ(decoded.size(), values.size());
  if (decoded.size() != values.size()) return coded;
  for (size_t i = 0; i < values.size(); ++i) {
    if (!std::ranges::equal(decoded[i], values[i])) {
      ADD_FAILURE() << "value " << i << " is " << ToString(decoded[i])
                    << " where " << ToString(values[i]) << " is due";
      break;
    }
    EXPECT_LE(values[i].size(), coded.stamp.longest);
    for (const uint8_t byte : values[i]) {
      EXPECT_NE(coded.stamp.classes & ClassOf(byte), 0);
    }
  }
  return coded;
}

Coded RoundTrip(const Strings& strings, int level,
                std::span<const Beside> beside = {}) {
  return RoundTrip(ToValues(strings), level, beside);
}

/// `count` strings of a generator that is given a number and random bits.
Strings Make(size_t count,
             const std::function<std::string(size_t, std::mt19937&)>& make) {
  std::mt19937 random(static_cast<uint32_t>(count));
  Strings strings;
  for (size_t i = 0; i < count; ++i) strings.push_back(make(i, random));
  return strings;
}

std::string Padded(uint64_t value, size_t width, char pad = '0') {
  std::string digits = std::to_string(value);
  return digits.size() < width
             ? std::string(width - digits.size(), pad) + digits
             : digits;
}

TEST(ColumnsTest, OddValuesComeBack) {
  const std::vector<Strings> columns = {
      {},
      {""},
      {"x"},
      {"", "", ""},
      {"", "a", ""},
      {"-0", "0", "00", "-1", "+1", "1.", ".1", "1.0", "01", "-"},
      {"18446744073709551615", "18446744073709551616", "9223372036854775808",
       "-9223372036854775808", "-9223372036854775807", "9223372036854775807"},
      {"1" + std::string(40, '0'), "1", "2", "3", "4", "5"},
      {"0x", "ff", "FF", "fF", "0ff", "DeadBeef"},
      {std::string(70000, 'y'), "y", std::string(69999, 'y')},
      {std::string("\0", 1), std::string("\0\0", 2), "\xff\xfe", "\n", "\r\n"},
      {"2024-02-29", "2024-02-30", "2023-02-29", "0000-00-00", "2024-13-01"},
      {"24:00:00", "23:59:60", "23:59:59", "00:00:00", " 1:00:00"},
      {"Jan  1", "Jan 01", "Jan 31", "Feb 29", "Feb 30", "jan  1"},
  };
  for (const Strings& column : columns) {
    for (const int level : {1, 3, 5, 6, 7}) {
      RoundTrip(column, level);
      // Often enough that types are looked for.
      Strings many;
      for (size_t i = 0; i < 50 && column.size() < 9; ++i) {
        many.insert(many.end(), column.begin(), column.end());
      }
      if (column.empty() || column[0].size() < 100) RoundTrip(many, level);
    }
  }
}

TEST(ColumnsTest, RandomValuesComeBack) {
  const std::string alphabet = "0123456789abcdefABCDEF-.: /_xyz%\n";
  for (uint32_t seed = 0; seed < 60; ++seed) {
    std::mt19937 random(seed);
    const size_t letters = 1 + random() % alphabet.size();
    const size_t longest = random() % 12;
    const size_t repeats = 1 + random() % 40;
    Strings pool;
    for (size_t i = 0; i < repeats; ++i) {
      std::string value(random() % (longest + 1), ' ');
      for (char& c : value) c = alphabet[random() % letters];
      pool.push_back(value);
    }
    const Strings column =
        Make(random() % 3000, [&](size_t i, std::mt19937& bits) {
          std::string value = pool[bits() % pool.size()];
          if (seed % 3 == 0) value += std::to_string(i * 7);
          return value;
        });
    RoundTrip(column, seed % 2 == 0 ? 3 : 6);
  }
}

TEST(ColumnsTest, AllBytesAtOnce) {
  // No byte is left to end a mixed value.
  const Strings column = Make(300, [](size_t i, std::mt19937& random) {
    std::string value(1, static_cast<char>(i));
    return value + static_cast<char>(random());
  });
  RoundTrip(column, 3);
  RoundTrip(column, 6);
}

TEST(ColumnsTest, TypesAreFound) {
  struct Case {
    const char* what;
    uint8_t kind;
    size_t most;  // bytes
    std::function<std::string(size_t, std::mt19937&)> make;
  };
  // Sizes are bounded by what the information in the values takes.
  const std::vector<Case> cases = {
      {"one value", kConstant, 40,
       [](size_t, std::mt19937&) { return "same"; }},
      {"counter", kNumber, 40,
       [](size_t i, std::mt19937&) { return std::to_string(1000 + 3 * i); }},
      {"padded counter", kNumber, 40,
       [](size_t i, std::mt19937&) { return Padded(i, 8); }},
      {"counter with leading spaces", kNumber, 40,
       [](size_t i, std::mt19937&) { return Padded(i, 8, ' '); }},
      {"random bytes as numbers", kNumber, 4400,
       [](size_t, std::mt19937& random) {
         return std::to_string(random() % 256);
       }},
      {"temperatures", kNumber, 4500,
       [](size_t i, std::mt19937& random) {
         const int64_t t = static_cast<int64_t>(i % 997) * 7 - 3000 +
                           static_cast<int64_t>(random() % 32);
         const auto size = static_cast<uint64_t>(t < 0 ? -t : t);
         return (t < 0 ? "-" : "") + std::to_string(size / 100) + "." +
                Padded(size % 100, 2);
       }},
      {"times", kTime, 4700,
       [clock = size_t{0}](size_t i, std::mt19937& random) mutable {
         const size_t ms = clock += 900 + random() % 256 + i % 2;
         return "2024-02-" + Padded(28 + ms / 43200000 % 2, 2) + " " +
                Padded(ms / 3600000 % 12, 2) + ":" +
                Padded(ms / 60000 % 60, 2) + ":" + Padded(ms / 1000 % 60, 2) +
                "," + Padded(ms % 1000, 3);
       }},
      {"random ids", kCharacters, 32400,
       [](size_t, std::mt19937& random) {
         std::string id(12, ' ');
         for (char& c : id) {
           c = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
               [random() % 40];
         }
         return id;
       }},
      {"words", kDictionary, 1500,
       [](size_t, std::mt19937& random) {
         constexpr std::array kWords = {"INFO: all is well", "WARN (a little)",
                                        "ERROR! 12", "debug"};
         return kWords[random() % 4];
       }},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.what);
    const Strings column = Make(4000, c.make);
    const Coded fast = RoundTrip(column, 3);
    EXPECT_EQ(fast.stamp.kind, c.kind);
    EXPECT_LE(fast.bytes.size(), c.most);
    EXPECT_LE(RoundTrip(column, 6).bytes.size(), c.most);
  }
}

TEST(ColumnsTest, ColumnsBesideTellOfOthers) {
  const Strings hosts = Make(3000, [](size_t, std::mt19937& random) {
    return "host" + std::to_string(random() % 300);
  });
  Strings same = hosts;
  same[100] = "other";
  Strings mapped;
  for (const std::string& host : hosts) {
    mapped.push_back("10.0." +
                     std::to_string(std::hash<std::string>{}(host) % 65536));
  }
  const Values beside_values = ToValues(hosts);
  const Beside beside[] = {{&beside_values, {}}};
  for (const int level : {3, 6}) {
    const Coded equal = RoundTrip(same, level, beside);
    EXPECT_EQ(equal.stamp.kind, kGiven);
    EXPECT_LT(equal.bytes.size(), 60);
    const Coded function = RoundTrip(mapped, level, beside);
    EXPECT_LT(function.bytes.size(), 2100);
    EXPECT_LT(function.bytes.size(), RoundTrip(mapped, level).bytes.size());
  }
  // In other rows.
  std::vector<uint32_t> index;
  Strings some;
  for (uint32_t i = 0; i < 3000; i += 3) {
    index.push_back(2999 - i);
    some.push_back(hosts[2999 - i]);
  }
  const Beside rows[] = {{&beside_values, index}};
  EXPECT_LT(RoundTrip(some, 3, rows).bytes.size(), 60);

  const Strings ends = Make(3000, [&](size_t i, std::mt19937& random) {
    return std::to_string(i * i * 3571 % 1000003 + random() % 8);
  });
  const Strings starts = Make(3000, [&](size_t i, std::mt19937&) {
    return std::to_string(i * i * 3571 % 1000003);
  });
  const Values start_values = ToValues(starts);
  const Beside start[] = {{&start_values, {}}};
  EXPECT_LT(RoundTrip(ends, 3, start).bytes.size(), 1500);
}

TEST(ColumnsTest, EncodesEquallyOnAllTargets) {
  std::mt19937 random(5);
  for (const uint32_t width : {0u, 1u, 3u}) {
    std::string plain;
    size_t count = 0;
    for (; plain.size() < 3000; ++count) {
      for (size_t k = 0; k < (width == 0 ? random() % 9 : width); ++k) {
        plain += static_cast<char>('a' + random() % (k + 2));
      }
      if (width == 0) plain += '\n';
    }
    std::vector<uint32_t> beside(count);
    for (uint32_t& hash : beside) {
      hash = static_cast<uint32_t>(random() % 3) * 0x9E3779B1u;
    }
    const MixRecords records{.count = count,
                             .width = width,
                             .end = '\n',
                             .beside = {beside.data(), nullptr}};
    const MixSizes sizes = MixSizesOf(plain.size());
    const auto* bytes = reinterpret_cast<const uint8_t*>(plain.data());
    std::vector<uint8_t> first;
    for (const auto target : {kernels::Target::kScalar, kernels::Target::kAvx2,
                              kernels::Target::kAvx512}) {
      const MixCoder* coder = kMixCoders.Find(target);
      if (coder == nullptr) continue;
      Buffer memory(MixBytes(sizes, plain.size()));
      std::ranges::fill(memory.mutable_span(), 0);
      std::vector<uint8_t> coded(plain.size() + 8);
      coded.resize(coder->encode(memory.data(), sizes, records, bytes,
                                 plain.size(), coded.data(), coded.size()));
      ASSERT_FALSE(coded.empty());
      if (first.empty()) first = coded;
      EXPECT_EQ(coded, first);
      std::ranges::fill(memory.mutable_span(), 0);
      std::vector<uint8_t> decoded(plain.size());
      EXPECT_TRUE(coder->decode(memory.data(), sizes, records, coded.data(),
                                coded.size(), decoded.data(), decoded.size()));
      EXPECT_EQ(std::string(decoded.begin(), decoded.end()), plain);
    }
  }
}

TEST(NumbersTest, SequencesOfAllShapesComeBack) {
  std::mt19937_64 random(7);
  Scratch scratch;
  for (const int level : {3, 6}) {
    for (const size_t count : {1, 2, 5, 300, 3000}) {
      for (int shape = 0; shape < 8; ++shape) {
        Numbers numbers(count);
        for (size_t i = 0; i < count; ++i) {
          const uint64_t bits = random();
          numbers[i] = shape == 0   ? bits
                       : shape == 1 ? bits >> (bits & 63)
                       : shape == 2 ? i * 12345678901
                       : shape == 3 ? i * i + bits % 4
                       : shape == 4 ? 0 - i
                       : shape == 5 ? bits % 3
                       : shape == 6 ? UINT64_MAX - bits % 2
                                    : i % 7 * 1000;
        }
        const EncodeContext to{
            .beside = {}, .level = level, .scratch = scratch};
        Buffer coded;
        EncodeNumbers(numbers, to, &coded);
        const DecodeContext from{
            .count = count, .max_bytes = 0, .beside = {}, .scratch = scratch};
        ByteReader reader(coded.span());
        Numbers decoded;
        ASSERT_TRUE(DecodeNumbers(reader, count, from, &decoded).ok());
        EXPECT_TRUE(reader.AtEnd());
        EXPECT_EQ(decoded, numbers) << "shape " << shape << ", " << count;
      }
    }
  }
}

TEST(NumbersTest, MagnitudesAndLowBitsMakeNumbers) {
  for (int bit = 0; bit < 64; ++bit) {
    for (const uint64_t near : {-1, 0, 1}) {
      const uint64_t number = (uint64_t{1} << bit) + near;
      const uint8_t magnitude = MagnitudeOf(number);
      EXPECT_LE(LeastOf(magnitude), number);
      EXPECT_EQ((number - LeastOf(magnitude)) >> LowBits(magnitude), 0u);
    }
  }
}

TEST(NumberFormatTest, ParsesWhatItPrints) {
  const NumberFormat plain{};
  EXPECT_EQ(ParseNumber(plain, AsBytes("18446744073709551615")), UINT64_MAX);
  for (const char* text : {"", "-1", "01", "1.0", "18446744073709551616", " 1",
                           "a", "0000000000000000000000000"}) {
    EXPECT_FALSE(ParseNumber(plain, AsBytes(text)).has_value()) << text;
  }
  const NumberFormat trimmed{
      .flags = NumberFormat::kSigned | NumberFormat::kTrimmed, .scale = 3};
  EXPECT_EQ(ParseNumber(trimmed, AsBytes("-1.5")), 0 - uint64_t{1500});
  EXPECT_EQ(ParseNumber(trimmed, AsBytes("39")), 39000u);
  for (const char* text : {"1.50", "1.", "-0", ".5", "1.2345", "-"}) {
    EXPECT_FALSE(ParseNumber(trimmed, AsBytes(text)).has_value()) << text;
  }
  const NumberFormat hex{.flags = NumberFormat::kHex | NumberFormat::kUpper,
                         .width = 4};
  EXPECT_EQ(ParseNumber(hex, AsBytes("00FF")), 255u);
  EXPECT_EQ(ParseNumber(hex, AsBytes("12345")), 0x12345u);
  for (const char* text : {"FF", "00ff", "012345"}) {
    EXPECT_FALSE(ParseNumber(hex, AsBytes(text)).has_value()) << text;
  }
}

TEST(TimeFormatTest, ReadsWhatItPrints) {
  const auto format = TimeFormat::Parse("%a %b %e %H:%M:%S.%6 %Y%%");
  ASSERT_TRUE(format.has_value());
  const auto ticks = format->Read(AsBytes("Thu Feb 29 23:59:58.000042 2024%"));
  ASSERT_TRUE(ticks.has_value());
  // Days from 1900 to 1970, then seconds by date(1).
  EXPECT_EQ(*ticks, (25567ull * 86400 + 1709251198) * 1000000 + 42);
  for (const char* text :
       {"Fri Feb 29 23:59:58.000042 2024%", "Thu Feb 29 24:59:58.000042 2024%",
        "Wed Feb 29 23:59:58.000042 2023%", "Thu Feb 29 23:59:58.000042 2024",
        "Thu Feb 29 23:59:58.00004x 2024%"}) {
    EXPECT_FALSE(format->Read(AsBytes(text)).has_value()) << text;
  }
  for (const char* text : {"", "x", "%", "%q", "%Y%Y", "%Y%y", "%0"}) {
    EXPECT_FALSE(TimeFormat::Parse(text).has_value()) << text;
  }
  // The last tick that there is, and the one after it.
  const auto fine = TimeFormat::Parse("%Y-%m-%d %H:%M:%S.%1");
  uint8_t printed[TimeFormat::kMaxBytes];
  const uint64_t last = *fine->Read(AsBytes("9999-12-31 23:59:59.9"));
  EXPECT_NE(fine->Print(last, printed), 0u);
  EXPECT_EQ(fine->Print(last + 1, printed), 0u);
  EXPECT_EQ(fine->Print(UINT64_MAX, printed), 0u);
}

/// Decodes damaged bytes; whatever comes of it is within bounds.
void DecodeAnything(ByteSpan bytes, const Values& values,
                    std::span<const Beside> beside) {
  Scratch scratch;
  Values decoded;
  ByteReader reader(bytes);
  const absl::Status status = DecodeColumn(
      reader, values.size(), values.bytes().size(), beside, scratch, &decoded);
  if (status.ok()) {
    EXPECT_EQ(decoded.size(), values.size());
    EXPECT_LE(decoded.bytes().size(), values.bytes().size());
  } else {
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status.message();
  }
}

TEST(ColumnsTest, DamageIsRefusedOrStaysWithinBounds) {
  const Strings beside_strings = Make(400, [](size_t, std::mt19937& random) {
    return std::to_string(random() % 50);
  });
  const Values beside_values = ToValues(beside_strings);
  const Beside beside[] = {{&beside_values, {}}};
  const std::vector<std::function<std::string(size_t, std::mt19937&)>> columns =
      {
          [](size_t i, std::mt19937&) { return std::to_string(i * 17); },
          [](size_t i, std::mt19937& r) {
            return r() % 9 == 0 ? "-" : "1.2." + std::to_string(i / 9);
          },
          [&](size_t i, std::mt19937& r) {
            return beside_strings[i] + (r() % 9 == 0 ? "!" : "");
          },
          [](size_t i, std::mt19937&) {
            return "12:" + Padded(i / 60, 2) + ":" + Padded(i % 60, 2);
          },
          [](size_t, std::mt19937& r) {
            return std::string(1, static_cast<char>('a' + r() % 9)) + "word" +
                   std::string(r() % 9, 'x');
          },
          [](size_t, std::mt19937& r) {
            return std::to_string(r()) + std::to_string(r());
          },
      };
  for (const auto& make : columns) {
    const Values values = ToValues(Make(400, make));
    for (const int level : {3, 6}) {
      const Coded coded = RoundTrip(values, level, beside);
      const ByteSpan bytes = coded.bytes.span();
      for (size_t size = 0; size < bytes.size(); size += 1 + size / 16) {
        DecodeAnything(bytes.first(size), values, beside);
      }
      std::mt19937 random(11);
      for (int k = 0; k < 150; ++k) {
        std::vector<uint8_t> damaged(bytes.begin(), bytes.end());
        // Often near the front, where lengths are.
        const size_t at = k % 2 == 0
                              ? random() % damaged.size()
                              : random() % std::min<size_t>(40, damaged.size());
        damaged[at] = static_cast<uint8_t>(random());
        DecodeAnything(damaged, values, beside);
        DecodeAnything(damaged, values, {});
      }
      // Less room than the values take.
      Scratch scratch;
      Values decoded;
      ByteReader smaller(bytes);
      EXPECT_FALSE(DecodeColumn(smaller, values.size(),
                                values.bytes().size() - 1, beside, scratch,
                                &decoded)
                       .ok());
    }
  }
}

TEST(ColumnsTest, ConstantsOfNothingCannotGrow) {
  // A constant of 1000 bytes, and 2^30 values of them where 10 MB are allowed.
  Buffer bytes;
  ByteWriter writer(&bytes);
  writer.Varint(1001);
  writer.Le<uint8_t>(kConstant);
  writer.Bytes(std::vector<uint8_t>(1000, 'x'));
  Scratch scratch;
  Values decoded;
  ByteReader reader(bytes.span());
  EXPECT_FALSE(
      DecodeColumn(reader, size_t{1} << 30, 10000000, {}, scratch, &decoded)
          .ok());
}

}  // namespace
}  // namespace zipllm::codecs::columns
