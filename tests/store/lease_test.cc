#include "store/lease.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <thread>

#include "base/bytes.h"
#include "storage/local.h"
#include "storage/memory.h"

namespace zipllm::store {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr auto kAborted = absl::StatusCode::kAborted;
constexpr auto kUnavailable = absl::StatusCode::kUnavailable;

std::vector<LeaseInfo> List(Leases& leases) {
  auto infos = leases.List();
  EXPECT_TRUE(infos.ok()) << infos.status();
  return infos.ok() ? *infos : std::vector<LeaseInfo>{};
}

bool WaitUntil(const std::function<bool()>& done) {
  for (int i = 0; i < 5000; ++i) {
    if (done()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return false;
}

/// A value of this process, with `from` in it replaced: that of another.
std::string ChangedValue(storage::Storage& storage, const std::string& key,
                         const std::string& from, const std::string& to) {
  auto value = storage.Get(key, 4096);
  EXPECT_TRUE(value.ok()) << value.status();
  std::string text(value->bytes.begin(), value->bytes.end());
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << text;
  return text.replace(at, text.find('\n', at) - at, to);
}

/// A process that takes leases in a folder, tells that it has, and waits to be
/// killed.
class Holder {
 public:
  explicit Holder(const std::string& folder) {
    int pipe_fds[2];
    EXPECT_EQ(pipe(pipe_fds), 0);
    pid_ = fork();
    if (pid_ == 0) {
      auto storage = storage::OpenLocalStorage(folder, false);
      if (!storage.ok()) _exit(1);
      auto leases = Leases::Create(**storage);
      auto shared = leases->Take("add");
      auto exclusive = leases->TakeExclusive("gc");
      if (!shared.ok() || !exclusive.ok()) _exit(1);
      if (write(pipe_fds[1], "x", 1) != 1) _exit(1);
      while (true) pause();
    }
    close(pipe_fds[1]);
    char byte;
    EXPECT_EQ(read(pipe_fds[0], &byte, 1), 1);
    close(pipe_fds[0]);
  }
  ~Holder() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  /// `reap` false: leaves a zombie.
  void Kill(bool reap) {
    kill(pid_, SIGKILL);
    siginfo_t info;
    waitid(P_PID, static_cast<id_t>(pid_), &info,
           WEXITED | (reap ? 0 : WNOWAIT));
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_;
};

class LeaseInFolder : public ::testing::Test {
 protected:
  LeaseInFolder() {
    std::string name =
        (std::filesystem::temp_directory_path() / "zipllm-lease-XXXXXX")
            .string();
    folder_ = mkdtemp(name.data());
    storage_ = *storage::OpenLocalStorage(folder_, false);
    leases_ = Leases::Create(*storage_);
  }
  ~LeaseInFolder() override {
    leases_.reset();
    std::filesystem::remove_all(folder_);
  }

  std::string folder_;
  std::unique_ptr<storage::Storage> storage_;
  std::unique_ptr<Leases> leases_;
};

TEST(Lease, IsSeenByOthersWhileHeld) {
  auto storage = storage::MakeMemoryStorage();
  auto leases = Leases::Create(*storage);
  auto others = Leases::Create(*storage);
  EXPECT_THAT(List(*others), IsEmpty());
  auto first = leases->Take("add");
  auto second = leases->Take("add");
  ASSERT_TRUE(first.ok() && second.ok()) << first.status() << second.status();
  EXPECT_NE((*first)->id(), (*second)->id());
  const std::vector<LeaseInfo> infos = List(*others);
  ASSERT_THAT(infos, SizeIs(2));
  EXPECT_EQ(infos[0].purpose, "add");
  EXPECT_FALSE(infos[0].stale);
  EXPECT_THAT(infos[0].owner, HasSubstr(std::to_string(getpid())));
  EXPECT_TRUE((*first)->CheckHeld().ok());
  first->reset();
  ASSERT_THAT(List(*others), SizeIs(1));
  EXPECT_EQ(List(*others)[0].id, (*second)->id());
  EXPECT_EQ(*others->RemoveStale(), 0U);
  EXPECT_TRUE((*second)->CheckHeld().ok());
}

TEST(Lease, ExclusiveOnesAreHeldByOne) {
  auto storage = storage::MakeMemoryStorage();
  auto leases = Leases::Create(*storage);
  auto others = Leases::Create(*storage);
  auto gc = leases->TakeExclusive("gc");
  ASSERT_TRUE(gc.ok()) << gc.status();
  for (Leases* by : {leases.get(), others.get()}) {
    auto again = by->TakeExclusive("gc");
    EXPECT_EQ(again.status().code(), kUnavailable);
    EXPECT_THAT(std::string(again.status().message()),
                HasSubstr(std::to_string(getpid())));
  }
  EXPECT_TRUE(others->TakeExclusive("repack").ok());
  ASSERT_THAT(List(*others), SizeIs(1));
  EXPECT_EQ(List(*others)[0].id, (*gc)->id());
  const std::string old = (*gc)->id();
  gc->reset();
  EXPECT_THAT(List(*others), IsEmpty());
  auto next = others->TakeExclusive("gc");
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_NE((*next)->id(), old);
}

TEST(Lease, OfAnotherMachineIsStaleByTheClockOfTheStorage) {
  auto storage = storage::MakeMemoryStorage();
  auto leases = Leases::Create(*storage);
  auto mine = leases->Take("read");
  auto gc = leases->TakeExclusive("gc");
  ASSERT_TRUE(mine.ok() && gc.ok());
  const std::string key = "leases/" + (*mine)->id();
  std::string foreign = ChangedValue(*storage, key, "boot ", "boot other");
  foreign.replace(foreign.find("id ") + 3, 32, std::string(32, 'f'));
  ASSERT_TRUE(
      storage
          ->PutIfMatch("leases/" + std::string(32, 'f'), AsBytes(foreign), "")
          .ok());
  ASSERT_TRUE(
      storage->PutIfMatch("leases/exclusive-repack", AsBytes(foreign), "")
          .ok());
  storage->AdvanceClock(115);
  ASSERT_THAT(List(*leases), SizeIs(4));
  for (const LeaseInfo& info : List(*leases)) EXPECT_FALSE(info.stale);
  EXPECT_EQ(leases->TakeExclusive("repack").status().code(), kUnavailable);
  storage->AdvanceClock(10);
  for (const LeaseInfo& info : List(*leases)) {
    EXPECT_EQ(info.stale, info.id == std::string(32, 'f'));
    EXPECT_GE(info.age_seconds, 125);
  }
  EXPECT_TRUE(leases->TakeExclusive("repack").ok());
  EXPECT_EQ(*leases->RemoveStale(), 1U);
  EXPECT_THAT(List(*leases), SizeIs(2));
  EXPECT_TRUE((*mine)->CheckHeld().ok());
  EXPECT_TRUE((*gc)->CheckHeld().ok());
}

TEST(Lease, OfAReusedPidIsStale) {
  auto storage = storage::MakeMemoryStorage();
  auto leases = Leases::Create(*storage);
  auto mine = leases->Take("read");
  ASSERT_TRUE(mine.ok());
  std::string other = ChangedValue(*storage, "leases/" + (*mine)->id(),
                                   "start ", "start 12345");
  other.replace(other.find("id ") + 3, 32, std::string(32, 'f'));
  ASSERT_TRUE(storage->PutIfMatch("leases/other", AsBytes(other), "").ok());
  ASSERT_THAT(List(*leases), SizeIs(2));
  EXPECT_EQ(*leases->RemoveStale(), 1U);
  ASSERT_THAT(List(*leases), SizeIs(1));
  EXPECT_EQ(List(*leases)[0].id, (*mine)->id());
}

TEST(Lease, UnreadableOnesCountUntilTheyAreOld) {
  auto storage = storage::MakeMemoryStorage();
  auto leases = Leases::Create(*storage);
  ASSERT_TRUE(
      storage->PutIfMatch("leases/a", AsBytes("zipllm-lease 2\n"), "").ok());
  ASSERT_TRUE(storage->PutIfMatch("leases/b", {}, "").ok());
  ASSERT_TRUE(
      storage->PutIfMatch("leases/exclusive-gc", AsBytes("?"), "").ok());
  ASSERT_THAT(List(*leases), SizeIs(3));
  EXPECT_EQ(*leases->RemoveStale(), 0U);
  EXPECT_EQ(leases->TakeExclusive("gc").status().code(), kUnavailable);
  storage->AdvanceClock(125);
  EXPECT_TRUE(leases->TakeExclusive("gc").ok());
  EXPECT_EQ(*leases->RemoveStale(), 2U);
  EXPECT_THAT(List(*leases), IsEmpty());
}

TEST(Lease, IsRenewed) {
  auto storage = storage::MakeMemoryStorage();
  auto leases =
      Leases::Create(*storage, {.renew = std::chrono::milliseconds(1)});
  auto lease = leases->Take("read");
  ASSERT_TRUE(lease.ok());
  const std::string key = "leases/" + (*lease)->id();
  const std::string version = storage->Get(key, 4096)->version;
  EXPECT_TRUE(
      WaitUntil([&] { return storage->Get(key, 4096)->version != version; }));
  EXPECT_TRUE((*lease)->CheckHeld().ok());
}

TEST(Lease, IsLostWhereItWasRemoved) {
  auto storage = storage::MakeMemoryStorage();
  auto leases = Leases::Create(*storage);
  auto lease = leases->Take("add");
  ASSERT_TRUE(lease.ok());
  ASSERT_TRUE(storage->Delete("leases/" + (*lease)->id()).ok());
  EXPECT_EQ((*lease)->CheckHeld().code(), kAborted);
  // A renewal does not bring it back.
  auto renewed =
      Leases::Create(*storage, {.renew = std::chrono::milliseconds(1)});
  auto second = renewed->Take("add");
  ASSERT_TRUE(second.ok());
  ASSERT_TRUE(storage->Delete("leases/" + (*second)->id()).ok());
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ((*second)->CheckHeld().code(), kAborted);
  EXPECT_THAT(List(*leases), IsEmpty());
}

TEST(Lease, IsLostWhereItWasNotRenewed) {
  auto storage = storage::MakeMemoryStorage();
  auto leases = Leases::Create(
      *storage,
      {.renew = std::chrono::hours(1), .held = std::chrono::milliseconds(20)});
  auto lease = leases->Take("add");
  ASSERT_TRUE(lease.ok());
  EXPECT_TRUE(
      WaitUntil([&] { return (*lease)->CheckHeld().code() == kAborted; }));
  ASSERT_THAT(List(*leases), SizeIs(1));
  lease->reset();
  EXPECT_THAT(List(*leases), IsEmpty());
}

// One that slept while another took its place leaves that one alone.
TEST(Lease, ASleeperDoesNotReleaseItsSuccessor) {
  auto storage = storage::MakeMemoryStorage();
  auto leases = Leases::Create(*storage);
  auto sleeper = leases->TakeExclusive("gc");
  ASSERT_TRUE(sleeper.ok());
  const std::string key = "leases/exclusive-gc";
  ASSERT_TRUE(storage
                  ->PutIfMatch(key,
                               AsBytes(ChangedValue(*storage, key, "boot ",
                                                    "boot another")),
                               storage->Get(key, 4096)->version)
                  .ok());
  storage->AdvanceClock(125);
  auto successor = leases->TakeExclusive("gc");
  ASSERT_TRUE(successor.ok()) << successor.status();
  EXPECT_EQ((*sleeper)->CheckHeld().code(), kAborted);
  sleeper->reset();
  EXPECT_TRUE((*successor)->CheckHeld().ok());
  EXPECT_EQ(leases->TakeExclusive("gc").status().code(), kUnavailable);
}

TEST_F(LeaseInFolder, OfAProcessThatWasKilledIsStaleAtOnce) {
  for (const bool reap : {true, false}) {
    leases_.reset();  // its thread: forks are of processes with one alone
    Holder holder(folder_);
    leases_ = Leases::Create(*storage_);
    ASSERT_THAT(List(*leases_), SizeIs(2));
    for (const LeaseInfo& info : List(*leases_)) {
      EXPECT_FALSE(info.stale);
      EXPECT_THAT(info.owner, HasSubstr(std::to_string(holder.pid())));
    }
    EXPECT_EQ(*leases_->RemoveStale(), 0U);
    EXPECT_EQ(leases_->TakeExclusive("gc").status().code(), kUnavailable);
    holder.Kill(reap);
    for (const LeaseInfo& info : List(*leases_)) EXPECT_TRUE(info.stale);
    EXPECT_TRUE(leases_->TakeExclusive("gc").ok());
    EXPECT_EQ(*leases_->RemoveStale(), 1U);
    EXPECT_THAT(List(*leases_), IsEmpty());
  }
}

TEST_F(LeaseInFolder, AChildLeavesThoseOfItsParentAlone) {
  auto shared = leases_->Take("read");
  auto exclusive = leases_->TakeExclusive("gc");
  ASSERT_TRUE(shared.ok() && exclusive.ok());
  const pid_t pid = fork();
  if (pid == 0) {
    shared->reset();
    exclusive->reset();
    leases_.reset();
    auto own = Leases::Create(*storage_);
    auto seen = own->List();
    _exit(own->TakeExclusive("gc").status().code() == kUnavailable &&
                  seen.ok() && seen->size() == 2
              ? 0
              : 1);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE((*shared)->CheckHeld().ok());
  EXPECT_TRUE((*exclusive)->CheckHeld().ok());
}

// Never are two at once in what an exclusive lease protects, also where its
// holder died.
TEST_F(LeaseInFolder, ProcessesExcludeEachOther) {
  const std::string inside = folder_ + "/.inside";
  std::vector<pid_t> pids;
  for (int i = 0; i < 4; ++i) {
    pids.push_back(fork());
    if (pids.back() == 0) {
      auto storage = storage::OpenLocalStorage(folder_, false);
      if (!storage.ok()) _exit(1);
      auto leases = Leases::Create(**storage);
      for (int done = 0; done < 15;) {
        auto lease = leases->TakeExclusive("gc");
        if (!lease.ok()) {
          if (lease.status().code() != kUnavailable) _exit(2);
          usleep(200);
          continue;
        }
        // Fails if another is in here.
        if (mkdir(inside.c_str(), 0700) != 0) _exit(3);
        usleep(100);
        if (!(*lease)->CheckHeld().ok() || rmdir(inside.c_str()) != 0) _exit(4);
        // The last time it dies with the lease.
        if (++done == 15) kill(getpid(), SIGKILL);
      }
    }
  }
  for (pid_t pid : pids) {
    int status = 0;
    waitpid(pid, &status, 0);
    EXPECT_TRUE(WIFSIGNALED(status)) << WEXITSTATUS(status);
  }
  EXPECT_TRUE(leases_->TakeExclusive("gc").ok());
}

}  // namespace
}  // namespace zipllm::store
