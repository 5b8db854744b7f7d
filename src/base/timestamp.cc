// The forms that are known (Y year, D day, h hour; a fraction may follow the
// seconds after '.' or ',', then AM or PM, then a zone: Z, +hh:mm, +hhmm, +hh,
// UTC, GMT):
//   2024-01-15T10:30:45  2024/01/15 10:30:45  2005-06-03-15.42.50.675872
//   20240115T103045  20240115-10:30:45:606  20240115103045  2024-01-15
//   15/Jan/2024:10:30:45  15-Jan-2024 10:30:45  15 Jan 2024 10:30:45
//   01/15/2024 10:30:45 (day first where that alone can be)
//   15.01.2024 10:30:45  15-01-2024 10:30:45 (day first)
//   24/01/15 10:30:45  24-01-15 10:30:45  240115 103045  240115 10:30:45
//   Jan 15 10:30:45 [2024]  Jan 15 2024 10:30:45  January 15, 2024 10:30:45
//   01-15 10:30:45  [01.15 10:30:45]  I0115 10:30:45 (no year)
//   seconds since 1970 (10 digits, perhaps with a fraction), milli-, micro- and
//   nanoseconds (13, 16, 19 digits)
#include "base/timestamp.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace zipllm {
namespace {

constexpr int64_t kNanos = 1'000'000'000;
constexpr int64_t kDaySeconds = 86400;
constexpr int kFirstYear = 1700, kLastYear = 2260;  // what 64 bits hold

// Days since 1970-01-01 in the Gregorian calendar.
constexpr int64_t DaysFromCivil(int year, int month, int day) {
  // Years begin in March here, so that leap days are last.
  const int y = year - (month <= 2 ? 1 : 0);
  const int era = y / 400;  // years are positive
  const int year_of_era = y - era * 400;
  const int day_of_year =
      (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  const int day_of_era =
      year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
  return int64_t{era} * 146097 + day_of_era - 719468;
}

constexpr Timestamp YearStart(int year) {
  return DaysFromCivil(year, 1, 1) * kDaySeconds * kNanos;
}

int YearOf(Timestamp time) {
  int low = kNoYear - 1, high = kLastYear + 3;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (YearStart(middle) <= time ? low : high) = middle;
  }
  return low;
}

constexpr bool IsDigit(uint8_t c) { return c >= '0' && c <= '9'; }
constexpr bool IsUpper(uint8_t c) { return c >= 'A' && c <= 'Z'; }
constexpr bool IsLower(uint8_t c) { return c >= 'a' && c <= 'z'; }
constexpr bool IsAlnum(uint8_t c) {
  return IsDigit(c) || IsUpper(c) || IsLower(c);
}

// A set of characters.
class Any {
 public:
  explicit constexpr Any(std::string_view characters) {
    for (const char c : characters) has_[static_cast<uint8_t>(c)] = true;
  }
  constexpr bool operator[](uint8_t c) const { return has_[c]; }

 private:
  std::array<bool, 256> has_{};
};
// What a time may follow, what stands between a date and a time, and what may
// follow a date that stands alone (0: the line ends).
constexpr Any kBefore(" \t[({<>\"'=:,;|");
constexpr Any kGap(" Tt_-:,;|\t");
constexpr Any kShortGap("/-. ");
constexpr Any kAfterDate(std::string_view(" ,;|\t\"'])}\r\n\0", 13));

// A place in a text that so many zeros end.
constexpr size_t kPadding = 8;
class Cursor {
 public:
  explicit Cursor(const uint8_t* at) : at_(at) {}

  // `i` is less than kPadding.
  uint8_t Peek(size_t i = 0) const { return at_[i]; }
  void Skip(size_t count) { at_ += count; }
  bool Take(char c) {
    if (*at_ != static_cast<uint8_t>(c)) return false;
    ++at_;
    return true;
  }
  size_t DigitsAhead(size_t most) const {
    size_t count = 0;
    while (count < most && IsDigit(at_[count])) ++count;
    return count;
  }
  // `count` digits, which are there; at most 18.
  int64_t Number(size_t count) {
    int64_t value = 0;
    for (; count > 0; --count) value = value * 10 + (*at_++ - '0');
    return value;
  }
  // A number of one or two digits; -1: none is there.
  int Small() {
    if (!IsDigit(at_[0])) return -1;
    int value = *at_++ - '0';
    if (IsDigit(*at_)) value = value * 10 + (*at_++ - '0');
    return IsDigit(*at_) ? -1 : value;
  }
  bool AtEnd() const { return *at_ == 0; }

 private:
  const uint8_t* at_;
};

struct Fields {
  int year = 0, month = 0, day = 0;
  int hour = 0, minute = 0, second = 0;
  int64_t nanos = 0;
  int zone = 0;  // seconds east

  bool DateIsValid() const {
    return (year == kNoYear || (year >= kFirstYear && year <= kLastYear)) &&
           month >= 1 && month <= 12 && day >= 1 && day <= 31;
  }
  Timestamp Value() const {
    return (DaysFromCivil(year, month, day) * kDaySeconds + hour * 3600 +
            minute * 60 + second - zone) *
               kNanos +
           nanos;
  }
};

// 1 to 12 and moves on, over the rest of a long name; 0: no month is there.
int TakeMonth(Cursor& at) {
  constexpr std::string_view kMonths = "JanFebMarAprMayJunJulAugSepOctNovDec";
  for (size_t i = 0; i < kMonths.size(); i += 3) {
    if (at.Peek(0) != static_cast<uint8_t>(kMonths[i]) ||
        at.Peek(1) != static_cast<uint8_t>(kMonths[i + 1]) ||
        at.Peek(2) != static_cast<uint8_t>(kMonths[i + 2])) {
      continue;
    }
    at.Skip(3);
    for (int more = 0; more < 6 && IsLower(at.Peek()); ++more) at.Skip(1);
    return static_cast<int>(i / 3) + 1;
  }
  return 0;
}

// Digits as a fraction of a second; those that say less are passed over.
int64_t TakeFraction(Cursor& at) {
  int64_t nanos = 0;
  int64_t unit = kNanos / 10;
  for (size_t digits = at.DigitsAhead(20); digits > 0; --digits) {
    nanos += at.Number(1) * unit;
    unit /= 10;
  }
  return nanos;
}

void TakeHalfOfDay(Cursor& at, Fields& fields) {
  const size_t space = at.Peek() == ' ' ? 1 : 0;
  const uint8_t half = at.Peek(space);
  if ((half != 'A' && half != 'P') || at.Peek(space + 1) != 'M' ||
      IsAlnum(at.Peek(space + 2)) || fields.hour > 12) {
    return;
  }
  fields.hour = fields.hour % 12 + (half == 'P' ? 12 : 0);
  at.Skip(space + 2);
}

void TakeZone(Cursor& at, Fields& fields) {
  Cursor after = at;
  const bool space = after.Take(' ');
  const uint8_t first = after.Peek();
  if (first == 'Z' || first == 'U' || first == 'G') {
    const size_t length = first == 'Z' ? 1 : 3;
    const bool known =
        first == 'Z' ||
        (first == 'U' && after.Peek(1) == 'T' && after.Peek(2) == 'C') ||
        (first == 'G' && after.Peek(1) == 'M' && after.Peek(2) == 'T');
    if (!known || IsAlnum(after.Peek(length))) return;
    after.Skip(length);
    at = after;
    return;
  }
  if (first != '+' && first != '-') return;
  after.Skip(1);
  const size_t digits = after.DigitsAhead(5);
  int hours = 0, minutes = 0;
  if (digits == 4) {
    hours = static_cast<int>(after.Number(2));
    minutes = static_cast<int>(after.Number(2));
  } else if (digits == 2) {
    hours = after.Small();
    if (after.Peek() == ':' && IsDigit(after.Peek(1))) {
      after.Skip(1);
      minutes = after.Small();
    } else if (space) {
      return;
    }
  } else {
    return;
  }
  if (hours > 14 || minutes < 0 || minutes > 59 || minutes % 15 != 0 ||
      IsAlnum(after.Peek())) {
    return;
  }
  fields.zone = (hours * 3600 + minutes * 60) * (first == '-' ? -1 : 1);
  at = after;
}

// h:m, h:m:s, hh.mm.ss or (`compact`) hhmmss, and what may follow.
bool TakeTime(Cursor& at, Fields& fields, bool compact = false) {
  if (compact && at.DigitsAhead(7) == 6) {
    fields.hour = static_cast<int>(at.Number(2));
    fields.minute = static_cast<int>(at.Number(2));
    fields.second = static_cast<int>(at.Number(2));
  } else {
    fields.hour = at.Small();
    const bool dots = at.Peek() == '.';
    if (fields.hour < 0 || (!dots && at.Peek() != ':')) return false;
    at.Skip(1);
    fields.minute = at.Small();
    if (fields.minute < 0) return false;
    if (dots && at.Peek() != '.') return false;
    if (dots || (at.Peek() == ':' && IsDigit(at.Peek(1)))) {
      at.Skip(1);
      fields.second = at.Small();
    }
  }
  if (fields.hour > 23 || fields.minute > 59 || fields.second < 0 ||
      fields.second > 60) {
    return false;
  }
  const uint8_t point = at.Peek();
  if (IsDigit(at.Peek(1)) && (point == '.' || point == ',' || point == ':')) {
    Cursor after = at;
    after.Skip(1);
    const size_t digits = after.DigitsAhead(10);
    // A comma may as well end a field, and a colon begin the message.
    if (point == '.' || digits == 3 ||
        (point == ',' && (digits == 6 || digits == 9))) {
      fields.nanos = TakeFraction(after);
      at = after;
    }
  }
  TakeHalfOfDay(at, fields);
  TakeZone(at, fields);
  return !IsDigit(at.Peek());
}

// What stands between a date and its time.
bool TakeGap(Cursor& at) {
  if (!kGap[at.Peek()]) return false;
  at.Skip(1);
  for (int more = 0; more < 2 && at.Peek() == ' '; ++more) at.Skip(1);
  return IsDigit(at.Peek());
}

// What follows a date with all its parts. It may stand alone if `alone`.
bool TakeRest(Cursor& at, Fields& fields, bool alone, bool compact = false) {
  if (!fields.DateIsValid()) return false;
  Cursor after = at;
  Fields with_time = fields;
  if (TakeGap(after) && TakeTime(after, with_time, compact)) {
    fields = with_time;
    at = after;
    return true;
  }
  return alone && kAfterDate[at.Peek()];
}

int FullYear(int two_digits) {
  return two_digits + (two_digits < 70 ? 2000 : 1900);
}

// Four digits, which are there; -1: no year of our time.
int TakeYear(Cursor& at) {
  const auto year = static_cast<int>(at.Number(4));
  return year >= 1900 && year <= 2099 ? year : -1;
}

bool YearFirst(Cursor& at, Fields& fields) {
  const uint8_t separator = at.Peek(4);
  if (separator != '-' && separator != '/' && separator != '.') return false;
  fields.year = static_cast<int>(at.Number(4));
  at.Skip(1);
  fields.month = at.Small();
  if (!at.Take(static_cast<char>(separator))) return false;
  fields.day = at.Small();
  return TakeRest(at, fields, separator != '.');
}

// Two numbers of one or two digits are first, or such a number and a month;
// one of kShortGap follows the first.
bool ShortFirst(Cursor& at, Fields& fields) {
  const bool padded = at.DigitsAhead(2) == 2;
  const int first = at.Small();
  const uint8_t separator = at.Peek();
  at.Skip(1);
  if (IsUpper(at.Peek())) {
    fields.day = first;
    fields.month = TakeMonth(at);
    if (fields.month == 0 || !at.Take(static_cast<char>(separator))) {
      return false;
    }
    fields.year = at.DigitsAhead(5) == 4 ? TakeYear(at) : kNoYear;
    if (fields.year != kNoYear) return TakeRest(at, fields, true);
    return first >= 1 && first <= 31 && TakeTime(at, fields);
  }
  if (separator == ' ') return false;
  const int second = at.Small();
  if (second < 0) return false;
  if (at.Peek() == ' ') {  // no year
    fields.year = kNoYear;
    fields.month = first;
    fields.day = second;
    return padded && separator != '/' && first <= 12 && second >= 1 &&
           TakeRest(at, fields, false);
  }
  if (!at.Take(static_cast<char>(separator))) return false;
  if (at.DigitsAhead(5) == 4) {
    const bool day_first = first > 12 || (separator != '/' && second <= 12);
    fields.day = day_first ? first : second;
    fields.month = day_first ? second : first;
    fields.year = TakeYear(at);
    return TakeRest(at, fields, false);
  }
  fields.year = FullYear(first);
  fields.month = second;
  fields.day = at.Small();
  return padded && separator != '.' && TakeRest(at, fields, false);
}

bool MonthFirst(Cursor& at, Fields& fields) {
  fields.month = TakeMonth(at);
  if (fields.month == 0) return false;
  if (!at.Take(' ')) return false;
  (void)at.Take(' ');
  fields.day = at.Small();
  if (fields.day < 1 || fields.day > 31) return false;
  (void)at.Take(',');
  if (!at.Take(' ')) return false;
  if (at.DigitsAhead(5) == 4) {
    fields.year = TakeYear(at);
    return TakeRest(at, fields, true);
  }
  if (!TakeTime(at, fields)) return false;
  // The year may come last, after the name of a zone.
  Cursor after = at;
  fields.year = kNoYear;
  if (after.Take(' ') && IsUpper(after.Peek())) {
    size_t letters = 0;
    while (letters < 5 && IsUpper(after.Peek(letters))) ++letters;
    after.Skip(letters);
    (void)after.Take(' ');
  }
  if (after.DigitsAhead(5) == 4) {
    const int year = TakeYear(after);
    if (year > 0 && kAfterDate[after.Peek()]) {
      fields.year = year;
      at = after;
    }
  }
  return true;
}

// Digits without separators: `count` of them.
bool Compact(Cursor& at, size_t count, Fields& fields) {
  if (count == 6) {
    fields.year = FullYear(static_cast<int>(at.Number(2)));
  } else {
    fields.year = static_cast<int>(at.Number(4));
    if (fields.year < 1900 || fields.year > 2099) return false;
  }
  fields.month = static_cast<int>(at.Number(2));
  fields.day = static_cast<int>(at.Number(2));
  if (count <= 8) return TakeRest(at, fields, false, true);
  fields.hour = static_cast<int>(at.Number(2));
  fields.minute = static_cast<int>(at.Number(2));
  fields.second = static_cast<int>(at.Number(2));
  if (count == 17) fields.nanos = at.Number(3) * 1'000'000;
  return fields.DateIsValid() && fields.hour <= 23 && fields.minute <= 59 &&
         fields.second <= 60 && !IsAlnum(at.Peek());
}

// Units since 1970, from 2001 to 2099.
std::optional<Timestamp> SinceEpoch(Cursor& at, size_t count) {
  int64_t scale = kNanos;
  int64_t least = kNanos;
  for (size_t digits = 10; digits < count; digits += 3) {
    scale /= 1000;
    least *= 1000;
  }
  // 19 digits: 18 and the last, which fits.
  int64_t value = at.Number(count - 1);
  if (value >= 4'102'444'800 / 10 * (least / kNanos)) return std::nullopt;
  value = value * 10 + at.Number(1);
  if (value < least) return std::nullopt;
  Timestamp time = value * scale;
  if (count == 10 && at.Peek() == '.' && IsDigit(at.Peek(1))) {
    at.Skip(1);
    time += TakeFraction(at);
  }
  if (IsAlnum(at.Peek()) || at.Peek() == '_' || at.Peek() == '-' ||
      (at.Peek() == '.' && IsDigit(at.Peek(1)))) {
    return std::nullopt;
  }
  return time;
}

// The time that begins at `at`, and moves behind it where that is known.
std::optional<Timestamp> TakeTimestamp(Cursor& at) {
  Fields fields;
  bool found = false;
  const uint8_t first = at.Peek();
  if (IsDigit(first)) {
    const size_t digits = at.DigitsAhead(20);
    switch (digits) {
      case 1:
      case 2:
        if (!kShortGap[at.Peek(digits)]) return std::nullopt;
        found = ShortFirst(at, fields);
        break;
      case 4:
        found = YearFirst(at, fields);
        break;
      case 6:
      case 8:
      case 14:
      case 17:
        found = Compact(at, digits, fields);
        break;
      case 10:
      case 13:
      case 16:
      case 19:
        return SinceEpoch(at, digits);
      default:
        break;
    }
  } else if (IsUpper(first)) {
    if (IsDigit(at.Peek(1))) {  // glog
      Cursor number = at;
      number.Skip(1);
      const size_t digits = number.DigitsAhead(9);
      if (digits == 8) {
        at = number;
        found = Compact(at, 8, fields);
      } else if (digits == 4) {
        at = number;
        fields.year = kNoYear;
        fields.month = static_cast<int>(at.Number(2));
        fields.day = static_cast<int>(at.Number(2));
        found = at.Peek() == ' ' && fields.month >= 1 && fields.month <= 12 &&
                fields.day >= 1 && fields.day <= 31 && TakeGap(at) &&
                TakeTime(at, fields);
      }
    } else {
      found = MonthFirst(at, fields);
    }
  }
  if (!found) return std::nullopt;
  return fields.Value();
}

constexpr std::string_view kKeys[] = {
    "timestamp", "@timestamp", "time",       "ts",      "datetime", "date",
    "eventTime", "event_time", "created_at", "asctime", "t",
};

// A time begins within so many bytes, and no form is longer.
constexpr size_t kNear = 128;
constexpr size_t kLongest = 96;

// What a Cursor may look at: the bytes from `at` on, copied where they end too
// soon.
class Window {
 public:
  Window(const uint8_t* at, const uint8_t* end) : at_(at) {
    const auto size = static_cast<size_t>(end - at);
    if (size >= kNear + kLongest) return;
    std::memcpy(copy_.data(), at, size);
    std::memset(copy_.data() + size, 0, kPadding);
    at_ = copy_.data();
  }
  const uint8_t* begin() const { return at_; }

 private:
  const uint8_t* at_;
  std::array<uint8_t, kNear + kLongest + kPadding> copy_;
};

// The first value of one of kKeys in a JSON object that is a time.
std::optional<Timestamp> FindKeyed(const uint8_t* line, const uint8_t* end) {
  const uint8_t* at = line;
  while (true) {
    const auto left = static_cast<size_t>(end - at);
    at = static_cast<const uint8_t*>(std::memchr(at, '"', left));
    if (at == nullptr) return std::nullopt;
    ++at;
    const std::string_view rest(reinterpret_cast<const char*>(at),
                                static_cast<size_t>(end - at));
    if (rest.empty() || (!IsLower(*at) && *at != '@')) continue;
    for (const std::string_view key : kKeys) {
      if (rest.size() <= key.size() || rest[key.size()] != '"' ||
          !rest.starts_with(key)) {
        continue;
      }
      const Window window(at + key.size() + 1, end);
      Cursor value(window.begin());
      (void)value.Take(' ');
      if (!value.Take(':')) break;
      (void)value.Take(' ');
      (void)value.Take('"');
      const std::optional<Timestamp> time = TakeTimestamp(value);
      if (time.has_value()) return time;
      break;
    }
  }
}

}  // namespace

bool HasYear(Timestamp time) { return time >= YearStart(kNoYear + 1); }

Timestamp WithoutYear(Timestamp time) {
  const int year = YearOf(time);
  const Timestamp in_year = time - YearStart(year);
  // Days after February come a day later where the year is no leap year.
  const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
  constexpr int64_t kDay = kDaySeconds * kNanos;
  const bool moved = !leap && in_year >= 59 * kDay;
  return YearStart(kNoYear) + in_year + (moved ? kDay : 0);
}

std::optional<Timestamp> FindTimestamp(ByteSpan line) {
  if (line.empty()) return std::nullopt;
  line = line.first(std::min(line.size(), kTimestampReach));
  const uint8_t* const begin = line.data();
  const uint8_t* end = begin + line.size();
  if (*begin == '{') {
    const void* line_end = std::memchr(begin, '\n', line.size());
    if (line_end != nullptr) end = static_cast<const uint8_t*>(line_end);
    const std::optional<Timestamp> time = FindKeyed(begin, end);
    if (time.has_value()) return time;
  }
  const Window window(begin, end);
  const uint8_t* at = window.begin();
  const uint8_t* const last = at + kNear;
  for (uint8_t before = ' '; at < last; before = *at++) {
    if (*at == '\n' || *at == 0) break;
    if (!kBefore[before] || (!IsDigit(*at) && !IsUpper(*at))) continue;
    Cursor cursor(at);
    const std::optional<Timestamp> time = TakeTimestamp(cursor);
    if (time.has_value()) return time;
  }
  return std::nullopt;
}

std::optional<Timestamp> ParseTimestamp(std::string_view text) {
  if (text.size() > kLongest) return std::nullopt;
  std::array<uint8_t, kLongest + kPadding> copy{};
  std::ranges::copy(text, copy.begin());
  Cursor at(copy.data());
  // The name of a weekday says nothing.
  if (text.size() > 4 && IsUpper(at.Peek()) && IsLower(at.Peek(1)) &&
      IsLower(at.Peek(2)) && (text[3] == ' ' || text.substr(3, 2) == ", ")) {
    Cursor month = at;
    if (TakeMonth(month) == 0) at.Skip(text[3] == ' ' ? 4 : 5);
  }
  const std::optional<Timestamp> time = TakeTimestamp(at);
  return at.AtEnd() ? time : std::nullopt;
}

}  // namespace zipllm
