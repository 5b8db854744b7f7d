// Fsck: damage anywhere is found, told and repaired; nothing else suffers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "base/bytes.h"
#include "container/stream.h"
#include "storage/local.h"
#include "store/reach.h"
#include "store/upkeep.h"
#include "zipllm/compressor.h"

namespace zipllm::store {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class FsckTest : public UpkeepTest {
 protected:
  FsckResult Run(const FsckOptions& options = {}) {
    const auto result = Fsck(*repository_, options);
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? *result : FsckResult{};
  }
  static std::string Text(const FsckResult& result) {
    std::string text;
    for (const auto& problem : result.problems) text += problem + "\n";
    for (const auto& bad : result.bad_objects) {
      text += bad.pack + " " + Hex(bad.sha256) + ": " + bad.error + "\n";
    }
    return text;
  }
  // Offsets of all frames of a pack.
  static std::vector<std::pair<uint64_t, container::FramePrefix>> Frames(
      const testing::Bytes& pack) {
    std::vector<std::pair<uint64_t, container::FramePrefix>> frames;
    const auto in = MakeMemorySource(pack);
    container::FrameReader reader(*in, uint64_t{1} << 30);
    EXPECT_TRUE(reader.NextArchive().ok());
    while (reader.offset() < pack.size()) {
      const auto frame = reader.Next();
      EXPECT_TRUE(frame.ok()) << frame.status();
      if (!frame.ok()) break;
      frames.emplace_back(frame->offset, frame->prefix);
      if (frame->prefix.Is(container::FrameType::kTrailer)) break;
    }
    return frames;
  }
  // A byte of the coded data of a tensor of the pack of the base, which model
  // 1 is coded against.
  std::string BasePack() {
    const auto inventory = Inventory::Load(*repository_);
    for (const PackSummary& pack : inventory->packs()) {
      if (pack.needs.empty()) return pack.id;
    }
    return "";
  }
  void DamageLargest(const std::string& id) {
    testing::Bytes bytes = PackBytes(id);
    std::pair<uint64_t, container::FramePrefix> largest;
    for (const auto& frame : Frames(bytes)) {
      if (frame.second.Is(container::FrameType::kBlocks) &&
          frame.second.data_size > largest.second.data_size) {
        largest = frame;
      }
    }
    // In the middle of its data: some bits at ends say nothing.
    const uint64_t middle = largest.first + largest.second.FrameSize() -
                            largest.second.data_size / 2;
    for (uint64_t i = 0; i < 16; ++i) bytes[middle + i] ^= 0x55;
    Replace(id, bytes);
  }
};

TEST_F(FsckTest, AGoodStoreIsGood) {
  for (size_t i = 0; i < SmallModels::kCount; ++i) Add(i);
  FsckResult result = Run();
  EXPECT_TRUE(result.ok()) << Text(result);
  EXPECT_THAT(result.repairs, IsEmpty());
  EXPECT_EQ(result.models, SmallModels::kCount);
  EXPECT_EQ(result.packs, SmallModels::kCount);
  EXPECT_GT(result.objects, 0u);
  EXPECT_EQ(result.objects_read, result.objects);
  EXPECT_GT(result.bytes_read, 50000u);
  FsckOptions options;
  options.fast = true;
  result = Run(options);
  EXPECT_TRUE(result.ok()) << Text(result);
  EXPECT_EQ(result.objects_read, 0u);
  options.fast = false;
  options.sample = 0.5;
  result = Run(options);
  EXPECT_TRUE(result.ok()) << Text(result);
  EXPECT_LT(result.objects_read, result.objects);
  options.sample = 1;
  options.rebuild = true;
  result = Run(options);
  EXPECT_TRUE(result.ok()) << Text(result);
  EXPECT_THAT(result.repairs, Contains(HasSubstr("made anew")));
  for (size_t i = 0; i < SmallModels::kCount; ++i) ExpectReadable(i);
}

TEST_F(FsckTest, FindsAFlipAnywhereAndOthersStayReadable) {
  Add(0);
  const std::string id = BasePack();
  const testing::Bytes good = PackBytes(id);
  std::set<uint64_t> places;
  for (const auto& [offset, prefix] : Frames(good)) {
    places.insert({offset, offset + 5, offset + 13,
                   offset + prefix.FrameSize() - 1,
                   offset + prefix.FrameSize() / 2});
  }
  places.insert(3);
  size_t unseen = 0;
  for (const uint64_t place : places) {
    testing::Bytes bytes = good;
    bytes[place] ^= 0x08;
    // Also where the catalogue knows it as it was.
    Replace(id, bytes);
    const FsckResult result = Run();
    // Some bits at the end of coded data say nothing.
    if (result.ok()) {
      EXPECT_THAT(result.bad_objects, IsEmpty());
      ExpectReadable(0);
      ++unseen;
    }
    // One flip costs one object, and at most what is coded against it.
    EXPECT_LE(result.bad_objects.size(), 2u) << "byte " << place << "\n"
                                             << Text(result);
    for (const auto& bad : result.bad_objects) {
      if (bad.error.find("no pack") != std::string::npos) continue;
      EXPECT_EQ(bad.pack, id);
    }
  }
  EXPECT_LE(unseen, 2u);
}

TEST_F(FsckTest, FindsACutPack) {
  Add(0);
  const std::string id = BasePack();
  const testing::Bytes good = PackBytes(id);
  for (const size_t size :
       {good.size() - 1, good.size() / 2, size_t{40}, size_t{0}}) {
    Replace(id, {good.begin(), good.begin() + static_cast<ptrdiff_t>(size)});
    const FsckResult result = Run();
    EXPECT_FALSE(result.ok()) << size;
  }
}

TEST_F(FsckTest, TellsWhomABadObjectHurts) {
  Add(0);
  Add(1);
  Add(5);
  DamageLargest(BasePack());
  FsckOptions options;
  options.sample = 1;
  const FsckResult result = Run(options);
  EXPECT_FALSE(result.ok());
  ASSERT_THAT(result.bad_objects, Not(IsEmpty()));
  std::set<std::string> hurt;
  for (const auto& bad : result.bad_objects) {
    EXPECT_FALSE(bad.repaired);
    for (const auto& user : bad.users) {
      EXPECT_EQ(user.file, "model.safetensors");
      EXPECT_FALSE(user.tensor.empty());
      hurt.insert(user.model.Text());
    }
  }
  for (size_t i : {0, 1, 5}) {
    const auto tree = ReadModel(*repository_, NameOf(i));
    EXPECT_EQ(tree.ok(), !hurt.contains(NameOf(i).Text())) << i;
  }
  EXPECT_FALSE(hurt.empty());
}

TEST_F(FsckTest, RepairsFromAFolder) {
  for (size_t i = 0; i < 4; ++i) Add(i);
  DamageLargest(BasePack());
  ASSERT_FALSE(Run().ok());
  // What is bad is noted, also for who makes the catalogue anew.
  EXPECT_EQ(Count(kDamagedPrefix), 1u);
  // The base is enough: what was made of it is good again.
  FsckOptions options;
  options.from = {Models().Folder(0)};
  FsckResult result = Run(options);
  EXPECT_TRUE(result.ok()) << Text(result);
  EXPECT_THAT(result.repairs, Contains(HasSubstr("stored anew")));
  for (size_t i = 0; i < 4; ++i) ExpectReadable(i);
  Collect();
  for (size_t i = 0; i < 4; ++i) ExpectReadable(i);
  // The damaged pack is gone.
  result = Run();
  EXPECT_TRUE(result.ok()) << Text(result);
  EXPECT_THAT(result.bad_objects, IsEmpty());
  EXPECT_EQ(Count(kDamagedPrefix), 0u);
  Reopen();
  for (size_t i = 0; i < 4; ++i) ExpectReadable(i);
}

TEST_F(FsckTest, RepairsFromAnArchiveAndAStore) {
  testing::TempDir dir;
  const std::string archive = dir / "model0.zllm";
  ASSERT_TRUE(
      Compressor().CompressPathToFile(Models().Folder(0), archive).ok());
  const std::string other = dir / "store";
  ASSERT_TRUE(Store::Init(other).ok());
  {
    auto store = Store::Open(other);
    ASSERT_TRUE(store.ok());
    ASSERT_TRUE(store->Add({"x", "main"}, Models().Folder(0)).ok());
  }
  for (const std::string& from : {archive, other}) {
    UpkeepTest::Reopen();
    Add(0);
    DamageLargest(BasePack());
    ASSERT_FALSE(Run().ok());
    FsckOptions options;
    options.from = {from};
    const FsckResult result = Run(options);
    EXPECT_TRUE(result.ok()) << from << ": " << Text(result);
    ExpectReadable(0);
    Collect();
    ExpectReadable(0);
    EXPECT_TRUE(Run().ok());
    Remove(0);
    Collect();
  }
}

TEST_F(FsckTest, AddingAgainRepairs) {
  for (size_t i = 0; i < 2; ++i) Add(i);
  DamageLargest(BasePack());
  ASSERT_FALSE(Run().ok());
  Add(0);
  for (size_t i = 0; i < 2; ++i) ExpectReadable(i);
  // Packs that need it as it was can use the new copy.
  FsckResult result = Run();
  EXPECT_TRUE(result.ok()) << Text(result);
  Collect();
  for (size_t i = 0; i < 2; ++i) ExpectReadable(i);
}

// Of a pack that was cut there is left what stands before the cut.
TEST_F(FsckTest, RepairsAPackThatWasCut) {
  testing::TempDir dir;
  const std::string other = dir / "store";
  ASSERT_TRUE(Store::Init(other).ok());
  {
    auto store = Store::Open(other);
    ASSERT_TRUE(store.ok());
    ASSERT_TRUE(store->Add({"x", "main"}, Models().Folder(0)).ok());
  }
  Add(0);
  const std::string id = BasePack();
  testing::Bytes bytes = PackBytes(id);
  bytes.resize(bytes.size() / 2);
  Replace(id, bytes);
  FsckResult result = Run();
  EXPECT_FALSE(result.ok());
  FsckOptions options;
  options.from = {other};
  // The manifest first, without which the rest is not known to be needed.
  Run(options);
  result = Run(options);
  EXPECT_TRUE(result.ok()) << Text(result);
  ExpectReadable(0);
  Collect();
  ExpectReadable(0);
  result = Run();
  EXPECT_TRUE(result.ok()) << Text(result);
}

TEST_F(FsckTest, TellsOfWhatIsMissing) {
  Add(0);
  Add(5);
  const auto reference = repository_->FindReference(NameOf(5));
  const auto places = repository_->catalogue().Find(reference->first.manifest);
  ASSERT_TRUE(
      repository_->storage().Delete(PackKey(places->front().pack)).ok());
  const FsckResult result = Run();
  EXPECT_FALSE(result.ok());
  ASSERT_THAT(result.bad_objects, Not(IsEmpty()));
  EXPECT_THAT(Text(result), HasSubstr("in no pack"));
  EXPECT_EQ(result.bad_objects[0].users[0].model, NameOf(5));
  ExpectReadable(0);
}

TEST_F(FsckTest, TellsOfForeignAndDamagedValues) {
  Add(0);
  storage::Storage& storage = repository_->storage();
  for (const std::string key :
       {"notes.txt", "packs/ab/readme", "refs/x", "condemned/x"}) {
    ASSERT_TRUE(storage.PutIfMatch(key, AsBytes("hello"), "").ok());
  }
  ASSERT_TRUE(
      storage.PutIfMatch(ReferenceKey({"bad", "main"}), AsBytes("hello"), "")
          .ok());
  const FsckResult result = Run();
  for (const std::string key :
       {"notes.txt", "packs/ab/readme", "refs/x", "condemned/x", "bad@main"}) {
    EXPECT_THAT(result.problems, Contains(HasSubstr(key))) << Text(result);
  }
  EXPECT_THAT(result.bad_objects, IsEmpty());
}

TEST_F(FsckTest, PutsTheCatalogueRight) {
  Add(0);
  const std::string id = BasePack();
  auto record = repository_->catalogue().FindPack(id);
  (*record)->objects.pop_back();
  (*record)->objects[0].depth = 3;
  ASSERT_TRUE(repository_->catalogue().AddPack(**record).ok());
  FsckOptions options;
  options.fast = true;
  FsckResult result = Run(options);
  EXPECT_THAT(result.repairs, Contains(HasSubstr("in pack " + id)));
  result = Run();
  EXPECT_TRUE(result.ok()) << Text(result);
  EXPECT_THAT(result.repairs, IsEmpty());
}

TEST_F(FsckTest, RefusesWhatMakesNoSense) {
  FsckOptions options;
  options.sample = -1;
  EXPECT_EQ(Fsck(*repository_, options).status().code(),
            absl::StatusCode::kInvalidArgument);
  options.sample = 1;
  Add(0);
  DamageLargest(BasePack());
  options.from = {"/nonexistent/file"};
  EXPECT_FALSE(Fsck(*repository_, options).ok());
}

}  // namespace
}  // namespace zipllm::store
