// Who is using a store: so that gc keeps what they need, and two that delete
// do not meet (format-spec/store.md, "Leases").
#ifndef ZIPLLM_STORE_LEASE_H_
#define ZIPLLM_STORE_LEASE_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "storage/storage.h"

namespace zipllm::store {

struct LeaseInfo {
  std::string id;
  std::string purpose;      ///< "read", "add", "gc", …
  std::string owner;        ///< for messages: "pid 12 on host"
  int64_t age_seconds = 0;  ///< since it was renewed last
  /// Its process is gone, or not heard of for too long. It may come back: see
  /// Leases::RemoveStale.
  bool stale = false;
};

/// Held until destroyed; renewed by a thread of Leases. Thread-safe.
class Lease {
 public:
  virtual ~Lease() = default;
  virtual const std::string& id() const = 0;
  /// ABORTED where it was removed, or may have been taken for stale (this
  /// process slept): what it protected may be gone. Other errors: the storage
  /// cannot tell. To be asked just before a commit.
  virtual absl::Status CheckHeld() const = 0;
};

/// How often a lease is renewed; how long without it is held still; and how
/// long until others take it for stale.
struct LeaseTimes {
  std::chrono::milliseconds renew = std::chrono::seconds(10);
  std::chrono::milliseconds held = std::chrono::seconds(90);
  std::chrono::seconds stale = std::chrono::seconds(120);
};

/// Leases are values that their process renews. One whose process is of this
/// boot of this machine and this pid namespace is stale when that process is
/// gone (pid and start time), and never by its age. One of another is stale
/// when it was not renewed for LeaseTimes::stale, by the clock of the storage
/// alone: machines may disagree about the time, and a command that runs for a
/// second still sees what is stale.
///
/// Thread-safe. Not for use across fork: what a child destroys of its parent's
/// is left alone, but nothing is renewed there. A process that becomes a daemon
/// does so before it takes leases.
class Leases {
 public:
  /// `storage` must outlive it, and it the leases.
  static std::unique_ptr<Leases> Create(storage::Storage& storage,
                                        const LeaseTimes& times = {});
  virtual ~Leases() = default;

  /// A lease that any number may hold. When this returns, whoever lists leases
  /// sees it.
  virtual absl::StatusOr<std::shared_ptr<Lease>> Take(
      const std::string& purpose) = 0;
  /// One that only one may hold at a time, by `purpose`: UNAVAILABLE, naming
  /// the owner, while another that lives has it (also in this process). That of
  /// a dead one is taken over.
  virtual absl::StatusOr<std::shared_ptr<Lease>> TakeExclusive(
      const std::string& purpose) = 0;
  /// Those that are held, by id.
  virtual absl::StatusOr<std::vector<LeaseInfo>> List() = 0;
  /// Removes the stale ones; returns how many. To be called, and List after it,
  /// before anything is done because a lease is stale: its process may be one
  /// that slept, and learns by CheckHeld that it was removed.
  virtual absl::StatusOr<uint64_t> RemoveStale() = 0;
};

}  // namespace zipllm::store

#endif  // ZIPLLM_STORE_LEASE_H_
