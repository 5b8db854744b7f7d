// Trees made for tests, and mounts of them in processes of their own.
#ifndef ZIPLLM_TESTS_MOUNT_TESTING_H_
#define ZIPLLM_TESTS_MOUNT_TESTING_H_

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "archive/testing.h"
#include "mount/mount.h"

namespace zipllm::mount::testing {

using zipllm::testing::Bytes;
using zipllm::testing::TempDir;

/// The byte at `offset` of the content `seed`.
inline uint8_t ByteAt(uint64_t seed, uint64_t offset) {
  uint64_t x = (seed + 1) * 0x9e3779b97f4a7c15 + (offset / 8);
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return static_cast<uint8_t>((x ^ (x >> 31)) >> (8 * (offset % 8)));
}

/// A file whose content can be told from its seed.
struct MadeFile {
  uint64_t size = 0;
  uint64_t seed = 0;
  uint64_t block = 64 << 10;
  std::set<uint64_t> bad = {};  ///< numbers of blocks that cannot be read
};

/// Files at the root, read after `delay`. Thread-safe, if what is public is
/// left alone.
class MadeTree : public Tree {
 public:
  explicit MadeTree(std::map<std::string, MadeFile> files,
                    std::chrono::milliseconds delay = {})
      : files_(std::move(files)), delay_(delay) {}

  absl::StatusOr<Node> Find(const std::string& path) override;
  absl::StatusOr<std::vector<std::pair<std::string, Node>>> List(
      const std::string& path) override;
  absl::StatusOr<std::shared_ptr<const File>> Open(
      const std::string& path) override;
  absl::StatusOr<uint64_t> CodedSize(const std::string& path) override;
  absl::StatusOr<Totals> Sum() override { return Totals{1 << 20, 7, 1 << 19}; }
  std::chrono::milliseconds Validity() const override { return validity; }

  std::chrono::milliseconds validity{60000};
  /// While a file of this name is there, `changed` are the files instead.
  std::string switch_file;
  std::map<std::string, MadeFile> changed;

 private:
  const std::map<std::string, MadeFile>& files() const;
  const std::map<std::string, MadeFile> files_;
  const std::chrono::milliseconds delay_;
};

/// A tree mounted by a child process, made there by `make`; a test process that
/// mounts itself could never be killed while it waits for its own mount.
class Mounted {
 public:
  Mounted(const std::function<std::unique_ptr<Tree>()>& make,
          const std::function<void(MountOptions*)>& set = nullptr);
  ~Mounted();

  /// Why there is no mount on this machine; empty if there is one.
  const std::string& missing() const { return missing_; }
  std::string operator/(const std::string& name) const {
    return directory_ / name;
  }
  const std::string& path() const { return directory_.path(); }
  /// Sends a signal and waits for the end: the exit code, or 128 and a signal.
  int End(int signal);
  void Kill() const;
  /// What it logged so far.
  std::string Log() const;
  bool IsMounted() const;

 private:
  TempDir directory_, log_;
  std::string missing_;
  pid_t child_ = -1;
};

/// Skips the test where nothing can be mounted.
#define SKIP_UNLESS_MOUNTED(mounted)                    \
  if (!(mounted).missing().empty()) {                   \
    GTEST_SKIP() << "no FUSE: " << (mounted).missing(); \
  }

}  // namespace zipllm::mount::testing

#endif  // ZIPLLM_TESTS_MOUNT_TESTING_H_
