/// \file
/// Where bytes come from and go to. Implement these to connect zipllm to other
/// storage.
#ifndef ZIPLLM_IO_H_
#define ZIPLLM_IO_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "zipllm/types.h"

namespace zipllm {

/// A stream of bytes to read, perhaps with random access.
/// Thread-safety: `ReadAt` may be called by several threads at once; `Read` by
/// one at a time.
class ZIPLLM_EXPORT Source {
 public:
  virtual ~Source() = default;
  /// Reads the next 1 to `out.size()` bytes and returns how many; 0 only at the
  /// end.
  virtual absl::StatusOr<size_t> Read(MutableByteSpan out) = 0;
  /// Size in bytes where known (a regular file); nullopt for a pipe.
  virtual std::optional<uint64_t> Size() const { return std::nullopt; }
  /// True if `ReadAt` works.
  virtual bool Seekable() const { return false; }
  /// Reads up to `out.size()` bytes at `offset`, not moving the position of
  /// `Read`; fewer only at the end. UNIMPLEMENTED unless `Seekable()`.
  virtual absl::StatusOr<size_t> ReadAt(uint64_t offset, MutableByteSpan out);
  /// What error messages call it: a path, "standard input".
  virtual std::string Name() const = 0;
};

/// A stream of bytes to write, in order. Thread-safety: one caller at a time.
class ZIPLLM_EXPORT Sink {
 public:
  virtual ~Sink() = default;
  /// Takes all of `data`, or fails.
  virtual absl::Status Write(ByteSpan data) = 0;
  /// What error messages call it.
  virtual std::string Name() const = 0;
};

/// Opens a regular file, a FIFO or a device for reading. NOT_FOUND,
/// PERMISSION_DENIED, UNAVAILABLE (I/O).
ZIPLLM_EXPORT absl::StatusOr<std::unique_ptr<Source>> OpenFileSource(
    const std::string& path);
/// Reads from an open descriptor that stays the caller's. Seekable if it is a
/// regular file at its start.
ZIPLLM_EXPORT std::unique_ptr<Source> MakeDescriptorSource(int fd,
                                                           std::string name);
/// Reads from memory that must outlive the source. Seekable.
ZIPLLM_EXPORT std::unique_ptr<Source> MakeMemorySource(
    ByteSpan data, std::string name = "memory");
/// Writes to an open descriptor that stays the caller's.
ZIPLLM_EXPORT std::unique_ptr<Sink> MakeDescriptorSink(int fd,
                                                       std::string name);
/// Appends to `*out`, which must outlive the sink.
ZIPLLM_EXPORT std::unique_ptr<Sink> MakeMemorySink(std::vector<uint8_t>* out,
                                                   std::string name = "memory");

}  // namespace zipllm

#endif  // ZIPLLM_IO_H_
