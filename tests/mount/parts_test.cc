// The parts of a mount without FUSE: extents, blocks decoded once, streams,
// nodes, options.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <latch>
#include <mutex>
#include <thread>

#include "mount/block_reader.h"
#include "mount/node_table.h"
#include "mount/read_ahead.h"
#include "mount/testing.h"

namespace zipllm::mount {
namespace {

// Blocks of given ends; counts reads, which wait while it is held.
class ScriptedFile : public File {
 public:
  explicit ScriptedFile(std::vector<uint64_t> ends) : ends_(std::move(ends)) {}
  uint64_t size() const override { return ends_.back(); }
  const std::array<uint8_t, 32>& sha256() const override { return sha256_; }
  absl::StatusOr<std::pair<uint64_t, uint64_t>> BlockAt(
      uint64_t offset) const override {
    const auto end = std::ranges::upper_bound(ends_, offset);
    return std::pair(end == ends_.begin() ? 0 : *(end - 1), *end);
  }
  absl::Status Read(uint64_t offset, MutableByteSpan out) const override {
    {
      std::lock_guard lock(mutex_);
      offsets_.push_back(offset);
    }
    ++reads;
    while (held) std::this_thread::yield();
    std::ranges::fill(out, static_cast<uint8_t>(offset >> 10));
    return fails ? DataLoss("broken") : absl::OkStatus();
  }

  /// Where reads began, in their order.
  std::vector<uint64_t> offsets() const {
    std::lock_guard lock(mutex_);
    return offsets_;
  }

  mutable std::atomic<int> reads = 0;
  std::atomic<bool> held = false, fails = false;

 private:
  const std::vector<uint64_t> ends_;
  const std::array<uint8_t, 32> sha256_{};
  mutable std::mutex mutex_;
  mutable std::vector<uint64_t> offsets_;
};

TEST(ExtentTest, RunsOfSmallBlocksAreOneExtent) {
  const uint64_t k = 1 << 10;
  // One large, small ones over the border of 32 KiB windows, one large.
  const ScriptedFile file(
      {100 * k, 101 * k, 110 * k, 127 * k, 129 * k, 130 * k, 200 * k, 201 * k});
  const auto at = [&](uint64_t offset) {
    const auto extent = ExtentAt(file, offset);
    EXPECT_TRUE(extent.ok()) << extent.status();
    return *extent;
  };
  EXPECT_EQ(at(50 * k), (Extent{0, 100 * k}));
  // The window of 96 to 128 KiB has those that begin in it.
  for (const uint64_t offset : {100 * k, 105 * k, 128 * k}) {
    EXPECT_EQ(at(offset), (Extent{100 * k, 129 * k})) << offset;
  }
  EXPECT_EQ(at(129 * k), (Extent{129 * k, 130 * k}));
  EXPECT_EQ(at(199 * k), (Extent{130 * k, 200 * k}));
  EXPECT_EQ(at(200 * k), (Extent{200 * k, 201 * k}));
}

TEST(ExtentTest, ABlockThatDoesNotHoldTheByteIsAnError) {
  class Liar : public ScriptedFile {
   public:
    Liar() : ScriptedFile({100}) {}
    absl::StatusOr<std::pair<uint64_t, uint64_t>> BlockAt(
        uint64_t) const override {
      return std::pair<uint64_t, uint64_t>(0, 0);
    }
  };
  EXPECT_EQ(ExtentAt(Liar(), 5).status().code(), absl::StatusCode::kInternal);
}

class Waiter {
 public:
  BlockReader::Done Take() {
    return [this](const BlockReader::Result& block) {
      std::lock_guard lock(mutex_);
      results_.push_back(block);
      changed_.notify_all();
    };
  }
  std::vector<BlockReader::Result> WaitFor(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return results_.size() >= count; });
    return results_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<BlockReader::Result> results_;
};

TEST(BlockReaderTest, DecodesOnceForAllWhoWait) {
  auto file = std::make_shared<ScriptedFile>(std::vector<uint64_t>{1 << 20});
  file->held = true;
  BlockReader reader(4, 64 << 20);
  Waiter waiter;
  for (int i = 0; i < 20; ++i) reader.Get(1, file, {0, 1 << 20}, waiter.Take());
  file->held = false;
  for (const auto& block : waiter.WaitFor(20)) ASSERT_TRUE(block.ok());
  EXPECT_EQ(file->reads, 1);
  EXPECT_EQ(reader.decoded_bytes(), 1 << 20);
  // It is kept, for this content alone.
  reader.Get(1, file, {0, 1 << 20}, waiter.Take());
  EXPECT_EQ(waiter.WaitFor(21).size(), 21);
  EXPECT_EQ(file->reads, 1);
  reader.Get(2, file, {0, 1 << 20}, waiter.Take());
  waiter.WaitFor(22);
  EXPECT_EQ(file->reads, 2);
}

TEST(BlockReaderTest, ErrorsReachAllAndAreNotKept) {
  auto file = std::make_shared<ScriptedFile>(std::vector<uint64_t>{1 << 10});
  file->held = file->fails = true;
  BlockReader reader(2, 1 << 20);
  Waiter waiter;
  for (int i = 0; i < 3; ++i) reader.Get(1, file, {0, 1 << 10}, waiter.Take());
  file->held = false;
  for (const auto& block : waiter.WaitFor(3)) {
    EXPECT_EQ(block.status().code(), absl::StatusCode::kDataLoss);
  }
  file->fails = false;
  reader.Get(1, file, {0, 1 << 10}, waiter.Take());
  EXPECT_TRUE(waiter.WaitFor(4)[3].ok());
}

TEST(BlockReaderTest, KeepsWhatWasUsedLast) {
  constexpr uint64_t kBlock = 1 << 20;
  auto file = std::make_shared<ScriptedFile>(std::vector<uint64_t>{
      kBlock, 2 * kBlock, 3 * kBlock, 4 * kBlock, 5 * kBlock});
  BlockReader reader(1, 3 * kBlock + 4096);
  size_t asked = 0;
  Waiter waiter;
  const auto get = [&](uint64_t i) {
    reader.Get(1, file, {i * kBlock, (i + 1) * kBlock}, waiter.Take());
    waiter.WaitFor(++asked);
  };
  for (const uint64_t i : {0, 1, 2, 0, 3}) get(i);  // 1 has to go
  EXPECT_EQ(file->reads, 4);
  for (const uint64_t i : {0, 2, 3}) get(i);
  EXPECT_EQ(file->reads, 4);
  get(1);
  EXPECT_EQ(file->reads, 5);
  // A block larger than all that may be kept is read, and kept alone.
  BlockReader small(1, 1);
  small.Get(1, file, {0, kBlock}, waiter.Take());
  waiter.WaitFor(++asked);
  small.Get(1, file, {0, kBlock}, waiter.Take());
  waiter.WaitFor(++asked);
  EXPECT_EQ(file->reads, 6);
}

TEST(BlockReaderTest, WhatIsWantedComesBeforeWhatIsReadAhead) {
  std::vector<uint64_t> ends;
  for (uint64_t i = 1; i <= 100; ++i) ends.push_back(i << 10);
  auto file = std::make_shared<ScriptedFile>(ends);
  auto blocker = std::make_shared<ScriptedFile>(std::vector<uint64_t>{1});
  blocker->held = true;
  BlockReader reader(1, 1 << 20);
  Waiter waiter;
  reader.Get(7, blocker, {0, 1}, waiter.Take());
  uint64_t ahead = 0;
  while (reader.ReadAhead(1, file, {ahead << 10, (ahead + 1) << 10})) {
    ASSERT_LT(++ahead, 50) << "nothing bounds what is read ahead";
  }
  EXPECT_GT(ahead, 0);
  // The last of them is wanted now, and another one.
  const uint64_t last = ahead - 1;
  reader.Get(1, file, {last << 10, (last + 1) << 10}, waiter.Take());
  reader.Get(1, file, {90 << 10, 91 << 10}, waiter.Take());
  blocker->held = false;
  waiter.WaitFor(3);
  reader.Stop();
  const std::vector<uint64_t> order = file->offsets();
  ASSERT_GE(order.size(), 2);
  EXPECT_EQ(order[0], last << 10);
  EXPECT_EQ(order[1], 90 << 10);
  EXPECT_EQ(std::ranges::count(order, last << 10), 1);
}

TEST(BlockReaderTest, StopAnswersAll) {
  auto file = std::make_shared<ScriptedFile>(
      std::vector<uint64_t>{1 << 10, 2 << 10, 3 << 10});
  file->held = true;
  BlockReader reader(1, 1 << 20);
  Waiter waiter;
  for (uint64_t i = 0; i < 3; ++i) {
    reader.Get(1, file, {i << 10, (i + 1) << 10}, waiter.Take());
  }
  while (file->reads == 0) std::this_thread::yield();
  std::jthread stop([&] { reader.Stop(); });
  std::atomic<bool> stopping = false;
  for (uint64_t i = 0; !stopping; ++i) {  // at once, when it has begun
    reader.Get(2, file, {i, i + 1}, [&](const BlockReader::Result& block) {
      stopping = stopping || absl::IsCancelled(block.status());
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  file->held = false;
  stop.join();
  int cancelled = 0;
  for (const auto& block : waiter.WaitFor(3)) {
    cancelled += absl::IsCancelled(block.status());
  }
  EXPECT_EQ(cancelled, 2);
  reader.Get(1, file, {0, 512}, waiter.Take());
  EXPECT_TRUE(absl::IsCancelled(waiter.WaitFor(4)[3].status()));
  EXPECT_FALSE(reader.ReadAhead(1, file, {2048, 2060}));
}

TEST(BlockReaderTest, ManyThreadsGetTheRightBlocks) {
  constexpr uint64_t kBlocks = 64, kBlock = 4 << 10;
  std::vector<uint64_t> ends;
  for (uint64_t i = 1; i <= kBlocks; ++i) ends.push_back(i * kBlock);
  auto file = std::make_shared<ScriptedFile>(ends);
  BlockReader reader(4, 16 * kBlock);  // much is dropped meanwhile
  std::atomic<int> answers = 0, wrong = 0;
  {
    std::vector<std::jthread> threads;
    for (uint64_t t = 0; t < 8; ++t) {
      threads.emplace_back([&, t] {
        for (uint64_t i = 0; i < 500; ++i) {
          const uint64_t n = (i * (2 * t + 1)) % kBlocks;
          const Extent extent{n * kBlock, (n + 1) * kBlock};
          if (i % 3 == 0) {
            reader.ReadAhead(1, file, extent);
            continue;
          }
          ++answers;
          reader.Get(1, file, extent, [&, n](const BlockReader::Result& block) {
            wrong += !block.ok() || (*block)->extent.begin != n * kBlock ||
                     (*block)->bytes.size() != kBlock ||
                     (*block)->bytes.data()[9] !=
                         static_cast<uint8_t>((n * kBlock) >> 10);
            --answers;
          });
        }
      });
    }
  }
  while (answers != 0) std::this_thread::yield();
  EXPECT_EQ(wrong, 0);
}

TEST(StreamDetectorTest, FindsReadsThatFollowEachOther) {
  StreamDetector detector;
  constexpr uint64_t kRead = 128 << 10;
  // Two streams at once, pieces out of order.
  const uint64_t far = 1 << 30;
  for (const uint64_t i : {0, 2, 1, 3, 5, 4}) {
    detector.Find({i * kRead, (i + 1) * kRead});
    detector.Find({far + i * kRead, far + (i + 1) * kRead});
  }
  const auto& low = detector.Find({6 * kRead, 7 * kRead});
  EXPECT_EQ(low.next, 7 * kRead);
  EXPECT_EQ(low.length, 7 * kRead);
  EXPECT_EQ(AheadOf(low, 1 << 20), 1 << 20);
  EXPECT_EQ(detector.Find({far + 6 * kRead, far + 7 * kRead}).length,
            7 * kRead);
}

TEST(StreamDetectorTest, RandomReadsAreNotReadAhead) {
  StreamDetector detector;
  std::mt19937_64 random(1);
  for (int i = 0; i < 1000; ++i) {
    const uint64_t at = random() % (1 << 30) / 4096 * 4096;
    EXPECT_EQ(AheadOf(detector.Find({at, at + 4096}), 1 << 20), 0);
  }
}

Node MadeNode(uint64_t inode, uint8_t content) {
  Node node;
  node.kind = EntryKind::kFile;
  node.inode = inode;
  node.sha256[0] = content;
  return node;
}

TEST(NodeTableTest, CountsLookupsAndTellsCollisionsApart) {
  NodeTable table(MakeFolder(""));
  const auto a = table.Add("a", MadeNode(77, 1));
  const auto b = table.Add("b", MadeNode(77, 1));      // collides
  const auto newer = table.Add("a", MadeNode(77, 2));  // so does this
  EXPECT_EQ(a.node.inode, 77);
  EXPECT_NE(b.node.inode, a.node.inode);
  EXPECT_NE(newer.node.inode, a.node.inode);
  EXPECT_NE(newer.node.inode, b.node.inode);
  EXPECT_NE(a.id, newer.id);
  EXPECT_EQ(table.Add("b", MadeNode(77, 1)).node.inode, b.node.inode);
  EXPECT_EQ(table.Find(b.node.inode)->path, "b");

  table.Forget(b.node.inode, 1);
  EXPECT_TRUE(table.Find(b.node.inode).has_value());
  table.Forget(b.node.inode, 1);
  EXPECT_FALSE(table.Find(b.node.inode).has_value());
  table.Forget(1, 1000);  // the root stays
  EXPECT_EQ(table.Find(1)->path, "");
  // Numbers of what is cached are never used again.
  EXPECT_NE(table.Add("b", MadeNode(77, 1)).id, b.id);
  // None is 0 or 1.
  const auto last = table.Add("x", MadeNode(UINT64_MAX, 1));
  EXPECT_EQ(table.Add("y", MadeNode(UINT64_MAX, 1)).node.inode, 2);
  EXPECT_EQ(last.node.inode, UINT64_MAX);
}

TEST(MountOptionsTest, TakesWhatFstabHas) {
  MountOptions options;
  ASSERT_TRUE(AddMountOptions(
                  "rw,noauto,nofail,_netdev,x-systemd.automount,nosuid,nodev,"
                  "allow_other,cache=3M,threads=5",
                  &options)
                  .ok());
  EXPECT_TRUE(options.allow_other);
  EXPECT_EQ(options.cache_bytes, 3 << 20);
  EXPECT_EQ(options.threads, 5);
  EXPECT_EQ(options.kernel_options,
            (std::vector<std::string>{"nosuid", "nodev"}));
  EXPECT_TRUE(AddMountOptions("", &options).ok());
  EXPECT_TRUE(AddMountOptions("cache=17", &options).ok());
  EXPECT_EQ(options.cache_bytes, 17);
}

TEST(MountOptionsTest, NamesWhatItDoesNotKnow) {
  for (const char* bad :
       {"allow_others", "cache=", "cache=x", "cache=1Q", "cache=1MB",
        "cache=99999999999999999999", "cache=20000000T", "threads=-1",
        "threads=2000", "nosuid,direct_io", "fsname"}) {
    MountOptions options;
    const absl::Status status = AddMountOptions(bad, &options);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad;
    const std::string last =
        std::string(bad).substr(std::string(bad).find(',') == std::string::npos
                                    ? 0
                                    : std::string(bad).find(',') + 1);
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr(last));
  }
}

// The exit code of a parent whose child does `act` in the background.
int ExitCodeOf(const std::function<void(Background)>& act) {
  const pid_t parent = fork();
  if (parent == 0) {
    absl::StatusOr<Background> background = Background::Enter();
    if (!background.ok()) _exit(99);
    act(*std::move(background));
    _exit(7);
  }
  int status = 0;
  waitpid(parent, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(BackgroundTest, TheParentWaitsUntilItIsReady) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  EXPECT_EQ(ExitCodeOf([&](Background background) {
              char text[] = "at ?";
              char here[16];
              text[3] = getcwd(here, sizeof here) == nullptr ? '?' : here[0];
              text[2] = here[1] == 0 ? ' ' : 'x';
              [[maybe_unused]] auto n = write(ends[1], text, 4);
              background.Ready();
              _exit(3);  // nobody minds any more
            }),
            0);
  char text[5] = {};
  ASSERT_EQ(read(ends[0], text, 4), 4);
  EXPECT_STREQ(text, "at /");
  EXPECT_EQ(ExitCodeOf([](Background) {}), 7);
}

}  // namespace
}  // namespace zipllm::mount
