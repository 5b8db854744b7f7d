#include "base/executor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <new>
#include <numeric>
#include <vector>

namespace zipllm {
namespace {

TEST(Executor, RunsAllTasksOnAnyNumberOfThreads) {
  for (int threads : {1, 2, 7}) {
    std::atomic<int> sum = 0;
    {
      Executor executor(threads);
      EXPECT_EQ(executor.threads(), threads);
      std::vector<Executor::TaskPtr> tasks;
      for (int i = 0; i < 1000; ++i) {
        tasks.push_back(executor.Submit([&sum, i] { sum += i; }));
      }
      for (int i = 0; i < 500; ++i) {
        executor.Wait(tasks[static_cast<size_t>(i)]);
      }
      // The others are for the destructor.
    }
    EXPECT_EQ(sum, 999 * 1000 / 2);
  }
}

TEST(Executor, ChainsRunInOrder) {
  for (int threads : {1, 3}) {
    std::vector<int> order;
    Executor executor(threads);
    Executor::TaskPtr last;
    for (int i = 0; i < 200; ++i) {
      last = executor.Submit([&order, i] { order.push_back(i); }, last);
      executor.Submit([] {});
    }
    executor.Wait(last);
    std::vector<int> expected(200);
    std::iota(expected.begin(), expected.end(), 0);
    EXPECT_EQ(order, expected);
  }
}

TEST(Executor, WhatATaskThrowsComesOutOfWait) {
  Executor executor(2);
  Executor::TaskPtr bad = executor.Submit([] { throw std::bad_alloc(); });
  bool ran = false;
  Executor::TaskPtr next = executor.Submit([&ran] { ran = true; }, bad);
  EXPECT_THROW(executor.Wait(bad), std::bad_alloc);
  executor.Wait(next);
  EXPECT_TRUE(ran);
}

TEST(ForEach, RunsAllAndTellsTheFirstError) {
  for (const int threads : {1, 3}) {
    Executor executor(threads);
    std::vector<int> done(100, 0);
    const auto work = [&](size_t i) {
      done[i] = 1;
      return i % 40 == 39 ? DataLoss("number ", i) : absl::OkStatus();
    };
    const absl::Status status =
        ForEach(executor, done.size(), work, [] { return absl::OkStatus(); });
    EXPECT_EQ(std::string(status.message()), "number 39");
    EXPECT_EQ(std::count(done.begin(), done.end(), 1), 100);
  }
}

TEST(ForEach, StopsWhereItIsTold) {
  for (const int threads : {1, 3}) {
    Executor executor(threads);
    std::atomic<size_t> done = 0;
    const absl::Status status = ForEach(
        executor, 1000,
        [&](size_t) {
          ++done;
          return absl::OkStatus();
        },
        [&]() -> absl::Status {
          if (done < 10) return absl::OkStatus();
          return absl::CancelledError("enough");
        });
    EXPECT_TRUE(absl::IsCancelled(status));
    EXPECT_LT(done, 100u);
  }
}

TEST(ThreadCount, IsWhatWasAskedForOrTheCores) {
  EXPECT_EQ(ThreadCount(3), 3);
  EXPECT_GE(ThreadCount(0), 1);
}

}  // namespace
}  // namespace zipllm
