#ifndef ZIPLLM_STORAGE_POWER_LOSS_H_
#define ZIPLLM_STORAGE_POWER_LOSS_H_

#include <cstdint>
#include <memory>

#include "storage/storage.h"

namespace zipllm::storage {

/// A disk in memory that may lose power, for tests: it remembers all that was
/// changed and which of it was synced. Thread-safe.
///
/// What a power loss leaves of a key is what it had when it was synced last or
/// anything it had since, for each key by itself: changes that were not synced
/// are lost or kept in any choice, whatever their order. A Sync covers the keys
/// that its own storage changed or listed (storage.h), no others: each file
/// system keeps at least that.
class Disk {
 public:
  Disk();
  ~Disk();
  Disk(Disk&&) noexcept;
  Disk& operator=(Disk&&) noexcept;

  /// The storage of one process, which has synced nothing yet.
  std::unique_ptr<Storage> Mount();

  /// A moment: how many changes and syncs there were so far.
  uint64_t Now() const;
  /// The disk as a loss of power at a moment may leave it, by `seed`. With
  /// `torn`, values that were not synced may also be cut short or have zeros
  /// for some of their bytes, which the local storage rules out.
  Disk AfterPowerLoss(uint64_t moment, uint64_t seed, bool torn = false) const;

 private:
  class Medium;
  class Mounted;
  std::shared_ptr<Medium> medium_;
};

}  // namespace zipllm::storage

#endif  // ZIPLLM_STORAGE_POWER_LOSS_H_
