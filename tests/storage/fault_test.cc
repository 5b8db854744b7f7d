// The storages that stand in for failing ones.
#include "storage/fault.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "base/bytes.h"
#include "storage/memory.h"
#include "storage/power_loss.h"

namespace zipllm::storage {
namespace {

using ::testing::Contains;
using ::testing::IsSubsetOf;
using ::testing::Not;
using ::testing::SizeIs;

absl::Status Put(Storage& storage, const Key& key, const std::string& text) {
  ASSIGN_OR_RETURN(std::unique_ptr<Upload> upload, storage.PutIfAbsent(key));
  RETURN_IF_ERROR(upload->Write(AsBytes(text)));
  return upload->Commit();
}

std::string Text(const Storage& storage, const Key& key) {
  absl::StatusOr<Value> value = storage.Get(key, 1 << 20);
  if (!value.ok()) return "-";
  return {value->bytes.begin(), value->bytes.end()};
}

TEST(FaultStorage, FailsTheOperationAsAsked) {
  auto faults = std::make_shared<Faults>();
  auto storage = MakeFaultStorage(MakeMemoryStorage(), faults);
  // PutIfAbsent, Write, Commit; Get.
  ASSERT_TRUE(Put(*storage, "a", "a").ok());
  EXPECT_EQ(Text(*storage, "a"), "a");
  EXPECT_EQ(faults->operations(), 4U);
  EXPECT_EQ(faults->failed(), 0U);
  for (uint64_t k = 0; k < 3; ++k) {
    faults->Arm(k, Faults::Kind::kError, 1);
    EXPECT_EQ(Put(*storage, "b", "b").code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(faults->failed(), 1U);
    EXPECT_EQ(Text(*storage, "b"), "-");
  }
  faults->Arm(0, Faults::Kind::kNoSpace);
  EXPECT_EQ(Text(*storage, "a"), "a");
  EXPECT_EQ(storage->PutIfMatch("c", {}, "").code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(storage->Delete("a").ok());
  faults->Arm(0, Faults::Kind::kTorn, 1);
  EXPECT_FALSE(storage->PutIfMatch("c", AsBytes("c"), "").ok());
  EXPECT_EQ(Text(*storage, "c"), "c");
  faults->Arm(1, Faults::Kind::kTorn, 1);
  auto source = storage->Open("c");
  ASSERT_TRUE(source.ok());
  std::vector<uint8_t> byte(1);
  EXPECT_FALSE((*source)->ReadAt(0, byte).ok());
  EXPECT_TRUE((*source)->ReadAt(0, byte).ok());
  faults->Disarm();
  EXPECT_TRUE(storage->Sync().ok());
}

TEST(Disk, KeepsWhatWasSynced) {
  Disk disk;
  auto storage = disk.Mount();
  ASSERT_TRUE(Put(*storage, "a", "old").ok());
  ASSERT_TRUE(Put(*storage, "gone", "x").ok());
  ASSERT_TRUE(storage->Sync().ok());
  ASSERT_TRUE(
      storage->PutIfMatch("a", AsBytes("new"), storage->Get("a", 9)->version)
          .ok());
  ASSERT_TRUE(storage->Delete("gone").ok());
  ASSERT_TRUE(Put(*storage, "b", "b").ok());
  const uint64_t before_sync = disk.Now();
  ASSERT_TRUE(storage->Sync().ok());
  std::set<std::string> seen;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    auto after = disk.AfterPowerLoss(before_sync, seed).Mount();
    EXPECT_THAT((std::set<std::string>{Text(*after, "a")}),
                IsSubsetOf({"old", "new"}));
    seen.insert(Text(*after, "a") + Text(*after, "gone") + Text(*after, "b"));
    auto synced = disk.AfterPowerLoss(disk.Now(), seed, true).Mount();
    EXPECT_EQ(Text(*synced, "a"), "new");
    EXPECT_EQ(Text(*synced, "gone"), "-");
    EXPECT_EQ(Text(*synced, "b"), "b");
  }
  EXPECT_THAT(seen, SizeIs(8));  // each change kept or lost by itself
}

TEST(Disk, SyncCoversWhatItsOwnStorageChangedOrListed) {
  Disk disk;
  auto first = disk.Mount();
  auto second = disk.Mount();
  ASSERT_TRUE(Put(*first, "packs/a", "a").ok());
  ASSERT_TRUE(Put(*second, "refs/b", "b").ok());
  ASSERT_TRUE(second->Sync().ok());
  const uint64_t unlisted = disk.Now();
  ASSERT_TRUE(second->List("packs/").ok());
  ASSERT_TRUE(second->Sync().ok());
  std::set<std::string> seen, listed;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    auto after = disk.AfterPowerLoss(unlisted, seed).Mount();
    seen.insert(Text(*after, "packs/a"));
    EXPECT_EQ(Text(*after, "refs/b"), "b");
    listed.insert(
        Text(*disk.AfterPowerLoss(disk.Now(), seed).Mount(), "packs/a"));
  }
  EXPECT_THAT(seen, Contains("-"));
  EXPECT_THAT(listed, Not(Contains("-")));
}

TEST(Disk, TearsWhereAsked) {
  Disk disk;
  auto storage = disk.Mount();
  ASSERT_TRUE(Put(*storage, "a", "0123456789").ok());
  std::set<std::string> seen;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    seen.insert(Text(*disk.AfterPowerLoss(disk.Now(), seed).Mount(), "a"));
  }
  EXPECT_THAT(seen, SizeIs(2));
  for (uint64_t seed = 0; seed < 50; ++seed) {
    seen.insert(
        Text(*disk.AfterPowerLoss(disk.Now(), seed, true).Mount(), "a"));
  }
  EXPECT_GT(seen.size(), 5U);
}

}  // namespace
}  // namespace zipllm::storage
