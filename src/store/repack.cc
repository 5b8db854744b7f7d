#include "store/repack.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/range_source.h"
#include "container/format.h"
#include "store/pack_writer.h"

namespace zipllm::store {
namespace {

// No copy of an object need be less deep than it is for what stays.
constexpr uint8_t kUnbounded = 255;
// Plain bytes that go into one pack.
constexpr uint64_t kMaxPack = uint64_t{32} << 30;

// An object to be written, and how deep its copies may be.
struct Planned {
  uint8_t bound = kUnbounded;
  uint8_t old_depth = 0;
  uint64_t length = 0;
  std::set<Sha256Digest> sources;  // that it had
};

// What is to be written of which packs.
struct Plan {
  std::set<size_t> packs;  // of the inventory
  std::map<Sha256Digest, Planned> objects;

  // In so many packs, but for large ones.
  size_t Groups() const {
    std::set<uint8_t> bounds;
    for (const auto& [object, planned] : objects) bounds.insert(planned.bound);
    return bounds.size();
  }
};

Plan MakePlan(const Inventory& inventory, const Reach& reach,
              const std::set<size_t>& packs, int max_depth) {
  Plan plan;
  plan.packs = packs;
  // What cannot be read stays where it is, with all that is beside it.
  std::erase_if(plan.packs, [&](size_t i) {
    const PackSummary& pack = inventory.packs()[i];
    for (size_t k = 0; k < pack.copies.size(); ++k) {
      if (reach.live_copies[i][k] && pack.IsDamaged(pack.copies[k].sha256)) {
        return true;
      }
    }
    return !reach.live_packs[i];
  });
  const auto add = [&](const CopyPlace& place) -> Planned& {
    const Copy& copy = inventory.packs()[place.pack].copies[place.copy];
    Planned& planned = plan.objects[copy.sha256];
    planned.old_depth = copy.depth;
    planned.length = copy.length;
    planned.sources.insert(copy.sources.begin(), copy.sources.end());
    return planned;
  };
  std::set<Sha256Digest> named;
  for (const Inventory::Model& model : inventory.models()) {
    const auto& objects = inventory.ObjectsOfModel(model.reference.manifest);
    named.insert(objects.begin(), objects.end());
  }
  for (size_t i = 0; i < inventory.packs().size(); ++i) {
    const PackSummary& pack = inventory.packs()[i];
    for (size_t k = 0; k < pack.copies.size(); ++k) {
      // What is there only to decode others is not needed by their new copies.
      if (!reach.live_copies[i][k] || !named.contains(pack.copies[k].sha256)) {
        continue;
      }
      if (plan.packs.contains(i) || (pack.copies[k].depth > max_depth &&
                                     !pack.IsDamaged(pack.copies[k].sha256))) {
        add({i, k});
      }
    }
    // A pack that stays needs all that its references name.
    if (!reach.live_packs[i] || plan.packs.contains(i)) continue;
    for (const auto& [object, depth] : pack.needs) {
      const std::optional<CopyPlace> copy =
          ChooseCopy(inventory, object, depth, reach.live_packs);
      if (!copy.has_value() || !plan.packs.contains(copy->pack)) continue;
      Planned& planned = add(*copy);
      planned.bound = std::min(planned.bound, depth);
    }
  }
  return plan;
}

// Writes the objects of a plan.
class Writer {
 public:
  Writer(Repository& repository, const Inventory& inventory, const Plan& plan,
         const RepackOptions& options, RepackResult* result)
      : repository_(repository),
        inventory_(inventory),
        plan_(plan),
        options_(options),
        result_(result) {}

  absl::Status Run();

 private:
  absl::Status Describe();
  absl::Status DescribeOne(const Sha256Digest& object);
  absl::Status WriteGroup(uint8_t bound);
  absl::Status WriteOne(const std::vector<const NewObject*>& objects,
                        uint8_t bound);

  Repository& repository_;
  const Inventory& inventory_;
  const Plan& plan_;
  const RepackOptions& options_;
  RepackResult* const result_;
  // Of what is written and of what that may be coded against: as manifests say.
  std::map<Sha256Digest, NewObject> known_;
  std::vector<Sha256Digest> order_;
  std::set<Sha256Digest> written_;
  std::set<std::string> packs_;  // in which bases are looked for
};

absl::Status Writer::DescribeOne(const Sha256Digest& object) {
  if (known_.contains(object)) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::optional<ObjectRecord> record,
                   repository_.catalogue().Describe(object));
  if (!record.has_value()) return absl::OkStatus();
  known_[object] = ObjectOfRecord(*record);
  order_.push_back(object);
  return absl::OkStatus();
}

// Names, types and files as the models have them, and their order.
absl::Status Writer::Describe() {
  std::set<Sha256Digest> wanted;
  for (const auto& [object, planned] : plan_.objects) {
    wanted.insert(object);
    wanted.insert(planned.sources.begin(), planned.sources.end());
  }
  std::set<Sha256Digest> manifests;
  for (const Inventory::Model& model : inventory_.models()) {
    if (!manifests.insert(model.reference.manifest).second) continue;
    ASSIGN_OR_RETURN(const Manifest manifest,
                     repository_.ReadManifest(model.reference.manifest));
    for (const Manifest::File& file : manifest.files) {
      for (size_t i = 0; i < file.parts.size(); ++i) {
        const Sha256Digest& object = file.parts[i].object;
        if (!file.parts[i].literal.empty() || !wanted.contains(object) ||
            known_.contains(object)) {
          continue;
        }
        NewObject& made = known_[object];
        made.sha256 = object;
        made.segment = file.entry.layout.segments[i];
        made.segment.offset = 0;
        made.format = file.entry.layout.format;
        made.file = model.name.Text() + ":" + file.entry.path;
        order_.push_back(object);
      }
    }
  }
  for (const Sha256Digest& object : wanted) {
    RETURN_IF_ERROR(DescribeOne(object));
  }
  for (auto& [object, made] : known_) {
    made.open =
        [&repository = repository_, sha256 = object,
         length =
             made.segment.length]() -> absl::StatusOr<std::unique_ptr<Source>> {
      return OpenObject(repository, sha256, length);
    };
  }
  return absl::OkStatus();
}

absl::Status Writer::WriteOne(const std::vector<const NewObject*>& objects,
                              uint8_t bound) {
  PackOptions pack;
  pack.level = options_.level;
  pack.max_depth =
      std::min<int>(options_.max_depth, bound == kUnbounded ? 4 : bound);
  pack.packs = packs_;
  std::vector<NewObject> copies;
  std::set<Sha256Digest> bases;
  for (const NewObject* object : objects) {
    copies.push_back(*object);
    const Planned& planned = plan_.objects.at(object->sha256);
    bases.insert(planned.sources.begin(), planned.sources.end());
  }
  if (pack.max_depth > 0) {
    // What was written before stands nearest.
    bases.insert(written_.begin(), written_.end());
    for (const NewObject* object : objects) bases.erase(object->sha256);
    for (const Sha256Digest& base : order_) {
      if (!bases.contains(base)) continue;
      const NewObject& known = known_.at(base);
      pack.bases.push_back({base, known.segment, known.file});
    }
  } else if (options_.max_depth > 0) {
    // Of this pack alone they may be made of each other.
    pack.max_depth = 1;
  }
  ASSIGN_OR_RETURN(const PackRecord record,
                   WritePack(repository_, copies, pack));
  packs_.insert(record.id);
  for (const ObjectRecord& object : record.objects) {
    const auto planned = plan_.objects.find(object.sha256);
    if (planned == plan_.objects.end()) continue;
    written_.insert(object.sha256);
    ++result_->objects_rewritten;
    if (object.depth < planned->second.old_depth) ++result_->objects_rebased;
  }
  return absl::OkStatus();
}

absl::Status Writer::WriteGroup(uint8_t bound) {
  std::vector<const NewObject*> objects;
  uint64_t bytes = 0;
  for (const Sha256Digest& object : order_) {
    const auto planned = plan_.objects.find(object);
    if (planned == plan_.objects.end() || planned->second.bound != bound) {
      continue;
    }
    objects.push_back(&known_.at(object));
    bytes += planned->second.length;
    if (bytes < kMaxPack) continue;
    RETURN_IF_ERROR(WriteOne(objects, bound));
    objects.clear();
    bytes = 0;
  }
  return objects.empty() ? absl::OkStatus() : WriteOne(objects, bound);
}

absl::Status Writer::Run() {
  RETURN_IF_ERROR(Describe());
  ASSIGN_OR_RETURN(packs_, repository_.UsablePacks());
  for (const size_t pack : plan_.packs) {
    packs_.erase(inventory_.packs()[pack].id);
  }
  std::set<uint8_t> bounds;
  for (const auto& [object, planned] : plan_.objects) {
    bounds.insert(planned.bound);
  }
  for (const uint8_t bound : bounds) RETURN_IF_ERROR(WriteGroup(bound));
  return absl::OkStatus();
}

// Says that copies in these packs count last. Gc, which asks who may still
// build on them, does the rest.
absl::Status Condemn(Repository& repository, const Inventory& inventory,
                     const std::set<size_t>& packs, const Lease& lease) {
  RETURN_IF_ERROR(lease.CheckHeld());
  storage::Storage& storage = repository.storage();
  Condemnation condemnation;
  ASSIGN_OR_RETURN(condemnation.since_seconds, storage.NowSeconds());
  const std::string text = WriteCondemnation(condemnation);
  for (const size_t i : packs) {
    const absl::Status put = storage.PutIfMatch(
        CondemnedKey(inventory.packs()[i].id), AsBytes(text), "");
    if (!absl::IsAborted(put)) RETURN_IF_ERROR(put);
  }
  return storage.Sync();
}

absl::Status CheckNothingIsMissing(const Reach& reach) {
  if (reach.missing.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "object " + Hex(*reach.missing.begin()) +
      " is in no pack: nothing was written anew (zipllm store fsck tells what "
      "it hurts; repair or remove that)");
}

// What models need of a pack, and all that it has, in coded bytes.
struct Use {
  uint64_t live = 0, all = 0;
};
Use UseOf(const PackSummary& pack, const std::vector<bool>& live,
          int max_depth) {
  Use use;
  for (size_t k = 0; k < pack.copies.size(); ++k) {
    use.all += pack.copies[k].coded_bytes;
    // What is too deep is written anew in any case.
    if (live[k] && pack.copies[k].depth <= max_depth) {
      use.live += pack.copies[k].coded_bytes;
    }
  }
  return use;
}

void CountPacks(const Inventory& inventory, uint64_t* packs, uint64_t* bytes) {
  for (const PackSummary& pack : inventory.packs()) {
    if (pack.condemned) continue;
    ++*packs;
    *bytes += pack.bytes;
  }
}

}  // namespace

std::unique_ptr<Source> OpenObject(Repository& repository,
                                   const Sha256Digest& object,
                                   uint64_t length) {
  return MakeRangeSource(
      length, "object " + Hex(object),
      [&repository, object](uint64_t offset, MutableByteSpan out) {
        return repository.Read(object, offset, out);
      });
}

absl::Status RewritePacks(Repository& repository,
                          const std::set<std::string>& packs,
                          const RepackOptions& options, const Lease& lease,
                          Inventory* inventory, RepackResult* result) {
  const Reach reach = FindReach(*inventory);
  RETURN_IF_ERROR(CheckNothingIsMissing(reach));
  std::set<size_t> places;
  for (const std::string& id : packs) {
    const std::optional<size_t> place = inventory->FindPack(id);
    if (place.has_value()) places.insert(*place);
  }
  const Plan plan = MakePlan(*inventory, reach, places, options.max_depth);
  if (plan.objects.empty()) return absl::OkStatus();
  std::set<std::string> old;
  for (const size_t i : plan.packs) old.insert(inventory->packs()[i].id);
  RETURN_IF_ERROR(Writer(repository, *inventory, plan, options, result).Run());

  // What others have built on meanwhile keeps its packs.
  RETURN_IF_ERROR(inventory->Reload(repository));
  std::set<size_t> without;
  for (const std::string& id : old) {
    const std::optional<size_t> place = inventory->FindPack(id);
    if (place.has_value()) without.insert(*place);
  }
  while (!without.empty()) {
    const Reach left = FindReach(*inventory, {}, without);
    const size_t before = without.size();
    for (const Sha256Digest& object : left.missing) {
      for (const size_t pack : inventory->PacksWith(object)) {
        without.erase(pack);
      }
    }
    if (without.size() != before) continue;
    // Missing altogether: nothing of this is known well enough.
    RETURN_IF_ERROR(CheckNothingIsMissing(left));
    break;
  }
  RETURN_IF_ERROR(Condemn(repository, *inventory, without, lease));
  return inventory->Reload(repository);
}

absl::StatusOr<RepackResult> Repack(Repository& repository,
                                    const RepackOptions& options) {
  if (options.level < kMinLevel || options.level > kMaxLevel ||
      options.max_depth < 0 || options.max_depth > container::kMaxDepth ||
      !(options.max_dead >= 0 && options.max_dead <= 1)) {
    return InvalidArgument(
        "level ", options.level, ", depth ", options.max_depth,
        " and dead part ", options.max_dead, " must be ", kMinLevel, " to ",
        kMaxLevel, ", 0 to ", int{container::kMaxDepth}, " and 0 to 1");
  }
  ASSIGN_OR_RETURN(const std::shared_ptr<Lease> lease,
                   repository.leases().TakeExclusive("repack"));
  ASSIGN_OR_RETURN(Inventory inventory, Inventory::Load(repository));
  const Reach reach = FindReach(inventory);
  RETURN_IF_ERROR(CheckNothingIsMissing(reach));
  RepackResult result;
  CountPacks(inventory, &result.packs_before, &result.bytes_before);

  std::set<size_t> poor, small;
  for (size_t i = 0; i < inventory.packs().size(); ++i) {
    const PackSummary& pack = inventory.packs()[i];
    if (!reach.live_packs[i] || pack.condemned) continue;
    const Use use = UseOf(pack, reach.live_copies[i], options.max_depth);
    const auto dead = static_cast<double>(use.all - use.live);
    if (dead > options.max_dead * static_cast<double>(use.all) ||
        pack.damage.all || !pack.damage.objects.empty()) {
      poor.insert(i);
    } else if (pack.bytes < options.min_pack_bytes) {
      small.insert(i);
    }
  }
  // Merged only if there are fewer then.
  std::set<size_t> both = poor;
  both.insert(small.begin(), small.end());
  const auto groups = [&](const std::set<size_t>& packs) {
    return MakePlan(inventory, reach, packs, options.max_depth).Groups();
  };
  if (small.size() > 1 || !poor.empty()) {
    if (groups(both) < groups(poor) + small.size()) poor = std::move(both);
  }
  std::set<std::string> ids;
  for (const size_t i : poor) ids.insert(inventory.packs()[i].id);
  RETURN_IF_ERROR(
      RewritePacks(repository, ids, options, *lease, &inventory, &result));
  CountPacks(inventory, &result.packs_after, &result.bytes_after);
  return result;
}

}  // namespace zipllm::store
