#include "zipllm/chain.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <vector>

#include "archive/open_archive.h"
#include "base/file.h"
#include "base/status.h"
#include "container/format.h"
#include "zipllm/compressor.h"

namespace zipllm {
namespace {

constexpr std::string_view kSuffix = ".zllm";

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// Whether `a` comes before `b`: numbers in them by value, all else by bytes.
bool ComesBefore(std::string_view a, std::string_view b) {
  size_t i = 0, j = 0;
  while (i < a.size() && j < b.size()) {
    if (!IsDigit(a[i]) || !IsDigit(b[j])) {
      if (a[i] != b[j]) return a[i] < b[j];
      ++i;
      ++j;
      continue;
    }
    const auto number = [](std::string_view text, size_t& at) {
      while (at < text.size() && text[at] == '0') ++at;
      const size_t start = at;
      while (at < text.size() && IsDigit(text[at])) ++at;
      return text.substr(start, at - start);
    };
    const std::string_view x = number(a, i);
    const std::string_view y = number(b, j);
    if (x.size() != y.size()) return x.size() < y.size();
    if (x != y) return x < y;
  }
  if (a.size() - i != b.size() - j) return a.size() - i < b.size() - j;
  return a < b;
}

absl::StatusOr<std::vector<std::string>> ArchivesIn(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end;
       !error && it != end; it.increment(error)) {
    std::string name = it->path().filename().string();
    std::error_code ignored;
    if (name.ends_with(kSuffix) && it->is_regular_file(ignored)) {
      names.push_back(std::move(name));
    }
  }
  if (error) return ErrnoStatus(error.value(), folder);
  std::ranges::sort(names, ComesBefore);
  return names;
}

// How many more archives it takes to read it.
absl::StatusOr<uint8_t> DepthOf(const std::string& path) {
  ASSIGN_OR_RETURN(std::unique_ptr<Source> source, OpenFileSource(path));
  ASSIGN_OR_RETURN(const archive::OpenedArchive opened,
                   archive::OpenArchive(std::move(source), {}, nullptr));
  return opened.depth;
}

// The archive that the next one is coded against; empty for a keyframe.
// `earlier`: those before it.
absl::StatusOr<std::string> BaseOf(const std::string& folder,
                                   const std::vector<std::string>& earlier,
                                   int keyframes) {
  std::vector<uint8_t> depths;  // last first, up to the keyframe
  for (auto name = earlier.rbegin(); name != earlier.rend(); ++name) {
    if (depths.size() + 1 > static_cast<size_t>(keyframes)) break;
    ASSIGN_OR_RETURN(const uint8_t depth, DepthOf(folder + "/" + *name));
    depths.push_back(depth);
    if (depth == 0) break;
  }
  if (depths.empty() || depths.back() != 0) return std::string();
  const size_t number = depths.size();  // after the keyframe
  if (number >= static_cast<size_t>(keyframes)) return std::string();
  size_t base = number & (number - 1);
  // Where archives were taken away or put in, one nearer to the keyframe.
  while (depths[number - 1 - base] >= container::kMaxDepth) --base;
  return folder + "/" + earlier[earlier.size() - number + base];
}

}  // namespace

absl::StatusOr<Totals> AppendToChain(const std::string& path,
                                     const std::string& archive_path,
                                     const ChainOptions& options,
                                     bool overwrite) {
  return CatchExceptions([&]() -> absl::StatusOr<Totals> {
    if (options.keyframes < 1 || options.keyframes > kMaxKeyframes) {
      return InvalidArgument("a keyframe every ", options.keyframes,
                             " checkpoints: use 1 to ", kMaxKeyframes);
    }
    const auto [folder, name] = SplitPath(archive_path);
    if (!std::string_view(name).ends_with(kSuffix)) {
      return InvalidArgument(archive_path, ": the name must end in ",
                             std::string(kSuffix));
    }
    ASSIGN_OR_RETURN(std::vector<std::string> names, ArchivesIn(folder));
    const auto next = std::ranges::lower_bound(names, name, ComesBefore);
    const bool is_there = next != names.end() && *next == name;
    if (names.end() - next > (is_there ? 1 : 0)) {
      return InvalidArgument(archive_path,
                             ": would not be the last of its "
                             "chain, ",
                             names.back(),
                             " comes after it: give it a name with a greater "
                             "number, or compress it without --chain");
    }
    names.erase(next, names.end());
    CompressOptions compress = options.compress;
    ASSIGN_OR_RETURN(std::string base,
                     BaseOf(folder, names, options.keyframes));
    if (!base.empty()) compress.bases.push_back(std::move(base));
    return Compressor(std::move(compress))
        .CompressPathToFile(path, archive_path, overwrite);
  });
}

}  // namespace zipllm
