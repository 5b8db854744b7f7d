// Which fields and rows numbers of one type have, found by measuring.
#ifndef ZIPLLM_CODECS_TABLE_TABLE_LAYOUT_H_
#define ZIPLLM_CODECS_TABLE_TABLE_LAYOUT_H_

#include <cstddef>
#include <cstdint>

#include "base/bytes.h"
#include "codecs/table/table_format.h"

namespace zipllm::codecs::table {

struct Layout {
  size_t fields = 1;
  uint64_t row = 0;         ///< in records; 0: none
  bool correlated = false;  ///< numbers tell something of others
};

/// The layout of `data`, of one element or more, all of `field`'s type. `row`
/// is what the container says of elements in a row; 0: nothing.
Layout FindLayout(ByteSpan data, const Field& field, uint64_t row, int level);

}  // namespace zipllm::codecs::table

#endif  // ZIPLLM_CODECS_TABLE_TABLE_LAYOUT_H_
