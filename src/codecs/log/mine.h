// Finds the templates of a block's records.
#ifndef ZIPLLM_CODECS_LOG_MINE_H_
#define ZIPLLM_CODECS_LOG_MINE_H_

#include <vector>

#include "codecs/log/records.h"

namespace zipllm::codecs::log {

/// A template as it is found: where it stands in one of its records.
struct Draft {
  struct Slot {
    uint32_t literal_begin;  ///< in the block: what stands before the value
    uint32_t literal_end;
    uint32_t token;   ///< of the record; kRest: what is left of the line
    uint64_t column;  ///< equal keys share a column
  };
  static constexpr uint32_t kRest = UINT32_MAX;
  std::vector<Slot> slots;
  uint32_t tail_begin;  ///< the literal behind the last value
  uint32_t tail_end;
};

struct Mined {
  std::vector<Draft> drafts;
  std::vector<uint32_t> draft_of;  ///< by record
};

/// Templates of the records of `block`, and which of them each has.
/// Thread-safe.
Mined Mine(ByteSpan block, const Records& records);

}  // namespace zipllm::codecs::log

#endif  // ZIPLLM_CODECS_LOG_MINE_H_
