// Text or not: by the characters of samples, and by whether neighbours depend
// on each other, as they do in language, and not in random bytes in base64.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/bytes.h"
#include "codecs/text/detect.h"

namespace zipllm::codecs {
namespace {

constexpr size_t kSamples = 16;
constexpr size_t kSampleBytes = 4096;

/// Calls `look` with up to kSamples samples of `bytes`, evenly spread, each
/// from an even offset.
template <typename Look>
void ForEachSample(ByteSpan bytes, Look look) {
  if (bytes.size() <= kSamples * kSampleBytes) {
    for (size_t i = 0; i < bytes.size(); i += kSampleBytes) {
      look(bytes.subspan(i, std::min(kSampleBytes, bytes.size() - i)));
    }
    return;
  }
  for (size_t i = 0; i < kSamples; ++i) {
    const size_t begin = (bytes.size() - kSampleBytes) / (kSamples - 1) * i;
    look(bytes.subspan(begin & ~size_t{1}, kSampleBytes));
  }
}

/// Control characters that are not found in text. ESC begins colours in logs.
bool IsOddControl(uint32_t character) {
  return (character < 32 && !(character >= 7 && character <= 13) &&
          character != 27) ||
         character == 127;
}

/// Bytes of the UTF-8 character of more than one byte at the start of `bytes`;
/// 0 if there is none. One that is cut off counts as far as it goes.
size_t Utf8Bytes(ByteSpan bytes) {
  const uint8_t first = bytes[0];
  const size_t length = first < 0xC2   ? 0
                        : first < 0xE0 ? 2
                        : first < 0xF0 ? 3
                        : first < 0xF5 ? 4
                                       : 0;
  const size_t end = std::min(length, bytes.size());
  for (size_t i = 1; i < end; ++i) {
    if ((bytes[i] & 0xC0) != 0x80) return 0;
  }
  return end;
}

/// Whether `bytes` are characters of ASCII, UTF-8, a one-byte code such as
/// Latin-1, or a mixture.
bool AreCharacters(ByteSpan bytes) {
  size_t odd = 0;
  size_t spaces = 0;
  size_t one_byte = 0;  // characters above ASCII that are not UTF-8
  size_t c1 = 0;        // of these, such as are controls in ISO 8859
  for (size_t i = 0; i < bytes.size();) {
    const uint8_t byte = bytes[i];
    if (byte < 128) {
      odd += IsOddControl(byte);
      spaces += byte == ' ' || byte == '\n' || byte == '\t';
      ++i;
    } else if (const size_t length = Utf8Bytes(bytes.subspan(i))) {
      i += length;
    } else {
      const bool is_rest = i < 3 && byte < 0xC0;  // of a cut character
      one_byte += !is_rest;
      c1 += !is_rest && byte < 0xA0;
      ++i;
    }
  }
  if (odd > bytes.size() / 64) return false;
  return one_byte <= bytes.size() / 64 ||
         (c1 <= one_byte / 8 && spaces >= bytes.size() / 32);
}

/// Whether `bytes` are UTF-16, with the high byte of a character at
/// `high` (0 or 1): characters of scripts, and punctuation between them.
bool AreUtf16(ByteSpan bytes, size_t high) {
  const size_t count = bytes.size() / 2;
  if (count < 2) return false;
  size_t odd = 0;
  size_t punctuation = 0;  // and ASCII
  uint32_t before = 0;
  const auto is_first_half = [](uint32_t c) { return c >> 10 == 0xD800 >> 10; };
  for (size_t i = 0; i < count; ++i) {
    const uint32_t c =
        uint32_t{bytes[2 * i + high]} << 8 | bytes[2 * i + 1 - high];
    const bool is_second_half = c >> 10 == 0xDC00 >> 10;
    odd += IsOddControl(c) ||
           (i > 0 && is_first_half(before) != is_second_half) ||
           (c >= 0xE000 && c < 0xF900) || c >= 0xFFFE;
    punctuation += c < 127 || c >> 6 == 0x3000 >> 6 || c >> 8 == 0xFF;
    before = c;
  }
  return odd <= count / 64 && punctuation >= count / 16;
}

/// Whether neighbours depend on each other: Pearson's chi-squared test of the
/// pairs that chance would make often enough. Random choices from an alphabet,
/// as in base64 or hexadecimal digits, have nothing that a model of text could
/// learn.
bool NeighboursDepend(ByteSpan bytes) {
  std::array<uint32_t, 256> singles{};
  std::vector<uint16_t> pairs(size_t{1} << 16);
  uint32_t total = 0;
  ForEachSample(bytes, [&](ByteSpan sample) {
    for (size_t i = 0; i + 1 < sample.size(); ++i) {
      ++singles[sample[i]];
      ++pairs[sample[i] * 256u + sample[i + 1]];
      ++total;
    }
  });
  // IEEE's basic operations in a fixed order: the same on every machine.
  double cells = 0;
  double chi_squared = 0;
  for (size_t a = 0; a < 256; ++a) {
    for (size_t b = 0; b < 256; ++b) {
      const double expected =
          static_cast<double>(singles[a]) * singles[b] / total;
      if (expected < 1) continue;
      const double more = pairs[a * 256 + b] - expected;
      cells += 1;
      chi_squared += more * more / expected;
    }
  }
  // By chance it is about `cells`.
  return chi_squared > 2 * cells + total / 8.0;
}

/// Whether lines begin with printable characters of ASCII, wherever one looks.
/// Logs may quote any bytes: those of attacks, for one, with which a web server
/// was greeted, are longer than all its other lines.
bool LinesBeginWithText(ByteSpan bytes) {
  constexpr size_t kLongestLine = size_t{1} << 16;
  constexpr size_t kBegin = 24;
  size_t places = 0;
  size_t good = 0;
  ForEachSample(bytes, [&](ByteSpan sample) {
    const auto from = static_cast<size_t>(sample.data() - bytes.data());
    const ByteSpan near = bytes.subspan(from).first(
        std::min(kLongestLine + kBegin, bytes.size() - from));
    ++places;
    const auto end = std::ranges::find(near, uint8_t{'\n'});
    if (near.end() - end <= static_cast<ptrdiff_t>(kBegin)) return;
    good += std::all_of(end + 1, end + 1 + kBegin, [](uint8_t byte) {
      return (byte >= ' ' && byte < 127) || byte == '\t';
    });
  });
  return places >= kSamples && good >= places - places / 8;
}

}  // namespace

bool LooksLikeText(ByteSpan bytes) {
  constexpr size_t kFewBytes = 4096;  // tell little of neighbours
  size_t seen = 0;
  size_t characters = 0;
  size_t utf16 = 0;
  ForEachSample(bytes, [&](ByteSpan sample) {
    seen += sample.size();
    if (AreCharacters(sample)) {
      characters += sample.size();
    } else if (AreUtf16(sample, 0) || AreUtf16(sample, 1)) {
      utf16 += sample.size();
    }
  });
  if (seen > 0 && characters + utf16 < seen - seen / 4) {
    return LinesBeginWithText(bytes);
  }
  return seen > 0 &&
         (seen < kFewBytes || utf16 > characters || NeighboursDepend(bytes));
}

}  // namespace zipllm::codecs
