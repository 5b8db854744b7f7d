// What kind split's halves share.
#ifndef ZIPLLM_CODECS_COLUMNS_SPLIT_H_
#define ZIPLLM_CODECS_COLUMNS_SPLIT_H_

#include <vector>

#include "codecs/columns/kinds.h"

namespace zipllm::codecs::columns {

inline constexpr size_t kMaxFields = 16;
/// Columns below it are not split.
inline constexpr int kMaxSplitDepth = 1;

/// What stands beside field `f`: the fields before it, the last one first, then
/// what stands beside the whole values.
inline std::vector<Beside> BesideField(std::span<const Values> fields, size_t f,
                                       std::span<const Beside> outer) {
  std::vector<Beside> beside;
  for (size_t k = f; k-- > 0;) beside.push_back({&fields[k], {}});
  beside.insert(beside.end(), outer.begin(), outer.end());
  if (beside.size() > kMaxBesides) beside.resize(kMaxBesides);
  return beside;
}

}  // namespace zipllm::codecs::columns

#endif  // ZIPLLM_CODECS_COLUMNS_SPLIT_H_
