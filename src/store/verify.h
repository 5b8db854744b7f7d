// Whether copies of objects are what they are called, and the notes of those
// that are not.
#ifndef ZIPLLM_STORE_VERIFY_H_
#define ZIPLLM_STORE_VERIFY_H_

#include <map>
#include <string>
#include <vector>

#include "store/repository.h"

namespace zipllm::store {

/// Decodes and hashes the copy of an object that one pack has. DATA_LOSS where
/// it does not have its SHA-256 or what it is coded against cannot be read;
/// NOT_FOUND where the pack or the object in it is not there.
absl::Status VerifyCopy(Repository& repository, const std::string& pack,
                        const Sha256Digest& object);

/// Notes that these objects of a pack are damaged there (format.h, Damage), or
/// with `replace` that no others are.
absl::Status MarkDamaged(Repository& repository, const std::string& pack,
                         const std::vector<Sha256Digest>& objects,
                         bool replace = false);

/// What is noted, by pack. Notes that cannot be understood are left out.
absl::StatusOr<std::map<std::string, Damage>> ReadDamage(
    const storage::Storage& storage);
/// Whether the note of an object's pack says that the copy there is damaged.
bool IsDamaged(const Damage& damage, const Sha256Digest& object);

}  // namespace zipllm::store

#endif  // ZIPLLM_STORE_VERIFY_H_
