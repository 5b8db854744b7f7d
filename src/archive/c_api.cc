// The C API over the C++ one: checks arguments, turns Status into codes and
// messages, lets no exception out.
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "archive/stored_archive.h"
#include "base/file.h"
#include "base/status.h"
#include "zipllm/archive.h"
#include "zipllm/chain.h"
#include "zipllm/compressor.h"
#include "zipllm/decompressor.h"
#include "zipllm/io.h"
#include "zipllm/zipllm.h"

struct zipllm_error {
  zipllm_status status;
  const char* message;  // behind the object, in the same allocation
};

namespace zipllm {
namespace {

// ---- Errors -----------------------------------------------------------------

// What there is to say when there is no memory to say it with.
const zipllm_error kOutOfMemory = {ZIPLLM_ERROR_MEMORY, "out of memory"};

zipllm_status CodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return ZIPLLM_OK;
    case absl::StatusCode::kInvalidArgument:
      return ZIPLLM_ERROR_INVALID_ARGUMENT;
    case absl::StatusCode::kCancelled:
      return ZIPLLM_ERROR_CANCELLED;
    case absl::StatusCode::kNotFound:
      return ZIPLLM_ERROR_NOT_FOUND;
    case absl::StatusCode::kAlreadyExists:
      return ZIPLLM_ERROR_EXISTS;
    case absl::StatusCode::kPermissionDenied:
      return ZIPLLM_ERROR_PERMISSION;
    case absl::StatusCode::kResourceExhausted:
      return ZIPLLM_ERROR_LIMIT;
    case absl::StatusCode::kOutOfRange:
      return ZIPLLM_ERROR_OUT_OF_RANGE;
    case absl::StatusCode::kUnimplemented:
      return ZIPLLM_ERROR_UNSUPPORTED;
    case absl::StatusCode::kDataLoss:
      return ZIPLLM_ERROR_CORRUPT;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kAborted:
      return ZIPLLM_ERROR_IO;
    case absl::StatusCode::kFailedPrecondition:
      return ZIPLLM_ERROR_BASE;
    default:
      return ZIPLLM_ERROR_INTERNAL;
  }
}

zipllm_status Fail(zipllm_error** error, zipllm_status status,
                   std::string_view message) noexcept {
  if (error == nullptr) return status;
  void* memory = std::malloc(sizeof(zipllm_error) + message.size() + 1);
  if (memory == nullptr) {
    *error = const_cast<zipllm_error*>(&kOutOfMemory);
    return status;
  }
  char* text = static_cast<char*>(memory) + sizeof(zipllm_error);
  if (!message.empty()) std::memcpy(text, message.data(), message.size());
  text[message.size()] = '\0';
  *error = new (memory) zipllm_error{status, text};
  return status;
}

// A Status with the code for it where the operation knows a better one.
struct Outcome {
  Outcome(absl::Status from)  // NOLINT: implicit, so that both can be returned
      : status(std::move(from)), code(CodeOf(status)) {}
  Outcome(absl::Status from, zipllm_status what)
      : status(std::move(from)), code(what) {}
  absl::Status status;
  zipllm_status code;
};

// Runs `body`, which returns an Outcome, and tells C what became of it.
template <typename Body>
zipllm_status Run(zipllm_error** error, Body body) noexcept {
  if (error != nullptr) *error = nullptr;
  try {
    Outcome outcome = body();
    if (outcome.status.ok()) return ZIPLLM_OK;
    return Fail(error, outcome.code, std::string(outcome.status.message()));
  } catch (const std::bad_alloc&) {
    if (error != nullptr) *error = const_cast<zipllm_error*>(&kOutOfMemory);
    return ZIPLLM_ERROR_MEMORY;
  } catch (const std::exception& exception) {
    return Fail(error, ZIPLLM_ERROR_INTERNAL, exception.what());
  } catch (...) {
    return Fail(error, ZIPLLM_ERROR_INTERNAL, "unknown exception");
  }
}

absl::Status FromCallback(zipllm_status status, const std::string& name) {
  auto code = absl::StatusCode::kUnavailable;
  switch (status) {
    case ZIPLLM_OK:
      return absl::OkStatus();
    case ZIPLLM_ERROR_INVALID_ARGUMENT:
      code = absl::StatusCode::kInvalidArgument;
      break;
    case ZIPLLM_ERROR_CANCELLED:
      code = absl::StatusCode::kCancelled;
      break;
    case ZIPLLM_ERROR_NOT_FOUND:
      code = absl::StatusCode::kNotFound;
      break;
    case ZIPLLM_ERROR_EXISTS:
      code = absl::StatusCode::kAlreadyExists;
      break;
    case ZIPLLM_ERROR_PERMISSION:
      code = absl::StatusCode::kPermissionDenied;
      break;
    case ZIPLLM_ERROR_MEMORY:
    case ZIPLLM_ERROR_LIMIT:
    case ZIPLLM_ERROR_BUFFER_TOO_SMALL:
      code = absl::StatusCode::kResourceExhausted;
      break;
    case ZIPLLM_ERROR_OUT_OF_RANGE:
      code = absl::StatusCode::kOutOfRange;
      break;
    case ZIPLLM_ERROR_UNSUPPORTED:
      code = absl::StatusCode::kUnimplemented;
      break;
    case ZIPLLM_ERROR_CORRUPT:
      code = absl::StatusCode::kDataLoss;
      break;
    case ZIPLLM_ERROR_INTERNAL:
      code = absl::StatusCode::kInternal;
      break;
    case ZIPLLM_ERROR_BASE:
      code = absl::StatusCode::kFailedPrecondition;
      break;
    case ZIPLLM_ERROR_IO:
      break;
  }
  return MakeStatus(code, name, ": the callback returned ",
                    static_cast<int>(status), " (",
                    zipllm_status_string(status), ")");
}

absl::Status Null(const char* what) {
  return InvalidArgument("argument ", what, " is NULL");
}

#define REQUIRE(argument) \
  if ((argument) == nullptr) return Null(#argument)

// A buffer of size 0 may be NULL.
#define REQUIRE_BUFFER(buffer, size) \
  if ((buffer) == nullptr && (size) != 0) return Null(#buffer)

// ---- Structs that grow ------------------------------------------------------

// How many bytes a struct has up to and with `member`: what the first version
// of the ABI had, which every caller knows.
#define SIZE_TO(type, member) \
  (offsetof(type, member) + sizeof(static_cast<type*>(nullptr)->member))

template <typename T>
constexpr size_t kFirstSize = 0;
template <>
constexpr size_t kFirstSize<zipllm_compress_options> =
    SIZE_TO(zipllm_compress_options, user_data);
template <>
constexpr size_t kFirstSize<zipllm_decompress_options> =
    SIZE_TO(zipllm_decompress_options, user_data);
template <>
constexpr size_t kFirstSize<zipllm_source_callbacks> =
    SIZE_TO(zipllm_source_callbacks, name);
template <>
constexpr size_t kFirstSize<zipllm_sink_callbacks> =
    SIZE_TO(zipllm_sink_callbacks, name);
template <>
constexpr size_t kFirstSize<zipllm_totals> = SIZE_TO(zipllm_totals, warnings);
template <>
constexpr size_t kFirstSize<zipllm_needed_base> = SIZE_TO(zipllm_needed_base,
                                                          sha256);
template <>
constexpr size_t kFirstSize<zipllm_entry> = SIZE_TO(zipllm_entry, sha256);
template <>
constexpr size_t kFirstSize<zipllm_segment> = SIZE_TO(zipllm_segment, length);

// No struct will ever be larger: catches one that was not set up.
constexpr size_t kLargestStruct = 4096;

template <typename T>
absl::Status CheckSize(const T& from, const char* what) {
  if (from.struct_size >= kFirstSize<T> && from.struct_size <= kLargestStruct) {
    return absl::OkStatus();
  }
  return InvalidArgument(what, "->struct_size is ", from.struct_size,
                         ", must be the sizeof of the struct");
}

// Copies what the caller and this library both know; the rest of `*to` stays.
// A newer caller may set members that this library does not know: refused.
template <typename T>
absl::Status CopyIn(const T& from, const char* what, T* to) {
  RETURN_IF_ERROR(CheckSize(from, what));
  std::memcpy(to, &from, std::min(from.struct_size, sizeof(T)));
  const auto* bytes = reinterpret_cast<const uint8_t*>(&from);
  for (size_t i = sizeof(T); i < from.struct_size; ++i) {
    if (bytes[i] != 0) {
      return Unimplemented(what, " sets a member (at byte ", i,
                           ") that this version of zipllm does not know");
    }
  }
  return absl::OkStatus();
}

// Copies what both know to a struct that CheckSize has passed, zeros the rest.
template <typename T>
void CopyOut(T from, T* to) {
  size_t size = to->struct_size;
  from.struct_size = size;
  size_t known = std::min(size, sizeof(T));
  std::memcpy(to, &from, known);
  std::memset(reinterpret_cast<uint8_t*>(to) + known, 0, size - known);
}

// ---- Options and totals -----------------------------------------------------

ProgressCallback WrapProgress(zipllm_progress_fn callback, void* user_data) {
  if (callback == nullptr) return nullptr;
  return [=](const Progress& progress) {
    zipllm_progress report = {};
    report.struct_size = sizeof report;
    report.bytes_done = progress.bytes_done;
    report.bytes_total = progress.bytes_total;
    report.coded_bytes = progress.coded_bytes;
    report.current = progress.current.c_str();
    return callback(user_data, &report) == 0;
  };
}

WarningCallback WrapWarning(zipllm_warning_fn callback, void* user_data) {
  if (callback == nullptr) return nullptr;
  return
      [=](const std::string& message) { callback(user_data, message.c_str()); };
}

absl::Status CheckReserved(int32_t reserved) {
  if (reserved == 0) return absl::OkStatus();
  return InvalidArgument("options->reserved is ", reserved, ", must be 0");
}

absl::Status CheckThreads(int32_t threads) {
  if (threads >= 0) return absl::OkStatus();
  return InvalidArgument("options->threads is ", threads,
                         ", must be 0 (one a core) or more");
}

absl::Status AddPaths(const char* const* paths, size_t count, const char* what,
                      std::vector<std::string>* out) {
  if (count == 0) return absl::OkStatus();
  if (paths == nullptr) return InvalidArgument("options->", what, " is NULL");
  for (size_t i = 0; i < count; ++i) {
    if (paths[i] == nullptr) {
      return InvalidArgument("options->", what, "[", i, "] is NULL");
    }
    out->emplace_back(paths[i]);
  }
  return absl::OkStatus();
}

absl::StatusOr<CompressOptions> Convert(
    const zipllm_compress_options* options) {
  CompressOptions result;
  if (options == nullptr) return result;
  zipllm_compress_options known = {};
  RETURN_IF_ERROR(CopyIn(*options, "options", &known));
  RETURN_IF_ERROR(CheckThreads(known.threads));
  RETURN_IF_ERROR(CheckReserved(known.reserved));
  if (known.level < kMinLevel || known.level > kMaxLevel) {
    return InvalidArgument("options->level is ", known.level, ", must be ",
                           kMinLevel, " to ", kMaxLevel);
  }
  result.level = known.level;
  result.threads = known.threads;
  result.verify = known.verify != 0;
  result.deduplicate = known.deduplicate != 0;
  result.follow_symlinks = known.follow_symlinks != 0;
  RETURN_IF_ERROR(
      AddPaths(known.bases, known.base_count, "bases", &result.bases));
  if (known.text_model != nullptr) result.text_model = known.text_model;
  result.progress = WrapProgress(known.progress, known.user_data);
  result.warning = WrapWarning(known.warning, known.user_data);
  return result;
}

absl::StatusOr<DecompressOptions> Convert(
    const zipllm_decompress_options* options) {
  DecompressOptions result;
  if (options == nullptr) return result;
  zipllm_decompress_options known = {};
  RETURN_IF_ERROR(CopyIn(*options, "options", &known));
  RETURN_IF_ERROR(CheckThreads(known.threads));
  RETURN_IF_ERROR(CheckReserved(known.reserved));
  result.threads = known.threads;
  result.max_memory = known.max_memory;
  result.check_sha256 = known.check_sha256 != 0;
  result.overwrite = known.overwrite != 0;
  RETURN_IF_ERROR(
      AddPaths(known.bases, known.base_count, "bases", &result.bases));
  RETURN_IF_ERROR(AddPaths(known.base_directories, known.base_directory_count,
                           "base_directories", &result.base_directories));
  if (known.text_model != nullptr) result.text_model = known.text_model;
  result.progress = WrapProgress(known.progress, known.user_data);
  result.warning = WrapWarning(known.warning, known.user_data);
  return result;
}

// Runs `operation`, which takes the C++ options and returns StatusOr<Totals>.
template <typename Options, typename Operation>
absl::Status RunWithTotals(const Options* options, zipllm_totals* totals,
                           Operation operation) {
  if (totals != nullptr) RETURN_IF_ERROR(CheckSize(*totals, "totals"));
  ASSIGN_OR_RETURN(auto converted, Convert(options));
  ASSIGN_OR_RETURN(Totals done, operation(std::move(converted)));
  if (totals != nullptr) {
    zipllm_totals result = {};
    result.files = done.files;
    result.plain_bytes = done.plain_bytes;
    result.archive_bytes = done.archive_bytes;
    result.duplicate_bytes = done.duplicate_bytes;
    result.warnings = done.warnings;
    CopyOut(result, totals);
  }
  return absl::OkStatus();
}

// ---- Sources ----------------------------------------------------------------

ByteSpan Bytes(const void* data, size_t size) {
  return {static_cast<const uint8_t*>(data), size};
}
MutableByteSpan Bytes(void* data, size_t size) {
  return {static_cast<uint8_t*>(data), size};
}

std::string NameOr(const char* name, const char* fallback) {
  return name != nullptr ? name : fallback;
}

class CallbackSource : public Source {
 public:
  explicit CallbackSource(const zipllm_source_callbacks& callbacks)
      : callbacks_(callbacks), name_(NameOr(callbacks.name, "source")) {}
  CallbackSource(const CallbackSource&) = delete;
  CallbackSource& operator=(const CallbackSource&) = delete;
  ~CallbackSource() override {
    if (callbacks_.release != nullptr) callbacks_.release(callbacks_.user_data);
  }

  absl::StatusOr<size_t> Read(MutableByteSpan out) override {
    if (callbacks_.read == nullptr) {
      ASSIGN_OR_RETURN(size_t count, ReadAt(position_, out));
      position_ += count;
      return count;
    }
    size_t count = 0;
    zipllm_status status =
        callbacks_.read(callbacks_.user_data, out.data(), out.size(), &count);
    return Checked(status, count, out.size());
  }
  std::optional<uint64_t> Size() const override {
    if (callbacks_.size == ZIPLLM_SIZE_UNKNOWN) return std::nullopt;
    return callbacks_.size;
  }
  bool Seekable() const override { return callbacks_.read_at != nullptr; }
  absl::StatusOr<size_t> ReadAt(uint64_t offset, MutableByteSpan out) override {
    if (!Seekable()) return Source::ReadAt(offset, out);
    size_t count = 0;
    zipllm_status status = callbacks_.read_at(callbacks_.user_data, offset,
                                              out.data(), out.size(), &count);
    return Checked(status, count, out.size());
  }
  std::string Name() const override { return name_; }

 private:
  absl::StatusOr<size_t> Checked(zipllm_status status, size_t count,
                                 size_t wanted) const {
    RETURN_IF_ERROR(FromCallback(status, name_));
    if (count <= wanted) return count;
    return InvalidArgument(name_, ": the callback says that it read ", count,
                           " bytes where there is room for ", wanted);
  }

  const zipllm_source_callbacks callbacks_;
  const std::string name_;
  uint64_t position_ = 0;  // where there is no `read`
};

// An archive's share of a source that the caller may free at any time.
class SharedSource : public Source {
 public:
  explicit SharedSource(std::shared_ptr<Source> from)
      : from_(std::move(from)) {}
  absl::StatusOr<size_t> Read(MutableByteSpan out) override {
    return from_->Read(out);
  }
  std::optional<uint64_t> Size() const override { return from_->Size(); }
  bool Seekable() const override { return from_->Seekable(); }
  absl::StatusOr<size_t> ReadAt(uint64_t offset, MutableByteSpan out) override {
    return from_->ReadAt(offset, out);
  }
  std::string Name() const override { return from_->Name(); }

 private:
  std::shared_ptr<Source> from_;
};

// ---- Sinks ------------------------------------------------------------------

class CallbackSink : public Sink {
 public:
  explicit CallbackSink(const zipllm_sink_callbacks& callbacks)
      : callbacks_(callbacks), name_(NameOr(callbacks.name, "sink")) {}
  CallbackSink(const CallbackSink&) = delete;
  CallbackSink& operator=(const CallbackSink&) = delete;
  ~CallbackSink() override {
    if (callbacks_.release != nullptr) callbacks_.release(callbacks_.user_data);
  }
  absl::Status Write(ByteSpan data) override {
    return FromCallback(
        callbacks_.write(callbacks_.user_data, data.data(), data.size()),
        name_);
  }
  std::string Name() const override { return name_; }

 private:
  const zipllm_sink_callbacks callbacks_;
  const std::string name_;
};

// A caller's buffer.
class BufferSink : public Sink {
 public:
  explicit BufferSink(MutableByteSpan room) : room_(room) {}
  absl::Status Write(ByteSpan data) override {
    if (data.size() > room_.size() - used_) {
      overflowed_ = true;
      return ResourceExhausted("the buffer of ", room_.size(),
                               " bytes is too small for the result");
    }
    std::copy(data.begin(), data.end(), room_.begin() + used_);
    used_ += data.size();
    return absl::OkStatus();
  }
  std::string Name() const override { return "buffer"; }
  size_t used() const { return used_; }
  bool overflowed() const { return overflowed_; }
  /// What a failed operation that wrote here is to be called.
  Outcome Explain(absl::Status status) const {
    if (!status.ok() && overflowed_) {
      return {std::move(status), ZIPLLM_ERROR_BUFFER_TOO_SMALL};
    }
    return status;
  }

 private:
  MutableByteSpan room_;
  size_t used_ = 0;
  bool overflowed_ = false;
};

// A file that appears when it is complete.
class FileSink : public Sink {
 public:
  static absl::StatusOr<std::unique_ptr<FileSink>> Create(
      const std::string& path, bool overwrite) {
    auto [parent, name] = SplitPath(path);
    if (name.empty() || name == "." || name == "..") {
      return InvalidArgument("'", path, "' does not name a file");
    }
    ASSIGN_OR_RETURN(UniqueFd directory, OpenDirectory(parent));
    struct stat st;
    if (!overwrite &&
        fstatat(directory.get(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0) {
      return ErrnoStatus(EEXIST, "cannot create " + path);
    }
    ASSIGN_OR_RETURN(AtomicFile file,
                     AtomicFile::CreateAt(directory.get(), name, path, 0666));
    return std::unique_ptr<FileSink>(
        new FileSink(std::move(directory), std::move(file), path, overwrite));
  }
  absl::Status Write(ByteSpan data) override {
    return WriteAll(file_.fd(), data, path_);
  }
  std::string Name() const override { return path_; }
  absl::Status Commit() { return file_.Commit(overwrite_); }

 private:
  FileSink(UniqueFd directory, AtomicFile file, std::string path,
           bool overwrite)
      : directory_(std::move(directory)),
        file_(std::move(file)),
        path_(std::move(path)),
        overwrite_(overwrite) {}

  UniqueFd directory_;
  AtomicFile file_;
  const std::string path_;
  const bool overwrite_;
};

}  // namespace
}  // namespace zipllm

struct zipllm_source {
  std::shared_ptr<zipllm::Source> from;
};

// Counts what goes through; knows the two kinds that can do more than a Sink.
struct zipllm_sink final : zipllm::Sink {
  absl::Status Write(zipllm::ByteSpan data) override {
    RETURN_IF_ERROR(to->Write(data));
    written += data.size();
    return absl::OkStatus();
  }
  std::string Name() const override { return to->Name(); }
  zipllm::Outcome Explain(absl::Status status) const {
    if (buffer != nullptr) return buffer->Explain(std::move(status));
    return status;
  }

  std::unique_ptr<zipllm::Sink> to;
  uint64_t written = 0;
  zipllm::BufferSink* buffer = nullptr;  // `to`, if it is one
  zipllm::FileSink* file = nullptr;      // `to`, if it is one
};

struct zipllm_archive {
  zipllm::Archive archive;
};

namespace zipllm {
namespace {

zipllm_source* MakeSource(std::shared_ptr<Source> from) {
  return new zipllm_source{std::move(from)};
}

zipllm_sink* MakeSink(std::unique_ptr<Sink> to) {
  auto sink = std::make_unique<zipllm_sink>();
  sink->to = std::move(to);
  return sink.release();
}

absl::Status MakeArchive(absl::StatusOr<Archive> opened,
                         zipllm_archive** archive) {
  RETURN_IF_ERROR(opened.status());
  *archive = new zipllm_archive{std::move(opened).value()};
  return absl::OkStatus();
}

absl::StatusOr<const Entry*> EntryAt(const zipllm_archive* archive,
                                     size_t index) {
  REQUIRE(archive);
  const std::vector<Entry>& entries = archive->archive.entries();
  if (index < entries.size()) return &entries[index];
  return MakeStatus(absl::StatusCode::kOutOfRange, "entry ", index,
                    " of an archive with ", entries.size());
}

absl::StatusOr<const Segment*> SegmentAt(const zipllm_archive* archive,
                                         size_t entry, size_t segment) {
  ASSIGN_OR_RETURN(const Entry* in, EntryAt(archive, entry));
  const std::vector<Segment>& segments = in->layout.segments;
  if (segment < segments.size()) return &segments[segment];
  return MakeStatus(absl::StatusCode::kOutOfRange, "segment ", segment,
                    " of entry '", in->path, "' with ", segments.size());
}

absl::StatusOr<TensorRef> Find(const zipllm_archive* archive, const char* name,
                               const char* path) {
  REQUIRE(archive);
  REQUIRE(name);
  return archive->archive.FindTensor(name, path != nullptr ? path : "");
}

Outcome ReadSegment(const zipllm_archive* archive, size_t entry, size_t segment,
                    void* buffer, size_t capacity, uint64_t* length) {
  REQUIRE_BUFFER(buffer, capacity);
  ASSIGN_OR_RETURN(const Segment* from, SegmentAt(archive, entry, segment));
  if (length != nullptr) *length = from->length;
  if (buffer == nullptr) return absl::OkStatus();
  if (capacity < from->length) {
    return {ResourceExhausted("'", from->name, "' has ", from->length,
                              " bytes, the buffer ", capacity),
            ZIPLLM_ERROR_BUFFER_TOO_SMALL};
  }
  return archive->archive.ReadRange(
      entry, from->offset, Bytes(buffer, static_cast<size_t>(from->length)));
}

}  // namespace
}  // namespace zipllm

// What follows is the API, in C's namespace.
using namespace zipllm;  // NOLINT(google-build-using-namespace)

// ---- Version and errors -----------------------------------------------------

uint32_t zipllm_version_number(void) { return ZIPLLM_VERSION_NUMBER; }

#define TEXT_INNER(number) #number
#define TEXT(number) TEXT_INNER(number)
const char* zipllm_version_string(void) {
  return TEXT(ZIPLLM_VERSION_MAJOR) "." TEXT(ZIPLLM_VERSION_MINOR) "." TEXT(
      ZIPLLM_VERSION_PATCH);
}

uint32_t zipllm_abi_version(void) { return ZIPLLM_ABI_VERSION; }

const char* zipllm_status_string(zipllm_status status) {
  switch (status) {
    case ZIPLLM_OK:
      return "success";
    case ZIPLLM_ERROR_INVALID_ARGUMENT:
      return "invalid argument";
    case ZIPLLM_ERROR_MEMORY:
      return "out of memory";
    case ZIPLLM_ERROR_CANCELLED:
      return "cancelled";
    case ZIPLLM_ERROR_NOT_FOUND:
      return "not found";
    case ZIPLLM_ERROR_EXISTS:
      return "exists already";
    case ZIPLLM_ERROR_PERMISSION:
      return "permission denied";
    case ZIPLLM_ERROR_LIMIT:
      return "limit reached";
    case ZIPLLM_ERROR_BUFFER_TOO_SMALL:
      return "buffer too small";
    case ZIPLLM_ERROR_OUT_OF_RANGE:
      return "out of range";
    case ZIPLLM_ERROR_UNSUPPORTED:
      return "not supported";
    case ZIPLLM_ERROR_CORRUPT:
      return "archive is damaged";
    case ZIPLLM_ERROR_IO:
      return "input or output failed";
    case ZIPLLM_ERROR_INTERNAL:
      return "internal error";
    case ZIPLLM_ERROR_BASE:
      return "a base is missing or is another one";
  }
  return "unknown status";
}

zipllm_status zipllm_error_status(const zipllm_error* error) {
  return error != nullptr ? error->status : ZIPLLM_OK;
}

const char* zipllm_error_message(const zipllm_error* error) {
  return error != nullptr ? error->message : "";
}

void zipllm_error_free(zipllm_error* error) {
  if (error != &kOutOfMemory) std::free(error);
}

// ---- Options ----------------------------------------------------------------

void zipllm_compress_options_init(zipllm_compress_options* options,
                                  size_t struct_size) {
  if (options == nullptr || struct_size < kFirstSize<zipllm_compress_options>) {
    return;
  }
  const CompressOptions defaults;
  zipllm_compress_options result = {};
  result.level = defaults.level;
  result.threads = defaults.threads;
  result.verify = defaults.verify;
  result.deduplicate = defaults.deduplicate;
  result.follow_symlinks = defaults.follow_symlinks;
  options->struct_size = struct_size;
  CopyOut(result, options);
}

void zipllm_decompress_options_init(zipllm_decompress_options* options,
                                    size_t struct_size) {
  if (options == nullptr ||
      struct_size < kFirstSize<zipllm_decompress_options>) {
    return;
  }
  const DecompressOptions defaults;
  zipllm_decompress_options result = {};
  result.max_memory = defaults.max_memory;
  result.threads = defaults.threads;
  result.check_sha256 = defaults.check_sha256;
  result.overwrite = defaults.overwrite;
  options->struct_size = struct_size;
  CopyOut(result, options);
}

// ---- Buffers in memory ------------------------------------------------------

size_t zipllm_compress_bound(size_t src_size) {
  // Never below archive::StoredBound, and with some room, so that files of a
  // thousand tiny tensors keep their layout.
  size_t bound = 0;
  size_t extra = src_size / 256 + 65536;
  return __builtin_add_overflow(src_size, extra, &bound) ? 0 : bound;
}

zipllm_status zipllm_compress(void* dst, size_t dst_capacity, size_t* dst_size,
                              const void* src, size_t src_size,
                              const zipllm_compress_options* options,
                              zipllm_error** error) {
  return Run(error, [&]() -> Outcome {
    REQUIRE_BUFFER(dst, dst_capacity);
    REQUIRE(dst_size);
    REQUIRE_BUFFER(src, src_size);
    ByteSpan plain = Bytes(src, src_size);
    const size_t bound = zipllm_compress_bound(src_size);
    MutableByteSpan room = Bytes(dst, std::min(dst_capacity, bound));
    std::unique_ptr<Source> in = MakeMemorySource(plain);
    BufferSink out(room);
    absl::Status status =
        RunWithTotals(options, nullptr, [&](CompressOptions with) {
          return Compressor(std::move(with)).CompressStream(*in, "", out);
        });
    if (out.overflowed() && room.size() == bound) {
      // Thousands of tensors of a few bytes: frames cost more than they save.
      out = BufferSink(room);
      status = archive::WriteStored(plain, out);
    }
    if (status.ok()) *dst_size = out.used();
    return out.Explain(std::move(status));
  });
}

zipllm_status zipllm_decompressed_size(const void* src, size_t src_size,
                                       const zipllm_decompress_options* options,
                                       uint64_t* size, zipllm_error** error) {
  return Run(error, [&]() -> Outcome {
    REQUIRE_BUFFER(src, src_size);
    REQUIRE(size);
    ASSIGN_OR_RETURN(DecompressOptions with, Convert(options));
    ASSIGN_OR_RETURN(
        Archive archive,
        Archive::Open(MakeMemorySource(Bytes(src, src_size)), std::move(with)));
    uint64_t sum = 0;
    for (const Entry& entry : archive.entries()) {
      if (__builtin_add_overflow(sum, entry.size, &sum)) {
        return DataLoss("the sizes of the files do not fit 64 bits");
      }
    }
    *size = sum;
    return absl::OkStatus();
  });
}

zipllm_status zipllm_decompress(void* dst, size_t dst_capacity,
                                size_t* dst_size, const void* src,
                                size_t src_size,
                                const zipllm_decompress_options* options,
                                zipllm_error** error) {
  return Run(error, [&]() -> Outcome {
    REQUIRE_BUFFER(dst, dst_capacity);
    REQUIRE(dst_size);
    REQUIRE_BUFFER(src, src_size);
    std::unique_ptr<Source> in = MakeMemorySource(Bytes(src, src_size));
    BufferSink out(Bytes(dst, dst_capacity));
    absl::Status status =
        RunWithTotals(options, nullptr, [&](DecompressOptions with) {
          return Decompressor(std::move(with)).DecompressStream(*in, out);
        });
    if (status.ok()) *dst_size = out.used();
    return out.Explain(std::move(status));
  });
}

// ---- Sources ----------------------------------------------------------------

zipllm_status zipllm_source_open_file(const char* path, zipllm_source** source,
                                      zipllm_error** error) {
  return Run(error, [&]() -> Outcome {
    REQUIRE(source);
    *source = nullptr;
    REQUIRE(path);
    ASSIGN_OR_RETURN(std::unique_ptr<Source> from, OpenFileSource(path));
    *source = MakeSource(std::move(from));
    return absl::OkStatus();
  });
}

zipllm_status zipllm_source_from_fd(int fd, const char* name,
                                    zipllm_source** source,
                                    zipllm_error** error) {
  return Run(error, [&]() -> Outcome {
    REQUIRE(source);
    *source = nullptr;
    if (fcntl(fd, F_GETFD) < 0) {
      return InvalidArgument(fd, " is not an open descriptor");
    }
    *source = MakeSource(MakeDescriptorSource(fd, NameOr(name, "source")));
    return absl::OkStatus();
  });
}

zipllm_status zipllm_source_from_memory(const void* data, size_t size,
                                        zipllm_source** source,
                                        zipllm_error** error) {
  return Run(error, [&]() -> Outcome {
    REQUIRE(source);
    *source = nullptr;
    REQUIRE_BUFFER(data, size);
    *source = MakeSource(MakeMemorySource(Bytes(data, size)));
    return absl::OkStatus();
  });
}

zipllm_status zipllm_source_from_callbacks(
    const zipllm_source_callbacks* callbacks, zipllm_source** source,
    zipllm_error** error) {
  return Run(error, [&]() -> Outcome {
    REQUIRE(source);
    *source = nullptr;
    REQUIRE(callbacks);
    zipllm_source_callbacks known = {};
    RETURN_IF_ERROR(CopyIn(*callbacks, "callbacks", &known));
    if (known.read == nullptr && known.read_at == nullptr) {
      return InvalidArgument("callbacks has neither read nor read_at");
    }
    if (known.read_at != nullptr && known.size == ZIPLLM_SIZE_UNKNOWN) {
      return InvalidArgument("callbacks has read_at but no size");
    }
    // Last what owns user_data: where something fails, it is not released.
    auto handle = std::make_unique<zipllm_source>();
    handle->from = std::make_shared<CallbackSource>(known);
    *source = handle.release();
    return absl::OkStatus();
  });
}

void zipllm_source_free(zipllm_source* source) { delete source; }

// ---- Sinks ------------------------------------------------------------------

zipllm_status zipllm_sink_create_file(const char* path, int overwrite,
                                      zipllm_sink** sink,
                                      zipllm_error** error) {
  return Run(error, [&]() -> Outcome {
    REQUIRE(sink);
    *sink = nullptr;
    REQUIRE(path);
    ASSIGN_OR_RETURN(std::unique_ptr<FileSink> to,
                     FileSink::Create(path, overwrite != 0));
    FileSink* file = to.get();
    *sink = MakeSink(std::move(to));
    (*sink)->file = file;
    return absl::OkStatus();
  });
}

zipllm_status zipllm_sink_to_fd(int fd, const char* name, zipllm_sink** sink,
                                zipllm_error** error) {
  return Run(error, [&]() -> Outcome {
    REQUIRE(sink);
    *sink = nullptr;
    if (fcntl(fd, F_GETFD) < 0) {
      return InvalidArgument(fd, " is not an open descriptor");
    }
    *sink = MakeSink(MakeDescriptorSink(fd, NameOr(name, "sink")));
    return absl::OkStatus();
  });
}

zipllm_status zipllm_sink_to_memory(void* buffer, size_t capacity,
                                    zipllm_sink** sink, zipllm_error** error) {
  return Run(error, [&]() -> Outcome {
    REQUIRE(sink);
    *sink = nullptr;
    REQUIRE_BUFFER(buffer, capacity);
    auto to = std::make_unique<BufferSink>(Bytes(buffer, capacity));
    BufferSink* room = to.get();
    *sink = MakeSink(std::move(to));
    (*sink)->buffer = room;
    return absl::OkStatus();
  });
}

zipllm_status zipllm_sink_to_callbacks(const zipllm_sink_callbacks* callbacks,
                                       zipllm_sink** sink,
                                       zipllm_error** error) {
  return Run(error, [&]() -> Outcome {
    REQUIRE(sink);
    *sink = nullptr;
    REQUIRE(callbacks);
    zipllm_sink_callbacks known = {};
    RETURN_IF_ERROR(CopyIn(*callbacks, "callbacks", &known));
    if (known.write == nullptr) {
      return InvalidArgument("callbacks has no write");
    }
    // Last what owns user_data: where something fails, it is not released.
    auto handle = std::make_unique<zipllm_sink>();
    handle->to = std::make_unique<CallbackSink>(known);
    *sink = handle.release();
    return absl::OkStatus();
  });
}

uint64_t zipllm_sink_bytes_written(const zipllm_sink* sink) {
  return sink != nullptr ? sink->written : 0;
}

zipllm_status zipllm_sink_commit(zipllm_sink* sink, zipllm_error** error) {
  return Run(error, [&]() -> Outcome {
    REQUIRE(sink);
    if (sink->file == nullptr) return absl::OkStatus();
    return sink->file->Commit();
  });
}

void zipllm_sink_free(zipllm_sink* sink) { delete sink; }

// ---- Compressing ------------------------------------------------------------

zipllm_status zipllm_compress_stream(zipllm_source* source, const char* name,
                                     zipllm_sink* sink,
                                     const zipllm_compress_options* options,
                                     zipllm_totals* totals,
                                     zipllm_error** error) {
  return Run(error, [&]() -> Outcome {
    REQUIRE(source);
    REQUIRE(sink);
    return sink->Explain(
        RunWithTotals(options, totals, [&](CompressOptions with) {
          return Compressor(std::move(with))
              .CompressStream(*source->from, NameOr(name, ""), *sink);
        }));
  });
}

zipllm_status zipllm_compress_path(const char* path, zipllm_sink* sink,
                                   const zipllm_compress_options* options,
                                   zipllm_totals* totals,
                                   zipllm_error** error) {
  return Run(error, [&]() -> Outcome {
    REQUIRE(path);
    REQUIRE(sink);
    return sink->Explain(
        RunWithTotals(options, totals, [&](CompressOptions with) {
          return Compressor(std::move(with)).CompressPath(path, *sink);
        }));
  });
}

zipllm_status zipllm_compress_path_to_file(
    const char* path, const char* archive_path, int overwrite,
    const zipllm_compress_options* options, zipllm_totals* totals,
    zipllm_error** error) {
  return Run(error, [&]() -> Outcome {
    REQUIRE(path);
    REQUIRE(archive_path);
    return RunWithTotals(options, totals, [&](CompressOptions with) {
      return Compressor(std::move(with))
          .CompressPathToFile(path, archive_path, overwrite != 0);
    });
  });
}

zipllm_status zipllm_append_to_chain(const char* path, const char* archive_path,
                                     int32_t keyframes, int overwrite,
                                     const zipllm_compress_options* options,
                                     zipllm_totals* totals,
                                     zipllm_error** error) {
  return Run(error, [&]() -> Outcome {
    REQUIRE(path);
    REQUIRE(archive_path);
    return RunWithTotals(options, totals, [&](CompressOptions with) {
      return AppendToChain(
          path, archive_path,
          {.keyframes = keyframes, .compress = std::move(with)},
          overwrite != 0);
    });
  });
}

// ---- Decompressing ----------------------------------------------------------

zipllm_status zipllm_decompress_stream(zipllm_source* source, zipllm_sink* sink,
                                       const zipllm_decompress_options* options,
                                       zipllm_totals* totals,
                                       zipllm_error** error) {
  return Run(error, [&]() -> Outcome {
    REQUIRE(source);
    REQUIRE(sink);
    return sink->Explain(
        RunWithTotals(options, totals, [&](DecompressOptions with) {
          return Decompressor(std::move(with))
              .DecompressStream(*source->from, *sink);
        }));
  });
}

zipllm_status zipllm_decompress_to(zipllm_source* source, const char* target,
                                   const zipllm_decompress_options* options,
                                   zipllm_totals* totals,
                                   zipllm_error** error) {
  return Run(error, [&]() -> Outcome {
    REQUIRE(source);
    REQUIRE(target);
    return RunWithTotals(options, totals, [&](DecompressOptions with) {
      return Decompressor(std::move(with)).DecompressTo(*source->from, target);
    });
  });
}

zipllm_status zipllm_decompress_file(const char* archive_path,
                                     const char* target,
                                     const zipllm_decompress_options* options,
                                     zipllm_totals* totals,
                                     zipllm_error** error) {
  return Run(error, [&]() -> Outcome {
    REQUIRE(archive_path);
    REQUIRE(target);
    ASSIGN_OR_RETURN(std::unique_ptr<Source> in, OpenFileSource(archive_path));
    return RunWithTotals(options, totals, [&](DecompressOptions with) {
      return Decompressor(std::move(with)).DecompressTo(*in, target);
    });
  });
}

zipllm_status zipllm_test(zipllm_source* source,
                          const zipllm_decompress_options* options,
                          zipllm_totals* totals, zipllm_error** error) {
  return Run(error, [&]() -> Outcome {
    REQUIRE(source);
    return RunWithTotals(options, totals, [&](DecompressOptions with) {
      return Decompressor(std::move(with)).Test(*source->from);
    });
  });
}

// ---- Random access ----------------------------------------------------------

zipllm_status zipllm_archive_open_file(const char* path,
                                       const zipllm_decompress_options* options,
                                       zipllm_archive** archive,
                                       zipllm_error** error) {
  return Run(error, [&]() -> Outcome {
    REQUIRE(archive);
    *archive = nullptr;
    REQUIRE(path);
    ASSIGN_OR_RETURN(DecompressOptions with, Convert(options));
    return MakeArchive(Archive::OpenFile(path, std::move(with)), archive);
  });
}

zipllm_status zipllm_archive_open(zipllm_source* source,
                                  const zipllm_decompress_options* options,
                                  zipllm_archive** archive,
                                  zipllm_error** error) {
  return Run(error, [&]() -> Outcome {
    REQUIRE(archive);
    *archive = nullptr;
    REQUIRE(source);
    ASSIGN_OR_RETURN(DecompressOptions with, Convert(options));
    return MakeArchive(
        Archive::Open(std::make_unique<SharedSource>(source->from),
                      std::move(with)),
        archive);
  });
}

void zipllm_archive_close(zipllm_archive* archive) { delete archive; }

uint64_t zipllm_archive_size(const zipllm_archive* archive) {
  return archive != nullptr ? archive->archive.size() : 0;
}

uint64_t zipllm_archive_bytes_read(const zipllm_archive* archive) {
  return archive != nullptr ? archive->archive.bytes_read() : 0;
}

size_t zipllm_archive_entry_count(const zipllm_archive* archive) {
  return archive != nullptr ? archive->archive.entries().size() : 0;
}

size_t zipllm_archive_needed_base_count(const zipllm_archive* archive) {
  return archive != nullptr ? archive->archive.needed_bases().size() : 0;
}

zipllm_status zipllm_archive_get_needed_base(const zipllm_archive* archive,
                                             size_t index,
                                             zipllm_needed_base* base,
                                             zipllm_error** error) {
  return Run(error, [&]() -> Outcome {
    REQUIRE(archive);
    REQUIRE(base);
    RETURN_IF_ERROR(CheckSize(*base, "base"));
    const std::vector<NeededBase>& needed = archive->archive.needed_bases();
    if (index >= needed.size()) {
      return absl::OutOfRangeError(
          StrCat("the archive needs ", needed.size(), " bases"));
    }
    zipllm_needed_base result = {};
    result.tensor = needed[index].tensor.c_str();
    result.model = needed[index].model.c_str();
    result.length = needed[index].length;
    std::ranges::copy(needed[index].sha256, result.sha256);
    CopyOut(result, base);
    return absl::OkStatus();
  });
}

zipllm_status zipllm_archive_get_entry(const zipllm_archive* archive,
                                       size_t index, zipllm_entry* entry,
                                       zipllm_error** error) {
  return Run(error, [&]() -> Outcome {
    REQUIRE(entry);
    RETURN_IF_ERROR(CheckSize(*entry, "entry"));
    ASSIGN_OR_RETURN(const Entry* from, EntryAt(archive, index));
    zipllm_entry result = {};
    result.path = from->path.c_str();
    result.link_target = from->link_target.c_str();
    result.format = from->layout.format.c_str();
    result.size = from->size;
    result.coded_size = from->coded_size;
    result.mtime_seconds = from->mtime_seconds;
    result.mtime_nanoseconds = from->mtime_nanoseconds;
    result.mode = from->mode;
    result.kind = static_cast<int32_t>(from->kind);
    result.has_metadata = from->has_metadata;
    result.segment_count = from->layout.segments.size();
    std::copy(from->sha256.begin(), from->sha256.end(), result.sha256);
    CopyOut(result, entry);
    return absl::OkStatus();
  });
}

zipllm_status zipllm_archive_find_entry(const zipllm_archive* archive,
                                        const char* path, size_t* index,
                                        zipllm_error** error) {
  return Run(error, [&]() -> Outcome {
    REQUIRE(archive);
    REQUIRE(path);
    REQUIRE(index);
    ASSIGN_OR_RETURN(*index, archive->archive.FindEntry(path));
    return absl::OkStatus();
  });
}

zipllm_status zipllm_archive_get_segment(const zipllm_archive* archive,
                                         size_t entry, size_t segment,
                                         zipllm_segment* out,
                                         zipllm_error** error) {
  return Run(error, [&]() -> Outcome {
    REQUIRE(out);
    RETURN_IF_ERROR(CheckSize(*out, "out"));
    ASSIGN_OR_RETURN(const Segment* from, SegmentAt(archive, entry, segment));
    const DTypeInfo* dtype = FindDType(from->dtype);
    zipllm_segment result = {};
    result.name = from->name.c_str();
    result.name_length = from->name.size();
    // A literal of dtype_list.inc, so NUL-terminated.
    result.dtype_name = dtype != nullptr ? dtype->name.data() : "unknown";
    result.dtype = static_cast<uint32_t>(from->dtype);
    result.rank = static_cast<uint32_t>(from->shape.size());
    result.shape = from->shape.data();
    result.offset = from->offset;
    result.length = from->length;
    CopyOut(result, out);
    return absl::OkStatus();
  });
}

zipllm_status zipllm_archive_find_tensor(const zipllm_archive* archive,
                                         const char* name, const char* path,
                                         size_t* entry, size_t* segment,
                                         zipllm_error** error) {
  return Run(error, [&]() -> Outcome {
    REQUIRE(entry);
    REQUIRE(segment);
    ASSIGN_OR_RETURN(TensorRef found, Find(archive, name, path));
    *entry = found.entry;
    *segment = found.segment;
    return absl::OkStatus();
  });
}

zipllm_status zipllm_archive_read_segment(const zipllm_archive* archive,
                                          size_t entry, size_t segment,
                                          void* buffer, size_t capacity,
                                          uint64_t* length,
                                          zipllm_error** error) {
  return Run(error, [&] {
    return ReadSegment(archive, entry, segment, buffer, capacity, length);
  });
}

zipllm_status zipllm_archive_read_tensor(const zipllm_archive* archive,
                                         const char* name, const char* path,
                                         void* buffer, size_t capacity,
                                         uint64_t* length,
                                         zipllm_error** error) {
  return Run(error, [&]() -> Outcome {
    ASSIGN_OR_RETURN(TensorRef found, Find(archive, name, path));
    return ReadSegment(archive, found.entry, found.segment, buffer, capacity,
                       length);
  });
}

zipllm_status zipllm_archive_read_range(const zipllm_archive* archive,
                                        size_t entry, uint64_t offset,
                                        void* buffer, size_t size,
                                        zipllm_error** error) {
  return Run(error, [&]() -> Outcome {
    REQUIRE_BUFFER(buffer, size);
    RETURN_IF_ERROR(EntryAt(archive, entry).status());
    return archive->archive.ReadRange(entry, offset, Bytes(buffer, size));
  });
}

zipllm_status zipllm_archive_copy_range(const zipllm_archive* archive,
                                        size_t entry, uint64_t offset,
                                        uint64_t length, zipllm_sink* sink,
                                        zipllm_error** error) {
  return Run(error, [&]() -> Outcome {
    REQUIRE(sink);
    RETURN_IF_ERROR(EntryAt(archive, entry).status());
    return sink->Explain(
        archive->archive.CopyRange(entry, offset, length, *sink));
  });
}
