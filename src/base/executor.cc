#include "base/executor.h"

#include <sched.h>

#include <algorithm>
#include <chrono>

namespace zipllm {
namespace {

constexpr std::chrono::milliseconds kIdlePeriod(100);

}  // namespace

Executor::Executor(int threads) {
  for (int i = 1; i < threads; ++i) {
    workers_.emplace_back([this](std::stop_token stop) { Work(stop); });
  }
}

Executor::~Executor() {
  std::unique_lock lock(mutex_);
  while (!queue_.empty()) {
    TaskPtr task = std::move(queue_.front());
    queue_.pop_front();
    RunAndUnlock(lock, std::move(task));
    lock.lock();
  }
  lock.unlock();
  for (std::jthread& worker : workers_) worker.request_stop();
  changed_.notify_all();
}

Executor::TaskPtr Executor::Submit(std::function<void()> run,
                                   const TaskPtr& after) {
  auto task = std::make_shared<Task>();
  if (workers_.empty()) {  // `after` ran in its own Submit
    run();
    task->done_ = true;
    return task;
  }
  task->run_ = std::move(run);
  {
    std::lock_guard lock(mutex_);
    if (after != nullptr && !after->done_) {
      after->next_.push_back(task);
      return task;
    }
    if (after != nullptr) {
      queue_.push_front(task);
    } else {
      queue_.push_back(task);
    }
  }
  changed_.notify_one();
  return task;
}

void Executor::RunAndUnlock(std::unique_lock<std::mutex>& lock, TaskPtr task) {
  lock.unlock();
  try {
    task->run_();
  } catch (...) {
    task->thrown_ = std::current_exception();
  }
  task->run_ = nullptr;  // frees what it holds before anybody sees it done
  lock.lock();
  task->done_ = true;
  for (TaskPtr& next : task->next_) queue_.push_front(std::move(next));
  task->next_.clear();
  lock.unlock();
  changed_.notify_all();
}

void Executor::Wait(const TaskPtr& task) {
  std::unique_lock lock(mutex_);
  while (!task->done_) {
    if (queue_.empty()) {
      if (idle_ == nullptr) {
        changed_.wait(lock);
      } else if (changed_.wait_for(lock, kIdlePeriod) ==
                 std::cv_status::timeout) {
        lock.unlock();
        idle_();
        lock.lock();
      }
      continue;
    }
    TaskPtr other = std::move(queue_.front());
    queue_.pop_front();
    RunAndUnlock(lock, std::move(other));
    lock.lock();
  }
  if (task->thrown_) std::rethrow_exception(task->thrown_);
}

bool Executor::Done(const TaskPtr& task) { return task->done_; }

void Executor::Work(std::stop_token stop) {
  std::unique_lock lock(mutex_);
  while (changed_.wait(lock, stop, [this] { return !queue_.empty(); })) {
    TaskPtr task = std::move(queue_.front());
    queue_.pop_front();
    RunAndUnlock(lock, std::move(task));
    lock.lock();
  }
}

absl::Status ForEach(Executor& executor, size_t count,
                     std::function<absl::Status(size_t)> work,
                     const std::function<absl::Status()>& check) {
  // The tasks own it: they may outlive this call where one throws.
  struct State {
    std::function<absl::Status(size_t)> work;
    std::vector<absl::Status> results;
    std::atomic<bool> stopped = false;
  };
  const auto state = std::make_shared<State>();
  state->work = std::move(work);
  state->results.resize(count);
  std::deque<Executor::TaskPtr> tasks;
  absl::Status failed;
  for (size_t i = 0; i < count || !tasks.empty();) {
    // A few more than threads, so that there is always one.
    const size_t ahead = 2 * static_cast<size_t>(executor.threads());
    const bool submit = i < count && tasks.size() < ahead && failed.ok();
    if (submit) {
      tasks.push_back(executor.Submit([state, i] {
        if (!state->stopped) state->results[i] = state->work(i);
      }));
      ++i;
      continue;
    }
    if (tasks.empty()) break;
    executor.Wait(tasks.front());
    tasks.pop_front();
    if (failed.ok()) failed = check();
    if (!failed.ok()) state->stopped = true;
  }
  RETURN_IF_ERROR(failed);
  for (const absl::Status& result : state->results) RETURN_IF_ERROR(result);
  return absl::OkStatus();
}

int ThreadCount(int requested) {
  if (requested > 0) return std::min(requested, 1024);
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0)
    return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace zipllm
