#include <algorithm>
#include <charconv>
#include <limits>
#include <string_view>

#include "mount/mount.h"

namespace zipllm::mount {
namespace {

// That the kernel or libfuse knows.
constexpr std::string_view kPassedOn[] = {
    "suid",  "nosuid", "dev",     "nodev",   "exec",         "noexec",
    "async", "sync",   "dirsync", "noatime", "auto_unmount",
};
// That say what holds anyway, or are for mount(8) and systemd.
constexpr std::string_view kPassedOver[] = {
    "",         "ro",      "rw",     "default_permissions",
    "defaults", "auto",    "noauto", "user",
    "nouser",   "users",   "owner",  "group",
    "nofail",   "_netdev", "atime",  "relatime",
};
constexpr std::string_view kPassedOverPrefixes[] = {
    "x-", "X-", "user=", "comment=", "fsname=", "subtype=",
};

// "512M"; false if it is none.
bool ParseSize(std::string_view text, uint64_t* out) {
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, *out);
  if (error != std::errc()) return false;
  if (rest == end) return true;
  constexpr std::string_view kUnits = "KMGT";
  const size_t unit = kUnits.find(*rest);
  if (rest + 1 != end || unit == std::string_view::npos) return false;
  const auto shift = static_cast<int>(10 * (unit + 1));
  if (*out > std::numeric_limits<uint64_t>::max() >> shift) return false;
  *out <<= shift;
  return true;
}

}  // namespace

absl::Status AddMountOptions(const std::string& list, MountOptions* options) {
  for (size_t begin = 0; begin <= list.size();) {
    const size_t end = std::min(list.find(',', begin), list.size());
    const std::string option = list.substr(begin, end - begin);
    begin = end + 1;
    uint64_t number = 0;
    if (option == "allow_other") {
      options->allow_other = true;
    } else if (option.starts_with("cache=")) {
      if (!ParseSize(std::string_view(option).substr(6), &number)) {
        return InvalidArgument("mount option ", option,
                               " is no size such as cache=512M");
      }
      options->cache_bytes = number;
    } else if (option.starts_with("threads=")) {
      if (!ParseSize(std::string_view(option).substr(8), &number) ||
          number > 1024) {
        return InvalidArgument("mount option ", option,
                               " is no number of threads up to 1024");
      }
      options->threads = static_cast<int>(number);
    } else if (std::ranges::count(kPassedOn, option) != 0) {
      options->kernel_options.push_back(option);
    } else if (std::ranges::count(kPassedOver, option) == 0 &&
               std::ranges::none_of(kPassedOverPrefixes, [&](auto prefix) {
                 return option.starts_with(prefix);
               })) {
      return InvalidArgument(
          "there is no mount option ", option,
          ": there are allow_other, cache=SIZE, threads=N and those of "
          "mount(8), as nosuid");
    }
  }
  return absl::OkStatus();
}

}  // namespace zipllm::mount
