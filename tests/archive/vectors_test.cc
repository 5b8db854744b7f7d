// The golden vectors of format-spec/vectors: what they hold comes out, and what
// is bad is refused for its reason.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "archive/testing.h"
#include "base/hash.h"
#include "zipllm/archive.h"

namespace zipllm {
namespace {

namespace fs = std::filesystem;
using namespace testing;
using nlohmann::json;

std::string Folder() { return ZIPLLM_SOURCE_DIR "/format-spec/vectors/"; }

json Manifest(const char* group) {
  std::ifstream in(Folder() + "MANIFEST.json");
  return json::parse(in).at(group);
}

DecompressOptions Options(const json& vector) {
  DecompressOptions options;
  options.threads = 2;
  options.max_memory = vector.value("memory_mib", uint64_t{512}) << 20;
  for (const std::string base : vector.value("bases", json::array())) {
    options.bases.push_back(Folder() + base);
  }
  return options;
}

/// The manifest has a byte of a name as the character of its number.
std::string Name(const json& text) {
  const std::string utf8 = text.get<std::string>();
  std::string bytes;
  for (size_t i = 0; i < utf8.size(); ++i) {
    const auto byte = static_cast<uint8_t>(utf8[i]);
    if (byte < 0x80) {
      bytes += utf8[i];
    } else {
      const auto next = static_cast<uint8_t>(utf8[++i]);
      bytes += static_cast<char>((byte & 3) << 6 | (next & 63));
    }
  }
  return bytes;
}

std::string Hex(const Sha256Digest& digest) {
  std::string text;
  for (uint8_t byte : digest) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

void ExpectLayout(const Layout& layout, const json& wanted) {
  EXPECT_EQ(layout.format, Name(wanted.at("format")));
  const json& segments = wanted.at("segments");
  ASSERT_EQ(layout.segments.size(), segments.size());
  for (size_t i = 0; i < segments.size(); ++i) {
    const Segment& segment = layout.segments[i];
    EXPECT_EQ(segment.name, Name(segments[i].at("name")));
    EXPECT_EQ(FindDType(segment.dtype)->name,
              segments[i].at("dtype").get<std::string>());
    EXPECT_EQ(segment.length, segments[i].at("length"));
    EXPECT_EQ(segment.shape,
              segments[i].at("shape").get<std::vector<uint64_t>>());
  }
}

void ExpectEntry(const Entry& entry, const json& wanted) {
  EXPECT_EQ(entry.path, Name(wanted.at("path")));
  ASSERT_EQ(entry.has_metadata, wanted.contains("mode"));
  if (entry.has_metadata) {
    EXPECT_EQ(entry.mode,
              std::stoul(wanted.at("mode").get<std::string>(), nullptr, 8));
    EXPECT_EQ(entry.mtime_seconds, wanted.at("mtime")[0]);
    EXPECT_EQ(entry.mtime_nanoseconds, wanted.at("mtime")[1]);
  }
  const std::string kind = wanted.at("kind");
  EXPECT_EQ(entry.kind == EntryKind::kDirectory, kind == "directory");
  ASSERT_EQ(entry.kind == EntryKind::kSymlink, kind == "symlink");
  if (entry.kind == EntryKind::kSymlink) {
    EXPECT_EQ(entry.link_target, Name(wanted.at("target")));
  }
  if (entry.kind != EntryKind::kFile) return;
  EXPECT_EQ(entry.size, wanted.at("size"));
  EXPECT_EQ(Hex(entry.sha256), wanted.at("sha256"));
  ExpectLayout(entry.layout, wanted);
}

TEST(Vectors, GoodOnesDecodeToTheManifest) {
  const json good = Manifest("good");
  ASSERT_GT(good.size(), 30u);
  for (const auto& [name, vector] : good.items()) {
    SCOPED_TRACE(name);
    const Bytes bytes = ReadFile(Folder() + name);
    auto archive = Archive::Open(MakeMemorySource(bytes), Options(vector));
    ASSERT_TRUE(archive.ok()) << archive.status();
    const json& entries = vector.at("entries");
    ASSERT_EQ(archive->entries().size(), entries.size());
    Bytes all;
    for (size_t i = 0; i < entries.size(); ++i) {
      ExpectEntry(archive->entries()[i], entries[i]);
      if (archive->entries()[i].kind != EntryKind::kFile) continue;
      Bytes file(archive->entries()[i].size);
      auto read = archive->ReadRange(i, 0, file);
      ASSERT_TRUE(read.ok()) << read;
      EXPECT_EQ(Hex(Sha256Of(file)), entries[i].at("sha256"));
      all.insert(all.end(), file.begin(), file.end());
    }

    auto file = MakeMemorySource(bytes);
    auto tested = Decompressor(Options(vector)).Test(*file);
    EXPECT_TRUE(tested.ok()) << tested.status();
    PipeSource pipe(bytes, 100);
    Bytes streamed;
    auto sink = MakeMemorySink(&streamed);
    auto totals = Decompressor(Options(vector)).DecompressStream(pipe, *sink);
    EXPECT_TRUE(totals.ok()) << totals.status();
    EXPECT_EQ(streamed, all);
  }
}

absl::StatusCode CodeOf(const std::string& reason) {
  if (reason == "too new") return absl::StatusCode::kUnimplemented;
  if (reason == "over the limit") return absl::StatusCode::kResourceExhausted;
  if (reason == "needs a base") return absl::StatusCode::kFailedPrecondition;
  EXPECT_EQ(reason, "damaged");
  return absl::StatusCode::kDataLoss;
}

TEST(Vectors, BadOnesAreRefusedFromFileAndPipe) {
  const json bad = Manifest("bad");
  ASSERT_GT(bad.size(), 150u);
  for (const auto& [name, vector] : bad.items()) {
    SCOPED_TRACE(name + ": " + vector.at("what").get<std::string>());
    const Bytes bytes = ReadFile(Folder() + name);
    const DecompressOptions options = Options(vector);
    const absl::StatusCode code = CodeOf(vector.at("refused"));
    auto file = MakeMemorySource(bytes);
    EXPECT_EQ(Decompressor(options).Test(*file).status().code(), code);
    PipeSource pipe(bytes, 100);
    EXPECT_EQ(Decompressor(options).Test(pipe).status().code(), code);
  }
}

// Decompressing checks less than testing (no index). A file that is whole
// before the damage may stay, under its name; nothing else does, and nothing is
// written elsewhere.
TEST(Vectors, BadOnesLeaveNothingHalf) {
  const json bad = Manifest("bad");
  for (const auto& [name, vector] : bad.items()) {
    SCOPED_TRACE(name);
    TempDir dir;
    fs::create_directory(dir / "sub");
    auto file = OpenFileSource(Folder() + name);
    ASSERT_TRUE(file.ok()) << file.status();
    auto totals =
        Decompressor(Options(vector)).DecompressTo(**file, dir / "sub/out");
    for (const auto& left : fs::directory_iterator(dir / "sub")) {
      EXPECT_EQ(left.path(), dir / "sub/out");
      EXPECT_TRUE(totals.ok() || left.is_regular_file()) << totals.status();
    }
    fs::remove_all(dir / "sub");
    EXPECT_TRUE(fs::is_empty(dir.path()));
  }
}

TEST(Vectors, BadOnesReadAtRandomGiveAnErrorOrTheRightBytes) {
  const json bad = Manifest("bad");
  for (const auto& [name, vector] : bad.items()) {
    SCOPED_TRACE(name);
    const Bytes bytes = ReadFile(Folder() + name);
    auto archive = Archive::Open(MakeMemorySource(bytes), Options(vector));
    if (!archive.ok()) continue;
    for (size_t i = 0; i < archive->entries().size(); ++i) {
      const Entry& entry = archive->entries()[i];
      if (entry.kind != EntryKind::kFile) continue;
      ASSERT_LE(entry.size, 8u << 20);
      Bytes file(entry.size);
      const bool read = archive->ReadRange(i, 0, file).ok();
      // These two say of whole and right bytes that they are others.
      if (read && name != "bad/sha256.zllm" &&
          name != "bad/index-sha256.zllm") {
        EXPECT_EQ(Sha256Of(file), entry.sha256);
      }
    }
  }
}

}  // namespace
}  // namespace zipllm
