#ifndef ZIPLLM_ARCHIVE_SPOOL_H_
#define ZIPLLM_ARCHIVE_SPOOL_H_

#include <atomic>

#include "base/file.h"
#include "zipllm/io.h"

namespace zipllm::archive {

/// A temporary file without a name (in $TMPDIR or /tmp) that keeps what a pipe
/// will not show again. Created at the first append. Thread-safety: one
/// appends, several may `ReadAt`.
class Spool : public Source {
 public:
  absl::Status Append(ByteSpan data);
  absl::StatusOr<size_t> Read(MutableByteSpan) override;
  std::optional<uint64_t> Size() const override { return size_.load(); }
  bool Seekable() const override { return true; }
  absl::StatusOr<size_t> ReadAt(uint64_t offset, MutableByteSpan out) override;
  std::string Name() const override { return "temporary file"; }

 private:
  UniqueFd fd_;
  std::unique_ptr<Source> reader_;
  std::atomic<uint64_t> size_ = 0;
};

}  // namespace zipllm::archive

#endif  // ZIPLLM_ARCHIVE_SPOOL_H_
