// Kind time: times of one format, as counts of ticks.
#include <algorithm>
#include <string>

#include "codecs/columns/numbers.h"
#include "codecs/columns/time_format.h"

namespace zipllm::codecs::columns {
namespace {

constexpr size_t kLook = 64;

/// Here a minus is any punctuation or space, a colon one of ":.-".
constexpr std::array<std::string_view, 16> kDates = {
    "",         "%Y-%m-%d", "%Y%m%d",   "%d-%b-%Y", "%b-%d-%Y", "%b-%e-%Y",
    "%b-%d",    "%b-%e",    "%m-%d-%Y", "%d-%m-%Y", "%y-%m-%d", "%m-%d-%y",
    "%d-%m-%y", "%m-%d",    "%y%m%d",   "%a-%b-%e",
};
constexpr std::array<std::string_view, 5> kClocks = {
    "%H:%M:%S", "%H%M%S", "%H:%M", "", "%H:%M:%S-%Y"};

bool IsDigit(uint8_t byte) { return byte >= '0' && byte <= '9'; }
bool IsLetter(uint8_t byte) { return (byte | 32) >= 'a' && (byte | 32) <= 'z'; }

/// Fits a pattern to the text from `*at` on: appends to the format and moves
/// on; false if it does not fit.
bool Fit(std::string_view pattern, ByteSpan text, size_t* at,
         std::string* format) {
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (*at >= text.size()) return false;
    const uint8_t byte = text[*at];
    if (pattern[i] != '%') {
      const bool fits = pattern[i] == ':'
                            ? byte == ':' || byte == '.' || byte == '-'
                            : !IsDigit(byte) && !IsLetter(byte) && byte != '%';
      if (!fits) return false;
      *format += static_cast<char>(byte);
      ++*at;
      continue;
    }
    const char kind = pattern[++i];
    const size_t size = kind == 'Y' ? 4 : kind == 'b' || kind == 'a' ? 3 : 2;
    if (*at + size > text.size()) return false;
    for (size_t k = 0; k < size; ++k) {
      const uint8_t c = text[*at + k];
      const bool fits = size == 3     ? IsLetter(c)
                        : kind == 'e' ? IsDigit(c) || (k == 0 && c == ' ')
                                      : IsDigit(c);
      if (!fits) return false;
    }
    *format += '%';
    *format += kind;
    *at += size;
  }
  return true;
}

/// Formats that may be that of `text`, most of whose bytes they tell.
std::vector<std::string> GuessFormats(ByteSpan text) {
  std::vector<std::string> formats;
  if (text.size() > TimeFormat::kMaxText / 2) return formats;
  for (const std::string_view date : kDates) {
    for (const std::string_view clock : kClocks) {
      std::string format;
      size_t at = 0;
      if (!Fit(date, text, &at, &format)) continue;
      if (!date.empty() && !clock.empty()) {
        // What joins them.
        while (at < text.size() && !IsDigit(text[at]) && text[at] != '%') {
          format += static_cast<char>(text[at++]);
        }
      }
      if (!Fit(clock, text, &at, &format)) continue;
      if (at + 1 < text.size() && clock.ends_with("%S") &&
          (text[at] == '.' || text[at] == ',' || text[at] == ':') &&
          IsDigit(text[at + 1])) {
        format += static_cast<char>(text[at++]);
        size_t digits = 0;
        while (at + digits < text.size() && digits < 9 &&
               IsDigit(text[at + digits])) {
          ++digits;
        }
        format += '%';
        format += static_cast<char>('0' + digits);
        at += digits;
      }
      // A zone perhaps.
      if (at + 6 < text.size() || (at < text.size() && IsDigit(text[at]))) {
        continue;
      }
      for (; at < text.size(); ++at) {
        if (text[at] == '%') format += '%';
        format += static_cast<char>(text[at]);
      }
      formats.push_back(std::move(format));
    }
  }
  return formats;
}

bool Encode(const Values& values, const EncodeContext& context, Buffer* out) {
  if (values.size() < 4) return false;
  std::string text;
  std::optional<TimeFormat> format;
  size_t most = kLook / 2;
  for (std::string& guess : GuessFormats(values[values.size() / 2])) {
    const auto parsed = TimeFormat::Parse(guess);
    if (!parsed.has_value()) continue;
    size_t fit = 0;
    for (size_t k = 0; k < kLook; ++k) {
      fit += parsed->Read(values[values.size() * k / kLook]).has_value();
    }
    if (fit <= most) continue;
    most = fit;
    text = std::move(guess);
    format = parsed;
  }
  if (!format.has_value()) return false;
  Numbers ticks;
  Exceptions exceptions;
  for (size_t i = 0; i < values.size(); ++i) {
    if (const auto tick = format->Read(values[i])) {
      ticks.push_back(*tick);
    } else {
      exceptions.Add(i, values[i]);
    }
  }
  if (ticks.empty()) return false;
  ByteWriter(out).String(text);
  exceptions.Encode(context, out);
  EncodeContext alone = context;
  alone.beside = {};
  EncodeNumbers(ticks, alone, out);
  return true;
}

}  // namespace

extern const KindEncoder kTimeEncoder = {.encode = Encode};

}  // namespace zipllm::codecs::columns
