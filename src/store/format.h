// What a store keeps, and under which keys (format-spec/store.md): the only
// code that knows these bytes. Packs are archives (container/).
#ifndef ZIPLLM_STORE_FORMAT_H_
#define ZIPLLM_STORE_FORMAT_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/hash.h"
#include "base/status.h"
#include "storage/storage.h"
#include "zipllm/archive.h"
#include "zipllm/store.h"

namespace zipllm::store {

// Keys.
inline constexpr char kHeaderKey[] = "zipllm-store";
inline constexpr char kPacksPrefix[] = "packs/";
inline constexpr char kReferencesPrefix[] = "refs/";
inline constexpr char kLeasesPrefix[] = "leases/";
inline constexpr char kCondemnedPrefix[] = "condemned/";
inline constexpr char kDamagedPrefix[] = "damaged/";
/// The catalogue: a SQLite file of a store in a folder, not a value.
inline constexpr char kCatalogueFile[] = "catalogue.sqlite";

/// A pack's id: 32 hexadecimal digits, by chance.
std::string NewPackId();
/// "packs/ab/abcd….zllm".
storage::Key PackKey(const std::string& id);
/// "" for a key that is none of a pack.
std::string PackIdOf(const storage::Key& key);
/// OK if it is a name as ModelName says; INVALID_ARGUMENT. Names of bytes that
/// have to be escaped in a key may be too long before they have 160 bytes.
absl::Status CheckModelName(const ModelName& name);
/// "refs/org%2Fmodel/main". The name is valid.
storage::Key ReferenceKey(const ModelName& name);
/// DATA_LOSS for a key that no name has.
absl::StatusOr<ModelName> ModelNameOf(const storage::Key& key);
/// "condemned/abcd…".
storage::Key CondemnedKey(const std::string& pack);
/// "damaged/abcd…".
storage::Key DamagedKey(const std::string& pack);

/// The header, references, leases and what condemns packs have at most so many
/// bytes.
inline constexpr uint64_t kMaxSmallValue = uint64_t{1} << 16;

/// What a version must understand to do something, by name; one that does not
/// know a feature refuses that.
enum class Operation : uint8_t { kRead, kAdd, kDelete };
struct StoreHeader {
  uint32_t version = 1;
  std::string id;  ///< of the store: 32 hexadecimal digits
  std::vector<std::string> read, add, remove;  ///< features for Operation
};
std::string WriteStoreHeader(const StoreHeader& header);
absl::StatusOr<StoreHeader> ParseStoreHeader(ByteSpan bytes);
/// UNIMPLEMENTED, naming the feature.
absl::Status CheckFeatures(const StoreHeader& header, Operation operation);

/// The name of a model points to its manifest: the sole commit point.
struct Reference {
  Sha256Digest manifest{};
  uint64_t manifest_length = 0;
  int64_t created_seconds = 0;
  uint64_t files = 0;
  uint64_t plain_bytes = 0;
};
std::string WriteReference(const Reference& reference);
absl::StatusOr<Reference> ParseReference(ByteSpan bytes);

/// A pack that nothing needs, on its way out (gc.cc, format-spec/store.md). A
/// pack for which there is one counts as not there for those who begin to add.
struct Condemnation {
  enum class Phase : uint8_t {
    kCondemned,  ///< who may be adding to what needs it is still to be asked
    kAdders,     ///< waits for `blockers`, who may
    kReaders,    ///< waits for `blockers`, who may still read it
    kDeleting,   ///< is being deleted
    kKept,       ///< taken back
  };
  Phase phase = Phase::kCondemned;
  int64_t since_seconds = 0;          ///< by the clock of the storage
  std::vector<std::string> blockers;  ///< ids of leases
};
/// Longer than kMaxSmallValue where there are too many blockers.
std::string WriteCondemnation(const Condemnation& condemnation);
absl::StatusOr<Condemnation> ParseCondemnation(ByteSpan bytes);

/// Objects of a pack that fsck found to be damaged there: copies in other packs
/// are used, and it is stored anew by whoever adds it.
struct Damage {
  /// So many that they are not listed: all that the pack has.
  bool all = false;
  std::vector<Sha256Digest> objects;  ///< ascending
};
/// Of too many objects it makes `all`.
std::string WriteDamage(const Damage& damage);
absl::StatusOr<Damage> ParseDamage(ByteSpan bytes);

/// The entry of an object in a pack is called so: "zllmobj-" (its magic) and
/// its SHA-256.
std::string ObjectEntryName(const Sha256Digest& sha256);
/// nullopt for another name.
std::optional<Sha256Digest> ObjectOfEntry(const std::string& path);
/// Layout.format of the entry of a manifest and of sketches, which are objects
/// too; that of others is what their file's parser is called.
inline constexpr char kManifestFormat[] = "zipllm-manifest";
inline constexpr char kSketchesFormat[] = "zipllm-sketches";

/// What re-creates the files of a model. Segments up to kMaxLiteral bytes stand
/// in it, others are objects.
inline constexpr uint64_t kMaxLiteral = 128;
inline constexpr uint64_t kMaxManifest = uint64_t{1} << 30;
struct Manifest {
  struct Part {
    Sha256Digest object{};         ///< unless there is a literal
    std::vector<uint8_t> literal;  ///< not empty: the bytes
  };
  struct File {
    Entry entry;              ///< with its layout
    std::vector<Part> parts;  ///< one a segment of the layout; none unless file
  };
  std::vector<File> files;  ///< as Archive::entries()
};
std::vector<uint8_t> WriteManifest(const Manifest& manifest);
/// Checks that paths are those of a tree (container.md, "Entry frame"), or that
/// of a single file one part, and that segments tile their files. DATA_LOSS, or
/// UNIMPLEMENTED for a newer version; takes at most 128 bytes for each of
/// `bytes`.
absl::StatusOr<Manifest> ParseManifest(ByteSpan bytes);

inline constexpr uint8_t kNearSketch = 64;

/// One bit for each of 512 elements of a tensor at places that its prefix of
/// 2^k elements has: whether it is above the median (candidates.h).
struct TensorSketch {
  Sha256Digest object{};
  /// k, and kNearSketch more where the type holds numbers only nearly (8 bits
  /// and fewer); bits of tensors of another value never match.
  uint8_t log2_elements = 0;
  std::array<uint64_t, 8> bits{};
  bool operator==(const TensorSketch&) const = default;
};
std::vector<uint8_t> WriteSketches(const std::vector<TensorSketch>& sketches);
absl::StatusOr<std::vector<TensorSketch>> ParseSketches(ByteSpan bytes);

}  // namespace zipllm::store

#endif  // ZIPLLM_STORE_FORMAT_H_
