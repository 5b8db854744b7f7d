// Where the bytes of a store live: values under keys, each written once and
// whole. No append and no rename, since object stores have neither.
#ifndef ZIPLLM_STORAGE_STORAGE_H_
#define ZIPLLM_STORAGE_STORAGE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "zipllm/io.h"

namespace zipllm::storage {

/// Parts joined by '/', as "packs/3f/3f2a.zllm": of A-Z a-z 0-9 and ._-%+, no
/// part empty, above 255 bytes or with '.' in front. A key with a value is not
/// the beginning ("packs", of the above) of another.
using Key = std::string;

/// INVALID_ARGUMENT for what is no key.
absl::Status CheckKey(const Key& key);
/// INVALID_ARGUMENT unless `prefix` is "" or a key and a '/'.
absl::Status CheckPrefix(const Key& prefix);

/// What a small value is and which version of it: `version` is never empty and
/// other for other bytes. Equal bytes that were put again may have an equal
/// one.
struct Value {
  std::vector<uint8_t> bytes;
  std::string version;
  int64_t modified_seconds = 0;  ///< as of Info
};

struct Info {
  Key key;
  uint64_t size = 0;
  int64_t modified_seconds = 0;  ///< since 1970, by the clock of the storage
};

/// A value that is being written; nothing is there until Commit, and nothing is
/// left where that is not called. Thread-compatible.
class Upload : public Sink {
 public:
  /// The value is there, whole, and is durable after the next Storage::Sync.
  /// ALREADY_EXISTS if the key has one. To be called once, and not after a
  /// Write that failed.
  virtual absl::Status Commit() = 0;
};

/// Thread-safe; several processes may work on what one names. Errors: NOT_FOUND
/// where there is no value; INVALID_ARGUMENT for what is no key; UNAVAILABLE,
/// RESOURCE_EXHAUSTED (no space) and the like. They name the key. Where a
/// change failed but for ALREADY_EXISTS, ABORTED and NOT_FOUND, it may have
/// been made all the same, as when a network breaks before the answer.
class Storage {
 public:
  virtual ~Storage() = default;

  /// Opens a value for ranged reads; it stays readable if it is deleted
  /// meanwhile (but for storages that cannot: NOT_FOUND on a read then).
  virtual absl::StatusOr<std::unique_ptr<Source>> Open(
      const Key& key) const = 0;
  /// Reads a small value whole; RESOURCE_EXHAUSTED above `max_bytes`.
  virtual absl::StatusOr<Value> Get(const Key& key,
                                    uint64_t max_bytes) const = 0;
  /// Begins a large value.
  virtual absl::StatusOr<std::unique_ptr<Upload>> PutIfAbsent(
      const Key& key) = 0;
  /// Writes a small value if the key's version is `version` ("": there is
  /// none); ABORTED if it is another. Atomic; durable after Sync.
  virtual absl::Status PutIfMatch(const Key& key, ByteSpan bytes,
                                  const std::string& version) = 0;
  /// All values whose keys begin with `prefix` (whole parts and a '/', or ""),
  /// by key. What is put or deleted meanwhile may be in it or not.
  virtual absl::StatusOr<std::vector<Info>> List(const Key& prefix) const = 0;
  /// NOT_FOUND if there is none. Durable after Sync.
  virtual absl::Status Delete(const Key& key) = 0;
  /// All that this object has committed, put and deleted so far is durable; so
  /// is what it saw by List, by whomever: values that were there are, those
  /// that were not are gone. Who changes something because of what others did
  /// (who may have died before they synced) calls it in between.
  virtual absl::Status Sync() = 0;
  /// The time by the clock that Info::modified_seconds is of.
  virtual absl::StatusOr<int64_t> NowSeconds() const = 0;
  /// What messages call it: a path.
  virtual std::string Name() const = 0;
};

}  // namespace zipllm::storage

#endif  // ZIPLLM_STORAGE_STORAGE_H_
