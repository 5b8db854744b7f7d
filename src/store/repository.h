// A store from inside: what add, gc, fsck and the others work on.
#ifndef ZIPLLM_STORE_REPOSITORY_H_
#define ZIPLLM_STORE_REPOSITORY_H_

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "archive/bases.h"
#include "base/status.h"
#include "storage/storage.h"
#include "store/catalogue.h"
#include "store/format.h"
#include "store/lease.h"
#include "zipllm/archive.h"
#include "zipllm/store.h"

namespace zipllm::store {

/// An open pack: its archive, and the entries of its objects.
struct Pack {
  std::string id;
  Archive archive;
  std::map<Sha256Digest, size_t> entries;
  /// What it lacks: frames that were found damaged when it was opened.
  bool damaged = false;
};

/// Thread-safe.
class Repository : public archive::BaseFinder {
 public:
  /// `storage` and `catalogue` of a store that is there.
  static absl::StatusOr<std::unique_ptr<Repository>> Open(
      std::unique_ptr<storage::Storage> storage,
      std::unique_ptr<Catalogue> catalogue, const StoreOptions& options);

  storage::Storage& storage() const { return *storage_; }
  Catalogue& catalogue() const { return *catalogue_; }
  Leases& leases() const { return *leases_; }
  const StoreOptions& options() const { return options_; }
  const StoreHeader& header() const { return header_; }

  /// An open pack; the last few stay open. NOT_FOUND, DATA_LOSS.
  absl::StatusOr<std::shared_ptr<const Pack>> OpenPack(const std::string& id);
  /// What a pack holds, from its frames: for the catalogue. Objects that are
  /// damaged in structure are left out.
  absl::StatusOr<PackRecord> ReadPack(const std::string& id);
  /// Tells the catalogue of packs that it does not know, and takes out those
  /// that are gone. Returns how many changed.
  absl::StatusOr<uint64_t> Refresh();

  /// Where an object is: the copy that is best to read (of least depth), or,
  /// with `max_depth`, one of at most that depth. Refreshes the catalogue where
  /// it knows none. NOT_FOUND names the object.
  absl::StatusOr<ObjectPlace> Locate(const Sha256Digest& object,
                                     int max_depth = 255);
  /// Decodes bytes of an object, or all of a small one. DATA_LOSS where no copy
  /// of it gives them.
  absl::Status Read(const Sha256Digest& object, uint64_t offset,
                    MutableByteSpan out, int max_depth = 255);
  absl::StatusOr<std::vector<uint8_t>> ReadWhole(const Sha256Digest& object,
                                                 uint64_t max_bytes);
  /// See StoredModel::BlockAt.
  absl::StatusOr<std::pair<uint64_t, uint64_t>> BlockAt(
      const Sha256Digest& object, uint64_t offset);

  /// Names and what they point to.
  absl::StatusOr<std::vector<std::pair<ModelName, Reference>>> References();
  absl::StatusOr<std::pair<Reference, std::string>> FindReference(
      const ModelName& name);  ///< and its version; NOT_FOUND
  /// NOT_FOUND, saying which revisions of that model there are.
  absl::Status NoModel(const ModelName& name);
  absl::StatusOr<Manifest> ReadManifest(const Reference& reference) {
    return ReadManifest(reference.manifest);
  }
  absl::StatusOr<Manifest> ReadManifest(const Sha256Digest& manifest);

  /// Packs that gc has condemned.
  absl::StatusOr<std::set<std::string>> Condemned();
  /// The others that are there: of these, what an object is made of may be
  /// relied on by who holds a lease that is older than this answer.
  absl::StatusOr<std::set<std::string>> UsablePacks();

  // archive::BaseFinder: what packs are coded against.
  absl::StatusOr<archive::BaseTensor*> Find(
      const container::OutsideReference& reference) override;

 private:
  Repository() = default;
  // Does `use` with the pack and entry of a copy of `object`, best first, until
  // one works.
  absl::Status WithCopy(
      const Sha256Digest& object, int max_depth,
      const std::function<absl::Status(const Pack&, size_t)>& use);

  std::unique_ptr<storage::Storage> storage_;
  std::unique_ptr<Catalogue> catalogue_;
  std::unique_ptr<Leases> leases_;
  StoreOptions options_;
  StoreHeader header_;
  std::shared_ptr<archive::PieceCache> pieces_;
  std::mutex mutex_;
  std::list<std::shared_ptr<const Pack>> open_packs_;  // the last used first
  std::map<std::pair<Sha256Digest, uint8_t>,
           std::unique_ptr<archive::BaseTensor>>
      bases_;
};

/// The objects of a manifest, each once, in order of their names.
std::vector<Sha256Digest> ObjectsOf(const Manifest& manifest);

// Each is given a repository whose features were checked. The leases that each
// takes are its own business.

/// Store::Add (add.cc).
absl::StatusOr<AddResult> Add(Repository& repository, const ModelName& name,
                              const std::string& path,
                              const AddOptions& options);
/// Store::Gc (gc.cc).
absl::StatusOr<GcResult> Gc(Repository& repository, const GcOptions& options);
/// Store::Repack (repack.cc).
absl::StatusOr<RepackResult> Repack(Repository& repository,
                                    const RepackOptions& options);
/// Store::Fsck (fsck.cc).
absl::StatusOr<FsckResult> Fsck(Repository& repository,
                                const FsckOptions& options);
/// Store::Stats (stats.cc).
absl::StatusOr<StoreStats> Stats(Repository& repository);

}  // namespace zipllm::store

#endif  // ZIPLLM_STORE_REPOSITORY_H_
