// The list of element types, for those who look types up by anything but their
// number (zipllm/types.h: FindDType).
#ifndef ZIPLLM_BASE_DTYPE_H_
#define ZIPLLM_BASE_DTYPE_H_

#include <cstdint>
#include <span>

#include "zipllm/types.h"

namespace zipllm {

/// The numbers of quantized ggml types are this plus their ggml number.
inline constexpr int kGgmlDTypeBase = 64;

/// All element types, by ascending number.
std::span<const DTypeInfo> AllDTypes();

/// How many bytes `elements` elements take. False on overflow, and where they
/// do not fill whole blocks.
[[nodiscard]] bool ByteSize(const DTypeInfo& dtype, uint64_t elements,
                            uint64_t* bytes);

}  // namespace zipllm

#endif  // ZIPLLM_BASE_DTYPE_H_
