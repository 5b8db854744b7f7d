#include "store/pack_writer.h"

#include <algorithm>
#include <deque>
#include <utility>

#include "archive/input_tree.h"
#include "archive/write_entries.h"
#include "base/file.h"
#include "base/range_source.h"
#include "store/candidates.h"

namespace zipllm::store {
namespace {

archive::Input InputOf(const NewObject& object) {
  archive::Input input;
  input.path = object.file;
  input.entry.path = ObjectEntryName(object.sha256);
  input.entry.size = object.segment.length;
  input.entry.layout.format = object.format;
  input.entry.layout.segments = {object.segment};
  input.entry.layout.segments[0].offset = 0;
  input.has_layout = true;
  input.sha256 = object.sha256;
  input.file = object.file;
  input.open =
      [open = object.open, begin = object.segment.offset,
       length =
           object.segment.length]() -> absl::StatusOr<std::unique_ptr<Source>> {
    ASSIGN_OR_RETURN(std::unique_ptr<Source> whole, open());
    std::string name = whole->Name();
    return MakeRangeSource(
        length, std::move(name),
        [begin, whole = std::shared_ptr<Source>(std::move(whole))](
            uint64_t offset, MutableByteSpan out) {
          return ReadAtExactly(*whole, begin + offset, out);
        });
  };
  return input;
}

std::vector<TensorSketch> SketchesOf(
    const std::vector<archive::Input>& inputs) {
  std::vector<TensorSketch> sketches;
  for (const archive::Input& input : inputs) {
    if (!input.sha256.has_value()) continue;
    const Segment& segment = input.entry.layout.segments[0];
    if (segment.dtype == DType::kBytes) continue;
    absl::StatusOr<std::unique_ptr<Source>> source = input.open();
    if (!source.ok()) continue;
    const std::optional<TensorSketch> sketch = SketchTensor(
        *input.sha256, segment, [&](uint64_t offset, MutableByteSpan out) {
          return ReadAtExactly(**source, offset, out);
        });
    if (sketch.has_value()) sketches.push_back(*sketch);
  }
  return sketches;
}

// The bases as the archive layer knows them.
absl::Status AddBases(Repository& repository, const PackOptions& options,
                      const std::shared_ptr<archive::PieceCache>& pieces,
                      std::deque<archive::BaseTensor>* bases) {
  std::set<Sha256Digest> seen;
  std::vector<std::pair<uint8_t, const PackOptions::Base*>> found;
  for (const PackOptions::Base& base : options.bases) {
    if (base.segment.dtype == DType::kBytes || base.segment.length == 0 ||
        !seen.insert(base.object).second) {
      continue;
    }
    ASSIGN_OR_RETURN(const std::vector<ObjectPlace> places,
                     repository.catalogue().Find(base.object));
    const auto place =
        std::ranges::find_if(places, [&](const ObjectPlace& copy) {
          return options.packs.contains(copy.pack) &&
                 copy.depth < options.max_depth &&
                 copy.length == base.segment.length;
        });
    if (place != places.end()) found.emplace_back(place->depth, &base);
  }
  // Of those that are as near, what others were made of serves: it comes first.
  std::ranges::stable_sort(found, {}, [](const auto& f) { return f.first; });
  for (const auto& [depth, base] : found) {
    archive::BaseTensor& tensor = bases->emplace_back();
    tensor.name = base->segment.name;
    tensor.dtype = base->segment.dtype;
    tensor.shape = base->segment.shape;
    tensor.length = base->segment.length;
    tensor.model = base->file;
    tensor.depth = depth;
    tensor.SetCoded(
        [&repository, object = base->object, max_depth = int{depth}](
            uint64_t offset, MutableByteSpan out) {
          return repository.Read(object, offset, out, max_depth);
        },
        pieces, base->object);
  }
  return absl::OkStatus();
}

// Whether what is coded against some of them can itself not be a base: then
// what is a bit further away, but not at the end of a chain, is better for
// those that come after this one.
bool IsAtLimit(const std::deque<archive::BaseTensor>& bases, int max_depth) {
  return std::ranges::any_of(bases, [&](const archive::BaseTensor& base) {
    return base.depth + 1 >= max_depth;
  });
}

}  // namespace

NewObject ObjectOfBytes(std::vector<uint8_t> bytes, const char* format) {
  const auto kept =
      std::make_shared<const std::vector<uint8_t>>(std::move(bytes));
  NewObject object;
  object.sha256 = Sha256Of(*kept);
  object.segment.length = kept->size();
  object.format = format;
  object.file = format;
  object.open = [kept]() -> absl::StatusOr<std::unique_ptr<Source>> {
    return MakeOwningSource(kept, "memory");
  };
  return object;
}

NewObject ObjectOfRecord(const ObjectRecord& record) {
  NewObject object;
  object.sha256 = record.sha256;
  object.segment.name = record.name;
  object.segment.dtype = record.dtype;
  object.segment.shape = record.shape;
  object.segment.length = record.length;
  object.format = record.format;
  object.file = record.format;
  return object;
}

absl::StatusOr<PackRecord> WritePack(Repository& repository,
                                     const std::vector<NewObject>& objects,
                                     const PackOptions& options) {
  std::vector<archive::Input> inputs(1);
  inputs[0].entry.kind = EntryKind::kDirectory;
  for (const NewObject& object : objects) inputs.push_back(InputOf(object));
  const std::vector<TensorSketch> sketches = SketchesOf(inputs);
  if (!sketches.empty()) {
    const NewObject object =
        ObjectOfBytes(WriteSketches(sketches), kSketchesFormat);
    inputs.push_back(InputOf(object));
  }

  std::deque<archive::BaseTensor> bases;
  const StoreOptions& settings = repository.options();
  if (options.max_depth > 0) {
    RETURN_IF_ERROR(
        AddBases(repository, options,
                 std::make_shared<archive::PieceCache>(settings.max_memory / 8),
                 &bases));
  }
  CompressOptions compress;
  compress.level = options.level;
  compress.threads = settings.threads;
  compress.verify = options.verify;
  compress.deduplicate = options.max_depth > 0;
  compress.progress = settings.progress;
  compress.warning = settings.warning;

  const std::string id = NewPackId();
  storage::Storage& storage = repository.storage();
  ASSIGN_OR_RETURN(const std::unique_ptr<storage::Upload> upload,
                   storage.PutIfAbsent(PackKey(id)));
  RETURN_IF_ERROR(archive::WriteEntries(
                      inputs, bases.empty() ? nullptr : &bases,
                      IsAtLimit(bases, options.max_depth), compress, *upload)
                      .status());
  RETURN_IF_ERROR(upload->Commit());
  RETURN_IF_ERROR(storage.Sync());
  ASSIGN_OR_RETURN(PackRecord record, repository.ReadPack(id));
  RETURN_IF_ERROR(repository.catalogue().AddPack(record));
  return record;
}

}  // namespace zipllm::store
