// Store::Stats: where the bytes of the models went, from the catalogue.
#include <algorithm>
#include <map>
#include <numeric>
#include <optional>
#include <utility>

#include "store/reach.h"
#include "store/repository.h"

namespace zipllm::store {
namespace {

using Savings = StoreStats::Savings;

void Add(const Savings& more, Savings* sum) {
  sum->plain_bytes += more.plain_bytes;
  sum->deduplicated += more.deduplicated;
  sum->delta += more.delta;
  sum->derived += more.derived;
  sum->entropy += more.entropy;
  sum->stored_bytes += more.stored_bytes;
}

class Statistics {
 public:
  explicit Statistics(Repository& repository) : repository_(repository) {}
  absl::StatusOr<StoreStats> Run();

 private:
  // An object is of the oldest model that has it; of those of one second, of
  // one that lies in the same pack, which an add wrote.
  struct Owner {
    size_t model;
    std::optional<CopyPlace> place;  // of the object
  };

  absl::Status AddModels();
  absl::Status AddModel(size_t model);
  // Where the bytes of an object went that `model` is the first to have.
  void AddObject(size_t model, const CopyPlace& place);
  void AddFamilies();
  void AddPacks();

  Repository& repository_;
  Inventory inventory_;
  Reach reach_;
  StoreStats stats_;
  std::map<Sha256Digest, Owner> owners_;
  // Plain bytes of a model that are coded against each other model.
  std::vector<std::map<size_t, uint64_t>> bases_;
};

absl::Status Statistics::AddModels() {
  const std::vector<Inventory::Model>& models = inventory_.models();
  std::vector<size_t> by_age(models.size());
  std::iota(by_age.begin(), by_age.end(), size_t{0});
  std::ranges::stable_sort(by_age, {}, [&](size_t i) {
    return models[i].reference.created_seconds;
  });
  bases_.resize(models.size());
  for (const Inventory::Model& model : models) {
    StoreStats::Model& made = stats_.models.emplace_back();
    made.info = {model.name, model.reference.manifest,
                 model.reference.created_seconds, model.reference.files,
                 model.reference.plain_bytes};
  }
  for (const size_t model : by_age) RETURN_IF_ERROR(AddModel(model));
  for (const auto& [object, owner] : owners_) {
    if (owner.place.has_value()) AddObject(owner.model, *owner.place);
  }
  return absl::OkStatus();
}

absl::Status Statistics::AddModel(size_t model) {
  const std::vector<Inventory::Model>& models = inventory_.models();
  const Sha256Digest& digest = models[model].reference.manifest;
  const absl::StatusOr<Manifest> manifest = repository_.ReadManifest(digest);
  if (!manifest.ok()) {
    if (repository_.options().warning) {
      repository_.options().warning(StrCat(
          stats_.models[model].info.name.Text(),
          " is not counted: ", std::string(manifest.status().message())));
    }
    return absl::OkStatus();
  }
  const auto pack_of = [&](size_t i) {
    const std::optional<CopyPlace> place = ChooseCopy(
        inventory_, models[i].reference.manifest, 255, reach_.live_packs);
    return place.has_value() ? std::optional(place->pack) : std::nullopt;
  };
  const auto pack = pack_of(model);
  const auto add = [&](const Sha256Digest& object, uint64_t length) {
    stats_.models[model].savings.plain_bytes += length;
    const auto [found, is_new] = owners_.try_emplace(object, Owner{model, {}});
    Owner& owner = found->second;
    if (is_new) {
      owner.place = ChooseCopy(inventory_, object, 255, reach_.live_packs);
      return;
    }
    size_t other = model;
    if (owner.place.has_value() && owner.place->pack == pack &&
        models[owner.model].reference.created_seconds ==
            models[model].reference.created_seconds &&
        pack_of(owner.model) != pack) {
      std::swap(owner.model, other);
    }
    stats_.models[other].savings.deduplicated += length;
  };
  for (const Manifest::File& file : manifest->files) {
    for (size_t i = 0; i < file.parts.size(); ++i) {
      const uint64_t length = file.entry.layout.segments[i].length;
      if (file.parts[i].literal.empty()) add(file.parts[i].object, length);
    }
  }
  add(digest, models[model].reference.manifest_length);
  return absl::OkStatus();
}

void Statistics::AddObject(size_t model, const CopyPlace& place) {
  const Copy& copy = inventory_.packs()[place.pack].copies[place.copy];
  Savings& savings = stats_.models[model].savings;
  savings.delta += copy.saved_delta;
  savings.derived += copy.saved_derived;
  savings.stored_bytes += copy.coded_bytes;
  // What is left: heads of frames, which are none of blocks, are counted too.
  const uint64_t others =
      copy.saved_delta + copy.saved_derived + copy.coded_bytes;
  if (others < copy.length) savings.entropy += copy.length - others;
  // Where it is coded against several models, of the first.
  for (const Sha256Digest& source : copy.sources) {
    const auto owner = owners_.find(source);
    if (owner == owners_.end() || owner->second.model == model) continue;
    bases_[model][owner->second.model] += copy.length;
    break;
  }
}

void Statistics::AddFamilies() {
  const size_t count = stats_.models.size();
  std::vector<size_t> parent(count);
  std::iota(parent.begin(), parent.end(), size_t{0});
  const auto root_of = [&](size_t i) {
    while (parent[i] != i) i = parent[i] = parent[parent[i]];
    return i;
  };
  std::vector<uint64_t> based_on(count);  // bytes of others, against it
  for (size_t i = 0; i < count; ++i) {
    for (const auto& [base, bytes] : bases_[i]) {
      stats_.models[i].bases.emplace_back(stats_.models[base].info.name, bytes);
      based_on[base] += bytes;
      parent[root_of(i)] = root_of(base);
    }
    std::ranges::stable_sort(stats_.models[i].bases, std::ranges::greater(),
                             [](const auto& base) { return base.second; });
  }
  std::map<size_t, size_t> families;  // by root of the set
  std::vector<size_t> best;           // the model that names each
  for (size_t i = 0; i < count; ++i) {
    const auto [found, is_new] =
        families.emplace(root_of(i), stats_.families.size());
    if (is_new) {
      stats_.families.emplace_back();
      best.push_back(i);
    }
    const size_t family = found->second;
    stats_.models[i].family = family;
    stats_.families[family].models.push_back(i);
    Add(stats_.models[i].savings, &stats_.families[family].savings);
    // One that is coded against no other, then that with the most on it, then
    // the oldest.
    const auto rank = [&](size_t model) {
      return std::tuple(!bases_[model].empty(), UINT64_MAX - based_on[model],
                        stats_.models[model].info.created_seconds);
    };
    if (rank(i) < rank(best[family])) best[family] = i;
  }
  for (size_t i = 0; i < stats_.families.size(); ++i) {
    stats_.families[i].root = stats_.models[best[i]].info.name;
    Add(stats_.families[i].savings, &stats_.total);
  }
}

void Statistics::AddPacks() {
  const std::vector<PackSummary>& packs = inventory_.packs();
  stats_.packs = packs.size();
  for (size_t i = 0; i < packs.size(); ++i) {
    stats_.pack_bytes += packs[i].bytes;
    if (!reach_.live_packs[i]) {
      stats_.dead_bytes += packs[i].bytes;
      continue;
    }
    for (size_t k = 0; k < packs[i].copies.size(); ++k) {
      if (reach_.live_copies[i][k]) {
        ++stats_.objects;
      } else {
        stats_.dead_bytes += packs[i].copies[k].coded_bytes;
      }
    }
  }
}

absl::StatusOr<StoreStats> Statistics::Run() {
  // While it is held, nothing goes that is counted. Who may not write counts
  // without.
  const absl::StatusOr<std::shared_ptr<Lease>> lease =
      repository_.leases().Take("read");
  if (!absl::IsPermissionDenied(lease.status())) {
    RETURN_IF_ERROR(lease.status());
  }
  std::vector<std::string> problems;
  ASSIGN_OR_RETURN(inventory_, Inventory::Load(repository_, &problems));
  if (repository_.options().warning) {
    for (const std::string& problem : problems) {
      repository_.options().warning(problem);
    }
  }
  reach_ = FindReach(inventory_);
  RETURN_IF_ERROR(AddModels());
  AddFamilies();
  AddPacks();
  ASSIGN_OR_RETURN(stats_.catalogue_bytes, repository_.catalogue().Bytes());
  return std::move(stats_);
}

}  // namespace

absl::StatusOr<StoreStats> Stats(Repository& repository) {
  return Statistics(repository).Run();
}

}  // namespace zipllm::store
