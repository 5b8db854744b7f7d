// What the packs of a store hold, for quick look-ups: a SQLite file that can be
// made anew from the packs at any time (format-spec/store.md, "Catalogue").
#ifndef ZIPLLM_STORE_CATALOGUE_H_
#define ZIPLLM_STORE_CATALOGUE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/hash.h"
#include "base/status.h"
#include "store/format.h"
#include "zipllm/types.h"

namespace zipllm::store {

/// An object as one pack has it. The pack's entry is called as ObjectEntryName
/// says, so that no number is needed.
struct ObjectRecord {
  Sha256Digest sha256{};
  uint64_t length = 0;
  uint64_t coded_bytes = 0;  ///< of its frames
  /// How many more packs it takes to decode it: 0 if none, else 1 + the
  /// greatest depth of what it, or what it is made of in its own pack, is coded
  /// against in others.
  uint8_t depth = 0;
  DType dtype = DType::kBytes;
  std::vector<uint64_t> shape;
  std::string name;    ///< of the tensor, where it was seen first
  std::string format;  ///< Layout.format of the entry
  /// What it is coded against: objects of this pack or of others.
  std::vector<Sha256Digest> sources;
  /// Plain bytes less coded bytes, by what saved them (StoreStats).
  uint64_t saved_delta = 0, saved_derived = 0, saved_entropy = 0;
};

struct PackRecord {
  std::string id;
  uint64_t bytes = 0;
  /// Objects of other packs without which some of it cannot be decoded.
  std::vector<std::pair<Sha256Digest, uint8_t>> needs;  ///< and their depth
  std::vector<ObjectRecord> objects;
  std::vector<TensorSketch> sketches;
  /// The manifests among the objects, and what each is made of.
  std::vector<std::pair<Sha256Digest, std::vector<Sha256Digest>>> manifests =
      {};
};

/// Where an object is.
struct ObjectPlace {
  std::string pack;
  uint64_t length = 0;
  uint64_t coded_bytes = 0;
  uint8_t depth = 0;
};

/// An object whose sketch is like that of another one.
struct Relative {
  Sha256Digest object{};
  uint32_t distance = 0;  ///< how many bits of the sketches differ
  /// The manifests that have it, in the order in which they were added.
  std::vector<Sha256Digest> users;
};

/// What of the objects that are like another one is wanted.
struct SimilarLimits {
  uint64_t depth = UINT8_MAX;      ///< those of less in the sketch's pack
  uint32_t distance = UINT32_MAX;  ///< those of as much or less
  size_t looked_at = SIZE_MAX;     ///< sketches
  size_t nearest = SIZE_MAX;       ///< objects
  size_t users = SIZE_MAX;         ///< of each, those first that were added so
};

/// Thread-safe; several processes may use one file. Readers do not wait for a
/// writer. Errors: DATA_LOSS where SQLite finds the file damaged, or another
/// process has replaced it since it was opened (then see Reset); UNAVAILABLE
/// where another process writes for longer than half a minute.
class Catalogue {
 public:
  /// Opens or makes the file; brings one of an older schema up to date. One
  /// that is damaged is replaced by an empty one. UNIMPLEMENTED for a newer
  /// schema. `sync` as of StoreOptions.
  static absl::StatusOr<std::unique_ptr<Catalogue>> Open(
      const std::string& path, bool sync = true);
  /// In memory, for tests.
  static absl::StatusOr<std::unique_ptr<Catalogue>> OpenInMemory();
  virtual ~Catalogue() = default;

  /// True since something failed with DATA_LOSS, until Reset.
  virtual bool damaged() const = 0;
  /// Replaces the file by an empty one, or, if another process has done so
  /// since it was opened, goes on with that one. Processes that have the old
  /// one open find that they must do the same when they write.
  virtual absl::Status Reset() = 0;
  /// Reads all of it; DATA_LOSS where it contradicts itself. To be asked before
  /// one believes that something is not there.
  virtual absl::Status Check() = 0;

  /// In one transaction, durable when it returns; replaces what is there of
  /// this pack. Manifests are as AddManifest adds them.
  virtual absl::Status AddPack(const PackRecord& pack) = 0;
  virtual absl::Status RemovePack(const std::string& id) = 0;
  /// Forgets everything, in one transaction with adding `packs` one after the
  /// other: next() gives them, nullopt at the end. It may read the catalogue
  /// (as it was), but one in memory not.
  virtual absl::Status Rebuild(
      const std::function<absl::StatusOr<std::optional<PackRecord>>()>&
          next) = 0;

  /// What the file takes, without what is still in its log.
  virtual absl::StatusOr<uint64_t> Bytes() = 0;
  virtual absl::StatusOr<std::vector<std::string>> Packs() = 0;
  /// `needs` come by their SHA-256.
  virtual absl::StatusOr<std::optional<PackRecord>> FindPack(
      const std::string& id) = 0;
  /// All copies of an object, the one of least depth first.
  virtual absl::StatusOr<std::vector<ObjectPlace>> Find(
      const Sha256Digest& object) = 0;
  /// The record of one of its copies; nullopt if there is none.
  virtual absl::StatusOr<std::optional<ObjectRecord>> Describe(
      const Sha256Digest& object) = 0;

  /// Remembers what a manifest is made of, so that users of an object can be
  /// told. Idempotent.
  virtual absl::Status AddManifest(
      const Sha256Digest& manifest,
      const std::vector<Sha256Digest>& objects) = 0;
  virtual absl::StatusOr<bool> HasManifest(const Sha256Digest& manifest) = 0;
  virtual absl::Status RemoveManifest(const Sha256Digest& manifest) = 0;
  /// The manifests that have it: of more than `limit` those that were added
  /// first.
  virtual absl::StatusOr<std::vector<Sha256Digest>> UsersOf(
      const Sha256Digest& object, size_t limit = SIZE_MAX) = 0;

  /// Objects like that of `sketch`, the nearest first: their sketches agree in
  /// at least one of its bands (16 of 24 bits that each are spread over it),
  /// and in log2_elements. By an index: takes about as long for 1000 sketches
  /// as for 10^7. Of a band that more than 2 `limits.looked_at` sketches have,
  /// the oldest and the newest count; of all, those that agree in the most
  /// bands.
  virtual absl::StatusOr<std::vector<Relative>> Similar(
      const TensorSketch& sketch, const SimilarLimits& limits) = 0;
  virtual absl::StatusOr<std::vector<TensorSketch>> SketchesOf(
      const std::vector<Sha256Digest>& objects) = 0;
};

}  // namespace zipllm::store

#endif  // ZIPLLM_STORE_CATALOGUE_H_
