#ifndef ZIPLLM_BASE_UTF8_H_
#define ZIPLLM_BASE_UTF8_H_

#include <string_view>

namespace zipllm {

/// True if `text` is well-formed UTF-8 (RFC 3629: no overlong forms, no
/// surrogates, nothing above U+10FFFF). NUL is a character like any other.
bool IsUtf8(std::string_view text);

}  // namespace zipllm

#endif  // ZIPLLM_BASE_UTF8_H_
