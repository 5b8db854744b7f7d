#include "tools/format.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <ctime>

namespace zipllm::tools {
namespace {

/// What stands at the start of a text.
struct Character {
  size_t length = 1;  // in bytes
  char32_t code = 0;  // where valid
  bool valid = false;
  bool truncated = false;  // the text ends within a character so far valid
};

Character FirstCharacter(std::string_view text) {
  auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  Character c;
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {.length = 1, .code = lead, .valid = true};
  size_t length = lead >= 0xc2 && lead <= 0xdf   ? 2
                  : lead >= 0xe0 && lead <= 0xef ? 3
                  : lead >= 0xf0 && lead <= 0xf4 ? 4
                                                 : 0;
  if (length == 0) return c;
  char32_t code = lead & (0x7f >> length);
  for (size_t i = 1; i < length; ++i) {
    if (i == text.size()) {
      c.truncated = true;
      return c;
    }
    unsigned char low = 0x80, high = 0xbf;  // narrower after some leads
    if (i == 1 && lead == 0xe0) low = 0xa0;
    if (i == 1 && lead == 0xed) high = 0x9f;
    if (i == 1 && lead == 0xf0) low = 0x90;
    if (i == 1 && lead == 0xf4) high = 0x8f;
    if (byte(i) < low || byte(i) > high) return c;
    code = code << 6 | (byte(i) & 0x3f);
  }
  return {.length = length, .code = code, .valid = true};
}

bool IsControl(char32_t code) {
  return code < 0x20 || (code >= 0x7f && code <= 0x9f);
}

std::string Scaled(uint64_t value, const char* const* units,
                   size_t unit_count) {
  if (value < 1000) {
    return Format("%llu%s%s", static_cast<unsigned long long>(value),
                  *units[0] == '\0' ? "" : " ", units[0]);
  }
  double scaled = static_cast<double>(value);
  size_t unit = 0;
  while (scaled >= 999.5 && unit + 1 < unit_count) {
    scaled /= 1000;
    ++unit;
  }
  int digits = scaled < 9.995 ? 2 : scaled < 99.95 ? 1 : 0;
  return Format("%.*f %s", digits, scaled, units[unit]);
}

}  // namespace

std::string Format(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  va_list again;
  va_copy(again, arguments);
  int length = std::vsnprintf(nullptr, 0, format, arguments);
  va_end(arguments);
  std::string text(length > 0 ? static_cast<size_t>(length) : 0, '\0');
  std::vsnprintf(text.data(), text.size() + 1, format, again);
  va_end(again);
  return text;
}

std::string Printable(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    Character c = FirstCharacter(text);
    if (c.valid && !IsControl(c.code) && c.code != '\\') {
      out += text.substr(0, c.length);
    } else if (c.valid && c.code < 0x80) {
      switch (c.code) {
        case '\n':
          out += "\\n";
          break;
        case '\t':
          out += "\\t";
          break;
        case '\r':
          out += "\\r";
          break;
        case '\\':
          out += "\\\\";
          break;
        default:
          out += Format("\\x%02x", static_cast<unsigned>(c.code));
      }
    } else {
      for (size_t i = 0; i < c.length; ++i) {
        out += Format("\\x%02x", static_cast<unsigned char>(text[i]));
      }
    }
    text.remove_prefix(c.length);
  }
  return out;
}

bool IsTerminalText(std::string_view text) {
  while (!text.empty()) {
    Character c = FirstCharacter(text);
    if (c.truncated) return true;
    if (!c.valid) return false;
    if (IsControl(c.code) && c.code != '\t' && c.code != '\n' &&
        c.code != '\r') {
      return false;
    }
    text.remove_prefix(c.length);
  }
  return true;
}

size_t DisplayWidth(std::string_view text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

std::string Shorten(const std::string& text, size_t width) {
  size_t have = DisplayWidth(text);
  if (have <= width) return text;
  if (width < 5) return std::string();
  size_t head = (width - 3) / 2, tail = width - 3 - head;
  std::string out;
  size_t column = 0;
  bool dots = false;
  for (size_t i = 0; i < text.size();) {
    size_t next = i + 1;
    while (next < text.size() && (text[next] & 0xc0) == 0x80) ++next;
    if (column < head || column >= have - tail) {
      out.append(text, i, next - i);
    } else if (!dots) {
      out += "...";
      dots = true;
    }
    ++column;
    i = next;
  }
  return out;
}

std::string HumanBytes(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B",  "kB", "MB", "GB",
                                           "TB", "PB", "EB"};
  return Scaled(bytes, kUnits, std::size(kUnits));
}

std::string HumanCount(uint64_t count) {
  static constexpr const char* kUnits[] = {"", "k", "M", "G", "T", "P", "E"};
  return Scaled(count, kUnits, std::size(kUnits));
}

std::string HumanRate(uint64_t bytes, double seconds) {
  if (seconds <= 0) return "-";
  return HumanBytes(static_cast<uint64_t>(
             std::min(static_cast<double>(bytes) / seconds, 1e18))) +
         "/s";
}

std::string Counted(uint64_t count, const std::string& noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

std::string Percent(uint64_t part, uint64_t whole) {
  if (whole == 0) return "-";
  return Format("%.2f %%",
                100.0 * static_cast<double>(part) / static_cast<double>(whole));
}

std::string BitsEach(uint64_t bytes, uint64_t count) {
  if (count == 0) return "-";
  return Format("%.2f",
                8.0 * static_cast<double>(bytes) / static_cast<double>(count));
}

std::string HumanDuration(double seconds) {
  auto total = static_cast<uint64_t>(std::clamp(seconds, 0.0, 3.6e9) + 0.5);
  auto hours = static_cast<unsigned long long>(total / 3600);
  auto minutes = static_cast<unsigned>(total / 60 % 60);
  auto rest = static_cast<unsigned>(total % 60);
  if (hours == 0) return Format("%u:%02u", minutes, rest);
  return Format("%llu:%02u:%02u", hours, minutes, rest);
}

std::string HumanTime(int64_t unix_seconds) {
  time_t time = unix_seconds;
  struct tm parts = {};
  char text[64];
  if (localtime_r(&time, &parts) == nullptr ||
      std::strftime(text, sizeof text, "%Y-%m-%d %H:%M", &parts) == 0) {
    return "-";
  }
  return text;
}

std::string ShapeText(const std::vector<uint64_t>& shape) {
  if (shape.empty()) return "scalar";
  std::string out;
  for (uint64_t extent : shape) {
    if (!out.empty()) out += 'x';
    out += std::to_string(extent);
  }
  return out;
}

std::string Bar(uint64_t part, uint64_t whole, size_t width, bool utf8) {
  double fraction =
      whole == 0
          ? 0
          : std::min(static_cast<double>(part) / static_cast<double>(whole),
                     1.0);
  auto filled =
      static_cast<size_t>(fraction * static_cast<double>(width) + 0.5);
  if (part != 0 && filled == 0 && width != 0) filled = 1;
  std::string out;
  for (size_t i = 0; i < width; ++i) {
    if (i < filled) {
      out += utf8 ? "\u2588" : "#";
    } else {
      out += utf8 ? "\u2591" : ".";
    }
  }
  return out;
}

std::string Wrap(std::string_view text, size_t width, size_t indent) {
  std::string out;
  size_t column = indent;
  bool line_start = true;
  auto new_line = [&] {
    out += '\n';
    out.append(indent, ' ');
    column = indent;
    line_start = true;
  };
  while (!text.empty()) {
    if (text.front() == '\n') {
      new_line();
      text.remove_prefix(1);
      continue;
    }
    if (text.front() == ' ' && !line_start) {
      text.remove_prefix(1);
      continue;
    }
    // Spaces at a line's start belong to the word: they indent examples.
    size_t word_start = text.find_first_not_of(' ');
    if (word_start == std::string_view::npos) break;
    size_t end = std::min(text.find_first_of(" \n", word_start), text.size());
    std::string_view word = text.substr(0, end);
    if (!line_start && column + 1 + DisplayWidth(word) > width) new_line();
    if (!line_start) {
      out += ' ';
      ++column;
    }
    out += word;
    column += DisplayWidth(word);
    line_start = false;
    text.remove_prefix(end);
  }
  return out;
}

std::string Table::Text() const {
  std::vector<size_t> widths(alignment_.size());
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], DisplayWidth(row[i]));
    }
  }
  std::string out;
  for (const auto& row : rows_) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      if (i != 0) line += "  ";
      std::string padding(widths[i] - DisplayWidth(row[i]), ' ');
      line += alignment_[i] == 'r' ? padding + row[i] : row[i] + padding;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + '\n';
  }
  return out;
}

}  // namespace zipllm::tools
