// Store::Add.
#include <algorithm>
#include <ctime>
#include <map>
#include <set>
#include <utility>

#include "archive/duplicates.h"
#include "archive/input_tree.h"
#include "base/buffer.h"
#include "base/bytes.h"
#include "base/executor.h"
#include "base/file.h"
#include "container/format.h"
#include "store/candidates.h"
#include "store/pack_writer.h"
#include "store/repository.h"
#include "store/verify.h"

namespace zipllm::store {
namespace {

using archive::Input;

constexpr size_t kReadStep = size_t{1} << 20;
// Models that tensors are compared with, beside those that are named.
constexpr size_t kCandidates = 8;
// Model cards and configurations are smaller.
constexpr uint64_t kMaxHintFile = uint64_t{1} << 20;

class Addition {
 public:
  Addition(Repository& repository, const ModelName& name,
           const AddOptions& options)
      : repository_(repository),
        name_(name),
        options_(options),
        executor_(ThreadCount(repository.options().threads)) {}

  absl::StatusOr<AddResult> Run(const std::string& path);

 private:
  // A tensor or gap that is an object, and where it is first.
  struct Object {
    size_t file;
    size_t segment;
    bool known = false;
  };

  absl::Status Report() const {
    const auto& progress = repository_.options().progress;
    if (progress && !progress(progress_)) {
      return absl::CancelledError("interrupted");
    }
    return absl::OkStatus();
  }
  absl::Status List(const std::string& path);
  // Reads a file: its layout, its SHA-256, those of its segments.
  absl::Status Hash(size_t file);
  // Which objects there are, and which of them are stored already.
  absl::Status FindKnown();
  absl::StatusOr<bool> IsKnown(const Sha256Digest& object);
  // The models that new objects may be coded against, the likeliest first.
  absl::StatusOr<std::vector<Sha256Digest>> FindBaseModels();
  absl::Status AddHinted(const std::string& hint,
                         std::vector<Sha256Digest>* models);
  absl::Status AddBases(const Sha256Digest& model, PackOptions* pack);
  absl::Status Write(const std::vector<uint8_t>& manifest);
  absl::Status Commit(const Reference& reference);

  Segment& SegmentOf(const Object& object) {
    return manifest_.files[object.file].entry.layout.segments[object.segment];
  }

  Repository& repository_;
  const ModelName& name_;
  const AddOptions& options_;
  std::vector<Input> inputs_;  // by file of the manifest
  Manifest manifest_;
  std::map<Sha256Digest, Object> objects_;
  std::set<std::string> packs_;  // that nobody deletes before this is done
  std::map<std::string, Damage> damage_;  // of packs
  std::string version_;  // of the reference that is there; "" if none
  std::map<Sha256Digest, ModelName> base_names_;  // by manifest
  std::map<Sha256Digest, Sha256Digest> base_of_;  // object: manifest
  AddResult result_;
  std::mutex mutex_;  // of progress_ while files are hashed
  Progress progress_;
  std::shared_ptr<Lease> lease_;
  Executor executor_;
};

absl::Status Addition::List(const std::string& path) {
  ASSIGN_OR_RETURN(inputs_,
                   archive::ListInputs(path, archive::Links::kFollowOutside,
                                       repository_.options().warning));
  // A model is a tree, if only of one file.
  if (inputs_.front().entry.kind == EntryKind::kFile) {
    Input root;
    root.entry.kind = EntryKind::kDirectory;
    inputs_.insert(inputs_.begin(), std::move(root));
  }
  for (const Input& input : inputs_) {
    manifest_.files.push_back({.entry = input.entry, .parts = {}});
    progress_.bytes_total += input.entry.size;
  }
  return absl::OkStatus();
}

absl::Status Addition::Hash(size_t number) {
  Manifest::File& file = manifest_.files[number];
  const std::string& path = inputs_[number].path;
  ASSIGN_OR_RETURN(std::unique_ptr<Source> source, OpenFileSource(path));
  if (!source->Seekable()) {
    return InvalidArgument(path, ": a store takes files, not pipes");
  }
  std::vector<uint8_t> prefix;
  ASSIGN_OR_RETURN(file.entry.layout, archive::ReadLayout(*source, &prefix));
  file.entry.size = source->Size().value_or(0);
  // What the header says beyond the file's end is not there; what it does not
  // say is a gap.
  std::vector<Segment>& segments = file.entry.layout.segments;
  uint64_t end = 0;
  for (size_t i = 0; i < segments.size(); ++i) {
    if (segments[i].length > file.entry.size - end) {
      segments.resize(i);
      break;
    }
    end += segments[i].length;
  }
  std::erase_if(segments, [](const Segment& s) { return s.length == 0; });
  if (end < file.entry.size) {
    segments.push_back({.name = "",
                        .dtype = DType::kBytes,
                        .shape = {},
                        .offset = end,
                        .length = file.entry.size - end});
  }

  Sha256 whole;
  Buffer step;
  for (const Segment& segment : segments) {
    Sha256 hash;
    Manifest::Part part;
    for (uint64_t at = 0; at < segment.length; at += step.size()) {
      step.Resize(std::min<uint64_t>(kReadStep, segment.length - at));
      RETURN_IF_ERROR(
          ReadAtExactly(*source, segment.offset + at, step.mutable_span()));
      whole.Update(step.span());
      if (segment.length > kMaxLiteral) {
        hash.Update(step.span());
      } else {
        part.literal.assign(step.span().begin(), step.span().end());
      }
    }
    if (segment.length > kMaxLiteral) part.object = hash.Finish();
    file.parts.push_back(std::move(part));
  }
  file.entry.sha256 = whole.Finish();
  std::lock_guard lock(mutex_);
  progress_.bytes_done += file.entry.size;
  progress_.current = path;
  return absl::OkStatus();
}

absl::StatusOr<bool> Addition::IsKnown(const Sha256Digest& object) {
  ASSIGN_OR_RETURN(const std::vector<ObjectPlace> places,
                   repository_.catalogue().Find(object));
  // The catalogue may lag behind: a pack of it may be gone. What fsck found
  // damaged is stored anew.
  return std::ranges::any_of(places, [&](const ObjectPlace& place) {
    const auto damage = damage_.find(place.pack);
    return packs_.contains(place.pack) &&
           (damage == damage_.end() || !IsDamaged(damage->second, object));
  });
}

absl::Status Addition::FindKnown() {
  for (size_t i = 0; i < manifest_.files.size(); ++i) {
    const Manifest::File& file = manifest_.files[i];
    for (size_t k = 0; k < file.parts.size(); ++k) {
      if (!file.parts[k].literal.empty()) continue;
      objects_.try_emplace(file.parts[k].object,
                           Object{.file = i, .segment = k});
    }
  }
  for (auto& [sha256, object] : objects_) {
    ASSIGN_OR_RETURN(object.known, IsKnown(sha256));
    ++result_.objects;
    if (object.known) continue;
    ++result_.new_objects;
    result_.new_bytes += SegmentOf(object).length;
  }
  return absl::OkStatus();
}

absl::Status Addition::AddHinted(const std::string& hint,
                                 std::vector<Sha256Digest>* models) {
  const absl::StatusOr<ModelName> name = ModelName::Parse(hint);
  if (!name.ok()) return absl::OkStatus();
  const auto reference = repository_.FindReference(*name);
  if (absl::IsNotFound(reference.status())) return absl::OkStatus();
  RETURN_IF_ERROR(reference.status());
  models->push_back(reference->first.manifest);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Sha256Digest>> Addition::FindBaseModels() {
  std::vector<Sha256Digest> models;
  for (const std::string& base : options_.bases) {
    ASSIGN_OR_RETURN(const ModelName name, ModelName::Parse(base));
    const auto found = repository_.FindReference(name);
    if (absl::IsNotFound(found.status())) return repository_.NoModel(name);
    RETURN_IF_ERROR(found.status());
    models.push_back(found->first.manifest);
  }
  for (size_t i = 0; i < manifest_.files.size(); ++i) {
    const Entry& entry = manifest_.files[i].entry;
    if (entry.kind != EntryKind::kFile || entry.size > kMaxHintFile) continue;
    const std::string file_name = SplitPath(entry.path).second;
    ASSIGN_OR_RETURN(const std::unique_ptr<Source> source,
                     OpenFileSource(inputs_[i].path));
    std::string text(entry.size, '\0');
    RETURN_IF_ERROR(ReadAtExactly(
        *source, 0, {reinterpret_cast<uint8_t*>(text.data()), text.size()}));
    for (const std::string& hint : BaseModelHints(file_name, text)) {
      RETURN_IF_ERROR(AddHinted(hint, &models));
    }
  }

  std::vector<TensorSketch> sketches;
  std::vector<Sha256Digest> known;
  for (auto& [sha256, object] : objects_) {
    const Segment& segment = SegmentOf(object);
    if (segment.dtype == DType::kBytes) continue;
    if (object.known) {
      known.push_back(sha256);
      continue;
    }
    ASSIGN_OR_RETURN(const std::unique_ptr<Source> source,
                     OpenFileSource(inputs_[object.file].path));
    const std::optional<TensorSketch> sketch = SketchTensor(
        sha256, segment, [&](uint64_t offset, MutableByteSpan out) {
          return ReadAtExactly(*source, segment.offset + offset, out);
        });
    if (sketch.has_value()) sketches.push_back(*sketch);
  }
  ASSIGN_OR_RETURN(const std::vector<ModelCandidate> candidates,
                   FindCandidates(repository_.catalogue(), sketches, known,
                                  kCandidates, options_.max_depth));
  for (const ModelCandidate& candidate : candidates) {
    models.push_back(candidate.manifest);
  }
  std::set<Sha256Digest> seen;
  std::erase_if(models, [&](const Sha256Digest& model) {
    return !seen.insert(model).second;
  });
  return models;
}

absl::Status Addition::AddBases(const Sha256Digest& model, PackOptions* pack) {
  const absl::StatusOr<Manifest> manifest = repository_.ReadManifest(model);
  if (!manifest.ok()) return absl::OkStatus();  // its pack may be gone
  const auto name = base_names_.find(model);
  const std::string text =
      name == base_names_.end() ? Hex(model) : name->second.Text();
  for (const Manifest::File& file : manifest->files) {
    for (size_t k = 0; k < file.parts.size(); ++k) {
      const Segment& segment = file.entry.layout.segments[k];
      const Sha256Digest& object = file.parts[k].object;
      if (!file.parts[k].literal.empty() || segment.dtype == DType::kBytes) {
        continue;
      }
      ASSIGN_OR_RETURN(const bool usable, IsKnown(object));
      if (!usable) continue;
      pack->bases.push_back({object, segment, text + ":" + file.entry.path});
      base_of_.emplace(object, model);
    }
  }
  return absl::OkStatus();
}

absl::Status Addition::Write(const std::vector<uint8_t>& manifest) {
  PackOptions pack;
  pack.level = options_.level;
  pack.verify = options_.verify;
  pack.max_depth = options_.max_depth;
  pack.packs = packs_;
  if (pack.max_depth > 0 && result_.new_objects != 0) {
    ASSIGN_OR_RETURN(const std::vector<Sha256Digest> models, FindBaseModels());
    ASSIGN_OR_RETURN(const auto references, repository_.References());
    for (const auto& [name, reference] : references) {
      base_names_.emplace(reference.manifest, name);
    }
    for (const Sha256Digest& model : models) {
      RETURN_IF_ERROR(AddBases(model, &pack));
    }
  }
  // In the order of the files: that of hashes says nothing.
  std::vector<NewObject> objects;
  for (size_t i = 0; i < manifest_.files.size(); ++i) {
    const Manifest::File& file = manifest_.files[i];
    for (size_t k = 0; k < file.parts.size(); ++k) {
      const auto object = objects_.find(file.parts[k].object);
      if (!file.parts[k].literal.empty() || object->second.known ||
          object->second.file != i || object->second.segment != k) {
        continue;
      }
      objects.push_back(
          {.sha256 = object->first,
           .segment = file.entry.layout.segments[k],
           .format = file.entry.layout.format,
           .open = [path = inputs_[i].path] { return OpenFileSource(path); },
           .file = file.entry.path});
    }
  }
  objects.push_back(ObjectOfBytes(manifest, kManifestFormat));
  ASSIGN_OR_RETURN(const PackRecord record,
                   WritePack(repository_, objects, pack));
  result_.stored_bytes = record.bytes;
  std::set<ModelName> bases;
  for (const auto& [object, depth] : record.needs) {
    const auto model = base_of_.find(object);
    if (model == base_of_.end()) continue;
    const auto name = base_names_.find(model->second);
    if (name != base_names_.end()) bases.insert(name->second);
  }
  result_.bases.assign(bases.begin(), bases.end());
  return absl::OkStatus();
}

absl::Status Addition::Commit(const Reference& reference) {
  storage::Storage& storage = repository_.storage();
  // Packs of others that this relies on: who put them may not have synced.
  RETURN_IF_ERROR(storage.Sync());
  // What gc deletes while this process sleeps must not be referred to.
  RETURN_IF_ERROR(lease_->CheckHeld());
  const std::string text = WriteReference(reference);
  const absl::Status put =
      storage.PutIfMatch(ReferenceKey(name_), AsBytes(text), version_);
  if (absl::IsAborted(put)) {
    return absl::AbortedError(name_.Text() +
                              " was changed meanwhile by another process: "
                              "look at what it has, then try again");
  }
  RETURN_IF_ERROR(put);
  return storage.Sync();
}

absl::StatusOr<AddResult> Addition::Run(const std::string& path) {
  RETURN_IF_ERROR(CheckModelName(name_));
  RETURN_IF_ERROR(CheckFeatures(repository_.header(), Operation::kAdd));
  if (options_.level < kMinLevel || options_.level > kMaxLevel ||
      options_.max_depth < 0 || options_.max_depth > container::kMaxDepth) {
    return InvalidArgument("level ", options_.level, " and depth ",
                           options_.max_depth, " must be ", kMinLevel, " to ",
                           kMaxLevel, " and 0 to ", int{container::kMaxDepth});
  }
  // The lease first: what gc condemns after it waits for its end, what it has
  // condemned before is seen now.
  ASSIGN_OR_RETURN(lease_, repository_.leases().Take("add"));
  ASSIGN_OR_RETURN(packs_, repository_.UsablePacks());
  ASSIGN_OR_RETURN(damage_, ReadDamage(repository_.storage()));
  RETURN_IF_ERROR(repository_.Refresh().status());
  std::optional<Reference> old;
  const auto found = repository_.FindReference(name_);
  if (found.ok()) {
    old = found->first;
    version_ = found->second;
  } else if (!absl::IsNotFound(found.status())) {
    return found.status();
  }

  RETURN_IF_ERROR(List(path));
  RETURN_IF_ERROR(ForEach(
      executor_, manifest_.files.size(),
      [this](size_t i) {
        return inputs_[i].entry.kind == EntryKind::kFile ? Hash(i)
                                                         : absl::OkStatus();
      },
      [this] {
        std::lock_guard lock(mutex_);
        return Report();
      }));
  Reference reference;
  for (const Manifest::File& file : manifest_.files) {
    if (file.entry.kind != EntryKind::kFile) continue;
    ++reference.files;
    reference.plain_bytes += file.entry.size;
  }
  const std::vector<uint8_t> manifest = WriteManifest(manifest_);
  reference.manifest = Sha256Of(manifest);
  reference.manifest_length = manifest.size();
  reference.created_seconds = static_cast<int64_t>(time(nullptr));
  RETURN_IF_ERROR(FindKnown());
  ASSIGN_OR_RETURN(const bool has_manifest, IsKnown(reference.manifest));
  const bool same = old.has_value() && old->manifest == reference.manifest;
  if (old.has_value() && !same && !options_.replace) {
    return absl::AlreadyExistsError(name_.Text() +
                                    " is there with other files");
  }
  if (result_.new_objects != 0 || !has_manifest) {
    RETURN_IF_ERROR(Write(manifest));
  }
  result_.existed = same;
  if (same) {
    reference = *old;
    // Who put it may have died before it was synced.
    storage::Storage& storage = repository_.storage();
    RETURN_IF_ERROR(storage.List(kReferencesPrefix).status());
    RETURN_IF_ERROR(storage.Sync());
  } else {
    RETURN_IF_ERROR(Commit(reference));
  }
  result_.model = {name_, reference.manifest, reference.created_seconds,
                   reference.files, reference.plain_bytes};
  return result_;
}

}  // namespace

absl::StatusOr<AddResult> Add(Repository& repository, const ModelName& name,
                              const std::string& path,
                              const AddOptions& options) {
  return Addition(repository, name, options).Run(path);
}

}  // namespace zipllm::store
