// Codec text_cm and the parts of context mixing: the same bytes on every
// target, cursors in turns, priors, damage with aim.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "codecs/coding.h"
#include "codecs/generators.h"
#include "codecs/text/cm_fast.h"
#include "codecs/text/cm_format.h"
#include "codecs/text/cm_memory.h"

namespace zipllm::codecs {
namespace {

using testing::HasSubstr;

constexpr CodecId kTextCm = 22;

ByteSpan AsBytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

/// Lines of fields.
std::string Table(size_t lines) {
  std::string text;
  for (size_t i = 0; i < lines; ++i) {
    text += std::to_string(1000 + i) + ";item " + std::to_string(i % 7) + "," +
            std::to_string(i * i % 1000) + "\n";
  }
  return text;
}

TEST(CmPartsTest, StretchIsTheInverseOfSquash) {
  EXPECT_EQ(cm::Squash(0), 32768u);
  for (int x = -2000; x <= 2000; x += 7) {
    EXPECT_EQ(cm::Squash(-x), 65536 - cm::Squash(x));
    // Steps are 16 of probability, and up to 64 of the stretched.
    const uint32_t p = cm::Squash(x);
    EXPECT_LE(cm::Squash(cm::Stretch(p)), p + 80);
    EXPECT_GE(cm::Squash(cm::Stretch(p)) + 16, p);
  }
  EXPECT_EQ(cm::Squash(100000), cm::Squash(cm::kStretchMax));
}

TEST(CmPartsTest, HistoriesCountAndForget) {
  const auto& next = cm::kHistories.next;
  const auto& counts = cm::kHistories.counts;
  EXPECT_EQ(counts[next[0][1]], (std::array<uint8_t, 2>{0, 1}));
  EXPECT_EQ(counts[next[next[0][1]][0]], (std::array<uint8_t, 2>{1, 1}));
  // Which of two bits came last is known.
  EXPECT_NE(next[next[0][1]][0], next[next[0][0]][1]);
  size_t state = 0;
  for (int i = 0; i < 100; ++i) state = next[state][0];
  EXPECT_EQ(counts[state][1], 0);
  EXPECT_GE(counts[state][0], 40);
  EXPECT_LT(cm::kHistories.p[state], 700);
  // A surprise makes old bits count less.
  EXPECT_LT(counts[next[state][1]][0], 10);
  for (size_t s = 0; s < 255; ++s) {
    for (size_t bit = 0; bit < 2; ++bit) {
      const auto& after = counts[next[s][bit]];
      EXPECT_GT(after[bit], 0);
      EXPECT_LE(after[1 - bit], counts[s][1 - bit]);
    }
    if (s > 0) {
      EXPECT_GE(counts[s][0] + counts[s][1],
                counts[s - 1][0] + counts[s - 1][1]);
    }
  }
}

TEST(CmPartsTest, SlotsOfALineAreFoundAndReplaced) {
  alignas(64) std::array<uint8_t, cm::kLineBytes> line{};
  std::array<uint8_t*, 5> slots;
  for (uint8_t check = 1; check <= 4; ++check) {
    slots[check] = cm::FindSlot(line.data(), check);
    slots[check][1] = static_cast<uint8_t>(10 * check);
    slots[check][15] = check;
  }
  for (uint8_t check = 1; check <= 4; ++check) {
    EXPECT_EQ(cm::FindSlot(line.data(), check), slots[check]);
    EXPECT_EQ(slots[check][15], check);
  }
  // The one that knows least goes.
  EXPECT_EQ(cm::FindSlot(line.data(), 9), slots[1]);
  EXPECT_EQ(slots[1][1], 0);
  EXPECT_EQ(slots[1][15], 0);
}

TEST(CmPartsTest, AveragesStayWithinBounds) {
  uint32_t p = 1u << 31;
  for (int i = 0; i < 5000; ++i) cm::UpdateAverage(p, true, 7);
  EXPECT_GT(p, 0xFFFFFF00u);
  for (int i = 0; i < 5000; ++i) cm::UpdateAverage(p, false, 7);
  EXPECT_LT(p, 0x100u);
}

uint64_t MemoryOf(const cm::FastSizes& sizes) {
  return cm::kStateBytes + cm::FastBytes(sizes);
}

class TextCmFastTest : public testing::TestWithParam<bool> {};

TEST_P(TextCmFastTest, EveryTargetWritesTheSameAndReadsIt) {
  const bool records = GetParam();
  const std::string text = Table(150);
  const ByteSpan plain = AsBytes(text);
  cm::Params params{.lines = 10, .prior = Prior::kNone};
  const cm::FastSizes sizes = cm::FastSizesOf(params, plain.size());
  cm::Priors priors;
  priors.texts[priors.count++] = PriorText(Prior::kCards).first(3000);
  priors.size = 3000;
  priors.learnt = 1000;
  cm::FastSizes with_prior = sizes;
  with_prior.arena_size += 3000;

  Bytes expected;
  for (const auto target : {kernels::Target::kScalar, kernels::Target::kAvx2,
                            kernels::Target::kAvx512}) {
    const cm::FastCoder* coder = cm::kFastCoders.Find(target);
    if (coder == nullptr) continue;
    Bytes coded(plain.size());
    {
      const cm::ZeroedMemory memory(MemoryOf(with_prior));
      coder->prime[records](memory.data(), with_prior, priors);
      coded.resize(coder->block[records].encode(memory.data(), plain.data(),
                                                plain.size(), coded.data(),
                                                coded.size(), {}));
    }
    ASSERT_FALSE(coded.empty());
    EXPECT_LT(coded.size(), plain.size() / 3);
    if (expected.empty()) expected = coded;
    EXPECT_EQ(coded, expected) << static_cast<int>(target);
    Bytes decoded(plain.size());
    const cm::ZeroedMemory memory(MemoryOf(with_prior));
    coder->prime[records](memory.data(), with_prior, priors);
    EXPECT_TRUE(coder->block[records].decode(memory.data(), coded.data(),
                                             coded.size(), decoded.data(),
                                             decoded.size(), {}));
    EXPECT_TRUE(std::ranges::equal(decoded, plain));
  }
}

TEST_P(TextCmFastTest, WritesNothingBeyondItsRoom) {
  const Bytes noise = MakeInput(Kind::kRandom, DType::kBytes, 500);
  const cm::FastSizes sizes = cm::FastSizesOf({.lines = 10}, noise.size());
  const cm::ZeroedMemory memory(MemoryOf(sizes));
  const cm::FastCoder& coder = cm::kFastCoders.Best();
  coder.prime[GetParam()](memory.data(), sizes, {});
  Exact coded(noise.size());
  EXPECT_EQ(coder.block[GetParam()].encode(
                memory.data(), noise.data(), noise.size(),
                coded.mutable_span().data(), coded.span().size(), {}),
            0u);
}

INSTANTIATE_TEST_SUITE_P(Both, TextCmFastTest, testing::Bool());

/// A model with its memory.
template <bool kRecords>
struct Fast {
  explicit Fast(uint32_t arena_size)
      : sizes{.line_bits = 10, .index_bits = 12, .arena_size = arena_size},
        memory(cm::FastBytes(sizes)),
        model(memory.data(), sizes) {}
  cm::FastSizes sizes;
  cm::ZeroedMemory memory;
  cm::FastModel<kRecords> model;
};

TEST(TextCmTest, ReadingAheadIsReading) {
  const std::string text = Table(120);
  for (const size_t size : {size_t{1}, size_t{2}, size_t{9}, text.size()}) {
    Fast<true> one(1 << 16);
    Fast<true> other(1 << 16);
    cm::FastModel<true>::Cursor a;
    cm::FastModel<true>::Cursor b;
    one.model.Start(a, cm::kArenaMargin);
    other.model.Start(b, cm::kArenaMargin);
    const ByteSpan bytes = AsBytes(text).first(size);
    one.model.ReadAll(a, bytes.data(), bytes.size());
    for (const uint8_t byte : bytes) {
      for (int k = 7; k >= 0; --k) other.model.Read(b, byte >> k & 1);
    }
    for (const uint8_t byte : AsBytes("1042;item 6,")) {
      for (int k = 7; k >= 0; --k) {
        EXPECT_EQ(one.model.Predict(a), other.model.Predict(b));
        one.model.Update(a, byte >> k & 1);
        other.model.Update(b, byte >> k & 1);
      }
    }
  }
}

TEST(TextCmTest, CursorsTakeTurns) {
  const std::string text = Table(300);
  const ByteSpan halves[2] = {AsBytes(text).first(text.size() / 2),
                              AsBytes(text).subspan(text.size() / 2)};
  const size_t half = halves[0].size();
  Bytes codes[2] = {Bytes(half), Bytes(half)};
  using Model = cm::FastModel<false>;
  const auto start = [&](Model& model, Model::Cursor(&cursors)[2]) {
    model.Start(cursors[0], cm::kArenaMargin);
    model.Start(cursors[1], static_cast<uint32_t>(cm::kArenaMargin + half));
  };
  {
    Fast<false> fast(1 << 16);
    Model::Cursor cursors[2];
    start(fast.model, cursors);
    cm::BitEncoder coders[2] = {{codes[0].data(), codes[0].data() + half},
                                {codes[1].data(), codes[1].data() + half}};
    for (size_t i = 0; i < 8 * half; ++i) {
      for (size_t s = 0; s < 2; ++s) {
        const bool bit = halves[s][i / 8] >> (7 - i % 8) & 1;
        coders[s].Code(bit, fast.model.Predict(cursors[s]));
        fast.model.Update(cursors[s], bit);
      }
    }
    for (size_t s = 0; s < 2; ++s) {
      const uint8_t* end = coders[s].Finish();
      ASSERT_NE(end, nullptr);
      codes[s].resize(static_cast<size_t>(end - codes[s].data()));
      EXPECT_LT(codes[s].size(), half / 4);
    }
  }
  Fast<false> fast(1 << 16);
  Model::Cursor cursors[2];
  start(fast.model, cursors);
  cm::BitDecoder coders[2] = {{codes[0].data(), codes[0].size()},
                              {codes[1].data(), codes[1].size()}};
  for (size_t i = 0; i < 8 * half; ++i) {
    for (size_t s = 0; s < 2; ++s) {
      const bool bit = coders[s].Code(false, fast.model.Predict(cursors[s]));
      fast.model.Update(cursors[s], bit);
      ASSERT_EQ(bit, halves[s][i / 8] >> (7 - i % 8) & 1);
    }
  }
  EXPECT_TRUE(coders[0].IsAtEnd() && coders[1].IsAtEnd());
}

size_t CodedSize(const cm::Params& params, ByteSpan block) {
  Buffer coded;
  EXPECT_TRUE(cm::EncodeBlock(params, block, &coded));
  Bytes decoded(block.size());
  const absl::Status status = cm::DecodeBlock(params, coded.span(), decoded);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_TRUE(std::ranges::equal(decoded, block));
  return coded.size();
}

constexpr std::string_view kProse =
    "It was late in the evening when the two of them came back to the house. "
    "Nobody had lit the lamps, and the door, which had never been locked "
    "before, would not open. She said that there was nothing to be afraid of; "
    "he was not so sure, but he did not say anything about it.";

TEST(TextCmTest, SmallTextsGainByAPrior) {
  const size_t alone = CodedSize({.lines = 10}, AsBytes(kProse));
  const size_t primed =
      CodedSize({.lines = 12, .prior = Prior::kProse}, AsBytes(kProse));
  EXPECT_LT(primed * 10, alone * 8);
}

TEST(TextCmTest, ThePlanFindsThePrior) {
  Scratch scratch;
  const EncodeRequest request = {.data = AsBytes(kProse),
                                 .block_size = kProse.size(),
                                 .dtype = DType::kBytes,
                                 .level = 6,
                                 .is_text = true};
  const auto plan = FindEncoder(kTextCm)->plan(request, scratch);
  ASSERT_NE(plan, nullptr);
  ASSERT_EQ(plan->params().size(), cm::kParamsBytes);
  EXPECT_EQ(plan->params()[2], static_cast<uint8_t>(Prior::kProse));
  Buffer coded;
  EXPECT_TRUE(plan->Encode(request.data, scratch, &coded));
  EXPECT_EQ(coded.size(), plan->estimate());
}

TEST(TextCmTest, IsForTextOfHighLevels) {
  Scratch scratch;
  for (int level = 1; level <= 9; ++level) {
    EncodeRequest request = {.data = AsBytes(kProse),
                             .block_size = kProse.size(),
                             .dtype = DType::kBytes,
                             .level = level,
                             .is_text = true};
    EXPECT_EQ(FindEncoder(kTextCm)->plan(request, scratch) != nullptr,
              level >= 6);
    request.is_text = false;
    EXPECT_EQ(FindEncoder(kTextCm)->plan(request, scratch), nullptr);
  }
}

TEST(TextCmTest, RefusesWhatIsNoCode) {
  const cm::Params params{.lines = 10};
  const std::string text = Table(40);
  Buffer coded;
  ASSERT_TRUE(cm::EncodeBlock(params, AsBytes(text), &coded));
  Bytes out(text.size());
  coded.Extend(1)[0] = 0;
  EXPECT_THAT(cm::DecodeBlock(params, coded.span(), out).ToString(),
              HasSubstr("not as long as its code"));
  // Tables that no block of this size needs.
  EXPECT_THAT(cm::DecodeBlock({.lines = 21}, coded.span(), out).ToString(),
              HasSubstr("too large for a block"));

  const Decoder& decoder = *FindDecoder(kTextCm);
  for (const Bytes& wrong :
       {Bytes{}, Bytes{0, 10, 0}, Bytes{0, 10, 0, 0, 0}, Bytes{3, 10, 0, 0},
        Bytes{0, 9, 0, 0}, Bytes{0, 22, 0, 0}, Bytes{1, 0, 0, 0},
        Bytes{1, 97, 0, 0}, Bytes{0, 10, 10, 0}, Bytes{0, 10, 0, 4}}) {
    EXPECT_FALSE(decoder.parse(wrong).ok());
  }
}

TEST(TextCmTest, MemoryIsBounded) {
  for (const bool family : {false, true}) {
    const cm::Params fast{.lines = cm::kMaxLineBits,
                          .prior = Prior::kProse,
                          .reads_family = family};
    EXPECT_LE(cm::MemoryOf(fast, 8 << 20), uint64_t{256} << 20);
  }
  const cm::Params max{.profile = cm::Profile::kMax,
                       .lines = cm::kMaxLineUnits};
  EXPECT_LE(cm::MemoryOf(max, 8 << 20), uint64_t{512} << 20);
  const cm::Params log{.profile = cm::Profile::kLog,
                       .lines = cm::kMaxLineBits,
                       .prior = Prior::kLogs};
  EXPECT_LE(cm::MemoryOf(log, 16 << 20), uint64_t{256} << 20);
}

}  // namespace
}  // namespace zipllm::codecs
