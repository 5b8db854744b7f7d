// Waiting for codecs that take long: progress, interruption, memory.
#ifndef ZIPLLM_ARCHIVE_PATIENCE_H_
#define ZIPLLM_ARCHIVE_PATIENCE_H_

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

#include "base/status.h"
#include "codecs/codec.h"
#include "zipllm/options.h"

namespace zipllm::archive {

/// An operation whose blocks may take long. Made, and told to `Report`, by the
/// owner's thread; the rest is thread-safe.
class Patience {
 public:
  /// `callback` (null: nobody) is shown `progress`, with what is done of blocks
  /// that are not. Both must outlive this.
  Patience(const ProgressCallback& callback, const Progress& progress)
      : callback_(callback),
        progress_(progress),
        owner_(std::this_thread::get_id()) {}
  bool stopped() const { return stopped_; }
  /// CANCELLED once the user wants no more.
  absl::Status Report() {
    Progress shown = progress_;
    shown_ = std::max(shown_, shown.bytes_done + in_flight_);
    shown.bytes_done = shown_;
    if (callback_ && !callback_(shown)) stopped_ = true;
    return Check();
  }
  absl::Status Check() const {
    return stopped_ ? absl::CancelledError("interrupted") : absl::OkStatus();
  }

  /// What a codec is given while it works on one block; `passes` over its bytes
  /// are all of its work.
  class Block final : public codecs::Watch {
   public:
    Block(Patience& operation, uint64_t passes)
        : operation_(operation), passes_(passes) {}
    ~Block() override { operation_.in_flight_ -= done_; }
    bool Advance(uint64_t bytes) override {
      advanced_ += bytes;
      operation_.in_flight_ += advanced_ / passes_ - done_;
      done_ = advanced_ / passes_;
      // Callbacks run on the owner's thread, which may be the one that codes.
      if (std::this_thread::get_id() == operation_.owner_)
        (void)operation_.Report();
      return !operation_.stopped_;
    }

   private:
    Patience& operation_;
    const uint64_t passes_;
    uint64_t advanced_ = 0;
    uint64_t done_ = 0;
  };

 private:
  const ProgressCallback& callback_;
  const Progress& progress_;
  uint64_t shown_ = 0;  // of its bytes_done: it never goes back
  const std::thread::id owner_;
  std::atomic<bool> stopped_ = false;
  std::atomic<uint64_t> in_flight_ = 0;
};

/// What blocks that need much memory may take together, unless it is one.
inline constexpr uint64_t kSlowCodecs = uint64_t{4} << 30;

/// Keeps the memory of what threads do at once below a limit: whoever comes
/// when there is too little left waits. Thread-safe.
class MemoryGate {
 public:
  explicit MemoryGate(uint64_t limit) : limit_(limit) {}
  /// Passes with `bytes`, which may be more than the limit if it is alone.
  class Pass {
   public:
    Pass(MemoryGate& gate, uint64_t bytes) : gate_(gate), bytes_(bytes) {
      std::unique_lock lock(gate_.mutex_);
      gate_.changed_.wait(lock, [this] {
        return gate_.used_ == 0 || gate_.used_ + bytes_ <= gate_.limit_;
      });
      gate_.used_ += bytes_;
    }
    ~Pass() {
      {
        std::lock_guard lock(gate_.mutex_);
        gate_.used_ -= bytes_;
      }
      gate_.changed_.notify_all();
    }
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;

   private:
    MemoryGate& gate_;
    const uint64_t bytes_;
  };

 private:
  const uint64_t limit_;
  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t used_ = 0;
};

}  // namespace zipllm::archive

#endif  // ZIPLLM_ARCHIVE_PATIENCE_H_
