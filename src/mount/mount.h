// Shows a tree as a read-only file system (FUSE).
#ifndef ZIPLLM_MOUNT_MOUNT_H_
#define ZIPLLM_MOUNT_MOUNT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "mount/tree.h"

namespace zipllm::mount {

/// What a mount has done.
struct MountTotals {
  uint64_t read_bytes = 0;     ///< given to the kernel
  uint64_t decoded_bytes = 0;  ///< to have these
};

struct MountOptions {
  std::string directory;  ///< where; must be there and be a directory
  /// What mount tables call it: the path of the store or archive.
  std::string source;
  /// Users other than the one who mounts may look, as far as the modes of files
  /// allow.
  bool allow_other = false;
  /// That decode; 0: two more than cores, at least 4, since they also wait for
  /// storage. Open the store or archive with one thread: each decodes a block.
  int threads = 0;
  /// Decoded blocks that are kept, in bytes.
  uint64_t cache_bytes = uint64_t{256} << 20;
  /// Passed to the kernel and libfuse, as "noatime" (AddMountOptions).
  std::vector<std::string> kernel_options;
  /// Unmounts when this descriptor polls as readable; -1: none.
  int stop_descriptor = -1;
  /// Called once the tree can be seen.
  std::function<void()> ready;
  /// A line without its end, for what goes wrong later; called by several
  /// threads at once. Null: standard error.
  std::function<void(const std::string&)> log;
  MountTotals* totals = nullptr;  ///< set at the end; null: not wanted
};

/// Sets what a list such as "allow_other,cache=1G,threads=4,nosuid,nofail"
/// says: what follows -o, also in fstab. Options for mount(8), not for those it
/// calls, are passed over. INVALID_ARGUMENT, naming the option.
absl::Status AddMountOptions(const std::string& list, MountOptions* options);

/// Mounts `tree` and returns when it has been unmounted: by umount(8),
/// fusermount3 -u, or the stop descriptor; files that are open then fail with
/// ENOTCONN. INVALID_ARGUMENT for a directory that cannot be mounted on,
/// UNAVAILABLE where the system has no FUSE. One mount a process at a time.
absl::Status Mount(std::unique_ptr<Tree> tree, const MountOptions& options);

/// Puts the process into the background. To be called before threads are
/// started, files opened and locks taken: the process goes on as a child
/// in a session of its own, at "/" (so make paths absolute before), and the
/// parent waits for it: it exits with 0 at Ready, or as the child does.
class Background {
 public:
  static absl::StatusOr<Background> Enter();
  Background(Background&& other) noexcept;
  ~Background();

  /// It works: lets the parent go, and standard input, output and error with
  /// it.
  void Ready();

 private:
  explicit Background(int pipe) : pipe_(pipe) {}
  int pipe_;
};

/// A line to the system's log, as of a daemon called "zipllm".
void LogToSystem(const std::string& line);

}  // namespace zipllm::mount

#endif  // ZIPLLM_MOUNT_MOUNT_H_
