#ifndef ZIPLLM_STORAGE_FAULT_H_
#define ZIPLLM_STORAGE_FAULT_H_

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>

#include "storage/storage.h"

namespace zipllm::storage {

/// Which operations of the storages that share it fail: for tests. Thread-safe.
class Faults {
 public:
  enum class Kind : uint8_t {
    kError,    ///< UNAVAILABLE, as EIO; nothing was done
    kNoSpace,  ///< RESOURCE_EXHAUSTED, as ENOSPC, of what writes; nothing done
    kTorn,     ///< UNAVAILABLE, but it was done, or half of it
  };

  /// From the operation `first` on (0: the next), `count` of them fail.
  void Arm(uint64_t first, Kind kind,
           uint64_t count = std::numeric_limits<uint64_t>::max());
  void Disarm();
  /// How many there were since Arm or Disarm.
  uint64_t operations() const;
  /// How many of these failed.
  uint64_t failed() const;

  /// Counts an operation on `key` and runs it, or what its fault leaves of it.
  absl::Status Run(const std::string& key, bool writes,
                   const std::function<absl::Status()>& whole,
                   const std::function<void()>& torn);

 private:
  mutable std::mutex mutex_;
  uint64_t first_ = std::numeric_limits<uint64_t>::max();
  uint64_t count_ = 0;
  Kind kind_ = Kind::kError;
  uint64_t operations_ = 0;
  uint64_t failed_ = 0;
};

/// `storage` with faults; operations are all its calls (but Name) and those of
/// its sources and uploads. A torn Write writes half; a torn read reads all
/// into where it should, but says that it failed.
std::unique_ptr<Storage> MakeFaultStorage(std::unique_ptr<Storage> storage,
                                          std::shared_ptr<Faults> faults);

}  // namespace zipllm::storage

#endif  // ZIPLLM_STORAGE_FAULT_H_
