// Trees of archives and stores, without FUSE.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <thread>

#include "mount/entry_tree.h"
#include "mount/testing.h"
#include "zipllm/store.h"

namespace zipllm::mount {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using zipllm::testing::Bytes;
using zipllm::testing::FromString;
using zipllm::testing::RandomBytes;
using zipllm::testing::TempDir;
using zipllm::testing::WriteFile;

std::vector<std::string> NamesIn(Tree& tree, const std::string& path) {
  const auto list = tree.List(path);
  EXPECT_TRUE(list.ok()) << path << ": " << list.status();
  std::vector<std::string> names;
  if (!list.ok()) return names;
  for (const auto& [name, node] : *list) {
    names.push_back(name);
    const auto found = tree.Find(JoinPath(path, name));
    EXPECT_TRUE(found.ok()) << found.status();
    if (found.ok()) {
      EXPECT_EQ(found->inode, node.inode) << name;
    }
  }
  return names;
}

Bytes ContentOf(Tree& tree, const std::string& path) {
  const auto file = tree.Open(path);
  EXPECT_TRUE(file.ok()) << path << ": " << file.status();
  if (!file.ok()) return {};
  Bytes out((*file)->size());
  const absl::Status status = (*file)->Read(0, out);
  EXPECT_TRUE(status.ok()) << status;
  return out;
}

std::unique_ptr<Tree> TreeOf(const Bytes& archive, const std::string& unnamed) {
  auto opened = Archive::Open(MakeMemorySource(archive));
  EXPECT_TRUE(opened.ok()) << opened.status();
  return MakeArchiveTree(*std::move(opened), unnamed);
}

TEST(ArchiveTreeTest, ASingleFileStandsAtTheRoot) {
  const Bytes plain = RandomBytes(100000, 1);
  const Bytes named = zipllm::testing::Compress(plain, {}, "model.bin");
  const auto tree = TreeOf(named, "content");
  EXPECT_EQ(tree->Find("")->inode, 1);
  EXPECT_EQ(tree->Find("")->kind, EntryKind::kDirectory);
  EXPECT_THAT(NamesIn(*tree, ""), ElementsAre("model.bin"));
  EXPECT_EQ(ContentOf(*tree, "model.bin"), plain);
  EXPECT_EQ(tree->Find("model.bin")->size, plain.size());
  EXPECT_TRUE(absl::IsNotFound(tree->Find("other").status()));
  EXPECT_TRUE(absl::IsNotFound(tree->Open("").status()));
  EXPECT_TRUE(absl::IsNotFound(tree->List("other").status()));
  EXPECT_EQ(tree->Sum()->plain_bytes, plain.size());
  EXPECT_EQ(tree->Sum()->stored_bytes, named.size());
  EXPECT_NEAR(static_cast<double>(*tree->CodedSize("model.bin")), 100000, 2000);

  const Bytes stream = zipllm::testing::Compress(plain, {}, "");
  EXPECT_THAT(NamesIn(*TreeOf(stream, "content"), ""), ElementsAre("content"));
  EXPECT_EQ(ContentOf(*TreeOf(stream, "x.gguf"), "x.gguf"), plain);
}

TEST(ArchiveTreeTest, OfEqualPathsInAConcatenationTheLastCounts) {
  Bytes both = zipllm::testing::Compress(FromString("one"), {}, "f");
  const Bytes second = zipllm::testing::Compress(FromString("two"), {}, "f");
  both.insert(both.end(), second.begin(), second.end());
  const auto tree = TreeOf(both, "content");
  EXPECT_THAT(NamesIn(*tree, ""), ElementsAre("f"));
  EXPECT_EQ(ContentOf(*tree, "f"), FromString("two"));
}

TEST(EntryTreeTest, FoldersThatAreNotNamedAreThere) {
  std::vector<Entry> entries(3);
  entries[0].path = "a/b/c";
  entries[1].path = "a/d";
  entries[2].path = "a/b";  // a file where a folder must be
  const EntryTree tree(entries, "place", "content");
  EXPECT_EQ(tree.Find("a/b")->kind, EntryKind::kDirectory);
  EXPECT_EQ(tree.Find("a/b/c")->kind, EntryKind::kFile);
  EXPECT_EQ(tree.List("")->size(), 1);
  EXPECT_EQ(tree.List("a")->size(), 2);
  EXPECT_FALSE(tree.FindFile("a/b").ok());
  EXPECT_EQ(*tree.FindFile("a/d"), 1);
}

TEST(EntryTreeTest, InodesAreOfPlaceAndContent) {
  Entry file;
  file.size = 3;
  Entry other = file;
  other.sha256[31] = 1;
  EXPECT_EQ(MakeNode(file, "x").inode, MakeNode(file, "x").inode);
  EXPECT_NE(MakeNode(file, "x").inode, MakeNode(file, "y").inode);
  EXPECT_NE(MakeNode(file, "x").inode, MakeNode(other, "x").inode);
  Entry link;
  link.kind = EntryKind::kSymlink;
  link.link_target = "a";
  const uint64_t before = MakeNode(link, "l").inode;
  link.link_target = "b";
  EXPECT_NE(MakeNode(link, "l").inode, before);
  EXPECT_EQ(MakeFolder("").inode, 1);
}

class StoreTreeTest : public ::testing::Test {
 protected:
  StoreTreeTest() {
    StoreOptions options;
    options.sync = false;
    options.threads = 1;
    EXPECT_TRUE(Store::Init(dir_ / "store", options).ok());
    store_.emplace(*Store::Open(dir_ / "store", options));
    tree_ = MakeStoreTree(*Store::Open(dir_ / "store", options),
                          std::chrono::milliseconds(20));
  }
  void Add(const std::string& name, const std::string& file, const Bytes& bytes,
           bool replace = false) {
    const std::string folder = dir_ / "in";
    fs::remove_all(folder);
    fs::create_directories(fs::path(folder + "/" + file).parent_path());
    WriteFile(folder + "/" + file, bytes);
    fs::create_symlink(file, folder + "/link");
    AddOptions options;
    options.replace = replace;
    const auto added = store_->Add(*ModelName::Parse(name), folder, options);
    ASSERT_TRUE(added.ok()) << added.status();
  }
  // Longer than names are taken to hold.
  static void WaitForNames() {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
  }

  TempDir dir_;
  std::optional<Store> store_;
  std::unique_ptr<Tree> tree_;
};

TEST_F(StoreTreeTest, ShowsNamesRevisionsAndFiles) {
  EXPECT_THAT(NamesIn(*tree_, ""), IsEmpty());
  const Bytes big = RandomBytes(300000, 1);
  Add("org/model", "sub/weights.bin", big);
  Add("org/model@v2", "config.json", FromString("{}"));
  Add("plain", "f", FromString("plain"));
  WaitForNames();
  EXPECT_THAT(NamesIn(*tree_, ""), ElementsAre("org", "plain"));
  EXPECT_THAT(NamesIn(*tree_, "org"), ElementsAre("model"));
  EXPECT_THAT(NamesIn(*tree_, "org/model"), ElementsAre("main", "v2"));
  EXPECT_THAT(NamesIn(*tree_, "org/model/main"), ElementsAre("link", "sub"));
  EXPECT_EQ(ContentOf(*tree_, "org/model/main/sub/weights.bin"), big);
  EXPECT_EQ(ContentOf(*tree_, "org/model/v2/config.json"), FromString("{}"));
  EXPECT_EQ(tree_->Find("org/model/main/link")->link_target, "sub/weights.bin");
  EXPECT_GT(*tree_->CodedSize("org/model/main/sub/weights.bin"), 290000);
  EXPECT_EQ(tree_->Sum()->files, 3);
  for (const char* path : {"or", "org/model/v3", "org/model/main/sub/x", "x/y",
                           "org/model/main/sub/weights.bin/x"}) {
    EXPECT_TRUE(absl::IsNotFound(tree_->Find(path).status())) << path;
    EXPECT_TRUE(absl::IsNotFound(tree_->Open(path).status())) << path;
  }
}

TEST_F(StoreTreeTest, FollowsWhatIsReplacedAndRemoved) {
  Add("m", "f", FromString("old"));
  WaitForNames();
  const uint64_t inode = tree_->Find("m/main/f")->inode;
  const auto open = *tree_->Open("m/main/f");
  Add("m", "f", FromString("newer"), /*replace=*/true);
  WaitForNames();
  EXPECT_EQ(ContentOf(*tree_, "m/main/f"), FromString("newer"));
  EXPECT_NE(tree_->Find("m/main/f")->inode, inode);
  Bytes out(3);
  EXPECT_TRUE(open->Read(0, out).ok());
  EXPECT_EQ(out, FromString("old"));
  ASSERT_TRUE(store_->Remove(*ModelName::Parse("m")).ok());
  WaitForNames();
  EXPECT_TRUE(absl::IsNotFound(tree_->Find("m/main/f").status()));
  EXPECT_THAT(NamesIn(*tree_, ""), IsEmpty());
}

TEST_F(StoreTreeTest, NamesThatMeetAreToldApart) {
  Add("a", "f", FromString("a@main"));
  Add("a/main", "f", FromString("a/main@main"));
  Add("a@x", "f", FromString("a@x"));
  WaitForNames();
  EXPECT_THAT(NamesIn(*tree_, "a"), ElementsAre("@main", "main", "x"));
  EXPECT_EQ(ContentOf(*tree_, "a/@main/f"), FromString("a@main"));
  EXPECT_EQ(ContentOf(*tree_, "a/main/main/f"), FromString("a/main@main"));
  EXPECT_EQ(ContentOf(*tree_, "a/x/f"), FromString("a@x"));
}

}  // namespace
}  // namespace zipllm::mount
