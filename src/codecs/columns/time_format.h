// How times are written in a column: kind time's format, and text to a count of
// ticks and back.
#ifndef ZIPLLM_CODECS_COLUMNS_TIME_FORMAT_H_
#define ZIPLLM_CODECS_COLUMNS_TIME_FORMAT_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "zipllm/types.h"

namespace zipllm::codecs::columns {

/// Text with fields, each a percent sign and a letter or digit:
/// Y year (4 digits), y year of this century (2), m month (2), b month's name
/// (Jan), d day (2), e day (2, padded by a space), a weekday's name (Mon), H M
/// S hour, minute, second (2 each), 1 to 9: so many digits of the second's
/// fraction, %: a percent sign. Each of a time's parts at most once.
class TimeFormat {
 public:
  static constexpr size_t kMaxText = 64;
  static constexpr size_t kMaxBytes = 2 * kMaxText;

  struct Date {
    uint32_t year;
    uint32_t month;  ///< 1 to 12
    uint32_t day;    ///< 1 to 31
  };

  /// None where `text` is no format.
  static std::optional<TimeFormat> Parse(std::string_view text);

  /// Ticks since the beginning of 1900 of what is printed as `text`; none where
  /// nothing is.
  std::optional<uint64_t> Read(ByteSpan text) const;
  /// Writes a time of kMaxBytes bytes at most to `out`; returns how many, or 0
  /// where there is no such time.
  size_t Print(uint64_t ticks, uint8_t* out) const;

 private:
  struct Field {
    char kind;  ///< as in the text; 0: a literal
    uint8_t literal;
  };
  struct Parts {
    Date date;
    uint64_t of_day = 0;    ///< seconds
    uint64_t fraction = 0;  ///< of the second
  };
  class Reader;
  /// None where the text is too short or long, or a part too large. It may
  /// still not be what is printed of them.
  std::optional<Parts> ReadParts(ByteSpan text) const;
  bool Has(char kind) const { return (seen_ >> (kind & 63) & 1) != 0; }

  std::vector<Field> fields_;
  uint64_t seen_ = 0;
  uint64_t second_ = 1;  ///< ticks
  uint64_t unit_ = 1;    ///< seconds a tick, where these are not fractions
  int digits_ = 0;
};

}  // namespace zipllm::codecs::columns

#endif  // ZIPLLM_CODECS_COLUMNS_TIME_FORMAT_H_
