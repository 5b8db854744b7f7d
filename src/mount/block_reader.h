#ifndef ZIPLLM_MOUNT_BLOCK_READER_H_
#define ZIPLLM_MOUNT_BLOCK_READER_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/buffer.h"
#include "base/status.h"
#include "mount/tree.h"

namespace zipllm::mount {

/// A part of a file: [begin, end).
struct Extent {
  uint64_t begin = 0;
  uint64_t end = 0;
  bool operator==(const Extent&) const = default;
};

/// What is decoded at once to have the byte at `offset`: the block that it is
/// in or, where many small ones lie side by side, a run of them (begun in the
/// same 32 KiB of the file, none of them larger).
absl::StatusOr<Extent> ExtentAt(const File& file, uint64_t offset);

/// Decodes extents of files by threads of its own, each once however many ask
/// for it at a time, and keeps those that were used last. Its threads wait for
/// nobody. Thread-safe.
class BlockReader {
 public:
  struct Block {
    Extent extent;
    Buffer bytes;
    mutable std::atomic<uint64_t> delivered = 0;  // of its bytes
  };
  using Result = absl::StatusOr<std::shared_ptr<const Block>>;
  using Done = std::function<void(const Result&)>;

  /// Keeps blocks of up to `cache_bytes` together, at least the last one.
  BlockReader(int threads, uint64_t cache_bytes);
  /// As Stop.
  ~BlockReader();
  BlockReader(const BlockReader&) = delete;
  BlockReader& operator=(const BlockReader&) = delete;

  /// Calls `done` once: before it returns where the block is kept, else from a
  /// thread of its own. Errors are not kept. `id` stands for the file's
  /// content: an extent with it is decoded from any file that has it.
  void Get(uint64_t id, const std::shared_ptr<const File>& file, Extent extent,
           Done done);
  /// Decodes what nobody asks for yet, after all that somebody does. False:
  /// too much is to be decoded already.
  bool ReadAhead(uint64_t id, const std::shared_ptr<const File>& file,
                 Extent extent);
  /// Says that so many bytes of a block are in the kernel's cache: one of which
  /// all are is let go, since nobody asks for them soon.
  void Delivered(uint64_t id, const Block& block, uint64_t bytes);
  /// Finishes what is being decoded; the rest, now and later, fails with
  /// CANCELLED.
  void Stop();

  int threads() const { return threads_; }
  uint64_t decoded_bytes() const { return decoded_bytes_; }

 private:
  class Stock;
  struct Key {
    uint64_t id;
    Extent extent;
    bool operator==(const Key&) const = default;
  };
  struct HashKey {
    size_t operator()(const Key& key) const;
  };
  enum class State { kAhead, kWanted, kDecoding, kKept };
  struct Entry {
    State state = State::kWanted;
    std::shared_ptr<const File> file;  // until it is kept
    std::vector<Done> waiting;
    std::shared_ptr<const Block> block;  // when it is kept
    std::list<Key>::iterator use;        // its place in Shard::used
  };
  struct Shard {
    std::mutex mutex;
    std::unordered_map<Key, Entry, HashKey> entries;
    std::list<Key> used;  // that are kept, the last used first
    uint64_t bytes = 0;   // that they have
  };

  Shard& ShardOf(const Key& key);
  bool Enqueue(const Key& key, bool ahead);
  void Work();
  void Decode(const Key& key);
  // Takes out an entry that is being decoded, or one that is not yet.
  void Fail(const Key& key, const absl::Status& status, bool decoding);

  const int threads_;
  const uint64_t shard_bytes_;  // that each may keep
  std::vector<Shard> shards_;
  const std::shared_ptr<Stock> stock_;
  std::atomic<uint64_t> decoded_bytes_ = 0;

  std::mutex mutex_;  // of the queues; never taken with that of a shard
  std::condition_variable changed_;
  std::deque<Key> wanted_, ahead_;
  bool stopping_ = false;
  std::vector<std::jthread> workers_;
};

}  // namespace zipllm::mount

#endif  // ZIPLLM_MOUNT_BLOCK_READER_H_
