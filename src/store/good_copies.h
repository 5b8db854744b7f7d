// Where good copies of damaged objects may be: other stores, archives, files.
#ifndef ZIPLLM_STORE_GOOD_COPIES_H_
#define ZIPLLM_STORE_GOOD_COPIES_H_

#include <map>
#include <string>
#include <vector>

#include "store/pack_writer.h"
#include "store/repository.h"

namespace zipllm::store {

/// Those of `wanted` (objects and their lengths) that `path`, a store, an
/// archive, a file or a folder of files and archives, has: each was hashed.
/// Segments are looked at that have a wanted length.
absl::StatusOr<std::vector<NewObject>> FindGoodCopies(
    const std::string& path, const std::map<Sha256Digest, uint64_t>& wanted,
    const StoreOptions& options);

}  // namespace zipllm::store

#endif  // ZIPLLM_STORE_GOOD_COPIES_H_
