// A store of small models in memory, for the tests of what keeps it in order.
#ifndef ZIPLLM_TESTS_STORE_UPKEEP_H_
#define ZIPLLM_TESTS_STORE_UPKEEP_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "storage/memory.h"
#include "store/small_store.h"

namespace zipllm::store {

class UpkeepTest : public ::testing::Test {
 protected:
  static inline const GcOptions kNow = {.grace = std::chrono::seconds(0),
                                        .dry_run = false};

  UpkeepTest() {
    std::unique_ptr<storage::Storage> storage = storage::MakeMemoryStorage();
    EXPECT_TRUE(InitStore(*storage).ok());
    auto opened = OpenStore(std::move(storage));
    EXPECT_TRUE(opened.ok()) << opened.status();
    repository_ = *std::move(opened);
  }

  static const SmallModels& Models() {
    static const SmallModels models;
    return models;
  }
  static ModelName NameOf(size_t i) {
    return {"m" + std::to_string(i), "main"};
  }
  void Add(size_t i) {
    const absl::Status added =
        AddModel(*repository_, NameOf(i), Models().Folder(i));
    ASSERT_TRUE(added.ok()) << added;
  }
  void Remove(size_t i) {
    ASSERT_TRUE(repository_->storage().Delete(ReferenceKey(NameOf(i))).ok());
  }
  void ExpectReadable(size_t i) {
    const auto tree = ReadModel(*repository_, NameOf(i));
    ASSERT_TRUE(tree.ok()) << tree.status();
    EXPECT_TRUE(*tree == Models().tree(i)) << "model " << i;
  }
  GcResult Collect(const GcOptions& options = kNow) {
    const auto result = Gc(*repository_, options);
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? *result : GcResult{};
  }
  size_t Count(const std::string& prefix) {
    return repository_->storage().List(prefix)->size();
  }

  testing::Bytes PackBytes(const std::string& id) {
    const auto source = repository_->storage().Open(PackKey(id));
    testing::Bytes bytes(*(*source)->Size());
    EXPECT_TRUE((*source)->ReadAt(0, bytes).ok());
    return bytes;
  }
  /// Puts other bytes in the place of a pack, and opens the store anew.
  void Replace(const std::string& id, const testing::Bytes& bytes) {
    storage::Storage& storage = repository_->storage();
    ASSERT_TRUE(storage.Delete(PackKey(id)).ok());
    auto upload = storage.PutIfAbsent(PackKey(id));
    ASSERT_TRUE((*upload)->Write(bytes).ok());
    ASSERT_TRUE((*upload)->Commit().ok());
    Reopen();
  }
  /// With an empty catalogue.
  void Reopen() {
    std::unique_ptr<storage::Storage> copy = storage::MakeMemoryStorage();
    storage::Storage& old = repository_->storage();
    const auto keys = old.List("");
    for (const storage::Info& info : *keys) {
      testing::Bytes bytes(info.size);
      ASSERT_TRUE((*old.Open(info.key))->ReadAt(0, bytes).ok());
      auto upload = copy->PutIfAbsent(info.key);
      ASSERT_TRUE((*upload)->Write(bytes).ok());
      ASSERT_TRUE((*upload)->Commit().ok());
    }
    auto opened = OpenStore(std::move(copy));
    ASSERT_TRUE(opened.ok()) << opened.status();
    repository_ = *std::move(opened);
  }

  std::unique_ptr<Repository> repository_;
};

}  // namespace zipllm::store

#endif  // ZIPLLM_TESTS_STORE_UPKEEP_H_
