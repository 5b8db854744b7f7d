#ifndef ZIPLLM_ARCHIVE_INPUT_TREE_H_
#define ZIPLLM_ARCHIVE_INPUT_TREE_H_

#include <string>
#include <vector>

#include "base/status.h"
#include "zipllm/archive.h"
#include "zipllm/options.h"

namespace zipllm::archive {

/// One thing to put into an archive.
struct Input {
  std::string path;  ///< where it lies
  Entry entry;  ///< how the archive calls it; `size` is what it had when it was
                ///< looked at
};

/// A file as one entry, or a directory and all below it: the root first, then
/// each directory before what is in it, names in byte order. What is neither
/// file, directory nor link is left out with a warning. `path` itself is
/// followed if it is a link.
absl::StatusOr<std::vector<Input>> ListInputs(const std::string& path,
                                              bool follow_symlinks,
                                              const WarningCallback& warning);

}  // namespace zipllm::archive

#endif  // ZIPLLM_ARCHIVE_INPUT_TREE_H_
