// Store::Gc: format-spec/store.md, "Garbage". Nothing here depends on how long
// something takes; the grace is for people who change their minds.
#include <algorithm>
#include <chrono>
#include <map>
#include <set>
#include <utility>

#include "base/bytes.h"
#include "base/hash.h"
#include "store/reach.h"
#include "store/repository.h"
#include "store/verify.h"

namespace zipllm::store {
namespace {

using Phase = Condemnation::Phase;

// From condemned to deleted, and one to see that nothing is left to do.
constexpr int kMaxRounds = 5;

absl::Status Overtaken() {
  return absl::AbortedError(
      "another gc works on this store, which took this one for gone: nothing "
      "more was deleted");
}

class Collection {
 public:
  Collection(Repository& repository, const GcOptions& options)
      : repository_(repository),
        storage_(repository.storage()),
        options_(options) {}

  absl::StatusOr<GcResult> Run();

 private:
  struct Condemned {
    Condemnation value;
    std::string version;
  };

  // One pass over all packs; `*advanced`: what it did lets another do more.
  absl::Status Round(bool* advanced);
  // Ids of the leases that others hold.
  absl::StatusOr<std::set<std::string>> OtherLeases();
  absl::Status ReadCondemned();
  absl::Status FindLive();
  absl::StatusOr<std::set<std::string>> PacksThere();
  // False: another process was faster, and the next round sees what it did.
  absl::StatusOr<bool> Put(const std::string& pack, Condemnation value);
  absl::Status TakeBack(const std::string& pack);
  absl::Status Delete(const std::set<size_t>& ripe);
  // Of `doomed` takes what has a copy that is better than the one that stays.
  absl::Status KeepGoodCopies(std::set<size_t>* doomed);
  absl::Status Finish(const std::set<std::string>& packs);
  absl::Status DryRun();
  bool IsGraceOver(const Condemnation& value) const {
    return now_ - value.since_seconds >= options_.grace.count();
  }
  static bool IsBlocked(const Condemnation& value,
                        const std::set<std::string>& leases) {
    return std::ranges::any_of(value.blockers, [&](const std::string& id) {
      return leases.contains(id);
    });
  }
  bool IsLive(size_t pack) const { return reach_.live_packs[pack]; }

  Repository& repository_;
  storage::Storage& storage_;
  const GcOptions& options_;
  GcResult result_;
  std::shared_ptr<Lease> lease_;
  int64_t now_ = 0;
  Inventory inventory_;
  Reach reach_;
  std::map<std::string, Condemned> condemned_;
};

absl::StatusOr<std::set<std::string>> Collection::OtherLeases() {
  // Who is taken for gone has to learn it before it is believed.
  if (!options_.dry_run) {
    ASSIGN_OR_RETURN(const uint64_t removed,
                     repository_.leases().RemoveStale());
    result_.stale_leases += removed;
  }
  ASSIGN_OR_RETURN(const std::vector<LeaseInfo> leases,
                   repository_.leases().List());
  std::set<std::string> ids;
  for (const LeaseInfo& lease : leases) {
    if (lease.id != lease_->id()) ids.insert(lease.id);
  }
  return ids;
}

absl::Status Collection::ReadCondemned() {
  condemned_.clear();
  ASSIGN_OR_RETURN(const std::vector<storage::Info> keys,
                   storage_.List(kCondemnedPrefix));
  for (const storage::Info& info : keys) {
    const std::string id = info.key.substr(sizeof(kCondemnedPrefix) - 1);
    if (PackIdOf(PackKey(id)) != id) continue;  // fsck's to tell
    const absl::StatusOr<storage::Value> value =
        storage_.Get(info.key, kMaxSmallValue);
    if (absl::IsNotFound(value.status())) continue;
    RETURN_IF_ERROR(value.status());
    Condemned condemned;
    condemned.version = value->version;
    absl::StatusOr<Condemnation> parsed = ParseCondemnation(value->bytes);
    if (absl::IsUnimplemented(parsed.status())) return parsed.status();
    if (parsed.ok()) {
      condemned.value = *std::move(parsed);
    } else {
      // Begins again: nothing that it says can be relied on.
      condemned.value.since_seconds = now_;
    }
    condemned_[id] = std::move(condemned);
  }
  return absl::OkStatus();
}

absl::Status Collection::FindLive() {
  const auto nothing_deleted = [](const absl::Status& status) {
    return Annotate(status,
                    "nothing was deleted, since what a model needs is not "
                    "known (zipllm store fsck tells more; repair or remove "
                    "it): ");
  };
  RETURN_IF_ERROR(nothing_deleted(inventory_.Reload(repository_)));
  reach_ = FindReach(inventory_);
  if (!reach_.missing.empty()) {
    return nothing_deleted(absl::FailedPreconditionError(
        "object " + Hex(*reach_.missing.begin()) + " is in no pack"));
  }
  return ReadCondemned();
}

absl::StatusOr<bool> Collection::Put(const std::string& pack,
                                     Condemnation value) {
  const std::string text = WriteCondemnation(value);
  if (text.size() > kMaxSmallValue) return false;  // too many blockers
  Condemned& condemned = condemned_[pack];
  const absl::Status put =
      storage_.PutIfMatch(CondemnedKey(pack), AsBytes(text), condemned.version);
  if (absl::IsAborted(put)) {
    condemned_.erase(pack);
    return false;
  }
  RETURN_IF_ERROR(put);
  ASSIGN_OR_RETURN(const storage::Value written,
                   storage_.Get(CondemnedKey(pack), kMaxSmallValue));
  if (!std::ranges::equal(written.bytes, AsBytes(text))) {
    condemned_.erase(pack);
    return false;
  }
  condemned.value = std::move(value);
  condemned.version = written.version;
  return true;
}

// In two steps, since a deletion asks for no version: whoever is about to
// delete the pack fails at the first.
absl::Status Collection::TakeBack(const std::string& pack) {
  Condemnation value = condemned_[pack].value;
  value.phase = Phase::kKept;
  value.blockers.clear();
  ASSIGN_OR_RETURN(const bool is_ours, Put(pack, std::move(value)));
  if (!is_ours) return Overtaken();
  condemned_.erase(pack);
  const absl::Status deleted = storage_.Delete(CondemnedKey(pack));
  return absl::IsNotFound(deleted) ? absl::OkStatus() : deleted;
}

absl::Status Collection::KeepGoodCopies(std::set<size_t>* doomed) {
  // Copies that stay and are needed, of objects that would be deleted.
  std::map<Sha256Digest, bool> is_good;
  for (auto i = doomed->begin(); i != doomed->end();) {
    const PackSummary& pack = inventory_.packs()[*i];
    bool keep = false;
    for (const Copy& copy : pack.copies) {
      if (pack.IsDamaged(copy.sha256)) continue;
      for (const size_t other : inventory_.PacksWith(copy.sha256)) {
        const PackSummary& stays = inventory_.packs()[other];
        const auto place =
            static_cast<size_t>(stays.Find(copy.sha256) - stays.copies.data());
        if (doomed->contains(other) || !reach_.live_copies[other][place]) {
          continue;
        }
        auto known = is_good.find(copy.sha256);
        if (known == is_good.end()) {
          const absl::Status status =
              VerifyCopy(repository_, stays.id, copy.sha256);
          if (absl::IsNotFound(status) || absl::IsDataLoss(status)) {
            RETURN_IF_ERROR(MarkDamaged(repository_, stays.id, {copy.sha256}));
            if (repository_.options().warning) {
              repository_.options().warning(
                  StrCat("pack ", pack.id, " is kept: ", stays.id,
                         " should have what it has, but ",
                         std::string(status.message())));
            }
          } else {
            RETURN_IF_ERROR(status);
          }
          known = is_good.emplace(copy.sha256, status.ok()).first;
        }
        keep |= !known->second;
      }
    }
    i = keep ? doomed->erase(i) : std::next(i);
  }
  return absl::OkStatus();
}

absl::Status Collection::Delete(const std::set<size_t>& ripe) {
  // Also what nobody needs may be built on while it is there: what it needs is
  // kept until it is gone.
  std::set<size_t> doomed = ripe;
  for (bool changed = true; changed && !doomed.empty();) {
    std::set<size_t> kept;
    for (size_t i = 0; i < inventory_.packs().size(); ++i) {
      if (!doomed.contains(i) && !inventory_.packs()[i].deleting) {
        kept.insert(i);
      }
    }
    const Reach needed = FindReach(inventory_, kept);
    const size_t before = doomed.size();
    std::erase_if(doomed, [&](size_t i) { return needed.live_packs[i]; });
    RETURN_IF_ERROR(KeepGoodCopies(&doomed));
    changed = doomed.size() != before;
  }
  if (doomed.empty()) return absl::OkStatus();

  RETURN_IF_ERROR(lease_->CheckHeld());
  std::set<std::string> ids;
  uint64_t bytes = 0;
  for (const size_t i : doomed) {
    const PackSummary& pack = inventory_.packs()[i];
    Condemnation value = condemned_[pack.id].value;
    value.phase = Phase::kDeleting;
    value.blockers.clear();
    ASSIGN_OR_RETURN(const bool is_ours, Put(pack.id, std::move(value)));
    if (!is_ours) return Overtaken();
    ids.insert(pack.id);
    bytes += pack.bytes;
  }
  RETURN_IF_ERROR(lease_->CheckHeld());
  RETURN_IF_ERROR(Finish(ids));
  result_.deleted_packs += ids.size();
  result_.deleted_bytes += bytes;
  return absl::OkStatus();
}

// The pack is gone for good before its condemnation is: else a power loss may
// bring it back without what it needs.
absl::Status Collection::Finish(const std::set<std::string>& packs) {
  if (packs.empty()) return absl::OkStatus();
  for (const std::string& id : packs) {
    const absl::Status deleted = storage_.Delete(PackKey(id));
    if (!absl::IsNotFound(deleted)) RETURN_IF_ERROR(deleted);
  }
  RETURN_IF_ERROR(storage_.Sync());
  for (const std::string& id : packs) {
    Catalogue& catalogue = repository_.catalogue();
    ASSIGN_OR_RETURN(const std::optional<PackRecord> record,
                     catalogue.FindPack(id));
    RETURN_IF_ERROR(catalogue.RemovePack(id));
    if (!record.has_value()) continue;
    for (const ObjectRecord& object : record->objects) {
      if (object.format != kManifestFormat) continue;
      ASSIGN_OR_RETURN(const auto others, catalogue.Find(object.sha256));
      if (others.empty()) {
        RETURN_IF_ERROR(catalogue.RemoveManifest(object.sha256));
      }
    }
  }
  for (const std::string& id : packs) {
    for (const storage::Key& key : {CondemnedKey(id), DamagedKey(id)}) {
      const absl::Status deleted = storage_.Delete(key);
      if (!absl::IsNotFound(deleted)) RETURN_IF_ERROR(deleted);
    }
    condemned_.erase(id);
  }
  return storage_.Sync();
}

absl::StatusOr<std::set<std::string>> Collection::PacksThere() {
  ASSIGN_OR_RETURN(const std::vector<storage::Info> keys,
                   storage_.List(kPacksPrefix));
  std::set<std::string> ids;
  for (const storage::Info& info : keys) {
    if (std::string id = PackIdOf(info.key); !id.empty()) ids.insert(id);
  }
  return ids;
}

absl::Status Collection::Round(bool* advanced) {
  *advanced = false;
  // Leases before references: the commit of one that is gone by now is seen.
  ASSIGN_OR_RETURN(const std::set<std::string> before, OtherLeases());
  RETURN_IF_ERROR(FindLive());
  ASSIGN_OR_RETURN(const std::set<std::string> there, PacksThere());
  // What was seen of others is durable before anything is done because of it.
  RETURN_IF_ERROR(storage_.Sync());
  // Leases after references: one that is not among them reads none of the
  // references that were there before these.
  ASSIGN_OR_RETURN(const std::set<std::string> after, OtherLeases());
  RETURN_IF_ERROR(lease_->CheckHeld());
  const std::vector<PackSummary>& packs = inventory_.packs();
  result_.packs = std::max<uint64_t>(result_.packs, there.size());

  std::set<std::string> interrupted;
  std::set<size_t> ripe;
  std::vector<std::string> known;
  for (const auto& [id, condemned] : condemned_) known.push_back(id);
  for (const std::string& id : known) {
    const Condemnation& value = condemned_[id].value;
    const std::optional<size_t> place = inventory_.FindPack(id);
    const bool is_live = place.has_value() && IsLive(*place);
    if (!there.contains(id) || (value.phase == Phase::kDeleting && !is_live)) {
      interrupted.insert(id);
    } else if (value.phase == Phase::kKept) {
      RETURN_IF_ERROR(TakeBack(id));
    } else if (!place.has_value()) {
      continue;  // it cannot be read: fsck's to tell
    } else if (is_live) {
      RETURN_IF_ERROR(TakeBack(id));
    } else if (value.phase == Phase::kAdders && !IsBlocked(value, before)) {
      // Nobody adds to what needs it any more. Who may still read it by a
      // reference that is gone has a lease.
      Condemnation next = value;
      next.phase = Phase::kReaders;
      next.blockers.assign(after.begin(), after.end());
      ASSIGN_OR_RETURN(const bool put, Put(id, std::move(next)));
      *advanced |= put && after.empty();
    } else if (value.phase == Phase::kReaders && !IsBlocked(value, before) &&
               IsGraceOver(value)) {
      ripe.insert(*place);
    }
  }
  for (size_t i = 0; i < packs.size(); ++i) {
    if (IsLive(i) || condemned_.contains(packs[i].id)) continue;
    Condemnation value;
    value.since_seconds = now_;
    RETURN_IF_ERROR(Put(packs[i].id, std::move(value)).status());
  }
  // Leases after condemnations: who takes one later sees these.
  ASSIGN_OR_RETURN(const std::set<std::string> adders, OtherLeases());
  known.clear();
  for (const auto& [id, condemned] : condemned_) known.push_back(id);
  for (const std::string& id : known) {
    Condemnation value = condemned_[id].value;
    if (value.phase != Phase::kCondemned) continue;
    value.phase = Phase::kAdders;
    value.blockers.assign(adders.begin(), adders.end());
    ASSIGN_OR_RETURN(const bool put, Put(id, std::move(value)));
    *advanced |= put && adders.empty();
  }
  RETURN_IF_ERROR(storage_.Sync());

  RETURN_IF_ERROR(Finish(interrupted));
  RETURN_IF_ERROR(Delete(ripe));
  result_.condemned_packs = 0;
  result_.condemned_bytes = 0;
  for (const auto& [id, condemned] : condemned_) {
    const std::optional<size_t> place = inventory_.FindPack(id);
    if (!place.has_value()) continue;
    ++result_.condemned_packs;
    result_.condemned_bytes += packs[*place].bytes;
  }
  return absl::OkStatus();
}

// What Run would come to if nothing else happened.
absl::Status Collection::DryRun() {
  ASSIGN_OR_RETURN(const std::vector<LeaseInfo> leases,
                   repository_.leases().List());
  std::set<std::string> alive;
  for (const LeaseInfo& lease : leases) {
    if (lease.stale) {
      ++result_.stale_leases;
    } else if (lease.id != lease_->id()) {
      alive.insert(lease.id);
    }
  }
  RETURN_IF_ERROR(FindLive());
  ASSIGN_OR_RETURN(const std::set<std::string> there, PacksThere());
  result_.packs = there.size();
  for (size_t i = 0; i < inventory_.packs().size(); ++i) {
    const PackSummary& pack = inventory_.packs()[i];
    if (IsLive(i)) continue;
    const auto found = condemned_.find(pack.id);
    Condemnation value;
    value.since_seconds = now_;
    if (found != condemned_.end()) value = found->second.value;
    const bool is_ripe = value.phase == Phase::kDeleting ||
                         (IsGraceOver(value) && (value.phase == Phase::kReaders
                                                     ? !IsBlocked(value, alive)
                                                     : alive.empty()));
    ++(is_ripe ? result_.deleted_packs : result_.condemned_packs);
    (is_ripe ? result_.deleted_bytes : result_.condemned_bytes) += pack.bytes;
  }
  return absl::OkStatus();
}

absl::StatusOr<GcResult> Collection::Run() {
  if (options_.grace.count() < 0) {
    return InvalidArgument("the grace of gc is ", options_.grace.count(),
                           " seconds: it must not be below 0");
  }
  ASSIGN_OR_RETURN(lease_, repository_.leases().TakeExclusive("gc"));
  ASSIGN_OR_RETURN(now_, storage_.NowSeconds());
  if (options_.dry_run) {
    RETURN_IF_ERROR(DryRun());
    return result_;
  }
  bool advanced = true;
  for (int round = 0; advanced && round < kMaxRounds; ++round) {
    RETURN_IF_ERROR(Round(&advanced));
  }
  return result_;
}

}  // namespace

absl::StatusOr<GcResult> Gc(Repository& repository, const GcOptions& options) {
  return Collection(repository, options).Run();
}

}  // namespace zipllm::store
