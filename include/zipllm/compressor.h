/// \file
/// Making archives.
#ifndef ZIPLLM_COMPRESSOR_H_
#define ZIPLLM_COMPRESSOR_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "zipllm/io.h"
#include "zipllm/options.h"

namespace zipllm {

/// Makes archives. Holds no state but its options; calls are independent of
/// each other, and one Compressor may be used by several threads at once.
///
/// Memory: 16 MiB and 8 MiB a thread at levels up to 6, whatever the size of
/// the input (at 7 to 9 about 100 MiB a thread, for larger searches), and what
/// the index takes: some 20 bytes a frame of 2 MiB and 100 a tensor. A header
/// of 16 MiB, the longest that is parsed, takes up to 12 times its size more.
class ZIPLLM_EXPORT Compressor {
 public:
  explicit Compressor(CompressOptions options = {});

  /// Compresses one stream into an archive with one file of the given name (""
  /// for none) and writes it to `out` without seeking.
  absl::StatusOr<Totals> CompressStream(Source& in, const std::string& name,
                                        Sink& out) const;

  /// Compresses a file, or a directory with all that is in it, and writes the
  /// archive to `out`. Sockets, devices and FIFOs inside a directory are left
  /// out with a warning each.
  absl::StatusOr<Totals> CompressPath(const std::string& path, Sink& out) const;

  /// The same into a file: a temporary file beside `archive_path` is renamed to
  /// it when it is complete and synced. ALREADY_EXISTS unless `overwrite`.
  absl::StatusOr<Totals> CompressPathToFile(const std::string& path,
                                            const std::string& archive_path,
                                            bool overwrite = false) const;

  /// CompressStream into a file, as CompressPathToFile makes it.
  absl::StatusOr<Totals> CompressStreamToFile(Source& in,
                                              const std::string& name,
                                              const std::string& archive_path,
                                              bool overwrite = false) const;

 private:
  CompressOptions options_;
};

}  // namespace zipllm

#endif  // ZIPLLM_COMPRESSOR_H_
