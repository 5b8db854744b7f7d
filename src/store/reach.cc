#include "store/reach.h"

#include <algorithm>
#include <tuple>

#include "store/verify.h"

namespace zipllm::store {
namespace {

constexpr uint8_t kAnyDepth = 255;

absl::StatusOr<std::map<std::string, storage::Value>> ReadSmall(
    const storage::Storage& storage, const std::string& prefix) {
  ASSIGN_OR_RETURN(const std::vector<storage::Info> keys, storage.List(prefix));
  std::map<std::string, storage::Value> values;
  for (const storage::Info& info : keys) {
    absl::StatusOr<storage::Value> value =
        storage.Get(info.key, kMaxSmallValue);
    if (absl::IsNotFound(value.status())) continue;
    RETURN_IF_ERROR(value.status());
    values.emplace(info.key.substr(prefix.size()), *std::move(value));
  }
  return values;
}

PackSummary Summary(const PackRecord& record) {
  PackSummary pack;
  pack.id = record.id;
  pack.bytes = record.bytes;
  pack.needs = record.needs;
  std::ranges::sort(pack.needs);
  for (const ObjectRecord& object : record.objects) {
    pack.copies.push_back({.sha256 = object.sha256,
                           .length = object.length,
                           .coded_bytes = object.coded_bytes,
                           .depth = object.depth,
                           .is_sketches = object.format == kSketchesFormat,
                           .is_manifest = object.format == kManifestFormat,
                           .sources = object.sources,
                           .saved_delta = object.saved_delta,
                           .saved_derived = object.saved_derived,
                           .saved_entropy = object.saved_entropy});
  }
  std::ranges::sort(pack.copies, {}, &Copy::sha256);
  return pack;
}

// The copies that are as good as any, but for what else their packs have, by
// pack.
std::vector<CopyPlace> BestCopies(const Inventory& inventory,
                                  const Sha256Digest& object, uint8_t max_depth,
                                  const std::set<size_t>& without) {
  using Rank = std::tuple<bool, bool, bool, uint8_t>;
  Rank best_rank;
  std::vector<CopyPlace> best;
  for (const size_t i : inventory.PacksWith(object)) {
    const PackSummary& pack = inventory.packs()[i];
    const Copy* copy = pack.Find(object);
    if (copy->depth > max_depth || without.contains(i)) continue;
    const Rank rank = {pack.deleting, pack.IsDamaged(object), pack.condemned,
                       copy->depth};
    if (!best.empty() && best_rank < rank) continue;
    if (best.empty() || rank < best_rank) best.clear();
    best_rank = rank;
    best.push_back({i, static_cast<size_t>(copy - pack.copies.data())});
  }
  return best;
}

// Of equally good ones.
std::optional<CopyPlace> OneOf(const std::vector<CopyPlace>& copies,
                               const std::vector<bool>& live_packs) {
  if (copies.empty()) return std::nullopt;
  const auto live = std::ranges::find_if(
      copies, [&](const CopyPlace& copy) { return live_packs[copy.pack]; });
  return live == copies.end() ? copies.front() : *live;
}

// Follows what is needed from pack to pack, then from copy to copy.
class Finder {
 public:
  Finder(const Inventory& inventory, const std::set<size_t>& kept,
         const std::set<size_t>& without)
      : inventory_(inventory), without_(without) {
    reach_.live_packs.resize(inventory.packs().size());
    for (const size_t pack : kept) Enliven(pack);
    for (const PackSummary& pack : inventory.packs()) {
      reach_.live_copies.emplace_back(pack.copies.size());
    }
  }

  Reach Run() && {
    for (const Inventory::Model& model : inventory_.models()) {
      for (const Sha256Digest& object :
           inventory_.ObjectsOfModel(model.reference.manifest)) {
        wanted_.emplace(object, kAnyDepth);
      }
    }
    const std::set<std::pair<Sha256Digest, uint8_t>> roots = wanted_;
    // What only one pack has before what several have: of these one that is
    // live already serves.
    std::set<std::pair<Sha256Digest, uint8_t>> open;
    do {
      while (!wanted_.empty()) {
        const auto want = wanted_.extract(wanted_.begin()).value();
        if (!seen_.insert(want).second) continue;
        const std::vector<size_t> packs = Candidates(want.first, want.second);
        if (packs.empty()) reach_.missing.insert(want.first);
        if (packs.size() == 1) Enliven(packs[0]);
        if (packs.size() > 1) open.insert(want);
      }
      while (!open.empty() && wanted_.empty()) {
        const auto want = open.extract(open.begin()).value();
        Enliven(Choose(want.first, want.second)->pack);
      }
    } while (!wanted_.empty());
    for (const auto& [object, depth] : roots) Mark(object, depth);
    while (!marked_.empty()) {
      const CopyPlace place = marked_.back();
      marked_.pop_back();
      const PackSummary& pack = inventory_.packs()[place.pack];
      for (const Sha256Digest& source : pack.copies[place.copy].sources) {
        const Copy* inside = pack.Find(source);
        if (inside != nullptr) {
          MarkCopy(
              {place.pack, static_cast<size_t>(inside - pack.copies.data())});
        } else {
          Mark(source, pack.NeededDepth(source).value_or(kAnyDepth));
        }
      }
    }
    MarkSketches();
    return std::move(reach_);
  }

 private:
  std::vector<CopyPlace> Best(const Sha256Digest& object, uint8_t depth) {
    return BestCopies(inventory_, object, depth, without_);
  }
  std::vector<size_t> Candidates(const Sha256Digest& object, uint8_t depth) {
    std::vector<size_t> packs;
    for (const CopyPlace& place : Best(object, depth)) {
      packs.push_back(place.pack);
    }
    return packs;
  }
  std::optional<CopyPlace> Choose(const Sha256Digest& object, uint8_t depth) {
    return OneOf(Best(object, depth), reach_.live_packs);
  }

  void Enliven(size_t pack) {
    if (reach_.live_packs[pack]) return;
    reach_.live_packs[pack] = true;
    for (const auto& need : inventory_.packs()[pack].needs) {
      wanted_.insert(need);
    }
  }
  void Mark(const Sha256Digest& object, uint8_t depth) {
    const std::optional<CopyPlace> copy = Choose(object, depth);
    if (copy.has_value()) MarkCopy(*copy);
  }
  void MarkCopy(const CopyPlace& place) {
    if (reach_.live_copies[place.pack][place.copy]) return;
    reach_.live_copies[place.pack][place.copy] = true;
    marked_.push_back(place);
  }
  // Those of a pack live while something in it does.
  void MarkSketches() {
    for (size_t i = 0; i < reach_.live_copies.size(); ++i) {
      std::vector<bool>& live = reach_.live_copies[i];
      if (std::ranges::none_of(live, [](bool is_live) { return is_live; })) {
        continue;
      }
      const std::vector<Copy>& copies = inventory_.packs()[i].copies;
      for (size_t k = 0; k < copies.size(); ++k) {
        if (copies[k].is_sketches) live[k] = true;
      }
    }
  }

  const Inventory& inventory_;
  const std::set<size_t>& without_;
  Reach reach_;
  std::set<std::pair<Sha256Digest, uint8_t>> wanted_, seen_;
  std::vector<CopyPlace> marked_;
};

}  // namespace

const Copy* PackSummary::Find(const Sha256Digest& object) const {
  const auto found =
      std::ranges::lower_bound(copies, object, {}, &Copy::sha256);
  return found != copies.end() && found->sha256 == object ? &*found : nullptr;
}

bool PackSummary::IsDamaged(const Sha256Digest& object) const {
  return store::IsDamaged(damage, object);
}

std::optional<uint8_t> PackSummary::NeededDepth(
    const Sha256Digest& object) const {
  const auto found = std::ranges::lower_bound(
      needs, object, {}, &std::pair<Sha256Digest, uint8_t>::first);
  if (found == needs.end() || found->first != object) return std::nullopt;
  return found->second;
}

absl::StatusOr<Inventory> Inventory::Load(Repository& repository,
                                          std::vector<std::string>* problems) {
  Inventory inventory;
  RETURN_IF_ERROR(inventory.Reload(repository, problems));
  return inventory;
}

absl::Status Inventory::Reload(Repository& repository,
                               std::vector<std::string>* problems) {
  models_.clear();
  const auto references = repository.References();
  if (references.ok()) {
    for (const auto& [name, reference] : *references) {
      models_.push_back({name, reference});
    }
  } else if (problems == nullptr) {
    return references.status();
  } else {
    // One by one, so that a damaged one hides no other.
    ASSIGN_OR_RETURN(const std::vector<storage::Info> keys,
                     repository.storage().List(kReferencesPrefix));
    for (const storage::Info& info : keys) {
      const absl::StatusOr<ModelName> name = ModelNameOf(info.key);
      if (!name.ok()) continue;
      const auto found = repository.FindReference(*name);
      if (absl::IsNotFound(found.status())) continue;
      if (found.ok()) {
        models_.push_back({*name, found->first});
      } else {
        problems->push_back(std::string(found.status().message()));
      }
    }
  }

  RETURN_IF_ERROR(repository.Refresh().status());
  std::map<std::string, PackSummary> known;  // packs never change
  for (PackSummary& pack : packs_) known.emplace(pack.id, std::move(pack));
  packs_.clear();
  ASSIGN_OR_RETURN(std::vector<std::string> ids,
                   repository.catalogue().Packs());
  std::ranges::sort(ids);
  ASSIGN_OR_RETURN(const auto condemned,
                   ReadSmall(repository.storage(), kCondemnedPrefix));
  ASSIGN_OR_RETURN(const auto damaged, ReadDamage(repository.storage()));
  for (const std::string& id : ids) {
    PackSummary pack;
    if (const auto found = known.find(id); found != known.end()) {
      pack = std::move(found->second);
    } else {
      ASSIGN_OR_RETURN(const std::optional<PackRecord> record,
                       repository.catalogue().FindPack(id));
      if (!record.has_value()) continue;
      pack = Summary(*record);
    }
    const auto condemnation = condemned.find(id);
    pack.condemned = condemnation != condemned.end();
    pack.deleting = false;
    if (pack.condemned) {
      const auto parsed = ParseCondemnation(condemnation->second.bytes);
      pack.deleting =
          parsed.ok() && parsed->phase == Condemnation::Phase::kDeleting;
    }
    pack.damage = {};
    if (const auto found = damaged.find(id); found != damaged.end()) {
      pack.damage = found->second;
    }
    packs_.push_back(std::move(pack));
  }
  packs_with_.clear();
  for (size_t i = 0; i < packs_.size(); ++i) {
    for (const Copy& copy : packs_[i].copies) {
      packs_with_[copy.sha256].push_back(i);
    }
  }

  std::map<Sha256Digest, std::vector<Sha256Digest>> manifests;
  for (const Model& model : models_) {
    const Sha256Digest& digest = model.reference.manifest;
    if (manifests.contains(digest)) continue;
    if (const auto found = manifests_.find(digest);
        found != manifests_.end() && !found->second.empty()) {
      manifests.insert(manifests_.extract(found));
      continue;
    }
    const absl::StatusOr<Manifest> manifest = repository.ReadManifest(digest);
    std::vector<Sha256Digest>& objects = manifests[digest];
    if (manifest.ok()) {
      objects = ObjectsOf(*manifest);
      objects.push_back(digest);
    } else if (problems == nullptr) {
      return Annotate(manifest.status(), model.name.Text(), ": ");
    }
  }
  manifests_ = std::move(manifests);
  return absl::OkStatus();
}

const std::vector<Sha256Digest>& Inventory::ObjectsOfModel(
    const Sha256Digest& manifest) const {
  static const std::vector<Sha256Digest> kNone;
  const auto found = manifests_.find(manifest);
  return found == manifests_.end() ? kNone : found->second;
}

const std::vector<size_t>& Inventory::PacksWith(
    const Sha256Digest& object) const {
  static const std::vector<size_t> kNone;
  const auto found = packs_with_.find(object);
  return found == packs_with_.end() ? kNone : found->second;
}

std::optional<size_t> Inventory::FindPack(const std::string& id) const {
  const auto found = std::ranges::lower_bound(packs_, id, {}, &PackSummary::id);
  if (found == packs_.end() || found->id != id) return std::nullopt;
  return static_cast<size_t>(found - packs_.begin());
}

std::optional<CopyPlace> ChooseCopy(const Inventory& inventory,
                                    const Sha256Digest& object,
                                    uint8_t max_depth,
                                    const std::vector<bool>& live_packs) {
  return OneOf(BestCopies(inventory, object, max_depth, {}), live_packs);
}

Reach FindReach(const Inventory& inventory, const std::set<size_t>& kept,
                const std::set<size_t>& without) {
  return Finder(inventory, kept, without).Run();
}

}  // namespace zipllm::store
