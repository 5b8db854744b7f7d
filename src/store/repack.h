// Packs written anew.
#ifndef ZIPLLM_STORE_REPACK_H_
#define ZIPLLM_STORE_REPACK_H_

#include <functional>
#include <memory>
#include <set>
#include <string>

#include "store/reach.h"
#include "store/repository.h"

namespace zipllm::store {

/// A source that reads an object of a store, which must outlive it.
std::unique_ptr<Source> OpenObject(Repository& repository,
                                   const Sha256Digest& object, uint64_t length);

/// Writes what models need of `packs`, and all live objects deeper than
/// `options.max_depth`, into new packs, and condemns those of `packs` that
/// nothing needs then: gc deletes them. A pack stays as it is where an object
/// of it cannot be read. The caller has a lease. `inventory` is as fresh as
/// when it returns.
absl::Status RewritePacks(Repository& repository,
                          const std::set<std::string>& packs,
                          const RepackOptions& options, const Lease& lease,
                          Inventory* inventory, RepackResult* result);

}  // namespace zipllm::store

#endif  // ZIPLLM_STORE_REPACK_H_
