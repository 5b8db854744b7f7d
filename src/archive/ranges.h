// Numbers in bytes that no parser knows: type, phase and row length found by
// measuring. It only says how to look at the bytes; a wrong guess costs ratio.
#ifndef ZIPLLM_ARCHIVE_RANGES_H_
#define ZIPLLM_ARCHIVE_RANGES_H_

#include <vector>

#include "zipllm/types.h"

namespace zipllm::archive {

/// A stretch of bytes that are numbers of one type, or `bytes`.
struct Range {
  size_t begin = 0;
  size_t size = 0;  ///< a multiple of the type's size
  DType dtype = DType::kBytes;
  /// If not 0, the bytes are whole records of so many, at most kMaxRecord.
  size_t record = 0;
};

/// Of the types it knows, in bytes.
inline constexpr size_t kMaxElement = 8;
/// Bytes of a record at most.
inline constexpr size_t kMaxRecord = 256;

/// Tiles `data` with ranges, in order. Integers and floats of the same size
/// that no measurement can tell apart count as integers. Looks at a part of the
/// data, and goes by the number of bits that simple models need. What is left
/// over of a last element is a range of `bytes`. `with_records`: also records
/// of fields of several types, where all of the data seems to be of them.
/// Deterministic; time in proportion to the size.
std::vector<Range> FindRanges(ByteSpan data, bool with_records = false);

/// The row length of the matrix that `data` seems to be a part of: the number
/// of elements, 16 to 8,192, after which signs or magnitudes tend to repeat;
/// above 512 only multiples of 8 are tried. 0 where there is none, and for
/// other types than BF16, F16 and F32. Looks at the first 2^15 elements.
uint64_t FindRowLength(ByteSpan data, DType dtype);

}  // namespace zipllm::archive

#endif  // ZIPLLM_ARCHIVE_RANGES_H_
