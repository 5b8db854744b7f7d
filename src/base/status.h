// Status for all of zipllm: Debian's Abseil has a string_view of its own, so
// messages are made here from std::string and nowhere else.
#ifndef ZIPLLM_BASE_STATUS_H_
#define ZIPLLM_BASE_STATUS_H_

#include <exception>
#include <sstream>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace zipllm {

/// Concatenates anything that streams; messages only, not for hot paths.
template <typename... Parts>
std::string StrCat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

template <typename... Parts>
absl::Status MakeStatus(absl::StatusCode code, const Parts&... parts) {
  return absl::Status(code, StrCat(parts...));
}

/// The archive or file breaks its format: what a decoder says of bad input.
template <typename... Parts>
absl::Status DataLoss(const Parts&... parts) {
  return MakeStatus(absl::StatusCode::kDataLoss, parts...);
}
template <typename... Parts>
absl::Status InvalidArgument(const Parts&... parts) {
  return MakeStatus(absl::StatusCode::kInvalidArgument, parts...);
}
/// A limit that the caller set stands in the way.
template <typename... Parts>
absl::Status ResourceExhausted(const Parts&... parts) {
  return MakeStatus(absl::StatusCode::kResourceExhausted, parts...);
}
/// Made by a newer version.
template <typename... Parts>
absl::Status Unimplemented(const Parts&... parts) {
  return MakeStatus(absl::StatusCode::kUnimplemented, parts...);
}
template <typename... Parts>
absl::Status Internal(const Parts&... parts) {
  return MakeStatus(absl::StatusCode::kInternal, parts...);
}

/// Puts `prefix` before the message of an error; OK stays OK.
template <typename... Parts>
absl::Status Annotate(const absl::Status& status, const Parts&... prefix) {
  if (status.ok()) return status;
  return absl::Status(status.code(),
                      StrCat(prefix..., std::string(status.message())));
}

/// Runs `body`, which returns a Status or StatusOr, and turns what the standard
/// library throws (no memory, no thread) into RESOURCE_EXHAUSTED. Each function
/// of the public API that does work goes through it.
template <typename Body>
auto CatchExceptions(Body body) -> decltype(body()) {
  try {
    return body();
  } catch (const std::exception& error) {
    return ResourceExhausted("out of memory or threads (", error.what(), ")");
  }
}

/// Status for a failed system call: maps `error_number` and says what was being
/// done.
absl::Status ErrnoStatus(int error_number, const std::string& what);

}  // namespace zipllm

#define ZIPLLM_CONCAT_INNER_(a, b) a##b
#define ZIPLLM_CONCAT_(a, b) ZIPLLM_CONCAT_INNER_(a, b)
#define RETURN_IF_ERROR(expr)                                         \
  do {                                                                \
    if (absl::Status status_ = (expr); !status_.ok()) return status_; \
  } while (false)
#define ASSIGN_OR_RETURN(lhs, expr) \
  ASSIGN_OR_RETURN_IMPL_(ZIPLLM_CONCAT_(statusor_, __LINE__), lhs, expr)
#define ASSIGN_OR_RETURN_IMPL_(tmp, lhs, expr)   \
  auto tmp = (expr);                             \
  if (!tmp.ok()) return std::move(tmp).status(); \
  lhs = std::move(tmp).value()

#endif  // ZIPLLM_BASE_STATUS_H_
