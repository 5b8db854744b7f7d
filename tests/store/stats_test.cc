// Stats: sums that add up.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "store/upkeep.h"

namespace zipllm::store {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

class StatsTest : public UpkeepTest {
 protected:
  StoreStats Run() {
    const auto stats = Stats(*repository_);
    EXPECT_TRUE(stats.ok()) << stats.status();
    return stats.ok() ? *stats : StoreStats{};
  }
};

void ExpectSum(const StoreStats::Savings& savings) {
  // Heads may take more than what is saved of tiny objects.
  const uint64_t parts = savings.deduplicated + savings.delta +
                         savings.derived + savings.entropy +
                         savings.stored_bytes;
  EXPECT_GE(parts, savings.plain_bytes);
  EXPECT_LE(parts, savings.plain_bytes + savings.plain_bytes / 20 + 2000);
}

TEST_F(StatsTest, OfNothing) {
  const StoreStats stats = Run();
  EXPECT_THAT(stats.models, IsEmpty());
  EXPECT_THAT(stats.families, IsEmpty());
  EXPECT_EQ(stats.total.plain_bytes, 0u);
  EXPECT_EQ(stats.packs, 0u);
  EXPECT_GT(stats.catalogue_bytes, 0u);
}

TEST_F(StatsTest, AddUp) {
  for (size_t i = 0; i < SmallModels::kCount; ++i) Add(i);
  const StoreStats stats = Run();
  ASSERT_THAT(stats.models, SizeIs(SmallModels::kCount));
  EXPECT_EQ(stats.packs, SmallModels::kCount);
  EXPECT_EQ(stats.dead_bytes, 0u);
  uint64_t pack_bytes = 0;
  const auto packs = repository_->storage().List(kPacksPrefix);
  for (const storage::Info& info : *packs) pack_bytes += info.size;
  EXPECT_EQ(stats.pack_bytes, pack_bytes);
  uint64_t plain = 0;
  for (const StoreStats::Model& model : stats.models) {
    ExpectSum(model.savings);
    plain += model.savings.plain_bytes;
    EXPECT_LT(model.family, stats.families.size());
  }
  EXPECT_EQ(stats.total.plain_bytes, plain);
  ExpectSum(stats.total);
  EXPECT_LE(stats.total.stored_bytes, pack_bytes);
  EXPECT_GT(stats.total.deduplicated, 0u);
  EXPECT_GT(stats.total.delta, 0u);
  // Models 0 to 3 are made of each other; 5 of nothing.
  for (size_t i = 1; i < 4; ++i) {
    EXPECT_EQ(stats.models[i].family, stats.models[0].family);
    EXPECT_FALSE(stats.models[i].bases.empty());
  }
  EXPECT_NE(stats.models[5].family, stats.models[0].family);
  EXPECT_THAT(stats.models[0].bases, IsEmpty());
  EXPECT_EQ(stats.families[stats.models[0].family].root, NameOf(0));
  EXPECT_THAT(stats.families[stats.models[5].family].models, SizeIs(1));
  size_t members = 0;
  for (const auto& family : stats.families) members += family.models.size();
  EXPECT_EQ(members, stats.models.size());
}

TEST_F(StatsTest, WhatNothingNeedsIsDead) {
  Add(0);
  Add(5);
  Remove(5);
  StoreStats stats = Run();
  EXPECT_THAT(stats.models, SizeIs(1));
  EXPECT_EQ(stats.packs, 2u);
  EXPECT_GT(stats.dead_bytes, 0u);
  EXPECT_LT(stats.dead_bytes, stats.pack_bytes);
  Collect();
  stats = Run();
  EXPECT_EQ(stats.packs, 1u);
  EXPECT_EQ(stats.dead_bytes, 0u);
}

// The same tree under two names: the second is deduplicated whole.
TEST_F(StatsTest, ASecondNameCostsNothing) {
  Add(0);
  const uint64_t stored = Run().total.stored_bytes;
  ASSERT_TRUE(
      AddModel(*repository_, {"again", "main"}, Models().Folder(0)).ok());
  const StoreStats stats = Run();
  EXPECT_EQ(stats.total.stored_bytes, stored);
  EXPECT_EQ(stats.total.plain_bytes, 2 * stats.models[0].savings.plain_bytes);
  EXPECT_EQ(stats.models[0].savings.stored_bytes +
                stats.models[1].savings.stored_bytes,
            stored);
}

// What is shared counts for the model that brought it, although another's name
// comes first and both are of one second.
TEST_F(StatsTest, WhoBroughtItHasIt) {
  const auto add = [&](const char* name, size_t i) {
    const absl::Status added =
        AddModel(*repository_, {name, "main"}, Models().Folder(i));
    ASSERT_TRUE(added.ok()) << added;
  };
  add("z", 0);
  add("a", 4);
  const StoreStats stats = Run();
  ASSERT_THAT(stats.models, SizeIs(2));
  ASSERT_EQ(stats.models[1].info.name.name, "z");
  EXPECT_EQ(stats.models[1].savings.deduplicated, 0u);
  EXPECT_GE(stats.models[0].savings.deduplicated, 64u * 64 * 2);
  ExpectSum(stats.models[0].savings);
  ExpectSum(stats.models[1].savings);
}

}  // namespace
}  // namespace zipllm::store
