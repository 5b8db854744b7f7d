#include "zipllm/store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <utility>

#include "archive/input_tree.h"
#include "archive/output.h"
#include "archive/write_entries.h"
#include "base/buffer.h"
#include "base/bytes.h"
#include "base/executor.h"
#include "base/file.h"
#include "base/range_source.h"
#include "storage/local.h"
#include "store/repository.h"

namespace zipllm {
namespace {

using store::Manifest;
using store::Repository;

// Decoded at once when files are restored, a thread.
constexpr uint64_t kStep = uint64_t{4} << 20;

class Model : public StoredModel {
 public:
  Model(std::shared_ptr<Repository> repository,
        std::shared_ptr<store::Lease> lease, ModelInfo info, Manifest manifest)
      : repository_(std::move(repository)),
        lease_(std::move(lease)),
        info_(std::move(info)) {
    for (Manifest::File& file : manifest.files) {
      entries_.push_back(std::move(file.entry));
      parts_.push_back(std::move(file.parts));
    }
  }
  const ModelInfo& info() const override { return info_; }
  const std::vector<Entry>& entries() const override { return entries_; }
  absl::StatusOr<std::pair<uint64_t, uint64_t>> BlockAt(
      size_t entry, uint64_t offset) const override {
    using Block = std::pair<uint64_t, uint64_t>;
    return CatchExceptions([&]() -> absl::StatusOr<Block> {
      RETURN_IF_ERROR(CheckRange(entry, offset, 1));
      return Find(entry, offset);
    });
  }
  absl::Status ReadRange(size_t entry, uint64_t offset,
                         MutableByteSpan out) const override {
    return CatchExceptions(
        [&]() -> absl::Status { return Read(entry, offset, out); });
  }
  absl::StatusOr<uint64_t> CodedSize(size_t entry) const override;

 private:
  absl::Status CheckRange(size_t entry, uint64_t offset, uint64_t length) const;
  size_t PartAt(size_t entry, uint64_t offset) const {
    const std::vector<Segment>& segments = entries_[entry].layout.segments;
    const auto after =
        std::ranges::upper_bound(segments, offset, {}, &Segment::offset);
    return static_cast<size_t>(after - segments.begin()) - 1;
  }
  absl::StatusOr<std::pair<uint64_t, uint64_t>> Find(size_t entry,
                                                     uint64_t offset) const;
  absl::Status Read(size_t entry, uint64_t offset, MutableByteSpan out) const;
  // Of one part.
  absl::Status ReadPart(size_t entry, size_t part, uint64_t offset,
                        MutableByteSpan out) const;

  const std::shared_ptr<Repository> repository_;
  const std::shared_ptr<store::Lease> lease_;
  const ModelInfo info_;
  std::vector<Entry> entries_;
  std::vector<std::vector<Manifest::Part>> parts_;
};

absl::Status Model::CheckRange(size_t entry, uint64_t offset,
                               uint64_t length) const {
  if (entry >= entries_.size() || entries_[entry].kind != EntryKind::kFile) {
    return InvalidArgument("entry ", entry, " is no file of ",
                           info_.name.Text());
  }
  const uint64_t size = entries_[entry].size;
  if (offset <= size && length <= size - offset) return absl::OkStatus();
  return MakeStatus(absl::StatusCode::kOutOfRange, "bytes ", offset, " to ",
                    offset + length, " are past the end of ",
                    entries_[entry].path, " (", size, " bytes)");
}

absl::StatusOr<std::pair<uint64_t, uint64_t>> Model::Find(
    size_t entry, uint64_t offset) const {
  const size_t i = PartAt(entry, offset);
  const Segment& segment = entries_[entry].layout.segments[i];
  const Manifest::Part& part = parts_[entry][i];
  if (!part.literal.empty()) {
    return std::pair(segment.offset, segment.offset + segment.length);
  }
  ASSIGN_OR_RETURN(const auto block,
                   repository_->BlockAt(part.object, offset - segment.offset));
  return std::pair(segment.offset + block.first, segment.offset + block.second);
}

absl::Status Model::ReadPart(size_t entry, size_t i, uint64_t offset,
                             MutableByteSpan out) const {
  const Segment& segment = entries_[entry].layout.segments[i];
  const Manifest::Part& part = parts_[entry][i];
  const uint64_t begin = offset - segment.offset;
  if (part.literal.empty()) {
    return Annotate(repository_->Read(part.object, begin, out),
                    info_.name.Text(), ", ", entries_[entry].path, ", ",
                    segment.name.empty() ? "bytes" : segment.name, ": ");
  }
  std::copy_n(part.literal.begin() + static_cast<ptrdiff_t>(begin), out.size(),
              out.begin());
  return absl::OkStatus();
}

absl::Status Model::Read(size_t entry, uint64_t offset,
                         MutableByteSpan out) const {
  RETURN_IF_ERROR(CheckRange(entry, offset, out.size()));
  // What lies in one part and block each, so that no block is decoded twice.
  struct Piece {
    size_t part;
    uint64_t begin;
    MutableByteSpan out;
  };
  std::vector<Piece> pieces;
  for (uint64_t at = offset; at < offset + out.size();) {
    ASSIGN_OR_RETURN(const auto block, Find(entry, at));
    const uint64_t end = std::min(block.second, offset + out.size());
    pieces.push_back(
        {PartAt(entry, at), at, out.subspan(at - offset, end - at)});
    at = end;
  }
  const auto read = [&](size_t i) {
    return ReadPart(entry, pieces[i].part, pieces[i].begin, pieces[i].out);
  };
  if (pieces.size() == 1) return read(0);
  const int threads = ThreadCount(repository_->options().threads);
  Executor executor(std::min(threads, static_cast<int>(pieces.size() + 1)));
  return ForEach(executor, pieces.size(), read,
                 [] { return absl::OkStatus(); });
}

absl::StatusOr<uint64_t> Model::CodedSize(size_t entry) const {
  return CatchExceptions([&]() -> absl::StatusOr<uint64_t> {
    RETURN_IF_ERROR(CheckRange(entry, 0, 0));
    uint64_t size = 0;
    for (const Manifest::Part& part : parts_[entry]) {
      if (!part.literal.empty()) {
        size += part.literal.size();
        continue;
      }
      ASSIGN_OR_RETURN(const store::ObjectPlace place,
                       repository_->Locate(part.object));
      size += place.coded_bytes;
    }
    return size;
  });
}

ModelInfo InfoOf(const ModelName& name, const store::Reference& reference) {
  return {name, reference.manifest, reference.created_seconds, reference.files,
          reference.plain_bytes};
}

// Whether `path` is one of `wanted`, below one of them or above one.
bool IsWanted(const std::string& path, const std::vector<std::string>& wanted) {
  if (wanted.empty() || path.empty()) return true;
  const auto begins = [](const std::string& text, const std::string& with) {
    return text == with || text.compare(0, with.size() + 1, with + "/") == 0;
  };
  return std::ranges::any_of(wanted, [&](const std::string& want) {
    return begins(path, want) || begins(want, path);
  });
}

// Nothing can be written: what is there can be read all the same.
bool CannotWrite(const absl::Status& status) {
  return absl::IsPermissionDenied(status) || absl::IsResourceExhausted(status);
}

absl::StatusOr<std::unique_ptr<store::Catalogue>> OpenCatalogue(
    const std::string& path, bool sync) {
  absl::StatusOr<std::unique_ptr<store::Catalogue>> opened =
      store::Catalogue::Open(path, sync);
  if (CannotWrite(opened.status())) return store::Catalogue::OpenInMemory();
  return opened;
}

}  // namespace

class Store::Impl {
 public:
  std::shared_ptr<Repository> repository;

  // Runs what works with the catalogue; anew where that was found damaged.
  template <typename Body>
  auto Run(Body body) const -> decltype(body()) {
    return CatchExceptions([&]() -> decltype(body()) {
      for (int attempt = 0;; ++attempt) {
        auto result = body();
        if (!repository->catalogue().damaged() || attempt == 1) return result;
        RETURN_IF_ERROR(repository->catalogue().Reset());
        RETURN_IF_ERROR(repository->Refresh().status());
      }
    });
  }
};

Store::Store(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Store::Store(Store&&) noexcept = default;
Store& Store::operator=(Store&&) noexcept = default;
Store::~Store() = default;

absl::Status Store::Init(const std::string& path, const StoreOptions& options) {
  return CatchExceptions([&]() -> absl::Status {
    if (mkdir(path.c_str(), 0777) != 0 && errno != EEXIST) {
      return ErrnoStatus(errno, "cannot create directory " + path);
    }
    ASSIGN_OR_RETURN(const std::unique_ptr<storage::Storage> storage,
                     storage::OpenLocalStorage(path, options.sync));
    ASSIGN_OR_RETURN(const std::vector<storage::Info> there, storage->List(""));
    if (!there.empty()) {
      const bool is_store = std::ranges::any_of(there, [](const auto& info) {
        return info.key == store::kHeaderKey;
      });
      return absl::AlreadyExistsError(
          path + (is_store
                      ? " is a store already"
                      : " is not empty: a store is made of an empty folder"));
    }
    store::StoreHeader header;
    header.id = store::NewPackId();
    const std::string text = store::WriteStoreHeader(header);
    const absl::Status put =
        storage->PutIfMatch(store::kHeaderKey, AsBytes(text), "");
    if (absl::IsAborted(put)) {
      return absl::AlreadyExistsError(path + " is a store already");
    }
    RETURN_IF_ERROR(put);
    return storage->Sync();
  });
}

absl::StatusOr<Store> Store::Open(const std::string& path,
                                  const StoreOptions& options) {
  return CatchExceptions([&]() -> absl::StatusOr<Store> {
    struct stat st;
    if (stat((path + "/" + store::kHeaderKey).c_str(), &st) != 0) {
      return MakeStatus(absl::StatusCode::kNotFound, path,
                        " is no zipllm store: zipllm store init makes one");
    }
    ASSIGN_OR_RETURN(std::unique_ptr<storage::Storage> storage,
                     storage::OpenLocalStorage(path, options.sync));
    ASSIGN_OR_RETURN(
        std::unique_ptr<store::Catalogue> catalogue,
        OpenCatalogue(path + "/" + store::kCatalogueFile, options.sync));
    auto impl = std::make_unique<Impl>();
    ASSIGN_OR_RETURN(
        impl->repository,
        Repository::Open(std::move(storage), std::move(catalogue), options));
    return Store(std::move(impl));
  });
}

absl::StatusOr<AddResult> Store::Add(const ModelName& name,
                                     const std::string& path,
                                     const AddOptions& options) {
  return impl_->Run(
      [&] { return store::Add(*impl_->repository, name, path, options); });
}

absl::StatusOr<std::vector<ModelInfo>> Store::List() const {
  return impl_->Run([&]() -> absl::StatusOr<std::vector<ModelInfo>> {
    ASSIGN_OR_RETURN(const auto references, impl_->repository->References());
    std::vector<ModelInfo> models;
    for (const auto& [name, reference] : references) {
      models.push_back(InfoOf(name, reference));
    }
    return models;
  });
}

absl::StatusOr<std::shared_ptr<const StoredModel>> Store::OpenModel(
    const ModelName& name) const {
  using Result = absl::StatusOr<std::shared_ptr<const StoredModel>>;
  return impl_->Run([&]() -> Result {
    Repository& repository = *impl_->repository;
    // The lease before the reference: what that needs stays from then on.
    // Who may not write goes without: what gc takes away meanwhile is an error.
    absl::StatusOr<std::shared_ptr<store::Lease>> lease =
        repository.leases().Take("read");
    if (CannotWrite(lease.status())) lease = nullptr;
    RETURN_IF_ERROR(lease.status());
    const auto reference = repository.FindReference(name);
    if (absl::IsNotFound(reference.status())) return repository.NoModel(name);
    RETURN_IF_ERROR(reference.status());
    absl::StatusOr<Manifest> manifest =
        repository.ReadManifest(reference->first);
    RETURN_IF_ERROR(Annotate(manifest.status(), name.Text(), ": "));
    return std::make_shared<Model>(impl_->repository, *std::move(lease),
                                   InfoOf(name, reference->first),
                                   std::move(*manifest));
  });
}

absl::StatusOr<Totals> Store::Get(const ModelName& name,
                                  const std::string& target, bool overwrite,
                                  const std::vector<std::string>& paths) const {
  ASSIGN_OR_RETURN(const std::shared_ptr<const StoredModel> model,
                   OpenModel(name));
  return CatchExceptions([&]() -> absl::StatusOr<Totals> {
    const StoreOptions& options = impl_->repository->options();
    const std::vector<Entry>& entries = model->entries();
    for (const std::string& path : paths) {
      if (std::ranges::none_of(entries, [&](const Entry& entry) {
            return entry.path == path;
          })) {
        return absl::NotFoundError(name.Text() + " has no file " + path);
      }
    }
    Totals totals;
    Progress progress;
    for (const Entry& entry : entries) {
      if (IsWanted(entry.path, paths)) progress.bytes_total += entry.size;
    }
    const std::unique_ptr<archive::Output> output = archive::MakePathOutput(
        target, overwrite, options.sync, [&](const std::string& text) {
          ++totals.warnings;
          if (options.warning) options.warning(text);
        });
    Buffer step;
    for (size_t i = 0; i < entries.size(); ++i) {
      const Entry& entry = entries[i];
      if (!IsWanted(entry.path, paths)) continue;
      RETURN_IF_ERROR(output->Begin(entry));
      if (entry.kind != EntryKind::kFile) continue;
      Sha256 hash;
      progress.current = entry.path;
      for (uint64_t at = 0; at < entry.size; at += step.size()) {
        step.Resize(std::min<uint64_t>(
            kStep * static_cast<uint64_t>(ThreadCount(options.threads)),
            entry.size - at));
        RETURN_IF_ERROR(model->ReadRange(i, at, step.mutable_span()));
        hash.Update(step.span());
        RETURN_IF_ERROR(output->Write(step.span()));
        progress.bytes_done += step.size();
        if (options.progress && !options.progress(progress)) {
          return absl::CancelledError("interrupted");
        }
      }
      if (hash.Finish() != entry.sha256) {
        return DataLoss(name.Text(), ", ", entry.path,
                        ": does not have the SHA-256 that it was added with: "
                        "zipllm store fsck tells more");
      }
      RETURN_IF_ERROR(output->EndFile());
      ++totals.files;
      totals.plain_bytes += entry.size;
    }
    RETURN_IF_ERROR(output->Finish());
    return totals;
  });
}

absl::StatusOr<Totals> Store::Export(const std::vector<ModelName>& names,
                                     const std::string& archive_path,
                                     const CompressOptions& options,
                                     bool overwrite) const {
  std::vector<archive::Input> inputs;
  std::set<std::string> folders;  // that were added
  if (names.size() > 1) {
    inputs.emplace_back().entry.kind = EntryKind::kDirectory;
  }
  for (const ModelName& name : names) {
    ASSIGN_OR_RETURN(const std::shared_ptr<const StoredModel> model,
                     OpenModel(name));
    // One model is its tree, several are folders NAME/REVISION.
    std::string prefix;
    if (names.size() > 1) {
      prefix = name.name + "/" + name.revision;
      for (size_t end = prefix.find('/'); end != std::string::npos;
           end = prefix.find('/', end + 1)) {
        if (!folders.insert(prefix.substr(0, end)).second) continue;
        archive::Input& folder = inputs.emplace_back();
        folder.entry.kind = EntryKind::kDirectory;
        folder.entry.path = prefix.substr(0, end);
      }
    }
    for (size_t i = 0; i < model->entries().size(); ++i) {
      archive::Input& input = inputs.emplace_back();
      input.entry = model->entries()[i];
      if (!prefix.empty()) {
        input.entry.path =
            prefix + (input.entry.path.empty() ? "" : "/" + input.entry.path);
      }
      input.has_layout = true;
      if (input.entry.kind != EntryKind::kFile) continue;
      input.path = input.entry.path;
      input.sha256 = input.entry.sha256;
      input.open = [model, i]() -> absl::StatusOr<std::unique_ptr<Source>> {
        const Entry& file = model->entries()[i];
        return MakeRangeSource(
            file.size, model->info().name.Text() + ":" + file.path,
            [model, i](uint64_t offset, MutableByteSpan out) {
              return model->ReadRange(i, offset, out);
            });
      };
    }
  }
  if (inputs.empty()) return InvalidArgument("name a model to export");
  return archive::WriteArchiveFile(
      archive_path, overwrite, options.sync, [&](Sink& out) {
        return archive::WriteEntries(inputs, nullptr, false, options, out);
      });
}

absl::Status Store::Remove(const ModelName& name) {
  return impl_->Run([&]() -> absl::Status {
    Repository& repository = *impl_->repository;
    RETURN_IF_ERROR(
        CheckFeatures(repository.header(), store::Operation::kDelete));
    RETURN_IF_ERROR(store::CheckModelName(name));
    const absl::Status deleted =
        repository.storage().Delete(store::ReferenceKey(name));
    if (absl::IsNotFound(deleted)) {
      return repository.NoModel(name);
    }
    RETURN_IF_ERROR(deleted);
    return repository.storage().Sync();
  });
}

absl::StatusOr<GcResult> Store::Gc(const GcOptions& options) {
  return impl_->Run([&]() -> absl::StatusOr<GcResult> {
    RETURN_IF_ERROR(
        CheckFeatures(impl_->repository->header(), store::Operation::kDelete));
    return store::Gc(*impl_->repository, options);
  });
}

absl::StatusOr<RepackResult> Store::Repack(const RepackOptions& options) {
  return impl_->Run([&]() -> absl::StatusOr<RepackResult> {
    RETURN_IF_ERROR(
        CheckFeatures(impl_->repository->header(), store::Operation::kAdd));
    return store::Repack(*impl_->repository, options);
  });
}

absl::StatusOr<FsckResult> Store::Fsck(const FsckOptions& options) {
  return impl_->Run([&] { return store::Fsck(*impl_->repository, options); });
}

absl::StatusOr<StoreStats> Store::Stats() const {
  return impl_->Run([&] { return store::Stats(*impl_->repository); });
}

}  // namespace zipllm
