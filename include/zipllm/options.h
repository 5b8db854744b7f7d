/// \file
/// Settings and progress reports that compressor, decompressor and archive
/// share.
#ifndef ZIPLLM_OPTIONS_H_
#define ZIPLLM_OPTIONS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "zipllm/export.h"

namespace zipllm {

/// Where a long operation stands. Bytes are plain bytes unless said.
struct Progress {
  uint64_t bytes_done = 0;   ///< plain bytes finished so far
  uint64_t bytes_total = 0;  ///< 0 where unknown (a pipe)
  uint64_t coded_bytes =
      0;  ///< archive bytes written (compress) or read (decompress) so far
  std::string current;  ///< file being worked on
};

/// Called on the calling thread every few MiB. Return false to cancel: the
/// operation then fails with CANCELLED and leaves nothing half-written. Must
/// not throw.
using ProgressCallback = std::function<bool(const Progress&)>;

/// Called on the calling thread for what the user should know and that is no
/// error
/// ("socket skipped"). Must not throw.
using WarningCallback = std::function<void(const std::string&)>;

inline constexpr int kMinLevel = 1;
inline constexpr int kDefaultLevel = 3;
inline constexpr int kMaxLevel = 9;

struct CompressOptions {
  int level = kDefaultLevel;  ///< kMinLevel (fastest) to kMaxLevel (smallest)
  int threads = 0;     ///< 0: one a core. The archive does not depend on it
  bool verify = true;  ///< decode every block and compare before it counts
  /// Store equal blocks once, and code tensors against those before them that
  /// they are like.
  bool deduplicate = true;
  /// Sync a file before it gets its name, so that it survives a power loss.
  bool sync = true;
  /// Files, folders and archives whose tensors new ones are coded against,
  /// where that is smaller. Whoever decompresses needs them too. Those that fit
  /// are found by their contents, whatever their names. Not for pipes, which
  /// cannot be looked at beforehand.
  std::vector<std::string> bases = {};
  /// A language model (GGUF file) that text is coded with: slow, and whoever
  /// decompresses needs the same file. Empty: none.
  std::string text_model = {};
  bool follow_symlinks = false;  ///< store what links point to (once: no links
                                 ///< inside) instead of links
  ProgressCallback progress = nullptr;
  WarningCallback warning = nullptr;
};

struct DecompressOptions {
  int threads = 0;  ///< 0: one a core
  /// Refuse archives whose declared blocks and frames need more memory than
  /// this a thread.
  uint64_t max_memory = uint64_t{512} << 20;
  /// Recompute each file's SHA-256 and compare (every block's XXH3 is always
  /// checked).
  bool check_sha256 = false;
  /// Sync files before they get their names, so that they survive a power loss.
  bool sync = true;
  bool overwrite = false;  ///< replace files that are there
  /// Files, folders and archives that have the tensors which an archive was
  /// coded against; each is taken only if its SHA-256 is right.
  std::vector<std::string> bases = {};
  /// Folders (not what is below) that are looked into where `bases` do not have
  /// them all.
  std::vector<std::string> base_directories = {};
  /// The language model (GGUF file) that text was coded with; another one is
  /// refused. Empty: none.
  std::string text_model = {};
  ProgressCallback progress = nullptr;
  WarningCallback warning = nullptr;
};

/// What an operation did.
struct Totals {
  uint64_t files = 0;
  uint64_t plain_bytes = 0;
  uint64_t archive_bytes = 0;
  uint64_t duplicate_bytes =
      0;  ///< plain bytes stored as a reference to an equal block
  uint64_t warnings = 0;
};

}  // namespace zipllm

#endif  // ZIPLLM_OPTIONS_H_
