// Whether a string can be in a block of codec 25, without decoding it.
#ifndef ZIPLLM_CODECS_LOG_SEARCH_H_
#define ZIPLLM_CODECS_LOG_SEARCH_H_

#include <string>
#include <vector>

#include "codecs/codec.h"

namespace zipllm::codecs::log {

inline constexpr uint8_t kNumber = 25;  ///< of the codec

/// False: none of `needles` is in the block of `size` bytes. It is judged by
/// the templates and by what stamps tell of columns; records are taken to end
/// where lines do, so needles have no line ends. `ignore_case`: of ASCII
/// letters; needles are in small letters then. `shared` is what the log's
/// blocks share. DATA_LOSS on damage.
absl::StatusOr<bool> MayContain(ByteSpan coded, size_t size, ByteSpan shared,
                                const std::vector<std::string>& needles,
                                bool ignore_case, Scratch& scratch);

}  // namespace zipllm::codecs::log

#endif  // ZIPLLM_CODECS_LOG_SEARCH_H_
