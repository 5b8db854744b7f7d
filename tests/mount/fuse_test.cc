// What a mounted tree looks like to other processes.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/file.h"
#include "base/hash.h"
#include "mount/testing.h"
#include "zipllm/archive.h"

namespace zipllm::mount {
namespace {

namespace fs = std::filesystem;
using testing::ByteAt;
using ::testing::HasSubstr;
using testing::MadeFile;
using testing::MadeTree;
using testing::Mounted;
using ::testing::Not;
using zipllm::testing::Bytes;
using zipllm::testing::ReadFile;
using zipllm::testing::TempDir;
using zipllm::testing::WriteFile;

std::unique_ptr<Tree> OpenArchiveTree(const std::string& path) {
  DecompressOptions options;
  options.threads = 1;
  auto archive = Archive::OpenFile(path, options);
  EXPECT_TRUE(archive.ok()) << archive.status();
  return MakeArchiveTree(*std::move(archive));
}

// A small model: a folder of files and links, and its archive.
struct Model {
  Model() {
    fs::create_directories(dir / "in/a/b");
    std::vector<zipllm::testing::Tensor> tensors;
    for (uint64_t i = 0; i < 6; ++i) {
      const uint64_t rows = i % 2 == 0 ? 700 : 1;
      tensors.push_back({"t" + std::to_string(i),
                         "BF16",
                         {rows, 512},
                         zipllm::testing::Bf16Weights(rows * 512, i)});
    }
    weights = zipllm::testing::Safetensors(tensors);
    WriteFile(dir / "in/model.safetensors", weights);
    WriteFile(dir / "in/a/config.json", zipllm::testing::FromString("{}\n"));
    WriteFile(dir / "in/empty", {});
    WriteFile(dir / "in/a/b/private", zipllm::testing::FromString("secret"));
    fs::permissions(dir / "in/a/b/private", fs::perms(0600));
    fs::create_symlink("config.json", dir / "in/a/link");
    fs::create_symlink("../nowhere", dir / "in/a/broken");
    auto totals =
        Compressor().CompressPathToFile(dir / "in", dir / "model.zllm");
    EXPECT_TRUE(totals.ok()) << totals.status();
  }
  TempDir dir;
  Bytes weights;
};

Bytes ReadAt(int fd, uint64_t offset, size_t size) {
  Bytes out(size);
  const ssize_t n = pread(fd, out.data(), size, static_cast<off_t>(offset));
  out.resize(n < 0 ? 0 : static_cast<size_t>(n));
  return out;
}

Bytes MadeBytes(uint64_t seed, uint64_t offset, size_t size) {
  Bytes out(size);
  for (size_t i = 0; i < size; ++i) out[i] = ByteAt(seed, offset + i);
  return out;
}

TEST(FuseTest, FilesFoldersAndLinksAreAsTheyWere) {
  const Model model;
  const Mounted mounted(
      [&] { return OpenArchiveTree(model.dir / "model.zllm"); });
  SKIP_UNLESS_MOUNTED(mounted);
  size_t seen = 0;
  for (const auto& item : fs::recursive_directory_iterator(model.dir / "in")) {
    const std::string path =
        mounted / item.path().lexically_relative(model.dir / "in").string();
    struct stat here, there;
    ASSERT_EQ(lstat(item.path().c_str(), &here), 0);
    ASSERT_EQ(lstat(path.c_str(), &there), 0) << path;
    EXPECT_EQ(there.st_mode, here.st_mode) << path;
    EXPECT_EQ(there.st_mtim.tv_sec, here.st_mtim.tv_sec) << path;
    EXPECT_EQ(there.st_mtim.tv_nsec, here.st_mtim.tv_nsec) << path;
    if (item.is_symlink()) {
      EXPECT_EQ(fs::read_symlink(path), fs::read_symlink(item.path()));
    } else if (item.is_regular_file()) {
      EXPECT_EQ(there.st_size, here.st_size);
      EXPECT_EQ(ReadFile(path), ReadFile(item.path()));
    }
    ++seen;
  }
  size_t mounted_count = 0;
  for (const auto& item : fs::recursive_directory_iterator(mounted.path())) {
    mounted_count += item.exists() || item.is_symlink();
  }
  EXPECT_EQ(mounted_count, seen);
  EXPECT_EQ(ReadFile(mounted / "a/link"), ReadFile(model.dir / "in/a/link"));
  EXPECT_EQ(access((mounted / "nothing").c_str(), F_OK), -1);
  EXPECT_EQ(errno, ENOENT);
  EXPECT_EQ(access((mounted / std::string(300, 'x')).c_str(), F_OK), -1);
  EXPECT_EQ(errno, ENAMETOOLONG);
}

TEST(FuseTest, ReadsAndMapsAnyPart) {
  const Model model;
  const Mounted mounted(
      [&] { return OpenArchiveTree(model.dir / "model.zllm"); });
  SKIP_UNLESS_MOUNTED(mounted);
  const UniqueFd fd(open((mounted / "model.safetensors").c_str(), O_RDONLY));
  ASSERT_TRUE(fd.ok());
  const Bytes& plain = model.weights;
  std::mt19937_64 random(5);
  for (int i = 0; i < 200; ++i) {
    const uint64_t at = random() % plain.size();
    const size_t size = std::min<size_t>(4096, plain.size() - at);
    EXPECT_TRUE(std::ranges::equal(ReadAt(fd.get(), at, size),
                                   std::span(plain).subspan(at, size)))
        << at;
  }
  EXPECT_TRUE(ReadAt(fd.get(), plain.size(), 10).empty());
  EXPECT_EQ(ReadAt(fd.get(), plain.size() - 3, 10).size(), 3);
  void* map = mmap(nullptr, plain.size(), PROT_READ, MAP_SHARED, fd.get(), 0);
  ASSERT_NE(map, MAP_FAILED);
  EXPECT_EQ(std::memcmp(map, plain.data(), plain.size()), 0);
  munmap(map, plain.size());
}

TEST(FuseTest, NothingCanBeWritten) {
  const Model model;
  const Mounted mounted(
      [&] { return OpenArchiveTree(model.dir / "model.zllm"); });
  SKIP_UNLESS_MOUNTED(mounted);
  EXPECT_EQ(open((mounted / "empty").c_str(), O_WRONLY), -1);
  EXPECT_EQ(errno, EROFS);
  EXPECT_EQ(open((mounted / "new").c_str(), O_WRONLY | O_CREAT, 0600), -1);
  EXPECT_EQ(errno, EROFS);
  EXPECT_EQ(unlink((mounted / "empty").c_str()), -1);
  EXPECT_EQ(errno, EROFS);
}

TEST(FuseTest, AttributesTellHashAndRatio) {
  const Model model;
  const Mounted mounted(
      [&] { return OpenArchiveTree(model.dir / "model.zllm"); });
  SKIP_UNLESS_MOUNTED(mounted);
  const std::string path = mounted / "model.safetensors";
  char value[100];
  ssize_t n = getxattr(path.c_str(), "user.zipllm.sha256", value, sizeof value);
  ASSERT_EQ(n, 64);
  std::string hex;
  for (const uint8_t byte : Sha256Of(model.weights)) {
    char digits[3];
    std::snprintf(digits, sizeof digits, "%02x", byte);
    hex += digits;
  }
  EXPECT_EQ(std::string(value, 64), hex);
  n = getxattr(path.c_str(), "user.zipllm.ratio", value, sizeof value);
  ASSERT_EQ(n, 6) << "as 0.6612";
  const double ratio = std::stod(std::string(value, 6));
  const auto stored = fs::file_size(model.dir / "model.zllm");
  EXPECT_NEAR(
      ratio,
      static_cast<double>(stored) / static_cast<double>(model.weights.size()),
      0.02);
  n = listxattr(path.c_str(), value, sizeof value);
  ASSERT_GT(n, 0);
  const std::string names(value, static_cast<size_t>(n));
  EXPECT_THAT(names, HasSubstr("user.zipllm.sha256"));
  EXPECT_THAT(names, HasSubstr("user.zipllm.ratio"));
  EXPECT_EQ(getxattr(path.c_str(), "user.zipllm.sha256", value, 5), -1);
  EXPECT_EQ(errno, ERANGE);
  EXPECT_EQ(getxattr(path.c_str(), "user.other", value, 5), -1);
  EXPECT_EQ(errno, ENODATA);
  EXPECT_EQ(listxattr((mounted / "a").c_str(), value, sizeof value), 0);

  struct statvfs space;
  ASSERT_EQ(statvfs(mounted.path().c_str(), &space), 0);
  EXPECT_EQ(space.f_blocks * space.f_frsize / 4096,
            (model.weights.size() + 3 + 6 + 4095) / 4096);
  EXPECT_EQ((space.f_blocks - space.f_bfree) * space.f_frsize / 4096,
            (stored + 4095) / 4096);
  EXPECT_EQ(space.f_bavail, 0);
  EXPECT_EQ(space.f_files, 4);
  EXPECT_TRUE(space.f_flag & ST_RDONLY);
}

TEST(FuseTest, InodesAreTheSameAfterARemount) {
  const Model model;
  std::map<std::string, ino_t> first;
  for (int round = 0; round < 2; ++round) {
    const Mounted mounted(
        [&] { return OpenArchiveTree(model.dir / "model.zllm"); });
    SKIP_UNLESS_MOUNTED(mounted);
    std::set<ino_t> all;
    size_t count = 0;
    for (const auto& item : fs::recursive_directory_iterator(mounted.path())) {
      struct stat status;
      ASSERT_EQ(lstat(item.path().c_str(), &status), 0);
      const std::string path = item.path().lexically_relative(mounted.path());
      if (round == 0) first[path] = status.st_ino;
      EXPECT_EQ(status.st_ino, first[path]) << path;
      all.insert(status.st_ino);
      ++count;
    }
    EXPECT_EQ(all.size(), count);
  }
}

TEST(FuseTest, ALargeFolderIsListedWhole) {
  std::map<std::string, MadeFile> files;
  for (int i = 0; i < 3000; ++i) {
    files["a-file-with-a-longer-name-" + std::to_string(i)] = {.size = 10};
  }
  files[std::string(255, 'n')] = {.size = 1};
  const size_t count = files.size();
  files[std::string(256, 'n')] = {.size = 1};  // no file system has those
  const Mounted mounted([&] { return std::make_unique<MadeTree>(files); });
  SKIP_UNLESS_MOUNTED(mounted);
  for (int round = 0; round < 2; ++round) {
    std::set<std::string> names;
    for (const auto& item : fs::directory_iterator(mounted.path())) {
      names.insert(item.path().filename());
      EXPECT_TRUE(files.contains(item.path().filename()));
    }
    EXPECT_EQ(names.size(), count);
  }
}

TEST(FuseTest, EndsOnSignals) {
  for (const int number : {SIGTERM, SIGINT, SIGHUP}) {
    Mounted mounted([] {
      return std::make_unique<MadeTree>(
          std::map<std::string, MadeFile>{{"f", {.size = 10 << 20}}});
    });
    SKIP_UNLESS_MOUNTED(mounted);
    ASSERT_TRUE(mounted.IsMounted());
    // Even while a file is open.
    const UniqueFd fd(open((mounted / "f").c_str(), O_RDONLY));
    ASSERT_TRUE(fd.ok());
    EXPECT_EQ(ReadAt(fd.get(), 0, 100), MadeBytes(0, 0, 100));
    EXPECT_EQ(mounted.End(number), 0) << number;
    EXPECT_FALSE(mounted.IsMounted());
    char byte;
    EXPECT_EQ(pread(fd.get(), &byte, 1, 9 << 20), -1);
    EXPECT_EQ(errno, ENOTCONN);
  }
}

TEST(FuseTest, RefusesWhatCannotBeMountedOn) {
  const TempDir dir;
  WriteFile(dir / "file", {});
  const auto mount_on = [&](const std::string& directory,
                            const std::string& source) {
    MountOptions options;
    options.directory = directory;
    options.source = source;
    return Mount(std::make_unique<MadeTree>(std::map<std::string, MadeFile>{}),
                 options);
  };
  EXPECT_EQ(mount_on(dir / "nothing", "s").code(), absl::StatusCode::kNotFound);
  const absl::Status file = mount_on(dir / "file", "s");
  EXPECT_EQ(file.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(file.message()), HasSubstr(dir / "file"));
  // It would hide what it is made of.
  EXPECT_EQ(mount_on(dir.path(), dir.path()).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(mount_on(dir.path(), dir / "file").code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(FuseTest, ADamagedBlockFailsAloneAndIsLoggedOnce) {
  const Model model;
  Bytes bytes = ReadFile(model.dir / "model.zllm");
  bytes[bytes.size() / 2] ^= 0x40;
  WriteFile(model.dir / "bad.zllm", bytes);
  // What the library says of it.
  const auto archive = Archive::OpenFile(model.dir / "bad.zllm");
  ASSERT_TRUE(archive.ok()) << archive.status();
  const size_t entry = *archive->FindEntry("model.safetensors");
  std::vector<bool> is_bad((model.weights.size() + 4095) / 4096);
  for (uint64_t at = 0; at < model.weights.size();) {
    const auto block = archive->BlockAt(entry, at);
    ASSERT_TRUE(block.ok()) << block.status();
    Bytes out(block->second - block->first);
    if (!archive->ReadRange(entry, at, out).ok()) {
      for (uint64_t page = block->first / 4096;
           page <= (block->second - 1) / 4096; ++page) {
        is_bad[page] = true;
      }
    }
    at = block->second;
  }
  const auto bad = static_cast<size_t>(std::ranges::count(is_bad, true));
  ASSERT_GT(bad, 0);
  ASSERT_LT(bad, is_bad.size());

  const Mounted mounted(
      [&] { return OpenArchiveTree(model.dir / "bad.zllm"); });
  SKIP_UNLESS_MOUNTED(mounted);
  const UniqueFd fd(open((mounted / "model.safetensors").c_str(), O_RDONLY));
  ASSERT_TRUE(fd.ok());
  for (int round = 0; round < 2; ++round) {
    for (size_t page = 0; page < is_bad.size(); ++page) {
      const size_t at = page * 4096;
      const size_t size = std::min<size_t>(4096, model.weights.size() - at);
      Bytes out(size);
      errno = 0;
      const ssize_t n =
          pread(fd.get(), out.data(), size, static_cast<off_t>(at));
      if (is_bad[page]) {
        EXPECT_EQ(n, -1) << page;
        EXPECT_EQ(errno, EIO) << page;
      } else {
        ASSERT_EQ(n, size) << page;
        EXPECT_TRUE(
            std::ranges::equal(out, std::span(model.weights).subspan(at, size)))
            << page;
      }
    }
  }
  EXPECT_EQ(ReadFile(mounted / "a/config.json"),
            zipllm::testing::FromString("{}\n"));
  const std::string log = mounted.Log();
  EXPECT_THAT(log, HasSubstr("model.safetensors, bytes "));
  EXPECT_EQ(std::ranges::count(log, '\n'), 1) << log;
}

TEST(FuseTest, WhatIsReplacedIsNeverMixed) {
  const TempDir dir;
  constexpr uint64_t kSize = 3 << 20;
  const std::string switch_file = dir / "switch";
  const Mounted mounted([&] {
    auto tree = std::make_unique<MadeTree>(std::map<std::string, MadeFile>{
        {"f", {.size = kSize, .seed = 1}}, {"same", {.size = 9, .seed = 3}}});
    tree->validity = std::chrono::milliseconds(200);
    tree->switch_file = switch_file;
    tree->changed = {{"f", {.size = kSize, .seed = 2}},
                     {"same", {.size = 9, .seed = 3}}};
    return tree;
  });
  SKIP_UNLESS_MOUNTED(mounted);
  const auto inode = [&](const char* name) {
    struct stat status;
    EXPECT_EQ(stat((mounted / name).c_str(), &status), 0);
    return status.st_ino;
  };
  const UniqueFd old(open((mounted / "f").c_str(), O_RDONLY));
  ASSERT_TRUE(old.ok());
  EXPECT_EQ(ReadAt(old.get(), 0, 1 << 20), MadeBytes(1, 0, 1 << 20));
  const ino_t old_inode = inode("f"), same_inode = inode("same");
  WriteFile(switch_file, {});
  // At once: the kernel still holds the old name, and is told that it is stale.
  const UniqueFd fresh(open((mounted / "f").c_str(), O_RDONLY));
  ASSERT_TRUE(fresh.ok());
  const bool is_new = ReadAt(fresh.get(), 0, 8) == MadeBytes(2, 0, 8);
  const uint64_t seed = is_new ? 2 : 1;
  EXPECT_EQ(ReadAt(fresh.get(), 0, kSize), MadeBytes(seed, 0, kSize));
  // What was open goes on, the rest too.
  EXPECT_EQ(ReadAt(old.get(), 0, kSize), MadeBytes(1, 0, kSize));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_EQ(ReadFile(mounted / "f"), MadeBytes(2, 0, kSize));
  EXPECT_NE(inode("f"), old_inode);
  EXPECT_EQ(inode("same"), same_inode);
  fs::remove(switch_file);
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_EQ(ReadFile(mounted / "f"), MadeBytes(1, 0, kSize));
  EXPECT_EQ(inode("f"), old_inode);
}

TEST(FuseTest, ReadsOfAKilledMountFail) {
  Mounted mounted([] {
    return std::make_unique<MadeTree>(
        std::map<std::string, MadeFile>{{"f", {.size = 64 << 20}}},
        std::chrono::milliseconds(20));
  });
  SKIP_UNLESS_MOUNTED(mounted);
  std::atomic<int> reading = 0, wrong = 0, failed = 0;
  std::vector<std::jthread> threads;
  for (uint64_t t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      const UniqueFd fd(open((mounted / "f").c_str(), O_RDONLY));
      for (uint64_t at = t << 23;; at += 64 << 10) {
        Bytes out(64 << 10);
        const ssize_t n = pread(fd.get(), out.data(), out.size(),
                                static_cast<off_t>(at % (64 << 20)));
        if (n < 0) {
          ++failed;
          return;
        }
        // A part may have come before the end did.
        wrong += n == 0 ||
                 !std::ranges::equal(
                     std::span(out).first(static_cast<size_t>(n)),
                     MadeBytes(0, at % (64 << 20), static_cast<size_t>(n)));
        ++reading;
      }
    });
  }
  while (reading < 20) std::this_thread::yield();
  mounted.Kill();
  threads.clear();
  EXPECT_EQ(failed, 8);
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace zipllm::mount
