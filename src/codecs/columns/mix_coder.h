// Context mixing of columns: dispatch by target.
#ifndef ZIPLLM_CODECS_COLUMNS_MIX_CODER_H_
#define ZIPLLM_CODECS_COLUMNS_MIX_CODER_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/by_target.h"

namespace zipllm::codecs::columns {

/// What is known of records before they are coded.
struct MixRecords {
  size_t count;
  uint32_t width;   ///< bytes of each, or 0: each ends with the byte `end`
  uint8_t end = 0;  ///< occurs nowhere else
  /// By record: a hash of the value that stands beside; null for none. The
  /// second only where there is a first.
  std::array<const uint32_t*, 2> beside{};
};

/// log2 of how many cache lines and positions the tables have.
struct MixSizes {
  int line_bits;
  int index_bits;
};
/// Bytes before the first one in the arena.
inline constexpr size_t kMixMargin = 32;

MixSizes MixSizesOf(size_t size);
/// What `size` bytes of records need, as zeros.
size_t MixBytes(const MixSizes& sizes, size_t size);

/// The tables' memory is 64-byte aligned zeros.
struct MixCoder {
  /// Returns 0 where the coded form does not fit into `room`.
  size_t (*encode)(uint8_t* memory, const MixSizes& sizes,
                   const MixRecords& records, const uint8_t* plain, size_t size,
                   uint8_t* coded, size_t room);
  /// False where `coded` is not what encode wrote.
  bool (*decode)(uint8_t* memory, const MixSizes& sizes,
                 const MixRecords& records, const uint8_t* coded,
                 size_t coded_size, uint8_t* plain, size_t size);
};
extern const MixCoder kMixCoderScalar;
extern const MixCoder kMixCoderAvx2;
extern const MixCoder kMixCoderAvx512;
extern const kernels::ByTarget<MixCoder> kMixCoders;
}  // namespace zipllm::codecs::columns

#endif  // ZIPLLM_CODECS_COLUMNS_MIX_CODER_H_
