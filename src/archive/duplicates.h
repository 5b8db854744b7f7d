#ifndef ZIPLLM_ARCHIVE_DUPLICATES_H_
#define ZIPLLM_ARCHIVE_DUPLICATES_H_

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "archive/input_tree.h"
#include "base/hash.h"
#include "zipllm/io.h"

namespace zipllm::archive {

/// Reads as much of `in` from its start as it takes to label it. Fills
/// `*prefix` with what was read; for a source that is not seekable those bytes
/// are consumed. "bytes" where nothing fits.
absl::StatusOr<Layout> ReadLayout(Source& in, std::vector<uint8_t>* prefix);

/// Finds segments that may equal an earlier one, before anything is coded:
/// equal type, length and sampled bytes. Whether they do is proved when they
/// are coded, block by block, by SHA-256. Thread-compatible.
class Duplicates {
 public:
  /// Segments that look alike. The first to be coded is the original.
  struct Family {
    std::vector<Sha256Digest> blocks;  ///< of the original, once it is coded
    uint64_t first_block = 0;
    bool coded = false;
  };

  /// Looks at all files among `inputs`. A file that cannot be read is passed
  /// over: the error shows when it is coded.
  void Scan(const std::vector<Input>& inputs);
  /// The same for one seekable source, as input number 0.
  void Scan(Source& in);

  /// The family of the segment at `offset` of input number `input`; null if it
  /// has none.
  Family* Find(size_t input, uint64_t offset);

 private:
  struct Segments;
  void ScanInput(size_t input, Source& in, Segments* segments);
  void Group(Segments& segments, const std::vector<Input>* inputs,
             Source* single);

  std::vector<std::unique_ptr<Family>> families_;
  std::map<std::pair<size_t, uint64_t>, Family*> members_;
};

}  // namespace zipllm::archive

#endif  // ZIPLLM_ARCHIVE_DUPLICATES_H_
