#include "store/repository.h"

#include <algorithm>
#include <array>
#include <utility>

#include "archive/open_archive.h"
#include "base/file.h"

namespace zipllm::store {
namespace {

// Open packs take a descriptor and their index.
constexpr size_t kOpenPacks = 64;
// Those of a million tensors.
constexpr uint64_t kMaxSketches = uint64_t{1} << 27;

// What has saved the bytes of blocks of a codec (StoreStats).
enum class Saving : uint8_t { kEntropy, kDelta, kDerived };
Saving SavingOf(const std::string& codec) {
  for (const char* name :
       {"duplicate", "twin", "copy", "delta", "sum", "moments", "mixdelta"}) {
    if (codec == name) return Saving::kDelta;
  }
  return codec == "derived" || codec == "scaled" ? Saving::kDerived
                                                 : Saving::kEntropy;
}

void AddSavings(const std::vector<CodecUse>& codecs, ObjectRecord* record) {
  for (const CodecUse& use : codecs) {
    if (use.coded_bytes > use.plain_bytes) continue;
    const uint64_t saved = use.plain_bytes - use.coded_bytes;
    switch (SavingOf(use.codec)) {
      case Saving::kEntropy:
        record->saved_entropy += saved;
        break;
      case Saving::kDelta:
        record->saved_delta += saved;
        break;
      case Saving::kDerived:
        record->saved_derived += saved;
        break;
    }
  }
}

// Grows as blocks arrive: a length is a claim until they do.
absl::StatusOr<std::vector<uint8_t>> ReadEntry(const Archive& archive,
                                               size_t entry,
                                               uint64_t max_bytes) {
  const uint64_t length = archive.entries()[entry].size;
  if (length > max_bytes) {
    return ResourceExhausted(archive.entries()[entry].path, " has ", length,
                             " bytes, more than the ", max_bytes,
                             " that are read at once");
  }
  std::vector<uint8_t> bytes;
  while (bytes.size() < length) {
    const size_t begin = bytes.size();
    ASSIGN_OR_RETURN(const auto block, archive.BlockAt(entry, begin));
    bytes.resize(block.second);
    RETURN_IF_ERROR(
        archive.ReadRange(entry, begin, MutableByteSpan(bytes).subspan(begin)));
  }
  return bytes;
}

// Adds what the entry says, if it is a manifest or sketches; one that is
// damaged says nothing.
absl::Status ReadContents(const Archive& archive, size_t i,
                          PackRecord* record) {
  const Entry& entry = archive.entries()[i];
  const bool is_manifest = entry.layout.format == kManifestFormat;
  if (!is_manifest && entry.layout.format != kSketchesFormat) {
    return absl::OkStatus();
  }
  const absl::StatusOr<std::vector<uint8_t>> bytes =
      ReadEntry(archive, i, is_manifest ? kMaxManifest : kMaxSketches);
  if (absl::IsDataLoss(bytes.status()) ||
      absl::IsResourceExhausted(bytes.status())) {
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(bytes.status());
  if (is_manifest) {
    const absl::StatusOr<Manifest> manifest = ParseManifest(*bytes);
    if (manifest.ok()) {
      record->manifests.emplace_back(entry.sha256, ObjectsOf(*manifest));
    }
    return absl::OkStatus();
  }
  absl::StatusOr<std::vector<TensorSketch>> sketches = ParseSketches(*bytes);
  if (sketches.ok()) record->sketches = *std::move(sketches);
  return absl::OkStatus();
}

absl::Status NoObject(const Sha256Digest& object) {
  return absl::NotFoundError("object " + Hex(object) +
                             " is in no pack of the store: zipllm store fsck "
                             "tells what it hurts");
}

}  // namespace

absl::StatusOr<std::unique_ptr<Repository>> Repository::Open(
    std::unique_ptr<storage::Storage> storage,
    std::unique_ptr<Catalogue> catalogue, const StoreOptions& options) {
  std::unique_ptr<Repository> made(new Repository());
  const absl::StatusOr<storage::Value> header =
      storage->Get(kHeaderKey, kMaxSmallValue);
  if (absl::IsNotFound(header.status())) {
    return absl::NotFoundError(storage->Name() +
                               " is no zipllm store: zipllm store init makes "
                               "one");
  }
  RETURN_IF_ERROR(header.status());
  absl::StatusOr<StoreHeader> parsed = ParseStoreHeader(header->bytes);
  RETURN_IF_ERROR(Annotate(parsed.status(), storage->Name(), ": "));
  made->header_ = std::move(*parsed);
  RETURN_IF_ERROR(Annotate(CheckFeatures(made->header_, Operation::kRead),
                           storage->Name(), ": "));
  made->storage_ = std::move(storage);
  made->catalogue_ = std::move(catalogue);
  made->leases_ = Leases::Create(*made->storage_);
  made->options_ = options;
  made->pieces_ = std::make_shared<archive::PieceCache>(options.max_memory / 8);
  return made;
}

absl::StatusOr<std::shared_ptr<const Pack>> Repository::OpenPack(
    const std::string& id) {
  {
    std::lock_guard lock(mutex_);
    for (auto pack = open_packs_.begin(); pack != open_packs_.end(); ++pack) {
      if ((*pack)->id != id) continue;
      open_packs_.splice(open_packs_.begin(), open_packs_, pack);
      return *pack;
    }
  }
  ASSIGN_OR_RETURN(std::unique_ptr<Source> source, storage_->Open(PackKey(id)));
  DecompressOptions options;
  options.threads = 1;  // what is read is read by many threads
  options.max_memory = options_.max_memory;
  absl::StatusOr<archive::OpenedArchive> whole =
      archive::OpenArchive(std::move(source), options, this);
  const bool damaged = absl::IsDataLoss(whole.status());
  if (damaged) {
    ASSIGN_OR_RETURN(source, storage_->Open(PackKey(id)));
    ASSIGN_OR_RETURN(Archive left, archive::OpenDamagedArchive(
                                       std::move(source), options, this));
    whole = archive::OpenedArchive{std::move(left), 0};
  }
  RETURN_IF_ERROR(whole.status());
  auto pack = std::make_shared<Pack>(Pack{.id = id,
                                          .archive = std::move(whole->archive),
                                          .entries = {},
                                          .damaged = damaged});
  const std::vector<Entry>& entries = pack->archive.entries();
  for (size_t i = 0; i < entries.size(); ++i) {
    if (entries[i].kind != EntryKind::kFile) continue;
    const std::optional<Sha256Digest> object = ObjectOfEntry(entries[i].path);
    // The index says both; what it names otherwise is no object.
    if (object.has_value() && *object == entries[i].sha256) {
      pack->entries.emplace(*object, i);
    }
  }
  std::lock_guard lock(mutex_);
  open_packs_.push_front(pack);
  if (open_packs_.size() > kOpenPacks) open_packs_.pop_back();
  return pack;
}

absl::StatusOr<PackRecord> Repository::ReadPack(const std::string& id) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const Pack> pack, OpenPack(id));
  const Archive& archive = pack->archive;
  PackRecord record;
  record.id = id;
  record.bytes = archive.size();
  for (const NeededBase& base : archive.needed_bases()) {
    record.needs.emplace_back(base.sha256, base.depth);
  }
  std::vector<size_t> entries;              // of the objects
  std::map<size_t, size_t> number_of;       // the other way round
  std::vector<std::vector<size_t>> inside;  // sources, by entry
  for (const auto& [object, i] : pack->entries) {
    const Entry& entry = archive.entries()[i];
    ObjectRecord made;
    made.sha256 = object;
    made.length = entry.size;
    made.format = entry.layout.format;
    std::vector<size_t> sources;
    if (!entry.layout.segments.empty()) {
      const Segment& segment = entry.layout.segments.front();
      made.dtype = segment.dtype;
      made.shape = segment.shape;
      made.name = segment.name;
      const absl::StatusOr<SegmentCoding> coding =
          archive.Coding({.entry = i, .segment = 0});
      // What is damaged is left out. A read that failed may work the next time:
      // the catalogue must not take this for all there is.
      if (absl::IsDataLoss(coding.status())) continue;
      RETURN_IF_ERROR(coding.status());
      made.coded_bytes = coding->coded_bytes;
      AddSavings(coding->codecs, &made);
      for (const CodingSource& source : coding->sources) {
        if (source.base.has_value()) {
          const auto& [base, depth] = record.needs[*source.base];
          made.sources.push_back(base);
          made.depth = std::max<uint8_t>(made.depth, depth + 1);
        } else if (source.tensor.has_value()) {
          sources.push_back(source.tensor->entry);
        }
      }
      for (const TensorRef& repeated : coding->repeats) {
        sources.push_back(repeated.entry);
      }
    }
    std::erase(sources, i);
    number_of[i] = entries.size();
    entries.push_back(i);
    inside.push_back(std::move(sources));
    record.objects.push_back(std::move(made));
    RETURN_IF_ERROR(ReadContents(archive, i, &record));
  }
  // Chains inside are as short as blocks may refer to each other.
  for (int round = 0; round <= archive::FetchLimits().depth; ++round) {
    for (size_t k = 0; k < entries.size(); ++k) {
      for (const size_t source : inside[k]) {
        const auto found = number_of.find(source);
        if (found == number_of.end()) continue;
        record.objects[k].depth = std::max(record.objects[k].depth,
                                           record.objects[found->second].depth);
      }
    }
  }
  for (size_t k = 0; k < entries.size(); ++k) {
    for (const size_t source : inside[k]) {
      const auto found = number_of.find(source);
      if (found != number_of.end()) {
        record.objects[k].sources.push_back(
            record.objects[found->second].sha256);
      }
    }
    auto& sources = record.objects[k].sources;
    std::ranges::sort(sources);
    sources.erase(std::unique(sources.begin(), sources.end()), sources.end());
  }
  return record;
}

absl::StatusOr<uint64_t> Repository::Refresh() {
  uint64_t changed = 0;
  ASSIGN_OR_RETURN(const std::vector<std::string> known, catalogue_->Packs());
  std::set<std::string> gone(known.begin(), known.end());
  ASSIGN_OR_RETURN(const std::vector<storage::Info> there,
                   storage_->List(kPacksPrefix));
  std::vector<std::string> added;
  for (const storage::Info& info : there) {
    const std::string id = PackIdOf(info.key);
    if (!id.empty() && gone.erase(id) == 0) added.push_back(id);
  }
  for (const std::string& id : gone) {
    RETURN_IF_ERROR(catalogue_->RemovePack(id));
    ++changed;
  }
  // What cannot be read is fsck's to tell; gc may have deleted it meanwhile.
  for (const std::string& id : added) {
    const absl::StatusOr<PackRecord> record = ReadPack(id);
    if (!record.ok()) continue;
    RETURN_IF_ERROR(catalogue_->AddPack(*record));
    ++changed;
  }
  return changed;
}

absl::Status Repository::WithCopy(
    const Sha256Digest& object, int max_depth,
    const std::function<absl::Status(const Pack&, size_t)>& use) {
  absl::Status failed = NoObject(object);
  // Again where packs have come and gone since the catalogue was told.
  for (int attempt = 0; attempt < 2; ++attempt) {
    ASSIGN_OR_RETURN(const std::vector<ObjectPlace> places,
                     catalogue_->Find(object));
    for (const ObjectPlace& place : places) {
      if (place.depth > max_depth) continue;
      const absl::StatusOr<std::shared_ptr<const Pack>> pack =
          OpenPack(place.pack);
      absl::Status status = pack.status();
      if (pack.ok()) {
        const auto entry = (*pack)->entries.find(object);
        status = entry == (*pack)->entries.end() ? NoObject(object)
                                                 : use(**pack, entry->second);
      }
      if (status.ok()) return status;
      failed = Annotate(status, "object ", Hex(object), " in pack ", place.pack,
                        ": ");
    }
    if (attempt > 0) break;
    ASSIGN_OR_RETURN(const uint64_t changed, Refresh());
    if (changed == 0) break;
  }
  return failed;
}

absl::StatusOr<ObjectPlace> Repository::Locate(const Sha256Digest& object,
                                               int max_depth) {
  for (int attempt = 0; attempt < 2; ++attempt) {
    ASSIGN_OR_RETURN(const std::vector<ObjectPlace> places,
                     catalogue_->Find(object));
    for (const ObjectPlace& place : places) {
      if (place.depth <= max_depth) return place;
    }
    if (attempt == 0) RETURN_IF_ERROR(Refresh().status());
  }
  return NoObject(object);
}

absl::Status Repository::Read(const Sha256Digest& object, uint64_t offset,
                              MutableByteSpan out, int max_depth) {
  return WithCopy(object, max_depth, [&](const Pack& pack, size_t entry) {
    return pack.archive.ReadRange(entry, offset, out);
  });
}

absl::StatusOr<std::vector<uint8_t>> Repository::ReadWhole(
    const Sha256Digest& object, uint64_t max_bytes) {
  std::vector<uint8_t> bytes;
  const absl::Status read = WithCopy(
      object, 255, [&](const Pack& pack, size_t entry) -> absl::Status {
        ASSIGN_OR_RETURN(bytes, ReadEntry(pack.archive, entry, max_bytes));
        if (Sha256Of(bytes) != object) {
          return DataLoss("does not have the SHA-256 that it is named by");
        }
        return absl::OkStatus();
      });
  RETURN_IF_ERROR(read);
  return bytes;
}

absl::StatusOr<std::pair<uint64_t, uint64_t>> Repository::BlockAt(
    const Sha256Digest& object, uint64_t offset) {
  std::pair<uint64_t, uint64_t> block;
  RETURN_IF_ERROR(WithCopy(
      object, 255, [&](const Pack& pack, size_t entry) -> absl::Status {
        ASSIGN_OR_RETURN(block, pack.archive.BlockAt(entry, offset));
        return absl::OkStatus();
      }));
  return block;
}

absl::StatusOr<std::vector<std::pair<ModelName, Reference>>>
Repository::References() {
  ASSIGN_OR_RETURN(const std::vector<storage::Info> keys,
                   storage_->List(kReferencesPrefix));
  std::vector<std::pair<ModelName, Reference>> references;
  for (const storage::Info& info : keys) {
    absl::StatusOr<ModelName> name = ModelNameOf(info.key);
    if (!name.ok()) continue;  // a foreign file: fsck tells of it
    absl::StatusOr<std::pair<Reference, std::string>> found =
        FindReference(*name);
    if (absl::IsNotFound(found.status())) continue;  // removed meanwhile
    RETURN_IF_ERROR(found.status());
    references.emplace_back(std::move(*name), found->first);
  }
  std::ranges::sort(references, {}, [](const auto& r) { return r.first; });
  return references;
}

absl::Status Repository::NoModel(const ModelName& name) {
  constexpr size_t kMost = 4;
  size_t others = 0;
  std::string text = storage_->Name() + " has no model " + name.Text();
  const auto keys = storage_->List(kReferencesPrefix);
  if (!keys.ok()) return absl::NotFoundError(text);
  for (const storage::Info& info : *keys) {
    const absl::StatusOr<ModelName> other = ModelNameOf(info.key);
    if (!other.ok() || other->name != name.name || other->Text() == name.Text())
      continue;
    if (++others > kMost) return absl::NotFoundError(text + ", ...");
    text += (others == 1 ? "; there is " : ", ") + other->Text();
  }
  return absl::NotFoundError(text);
}

absl::StatusOr<std::pair<Reference, std::string>> Repository::FindReference(
    const ModelName& name) {
  RETURN_IF_ERROR(CheckModelName(name));
  const absl::StatusOr<storage::Value> value =
      storage_->Get(ReferenceKey(name), kMaxSmallValue);
  if (absl::IsNotFound(value.status())) {
    return absl::NotFoundError(storage_->Name() + " has no model " +
                               name.Text());
  }
  RETURN_IF_ERROR(value.status());
  const absl::StatusOr<Reference> reference = ParseReference(value->bytes);
  RETURN_IF_ERROR(Annotate(reference.status(), storage_->Name(), ": reference ",
                           name.Text(), ": "));
  return std::pair(*reference, value->version);
}

absl::StatusOr<Manifest> Repository::ReadManifest(
    const Sha256Digest& manifest) {
  ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes,
                   ReadWhole(manifest, kMaxManifest));
  return ParseManifest(bytes);
}

absl::StatusOr<std::set<std::string>> Repository::Condemned() {
  ASSIGN_OR_RETURN(const std::vector<storage::Info> keys,
                   storage_->List(kCondemnedPrefix));
  std::set<std::string> condemned;
  for (const storage::Info& info : keys) {
    condemned.insert(info.key.substr(sizeof(kCondemnedPrefix) - 1));
  }
  return condemned;
}

absl::StatusOr<std::set<std::string>> Repository::UsablePacks() {
  // In this order: a pack goes before what condemns it. What is condemned later
  // is so after the lease.
  ASSIGN_OR_RETURN(const std::set<std::string> condemned, Condemned());
  ASSIGN_OR_RETURN(const std::vector<storage::Info> there,
                   storage_->List(kPacksPrefix));
  std::set<std::string> usable;
  for (const storage::Info& info : there) {
    const std::string id = PackIdOf(info.key);
    if (!id.empty() && !condemned.contains(id)) usable.insert(id);
  }
  return usable;
}

absl::StatusOr<archive::BaseTensor*> Repository::Find(
    const container::OutsideReference& reference) {
  // The name of an object was proved when it was stored, and each block is
  // proved by its XXH3 when it is read (format-spec/store.md, "Objects").
  ASSIGN_OR_RETURN(const ObjectPlace place,
                   Locate(reference.sha256, reference.depth));
  if (place.length != reference.length) {
    return DataLoss("object ", Hex(reference.sha256), " has ", place.length,
                    " bytes, not ", reference.length);
  }
  std::lock_guard lock(mutex_);
  auto& base = bases_[{reference.sha256, reference.depth}];
  if (base == nullptr) {
    base = std::make_unique<archive::BaseTensor>();
    base->name = reference.tensor;
    base->model = reference.model;
    base->length = reference.length;
    base->depth = reference.depth;
    base->SetCoded(
        [this, object = reference.sha256, depth = reference.depth](
            uint64_t offset, MutableByteSpan out) {
          return Read(object, offset, out, depth);
        },
        pieces_, reference.sha256);
  }
  return base.get();
}

std::vector<Sha256Digest> ObjectsOf(const Manifest& manifest) {
  std::vector<Sha256Digest> objects;
  for (const Manifest::File& file : manifest.files) {
    for (const Manifest::Part& part : file.parts) {
      if (part.literal.empty()) objects.push_back(part.object);
    }
  }
  std::ranges::sort(objects);
  objects.erase(std::unique(objects.begin(), objects.end()), objects.end());
  return objects;
}

}  // namespace zipllm::store
