#ifndef ZIPLLM_ARCHIVE_DUPLICATES_H_
#define ZIPLLM_ARCHIVE_DUPLICATES_H_

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "archive/input_tree.h"
#include "archive/twin.h"
#include "base/file.h"
#include "base/hash.h"
#include "zipllm/io.h"

namespace zipllm::archive {

/// Reads as much of `in` from its start as it takes to label it. Fills
/// `*prefix` with what was read; for a source that is not seekable those bytes
/// are consumed. "bytes" where nothing fits.
absl::StatusOr<Layout> ReadLayout(Source& in, std::vector<uint8_t>* prefix);

/// What is compressed together, by number; opened when it is needed.
class Inputs {
 public:
  /// `inputs` and `single` must outlive it.
  explicit Inputs(const std::vector<Input>& inputs) : inputs_(&inputs) {}
  /// One source, as input number 0.
  explicit Inputs(Source& single) : single_(&single) {}

  /// How the archive calls it; "" for a single source.
  std::string PathOf(size_t number) const {
    return single_ != nullptr ? "" : (*inputs_)[number].entry.path;
  }
  /// The path of the file that it is, or is a part of.
  std::string FileOf(size_t number) const {
    if (single_ != nullptr) return "";
    const Input& input = (*inputs_)[number];
    return input.file.value_or(input.entry.path);
  }
  /// What its SHA-256 must be, if that is known.
  std::optional<Sha256Digest> DigestOf(size_t number) const {
    if (single_ != nullptr) return std::nullopt;
    return (*inputs_)[number].sha256;
  }
  /// The layout of input `number`, looked for once; null where it cannot be
  /// read at offsets. Valid as long as this.
  const Layout* LayoutOf(size_t number);
  size_t size() const { return single_ != nullptr ? 1 : inputs_->size(); }
  /// The source of input `number`; null where there is none that can be read at
  /// offsets: such an input is passed over, and the error shows when it is
  /// coded. Valid until the next call.
  Source* Open(size_t number);
  /// The same for as long as one likes, and for several threads; may be called
  /// by any. The last few stay open.
  std::shared_ptr<Source> Share(size_t number);
  /// An error that names a file that has changed since it was shared first.
  absl::Status CheckUnchanged();

 private:
  absl::StatusOr<std::unique_ptr<Source>> OpenFile(size_t number) const;

  const std::vector<Input>* inputs_ = nullptr;
  Source* single_ = nullptr;
  std::map<size_t, Layout> layouts_;
  std::unique_ptr<Source> opened_;
  size_t opened_number_ = SIZE_MAX;
  std::mutex mutex_;
  std::deque<std::pair<size_t, std::shared_ptr<Source>>> shared_;
  std::map<size_t, FileState> states_;
};

/// A segment as it is looked at before anything is coded.
struct Candidate {
  DType dtype;
  std::vector<uint64_t> shape;
  uint64_t length;
  size_t input;
  uint64_t offset;
  uint64_t sketch = 0;
};

/// Segments that look alike. The first to be coded is the original.
struct Family {
  Candidate original;
  std::vector<Sha256Digest> blocks;  ///< of the original, once it is coded
  uint64_t first_block = 0;
  bool coded = false;
};

/// A segment that seems to be made of another, the original of `source`.
struct Twin {
  Family* source;
  TwinRecipe recipe;
};

/// Finds segments that may equal an earlier one, or be its twin, before
/// anything is coded, by sampled bytes. Whether they are is proved when they
/// are coded, block by block. Thread-compatible.
class Duplicates {
 public:
  /// Looks at all segments. `level` is that of compression: the higher ones
  /// look for rows in another order too.
  void Scan(Inputs& inputs, int level);

  /// The family of the segment at `offset` of input number `input`; null if it
  /// has none.
  Family* Find(size_t input, uint64_t offset);
  /// Makes one for the segment that is there, which has none: it will be coded
  /// twice.
  Family* AddFamily(size_t input, uint64_t offset);
  const Twin* FindTwin(size_t input, uint64_t offset) const;

 private:
  using Place = std::pair<size_t, uint64_t>;

  void Group(Inputs& inputs, std::vector<Candidate>& all);

  std::vector<std::unique_ptr<Family>> families_;
  std::map<Place, Family*> members_;
  std::map<Place, Twin> twins_;
};

/// Finds twins among `tensors`, which are in the order in which they will be
/// coded: for each, by its place in the list, an earlier one that is not itself
/// a twin, and how it is made of it.
struct FoundTwin {
  size_t twin;
  size_t source;
  TwinRecipe recipe;
};
std::vector<FoundTwin> FindTwins(Inputs& inputs,
                                 const std::vector<const Candidate*>& tensors,
                                 bool rows);

}  // namespace zipllm::archive

#endif  // ZIPLLM_ARCHIVE_DUPLICATES_H_
