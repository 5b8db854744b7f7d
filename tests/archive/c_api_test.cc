#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <new>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "archive/out_of_memory.h"
#include "archive/testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "zipllm/zipllm.h"

namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using zipllm::testing::Bf16Weights;
using zipllm::testing::RandomBytes;
using zipllm::testing::ReadFile;
using zipllm::testing::Safetensors;
using zipllm::testing::TempDir;
using zipllm::testing::WriteFile;
using Data = std::vector<uint8_t>;

// The binary interface: sizes and places on 64-bit systems never change while
// ZIPLLM_ABI_VERSION is 1.
static_assert(ZIPLLM_ABI_VERSION == 1);
static_assert(sizeof(zipllm_status) == 4);
static_assert(sizeof(zipllm_progress) == 40);
static_assert(sizeof(zipllm_compress_options) == 80);
static_assert(offsetof(zipllm_compress_options, level) == 8);
static_assert(offsetof(zipllm_compress_options, progress) == 32);
static_assert(offsetof(zipllm_compress_options, user_data) == 48);
static_assert(offsetof(zipllm_compress_options, bases) == 56);
static_assert(offsetof(zipllm_compress_options, text_model) == 72);
static_assert(sizeof(zipllm_decompress_options) == 96);
static_assert(offsetof(zipllm_decompress_options, max_memory) == 8);
static_assert(offsetof(zipllm_decompress_options, threads) == 16);
static_assert(offsetof(zipllm_decompress_options, user_data) == 48);
static_assert(offsetof(zipllm_decompress_options, base_directories) == 72);
static_assert(sizeof(zipllm_needed_base) == 64);
static_assert(sizeof(zipllm_totals) == 48);
static_assert(sizeof(zipllm_source_callbacks) == 56);
static_assert(offsetof(zipllm_source_callbacks, read_at) == 24);
static_assert(offsetof(zipllm_source_callbacks, name) == 48);
static_assert(sizeof(zipllm_sink_callbacks) == 40);
static_assert(sizeof(zipllm_entry) == 112);
static_assert(offsetof(zipllm_entry, size) == 32);
static_assert(offsetof(zipllm_entry, kind) == 64);
static_assert(offsetof(zipllm_entry, sha256) == 80);
static_assert(sizeof(zipllm_segment) == 64);
static_assert(offsetof(zipllm_segment, shape) == 40);
static_assert(ZIPLLM_ERROR_INTERNAL == 13);
static_assert(ZIPLLM_ERROR_BASE == 14);

// Receives an error object; frees it.
class Error {
 public:
  Error() = default;
  Error(const Error&) = delete;
  Error& operator=(const Error&) = delete;
  ~Error() { zipllm_error_free(error_); }
  zipllm_error** out() {
    zipllm_error_free(error_);
    error_ = nullptr;
    return &error_;
  }
  operator zipllm_error**() { return out(); }  // NOLINT: as an argument
  zipllm_status status() const { return zipllm_error_status(error_); }
  std::string message() const { return zipllm_error_message(error_); }

 private:
  zipllm_error* error_ = nullptr;
};

#define EXPECT_C_OK(call) EXPECT_EQ((call), ZIPLLM_OK) << error.message()
#define ASSERT_C_OK(call) ASSERT_EQ((call), ZIPLLM_OK) << error.message()
// Fails with `status`, and the error object says the same.
#define EXPECT_C_ERROR(call, expected)                \
  do {                                                \
    EXPECT_EQ((call), (expected)) << error.message(); \
    EXPECT_EQ(error.status(), (expected));            \
    EXPECT_NE(error.message(), "");                   \
  } while (false)

struct Close {
  void operator()(zipllm_source* p) const { zipllm_source_free(p); }
  void operator()(zipllm_sink* p) const { zipllm_sink_free(p); }
  void operator()(zipllm_archive* p) const { zipllm_archive_close(p); }
};
using SourcePtr = std::unique_ptr<zipllm_source, Close>;
using SinkPtr = std::unique_ptr<zipllm_sink, Close>;
using ArchivePtr = std::unique_ptr<zipllm_archive, Close>;

// `data` must outlive the source.
SourcePtr MemorySource(const Data& data) {
  Error error;
  zipllm_source* source = nullptr;
  EXPECT_C_OK(
      zipllm_source_from_memory(data.data(), data.size(), &source, error));
  return SourcePtr(source);
}

SourcePtr MemorySource(Data&&) = delete;

// A safetensors file with "a", whose exponents are as skewed as those of real
// weights, and "b", which has 12 bytes.
Data Model() {
  return Safetensors(
      {{"a", "BF16", {1000, 200}, Bf16Weights(200000, 1)},
       {"b", "F32", {3}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}}});
}

zipllm_compress_options CompressWith(int level) {
  zipllm_compress_options options;
  zipllm_compress_options_init(&options, sizeof options);
  options.level = level;
  return options;
}

zipllm_decompress_options DecompressWith() {
  zipllm_decompress_options options;
  zipllm_decompress_options_init(&options, sizeof options);
  return options;
}

Data Compress(const Data& plain,
              const zipllm_compress_options* options = nullptr) {
  Error error;
  Data archive(zipllm_compress_bound(plain.size()));
  size_t size = 0;
  EXPECT_C_OK(zipllm_compress(archive.data(), archive.size(), &size,
                              plain.data(), plain.size(), options, error));
  archive.resize(size);
  return archive;
}

// `data` must outlive the archive.
ArchivePtr Open(const Data& data) {
  Error error;
  SourcePtr source = MemorySource(data);
  zipllm_archive* archive = nullptr;
  EXPECT_C_OK(zipllm_archive_open(source.get(), nullptr, &archive, error));
  return ArchivePtr(archive);
}

ArchivePtr Open(Data&&) = delete;

// Callbacks over a vector, which count, fall short and fail as asked.
struct Stream {
  Data data;
  size_t position = 0;
  size_t most = SIZE_MAX;     // bytes a call
  size_t fail_at = SIZE_MAX;  // position
  zipllm_status failure = ZIPLLM_ERROR_IO;
  size_t lie = 0;  // bytes that read claims above what it read
  std::atomic<int> releases = 0;

  static zipllm_status Read(void* self, void* buffer, size_t size,
                            size_t* count) {
    auto& s = *static_cast<Stream*>(self);
    if (s.position >= s.fail_at) return s.failure;
    *count = std::min({size, s.most, s.data.size() - s.position});
    std::copy_n(s.data.begin() + static_cast<ptrdiff_t>(s.position), *count,
                static_cast<uint8_t*>(buffer));
    s.position += *count;
    *count += s.lie;
    return ZIPLLM_OK;
  }
  static zipllm_status ReadAt(void* self, uint64_t offset, void* buffer,
                              size_t size, size_t* count) {
    auto& s = *static_cast<Stream*>(self);
    if (offset >= s.fail_at) return s.failure;
    *count = offset < s.data.size()
                 ? std::min<size_t>(size, s.data.size() - offset)
                 : 0;
    std::copy_n(s.data.begin() + static_cast<ptrdiff_t>(
                                     std::min<size_t>(offset, s.data.size())),
                *count, static_cast<uint8_t*>(buffer));
    return ZIPLLM_OK;
  }
  static zipllm_status Write(void* self, const void* data, size_t size) {
    auto& s = *static_cast<Stream*>(self);
    if (s.data.size() + size > s.fail_at) return s.failure;
    const auto* bytes = static_cast<const uint8_t*>(data);
    s.data.insert(s.data.end(), bytes, bytes + size);
    return ZIPLLM_OK;
  }
  static void Release(void* self) { ++static_cast<Stream*>(self)->releases; }

  SourcePtr Source(bool seekable = false) {
    Error error;
    zipllm_source_callbacks callbacks = {};
    callbacks.struct_size = sizeof callbacks;
    callbacks.user_data = this;
    callbacks.release = Release;
    callbacks.size = ZIPLLM_SIZE_UNKNOWN;
    callbacks.name = "the stream";
    if (seekable) {
      callbacks.read_at = ReadAt;
      callbacks.size = data.size();
    } else {
      callbacks.read = Read;
    }
    zipllm_source* source = nullptr;
    EXPECT_C_OK(zipllm_source_from_callbacks(&callbacks, &source, error));
    return SourcePtr(source);
  }
  SinkPtr Sink() {
    Error error;
    zipllm_sink_callbacks callbacks = {};
    callbacks.struct_size = sizeof callbacks;
    callbacks.user_data = this;
    callbacks.write = Write;
    callbacks.release = Release;
    callbacks.name = "the stream";
    zipllm_sink* sink = nullptr;
    EXPECT_C_OK(zipllm_sink_to_callbacks(&callbacks, &sink, error));
    return SinkPtr(sink);
  }
};

// ---- Version and errors -----------------------------------------------------

TEST(CApi, VersionsOfHeaderLibraryAndProjectAgree) {
  EXPECT_EQ(zipllm_version_number(), ZIPLLM_VERSION_NUMBER);
  EXPECT_EQ(zipllm_abi_version(), ZIPLLM_ABI_VERSION);
  std::ifstream in(ZIPLLM_SOURCE_DIR "/CMakeLists.txt");
  std::string text(std::istreambuf_iterator<char>(in), {});
  EXPECT_THAT(text, HasSubstr(std::string("project(zipllm VERSION ") +
                              zipllm_version_string() + " "));
}

TEST(CApi, EveryStatusHasWordsOfItsOwn) {
  std::vector<std::string> words;
  for (int status = ZIPLLM_OK; status <= ZIPLLM_ERROR_BASE; ++status) {
    words.push_back(zipllm_status_string(static_cast<zipllm_status>(status)));
  }
  std::sort(words.begin(), words.end());
  EXPECT_EQ(std::adjacent_find(words.begin(), words.end()), words.end());
  EXPECT_STREQ(zipllm_status_string(static_cast<zipllm_status>(15)),
               "unknown status");
}

TEST(CApi, NullHandlesAreHarmless) {
  zipllm_error_free(nullptr);
  zipllm_source_free(nullptr);
  zipllm_sink_free(nullptr);
  zipllm_archive_close(nullptr);
  zipllm_compress_options_init(nullptr, sizeof(zipllm_compress_options));
  zipllm_decompress_options_init(nullptr, sizeof(zipllm_decompress_options));
  EXPECT_EQ(zipllm_error_status(nullptr), ZIPLLM_OK);
  EXPECT_STREQ(zipllm_error_message(nullptr), "");
  EXPECT_EQ(zipllm_sink_bytes_written(nullptr), 0);
  EXPECT_EQ(zipllm_archive_size(nullptr), 0);
  EXPECT_EQ(zipllm_archive_bytes_read(nullptr), 0);
  EXPECT_EQ(zipllm_archive_entry_count(nullptr), 0);
}

TEST(CApi, ErrorIsOverwrittenAlsoBySuccess) {
  auto* error = reinterpret_cast<zipllm_error*>(16);  // not initialised
  Data data(1);
  zipllm_source* source = nullptr;
  ASSERT_EQ(zipllm_source_from_memory(data.data(), 1, &source, &error),
            ZIPLLM_OK);
  EXPECT_EQ(error, nullptr);
  zipllm_source_free(source);
}

TEST(CApi, ErrorMayBeNull) {
  zipllm_source* source = nullptr;
  EXPECT_EQ(zipllm_source_open_file("/nonexistent", &source, nullptr),
            ZIPLLM_ERROR_NOT_FOUND);
}

TEST(CApi, NullArgumentsAreRefused) {
  Error error;
  Data archive_bytes = Compress(Data(10));
  ArchivePtr archive = Open(archive_bytes);
  SourcePtr source = MemorySource(archive_bytes);
  Stream stream;
  SinkPtr sink = stream.Sink();
  uint8_t byte = 0;
  size_t size = 0, index = 0;
  uint64_t length = 0;
  zipllm_source* new_source = nullptr;
  zipllm_sink* new_sink = nullptr;
  zipllm_archive* new_archive = nullptr;
  zipllm_entry entry = {};
  entry.struct_size = sizeof entry;
  zipllm_segment segment = {};
  segment.struct_size = sizeof segment;
  zipllm_archive* a = archive.get();
  zipllm_source* in = source.get();
  zipllm_sink* out = sink.get();

  const std::vector<std::function<zipllm_status()>> calls = {
      [&] { return zipllm_compress(nullptr, 1, &size, &byte, 1, 0, error); },
      [&] { return zipllm_compress(&byte, 1, nullptr, &byte, 1, 0, error); },
      [&] { return zipllm_compress(&byte, 1, &size, nullptr, 1, 0, error); },
      [&] { return zipllm_decompress(nullptr, 1, &size, &byte, 1, 0, error); },
      [&] { return zipllm_decompress(&byte, 1, nullptr, &byte, 1, 0, error); },
      [&] { return zipllm_decompress(&byte, 1, &size, nullptr, 1, 0, error); },
      [&] { return zipllm_decompressed_size(nullptr, 1, 0, &length, error); },
      [&] { return zipllm_decompressed_size(&byte, 1, 0, nullptr, error); },
      [&] { return zipllm_source_open_file(nullptr, &new_source, error); },
      [&] { return zipllm_source_open_file("x", nullptr, error); },
      [&] { return zipllm_source_from_fd(0, "x", nullptr, error); },
      [&] { return zipllm_source_from_fd(-1, "x", &new_source, error); },
      [&] { return zipllm_source_from_memory(nullptr, 1, &new_source, error); },
      [&] { return zipllm_source_from_memory(&byte, 1, nullptr, error); },
      [&] { return zipllm_source_from_callbacks(nullptr, &new_source, error); },
      [&] { return zipllm_sink_create_file(nullptr, 0, &new_sink, error); },
      [&] { return zipllm_sink_create_file("x", 0, nullptr, error); },
      [&] { return zipllm_sink_create_file("", 0, &new_sink, error); },
      [&] { return zipllm_sink_create_file("..", 0, &new_sink, error); },
      [&] { return zipllm_sink_to_fd(1, "x", nullptr, error); },
      [&] { return zipllm_sink_to_fd(-1, "x", &new_sink, error); },
      [&] { return zipllm_sink_to_memory(nullptr, 1, &new_sink, error); },
      [&] { return zipllm_sink_to_memory(&byte, 1, nullptr, error); },
      [&] { return zipllm_sink_to_callbacks(nullptr, &new_sink, error); },
      [&] { return zipllm_sink_commit(nullptr, error); },
      [&] { return zipllm_compress_stream(nullptr, "", out, 0, 0, error); },
      [&] { return zipllm_compress_stream(in, "", nullptr, 0, 0, error); },
      [&] { return zipllm_compress_path(nullptr, out, 0, 0, error); },
      [&] { return zipllm_compress_path("x", nullptr, 0, 0, error); },
      [&] {
        return zipllm_compress_path_to_file(nullptr, "x", 0, 0, 0, error);
      },
      [&] {
        return zipllm_compress_path_to_file("x", nullptr, 0, 0, 0, error);
      },
      [&] { return zipllm_decompress_stream(nullptr, out, 0, 0, error); },
      [&] { return zipllm_decompress_stream(in, nullptr, 0, 0, error); },
      [&] { return zipllm_decompress_to(nullptr, "x", 0, 0, error); },
      [&] { return zipllm_decompress_to(in, nullptr, 0, 0, error); },
      [&] { return zipllm_decompress_file(nullptr, "x", 0, 0, error); },
      [&] { return zipllm_decompress_file("x", nullptr, 0, 0, error); },
      [&] { return zipllm_test(nullptr, 0, 0, error); },
      [&] { return zipllm_archive_open_file(nullptr, 0, &new_archive, error); },
      [&] { return zipllm_archive_open_file("x", 0, nullptr, error); },
      [&] { return zipllm_archive_open(nullptr, 0, &new_archive, error); },
      [&] { return zipllm_archive_open(in, 0, nullptr, error); },
      [&] { return zipllm_archive_get_entry(nullptr, 0, &entry, error); },
      [&] { return zipllm_archive_get_entry(a, 0, nullptr, error); },
      [&] { return zipllm_archive_find_entry(nullptr, "", &index, error); },
      [&] { return zipllm_archive_find_entry(a, nullptr, &index, error); },
      [&] { return zipllm_archive_find_entry(a, "", nullptr, error); },
      [&] {
        return zipllm_archive_get_segment(nullptr, 0, 0, &segment, error);
      },
      [&] { return zipllm_archive_get_segment(a, 0, 0, nullptr, error); },
      [&] {
        return zipllm_archive_find_tensor(nullptr, "a", 0, &index, &index,
                                          error);
      },
      [&] {
        return zipllm_archive_find_tensor(a, nullptr, 0, &index, &index, error);
      },
      [&] {
        return zipllm_archive_find_tensor(a, "a", 0, nullptr, &index, error);
      },
      [&] {
        return zipllm_archive_find_tensor(a, "a", 0, &index, nullptr, error);
      },
      [&] {
        return zipllm_archive_read_segment(nullptr, 0, 0, &byte, 1, 0, error);
      },
      [&] {
        return zipllm_archive_read_segment(a, 0, 0, nullptr, 1, 0, error);
      },
      [&] {
        return zipllm_archive_read_tensor(nullptr, "a", 0, &byte, 1, 0, error);
      },
      [&] {
        return zipllm_archive_read_tensor(a, nullptr, 0, &byte, 1, 0, error);
      },
      [&] { return zipllm_archive_read_range(nullptr, 0, 0, &byte, 1, error); },
      [&] { return zipllm_archive_read_range(a, 0, 0, nullptr, 1, error); },
      [&] { return zipllm_archive_copy_range(nullptr, 0, 0, 1, out, error); },
      [&] { return zipllm_archive_copy_range(a, 0, 0, 1, nullptr, error); },
  };
  for (size_t i = 0; i < calls.size(); ++i) {
    SCOPED_TRACE(i);
    EXPECT_C_ERROR(calls[i](), ZIPLLM_ERROR_INVALID_ARGUMENT);
  }
  EXPECT_EQ(new_source, nullptr);
  EXPECT_EQ(new_sink, nullptr);
  EXPECT_EQ(new_archive, nullptr);
  EXPECT_TRUE(stream.data.empty());
}

TEST(CApi, HandlesAreNullAfterFailure) {
  Error error;
  auto* source = reinterpret_cast<zipllm_source*>(16);
  EXPECT_C_ERROR(zipllm_source_open_file("/nonexistent/x", &source, error),
                 ZIPLLM_ERROR_NOT_FOUND);
  EXPECT_EQ(source, nullptr);
  EXPECT_THAT(error.message(), HasSubstr("/nonexistent/x"));
  auto* sink = reinterpret_cast<zipllm_sink*>(16);
  EXPECT_C_ERROR(zipllm_sink_create_file("/nonexistent/x", 0, &sink, error),
                 ZIPLLM_ERROR_NOT_FOUND);
  EXPECT_EQ(sink, nullptr);
  auto* archive = reinterpret_cast<zipllm_archive*>(16);
  EXPECT_C_ERROR(
      zipllm_archive_open_file("/nonexistent/x", nullptr, &archive, error),
      ZIPLLM_ERROR_NOT_FOUND);
  EXPECT_EQ(archive, nullptr);
}

// At whichever allocation memory runs out, the call says so, leaks nothing
// (LeakSanitizer) and works the next time.
template <typename Call>
void RunOutOfMemory(Call call) {
  Error error;
  for (int64_t allocations = 0;; ++allocations) {
    ASSERT_LT(allocations, 10000);
    zipllm_error** out = error.out();
    zipllm_status status = ZIPLLM_OK;
    {
      zipllm::testing::MemoryThatRunsOut limited(allocations);
      status = call(out);
    }
    if (status == ZIPLLM_OK) {
      EXPECT_GT(allocations, 0);
      return;
    }
    ASSERT_EQ(status, ZIPLLM_ERROR_MEMORY) << error.message();
    ASSERT_EQ(error.status(), ZIPLLM_ERROR_MEMORY);
    ASSERT_EQ(error.message(), "out of memory");
  }
}

TEST(CApi, MemoryRunsOut) {
  Data model = Model();
  Data archive = Compress(model);
  Stream stream;
  RunOutOfMemory([&](zipllm_error** error) {
    zipllm_source* source = nullptr;
    auto status = zipllm_source_from_memory(model.data(), 1, &source, error);
    zipllm_source_free(source);
    return status;
  });
  zipllm_sink_callbacks callbacks = {};
  callbacks.struct_size = sizeof callbacks;
  callbacks.user_data = &stream;
  callbacks.write = Stream::Write;
  callbacks.release = Stream::Release;
  callbacks.name = "a name that is too long to be stored inside of a string";
  RunOutOfMemory([&](zipllm_error** error) {
    zipllm_sink* sink = nullptr;
    auto status = zipllm_sink_to_callbacks(&callbacks, &sink, error);
    zipllm_sink_free(sink);
    return status;
  });
  EXPECT_EQ(stream.releases, 1);  // by the call that succeeded
  RunOutOfMemory([&](zipllm_error** error) {
    uint64_t size = 0;
    return zipllm_decompressed_size(archive.data(), archive.size(), nullptr,
                                    &size, error);
  });
}

// ---- Structs that grow ------------------------------------------------------

TEST(CApi, OptionsInitFillsInDefaults) {
  zipllm_compress_options compress;
  std::memset(&compress, 0xFF, sizeof compress);
  zipllm_compress_options_init(&compress, sizeof compress);
  EXPECT_EQ(compress.struct_size, sizeof compress);
  EXPECT_EQ(compress.level, ZIPLLM_LEVEL_DEFAULT);
  EXPECT_EQ(compress.threads, 0);
  EXPECT_EQ(compress.verify, 1);
  EXPECT_EQ(compress.deduplicate, 1);
  EXPECT_EQ(compress.follow_symlinks, 0);
  EXPECT_EQ(compress.reserved, 0);
  EXPECT_EQ(compress.progress, nullptr);
  EXPECT_EQ(compress.warning, nullptr);
  EXPECT_EQ(compress.user_data, nullptr);
  zipllm_decompress_options decompress;
  std::memset(&decompress, 0xFF, sizeof decompress);
  zipllm_decompress_options_init(&decompress, sizeof decompress);
  EXPECT_EQ(decompress.struct_size, sizeof decompress);
  EXPECT_EQ(decompress.max_memory, uint64_t{512} << 20);
  EXPECT_EQ(decompress.threads, 0);
  EXPECT_EQ(decompress.check_sha256, 0);
  EXPECT_EQ(decompress.overwrite, 0);
  EXPECT_EQ(decompress.progress, nullptr);
}

// What a caller built against a later version has: more members at the end.
template <typename T>
struct Later {
  T known;
  uint64_t added;
};

TEST(CApi, LaterCallersWorkUnlessTheyUseWhatIsNew) {
  Error error;
  Data plain(100), archive(zipllm_compress_bound(100));
  size_t size = 0;
  Later<zipllm_compress_options> options;
  std::memset(&options, 0xFF, sizeof options);
  zipllm_compress_options_init(&options.known, sizeof options);
  EXPECT_EQ(options.added, 0);
  EXPECT_C_OK(zipllm_compress(archive.data(), archive.size(), &size,
                              plain.data(), plain.size(), &options.known,
                              error));
  options.added = uint64_t{1} << 63;
  EXPECT_C_ERROR(
      zipllm_compress(archive.data(), archive.size(), &size, plain.data(),
                      plain.size(), &options.known, error),
      ZIPLLM_ERROR_UNSUPPORTED);

  Later<zipllm_totals> totals;
  std::memset(&totals, 0xFF, sizeof totals);
  totals.known.struct_size = sizeof totals;
  archive.resize(size);
  SourcePtr source = MemorySource(archive);
  ASSERT_C_OK(zipllm_test(source.get(), nullptr, &totals.known, error));
  EXPECT_EQ(totals.known.struct_size, sizeof totals);
  EXPECT_EQ(totals.known.plain_bytes, 100);
  EXPECT_EQ(totals.added, 0);
}

TEST(CApi, StructsThatWereNotSetUpAreRefused) {
  Error error;
  Data plain(100), archive(zipllm_compress_bound(100));
  size_t size = 0;
  // What the first version of the ABI had is the least that a caller has.
  constexpr size_t kFirst = offsetof(zipllm_compress_options, bases);
  for (size_t struct_size : {size_t{0}, kFirst - 1, SIZE_MAX}) {
    zipllm_compress_options options = CompressWith(3);
    options.struct_size = struct_size;
    EXPECT_C_ERROR(zipllm_compress(archive.data(), archive.size(), &size,
                                   plain.data(), plain.size(), &options, error),
                   ZIPLLM_ERROR_INVALID_ARGUMENT);
    EXPECT_THAT(error.message(), HasSubstr("struct_size"));
  }
  for (size_t struct_size : {size_t{0}, sizeof(zipllm_totals) - 1, SIZE_MAX}) {
    zipllm_totals totals;
    totals.struct_size = struct_size;
    SourcePtr source = MemorySource(plain);
    Stream out;
    EXPECT_C_ERROR(zipllm_compress_stream(source.get(), "", out.Sink().get(),
                                          nullptr, &totals, error),
                   ZIPLLM_ERROR_INVALID_ARGUMENT);
    EXPECT_TRUE(out.data.empty());
  }
  zipllm_compress_options options = {};
  zipllm_compress_options_init(&options, kFirst - 1);
  EXPECT_EQ(options.struct_size, 0);
}

TEST(CApi, OptionsAreChecked) {
  Error error;
  Data plain(100), archive(zipllm_compress_bound(100));
  size_t size = 0;
  auto compress = [&](const zipllm_compress_options& options) {
    return zipllm_compress(archive.data(), archive.size(), &size, plain.data(),
                           plain.size(), &options, error);
  };
  for (int level : {-1, 0, 10, 1000}) {
    EXPECT_C_ERROR(compress(CompressWith(level)),
                   ZIPLLM_ERROR_INVALID_ARGUMENT);
    EXPECT_THAT(error.message(), MatchesRegex(".*level.*1 to 9.*"));
  }
  zipllm_compress_options options = CompressWith(3);
  options.threads = -1;
  EXPECT_C_ERROR(compress(options), ZIPLLM_ERROR_INVALID_ARGUMENT);
  options = CompressWith(3);
  options.reserved = 1;
  EXPECT_C_ERROR(compress(options), ZIPLLM_ERROR_INVALID_ARGUMENT);
  zipllm_decompress_options decompress = DecompressWith();
  decompress.threads = -1;
  archive = Compress(plain);
  EXPECT_C_ERROR(
      zipllm_test(MemorySource(archive).get(), &decompress, 0, error),
      ZIPLLM_ERROR_INVALID_ARGUMENT);
}

// ---- Buffers in memory ------------------------------------------------------

TEST(CApiMemory, RoundTrip) {
  Data model = Model();
  for (const Data& plain :
       {Data(), Data(1, 7), Data(100000), RandomBytes(70000, 1), model}) {
    for (int level : {ZIPLLM_LEVEL_MIN, ZIPLLM_LEVEL_DEFAULT}) {
      Error error;
      zipllm_compress_options options = CompressWith(level);
      Data archive = Compress(plain, &options);
      uint64_t claimed = 1;
      EXPECT_C_OK(zipllm_decompressed_size(archive.data(), archive.size(),
                                           nullptr, &claimed, error));
      EXPECT_EQ(claimed, plain.size());
      Data decoded(plain.size());
      size_t size = 1;
      EXPECT_C_OK(zipllm_decompress(decoded.data(), decoded.size(), &size,
                                    archive.data(), archive.size(), nullptr,
                                    error));
      EXPECT_EQ(size, plain.size());
      EXPECT_TRUE(decoded == plain);
    }
  }
  EXPECT_LT(Compress(model).size(), model.size() * 3 / 4);
}

TEST(CApiMemory, BoundHoldsForWhatDoesNotCompress) {
  for (size_t size : {0, 1, 1000, 65536, 3000000}) {
    Compress(RandomBytes(size, 2));  // expects success
  }
  EXPECT_EQ(zipllm_compress_bound(SIZE_MAX), 0);
  EXPECT_GT(zipllm_compress_bound(SIZE_MAX / 2), SIZE_MAX / 2);
}

// Whose frames cost more than they save.
TEST(CApiMemory, BoundHoldsForManyTinyTensors) {
  Error error;
  constexpr uint32_t kTensors = 20000;
  constexpr uint32_t kI8 = 24;
  Data plain;
  auto write = [&](uint64_t value, size_t bytes) {
    for (size_t i = 0; i < bytes; ++i) {
      plain.push_back(static_cast<uint8_t>(value >> 8 * i));
    }
  };
  write(0x46554747, 4);  // "GGUF"
  write(3, 4);
  write(kTensors, 8);
  write(0, 8);  // no metadata, so an alignment of 32
  for (uint32_t i = 0; i < kTensors; ++i) {
    write(4, 8);
    write(i * 2654435761U, 4);  // the name: four bytes that are ASCII
    for (size_t k = plain.size() - 4; k < plain.size(); ++k) plain[k] &= 0x7F;
    write(1, 4);
    write(1, 8);  // one element
    write(kI8, 4);
    write(32 * i, 8);
  }
  plain.resize((plain.size() + 31) / 32 * 32);
  Data padded = RandomBytes(32 * kTensors, 3);
  plain.insert(plain.end(), padded.begin(), padded.end());
  Data archive = Compress(plain);
  EXPECT_LE(archive.size(), zipllm_compress_bound(plain.size()));
  Data decoded(plain.size());
  size_t size = 0;
  EXPECT_C_OK(zipllm_decompress(decoded.data(), decoded.size(), &size,
                                archive.data(), archive.size(), nullptr,
                                error));
  EXPECT_TRUE(decoded == plain);
  EXPECT_C_OK(
      zipllm_test(MemorySource(archive).get(), nullptr, nullptr, error));
  // It was the bound that made zipllm_compress give up the layout.
  Stream larger;
  SourcePtr source = MemorySource(plain);
  ASSERT_C_OK(zipllm_compress_stream(source.get(), "", larger.Sink().get(),
                                     nullptr, nullptr, error));
  EXPECT_GT(larger.data.size(), zipllm_compress_bound(plain.size()));
}

TEST(CApiMemory, BuffersThatAreTooSmall) {
  Error error;
  Data plain = RandomBytes(5000, 4);
  Data archive = Compress(plain);
  for (size_t capacity :
       {size_t{0}, size_t{10}, archive.size() / 2, archive.size() - 1}) {
    // On the heap, so that ASan sees a byte too far.
    std::unique_ptr<uint8_t[]> room(new uint8_t[capacity]);
    size_t size = 77;
    EXPECT_C_ERROR(zipllm_compress(room.get(), capacity, &size, plain.data(),
                                   plain.size(), nullptr, error),
                   ZIPLLM_ERROR_BUFFER_TOO_SMALL);
    EXPECT_EQ(size, 77);
  }
  for (size_t capacity : {size_t{0}, size_t{10}, plain.size() - 1}) {
    std::unique_ptr<uint8_t[]> room(new uint8_t[capacity]);
    size_t size = 77;
    EXPECT_C_ERROR(
        zipllm_decompress(capacity != 0 ? room.get() : nullptr, capacity, &size,
                          archive.data(), archive.size(), nullptr, error),
        ZIPLLM_ERROR_BUFFER_TOO_SMALL);
    EXPECT_EQ(size, 77);
  }
}

TEST(CApiMemory, WhatIsNoArchiveIsCorrupt) {
  Error error;
  Data room(100000);
  size_t size = 0;
  uint64_t claimed = 0;
  for (const Data& bad : {RandomBytes(1, 5), RandomBytes(1000, 6)}) {
    EXPECT_C_ERROR(zipllm_decompress(room.data(), room.size(), &size,
                                     bad.data(), bad.size(), nullptr, error),
                   ZIPLLM_ERROR_CORRUPT);
    EXPECT_C_ERROR(zipllm_decompressed_size(bad.data(), bad.size(), nullptr,
                                            &claimed, error),
                   ZIPLLM_ERROR_CORRUPT);
  }
}

TEST(CApiMemory, EveryTruncationIsCorrupt) {
  Error error;
  Data plain = RandomBytes(300, 7);
  Data archive = Compress(plain);
  Data room(plain.size());
  for (size_t length = 1; length < archive.size(); ++length) {
    std::unique_ptr<uint8_t[]> cut(new uint8_t[length]);
    std::copy_n(archive.begin(), length, cut.get());
    size_t size = 0;
    uint64_t claimed = 0;
    EXPECT_C_ERROR(zipllm_decompress(room.data(), room.size(), &size, cut.get(),
                                     length, nullptr, error),
                   ZIPLLM_ERROR_CORRUPT);
    EXPECT_C_ERROR(
        zipllm_decompressed_size(cut.get(), length, nullptr, &claimed, error),
        ZIPLLM_ERROR_CORRUPT);
  }
}

TEST(CApiMemory, NewerMajorVersionIsUnsupportedOrCorruptNeverDecoded) {
  Error error;
  Data archive = Compress(Data(10));
  archive[8] = 99;  // major version; the header's hash is now wrong too
  Data room(100);
  size_t size = 0;
  zipllm_status status =
      zipllm_decompress(room.data(), room.size(), &size, archive.data(),
                        archive.size(), nullptr, error);
  EXPECT_TRUE(status == ZIPLLM_ERROR_UNSUPPORTED ||
              status == ZIPLLM_ERROR_CORRUPT);
}

TEST(CApiMemory, MemoryLimitIsKept) {
  Error error;
  Data archive = Compress(Data(5 << 20, 1));
  zipllm_decompress_options options = DecompressWith();
  options.max_memory = 1024;
  EXPECT_C_ERROR(
      zipllm_test(MemorySource(archive).get(), &options, nullptr, error),
      ZIPLLM_ERROR_LIMIT);
}

// ---- Streams ----------------------------------------------------------------

TEST(CApiStream, RoundTripThroughCallbacks) {
  Error error;
  for (size_t most : {size_t{1}, size_t{4097}, SIZE_MAX}) {
    Stream plain, archive, decoded;
    plain.data = Model();
    plain.data.resize(50000);  // a cut model: bytes
    plain.most = archive.most = most;
    zipllm_totals totals;
    totals.struct_size = sizeof totals;
    {
      SinkPtr sink = archive.Sink();
      ASSERT_C_OK(zipllm_compress_stream(plain.Source().get(), "name",
                                         sink.get(), nullptr, &totals, error));
      EXPECT_EQ(zipllm_sink_bytes_written(sink.get()), archive.data.size());
      EXPECT_C_OK(zipllm_sink_commit(sink.get(), error));
    }
    EXPECT_EQ(totals.files, 1);
    EXPECT_EQ(totals.plain_bytes, plain.data.size());
    EXPECT_EQ(totals.archive_bytes, archive.data.size());
    ASSERT_C_OK(zipllm_decompress_stream(
        archive.Source().get(), decoded.Sink().get(), nullptr, &totals, error));
    EXPECT_EQ(totals.files, 1);
    EXPECT_EQ(totals.plain_bytes, plain.data.size());
    EXPECT_EQ(totals.archive_bytes, archive.data.size());
    EXPECT_TRUE(decoded.data == plain.data);
    EXPECT_EQ(plain.releases, 1);
    EXPECT_EQ(archive.releases, 2);  // as sink and as source
    EXPECT_EQ(decoded.releases, 1);
  }
}

TEST(CApiStream, SeekableSourceNeedsNoRead) {
  Error error;
  Stream plain, archive, decoded;
  plain.data = Model();
  ASSERT_C_OK(zipllm_compress_stream(plain.Source(true).get(), nullptr,
                                     archive.Sink().get(), nullptr, nullptr,
                                     error));
  ASSERT_C_OK(zipllm_decompress_stream(archive.Source(true).get(),
                                       decoded.Sink().get(), nullptr, nullptr,
                                       error));
  EXPECT_TRUE(decoded.data == plain.data);
}

TEST(CApiStream, MemorySink) {
  Error error;
  Data plain = Model();
  Data archive(plain.size());
  zipllm_sink* raw = nullptr;
  ASSERT_C_OK(
      zipllm_sink_to_memory(archive.data(), archive.size(), &raw, error));
  SinkPtr sink(raw);
  ASSERT_C_OK(zipllm_compress_stream(MemorySource(plain).get(), "m", raw,
                                     nullptr, nullptr, error));
  archive.resize(zipllm_sink_bytes_written(raw));
  Data decoded(plain.size() - 1);
  ASSERT_C_OK(
      zipllm_sink_to_memory(decoded.data(), decoded.size(), &raw, error));
  sink.reset(raw);
  EXPECT_C_ERROR(zipllm_decompress_stream(MemorySource(archive).get(), raw,
                                          nullptr, nullptr, error),
                 ZIPLLM_ERROR_BUFFER_TOO_SMALL);
}

TEST(CApiStream, FailuresOfCallbacksComeBack) {
  Error error;
  for (zipllm_status failure :
       {ZIPLLM_ERROR_INVALID_ARGUMENT, ZIPLLM_ERROR_CANCELLED,
        ZIPLLM_ERROR_NOT_FOUND, ZIPLLM_ERROR_EXISTS, ZIPLLM_ERROR_PERMISSION,
        ZIPLLM_ERROR_LIMIT, ZIPLLM_ERROR_OUT_OF_RANGE, ZIPLLM_ERROR_UNSUPPORTED,
        ZIPLLM_ERROR_CORRUPT, ZIPLLM_ERROR_IO, ZIPLLM_ERROR_INTERNAL}) {
    SCOPED_TRACE(zipllm_status_string(failure));
    Stream plain, archive, good;
    plain.data = Model();
    ASSERT_C_OK(zipllm_compress_stream(
        plain.Source().get(), "", good.Sink().get(), nullptr, nullptr, error));
    plain.position = 0;
    plain.fail_at = plain.data.size();
    plain.failure = archive.failure = good.failure = failure;
    EXPECT_C_ERROR(
        zipllm_compress_stream(plain.Source().get(), "", archive.Sink().get(),
                               nullptr, nullptr, error),
        failure);
    EXPECT_THAT(error.message(), HasSubstr("the stream"));
    plain.position = 0;
    plain.fail_at = SIZE_MAX;
    archive.fail_at = 100;
    EXPECT_C_ERROR(
        zipllm_compress_stream(plain.Source().get(), "", archive.Sink().get(),
                               nullptr, nullptr, error),
        failure);
    EXPECT_THAT(error.message(), HasSubstr("the stream"));
    EXPECT_LE(archive.data.size(), 100);
    good.position = 0;
    good.fail_at = good.data.size();
    good.most = good.data.size() / 2;
    good.fail_at = good.most;
    Stream decoded;
    EXPECT_C_ERROR(
        zipllm_decompress_stream(good.Source().get(), decoded.Sink().get(),
                                 nullptr, nullptr, error),
        failure);
  }
}

TEST(CApiStream, ReadThatClaimsTooMuchIsRefused) {
  Error error;
  Stream plain, archive;
  plain.data = Data(1000);
  plain.lie = SIZE_MAX / 2;
  EXPECT_C_ERROR(
      zipllm_compress_stream(plain.Source().get(), "", archive.Sink().get(),
                             nullptr, nullptr, error),
      ZIPLLM_ERROR_INVALID_ARGUMENT);
}

TEST(CApiStream, CallbacksMustMakeASource) {
  Error error;
  zipllm_source_callbacks callbacks = {};
  callbacks.struct_size = sizeof callbacks;
  zipllm_source* source = nullptr;
  EXPECT_C_ERROR(zipllm_source_from_callbacks(&callbacks, &source, error),
                 ZIPLLM_ERROR_INVALID_ARGUMENT);
  callbacks.read_at = Stream::ReadAt;
  callbacks.size = ZIPLLM_SIZE_UNKNOWN;
  EXPECT_C_ERROR(zipllm_source_from_callbacks(&callbacks, &source, error),
                 ZIPLLM_ERROR_INVALID_ARGUMENT);
  zipllm_sink_callbacks write = {};
  write.struct_size = sizeof write;
  zipllm_sink* sink = nullptr;
  EXPECT_C_ERROR(zipllm_sink_to_callbacks(&write, &sink, error),
                 ZIPLLM_ERROR_INVALID_ARGUMENT);
}

TEST(CApiStream, ProgressReportsAndCancels) {
  struct State {
    uint64_t calls = 0, done = 0, cancel_at = UINT64_MAX;
    static int Report(void* self, const zipllm_progress* progress) {
      auto& state = *static_cast<State*>(self);
      EXPECT_GE(progress->struct_size, sizeof(zipllm_progress));
      EXPECT_GE(progress->bytes_done, state.done);
      EXPECT_NE(progress->current, nullptr);
      state.done = progress->bytes_done;
      return ++state.calls >= state.cancel_at;
    }
  };
  Error error;
  Data plain = RandomBytes(40 << 20, 8);
  State state;
  zipllm_compress_options options = CompressWith(1);
  options.progress = State::Report;
  options.user_data = &state;
  Stream archive;
  SourcePtr source = MemorySource(plain);
  ASSERT_C_OK(zipllm_compress_stream(source.get(), "", archive.Sink().get(),
                                     &options, nullptr, error));
  EXPECT_GT(state.calls, 1);
  EXPECT_LE(state.done, plain.size());
  state = {};
  state.cancel_at = 2;
  Stream cut;
  source = MemorySource(plain);
  EXPECT_C_ERROR(zipllm_compress_stream(source.get(), "", cut.Sink().get(),
                                        &options, nullptr, error),
                 ZIPLLM_ERROR_CANCELLED);
  EXPECT_EQ(state.calls, 2);
  EXPECT_LT(cut.data.size(), archive.data.size());
  state = {};
  state.cancel_at = 1;
  zipllm_decompress_options decompress = DecompressWith();
  decompress.progress = State::Report;
  decompress.user_data = &state;
  EXPECT_C_ERROR(zipllm_test(MemorySource(archive.data).get(), &decompress,
                             nullptr, error),
                 ZIPLLM_ERROR_CANCELLED);
}

TEST(CApiStream, TestFindsAFlippedBit) {
  Error error;
  Data archive = Compress(Model());
  EXPECT_C_OK(
      zipllm_test(MemorySource(archive).get(), nullptr, nullptr, error));
  archive[archive.size() / 2] ^= 1;
  EXPECT_C_ERROR(
      zipllm_test(MemorySource(archive).get(), nullptr, nullptr, error),
      ZIPLLM_ERROR_CORRUPT);
}

// ---- Files ------------------------------------------------------------------

size_t Count(const TempDir& folder) {
  return static_cast<size_t>(std::distance(
      fs::directory_iterator(folder.path()), fs::directory_iterator()));
}

TEST(CApiFile, RoundTripOfAFile) {
  Error error;
  TempDir folder;
  Data model = Model();
  WriteFile(folder / "model", model);
  zipllm_totals totals;
  totals.struct_size = sizeof totals;
  ASSERT_C_OK(zipllm_compress_path_to_file((folder / "model").c_str(),
                                           (folder / "archive").c_str(), 0,
                                           nullptr, &totals, error));
  EXPECT_EQ(totals.archive_bytes, fs::file_size(folder / "archive"));
  EXPECT_C_ERROR(zipllm_compress_path_to_file((folder / "model").c_str(),
                                              (folder / "archive").c_str(), 0,
                                              nullptr, nullptr, error),
                 ZIPLLM_ERROR_EXISTS);
  EXPECT_C_OK(zipllm_compress_path_to_file((folder / "model").c_str(),
                                           (folder / "archive").c_str(), 1,
                                           nullptr, nullptr, error));
  ASSERT_C_OK(zipllm_decompress_file((folder / "archive").c_str(),
                                     (folder / "out").c_str(), nullptr, nullptr,
                                     error));
  EXPECT_TRUE(ReadFile(folder / "out") == model);
  EXPECT_C_ERROR(
      zipllm_decompress_file((folder / "archive").c_str(),
                             (folder / "out").c_str(), nullptr, nullptr, error),
      ZIPLLM_ERROR_EXISTS);
  WriteFile(folder / "out", Data(3));
  zipllm_decompress_options options = DecompressWith();
  options.overwrite = 1;
  EXPECT_C_OK(zipllm_decompress_file((folder / "archive").c_str(),
                                     (folder / "out").c_str(), &options,
                                     nullptr, error));
  EXPECT_TRUE(ReadFile(folder / "out") == model);
}

TEST(CApiFile, DirectoryWithAFifoWarns) {
  Error error;
  TempDir folder;
  fs::create_directories(folder / "tree/deep/empty");
  WriteFile(folder / "tree/deep/model", Model());
  WriteFile(folder / "tree/note", Data(10, 'x'));
  ASSERT_EQ(mkfifo((folder / "tree/pipe").c_str(), 0600), 0);
  std::vector<std::string> warnings;
  zipllm_compress_options options = CompressWith(3);
  options.user_data = &warnings;
  options.warning = [](void* user_data, const char* message) {
    static_cast<std::vector<std::string>*>(user_data)->push_back(message);
  };
  zipllm_totals totals;
  totals.struct_size = sizeof totals;
  Stream archive;
  ASSERT_C_OK(zipllm_compress_path((folder / "tree").c_str(),
                                   archive.Sink().get(), &options, &totals,
                                   error));
  EXPECT_EQ(totals.files, 2);
  EXPECT_EQ(totals.warnings, 1);
  ASSERT_EQ(warnings.size(), 1);
  EXPECT_THAT(warnings[0], HasSubstr("pipe"));
  ASSERT_C_OK(zipllm_decompress_to(MemorySource(archive.data).get(),
                                   (folder / "out").c_str(), nullptr, nullptr,
                                   error));
  EXPECT_TRUE(ReadFile(folder / "out/deep/model") == Model());
  EXPECT_TRUE(ReadFile(folder / "out/note") == Data(10, 'x'));
  EXPECT_TRUE(fs::is_directory(folder / "out/deep/empty"));
  EXPECT_FALSE(fs::exists(folder / "out/pipe"));
}

TEST(CApiFile, SinkAppearsWhenCommitted) {
  Error error;
  TempDir folder;
  std::string path = folder / "archive";
  zipllm_sink* raw = nullptr;
  Data plain = Model();
  ASSERT_C_OK(zipllm_sink_create_file(path.c_str(), 0, &raw, error));
  SinkPtr sink(raw);
  ASSERT_C_OK(zipllm_compress_stream(MemorySource(plain).get(), "m", raw,
                                     nullptr, nullptr, error));
  EXPECT_FALSE(fs::exists(path));
  sink.reset();
  EXPECT_EQ(Count(folder), 0);  // nothing is left

  ASSERT_C_OK(zipllm_sink_create_file(path.c_str(), 0, &raw, error));
  sink.reset(raw);
  ASSERT_C_OK(zipllm_compress_stream(MemorySource(plain).get(), "m", raw,
                                     nullptr, nullptr, error));
  ASSERT_C_OK(zipllm_sink_commit(raw, error));
  EXPECT_EQ(fs::file_size(path), zipllm_sink_bytes_written(raw));
  EXPECT_EQ(Count(folder), 1);
  mode_t mask = umask(0);
  umask(mask);
  struct stat st;
  ASSERT_EQ(stat(path.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0666 & ~mask);

  EXPECT_C_ERROR(zipllm_sink_create_file(path.c_str(), 0, &raw, error),
                 ZIPLLM_ERROR_EXISTS);
  ASSERT_C_OK(zipllm_sink_create_file(path.c_str(), 1, &raw, error));
  sink.reset(raw);
  ASSERT_C_OK(zipllm_sink_commit(raw, error));
  EXPECT_EQ(fs::file_size(path), 0);
}

TEST(CApiFile, SinkDoesNotReplaceWhatCameBetween) {
  Error error;
  TempDir folder;
  zipllm_sink* raw = nullptr;
  ASSERT_C_OK(
      zipllm_sink_create_file((folder / "archive").c_str(), 0, &raw, error));
  SinkPtr sink(raw);
  WriteFile(folder / "archive", Data(5, 'x'));
  EXPECT_C_ERROR(zipllm_sink_commit(raw, error), ZIPLLM_ERROR_EXISTS);
  EXPECT_EQ(ReadFile(folder / "archive"), Data(5, 'x'));
}

TEST(CApiFile, Descriptors) {
  Error error;
  int fds[2];
  ASSERT_EQ(pipe2(fds, O_CLOEXEC), 0);
  Data plain = Model();
  zipllm_source* source = nullptr;
  ASSERT_C_OK(zipllm_source_from_fd(fds[0], "the pipe", &source, error));
  zipllm_archive* archive = nullptr;
  EXPECT_NE(zipllm_archive_open(source, nullptr, &archive, error), ZIPLLM_OK);
  EXPECT_EQ(archive, nullptr);
  Data decoded(plain.size());
  std::thread writer([&] {
    Error inner;
    zipllm_sink* sink = nullptr;
    ASSERT_EQ(zipllm_sink_to_fd(fds[1], nullptr, &sink, inner), ZIPLLM_OK);
    EXPECT_EQ(zipllm_compress_stream(MemorySource(plain).get(), "", sink,
                                     nullptr, nullptr, inner),
              ZIPLLM_OK)
        << inner.message();
    zipllm_sink_free(sink);
    close(fds[1]);
  });
  zipllm_sink* sink = nullptr;
  ASSERT_C_OK(
      zipllm_sink_to_memory(decoded.data(), decoded.size(), &sink, error));
  EXPECT_C_OK(zipllm_decompress_stream(source, sink, nullptr, nullptr, error));
  writer.join();
  EXPECT_TRUE(decoded == plain);
  zipllm_sink_free(sink);
  zipllm_source_free(source);
  EXPECT_EQ(close(fds[0]), 0);  // the descriptor stayed ours
}

// ---- Random access ----------------------------------------------------------

TEST(CApiArchive, ListsEntriesAndSegments) {
  Error error;
  TempDir folder;
  fs::create_directory(folder / "tree");
  WriteFile(folder / "tree/model", Model());
  fs::create_symlink("model", folder / "tree/same");
  fs::permissions(folder / "tree/model", fs::perms(0640));
  Stream bytes;
  ASSERT_C_OK(zipllm_compress_path(
      (folder / "tree").c_str(), bytes.Sink().get(), nullptr, nullptr, error));
  ArchivePtr archive = Open(bytes.data);
  ASSERT_NE(archive, nullptr);
  EXPECT_EQ(zipllm_archive_size(archive.get()), bytes.data.size());
  ASSERT_EQ(zipllm_archive_entry_count(archive.get()), 3);

  zipllm_entry entry;
  entry.struct_size = sizeof entry;
  ASSERT_C_OK(zipllm_archive_get_entry(archive.get(), 0, &entry, error));
  EXPECT_EQ(entry.struct_size, sizeof entry);
  EXPECT_STREQ(entry.path, "");
  EXPECT_EQ(entry.kind, ZIPLLM_ENTRY_DIRECTORY);

  size_t file = 0;
  ASSERT_C_OK(zipllm_archive_find_entry(archive.get(), "model", &file, error));
  ASSERT_C_OK(zipllm_archive_get_entry(archive.get(), file, &entry, error));
  EXPECT_STREQ(entry.path, "model");
  EXPECT_STREQ(entry.link_target, "");
  EXPECT_STREQ(entry.format, "safetensors");
  EXPECT_EQ(entry.kind, ZIPLLM_ENTRY_FILE);
  EXPECT_EQ(entry.size, Model().size());
  EXPECT_GT(entry.coded_size, 0);
  EXPECT_LT(entry.coded_size, bytes.data.size());
  EXPECT_EQ(entry.has_metadata, 1);
  EXPECT_EQ(entry.mode, 0640);
  struct stat st;
  ASSERT_EQ(stat((folder / "tree/model").c_str(), &st), 0);
  EXPECT_EQ(entry.mtime_seconds, st.st_mtim.tv_sec);
  EXPECT_EQ(entry.mtime_nanoseconds, st.st_mtim.tv_nsec);
  EXPECT_TRUE(std::any_of(std::begin(entry.sha256), std::end(entry.sha256),
                          [](uint8_t byte) { return byte != 0; }));
  ASSERT_EQ(entry.segment_count, 3);

  size_t link = 3 - file;
  ASSERT_C_OK(zipllm_archive_get_entry(archive.get(), link, &entry, error));
  EXPECT_STREQ(entry.path, "same");
  EXPECT_STREQ(entry.link_target, "model");
  EXPECT_EQ(entry.kind, ZIPLLM_ENTRY_SYMLINK);
  EXPECT_EQ(entry.segment_count, 0);

  zipllm_segment segment;
  segment.struct_size = sizeof segment;
  ASSERT_C_OK(
      zipllm_archive_get_segment(archive.get(), file, 0, &segment, error));
  EXPECT_STREQ(segment.name, "");
  EXPECT_STREQ(segment.dtype_name, "bytes");
  EXPECT_EQ(segment.rank, 0);
  EXPECT_EQ(segment.offset, 0);
  const uint64_t header = Model().size() - 400012;
  EXPECT_EQ(segment.length, header);
  ASSERT_C_OK(
      zipllm_archive_get_segment(archive.get(), file, 1, &segment, error));
  EXPECT_STREQ(segment.name, "a");
  EXPECT_EQ(segment.name_length, 1);
  EXPECT_STREQ(segment.dtype_name, "BF16");
  EXPECT_EQ(segment.dtype, 4);
  ASSERT_EQ(segment.rank, 2);
  EXPECT_EQ(segment.shape[0], 1000);
  EXPECT_EQ(segment.shape[1], 200);
  EXPECT_EQ(segment.offset, header);
  EXPECT_EQ(segment.length, 400000);

  EXPECT_C_ERROR(zipllm_archive_get_entry(archive.get(), 3, &entry, error),
                 ZIPLLM_ERROR_OUT_OF_RANGE);
  EXPECT_C_ERROR(
      zipllm_archive_get_segment(archive.get(), file, 3, &segment, error),
      ZIPLLM_ERROR_OUT_OF_RANGE);
  EXPECT_C_ERROR(
      zipllm_archive_get_segment(archive.get(), SIZE_MAX, 0, &segment, error),
      ZIPLLM_ERROR_OUT_OF_RANGE);
  EXPECT_C_ERROR(zipllm_archive_find_entry(archive.get(), "none", &file, error),
                 ZIPLLM_ERROR_NOT_FOUND);
}

TEST(CApiArchive, ReadsTensors) {
  Error error;
  Data model = Model();
  Data bytes = Compress(model);
  ArchivePtr archive = Open(bytes);
  ASSERT_NE(archive, nullptr);
  size_t entry = 9, segment = 9;
  ASSERT_C_OK(zipllm_archive_find_tensor(archive.get(), "b", nullptr, &entry,
                                         &segment, error));
  EXPECT_EQ(entry, 0);
  EXPECT_EQ(segment, 2);
  uint64_t length = 0;
  ASSERT_C_OK(zipllm_archive_read_tensor(archive.get(), "b", nullptr, nullptr,
                                         0, &length, error));
  ASSERT_EQ(length, 12);
  Data tensor(length);
  ASSERT_C_OK(zipllm_archive_read_tensor(archive.get(), "b", nullptr,
                                         tensor.data(), tensor.size(), nullptr,
                                         error));
  EXPECT_EQ(tensor, Data(model.end() - 12, model.end()));
  // A larger buffer stays as it is behind the tensor.
  tensor.assign(20, 0xEE);
  ASSERT_C_OK(zipllm_archive_read_segment(archive.get(), entry, segment,
                                          tensor.data(), tensor.size(), &length,
                                          error));
  EXPECT_EQ(length, 12);
  EXPECT_EQ(Data(tensor.begin() + 12, tensor.end()), Data(8, 0xEE));
  length = 0;
  EXPECT_C_ERROR(zipllm_archive_read_tensor(archive.get(), "b", nullptr,
                                            tensor.data(), 11, &length, error),
                 ZIPLLM_ERROR_BUFFER_TOO_SMALL);
  EXPECT_EQ(length, 12);
  EXPECT_C_ERROR(zipllm_archive_read_tensor(archive.get(), "c", nullptr,
                                            tensor.data(), 11, &length, error),
                 ZIPLLM_ERROR_NOT_FOUND);
  EXPECT_C_ERROR(zipllm_archive_read_tensor(archive.get(), "b", "other",
                                            tensor.data(), 11, &length, error),
                 ZIPLLM_ERROR_NOT_FOUND);
}

TEST(CApiArchive, TensorOfSeveralFilesNeedsThePath) {
  Error error;
  TempDir folder;
  fs::create_directory(folder / "tree");
  WriteFile(folder / "tree/one", Model());
  Data other = Model();
  other.back() = 99;
  WriteFile(folder / "tree/two", other);
  Stream bytes;
  ASSERT_C_OK(zipllm_compress_path(
      (folder / "tree").c_str(), bytes.Sink().get(), nullptr, nullptr, error));
  ArchivePtr archive = Open(bytes.data);
  Data tensor(12);
  EXPECT_C_ERROR(zipllm_archive_read_tensor(archive.get(), "b", nullptr,
                                            tensor.data(), 12, nullptr, error),
                 ZIPLLM_ERROR_INVALID_ARGUMENT);
  ASSERT_C_OK(zipllm_archive_read_tensor(archive.get(), "b", "two",
                                         tensor.data(), 12, nullptr, error));
  EXPECT_EQ(tensor.back(), 99);
}

TEST(CApiArchive, ReadsRanges) {
  Error error;
  Data model = Model();
  Data bytes = Compress(model);
  ArchivePtr archive = Open(bytes);
  ASSERT_NE(archive, nullptr);
  std::mt19937_64 random(9);
  for (int i = 0; i < 100; ++i) {
    size_t begin = random() % (model.size() + 1);
    size_t size = random() % (model.size() - begin + 1);
    Data expected(model.begin() + static_cast<ptrdiff_t>(begin),
                  model.begin() + static_cast<ptrdiff_t>(begin + size));
    Data range(size);
    ASSERT_C_OK(zipllm_archive_read_range(archive.get(), 0, begin, range.data(),
                                          size, error));
    ASSERT_TRUE(range == expected);
    Stream copy;
    ASSERT_C_OK(zipllm_archive_copy_range(archive.get(), 0, begin, size,
                                          copy.Sink().get(), error));
    ASSERT_TRUE(copy.data == expected);
  }
  Data range(2);
  Stream copy;
  for (uint64_t offset : {model.size() - 1, SIZE_MAX}) {
    EXPECT_C_ERROR(zipllm_archive_read_range(archive.get(), 0, offset,
                                             range.data(), 2, error),
                   ZIPLLM_ERROR_OUT_OF_RANGE);
    EXPECT_C_ERROR(zipllm_archive_copy_range(archive.get(), 0, offset, 2,
                                             copy.Sink().get(), error),
                   ZIPLLM_ERROR_OUT_OF_RANGE);
  }
  EXPECT_C_ERROR(
      zipllm_archive_read_range(archive.get(), 1, 0, range.data(), 2, error),
      ZIPLLM_ERROR_OUT_OF_RANGE);
}

TEST(CApiArchive, ReadsOnlyWhatItNeeds) {
  Error error;
  Data plain = RandomBytes(20 << 20, 10);
  Data bytes = Compress(plain);
  ArchivePtr archive = Open(bytes);
  uint64_t opened = zipllm_archive_bytes_read(archive.get());
  EXPECT_LT(opened, 100000);
  Data range(100);
  ASSERT_C_OK(zipllm_archive_read_range(archive.get(), 0, 10 << 20,
                                        range.data(), range.size(), error));
  EXPECT_GT(zipllm_archive_bytes_read(archive.get()), opened);
  EXPECT_LT(zipllm_archive_bytes_read(archive.get()), plain.size() / 2);
}

TEST(CApiArchive, OutlivesItsSourceHandle) {
  Error error;
  Stream bytes;
  bytes.data = Compress(Model());
  zipllm_archive* raw = nullptr;
  {
    SourcePtr source = bytes.Source(true);
    ASSERT_C_OK(zipllm_archive_open(source.get(), nullptr, &raw, error));
  }
  ArchivePtr archive(raw);
  EXPECT_EQ(bytes.releases, 0);
  Data tensor(12);
  EXPECT_C_OK(zipllm_archive_read_tensor(raw, "b", nullptr, tensor.data(), 12,
                                         nullptr, error));
  archive.reset();
  EXPECT_EQ(bytes.releases, 1);
}

TEST(CApiArchive, OpensFiles) {
  Error error;
  TempDir folder;
  WriteFile(folder / "archive", Compress(Model()));
  zipllm_archive* raw = nullptr;
  ASSERT_C_OK(zipllm_archive_open_file((folder / "archive").c_str(), nullptr,
                                       &raw, error));
  ArchivePtr archive(raw);
  EXPECT_EQ(zipllm_archive_size(raw), fs::file_size(folder / "archive"));
  WriteFile(folder / "noise", RandomBytes(1000, 11));
  EXPECT_C_ERROR(zipllm_archive_open_file((folder / "noise").c_str(), nullptr,
                                          &raw, error),
                 ZIPLLM_ERROR_CORRUPT);
  EXPECT_EQ(raw, nullptr);
}

TEST(CApiArchive, FailureOfReadAtComesBack) {
  Error error;
  Stream bytes;
  bytes.data = Compress(Model());
  bytes.failure = ZIPLLM_ERROR_PERMISSION;
  zipllm_archive* raw = nullptr;
  ASSERT_C_OK(
      zipllm_archive_open(bytes.Source(true).get(), nullptr, &raw, error));
  ArchivePtr archive(raw);
  bytes.fail_at = 0;
  Data tensor(12);
  EXPECT_C_ERROR(zipllm_archive_read_tensor(raw, "b", nullptr, tensor.data(),
                                            12, nullptr, error),
                 ZIPLLM_ERROR_PERMISSION);
  EXPECT_THAT(error.message(), HasSubstr("the stream"));
}

TEST(CApiArchive, SeveralThreadsRead) {
  Data model = Model();
  Data bytes = Compress(model);
  ArchivePtr archive = Open(bytes);
  ASSERT_NE(archive, nullptr);
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      for (int i = 0; i < 50; ++i) {
        Error error;
        size_t begin = random() % (model.size() - 1000);
        Data range(1000);
        ASSERT_C_OK(zipllm_archive_read_range(
            archive.get(), 0, begin, range.data(), range.size(), error));
        ASSERT_TRUE(std::equal(range.begin(), range.end(),
                               model.begin() + static_cast<ptrdiff_t>(begin)));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// A base and a fine-tune of it: every third weight went up or down a little.
struct Pair {
  Pair() {
    Data base = Bf16Weights(40'000, 3);
    Data tuned = base;
    for (size_t i = 0; i < tuned.size(); i += 6) tuned[i] ^= 1;
    WriteFile(folder / "base", Safetensors({{"w", "BF16", {40'000}, base}}));
    WriteFile(folder / "tuned", Safetensors({{"w", "BF16", {40'000}, tuned}}));
  }
  TempDir folder;
};

TEST(CApiBases, AreCodedAgainstNamedAndAskedFor) {
  Error error;
  Pair pair;
  const std::string base = pair.folder / "base";
  const std::string archive = pair.folder / "tuned.zllm";
  const char* const bases[] = {base.c_str()};
  zipllm_compress_options compress;
  zipllm_compress_options_init(&compress, sizeof compress);
  compress.bases = bases;
  compress.base_count = 1;
  ASSERT_C_OK(zipllm_compress_path_to_file((pair.folder / "tuned").c_str(),
                                           archive.c_str(), 0, &compress,
                                           nullptr, error));
  EXPECT_LT(fs::file_size(archive), 80'000u / 4);

  zipllm_archive* raw = nullptr;
  ASSERT_C_OK(zipllm_archive_open_file(archive.c_str(), nullptr, &raw, error));
  ArchivePtr opened(raw);
  ASSERT_EQ(zipllm_archive_needed_base_count(raw), 1u);
  zipllm_needed_base needed = {};
  needed.struct_size = sizeof needed;
  ASSERT_C_OK(zipllm_archive_get_needed_base(raw, 0, &needed, error));
  EXPECT_STREQ(needed.tensor, "w");
  EXPECT_STREQ(needed.model, "base");
  EXPECT_EQ(needed.length, 80'000u);
  EXPECT_C_ERROR(zipllm_archive_get_needed_base(raw, 1, &needed, error),
                 ZIPLLM_ERROR_OUT_OF_RANGE);
  EXPECT_EQ(zipllm_archive_needed_base_count(nullptr), 0u);

  // Without the base nothing is written.
  const std::string target = pair.folder / "back";
  EXPECT_C_ERROR(zipllm_decompress_file(archive.c_str(), target.c_str(),
                                        nullptr, nullptr, error),
                 ZIPLLM_ERROR_BASE);
  EXPECT_THAT(error.message(), HasSubstr("w of base"));
  EXPECT_FALSE(fs::exists(target));

  zipllm_decompress_options decompress;
  zipllm_decompress_options_init(&decompress, sizeof decompress);
  decompress.bases = bases;
  decompress.base_count = 1;
  ASSERT_C_OK(zipllm_decompress_file(archive.c_str(), target.c_str(),
                                     &decompress, nullptr, error));
  EXPECT_EQ(ReadFile(target), ReadFile(pair.folder / "tuned"));

  // A folder to look into does as well.
  fs::remove(target);
  const std::string folder = fs::path(base).parent_path().string();
  const char* const folders[] = {folder.c_str()};
  zipllm_decompress_options_init(&decompress, sizeof decompress);
  decompress.base_directories = folders;
  decompress.base_directory_count = 1;
  ASSERT_C_OK(zipllm_decompress_file(archive.c_str(), target.c_str(),
                                     &decompress, nullptr, error));
  EXPECT_EQ(ReadFile(target), ReadFile(pair.folder / "tuned"));

  decompress.base_directories = nullptr;
  EXPECT_C_ERROR(zipllm_decompress_file(archive.c_str(), target.c_str(),
                                        &decompress, nullptr, error),
                 ZIPLLM_ERROR_INVALID_ARGUMENT);
}

TEST(CApiBases, OlderCallersKnowNone) {
  Error error;
  Pair pair;
  zipllm_compress_options options;
  zipllm_compress_options_init(
      &options, offsetof(zipllm_compress_options, user_data) + sizeof(void*));
  options.bases = nullptr;
  options.base_count = 99;  // is beyond what this caller says it has
  ASSERT_C_OK(zipllm_compress_path_to_file((pair.folder / "tuned").c_str(),
                                           (pair.folder / "tuned.zllm").c_str(),
                                           0, &options, nullptr, error));
}

TEST(CApiChain, EachIsCodedAgainstAnEarlierOne) {
  Error error;
  Pair pair;
  fs::create_directory(pair.folder / "run");
  const std::string first = pair.folder / "run/step-9.zllm";
  const std::string second = pair.folder / "run/step-10.zllm";
  ASSERT_C_OK(zipllm_append_to_chain((pair.folder / "base").c_str(),
                                     first.c_str(), 16, 0, nullptr, nullptr,
                                     error));
  ASSERT_C_OK(zipllm_append_to_chain((pair.folder / "tuned").c_str(),
                                     second.c_str(), 16, 0, nullptr, nullptr,
                                     error));
  EXPECT_LT(fs::file_size(second), fs::file_size(first) / 2);
  // Others may need it: it cannot be made anew.
  EXPECT_C_ERROR(
      zipllm_append_to_chain((pair.folder / "base").c_str(), first.c_str(), 16,
                             1, nullptr, nullptr, error),
      ZIPLLM_ERROR_INVALID_ARGUMENT);
  EXPECT_C_ERROR(
      zipllm_append_to_chain((pair.folder / "base").c_str(),
                             (pair.folder / "run/step-11.zllm").c_str(), 17, 0,
                             nullptr, nullptr, error),
      ZIPLLM_ERROR_INVALID_ARGUMENT);
}

}  // namespace
