/// \file
/// Getting everything back out of archives, in one pass.
#ifndef ZIPLLM_DECOMPRESSOR_H_
#define ZIPLLM_DECOMPRESSOR_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "zipllm/io.h"
#include "zipllm/options.h"

namespace zipllm {

/// Reads archives (and concatenations of archives) from start to end; never
/// seeks a pipe. Holds no state but its options; may be used by several threads
/// at once.
class ZIPLLM_EXPORT Decompressor {
 public:
  explicit Decompressor(DecompressOptions options = {});

  /// Writes the contents of all files, one after the other, to `out`.
  absl::StatusOr<Totals> DecompressStream(Source& in, Sink& out) const;

  /// Restores what the archive holds at `target`: a file if it is an archive of
  /// one file, else a directory. Files appear under their name when complete
  /// and synced, with their mode and mtime. Nothing is written outside
  /// `target`. ALREADY_EXISTS where a file is in the way and `overwrite` is not
  /// set.
  absl::StatusOr<Totals> DecompressTo(Source& in,
                                      const std::string& target) const;

  /// Decodes and checks everything (also SHA-256) and writes nothing.
  absl::StatusOr<Totals> Test(Source& in) const;

 private:
  DecompressOptions options_;
};

}  // namespace zipllm

#endif  // ZIPLLM_DECOMPRESSOR_H_
