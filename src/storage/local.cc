#include "storage/local.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <ctime>
#include <mutex>
#include <set>
#include <string_view>
#include <thread>
#include <utility>

#include "base/file.h"
#include "base/hash.h"

namespace zipllm::storage {
namespace {

constexpr char kLockFile[] = ".lock";
constexpr std::string_view kTemporarySuffix = ".tmp";
constexpr std::chrono::seconds kLockTimeout{30};
constexpr std::chrono::microseconds kMaxLockWait{10000};
constexpr uint64_t kMaxMatched = uint64_t{64} << 20;  // bytes for PutIfMatch
constexpr int64_t kTemporarySeconds = 24 * 3600;
// File systems write back what changed longer ago than this by themselves
// (Linux: after half a minute, with much to write a few more).
constexpr int64_t kWriteBackSeconds = 3600;

template <typename Call>
int RetryInterrupted(Call call) {
  while (true) {
    const int result = call();
    if (result >= 0 || errno != EINTR) return result;
  }
}

// "a/b/c" is {"a/b", "c"}, "c" is {"", "c"}.
std::pair<std::string, std::string> SplitKey(const std::string& key) {
  const size_t slash = key.rfind('/');
  if (slash == std::string::npos) return {"", key};
  return {key.substr(0, slash), key.substr(slash + 1)};
}

// As openat2 does it below, for kernels (before 5.6) and sandboxes that have
// none. Paths have no "..", so that it is enough to follow no link.
int OpenPartByPart(int root, const std::string& path, int flags) {
  UniqueFd parent;
  size_t begin = 0;
  while (true) {
    const size_t slash = path.find('/', begin);
    const bool last = slash == std::string::npos;
    const std::string part = path.substr(begin, slash - begin);
    const int at = parent.ok() ? parent.get() : root;
    UniqueFd fd(RetryInterrupted([&] {
      return openat(
          at, part.c_str(),
          (last ? flags : O_PATH | O_DIRECTORY) | O_NOFOLLOW | O_CLOEXEC);
    }));
    if (!fd.ok()) return -1;
    if (last) return fd.Release();
    parent = std::move(fd);
    begin = slash + 1;
  }
}

// What is at `path`, a key's or "." for the root, reached through no link;
// -1 and errno.
int OpenBelow(int root, const std::string& path, int flags) {
  open_how how{};
  how.flags = static_cast<uint64_t>(flags | O_CLOEXEC);
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
  const int fd = RetryInterrupted([&] {
    return static_cast<int>(
        syscall(SYS_openat2, root, path.c_str(), &how, sizeof how));
  });
  // EPERM: what some sandboxes say of system calls that they do not know.
  if (fd >= 0 || (errno != ENOSYS && errno != EPERM)) return fd;
  return OpenPartByPart(root, path, flags);
}

std::string VersionOf(ByteSpan bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string version;
  for (uint8_t byte : Sha256Of(bytes)) {
    version += kDigits[byte >> 4];
    version += kDigits[byte & 15];
  }
  return version;
}

class LocalStorage;

class LocalUpload : public Upload {
 public:
  LocalUpload(LocalStorage& storage, Key key, UniqueFd folder, AtomicFile file)
      : storage_(storage),
        key_(std::move(key)),
        folder_(std::move(folder)),
        file_(std::move(file)) {}
  absl::Status Write(ByteSpan data) override {
    absl::Status written = WriteAll(file_.fd(), data, Name());
    if (!written.ok()) failed_ = true;
    return written;
  }
  absl::Status Commit() override;
  std::string Name() const override;

 private:
  LocalStorage& storage_;
  const Key key_;
  UniqueFd folder_;
  AtomicFile file_;
  bool failed_ = false;
};

class LocalStorage : public Storage {
 public:
  LocalStorage(std::string root, UniqueFd fd, bool sync)
      : root_(std::move(root)), fd_(std::move(fd)), sync_(sync) {}

  absl::StatusOr<std::unique_ptr<Source>> Open(const Key& key) const override {
    ASSIGN_OR_RETURN(UniqueFd file, OpenFile(key));
    return MakeFileSource(std::move(file), Path(key));
  }
  absl::StatusOr<Value> Get(const Key& key, uint64_t max_bytes) const override;
  absl::StatusOr<std::unique_ptr<Upload>> PutIfAbsent(const Key& key) override;
  absl::Status PutIfMatch(const Key& key, ByteSpan bytes,
                          const std::string& version) override;
  absl::StatusOr<std::vector<Info>> List(const Key& prefix) const override;
  absl::Status Delete(const Key& key) override;
  absl::Status Sync() override;
  absl::StatusOr<int64_t> NowSeconds() const override;
  std::string Name() const override { return root_; }

  std::string Path(const Key& key) const {
    return key.empty() ? root_ : root_ + "/" + key;
  }
  bool sync() const { return sync_; }
  // Sync has to sync this folder.
  void Changed(const std::string& folder) const {
    if (!sync_) return;
    std::lock_guard lock(mutex_);
    changed_.insert(folder);
  }

 private:
  absl::StatusOr<UniqueFd> OpenFile(const Key& key) const;
  absl::StatusOr<UniqueFd> OpenFolder(const std::string& folder) const {
    UniqueFd fd(OpenBelow(fd_.get(), folder.empty() ? "." : folder,
                          O_RDONLY | O_DIRECTORY));
    if (!fd.ok())
      return ErrnoStatus(errno, "cannot open directory " + Path(folder));
    return fd;
  }
  // Opens the folder of a key, making it and those above it.
  absl::StatusOr<UniqueFd> MakeFolder(const std::string& folder);
  absl::StatusOr<AtomicFile> NewFile(const UniqueFd& folder, const Key& key) {
    return AtomicFile::CreateAt(folder.get(), SplitKey(key).second, Path(key),
                                0666);
  }
  // Excludes other PutIfMatch and Delete until it is closed.
  absl::StatusOr<UniqueFd> Lock();
  absl::Status ListFolder(const std::string& folder, std::vector<Info>* found,
                          std::vector<std::string>* folders) const;

  const std::string root_;
  const UniqueFd fd_;
  const bool sync_;
  std::mutex syncing_;  // one Sync at a time: it returns when all is done
  mutable std::mutex mutex_;
  mutable std::set<std::string> changed_;
  // Folders that need no look any more: they are in those above them, which
  // were synced or are in changed_.
  std::set<std::string> made_;
};

std::string LocalUpload::Name() const { return storage_.Path(key_); }

absl::Status LocalUpload::Commit() {
  if (failed_) return Internal(Name(), " lacks what could not be written");
  if (storage_.sync() &&
      RetryInterrupted([&] { return fsync(file_.fd()); }) != 0)
    return ErrnoStatus(errno, "cannot sync " + Name());
  RETURN_IF_ERROR(file_.Commit(/*overwrite=*/false, /*sync=*/false));
  storage_.Changed(SplitKey(key_).first);
  return absl::OkStatus();
}

absl::StatusOr<UniqueFd> LocalStorage::OpenFile(const Key& key) const {
  RETURN_IF_ERROR(CheckKey(key));
  // Not waiting for what may be a FIFO.
  UniqueFd file(OpenBelow(fd_.get(), key, O_RDONLY | O_NONBLOCK));
  if (!file.ok()) return ErrnoStatus(errno, "cannot open " + Path(key));
  struct stat st;
  if (fstat(file.get(), &st) != 0)
    return ErrnoStatus(errno, "cannot look at " + Path(key));
  if (!S_ISREG(st.st_mode)) {
    return MakeStatus(absl::StatusCode::kNotFound, Path(key),
                      " is not a regular file");
  }
  return file;
}

absl::StatusOr<Value> LocalStorage::Get(const Key& key,
                                        uint64_t max_bytes) const {
  ASSIGN_OR_RETURN(UniqueFd file, OpenFile(key));
  struct stat st;
  if (fstat(file.get(), &st) != 0)
    return ErrnoStatus(errno, "cannot look at " + Path(key));
  const uint64_t size = static_cast<uint64_t>(st.st_size);
  if (size > max_bytes) {
    return ResourceExhausted(Path(key), " has ", size, " bytes; at most ",
                             max_bytes, " were expected");
  }
  Value value;
  value.bytes.resize(size);
  value.modified_seconds = st.st_mtim.tv_sec;
  std::unique_ptr<Source> source = MakeFileSource(std::move(file), Path(key));
  RETURN_IF_ERROR(ReadAtExactly(*source, 0, value.bytes));
  value.version = VersionOf(value.bytes);
  return value;
}

absl::StatusOr<UniqueFd> LocalStorage::MakeFolder(const std::string& folder) {
  bool made;
  {
    std::lock_guard lock(mutex_);
    made = made_.contains(folder);
  }
  if (made) {
    absl::StatusOr<UniqueFd> fd = OpenFolder(folder);
    if (fd.status().code() != absl::StatusCode::kNotFound) return fd;
  }
  ASSIGN_OR_RETURN(UniqueFd parent, OpenFolder(""));
  size_t begin = 0;
  while (begin < folder.size()) {
    const size_t end = std::min(folder.find('/', begin), folder.size());
    const std::string part = folder.substr(begin, end - begin);
    const std::string path = folder.substr(0, end);
    if (mkdirat(parent.get(), part.c_str(), 0777) != 0 && errno != EEXIST)
      return ErrnoStatus(errno, "cannot create directory " + Path(path));
    // Also one that is there: who made it may not have synced it.
    Changed(SplitKey(path).first);
    ASSIGN_OR_RETURN(parent, OpenFolder(path));
    begin = end + 1;
  }
  std::lock_guard lock(mutex_);
  made_.insert(folder);
  return parent;
}

absl::StatusOr<std::unique_ptr<Upload>> LocalStorage::PutIfAbsent(
    const Key& key) {
  RETURN_IF_ERROR(CheckKey(key));
  ASSIGN_OR_RETURN(UniqueFd folder, MakeFolder(SplitKey(key).first));
  ASSIGN_OR_RETURN(AtomicFile file, NewFile(folder, key));
  return std::make_unique<LocalUpload>(*this, key, std::move(folder),
                                       std::move(file));
}

absl::StatusOr<UniqueFd> LocalStorage::Lock() {
  const std::string path = Path(kLockFile);
  UniqueFd lock(RetryInterrupted([&] {
    return openat(fd_.get(), kLockFile,
                  O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
  }));
  if (!lock.ok()) return ErrnoStatus(errno, "cannot open " + path);
  const auto deadline = std::chrono::steady_clock::now() + kLockTimeout;
  for (std::chrono::microseconds wait{50};; wait *= 2) {
    if (flock(lock.get(), LOCK_EX | LOCK_NB) == 0) return lock;
    if (errno != EWOULDBLOCK && errno != EINTR) {
      return ErrnoStatus(errno, "cannot lock " + path +
                                    " (a store needs a file system with "
                                    "flock)");
    }
    if (std::chrono::steady_clock::now() > deadline) {
      return MakeStatus(absl::StatusCode::kUnavailable, path,
                        " is locked for too long: look for a process of this "
                        "store that was stopped");
    }
    std::this_thread::sleep_for(std::min(wait, kMaxLockWait));
  }
}

absl::Status LocalStorage::PutIfMatch(const Key& key, ByteSpan bytes,
                                      const std::string& version) {
  RETURN_IF_ERROR(CheckKey(key));
  const std::string folder_path = SplitKey(key).first;
  ASSIGN_OR_RETURN(UniqueFd folder, MakeFolder(folder_path));
  ASSIGN_OR_RETURN(AtomicFile file, NewFile(folder, key));
  RETURN_IF_ERROR(WriteAll(file.fd(), bytes, Path(key)));
  if (sync_ && RetryInterrupted([&] { return fsync(file.fd()); }) != 0)
    return ErrnoStatus(errno, "cannot sync " + Path(key));

  ASSIGN_OR_RETURN(UniqueFd lock, Lock());
  absl::StatusOr<Value> old = Get(key, kMaxMatched);
  if (!old.ok() && old.status().code() != absl::StatusCode::kNotFound)
    return old.status();
  if ((old.ok() ? old->version : "") != version) {
    return MakeStatus(absl::StatusCode::kAborted, Path(key),
                      " was changed by another process");
  }
  absl::Status named = file.Commit(/*overwrite=*/old.ok(), /*sync=*/false);
  // By PutIfAbsent, which takes no lock.
  if (named.code() == absl::StatusCode::kAlreadyExists) {
    return MakeStatus(absl::StatusCode::kAborted, Path(key),
                      " was made by another process");
  }
  if (named.ok()) Changed(folder_path);
  return named;
}

absl::Status LocalStorage::ListFolder(const std::string& folder,
                                      std::vector<Info>* found,
                                      std::vector<std::string>* folders) const {
  absl::StatusOr<UniqueFd> fd = OpenFolder(folder);
  if (!fd.ok()) {
    if (fd.status().code() == absl::StatusCode::kNotFound)
      return absl::OkStatus();
    return fd.status();
  }
  struct stat st;
  const int64_t now = time(nullptr);
  if (fstat(fd->get(), &st) == 0 &&
      st.st_mtim.tv_sec > now - kWriteBackSeconds) {
    Changed(folder);
  }
  struct Close {
    void operator()(DIR* stream) const { closedir(stream); }
  };
  std::unique_ptr<DIR, Close> stream(fdopendir(fd->get()));
  if (stream == nullptr)
    return ErrnoStatus(errno, "cannot read directory " + Path(folder));
  const int at = fd->Release();  // the stream's now
  while (true) {
    errno = 0;
    const dirent* entry = readdir(stream.get());
    if (entry == nullptr) {
      if (errno == 0) return absl::OkStatus();
      return ErrnoStatus(errno, "cannot read directory " + Path(folder));
    }
    const std::string name = entry->d_name;
    const Key key = folder.empty() ? name : folder + "/" + name;
    const bool temporary =
        name[0] == '.' && std::string_view(name).ends_with(kTemporarySuffix);
    if (!temporary && !CheckKey(name).ok()) continue;
    // Gone meanwhile, or one of another's.
    if (fstatat(at, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) continue;
    if (temporary) {
      if (S_ISREG(st.st_mode) && st.st_mtim.tv_sec < now - kTemporarySeconds)
        unlinkat(at, name.c_str(), 0);
    } else if (S_ISDIR(st.st_mode)) {
      folders->push_back(key);
    } else if (S_ISREG(st.st_mode)) {
      found->push_back({.key = key,
                        .size = static_cast<uint64_t>(st.st_size),
                        .modified_seconds = st.st_mtim.tv_sec});
    }
  }
}

absl::StatusOr<std::vector<Info>> LocalStorage::List(const Key& prefix) const {
  RETURN_IF_ERROR(CheckPrefix(prefix));
  std::vector<Info> found;
  std::vector<std::string> folders = {SplitKey(prefix).first};
  while (!folders.empty()) {
    const std::string folder = std::move(folders.back());
    folders.pop_back();
    RETURN_IF_ERROR(ListFolder(folder, &found, &folders));
  }
  std::ranges::sort(found, {}, &Info::key);
  return found;
}

absl::Status LocalStorage::Delete(const Key& key) {
  RETURN_IF_ERROR(CheckKey(key));
  const auto [folder_path, name] = SplitKey(key);
  ASSIGN_OR_RETURN(UniqueFd folder, OpenFolder(folder_path));
  ASSIGN_OR_RETURN(UniqueFd lock, Lock());
  if (unlinkat(folder.get(), name.c_str(), 0) != 0)
    return ErrnoStatus(errno, "cannot delete " + Path(key));
  Changed(folder_path);
  return absl::OkStatus();
}

absl::Status LocalStorage::Sync() {
  std::lock_guard syncing(syncing_);
  std::set<std::string> changed;
  {
    std::lock_guard lock(mutex_);
    changed.swap(changed_);
  }
  absl::Status status;
  while (!changed.empty()) {
    absl::StatusOr<UniqueFd> folder = OpenFolder(*changed.begin());
    if (folder.ok()) {
      // EINVAL: a file system whose directories cannot be synced.
      if (RetryInterrupted([&] { return fsync(folder->get()); }) != 0 &&
          errno != EINVAL) {
        status = ErrnoStatus(errno,
                             "cannot sync directory " + Path(*changed.begin()));
        break;
      }
    } else if (folder.status().code() != absl::StatusCode::kNotFound) {
      status = folder.status();
      break;
    }
    changed.erase(changed.begin());
  }
  std::lock_guard lock(mutex_);
  changed_.merge(changed);
  return status;
}

absl::StatusOr<int64_t> LocalStorage::NowSeconds() const {
  // A network file system has the clock of its server.
  absl::StatusOr<AtomicFile> file =
      AtomicFile::CreateAt(fd_.get(), "now", Path("now"));
  struct stat st;
  if (file.ok() && fstat(file->fd(), &st) == 0) return st.st_mtim.tv_sec;
  return time(nullptr);  // read-only, or full
}

}  // namespace

absl::StatusOr<std::unique_ptr<Storage>> OpenLocalStorage(
    const std::string& root, bool sync) {
  ASSIGN_OR_RETURN(UniqueFd fd, OpenDirectory(root));
  return std::make_unique<LocalStorage>(root, std::move(fd), sync);
}

}  // namespace zipllm::storage
