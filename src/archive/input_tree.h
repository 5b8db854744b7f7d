#ifndef ZIPLLM_ARCHIVE_INPUT_TREE_H_
#define ZIPLLM_ARCHIVE_INPUT_TREE_H_

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "zipllm/archive.h"
#include "zipllm/io.h"
#include "zipllm/options.h"

namespace zipllm::archive {

/// One thing to put into an archive.
struct Input {
  std::string path;  ///< where it lies
  Entry entry;  ///< how the archive calls it; `size` is what it had when it was
                ///< looked at

  // Of a part of a file, or of what lies elsewhere:
  /// Opens it; null: the file at `path`. May be called by several threads.
  std::function<absl::StatusOr<std::unique_ptr<Source>>()> open = nullptr;
  /// Whether `entry.layout` tells its segments, so that no parser is asked.
  bool has_layout = false;
  /// What its SHA-256 must turn out to be: else it has changed.
  std::optional<std::array<uint8_t, 32>> sha256 = std::nullopt;
  /// The file that it is of: entry.path, unless this is set.
  std::optional<std::string> file = std::nullopt;
};

/// What becomes of symbolic links: those that are followed are stored as what
/// they point to, once (no links are followed inside a directory that a link
/// led to); dangling ones stay links.
enum class Links : uint8_t { kKeep, kFollow, kFollowOutside };

/// A file as one entry, or a directory and all below it: the root first, then
/// each directory before what is in it, names in byte order. What is neither
/// file, directory nor link is left out with a warning. `path` itself is
/// followed if it is a link; with kFollowOutside so are those that lead out of
/// it.
absl::StatusOr<std::vector<Input>> ListInputs(const std::string& path,
                                              Links links,
                                              const WarningCallback& warning);

}  // namespace zipllm::archive

#endif  // ZIPLLM_ARCHIVE_INPUT_TREE_H_
