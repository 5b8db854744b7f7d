// The time that a line of a log carries.
#ifndef ZIPLLM_BASE_TIMESTAMP_H_
#define ZIPLLM_BASE_TIMESTAMP_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "zipllm/types.h"

namespace zipllm {

/// Nanoseconds since 1970-01-01T00:00Z; what names no zone is taken as UTC. A
/// time that names no year is put into kNoYear: such times are ordered within a
/// year, and before all others.
using Timestamp = int64_t;
inline constexpr int kNoYear = 1680;  // a leap year

/// Whether a time named its year.
bool HasYear(Timestamp time);
/// The same time of the year in kNoYear.
Timestamp WithoutYear(Timestamp time);

/// FindTimestamp looks at no more bytes of a line than these.
inline constexpr size_t kTimestampReach = 4096;

/// The time of a line, which begins at `line` and may go on behind it; only
/// what stands before its first line end counts. That is the first time that
/// begins within its first 128 bytes, in one of the forms of which
/// timestamp.cc has the list; in a line that is a JSON object the value of
/// "timestamp" and its like comes first. It depends on nothing but the line.
/// Takes some 20 ns where the time stands in front. nullopt: it has none.
std::optional<Timestamp> FindTimestamp(ByteSpan line);

/// All of `text` as a time, such as a user writes it: one of the same forms, or
/// a date alone, which is its midnight.
std::optional<Timestamp> ParseTimestamp(std::string_view text);

}  // namespace zipllm

#endif  // ZIPLLM_BASE_TIMESTAMP_H_
