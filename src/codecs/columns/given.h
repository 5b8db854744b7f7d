// What kind given's halves share.
#ifndef ZIPLLM_CODECS_COLUMNS_GIVEN_H_
#define ZIPLLM_CODECS_COLUMNS_GIVEN_H_

#include <vector>

#include "codecs/columns/kinds.h"

namespace zipllm::codecs::columns {

/// Numbers below `count` that are equal where the values beside are; false
/// where there are fewer than `count`.
bool KeysOf(const Beside& beside, size_t count, std::vector<uint32_t>* keys);

}  // namespace zipllm::codecs::columns

#endif  // ZIPLLM_CODECS_COLUMNS_GIVEN_H_
