#include "mount/entry_tree.h"

#include <algorithm>
#include <cstring>

#include "base/hash.h"

namespace zipllm::mount {
namespace {

constexpr uint64_t kRootInode = 1;

uint64_t InodeOf(const std::string& path, EntryKind kind, ByteSpan content) {
  if (path.empty()) return kRootInode;
  Sha256 hash;
  hash.Update({reinterpret_cast<const uint8_t*>(path.data()), path.size()});
  const uint8_t tail[2] = {0, static_cast<uint8_t>(kind)};
  hash.Update(tail);
  hash.Update(content);
  const Sha256Digest digest = hash.Finish();
  uint64_t inode = 0;
  for (size_t i = 0; i < 8; ++i) inode |= uint64_t{digest[i]} << (8 * i);
  return std::max(inode, kRootInode + 1);
}

absl::Status NotFound(const std::string& path) {
  return absl::NotFoundError("nothing is called " + path);
}

}  // namespace

Node MakeNode(const Entry& entry, const std::string& path) {
  Node node = {.kind = entry.kind,
               .has_metadata = entry.has_metadata,
               .mode = entry.mode,
               .mtime_seconds = entry.mtime_seconds,
               .mtime_nanoseconds = entry.mtime_nanoseconds};
  ByteSpan content;
  if (entry.kind == EntryKind::kFile) {
    node.size = entry.size;
    node.sha256 = entry.sha256;
    content = node.sha256;
  } else if (entry.kind == EntryKind::kSymlink) {
    node.link_target = entry.link_target;
    content = {reinterpret_cast<const uint8_t*>(node.link_target.data()),
               node.link_target.size()};
  }
  node.inode = InodeOf(path, entry.kind, content);
  return node;
}

Node MakeFolder(const std::string& path) {
  return {.kind = EntryKind::kDirectory,
          .inode = InodeOf(path, EntryKind::kDirectory, {})};
}

std::string JoinPath(const std::string& a, const std::string& b) {
  return a.empty() || b.empty() ? a + b : a + "/" + b;
}

EntryTree::EntryTree(const std::vector<Entry>& entries, std::string place,
                     const std::string& unnamed)
    : entries_(entries), place_(std::move(place)) {
  items_.try_emplace("");
  for (size_t i = 0; i < entries.size(); ++i) {
    const bool is_unnamed =
        entries[i].kind != EntryKind::kDirectory && entries[i].path.empty();
    std::string path = is_unnamed ? unnamed : entries[i].path;
    items_[path].entry = i;
    // Its name to the folder that it is in, that one's to the next, until one
    // is known.
    while (!path.empty()) {
      const size_t slash = path.rfind('/');
      const std::string parent =
          slash == std::string::npos ? "" : path.substr(0, slash);
      const bool is_new = !items_.contains(parent);
      items_[parent].names.push_back(
          slash == std::string::npos ? path : path.substr(slash + 1));
      if (!is_new) break;
      path = parent;
    }
  }
  for (auto& [path, item] : items_) {
    std::ranges::sort(item.names);
    item.names.erase(std::unique(item.names.begin(), item.names.end()),
                     item.names.end());
    // What concatenated archives have as a file and as a folder is a folder.
    if (!item.names.empty() && item.entry != kNoEntry &&
        entries[item.entry].kind != EntryKind::kDirectory) {
      item.entry = kNoEntry;
    }
  }
}

Node EntryTree::NodeOf(const std::string& path, const Item& item) const {
  const std::string full = JoinPath(place_, path);
  return item.entry == kNoEntry ? MakeFolder(full)
                                : MakeNode(entries_[item.entry], full);
}

absl::StatusOr<Node> EntryTree::Find(const std::string& path) const {
  const auto item = items_.find(path);
  if (item == items_.end()) return NotFound(path);
  return NodeOf(path, item->second);
}

absl::StatusOr<std::vector<std::pair<std::string, Node>>> EntryTree::List(
    const std::string& path) const {
  const auto item = items_.find(path);
  if (item == items_.end()) return NotFound(path);
  std::vector<std::pair<std::string, Node>> list;
  for (const std::string& name : item->second.names) {
    const std::string child = JoinPath(path, name);
    list.emplace_back(name, NodeOf(child, items_.at(child)));
  }
  return list;
}

absl::StatusOr<size_t> EntryTree::FindFile(const std::string& path) const {
  const auto item = items_.find(path);
  if (item == items_.end() || item->second.entry == kNoEntry ||
      entries_[item->second.entry].kind != EntryKind::kFile) {
    return NotFound(path);
  }
  return item->second.entry;
}

}  // namespace zipllm::mount
