// Store: what goes in comes out, whatever the tree is; what adds and reads rely
// on when others add, remove and delete.
#include "zipllm/store.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "base/hash.h"
#include "store/format.h"

namespace zipllm {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

std::string ReadAll(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void WriteAll(const fs::path& path, const std::string& bytes) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << bytes;
}

// All below `root`: path, kind, mode, time, contents or target.
std::vector<std::string> Describe(const fs::path& root) {
  std::vector<std::string> lines;
  for (const auto& item : fs::recursive_directory_iterator(root)) {
    struct stat st;
    EXPECT_EQ(lstat(item.path().c_str(), &st), 0);
    std::string line = fs::relative(item.path(), root).string();
    if (item.is_symlink()) {
      line += " -> " + fs::read_symlink(item.path()).string();
    } else {
      line += " " + std::to_string(st.st_mode) + " " +
              std::to_string(st.st_mtim.tv_sec) + "." +
              std::to_string(st.st_mtim.tv_nsec);
      if (item.is_regular_file()) {
        const std::string bytes = ReadAll(item.path());
        line +=
            " " + Hex(Sha256Of({reinterpret_cast<const uint8_t*>(bytes.data()),
                                bytes.size()}));
      }
    }
    lines.push_back(std::move(line));
  }
  std::ranges::sort(lines);
  return lines;
}

// BF16 weights around 0, in a safetensors file.
std::string Safetensors(
    const std::vector<std::pair<std::string, std::vector<uint16_t>>>& tensors) {
  std::string header = "{";
  std::string data;
  for (const auto& [name, values] : tensors) {
    const size_t begin = data.size();
    data.append(reinterpret_cast<const char*>(values.data()),
                2 * values.size());
    header += (header.size() == 1 ? "\"" : ",\"") + name +
              "\":{\"dtype\":\"BF16\",\"shape\":[" +
              std::to_string(values.size() / 64) + ",64],\"data_offsets\":[" +
              std::to_string(begin) + "," + std::to_string(data.size()) + "]}";
  }
  header += "}";
  std::string file(8, '\0');
  for (int i = 0; i < 8; ++i) {
    file[static_cast<size_t>(i)] = static_cast<char>(header.size() >> (8 * i));
  }
  return file + header + data;
}

std::vector<uint16_t> Weights(uint32_t seed, size_t count) {
  std::mt19937 random(seed);
  std::vector<uint16_t> values(count);
  for (uint16_t& value : values) {
    const float weight =
        (static_cast<float>(random() % 2001) - 1000.0F) / 20000.0F;
    uint32_t bits;
    memcpy(&bits, &weight, 4);
    value = static_cast<uint16_t>(bits >> 16);
  }
  return values;
}

// A few values one step further.
std::vector<uint16_t> Tuned(std::vector<uint16_t> values, uint32_t seed) {
  std::mt19937 random(seed);
  for (uint16_t& value : values) {
    if (random() % 4 == 0 && (value & 0x7f80) != 0) ++value;
  }
  return values;
}

class StoreTest : public ::testing::Test {
 protected:
  StoreTest() {
    std::string name = (fs::temp_directory_path() / "store-XXXXXX").string();
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    root_ = name;
    EXPECT_TRUE(Store::Init(path(), {.sync = false}).ok());
  }
  ~StoreTest() override { fs::remove_all(root_); }

  std::string path() const { return (root_ / "store").string(); }
  Store Open() const {
    auto store = Store::Open(path(), {.threads = 2, .sync = false});
    EXPECT_TRUE(store.ok()) << store.status();
    return std::move(*store);
  }
  static AddResult Add(Store& store, const std::string& name,
                       const fs::path& from, const AddOptions& options = {}) {
    auto result = store.Add(*ModelName::Parse(name), from.string(), options);
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? *result : AddResult();
  }
  // Restores it and looks whether it is as `from` is.
  void ExpectSame(const Store& store, const std::string& name,
                  const fs::path& from) {
    const fs::path to = root_ / "out";
    fs::remove_all(to);
    const auto got = store.Get(*ModelName::Parse(name), to.string());
    ASSERT_TRUE(got.ok()) << name << ": " << got.status();
    if (fs::is_directory(from)) {
      EXPECT_EQ(Describe(to), Describe(from)) << name;
    } else {
      EXPECT_EQ(ReadAll(to / from.filename()), ReadAll(from)) << name;
    }
  }
  std::vector<fs::path> Packs() const {
    std::vector<fs::path> packs;
    if (!fs::exists(root_ / "store/packs")) return packs;
    for (const auto& item :
         fs::recursive_directory_iterator(root_ / "store/packs")) {
      if (item.is_regular_file()) packs.push_back(item.path());
    }
    return packs;
  }

  fs::path root_;
};

TEST_F(StoreTest, InitNeedsAnEmptyFolder) {
  EXPECT_TRUE(absl::IsAlreadyExists(Store::Init(path())));
  WriteAll(root_ / "other/file", "x");
  EXPECT_TRUE(absl::IsAlreadyExists(Store::Init((root_ / "other").string())));
  EXPECT_TRUE(
      absl::IsNotFound(Store::Open((root_ / "other").string()).status()));
}

TEST_F(StoreTest, TreesComeBackAsTheyWere) {
  const fs::path tree = root_ / "tree";
  for (const size_t size : {0, 1, 127, 128, 129, 255, 4096, 100000}) {
    WriteAll(tree / "files" / std::to_string(size), std::string(size, 'q'));
  }
  WriteAll(tree / "a/b/c/model.safetensors",
           Safetensors({{"x", Weights(1, 64)}, {"y", Weights(2, 8192)}}));
  // What the header says is not all there; what is there it does not say.
  const std::string whole = Safetensors({{"z", Weights(3, 8192)}});
  WriteAll(tree / "cut.safetensors", whole.substr(0, whole.size() - 1000));
  WriteAll(tree / "long.safetensors", whole + "beyond");
  fs::create_directories(tree / "empty");
  fs::create_symlink("files/129", tree / "link");
  fs::create_symlink("nowhere", tree / "dangling");
  chmod((tree / "files/4096").c_str(), 0640);
  Store store = Open();
  const AddResult added = Add(store, "org/model@v1", tree);
  EXPECT_FALSE(added.existed);
  EXPECT_EQ(added.model.files, 11);
  ExpectSame(store, "org/model@v1", tree);
  // The same again is hashed and found.
  const size_t packs = Packs().size();
  const AddResult again = Add(store, "org/model@v1", tree);
  EXPECT_TRUE(again.existed);
  EXPECT_EQ(again.new_objects, 0);
  EXPECT_EQ(again.stored_bytes, 0);
  const AddResult copy = Add(store, "copy", tree);
  EXPECT_FALSE(copy.existed);
  EXPECT_EQ(copy.stored_bytes, 0);
  EXPECT_EQ(Packs().size(), packs);
  ExpectSame(Open(), "copy", tree);
}

TEST_F(StoreTest, LinksThatLeadOutAreStoredAsFiles) {
  const fs::path cache = root_ / "models--org--name";
  WriteAll(cache / "blobs/1234", Safetensors({{"x", Weights(1, 4096)}}));
  fs::create_directories(cache / "snapshots/abc/sub");
  fs::create_symlink("../../blobs/1234",
                     cache / "snapshots/abc/model.safetensors");
  fs::create_symlink("model.safetensors", cache / "snapshots/abc/inside");
  fs::create_symlink("../../../blobs", cache / "snapshots/abc/sub/blobs");
  Store store = Open();
  Add(store, "snapshot", cache / "snapshots/abc");
  const fs::path to = root_ / "out";
  ASSERT_TRUE(store.Get({"snapshot"}, to.string()).ok());
  EXPECT_TRUE(
      fs::is_regular_file(fs::symlink_status(to / "model.safetensors")));
  EXPECT_EQ(ReadAll(to / "model.safetensors"), ReadAll(cache / "blobs/1234"));
  EXPECT_EQ(fs::read_symlink(to / "inside"), "model.safetensors");
  EXPECT_EQ(ReadAll(to / "sub/blobs/1234"), ReadAll(cache / "blobs/1234"));
  // Of the whole folder all links lead inside.
  Add(store, "cache", cache);
  ExpectSame(store, "cache", cache);
}

TEST_F(StoreTest, FineTunesAreCodedAgainstWhatIsThere) {
  const auto x = Weights(1, 64 * 1024);
  const auto y = Weights(2, 64 * 512);
  WriteAll(root_ / "base.safetensors", Safetensors({{"x", x}, {"y", y}}));
  WriteAll(root_ / "tune.safetensors",
           Safetensors({{"renamed", Tuned(x, 3)}, {"y", y}}));
  Store store = Open();
  const AddResult base = Add(store, "base", root_ / "base.safetensors");
  const AddResult tune = Add(store, "tune", root_ / "tune.safetensors");
  EXPECT_EQ(tune.new_objects, 2);  // the header and one tensor
  EXPECT_THAT(tune.bases, ElementsAre(ModelName{"base"}));
  EXPECT_LT(tune.stored_bytes, base.stored_bytes / 3);
  ExpectSame(store, "tune", root_ / "tune.safetensors");
  AddOptions alone;
  alone.max_depth = 0;
  WriteAll(root_ / "other.safetensors",
           Safetensors({{"x", Tuned(x, 4)}, {"y", y}}));
  EXPECT_THAT(Add(store, "other", root_ / "other.safetensors", alone).bases,
              IsEmpty());
  ExpectSame(store, "other", root_ / "other.safetensors");
}

TEST_F(StoreTest, ChainsHaveALimit) {
  auto values = Weights(1, 64 * 256);
  Store store = Open();
  for (uint32_t i = 0; i < 8; ++i) {
    const fs::path file = root_ / (std::to_string(i) + ".safetensors");
    WriteAll(file, Safetensors({{"x", values}}));
    Add(store, "run@" + std::to_string(i), file);
    values = Tuned(values, i);
  }
  for (uint32_t i = 0; i < 8; ++i) {
    ExpectSame(store, "run@" + std::to_string(i),
               root_ / (std::to_string(i) + ".safetensors"));
  }
}

TEST_F(StoreTest, ARevisionIsReplacedOnlyWhenAsked) {
  WriteAll(root_ / "one/file", "one");
  WriteAll(root_ / "two/file", "two");
  Store store = Open();
  Add(store, "m", root_ / "one");
  const auto refused = store.Add({"m"}, (root_ / "two").string());
  EXPECT_TRUE(absl::IsAlreadyExists(refused.status())) << refused.status();
  ExpectSame(store, "m", root_ / "one");
  AddOptions replace;
  replace.replace = true;
  Add(store, "m", root_ / "two", replace);
  ExpectSame(store, "m", root_ / "two");
  const auto models = store.List();
  ASSERT_TRUE(models.ok());
  EXPECT_THAT(*models, SizeIs(1));
  EXPECT_TRUE(store.Remove({"m"}).ok());
  EXPECT_TRUE(absl::IsNotFound(store.Remove({"m"})));
  EXPECT_TRUE(absl::IsNotFound(store.OpenModel({"m"}).status()));
}

TEST_F(StoreTest, AnyRangeOfAFileIsRead) {
  const std::string bytes =
      Safetensors({{"x", Weights(1, 64 * 3000)}, {"y", Weights(2, 64)}}) +
      "tail";
  WriteAll(root_ / "m/model.safetensors", bytes);
  Store store = Open();
  Add(store, "m", root_ / "m");
  const auto model = store.OpenModel({"m"});
  ASSERT_TRUE(model.ok()) << model.status();
  ASSERT_THAT((*model)->entries(), SizeIs(2));
  std::mt19937 random(1);
  for (int i = 0; i < 200; ++i) {
    const uint64_t begin = random() % bytes.size();
    const uint64_t size =
        random() % std::min<uint64_t>(bytes.size() - begin + 1,
                                      i % 2 == 0 ? 5000 : bytes.size());
    std::vector<uint8_t> out(size);
    ASSERT_TRUE((*model)->ReadRange(1, begin, out).ok());
    ASSERT_TRUE(std::ranges::equal(
        out, bytes.substr(begin, size),
        [](uint8_t a, char b) { return a == static_cast<uint8_t>(b); }));
    const auto block = (*model)->BlockAt(1, begin);
    ASSERT_TRUE(block.ok()) << block.status();
    EXPECT_LE(block->first, begin);
    EXPECT_GT(block->second, begin);
    EXPECT_LE(block->second, bytes.size());
  }
  std::vector<uint8_t> out(2);
  EXPECT_TRUE(
      absl::IsOutOfRange((*model)->ReadRange(1, bytes.size() - 1, out)));
  EXPECT_TRUE(absl::IsOutOfRange((*model)->BlockAt(1, bytes.size()).status()));
  EXPECT_FALSE((*model)->ReadRange(0, 0, out).ok());
  EXPECT_FALSE((*model)->ReadRange(7, 0, out).ok());
  const auto coded = (*model)->CodedSize(1);
  ASSERT_TRUE(coded.ok());
  EXPECT_LT(*coded, bytes.size());
}

TEST_F(StoreTest, TheCatalogueIsOnlyACache) {
  const auto x = Weights(1, 64 * 256);
  WriteAll(root_ / "a.safetensors", Safetensors({{"x", x}}));
  WriteAll(root_ / "b.safetensors", Safetensors({{"x", Tuned(x, 2)}}));
  {
    Store store = Open();
    Add(store, "a", root_ / "a.safetensors");
    Add(store, "b", root_ / "b.safetensors");
  }
  const fs::path catalogue = root_ / "store" / store::kCatalogueFile;
  for (const std::string& damage : {std::string(), std::string(9000, 'x')}) {
    for (const char* suffix : {"", "-wal", "-shm"}) {
      fs::remove(catalogue.string() + suffix);
    }
    if (!damage.empty()) WriteAll(catalogue, damage);
    Store store = Open();
    ExpectSame(store, "b", root_ / "b.safetensors");
    // Bases are found again: the sketches are in the packs.
    WriteAll(root_ / "c.safetensors",
             Safetensors({{"x", Tuned(x, damage.empty() ? 9 : 10)}}));
    EXPECT_THAT(Add(store, "c", root_ / "c.safetensors").bases, SizeIs(1));
    ASSERT_TRUE(store.Remove({"c"}).ok());
  }
}

TEST_F(StoreTest, ADamagedObjectIsNamedAndTheOthersAreRead) {
  WriteAll(root_ / "m/a.safetensors", Safetensors({{"x", Weights(1, 65536)}}));
  WriteAll(root_ / "m/b.safetensors", Safetensors({{"y", Weights(2, 65536)}}));
  {
    Store store = Open();
    Add(store, "m", root_ / "m");
  }
  ASSERT_THAT(Packs(), SizeIs(1));
  std::string pack = ReadAll(Packs()[0]);
  int bad_a = 0;
  int bad_b = 0;
  for (size_t at = 40; at < pack.size(); at += pack.size() / 40) {
    std::string damaged = pack;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x55);
    WriteAll(Packs()[0], damaged);
    const Store store = Open();
    const auto model = store.OpenModel({"m"});
    if (!model.ok()) {  // the manifest is hit
      EXPECT_TRUE(absl::IsDataLoss(model.status()) ||
                  absl::IsNotFound(model.status()))
          << model.status();
      continue;
    }
    int bad = 0;
    for (size_t entry = 1; entry < 3; ++entry) {
      const std::string name = entry == 1 ? "a" : "b";
      const std::string bytes = ReadAll(root_ / "m" / (name + ".safetensors"));
      std::vector<uint8_t> out(bytes.size());
      const absl::Status read = (*model)->ReadRange(entry, 0, out);
      if (read.ok()) {
        EXPECT_TRUE(std::ranges::equal(out, bytes, [](uint8_t a, char b) {
          return a == static_cast<uint8_t>(b);
        }));
      } else {
        EXPECT_THAT(std::string(read.message()),
                    HasSubstr(name + ".safetensors"));
        ++bad;
        ++(entry == 1 ? bad_a : bad_b);
      }
    }
    EXPECT_LE(bad, 1) << "byte " << at;
  }
  EXPECT_GT(bad_a, 5);
  EXPECT_GT(bad_b, 5);
}

TEST_F(StoreTest, ExportsAreArchivesOfTheirOwn) {
  const auto x = Weights(1, 64 * 256);
  WriteAll(root_ / "base/m.safetensors", Safetensors({{"x", x}}));
  WriteAll(root_ / "tune/m.safetensors", Safetensors({{"x", Tuned(x, 1)}}));
  WriteAll(root_ / "tune/sub/readme", "text");
  Store store = Open();
  Add(store, "base", root_ / "base");
  Add(store, "tune", root_ / "tune");
  const std::string one = (root_ / "one.zllm").string();
  const std::string both = (root_ / "both.zllm").string();
  ASSERT_TRUE(store.Export({{"tune"}}, one).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(store.Export({{"tune"}}, one).status()));
  ASSERT_TRUE(store.Export({{"base"}, {"tune"}}, both).ok());
  const auto archive = Archive::OpenFile(both);
  ASSERT_TRUE(archive.ok()) << archive.status();
  EXPECT_THAT(archive->needed_bases(), IsEmpty());
  const auto entry = archive->FindEntry("tune/main/m.safetensors");
  ASSERT_TRUE(entry.ok()) << entry.status();
  const std::string bytes = ReadAll(root_ / "tune/m.safetensors");
  std::vector<uint8_t> out(bytes.size());
  ASSERT_TRUE(archive->ReadRange(*entry, 0, out).ok());
  EXPECT_EQ(std::string(out.begin(), out.end()), bytes);
  EXPECT_TRUE(Archive::OpenFile(one)->FindEntry("sub/readme").ok());
}

TEST_F(StoreTest, ManyAddAndReadAtOnce) {
  const auto x = Weights(1, 64 * 256);
  for (uint32_t i = 0; i < 12; ++i) {
    WriteAll(root_ / (std::to_string(i) + ".safetensors"),
             Safetensors({{"x", Tuned(x, i % 6)}, {"y", Weights(i, 4096)}}));
  }
  Store store = Open();
  std::vector<std::jthread> threads;
  for (uint32_t i = 0; i < 12; ++i) {
    threads.emplace_back([&, i] {
      // Some by one object, some by objects of their own.
      Store own = Open();
      Store& used = i % 2 == 0 ? store : own;
      const fs::path file = root_ / (std::to_string(i) + ".safetensors");
      const auto added = used.Add({std::to_string(i)}, file.string());
      EXPECT_TRUE(added.ok()) << added.status();
    });
  }
  threads.clear();
  for (uint32_t i = 0; i < 12; ++i) {
    ExpectSame(store, std::to_string(i),
               root_ / (std::to_string(i) + ".safetensors"));
  }
}

TEST_F(StoreTest, AnInterruptedAddLeavesNothingVisible) {
  WriteAll(root_ / "m/a.safetensors", Safetensors({{"x", Weights(1, 65536)}}));
  int calls = 0;
  for (int stop = 1; stop < 6; ++stop) {
    calls = 0;
    auto store = Store::Open(
        path(), {.sync = false,
                 .progress = [&](const Progress&) { return ++calls != stop; }});
    ASSERT_TRUE(store.ok());
    const auto added = store->Add({"m"}, (root_ / "m").string());
    if (added.ok()) {
      EXPECT_LT(calls, stop);
      break;
    }
    EXPECT_TRUE(absl::IsCancelled(added.status())) << added.status();
    EXPECT_THAT(*store->List(), IsEmpty());
    EXPECT_THAT(Packs(), IsEmpty());
  }
  Store store = Open();
  Add(store, "m", root_ / "m");
  ExpectSame(store, "m", root_ / "m");
}

}  // namespace
}  // namespace zipllm
