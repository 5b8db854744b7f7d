// Each storage operation of an add, a gc and a repack fails once: all that was
// there is there and right, and the store is usable at once.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <optional>

#include "storage/fault.h"
#include "storage/power_loss.h"
#include "store/small_store.h"

namespace zipllm::store {
namespace {

using storage::Disk;
using storage::Faults;
using Expected = std::map<ModelName, size_t>;

struct Fault {
  Faults::Kind kind;
  bool lasts;  // all that follows fails, too: the process dies
};
constexpr Fault kFaults[] = {{Faults::Kind::kError, false},
                             {Faults::Kind::kTorn, false},
                             {Faults::Kind::kError, true},
                             {Faults::Kind::kNoSpace, true}};

const ModelName kBase{.name = "org/base"};
const ModelName kTuned{.name = "org/tuned"};
const ModelName kOther{.name = "other"};

class StoreFaults : public ::testing::Test {
 protected:
  using Operation = std::function<absl::Status(Repository&)>;

  static void SetUpTestSuite() { models_ = new SmallModels; }
  static void TearDownTestSuite() { delete models_; }

  std::string CataloguePath() const { return folder_ / "catalogue.sqlite"; }

  // A store that has had a process for each of `steps`.
  Disk MakeStore(const std::vector<Operation>& steps) {
    Disk disk;
    EXPECT_TRUE(InitStore(*disk.Mount()).ok());
    for (const Operation& step : steps) {
      auto repository = OpenStore(disk.Mount());
      EXPECT_TRUE(repository.ok()) << repository.status();
      const absl::Status status = step(**repository);
      EXPECT_TRUE(status.ok()) << status;
    }
    return disk;
  }
  static Operation Adding(const ModelName& name, size_t model) {
    return [=](Repository& repository) {
      return AddModel(repository, name, models_->Folder(model));
    };
  }
  static Operation Removing(const ModelName& name) {
    return [=](Repository& repository) {
      RETURN_IF_ERROR(repository.storage().Delete(ReferenceKey(name)));
      return repository.storage().Sync();
    };
  }

  // Runs `operation` on a copy of `disk` for each of its storage operations and
  // each kind of fault, and looks at what is left each time. `added`: a model
  // that the operation adds. Else than with `every_kind` each operation fails
  // in one way only, each in another than the one before.
  void FailEach(const Disk& disk, const Expected& expected,
                const Operation& operation,
                const std::optional<std::pair<ModelName, size_t>>& added = {},
                bool every_kind = true) {
    constexpr size_t kKinds = std::size(kFaults);
    for (size_t i = 0; i < (every_kind ? kKinds : 1); ++i) {
      for (uint64_t k = 0;; ++k) {
        const Fault& fault = kFaults[(every_kind ? i : k) % kKinds];
        SCOPED_TRACE(StrCat("operation ", k, ", fault ",
                            static_cast<int>(fault.kind),
                            fault.lasts ? " for ever" : " once"));
        ASSERT_LT(k, 2000U);
        bool reached = false;
        FailOne(disk, expected, operation, added, fault, k, &reached);
        if (HasFailure() || !reached) break;
      }
    }
  }

  static inline SmallModels* models_ = nullptr;

 private:
  static void ExpectModels(Repository& repository, const Expected& expected) {
    for (const auto& [name, model] : expected) {
      const absl::StatusOr<Tree> tree = ReadModel(repository, name);
      ASSERT_TRUE(tree.ok()) << tree.status();
      EXPECT_TRUE(*tree == models_->tree(model)) << name.Text();
    }
  }

  void FailOne(const Disk& disk, const Expected& expected,
               const Operation& operation,
               const std::optional<std::pair<ModelName, size_t>>& added,
               const Fault& fault, uint64_t k, bool* reached) {
    Disk copy = disk.AfterPowerLoss(disk.Now(), 0);
    for (const char* suffix : {"", "-wal", "-shm"})
      std::filesystem::remove(CataloguePath() + suffix);
    const auto faults = std::make_shared<Faults>();
    bool done = false;
    {
      auto repository = OpenStore(
          storage::MakeFaultStorage(copy.Mount(), faults), CataloguePath());
      ASSERT_TRUE(repository.ok()) << repository.status();
      ASSERT_TRUE((*repository)->Refresh().ok());
      faults->Arm(k, fault.kind, fault.lasts ? UINT64_MAX : 1);
      const absl::Status status = operation(**repository);
      done = status.ok();
      *reached = faults->operations() > k;
      ASSERT_TRUE(done || faults->failed() != 0) << status;
      if (fault.lasts) {
        repository->reset();  // unable to tidy up, too
      } else {
        faults->Disarm();
        ExpectModels(**repository, expected);
      }
    }
    // Processes that come later: with a new catalogue, and with the one that is
    // left.
    Expected all = expected;
    for (const std::string& catalogue : {std::string(), CataloguePath()}) {
      if (catalogue.empty() && k % 3 != 0) continue;
      auto repository = OpenStore(copy.Mount(), catalogue);
      ASSERT_TRUE(repository.ok()) << repository.status();
      if (added.has_value()) {
        const auto reference = (*repository)->FindReference(added->first);
        EXPECT_EQ(reference.ok(), !absl::IsNotFound(reference.status()));
        if (reference.ok()) {
          all.insert(*added);
        } else {
          EXPECT_FALSE(done);
        }
      }
      ExpectModels(**repository, all);
    }
    auto repository = OpenStore(copy.Mount(), CataloguePath());
    ASSERT_TRUE(repository.ok()) << repository.status();
    const absl::Status again = operation(**repository);
    ASSERT_TRUE(again.ok()) << again;
    if (added.has_value()) all.insert(*added);
    ExpectModels(**repository, all);
  }

  testing::TempDir folder_;
};

TEST_F(StoreFaults, Add) {
  FailEach(MakeStore({Adding(kBase, 0), Adding(kOther, 5)}),
           {{kBase, 0}, {kOther, 5}}, Adding(kTuned, 1), std::pair(kTuned, 1));
}

// A pack that nothing needs goes, one that another is coded against stays.
TEST_F(StoreFaults, Gc) {
  FailEach(MakeStore({Adding(kBase, 0), Adding(kTuned, 1), Adding(kOther, 5),
                      Removing(kBase), Removing(kOther)}),
           {{kTuned, 1}}, [](Repository& repository) {
             GcOptions options;
             options.grace = std::chrono::seconds(0);
             return Gc(repository, options).status();
           });
}

TEST_F(StoreFaults, Repack) {
  FailEach(
      MakeStore({Adding(kBase, 0), Adding(kTuned, 1), Adding(kOther, 5),
                 Removing(kOther)}),
      {{kBase, 0}, {kTuned, 1}},
      [](Repository& repository) {
        RepackOptions options;
        options.level = 1;
        options.max_dead = 0;
        return Repack(repository, options).status();
      },
      {}, /*every_kind=*/false);
}

}  // namespace
}  // namespace zipllm::store
