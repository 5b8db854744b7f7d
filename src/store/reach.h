// What the models of a store need: the one place that says which copy of an
// object counts, for gc, repack, fsck and stats.
#ifndef ZIPLLM_STORE_REACH_H_
#define ZIPLLM_STORE_REACH_H_

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "store/repository.h"

namespace zipllm::store {

/// An object as one pack has it.
struct Copy {
  Sha256Digest sha256{};
  uint64_t length = 0;
  uint64_t coded_bytes = 0;
  uint8_t depth = 0;
  bool is_sketches = false;
  bool is_manifest = false;
  std::vector<Sha256Digest> sources;
  uint64_t saved_delta = 0, saved_derived = 0, saved_entropy = 0;
};

/// A pack as the catalogue has it.
struct PackSummary {
  std::string id;
  uint64_t bytes = 0;
  std::vector<std::pair<Sha256Digest, uint8_t>> needs;  ///< by SHA-256
  std::vector<Copy> copies;                             ///< by SHA-256
  // As values of the storage say.
  bool condemned = false;  ///< also while it is deleted
  bool deleting = false;
  Damage damage;

  const Copy* Find(const Sha256Digest& object) const;
  bool IsDamaged(const Sha256Digest& object) const;
  /// How deep `object`, of another pack, may be when this is decoded.
  std::optional<uint8_t> NeededDepth(const Sha256Digest& object) const;
};

/// What a store holds and what its models are made of, at one time. Takes some
/// 150 bytes an object.
class Inventory {
 public:
  /// Reads names first, packs then, so that what a name needs is there. An
  /// error where a name or the manifest of one cannot be read; with `problems`,
  /// which is told of names, they are left out.
  static absl::StatusOr<Inventory> Load(
      Repository& repository, std::vector<std::string>* problems = nullptr);
  /// Reads again what may have changed since.
  absl::Status Reload(Repository& repository,
                      std::vector<std::string>* problems = nullptr);

  struct Model {
    ModelName name;
    Reference reference;
  };
  const std::vector<Model>& models() const { return models_; }
  /// What the manifest of a model is made of, itself included; empty if it
  /// could not be read.
  const std::vector<Sha256Digest>& ObjectsOfModel(
      const Sha256Digest& manifest) const;
  const std::vector<PackSummary>& packs() const { return packs_; }
  /// The packs that have an object, as places in packs().
  const std::vector<size_t>& PacksWith(const Sha256Digest& object) const;
  std::optional<size_t> FindPack(const std::string& id) const;

 private:
  std::vector<Model> models_;
  std::map<Sha256Digest, std::vector<Sha256Digest>> manifests_;
  std::vector<PackSummary> packs_;  // by id
  std::map<Sha256Digest, std::vector<size_t>> packs_with_;
};

/// A copy of an object: its pack and its place there.
struct CopyPlace {
  size_t pack = 0;
  size_t copy = 0;
  auto operator<=>(const CopyPlace&) const = default;
};

/// What is needed of an inventory. A live pack keeps all that it needs to be
/// decoded, so that whoever finds an object in it can build on it.
struct Reach {
  std::vector<bool> live_packs;                ///< by place
  std::vector<std::vector<bool>> live_copies;  ///< by pack: those that models
                                               ///< need, also to decode others
  /// Objects of which there is no copy, or none of a depth as small as needed.
  std::set<Sha256Digest> missing;
};

/// Of the copies of an object that have at most `max_depth`, the one that
/// counts, best first by: its pack is not being deleted; it is not known to be
/// damaged; its pack is not condemned; it has the least depth (as Repository
/// reads it); its pack is live already; its pack comes first.
std::optional<CopyPlace> ChooseCopy(const Inventory& inventory,
                                    const Sha256Digest& object,
                                    uint8_t max_depth,
                                    const std::vector<bool>& live_packs);

/// What all models need, and the packs of `kept`, which are live whatever else.
/// Packs in `without` count as not there.
Reach FindReach(const Inventory& inventory, const std::set<size_t>& kept = {},
                const std::set<size_t>& without = {});

}  // namespace zipllm::store

#endif  // ZIPLLM_STORE_REACH_H_
