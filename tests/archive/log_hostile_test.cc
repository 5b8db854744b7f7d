// Hostile logs through the whole of it: what the planner picks, at each level,
// in one go and as a pipe.
#include <gtest/gtest.h>

#include "archive/testing.h"
#include "codecs/hostile_logs.h"

namespace zipllm {
namespace {

using namespace testing;
using codecs::HostileLogs;

/// Parts of all kinds one after the other, each long enough to be seen.
Bytes AllOfThem(size_t lines, uint64_t seed) {
  codecs::Random random(seed);
  std::string out;
  for (const codecs::HostileLog& log : HostileLogs()) {
    out += log.make(lines, random);
  }
  return FromString(out);
}

Bytes PlainLines(size_t lines) {
  codecs::Random random(1);
  std::string out;
  for (size_t i = 0; i < lines; ++i) {
    out += codecs::PlainLine(i, random) + "\n";
  }
  return FromString(out);
}

void ExpectBack(const Bytes& log, CompressOptions options) {
  options.verify = false;  // what would be wrong shall come to light
  const Bytes archive = Compress(log, options);
  EXPECT_LT(archive.size(), log.size() + 300);
  const absl::StatusOr<Bytes> back =
      Decompress(archive, {.check_sha256 = true});
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_TRUE(*back == log) << "level " << options.level;
}

TEST(LogHostileArchive, EachKindAtFastLevels) {
  codecs::Random random(2);
  for (const codecs::HostileLog& kind : HostileLogs()) {
    SCOPED_TRACE(kind.name);
    const Bytes log = FromString(kind.make(300, random));
    for (const int level : {1, 3}) ExpectBack(log, {.level = level});
  }
}

TEST(LogHostileArchive, AllTogetherAtEachLevel) {
  const Bytes log = AllOfThem(12, 3);
  for (int level = kMinLevel; level <= kMaxLevel; ++level) {
    ExpectBack(log, {.level = level});
  }
}

TEST(LogHostileArchive, PlainLinesWithAllKindsAmongThem) {
  Bytes log = PlainLines(1500);
  const Bytes odd = AllOfThem(4, 4), more = PlainLines(200);
  log.insert(log.end(), odd.begin(), odd.end());
  log.insert(log.end(), more.begin(), more.end());
  for (const int level : {3, 6, 9}) ExpectBack(log, {.level = level});
}

TEST(LogHostileArchive, APipeInOddPiecesIsTheSameArchive) {
  const Bytes log = AllOfThem(60, 5);
  PipeSource pipe(log, 4099);
  Bytes archive;
  auto out = MakeMemorySink(&archive);
  ASSERT_TRUE(Compressor({.threads = 2}).CompressStream(pipe, "f", *out).ok());
  EXPECT_TRUE(archive == Compress(log, {.threads = 1}));
  const absl::StatusOr<Bytes> back = Decompress(archive);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_TRUE(*back == log);
}

/// A log that is longer than a block, so that blocks share what the first one
/// taught, and whose kind changes underway.
TEST(LogHostileArchive, LaterBlocksAreOfAnotherKind) {
  Bytes log = PlainLines(100'000);
  codecs::Random random(6);
  const std::string odd = HostileLogs()[21].make(20'000, random);
  log.insert(log.end(), odd.begin(), odd.end());
  ExpectBack(log, {.level = 3});
}

TEST(LogHostileArchive, OneFlippedByteIsKept) {
  const Bytes log = PlainLines(200);
  codecs::Random random(7);
  for (int i = 0; i < 40; ++i) {
    Bytes flipped = log;
    flipped[random.Below(log.size())] ^=
        static_cast<uint8_t>(1 + random.Below(255));
    ExpectBack(flipped, {.level = i % 2 == 0 ? 3 : 5});
  }
}

}  // namespace
}  // namespace zipllm
