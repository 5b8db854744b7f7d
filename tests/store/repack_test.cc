// Repack: fewer and better packs with the same models.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "store/reach.h"
#include "store/upkeep.h"

namespace zipllm::store {
namespace {

class RepackTest : public UpkeepTest {
 protected:
  RepackResult Pack(const RepackOptions& options) {
    const auto result = Repack(*repository_, options);
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? *result : RepackResult{};
  }
  // Nothing is small or poor.
  static RepackOptions Lazy() {
    RepackOptions options;
    options.level = 1;
    options.max_dead = 1;
    options.min_pack_bytes = 0;
    return options;
  }
  uint8_t GreatestDepth() {
    const auto inventory = Inventory::Load(*repository_);
    const Reach reach = FindReach(*inventory);
    uint8_t depth = 0;
    for (size_t i = 0; i < inventory->packs().size(); ++i) {
      const auto& copies = inventory->packs()[i].copies;
      for (size_t k = 0; k < copies.size(); ++k) {
        if (reach.live_copies[i][k]) depth = std::max(depth, copies[k].depth);
      }
    }
    return depth;
  }
};

TEST_F(RepackTest, LeavesWhatIsGood) {
  for (size_t i = 0; i < 4; ++i) Add(i);
  const RepackResult result = Pack(Lazy());
  EXPECT_EQ(result.packs_before, 4u);
  EXPECT_EQ(result.packs_after, 4u);
  EXPECT_EQ(result.objects_rewritten, 0u);
  EXPECT_EQ(Count(kCondemnedPrefix), 0u);
}

TEST_F(RepackTest, MergesSmallPacks) {
  for (size_t i = 0; i < SmallModels::kCount; ++i) Add(i);
  RepackOptions options;
  options.level = 1;
  const RepackResult result = Pack(options);
  EXPECT_EQ(result.packs_before, SmallModels::kCount);
  EXPECT_EQ(result.packs_after, 1u);
  EXPECT_GT(result.objects_rewritten, 0u);
  for (size_t i = 0; i < SmallModels::kCount; ++i) ExpectReadable(i);
  EXPECT_EQ(Collect().deleted_packs, SmallModels::kCount);
  EXPECT_EQ(Count(kPacksPrefix), 1u);
  for (size_t i = 0; i < SmallModels::kCount; ++i) ExpectReadable(i);
  // Once is enough.
  EXPECT_EQ(Pack(options).objects_rewritten, 0u);
  // With no catalogue either.
  Reopen();
  for (size_t i = 0; i < SmallModels::kCount; ++i) ExpectReadable(i);
}

TEST_F(RepackTest, DropsWhatIsDead) {
  // Model 4 has a tensor of model 0, of which the rest is dead then.
  Add(0);
  Add(4);
  Remove(0);
  Collect();
  ASSERT_EQ(Count(kPacksPrefix), 2u);
  RepackOptions options = Lazy();
  options.max_dead = 0.2;
  const RepackResult result = Pack(options);
  EXPECT_GT(result.objects_rewritten, 0u);
  EXPECT_LT(result.bytes_after, result.bytes_before);
  Collect();
  ExpectReadable(4);
  const auto inventory = Inventory::Load(*repository_);
  const Reach reach = FindReach(*inventory);
  for (const auto& live : reach.live_copies) {
    EXPECT_EQ(std::ranges::count(live, false), 0);
  }
  EXPECT_EQ(Pack(options).objects_rewritten, 0u);
}

TEST_F(RepackTest, RebasesLongChains) {
  for (size_t i = 0; i < 4; ++i) Add(i);
  ASSERT_GT(GreatestDepth(), 0);
  RepackOptions options = Lazy();
  options.max_depth = 0;
  const RepackResult result = Pack(options);
  EXPECT_GT(result.objects_rebased, 0u);
  EXPECT_EQ(GreatestDepth(), 0);
  Collect();
  for (size_t i = 0; i < 4; ++i) ExpectReadable(i);
  // Nothing needs the base any more.
  for (size_t i = 0; i < 3; ++i) Remove(i);
  Collect();
  ExpectReadable(3);
}

// A pack that stays needs its base as it was when it was written: alone.
TEST_F(RepackTest, BasesOfWhatStaysKeepTheirDepth) {
  for (size_t i = 0; i < 2; ++i) Add(i);
  Add(4);
  const auto before = Inventory::Load(*repository_);
  std::set<std::string> bases, rest;
  for (const PackSummary& pack : before->packs()) {
    (pack.needs.empty() ? bases : rest).insert(pack.id);
  }
  ASSERT_FALSE(bases.empty());
  ASSERT_FALSE(rest.empty());
  // Only bases are poor: those of others are damaged on paper alone.
  Remove(4);
  Remove(0);
  Collect();
  RepackOptions options = Lazy();
  options.max_dead = 0;
  Pack(options);
  Collect();
  ExpectReadable(1);
  Reopen();
  ExpectReadable(1);
}

// It ends before it says which packs are old: both copies are there.
TEST_F(RepackTest, CanBeRepeated) {
  for (size_t i = 0; i < 4; ++i) Add(i);
  RepackOptions options;
  options.level = 1;
  Pack(options);
  const auto condemned = *repository_->storage().List(kCondemnedPrefix);
  for (const storage::Info& info : condemned) {
    ASSERT_TRUE(repository_->storage().Delete(info.key).ok());
  }
  Collect();
  for (size_t i = 0; i < 4; ++i) ExpectReadable(i);
  Pack(options);
  Collect();
  for (size_t i = 0; i < 4; ++i) ExpectReadable(i);
  EXPECT_EQ(Count(kPacksPrefix), 1u);
}

// An add that began before keeps what it found.
TEST_F(RepackTest, AddsBesideItStayRight) {
  for (size_t i = 0; i < 3; ++i) Add(i);
  auto adder = repository_->leases().Take("add");
  RepackOptions options;
  options.level = 1;
  Pack(options);
  EXPECT_EQ(Collect().deleted_packs, 0u);
  for (size_t i = 0; i < 3; ++i) ExpectReadable(i);
  Add(3);
  adder->reset();
  Collect();
  for (size_t i = 0; i < 4; ++i) ExpectReadable(i);
}

TEST_F(RepackTest, OnlyOneAtATime) {
  auto other = repository_->leases().TakeExclusive("repack");
  EXPECT_EQ(Repack(*repository_, Lazy()).status().code(),
            absl::StatusCode::kUnavailable);
}

TEST_F(RepackTest, RefusesWhatMakesNoSense) {
  RepackOptions options;
  options.max_dead = 2;
  EXPECT_EQ(Repack(*repository_, options).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace zipllm::store
