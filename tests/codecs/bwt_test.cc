// Codec bwt: blocks of all lengths, codes of all shapes, damage with aim.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "codecs/coding.h"
#include "codecs/generators.h"
#include "codecs/text/bwt_model.h"

namespace zipllm::codecs {
namespace {

using testing::HasSubstr;

constexpr CodecId kBwt = 21;

EncodeRequest RequestFor(ByteSpan data) {
  return {.data = data,
          .block_size = data.size(),
          .dtype = DType::kBytes,
          .level = 3,
          .is_text = true};
}

/// What one block takes, having been decoded again; its size if the codec does
/// not make it smaller.
size_t CodedSize(ByteSpan data) {
  Scratch scratch;
  const auto plan = FindEncoder(kBwt)->plan(RequestFor(data), scratch);
  if (plan == nullptr) {
    ADD_FAILURE() << "no plan";
    return 0;
  }
  Buffer coded;
  if (!plan->Encode(data, scratch, &coded)) return data.size();
  EXPECT_EQ(plan->estimate(), coded.size());
  const auto decoded =
      DecodeBlock(*FindDecoder(kBwt), {}, coded.span(), data.size());
  EXPECT_TRUE(decoded.has_value() && std::ranges::equal(*decoded, data));
  return coded.size();
}

Bytes Code(ByteSpan data) {
  Scratch scratch;
  Buffer coded;
  const auto plan = FindEncoder(kBwt)->plan(RequestFor(data), scratch);
  EXPECT_TRUE(plan != nullptr && plan->Encode(data, scratch, &coded));
  return {coded.begin(), coded.end()};
}

TEST(BwtTest, RoundTripsTextOfAnyLength) {
  const Bytes text = MakeInput(Kind::kText, DType::kBytes, 70000);
  for (size_t size = 1; size < 300; size += 1 + size / 20) {
    CodedSize(ByteSpan(text).first(size));
  }
  // Where one walk becomes eight, with parts of unequal lengths.
  for (const size_t size : {65535, 65536, 65543}) {
    SCOPED_TRACE(size);
    EXPECT_LT(CodedSize(ByteSpan(text).first(size)), size / 2);
  }
}

TEST(BwtTest, RoundTripsWhatSortsBadly) {
  Bytes data(70000, 'a');
  EXPECT_LT(CodedSize(data), 100u);
  data.back() = 'b';
  EXPECT_LT(CodedSize(data), 100u);
  for (size_t i = 0; i < data.size(); ++i) {
    data[i] = static_cast<uint8_t>("ab"[i % 2]);
  }
  EXPECT_LT(CodedSize(data), 150u);
  // A Fibonacci word: as many repeats as a text can have.
  std::string word = "a";
  std::string before = "b";
  while (word.size() < 70000) std::swap(word += before, before);
  if (word.size() < before.size()) word.swap(before);
  EXPECT_LT(
      CodedSize({reinterpret_cast<const uint8_t*>(word.data()), word.size()}),
      200u);
}

TEST(BwtTest, RoundTripsEverySymbolAndCodesThatWouldBeTooLong) {
  Bytes data;
  for (int repeat = 0; repeat < 40; ++repeat) {
    for (int byte = 0; byte < 256; ++byte) {
      data.push_back(static_cast<uint8_t>(byte));
    }
  }
  EXPECT_LT(CodedSize(data), 2000u);
  // Counts that grow like Fibonacci's numbers make a Huffman code as deep as
  // it has symbols. Shuffled: there are few runs.
  data.clear();
  size_t count = 1;
  for (size_t next = 1, symbol = 0; symbol < 22;
       ++symbol, count = std::exchange(next, next + count)) {
    data.insert(data.end(), count, static_cast<uint8_t>(symbol * 7));
  }
  Random random(5);
  for (size_t i = data.size(); i > 1; --i) {
    std::swap(data[i - 1], data[random.Below(i)]);
  }
  EXPECT_LT(CodedSize(data), data.size() / 2);
}

TEST(BwtTest, CodesTextWellAtAllSizes) {
  const Bytes text = MakeInput(Kind::kText, DType::kBytes, 40000);
  size_t before = 1000;
  for (const size_t size : {1000, 5000, 40000}) {
    const size_t coded = CodedSize(ByteSpan(text).first(size));
    const size_t part = coded * 1000 / size;
    EXPECT_LT(part, before);
    before = part;
  }
}

TEST(BwtTest, IsForTextOfMiddleLevels) {
  const Bytes text = MakeInput(Kind::kText, DType::kBytes, 1000);
  Scratch scratch;
  EncodeRequest request = RequestFor(text);
  for (int level = 1; level <= 9; ++level) {
    request.level = level;
    EXPECT_EQ(FindEncoder(kBwt)->plan(request, scratch) != nullptr,
              level >= 3 && level <= 5)
        << level;
  }
  request.level = 3;
  request.is_text = false;
  EXPECT_EQ(FindEncoder(kBwt)->plan(request, scratch), nullptr);
}

TEST(BwtTest, RefusesWhatIsNoCode) {
  const Bytes text = MakeInput(Kind::kText, DType::kBytes, 3000);
  const Bytes coded = Code(text);
  const Decoder& decoder = *FindDecoder(kBwt);
  const auto expect = [&](Bytes bytes, size_t size, std::string_view message) {
    absl::Status why;
    EXPECT_FALSE(DecodeBlock(decoder, {}, bytes, size, &why).has_value());
    EXPECT_THAT(std::string(why.message()), HasSubstr(std::string(message)));
  };
  expect({}, 3000, "ends before its rows");
  expect({coded.begin(), coded.begin() + 2}, 3000, "ends before its rows");
  Bytes changed = coded;
  changed[0] = changed[1] = changed[2] = 0;
  expect(changed, 3000, "row 0 of 3000");
  changed[0] = 3001 & 255;
  changed[1] = 3001 >> 8;
  expect(changed, 3000, "row 3001 of 3000");
  changed = coded;
  changed.push_back(0);
  expect(changed, 3000, "wrong length");
  // Zeros from the start: all lengths are 15.
  changed.assign(100, 0);
  changed[0] = 1;
  expect(changed, 3000, "no complete code");
  expect(coded, size_t{1} << 24, "of at most 16777215");
}

TEST(BwtTest, AnotherRowIsAnotherTextButNoHarm) {
  const Bytes text = MakeInput(Kind::kText, DType::kBytes, 70000);
  Bytes coded = Code(text);
  for (size_t row = 0; row < 8; ++row) {
    Bytes changed = coded;
    changed[row * 3] ^= 1;
    const auto decoded =
        DecodeBlock(*FindDecoder(kBwt), {}, changed, text.size());
    if (decoded) {
      EXPECT_NE(*decoded, text);
    }
  }
}

TEST(BwtTest, EveryRowAndDamagedCodeStayInBounds) {
  const Bytes text = MakeInput(Kind::kText, DType::kBytes, 150);
  const Bytes coded = Code(text);
  for (size_t row = 1; row <= text.size(); ++row) {
    Bytes changed = coded;
    changed[0] = static_cast<uint8_t>(row);
    changed[1] = static_cast<uint8_t>(row >> 8);
    EXPECT_TRUE(
        DecodeBlock(*FindDecoder(kBwt), {}, changed, text.size()).has_value());
  }
  Random random(9);
  for (int i = 0; i < 300; ++i) {
    Bytes changed = coded;
    changed[3 + random.Below(changed.size() - 3)] ^=
        static_cast<uint8_t>(1u << random.Below(8));
    DecodeBlock(*FindDecoder(kBwt), {}, changed, 1 + random.Below(600));
  }
}

TEST(BwtTest, CodeTreesAreThoseOfCompleteCodesAlone) {
  bwt::CodeTree tree;
  bwt::CodeLengths lengths{};
  EXPECT_FALSE(tree.Init(lengths));
  lengths['x'] = 2;
  EXPECT_FALSE(tree.Init(lengths));
  lengths['x'] = 1;
  ASSERT_TRUE(tree.Init(lengths));
  EXPECT_EQ(tree.symbols(), 1u);
  lengths['a'] = 1;
  ASSERT_TRUE(tree.Init(lengths));
  EXPECT_EQ(tree.Byte(0), 'a');
  lengths['z'] = 15;
  EXPECT_FALSE(tree.Init(lengths));
  lengths = {};
  lengths.fill(8);
  ASSERT_TRUE(tree.Init(lengths));
  EXPECT_EQ(tree.nodes(), 255u);
  lengths[7] = 7;
  EXPECT_FALSE(tree.Init(lengths));
  // 0, 10, 110, 111 for b, d, a, c: nodes along 110.
  lengths = {};
  lengths['a'] = lengths['c'] = 3;
  lengths['b'] = 1;
  lengths['d'] = 2;
  ASSERT_TRUE(tree.Init(lengths));
  EXPECT_EQ(tree.Child(0, false), bwt::CodeTree::kLeaf);
  EXPECT_EQ(tree.Child(0, true), 1);
  EXPECT_EQ(tree.Child(1, false), bwt::CodeTree::kLeaf + 1);
  EXPECT_EQ(tree.Child(2, true), bwt::CodeTree::kLeaf + 3);
  EXPECT_EQ(tree.Byte(3), 'c');
}

}  // namespace
}  // namespace zipllm::codecs
