/// \file
/// Words that the whole API shares: byte spans, element types, segments,
/// layouts.
#ifndef ZIPLLM_TYPES_H_
#define ZIPLLM_TYPES_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "zipllm/export.h"

namespace zipllm {

using ByteSpan = std::span<const uint8_t>;
using MutableByteSpan = std::span<uint8_t>;

/// Element type of a segment. The numbers are part of the format
/// (format-spec/container.md, "Element types") and are never reused. Quantized
/// ggml types are 64 + their ggml number.
enum class DType : uint8_t {
#define ZIPLLM_DTYPE(id, symbol, name, block_elements, block_bytes) \
  k##symbol = id,
#include "zipllm/dtype_list.inc"
#undef ZIPLLM_DTYPE
};

/// Facts about an element type: `block_elements` elements lie in `block_bytes`
/// bytes. Both are 1 for `bytes`.
struct DTypeInfo {
  DType dtype;
  std::string_view name;
  uint32_t block_elements;
  uint32_t block_bytes;
};

/// The facts of `dtype`; nullptr for a number that this version does not know.
ZIPLLM_EXPORT const DTypeInfo* FindDType(DType dtype);

/// One tensor's bytes, or a gap between tensors (dtype `bytes`: header,
/// padding, text).
struct Segment {
  std::string name;  ///< tensor name as the file spells it; empty for a gap
  DType dtype = DType::kBytes;
  std::vector<uint64_t>
      shape;  ///< in elements, outermost first; empty for scalars and gaps
  uint64_t offset = 0;  ///< in bytes from the start of the file
  uint64_t length = 0;  ///< in bytes
};

/// An ordered list of segments that tiles a file exactly: no gap, no overlap.
struct Layout {
  std::string
      format;  ///< name of the parser that made it, "bytes" where none fits
  std::vector<Segment> segments;
};

}  // namespace zipllm

#endif  // ZIPLLM_TYPES_H_
