#include "llm/team.h"

#include "llm/float_mode.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace zipllm::llm {
namespace {

// Looks at a value before a thread sleeps: some microseconds.
constexpr int kLooks = 1000;

/// Returns when `value` is no longer `old`.
template <typename T>
void WaitWhile(const std::atomic<T>& value, T old) {
  for (int i = 0; i < kLooks; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
#if defined(__SSE2__)
    _mm_pause();
#endif
  }
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

Team::Team(size_t threads) {
  workers_.reserve(threads - 1);
  try {
    for (size_t i = 1; i < threads; ++i) {
      workers_.emplace_back([this, i] { Work(i); });
    }
  } catch (...) {
    stop_ = true;
    ++phase_;
    phase_.notify_all();
    workers_.clear();
    throw;
  }
}

Team::~Team() {
  stop_ = true;
  ++phase_;
  phase_.notify_all();
  workers_.clear();
}

void Team::RunPhase(size_t count, const void* what, Call call) {
  if (workers_.empty() || count <= 1) {
    for (size_t item = 0; item < count; ++item) call(what, 0, item);
    return;
  }
  what_ = what;
  call_ = call;
  done_.store(0, std::memory_order_relaxed);
  items_.store(uint64_t{count} << 32, std::memory_order_release);
  phase_.fetch_add(1, std::memory_order_release);
  phase_.notify_all();
  TakeItems(0);
  for (;;) {
    const size_t done = done_.load(std::memory_order_acquire);
    if (done == count) return;
    WaitWhile(done_, done);
  }
}

void Team::TakeItems(size_t thread) {
  for (;;) {
    const uint64_t taken = items_.fetch_add(1, std::memory_order_acq_rel);
    const uint64_t count = taken >> 32;
    const uint64_t item = taken & UINT32_MAX;
    if (item >= count) return;
    // The phase cannot end before this item: what_ and call_ are its own.
    call_(what_, thread, item);
    const size_t done = done_.fetch_add(1, std::memory_order_acq_rel) + 1;
    if (done == count) done_.notify_one();
  }
}

void Team::Work(size_t thread) {
  [[maybe_unused]] const FloatMode mode;
  for (uint32_t seen = 0;;) {
    WaitWhile(phase_, seen);
    seen = phase_.load(std::memory_order_acquire);
    if (stop_.load(std::memory_order_acquire)) return;
    TakeItems(thread);
  }
}

}  // namespace zipllm::llm
