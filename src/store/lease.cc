#include "store/lease.h"

#include <signal.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <condition_variable>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <sstream>
#include <string_view>
#include <thread>
#include <utility>

#include "base/bytes.h"
#include "store/format.h"

namespace zipllm::store {
namespace {

constexpr std::string_view kMagic = "zipllm-lease 1\n";
constexpr uint64_t kMaxLease = 4096;  // bytes
constexpr std::string_view kExclusive = "exclusive-";
// How often a change by another that comes between reading and writing is
// believed.
constexpr int kMaxTries = 100;

// Which process it is, as others can tell. Empty or 0: this system does not
// say.
struct Owner {
  std::string host;
  std::string boot;  // of the machine, by chance at each
  std::string pids;  // their namespace
  int64_t pid = 0;
  uint64_t start = 0;  // of the process, in ticks since the boot
  bool operator==(const Owner&) const = default;
  std::string Text() const { return StrCat("pid ", pid, " on ", host); }
};

// "" where it cannot be read, as the stat of a process that ends meanwhile.
std::string ReadSmallFile(const std::string& path) {
  std::ifstream in(path);
  std::ostringstream text;
  text << in.rdbuf();  // catches what reading throws, unlike iterators
  return text.str();
}

enum class Life : uint8_t { kGone, kThere, kUnknown };

// Whether a pid of this namespace lives, and since when (0: not to be learned).
Life LifeOf(int64_t pid, uint64_t* start) {
  *start = 0;
  if (pid <= 0 || (kill(static_cast<pid_t>(pid), 0) != 0 && errno == ESRCH))
    return Life::kGone;
  // "pid (any name) state ppid …": the 20th after the name is when it started,
  // the 18th how many threads it has (proc(5)).
  const std::string stat = ReadSmallFile(StrCat("/proc/", pid, "/stat"));
  const size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos) return Life::kUnknown;
  std::istringstream fields(stat.substr(name_end + 1));
  std::vector<std::string> words{std::istream_iterator<std::string>(fields),
                                 {}};
  if (words.size() < 20) return Life::kUnknown;
  std::from_chars(words[19].data(), words[19].data() + words[19].size(),
                  *start);
  // A zombie; but its first thread may have ended before the others.
  if ((words[0] == "Z" || words[0] == "X") &&
      (words[17] == "0" || words[17] == "1"))
    return Life::kGone;
  return Life::kThere;
}

Owner ThisProcess() {
  Owner owner;
  char host[256] = {};
  gethostname(host, sizeof host - 1);
  owner.host = host;
  // What could break the lines of the value.
  std::erase_if(owner.host, [](char c) { return c < ' '; });
  owner.boot = ReadSmallFile("/proc/sys/kernel/random/boot_id");
  std::erase_if(owner.boot, [](char c) { return c < ' '; });
  char link[64] = {};
  if (readlink("/proc/self/ns/pid", link, sizeof link - 1) > 0)
    owner.pids = link;
  owner.pid = getpid();
  LifeOf(owner.pid, &owner.start);
  return owner;
}

struct LeaseValue {
  std::string id;  // "": an exclusive one that nobody holds
  std::string purpose;
  Owner owner;
  uint64_t renewed = 0;  // how often
};

std::string WriteLease(const LeaseValue& value) {
  return StrCat(kMagic, "id ", value.id, "\npurpose ", value.purpose, "\nhost ",
                value.owner.host, "\nboot ", value.owner.boot, "\nnamespace ",
                value.owner.pids, "\npid ", value.owner.pid, "\nstart ",
                value.owner.start, "\nrenewed ", value.renewed, "\n");
}

// nullopt for what is none, or of a newer version.
std::optional<LeaseValue> ParseLease(ByteSpan bytes) {
  std::string_view rest(reinterpret_cast<const char*>(bytes.data()),
                        bytes.size());
  if (!rest.starts_with(kMagic)) return std::nullopt;
  rest.remove_prefix(kMagic.size());
  std::map<std::string, std::string, std::less<>> fields;
  while (!rest.empty()) {
    const size_t end = rest.find('\n');
    const size_t space = rest.find(' ');
    if (end == std::string_view::npos || space > end) return std::nullopt;
    fields.emplace(rest.substr(0, space),
                   rest.substr(space + 1, end - space - 1));
    rest.remove_prefix(end + 1);
  }
  auto number = [&fields](std::string_view name, auto* out) {
    auto found = fields.find(name);
    if (found == fields.end()) return false;
    const std::string& text = found->second;
    auto [end, error] =
        std::from_chars(text.data(), text.data() + text.size(), *out);
    return error == std::errc() && end == text.data() + text.size();
  };
  LeaseValue value;
  if (!number("pid", &value.owner.pid) ||
      !number("start", &value.owner.start) ||
      !number("renewed", &value.renewed))
    return std::nullopt;
  value.id = fields["id"];
  value.purpose = fields["purpose"];
  value.owner.host = fields["host"];
  value.owner.boot = fields["boot"];
  value.owner.pids = fields["namespace"];
  return value;
}

bool IsExclusive(const storage::Key& key) {
  return key.starts_with(StrCat(kLeasesPrefix, kExclusive));
}

LeaseValue NobodyHolds(LeaseValue value) {
  value.id.clear();
  return value;
}

std::string NewLeaseId() {
  static std::atomic<uint64_t> count = 0;
  uint64_t random[2] = {};
  if (getrandom(random, sizeof random, 0) != sizeof random) {
    random[0] = static_cast<uint64_t>(getpid());
    random[1] = static_cast<uint64_t>(time(nullptr)) << 20 | ++count;
  }
  char text[40];
  std::snprintf(text, sizeof text, "%016llx%016llx",
                static_cast<unsigned long long>(random[0]),
                static_cast<unsigned long long>(random[1]));
  return text;
}

// Counts what a machine sleeps, as the clocks of others do.
std::chrono::nanoseconds BootTime() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return std::chrono::seconds(now.tv_sec) +
         std::chrono::nanoseconds(now.tv_nsec);
}

// The leases that this process holds, by whichever Leases: others of it are
// left from a release that failed.
class HeldIds {
 public:
  void Add(const std::string& id) {
    std::lock_guard lock(mutex_);
    ids_.insert(id);
  }
  void Remove(const std::string& id) {
    std::lock_guard lock(mutex_);
    ids_.erase(id);
  }
  bool Has(const std::string& id) {
    std::lock_guard lock(mutex_);
    return ids_.contains(id);
  }
  static HeldIds& Instance() {
    static HeldIds& held = *new HeldIds;  // destroyed never: leases may be late
    return held;
  }

 private:
  std::mutex mutex_;
  std::set<std::string> ids_;
};

absl::Status Lost(const std::string& purpose, const char* why) {
  return MakeStatus(absl::StatusCode::kAborted, "the lease to ", purpose, " ",
                    why, ": what it protected may be gone; begin again");
}

class HeldLease : public Lease {
 public:
  HeldLease(storage::Storage& storage, const LeaseTimes& times,
            storage::Key key, LeaseValue value)
      : storage_(storage),
        times_(times),
        key_(std::move(key)),
        value_(std::move(value)) {}
  ~HeldLease() override { HeldIds::Instance().Remove(value_.id); }

  const std::string& id() const override { return value_.id; }

  // Puts it for the first time, over `version` of the key.
  absl::Status Begin(const std::string& version) {
    std::lock_guard lock(mutex_);
    version_ = version;
    HeldIds::Instance().Add(value_.id);
    return Put();
  }

  // False when there is nothing to do for it any more.
  bool Renew() {
    std::lock_guard lock(mutex_);
    if (ended_) return !End();
    if (!Check().ok()) return false;
    ++value_.renewed;
    // A failure that may pass is tried again in the next turn.
    if (Put().code() == absl::StatusCode::kAborted) gone_ = true;
    return true;
  }

  absl::Status CheckHeld() const override {
    std::lock_guard lock(mutex_);
    RETURN_IF_ERROR(Check());
    absl::StatusOr<storage::Value> value = storage_.Get(key_, kMaxLease);
    if (!value.ok() && value.status().code() != absl::StatusCode::kNotFound)
      return value.status();
    if (!value.ok() || !IsOurs(*value)) gone_ = true;
    return Check();
  }

  // False if Renew must try again: others take it for alive, as its process is.
  bool Release() {
    std::lock_guard lock(mutex_);
    ended_ = true;
    HeldIds::Instance().Remove(value_.id);
    return End();
  }

 private:
  // With mutex_ held, as those below.
  absl::Status Check() const {
    if (gone_) return Lost(value_.purpose, "was removed");
    if (BootTime() - renewed_ > times_.held) late_ = true;
    if (late_) return Lost(value_.purpose, "was not renewed for too long");
    return absl::OkStatus();
  }
  bool IsOurs(const storage::Value& value) const {
    std::optional<LeaseValue> lease = ParseLease(value.bytes);
    return lease.has_value() && lease->id == value_.id;
  }
  // Whether nothing of it is left.
  bool End() {
    if (gone_) return true;
    absl::Status ended;
    if (IsExclusive(key_)) {
      // Its key stays: a Delete could hit the next that takes it.
      for (int i = 0; i < 2; ++i) {
        ended = storage_.PutIfMatch(
            key_, AsBytes(WriteLease(NobodyHolds(value_))), version_);
        if (ended.code() != absl::StatusCode::kAborted) break;
        // Put by this, though it was said to have failed?
        absl::StatusOr<storage::Value> there = storage_.Get(key_, kMaxLease);
        if (!there.ok()) break;
        if (!IsOurs(*there)) break;
        version_ = there->version;
      }
    } else {
      ended = storage_.Delete(key_);
    }
    gone_ = ended.ok() || ended.code() == absl::StatusCode::kAborted ||
            ended.code() == absl::StatusCode::kNotFound;
    return gone_;
  }
  // Puts it over version_. One that has our id is ours, whatever was said when
  // it was put.
  absl::Status Put() {
    const std::string text = WriteLease(value_);
    absl::Status put;
    for (int i = 0; i < 2; ++i) {
      const std::chrono::nanoseconds now = BootTime();
      put = storage_.PutIfMatch(key_, AsBytes(text), version_);
      absl::StatusOr<storage::Value> there = storage_.Get(key_, kMaxLease);
      if (!there.ok()) {
        if (put.ok() && there.status().code() == absl::StatusCode::kNotFound)
          return Lost(value_.purpose, "was removed");
        return put.ok() ? there.status() : put;
      }
      if (!IsOurs(*there))
        return put.ok() ? Lost(value_.purpose, "was taken over") : put;
      version_ = there->version;
      if (std::ranges::equal(there->bytes, AsBytes(text))) {
        renewed_ = now;
        return absl::OkStatus();
      }
      if (put.code() != absl::StatusCode::kAborted) return put;
    }
    return put;
  }

  storage::Storage& storage_;
  const LeaseTimes times_;
  const storage::Key key_;
  mutable std::mutex mutex_;
  LeaseValue value_;
  std::string version_;
  std::chrono::nanoseconds renewed_{};
  mutable bool gone_ = false;  // the value is not ours
  mutable bool late_ = false;  // once for too long
  bool ended_ = false;
};

// What the holder of a lease has.
class LeaseHandle : public Lease {
 public:
  LeaseHandle(std::shared_ptr<HeldLease> held, std::function<void()> release)
      : held_(std::move(held)), release_(std::move(release)) {}
  ~LeaseHandle() override {
    if (getpid() != pid_) return;  // the parent's
    release_();
  }
  const std::string& id() const override { return held_->id(); }
  absl::Status CheckHeld() const override { return held_->CheckHeld(); }

 private:
  const std::shared_ptr<HeldLease> held_;
  const std::function<void()> release_;
  const pid_t pid_ = getpid();
};

// Renews leases, by a thread that starts with the first.
class Renewer {
 public:
  explicit Renewer(std::chrono::milliseconds every) : every_(every) {}

  void Add(std::shared_ptr<HeldLease> lease) {
    std::lock_guard lock(mutex_);
    leases_.insert(std::move(lease));
    if (!thread_.joinable())
      thread_ = std::jthread([this](std::stop_token stop) { Run(stop); });
  }
  void Release(const std::shared_ptr<HeldLease>& lease) {
    if (lease->Release()) Remove(lease);
  }

 private:
  void Remove(const std::shared_ptr<HeldLease>& lease) {
    std::lock_guard lock(mutex_);
    leases_.erase(lease);
  }
  void Run(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    while (!changed_.wait_for(lock, stop, every_,
                              [&stop] { return stop.stop_requested(); })) {
      const std::set<std::shared_ptr<HeldLease>> leases = leases_;
      lock.unlock();
      for (const std::shared_ptr<HeldLease>& lease : leases) {
        if (stop.stop_requested()) return;
        if (!lease->Renew()) Remove(lease);
      }
      lock.lock();
    }
  }

  const std::chrono::milliseconds every_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::set<std::shared_ptr<HeldLease>> leases_;
  std::jthread thread_;  // the last: it ends before what it uses
};

class LeasesImpl : public Leases {
 public:
  LeasesImpl(storage::Storage& storage, const LeaseTimes& times)
      : storage_(storage),
        times_(times),
        renewer_(std::make_unique<Renewer>(times.renew)) {}
  ~LeasesImpl() override {
    // A child of fork has no such thread: to wait for it would take for ever.
    if (getpid() != self_.pid) static_cast<void>(renewer_.release());
  }

  absl::StatusOr<std::shared_ptr<Lease>> Take(
      const std::string& purpose) override {
    const LeaseValue value = NewValue(purpose);
    return Hold(kLeasesPrefix + value.id, value, "");
  }
  absl::StatusOr<std::shared_ptr<Lease>> TakeExclusive(
      const std::string& purpose) override;
  absl::StatusOr<std::vector<LeaseInfo>> List() override;
  absl::StatusOr<uint64_t> RemoveStale() override;

 private:
  // A lease as it is in the storage.
  struct Found {
    storage::Key key;
    storage::Value value;
    std::optional<LeaseValue> lease;  // nullopt: unreadable
    int64_t age_seconds = 0;
    bool stale = false;
  };

  LeaseValue NewValue(const std::string& purpose) const {
    return {.id = NewLeaseId(), .purpose = purpose, .owner = self_};
  }
  absl::StatusOr<std::shared_ptr<Lease>> Hold(const storage::Key& key,
                                              const LeaseValue& value,
                                              const std::string& version) {
    auto held = std::make_shared<HeldLease>(storage_, times_, key, value);
    absl::Status begun = held->Begin(version);
    if (!begun.ok()) {
      // It may have been put all the same.
      if (begun.code() != absl::StatusCode::kAborted)
        static_cast<void>(held->Release());
      return begun;
    }
    renewer_->Add(held);
    return std::make_shared<LeaseHandle>(
        held, [this, held] { renewer_->Release(held); });
  }
  // nullopt: there is none, or nobody holds it.
  absl::StatusOr<std::optional<Found>> Read(const storage::Key& key,
                                            std::string* version) const;
  bool IsStale(const Found& found) const;
  absl::StatusOr<std::vector<Found>> ReadAll() const;

  storage::Storage& storage_;
  const LeaseTimes times_;
  const Owner self_ = ThisProcess();
  std::unique_ptr<Renewer> renewer_;
};

bool LeasesImpl::IsStale(const Found& found) const {
  const bool old = found.age_seconds > times_.stale.count();
  if (!found.lease.has_value()) return old;
  const Owner& owner = found.lease->owner;
  if (owner.boot.empty() || owner.boot != self_.boot || owner.pids.empty() ||
      owner.pids != self_.pids)
    return old;
  if (owner == self_) return !HeldIds::Instance().Has(found.lease->id);
  uint64_t start = 0;
  switch (LifeOf(owner.pid, &start)) {
    case Life::kGone:
      return true;
    case Life::kUnknown:
      return old;
    case Life::kThere:
      return start != owner.start && start != 0 && owner.start != 0;
  }
  return old;
}

absl::StatusOr<std::optional<LeasesImpl::Found>> LeasesImpl::Read(
    const storage::Key& key, std::string* version) const {
  version->clear();
  absl::StatusOr<storage::Value> value = storage_.Get(key, kMaxLease);
  if (value.status().code() == absl::StatusCode::kNotFound)
    return std::optional<Found>();
  RETURN_IF_ERROR(value.status());
  *version = value->version;
  Found found;
  found.key = key;
  found.value = *std::move(value);
  found.lease = ParseLease(found.value.bytes);
  if (found.lease.has_value() && found.lease->id.empty())
    return std::optional<Found>();
  ASSIGN_OR_RETURN(const int64_t now, storage_.NowSeconds());
  found.age_seconds = std::max<int64_t>(0, now - found.value.modified_seconds);
  found.stale = IsStale(found);
  return std::optional<Found>(std::move(found));
}

absl::StatusOr<std::vector<LeasesImpl::Found>> LeasesImpl::ReadAll() const {
  ASSIGN_OR_RETURN(const std::vector<storage::Info> infos,
                   storage_.List(kLeasesPrefix));
  std::vector<Found> all;
  for (const storage::Info& info : infos) {
    std::string version;
    ASSIGN_OR_RETURN(std::optional<Found> found, Read(info.key, &version));
    if (found.has_value()) all.push_back(*std::move(found));
  }
  return all;
}

absl::StatusOr<std::shared_ptr<Lease>> LeasesImpl::TakeExclusive(
    const std::string& purpose) {
  const storage::Key key = StrCat(kLeasesPrefix, kExclusive, purpose);
  const LeaseValue value = NewValue(purpose);
  for (int i = 0; i < kMaxTries; ++i) {
    std::string version;
    ASSIGN_OR_RETURN(std::optional<Found> found, Read(key, &version));
    if (found.has_value() && !found->stale) {
      return MakeStatus(
          absl::StatusCode::kUnavailable, purpose, " of ", storage_.Name(),
          " is being done by ",
          found->lease.has_value() ? found->lease->owner.Text() : "another",
          " (seen ", found->age_seconds, " s ago); try again when it is done");
    }
    absl::StatusOr<std::shared_ptr<Lease>> lease = Hold(key, value, version);
    if (lease.ok() || lease.status().code() != absl::StatusCode::kAborted)
      return lease;
  }
  return MakeStatus(absl::StatusCode::kUnavailable, "too many want to ",
                    purpose, " ", storage_.Name(), " at once; try again");
}

absl::StatusOr<std::vector<LeaseInfo>> LeasesImpl::List() {
  ASSIGN_OR_RETURN(const std::vector<Found> all, ReadAll());
  std::vector<LeaseInfo> infos;
  for (const Found& found : all) {
    LeaseInfo info{.id = found.key.substr(found.key.rfind('/') + 1),
                   .purpose = "unknown",
                   .owner = "unknown",
                   .age_seconds = found.age_seconds,
                   .stale = found.stale};
    if (found.lease.has_value()) {
      info.id = found.lease->id;
      info.purpose = found.lease->purpose;
      info.owner = found.lease->owner.Text();
    }
    infos.push_back(std::move(info));
  }
  std::ranges::sort(infos, {}, &LeaseInfo::id);
  return infos;
}

absl::StatusOr<uint64_t> LeasesImpl::RemoveStale() {
  ASSIGN_OR_RETURN(const std::vector<Found> all, ReadAll());
  uint64_t removed = 0;
  for (const Found& found : all) {
    if (!found.stale) continue;
    absl::Status status;
    if (IsExclusive(found.key)) {
      status = storage_.PutIfMatch(
          found.key,
          AsBytes(WriteLease(NobodyHolds(found.lease.value_or(LeaseValue{})))),
          found.value.version);
    } else {
      status = storage_.Delete(found.key);
    }
    if (status.ok()) ++removed;
    // Another did it.
    if (!status.ok() && status.code() != absl::StatusCode::kNotFound &&
        status.code() != absl::StatusCode::kAborted)
      return status;
  }
  return removed;
}

}  // namespace

std::unique_ptr<Leases> Leases::Create(storage::Storage& storage,
                                       const LeaseTimes& times) {
  return std::make_unique<LeasesImpl>(storage, times);
}

}  // namespace zipllm::store
