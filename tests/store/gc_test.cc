// Gc: what nothing needs goes, whatever happens beside it; nothing else does.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "store/reach.h"
#include "store/upkeep.h"
#include "store/verify.h"

namespace zipllm::store {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class GcTest : public UpkeepTest {
 protected:
  // The last step of an add of model `i`, whose reference is not there.
  bool Commit(size_t i, const Reference& reference) {
    const std::string text = WriteReference(reference);
    return repository_->storage()
        .PutIfMatch(ReferenceKey(NameOf(i)), AsBytes(text), "")
        .ok();
  }
};

TEST_F(GcTest, DeletesWhatNothingNeeds) {
  for (size_t i = 0; i < SmallModels::kCount; ++i) Add(i);
  const size_t packs = Count(kPacksPrefix);
  EXPECT_EQ(Collect().deleted_packs, 0u);
  EXPECT_EQ(Count(kCondemnedPrefix), 0u);
  Remove(5);
  const GcResult result = Collect();
  EXPECT_EQ(result.packs, packs);
  EXPECT_EQ(result.deleted_packs, 1u);
  EXPECT_GT(result.deleted_bytes, 0u);
  EXPECT_EQ(result.condemned_packs, 0u);
  EXPECT_EQ(Count(kPacksPrefix), packs - 1);
  EXPECT_EQ(Count(kCondemnedPrefix), 0u);
  EXPECT_THAT(*repository_->leases().List(), IsEmpty());
  for (size_t i = 0; i < 5; ++i) ExpectReadable(i);
}

// Model 1 is coded against 0, 2 against one of them, and so on.
TEST_F(GcTest, KeepsWhatOthersAreCodedAgainst) {
  for (size_t i = 0; i < 4; ++i) Add(i);
  for (size_t i = 0; i < 3; ++i) Remove(i);
  Collect();
  ExpectReadable(3);
  Remove(3);
  EXPECT_GT(Collect().deleted_packs, 0u);
  EXPECT_EQ(Count(kPacksPrefix), 0u);
  EXPECT_THAT(*repository_->catalogue().Packs(), IsEmpty());
  // All is stored anew.
  Add(3);
  ExpectReadable(3);
}

TEST_F(GcTest, WaitsForTheGrace) {
  Add(5);
  Remove(5);
  const GcResult first = Collect(GcOptions());
  EXPECT_EQ(first.deleted_packs, 0u);
  EXPECT_EQ(first.condemned_packs, 1u);
  EXPECT_GT(first.condemned_bytes, 0u);
  EXPECT_EQ(Collect(GcOptions()).deleted_packs, 0u);
  EXPECT_EQ(Collect().deleted_packs, 1u);
}

TEST_F(GcTest, DryRunChangesNothing) {
  Add(0);
  Add(5);
  Remove(5);
  const size_t before = Count(kPacksPrefix);
  GcOptions options = kNow;
  options.dry_run = true;
  EXPECT_EQ(Collect(options).deleted_packs, 1u);
  options.grace = std::chrono::hours(1);
  EXPECT_EQ(Collect(options).condemned_packs, 1u);
  EXPECT_EQ(Collect(options).deleted_packs, 0u);
  EXPECT_EQ(Count(kPacksPrefix), before);
  EXPECT_EQ(Count(kCondemnedPrefix), 0u);
}

// An add that began before: what it found there stays until its end.
TEST_F(GcTest, WaitsForThoseThatMayAdd) {
  Add(5);
  const auto manifest = repository_->FindReference(NameOf(5));
  auto adder = repository_->leases().Take("add");
  Remove(5);
  EXPECT_EQ(Collect().deleted_packs, 0u);
  EXPECT_EQ(Collect().condemned_packs, 1u);
  // It commits: the pack is taken back, and not deleted when it has gone.
  ASSERT_TRUE(Commit(5, manifest->first));
  adder->reset();
  EXPECT_EQ(Collect().deleted_packs, 0u);
  EXPECT_EQ(Count(kCondemnedPrefix), 0u);
  ExpectReadable(5);
  Remove(5);
  EXPECT_EQ(Collect().deleted_packs, 1u);
}

// It was condemned before a reader began, and used by an add that was there
// before: the reader saw the reference, which is gone now.
TEST_F(GcTest, WaitsForThoseThatMayRead) {
  Add(5);
  const auto manifest = repository_->FindReference(NameOf(5));
  auto adder = repository_->leases().Take("add");
  Remove(5);
  EXPECT_EQ(Collect().condemned_packs, 1u);
  ASSERT_TRUE(Commit(5, manifest->first));
  adder->reset();
  auto reader = repository_->leases().Take("read");
  ExpectReadable(5);
  Remove(5);
  EXPECT_EQ(Collect().deleted_packs, 0u);
  EXPECT_EQ(Collect().deleted_packs, 0u);
  reader->reset();
  EXPECT_EQ(Collect().deleted_packs, 1u);
}

// A pack that is condemned, but for which an add waits, keeps what it needs.
TEST_F(GcTest, WhatIsNeededByWhatWaitsWaitsToo) {
  for (size_t i = 0; i < 2; ++i) Add(i);
  const auto manifest = repository_->FindReference(NameOf(1));
  Remove(0);
  // Both packs are condemned, the second after the add began.
  const auto packs = *repository_->catalogue().Packs();
  ASSERT_THAT(packs, SizeIs(2));
  auto inventory = Inventory::Load(*repository_);
  const bool first_needs = !inventory->packs()[0].needs.empty();
  ASSERT_NE(first_needs, !inventory->packs()[1].needs.empty())
      << "one is coded against the other";
  const std::string base = packs[first_needs ? 1 : 0];
  const std::string text =
      WriteCondemnation({.phase = Condemnation::Phase::kReaders,
                         .since_seconds = 0,
                         .blockers = {}});
  ASSERT_TRUE(repository_->storage()
                  .PutIfMatch(CondemnedKey(base), AsBytes(text), "")
                  .ok());
  auto adder = repository_->leases().Take("add");
  Remove(1);
  EXPECT_EQ(Collect().deleted_packs, 0u);
  const std::string reference = WriteReference(manifest->first);
  ASSERT_TRUE(repository_->storage()
                  .PutIfMatch(ReferenceKey(NameOf(1)), AsBytes(reference), "")
                  .ok());
  adder->reset();
  Collect();
  ExpectReadable(1);
}

TEST_F(GcTest, OnlyOneAtATime) {
  auto other = repository_->leases().TakeExclusive("gc");
  const auto result = Gc(*repository_, kNow);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(GcTest, DeletesNothingWhileSomethingIsMissing) {
  for (size_t i = 0; i < 2; ++i) Add(i);
  Add(5);
  Remove(5);
  // The pack of model 0 or 1 goes.
  const auto inventory = Inventory::Load(*repository_);
  const Reach reach = FindReach(*inventory);
  for (size_t i = 0; i < inventory->packs().size(); ++i) {
    if (!reach.live_packs[i]) continue;
    ASSERT_TRUE(
        repository_->storage().Delete(PackKey(inventory->packs()[i].id)).ok());
    break;
  }
  const size_t packs = Count(kPacksPrefix);
  const auto result = Gc(*repository_, kNow);
  EXPECT_FALSE(result.ok());
  EXPECT_THAT(std::string(result.status().message()),
              HasSubstr("nothing was deleted"));
  EXPECT_EQ(Count(kPacksPrefix), packs);
}

// What a gc that was killed leaves behind is brought to an end.
TEST_F(GcTest, GoesOnWhereAnotherEnded) {
  using Phase = Condemnation::Phase;
  for (const Phase phase : {Phase::kCondemned, Phase::kAdders, Phase::kReaders,
                            Phase::kDeleting, Phase::kKept}) {
    Add(0);
    Add(5);
    Remove(5);
    const auto inventory = Inventory::Load(*repository_);
    const Reach reach = FindReach(*inventory);
    const size_t before = Count(kPacksPrefix);
    for (size_t i = 0; i < inventory->packs().size(); ++i) {
      const std::string id = inventory->packs()[i].id;
      // A live one may have been condemned for a moment, too.
      if (reach.live_packs[i] && phase == Phase::kDeleting) continue;
      const std::string text = WriteCondemnation(
          {.phase = phase, .since_seconds = 0, .blockers = {"gone"}});
      ASSERT_TRUE(repository_->storage()
                      .PutIfMatch(CondemnedKey(id), AsBytes(text), "")
                      .ok());
    }
    Collect();
    EXPECT_EQ(Count(kPacksPrefix), before - 1) << static_cast<int>(phase);
    EXPECT_EQ(Count(kCondemnedPrefix), 0u) << static_cast<int>(phase);
    ExpectReadable(0);
    // The pack is gone, its condemnation not.
    const std::string text = WriteCondemnation(
        {.phase = Phase::kDeleting, .since_seconds = 0, .blockers = {}});
    ASSERT_TRUE(repository_->storage()
                    .PutIfMatch(CondemnedKey(NewPackId()), AsBytes(text), "")
                    .ok());
    Collect();
    EXPECT_EQ(Count(kCondemnedPrefix), 0u);
  }
}

TEST_F(GcTest, ADamagedCondemnationBeginsAgain) {
  Add(5);
  Remove(5);
  Collect(GcOptions());
  const auto keys = *repository_->storage().List(kCondemnedPrefix);
  ASSERT_THAT(keys, SizeIs(1));
  const auto value = repository_->storage().Get(keys[0].key, kMaxSmallValue);
  ASSERT_TRUE(repository_->storage()
                  .PutIfMatch(keys[0].key, AsBytes("rubbish"), value->version)
                  .ok());
  EXPECT_EQ(Collect(GcOptions()).deleted_packs, 0u);
  EXPECT_EQ(Collect().deleted_packs, 1u);
}

// Of two copies the damaged one goes, whichever it is.
TEST_F(GcTest, KeepsTheGoodCopy) {
  Add(5);
  const std::string good = repository_->catalogue().Packs()->front();
  // Another pack with the same objects, one of them damaged. It seems to be
  // the better one, since the first is condemned.
  auto source = repository_->storage().Open(PackKey(good));
  testing::Bytes bytes(*(*source)->Size());
  ASSERT_TRUE((*source)->ReadAt(0, bytes).ok());
  bytes[bytes.size() / 3] ^= 1;
  const std::string bad = NewPackId();
  auto upload = repository_->storage().PutIfAbsent(PackKey(bad));
  ASSERT_TRUE((*upload)->Write(bytes).ok());
  ASSERT_TRUE((*upload)->Commit().ok());
  const std::string text = WriteCondemnation({});
  ASSERT_TRUE(repository_->storage()
                  .PutIfMatch(CondemnedKey(good), AsBytes(text), "")
                  .ok());
  Collect();
  EXPECT_TRUE(repository_->storage().Open(PackKey(good)).ok());
  Collect();
  Collect();
  ExpectReadable(5);
  const auto packs = *repository_->storage().List(kPacksPrefix);
  ASSERT_THAT(packs, SizeIs(1));
  EXPECT_EQ(packs[0].key, PackKey(good));
}

TEST(ReachTest, OfEqualCopiesTheOneThatIsReadCounts) {
  std::unique_ptr<storage::Storage> storage = storage::MakeMemoryStorage();
  ASSERT_TRUE(InitStore(*storage).ok());
  auto repository = OpenStore(std::move(storage));
  ASSERT_TRUE(repository.ok());
  Catalogue& catalogue = (*repository)->catalogue();
  const auto object = [](uint8_t number, uint8_t depth) {
    ObjectRecord record;
    record.sha256[0] = number;
    record.depth = depth;
    record.length = record.coded_bytes = 100;
    return record;
  };
  // Not by way of the storage: Refresh would forget them.
  std::vector<PackRecord> packs(3);
  packs[0] = {std::string(32, 'a'), 1000, {}, {object(1, 1)}, {}};
  packs[0].needs = {{object(2, 0).sha256, 0}};
  packs[0].objects[0].sources = {object(2, 0).sha256};
  packs[1] = {std::string(32, 'b'), 1000, {}, {object(1, 0), object(3, 0)}, {}};
  packs[2] = {std::string(32, 'c'), 1000, {}, {object(2, 0)}, {}};
  for (const PackRecord& pack : packs) {
    ASSERT_TRUE(catalogue.AddPack(pack).ok());
    ASSERT_TRUE((*(*repository)->storage().PutIfAbsent(PackKey(pack.id)))
                    ->Commit()
                    .ok());
  }
  const auto inventory = Inventory::Load(**repository);
  ASSERT_TRUE(inventory.ok()) << inventory.status();
  const std::vector<bool> none(3);
  const auto best = ChooseCopy(*inventory, object(1, 0).sha256, 255, none);
  ASSERT_TRUE(best.has_value());
  EXPECT_EQ(inventory->packs()[best->pack].id, packs[1].id);
  // No model: only what is kept, and what that needs.
  const Reach reach =
      FindReach(*inventory, {*inventory->FindPack(packs[0].id)});
  EXPECT_TRUE(reach.live_packs[*inventory->FindPack(packs[0].id)]);
  EXPECT_FALSE(reach.live_packs[*inventory->FindPack(packs[1].id)]);
  EXPECT_TRUE(reach.live_packs[*inventory->FindPack(packs[2].id)]);
  const Reach without = FindReach(*inventory, {0}, {2});
  EXPECT_TRUE(without.missing.contains(object(2, 0).sha256));
}

}  // namespace
}  // namespace zipllm::store
