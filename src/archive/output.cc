#include "archive/output.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <optional>
#include <tuple>
#include <vector>

#include "base/file.h"

namespace zipllm::archive {
namespace {

class SinkOutput : public Output {
 public:
  explicit SinkOutput(Sink* sink) : sink_(sink) {}
  absl::Status Begin(const Entry&) override { return absl::OkStatus(); }
  absl::Status Write(ByteSpan data) override {
    return sink_ == nullptr ? absl::OkStatus() : sink_->Write(data);
  }
  absl::Status EndFile() override { return absl::OkStatus(); }
  absl::Status Finish() override { return absl::OkStatus(); }

 private:
  Sink* sink_;
};

// The directory `path` ("" for the root itself) below `root`, reached through
// no link.
absl::StatusOr<UniqueFd> OpenBelow(int root, const std::string& path,
                                   const std::string& display) {
  open_how how{};
  how.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
  const char* relative = path.empty() ? "." : path.c_str();
  UniqueFd fd(
      static_cast<int>(syscall(SYS_openat2, root, relative, &how, sizeof how)));
  if (!fd.ok())
    return ErrnoStatus(errno, "cannot open directory " + display + "/" + path);
  return fd;
}

struct timespec TimeOf(const Entry& entry) {
  return {.tv_sec = entry.mtime_seconds,
          .tv_nsec = static_cast<long>(entry.mtime_nanoseconds)};
}

// Private until the recorded mode is set; without one, what the umask leaves.
mode_t CreationMode(const Entry& entry) {
  if (entry.kind == EntryKind::kDirectory) {
    return entry.has_metadata ? 0700 : 0777;
  }
  return entry.has_metadata ? 0600 : 0666;
}

class PathOutput : public Output {
 public:
  PathOutput(const std::string& target, bool overwrite, bool sync,
             std::function<void(const std::string&)> warning)
      : target_(target),
        overwrite_(overwrite),
        sync_(sync),
        warning_(std::move(warning)) {
    std::tie(folder_, name_) = SplitPath(target);
  }
  ~PathOutput() override {
    file_.reset();
    if (!fresh_tree_.empty()) {
      // Complete files of an incomplete tree: the directory was ours alone.
      std::error_code ignored;
      std::filesystem::remove_all(folder_ + "/" + fresh_tree_, ignored);
    }
  }

  absl::Status Begin(const Entry& entry) override;
  absl::Status Write(ByteSpan data) override {
    return WriteAll(file_->fd(), data, display_);
  }
  absl::Status EndFile() override;
  absl::Status Finish() override;

 private:
  absl::Status Start(const Entry& first);
  absl::Status StartTree(bool fresh, mode_t mode);
  absl::StatusOr<int> ParentOf(const std::string& path);
  absl::Status SetMetadata(int fd, const Entry& entry);
  absl::Status RefuseIfThere(int dir, const std::string& name);
  absl::Status MakeLink(const Entry& entry);

  const std::string target_;
  const bool overwrite_;
  const bool sync_;
  const std::function<void(const std::string&)> warning_;
  std::string folder_;  // the directory that holds the target
  std::string name_;    // the target's name in it
  UniqueFd folder_fd_;
  bool started_ = false;
  bool single_ = false;      // the target is a file
  UniqueFd root_;            // the target, if it is a directory
  std::string fresh_tree_;   // its temporary name in folder_, if this made it
  std::string parent_path_;  // the directory opened last
  UniqueFd parent_;
  std::optional<AtomicFile> file_;
  Entry entry_;
  std::string display_;
  std::vector<Entry> directories_;
  std::vector<Entry> links_;
};

absl::Status PathOutput::StartTree(bool fresh, mode_t mode) {
  if (fresh) {
    fresh_tree_ = TemporaryName(name_);
    if (mkdirat(folder_fd_.get(), fresh_tree_.c_str(), mode) != 0) {
      fresh_tree_.clear();
      return ErrnoStatus(errno, "cannot create directory " + target_);
    }
  }
  ASSIGN_OR_RETURN(
      root_, OpenBelow(folder_fd_.get(), fresh ? fresh_tree_ : name_, folder_));
  return absl::OkStatus();
}

absl::Status PathOutput::Start(const Entry& first) {
  started_ = true;
  if (name_.empty() || name_ == "." || name_ == ".." || name_ == "/") {
    // A directory without a name of its own: it is there, and is not to be
    // replaced.
    ASSIGN_OR_RETURN(root_, OpenDirectory(target_));
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(folder_fd_, OpenDirectory(folder_));
  struct stat st;
  bool exists =
      fstatat(folder_fd_.get(), name_.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0;
  bool is_directory = exists && S_ISDIR(st.st_mode);
  bool tree = first.kind == EntryKind::kDirectory && first.path.empty();
  if (exists && S_ISLNK(st.st_mode) && (tree || !overwrite_)) {
    return absl::AlreadyExistsError(target_ +
                                    " is a link: name another target");
  }
  if (tree) {
    if (exists && !is_directory)
      return absl::AlreadyExistsError(target_ + " exists and is no directory");
    if (exists && !overwrite_)
      return absl::AlreadyExistsError(target_ + " exists already");
    return StartTree(!exists, CreationMode(first));
  }
  bool wants_directory = target_.size() > 1 && target_.back() == '/';
  if (is_directory || wants_directory) return StartTree(!exists, 0777);
  single_ = true;
  return RefuseIfThere(folder_fd_.get(), name_);
}

absl::Status PathOutput::RefuseIfThere(int dir, const std::string& name) {
  struct stat st;
  if (overwrite_ || fstatat(dir, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
    return absl::OkStatus();
  }
  return absl::AlreadyExistsError((single_ ? target_ : target_ + "/" + name) +
                                  " exists already");
}

absl::StatusOr<int> PathOutput::ParentOf(const std::string& path) {
  size_t slash = path.rfind('/');
  std::string parent = slash == std::string::npos ? "" : path.substr(0, slash);
  if (!parent_.ok() || parent != parent_path_) {
    ASSIGN_OR_RETURN(parent_, OpenBelow(root_.get(), parent, target_));
    parent_path_ = parent;
  }
  return parent_.get();
}

absl::Status PathOutput::Begin(const Entry& entry) {
  if (!started_) {
    RETURN_IF_ERROR(Start(entry));
  } else if (single_) {
    return MakeStatus(absl::StatusCode::kFailedPrecondition,
                      "the archive holds more than one file: name a directory "
                      "that is there as target");
  }
  if (entry.path.empty() && entry.kind == EntryKind::kDirectory) {
    directories_.push_back(entry);
    return absl::OkStatus();
  }
  if (entry.path.empty() && !single_) {
    return MakeStatus(
        absl::StatusCode::kFailedPrecondition,
        "the archive holds a file without a name: name a file as target");
  }
  if (entry.kind == EntryKind::kSymlink) {
    links_.push_back(entry);
    return absl::OkStatus();
  }
  if (single_) {
    display_ = target_;
    ASSIGN_OR_RETURN(AtomicFile file,
                     AtomicFile::CreateAt(folder_fd_.get(), name_, display_,
                                          CreationMode(entry)));
    file_.emplace(std::move(file));
    entry_ = entry;
    return absl::OkStatus();
  }
  display_ = target_ + "/" + entry.path;
  ASSIGN_OR_RETURN(int parent, ParentOf(entry.path));
  std::string name = SplitPath(entry.path).second;
  if (entry.kind == EntryKind::kDirectory) {
    if (mkdirat(parent, name.c_str(), CreationMode(entry)) != 0 &&
        !(errno == EEXIST && overwrite_)) {
      return ErrnoStatus(errno, "cannot create directory " + display_);
    }
    directories_.push_back(entry);
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(RefuseIfThere(parent, name));
  ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::CreateAt(parent, name, display_,
                                                         CreationMode(entry)));
  file_.emplace(std::move(file));
  entry_ = entry;
  return absl::OkStatus();
}

absl::Status PathOutput::SetMetadata(int fd, const Entry& entry) {
  if (!entry.has_metadata) return absl::OkStatus();
  if ((entry.mode & ~0777U) != 0 && warning_) {
    warning_(display_ + ": set-id and sticky bits are not restored");
  }
  if (fchmod(fd, entry.mode & 0777) != 0)
    return ErrnoStatus(errno, "cannot set the mode of " + display_);
  struct timespec times[2] = {{.tv_sec = 0, .tv_nsec = UTIME_OMIT},
                              TimeOf(entry)};
  if (futimens(fd, times) != 0)
    return ErrnoStatus(errno, "cannot set the time of " + display_);
  return absl::OkStatus();
}

absl::Status PathOutput::EndFile() {
  RETURN_IF_ERROR(SetMetadata(file_->fd(), entry_));
  if (single_) return absl::OkStatus();  // named when the archive proves whole
  // Files of a fresh tree are synced together, before the tree gets its name.
  RETURN_IF_ERROR(file_->Commit(overwrite_, sync_ && fresh_tree_.empty()));
  file_.reset();
  return absl::OkStatus();
}

absl::Status PathOutput::MakeLink(const Entry& entry) {
  display_ = target_ + "/" + entry.path;
  ASSIGN_OR_RETURN(int parent, ParentOf(entry.path));
  std::string name = SplitPath(entry.path).second;
  RETURN_IF_ERROR(RefuseIfThere(parent, name));
  if (overwrite_) unlinkat(parent, name.c_str(), 0);
  if (symlinkat(entry.link_target.c_str(), parent, name.c_str()) != 0) {
    return ErrnoStatus(errno, "cannot create the link " + display_);
  }
  struct timespec times[2] = {{.tv_sec = 0, .tv_nsec = UTIME_OMIT},
                              TimeOf(entry)};
  if (entry.has_metadata)
    utimensat(parent, name.c_str(), times, AT_SYMLINK_NOFOLLOW);
  return absl::OkStatus();
}

absl::Status PathOutput::Finish() {
  if (single_) return file_->Commit(overwrite_, sync_);
  if (!root_.ok()) return absl::OkStatus();
  for (const Entry& link : links_) RETURN_IF_ERROR(MakeLink(link));
  parent_.Reset();
  // Innermost first: setting what is inside changes the time of what is around
  // it.
  for (auto entry = directories_.rbegin(); entry != directories_.rend();
       ++entry) {
    display_ = target_ + "/" + entry->path;
    ASSIGN_OR_RETURN(UniqueFd fd, OpenBelow(root_.get(), entry->path, target_));
    RETURN_IF_ERROR(SetMetadata(fd.get(), *entry));
  }
  if (fresh_tree_.empty()) return absl::OkStatus();
  if (sync_ && syncfs(root_.get()) != 0)
    return ErrnoStatus(errno, "cannot sync " + target_);
  if (renameat2(folder_fd_.get(), fresh_tree_.c_str(), folder_fd_.get(),
                name_.c_str(), RENAME_NOREPLACE) != 0) {
    return ErrnoStatus(errno, "cannot name the finished directory " + target_);
  }
  fresh_tree_.clear();
  if (sync_ && fsync(folder_fd_.get()) != 0 && errno != EINVAL) {
    return ErrnoStatus(errno, "cannot sync the directory of " + target_);
  }
  return absl::OkStatus();
}

}  // namespace

std::unique_ptr<Output> MakeSinkOutput(Sink* sink) {
  return std::make_unique<SinkOutput>(sink);
}

std::unique_ptr<Output> MakePathOutput(
    const std::string& target, bool overwrite, bool sync,
    std::function<void(const std::string&)> warning) {
  return std::make_unique<PathOutput>(target, overwrite, sync,
                                      std::move(warning));
}

}  // namespace zipllm::archive
