/// \file
/// The C API of zipllm: lossless compression of model weights.
///
/// Conventions, for every function unless it says otherwise:
///
/// Errors. Functions that can fail return a `zipllm_status`; 0 is success.
/// `error`, the last parameter, may be NULL; else `*error` is overwritten: with
/// NULL on success, with a new object on failure, which the caller frees with
/// `zipllm_error_free`. NULL where it is not allowed is
/// ZIPLLM_ERROR_INVALID_ARGUMENT. Any function may fail with
/// ZIPLLM_ERROR_MEMORY or ZIPLLM_ERROR_INTERNAL.
///
/// Results returned through pointers are written on success only, except that
/// pointers to handles are set to NULL on failure.
///
/// Ownership. A handle is made by a function with a `zipllm_x**` parameter and
/// goes to `zipllm_x_free` or `zipllm_x_close`, which take NULL too. All
/// buffers are the caller's.
///
/// Units. Sizes, lengths and offsets are in bytes. Paths and names are
/// NUL-terminated bytes as the file system has them.
///
/// `options` may be NULL: all defaults.
///
/// Thread-safety. There is no global state: threads may use different handles
/// freely. What one handle allows is said with its type.
///
/// Callbacks must return normally: no C++ exception, no longjmp. Those of
/// options run on the thread that called the library; those of sources and
/// sinks may run on another.
///
/// ABI. Functions and constants are never changed or removed while
/// ZIPLLM_ABI_VERSION stays the same. Structs begin with `struct_size`, which
/// says which members the caller knows, and grow at the end only.
#ifndef ZIPLLM_ZIPLLM_H_
#define ZIPLLM_ZIPLLM_H_

#include <stddef.h>
#include <stdint.h>

#include "zipllm/export.h"

#ifdef __cplusplus
extern "C" {
#endif

// ---- Version ----------------------------------------------------------------

#define ZIPLLM_VERSION_MAJOR 0
#define ZIPLLM_VERSION_MINOR 1
#define ZIPLLM_VERSION_PATCH 0
/// The version of this header as one number that grows.
#define ZIPLLM_VERSION_NUMBER                                     \
  (ZIPLLM_VERSION_MAJOR * 1000000 + ZIPLLM_VERSION_MINOR * 1000 + \
   ZIPLLM_VERSION_PATCH)
/// The binary interface that this header describes.
#define ZIPLLM_ABI_VERSION 1

/// ZIPLLM_VERSION_NUMBER of the library that runs.
ZIPLLM_EXPORT uint32_t zipllm_version_number(void);
/// The same as text, "0.1.0". Static storage.
ZIPLLM_EXPORT const char* zipllm_version_string(void);
/// ZIPLLM_ABI_VERSION of the library that runs: refuse to go on where it is
/// another one.
ZIPLLM_EXPORT uint32_t zipllm_abi_version(void);

// ---- Errors -----------------------------------------------------------------

/// What became of a call. Newer libraries may return numbers that are not
/// listed here.
typedef enum zipllm_status {
  ZIPLLM_OK = 0,
  ZIPLLM_ERROR_INVALID_ARGUMENT = 1,  ///< the call itself is wrong
  ZIPLLM_ERROR_MEMORY = 2,            ///< malloc failed
  ZIPLLM_ERROR_CANCELLED = 3,         ///< a progress callback said stop
  ZIPLLM_ERROR_NOT_FOUND = 4,         ///< no such file, entry or tensor
  ZIPLLM_ERROR_EXISTS = 5,            ///< a file is in the way
  ZIPLLM_ERROR_PERMISSION = 6,        ///< the system does not allow it
  ZIPLLM_ERROR_LIMIT = 7,  ///< above a set limit; no disk space, descriptors
  ZIPLLM_ERROR_BUFFER_TOO_SMALL = 8,  ///< the result does not fit the buffer
  ZIPLLM_ERROR_OUT_OF_RANGE = 9,      ///< an index or bytes past the end
  ZIPLLM_ERROR_UNSUPPORTED = 10,      ///< needs a newer library, or seeking
  ZIPLLM_ERROR_CORRUPT = 11,   ///< cut or damaged archive, or none at all
  ZIPLLM_ERROR_IO = 12,        ///< reading or writing failed
  ZIPLLM_ERROR_INTERNAL = 13,  ///< a defect of the library
  ZIPLLM_ERROR_BASE = 14       ///< a base is missing, or is another one
} zipllm_status;

/// A few words for a status, "archive is damaged"; never NULL. Static storage.
ZIPLLM_EXPORT const char* zipllm_status_string(zipllm_status status);

/// What went wrong. Immutable: any thread may read it until it is freed.
typedef struct zipllm_error zipllm_error;
/// The status that the failed call returned; ZIPLLM_OK for NULL.
ZIPLLM_EXPORT zipllm_status zipllm_error_status(const zipllm_error* error);
/// What happened, where, and what to do about it; "" for NULL. Lives as long as
/// `error`.
ZIPLLM_EXPORT const char* zipllm_error_message(const zipllm_error* error);
ZIPLLM_EXPORT void zipllm_error_free(zipllm_error* error);

// ---- Options and reports ----------------------------------------------------

/// Where a long operation stands.
typedef struct zipllm_progress {
  size_t struct_size;    ///< set by the library
  uint64_t bytes_done;   ///< plain bytes finished so far
  uint64_t bytes_total;  ///< plain bytes in all; 0 where unknown
  uint64_t coded_bytes;  ///< archive bytes written or read so far
  const char* current;   ///< file being worked on; valid during the call
} zipllm_progress;

/// Called every few MiB. Return 0 to go on; anything else cancels the
/// operation, which then fails with ZIPLLM_ERROR_CANCELLED.
typedef int (*zipllm_progress_fn)(void* user_data,
                                  const zipllm_progress* progress);
/// Called for what the user should know and that is no error. `message` is
/// valid during the call.
typedef void (*zipllm_warning_fn)(void* user_data, const char* message);

#define ZIPLLM_LEVEL_MIN 1
#define ZIPLLM_LEVEL_DEFAULT 3
#define ZIPLLM_LEVEL_MAX 9

/// Set up with `zipllm_compress_options_init`, then change what should differ.
typedef struct zipllm_compress_options {
  size_t struct_size;
  int32_t level;  ///< ZIPLLM_LEVEL_MIN (fastest) to ZIPLLM_LEVEL_MAX (smallest)
  int32_t threads;      ///< 0: one a core. The archive does not depend on it
  int32_t verify;       ///< not 0 (default): decode every block and compare
  int32_t deduplicate;  ///< not 0 (default): store equal blocks once
  int32_t follow_symlinks;      ///< not 0: store what links point to
  int32_t reserved;             ///< 0
  zipllm_progress_fn progress;  ///< may be NULL
  zipllm_warning_fn warning;    ///< may be NULL
  void* user_data;              ///< passed to both callbacks
  /// Paths of files, folders and archives whose tensors new ones are coded
  /// against where that is smaller, `base_count` of them (since 0.1.0).
  const char* const* bases;
  size_t base_count;
  /// Path of a language model (GGUF file) that text is coded with, or NULL
  /// (since 0.1.0).
  const char* text_model;
} zipllm_compress_options;

/// Fills in the defaults. `struct_size` is `sizeof(zipllm_compress_options)`;
/// does nothing where `options` is NULL or `struct_size` is less than that of
/// the first ABI version.
ZIPLLM_EXPORT void zipllm_compress_options_init(
    zipllm_compress_options* options, size_t struct_size);

/// Set up with `zipllm_decompress_options_init`, then change what should
/// differ.
typedef struct zipllm_decompress_options {
  size_t struct_size;
  /// Refuse archives that declare to need more memory than this a thread.
  /// Default: 512 MiB.
  uint64_t max_memory;
  int32_t threads;  ///< 0: one a core
  /// Not 0: compare each file's SHA-256 too. Block checksums always are.
  int32_t check_sha256;
  int32_t overwrite;            ///< not 0: replace files that are there
  int32_t reserved;             ///< 0
  zipllm_progress_fn progress;  ///< may be NULL
  zipllm_warning_fn warning;    ///< may be NULL
  void* user_data;              ///< passed to both callbacks
  /// Paths of files, folders and archives that have the tensors which archives
  /// were coded against, `base_count` of them (since 0.1.0).
  const char* const* bases;
  size_t base_count;
  /// Folders that are looked into, not below, where those lack one.
  const char* const* base_directories;
  size_t base_directory_count;
  /// Path of the language model that text was coded with, or NULL.
  const char* text_model;
} zipllm_decompress_options;

/// Fills in the defaults, as `zipllm_compress_options_init` does.
ZIPLLM_EXPORT void zipllm_decompress_options_init(
    zipllm_decompress_options* options, size_t struct_size);

/// What an operation did. The caller sets `struct_size` to
/// `sizeof(zipllm_totals)`.
typedef struct zipllm_totals {
  size_t struct_size;
  uint64_t files;
  uint64_t plain_bytes;
  uint64_t archive_bytes;
  uint64_t duplicate_bytes;  ///< plain bytes stored as a reference
  uint64_t warnings;
} zipllm_totals;

// ---- Buffers in memory ------------------------------------------------------

/// A size of `dst` with which `zipllm_compress` always succeeds, whatever the
/// `src_size` bytes are: a little more than they. 0 where that does not fit a
/// size_t.
ZIPLLM_EXPORT size_t zipllm_compress_bound(size_t src_size);

/// Compresses `src_size` bytes at `src` into an archive of one unnamed file at
/// `dst`, which has room for `dst_capacity` bytes, and sets `*dst_size` to what
/// it takes. The buffers must not overlap; `src` may be NULL where `src_size`
/// is 0. ZIPLLM_ERROR_CANCELLED; ZIPLLM_ERROR_BUFFER_TOO_SMALL cannot happen
/// with `zipllm_compress_bound(src_size)` bytes; the content of `dst` is
/// undefined after a failure.
ZIPLLM_EXPORT zipllm_status
zipllm_compress(void* dst, size_t dst_capacity, size_t* dst_size,
                const void* src, size_t src_size,
                const zipllm_compress_options* options, zipllm_error** error);

/// Sets `*size` to the plain bytes that the archive in memory says it holds,
/// from its index alone: a claim until `zipllm_decompress` has proved it.
/// ZIPLLM_ERROR_CORRUPT, ZIPLLM_ERROR_UNSUPPORTED.
ZIPLLM_EXPORT zipllm_status zipllm_decompressed_size(
    const void* src, size_t src_size, const zipllm_decompress_options* options,
    uint64_t* size, zipllm_error** error);

/// Decompresses the archive in memory: the contents of all its files, one after
/// the other, go to `dst`, which has room for `dst_capacity` bytes, and
/// `*dst_size` is set to their size. The buffers must not overlap; `dst` may be
/// NULL where `dst_capacity` is 0. ZIPLLM_ERROR_BUFFER_TOO_SMALL,
/// ZIPLLM_ERROR_CORRUPT, ZIPLLM_ERROR_UNSUPPORTED, ZIPLLM_ERROR_LIMIT,
/// ZIPLLM_ERROR_CANCELLED; the content of `dst` is undefined after a failure.
ZIPLLM_EXPORT zipllm_status zipllm_decompress(
    void* dst, size_t dst_capacity, size_t* dst_size, const void* src,
    size_t src_size, const zipllm_decompress_options* options,
    zipllm_error** error);

// ---- Sources: where bytes come from -----------------------------------------

/// Reads the next 1 to `size` bytes into `buffer` and sets `*count` to how
/// many; 0 only at the end. Any status but ZIPLLM_OK fails the operation with
/// that status; ZIPLLM_ERROR_IO is the usual one. Called by one thread at a
/// time.
typedef zipllm_status (*zipllm_read_fn)(void* user_data, void* buffer,
                                        size_t size, size_t* count);
/// Reads up to `size` bytes at `offset`, fewer only at the end, and sets
/// `*count`. Called by several threads at once.
typedef zipllm_status (*zipllm_read_at_fn)(void* user_data, uint64_t offset,
                                           void* buffer, size_t size,
                                           size_t* count);
/// Called once, when the library needs `user_data` no more.
typedef void (*zipllm_release_fn)(void* user_data);

#define ZIPLLM_SIZE_UNKNOWN UINT64_MAX

/// A source of the caller's own. Zero it, set `struct_size` to its sizeof, fill
/// in the rest.
typedef struct zipllm_source_callbacks {
  size_t struct_size;
  void* user_data;            ///< passed to the callbacks
  zipllm_read_fn read;        ///< may be NULL where there is `read_at`
  zipllm_read_at_fn read_at;  ///< NULL where the source cannot seek
  zipllm_release_fn release;  ///< may be NULL
  uint64_t size;     ///< or ZIPLLM_SIZE_UNKNOWN; must be known with `read_at`
  const char* name;  ///< what messages call it, copied; NULL: "source"
} zipllm_source_callbacks;

/// A stream of bytes to read. One operation reads it, once, from start to end;
/// an archive that was opened on it keeps what it needs, so that the source may
/// be freed at once. Thread-safety: one call at a time.
typedef struct zipllm_source zipllm_source;

/// Opens a file, a FIFO or a device. ZIPLLM_ERROR_NOT_FOUND,
/// ZIPLLM_ERROR_PERMISSION, ZIPLLM_ERROR_IO.
ZIPLLM_EXPORT zipllm_status zipllm_source_open_file(const char* path,
                                                    zipllm_source** source,
                                                    zipllm_error** error);
/// Reads a descriptor, which stays the caller's and stays open as long as the
/// source and the archives opened on it. It can seek if it is a regular file.
/// `name` as in zipllm_source_callbacks.
ZIPLLM_EXPORT zipllm_status zipllm_source_from_fd(int fd, const char* name,
                                                  zipllm_source** source,
                                                  zipllm_error** error);
/// Reads memory, which stays the caller's and must outlive the source and the
/// archives opened on it. `data` may be NULL where `size` is 0.
ZIPLLM_EXPORT zipllm_status zipllm_source_from_memory(const void* data,
                                                      size_t size,
                                                      zipllm_source** source,
                                                      zipllm_error** error);
/// Reads through callbacks. `callbacks` is copied; `release` is not called
/// where this fails.
ZIPLLM_EXPORT zipllm_status
zipllm_source_from_callbacks(const zipllm_source_callbacks* callbacks,
                             zipllm_source** source, zipllm_error** error);
ZIPLLM_EXPORT void zipllm_source_free(zipllm_source* source);

// ---- Sinks: where bytes go --------------------------------------------------

/// Takes all `size` bytes at `data`, or fails: see zipllm_read_fn. Called by
/// one thread at a time.
typedef zipllm_status (*zipllm_write_fn)(void* user_data, const void* data,
                                         size_t size);

/// A sink of the caller's own. Zero it, set `struct_size` to its sizeof, fill
/// in the rest.
typedef struct zipllm_sink_callbacks {
  size_t struct_size;
  void* user_data;  ///< passed to the callbacks
  zipllm_write_fn write;
  zipllm_release_fn release;  ///< may be NULL
  const char* name;           ///< what messages call it, copied; NULL: "sink"
} zipllm_sink_callbacks;

/// A stream of bytes to write. Several operations may write to it, one after
/// the other. Thread-safety: one call at a time.
typedef struct zipllm_sink zipllm_sink;

/// Writes a file that appears under `path` only with `zipllm_sink_commit`:
/// until then it is a temporary file in the same folder, which
/// `zipllm_sink_free` removes. ZIPLLM_ERROR_EXISTS where `path` is there and
/// `overwrite` is 0, ZIPLLM_ERROR_NOT_FOUND, ZIPLLM_ERROR_PERMISSION,
/// ZIPLLM_ERROR_LIMIT, ZIPLLM_ERROR_IO.
ZIPLLM_EXPORT zipllm_status zipllm_sink_create_file(const char* path,
                                                    int overwrite,
                                                    zipllm_sink** sink,
                                                    zipllm_error** error);
/// Writes to a descriptor, which stays the caller's. `name` as in
/// zipllm_sink_callbacks.
ZIPLLM_EXPORT zipllm_status zipllm_sink_to_fd(int fd, const char* name,
                                              zipllm_sink** sink,
                                              zipllm_error** error);
/// Writes to memory, which stays the caller's and must outlive the sink. An
/// operation that needs more than `capacity` bytes fails with
/// ZIPLLM_ERROR_BUFFER_TOO_SMALL. `buffer` may be NULL where `capacity` is 0.
ZIPLLM_EXPORT zipllm_status zipllm_sink_to_memory(void* buffer, size_t capacity,
                                                  zipllm_sink** sink,
                                                  zipllm_error** error);
/// Writes through callbacks. `callbacks` is copied; `release` is not called
/// where this fails.
ZIPLLM_EXPORT zipllm_status
zipllm_sink_to_callbacks(const zipllm_sink_callbacks* callbacks,
                         zipllm_sink** sink, zipllm_error** error);
/// Bytes that the sink has taken so far; 0 for NULL.
ZIPLLM_EXPORT uint64_t zipllm_sink_bytes_written(const zipllm_sink* sink);
/// Syncs a file of `zipllm_sink_create_file` and gives it its name; other sinks
/// have nothing to commit and succeed. To be called once, after the last
/// operation; only freeing may follow.
ZIPLLM_EXPORT zipllm_status zipllm_sink_commit(zipllm_sink* sink,
                                               zipllm_error** error);
ZIPLLM_EXPORT void zipllm_sink_free(zipllm_sink* sink);

// ---- Compressing ------------------------------------------------------------
//
// Each call is independent of all others. `totals` may be NULL. All can fail
// with ZIPLLM_ERROR_CANCELLED, and as their source and sink do.

/// Compresses `source` into an archive with one file called `name` (NULL or "":
/// unnamed), and writes it to `sink` without seeking.
ZIPLLM_EXPORT zipllm_status zipllm_compress_stream(
    zipllm_source* source, const char* name, zipllm_sink* sink,
    const zipllm_compress_options* options, zipllm_totals* totals,
    zipllm_error** error);
/// Compresses a file, or a directory with all that is in it. Sockets, devices
/// and FIFOs in a directory are left out with a warning each.
ZIPLLM_EXPORT zipllm_status zipllm_compress_path(
    const char* path, zipllm_sink* sink, const zipllm_compress_options* options,
    zipllm_totals* totals, zipllm_error** error);
/// The same into the file `archive_path`, which appears when it is complete and
/// synced, or not at all. ZIPLLM_ERROR_EXISTS where it is there and `overwrite`
/// is 0.
ZIPLLM_EXPORT zipllm_status zipllm_compress_path_to_file(
    const char* path, const char* archive_path, int overwrite,
    const zipllm_compress_options* options, zipllm_totals* totals,
    zipllm_error** error);

/// Compresses the checkpoint `path` to `archive_path`, the next of a chain: the
/// archives in its folder, by their names, numbers in them as numbers. It is
/// coded against one of those, which are not touched; every `keyframes`-th (1
/// to 16) alone. To read one takes at most four others.
/// ZIPLLM_ERROR_INVALID_ARGUMENT where later archives are there.
ZIPLLM_EXPORT zipllm_status zipllm_append_to_chain(
    const char* path, const char* archive_path, int32_t keyframes,
    int overwrite, const zipllm_compress_options* options,
    zipllm_totals* totals, zipllm_error** error);

// ---- Decompressing ----------------------------------------------------------
//
// Each call is independent of all others. `totals` may be NULL. Where a base is
// missing they fail with ZIPLLM_ERROR_BASE before anything is written. The
// source is read from start to end without seeking; archives may follow each
// other in it. All can fail with ZIPLLM_ERROR_CORRUPT,
// ZIPLLM_ERROR_UNSUPPORTED, ZIPLLM_ERROR_LIMIT, ZIPLLM_ERROR_CANCELLED, and as
// their source and sink do.

/// Writes the contents of all files, one after the other, to `sink`.
ZIPLLM_EXPORT zipllm_status
zipllm_decompress_stream(zipllm_source* source, zipllm_sink* sink,
                         const zipllm_decompress_options* options,
                         zipllm_totals* totals, zipllm_error** error);
/// Restores what the archive holds at the path `target`: a file if it is an
/// archive of one file, else a directory. Files appear when complete and
/// synced, with their mode and mtime; nothing is written outside `target`.
/// ZIPLLM_ERROR_EXISTS where a file is in the way and options->overwrite is 0.
ZIPLLM_EXPORT zipllm_status
zipllm_decompress_to(zipllm_source* source, const char* target,
                     const zipllm_decompress_options* options,
                     zipllm_totals* totals, zipllm_error** error);
/// The same for the archive in the file `archive_path`.
ZIPLLM_EXPORT zipllm_status
zipllm_decompress_file(const char* archive_path, const char* target,
                       const zipllm_decompress_options* options,
                       zipllm_totals* totals, zipllm_error** error);
/// Decodes and checks everything, SHA-256 included, and writes nothing.
ZIPLLM_EXPORT zipllm_status
zipllm_test(zipllm_source* source, const zipllm_decompress_options* options,
            zipllm_totals* totals, zipllm_error** error);

// ---- Random access ----------------------------------------------------------

/// An archive that is open for random access. Opening reads its trailer and
/// index; reading touches the blocks it needs and nothing else. Thread-safety:
/// all functions but `zipllm_archive_close` may be called by several threads at
/// once. Pointers in results belong to the archive and are valid until it is
/// closed.
typedef struct zipllm_archive zipllm_archive;

/// Opens the archive in the file `path`. ZIPLLM_ERROR_NOT_FOUND,
/// ZIPLLM_ERROR_PERMISSION, ZIPLLM_ERROR_IO, ZIPLLM_ERROR_CORRUPT
/// (`zipllm_decompress_stream` may still read what comes before the damage),
/// ZIPLLM_ERROR_UNSUPPORTED, ZIPLLM_ERROR_LIMIT.
ZIPLLM_EXPORT zipllm_status zipllm_archive_open_file(
    const char* path, const zipllm_decompress_options* options,
    zipllm_archive** archive, zipllm_error** error);
/// Opens the archive in `source`, which must be able to seek and may be freed
/// afterwards.
ZIPLLM_EXPORT zipllm_status zipllm_archive_open(
    zipllm_source* source, const zipllm_decompress_options* options,
    zipllm_archive** archive, zipllm_error** error);
ZIPLLM_EXPORT void zipllm_archive_close(zipllm_archive* archive);

/// Archive size in bytes; 0 for NULL.
ZIPLLM_EXPORT uint64_t zipllm_archive_size(const zipllm_archive* archive);
/// Bytes read from the source so far, opening included; 0 for NULL.
ZIPLLM_EXPORT uint64_t zipllm_archive_bytes_read(const zipllm_archive* archive);
/// How many files, directories and symlinks it holds; 0 for NULL.
ZIPLLM_EXPORT size_t zipllm_archive_entry_count(const zipllm_archive* archive);

/// A tensor outside of the archive without which some of it cannot be decoded.
/// The caller sets `struct_size` to its sizeof.
typedef struct zipllm_needed_base {
  size_t struct_size;
  const char* tensor;  ///< its name there
  const char* model;   ///< the file that it was in
  uint64_t length;     ///< in bytes
  uint8_t sha256[32];
} zipllm_needed_base;

/// How many such tensors there are; 0 for NULL.
ZIPLLM_EXPORT size_t
zipllm_archive_needed_base_count(const zipllm_archive* archive);
/// Facts about the one with number `index`. ZIPLLM_ERROR_OUT_OF_RANGE.
ZIPLLM_EXPORT zipllm_status
zipllm_archive_get_needed_base(const zipllm_archive* archive, size_t index,
                               zipllm_needed_base* base, zipllm_error** error);

#define ZIPLLM_ENTRY_FILE 0
#define ZIPLLM_ENTRY_DIRECTORY 1
#define ZIPLLM_ENTRY_SYMLINK 2

/// A file, directory or symlink. The caller sets `struct_size` to its sizeof.
typedef struct zipllm_entry {
  size_t struct_size;
  /// Relative, '/' between parts; "" for the root or an unnamed file.
  const char* path;
  const char* link_target;  ///< symlinks; else ""
  /// Files: what it was parsed as, "safetensors", "bytes"; else "".
  const char* format;
  uint64_t size;        ///< plain bytes of a file
  uint64_t coded_size;  ///< archive bytes that it takes
  int64_t mtime_seconds;
  uint32_t mtime_nanoseconds;
  uint32_t mode;         ///< permission bits, 0 to 07777
  int32_t kind;          ///< ZIPLLM_ENTRY_...
  int32_t has_metadata;  ///< not 0: mode and mtime are recorded
  size_t segment_count;  ///< files: tensors and gaps
  uint8_t sha256[32];    ///< of a file's plain bytes
} zipllm_entry;

/// Facts about the entry with number `index`. ZIPLLM_ERROR_OUT_OF_RANGE.
ZIPLLM_EXPORT zipllm_status
zipllm_archive_get_entry(const zipllm_archive* archive, size_t index,
                         zipllm_entry* entry, zipllm_error** error);
/// Sets `*index` to the number of the file with this path.
/// ZIPLLM_ERROR_NOT_FOUND.
ZIPLLM_EXPORT zipllm_status
zipllm_archive_find_entry(const zipllm_archive* archive, const char* path,
                          size_t* index, zipllm_error** error);

/// One tensor of a file, or a gap between tensors (header, padding, text). The
/// segments of a file follow each other without gap or overlap. The caller sets
/// `struct_size` to its sizeof.
typedef struct zipllm_segment {
  size_t struct_size;
  const char* name;    ///< "" for a gap. May hold NUL bytes: see name_length
  size_t name_length;  ///< bytes, without the NUL at the end
  const char* dtype_name;  ///< "BF16", "Q4_K"; "bytes" for a gap
  uint32_t dtype;          ///< its number in the format
  uint32_t rank;           ///< numbers in `shape`; 0 for scalars and gaps
  const uint64_t* shape;   ///< in elements, outermost first
  uint64_t offset;         ///< from the start of the file
  uint64_t length;
} zipllm_segment;

/// Facts about segment number `segment` of the file with number `entry`.
/// ZIPLLM_ERROR_OUT_OF_RANGE.
ZIPLLM_EXPORT zipllm_status zipllm_archive_get_segment(
    const zipllm_archive* archive, size_t entry, size_t segment,
    zipllm_segment* out, zipllm_error** error);
/// Sets `*entry` and `*segment` to the tensor called `name`: of the file
/// `path`, or of any where `path` is NULL. ZIPLLM_ERROR_NOT_FOUND;
/// ZIPLLM_ERROR_INVALID_ARGUMENT where several files have it and `path` is
/// NULL.
ZIPLLM_EXPORT zipllm_status zipllm_archive_find_tensor(
    const zipllm_archive* archive, const char* name, const char* path,
    size_t* entry, size_t* segment, zipllm_error** error);

/// Decodes a segment into `buffer`, which has room for `capacity` bytes, and
/// sets `*length` (may be NULL) to its length. With NULL and 0 it only sets
/// `*length`, so that a caller can make a buffer; a buffer that is too small is
/// ZIPLLM_ERROR_BUFFER_TOO_SMALL, and `*length` is set then too.
/// ZIPLLM_ERROR_OUT_OF_RANGE, ZIPLLM_ERROR_CORRUPT, ZIPLLM_ERROR_IO; the
/// content of `buffer` is undefined after a failure.
ZIPLLM_EXPORT zipllm_status zipllm_archive_read_segment(
    const zipllm_archive* archive, size_t entry, size_t segment, void* buffer,
    size_t capacity, uint64_t* length, zipllm_error** error);
/// The same for a tensor by name: see `zipllm_archive_find_tensor`.
ZIPLLM_EXPORT zipllm_status zipllm_archive_read_tensor(
    const zipllm_archive* archive, const char* name, const char* path,
    void* buffer, size_t capacity, uint64_t* length, zipllm_error** error);
/// Decodes `size` bytes of the file with number `entry` from `offset` into
/// `buffer`. ZIPLLM_ERROR_OUT_OF_RANGE past its end, ZIPLLM_ERROR_CORRUPT,
/// ZIPLLM_ERROR_IO; `buffer` is undefined after a failure.
ZIPLLM_EXPORT zipllm_status zipllm_archive_read_range(
    const zipllm_archive* archive, size_t entry, uint64_t offset, void* buffer,
    size_t size, zipllm_error** error);
/// The same to a sink, in bounded memory.
ZIPLLM_EXPORT zipllm_status zipllm_archive_copy_range(
    const zipllm_archive* archive, size_t entry, uint64_t offset,
    uint64_t length, zipllm_sink* sink, zipllm_error** error);

#ifdef __cplusplus
}  // extern "C"
#endif

#endif  // ZIPLLM_ZIPLLM_H_
