#ifndef ZIPLLM_MOUNT_NODE_TABLE_H_
#define ZIPLLM_MOUNT_NODE_TABLE_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "mount/tree.h"

namespace zipllm::mount {

/// The nodes that the kernel knows, by inode. Of two with one inode (hashes
/// may collide) the later gets another number. Thread-safe.
class NodeTable {
 public:
  struct Known {
    std::string path;
    Node node;  ///< with the inode that it has here
    /// Stands for its content: never used again for another's.
    uint64_t id = 0;
  };

  explicit NodeTable(Node root) {
    const uint64_t inode = root.inode;
    Slot& slot = slots_[inode];
    slot.known = {.path = "", .node = std::move(root), .id = next_id_++};
    slot.lookups = 1;
  }

  /// One more look-up of `node`, which stands at `path`.
  Known Add(const std::string& path, Node node) {
    std::lock_guard lock(mutex_);
    for (;; node.inode = std::max<uint64_t>(node.inode + 1, 2)) {
      const auto [place, is_new] = slots_.try_emplace(node.inode);
      Slot& slot = place->second;
      if (is_new) {
        slot.known.path = path;
        slot.known.id = next_id_++;
      } else if (!IsSame(slot.known, path, node)) {
        continue;
      }
      slot.known.node = std::move(node);  // its mode may have changed
      ++slot.lookups;
      return slot.known;
    }
  }
  std::optional<Known> Find(uint64_t inode) const {
    std::lock_guard lock(mutex_);
    const auto slot = slots_.find(inode);
    if (slot == slots_.end()) return std::nullopt;
    return slot->second.known;
  }
  /// The kernel forgets so many look-ups.
  void Forget(uint64_t inode, uint64_t lookups) {
    std::lock_guard lock(mutex_);
    const auto slot = slots_.find(inode);
    if (slot == slots_.end() || slot->second.known.path.empty()) return;
    if (slot->second.lookups > lookups) {
      slot->second.lookups -= lookups;
    } else {
      slots_.erase(slot);
    }
  }
  /// Remembers a file that has the content of a node, while it is open.
  void SetFile(uint64_t inode, const std::shared_ptr<const File>& file) {
    std::lock_guard lock(mutex_);
    const auto slot = slots_.find(inode);
    if (slot != slots_.end()) slot->second.file = file;
  }
  /// Null if it is not open.
  std::shared_ptr<const File> OpenFile(uint64_t inode) const {
    std::lock_guard lock(mutex_);
    const auto slot = slots_.find(inode);
    return slot == slots_.end() ? nullptr : slot->second.file.lock();
  }

 private:
  struct Slot {
    Known known;
    uint64_t lookups = 0;
    std::weak_ptr<const File> file;
  };
  static bool IsSame(const Known& known, const std::string& path,
                     const Node& node) {
    return known.path == path && known.node.kind == node.kind &&
           known.node.size == node.size && known.node.sha256 == node.sha256 &&
           known.node.link_target == node.link_target;
  }

  mutable std::mutex mutex_;
  std::unordered_map<uint64_t, Slot> slots_;
  uint64_t next_id_ = 1;
};

}  // namespace zipllm::mount

#endif  // ZIPLLM_MOUNT_NODE_TABLE_H_
