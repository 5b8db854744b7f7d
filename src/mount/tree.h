// What a mount shows: a tree of files that can be read at offsets.
#ifndef ZIPLLM_MOUNT_TREE_H_
#define ZIPLLM_MOUNT_TREE_H_

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "zipllm/archive.h"
#include "zipllm/store.h"

namespace zipllm::mount {

struct Node {
  EntryKind kind = EntryKind::kDirectory;
  /// 1 for the root. The same for what has the same place in the tree and, for
  /// a file or link, the same content; also after a remount. Others differ, but
  /// for collisions (NodeTable).
  uint64_t inode = 0;
  bool has_metadata = false;  ///< mode and mtime, as of Entry
  uint32_t mode = 0;
  int64_t mtime_seconds = 0;
  uint32_t mtime_nanoseconds = 0;
  uint64_t size = 0;                 ///< files only
  std::array<uint8_t, 32> sha256{};  ///< files only
  std::string link_target = {};      ///< links only
};

/// The node of an entry that stands at `path` of a tree.
Node MakeNode(const Entry& entry, const std::string& path);
/// A directory without metadata.
Node MakeFolder(const std::string& path);

/// A file, open. Thread-safe.
class File {
 public:
  virtual ~File() = default;
  virtual uint64_t size() const = 0;
  virtual const std::array<uint8_t, 32>& sha256() const = 0;
  /// The bytes that are decoded together with the one at `offset`: begin and
  /// end.
  virtual absl::StatusOr<std::pair<uint64_t, uint64_t>> BlockAt(
      uint64_t offset) const = 0;
  virtual absl::Status Read(uint64_t offset, MutableByteSpan out) const = 0;
};

/// Paths are parts joined by '/'; "" is the root. Thread-safe.
class Tree {
 public:
  virtual ~Tree() = default;
  /// NOT_FOUND.
  virtual absl::StatusOr<Node> Find(const std::string& path) = 0;
  /// Names in a directory, in order, with their nodes. NOT_FOUND.
  virtual absl::StatusOr<std::vector<std::pair<std::string, Node>>> List(
      const std::string& path) = 0;
  virtual absl::StatusOr<std::shared_ptr<const File>> Open(
      const std::string& path) = 0;
  /// About how many stored bytes a file takes.
  virtual absl::StatusOr<uint64_t> CodedSize(const std::string& path) = 0;
  /// Plain bytes and files in all, and stored bytes (0: not known).
  struct Totals {
    uint64_t plain_bytes = 0, files = 0, stored_bytes = 0;
  };
  virtual absl::StatusOr<Totals> Sum() = 0;
  /// For how long what it says of a path may be taken to hold.
  virtual std::chrono::milliseconds Validity() const = 0;
};

/// The entries of an archive. A file without a name is called `unnamed`.
std::unique_ptr<Tree> MakeArchiveTree(Archive archive,
                                      const std::string& unnamed = "content");
/// NAME/REVISION/files of a store; follows what is added and removed, within
/// `validity` (later where it takes long to list the models). A revision is
/// called @REVISION where another model's name has a folder of that name.
std::unique_ptr<Tree> MakeStoreTree(
    Store store, std::chrono::milliseconds validity = std::chrono::seconds(1));

}  // namespace zipllm::mount

#endif  // ZIPLLM_MOUNT_TREE_H_
