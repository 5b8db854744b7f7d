// Many threads that read and map, slow storage, and a watchdog: no deadlock, no
// wrong byte. ZIPLLM_MOUNT_STRESS_SECONDS makes it longer than 4 seconds.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <thread>

#include "base/file.h"
#include "mount/testing.h"

namespace zipllm::mount {
namespace {

using testing::ByteAt;
using testing::MadeFile;
using testing::MadeTree;
using testing::Mounted;

constexpr uint64_t kFiles = 32;
constexpr uint64_t kThreads = 64;
constexpr uint64_t kSize = 32 << 20;
constexpr uint64_t kBlock = 64 << 10;
// Of so many blocks one cannot be read: the last.
constexpr uint64_t kBadOf = 16;

std::string NameOf(uint64_t file) { return "f" + std::to_string(file); }

std::set<uint64_t> BadBlocks() {
  std::set<uint64_t> bad;
  for (uint64_t i = kBadOf - 1; i < kSize / kBlock; i += kBadOf) bad.insert(i);
  return bad;
}

bool TouchesBad(uint64_t offset, uint64_t size) {
  const uint64_t first = offset / kBlock, last = (offset + size - 1) / kBlock;
  return first / kBadOf != (last + 1) / kBadOf;
}

bool IsRight(uint64_t file, uint64_t offset, ByteSpan bytes) {
  // Some bytes of each page tell.
  for (uint64_t i = 0; i < bytes.size(); i += 509) {
    if (bytes[i] != ByteAt(file, offset + i)) return false;
  }
  return true;
}

TEST(MountStressTest, ManyThreadsReadAndMapOverSlowStorage) {
  const char* longer = std::getenv("ZIPLLM_MOUNT_STRESS_SECONDS");
  const auto length =
      std::chrono::seconds(longer == nullptr ? 4 : std::atoi(longer));
  const Mounted mounted(
      [] {
        std::map<std::string, MadeFile> files;
        for (uint64_t i = 0; i < kFiles; ++i) {
          files[NameOf(i)] = {
              .size = kSize, .seed = i, .block = kBlock, .bad = BadBlocks()};
        }
        return std::make_unique<MadeTree>(files, std::chrono::milliseconds(50));
      },
      // So small that blocks are decoded again and again.
      [](MountOptions* options) { options->cache_bytes = 4 << 20; });
  SKIP_UNLESS_MOUNTED(mounted);

  std::atomic<uint64_t> reads = 0, wrong = 0, errors = 0;
  std::atomic<bool> is_late = false;
  std::mutex mutex;
  std::condition_variable finished;
  bool done = false;
  // Reads that hang end with the mount.
  std::jthread watchdog([&] {
    std::unique_lock lock(mutex);
    if (!finished.wait_for(lock, length + std::chrono::seconds(60),
                           [&] { return done; })) {
      is_late = true;
      mounted.Kill();
    }
  });
  const auto end = std::chrono::steady_clock::now() + length;
  {
    std::vector<std::jthread> threads;
    for (uint64_t t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        const uint64_t file = t % kFiles;
        const UniqueFd fd(open((mounted / NameOf(file)).c_str(), O_RDONLY));
        ASSERT_TRUE(fd.ok()) << errno;
        std::mt19937_64 random(t);
        const bool maps = t >= kFiles;
        void* map = mmap(nullptr, kSize, PROT_READ, MAP_SHARED, fd.get(), 0);
        ASSERT_NE(map, MAP_FAILED);
        uint64_t next = (random() % kSize) / 4096 * 4096;
        while (std::chrono::steady_clock::now() < end) {
          const bool jumps = random() % 4 == 0;
          if (jumps) next = random() % kSize / 4096 * 4096;
          const uint64_t size = std::min<uint64_t>(
              jumps ? 4096 : 4096 << random() % 8, kSize - next);
          // Pages of the bad block, and nothing else, may fail.
          const bool touches_bad = TouchesBad(next, size);
          if (maps && !touches_bad) {  // SIGBUS would be right there
            wrong += !IsRight(file, next,
                              {static_cast<const uint8_t*>(map) + next, size});
          } else {
            std::vector<uint8_t> out(size);
            const ssize_t n =
                pread(fd.get(), out.data(), size, static_cast<off_t>(next));
            if (n < 0) {
              ++errors;
              wrong += errno != EIO || !touches_bad;
            } else {
              wrong +=
                  !IsRight(file, next, {out.data(), static_cast<size_t>(n)});
              wrong += static_cast<uint64_t>(n) < size && !touches_bad;
            }
          }
          ++reads;
          next = (next + size) % kSize;
        }
        munmap(map, kSize);
      });
    }
  }
  {
    std::lock_guard lock(mutex);
    done = true;
  }
  finished.notify_all();
  EXPECT_FALSE(is_late) << "reads hang";
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(reads, kThreads);
  std::printf("%llu reads, %llu failed as they should\n",
              static_cast<unsigned long long>(reads),
              static_cast<unsigned long long>(errors));
}

}  // namespace
}  // namespace zipllm::mount
