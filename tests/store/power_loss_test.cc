// The power fails at any moment, and of what was not synced any part is lost:
// what was done is there and right, what was being done is there as a whole or
// not at all, and the store is usable at once.
#include "storage/power_loss.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <random>
#include <set>

#include "storage/fault.h"
#include "store/small_store.h"

namespace zipllm::store {
namespace {

using storage::Disk;
using storage::Faults;
using testing::Bytes;

constexpr size_t kScripts = 20;
constexpr size_t kLossesPerScript = 100;
constexpr size_t kSteps = 12;
constexpr size_t kNames = 4;
constexpr size_t kProcesses = 2;

ModelName Name(size_t i) { return {.name = "org/model" + std::to_string(i)}; }

// What someone did to a name, and when by the disk's moments. Kept apart from
// the store.
struct Change {
  size_t name;
  std::optional<size_t> model;  // nullopt: removed
  uint64_t begin = 0, end = 0;
  bool done = false;  // it said that it was
};

// The catalogue's files at some moment.
struct CatalogueFiles {
  uint64_t moment = 0;
  std::map<std::string, Bytes> files;  // by the end of the name
};

constexpr const char* kCatalogueSuffixes[] = {"", "-wal", "-shm"};

void RemoveCatalogue(const std::string& path) {
  for (const char* suffix : kCatalogueSuffixes)
    std::filesystem::remove(path + suffix);
}

// As Store does it: a catalogue that was found damaged is made anew.
template <typename Body>
absl::Status WithCatalogue(Repository& repository, Body body) {
  absl::Status status = body();
  if (!repository.catalogue().damaged()) return status;
  RETURN_IF_ERROR(repository.catalogue().Reset());
  RETURN_IF_ERROR(repository.Refresh().status());
  return body();
}

absl::Status Remove(Repository& repository, const ModelName& name) {
  RETURN_IF_ERROR(repository.storage().Delete(ReferenceKey(name)));
  return repository.storage().Sync();
}

absl::Status CollectGarbage(Repository& repository) {
  GcOptions options;
  options.grace = std::chrono::seconds(0);
  return Gc(repository, options).status();
}

absl::Status RepackAll(Repository& repository) {
  RepackOptions options;
  options.level = 1;
  options.max_dead = 0;
  return Repack(repository, options).status();
}

// Processes that add, remove, gc and repack by chance, of which some die in the
// midst of it.
class Script {
 public:
  Script(const SmallModels& models, uint64_t seed)
      : models_(models), random_(seed) {}

  void Run() {
    ASSERT_TRUE(InitStore(*disk_.Mount()).ok());
    for (size_t step = 0; step < kSteps; ++step) {
      const size_t process = random_() % kProcesses;
      if (processes_[process] == nullptr) Start(process);
      ASSERT_NE(processes_[process], nullptr);
      const bool dies = random_() % 4 == 0;
      if (dies) {
        faults_[process]->Arm(random_() % 60, random_() % 2 == 0
                                                  ? Faults::Kind::kError
                                                  : Faults::Kind::kTorn);
      }
      const absl::Status status = Step(*processes_[process]);
      if (faults_[process]->failed() == 0) {
        ASSERT_TRUE(status.ok()) << status;
      }
      if (dies) processes_[process].reset();
      KeepCatalogue();
    }
  }

  Disk& disk() { return disk_; }
  const std::vector<Change>& changes() const { return changes_; }
  const std::vector<CatalogueFiles>& catalogues() const { return catalogues_; }

 private:
  std::string CataloguePath() const { return folder_ / "catalogue.sqlite"; }

  void Start(size_t process) {
    faults_[process] = std::make_shared<Faults>();
    auto opened =
        OpenStore(storage::MakeFaultStorage(disk_.Mount(), faults_[process]),
                  CataloguePath());
    ASSERT_TRUE(opened.ok()) << opened.status();
    processes_[process] = *std::move(opened);
  }

  absl::Status Step(Repository& repository) {
    const uint64_t kind = random_() % 10;
    if (kind < 2) return CollectGarbage(repository);
    if (kind < 3) return RepackAll(repository);
    Change change{.name = random_() % kNames, .model = std::nullopt};
    if (kind < 8) change.model = random_() % SmallModels::kCount;
    const ModelName name = Name(change.name);
    change.begin = disk_.Now();
    absl::Status status =
        change.model.has_value()
            ? AddModel(repository, name, models_.Folder(*change.model),
                       /*replace=*/true)
            : Remove(repository, name);
    change.end = disk_.Now();
    // Nothing to remove is no change.
    if (!change.model.has_value() && absl::IsNotFound(status))
      return absl::OkStatus();
    change.done = status.ok();
    changes_.push_back(change);
    return status;
  }

  void KeepCatalogue() {
    CatalogueFiles& kept = catalogues_.emplace_back();
    kept.moment = disk_.Now();
    for (const char* suffix : {"", "-wal"}) {
      const std::string path = CataloguePath() + suffix;
      if (std::filesystem::exists(path))
        kept.files[suffix] = testing::ReadFile(path);
    }
  }

  const SmallModels& models_;
  std::mt19937_64 random_;
  Disk disk_;
  testing::TempDir folder_;
  std::shared_ptr<Faults> faults_[kProcesses];
  std::unique_ptr<Repository> processes_[kProcesses];
  std::vector<Change> changes_;
  std::vector<CatalogueFiles> catalogues_;
};

// What a name may have at a moment.
std::set<std::optional<size_t>> Allowed(const std::vector<Change>& changes,
                                        size_t name, uint64_t moment) {
  std::set<std::optional<size_t>> allowed = {std::nullopt};
  for (const Change& change : changes) {
    if (change.name != name || change.begin >= moment) continue;
    if (change.done && change.end <= moment) allowed.clear();
    allowed.insert(change.model);
  }
  return allowed;
}

class PowerLossBase : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { models_ = new SmallModels; }
  static void TearDownTestSuite() { delete models_; }

  // Puts a catalogue in its place: one that was there before, a part of it,
  // bytes that are none; or none.
  void LeaveCatalogue(const Script& script, uint64_t moment,
                      std::mt19937_64& random) {
    RemoveCatalogue(path_);
    const CatalogueFiles* kept = nullptr;
    for (const CatalogueFiles& files : script.catalogues()) {
      if (files.moment <= moment && (kept == nullptr || random() % 2 == 0))
        kept = &files;
    }
    const uint64_t kind = random() % 8;
    if (kind == 0 || kept == nullptr) return;
    for (const auto& [suffix, bytes] : kept->files) {
      Bytes left = bytes;
      if (kind == 1) left.resize(random() % (left.size() + 1));
      if (kind == 2) left = testing::RandomBytes(left.size(), random());
      testing::WriteFile(path_ + suffix, left);
    }
  }

  absl::Status CheckModels(
      Repository& repository,
      const std::vector<std::set<std::optional<size_t>>>& allowed) {
    ASSIGN_OR_RETURN(const auto references, repository.References());
    std::map<ModelName, Reference> there(references.begin(), references.end());
    for (size_t i = 0; i < allowed.size(); ++i) {
      if (there.erase(Name(i)) == 0) {
        if (allowed[i].contains(std::nullopt)) continue;
        return Internal(Name(i).Text(), " is lost");
      }
      ASSIGN_OR_RETURN(const Tree tree, ReadModel(repository, Name(i)));
      bool is_one = false;
      for (const std::optional<size_t>& model : allowed[i])
        is_one |= model.has_value() && tree == models_->tree(*model);
      if (!is_one) return Internal(Name(i).Text(), " is another");
    }
    if (there.empty()) return absl::OkStatus();
    return Internal(there.begin()->first.Text(), " came from nowhere");
  }

  static inline SmallModels* models_ = nullptr;
  testing::TempDir folder_;
  std::string path_ = folder_ / "catalogue.sqlite";
};

class PowerLossAfterDeath : public PowerLossBase {};
class PowerLoss : public PowerLossBase,
                  public ::testing::WithParamInterface<size_t> {};

TEST_P(PowerLoss, LosesNothingThatWasDone) {
  Script script(*models_, GetParam());
  script.Run();
  if (HasFatalFailure()) return;
  std::mt19937_64 random(GetParam());
  for (size_t i = 0; i < kLossesPerScript; ++i) {
    // At the latest, when nothing was going on; else in the midst of something
    // or just when it was done.
    uint64_t moment = 3 + random() % (script.disk().Now() - 2);
    if (random() % 2 == 0)
      moment = script.changes()[random() % script.changes().size()].end;
    SCOPED_TRACE(StrCat("script ", GetParam(), ", loss ", i, " at ", moment));
    Disk disk = script.disk().AfterPowerLoss(moment, random());
    std::vector<std::set<std::optional<size_t>>> allowed;
    for (size_t name = 0; name < kNames; ++name)
      allowed.push_back(Allowed(script.changes(), name, moment));
    LeaveCatalogue(script, moment, random);

    auto repository = OpenStore(disk.Mount(), path_);
    ASSERT_TRUE(repository.ok()) << repository.status();
    const auto check = [&] { return CheckModels(**repository, allowed); };
    absl::Status status = WithCatalogue(**repository, check);
    ASSERT_TRUE(status.ok()) << status;
    // And goes on.
    const size_t model = random() % SmallModels::kCount;
    status = WithCatalogue(**repository, [&] {
      return AddModel(**repository, Name(kNames), models_->Folder(model));
    });
    ASSERT_TRUE(status.ok()) << status;
    allowed.push_back({model});
    if (i % 4 == 0) {
      status = WithCatalogue(**repository,
                             [&] { return CollectGarbage(**repository); });
      ASSERT_TRUE(status.ok()) << status;
    }
    status = WithCatalogue(**repository, check);
    ASSERT_TRUE(status.ok()) << status;
  }
}

// Someone dies at any point of an add, someone else adds the same again and
// builds on what is there: that was perhaps never synced.
TEST_F(PowerLossAfterDeath, LosesNothingThatWasBuiltOn) {
  Disk disk;
  ASSERT_TRUE(InitStore(*disk.Mount()).ok());
  auto base = OpenStore(disk.Mount());
  ASSERT_TRUE(base.ok()) << base.status();
  ASSERT_TRUE(AddModel(**base, Name(0), models_->Folder(0)).ok());
  std::mt19937_64 random(1);
  bool died = true;
  for (uint64_t k = 0; died; ++k) {
    Disk copy = disk.AfterPowerLoss(disk.Now(), 0);
    const auto faults = std::make_shared<Faults>();
    {
      auto first =
          OpenStore(storage::MakeFaultStorage(copy.Mount(), faults), path_);
      ASSERT_TRUE(first.ok()) << first.status();
      faults->Arm(k, Faults::Kind::kError);
      died = !AddModel(**first, Name(1), models_->Folder(1)).ok();
    }
    const size_t packs = copy.Mount()->List(kPacksPrefix)->size();
    const uint64_t begin = copy.Now();
    {
      auto second = OpenStore(copy.Mount(), path_);
      ASSERT_TRUE(second.ok()) << second.status();
      ASSERT_TRUE(AddModel(**second, Name(1), models_->Folder(1)).ok());
    }
    const uint64_t end = copy.Now();
    // Where the second needed no pack of its own there is more to be found.
    const bool built_on =
        packs == 2 && copy.Mount()->List(kPacksPrefix)->size() == packs;
    for (uint64_t moment = begin + 1; moment <= end; ++moment) {
      for (int i = 0; i < (built_on ? 8 : 1); ++i) {
        SCOPED_TRACE(StrCat("died at ", k, ", loss at ", moment, " of ", begin,
                            " to ", end));
        Disk after = copy.AfterPowerLoss(moment, random());
        auto repository = OpenStore(after.Mount());
        ASSERT_TRUE(repository.ok()) << repository.status();
        std::set<std::optional<size_t>> second = {1};
        if (moment < end) second.insert(std::nullopt);
        const absl::Status status = CheckModels(**repository, {{0}, second});
        EXPECT_TRUE(status.ok()) << status;
      }
    }
    RemoveCatalogue(path_);
  }
}

INSTANTIATE_TEST_SUITE_P(Scripts, PowerLoss,
                         ::testing::Range(size_t{0}, kScripts));

}  // namespace
}  // namespace zipllm::store
