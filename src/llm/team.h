// Threads that share the items of one phase of a computation after the other.
#ifndef ZIPLLM_LLM_TEAM_H_
#define ZIPLLM_LLM_TEAM_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

namespace zipllm::llm {

/// A fixed number of threads, the owner's among them. Whoever is free takes the
/// next item, so that a thread that gets no processor holds nobody up.
/// Thread-compatible.
class Team {
 public:
  /// `threads` is at least 1. Throws where they cannot be started.
  explicit Team(size_t threads);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  size_t threads() const { return workers_.size() + 1; }

  static constexpr size_t kMaxItems = size_t{1} << 19;
  /// Runs work(thread, item) for each of `count` (at most kMaxItems) items, in
  /// any order, and returns when all are done. `thread` is below threads().
  /// Floats round to nearest and keep subnormal numbers in all threads but the
  /// owner's. `work` does not throw.
  template <typename Work>
  void ForEach(size_t count, const Work& work) {
    RunPhase(count, &work, [](const void* what, size_t thread, size_t item) {
      (*static_cast<const Work*>(what))(thread, item);
    });
  }

 private:
  using Call = void (*)(const void* what, size_t thread, size_t item);

  void RunPhase(size_t count, const void* what, Call call);
  void TakeItems(size_t thread);
  void Work(size_t thread);

  const void* what_ = nullptr;
  Call call_ = nullptr;
  /// The items of the phase and, in the low half, the next that nobody has
  /// taken: one word, so that who comes late takes none of another phase.
  std::atomic<uint64_t> items_ = 0;
  std::atomic<size_t> done_ = 0;
  std::atomic<uint32_t> phase_ = 0;
  std::atomic<bool> stop_ = false;
  std::vector<std::jthread> workers_;
};

}  // namespace zipllm::llm

#endif  // ZIPLLM_LLM_TEAM_H_
