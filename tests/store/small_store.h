// A few small models and stores of them on any storage, for tests that make
// many of them.
#ifndef ZIPLLM_TESTS_STORE_SMALL_STORE_H_
#define ZIPLLM_TESTS_STORE_SMALL_STORE_H_

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "archive/testing.h"
#include "base/bytes.h"
#include "storage/storage.h"
#include "store/repository.h"

namespace zipllm::store {

/// Files by their path in a model.
using Tree = std::map<std::string, testing::Bytes>;

/// A base, models that were made of it, and strangers, some 20 KB each: folders
/// and what is in them.
class SmallModels {
 public:
  static constexpr size_t kCount = 6;

  SmallModels() {
    const testing::Bytes embedding = testing::Bf16Weights(4096, 1);
    const testing::Bytes first = testing::Bf16Weights(5000, 2);
    const testing::Bytes stranger = testing::Bf16Weights(4096, 3);
    for (size_t i = 0; i < kCount; ++i) {
      // Models 1 to 3 each go on from the one before; 4 shares a tensor with
      // the base; 5 shares nothing.
      const testing::Bytes& shared = i == 5 ? stranger : embedding;
      testing::Bytes own = i < 4 ? first : testing::Bf16Weights(5000, 10 + i);
      for (size_t step = 1; i < 4 && step <= i; ++step) {
        for (size_t at = 0; at < own.size(); at += 2 * (50 + step))
          own[at] = static_cast<uint8_t>(own[at] + step);
      }
      Tree& tree = trees_.emplace_back();
      tree["model.safetensors"] = testing::Safetensors(
          {{"a", "BF16", {64, 64}, shared}, {"b", "BF16", {50, 100}, own}});
      tree["config.json"] = testing::FromString(
          "{\"name\": \"" + std::string(200, static_cast<char>('a' + i)) +
          "\"}");
      tree["empty"] = {};
      const std::string folder = Folder(i);
      std::filesystem::create_directory(folder);
      for (const auto& [path, bytes] : tree)
        testing::WriteFile(folder + "/" + path, bytes);
    }
  }

  std::string Folder(size_t i) const {
    return folder_ / ("model" + std::to_string(i));
  }
  const Tree& tree(size_t i) const { return trees_[i]; }

 private:
  testing::TempDir folder_;
  std::vector<Tree> trees_;
};

inline absl::Status InitStore(storage::Storage& storage) {
  StoreHeader header;
  header.id = NewPackId();
  RETURN_IF_ERROR(
      storage.PutIfMatch(kHeaderKey, AsBytes(WriteStoreHeader(header)), ""));
  return storage.Sync();
}

/// Opens a store with the catalogue in a file, or with one in memory that it
/// fills.
inline absl::StatusOr<std::unique_ptr<Repository>> OpenStore(
    std::unique_ptr<storage::Storage> storage,
    const std::string& catalogue_path = "") {
  ASSIGN_OR_RETURN(std::unique_ptr<Catalogue> catalogue,
                   catalogue_path.empty()
                       ? Catalogue::OpenInMemory()
                       : Catalogue::Open(catalogue_path, /*sync=*/false));
  StoreOptions options;
  options.threads = 1;
  return Repository::Open(std::move(storage), std::move(catalogue), options);
}

/// All files of a model, as Store::Get reads them.
inline absl::StatusOr<Tree> ReadModel(Repository& repository,
                                      const ModelName& name) {
  ASSIGN_OR_RETURN(const auto reference, repository.FindReference(name));
  ASSIGN_OR_RETURN(const Manifest manifest,
                   repository.ReadManifest(reference.first));
  Tree tree;
  for (const Manifest::File& file : manifest.files) {
    if (file.entry.kind != EntryKind::kFile) continue;
    testing::Bytes& bytes = tree[file.entry.path];
    for (size_t i = 0; i < file.parts.size(); ++i) {
      const Manifest::Part& part = file.parts[i];
      bytes.insert(bytes.end(), part.literal.begin(), part.literal.end());
      if (!part.literal.empty()) continue;
      const size_t at = bytes.size();
      bytes.resize(at + file.entry.layout.segments[i].length);
      RETURN_IF_ERROR(Annotate(
          repository.Read(part.object, 0, MutableByteSpan(bytes).subspan(at)),
          name.Text(), ", ", file.entry.path, ": "));
    }
  }
  return tree;
}

inline absl::Status AddModel(Repository& repository, const ModelName& name,
                             const std::string& folder, bool replace = false) {
  AddOptions options;
  options.level = 1;
  options.replace = replace;
  return Add(repository, name, folder, options).status();
}

}  // namespace zipllm::store

#endif  // ZIPLLM_TESTS_STORE_SMALL_STORE_H_
