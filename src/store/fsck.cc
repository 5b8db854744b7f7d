// Store::Fsck: whether a store is what it says, whom damage hurts, and repairs.
#include <algorithm>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <utility>

#include "archive/salvage.h"
#include "base/executor.h"
#include "base/hash.h"
#include "store/good_copies.h"
#include "store/pack_writer.h"
#include "store/reach.h"
#include "store/repack.h"
#include "store/repository.h"
#include "store/verify.h"

namespace zipllm::store {
namespace {

using BadObject = FsckResult::BadObject;

// Of one pack that are told.
constexpr size_t kMaxProblems = 8;

class Check {
 public:
  Check(Repository& repository, const FsckOptions& options)
      : repository_(repository), options_(options) {}

  absl::StatusOr<FsckResult> Run();

 private:
  using Bad = std::map<std::pair<std::string, Sha256Digest>, std::string>;

  absl::Status CheckCatalogue();
  absl::Status CheckKeys();
  absl::Status CheckLeases();
  absl::Status CheckModels();
  absl::Status CheckPacks();
  absl::Status CheckPack(const PackSummary& pack);
  // That the catalogue says what the pack does.
  absl::Status CheckRecord(const PackSummary& pack);
  absl::Status ReadObjects();
  // Objects that models need and that are nowhere.
  void AddMissing();
  void FindUsers();
  // The objects that cannot be read since the copy of `bad` cannot.
  std::set<Sha256Digest> HurtBy(const std::string& pack,
                                const Sha256Digest& object);
  void AddUsersOf(const std::set<Sha256Digest>& hurt, BadObject* bad);
  // Whether another copy serves all that need the object.
  bool IsServed(const Sha256Digest& object) const;
  // Whether a bad copy may be as good as ever: an object of another pack that
  // it is made of is not there.
  bool IsOnlyHurt(const std::string& pack, const Sha256Digest& object) const;
  absl::Status StoreAnew(bool* changed);
  void ReadAgain();
  absl::Status Repair(const Lease& lease);
  absl::Status Mark();
  void Finish();

  bool IsBad(size_t pack, const Sha256Digest& object) const {
    return bad_.contains({inventory_.packs()[pack].id, object});
  }
  template <typename... Parts>
  void Problem(const Parts&... parts) {
    result_.problems.push_back(StrCat(parts...));
  }
  template <typename... Parts>
  void Repaired(const Parts&... parts) {
    result_.repairs.push_back(StrCat(parts...));
  }

  Repository& repository_;
  const FsckOptions& options_;
  FsckResult result_;
  bool writable_ = true;
  Inventory inventory_;
  Reach reach_;
  std::map<Sha256Digest, Manifest> manifests_;
  std::vector<std::pair<Sha256Digest, std::string>> unread_;  // manifests
  std::map<Sha256Digest, uint64_t> lengths_;  // of what models need
  std::map<std::string, std::vector<std::string>> pack_problems_;
  Bad bad_;
  std::set<Sha256Digest> restored_;
  std::set<std::pair<size_t, Sha256Digest>> good_;  // were read
  // Places of copies that are coded against an object.
  std::multimap<Sha256Digest, CopyPlace> coded_against_;
};

absl::Status Check::CheckCatalogue() {
  Catalogue& catalogue = repository_.catalogue();
  const absl::Status status = catalogue.Check();
  if (!status.ok() && !absl::IsDataLoss(status)) return status;
  if (!status.ok() || options_.rebuild) {
    RETURN_IF_ERROR(catalogue.Reset());
    ASSIGN_OR_RETURN(const uint64_t packs, repository_.Refresh());
    Repaired("the catalogue was made anew from ", packs, " packs",
             status.ok() ? "" : ": ", std::string(status.message()));
  }
  return absl::OkStatus();
}

absl::Status Check::CheckKeys() {
  ASSIGN_OR_RETURN(const std::vector<storage::Info> keys,
                   repository_.storage().List(""));
  std::set<std::string> known;
  for (const PackSummary& pack : inventory_.packs()) known.insert(pack.id);
  const auto begins = [](const std::string& key, const std::string& prefix) {
    return key.compare(0, prefix.size(), prefix) == 0;
  };
  for (const auto& [key, size, modified] : keys) {
    if (key == kHeaderKey || begins(key, kCatalogueFile) ||
        begins(key, kLeasesPrefix)) {
      continue;
    }
    if (begins(key, kPacksPrefix) && !PackIdOf(key).empty()) {
      ++result_.packs;
      if (!known.contains(PackIdOf(key))) {
        const absl::Status read = repository_.ReadPack(PackIdOf(key)).status();
        // It was added since, or gc was here.
        if (read.ok() || absl::IsNotFound(read)) continue;
        Problem("pack ", PackIdOf(key),
                " cannot be read at all: ", std::string(read.message()));
      }
      continue;
    }
    if (begins(key, kReferencesPrefix) && ModelNameOf(key).ok()) continue;
    for (const std::string prefix : {kCondemnedPrefix, kDamagedPrefix}) {
      if (!begins(key, prefix)) continue;
      const std::string id = key.substr(prefix.size());
      if (PackIdOf(PackKey(id)) != id) break;
      const absl::StatusOr<storage::Value> value =
          repository_.storage().Get(key, kMaxSmallValue);
      if (!value.ok()) {
        if (!absl::IsNotFound(value.status())) return value.status();
      } else if (const absl::Status parsed =
                     prefix == kCondemnedPrefix
                         ? ParseCondemnation(value->bytes).status()
                         : ParseDamage(value->bytes).status();
                 !parsed.ok()) {
        Problem(key, ": ", std::string(parsed.message()));
      }
      known.insert(key);
    }
    if (!known.contains(key)) {
      Problem(key, " is none of a store's: something else wrote it");
    }
  }
  return absl::OkStatus();
}

absl::Status Check::CheckLeases() {
  if (!writable_) return absl::OkStatus();
  ASSIGN_OR_RETURN(const uint64_t stale, repository_.leases().RemoveStale());
  if (stale != 0) {
    Repaired(stale, " leases of processes that are gone were removed");
  }
  return absl::OkStatus();
}

absl::Status Check::CheckModels() {
  result_.models = inventory_.models().size();
  for (const Inventory::Model& model : inventory_.models()) {
    const Sha256Digest& digest = model.reference.manifest;
    lengths_.emplace(digest, model.reference.manifest_length);
    auto found = manifests_.find(digest);
    if (found == manifests_.end()) {
      absl::StatusOr<Manifest> manifest = repository_.ReadManifest(digest);
      if (!manifest.ok()) {
        unread_.emplace_back(digest,
                             StrCat("the manifest of ", model.name.Text(), ": ",
                                    std::string(manifest.status().message())));
        continue;
      }
      found = manifests_.emplace(digest, *std::move(manifest)).first;
    }
    uint64_t files = 0, bytes = 0;
    for (const Manifest::File& file : found->second.files) {
      if (file.entry.kind != EntryKind::kFile) continue;
      ++files;
      bytes += file.entry.size;
      for (size_t i = 0; i < file.parts.size(); ++i) {
        const Sha256Digest& object = file.parts[i].object;
        const Segment& segment = file.entry.layout.segments[i];
        if (!file.parts[i].literal.empty()) continue;
        lengths_.emplace(object, segment.length);
        for (const size_t pack : inventory_.PacksWith(object)) {
          const Copy* copy = inventory_.packs()[pack].Find(object);
          if (copy->length == segment.length) continue;
          Problem(model.name.Text(), ", ", file.entry.path, ": object ",
                  Hex(object), " has ", copy->length, " bytes in pack ",
                  inventory_.packs()[pack].id, ", not ", segment.length);
        }
      }
    }
    if (files != model.reference.files ||
        bytes != model.reference.plain_bytes) {
      Problem("reference ", model.name.Text(), " says ", model.reference.files,
              " files of ", model.reference.plain_bytes,
              " bytes, its manifest ", files, " of ", bytes);
    }
    if (!writable_) continue;
    ASSIGN_OR_RETURN(const bool known,
                     repository_.catalogue().HasManifest(digest));
    if (known) continue;
    RETURN_IF_ERROR(
        repository_.catalogue().AddManifest(digest, ObjectsOf(found->second)));
    Repaired("the catalogue was told what ", model.name.Text(), " is made of");
  }
  return absl::OkStatus();
}

absl::Status Check::CheckPack(const PackSummary& pack) {
  const auto all_bad = [&](const absl::Status& status) {
    pack_problems_[pack.id].push_back(std::string(status.message()));
    for (const Copy& copy : pack.copies) {
      bad_[{pack.id, copy.sha256}] = "its pack cannot be read";
    }
    return absl::OkStatus();
  };
  const absl::StatusOr<std::unique_ptr<Source>> source =
      repository_.storage().Open(PackKey(pack.id));
  if (!source.ok()) return all_bad(source.status());
  DecompressOptions options;
  options.max_memory = repository_.options().max_memory;
  const absl::StatusOr<archive::Salvaged> found =
      archive::Salvage(**source, options);
  if (!found.ok()) return all_bad(found.status());
  for (size_t i = 0; i < std::min(found->problems.size(), kMaxProblems); ++i) {
    pack_problems_[pack.id].push_back(found->problems[i]);
  }
  std::set<Sha256Digest> whole;
  for (const container::IndexEntry& indexed : found->entries) {
    const auto object = ObjectOfEntry(indexed.entry.path);
    if (object.has_value() && *object == indexed.entry.sha256) {
      whole.insert(*object);
    } else if (object.has_value()) {
      pack_problems_[pack.id].push_back(indexed.entry.path +
                                        " has another SHA-256");
    }
  }
  for (const std::string& path : found->not_whole) {
    const auto object = ObjectOfEntry(path);
    if (object.has_value()) whole.erase(*object);
  }
  for (const Copy& copy : pack.copies) {
    if (!whole.contains(copy.sha256)) {
      bad_[{pack.id, copy.sha256}] = "frames of it are damaged or missing";
    }
  }
  return CheckRecord(pack);
}

absl::Status Check::CheckRecord(const PackSummary& pack) {
  if (!writable_) return absl::OkStatus();
  const absl::StatusOr<PackRecord> record = repository_.ReadPack(pack.id);
  if (!record.ok()) {
    pack_problems_[pack.id].push_back(std::string(record.status().message()));
    return absl::OkStatus();
  }
  auto needs = record->needs;
  std::ranges::sort(needs);
  bool same = needs == pack.needs && record->bytes == pack.bytes &&
              record->objects.size() == pack.copies.size();
  for (const ObjectRecord& object : record->objects) {
    const Copy* copy = pack.Find(object.sha256);
    same = same && copy != nullptr && copy->length == object.length &&
           copy->coded_bytes == object.coded_bytes &&
           copy->depth == object.depth && copy->sources == object.sources;
  }
  if (same) return absl::OkStatus();
  // A damaged pack has less now: others serve, where they can.
  RETURN_IF_ERROR(repository_.catalogue().AddPack(*record));
  Repaired("the catalogue was told what is in pack ", pack.id);
  return absl::OkStatus();
}

absl::Status Check::CheckPacks() {
  for (size_t i = 0; i < inventory_.packs().size(); ++i) {
    const PackSummary& pack = inventory_.packs()[i];
    // On its way out, and perhaps without what it needs.
    if (pack.condemned && !reach_.live_packs[i]) continue;
    RETURN_IF_ERROR(CheckPack(pack));
    result_.objects += pack.copies.size();
  }
  return absl::OkStatus();
}

absl::Status Check::ReadObjects() {
  std::vector<CopyPlace> places;
  Progress progress;
  std::mt19937_64 random{std::random_device()()};
  std::uniform_real_distribution<double> draw(0, 1);
  for (size_t i = 0; i < inventory_.packs().size(); ++i) {
    const PackSummary& pack = inventory_.packs()[i];
    if (pack.condemned && !reach_.live_packs[i]) continue;
    for (size_t k = 0; k < pack.copies.size(); ++k) {
      if (IsBad(i, pack.copies[k].sha256)) continue;
      if (options_.sample < 1 && draw(random) >= options_.sample) continue;
      places.push_back({i, k});
      progress.bytes_total += pack.copies[k].length;
    }
  }
  std::mutex mutex;
  Executor executor(ThreadCount(repository_.options().threads));
  return ForEach(
      executor, places.size(),
      [&](size_t n) -> absl::Status {
        const PackSummary& pack = inventory_.packs()[places[n].pack];
        const Copy& copy = pack.copies[places[n].copy];
        const absl::Status status =
            VerifyCopy(repository_, pack.id, copy.sha256);
        std::lock_guard lock(mutex);
        progress.bytes_done += copy.length;
        progress.current = "pack " + pack.id;
        ++result_.objects_read;
        result_.bytes_read += copy.length;
        if (status.ok()) {
          good_.emplace(places[n].pack, copy.sha256);
        } else if (absl::IsDataLoss(status) || absl::IsNotFound(status) ||
                   absl::IsUnavailable(status)) {
          // What a disk cannot read is as bad as what it reads wrong.
          bad_[{pack.id, copy.sha256}] = std::string(status.message());
        } else {
          return status;
        }
        return absl::OkStatus();
      },
      [&] {
        std::lock_guard lock(mutex);
        const auto& report = repository_.options().progress;
        if (report && !report(progress)) {
          return absl::CancelledError("interrupted");
        }
        return absl::OkStatus();
      });
}

void Check::AddMissing() {
  for (const Sha256Digest& object : reach_.missing) {
    bad_.try_emplace({"", object}, "it is in no pack of the store");
  }
  // A manifest that cannot be read is not followed by Reach.
  for (const Inventory::Model& model : inventory_.models()) {
    const Sha256Digest& digest = model.reference.manifest;
    if (inventory_.PacksWith(digest).empty()) {
      bad_.try_emplace({"", digest}, "it is in no pack of the store");
    }
  }
}

bool Check::IsServed(const Sha256Digest& object) const {
  uint8_t bound = 255;
  for (size_t i = 0; i < inventory_.packs().size(); ++i) {
    if (!reach_.live_packs[i]) continue;
    const auto depth = inventory_.packs()[i].NeededDepth(object);
    if (depth.has_value()) bound = std::min(bound, *depth);
  }
  return std::ranges::any_of(inventory_.PacksWith(object), [&](size_t pack) {
    return !IsBad(pack, object) &&
           inventory_.packs()[pack].Find(object)->depth <= bound;
  });
}

std::set<Sha256Digest> Check::HurtBy(const std::string& pack_id,
                                     const Sha256Digest& object) {
  // Copies that are bad, or are made of what is.
  std::set<CopyPlace> hurt;
  std::vector<CopyPlace> next;
  std::set<Sha256Digest> objects;  // of which no copy is left
  const auto lose = [&](const Sha256Digest& lost) {
    const auto& packs = inventory_.PacksWith(lost);
    const bool is_left = std::ranges::any_of(packs, [&](size_t i) {
      const PackSummary& pack = inventory_.packs()[i];
      const CopyPlace place = {
          i, static_cast<size_t>(pack.Find(lost) - pack.copies.data())};
      return !IsBad(i, lost) && !hurt.contains(place);
    });
    return !is_left && objects.insert(lost).second;
  };
  if (const auto place = inventory_.FindPack(pack_id); place.has_value()) {
    const PackSummary& pack = inventory_.packs()[*place];
    const CopyPlace copy = {
        *place, static_cast<size_t>(pack.Find(object) - pack.copies.data())};
    hurt.insert(copy);
    next.push_back(copy);
  }
  std::vector<Sha256Digest> lost;
  if (lose(object)) lost.push_back(object);
  const auto spread = [&](const Sha256Digest& source,
                          std::optional<size_t> inside) {
    const auto [begin, end] = coded_against_.equal_range(source);
    for (auto it = begin; it != end; ++it) {
      const CopyPlace& place = it->second;
      const PackSummary& pack = inventory_.packs()[place.pack];
      const Sha256Digest& made = pack.copies[place.copy].sha256;
      // Blocks of the same pack, or any copy of what is outside.
      const bool is_inside = pack.Find(source) != nullptr;
      if (inside.has_value() ? !is_inside || place.pack != *inside
                             : is_inside) {
        continue;
      }
      if (good_.contains({place.pack, made}) || !hurt.insert(place).second) {
        continue;
      }
      next.push_back(place);
      if (lose(made)) lost.push_back(made);
    }
  };
  while (!next.empty() || !lost.empty()) {
    if (!lost.empty()) {
      const Sha256Digest source = lost.back();
      lost.pop_back();
      spread(source, std::nullopt);
      continue;
    }
    const CopyPlace place = next.back();
    next.pop_back();
    spread(inventory_.packs()[place.pack].copies[place.copy].sha256,
           place.pack);
  }
  return objects;
}

void Check::AddUsersOf(const std::set<Sha256Digest>& hurt, BadObject* bad) {
  for (const Inventory::Model& model : inventory_.models()) {
    const Sha256Digest& digest = model.reference.manifest;
    if (hurt.contains(digest)) {
      bad->users.push_back({model.name, "", ""});  // all of it
      continue;
    }
    const auto manifest = manifests_.find(digest);
    if (manifest == manifests_.end()) continue;
    for (const Manifest::File& file : manifest->second.files) {
      for (size_t i = 0; i < file.parts.size(); ++i) {
        if (!file.parts[i].literal.empty() ||
            !hurt.contains(file.parts[i].object)) {
          continue;
        }
        bad->users.push_back(
            {model.name, file.entry.path, file.entry.layout.segments[i].name});
      }
    }
  }
}

void Check::FindUsers() {
  if (bad_.empty()) return;
  for (size_t i = 0; i < inventory_.packs().size(); ++i) {
    const std::vector<Copy>& copies = inventory_.packs()[i].copies;
    for (size_t k = 0; k < copies.size(); ++k) {
      for (const Sha256Digest& source : copies[k].sources) {
        coded_against_.emplace(source, CopyPlace{i, k});
      }
    }
  }
  for (const auto& [where, error] : bad_) {
    BadObject& bad = result_.bad_objects.emplace_back();
    bad.pack = where.first;
    bad.sha256 = where.second;
    bad.error = error;
    AddUsersOf(HurtBy(where.first, where.second), &bad);
    bad.repaired = IsServed(where.second);
  }
}

absl::Status Check::Mark() {
  if (!writable_) return absl::OkStatus();
  const bool all_read = !options_.fast && options_.sample >= 1;
  for (size_t i = 0; i < inventory_.packs().size(); ++i) {
    const PackSummary& pack = inventory_.packs()[i];
    if (pack.condemned && !reach_.live_packs[i]) continue;
    std::vector<Sha256Digest> objects;
    for (const Copy& copy : pack.copies) {
      if (IsBad(i, copy.sha256) && !IsOnlyHurt(pack.id, copy.sha256)) {
        objects.push_back(copy.sha256);
      }
    }
    if (objects.empty() && !all_read) continue;
    RETURN_IF_ERROR(MarkDamaged(repository_, pack.id, objects, all_read));
  }
  return repository_.storage().Sync();
}

bool Check::IsOnlyHurt(const std::string& pack_id,
                       const Sha256Digest& object) const {
  const std::optional<size_t> place = inventory_.FindPack(pack_id);
  if (!place.has_value()) return false;
  const PackSummary& pack = inventory_.packs()[*place];
  std::set<Sha256Digest> seen = {object};
  std::vector<Sha256Digest> next = {object};
  while (!next.empty()) {
    const Copy* copy = pack.Find(next.back());
    next.pop_back();
    for (const Sha256Digest& source : copy->sources) {
      if (pack.Find(source) != nullptr) {
        if (seen.insert(source).second) next.push_back(source);
        continue;
      }
      const uint8_t depth = pack.NeededDepth(source).value_or(255);
      const bool is_there =
          restored_.contains(source) ||
          std::ranges::any_of(inventory_.PacksWith(source), [&](size_t i) {
            return !IsBad(i, source) &&
                   inventory_.packs()[i].Find(source)->depth <= depth;
          });
      if (!is_there) return true;
    }
  }
  return false;
}

absl::Status Check::StoreAnew(bool* changed) {
  std::map<Sha256Digest, uint64_t> wanted;
  for (const BadObject& bad : result_.bad_objects) {
    if (bad.repaired || IsOnlyHurt(bad.pack, bad.sha256)) continue;
    const auto length = lengths_.find(bad.sha256);
    uint64_t bytes = length == lengths_.end() ? 0 : length->second;
    for (const size_t pack : inventory_.PacksWith(bad.sha256)) {
      bytes = inventory_.packs()[pack].Find(bad.sha256)->length;
    }
    if (bytes != 0) wanted.emplace(bad.sha256, bytes);
  }
  std::vector<NewObject> found;
  for (const std::string& path : options_.from) {
    if (wanted.empty()) break;
    absl::StatusOr<std::vector<NewObject>> there =
        FindGoodCopies(path, wanted, repository_.options());
    RETURN_IF_ERROR(there.status());
    for (NewObject& object : *there) {
      wanted.erase(object.sha256);
      found.push_back(std::move(object));
    }
  }
  *changed = !found.empty();
  if (found.empty()) return absl::OkStatus();
  // Against nothing outside, so that it serves whatever needed the bad one.
  PackOptions pack;
  pack.max_depth = 1;
  ASSIGN_OR_RETURN(const PackRecord record,
                   WritePack(repository_, found, pack));
  Repaired(found.size(), " objects were stored anew in pack ", record.id);
  for (const NewObject& object : found) restored_.insert(object.sha256);
  for (BadObject& bad : result_.bad_objects) {
    bad.repaired |= restored_.contains(bad.sha256);
  }
  return absl::OkStatus();
}

void Check::ReadAgain() {
  for (BadObject& bad : result_.bad_objects) {
    if (bad.repaired || bad.pack.empty() || IsOnlyHurt(bad.pack, bad.sha256)) {
      continue;
    }
    const absl::Status status = VerifyCopy(repository_, bad.pack, bad.sha256);
    if (!status.ok()) continue;
    bad.repaired = true;
    bad_.erase({bad.pack, bad.sha256});
  }
}

absl::Status Check::Repair(const Lease& lease) {
  if (options_.from.empty()) return absl::OkStatus();
  // Bases first: what was only made of them is good again then.
  for (bool changed = true; changed;) {
    RETURN_IF_ERROR(StoreAnew(&changed));
    if (changed) ReadAgain();
  }
  RETURN_IF_ERROR(Mark());
  // Damaged packs are written anew without what is bad in them.
  std::set<std::string> packs;
  for (const auto& [where, error] : bad_) {
    if (!where.first.empty()) packs.insert(where.first);
  }
  for (const auto& [pack, problems] : pack_problems_) packs.insert(pack);
  Inventory inventory;
  RETURN_IF_ERROR(inventory.Reload(repository_));
  RepackResult result;
  const absl::Status rewritten = RewritePacks(
      repository_, packs, RepackOptions(), lease, &inventory, &result);
  if (absl::IsFailedPrecondition(rewritten)) {
    Problem("damaged packs stay as they are: ",
            std::string(rewritten.message()));
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(rewritten);
  for (const std::string& id : packs) {
    const std::optional<size_t> place = inventory.FindPack(id);
    if (place.has_value() && !inventory.packs()[*place].condemned) continue;
    std::string text = "pack " + id + " is not needed any more: gc deletes it";
    for (const std::string& problem : pack_problems_[id]) {
      text += "; " + problem;
    }
    Repaired(text);
    pack_problems_.erase(id);
  }
  return absl::OkStatus();
}

void Check::Finish() {
  for (const auto& [pack, problems] : pack_problems_) {
    for (const std::string& problem : problems) {
      Problem("pack ", pack, ": ", problem);
    }
  }
  for (const auto& [manifest, problem] : unread_) {
    const bool is_told =
        std::ranges::count(result_.bad_objects, manifest, &BadObject::sha256);
    if (!is_told) result_.problems.push_back(problem);
  }
}

absl::StatusOr<FsckResult> Check::Run() {
  if (!(options_.sample >= 0 && options_.sample <= 1)) {
    return InvalidArgument("the sample of fsck is ", options_.sample,
                           ": it must be 0 to 1");
  }
  // As one that adds: what it finds and stores stays while it runs.
  absl::StatusOr<std::shared_ptr<Lease>> lease =
      repository_.leases().Take("fsck");
  if (absl::IsPermissionDenied(lease.status()) && options_.from.empty()) {
    writable_ = false;
  } else {
    RETURN_IF_ERROR(lease.status());
  }
  RETURN_IF_ERROR(CheckCatalogue());
  RETURN_IF_ERROR(inventory_.Reload(repository_, &result_.problems));
  reach_ = FindReach(inventory_);
  RETURN_IF_ERROR(CheckKeys());
  RETURN_IF_ERROR(CheckLeases());
  RETURN_IF_ERROR(CheckModels());
  RETURN_IF_ERROR(CheckPacks());
  if (!options_.fast) RETURN_IF_ERROR(ReadObjects());
  AddMissing();
  FindUsers();
  RETURN_IF_ERROR(Mark());
  if (writable_) RETURN_IF_ERROR(Repair(**lease));
  Finish();
  return std::move(result_);
}

}  // namespace

absl::StatusOr<FsckResult> Fsck(Repository& repository,
                                const FsckOptions& options) {
  return Check(repository, options).Run();
}

}  // namespace zipllm::store
