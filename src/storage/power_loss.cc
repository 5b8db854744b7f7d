#include "storage/power_loss.h"

#include <algorithm>
#include <ctime>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <utility>

#include "base/range_source.h"

namespace zipllm::storage {
namespace {

using Bytes = std::vector<uint8_t>;
using SharedBytes = std::shared_ptr<const Bytes>;  // null: no value

absl::Status NotFound(const Key& key) {
  return MakeStatus(absl::StatusCode::kNotFound, "the disk has no ", key);
}

SharedBytes Tear(const SharedBytes& whole, std::mt19937_64& random) {
  Bytes torn = *whole;
  const size_t from = random() % (torn.size() + 1);
  if (random() % 2 == 0) {
    torn.resize(from);
  } else {
    std::fill(torn.begin() + static_cast<ptrdiff_t>(from), torn.end(), 0);
  }
  return std::make_shared<const Bytes>(std::move(torn));
}

}  // namespace

class Disk::Medium {
 public:
  struct State {
    uint64_t moment = 0;
    SharedBytes bytes;
    int64_t modified_seconds = 0;
  };
  struct History {
    std::vector<State> states;                       // in order; the last holds
    std::vector<std::pair<uint64_t, size_t>> syncs;  // moment, state
  };

  // With mutex held.
  const State* Find(const Key& key) const {
    auto found = keys.find(key);
    if (found == keys.end() || found->second.states.back().bytes == nullptr)
      return nullptr;
    return &found->second.states.back();
  }
  void Set(const Key& key, SharedBytes bytes) {
    keys[key].states.push_back({.moment = now++,
                                .bytes = std::move(bytes),
                                .modified_seconds = time(nullptr)});
  }

  mutable std::mutex mutex;
  std::map<Key, History> keys;
  uint64_t now = 0;
};

class Disk::Mounted : public Storage {
 public:
  explicit Mounted(std::shared_ptr<Medium> medium)
      : medium_(std::move(medium)) {}

  absl::StatusOr<std::unique_ptr<Source>> Open(const Key& key) const override {
    RETURN_IF_ERROR(CheckKey(key));
    std::lock_guard lock(medium_->mutex);
    const Medium::State* state = medium_->Find(key);
    if (state == nullptr) return NotFound(key);
    return MakeOwningSource(state->bytes, key);
  }

  absl::StatusOr<Value> Get(const Key& key, uint64_t max_bytes) const override {
    RETURN_IF_ERROR(CheckKey(key));
    std::lock_guard lock(medium_->mutex);
    const Medium::State* state = medium_->Find(key);
    if (state == nullptr) return NotFound(key);
    if (state->bytes->size() > max_bytes)
      return ResourceExhausted(key, " has more than ", max_bytes, " bytes");
    return Value{.bytes = *state->bytes,
                 .version = VersionOf(state),
                 .modified_seconds = state->modified_seconds};
  }

  absl::StatusOr<std::unique_ptr<Upload>> PutIfAbsent(const Key& key) override {
    RETURN_IF_ERROR(CheckKey(key));
    return std::make_unique<DiskUpload>(*this, key);
  }

  absl::Status PutIfMatch(const Key& key, ByteSpan bytes,
                          const std::string& version) override {
    RETURN_IF_ERROR(CheckKey(key));
    std::lock_guard lock(medium_->mutex);
    if (VersionOf(medium_->Find(key)) != version) {
      return MakeStatus(absl::StatusCode::kAborted, key,
                        " was changed by another");
    }
    Set(key, std::make_shared<const Bytes>(bytes.begin(), bytes.end()));
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<Info>> List(const Key& prefix) const override {
    RETURN_IF_ERROR(CheckPrefix(prefix));
    std::lock_guard lock(medium_->mutex);
    std::vector<Info> found;
    for (auto at = medium_->keys.lower_bound(prefix);
         at != medium_->keys.end() && at->first.starts_with(prefix); ++at) {
      touched_.insert(at->first);
      const Medium::State& state = at->second.states.back();
      if (state.bytes == nullptr) continue;
      found.push_back({.key = at->first,
                       .size = state.bytes->size(),
                       .modified_seconds = state.modified_seconds});
    }
    return found;
  }

  absl::Status Delete(const Key& key) override {
    RETURN_IF_ERROR(CheckKey(key));
    std::lock_guard lock(medium_->mutex);
    if (medium_->Find(key) == nullptr) return NotFound(key);
    Set(key, nullptr);
    return absl::OkStatus();
  }

  absl::Status Sync() override {
    std::lock_guard lock(medium_->mutex);
    for (const Key& key : touched_) {
      Medium::History& history = medium_->keys[key];
      history.syncs.emplace_back(medium_->now, history.states.size() - 1);
    }
    touched_.clear();
    ++medium_->now;
    return absl::OkStatus();
  }

  absl::StatusOr<int64_t> NowSeconds() const override { return time(nullptr); }
  std::string Name() const override { return "disk"; }

 private:
  class DiskUpload : public Upload {
   public:
    DiskUpload(Mounted& storage, Key key)
        : storage_(storage), key_(std::move(key)) {}
    absl::Status Write(ByteSpan data) override {
      bytes_.insert(bytes_.end(), data.begin(), data.end());
      return absl::OkStatus();
    }
    absl::Status Commit() override {
      std::lock_guard lock(storage_.medium_->mutex);
      if (storage_.medium_->Find(key_) != nullptr) {
        return MakeStatus(absl::StatusCode::kAlreadyExists, key_,
                          " is there already");
      }
      storage_.Set(key_, std::make_shared<const Bytes>(std::move(bytes_)));
      return absl::OkStatus();
    }
    std::string Name() const override { return key_; }

   private:
    Mounted& storage_;
    const Key key_;
    Bytes bytes_;
  };

  static std::string VersionOf(const Medium::State* state) {
    return state == nullptr ? "" : std::to_string(state->moment);
  }
  // With the medium's mutex held.
  void Set(const Key& key, SharedBytes bytes) {
    medium_->Set(key, std::move(bytes));
    touched_.insert(key);
  }

  const std::shared_ptr<Medium> medium_;
  mutable std::set<Key> touched_;  // changed or listed since the last Sync
};

Disk::Disk() : medium_(std::make_shared<Medium>()) {}
Disk::~Disk() = default;
Disk::Disk(Disk&&) noexcept = default;
Disk& Disk::operator=(Disk&&) noexcept = default;

std::unique_ptr<Storage> Disk::Mount() {
  return std::make_unique<Mounted>(medium_);
}

uint64_t Disk::Now() const {
  std::lock_guard lock(medium_->mutex);
  return medium_->now;
}

Disk Disk::AfterPowerLoss(uint64_t moment, uint64_t seed, bool torn) const {
  std::mt19937_64 random(seed);
  // In some losses nearly all is kept, in others nearly nothing.
  const uint64_t keep = random() % 5;  // of 4
  Disk after;
  std::lock_guard lock(medium_->mutex);
  for (const auto& [key, history] : medium_->keys) {
    size_t last = 0;  // of the states there were; 0: none, not there
    while (last < history.states.size() && history.states[last].moment < moment)
      ++last;
    size_t synced = 0;
    for (const auto& [when, state] : history.syncs) {
      if (when < moment) synced = std::max(synced, state + 1);
    }
    size_t left = synced;
    while (left < last && random() % 4 < keep) ++left;
    if (left == 0) continue;
    SharedBytes bytes = history.states[left - 1].bytes;
    if (bytes == nullptr) continue;
    if (torn && left > synced && random() % 2 == 0) bytes = Tear(bytes, random);
    after.medium_->Set(key, std::move(bytes));
    // All that is there now has survived.
    after.medium_->keys[key].syncs.emplace_back(0, 0);
  }
  return after;
}

}  // namespace zipllm::storage
