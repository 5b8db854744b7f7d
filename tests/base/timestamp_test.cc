#include "base/timestamp.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "base/bytes.h"

namespace zipllm {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kDay = 86400 * kSecond;

std::optional<Timestamp> Find(const std::string& line) {
  return FindTimestamp(AsBytes(line));
}

struct Case {
  const char* line;
  int64_t seconds;  // `date -u +%s`
  int64_t nanos = 0;
};

TEST(Timestamp, FormsOfLogs) {
  constexpr Case kCases[] = {
      {"2024-01-15T10:30:45Z started", 1705314645},
      {"2024-01-15T10:30:45.123456789+02:00 x", 1705307445, 123456789},
      {"2024-01-15 08:30:45,250 -0200 x", 1705314645, 250'000'000},
      {"2024-01-15 10:30:45.123 UTC [7] LOG", 1705314645, 123'000'000},
      {"[2024/01/15 10:30:45] x", 1705314645},
      {"2024-01-15 10:30:45-00", 1705314645},
      {"- 1117838570 2005.06.03 R02-M1 2005-06-03-15.42.50.675872", 1117838570},
      {"R02-M1 2005-06-03-15.42.50.675872 R02", 1117813370, 675'872'000},
      {"66.110.168.111 - - [21/Apr/2004:10:56:07 -0400] \"GET /", 1082559367},
      {"17/06/09 20:10:40 INFO executor", 1497039040},
      {"081109 203615 148 INFO dfs", 1226262975},
      {"081109 20:36:15 x", 1226262975},
      {"20171223-22:15:29:606|Step_LSC|30002312", 1514067329, 606'000'000},
      {"20240115T103045Z x", 1705314645},
      {"20240115103045 x", 1705314645},
      {"20240115103045123 x", 1705314645, 123'000'000},
      {"[Sun Dec 04 04:47:44 2005] [notice] x", 1133671664},
      {"Sun Dec  4 04:47:44 UTC 2005 x", 1133671664},
      {"Sun, 04 Dec 2005 04:47:44 +0000 x", 1133671664},
      {"Dec 4 2005 04:47:44: %ASA-6", 1133671664},
      {"January 15, 2024 10:30:45 PM x", 1705357845},
      {"01/15/2024 10:30:45 PM x", 1705357845},
      {"15/01/2024 10:30:45 x", 1705314645},
      {"15.01.2024 10:30:45 x", 1705314645},
      {"15-Jan-2024 10:30:45.5 x", 1705314645, 500'000'000},
      {"2016-09-28 04:30:30, Info CBS", 1475037030},
      {"<34>1 2024-01-15T10:30:45.003Z host", 1705314645, 3'000'000},
      {"nova-api.log.1.2017-05-16_13:53:08 2024-01-15 10:30:45.008 2 INFO",
       1705314645, 8'000'000},
      {"1521911720.865716\tCqKst53mF3det3eDV9", 1521911720, 865'716'000},
      {"ts=1705314645123 level=info", 1705314645, 123'000'000},
      {"1705314645123456 x", 1705314645, 123'456'000},
      {"1705314645123456789 x", 1705314645, 123'456'789},
      {"JFK,2024-01-15,3,4.5", 1705276800},
      {R"({"id":1234567890,"load_timestamp":1,"timestamp":1705314645000})",
       1705314645},
      {R"({"a": 1, "time": "2024-01-15T10:30:45Z"})", 1705314645},
      // Without a year.
      {"Dec 10 06:55:46 LabSZ sshd[24200]: x", -9121741454},
      {"<13>Dec 10 06:55:46 LabSZ", -9121741454},
      {"03-17 16:13:38.811  1702  2395 D W", -9144863182, 811'000'000},
      {"[10.30 16:49:06] chrome.exe", -9125248254},
      {"I0115 10:30:45.000001 7 a.cc:1] x", -9150240555, 1000},
  };
  for (const Case& c : kCases) {
    const std::optional<Timestamp> time = Find(c.line);
    ASSERT_TRUE(time.has_value()) << c.line;
    EXPECT_EQ(*time, c.seconds * kSecond + c.nanos) << c.line;
  }
}

TEST(Timestamp, WhatIsNone) {
  for (const char* line :
       {"", "\n", "\tat java.lang.Thread.run(Thread.java:745)", "2024-13-01",
        "2024-00-10 10:00:00", "10.251.73.220:50010", "blk_1117838570",
        "x1117838570", "1117838570x", "version 2024.1.15", "0.5,1.25,3",
        "#open\t2024-04-12-19-29-12", "Marching 10 men", "May be", "1/2",
        "12:30", "\n2024-01-15 10:30:45"}) {
    EXPECT_FALSE(Find(line).has_value()) << line;
  }
}

TEST(Timestamp, OnlyTheLineCounts) {
  const std::string line = "Dec 10 06:55:46 LabSZ x";
  const std::optional<Timestamp> alone = Find(line);
  ASSERT_TRUE(alone.has_value());
  for (const char* after :
       {"\n", "\n2024-01-15 10:30:45", "\n2004", "\r\n2004 12"}) {
    EXPECT_EQ(Find(line + after), alone);
    EXPECT_EQ(Find(line + after + std::string(500, 'x')), alone);
  }
  // A time that the line end cuts.
  EXPECT_FALSE(Find("2024-01-\n15 10:30:45").has_value());
  EXPECT_FALSE(
      Find("2024-01-\n15 10:30:45" + std::string(500, 'x')).has_value());
}

TEST(Timestamp, WithoutYearKeepsTheDay) {
  const Timestamp in_leap_year = *Find("2024-12-10 06:55:46");
  const Timestamp in_common_year = *Find("2023-12-10 06:55:46");
  const Timestamp no_year = *Find("Dec 10 06:55:46 x");
  EXPECT_EQ(WithoutYear(in_leap_year), no_year);
  EXPECT_EQ(WithoutYear(in_common_year), no_year);
  EXPECT_EQ(WithoutYear(no_year), no_year);
  EXPECT_FALSE(HasYear(no_year));
  EXPECT_TRUE(HasYear(in_common_year));
  EXPECT_EQ(WithoutYear(*Find("2023-03-01 00:00:00")) -
                WithoutYear(*Find("2023-02-28 00:00:00")),
            2 * kDay);
}

TEST(Timestamp, OfAUser) {
  EXPECT_EQ(ParseTimestamp("2024-01-15 10:30:45"), 1705314645 * kSecond);
  EXPECT_EQ(ParseTimestamp("2024-01-15"), 1705276800 * kSecond);
  EXPECT_EQ(ParseTimestamp("2024-01-15T10:30"), 1705314600 * kSecond);
  EXPECT_EQ(ParseTimestamp("1705314645"), 1705314645 * kSecond);
  EXPECT_EQ(ParseTimestamp("1705314645.5"), 1705314645 * kSecond + kSecond / 2);
  EXPECT_EQ(ParseTimestamp("Dec 10 06:55:46"), -9121741454 * kSecond);
  EXPECT_EQ(ParseTimestamp("Sun Dec 04 04:47:44 2005"), 1133671664 * kSecond);
  for (const char* text : {"", "yesterday", "2024-01-15 10:30:45 x", "10:30",
                           "2024", "17053146450"}) {
    EXPECT_FALSE(ParseTimestamp(text).has_value()) << text;
  }
}

// Whatever the bytes, nothing outside of them is looked at (sanitizers tell),
// and what stands behind the line does not count.
TEST(Timestamp, AnyBytes) {
  std::mt19937 random(7);
  const std::string kParts = "0123456789-/.:, TJanDec[]{}\"ts+Z\n";
  for (int round = 0; round < 20000; ++round) {
    std::string line;
    const size_t size = random() % 60;
    for (size_t i = 0; i < size; ++i) {
      line += kParts[random() % (kParts.size() - (round % 2))];
    }
    const std::string exact(line);
    const std::optional<Timestamp> time = Find(exact);
    EXPECT_EQ(Find(line + "\n" + std::string(300, '7')), time) << line;
    ParseTimestamp(line);
  }
}

}  // namespace
}  // namespace zipllm
