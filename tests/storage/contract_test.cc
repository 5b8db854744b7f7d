// What every storage does, and what the local one does beside it.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <functional>
#include <thread>

#include "base/bytes.h"
#include "storage/local.h"
#include "storage/memory.h"
#include "storage/power_loss.h"

namespace zipllm::storage {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

/// A new folder, removed with all in it at the end.
class Folder {
 public:
  Folder() {
    std::string name =
        (std::filesystem::temp_directory_path() / "zipllm-storage-XXXXXX")
            .string();
    path_ = mkdtemp(name.data());
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

absl::Status Put(Storage& storage, const Key& key, const std::string& text) {
  ASSIGN_OR_RETURN(std::unique_ptr<Upload> upload, storage.PutIfAbsent(key));
  RETURN_IF_ERROR(upload->Write(AsBytes(text)));
  return upload->Commit();
}

std::string Text(const Storage& storage, const Key& key) {
  absl::StatusOr<Value> value = storage.Get(key, 1 << 20);
  if (!value.ok()) return StrCat(value.status());
  return {value->bytes.begin(), value->bytes.end()};
}

std::vector<Key> Keys(const Storage& storage, const Key& prefix) {
  absl::StatusOr<std::vector<Info>> infos = storage.List(prefix);
  EXPECT_TRUE(infos.ok()) << infos.status();
  std::vector<Key> keys;
  if (infos.ok()) {
    for (const Info& info : *infos) keys.push_back(info.key);
  }
  return keys;
}

// Adds one to the number that `key` holds, `times` times, whatever others do
// to it meanwhile.
absl::Status Count(Storage& storage, const Key& key, int times) {
  while (times > 0) {
    absl::StatusOr<Value> old = storage.Get(key, 100);
    if (!old.ok() && old.status().code() != absl::StatusCode::kNotFound)
      return old.status();
    const int number =
        old.ok() ? std::stoi(std::string(old->bytes.begin(), old->bytes.end()))
                 : 0;
    absl::Status put = storage.PutIfMatch(
        key, AsBytes(std::to_string(number + 1)), old.ok() ? old->version : "");
    if (put.ok()) {
      --times;
    } else if (put.code() != absl::StatusCode::kAborted) {
      return put;
    }
  }
  return absl::OkStatus();
}

enum class Kind { kLocal, kLocalUnsynced, kMemory, kPowerLoss };

class Contract : public ::testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    switch (GetParam()) {
      case Kind::kLocal:
      case Kind::kLocalUnsynced: {
        auto local =
            OpenLocalStorage(folder_.path(), GetParam() == Kind::kLocal);
        ASSERT_TRUE(local.ok()) << local.status();
        storage_ = *std::move(local);
        break;
      }
      case Kind::kMemory:
        storage_ = MakeMemoryStorage();
        break;
      case Kind::kPowerLoss:
        storage_ = disk_.Mount();
        break;
    }
  }

  Folder folder_;
  Disk disk_;
  std::unique_ptr<Storage> storage_;
};

TEST_P(Contract, PutIfAbsentThenRead) {
  ASSERT_TRUE(Put(*storage_, "packs/3f/a.zllm", "0123456789").ok());
  EXPECT_EQ(Text(*storage_, "packs/3f/a.zllm"), "0123456789");
  auto source = storage_->Open("packs/3f/a.zllm");
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_TRUE((*source)->Seekable());
  EXPECT_EQ((*source)->Size(), 10);
  std::vector<uint8_t> bytes(4);
  EXPECT_EQ(*(*source)->ReadAt(3, bytes), 4U);
  EXPECT_THAT(bytes, ElementsAre('3', '4', '5', '6'));
  EXPECT_EQ(*(*source)->ReadAt(8, bytes), 2U);
  EXPECT_EQ(*(*source)->ReadAt(10, bytes), 0U);
  EXPECT_EQ(*(*source)->Read(bytes), 4U);
  EXPECT_THAT(bytes, ElementsAre('0', '1', '2', '3'));
}

TEST_P(Contract, EmptyValue) {
  ASSERT_TRUE(Put(*storage_, "empty", "").ok());
  EXPECT_EQ(Text(*storage_, "empty"), "");
  auto value = storage_->Get("empty", 0);
  ASSERT_TRUE(value.ok()) << value.status();
  EXPECT_NE(value->version, "");
}

TEST_P(Contract, NothingIsThereBeforeCommit) {
  auto upload = storage_->PutIfAbsent("packs/a");
  ASSERT_TRUE(upload.ok()) << upload.status();
  ASSERT_TRUE((*upload)->Write(AsBytes("half")).ok());
  EXPECT_THAT(Keys(*storage_, ""), IsEmpty());
  EXPECT_EQ(storage_->Open("packs/a").status().code(),
            absl::StatusCode::kNotFound);
  upload->reset();
  EXPECT_THAT(Keys(*storage_, ""), IsEmpty());
  EXPECT_TRUE(Put(*storage_, "packs/a", "whole").ok());
}

TEST_P(Contract, PutIfAbsentNeverReplaces) {
  auto first = storage_->PutIfAbsent("a");
  auto second = storage_->PutIfAbsent("a");
  ASSERT_TRUE(first.ok() && second.ok());
  ASSERT_TRUE((*first)->Write(AsBytes("first")).ok());
  ASSERT_TRUE((*second)->Write(AsBytes("second")).ok());
  EXPECT_TRUE((*second)->Commit().ok());
  EXPECT_EQ((*first)->Commit().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(Text(*storage_, "a"), "second");
}

TEST_P(Contract, PutIfMatchComparesVersions) {
  EXPECT_EQ(storage_->PutIfMatch("r/a", AsBytes("x"), "version").code(),
            absl::StatusCode::kAborted);
  EXPECT_THAT(Keys(*storage_, ""), IsEmpty());
  ASSERT_TRUE(storage_->PutIfMatch("r/a", AsBytes("one"), "").ok());
  EXPECT_EQ(storage_->PutIfMatch("r/a", AsBytes("x"), "").code(),
            absl::StatusCode::kAborted);
  const std::string first = storage_->Get("r/a", 100)->version;
  ASSERT_TRUE(storage_->PutIfMatch("r/a", AsBytes("two"), first).ok());
  EXPECT_EQ(storage_->PutIfMatch("r/a", AsBytes("x"), first).code(),
            absl::StatusCode::kAborted);
  EXPECT_EQ(Text(*storage_, "r/a"), "two");
  ASSERT_TRUE(storage_->Delete("r/a").ok());
  EXPECT_EQ(storage_->PutIfMatch("r/a", AsBytes("x"), first).code(),
            absl::StatusCode::kAborted);
  EXPECT_TRUE(storage_->PutIfMatch("r/a", AsBytes("three"), "").ok());
}

TEST_P(Contract, GetIsBounded) {
  ASSERT_TRUE(Put(*storage_, "a", "12345").ok());
  EXPECT_TRUE(storage_->Get("a", 5).ok());
  EXPECT_EQ(storage_->Get("a", 4).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST_P(Contract, ListGivesKeysInOrder) {
  for (const char* key : {"a/b/c", "a/b-c", "a/b.c", "ab", "a/B", "a/b/a/a"})
    ASSERT_TRUE(Put(*storage_, key, key).ok());
  EXPECT_THAT(Keys(*storage_, ""),
              ElementsAre("a/B", "a/b-c", "a/b.c", "a/b/a/a", "a/b/c", "ab"));
  EXPECT_THAT(Keys(*storage_, "a/b/"), ElementsAre("a/b/a/a", "a/b/c"));
  EXPECT_THAT(Keys(*storage_, "nothing/"), IsEmpty());
  auto infos = storage_->List("a/b/");
  ASSERT_TRUE(infos.ok());
  EXPECT_EQ((*infos)[0].size, 7U);
  auto now = storage_->NowSeconds();
  ASSERT_TRUE(now.ok());
  EXPECT_NEAR(static_cast<double>((*infos)[0].modified_seconds),
              static_cast<double>(*now), 60);
  EXPECT_EQ(storage_->Get("a/b/a/a", 100)->modified_seconds,
            (*infos)[0].modified_seconds);
}

TEST_P(Contract, DeletedValuesStayReadableWhereOpen) {
  ASSERT_TRUE(Put(*storage_, "p/a", "0123456789").ok());
  auto source = storage_->Open("p/a");
  ASSERT_TRUE(source.ok());
  ASSERT_TRUE(storage_->Delete("p/a").ok());
  EXPECT_EQ(storage_->Delete("p/a").code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(storage_->Delete("q/a").code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Keys(*storage_, ""), IsEmpty());
  EXPECT_EQ(storage_->Get("p/a", 100).status().code(),
            absl::StatusCode::kNotFound);
  std::vector<uint8_t> bytes(2);
  EXPECT_EQ(*(*source)->ReadAt(4, bytes), 2U);
  EXPECT_THAT(bytes, ElementsAre('4', '5'));
  EXPECT_TRUE(storage_->Sync().ok());
}

TEST_P(Contract, KeysCannotLeave) {
  for (const char* key :
       {"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/.b",
        ".lock", "a b", "a\\b", "a\nb", "\xc3\xa4", "a:b"}) {
    EXPECT_EQ(Put(*storage_, key, "").code(),
              absl::StatusCode::kInvalidArgument)
        << key;
    for (const absl::Status& status :
         {storage_->Open(key).status(), storage_->Get(key, 9).status(),
          storage_->PutIfMatch(key, {}, ""), storage_->Delete(key),
          storage_->List(std::string(key) + "/../").status()}) {
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << key;
    }
  }
  EXPECT_FALSE(Put(*storage_, std::string(256, 'a'), "").ok());
  EXPECT_TRUE(Put(*storage_, std::string(255, 'a'), "").ok());
  EXPECT_TRUE(Put(*storage_, "A-Z_0.9%2F+", "").ok());
}

TEST_P(Contract, ThreadsCountTogether) {
  std::vector<std::jthread> threads;
  std::atomic<int> failures = 0;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      if (!Count(*storage_, "r/counter", 25).ok()) ++failures;
    });
  }
  threads.clear();
  EXPECT_EQ(failures, 0);
  EXPECT_EQ(Text(*storage_, "r/counter"), "100");
}

TEST_P(Contract, OneThreadWins) {
  for (int round = 0; round < 10; ++round) {
    const Key key = StrCat("packs/", round);
    std::atomic<int> winners = 0;
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&, i] {
        // By both ways to make a value.
        if (i % 2 == 0
                ? Put(*storage_, key, std::to_string(i)).ok()
                : storage_->PutIfMatch(key, AsBytes(std::to_string(i)), "")
                      .ok()) {
          ++winners;
        }
      });
    }
    threads.clear();
    EXPECT_EQ(winners, 1);
  }
}

INSTANTIATE_TEST_SUITE_P(Storages, Contract,
                         ::testing::Values(Kind::kLocal, Kind::kLocalUnsynced,
                                           Kind::kMemory, Kind::kPowerLoss));

// Runs `body` in a process of its own; whether it returned true.
bool InProcess(const std::function<bool()>& body) {
  const pid_t pid = fork();
  if (pid == 0) _exit(body() ? 0 : 1);
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST(LocalStorage, ProcessesCountTogether) {
  Folder folder;
  std::vector<pid_t> pids;
  for (int i = 0; i < 4; ++i) {
    pids.push_back(fork());
    if (pids.back() == 0) {
      auto storage = OpenLocalStorage(folder.path(), false);
      _exit(storage.ok() && Count(**storage, "r/counter", 100).ok() ? 0 : 1);
    }
  }
  for (pid_t pid : pids) {
    int status = 0;
    waitpid(pid, &status, 0);
    EXPECT_EQ(status, 0);
  }
  EXPECT_EQ(Text(**OpenLocalStorage(folder.path()), "r/counter"), "400");
}

// A process that is killed while it counts and uploads leaves neither a lock
// nor half a value.
TEST(LocalStorage, KilledAtAnyTime) {
  Folder folder;
  auto storage = *OpenLocalStorage(folder.path(), false);
  for (int round = 0; round < 30; ++round) {
    const pid_t pid = fork();
    if (pid == 0) {
      for (int i = 0;; ++i) {
        static_cast<void>(Count(*storage, "r/counter", 1));
        static_cast<void>(Put(*storage, StrCat("packs/", round, "/", i),
                              std::string(100000, 'x')));
      }
    }
    usleep(static_cast<useconds_t>(1000 + 300 * round));
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    EXPECT_TRUE(Count(*storage, "r/counter", 1).ok());
  }
  EXPECT_GE(std::stoi(Text(*storage, "r/counter")), 30);
  auto packs = storage->List("packs/");
  ASSERT_TRUE(packs.ok());
  for (const Info& info : *packs) EXPECT_EQ(info.size, 100000U);
}

TEST(LocalStorage, FollowsNoLinks) {
  Folder folder, outside;
  std::ofstream(outside.path() + "/secret") << "secret";
  namespace fs = std::filesystem;
  fs::create_symlink(outside.path(), folder.path() + "/packs");
  fs::create_symlink(outside.path() + "/secret", folder.path() + "/link");
  auto storage = *OpenLocalStorage(folder.path());
  EXPECT_FALSE(storage->Get("packs/secret", 100).ok());
  EXPECT_FALSE(storage->Get("link", 100).ok());
  EXPECT_FALSE(Put(*storage, "packs/a", "a").ok());
  EXPECT_FALSE(storage->PutIfMatch("packs/a", {}, "").ok());
  EXPECT_FALSE(storage->Delete("packs/secret").ok());
  EXPECT_THAT(Keys(*storage, ""), IsEmpty());
  EXPECT_FALSE(storage->List("packs/").ok());
  EXPECT_TRUE(fs::exists(outside.path() + "/secret"));
  EXPECT_FALSE(fs::exists(outside.path() + "/a"));
}

TEST(LocalStorage, LeavesOtherFilesAlone) {
  Folder folder;
  std::ofstream(folder.path() + "/with space") << "x";
  std::ofstream(folder.path() + "/.hidden") << "x";
  ASSERT_EQ(mkfifo((folder.path() + "/fifo").c_str(), 0600), 0);
  auto storage = *OpenLocalStorage(folder.path());
  ASSERT_TRUE(Put(*storage, "a", "a").ok());
  EXPECT_THAT(Keys(*storage, ""), ElementsAre("a"));
  EXPECT_EQ(storage->Get("fifo", 100).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_TRUE(std::filesystem::exists(folder.path() + "/.hidden"));
}

TEST(LocalStorage, RemovesOldTemporaryFiles) {
  Folder folder;
  for (const char* name : {"/.a.tmp", "/.b.tmp", "/.c"})
    std::ofstream(folder.path() + name) << "x";
  const timespec old[2] = {{.tv_sec = 1000, .tv_nsec = 0},
                           {.tv_sec = 1000, .tv_nsec = 0}};
  for (const char* name : {"/.a.tmp", "/.c"})
    ASSERT_EQ(utimensat(AT_FDCWD, (folder.path() + name).c_str(), old, 0), 0);
  auto storage = *OpenLocalStorage(folder.path());
  EXPECT_THAT(Keys(*storage, ""), IsEmpty());
  EXPECT_FALSE(std::filesystem::exists(folder.path() + "/.a.tmp"));
  EXPECT_TRUE(std::filesystem::exists(folder.path() + "/.b.tmp"));
  EXPECT_TRUE(std::filesystem::exists(folder.path() + "/.c"));
}

TEST(LocalStorage, FailedWritesLeaveNothing) {
  Folder folder;
  auto storage = *OpenLocalStorage(folder.path());
  // A file may have 64 KiB at most.
  EXPECT_TRUE(InProcess([&] {
    const rlimit limit = {.rlim_cur = 65536, .rlim_max = 65536};
    signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return false;
    auto upload = storage->PutIfAbsent("packs/a");
    const std::string much(100000, 'x');
    return upload.ok() && !(*upload)->Write(AsBytes(much)).ok() &&
           !(*upload)->Commit().ok() &&
           !storage->PutIfMatch("r", AsBytes(much), "").ok() &&
           Put(*storage, "packs/b", "b").ok();
  }));
  EXPECT_THAT(Keys(*storage, ""), ElementsAre("packs/b"));
}

// Makes system calls fail in this process as they do on older kernels and
// simpler file systems.
bool WithoutModernCalls() {
  constexpr auto kCall = static_cast<uint32_t>(offsetof(seccomp_data, nr));
  constexpr auto kFlags =
      static_cast<uint32_t>(offsetof(seccomp_data, args[2]));
  constexpr uint32_t kFail = SECCOMP_RET_ERRNO;
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kCall),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, kFail | ENOSYS),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_linkat, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, kFail | EPERM),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kFlags),
      BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_TMPFILE & ~O_DIRECTORY, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, kFail | EOPNOTSUPP),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {.len = std::size(filter), .filter = filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

TEST(LocalStorage, WorksOnOldKernelsAndSimpleFileSystems) {
  Folder folder, outside;
  std::filesystem::create_symlink(outside.path(), folder.path() + "/link");
  if (!InProcess(WithoutModernCalls)) GTEST_SKIP() << "no seccomp here";
  EXPECT_TRUE(InProcess([&] {
    if (!WithoutModernCalls()) return false;
    auto storage = OpenLocalStorage(folder.path());
    return storage.ok() && Put(**storage, "packs/3f/a", "a").ok() &&
           Put(**storage, "packs/3f/a", "b").code() ==
               absl::StatusCode::kAlreadyExists &&
           Text(**storage, "packs/3f/a") == "a" &&
           Count(**storage, "r/counter", 3).ok() &&
           !Put(**storage, "link/a", "a").ok() && (*storage)->Sync().ok() &&
           Keys(**storage, "") == std::vector<Key>{"packs/3f/a", "r/counter"} &&
           (*storage)->Delete("packs/3f/a").ok();
  }));
  EXPECT_TRUE(std::filesystem::is_empty(outside.path()));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path() + "/packs/3f"));
  EXPECT_EQ(Text(**OpenLocalStorage(folder.path()), "r/counter"), "3");
}

TEST(LocalStorage, FoldersMayVanish) {
  Folder folder;
  auto storage = *OpenLocalStorage(folder.path());
  ASSERT_TRUE(Put(*storage, "a/b/c", "c").ok());
  ASSERT_TRUE(storage->Delete("a/b/c").ok());
  std::filesystem::remove_all(folder.path() + "/a");
  EXPECT_TRUE(storage->Sync().ok());
  EXPECT_TRUE(Put(*storage, "a/b/c", "c").ok());
  EXPECT_EQ(Text(*storage, "a/b/c"), "c");
}

TEST(LocalStorage, NoFolder) {
  EXPECT_EQ(OpenLocalStorage("/nonexistent/zipllm").status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace zipllm::storage
