// Files: descriptors that close themselves, reads and writes that finish, and
// outputs that appear under their name only when complete.
#ifndef ZIPLLM_BASE_FILE_H_
#define ZIPLLM_BASE_FILE_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <utility>

#include "base/status.h"
#include "zipllm/io.h"

namespace zipllm {

/// Owns a descriptor.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    Reset(std::exchange(other.fd_, -1));
    return *this;
  }
  ~UniqueFd() { Reset(); }
  int get() const { return fd_; }
  bool ok() const { return fd_ >= 0; }
  void Reset(int fd = -1);
  /// The descriptor is the caller's now.
  int Release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

/// Reads until `out` is full or the source ends; returns how many bytes.
absl::StatusOr<size_t> ReadFull(Source& in, MutableByteSpan out);
/// Reads exactly `out.size()` bytes at `offset`; DATA_LOSS where the source
/// ends before.
absl::Status ReadAtExactly(Source& in, uint64_t offset, MutableByteSpan out);

/// What tells that a file is as it was: which one it is, its size and time.
/// All 0 where there is none.
struct FileState {
  uint64_t device = 0, inode = 0, size = 0;
  int64_t seconds = 0, nanoseconds = 0;
  bool operator==(const FileState&) const = default;
};
FileState StateOfFile(const std::string& path);

/// As OpenFileSource, of a descriptor that becomes the source's.
std::unique_ptr<Source> MakeFileSource(UniqueFd fd, const std::string& name);

/// Writes all of `data` to a descriptor; `name` is for messages.
absl::Status WriteAll(int fd, ByteSpan data, const std::string& name);

/// A file that appears under its name only when it is complete: written without
/// a name (O_TMPFILE) or, where the file system cannot, under a temporary one
/// in the same directory; `Commit` syncs it, gives it its name and syncs the
/// directory. Destroyed before that, nothing is left. Thread-compatible.
class AtomicFile {
 public:
  /// Creates it for `name` (one path part) in the directory `dir_fd`, which
  /// must stay open; `display` is for messages. `mode` as of open(2): less the
  /// umask.
  static absl::StatusOr<AtomicFile> CreateAt(int dir_fd, std::string name,
                                             std::string display,
                                             mode_t mode = 0600);
  AtomicFile(AtomicFile&&) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();

  int fd() const { return fd_.get(); }
  /// ALREADY_EXISTS if the name is taken and not `overwrite`. A directory is
  /// never replaced. With `sync` false nothing is synced: that is the caller's
  /// business then.
  absl::Status Commit(bool overwrite, bool sync = true);

 private:
  AtomicFile(UniqueFd fd, int dir_fd, std::string name, std::string temporary,
             std::string display);
  UniqueFd fd_;
  int dir_fd_;
  std::string name_;
  std::string temporary_;  // empty while the file has no name at all
  std::string display_;
};

/// A name for a temporary file beside `name`: hidden, and different at each
/// call.
std::string TemporaryName(const std::string& name);

/// Splits a path into the directory to open and the last part: "a/b" is {"a",
/// "b"}, "b" is
/// {".", "b"}. Trailing slashes are ignored.
std::pair<std::string, std::string> SplitPath(const std::string& path);

/// Opens a directory for use with the *at calls.
absl::StatusOr<UniqueFd> OpenDirectory(const std::string& path);

}  // namespace zipllm

#endif  // ZIPLLM_BASE_FILE_H_
