#include "store/catalogue.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/bytes.h"

namespace zipllm::store {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

Sha256Digest DigestOf(const std::string& text) {
  return Sha256Of(AsBytes(text));
}

std::string PackName(uint64_t number) {
  const Sha256Digest digest = DigestOf("pack" + std::to_string(number));
  return Hex(ByteSpan(digest).first(16));
}

TensorSketch ASketch(const Sha256Digest& object, uint64_t seed) {
  TensorSketch sketch;
  sketch.object = object;
  sketch.log2_elements = 20;
  std::mt19937_64 random(seed);
  for (uint64_t& word : sketch.bits) word = random();
  return sketch;
}

// A pack with all fields set; `number` makes others.
PackRecord APack(uint64_t number, size_t objects = 3) {
  PackRecord pack;
  pack.id = PackName(number);
  pack.bytes = 1000 + number;
  pack.needs = {{DigestOf("need" + std::to_string(number)), 2}};
  for (size_t i = 0; i < objects; ++i) {
    const std::string name =
        "object" + std::to_string(number) + "." + std::to_string(i);
    ObjectRecord object;
    object.sha256 = DigestOf(name);
    object.length = UINT64_MAX - i;
    object.coded_bytes = 100 * i;
    object.depth = static_cast<uint8_t>(i % 5);
    object.dtype = DType::kBF16;
    object.shape = {3, uint64_t{1} << 63, 0};
    object.name = name + std::string("\0\xff", 2);
    object.format = "safetensors";
    object.sources.assign(i % 3, DigestOf("source" + name));
    object.saved_delta = 1;
    object.saved_derived = 2;
    object.saved_entropy = UINT64_MAX;
    pack.objects.push_back(object);
    pack.sketches.push_back(ASketch(object.sha256, 1000 * number + i));
  }
  return pack;
}

void ExpectEqual(const PackRecord& a, const PackRecord& b) {
  EXPECT_EQ(a.id, b.id);
  EXPECT_EQ(a.bytes, b.bytes);
  EXPECT_EQ(a.needs, b.needs);
  EXPECT_EQ(a.sketches, b.sketches);
  ASSERT_EQ(a.objects.size(), b.objects.size());
  for (size_t i = 0; i < a.objects.size(); ++i) {
    const ObjectRecord& x = a.objects[i];
    const ObjectRecord& y = b.objects[i];
    EXPECT_EQ(x.sha256, y.sha256);
    EXPECT_EQ(x.length, y.length);
    EXPECT_EQ(x.coded_bytes, y.coded_bytes);
    EXPECT_EQ(x.depth, y.depth);
    EXPECT_EQ(x.dtype, y.dtype);
    EXPECT_EQ(x.shape, y.shape);
    EXPECT_EQ(x.name, y.name);
    EXPECT_EQ(x.format, y.format);
    EXPECT_EQ(x.sources, y.sources);
    EXPECT_EQ(x.saved_delta, y.saved_delta);
    EXPECT_EQ(x.saved_derived, y.saved_derived);
    EXPECT_EQ(x.saved_entropy, y.saved_entropy);
  }
}

std::vector<std::string> PackIds(const std::vector<ObjectPlace>& places) {
  std::vector<std::string> ids;
  for (const ObjectPlace& place : places) ids.push_back(place.pack);
  return ids;
}

class CatalogueTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char folder[] = "/tmp/zipllm_catalogue_XXXXXX";
    ASSERT_NE(mkdtemp(folder), nullptr);
    folder_ = folder;
    path_ = folder_ + "/catalogue.sqlite";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::unique_ptr<Catalogue> Open() {
    auto catalogue = Catalogue::Open(path_, /*sync=*/false);
    EXPECT_TRUE(catalogue.ok()) << catalogue.status();
    return catalogue.ok() ? *std::move(catalogue) : nullptr;
  }
  std::string ReadFile() {
    std::ifstream in(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void WriteFile(const std::string& bytes) {
    std::ofstream(path_, std::ios::binary) << bytes;
  }
  // Runs SQL on the file by itself.
  void RunSql(const std::string& sql) {
    sqlite3* database = nullptr;
    ASSERT_EQ(sqlite3_open(path_.c_str(), &database), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(database, sql.c_str(), nullptr, nullptr, nullptr),
              SQLITE_OK)
        << sqlite3_errmsg(database);
    sqlite3_close(database);
  }

  std::string folder_, path_;
};

TEST_F(CatalogueTest, PacksComeBack) {
  const PackRecord one = APack(1);
  PackRecord bare;
  bare.id = PackName(2);
  {
    auto catalogue = Open();
    ASSERT_TRUE(catalogue->AddPack(one).ok());
    ASSERT_TRUE(catalogue->AddPack(bare).ok());
  }
  for (const bool in_memory : {false, true}) {
    auto catalogue = in_memory ? *Catalogue::OpenInMemory() : Open();
    if (in_memory) {
      ASSERT_TRUE(catalogue->AddPack(bare).ok());
      ASSERT_TRUE(catalogue->AddPack(one).ok());
    }
    EXPECT_THAT(*catalogue->Packs(),
                ::testing::UnorderedElementsAre(one.id, bare.id));
    ExpectEqual(**catalogue->FindPack(one.id), one);
    ExpectEqual(**catalogue->FindPack(bare.id), bare);
    EXPECT_EQ(*catalogue->FindPack(PackName(3)), std::nullopt);
    EXPECT_TRUE(catalogue->Check().ok());
  }
}

TEST_F(CatalogueTest, APackIsReplacedWhole) {
  auto catalogue = Open();
  PackRecord pack = APack(1, 5);
  ASSERT_TRUE(catalogue->AddPack(pack).ok());
  const PackRecord before = pack;
  pack.objects.erase(pack.objects.begin() + 1, pack.objects.end());
  pack.sketches.clear();
  pack.needs.clear();
  ASSERT_TRUE(catalogue->AddPack(pack).ok());
  ExpectEqual(**catalogue->FindPack(pack.id), pack);
  EXPECT_THAT(*catalogue->Find(before.objects[1].sha256), IsEmpty());
  EXPECT_THAT(*catalogue->Similar(before.sketches[0], {}), IsEmpty());
}

TEST_F(CatalogueTest, CopiesOfLeastDepthComeFirst) {
  auto catalogue = Open();
  for (const auto& [number, depth] :
       std::vector<std::pair<uint64_t, uint8_t>>{{1, 3}, {2, 0}, {3, 2}}) {
    PackRecord pack = APack(number, 1);
    pack.objects[0].sha256 = DigestOf("copied");
    pack.objects[0].depth = depth;
    pack.objects[0].name = std::to_string(depth);
    ASSERT_TRUE(catalogue->AddPack(pack).ok());
  }
  EXPECT_THAT(PackIds(*catalogue->Find(DigestOf("copied"))),
              ElementsAre(PackName(2), PackName(3), PackName(1)));
  EXPECT_EQ((*catalogue->Describe(DigestOf("copied")))->name, "0");
  ASSERT_TRUE(catalogue->RemovePack(PackName(2)).ok());
  ASSERT_TRUE(catalogue->RemovePack(PackName(7)).ok());
  EXPECT_THAT(PackIds(*catalogue->Find(DigestOf("copied"))),
              ElementsAre(PackName(3), PackName(1)));
  EXPECT_EQ((*catalogue->Describe(DigestOf("copied")))->name, "2");
  EXPECT_EQ(*catalogue->Describe(DigestOf("other")), std::nullopt);
}

TEST_F(CatalogueTest, ManifestsKnowTheirObjects) {
  auto catalogue = Open();
  const std::vector<Sha256Digest> objects = {DigestOf("a"), DigestOf("b"),
                                             DigestOf("a")};
  for (const std::string manifest : {"m1", "m2", "m3"}) {
    ASSERT_TRUE(catalogue->AddManifest(DigestOf(manifest), objects).ok());
    ASSERT_TRUE(catalogue->AddManifest(DigestOf(manifest), objects).ok());
  }
  EXPECT_TRUE(*catalogue->HasManifest(DigestOf("m1")));
  EXPECT_FALSE(*catalogue->HasManifest(DigestOf("m4")));
  EXPECT_THAT(*catalogue->UsersOf(DigestOf("a")),
              ElementsAre(DigestOf("m1"), DigestOf("m2"), DigestOf("m3")));
  EXPECT_THAT(*catalogue->UsersOf(DigestOf("b"), 2),
              ElementsAre(DigestOf("m1"), DigestOf("m2")));
  EXPECT_THAT(*catalogue->UsersOf(DigestOf("c")), IsEmpty());
  ASSERT_TRUE(catalogue->RemoveManifest(DigestOf("m2")).ok());
  EXPECT_FALSE(*catalogue->HasManifest(DigestOf("m2")));
  EXPECT_THAT(*catalogue->UsersOf(DigestOf("a")),
              ElementsAre(DigestOf("m1"), DigestOf("m3")));
}

TEST_F(CatalogueTest, RebuildForgetsWhatWasThere) {
  auto catalogue = Open();
  ASSERT_TRUE(catalogue->AddPack(APack(1)).ok());
  ASSERT_TRUE(catalogue->AddManifest(DigestOf("m"), {DigestOf("a")}).ok());
  uint64_t number = 2;
  ASSERT_TRUE(catalogue
                  ->Rebuild([&]() -> absl::StatusOr<std::optional<PackRecord>> {
                    // Others see what was there until it is done.
                    EXPECT_THAT(*catalogue->Packs(), ElementsAre(PackName(1)));
                    if (number > 4) return std::nullopt;
                    return APack(number++);
                  })
                  .ok());
  EXPECT_THAT(*catalogue->Packs(), SizeIs(3));
  EXPECT_EQ(*catalogue->FindPack(PackName(1)), std::nullopt);
  ExpectEqual(**catalogue->FindPack(PackName(4)), APack(4));
  EXPECT_FALSE(*catalogue->HasManifest(DigestOf("m")));
  EXPECT_TRUE(catalogue->Check().ok());
}

TEST_F(CatalogueTest, ARebuildThatFailsChangesNothing) {
  auto catalogue = Open();
  ASSERT_TRUE(catalogue->AddPack(APack(1)).ok());
  bool first = true;
  const absl::Status status = catalogue->Rebuild(
      [&first]() -> absl::StatusOr<std::optional<PackRecord>> {
        if (std::exchange(first, false)) return APack(2);
        return absl::DataLossError("a bad pack");
      });
  EXPECT_EQ(status, absl::DataLossError("a bad pack"));
  EXPECT_FALSE(catalogue->damaged());
  ExpectEqual(**catalogue->FindPack(PackName(1)), APack(1));
  EXPECT_EQ(*catalogue->FindPack(PackName(2)), std::nullopt);
}

TEST_F(CatalogueTest, SimilarSketchesShareABand) {
  auto catalogue = Open();
  PackRecord pack = APack(1, 4);
  const TensorSketch wanted = ASketch(DigestOf("wanted"), 1);
  // Equal; one bit away; all bands but one away; all of them away; another k.
  for (TensorSketch& sketch : pack.sketches) sketch.bits = wanted.bits;
  pack.sketches[1].bits[7] ^= 1;
  // Bits 21 i + b are of band b; those of band 5 stay.
  TensorSketch& far = pack.sketches[2];
  for (uint64_t& word : far.bits) word = ~word;
  for (size_t at = 5; at < 21 * 24; at += 21) {
    far.bits[at / 64] ^= uint64_t{1} << at % 64;
  }
  TensorSketch& none = pack.sketches[3];
  none.bits = far.bits;
  none.bits[0] ^= uint64_t{1} << 5;
  TensorSketch other = pack.sketches[0];
  other.log2_elements = 21;
  other.object = DigestOf("other");
  pack.sketches.push_back(other);
  ASSERT_TRUE(catalogue->AddPack(pack).ok());
  // Copies of an object count once.
  PackRecord again = pack;
  again.id = PackName(2);
  ASSERT_TRUE(catalogue->AddPack(again).ok());
  const auto similar = [&](const TensorSketch& sketch, SimilarLimits limits) {
    std::vector<Sha256Digest> objects;
    const auto relatives = catalogue->Similar(sketch, limits);
    for (const Relative& relative : *relatives)
      objects.push_back(relative.object);
    return objects;
  };
  const Sha256Digest equal = pack.sketches[0].object;
  const Sha256Digest near = pack.sketches[1].object;
  EXPECT_THAT(similar(wanted, {}),
              ElementsAre(equal, near, pack.sketches[2].object));
  EXPECT_THAT(similar(wanted, {.nearest = 2}), ElementsAre(equal, near));
  EXPECT_THAT(similar(wanted, {.distance = 1}), ElementsAre(equal, near));
  EXPECT_EQ((*catalogue->Similar(wanted, {}))[1].distance, 1u);
  // Those of depth 0, 1, 2.
  EXPECT_THAT(similar(wanted, {.depth = 1}), ElementsAre(equal));
  EXPECT_THAT(similar(wanted, {.looked_at = 0}), IsEmpty());
  // Nor itself, nor what has only its sketch in the pack.
  EXPECT_THAT(similar(pack.sketches[0], {.nearest = 1}), ElementsAre(near));
  EXPECT_THAT(similar(other, {}), IsEmpty());
  EXPECT_THAT(*catalogue->SketchesOf(
                  {other.object, DigestOf("x"), pack.sketches[1].object}),
              ElementsAre(other, pack.sketches[1]));
}

TEST_F(CatalogueTest, OfAFullBandTheOldestAndTheNewestCount) {
  auto catalogue = Open();
  PackRecord pack = APack(1, 100);
  for (TensorSketch& sketch : pack.sketches)
    sketch.bits = pack.sketches[0].bits;
  ASSERT_TRUE(catalogue->AddPack(pack).ok());
  const TensorSketch wanted = ASketch(DigestOf("wanted"), 1000);
  EXPECT_THAT(*catalogue->Similar(wanted, {}), SizeIs(100));
  const auto few = catalogue->Similar(wanted, {.looked_at = 10});
  ASSERT_THAT(*few, SizeIs(10));
  for (const Relative& relative : *few) {
    const auto place = std::ranges::find(pack.sketches, relative.object,
                                         &TensorSketch::object) -
                       pack.sketches.begin();
    EXPECT_TRUE(place < 10 || place >= 90) << place;
  }
}

TEST_F(CatalogueTest, UsersComeWithWhatIsSimilar) {
  auto catalogue = Open();
  const PackRecord pack = APack(1, 2);
  ASSERT_TRUE(catalogue->AddPack(pack).ok());
  const Sha256Digest object = pack.objects[1].sha256;
  const Sha256Digest a = DigestOf("a"), b = DigestOf("b");
  ASSERT_TRUE(catalogue->AddManifest(b, {object}).ok());
  ASSERT_TRUE(catalogue->AddManifest(a, {object, pack.objects[0].sha256}).ok());
  const auto users = [&](size_t most) {
    return (*catalogue->Similar(ASketch(DigestOf("wanted"), 1001),
                                {.users = most}))[0]
        .users;
  };
  EXPECT_THAT(users(8), ElementsAre(b, a));
  EXPECT_THAT(users(1), ElementsAre(b));
  ASSERT_TRUE(catalogue->RemoveManifest(b).ok());
  EXPECT_THAT(users(8), ElementsAre(a));
  EXPECT_THAT(*catalogue->UsersOf(object), ElementsAre(a));
}

// An object has a number as long as a pack or a manifest needs it.
TEST_F(CatalogueTest, NoNumbersStayBehind) {
  {
    auto catalogue = Open();
    const PackRecord pack = APack(1, 2);
    ASSERT_TRUE(catalogue->AddPack(pack).ok());
    const Sha256Digest manifest = DigestOf("manifest");
    ASSERT_TRUE(
        catalogue
            ->AddManifest(manifest, {pack.objects[0].sha256, DigestOf("other")})
            .ok());
    ASSERT_TRUE(catalogue->RemovePack(pack.id).ok());
    EXPECT_THAT(*catalogue->UsersOf(pack.objects[0].sha256),
                ElementsAre(manifest));
    ASSERT_TRUE(catalogue->AddPack(pack).ok());
    ASSERT_TRUE(catalogue->RemoveManifest(manifest).ok());
    EXPECT_THAT(*catalogue->SketchesOf({pack.objects[0].sha256}), SizeIs(1));
    ASSERT_TRUE(catalogue->RemovePack(pack.id).ok());
  }
  // Fails where there is a row.
  for (const char* table : {"digests", "bands", "sketches", "manifest_objects"})
    RunSql(
        StrCat("CREATE TABLE none (x CHECK (x = 0)); INSERT INTO none "
               "SELECT count(*) FROM ",
               table, "; DROP TABLE none"));
}

// A file of schema 1, made of one of today: objects were SHA-256 everywhere.
TEST_F(CatalogueTest, AFileOfSchema1IsBroughtUpToDate) {
  PackRecord pack = APack(1);
  pack.sketches.push_back(ASketch(DigestOf("lost"), 5));
  const Sha256Digest manifest = DigestOf("manifest");
  {
    auto catalogue = Open();
    ASSERT_TRUE(catalogue->AddPack(pack).ok());
    ASSERT_TRUE(catalogue
                    ->AddManifest(manifest, {pack.objects[2].sha256,
                                             DigestOf("elsewhere")})
                    .ok());
  }
  RunSql(R"(
    CREATE TABLE old (
      sketch INTEGER PRIMARY KEY,
      pack INTEGER NOT NULL REFERENCES packs ON DELETE CASCADE,
      object BLOB NOT NULL,
      log2_elements INTEGER NOT NULL,
      bits BLOB NOT NULL
    ) STRICT;
    INSERT INTO old SELECT sketch, pack, sha256, log2_elements, bits
      FROM sketches JOIN digests ON digest = object;
    DROP TABLE sketches;
    ALTER TABLE old RENAME TO sketches;
    CREATE INDEX sketches_by_pack ON sketches (pack);
    CREATE INDEX sketches_by_object ON sketches (object);
    CREATE TABLE old (
      object BLOB NOT NULL,
      manifest INTEGER NOT NULL REFERENCES manifests ON DELETE CASCADE,
      PRIMARY KEY (object, manifest)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO old SELECT sha256, manifest
      FROM manifest_objects JOIN digests ON digest = object;
    DROP TABLE manifest_objects;
    ALTER TABLE old RENAME TO manifest_objects;
    CREATE INDEX objects_by_manifest ON manifest_objects (manifest);
    DROP TABLE digests;
    PRAGMA user_version = 1;
  )");
  auto catalogue = Open();
  ASSERT_TRUE(catalogue->Check().ok());
  ExpectEqual(**catalogue->FindPack(pack.id), pack);
  EXPECT_THAT(*catalogue->UsersOf(DigestOf("elsewhere")),
              ElementsAre(manifest));
  const auto similar =
      catalogue->Similar(ASketch(DigestOf("wanted"), 1002), {.depth = 3});
  ASSERT_THAT(*similar, SizeIs(1));
  EXPECT_EQ((*similar)[0].object, pack.objects[2].sha256);
  EXPECT_THAT((*similar)[0].users, ElementsAre(manifest));
  EXPECT_THAT(*catalogue->Similar(ASketch(DigestOf("x"), 1002), {.depth = 2}),
              IsEmpty());
  EXPECT_THAT(*catalogue->Similar(ASketch(DigestOf("x"), 5), {}), IsEmpty());
  ASSERT_TRUE(catalogue->RemovePack(pack.id).ok());
  ASSERT_TRUE(catalogue->RemoveManifest(manifest).ok());
  EXPECT_THAT(*catalogue->Packs(), IsEmpty());
}

TEST_F(CatalogueTest, ADamagedFileIsReplacedAtOpening) {
  for (const std::string& bytes :
       {std::string("this is no database, but long enough to be one ") +
            std::string(4096, '.'),
        std::string("SQLite format 3\0", 16) + std::string(8176, '\xff'),
        std::string("short")}) {
    WriteFile(bytes);
    auto catalogue = Open();
    ASSERT_NE(catalogue, nullptr);
    EXPECT_THAT(*catalogue->Packs(), IsEmpty());
    EXPECT_TRUE(catalogue->AddPack(APack(1)).ok());
  }
}

TEST_F(CatalogueTest, AnotherDatabaseIsReplaced) {
  RunSql("CREATE TABLE packs (x)");
  EXPECT_THAT(*Open()->Packs(), IsEmpty());
}

TEST_F(CatalogueTest, ALinkIsNotFollowed) {
  const std::string victim = folder_ + "/victim";
  std::ofstream(victim) << "precious";
  std::filesystem::create_symlink(victim, path_);
  ASSERT_TRUE(Open()->AddPack(APack(1)).ok());
  EXPECT_EQ(std::filesystem::file_size(victim), 8u);
  EXPECT_FALSE(std::filesystem::is_symlink(path_));
}

TEST_F(CatalogueTest, AMissingTableIsDamage) {
  Open();
  RunSql("DROP TABLE needs");
  auto catalogue = Open();
  EXPECT_EQ(catalogue->AddPack(APack(1)).code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(catalogue->damaged());
  ASSERT_TRUE(catalogue->Reset().ok());
  EXPECT_FALSE(catalogue->damaged());
  EXPECT_TRUE(catalogue->AddPack(APack(1)).ok());
  ExpectEqual(**catalogue->FindPack(PackName(1)), APack(1));
}

TEST_F(CatalogueTest, ANewerSchemaIsLeftAlone) {
  ASSERT_TRUE(Open()->AddPack(APack(1)).ok());
  RunSql("PRAGMA user_version = 99");
  const std::string before = ReadFile();
  const auto catalogue = Catalogue::Open(path_);
  EXPECT_EQ(catalogue.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(catalogue.status().message()), HasSubstr("99"));
  EXPECT_EQ(ReadFile(), before);
}

// Each page of the file overwritten, one at a time: what it says may be wrong
// then only if nothing can tell, but it does not crash, and after Reset all is
// well.
TEST_F(CatalogueTest, DamageIsFoundAndMended) {
  {
    auto catalogue = Open();
    for (uint64_t i = 1; i <= 20; ++i)
      ASSERT_TRUE(catalogue->AddPack(APack(i, 10)).ok());
  }
  const std::string good = ReadFile();
  constexpr size_t kPage = 4096;
  ASSERT_GE(good.size(), 20 * kPage);
  size_t found = 0;
  for (size_t page = 0; page < good.size() / kPage; page += 2) {
    std::string bad = good;
    std::fill_n(bad.begin() + static_cast<ptrdiff_t>(page * kPage), kPage,
                '\xa5');
    std::filesystem::remove(path_ + "-wal");
    std::filesystem::remove(path_ + "-shm");
    WriteFile(bad);
    auto catalogue = Open();
    ASSERT_NE(catalogue, nullptr);
    if (page == 0) {
      EXPECT_THAT(*catalogue->Packs(), IsEmpty());
      continue;
    }
    const absl::Status status = catalogue->Check();
    if (status.ok()) continue;  // of a page that is not used
    ++found;
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    for (uint64_t i = 1; i <= 20; ++i) {
      const auto pack = catalogue->FindPack(PackName(i));
      if (!pack.ok()) {
        EXPECT_EQ(pack.status().code(), absl::StatusCode::kDataLoss);
      }
    }
    ASSERT_TRUE(catalogue->Reset().ok());
    EXPECT_THAT(*catalogue->Packs(), IsEmpty());
    ASSERT_TRUE(catalogue->AddPack(APack(1)).ok());
    EXPECT_TRUE(catalogue->Check().ok());
  }
  EXPECT_GE(found, 8u);
}

TEST_F(CatalogueTest, AFileCutShortIsReplaced) {
  {
    auto catalogue = Open();
    for (uint64_t i = 1; i <= 20; ++i)
      ASSERT_TRUE(catalogue->AddPack(APack(i, 10)).ok());
  }
  WriteFile(ReadFile().substr(0, 20 * 4096));
  auto catalogue = Open();
  ASSERT_NE(catalogue, nullptr);
  EXPECT_THAT(*catalogue->Packs(), IsEmpty());
  EXPECT_TRUE(catalogue->Check().ok());
}

TEST_F(CatalogueTest, ReadersDoNotWaitForAWriter) {
  auto catalogue = Open();
  ASSERT_TRUE(catalogue->AddPack(APack(1)).ok());
  std::atomic<bool> done = false;
  std::vector<std::jthread> readers;
  bool first = true;
  ASSERT_TRUE(catalogue
                  ->Rebuild([&]() -> absl::StatusOr<std::optional<PackRecord>> {
                    if (!std::exchange(first, false)) return std::nullopt;
                    // More than there are connections; all end while the
                    // writer is not done.
                    for (int i = 0; i < 8; ++i) {
                      readers.emplace_back([&] {
                        EXPECT_EQ(
                            catalogue->Find(APack(1).objects[0].sha256)->size(),
                            1u);
                        EXPECT_FALSE(done);
                      });
                    }
                    readers.clear();
                    return APack(2);
                  })
                  .ok());
  done = true;
}

// Runs `body` in another process; it has its exit status.
template <typename Body>
pid_t Fork(const Body& body) {
  const pid_t pid = fork();
  if (pid == 0) _exit(body());
  return pid;
}
int ExitOf(pid_t pid) {
  int status = -1;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

// Adds packs first, first + 1, ...
int AddPacks(const std::string& path, uint64_t first, uint64_t count) {
  auto catalogue = Catalogue::Open(path, /*sync=*/false);
  if (!catalogue.ok()) return 1;
  for (uint64_t i = 0; i < count; ++i) {
    if (!(*catalogue)->AddPack(APack(first + i)).ok()) return 2;
    if (!(*catalogue)->FindPack(PackName(first + i))->has_value()) return 3;
  }
  return 0;
}

TEST_F(CatalogueTest, ProcessesShareAFile) {
  std::vector<pid_t> processes;
  for (uint64_t i = 0; i < 4; ++i)
    processes.push_back(Fork([&] { return AddPacks(path_, 100 * i, 50); }));
  for (const pid_t pid : processes) EXPECT_EQ(ExitOf(pid), 0);
  auto catalogue = Open();
  EXPECT_THAT(*catalogue->Packs(), SizeIs(200));
  EXPECT_TRUE(catalogue->Check().ok());
}

// Many processes find the same damage and reset: what one has added after that
// is not lost to another's reset.
TEST_F(CatalogueTest, ProcessesResetADamagedFileOnce) {
  Open();
  RunSql("DROP TABLE needs");
  std::vector<pid_t> processes;
  for (uint64_t i = 0; i < 4; ++i) {
    processes.push_back(Fork([&] {
      auto catalogue = Catalogue::Open(path_, /*sync=*/false);
      if (!catalogue.ok()) return 1;
      for (int attempt = 0; attempt < 10; ++attempt) {
        const absl::Status status = (*catalogue)->AddPack(APack(i));
        if (status.ok()) return 0;
        if (!absl::IsDataLoss(status)) return 2;
        if (!(*catalogue)->Reset().ok()) return 3;
      }
      return 4;
    }));
  }
  for (const pid_t pid : processes) EXPECT_EQ(ExitOf(pid), 0);
  EXPECT_THAT(*Open()->Packs(), SizeIs(4));
}

TEST_F(CatalogueTest, WhoHasAReplacedFileOpenFindsOut) {
  auto old = Open();
  ASSERT_TRUE(old->AddPack(APack(1)).ok());
  EXPECT_EQ(ExitOf(Fork([&] {
              auto catalogue = Catalogue::Open(path_, /*sync=*/false);
              return catalogue.ok() && (*catalogue)->Reset().ok() &&
                             (*catalogue)->AddPack(APack(2)).ok()
                         ? 0
                         : 1;
            })),
            0);
  EXPECT_EQ(old->AddPack(APack(3)).code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(old->damaged());
  ASSERT_TRUE(old->Reset().ok());
  EXPECT_THAT(*old->Packs(), ElementsAre(PackName(2)));
  EXPECT_TRUE(old->AddPack(APack(3)).ok());
}

TEST_F(CatalogueTest, AKilledWriterLeavesWholePacks) {
  for (int round = 0; round < 15; ++round) {
    const pid_t pid = Fork([&] {
      return AddPacks(path_, static_cast<uint64_t>(1000 * round), 100'000);
    });
    usleep(static_cast<useconds_t>(5000 + 2000 * round));
    kill(pid, SIGKILL);
    EXPECT_EQ(ExitOf(pid), -SIGKILL);
    auto catalogue = Open();
    ASSERT_NE(catalogue, nullptr);
    ASSERT_TRUE(catalogue->Check().ok()) << catalogue->Check();
    const auto packs = catalogue->Packs();
    ASSERT_TRUE(packs.ok());
    for (const std::string& id : *packs) {
      const auto pack = catalogue->FindPack(id);
      ASSERT_TRUE(pack.ok());
      EXPECT_THAT((*pack)->objects, SizeIs(3)) << id;
      EXPECT_THAT((*pack)->sketches, SizeIs(3));
    }
    EXPECT_TRUE(catalogue->AddPack(APack(999'999)).ok());
  }
}

}  // namespace
}  // namespace zipllm::store
