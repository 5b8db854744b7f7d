#include "store/good_copies.h"

#include <algorithm>
#include <set>
#include <utility>

#include "archive/duplicates.h"
#include "archive/input_tree.h"
#include "base/buffer.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/range_source.h"
#include "container/format.h"
#include "storage/local.h"
#include "store/repack.h"
#include "store/verify.h"

namespace zipllm::store {
namespace {

constexpr size_t kReadStep = size_t{1} << 20;

class Search {
 public:
  Search(const std::map<Sha256Digest, uint64_t>& wanted,
         const StoreOptions& options)
      : wanted_(wanted), options_(options) {
    for (const auto& [object, length] : wanted) lengths_.insert(length);
  }

  absl::Status LookAt(const std::string& path);
  std::vector<NewObject> Found() && { return std::move(found_); }

 private:
  using Open = std::function<absl::StatusOr<std::unique_ptr<Source>>()>;

  absl::Status LookAtStore(const std::string& path);
  absl::Status LookAtArchive(const std::string& path);
  absl::Status LookAtFile(const std::string& path);
  absl::Status LookAtSegments(const Layout& layout, uint64_t size,
                              const std::string& name, const Open& open);
  bool IsWanted(const Sha256Digest& object) const {
    return wanted_.contains(object) && !seen_.contains(object);
  }

  const std::map<Sha256Digest, uint64_t>& wanted_;
  const StoreOptions& options_;
  std::set<uint64_t> lengths_;
  std::set<Sha256Digest> seen_;
  std::vector<NewObject> found_;
};

absl::Status Search::LookAtStore(const std::string& path) {
  ASSIGN_OR_RETURN(std::unique_ptr<storage::Storage> storage,
                   storage::OpenLocalStorage(path, /*sync=*/false));
  ASSIGN_OR_RETURN(std::unique_ptr<Catalogue> catalogue,
                   Catalogue::OpenInMemory());
  ASSIGN_OR_RETURN(
      std::shared_ptr<Repository> other,
      Repository::Open(std::move(storage), std::move(catalogue), options_));
  const absl::StatusOr<std::shared_ptr<Lease>> lease =
      other->leases().Take("read");
  if (!absl::IsPermissionDenied(lease.status())) {
    RETURN_IF_ERROR(lease.status());
  }
  // Both stay while something is read from there.
  struct Kept {
    std::shared_ptr<Repository> repository;
    std::shared_ptr<Lease> lease;
  };
  const auto kept =
      std::make_shared<const Kept>(Kept{other, lease.ok() ? *lease : nullptr});
  RETURN_IF_ERROR(other->Refresh().status());
  for (const auto& [object, length] : wanted_) {
    if (!IsWanted(object)) continue;
    ASSIGN_OR_RETURN(const std::vector<ObjectPlace> places,
                     other->catalogue().Find(object));
    for (const ObjectPlace& place : places) {
      if (place.length != length ||
          !VerifyCopy(*other, place.pack, object).ok()) {
        continue;
      }
      ASSIGN_OR_RETURN(const std::optional<ObjectRecord> record,
                       other->catalogue().Describe(object));
      if (!record.has_value()) break;
      NewObject& made = found_.emplace_back(ObjectOfRecord(*record));
      made.open =
          [kept, sha256 = object,
           size = record->length]() -> absl::StatusOr<std::unique_ptr<Source>> {
        return OpenObject(*kept->repository, sha256, size);
      };
      seen_.insert(object);
      break;
    }
  }
  return absl::OkStatus();
}

absl::Status Search::LookAtSegments(const Layout& layout, uint64_t size,
                                    const std::string& name, const Open& open) {
  // As an add cuts a file: what its header does not say is a gap at its end.
  std::vector<Segment> segments;
  uint64_t end = 0;
  for (const Segment& segment : layout.segments) {
    if (segment.length > size - end) break;
    end += segment.length;
    segments.push_back(segment);
  }
  if (end < size) {
    Segment& rest = segments.emplace_back();
    rest.offset = end;
    rest.length = size - end;
  }
  std::unique_ptr<Source> source;
  Buffer step;
  for (const Segment& segment : segments) {
    if (!lengths_.contains(segment.length)) continue;
    if (source == nullptr) {
      ASSIGN_OR_RETURN(source, open());
    }
    Sha256 hash;
    for (uint64_t at = 0; at < segment.length; at += step.size()) {
      step.Resize(std::min<uint64_t>(kReadStep, segment.length - at));
      RETURN_IF_ERROR(
          ReadAtExactly(*source, segment.offset + at, step.mutable_span()));
      hash.Update(step.span());
    }
    const Sha256Digest object = hash.Finish();
    if (!IsWanted(object)) continue;
    seen_.insert(object);
    NewObject& made = found_.emplace_back();
    made.sha256 = object;
    made.segment = segment;
    made.format = layout.format;
    made.file = name;
    made.open = open;
  }
  return absl::OkStatus();
}

absl::Status Search::LookAtArchive(const std::string& path) {
  DecompressOptions options;
  options.threads = options_.threads;
  options.max_memory = options_.max_memory;
  options.base_directories = {SplitPath(path).first};
  ASSIGN_OR_RETURN(Archive opened, Archive::OpenFile(path, options));
  const auto archive = std::make_shared<const Archive>(std::move(opened));
  absl::Status first_failure;
  for (size_t i = 0; i < archive->entries().size(); ++i) {
    const Entry& entry = archive->entries()[i];
    if (entry.kind != EntryKind::kFile) continue;
    const absl::Status looked = LookAtSegments(
        entry.layout, entry.size, path + ":" + entry.path,
        [archive, i]() -> absl::StatusOr<std::unique_ptr<Source>> {
          const Entry& file = archive->entries()[i];
          return MakeRangeSource(
              file.size, file.path,
              [archive, i](uint64_t offset, MutableByteSpan out) {
                return archive->ReadRange(i, offset, out);
              });
        });
    if (first_failure.ok()) first_failure = looked;
  }
  return first_failure;
}

absl::Status Search::LookAtFile(const std::string& path) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Source> source, OpenFileSource(path));
  if (!source->Seekable()) {
    return InvalidArgument(path, " is a pipe: a file is needed");
  }
  const uint64_t size = source->Size().value_or(0);
  std::vector<uint8_t> start(std::min<uint64_t>(size, 8));
  RETURN_IF_ERROR(ReadAtExactly(*source, 0, start));
  if (container::LooksLikeArchive(start)) RETURN_IF_ERROR(LookAtArchive(path));
  std::vector<uint8_t> prefix;
  ASSIGN_OR_RETURN(const Layout layout, archive::ReadLayout(*source, &prefix));
  return LookAtSegments(layout, size, path,
                        [path] { return OpenFileSource(path); });
}

absl::Status Search::LookAt(const std::string& path) {
  if (OpenFileSource(path + "/" + kHeaderKey).ok()) return LookAtStore(path);
  ASSIGN_OR_RETURN(const std::vector<archive::Input> inputs,
                   archive::ListInputs(path, archive::Links::kFollowOutside,
                                       options_.warning));
  absl::Status first_failure;
  for (const archive::Input& input : inputs) {
    if (input.entry.kind != EntryKind::kFile) continue;
    const absl::Status looked = LookAtFile(input.path);
    if (first_failure.ok()) first_failure = looked;
  }
  return first_failure;
}

}  // namespace

absl::StatusOr<std::vector<NewObject>> FindGoodCopies(
    const std::string& path, const std::map<Sha256Digest, uint64_t>& wanted,
    const StoreOptions& options) {
  Search search(wanted, options);
  const absl::Status looked = search.LookAt(path);
  std::vector<NewObject> found = std::move(search).Found();
  // A part that cannot be read hides no other.
  if (found.empty()) RETURN_IF_ERROR(looked);
  if (!looked.ok() && options.warning) {
    options.warning(std::string(looked.message()));
  }
  return found;
}

}  // namespace zipllm::store
