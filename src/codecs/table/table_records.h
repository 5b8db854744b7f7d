// Records of fields of several types, found in bytes by measuring.
#ifndef ZIPLLM_CODECS_TABLE_TABLE_RECORDS_H_
#define ZIPLLM_CODECS_TABLE_TABLE_RECORDS_H_

#include <cstddef>
#include <vector>

#include "codecs/table/table_format.h"
#include "zipllm/types.h"

namespace zipllm::codecs::table {

/// Bytes of a record that is looked for.
inline constexpr size_t kMaxRecord = 256;

struct Records {
  size_t begin = 0;  ///< where the first one is
  size_t size = 0;   ///< bytes of each; 0: there are none
};

/// Records that `data`, of no known type, seems to be made of from its
/// beginning (or the end of a short head) to its end: fields of different
/// types, or of types that are not aligned to their size. What is better seen
/// as numbers of one type is none. Looks at samples; deterministic.
Records FindRecords(ByteSpan data);

/// The fields that records of `size` bytes, of which `data` has one or more,
/// are best divided into; empty if they were too many.
std::vector<Field> FindFieldsOfRecords(ByteSpan data, size_t size);

}  // namespace zipllm::codecs::table

#endif  // ZIPLLM_CODECS_TABLE_TABLE_RECORDS_H_
