#include "base/status.h"

#include <cerrno>
#include <cstring>
#include <system_error>

namespace zipllm {

absl::Status ErrnoStatus(int error_number, const std::string& what) {
  absl::StatusCode code = absl::StatusCode::kUnavailable;
  switch (error_number) {
    case ENOENT:
    case ENOTDIR:
      code = absl::StatusCode::kNotFound;
      break;
    case EACCES:
    case EPERM:
    case EROFS:
      code = absl::StatusCode::kPermissionDenied;
      break;
    case EEXIST:
      code = absl::StatusCode::kAlreadyExists;
      break;
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      code = absl::StatusCode::kResourceExhausted;
      break;
    default:
      break;
  }
  return MakeStatus(code, what, ": ",
                    std::generic_category().message(error_number));
}

}  // namespace zipllm
