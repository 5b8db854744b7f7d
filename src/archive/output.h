#ifndef ZIPLLM_ARCHIVE_OUTPUT_H_
#define ZIPLLM_ARCHIVE_OUTPUT_H_

#include <functional>
#include <memory>
#include <string>

#include "base/status.h"
#include "zipllm/archive.h"
#include "zipllm/io.h"

namespace zipllm::archive {

/// Where decoded entries go: for each entry Begin, for files then Write... and
/// EndFile; at the end of all archives Finish. Destroyed without Finish, it
/// leaves nothing half-written. Thread-compatible.
class Output {
 public:
  virtual ~Output() = default;
  virtual absl::Status Begin(const Entry& entry) = 0;
  virtual absl::Status Write(ByteSpan data) = 0;
  virtual absl::Status EndFile() = 0;
  virtual absl::Status Finish() = 0;
};

/// Contents of all files, one after the other; `sink` null throws them away.
std::unique_ptr<Output> MakeSinkOutput(Sink* sink);

/// Restores entries at `target` (see Decompressor::DecompressTo). Nothing is
/// written outside it, links are never followed below it.
std::unique_ptr<Output> MakePathOutput(
    const std::string& target, bool overwrite, bool sync,
    std::function<void(const std::string&)> warning);

}  // namespace zipllm::archive

#endif  // ZIPLLM_ARCHIVE_OUTPUT_H_
