#include "archive/input_tree.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>

#include "base/file.h"
#include "container/format.h"

namespace zipllm::archive {
namespace {

void TakeMetadata(const struct stat& st, Entry* entry) {
  entry->has_metadata = true;
  entry->mode = st.st_mode & 07777;
  entry->mtime_seconds = st.st_mtim.tv_sec;
  entry->mtime_nanoseconds = static_cast<uint32_t>(st.st_mtim.tv_nsec);
}

absl::StatusOr<std::string> ReadLink(const std::string& path) {
  std::string target(container::kMaxPath + 1, '\0');
  ssize_t n = readlink(path.c_str(), target.data(), target.size());
  if (n < 0) return ErrnoStatus(errno, "cannot read the link " + path);
  target.resize(static_cast<size_t>(n));
  if (target.size() > container::kMaxPath) {
    return InvalidArgument("the target of the link ", path, " is too long");
  }
  return target;
}

absl::StatusOr<std::vector<std::string>> SortedNames(const std::string& path) {
  std::unique_ptr<DIR, int (*)(DIR*)> dir(opendir(path.c_str()), closedir);
  if (dir == nullptr)
    return ErrnoStatus(errno, "cannot open directory " + path);
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* item = readdir(dir.get())) {
    std::string name = item->d_name;
    if (name != "." && name != "..") names.push_back(std::move(name));
    errno = 0;
  }
  if (errno != 0) return ErrnoStatus(errno, "cannot read directory " + path);
  std::sort(names.begin(), names.end());
  return names;
}

absl::StatusOr<std::string> RealPath(const std::string& path) {
  const std::unique_ptr<char, void (*)(void*)> real(
      realpath(path.c_str(), nullptr), free);
  if (real == nullptr) return ErrnoStatus(errno, "cannot look at " + path);
  return std::string(real.get());
}

// Whether the link `path` names something in the directory `root`: perhaps
// another link that leads out.
bool IsInside(const std::string& root, const std::string& path) {
  const absl::StatusOr<std::string> target = ReadLink(path);
  if (!target.ok()) return false;
  const std::string named = target->starts_with('/')
                                ? *target
                                : SplitPath(path).first + "/" + *target;
  const absl::StatusOr<std::string> folder = RealPath(SplitPath(named).first);
  if (!folder.ok()) return false;
  const std::string whole = *folder + "/" + SplitPath(named).second;
  return root == "/" || *folder == root ||
         whole.compare(0, root.size() + 1, root + "/") == 0;
}

// A directory or file still to be looked at.
struct Pending {
  std::string path;
  std::string name;  // in the archive
  bool follow;
};

}  // namespace

absl::StatusOr<std::vector<Input>> ListInputs(const std::string& path,
                                              Links links,
                                              const WarningCallback& warning) {
  struct stat root;
  if (stat(path.c_str(), &root) != 0)
    return ErrnoStatus(errno, "cannot look at " + path);
  std::vector<Input> inputs;
  if (!S_ISDIR(root.st_mode)) {
    Input input{path, {}};
    input.entry.path = SplitPath(path).second;
    if (S_ISREG(root.st_mode)) {
      TakeMetadata(root, &input.entry);
      input.entry.size = static_cast<uint64_t>(root.st_size);
    }
    RETURN_IF_ERROR(container::CheckPath(input.entry.path, EntryKind::kFile));
    inputs.push_back(std::move(input));
    return inputs;
  }
  std::string real_root;
  if (links == Links::kFollowOutside) {
    ASSIGN_OR_RETURN(real_root, RealPath(path));
  }
  std::vector<Pending> pending = {{path, "", links != Links::kKeep}};
  while (!pending.empty()) {
    Pending item = std::move(pending.back());
    pending.pop_back();
    Input input{item.path, {}};
    input.entry.path = item.name;
    struct stat st;
    bool is_root = item.name.empty();
    int failed = is_root || item.follow ? stat(item.path.c_str(), &st)
                                        : lstat(item.path.c_str(), &st);
    bool followed = false;
    if (!is_root && item.follow) {
      struct stat link;
      if (lstat(item.path.c_str(), &link) != 0) {
        return ErrnoStatus(errno, "cannot look at " + item.path);
      }
      followed = S_ISLNK(link.st_mode);
      // A dangling link is kept as a link.
      if (followed && (failed != 0 || (links == Links::kFollowOutside &&
                                       IsInside(real_root, item.path)))) {
        st = link;
        failed = 0;
      }
    }
    if (failed != 0) return ErrnoStatus(errno, "cannot look at " + item.path);
    if (!is_root)
      RETURN_IF_ERROR(container::CheckPath(item.name, EntryKind::kFile));
    TakeMetadata(st, &input.entry);
    if (S_ISDIR(st.st_mode)) {
      input.entry.kind = EntryKind::kDirectory;
      ASSIGN_OR_RETURN(std::vector<std::string> names, SortedNames(item.path));
      // Links are followed once: not again inside a directory that a link led
      // to.
      bool follow = item.follow && !followed;
      for (auto name = names.rbegin(); name != names.rend(); ++name) {
        pending.push_back({item.path + "/" + *name,
                           is_root ? *name : item.name + "/" + *name, follow});
      }
    } else if (S_ISLNK(st.st_mode)) {
      input.entry.kind = EntryKind::kSymlink;
      ASSIGN_OR_RETURN(input.entry.link_target, ReadLink(item.path));
    } else if (S_ISREG(st.st_mode)) {
      input.entry.size = static_cast<uint64_t>(st.st_size);
    } else {
      if (warning)
        warning(item.path + ": left out, it is a socket, FIFO or device");
      continue;
    }
    inputs.push_back(std::move(input));
  }
  return inputs;
}

}  // namespace zipllm::archive
