#include "archive/lines.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "base/bytes.h"
#include "testing.h"
#include "zipllm/archive.h"
#include "zipllm/compressor.h"

namespace zipllm {
namespace {

using archive::LineCollector;
using archive::LinesOf;
using container::BlockLines;

constexpr int64_t kSecond = 1'000'000'000;

// Lines with a time, and some that have none.
std::string MakeLog(size_t size, std::mt19937& random) {
  std::string log = "no time yet\n";
  int64_t second = 1'700'000'000;
  while (log.size() < size) {
    if (random() % 5 == 0) {
      log += "\tat frame " + std::to_string(random() % 100) + "\n";
      continue;
    }
    second += random() % 3;
    if (random() % 50 == 0) second -= 20;
    log += std::to_string(second) + " event " +
           std::string(random() % 200, static_cast<char>('a' + random() % 26)) +
           "\n";
  }
  log.resize(size);
  return log;
}

std::vector<BlockLines> Collect(const std::string& text, size_t block_size) {
  LineCollector collector;
  collector.FoundText();
  bool begins_line = true;
  for (size_t at = 0; at < text.size(); at += block_size) {
    const std::string_view block =
        std::string_view(text).substr(at, block_size);
    const BlockLines facts = LinesOf(AsBytes(block), begins_line, true);
    begins_line = facts.ends_line;
    collector.Add(facts, AsBytes(block));
  }
  return collector.Finish(UINT64_MAX);
}

TEST(Lines, BlocksTellWhatTheirLinesHave) {
  std::mt19937 random(3);
  const std::string log = MakeLog(20000, random);
  for (const size_t block_size : {1, 7, 100, 4095, 5000, 9999}) {
    const std::vector<BlockLines> blocks = Collect(log, block_size);
    ASSERT_EQ(blocks.size(), (log.size() + block_size - 1) / block_size);
    std::vector<BlockLines> expected(blocks.size());
    for (size_t at = 0; at < log.size();) {
      const size_t end = std::min(log.find('\n', at), log.size());
      BlockLines& block = expected[at / block_size];
      const auto time =
          FindTimestamp(AsBytes(std::string_view(log).substr(at, end - at)));
      if (time.has_value()) {
        const int64_t ms = *time / 1'000'000;
        const bool first = block.times != BlockLines::Times::kSome;
        block.earliest = first ? ms : std::min(block.earliest, ms);
        block.latest = first ? ms : std::max(block.latest, ms);
        block.times = BlockLines::Times::kSome;
      }
      if (end < log.size()) ++expected[end / block_size].line_ends;
      at = end + 1;
    }
    for (size_t i = 0; i < blocks.size(); ++i) {
      EXPECT_EQ(blocks[i].line_ends, expected[i].line_ends) << block_size;
      if (expected[i].times == BlockLines::Times::kSome) {
        ASSERT_EQ(blocks[i].times, BlockLines::Times::kSome) << block_size;
        EXPECT_EQ(blocks[i].earliest, expected[i].earliest);
        EXPECT_EQ(blocks[i].latest, expected[i].latest);
      } else {
        EXPECT_EQ(blocks[i].times, BlockLines::Times::kNone) << block_size;
      }
    }
  }
}

TEST(Lines, WrittenAndRead) {
  std::mt19937 random(4);
  std::vector<container::FileLines> files(2);
  files[0] = {3, Collect(MakeLog(9000, random), 1000)};
  files[1] = {7, Collect(MakeLog(3000, random), 1000)};
  for (BlockLines& block : files[1].blocks) block.letters.clear();
  Buffer bytes;
  container::WriteLines(files, &bytes);
  const auto read = container::ParseLines(bytes.span(), 1 << 24);
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ((*read)[i].entry, files[i].entry);
    ASSERT_EQ((*read)[i].blocks.size(), files[i].blocks.size());
    for (size_t k = 0; k < files[i].blocks.size(); ++k) {
      const BlockLines& a = (*read)[i].blocks[k];
      const BlockLines& b = files[i].blocks[k];
      EXPECT_EQ(a.line_ends, b.line_ends);
      EXPECT_EQ(a.ends_line, b.ends_line);
      EXPECT_EQ(a.times, b.times);
      EXPECT_EQ(a.earliest, b.earliest);
      EXPECT_EQ(a.latest, b.latest);
      EXPECT_EQ(a.letters, b.letters);
    }
  }
  // Whatever is damaged is refused or read; nothing else happens.
  for (size_t cut = 0; cut < bytes.size(); ++cut) {
    EXPECT_FALSE(container::ParseLines(bytes.span().first(cut), 1 << 24).ok());
  }
  for (int i = 0; i < 2000; ++i) {
    Buffer bad;
    bad.Append(bytes.span());
    bad.data()[random() % 60] = static_cast<uint8_t>(random());
    (void)container::ParseLines(bad.span(), 1 << 24);
  }
}

TEST(Lines, LettersAreNeverMissed) {
  std::mt19937 random(5);
  const std::string log = MakeLog(3000, random);
  const BlockLines facts = LinesOf(AsBytes(log), true, true);
  for (int i = 0; i < 1000; ++i) {
    const size_t at = random() % log.size();
    const std::string needle = log.substr(at, 1 + random() % 12);
    EXPECT_TRUE(archive::MayContain({{needle}, false}, facts.letters));
    EXPECT_TRUE(
        archive::MayContain({{"zzzqzzz", needle}, true}, facts.letters));
  }
  EXPECT_FALSE(archive::MayContain({{"xqjzkvw"}, false}, facts.letters));
}

TEST(Lines, TimesWithinAYear) {
  const auto at = [](const char* text) { return *ParseTimestamp(text); };
  const TimeRange around{at("2023-12-30"), at("2024-01-02")};
  EXPECT_TRUE(archive::Contains(around, at("Dec 31 10:00:00")));
  EXPECT_TRUE(archive::Contains(around, at("Jan  1 10:00:00")));
  EXPECT_FALSE(archive::Contains(around, at("Jan  3 10:00:00")));
  EXPECT_FALSE(archive::Contains(around, at("2022-12-31")));
  const TimeRange no_year{at("Mar 10 00:00:00"), std::nullopt};
  EXPECT_TRUE(archive::Contains(no_year, at("2020-05-05")));
  EXPECT_FALSE(archive::Contains(no_year, at("2020-02-05")));
  EXPECT_FALSE(archive::Contains({at("2024-02-01"), at("2024-01-01")},
                                 at("2024-01-15")));
}

TEST(Lines, OfAnArchive) {
  std::mt19937 random(6);
  const std::string log = MakeLog(9 << 20, random);
  for (const int level : {1, 3}) {
    CompressOptions options;
    options.level = level;
    std::vector<uint8_t> bytes;
    const auto in = MakeMemorySource(AsBytes(log));
    const auto sink = MakeMemorySink(&bytes);
    ASSERT_TRUE(Compressor(options).CompressStream(*in, "log", *sink).ok());
    const auto archive = Archive::Open(MakeMemorySource(bytes));
    ASSERT_TRUE(archive.ok()) << archive.status();
    std::vector<size_t> starts = {0};
    for (size_t i = 0; i < log.size(); ++i) {
      if (log[i] == '\n' && i + 1 < log.size()) starts.push_back(i + 1);
    }
    const auto count = static_cast<int64_t>(starts.size());
    starts.push_back(log.size());
    const auto lines = [&](int64_t first, int64_t last) {
      std::vector<uint8_t> out;
      const auto to = MakeMemorySink(&out);
      EXPECT_TRUE(archive->CopyLines(0, {first, last}, *to).ok());
      return std::string(out.begin(), out.end());
    };
    for (int i = 0; i < 12; ++i) {
      const int64_t first = 1 + random() % count;
      const int64_t last =
          std::min(count, first + static_cast<int64_t>(random() % 2000));
      const std::string expected =
          log.substr(starts[first - 1], starts[last] - starts[first - 1]);
      EXPECT_EQ(lines(first, last), expected) << first << " " << last;
      EXPECT_EQ(lines(first - count - 1, last - count - 1), expected);
    }
    EXPECT_EQ(lines(1, -1), log);
    EXPECT_EQ(lines(count + 1, -1), "");
    EXPECT_EQ(lines(5, 4), "");

    // Times, against a plain loop.
    for (int i = 0; i < 6; ++i) {
      const int64_t since = (1'700'000'000 + random() % 70'000) * kSecond;
      TimeRange range{since, since + (random() % 3000) * kSecond};
      if (i == 0) range.since.reset();
      if (i == 1) range.until.reset();
      std::string expected;
      bool inside = !range.since.has_value();
      for (int64_t line = 0; line < count; ++line) {
        const std::string text =
            log.substr(starts[line], starts[line + 1] - starts[line]);
        const auto time = FindTimestamp(AsBytes(text));
        if (time.has_value()) inside = archive::Contains(range, *time);
        if (inside) expected += text;
      }
      std::vector<uint8_t> out;
      const auto to = MakeMemorySink(&out);
      ASSERT_TRUE(archive->CopyTimes(0, range, *to).ok());
      EXPECT_TRUE(std::string(out.begin(), out.end()) == expected) << i;
    }
  }
}

}  // namespace
}  // namespace zipllm
