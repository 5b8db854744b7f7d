#include "storage/fault.h"

#include <optional>
#include <utility>

namespace zipllm::storage {
namespace {

class FaultSource : public Source {
 public:
  FaultSource(std::unique_ptr<Source> source, std::shared_ptr<Faults> faults)
      : source_(std::move(source)), faults_(std::move(faults)) {}
  absl::StatusOr<size_t> Read(MutableByteSpan out) override {
    return Run([&] { return source_->Read(out); });
  }
  std::optional<uint64_t> Size() const override { return source_->Size(); }
  bool Seekable() const override { return source_->Seekable(); }
  absl::StatusOr<size_t> ReadAt(uint64_t offset, MutableByteSpan out) override {
    return Run([&] { return source_->ReadAt(offset, out); });
  }
  std::string Name() const override { return source_->Name(); }

 private:
  absl::StatusOr<size_t> Run(
      const std::function<absl::StatusOr<size_t>()>& read) {
    absl::StatusOr<size_t> done = 0;
    auto whole = [&] {
      done = read();
      return done.status();
    };
    RETURN_IF_ERROR(faults_->Run(Name(), /*writes=*/false, whole,
                                 [&] { static_cast<void>(read()); }));
    return done;
  }

  const std::unique_ptr<Source> source_;
  const std::shared_ptr<Faults> faults_;
};

class FaultUpload : public Upload {
 public:
  FaultUpload(std::unique_ptr<Upload> upload, std::shared_ptr<Faults> faults)
      : upload_(std::move(upload)), faults_(std::move(faults)) {}
  absl::Status Write(ByteSpan data) override {
    return faults_->Run(
        Name(), /*writes=*/true, [&] { return upload_->Write(data); },
        [&] {
          static_cast<void>(upload_->Write(data.first(data.size() / 2)));
        });
  }
  absl::Status Commit() override {
    return faults_->Run(
        Name(), /*writes=*/true, [&] { return upload_->Commit(); },
        [&] { static_cast<void>(upload_->Commit()); });
  }
  std::string Name() const override { return upload_->Name(); }

 private:
  const std::unique_ptr<Upload> upload_;
  const std::shared_ptr<Faults> faults_;
};

class FaultStorage : public Storage {
 public:
  FaultStorage(std::unique_ptr<Storage> storage, std::shared_ptr<Faults> faults)
      : storage_(std::move(storage)), faults_(std::move(faults)) {}

  absl::StatusOr<std::unique_ptr<Source>> Open(const Key& key) const override {
    ASSIGN_OR_RETURN(std::unique_ptr<Source> source,
                     Run<std::unique_ptr<Source>>(
                         key, false, [&] { return storage_->Open(key); }));
    return std::make_unique<FaultSource>(std::move(source), faults_);
  }
  absl::StatusOr<Value> Get(const Key& key, uint64_t max_bytes) const override {
    return Run<Value>(key, false,
                      [&] { return storage_->Get(key, max_bytes); });
  }
  absl::StatusOr<std::unique_ptr<Upload>> PutIfAbsent(const Key& key) override {
    ASSIGN_OR_RETURN(std::unique_ptr<Upload> upload,
                     Run<std::unique_ptr<Upload>>(key, true, [&] {
                       return storage_->PutIfAbsent(key);
                     }));
    return std::make_unique<FaultUpload>(std::move(upload), faults_);
  }
  absl::Status PutIfMatch(const Key& key, ByteSpan bytes,
                          const std::string& version) override {
    return RunStatus(key, true,
                     [&] { return storage_->PutIfMatch(key, bytes, version); });
  }
  absl::StatusOr<std::vector<Info>> List(const Key& prefix) const override {
    return Run<std::vector<Info>>(prefix, false,
                                  [&] { return storage_->List(prefix); });
  }
  absl::Status Delete(const Key& key) override {
    return RunStatus(key, false, [&] { return storage_->Delete(key); });
  }
  absl::Status Sync() override {
    return RunStatus("sync", true, [&] { return storage_->Sync(); });
  }
  absl::StatusOr<int64_t> NowSeconds() const override {
    return Run<int64_t>("clock", false, [&] { return storage_->NowSeconds(); });
  }
  std::string Name() const override { return storage_->Name(); }

 private:
  absl::Status RunStatus(const Key& key, bool writes,
                         const std::function<absl::Status()>& call) const {
    return faults_->Run(key, writes, call, [&] { static_cast<void>(call()); });
  }
  template <typename T>
  absl::StatusOr<T> Run(const Key& key, bool writes,
                        const std::function<absl::StatusOr<T>()>& call) const {
    absl::StatusOr<T> result = absl::UnknownError("not run");
    RETURN_IF_ERROR(RunStatus(key, writes, [&] {
      result = call();
      return result.status();
    }));
    return result;
  }

  const std::unique_ptr<Storage> storage_;
  const std::shared_ptr<Faults> faults_;
};

}  // namespace

void Faults::Arm(uint64_t first, Kind kind, uint64_t count) {
  std::lock_guard lock(mutex_);
  first_ = first;
  count_ = count;
  kind_ = kind;
  operations_ = failed_ = 0;
}

void Faults::Disarm() { Arm(0, Kind::kError, 0); }

uint64_t Faults::operations() const {
  std::lock_guard lock(mutex_);
  return operations_;
}

uint64_t Faults::failed() const {
  std::lock_guard lock(mutex_);
  return failed_;
}

absl::Status Faults::Run(const std::string& key, bool writes,
                         const std::function<absl::Status()>& whole,
                         const std::function<void()>& torn) {
  std::optional<Kind> fault;
  {
    std::lock_guard lock(mutex_);
    const uint64_t number = operations_++;
    if (number >= first_ && number - first_ < count_ &&
        (writes || kind_ != Kind::kNoSpace)) {
      fault = kind_;
      ++failed_;
    }
  }
  if (!fault.has_value()) return whole();
  if (*fault == Kind::kNoSpace)
    return ResourceExhausted(key, ": no space (a test's fault)");
  if (*fault == Kind::kTorn) torn();
  return MakeStatus(absl::StatusCode::kUnavailable, key,
                    ": input/output error (a test's fault)");
}

std::unique_ptr<Storage> MakeFaultStorage(std::unique_ptr<Storage> storage,
                                          std::shared_ptr<Faults> faults) {
  return std::make_unique<FaultStorage>(std::move(storage), std::move(faults));
}

}  // namespace zipllm::storage
