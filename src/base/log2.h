#ifndef ZIPLLM_BASE_LOG2_H_
#define ZIPLLM_BASE_LOG2_H_

#include <bit>
#include <cstdint>

namespace zipllm {

/// log2(x) in 1/65536, rounded down; `x` >= 1. Squares the mantissa for each
/// bit of the fraction (Knuth, TAOCP vol. 1, 1.2.2, exercise 25).
constexpr uint32_t Log2Q16(uint32_t x) {
  const int whole = std::bit_width(x) - 1;
  uint64_t mantissa = uint64_t{x} << (31 - whole);  // 1 <= m < 2, in 2^-31
  uint32_t log2 = static_cast<uint32_t>(whole);
  for (int bit = 0; bit < 16; ++bit) {
    mantissa = (mantissa * mantissa) >> 31;
    const uint32_t carry = static_cast<uint32_t>(mantissa >> 32);
    mantissa >>= carry;
    log2 = log2 << 1 | carry;
  }
  return log2;
}

}  // namespace zipllm

#endif  // ZIPLLM_BASE_LOG2_H_
