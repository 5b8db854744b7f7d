#include "storage/memory.h"

#include <ctime>
#include <map>
#include <mutex>
#include <string_view>
#include <utility>

#include "base/range_source.h"

namespace zipllm::storage {
namespace {

using Bytes = std::vector<uint8_t>;

struct Stored {
  std::shared_ptr<const Bytes> bytes;
  uint64_t version = 0;
  int64_t modified_seconds = 0;
};

absl::Status NotFound(const Key& key) {
  return MakeStatus(absl::StatusCode::kNotFound, "memory has no ", key);
}

class MemoryStorageImpl : public MemoryStorage {
 public:
  absl::StatusOr<std::unique_ptr<Source>> Open(const Key& key) const override {
    RETURN_IF_ERROR(CheckKey(key));
    std::lock_guard lock(mutex_);
    auto found = values_.find(key);
    if (found == values_.end()) return NotFound(key);
    return MakeOwningSource(found->second.bytes, key);
  }

  absl::StatusOr<Value> Get(const Key& key, uint64_t max_bytes) const override {
    RETURN_IF_ERROR(CheckKey(key));
    std::lock_guard lock(mutex_);
    auto found = values_.find(key);
    if (found == values_.end()) return NotFound(key);
    const Stored& stored = found->second;
    if (stored.bytes->size() > max_bytes) {
      return ResourceExhausted(key, " has ", stored.bytes->size(),
                               " bytes; at most ", max_bytes, " were expected");
    }
    return Value{.bytes = *stored.bytes,
                 .version = std::to_string(stored.version),
                 .modified_seconds = stored.modified_seconds};
  }

  absl::StatusOr<std::unique_ptr<Upload>> PutIfAbsent(const Key& key) override {
    RETURN_IF_ERROR(CheckKey(key));
    return std::make_unique<MemoryUpload>(*this, key);
  }

  absl::Status PutIfMatch(const Key& key, ByteSpan bytes,
                          const std::string& version) override {
    RETURN_IF_ERROR(CheckKey(key));
    std::lock_guard lock(mutex_);
    auto found = values_.find(key);
    if ((found == values_.end() ? "" : std::to_string(found->second.version)) !=
        version) {
      return MakeStatus(absl::StatusCode::kAborted, key,
                        " was changed by another");
    }
    Put(key, {bytes.begin(), bytes.end()});
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<Info>> List(const Key& prefix) const override {
    RETURN_IF_ERROR(CheckPrefix(prefix));
    std::lock_guard lock(mutex_);
    std::vector<Info> found;
    for (auto at = values_.lower_bound(prefix);
         at != values_.end() && at->first.starts_with(prefix); ++at) {
      found.push_back({.key = at->first,
                       .size = at->second.bytes->size(),
                       .modified_seconds = at->second.modified_seconds});
    }
    return found;
  }

  absl::Status Delete(const Key& key) override {
    RETURN_IF_ERROR(CheckKey(key));
    std::lock_guard lock(mutex_);
    return values_.erase(key) != 0 ? absl::OkStatus() : NotFound(key);
  }

  absl::Status Sync() override { return absl::OkStatus(); }
  absl::StatusOr<int64_t> NowSeconds() const override {
    std::lock_guard lock(mutex_);
    return time(nullptr) + ahead_;
  }
  std::string Name() const override { return "memory"; }

  void AdvanceClock(int64_t seconds) override {
    std::lock_guard lock(mutex_);
    ahead_ += seconds;
  }

 private:
  class MemoryUpload : public Upload {
   public:
    MemoryUpload(MemoryStorageImpl& storage, Key key)
        : storage_(storage), key_(std::move(key)) {}
    absl::Status Write(ByteSpan data) override {
      bytes_.insert(bytes_.end(), data.begin(), data.end());
      return absl::OkStatus();
    }
    absl::Status Commit() override {
      std::lock_guard lock(storage_.mutex_);
      if (storage_.values_.contains(key_)) {
        return MakeStatus(absl::StatusCode::kAlreadyExists, key_,
                          " is there already");
      }
      storage_.Put(key_, std::move(bytes_));
      return absl::OkStatus();
    }
    std::string Name() const override { return key_; }

   private:
    MemoryStorageImpl& storage_;
    const Key key_;
    Bytes bytes_;
  };

  // With mutex_ held.
  void Put(const Key& key, Bytes bytes) {
    values_[key] = {.bytes = std::make_shared<const Bytes>(std::move(bytes)),
                    .version = ++last_version_,
                    .modified_seconds = time(nullptr) + ahead_};
  }

  mutable std::mutex mutex_;
  std::map<Key, Stored> values_;
  uint64_t last_version_ = 0;
  int64_t ahead_ = 0;
};

}  // namespace

std::unique_ptr<MemoryStorage> MakeMemoryStorage() {
  return std::make_unique<MemoryStorageImpl>();
}

}  // namespace zipllm::storage
