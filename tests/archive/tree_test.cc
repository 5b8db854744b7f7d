// Directories and files on disk: what goes in comes out, and nothing
// half-written stays.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>

#include "archive/testing.h"
#include "zipllm/archive.h"

namespace zipllm {
namespace {

namespace fs = std::filesystem;
using namespace testing;

absl::StatusOr<Totals> Pack(const std::string& path, Bytes* archive,
                            CompressOptions options = {}) {
  auto sink = MakeMemorySink(archive);
  return Compressor(std::move(options)).CompressPath(path, *sink);
}
absl::StatusOr<Totals> Unpack(const Bytes& archive, const std::string& target,
                              DecompressOptions options = {}) {
  auto in = MakeMemorySource(archive);
  return Decompressor(std::move(options)).DecompressTo(*in, target);
}

// Paths, kinds, modes, times, link targets and contents of a tree, as text.
std::string Describe(const std::string& root) {
  std::vector<std::string> lines;
  auto add = [&](const std::string& path) {
    struct stat st;
    ASSERT_EQ(lstat(path.c_str(), &st), 0);
    std::string line =
        path.substr(root.size()) + " " + std::to_string(st.st_mode) + " ";
    line += std::to_string(st.st_mtim.tv_sec) + "." +
            std::to_string(st.st_mtim.tv_nsec);
    if (S_ISLNK(st.st_mode)) line += " -> " + fs::read_symlink(path).string();
    if (S_ISREG(st.st_mode)) {
      Bytes bytes = ReadFile(path);
      line += " " + std::to_string(bytes.size()) + " " +
              std::string(bytes.begin(), bytes.end());
    }
    lines.push_back(line);
  };
  add(root);
  for (const auto& item : fs::recursive_directory_iterator(root))
    add(item.path());
  std::sort(lines.begin(), lines.end());
  std::string all;
  for (const std::string& line : lines) all += line + "\n";
  return all;
}

void MakeTree(const std::string& root) {
  fs::create_directories(root + "/sub/deeper");
  fs::create_directories(root + "/nothing inside");
  WriteFile(root + "/config.json", FromString("{}"));
  WriteFile(root + "/sub/model.safetensors",
            Safetensors({{"w", "BF16", {5000}, Bf16Weights(5000, 1)}}));
  WriteFile(root + "/sub/deeper/copy.safetensors",
            Safetensors({{"w", "BF16", {5000}, Bf16Weights(5000, 1)}}));
  WriteFile(root + "/sub/\xFF\n odd", {});
  fs::create_symlink("../config.json", root + "/sub/link");
  fs::create_symlink("/nowhere/at/all", root + "/dangling");
  fs::create_directory_symlink("sub", root + "/dirlink");
  chmod((root + "/config.json").c_str(), 0640);
  chmod((root + "/sub/deeper").c_str(), 0750);
  struct timespec times[2] = {
      {.tv_sec = 1'000'000'000, .tv_nsec = 5},
      {.tv_sec = 1'234'567'890, .tv_nsec = 123'456'789}};
  utimensat(AT_FDCWD, (root + "/config.json").c_str(), times, 0);
  utimensat(AT_FDCWD, (root + "/dangling").c_str(), times, AT_SYMLINK_NOFOLLOW);
  utimensat(AT_FDCWD, (root + "/sub").c_str(), times, 0);
}

TEST(Tree, RoundTripKeepsEverything) {
  TempDir dir;
  MakeTree(dir / "in");
  Bytes one;
  CompressOptions options;
  options.threads = 1;
  ASSERT_TRUE(Pack(dir / "in", &one, options).ok());
  Bytes many;
  options.threads = 4;
  auto totals = Pack(dir / "in", &many, options);
  ASSERT_TRUE(totals.ok()) << totals.status();
  EXPECT_EQ(one, many);
  EXPECT_GE(totals->duplicate_bytes, 10'000u);  // the copy's tensor
  auto unpacked = Unpack(one, dir / "out");
  ASSERT_TRUE(unpacked.ok()) << unpacked.status();
  EXPECT_EQ(Describe(dir / "in"), Describe(dir / "out"));
  // Again over what is there, and not without being asked to.
  EXPECT_EQ(Unpack(one, dir / "out").status().code(),
            absl::StatusCode::kAlreadyExists);
  DecompressOptions over;
  over.overwrite = true;
  auto again = Unpack(one, dir / "out", over);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(Describe(dir / "in"), Describe(dir / "out"));
}

TEST(Tree, ReadOnlyDirectoriesRoundTrip) {
  TempDir dir;
  fs::create_directories(dir / "in/ro");
  WriteFile(dir / "in/ro/f", FromString("x"));
  chmod((dir / "in/ro").c_str(), 0555);
  Bytes archive;
  ASSERT_TRUE(Pack(dir / "in", &archive).ok());
  ASSERT_TRUE(Unpack(archive, dir / "out").ok());
  EXPECT_EQ(Describe(dir / "in"), Describe(dir / "out"));
  chmod((dir / "in/ro").c_str(), 0755);
  chmod((dir / "out/ro").c_str(), 0755);
}

TEST(Tree, SnapshotOfLinksIsFollowedWhenAsked) {
  TempDir dir;  // as a Hugging Face cache has it
  fs::create_directories(dir / "blobs");
  fs::create_directories(dir / "snapshots/main");
  WriteFile(dir / "blobs/abc", FromString("weights"));
  fs::create_symlink("../../blobs/abc", dir / "snapshots/main/model.bin");
  Bytes archive;
  CompressOptions follow;
  follow.follow_symlinks = true;
  ASSERT_TRUE(Pack(dir / "snapshots/main", &archive, follow).ok());
  ASSERT_TRUE(Unpack(archive, dir / "out").ok());
  EXPECT_FALSE(fs::is_symlink(dir / "out/model.bin"));
  EXPECT_EQ(ReadFile(dir / "out/model.bin"), FromString("weights"));
}

TEST(Tree, LinksThatGoInCirclesEnd) {
  TempDir dir;
  fs::create_directories(dir / "in/a");
  fs::create_directory_symlink("..", dir / "in/a/up");
  Bytes archive;
  CompressOptions follow;
  follow.follow_symlinks = true;
  ASSERT_TRUE(Pack(dir / "in", &archive, follow).ok());
  ASSERT_TRUE(Unpack(archive, dir / "out").ok());
  EXPECT_TRUE(fs::is_symlink(dir / "out/a/up/a/up"));
}

TEST(Tree, WhatIsNoFileIsWarnedAbout) {
  TempDir dir;
  fs::create_directories(dir / "in");
  ASSERT_EQ(mkfifo((dir / "in/fifo").c_str(), 0600), 0);
  Bytes archive;
  std::vector<std::string> warnings;
  CompressOptions options;
  options.warning = [&](const std::string& text) { warnings.push_back(text); };
  auto totals = Pack(dir / "in", &archive, options);
  ASSERT_TRUE(totals.ok()) << totals.status();
  EXPECT_EQ(totals->warnings, 1u);
  EXPECT_THAT(warnings, ::testing::ElementsAre(::testing::HasSubstr("fifo")));
}

TEST(File, SingleFileKeepsModeAndTime) {
  TempDir dir;
  MakeTree(dir / "in");
  auto made =
      Compressor().CompressPathToFile(dir / "in/config.json", dir / "a.zllm");
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(Compressor()
                .CompressPathToFile(dir / "in/config.json", dir / "a.zllm")
                .status()
                .code(),
            absl::StatusCode::kAlreadyExists);
  Bytes archive = ReadFile(dir / "a.zllm");
  ASSERT_TRUE(Unpack(archive, dir / "out.json").ok());
  struct stat a, b;
  ASSERT_EQ(stat((dir / "in/config.json").c_str(), &a), 0);
  ASSERT_EQ(stat((dir / "out.json").c_str(), &b), 0);
  EXPECT_EQ(a.st_mode, b.st_mode);
  EXPECT_EQ(a.st_mtim.tv_nsec, b.st_mtim.tv_nsec);
  EXPECT_EQ(Unpack(archive, dir / "out.json").status().code(),
            absl::StatusCode::kAlreadyExists);
  fs::create_directories(dir / "folder");
  ASSERT_TRUE(Unpack(archive, dir / "folder").ok());
  EXPECT_EQ(ReadFile(dir / "folder/config.json"), FromString("{}"));
}

TEST(File, FailureLeavesNothing) {
  TempDir dir;
  fs::create_directories(dir / "in");
  WriteFile(dir / "in/a", RandomBytes(100'000, 1));
  WriteFile(dir / "in/b", RandomBytes(100'000, 2));
  Bytes archive;
  ASSERT_TRUE(Pack(dir / "in", &archive).ok());
  archive[archive.size() / 2 + 20'000] ^= 1;  // in the second file
  EXPECT_EQ(Unpack(archive, dir / "out").status().code(),
            absl::StatusCode::kDataLoss);
  std::vector<std::string> left;
  for (const auto& item : fs::directory_iterator(dir.path()))
    left.push_back(item.path().filename());
  EXPECT_THAT(left, ::testing::ElementsAre("in"));
}

TEST(File, DamageBehindTheFileLeavesNothing) {
  TempDir dir;
  Bytes archive = Compress(FromString("whole"));
  archive.pop_back();
  EXPECT_EQ(Unpack(archive, dir / "out").status().code(),
            absl::StatusCode::kDataLoss);
  EXPECT_FALSE(fs::exists(dir / "out"));
}

TEST(File, OverALinkReplacesTheLink) {
  TempDir dir;
  WriteFile(dir / "precious", FromString("keep"));
  fs::create_symlink("precious", dir / "target");
  Bytes archive = Compress(FromString("new"));
  DecompressOptions over;
  over.overwrite = true;
  ASSERT_TRUE(Unpack(archive, dir / "target", over).ok());
  EXPECT_EQ(ReadFile(dir / "precious"), FromString("keep"));
  EXPECT_EQ(ReadFile(dir / "target"), FromString("new"));
}

TEST(Tree, ALinkInTheWayIsNotFollowed) {
  TempDir dir;
  fs::create_directories(dir / "in/sub");
  WriteFile(dir / "in/sub/f", FromString("evil"));
  Bytes archive;
  ASSERT_TRUE(Pack(dir / "in", &archive).ok());
  fs::create_directories(dir / "out");
  fs::create_directories(dir / "elsewhere");
  fs::create_directory_symlink("../elsewhere", dir / "out/sub");
  DecompressOptions over;
  over.overwrite = true;
  EXPECT_FALSE(Unpack(archive, dir / "out", over).ok());
  EXPECT_TRUE(fs::is_empty(dir / "elsewhere"));
}

TEST(RealData, WholeFolderRoundTrips) {
  const std::string data = ZIPLLM_SOURCE_DIR "/../shared/data/family";
  if (!fs::exists(data)) GTEST_SKIP() << "../shared/data is not here";
  TempDir dir;
  Bytes archive;
  auto packed = Pack(data, &archive);
  ASSERT_TRUE(packed.ok()) << packed.status();
  auto unpacked = Unpack(archive, dir / "out");
  ASSERT_TRUE(unpacked.ok()) << unpacked.status();
  EXPECT_EQ(Describe(data), Describe(dir / "out"));
}

}  // namespace
}  // namespace zipllm
