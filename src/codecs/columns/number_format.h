// How numbers are written in a column: kind number's format, and text to
// number and back.
#ifndef ZIPLLM_CODECS_COLUMNS_NUMBER_FORMAT_H_
#define ZIPLLM_CODECS_COLUMNS_NUMBER_FORMAT_H_

#include <array>
#include <cstdint>
#include <optional>

#include "zipllm/types.h"

namespace zipllm::codecs::columns {

struct NumberFormat {
  enum Flag : uint8_t {
    kHex = 1,       ///< else decimal
    kUpper = 2,     ///< hexadecimal digits A to F, else a to f
    kSigned = 4,    ///< a minus may stand before it
    kSpaces = 8,    ///< padded by spaces, else by zeros
    kTrimmed = 16,  ///< a fraction has no zeros at its end; no empty fraction
  };
  static constexpr uint8_t kAllFlags = 31;
  static constexpr uint8_t kMaxWidth = 20;
  static constexpr uint8_t kMaxScale = 18;

  uint8_t flags = 0;
  uint8_t width =
      0;  ///< bytes at least, by padding; not where signed or scaled
  uint8_t scale = 0;  ///< decimal digits of the fraction, at most if kTrimmed

  bool Is(Flag flag) const { return (flags & flag) != 0; }
  /// Whether a decoder takes it.
  bool IsValid() const {
    return flags <= kAllFlags && width <= kMaxWidth && scale <= kMaxScale &&
           (width == 0 || scale == 0) && (!Is(kHex) || scale == 0) &&
           (!Is(kSigned) || width == 0) && (!Is(kUpper) || Is(kHex)) &&
           (!Is(kSpaces) || width != 0) && (!Is(kTrimmed) || scale != 0);
  }
};

/// Bytes that a number takes at most: digits, a point and a minus, or padding.
inline constexpr size_t kMaxNumberBytes = 24;

/// Writes a number so that it ends at `end`, which has kMaxNumberBytes before
/// it; returns where it begins. A signed one is of two's complement.
inline uint8_t* PrintNumber(const NumberFormat& format, uint64_t number,
                            uint8_t* end) {
  uint8_t* at = end;
  const bool minus = format.Is(NumberFormat::kSigned) && number >> 63 != 0;
  uint64_t left = minus ? 0 - number : number;
  if (format.Is(NumberFormat::kHex)) {
    const uint8_t ten = format.Is(NumberFormat::kUpper) ? 'A' : 'a';
    do {
      const auto digit = static_cast<uint8_t>(left & 15);
      *--at = static_cast<uint8_t>(digit < 10 ? '0' + digit : ten + digit - 10);
      left >>= 4;
    } while (left != 0);
  } else {
    bool trimming = format.Is(NumberFormat::kTrimmed);
    for (int i = 0; i < format.scale; ++i, left /= 10) {
      const auto digit = static_cast<uint8_t>(left % 10);
      trimming = trimming && digit == 0;
      if (!trimming) *--at = static_cast<uint8_t>('0' + digit);
    }
    if (at != end) *--at = '.';
    do {
      *--at = static_cast<uint8_t>('0' + left % 10);
      left /= 10;
    } while (left != 0);
  }
  const uint8_t pad = format.Is(NumberFormat::kSpaces) ? ' ' : '0';
  while (end - at < format.width) *--at = pad;
  if (minus) *--at = '-';
  return at;
}

/// The number that is printed as `text`; none where there is none.
inline std::optional<uint64_t> ParseNumber(const NumberFormat& format,
                                           ByteSpan text) {
  if (text.empty() || text.size() > kMaxNumberBytes) return std::nullopt;
  size_t i = 0;
  const bool minus = format.Is(NumberFormat::kSigned) && text[0] == '-';
  if (minus) ++i;
  if (format.Is(NumberFormat::kSpaces)) {
    while (i < text.size() && text[i] == ' ') ++i;
  }
  uint64_t value = 0;
  int fraction = -1;  // digits behind the point
  const uint64_t base = format.Is(NumberFormat::kHex) ? 16 : 10;
  const auto add = [&](uint64_t digit) {
    return !__builtin_mul_overflow(value, base, &value) &&
           !__builtin_add_overflow(value, digit, &value);
  };
  for (; i < text.size(); ++i) {
    const uint8_t byte = text[i];
    uint64_t digit = 16;
    if (byte >= '0' && byte <= '9') digit = byte - '0';
    if (byte >= 'a' && byte <= 'f') digit = byte - 'a' + 10u;
    if (byte >= 'A' && byte <= 'F') digit = byte - 'A' + 10u;
    if (byte == '.' && fraction < 0 && format.scale > 0) {
      fraction = 0;
      continue;
    }
    if (digit >= base || !add(digit)) return std::nullopt;
    fraction += fraction >= 0;
  }
  for (int k = fraction < 0 ? 0 : fraction; k < format.scale; ++k) {
    if (!add(0)) return std::nullopt;
  }
  if (format.Is(NumberFormat::kSigned)) {
    if (value >> 63 != 0) return std::nullopt;
    if (minus) value = 0 - value;
  }
  // The proof: leading zeros, minus zero, wrong letters end here.
  std::array<uint8_t, kMaxNumberBytes> printed;
  uint8_t* const end = printed.data() + printed.size();
  const uint8_t* at = PrintNumber(format, value, end);
  const auto size = static_cast<size_t>(end - at);
  if (size != text.size()) return std::nullopt;
  for (size_t k = 0; k < size; ++k) {
    if (at[k] != text[k]) return std::nullopt;
  }
  return value;
}

}  // namespace zipllm::codecs::columns

#endif  // ZIPLLM_CODECS_COLUMNS_NUMBER_FORMAT_H_
