// What encoder and decoder of codec 7 share: the kinds of elements and how the
// low bits of a group are coded. Format: format-spec/codecs/7-cascade.md.
#ifndef ZIPLLM_CODECS_TENSOR_CASCADE_FORMAT_H_
#define ZIPLLM_CODECS_TENSOR_CASCADE_FORMAT_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "codecs/tensor/kinds.h"
#include "kernels/kernels.h"

namespace zipllm::codecs::cascade_format {

/// How a group of elements is coded beside its exponents and rests.
enum Mode : uint8_t {
  kZero = 0,   ///< it is not: all bits of the elements are 0
  kTop = 1,    ///< the low bits are 0
  kThree = 2,  ///< of the low bits only the top three are not 0: planes
  kAll = 3,    ///< 16 low bits each
  kFew = 4,    ///< the low bits are 0 but for some elements, which are listed
};

/// A kind of elements. Exponent, sign and the top seven bits of the mantissa
/// are in a 16-bit unit; below lie `low_bits`: in the unit (FP16) or in a low
/// half of its own (FP32).
struct Kind {
  DType dtype;
  uint8_t number;
  uint8_t element_size;
  uint8_t max_exponent;
  uint8_t shift;  ///< of the seven bits of the mantissa in the unit
  uint8_t low_bits;

  constexpr int exponent_shift() const { return shift + 7; }
  constexpr bool wide() const { return element_size == 4; }
  constexpr bool Allows(unsigned mode) const {
    return mode <= kTop || (mode == kThree && low_bits > 0) ||
           (mode == kAll && low_bits == 16) || (mode == kFew && low_bits > 0);
  }
  /// Bytes of an element that kFew lists: position and low bits.
  constexpr size_t few_bytes() const { return low_bits == 16 ? 3 : 2; }
};

inline constexpr std::array kKinds = {
    Kind{DType::kBF16, 1, 2, 255, 0, 0},
    Kind{DType::kF16, 2, 2, 31, 3, 3},
    Kind{DType::kF32, 3, 4, 255, 0, 16},
};

/// A number in a block's list of runs is mode + kModes * groups.
inline constexpr uint64_t kModes = 8;
inline constexpr size_t kMaxLayers = 8;
inline constexpr size_t kMaxSymbols = 16;  // of a layer, with the escape
/// Where the planes of three bits lie in low halves; in units they are at 0.
inline constexpr int kThreeShift = 13;
/// Bytes of a group in planes of three bits and in 16-bit words.
inline constexpr size_t kThreeBytes = 3 * kernels::kGroup / 8;
inline constexpr size_t kAllBytes = 2 * kernels::kGroup;
/// What kernels may read beyond a layer's symbols, and write beyond its
/// escapes.
inline constexpr size_t kSlack = 64;
/// Groups that are worked on at a time: 2048 elements, which stay in L1.
inline constexpr size_t kChunkGroups = 16;
inline constexpr size_t kChunk = kChunkGroups * kernels::kGroup;

/// Bytes of a group's codes.
constexpr size_t CodeBytes(int width) {
  return 16 * static_cast<size_t>(width);
}

}  // namespace zipllm::codecs::cascade_format

#endif  // ZIPLLM_CODECS_TENSOR_CASCADE_FORMAT_H_
