#ifndef ZIPLLM_STORE_PACK_WRITER_H_
#define ZIPLLM_STORE_PACK_WRITER_H_

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "store/repository.h"

namespace zipllm::store {

/// An object to be stored.
struct NewObject {
  Sha256Digest sha256{};
  /// dtype, shape and name of the tensor; offset: where it begins in `source`.
  Segment segment;
  std::string format;  ///< ObjectRecord::format
  /// Opens what it is in. Called more than once, by several threads.
  std::function<absl::StatusOr<std::unique_ptr<Source>>()> open;
  /// The file that it is of: objects with equal ones are of one file, those of
  /// files of one folder of one checkpoint.
  std::string file;
};

/// One of bytes in memory: a manifest, sketches.
NewObject ObjectOfBytes(std::vector<uint8_t> bytes, const char* format);

/// One that is stored, as the catalogue has it; `open` is left to the caller.
NewObject ObjectOfRecord(const ObjectRecord& record);

struct PackOptions {
  int level = kDefaultLevel;
  bool verify = true;
  int max_depth =
      4;  ///< of what is written; 0: nothing is coded against others
  /// Objects of the store that these may be coded against, with the names and
  /// files that they had: hints alone. Those deeper than max_depth - 1 are
  /// passed over.
  struct Base {
    Sha256Digest object;
    Segment segment;
    std::string file;
  };
  std::vector<Base> bases;
  /// The packs in which bases are looked for (Repository::UsablePacks).
  std::set<std::string> packs;
};

/// Writes `objects`, in this order, into a new pack; then sketches of them;
/// commits and syncs it and tells the catalogue. Nothing refers to it yet: the
/// caller holds a lease and makes a reference. Objects whose bytes turn out to
/// be others than their SHA-256 says (the file changed) fail with UNAVAILABLE.
absl::StatusOr<PackRecord> WritePack(Repository& repository,
                                     const std::vector<NewObject>& objects,
                                     const PackOptions& options);

}  // namespace zipllm::store

#endif  // ZIPLLM_STORE_PACK_WRITER_H_
