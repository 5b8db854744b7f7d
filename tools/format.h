// Text for people: sizes, rates, times, bars, tables, and names made safe to
// print.
#ifndef ZIPLLM_TOOLS_FORMAT_H_
#define ZIPLLM_TOOLS_FORMAT_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace zipllm::tools {

/// printf into a string.
[[gnu::format(printf, 1, 2)]] std::string Format(const char* format, ...);

/// `text` with control characters and bytes that are not UTF-8 written as \n,
/// \t, \r, \\ or \xNN, so that a file name cannot drive the terminal or fake a
/// line.
std::string Printable(std::string_view text);
/// True if all of `text` may be shown on a terminal: UTF-8 without control
/// characters other than tab, newline and carriage return. A character cut off
/// at the end is let through.
bool IsTerminalText(std::string_view text);

/// Columns that `text` takes on a terminal, one a code point.
size_t DisplayWidth(std::string_view text);
/// `text` cut in its middle to at most `width` columns.
std::string Shorten(const std::string& text, size_t width);

/// "999 B", "45.4 MB": decimal units, three digits.
std::string HumanBytes(uint64_t bytes);
/// "384", "22.7 M".
std::string HumanCount(uint64_t count);
/// "812 MB/s"; "-" where no time has passed.
std::string HumanRate(uint64_t bytes, double seconds);
/// "1 file", "2 files".
std::string Counted(uint64_t count, const std::string& noun);
/// "66.20 %" of `whole`; "-" where `whole` is 0.
std::string Percent(uint64_t part, uint64_t whole);
/// "10.53" bits for each of `count`; "-" where `count` is 0.
std::string BitsEach(uint64_t bytes, uint64_t count);
/// "0:07", "1:02:03".
std::string HumanDuration(double seconds);
/// Local time, "2026-11-21 16:12".
std::string HumanTime(int64_t unix_seconds);
/// "512x384"; "scalar" for no dimension.
std::string ShapeText(const std::vector<uint64_t>& shape);

/// A bar of `width` columns, filled by part/whole, of block characters or of
/// '#'.
std::string Bar(uint64_t part, uint64_t whole, size_t width, bool utf8);

/// Greedy line breaks at spaces; lines after the first start with `indent`
/// spaces. Newlines in `text` are kept.
std::string Wrap(std::string_view text, size_t width, size_t indent);

/// Columns as wide as their widest cell, two spaces between.
class Table {
 public:
  /// One character a column: 'l' left, 'r' right.
  explicit Table(std::string alignment) : alignment_(std::move(alignment)) {}
  void Add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  std::string Text() const;

 private:
  std::string alignment_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace zipllm::tools

#endif  // ZIPLLM_TOOLS_FORMAT_H_
