#include "llm/characters.h"

#include <algorithm>
#include <array>
#include <iterator>

namespace zipllm::llm {
namespace {

struct Range {
  uint32_t first;
  uint32_t last;
  CharacterClass character_class;
};

constexpr Range kRanges[] = {
#define kLetter CharacterClass::kLetter
#define kNumber CharacterClass::kNumber
#define kSpace CharacterClass::kSpace
#include "llm/unicode_classes.inc"
#undef kLetter
#undef kNumber
#undef kSpace
};

CharacterClass ClassOf(uint32_t code) {
  if (code < 0x80) {
    const uint32_t lower = code | 0x20;
    if (lower >= 'a' && lower <= 'z') return CharacterClass::kLetter;
    if (code >= '0' && code <= '9') return CharacterClass::kNumber;
    if (code == '\r' || code == '\n') return CharacterClass::kNewline;
    if (code == ' ' || (code >= '\t' && code <= '\r')) {
      return CharacterClass::kSpace;
    }
    return CharacterClass::kOther;
  }
  const Range* range =
      std::lower_bound(std::begin(kRanges), std::end(kRanges), code,
                       [](const Range& r, uint32_t c) { return r.last < c; });
  return range == std::end(kRanges) || code < range->first
             ? CharacterClass::kOther
             : range->character_class;
}

}  // namespace

Character FirstCharacter(ByteSpan text) {
  constexpr Character kInvalid = {kNoCode, 1, CharacterClass::kOther};
  const uint32_t lead = text[0];
  if (lead < 0x80) return {lead, 1, ClassOf(lead)};
  const uint8_t size = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < size) return kInvalid;
  uint32_t code = lead & (0x7Fu >> size);
  for (size_t i = 1; i < size; ++i) {
    if ((text[i] & 0xC0) != 0x80) return kInvalid;
    code = code << 6 | (text[i] & 0x3Fu);
  }
  constexpr std::array<uint32_t, 5> kLeast = {0, 0, 0x80, 0x800, 0x10000};
  if (code < kLeast[size] || code > 0x10FFFF ||
      (code >= 0xD800 && code < 0xE000)) {
    return kInvalid;
  }
  return {code, size, ClassOf(code)};
}

}  // namespace zipllm::llm
