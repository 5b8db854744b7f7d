#ifndef ZIPLLM_BASE_RANGE_SOURCE_H_
#define ZIPLLM_BASE_RANGE_SOURCE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "zipllm/io.h"

namespace zipllm {

/// A seekable source of `size` bytes that `read` gives: all of a range that
/// lies in it, or an error; by several threads at once.
std::unique_ptr<Source> MakeRangeSource(
    uint64_t size, std::string name,
    std::function<absl::Status(uint64_t, MutableByteSpan)> read);

/// One of bytes in memory, which it keeps.
std::unique_ptr<Source> MakeOwningSource(
    std::shared_ptr<const std::vector<uint8_t>> bytes, std::string name);

}  // namespace zipllm

#endif  // ZIPLLM_BASE_RANGE_SOURCE_H_
