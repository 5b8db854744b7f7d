#include <algorithm>

#include "codecs/columns/time_format.h"

namespace zipllm::codecs::columns {
namespace {

using Date = TimeFormat::Date;

constexpr std::string_view kMonths = "JanFebMarAprMayJunJulAugSepOctNovDec";
constexpr std::string_view kWeekdays = "SunMonTueWedThuFriSat";
constexpr uint64_t kDaySeconds = 86400;

/// Days since 1 March of the year 0, with years that begin in March (Hinnant,
/// "chrono-compatible low-level date algorithms").
constexpr uint64_t SinceMarch(const Date& date) {
  const uint64_t year = date.year - (date.month <= 2);
  const uint64_t month = (date.month + 9) % 12;
  return year * 365 + year / 4 - year / 100 + year / 400 +
         (153 * month + 2) / 5 + date.day - 1;
}
constexpr uint32_t kFirstYear = 1900;
constexpr uint64_t kFirstDay = SinceMarch({kFirstYear, 1, 1});
constexpr uint64_t kDays = SinceMarch({9999, 12, 31}) - kFirstDay + 1;

/// Days since the first day of kFirstYear.
uint64_t DaysOf(const Date& date) { return SinceMarch(date) - kFirstDay; }

Date DateOf(uint64_t days) {
  days += kFirstDay;
  const uint64_t era = days / 146097;
  const uint64_t of_era = days % 146097;
  const uint64_t year =
      (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
  const uint64_t of_year = of_era - (365 * year + year / 4 - year / 100);
  const uint64_t shifted = (5 * of_year + 2) / 153;
  const auto month =
      static_cast<uint32_t>(shifted < 10 ? shifted + 3 : shifted - 9);
  return {static_cast<uint32_t>(year + era * 400 + (month <= 2 ? 1 : 0)), month,
          static_cast<uint32_t>(of_year - (153 * shifted + 2) / 5 + 1)};
}

/// 0: Sunday. The first day was a Monday.
uint32_t WeekdayOf(uint64_t days) {
  return static_cast<uint32_t>((days + 1) % 7);
}

}  // namespace

std::optional<TimeFormat> TimeFormat::Parse(std::string_view text) {
  if (text.size() > kMaxText) return std::nullopt;
  TimeFormat format;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      format.fields_.push_back({0, static_cast<uint8_t>(text[i])});
      continue;
    }
    if (++i == text.size()) return std::nullopt;
    char kind = text[i];
    if (kind == '%') {
      format.fields_.push_back({0, '%'});
      continue;
    }
    if (kind >= '1' && kind <= '9') {
      format.digits_ = kind - '0';
      kind = 'f';
    } else if (std::string_view("YymbdeaHMS").find(kind) ==
               std::string_view::npos) {
      return std::nullopt;
    }
    if (format.Has(kind)) return std::nullopt;
    format.seen_ |= uint64_t{1} << (kind & 63);
    format.fields_.push_back({kind, 0});
  }
  const auto both = [&](char a, char b) {
    return format.Has(a) && format.Has(b);
  };
  if (format.seen_ == 0 || both('Y', 'y') || both('m', 'b') || both('d', 'e')) {
    return std::nullopt;
  }
  for (int i = 0; i < format.digits_; ++i) format.second_ *= 10;
  if (!format.Has('f') && !format.Has('S')) {
    format.unit_ = format.Has('M') ? 60 : format.Has('H') ? 3600 : kDaySeconds;
  }
  return format;
}

size_t TimeFormat::Print(uint64_t ticks, uint8_t* out) const {
  const uint64_t fraction = ticks % second_;
  if (ticks / second_ >= kDays * kDaySeconds / unit_) return 0;
  const uint64_t seconds = ticks / second_ * unit_;
  const uint64_t of_day = seconds % kDaySeconds;
  const uint64_t days = seconds / kDaySeconds;
  const Date date = DateOf(days);
  uint8_t* at = out;
  const auto number = [&](uint64_t value, int digits) {
    for (int i = digits; i-- > 0; value /= 10) {
      at[i] = static_cast<uint8_t>('0' + value % 10);
    }
    at += digits;
  };
  const auto name = [&](std::string_view names, uint32_t which) {
    for (const char c : names.substr(size_t{3} * which, 3)) {
      *at++ = static_cast<uint8_t>(c);
    }
  };
  for (const Field& field : fields_) {
    switch (field.kind) {
      case 'Y':
        number(date.year, 4);
        break;
      case 'y':
        number(date.year % 100, 2);
        break;
      case 'm':
        number(date.month, 2);
        break;
      case 'b':
        name(kMonths, date.month - 1);
        break;
      case 'd':
        number(date.day, 2);
        break;
      case 'e':
        number(date.day, 2);
        if (at[-2] == '0') at[-2] = ' ';
        break;
      case 'a':
        name(kWeekdays, WeekdayOf(days));
        break;
      case 'H':
        number(of_day / 3600, 2);
        break;
      case 'M':
        number(of_day / 60 % 60, 2);
        break;
      case 'S':
        number(of_day % 60, 2);
        break;
      case 'f':
        number(fraction, digits_);
        break;
      default:
        *at++ = field.literal;
    }
  }
  return static_cast<size_t>(at - out);
}

/// What fields of a text say, from its first byte on; of what is none,
/// something.
class TimeFormat::Reader {
 public:
  explicit Reader(ByteSpan text) : text_(text) {}

  uint64_t Number(int digits) {
    uint64_t value = 0;
    for (int i = 0; i < digits && at_ < text_.size(); ++i, ++at_) {
      value = value * 10 + static_cast<uint8_t>(text_[at_] - '0') % 16u;
    }
    return value;
  }
  uint32_t Number32(int digits) {
    return static_cast<uint32_t>(Number(digits));
  }
  /// Which of `names`, of three letters each; the last one if it is none.
  uint32_t Name(std::string_view names) {
    const size_t begin = at_;
    Skip(3);
    if (at_ > text_.size()) return 0;
    const std::string_view found(
        reinterpret_cast<const char*>(text_.data()) + begin, 3);
    return static_cast<uint32_t>(std::min(names.find(found), names.size() - 3) /
                                 3);
  }
  bool IsSpace() const { return at_ < text_.size() && text_[at_] == ' '; }
  void Skip(size_t bytes) { at_ += bytes; }
  bool IsAtEnd() const { return at_ == text_.size(); }

 private:
  ByteSpan text_;
  size_t at_ = 0;
};

std::optional<TimeFormat::Parts> TimeFormat::ReadParts(ByteSpan text) const {
  // Without a year: one that has a 29 February.
  const bool has_day = Has('m') || Has('b') || Has('d') || Has('e');
  Parts parts;
  parts.date = {has_day ? 2000 : kFirstYear, 1, 1};
  Reader reader(text);
  for (const Field& field : fields_) {
    switch (field.kind) {
      case 'Y':
        parts.date.year = reader.Number32(4);
        break;
      case 'y':
        parts.date.year = 2000 + reader.Number32(2);
        break;
      case 'm':
        parts.date.month = reader.Number32(2);
        break;
      case 'b':
        parts.date.month = reader.Name(kMonths) + 1;
        break;
      case 'd':
        parts.date.day = reader.Number32(2);
        break;
      case 'e':
        if (reader.IsSpace()) {
          reader.Skip(1);
          parts.date.day = reader.Number32(1);
        } else {
          parts.date.day = reader.Number32(2);
        }
        break;
      case 'a':
        reader.Skip(3);
        break;
      case 'H':
        parts.of_day += reader.Number(2) * 3600;
        break;
      case 'M':
        parts.of_day += reader.Number(2) * 60;
        break;
      case 'S':
        parts.of_day += reader.Number(2);
        break;
      case 'f':
        parts.fraction = reader.Number(digits_);
        break;
      default:
        reader.Skip(1);
    }
  }
  const Date& date = parts.date;
  if (!reader.IsAtEnd() || date.month < 1 || date.month > 12 || date.day < 1 ||
      date.day > 31 || date.year < kFirstYear || date.year > 9999 ||
      parts.of_day >= kDaySeconds) {
    return std::nullopt;
  }
  return parts;
}

std::optional<uint64_t> TimeFormat::Read(ByteSpan text) const {
  const std::optional<Parts> parts = ReadParts(text);
  if (!parts) return std::nullopt;
  uint64_t ticks = (DaysOf(parts->date) * kDaySeconds + parts->of_day) / unit_;
  if (__builtin_mul_overflow(ticks, second_, &ticks) ||
      __builtin_add_overflow(ticks, parts->fraction, &ticks)) {
    return std::nullopt;
  }
  // The proof: what is no digit, no day of that month or no such weekday ends
  // here.
  std::array<uint8_t, kMaxBytes> printed;
  const size_t size = Print(ticks, printed.data());
  if (!std::ranges::equal(text, std::span(printed).first(size))) {
    return std::nullopt;
  }
  return ticks;
}

}  // namespace zipllm::codecs::columns
