// Casts between float types, in integers: what a base of another type is taken
// for. Format: format-spec/codecs/15-delta.md, "Casts".
#ifndef ZIPLLM_CODECS_REFERENCE_CASTS_H_
#define ZIPLLM_CODECS_REFERENCE_CASTS_H_

#include <cstddef>
#include <cstdint>

#include "zipllm/types.h"

namespace zipllm::codecs {

/// How the bits of a float are laid out: from the top the sign, the exponent,
/// the mantissa.
struct FloatFormat {
  uint8_t bytes;
  uint8_t exponent_bits;
  uint8_t mantissa_bits;
  /// Whether numbers of the greatest exponent are infinite or none. Else
  /// (E4M3) only the one of all ones is none.
  bool has_infinity;
};

/// Null where `dtype` is no such type.
const FloatFormat* FindFloatFormat(DType dtype);

/// Whether Cast goes from one to the other: equal types, or both floats.
bool CanCast(DType from, DType to);

/// Takes `count` elements of `from` for such of `to`, to the nearest, ties to
/// even. Where a mantissa loses bits and `rests` is not null, rests[i] is what
/// was cut off its magnitude by rounding, in 2^-16 units of the last place
/// that was kept:
/// -2^15 to 2^15; else rests are 0. Arrays need no alignment.
void Cast(DType from, DType to, const uint8_t* elements, size_t count,
          uint8_t* out, int32_t* rests);

}  // namespace zipllm::codecs

#endif  // ZIPLLM_CODECS_REFERENCE_CASTS_H_
