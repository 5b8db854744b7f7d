/// \file
/// The model store: a folder that keeps models, each tensor once, coded against
/// those that are there already.
#ifndef ZIPLLM_STORE_H_
#define ZIPLLM_STORE_H_

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "zipllm/archive.h"
#include "zipllm/io.h"
#include "zipllm/options.h"
#include "zipllm/types.h"

namespace zipllm {

/// What a model is called: `name` is parts joined by '/', as "org/model", at
/// most 160 bytes; `revision` has no '/', at most 80 bytes. Neither has parts
/// that are empty, "." or "..", nor bytes below 32.
struct ZIPLLM_EXPORT ModelName {
  std::string name;
  std::string revision = "main";

  /// From "NAME" or "NAME@REVISION"; INVALID_ARGUMENT.
  static absl::StatusOr<ModelName> Parse(const std::string& text);
  /// "NAME@REVISION".
  std::string Text() const { return name + "@" + revision; }
  auto operator<=>(const ModelName&) const = default;
};

struct ModelInfo {
  ModelName name;
  std::array<uint8_t, 32> manifest{};  ///< its SHA-256: equal for equal trees
  int64_t created_seconds = 0;         ///< since 1970
  uint64_t files = 0;
  uint64_t plain_bytes = 0;
};

struct StoreOptions {
  int threads = 0;  ///< 0: one a core
  /// As of DecompressOptions; also bounds what open packs keep.
  uint64_t max_memory = uint64_t{512} << 20;
  /// Sync what is committed; false only where the store need not survive a
  /// power loss.
  bool sync = true;
  ProgressCallback progress = nullptr;
  WarningCallback warning = nullptr;
};

struct AddOptions {
  int level = kDefaultLevel;
  bool verify = true;  ///< decode every block and compare before it counts
  /// Replace what the revision has; else ALREADY_EXISTS if that is another
  /// tree.
  bool replace = false;
  /// Longest chain of objects that are coded against each other, 0 to 4; 0:
  /// deduplicate only.
  int max_depth = 4;
  /// Models of the store to try first ("NAME[@REVISION]"). What a model card
  /// names is tried without being said.
  std::vector<std::string> bases = {};
};

struct AddResult {
  ModelInfo model;
  bool existed = false;          ///< the revision was there with the same tree
  uint64_t objects = 0;          ///< that the tree is made of
  uint64_t new_objects = 0;      ///< of these were stored now
  uint64_t new_bytes = 0;        ///< their plain bytes
  uint64_t stored_bytes = 0;     ///< by which the packs have grown
  std::vector<ModelName> bases;  ///< against which objects were coded
};

struct GcOptions {
  /// How long what nothing needs any more is kept.
  std::chrono::seconds grace = std::chrono::hours(24);
  bool dry_run = false;
};
struct GcResult {
  uint64_t packs = 0;            ///< looked at
  uint64_t condemned_packs = 0;  ///< that nothing needs, kept for now
  uint64_t condemned_bytes = 0;
  uint64_t deleted_packs = 0;
  uint64_t deleted_bytes = 0;
  uint64_t stale_leases = 0;  ///< of processes that are gone, removed
};

struct RepackOptions {
  int level = kDefaultLevel;
  /// Packs of which nothing needs more than this part of their bytes are
  /// written anew.
  double max_dead = 0.2;
  /// Packs smaller than this are merged.
  uint64_t min_pack_bytes = uint64_t{4} << 20;
  /// Objects at the end of longer chains are coded anew, against what has a
  /// smaller depth.
  int max_depth = 4;
};
struct RepackResult {
  uint64_t packs_before = 0, packs_after = 0;
  uint64_t bytes_before = 0, bytes_after = 0;
  uint64_t objects_rewritten = 0;
  uint64_t objects_rebased = 0;  ///< of these got a smaller depth
};

struct FsckOptions {
  bool fast = false;     ///< structure only: nothing is decoded
  double sample = 1.0;   ///< part of the objects that is decoded
  bool rebuild = false;  ///< make the catalogue anew from the packs first
  /// Stores, archives, files and folders that may have what is bad here: good
  /// copies are stored anew.
  std::vector<std::string> from = {};
};
struct FsckResult {
  struct BadObject {
    std::array<uint8_t, 32> sha256{};
    std::string pack;
    std::string error;
    bool repaired = false;
    struct User {
      ModelName model;
      std::string file, tensor;
    };
    std::vector<User> users;  ///< what it hurts, also by being a base
  };
  uint64_t packs = 0, objects = 0, models = 0;
  uint64_t objects_read = 0;
  uint64_t bytes_read = 0;  ///< plain bytes decoded and hashed
  std::vector<BadObject> bad_objects;
  std::vector<std::string> problems;  ///< of packs, references, catalogue
  std::vector<std::string> repairs;   ///< what was mended
  bool ok() const {
    return problems.empty() &&
           std::ranges::all_of(bad_objects, &BadObject::repaired);
  }
};

/// Where the bytes went. Sums of plain bytes are over objects as often as
/// models have them.
struct StoreStats {
  /// How the plain bytes of objects that are stored became fewer, by what
  /// codes their blocks.
  struct Savings {
    uint64_t plain_bytes = 0;
    uint64_t deduplicated = 0;  ///< stored already (also by other models)
    uint64_t delta = 0;         ///< saved against a base
    uint64_t derived = 0;       ///< saved by deriving from a source
    uint64_t entropy = 0;       ///< saved by entropy coding alone
    uint64_t stored_bytes = 0;  ///< what is left
  };
  struct Model {
    ModelInfo info;
    size_t family = 0;
    Savings savings;  ///< objects are of the model that brought them
    std::vector<std::pair<ModelName, uint64_t>> bases;  ///< plain bytes coded
                                                        ///< against them
  };
  struct Family {
    ModelName root;  ///< the model that others are coded against
    Savings savings;
    std::vector<size_t> models;  ///< places in `models`
  };
  std::vector<Model> models;
  std::vector<Family> families;
  Savings total;
  uint64_t objects = 0, packs = 0;
  uint64_t pack_bytes = 0;       ///< on disk
  uint64_t catalogue_bytes = 0;  ///< on disk; can be made anew
  uint64_t dead_bytes = 0;       ///< of packs, that no model needs
};

/// A model of a store, open to be read: while it is, gc deletes nothing of it.
/// Thread-safe. Keeps what it needs of the store alive.
class ZIPLLM_EXPORT StoredModel {
 public:
  virtual ~StoredModel() = default;
  virtual const ModelInfo& info() const = 0;
  /// The tree, as of Archive::entries(), the root directory first (without
  /// metadata where a single file was added). `coded_size` is 0.
  virtual const std::vector<Entry>& entries() const = 0;
  /// The bytes of a file that are decoded together with the one at `offset`:
  /// begin and end. OUT_OF_RANGE past its end.
  virtual absl::StatusOr<std::pair<uint64_t, uint64_t>> BlockAt(
      size_t entry, uint64_t offset) const = 0;
  /// Decodes the bytes of a file from `offset` into `out`, by the threads of
  /// StoreOptions. OUT_OF_RANGE past its end; DATA_LOSS names the object.
  virtual absl::Status ReadRange(size_t entry, uint64_t offset,
                                 MutableByteSpan out) const = 0;
  /// About how many bytes of packs the objects of a file take.
  virtual absl::StatusOr<uint64_t> CodedSize(size_t entry) const = 0;
};

/// An open store. Thread-safe; several processes may use one store at once.
/// What it does to the disk, in which order, and what survives a crash stands
/// in format-spec/store.md. An add, get or gc that is interrupted or killed
/// leaves every committed model readable and the store usable. A store that may
/// not be written to can be read: slowly at first, since the catalogue is made
/// in memory, and without keeping the gc of others from what is read.
class ZIPLLM_EXPORT Store {
 public:
  /// Makes an empty store of the folder `path`, which must not exist or be
  /// empty. ALREADY_EXISTS.
  static absl::Status Init(const std::string& path,
                           const StoreOptions& options = {});
  /// NOT_FOUND where there is none; UNIMPLEMENTED where a newer version wrote
  /// what this one cannot read.
  static absl::StatusOr<Store> Open(const std::string& path,
                                    const StoreOptions& options = {});
  Store(Store&&) noexcept;
  Store& operator=(Store&&) noexcept;
  ~Store();

  /// Adds a file, or a folder with all that is in it, as a model. Links that
  /// lead out of the folder (as those of a Hugging Face snapshot to its blobs)
  /// are stored as what they point to, others as links. What is there already
  /// is hashed and not stored again.
  absl::StatusOr<AddResult> Add(const ModelName& name, const std::string& path,
                                const AddOptions& options = {});
  /// All models, by name.
  absl::StatusOr<std::vector<ModelInfo>> List() const;
  absl::StatusOr<std::shared_ptr<const StoredModel>> OpenModel(
      const ModelName& name) const;
  /// Restores the tree at `target`, or of it what has one of `paths` as its
  /// path or above it, as Decompressor::DecompressTo does; each file's SHA-256
  /// is checked.
  absl::StatusOr<Totals> Get(const ModelName& name, const std::string& target,
                             bool overwrite = false,
                             const std::vector<std::string>& paths = {}) const;
  /// Writes an archive that needs nothing else.
  absl::StatusOr<Totals> Export(const std::vector<ModelName>& names,
                                const std::string& archive_path,
                                const CompressOptions& options = {},
                                bool overwrite = false) const;
  /// Takes away the name; what it had stays until Gc.
  absl::Status Remove(const ModelName& name);
  absl::StatusOr<GcResult> Gc(const GcOptions& options = {});
  absl::StatusOr<RepackResult> Repack(const RepackOptions& options = {});
  absl::StatusOr<FsckResult> Fsck(const FsckOptions& options = {});
  absl::StatusOr<StoreStats> Stats() const;

 private:
  class Impl;
  explicit Store(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace zipllm

#endif  // ZIPLLM_STORE_H_
