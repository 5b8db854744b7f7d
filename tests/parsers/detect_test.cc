#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "parsers/files.h"
#include "parsers/parser.h"

namespace zipllm::parsers {
namespace {

using ::testing::ElementsAre;

TEST(DetectTest, RegisteredParsers) {
  std::vector<std::string_view> names;
  for (const Parser* parser : AllParsers()) names.push_back(parser->name);
  EXPECT_THAT(names,
              ElementsAre("safetensors", "gguf", "imatrix", "npy", "npz"));
}

TEST(DetectTest, EmptyFileHasNoSegments) {
  const Outcome outcome = Detect({}, 0);
  ASSERT_TRUE(outcome.layout);
  EXPECT_EQ(outcome.layout->format, "bytes");
  EXPECT_TRUE(outcome.layout->segments.empty());
}

TEST(DetectTest, TinyFilesAreBytes) {
  for (size_t size = 1; size <= 24; ++size) {
    ExpectBytes(Bytes(size, 0));
    ExpectBytes(Bytes(size, 0xFF));
    ExpectBytes(Bytes(size, '{'));
  }
}

TEST(DetectTest, OtherFilesAreOneSegment) {
  Bytes text;
  for (int i = 0; i < 1000; ++i) PutText(&text, "Call me Ishmael.\n");
  const Layout layout = Label(text);
  EXPECT_EQ(layout.format, "bytes");
  EXPECT_THAT(Show(layout.segments), ElementsAre(Show(GapAt(0, text.size()))));
}

TEST(DetectTest, PipeOfUnknownFormatIsOneSegmentWithoutEnd) {
  const Bytes text(1000, 'x');
  const Outcome outcome = Detect(text, std::nullopt);
  ASSERT_TRUE(outcome.layout);
  EXPECT_THAT(Show(outcome.layout->segments),
              ElementsAre(Show(GapAt(0, UINT64_MAX))));
}

// Parsers that break the contract, for DetectWith to catch.
Outcome OneSegment(uint64_t offset, uint64_t length) {
  Layout layout{.format = "fake", .segments = {}};
  layout.segments.push_back(Tensor("t", DType::kU8, {}, offset, length));
  return {.layout = layout};
}
Outcome TooShort(ByteSpan, std::optional<uint64_t>) { return OneSegment(0, 9); }
Outcome TooLong(ByteSpan, std::optional<uint64_t>) { return OneSegment(0, 11); }
Outcome LateStart(ByteSpan, std::optional<uint64_t>) {
  return OneSegment(1, 9);
}
Outcome Hole(ByteSpan, std::optional<uint64_t>) {
  Outcome outcome = OneSegment(0, 4);
  outcome.layout->segments.push_back(GapAt(5, 5));
  return outcome;
}
Outcome Overlap(ByteSpan, std::optional<uint64_t>) {
  Outcome outcome = OneSegment(0, 6);
  outcome.layout->segments.push_back(GapAt(5, 5));
  return outcome;
}
Outcome WrapsAround(ByteSpan, std::optional<uint64_t>) {
  Outcome outcome = OneSegment(0, UINT64_MAX);
  outcome.layout->segments.push_back(GapAt(UINT64_MAX, 11));
  return outcome;
}
Outcome TooMany(ByteSpan, std::optional<uint64_t>) {
  Outcome outcome = OneSegment(0, 10);
  outcome.layout->segments.resize(kMaxSegments + 1, GapAt(10, 0));
  return outcome;
}
Outcome AsksForLess(ByteSpan prefix, std::optional<uint64_t>) {
  return {.need_prefix = prefix.size()};
}
Outcome AsksForTooMuch(ByteSpan, std::optional<uint64_t>) {
  return {.need_prefix = kMaxPrefix + 1};
}
Outcome AsksForMore(ByteSpan, std::optional<uint64_t>) {
  return {.need_prefix = 20};
}
Outcome Good(ByteSpan, std::optional<uint64_t>) { return OneSegment(0, 10); }
Outcome Declines(ByteSpan, std::optional<uint64_t>) { return {}; }

Outcome With(
    std::initializer_list<Outcome (*)(ByteSpan, std::optional<uint64_t>)>
        functions,
    std::optional<uint64_t> file_size, size_t prefix_size = 10) {
  std::vector<Parser> parsers;
  for (auto function : functions) parsers.push_back({"fake", function});
  std::vector<const Parser*> pointers;
  for (const Parser& parser : parsers) pointers.push_back(&parser);
  return DetectWith(pointers, Bytes(prefix_size), file_size);
}

TEST(DetectTest, LayoutsThatDoNotTileFallBackToBytes) {
  for (auto lie : {TooShort, TooLong, LateStart, Hole, Overlap, WrapsAround,
                   TooMany, AsksForLess, AsksForTooMuch}) {
    Outcome outcome = With({lie}, 10);
    ASSERT_TRUE(outcome.layout);
    EXPECT_EQ(outcome.layout->format, "bytes");
    ExpectTiles(*outcome.layout, 10);
    // The next parser in the list gets its chance.
    outcome = With({lie, Good}, 10);
    ASSERT_TRUE(outcome.layout);
    EXPECT_EQ(outcome.layout->format, "fake");
    ExpectTiles(*outcome.layout, 10);
  }
  for (auto lie : {LateStart, Hole, Overlap, WrapsAround, TooMany}) {
    const Outcome outcome = With({lie}, std::nullopt);
    ASSERT_TRUE(outcome.layout);
    EXPECT_EQ(outcome.layout->format, "bytes");
    ExpectTiles(*outcome.layout, UINT64_MAX);
  }
}

TEST(DetectTest, FirstParserThatAnswersHasItsWay) {
  EXPECT_EQ(With({AsksForMore, Good}, 30).need_prefix, 20u);
  EXPECT_EQ(With({Declines, AsksForMore}, 30).need_prefix, 20u);
  EXPECT_TRUE(With({Good, AsksForMore}, 10).layout);
  EXPECT_FALSE(With({Good, AsksForMore}, 10).need_prefix);
}

TEST(DetectTest, NobodyGetsMoreThanTheWholeFile) {
  const Outcome outcome = With({AsksForMore}, 10);
  ASSERT_TRUE(outcome.layout);
  EXPECT_EQ(outcome.layout->format, "bytes");
}

TEST(DetectTest, PipeLayoutIsClosedByWhateverFollows) {
  const Outcome outcome = With({Good}, std::nullopt);
  ASSERT_TRUE(outcome.layout);
  EXPECT_EQ(outcome.layout->format, "fake");
  EXPECT_THAT(Show(outcome.layout->segments),
              ElementsAre(Show(Tensor("t", DType::kU8, {}, 0, 10)),
                          Show(GapAt(10, UINT64_MAX - 10))));
}

}  // namespace
}  // namespace zipllm::parsers
