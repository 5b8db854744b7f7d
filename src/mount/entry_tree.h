#ifndef ZIPLLM_MOUNT_ENTRY_TREE_H_
#define ZIPLLM_MOUNT_ENTRY_TREE_H_

#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "mount/tree.h"

namespace zipllm::mount {

/// Looks up the entries of an archive or of a stored model by path.
/// Thread-compatible.
class EntryTree {
 public:
  /// `entries`, which must outlive it, are those of one tree, or files of
  /// several (archives that were concatenated): of those with one path the
  /// last counts. Nodes are those of the tree at `place`; a file without a name
  /// is called `unnamed`.
  EntryTree(const std::vector<Entry>& entries, std::string place,
            const std::string& unnamed);

  /// NOT_FOUND. Paths are those below `place`.
  absl::StatusOr<Node> Find(const std::string& path) const;
  absl::StatusOr<std::vector<std::pair<std::string, Node>>> List(
      const std::string& path) const;
  /// The number of the entry of a file.
  absl::StatusOr<size_t> FindFile(const std::string& path) const;

 private:
  static constexpr size_t kNoEntry = SIZE_MAX;
  struct Item {
    size_t entry = kNoEntry;         // none: a folder that no entry stands for
    std::vector<std::string> names;  // of what is in it
  };
  Node NodeOf(const std::string& path, const Item& item) const;

  const std::vector<Entry>& entries_;
  const std::string place_;
  std::unordered_map<std::string, Item> items_;
};

/// `a` and `b` joined by '/'; either may be empty.
std::string JoinPath(const std::string& a, const std::string& b);

}  // namespace zipllm::mount

#endif  // ZIPLLM_MOUNT_ENTRY_TREE_H_
