// What all targets do in the same way: floats in lanes. Sums run in 16 lanes on
// every target. Compiled once for each target.
#ifndef ZIPLLM_LLM_KERNELS_LOOPS_H_
#define ZIPLLM_LLM_KERNELS_LOOPS_H_

#include <cstring>

#include "llm/kernels.h"
#include "quantizers/lanes.h"

// In a namespace without name, so that each target has its own.
namespace zipllm::llm {
namespace {

using quantizers::Abs;
using quantizers::AsFloats;
using quantizers::AsInts;
using quantizers::Floats;
using quantizers::Ints;
using quantizers::kLanes;
using quantizers::Max;
using quantizers::Min;
using quantizers::NearestInt;
using quantizers::Splat;
using quantizers::SplatInt;
using quantizers::ToFloats;
using quantizers::ToInts;

typedef int8_t Bytes __attribute__((vector_size(kLanes)));

/// Numbers of a sum that run beside each other.
constexpr size_t kSumLanes = 16;
constexpr size_t kSumVectors = kSumLanes / kLanes;

inline Floats Load(const float* from) {
  Floats value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
inline void Store(float* to, Floats value) {
  std::memcpy(to, &value, sizeof value);
}

inline Floats FiniteOrZero(Floats value) {
  return (AsInts(value) & 0x7f800000) == 0x7f800000 ? Floats{} : value;
}

/// The sum of 16 lanes: halves are added until one number is left.
inline float Fold(const Floats (&lanes)[kSumVectors]) {
  float sums[kSumLanes];
  for (size_t i = 0; i < kSumVectors; ++i) Store(sums + i * kLanes, lanes[i]);
  for (size_t half = kSumLanes / 2; half != 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) sums[i] = sums[i] + sums[i + half];
  }
  return sums[0];
}

/// Precondition: no NaN.
inline float GreatestLane(Floats lanes) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps(reinterpret_cast<__m512>(lanes));
#else
  float values[kLanes];
  Store(values, lanes);
  for (size_t k = 1; k < kLanes; ++k) {
    if (values[k] > values[0]) values[0] = values[k];
  }
  return values[0];
#endif
}

inline int32_t SumLanes(Ints lanes) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_epi32(reinterpret_cast<__m512i>(lanes));
#else
  int32_t sum = 0;
  for (size_t k = 0; k < kLanes; ++k) sum += lanes[k];
  return sum;
#endif
}

/// The next numbers, of which `count` are left; what is missing is `filler`.
inline Floats LoadSome(const float* from, size_t count, float filler) {
  if (count >= kLanes) return Load(from);
  float values[kLanes];
  for (size_t k = 0; k < kLanes; ++k) values[k] = k < count ? from[k] : filler;
  return Load(values);
}

/// The greatest number.
inline float Greatest(const float* from, size_t count) {
  constexpr float kLeast = -0x1.fffffep127f;
  Floats greatest = Splat(kLeast);
  for (size_t i = 0; i < count; i += kLanes) {
    const Floats values = LoadSome(from + i, count - i, kLeast);
    greatest = Max(FiniteOrZero(values), greatest);
  }
  return GreatestLane(greatest);
}

/// exp(x); 0 below -87, and of what is above 88 exp(88). NaN: 0.
inline Floats Exp(Floats x) {
  const Ints is_zero = ~(x >= -87.0f);
  x = Min(Max(x, Splat(-87.0f)), Splat(88.0f));
  const Ints power = NearestInt(x * 0x1.715476p+0f);
  const Floats n = ToFloats(power);
  // ln 2 in two parts, the first of few bits: n times it is exact.
  const Floats r = x - n * 0x1.62ep-1f - n * 0x1.0bfbe8p-15f;
  Floats sum = r * 0x1.a01a02p-13f + 0x1.6c16c2p-10f;  // 1/7!, 1/6!
  sum = sum * r + 0x1.111112p-7f;
  sum = sum * r + 0x1.555556p-5f;
  sum = sum * r + 0x1.555556p-3f;
  sum = sum * r + 0.5f;
  sum = sum * r + 1.0f;
  sum = sum * r + 1.0f;
  const Floats result = sum * AsFloats((power + 127) << 23);
  return is_zero ? Floats{} : result;
}

/// The greatest magnitude; `count` is a multiple of 16.
inline float GreatestMagnitude(const float* from, size_t count) {
  Floats greatest = {};
  for (size_t i = 0; i < count; i += kLanes) {
    greatest = Max(Abs(FiniteOrZero(Load(from + i))), greatest);
  }
  return GreatestLane(greatest);
}

inline void Quantize(const float* from, size_t blocks, size_t group,
                     Block* to) {
  for (size_t first = 0; first < blocks; first += group) {
    const float most = GreatestMagnitude(from, group * kBlock);
    // Of so little the inverse might not be finite.
    const bool is_zero = most < 0x1p-100f;
    const float inverse = is_zero ? 0.0f : 127.0f / most;
    const float scale = is_zero ? 0.0f : most / 127.0f;
    for (size_t b = 0; b < group; ++b, from += kBlock, ++to) {
      Ints sums = {};
#pragma GCC unroll 8
      for (size_t i = 0; i < kBlock; i += kLanes) {
        const Ints codes = NearestInt(FiniteOrZero(Load(from + i)) * inverse);
        sums += codes;
        const Bytes bytes = __builtin_convertvector(codes, Bytes);
        std::memcpy(to->codes + i, &bytes, sizeof bytes);
      }
      to->scale = scale;
      to->offset = -128 * SumLanes(sums);
    }
  }
}

inline void Normalize(const float* x, const float* weights, size_t count,
                      float epsilon, float* out) {
  Floats squares[kSumVectors] = {};
  for (size_t i = 0; i < count; i += kSumLanes) {
#pragma GCC unroll 4
    for (size_t k = 0; k < kSumVectors; ++k) {
      const Floats value = Load(x + i + k * kLanes);
      squares[k] = squares[k] + value * value;
    }
  }
  const float mean = Fold(squares) / static_cast<float>(count);
  const float factor = 1.0f / __builtin_sqrtf(mean + epsilon);
  for (size_t i = 0; i < count; i += kLanes) {
    Store(out + i, Load(x + i) * factor * Load(weights + i));
  }
}

inline void Silu(const float* gate, const float* up, size_t count, float* out) {
  for (size_t i = 0; i < count; i += kLanes) {
    const Floats x = Load(gate + i);
    Store(out + i, x / (Exp(-x) + 1.0f) * Load(up + i));
  }
}

inline void Gelu(const float* gate, const float* up, size_t count, float* out) {
  for (size_t i = 0; i < count; i += kLanes) {
    const Floats x = Load(gate + i);
    // 2 sqrt(2 / pi) (x + 0.044715 x^3)
    const Floats twice = (x * x * 0.044715f + 1.0f) * x * 0x1.988454p+0f;
    Store(out + i, x / (Exp(-twice) + 1.0f) * Load(up + i));
  }
}

inline void Cap(float* x, size_t count, float cap) {
  for (size_t i = 0; i < count; i += kLanes) {
    const Floats twice = Load(x + i) / cap * 2.0f;
    Store(x + i, (1.0f - 2.0f / (Exp(twice) + 1.0f)) * cap);
  }
}

inline float Soften(float* x, size_t count) {
  const float greatest = Greatest(x, count);
  Floats sums[kSumVectors] = {};
  for (size_t i = 0; i < count; i += kSumLanes) {
#pragma GCC unroll 4
    for (size_t k = 0; k < kSumVectors; ++k) {
      const Floats value =
          Exp(FiniteOrZero(Load(x + i + k * kLanes)) - greatest);
      sums[k] = sums[k] + value;
      Store(x + i + k * kLanes, value);
    }
  }
  return Fold(sums);
}

inline void SumWeights(const float* logits, size_t count, uint64_t* sums) {
  const float greatest = Greatest(logits, count);
  uint64_t sum = 0;
  for (size_t i = 0; i < count; i += kLanes) {
    const Floats values = LoadSome(logits + i, count - i, greatest);
    const Floats chances = Exp(FiniteOrZero(values) - greatest);
    const Ints weights = ToInts(chances * 0x1p28f) + 1;
    for (size_t k = 0; k < kLanes && k < count - i; ++k) {
      sums[i + k] = sum;
      sum += static_cast<uint32_t>(weights[k]);
    }
  }
  sums[count] = sum;
}

}  // namespace
}  // namespace zipllm::llm

#endif  // ZIPLLM_LLM_KERNELS_LOOPS_H_
