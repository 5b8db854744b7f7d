// The numbers that ggml blocks stand for (format-spec/quantizers.md,
// "Dequantizing").
#ifndef ZIPLLM_QUANTIZERS_DEQUANTIZE_H_
#define ZIPLLM_QUANTIZERS_DEQUANTIZE_H_

#include <cstddef>
#include <cstdint>

#include "zipllm/types.h"

namespace zipllm::quantizers {

/// Writes the numbers of `count` blocks of type `dtype` to `out`, as many as
/// the blocks have elements. False, writing nothing, where the type is not
/// known. Any bytes are valid blocks; the numbers are the same on every
/// machine. Never allocates. Thread-safe.
bool Dequantize(DType dtype, const uint8_t* blocks, size_t count, float* out);

/// Whether Dequantize knows the type.
bool CanDequantize(DType dtype);

/// How far apart the numbers are that the type has near each element: the
/// weight that the element came from lies within about half of that. As many
/// as the blocks have elements. Preconditions as for Dequantize.
bool Steps(DType dtype, const uint8_t* blocks, size_t count, float* out);

}  // namespace zipllm::quantizers

#endif  // ZIPLLM_QUANTIZERS_DEQUANTIZE_H_
