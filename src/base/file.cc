#include "base/file.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

namespace zipllm {
namespace {

// One call moves at most this much, so that progress and cancellation are never
// far away.
constexpr size_t kMaxTransfer = size_t{1} << 30;

class DescriptorSource : public Source {
 public:
  DescriptorSource(int fd, std::string name) : fd_(fd), name_(std::move(name)) {
    struct stat st;
    // From the middle of a file it is a stream like any other.
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
        lseek(fd, 0, SEEK_CUR) == 0) {
      size_ = static_cast<uint64_t>(st.st_size);
      posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    }
  }
  absl::StatusOr<size_t> Read(MutableByteSpan out) override {
    while (true) {
      ssize_t n = read(fd_, out.data(), std::min(out.size(), kMaxTransfer));
      if (n >= 0) return static_cast<size_t>(n);
      if (errno != EINTR) return ErrnoStatus(errno, "cannot read " + name_);
    }
  }
  std::optional<uint64_t> Size() const override { return size_; }
  bool Seekable() const override { return size_.has_value(); }
  absl::StatusOr<size_t> ReadAt(uint64_t offset, MutableByteSpan out) override {
    size_t done = 0;
    while (done < out.size()) {
      ssize_t n = pread(fd_, out.data() + done,
                        std::min(out.size() - done, kMaxTransfer),
                        static_cast<off_t>(offset + done));
      if (n == 0) break;
      if (n > 0) {
        done += static_cast<size_t>(n);
      } else if (errno != EINTR) {
        return ErrnoStatus(
            errno, StrCat("cannot read ", name_, " at byte ", offset + done));
      }
    }
    return done;
  }
  std::string Name() const override { return name_; }

 private:
  int fd_;
  std::string name_;
  std::optional<uint64_t> size_;
};

class FileSource : public DescriptorSource {
 public:
  FileSource(UniqueFd fd, const std::string& path)
      : DescriptorSource(fd.get(), path), owned_(std::move(fd)) {}

 private:
  UniqueFd owned_;
};

class MemorySource : public Source {
 public:
  MemorySource(ByteSpan data, std::string name)
      : data_(data), name_(std::move(name)) {}
  absl::StatusOr<size_t> Read(MutableByteSpan out) override {
    ASSIGN_OR_RETURN(size_t n, ReadAt(position_, out));
    position_ += n;
    return n;
  }
  std::optional<uint64_t> Size() const override { return data_.size(); }
  bool Seekable() const override { return true; }
  absl::StatusOr<size_t> ReadAt(uint64_t offset, MutableByteSpan out) override {
    if (offset >= data_.size()) return 0;
    size_t n = std::min<uint64_t>(out.size(), data_.size() - offset);
    if (n != 0) std::copy_n(data_.data() + offset, n, out.data());
    return n;
  }
  std::string Name() const override { return name_; }

 private:
  ByteSpan data_;
  std::string name_;
  uint64_t position_ = 0;
};

class DescriptorSink : public Sink {
 public:
  DescriptorSink(int fd, std::string name) : fd_(fd), name_(std::move(name)) {}
  absl::Status Write(ByteSpan data) override {
    return WriteAll(fd_, data, name_);
  }
  std::string Name() const override { return name_; }

 private:
  int fd_;
  std::string name_;
};

class MemorySink : public Sink {
 public:
  MemorySink(std::vector<uint8_t>* out, std::string name)
      : out_(out), name_(std::move(name)) {}
  absl::Status Write(ByteSpan data) override {
    out_->insert(out_->end(), data.begin(), data.end());
    return absl::OkStatus();
  }
  std::string Name() const override { return name_; }

 private:
  std::vector<uint8_t>* out_;
  std::string name_;
};

}  // namespace

absl::StatusOr<size_t> Source::ReadAt(uint64_t, MutableByteSpan) {
  return Unimplemented(Name(), " cannot be read at an offset (a pipe?)");
}

absl::StatusOr<std::unique_ptr<Source>> OpenFileSource(
    const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.ok()) return ErrnoStatus(errno, "cannot open " + path);
  struct stat st;
  if (fstat(fd.get(), &st) != 0)
    return ErrnoStatus(errno, "cannot look at " + path);
  if (S_ISDIR(st.st_mode)) return InvalidArgument(path, " is a directory");
  return MakeFileSource(std::move(fd), path);
}

std::unique_ptr<Source> MakeFileSource(UniqueFd fd, const std::string& name) {
  return std::make_unique<FileSource>(std::move(fd), name);
}
std::unique_ptr<Source> MakeDescriptorSource(int fd, std::string name) {
  return std::make_unique<DescriptorSource>(fd, std::move(name));
}
std::unique_ptr<Source> MakeMemorySource(ByteSpan data, std::string name) {
  return std::make_unique<MemorySource>(data, std::move(name));
}
std::unique_ptr<Sink> MakeDescriptorSink(int fd, std::string name) {
  return std::make_unique<DescriptorSink>(fd, std::move(name));
}
std::unique_ptr<Sink> MakeMemorySink(std::vector<uint8_t>* out,
                                     std::string name) {
  return std::make_unique<MemorySink>(out, std::move(name));
}

void UniqueFd::Reset(int fd) {
  if (fd_ >= 0) close(fd_);
  fd_ = fd;
}

absl::StatusOr<size_t> ReadFull(Source& in, MutableByteSpan out) {
  size_t done = 0;
  while (done < out.size()) {
    ASSIGN_OR_RETURN(size_t n, in.Read(out.subspan(done)));
    if (n == 0) break;
    done += n;
  }
  return done;
}

absl::Status ReadAtExactly(Source& in, uint64_t offset, MutableByteSpan out) {
  ASSIGN_OR_RETURN(size_t n, in.ReadAt(offset, out));
  if (n == out.size()) return absl::OkStatus();
  return DataLoss(in.Name(), " ends at byte ", offset + n, ", before byte ",
                  offset + out.size());
}

FileState StateOfFile(const std::string& path) {
  struct stat info;
  if (::stat(path.c_str(), &info) != 0) return {};
  return {info.st_dev, info.st_ino, static_cast<uint64_t>(info.st_size),
          info.st_mtim.tv_sec, info.st_mtim.tv_nsec};
}

absl::Status WriteAll(int fd, ByteSpan data, const std::string& name) {
  while (!data.empty()) {
    ssize_t n = write(fd, data.data(), std::min(data.size(), kMaxTransfer));
    if (n >= 0) {
      data = data.subspan(static_cast<size_t>(n));
    } else if (errno != EINTR) {
      return ErrnoStatus(errno, "cannot write " + name);
    }
  }
  return absl::OkStatus();
}

std::string TemporaryName(const std::string& name) {
  uint64_t random = 0;
  if (getrandom(&random, sizeof random, 0) != sizeof random) {
    random = static_cast<uint64_t>(getpid());
  }
  char suffix[32];
  std::snprintf(suffix, sizeof suffix, ".%016llx.tmp",
                static_cast<unsigned long long>(random));
  return "." + name.substr(0, 200) + suffix;  // a name has at most 255 bytes
}

AtomicFile::AtomicFile(UniqueFd fd, int dir_fd, std::string name,
                       std::string temporary, std::string display)
    : fd_(std::move(fd)),
      dir_fd_(dir_fd),
      name_(std::move(name)),
      temporary_(std::move(temporary)),
      display_(std::move(display)) {}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : fd_(std::move(other.fd_)),
      dir_fd_(other.dir_fd_),
      name_(std::move(other.name_)),
      temporary_(std::exchange(other.temporary_, {})),
      display_(std::move(other.display_)) {}

AtomicFile::~AtomicFile() {
  if (!temporary_.empty()) unlinkat(dir_fd_, temporary_.c_str(), 0);
}

absl::StatusOr<AtomicFile> AtomicFile::CreateAt(int dir_fd, std::string name,
                                                std::string display,
                                                mode_t mode) {
  UniqueFd fd(openat(dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, mode));
  std::string temporary;
  if (!fd.ok()) {  // EOPNOTSUPP, EISDIR or EINVAL by file system: the reason
                   // shows below
    temporary = TemporaryName(name);
    fd.Reset(openat(dir_fd, temporary.c_str(),
                    O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW, mode));
  }
  if (!fd.ok()) return ErrnoStatus(errno, "cannot create " + display);
  return AtomicFile(std::move(fd), dir_fd, std::move(name),
                    std::move(temporary), std::move(display));
}

absl::Status AtomicFile::Commit(bool overwrite, bool sync) {
  if (sync && fsync(fd_.get()) != 0)
    return ErrnoStatus(errno, "cannot sync " + display_);
  std::string self = StrCat("/proc/self/fd/", fd_.get());
  int failed = 0;
  if (overwrite) {
    // A nameless file cannot replace another: it gets a temporary name first.
    if (temporary_.empty()) {
      std::string temporary = TemporaryName(name_);
      failed = linkat(AT_FDCWD, self.c_str(), dir_fd_, temporary.c_str(),
                      AT_SYMLINK_FOLLOW);
      if (failed == 0) temporary_ = temporary;
    }
    if (failed == 0)
      failed = renameat(dir_fd_, temporary_.c_str(), dir_fd_, name_.c_str());
    if (failed == 0) temporary_.clear();
  } else if (temporary_.empty()) {
    failed = linkat(AT_FDCWD, self.c_str(), dir_fd_, name_.c_str(),
                    AT_SYMLINK_FOLLOW);
  } else {
    failed = linkat(dir_fd_, temporary_.c_str(), dir_fd_, name_.c_str(), 0);
    // A file system without hard links, as exFAT.
    if (failed != 0 && (errno == EPERM || errno == EOPNOTSUPP)) {
      failed = renameat2(dir_fd_, temporary_.c_str(), dir_fd_, name_.c_str(),
                         RENAME_NOREPLACE);
      if (failed == 0) temporary_.clear();
    }
  }
  if (failed != 0)
    return ErrnoStatus(errno, "cannot name the finished file " + display_);
  if (!temporary_.empty()) {
    unlinkat(dir_fd_, temporary_.c_str(), 0);
    temporary_.clear();
  }
  // EINVAL: a file system whose directories cannot be synced.
  if (sync && fsync(dir_fd_) != 0 && errno != EINVAL) {
    return ErrnoStatus(errno, "cannot sync the directory of " + display_);
  }
  return absl::OkStatus();
}

std::pair<std::string, std::string> SplitPath(const std::string& path) {
  std::string trimmed = path;
  while (trimmed.size() > 1 && trimmed.back() == '/') trimmed.pop_back();
  size_t slash = trimmed.rfind('/');
  if (slash == std::string::npos) return {".", trimmed};
  if (slash == 0) return {"/", trimmed.substr(1)};
  return {trimmed.substr(0, slash), trimmed.substr(slash + 1)};
}

absl::StatusOr<UniqueFd> OpenDirectory(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.ok()) return ErrnoStatus(errno, "cannot open directory " + path);
  return fd;
}

}  // namespace zipllm
