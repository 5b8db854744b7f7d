// What parsers share: from a header's list of tensors to a layout.
#ifndef ZIPLLM_PARSERS_TENSOR_LAYOUT_H_
#define ZIPLLM_PARSERS_TENSOR_LAYOUT_H_

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "zipllm/types.h"

namespace zipllm::parsers {

/// Length of a tensor of unknown type: it goes on to the next tensor, or to the
/// end of the file.
inline constexpr uint64_t kUnknownLength = UINT64_MAX;

/// Lays out a file that starts with a header, whose parts end at `header_ends`
/// (ascending, not empty; the last is where the header ends): sorts `tensors`
/// by offset and puts `bytes` before, between and (up to `file_size`, where
/// known) behind them. Offsets count from the start of the file. Nullopt where
/// two tensors overlap or have one name, where one does not fit the file, and
/// above kMaxSegments.
std::optional<Layout> LayOutTensors(std::string_view format,
                                    const std::vector<uint64_t>& header_ends,
                                    std::vector<Segment> tensors,
                                    std::optional<uint64_t> file_size);

/// Number of elements of a shape, 1 if it is empty; false on overflow.
[[nodiscard]] bool ElementCount(const std::vector<uint64_t>& shape,
                                uint64_t* elements);

}  // namespace zipllm::parsers

#endif  // ZIPLLM_PARSERS_TENSOR_LAYOUT_H_
