#include "llm/split_words.h"

#include <algorithm>
#include <array>
#include <utility>

#include "llm/characters.h"

namespace zipllm::llm {
namespace {

using enum CharacterClass;

/// The characters of a text, and how far from one of them a rule's parts match.
class Characters {
 public:
  explicit Characters(ByteSpan text) : text_(text) {
    classes_.reserve(text.size());
    offsets_.reserve(text.size() + 1);
    for (size_t at = 0; at < text.size();) {
      const Character character = FirstCharacter(text.subspan(at));
      classes_.push_back(character.character_class);
      offsets_.push_back(at);
      at += character.size;
    }
    offsets_.push_back(text.size());
  }

  size_t size() const { return classes_.size(); }
  size_t offset(size_t i) const { return offsets_[i]; }
  CharacterClass operator[](size_t i) const { return classes_[i]; }
  bool IsSpace(size_t i) const {
    return classes_[i] == kSpace || classes_[i] == kNewline;
  }
  /// Whether character `i`, which is before `end`, is the byte `byte`.
  bool Is(size_t i, size_t end, uint8_t byte) const {
    return i < end && text_[offsets_[i]] == byte;
  }
  /// The first of [i, end) that is not of the class; `end` if all are.
  size_t Skip(CharacterClass character_class, size_t i, size_t end) const {
    while (i < end && classes_[i] == character_class) ++i;
    return i;
  }

 private:
  ByteSpan text_;
  std::vector<CharacterClass> classes_;
  std::vector<size_t> offsets_;
};

/// Where "'s", "'re" and so on end that begin at `i`; `i` if none does.
size_t SkipContraction(const Characters& text, size_t i, size_t end,
                       bool any_case) {
  if (!text.Is(i, end, '\'')) return i;
  constexpr std::array<std::string_view, 7> kEndings = {"s", "t",  "re", "ve",
                                                        "m", "ll", "d"};
  for (const std::string_view ending : kEndings) {
    size_t at = i + 1;
    for (const char letter : ending) {
      const auto lower = static_cast<uint8_t>(letter);
      const auto upper = static_cast<uint8_t>(lower - 'a' + 'A');
      if (text.Is(at, end, lower) || (any_case && text.Is(at, end, upper))) {
        ++at;
      } else {
        break;
      }
    }
    if (at == i + 1 + ending.size()) return at;
  }
  return i;
}

/// `\s+(?!\S)|\s+`: spaces, but not the last one before something else, if that
/// leaves any.
size_t SkipSpaces(const Characters& text, size_t i, size_t end) {
  const size_t begin = i;
  while (i < end && text.IsSpace(i)) ++i;
  return i < end && i - begin > 1 ? i - 1 : i;
}

size_t NextGpt2(const Characters& text, size_t i, size_t end) {
  if (const size_t at = SkipContraction(text, i, end, false); at > i) return at;
  const size_t word = text.Is(i, end, ' ') && i + 1 < end ? i + 1 : i;
  if (!text.IsSpace(word)) return text.Skip(text[word], word, end);
  return SkipSpaces(text, i, end);
}

size_t NextLlama3(const Characters& text, size_t i, size_t end,
                  size_t most_digits) {
  if (const size_t at = SkipContraction(text, i, end, true); at > i) return at;
  const CharacterClass first = text[i];
  if (first == kLetter) return text.Skip(kLetter, i, end);
  if (first == kNumber) {
    return text.Skip(kNumber, i, std::min(end, i + most_digits));
  }
  if (first != kNewline && i + 1 < end && text[i + 1] == kLetter) {
    return text.Skip(kLetter, i + 1, end);
  }
  const size_t word = text.Is(i, end, ' ') && i + 1 < end ? i + 1 : i;
  if (text[word] == kOther) {
    return text.Skip(kNewline, text.Skip(kOther, word, end), end);
  }
  size_t after_newline = i;
  for (size_t at = i; at < end && text.IsSpace(at); ++at) {
    if (text[at] == kNewline) after_newline = at + 1;
  }
  return after_newline > i ? after_newline : SkipSpaces(text, i, end);
}

}  // namespace

WordRule FindWordRule(std::string_view pre) {
  constexpr std::array<std::pair<std::string_view, WordRule>, 10> kRules = {{
      {"llama-bpe", WordRule::kLlama3},
      {"llama3", WordRule::kLlama3},
      {"llama-v3", WordRule::kLlama3},
      {"dbrx", WordRule::kLlama3},
      {"smaug-bpe", WordRule::kLlama3},
      {"qwen2", WordRule::kQwen2},
      {"stablelm2", WordRule::kQwen2},
      {"smollm", WordRule::kSmolLm},
      {"starcoder", WordRule::kSmolLm},
      {"refact", WordRule::kSmolLm},
  }};
  for (const auto& [name, rule] : kRules) {
    if (name == pre) return rule;
  }
  return WordRule::kGpt2;
}

void SplitWords(WordRule rule, ByteSpan text, std::vector<size_t>* ends) {
  ends->clear();
  const Characters characters(text);
  const size_t size = characters.size();
  size_t piece_end = rule == WordRule::kSmolLm ? 0 : size;
  for (size_t i = 0; i < size;) {
    switch (rule) {
      case WordRule::kGpt2:
        i = NextGpt2(characters, i, size);
        break;
      case WordRule::kSmolLm:
        if (characters[i] == kNumber) {
          ++i;
          break;
        }
        if (piece_end <= i) {
          piece_end = i;
          while (piece_end < size && characters[piece_end] != kNumber) {
            ++piece_end;
          }
        }
        i = NextGpt2(characters, i, piece_end);
        break;
      case WordRule::kLlama3:
        i = NextLlama3(characters, i, size, 3);
        break;
      case WordRule::kQwen2:
        i = NextLlama3(characters, i, size, 1);
        break;
    }
    ends->push_back(characters.offset(i));
  }
}

}  // namespace zipllm::llm
