// Filling a BitSink by BMI2, for the targets that have it; <immintrin.h> comes
// before. Each file that includes this is compiled for its own instructions and
// has its own copy.
#ifndef ZIPLLM_KERNELS_BIT_SINK_BMI2_H_
#define ZIPLLM_KERNELS_BIT_SINK_BMI2_H_

#include <cstdint>

#include "kernels/kernels.h"

namespace zipllm::kernels {
namespace {

inline void PutBits(uint64_t bits, uint32_t count, BitSink* sink) {
  sink->held |= bits << sink->held_bits;
  sink->held_bits += count;
  __builtin_memcpy(sink->to, &sink->held, sizeof sink->held);
  sink->to += sink->held_bits / 8;
  sink->held >>= sink->held_bits / 8 * 8;
  sink->held_bits %= 8;
}

// Appends the 2-bit fields of `fields` whose bit in `present` is set.
inline void PutFields(uint64_t fields, uint32_t present, BitSink* sink) {
  const uint64_t mask = _pdep_u64(present, 0x5555555555555555) * 3;
  const auto count = static_cast<uint32_t>(__builtin_popcountll(mask));
  if (count <= 32) {
    PutBits(_pext_u64(fields, mask), count, sink);
    return;
  }
  for (int half = 0; half < 64; half += 32) {
    const auto part = static_cast<uint32_t>(mask >> half);
    PutBits(_pext_u32(static_cast<uint32_t>(fields >> half), part),
            static_cast<uint32_t>(__builtin_popcount(part)), sink);
  }
}

}  // namespace
}  // namespace zipllm::kernels

#endif  // ZIPLLM_KERNELS_BIT_SINK_BMI2_H_
