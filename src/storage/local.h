#ifndef ZIPLLM_STORAGE_LOCAL_H_
#define ZIPLLM_STORAGE_LOCAL_H_

#include <memory>
#include <string>

#include "storage/storage.h"

namespace zipllm::storage {

/// Files below the folder `root`, which must be there. Nothing below it is
/// reached through a link. `sync` false: nothing is synced.
///
/// A value is written without a name (where the file system cannot, under a
/// hidden one that ends with ".tmp"), synced, and then named: under its name it
/// is always whole. Sync syncs the folders. What a crash leaves of hidden files
/// no List shows; one that nobody wrote to for a day is removed by the next
/// List of its folder. PutIfMatch and Delete of all processes exclude each
/// other by flock on the file ".lock" in `root`, for less than a millisecond.
/// Other files that are no values (with names that no key has, links, devices)
/// are left alone.
absl::StatusOr<std::unique_ptr<Storage>> OpenLocalStorage(
    const std::string& root, bool sync = true);

}  // namespace zipllm::storage

#endif  // ZIPLLM_STORAGE_LOCAL_H_
