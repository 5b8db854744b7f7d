// Tensors outside of an archive that it is coded against: in files, folders and
// other archives.
#ifndef ZIPLLM_ARCHIVE_BASES_H_
#define ZIPLLM_ARCHIVE_BASES_H_

#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "archive/frame_decoder.h"
#include "base/buffer.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/status.h"
#include "container/format.h"
#include "zipllm/archive.h"
#include "zipllm/options.h"

namespace zipllm::archive {

/// Decoded pieces of tensors that stand in archives, those that were used last:
/// rows in another order and columns are read in pieces much smaller than a
/// block. Thread-safe.
class PieceCache {
 public:
  explicit PieceCache(uint64_t capacity) : capacity_(capacity) {}
  using Piece = std::shared_ptr<const Buffer>;
  /// Null: it is not there.
  Piece Find(const void* tensor, uint64_t number);
  void Add(const void* tensor, uint64_t number, Piece piece);

 private:
  struct Entry {
    const void* tensor;
    uint64_t number;
    Piece piece;
  };
  const uint64_t capacity_;  // bytes
  std::mutex mutex_;
  uint64_t size_ = 0;
  std::list<Entry> entries_;  // the last used first
};

/// A tensor that others may be coded against. Thread-safe.
class BaseTensor : public TensorBytes {
 public:
  /// Reads bytes of a tensor that is coded somewhere; by several threads.
  using ReadCoded = std::function<absl::Status(uint64_t, MutableByteSpan)>;
  std::string name;
  DType dtype = DType::kBytes;
  std::vector<uint64_t> shape;
  uint64_t length = 0;  ///< bytes
  std::string model;    ///< the file that it is in, for messages and hints
  uint8_t depth = 0;    ///< as in container::OutsideReference

  /// It is coded, and `read` reads it: small pieces of it are kept in `pieces`.
  /// With `digest` its SHA-256 is known.
  void SetCoded(ReadCoded read, std::shared_ptr<PieceCache> pieces,
                std::optional<Sha256Digest> digest = std::nullopt) {
    read_coded_ = std::move(read);
    pieces_ = std::move(pieces);
    digest_ = digest;
  }
  /// Whether it stands in an archive.
  bool is_coded() const { return read_coded_ != nullptr; }
  absl::Status Read(uint64_t offset, MutableByteSpan out) override;
  /// SHA-256 of its bytes; reads them all, once.
  absl::StatusOr<Sha256Digest> Digest();

 private:
  friend class Bases;
  absl::StatusOr<PieceCache::Piece> ReadPiece(uint64_t number);

  // One of the two: a plain file, or what is coded.
  std::shared_ptr<Source> file_;
  uint64_t offset_ = 0;  // in file_
  ReadCoded read_coded_;
  std::shared_ptr<PieceCache> pieces_;  // with read_coded_
  std::mutex mutex_;                    // of digest_
  std::optional<Sha256Digest> digest_;
};

/// Finds the tensors that archives were coded against. Thread-safe.
class BaseFinder {
 public:
  virtual ~BaseFinder() = default;
  /// The tensor with these bytes, which lives as long as this;
  /// FAILED_PRECONDITION, naming it, where there is none.
  virtual absl::StatusOr<BaseTensor*> Find(
      const container::OutsideReference& reference) = 0;
};

/// Where bases are looked for. Thread-safe once made.
class Bases : public BaseFinder {
 public:
  /// `options.bases`: files, folders and archives, which must be there;
  /// `options.base_directories`: folders that are looked into, not below, where
  /// those do not have what is needed. The other options are for archives.
  static absl::StatusOr<std::unique_ptr<Bases>> Open(
      const DecompressOptions& options);

  /// The tensors of `options.bases`.
  const std::deque<BaseTensor>& tensors() const { return tensors_; }
  std::deque<BaseTensor>& tensors() { return tensors_; }

  /// An error that names a file that has changed since this was made.
  absl::Status CheckUnchanged();

  absl::StatusOr<BaseTensor*> Find(
      const container::OutsideReference& reference) override;

 private:
  explicit Bases(const DecompressOptions& options)
      : options_(options),
        pieces_(std::make_shared<PieceCache>(options.max_memory / 8)) {
    options_.threads = 1;  // what is read is read by many threads
  }
  absl::Status AddPath(const std::string& path);
  absl::Status AddFile(const std::string& path, const std::string& model);
  void AddDirectories();

  DecompressOptions options_;
  std::mutex mutex_;  // while tensors are added
  std::deque<BaseTensor> tensors_;
  std::vector<std::pair<std::string, FileState>> files_;
  std::shared_ptr<PieceCache> pieces_;
  bool directories_added_ = false;
};

/// The references of one archive, each looked for when it is needed, and proved
/// then. Thread-safe.
class Outside : public OutsideTensors {
 public:
  /// `bases` must outlive it; null: there are none.
  Outside(std::vector<container::OutsideReference> references,
          BaseFinder* bases)
      : references_(std::move(references)),
        bases_(bases),
        found_(references_.size()) {}
  absl::StatusOr<TensorBytes*> Get(uint64_t number) override;
  const std::vector<container::OutsideReference>& references() const {
    return references_;
  }

 private:
  const std::vector<container::OutsideReference> references_;
  BaseFinder* const bases_;
  std::mutex mutex_;
  std::vector<BaseTensor*> found_;
};

}  // namespace zipllm::archive

#endif  // ZIPLLM_ARCHIVE_BASES_H_
