#include <algorithm>
#include <bit>
#include <cstring>

#include "base/bytes.h"
#include "base/dtype.h"
#include "codecs/reference/casts.h"

namespace zipllm::codecs {
namespace {

constexpr FloatFormat kF64 = {8, 11, 52, true};
constexpr FloatFormat kF32 = {4, 8, 23, true};
constexpr FloatFormat kF16 = {2, 5, 10, true};
constexpr FloatFormat kBF16 = {2, 8, 7, true};
constexpr FloatFormat kE4M3 = {1, 4, 3, false};
constexpr FloatFormat kE5M2 = {1, 5, 2, true};

uint64_t Load(const uint8_t* from, size_t bytes) {
  uint64_t bits = 0;
  std::memcpy(&bits, from, bytes);
  return bits;
}

/// One float taken for another, and the rest as in Cast.
struct Rounded {
  uint64_t bits;
  int32_t rest;
};

Rounded CastOne(const FloatFormat& from, const FloatFormat& to, uint64_t bits) {
  const int from_top = from.exponent_bits + from.mantissa_bits;
  const int to_top = to.exponent_bits + to.mantissa_bits;
  const uint64_t sign = (bits >> from_top & 1) << to_top;
  const uint64_t magnitude = bits & ((uint64_t{1} << from_top) - 1);
  uint64_t mantissa = magnitude & ((uint64_t{1} << from.mantissa_bits) - 1);
  int exponent = static_cast<int>(magnitude >> from.mantissa_bits);

  const int from_last = (1 << from.exponent_bits) - 1;
  const int to_last = (1 << to.exponent_bits) - 1;
  const uint64_t infinity = uint64_t{static_cast<uint32_t>(to_last)}
                            << to.mantissa_bits;
  const uint64_t all_ones = (uint64_t{1} << to_top) - 1;
  const bool is_nan = from.has_infinity
                          ? exponent == from_last && mantissa != 0
                          : magnitude == (uint64_t{1} << from_top) - 1;
  if (is_nan) {
    if (!to.has_infinity) return {sign | all_ones, 0};
    const int shift = to.mantissa_bits - from.mantissa_bits;
    if (shift >= 0) return {sign | infinity | mantissa << shift, 0};
    return {sign | infinity | mantissa >> -shift |
                uint64_t{1} << (to.mantissa_bits - 1),
            0};
  }
  // The greatest finite magnitude is one below what overflow gives.
  const uint64_t overflow = to.has_infinity ? infinity : all_ones - 1;
  if (from.has_infinity && exponent == from_last) return {sign | overflow, 0};
  if (magnitude == 0) return {sign, 0};

  // The value is mantissa * 2^exponent.
  if (exponent == 0) {
    exponent = 1;
  } else {
    mantissa |= uint64_t{1} << from.mantissa_bits;
  }
  exponent -= (1 << (from.exponent_bits - 1)) - 1 + from.mantissa_bits;
  // With the top bit in place 62 it is at least 2^62 and below 2^63.
  const int up = std::countl_zero(mantissa) - 1;
  mantissa <<= up;
  exponent -= up;
  // The exponent field of the result, and how many bits it loses.
  int field = exponent + 62 + (1 << (to.exponent_bits - 1)) - 1;
  int lost = 62 - to.mantissa_bits;
  if (field < 1) {
    lost += 1 - field;
    field = 1;
  }
  if (lost > 63) return {sign, 0};
  const uint64_t half = uint64_t{1} << (lost - 1);
  const uint64_t low = mantissa & ((half << 1) - 1);
  uint64_t kept = mantissa >> lost;
  const bool rounds_up = low > half || (low == half && (kept & 1) != 0);
  kept += rounds_up;
  // The implicit bit adds 1 to the field, as a carry does.
  const uint64_t result =
      ((static_cast<uint64_t>(field) - 1) << to.mantissa_bits) + kept;
  if (result >= overflow) return {sign | overflow, 0};
  const auto cut =
      static_cast<int32_t>(lost > 16 ? low >> (lost - 16) : low << (16 - lost));
  return {sign | result, rounds_up ? cut - 65536 : cut};
}

void CastBf16ToF32(const uint8_t* elements, size_t count, uint8_t* out) {
  for (size_t i = 0; i < count; ++i) {
    StoreLe(out + 4 * i, uint32_t{LoadLe<uint16_t>(elements + 2 * i)} << 16);
  }
}

void CastF32ToBf16(const uint8_t* elements, size_t count, uint8_t* out,
                   int32_t* rests) {
  for (size_t i = 0; i < count; ++i) {
    const auto bits = LoadLe<uint32_t>(elements + 4 * i);
    const uint32_t magnitude = bits & 0x7fffffff;
    const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    const bool is_nan = magnitude > 0x7f800000;
    StoreLe(out + 2 * i, static_cast<uint16_t>(
                             is_nan ? bits >> 16 | uint32_t{0x40} : rounded));
    if (rests == nullptr) continue;
    const auto rest = static_cast<int32_t>(bits - (rounded << 16));
    rests[i] = magnitude < 0x7f7f8000 ? rest : 0;
  }
}

}  // namespace

const FloatFormat* FindFloatFormat(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return &kF64;
    case DType::kF32:
      return &kF32;
    case DType::kF16:
      return &kF16;
    case DType::kBF16:
      return &kBF16;
    case DType::kF8E4M3:
      return &kE4M3;
    case DType::kF8E5M2:
      return &kE5M2;
    default:
      return nullptr;
  }
}

bool CanCast(DType from, DType to) {
  return from == to ||
         (FindFloatFormat(from) != nullptr && FindFloatFormat(to) != nullptr);
}

void Cast(DType from, DType to, const uint8_t* elements, size_t count,
          uint8_t* out, int32_t* rests) {
  if (rests != nullptr) std::fill_n(rests, count, 0);
  if (from == to) {
    std::memcpy(out, elements, count * FindDType(from)->block_bytes);
    return;
  }
  if (from == DType::kBF16 && to == DType::kF32) {
    CastBf16ToF32(elements, count, out);
    return;
  }
  if (from == DType::kF32 && to == DType::kBF16) {
    CastF32ToBf16(elements, count, out, rests);
    return;
  }
  const FloatFormat& f = *FindFloatFormat(from);
  const FloatFormat& t = *FindFloatFormat(to);
  for (size_t i = 0; i < count; ++i) {
    const Rounded rounded =
        CastOne(f, t, Load(elements + i * f.bytes, f.bytes));
    std::memcpy(out + i * t.bytes, &rounded.bits, t.bytes);
    if (rests != nullptr) rests[i] = rounded.rest;
  }
}

}  // namespace zipllm::codecs
