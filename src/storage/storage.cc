#include "storage/storage.h"

#include <algorithm>
#include <string_view>

namespace zipllm::storage {
namespace {

constexpr size_t kMaxPart = 255;

bool IsKeyByte(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
         (c >= '0' && c <= '9') ||
         std::string_view("._-%+").find(c) != std::string_view::npos;
}

bool IsPart(std::string_view part) {
  return !part.empty() && part.size() <= kMaxPart && part[0] != '.' &&
         std::ranges::all_of(part, IsKeyByte);
}

}  // namespace

absl::Status CheckKey(const Key& key) {
  std::string_view rest = key;
  while (true) {
    const size_t slash = rest.find('/');
    if (!IsPart(rest.substr(0, slash)))
      return InvalidArgument("'", key, "' is no key of a storage");
    if (slash == std::string_view::npos) return absl::OkStatus();
    rest.remove_prefix(slash + 1);
  }
}

absl::Status CheckPrefix(const Key& prefix) {
  if (prefix.empty()) return absl::OkStatus();
  if (prefix.back() != '/')
    return InvalidArgument("'", prefix,
                           "' is no prefix of keys: no '/' ends it");
  return CheckKey(prefix.substr(0, prefix.size() - 1));
}

}  // namespace zipllm::storage
