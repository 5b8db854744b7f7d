// Lines that are alike: most have the shape of one of those shortly before.
#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

#include "codecs/text/detect.h"

namespace zipllm::codecs {
namespace {

constexpr size_t kSamples = 8;
constexpr size_t kLinesASample = 16;
/// Longer lines are not looked through.
constexpr size_t kLongestLine = size_t{1} << 16;
constexpr size_t kRecent = 32;
constexpr size_t kMinLines = 8;

enum Class : uint8_t { kWord, kNumber, kSpace, kMark };

Class ClassOf(uint8_t byte) {
  if (byte >= '0' && byte <= '9') return kNumber;
  if ((byte | 32) >= 'a' && (byte | 32) <= 'z') return kWord;
  if (byte >= 128 || byte == '_') return kWord;
  return byte == ' ' || byte == '\t' ? kSpace : kMark;
}

/// A hash of the first tokens of a line: of what kind they are, and what stands
/// between them. Words and numbers are alike in logs, where ids are of both. 0
/// of what is too short, or has but words and spaces between them, as prose.
uint32_t ShapeOf(ByteSpan line) {
  constexpr size_t kTokens = 12;
  uint32_t hash = 0;
  size_t tokens = 0;
  bool inside = false;
  bool is_prose = true;
  for (const uint8_t byte : line) {
    const Class kind = ClassOf(byte);
    const bool is_token = kind == kWord || kind == kNumber;
    is_prose = is_prose && (kind == kWord || kind == kSpace);
    if (is_token && inside) continue;
    if (is_token && ++tokens > kTokens) break;
    inside = is_token;
    hash = (hash + 1 + (is_token ? 0 : byte)) * 0x9E3779B1;
  }
  return tokens >= 3 && !is_prose ? hash | 1 : 0;
}

/// Where what ends a line is found first, from `from` on: a line end, or, in
/// JSON without any, what stands between two objects; npos if that is too far.
size_t LineEnd(std::string_view text, size_t from) {
  const std::string_view near = text.substr(from, kLongestLine);
  size_t end = near.find('\n');
  if (end == near.npos) end = near.find("},{");
  return end == near.npos ? end : from + end;
}

}  // namespace

bool LooksLikeLines(ByteSpan bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()),
                              bytes.size());
  size_t lines = 0;
  size_t alike = 0;
  std::array<uint32_t, kRecent> recent{};
  const size_t step = std::max(bytes.size() / kSamples, size_t{1});
  size_t end = 0;
  for (size_t at = 0; at < text.size(); at += step) {
    if (end < at) end = LineEnd(text, at);  // else looked at already
    for (size_t n = 0; n < kLinesASample && end < text.size(); ++n) {
      const size_t begin = end + 1;
      end = LineEnd(text, begin);
      if (end == text.npos) break;
      const uint32_t shape = ShapeOf(bytes.subspan(begin, end - begin));
      if (shape != 0 && std::ranges::find(recent, shape) != recent.end()) {
        ++alike;
      }
      recent[lines++ % kRecent] = shape;
    }
    if (end == text.npos) end = 0;
  }
  return lines >= kMinLines && alike * 2 > lines;
}

}  // namespace zipllm::codecs
