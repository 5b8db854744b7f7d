#ifndef ZIPLLM_BASE_EXECUTOR_H_
#define ZIPLLM_BASE_EXECUTOR_H_

#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/status.h"

namespace zipllm {

/// Runs tasks on a fixed number of threads, of which the thread that waits is
/// one: with one thread everything runs inside `Submit`, and no thread is
/// started. What a task throws comes out of `Wait` (with one thread: of
/// `Submit`). Tasks must not wait for other tasks. Thread-safety: `Submit` and
/// `Wait` are for the owner's thread.
class Executor {
 public:
  class Task;
  using TaskPtr = std::shared_ptr<Task>;

  /// `threads` is at least 1, the owner's thread included.
  explicit Executor(int threads);
  /// Runs what was submitted to its end.
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  /// Queues `run`; with `after` not null it starts when that one is done, ahead
  /// of the queue.
  TaskPtr Submit(std::function<void()> run, const TaskPtr& after = nullptr);
  /// Returns when `task` is done; runs queued tasks meanwhile.
  void Wait(const TaskPtr& task);
  /// What `Wait` calls some times a second where it has nothing to run.
  void SetIdle(std::function<void()> idle) { idle_ = std::move(idle); }
  static bool Done(const TaskPtr& task);

 private:
  void Work(std::stop_token stop);
  void RunAndUnlock(std::unique_lock<std::mutex>& lock, TaskPtr task);

  std::function<void()> idle_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<TaskPtr> queue_;
  std::vector<std::jthread> workers_;
};

class Executor::Task {
 private:
  friend class Executor;
  std::function<void()> run_;
  std::vector<TaskPtr> next_;
  std::atomic<bool> done_ = false;
  std::exception_ptr thrown_;
};

/// Runs `work(0)` to `work(count - 1)`, in any order, by all threads, and asks
/// `check` as they get done. Returns its first error, or the one of the least
/// number; what has not begun by then is left out.
absl::Status ForEach(Executor& executor, size_t count,
                     std::function<absl::Status(size_t)> work,
                     const std::function<absl::Status()>& check);

/// `requested` if positive, else the number of cores this process may use.
int ThreadCount(int requested);

}  // namespace zipllm

#endif  // ZIPLLM_BASE_EXECUTOR_H_
