// Tokenizers made of small metadata. Expected tokens follow from the rules by
// hand; those of real models were compared with the packages tokenizers and
// sentencepiece.
#include "llm/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/bytes.h"
#include "codecs/text/text_model.h"
#include "llm/characters.h"
#include "llm/split_words.h"

namespace zipllm::llm {
namespace {

using testing::ElementsAre;

constexpr std::string_view kNoToken = "<none>";

std::vector<std::string_view> Words(WordRule rule, std::string_view text) {
  std::vector<size_t> ends;
  SplitWords(rule, AsBytes(text), &ends);
  std::vector<std::string_view> words;
  size_t begin = 0;
  for (const size_t end : ends) {
    words.push_back(text.substr(begin, end - begin));
    begin = end;
  }
  EXPECT_EQ(begin, text.size());
  return words;
}

std::vector<std::string_view> Tokens(const Tokenizer& tokenizer,
                                     std::string_view text) {
  std::vector<uint32_t> tokens;
  tokenizer.Tokenize(AsBytes(text), &tokens);
  std::vector<std::string_view> strings;
  size_t at = 0;
  for (const uint32_t token : tokens) {
    strings.push_back(token == codecs::TextModel::kNone
                          ? kNoToken
                          : tokenizer.vocabulary()[token]);
    const size_t size =
        token == codecs::TextModel::kNone ? 1 : strings.back().size();
    if (token != codecs::TextModel::kNone) {
      EXPECT_EQ(text.substr(at, size), strings.back());
    }
    at += size;
  }
  EXPECT_EQ(at, text.size());
  return strings;
}

/// Byte pairs over the letters a to e, space and some bytes.
TokenizerMetadata Pairs() {
  TokenizerMetadata metadata;
  metadata.model = "gpt2";
  metadata.tokens = {"<|end|>", "a",  "b",   "c",  "d",       "e",
                     "\u0120",  "ab", "abc", "cd", "\u0120a", "\u010A"};
  metadata.types = {3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  metadata.merges = {"c d", "a b", "ab c", "\u0120 a"};
  return metadata;
}

/// Pieces with scores, bytes a to c, tokens that are found first.
TokenizerMetadata Pieces() {
  TokenizerMetadata metadata;
  metadata.model = "llama";
  metadata.tokens = {"<unk>", "<0x61>", "<0xE2>",      "<0x96>",  "<0x81>",
                     "a",     "b",      "\u2581",      "\u2581a", "ab",
                     "aba",   "<b>",    "\u2581\u2581"};
  metadata.types = {2, 6, 6, 6, 6, 1, 1, 1, 1, 1, 1, 4, 1};
  metadata.scores = {0, 0, 0, 0, 0, -9, -9, -9, -2, -1, -3, -9, -4};
  return metadata;
}

TEST(CharactersTest, InvalidUtf8IsTakenByteByByte) {
  const auto first = [](std::string_view text) {
    return FirstCharacter(AsBytes(text));
  };
  EXPECT_EQ(first("\xC3\xA9x").code, 0xE9u);
  EXPECT_EQ(first("\xC3\xA9x").character_class, CharacterClass::kLetter);
  EXPECT_EQ(first("\xF0\x9F\x98\x80").size, 4);
  EXPECT_EQ(first("\u0664").character_class, CharacterClass::kNumber);
  EXPECT_EQ(first("\u3000").character_class, CharacterClass::kSpace);
  for (const std::string_view bad :
       {"\x80", "\xC3", "\xC3x", "\xC0\x80", "\xE0\x80\x80", "\xED\xA0\x80",
        "\xF4\x90\x80\x80", "\xF0\x9F\x98", "\xFF"}) {
    EXPECT_EQ(first(bad).code, kNoCode);
    EXPECT_EQ(first(bad).size, 1);
  }
}

TEST(SplitWordsTest, Gpt2) {
  EXPECT_THAT(Words(WordRule::kGpt2, "it's  12 cats!?\n\n x'S \t"),
              ElementsAre("it", "'s", " ", " 12", " cats", "!?", "\n\n", " x",
                          "'", "S", " \t"));
  EXPECT_THAT(Words(WordRule::kGpt2, " \xFF\xC3\xA9t"),
              ElementsAre(" \xFF", "\xC3\xA9t"));
}

TEST(SplitWordsTest, SmolLmCutsDigits) {
  EXPECT_THAT(Words(WordRule::kSmolLm, "in  2024s"),
              ElementsAre("in", "  ", "2", "0", "2", "4", "s"));
}

TEST(SplitWordsTest, Llama3AndQwen2) {
  EXPECT_THAT(Words(WordRule::kLlama3, "I'LL(go 12345; \n\n  x\t.)\r\n"),
              ElementsAre("I", "'LL", "(go", " ", "123", "45", ";", " \n\n",
                          " ", " x", "\t", ".)\r\n"));
  EXPECT_THAT(Words(WordRule::kQwen2, "a 12"), ElementsAre("a", " ", "1", "2"));
}

TEST(SplitWordsTest, UnknownRulesAreGpt2) {
  EXPECT_EQ(FindWordRule("no such"), WordRule::kGpt2);
  EXPECT_EQ(FindWordRule("smollm"), WordRule::kSmolLm);
  EXPECT_EQ(FindWordRule("llama-bpe"), WordRule::kLlama3);
  EXPECT_EQ(FindWordRule("qwen2"), WordRule::kQwen2);
}

TEST(TokenizerTest, VocabularyIsInTheOrderOfItsBytes) {
  for (const TokenizerMetadata& metadata : {Pairs(), Pieces()}) {
    const auto tokenizer = Tokenizer::Make(metadata);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    const auto vocabulary = (*tokenizer)->vocabulary();
    EXPECT_TRUE(std::ranges::is_sorted(vocabulary));
    EXPECT_EQ(vocabulary.size(), metadata.tokens.size() - 1);
    ASSERT_EQ((*tokenizer)->ids().size(), vocabulary.size());
  }
  // The byte and the piece "a" are both there, by id.
  const auto pieces = Tokenizer::Make(Pieces());
  const auto vocabulary = (*pieces)->vocabulary();
  const auto at = static_cast<size_t>(std::ranges::find(vocabulary, "a") -
                                      vocabulary.begin());
  EXPECT_EQ(vocabulary[at + 1], "a");
  EXPECT_EQ((*pieces)->ids()[at], 1u);
  EXPECT_EQ((*pieces)->ids()[at + 1], 5u);
}

TEST(TokenizerTest, MergesByRank) {
  const auto tokenizer = Tokenizer::Make(Pairs());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  // "c d" comes before "ab c".
  EXPECT_THAT(Tokens(**tokenizer, "abcd"), ElementsAre("ab", "cd"));
  EXPECT_THAT(Tokens(**tokenizer, "abce ab\n"),
              ElementsAre("abc", "e", " ", "ab", "\n"));
  EXPECT_THAT(Tokens(**tokenizer, "a a"), ElementsAre("a", " a"));
  EXPECT_THAT(Tokens(**tokenizer, "ax\xFF"),
              ElementsAre("a", kNoToken, kNoToken));
}

TEST(TokenizerTest, WholeWordsComeFirstInLlama3) {
  TokenizerMetadata metadata = Pairs();
  metadata.tokens.push_back("abcd");
  metadata.types.push_back(1);
  metadata.pre = "llama-bpe";
  const auto tokenizer = Tokenizer::Make(metadata);
  EXPECT_THAT(Tokens(**tokenizer, "abcd"), ElementsAre("abcd"));
}

TEST(TokenizerTest, PiecesByScoreWithBytesToFallBackTo) {
  const auto tokenizer = Tokenizer::Make(Pieces());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_THAT(Tokens(**tokenizer, "aba"), ElementsAre("aba"));
  // "ab" has a better score than " a".
  EXPECT_THAT(Tokens(**tokenizer, " ab  a<b>a"),
              ElementsAre(" ", "ab", " ", " a", "<b>", "a"));
  // A mark for spaces in the text is none.
  EXPECT_THAT(Tokens(**tokenizer, "\u2581c"),
              ElementsAre("\xE2", "\x96", "\x81", kNoToken));
}

TEST(TokenizerTest, LongRunsTakeNearLinearTime) {
  for (const TokenizerMetadata& metadata : {Pairs(), Pieces()}) {
    const auto tokenizer = Tokenizer::Make(metadata);
    for (const std::string_view unit : {"a", "ab", " ", "\n", "\xFF", "<b"}) {
      std::string text;
      while (text.size() < 300000) text += unit;
      Tokens(**tokenizer, text);
    }
  }
}

TEST(TokenizerTest, ContradictionsAreRefused) {
  const auto code = [](const TokenizerMetadata& metadata) {
    return Tokenizer::Make(metadata).status().code();
  };
  TokenizerMetadata metadata = Pairs();
  metadata.model = "bert";
  EXPECT_EQ(code(metadata), absl::StatusCode::kUnimplemented);
  metadata = Pairs();
  metadata.types.pop_back();
  EXPECT_EQ(code(metadata), absl::StatusCode::kInvalidArgument);
  metadata = Pairs();
  metadata.merges.push_back("ab");
  EXPECT_EQ(code(metadata), absl::StatusCode::kInvalidArgument);
  metadata = Pairs();
  metadata.merges.push_back("");
  EXPECT_EQ(code(metadata), absl::StatusCode::kInvalidArgument);
  metadata = Pieces();
  metadata.scores.pop_back();
  EXPECT_EQ(code(metadata), absl::StatusCode::kInvalidArgument);
  metadata = Pieces();
  metadata.tokens[1] = "<0xZZ>";
  EXPECT_EQ(code(metadata), absl::StatusCode::kInvalidArgument);
  metadata = Pairs();
  metadata.types.assign(metadata.tokens.size(), 3);
  EXPECT_EQ(code(metadata), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace zipllm::llm
