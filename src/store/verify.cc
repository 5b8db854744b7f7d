#include "store/verify.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/hash.h"

namespace zipllm::store {
namespace {

class HashSink : public Sink {
 public:
  absl::Status Write(ByteSpan data) override {
    hash_.Update(data);
    return absl::OkStatus();
  }
  std::string Name() const override { return "hash"; }
  Sha256Digest Finish() { return hash_.Finish(); }

 private:
  Sha256 hash_;
};

// How often another may change a note between reading and writing it.
constexpr int kMaxTries = 20;

}  // namespace

absl::Status VerifyCopy(Repository& repository, const std::string& id,
                        const Sha256Digest& object) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const Pack> pack,
                   repository.OpenPack(id));
  const auto entry = pack->entries.find(object);
  if (entry == pack->entries.end()) {
    return absl::NotFoundError("pack " + id + " has no object " + Hex(object));
  }
  HashSink hash;
  const absl::Status copied = pack->archive.CopyRange(
      entry->second, 0, pack->archive.entries()[entry->second].size, hash);
  // What it is coded against is not there, which is as bad.
  if (absl::IsNotFound(copied) || absl::IsFailedPrecondition(copied)) {
    return DataLoss("object ", Hex(object), " of pack ", id, ": ",
                    std::string(copied.message()));
  }
  RETURN_IF_ERROR(
      Annotate(copied, "object ", Hex(object), " of pack ", id, ": "));
  if (hash.Finish() == object) return absl::OkStatus();
  return DataLoss("object ", Hex(object), " of pack ", id,
                  " does not have the SHA-256 that it is named by");
}

absl::Status MarkDamaged(Repository& repository, const std::string& pack,
                         const std::vector<Sha256Digest>& objects,
                         bool replace) {
  storage::Storage& storage = repository.storage();
  const storage::Key key = DamagedKey(pack);
  for (int i = 0; i < kMaxTries; ++i) {
    const absl::StatusOr<storage::Value> there =
        storage.Get(key, kMaxSmallValue);
    if (!there.ok() && !absl::IsNotFound(there.status())) {
      return there.status();
    }
    if (replace && objects.empty()) {
      if (!there.ok()) return absl::OkStatus();
      const absl::Status deleted = storage.Delete(key);
      return absl::IsNotFound(deleted) ? absl::OkStatus() : deleted;
    }
    Damage damage;
    if (there.ok() && !replace) {
      absl::StatusOr<Damage> parsed = ParseDamage(there->bytes);
      if (parsed.ok()) damage = *std::move(parsed);
    }
    damage.objects.insert(damage.objects.end(), objects.begin(), objects.end());
    std::ranges::sort(damage.objects);
    damage.objects.erase(
        std::unique(damage.objects.begin(), damage.objects.end()),
        damage.objects.end());
    const std::string text = WriteDamage(damage);
    if (there.ok() && std::ranges::equal(there->bytes, AsBytes(text))) {
      return absl::OkStatus();
    }
    const absl::Status put = storage.PutIfMatch(
        key, AsBytes(text), there.ok() ? there->version : "");
    if (!absl::IsAborted(put)) return put;
  }
  return absl::AbortedError("others keep changing " + key +
                            ": try again later");
}

absl::StatusOr<std::map<std::string, Damage>> ReadDamage(
    const storage::Storage& storage) {
  ASSIGN_OR_RETURN(const std::vector<storage::Info> keys,
                   storage.List(kDamagedPrefix));
  std::map<std::string, Damage> damage;
  for (const storage::Info& info : keys) {
    const absl::StatusOr<storage::Value> value =
        storage.Get(info.key, kMaxSmallValue);
    if (absl::IsNotFound(value.status())) continue;
    RETURN_IF_ERROR(value.status());
    absl::StatusOr<Damage> parsed = ParseDamage(value->bytes);
    if (!parsed.ok()) continue;
    damage[info.key.substr(sizeof(kDamagedPrefix) - 1)] = *std::move(parsed);
  }
  return damage;
}

bool IsDamaged(const Damage& damage, const Sha256Digest& object) {
  return damage.all || std::ranges::binary_search(damage.objects, object);
}

}  // namespace zipllm::store
