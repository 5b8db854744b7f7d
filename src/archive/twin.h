// Blocks of a tensor that is an earlier one of the same archive seen otherwise:
// transposed, with its rows in another order, with other signs, times a power
// of two. Format: format-spec/container.md, "Twin".
#ifndef ZIPLLM_ARCHIVE_TWIN_H_
#define ZIPLLM_ARCHIVE_TWIN_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "archive/block_fetcher.h"
#include "base/buffer.h"
#include "base/status.h"

namespace zipllm::archive {

/// How the elements of a twin follow from those of its source.
struct TwinRecipe {
  enum class Order : uint8_t {
    kSame = 0,
    kTransposed = 1,
    kRows = 2,  ///< row k of the twin is row rows[k] of the source
  };
  Order order = Order::kSame;
  uint8_t element_size = 0;  ///< 1, 2, 4 or 8 bytes
  uint64_t elements = 0;     ///< of the source, and of the twin
  uint64_t row = 1;          ///< elements of a row of the source
  uint64_t block_size = 0;   ///< bytes of the source's blocks
  /// An element x becomes ((x & field ? x + add : x) ^ flip), in
  /// `element_size` bytes: `field` the exponent, `add` the power of two, `flip`
  /// the sign.
  uint64_t flip = 0;
  uint64_t add = 0;
  uint64_t field = 0;
  std::vector<uint32_t> rows;

  bool operator==(const TwinRecipe&) const = default;
};

/// A twin's block may need at most this many bytes of the source for one of its
/// own, and at most this many blocks, so that a small archive cannot cost much
/// time.
inline constexpr uint64_t kMaxTwinWork = 256;

/// Appends what a block of the twin is coded as: the bytes `offset` to `offset
/// + size` of the twin, whose source's first block comes `distance` blocks
/// before it. `recipe` fits: whole rows, as many `rows` as there are.
void AppendTwin(const TwinRecipe& recipe, uint64_t distance, uint64_t offset,
                uint64_t size, Buffer* out);

/// Decodes block `number` of the archive, `index` of its frame, coded so
/// (untrusted), into `out`. DATA_LOSS where it is damaged. `max_block`: the
/// header's.
absl::Status DecodeTwin(ByteSpan coded, uint64_t number, size_t index,
                        uint32_t max_block, BlockFetcher& fetcher,
                        FetchLimits& limits, MutableByteSpan out);

}  // namespace zipllm::archive

#endif  // ZIPLLM_ARCHIVE_TWIN_H_
