// Which of the columns beside tell most of a column.
#ifndef ZIPLLM_CODECS_COLUMNS_BESIDE_SCORES_H_
#define ZIPLLM_CODECS_COLUMNS_BESIDE_SCORES_H_

#include <span>
#include <vector>

#include "codecs/columns/kinds.h"

namespace zipllm::codecs::columns {

struct BesideScore {
  size_t which;
  size_t hits;  ///< rows in which the last value beside the same one came again
};
struct BesideScores {
  size_t rows;                    ///< that were looked at
  size_t usual;                   ///< hits beside the value before
  std::vector<BesideScore> best;  ///< most hits first
};

/// `ids` are equal where the values are.
BesideScores ScoreBesides(std::span<const uint32_t> ids,
                          std::span<const Beside> beside);

}  // namespace zipllm::codecs::columns

#endif  // ZIPLLM_CODECS_COLUMNS_BESIDE_SCORES_H_
