#include "mount/block_reader.h"

#include <signal.h>

#include <algorithm>
#include <utility>

namespace zipllm::mount {
namespace {

constexpr uint64_t kSmallBlock = 32 << 10;
// Each shard can keep a few of the largest blocks there are.
constexpr uint64_t kMinShardBytes = 32 << 20;
constexpr uint64_t kMaxShards = 16;
constexpr size_t kAheadPerThread = 8;
// What an entry takes beside its bytes.
constexpr uint64_t kEntryBytes = 256;

size_t ShardCount(uint64_t cache_bytes) {
  return std::clamp<uint64_t>(cache_bytes / kMinShardBytes, 1, kMaxShards);
}

absl::StatusOr<Extent> CheckedBlock(const File& file, uint64_t offset) {
  ASSIGN_OR_RETURN(const auto block, file.BlockAt(offset));
  if (block.first > offset || block.second <= offset ||
      block.second > file.size()) {
    return Internal("the block at byte ", offset, " is said to be from ",
                    block.first, " to ", block.second);
  }
  return Extent{block.first, block.second};
}

bool IsSmall(Extent block) { return block.end - block.begin < kSmallBlock; }

}  // namespace

absl::StatusOr<Extent> ExtentAt(const File& file, uint64_t offset) {
  ASSIGN_OR_RETURN(Extent extent, CheckedBlock(file, offset));
  if (!IsSmall(extent)) return extent;
  const uint64_t window = extent.begin / kSmallBlock;
  while (extent.begin > window * kSmallBlock) {
    ASSIGN_OR_RETURN(const Extent before, CheckedBlock(file, extent.begin - 1));
    if (!IsSmall(before) || before.begin / kSmallBlock != window) break;
    extent.begin = before.begin;
  }
  while (extent.end < std::min((window + 1) * kSmallBlock, file.size())) {
    ASSIGN_OR_RETURN(const Extent after, CheckedBlock(file, extent.end));
    if (!IsSmall(after)) break;
    extent.end = after.end;
  }
  return extent;
}

// Buffers that blocks had, for others of their size: memory that is mapped anew
// takes longer to touch than to decode to. Blocks may outlive it.
class BlockReader::Stock : public std::enable_shared_from_this<Stock> {
 public:
  /// A block whose buffer has `size` bytes of any value.
  std::shared_ptr<Block> Make(uint64_t size) {
    auto block = std::make_unique<Block>();
    {
      std::lock_guard lock(mutex_);
      const auto fits = std::ranges::find(free_, size, &Buffer::size);
      if (fits != free_.end()) {
        block->bytes = std::move(*fits);
        free_.erase(fits);
        free_bytes_ -= size;
      }
    }
    block->bytes.Resize(size);
    return {block.release(), [stock = shared_from_this()](Block* done) {
              stock->TakeBack(std::unique_ptr<Block>(done));
            }};
  }

 private:
  void TakeBack(std::unique_ptr<Block> block) {
    std::lock_guard lock(mutex_);
    if (block->bytes.size() < kSmallBlock ||
        free_bytes_ + block->bytes.size() > kMaxFreeBytes) {
      return;
    }
    free_bytes_ += block->bytes.size();
    free_.push_back(std::move(block->bytes));
  }

  static constexpr uint64_t kMaxFreeBytes = 32 << 20;
  std::mutex mutex_;
  std::vector<Buffer> free_;
  uint64_t free_bytes_ = 0;
};

size_t BlockReader::HashKey::operator()(const Key& key) const {
  // An odd factor, so that neighbours are in different shards.
  uint64_t hash = (key.id * 0x9e3779b97f4a7c15) ^ key.extent.begin;
  hash *= 0xff51afd7ed558ccd;
  return hash ^ (hash >> 32);
}

BlockReader::BlockReader(int threads, uint64_t cache_bytes)
    : threads_(std::max(threads, 1)),
      shard_bytes_(cache_bytes / ShardCount(cache_bytes)),
      shards_(ShardCount(cache_bytes)),
      stock_(std::make_shared<Stock>()) {
  // Signals are for the thread that mounts.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  for (int i = 0; i < threads_; ++i) workers_.emplace_back([this] { Work(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

BlockReader::~BlockReader() { Stop(); }

BlockReader::Shard& BlockReader::ShardOf(const Key& key) {
  return shards_[(HashKey()(key) >> 16) % shards_.size()];
}

bool BlockReader::Enqueue(const Key& key, bool ahead) {
  std::lock_guard lock(mutex_);
  if (stopping_) return false;
  if (ahead && ahead_.size() >= kAheadPerThread * workers_.size()) return false;
  (ahead ? ahead_ : wanted_).push_back(key);
  changed_.notify_one();
  return true;
}

void BlockReader::Get(uint64_t id, const std::shared_ptr<const File>& file,
                      Extent extent, Done done) {
  const Key key{id, extent};
  Shard& shard = ShardOf(key);
  std::shared_ptr<const Block> block;
  bool enqueue = false;
  {
    std::lock_guard lock(shard.mutex);
    Entry& entry = shard.entries[key];
    if (entry.state == State::kKept) {
      shard.used.splice(shard.used.begin(), shard.used, entry.use);
      block = entry.block;
    } else {
      // New, or only read ahead so far.
      enqueue = entry.file == nullptr || entry.state == State::kAhead;
      if (enqueue) {
        entry.file = file;
        entry.state = State::kWanted;
      }
      entry.waiting.push_back(std::move(done));
    }
  }
  if (block != nullptr) {
    done(block);
  } else if (enqueue && !Enqueue(key, /*ahead=*/false)) {
    Fail(key, absl::CancelledError("the mount ends"), /*decoding=*/false);
  }
}

bool BlockReader::ReadAhead(uint64_t id,
                            const std::shared_ptr<const File>& file,
                            Extent extent) {
  const Key key{id, extent};
  Shard& shard = ShardOf(key);
  {
    std::lock_guard lock(shard.mutex);
    const auto [entry, is_new] = shard.entries.try_emplace(key);
    if (!is_new) return true;
    entry->second.file = file;
    entry->second.state = State::kAhead;
  }
  if (Enqueue(key, /*ahead=*/true)) return true;
  std::lock_guard lock(shard.mutex);
  const auto entry = shard.entries.find(key);
  // Somebody may want it by now.
  if (entry != shard.entries.end() && entry->second.state == State::kAhead) {
    shard.entries.erase(entry);
  }
  return false;
}

void BlockReader::Delivered(uint64_t id, const Block& block, uint64_t bytes) {
  const uint64_t size = block.bytes.size();
  const uint64_t before = block.delivered.fetch_add(bytes);
  if (before >= size || before + bytes < size) return;
  const Key key{id, block.extent};
  Shard& shard = ShardOf(key);
  std::shared_ptr<const Block> dropped;  // freed without the lock
  std::lock_guard lock(shard.mutex);
  const auto entry = shard.entries.find(key);
  if (entry == shard.entries.end() || entry->second.block.get() != &block) {
    return;
  }
  dropped = std::move(entry->second.block);
  shard.bytes -= size + kEntryBytes;
  shard.used.erase(entry->second.use);
  shard.entries.erase(entry);
}

void BlockReader::Work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] {
      return stopping_ || !wanted_.empty() || !ahead_.empty();
    });
    if (stopping_) return;
    std::deque<Key>& queue = wanted_.empty() ? ahead_ : wanted_;
    const Key key = queue.front();
    queue.pop_front();
    lock.unlock();
    Decode(key);
    lock.lock();
  }
}

void BlockReader::Decode(const Key& key) {
  Shard& shard = ShardOf(key);
  std::shared_ptr<const File> file;
  {
    std::lock_guard lock(shard.mutex);
    const auto entry = shard.entries.find(key);
    // What was read ahead and then wanted is in both queues.
    if (entry == shard.entries.end() ||
        entry->second.state >= State::kDecoding) {
      return;
    }
    entry->second.state = State::kDecoding;
    file = entry->second.file;
  }
  const Extent extent = key.extent;
  std::shared_ptr<Block> block;
  const absl::Status status = CatchExceptions([&] {
    block = stock_->Make(extent.end - extent.begin);
    block->extent = extent;
    return file->Read(extent.begin, block->bytes.mutable_span());
  });
  if (!status.ok()) return Fail(key, status, /*decoding=*/true);
  decoded_bytes_ += block->bytes.size();

  std::vector<Done> waiting;
  std::vector<std::shared_ptr<const Block>> dropped;  // freed without the lock
  {
    std::lock_guard lock(shard.mutex);
    Entry& entry = shard.entries.at(key);
    entry.state = State::kKept;
    entry.file.reset();
    entry.block = block;
    waiting = std::exchange(entry.waiting, {});
    shard.used.push_front(key);
    entry.use = shard.used.begin();
    shard.bytes += block->bytes.size() + kEntryBytes;
    while (shard.bytes > shard_bytes_ && shard.used.size() > 1) {
      const auto oldest = shard.entries.find(shard.used.back());
      shard.bytes -= oldest->second.block->bytes.size() + kEntryBytes;
      dropped.push_back(std::move(oldest->second.block));
      shard.entries.erase(oldest);
      shard.used.pop_back();
    }
  }
  for (const Done& done : waiting) done(block);
}

void BlockReader::Fail(const Key& key, const absl::Status& status,
                       bool decoding) {
  Shard& shard = ShardOf(key);
  std::vector<Done> waiting;
  {
    std::lock_guard lock(shard.mutex);
    const auto entry = shard.entries.find(key);
    if (entry == shard.entries.end()) return;
    const State state = entry->second.state;
    if (state == State::kKept || (state == State::kDecoding) != decoding) {
      return;
    }
    waiting = std::move(entry->second.waiting);
    shard.entries.erase(entry);
  }
  for (const Done& done : waiting) done(status);
}

void BlockReader::Stop() {
  std::deque<Key> wanted, ahead;
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    wanted.swap(wanted_);
    ahead.swap(ahead_);
    changed_.notify_all();
  }
  workers_.clear();
  for (const auto* keys : {&wanted, &ahead}) {
    for (const Key& key : *keys) {
      Fail(key, absl::CancelledError("the mount ends"), /*decoding=*/false);
    }
  }
}

}  // namespace zipllm::mount
