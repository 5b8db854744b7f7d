// Characters of text in UTF-8, by the classes that pre-tokenizers know.
#ifndef ZIPLLM_LLM_CHARACTERS_H_
#define ZIPLLM_LLM_CHARACTERS_H_

#include <cstddef>
#include <cstdint>

#include "zipllm/types.h"

namespace zipllm::llm {

/// Classes of characters as regular expressions have them.
enum class CharacterClass : uint8_t {
  kOther,
  kLetter,   ///< \p{L}
  kNumber,   ///< \p{N}
  kSpace,    ///< \s, but for the next
  kNewline,  ///< \r and \n
};

struct Character {
  uint32_t code;  ///< its number in Unicode; kNoCode
  uint8_t size;   ///< bytes
  CharacterClass character_class;
};
/// What is not well-formed UTF-8 is taken byte by byte.
inline constexpr uint32_t kNoCode = UINT32_MAX;

/// The first character of `text`, which is not empty.
Character FirstCharacter(ByteSpan text);

/// Appends the character with the number `code`, up to 0x10FFFF, to `out`, a
/// string of bytes.
template <typename String>
void AppendUtf8(uint32_t code, String* out) {
  const auto put = [out](uint32_t byte) {
    out->push_back(static_cast<typename String::value_type>(byte));
  };
  if (code < 0x80) {
    put(code);
    return;
  }
  if (code < 0x800) {
    put(0xC0 | code >> 6);
  } else {
    if (code < 0x10000) {
      put(0xE0 | code >> 12);
    } else {
      put(0xF0 | code >> 18);
      put(0x80 | (code >> 12 & 0x3F));
    }
    put(0x80 | (code >> 6 & 0x3F));
  }
  put(0x80 | (code & 0x3F));
}

}  // namespace zipllm::llm

#endif  // ZIPLLM_LLM_CHARACTERS_H_
