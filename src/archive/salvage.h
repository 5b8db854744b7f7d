// What is left of an archive of objects (a pack of a store) of which some bytes
// are wrong or missing.
#ifndef ZIPLLM_ARCHIVE_SALVAGE_H_
#define ZIPLLM_ARCHIVE_SALVAGE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "container/format.h"
#include "zipllm/io.h"
#include "zipllm/options.h"

namespace zipllm::archive {

/// With this the path of an entry begins that is found again behind damage.
inline constexpr std::string_view kObjectMagic = "zllmobj-";

struct Salvaged {
  /// Where it is damaged: bounds of the frames that there are.
  container::Header header;
  std::vector<container::OutsideReference> references;
  /// The frames that hold numbered blocks, ascending, also those of entries
  /// that are not whole. Numbers are right where nothing of unknown size is
  /// missing before; else so much too large that no distance leads across.
  struct Frame {
    uint64_t first_block = 0;
    container::FrameRecord record;
  };
  std::vector<Frame> frames;
  /// As container::ParseIndex, less those of which a frame is missing. Where
  /// the index is lost, the layout is one segment of bytes, of no format.
  std::vector<container::IndexEntry> entries;
  std::vector<size_t> first_frames;  ///< of each entry: its place in `frames`
  /// Paths of `entries` of which a frame is damaged: the index alone knows
  /// them.
  std::vector<std::string> not_whole;
  /// What is wrong with the structure, in words, the first few; none: it is
  /// whole. Data of blocks are not read.
  std::vector<std::string> problems;
};

/// Walks the frames of one archive that is all of a seekable source. Where one
/// is damaged it goes on behind it, if the sizes that it says lead to another,
/// else at the next Entry frame of an object. Takes time in proportion to the
/// size, memory to what is found and at most `options.max_memory`. What is said
/// here may be wrong where bytes are; that blocks and objects prove themselves
/// by their hashes is the reader's business. DATA_LOSS where nothing is left,
/// UNIMPLEMENTED where a newer version wrote it.
absl::StatusOr<Salvaged> Salvage(Source& in, const DecompressOptions& options);

}  // namespace zipllm::archive

#endif  // ZIPLLM_ARCHIVE_SALVAGE_H_
