// Sequences of unsigned 64-bit numbers: what typed columns are made of.
// Format: format-spec/codecs/columns.md, "Numbers".
#ifndef ZIPLLM_CODECS_COLUMNS_NUMBERS_H_
#define ZIPLLM_CODECS_COLUMNS_NUMBERS_H_

#include <bit>
#include <cstdint>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "codecs/columns/kinds.h"

namespace zipllm::codecs::columns {

using Numbers = std::vector<uint64_t>;

/// How the numbers are coded: the low 4 bits of a sequence's first byte.
enum class NumberCoding : uint8_t {
  kEqual = 0,          ///< all are one number
  kPacked = 1,         ///< a base, and bits above it
  kRans = 2,           ///< magnitudes by rANS, low bits as they are
  kZstd = 3,           ///< bytes of a number together, by zstd
  kZstdPlanes = 4,     ///< bytes of one weight together, by zstd
  kMixBytes = 5,       ///< bytes by context mixing
  kMixMagnitudes = 6,  ///< magnitudes by context mixing, low bits as they are
};
/// What was done to them before: the high 4 bits. Both modulo 2^64, the numbers
/// before the first being 0; differences are zigzagged.
enum class NumberTransform : uint8_t {
  kNone = 0,
  kDelta = 1,
  kDeltaDelta = 2,
};

/// Appends the numbers coded. The reader is told how many they are.
void EncodeNumbers(std::span<const uint64_t> numbers,
                   const EncodeContext& context, Buffer* out);

/// What they take, about, without mixing.
size_t QuickSize(std::span<const uint64_t> numbers,
                 const EncodeContext& context);

/// Sets `*out` to `count` numbers, any ones.
absl::Status DecodeNumbers(ByteReader& reader, size_t count,
                           const DecodeContext& context, Numbers* out);

/// A number as a magnitude below 256 and low bits that go beside: up to 15 as
/// they are, then four to a power of two.
inline uint8_t MagnitudeOf(uint64_t value) {
  if (value < 16) return static_cast<uint8_t>(value);
  const int top = static_cast<int>(std::bit_width(value)) - 1;
  return static_cast<uint8_t>(16 + (top - 4) * 4 +
                              static_cast<int>(value >> (top - 2) & 3));
}
/// How many low bits stand beside a magnitude: 0 to 61.
inline int LowBits(uint8_t magnitude) {
  return magnitude < 16 ? 0 : (magnitude - 16) / 4 + 2;
}
/// The least number of a magnitude.
inline uint64_t LeastOf(uint8_t magnitude) {
  return magnitude < 16 ? magnitude
                        : uint64_t{4 + (magnitude & 3u)} << LowBits(magnitude);
}

}  // namespace zipllm::codecs::columns

#endif  // ZIPLLM_CODECS_COLUMNS_NUMBERS_H_
