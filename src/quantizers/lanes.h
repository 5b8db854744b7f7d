// Quantizing in lanes: vectors that hold one number of each of kLanes blocks.
// Each lane does what the specification says for its block, in that order, so
// that all targets give the same bits; branches become selections
// (`mask ? a : b`, as the vector extensions of gcc and clang have it). Include
// it only in files that are compiled for one target (NAME_scalar.cc,
// NAME_avx2.cc, NAME_avx512.cc), through a header of shared loops.
//
// These files call no function template of the standard library: the linker
// might take the instance that needs more than the CPU has.
#ifndef ZIPLLM_QUANTIZERS_LANES_H_
#define ZIPLLM_QUANTIZERS_LANES_H_

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__SSE2__)
// False alarms of gcc 12 on the headers of intrinsics (gcc bug 105593).
#pragma GCC diagnostic push
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

// In a namespace without name, so that each target has its own.
namespace zipllm::quantizers {
namespace {

#if defined(__AVX512F__)
constexpr size_t kLanes = 16;
#elif defined(__AVX2__)
constexpr size_t kLanes = 8;
#else
constexpr size_t kLanes = 4;
#endif

typedef float Floats __attribute__((vector_size(4 * kLanes)));
/// Comparisons give these: -1 where true, else 0.
typedef int32_t Ints __attribute__((vector_size(4 * kLanes)));
/// For sums that may pass the range, and shifts that bring in zeros.
typedef uint32_t Words __attribute__((vector_size(4 * kLanes)));

inline Floats Splat(float value) { return value - Floats{}; }
inline Ints SplatInt(int32_t value) { return Ints{} + value; }

inline Floats AsFloats(Ints bits) { return reinterpret_cast<Floats>(bits); }
inline Floats AsFloats(Words bits) { return reinterpret_cast<Floats>(bits); }
inline Ints AsInts(Floats value) { return reinterpret_cast<Ints>(value); }
inline Words AsWords(Floats value) { return reinterpret_cast<Words>(value); }
inline Words AsWords(Ints value) { return reinterpret_cast<Words>(value); }
inline Ints AsInts(Words value) { return reinterpret_cast<Ints>(value); }

inline Floats ToFloats(Ints value) {
  return __builtin_convertvector(value, Floats);
}
/// Towards zero. Precondition: |value| < 2^31.
inline Ints ToInts(Floats value) {
  return __builtin_convertvector(value, Ints);
}

inline Floats Abs(Floats value) { return AsFloats(AsInts(value) & 0x7fffffff); }

/// Towards zero; -2^31 where that does not fit, and for NaNs.
inline Ints Truncate(Floats value) {
#if defined(__AVX512F__)
  return reinterpret_cast<Ints>(
      _mm512_cvttps_epi32(reinterpret_cast<__m512>(value)));
#elif defined(__AVX2__)
  return reinterpret_cast<Ints>(
      _mm256_cvttps_epi32(reinterpret_cast<__m256>(value)));
#elif defined(__SSE2__)
  return reinterpret_cast<Ints>(
      _mm_cvttps_epi32(reinterpret_cast<__m128>(value)));
#else
  const Ints fits = (value > -0x1p31f) & (value < 0x1p31f);
  return fits ? ToInts(fits ? value : Floats{}) : SplatInt(INT32_MIN);
#endif
}

/// To the nearest integer, ties away from zero; -2^31 as for Truncate.
inline Ints RoundAway(Floats value) {
  const Ints whole = Truncate(value);
  // From 2^23 on there is no fraction; below, the difference is exact.
  const Floats rest = value - ToFloats(whole);
  const Ints exact = Abs(value) < 0x1p23f;
  return whole + ((rest <= -0.5f) & exact) - ((rest >= 0.5f) & exact);
}

/// b where either is a NaN.
inline Floats Max(Floats a, Floats b) { return a > b ? a : b; }
inline Floats Min(Floats a, Floats b) { return a < b ? a : b; }
inline Ints Max(Ints a, Ints b) { return a > b ? a : b; }
inline Ints Min(Ints a, Ints b) { return a < b ? a : b; }

inline bool Any(Ints mask) {
#if defined(__AVX512F__)
  return _mm512_test_epi32_mask(reinterpret_cast<__m512i>(mask),
                                reinterpret_cast<__m512i>(mask)) != 0;
#elif defined(__AVX2__)
  return _mm256_movemask_epi8(reinterpret_cast<__m256i>(mask)) != 0;
#else
  int32_t any = 0;
  for (size_t lane = 0; lane < kLanes; ++lane) any |= mask[lane];
  return any != 0;
#endif
}

inline Floats Sqrt(Floats value) {
#if defined(__AVX512F__)
  return reinterpret_cast<Floats>(
      _mm512_sqrt_ps(reinterpret_cast<__m512>(value)));
#elif defined(__AVX2__)
  return reinterpret_cast<Floats>(
      _mm256_sqrt_ps(reinterpret_cast<__m256>(value)));
#elif defined(__SSE2__)
  return reinterpret_cast<Floats>(_mm_sqrt_ps(reinterpret_cast<__m128>(value)));
#else
  for (size_t lane = 0; lane < kLanes; ++lane) {
    value[lane] = __builtin_sqrtf(value[lane]);
  }
  return value;
#endif
}

/// NaNs become the one whose fraction is zero but for its top bit. Operations
/// make no others of it, though its sign differs between machines: nothing may
/// depend on that.
inline Floats OneNan(Floats value) {
  return value == value ? value : AsFloats(SplatInt(0x7fc00000));
}

// ggml rounds by adding 1.5 * 2^23: below the binary point of the sum nothing
// is left, and its low 23 bits are the integer + 2^22. From |value| = 2^22 on
// the result is what these bits happen to be; for NaNs 0.

constexpr int32_t kRounder = 0x4b400000;  // the bits of 1.5 * 2^23
inline Words RoundingBits(Floats value) {
  return AsWords(value + 12582912.0f) & 0x7fffffu;
}

/// To the nearest integer, ties to even, as ggml does.
inline Ints NearestInt(Floats value) {
  return AsInts(RoundingBits(value)) - 0x00400000;
}

/// The same, then cut to what lies between two integers, as a float.
inline Floats NearestBetween(Floats value, int low, int high) {
  // Such floats order as their bits do.
#if defined(__AVX512F__)
  __m512i bits = reinterpret_cast<__m512i>(value + 12582912.0f);
  // (bits & 0x7fffff) | 0x4b000000
  bits = _mm512_ternarylogic_epi32(bits, _mm512_set1_epi32(0x7fffff),
                                   _mm512_set1_epi32(0x4b000000), 0xea);
  __m512 sum = _mm512_castsi512_ps(bits);
  sum =
      _mm512_max_ps(sum, _mm512_set1_ps(12582912.0f + static_cast<float>(low)));
  sum = _mm512_min_ps(sum,
                      _mm512_set1_ps(12582912.0f + static_cast<float>(high)));
  return reinterpret_cast<Floats>(sum) - 12582912.0f;
#else
  Ints bits = AsInts(RoundingBits(value) | 0x4b000000u);
  bits = Max(bits, SplatInt(kRounder + low));
  bits = Min(bits, SplatInt(kRounder + high));
  return AsFloats(bits) - 12582912.0f;
#endif
}

/// FP16, ties to even; NaNs become 0x7e00.
inline Ints ToHalf(Floats value) {
  const Words bits = AsWords(value);
  const Words sign = (bits & 0x80000000u) >> 16;
  const Ints magnitude = AsInts(bits & 0x7fffffffu);
  // Subnormal ones: the sum with 0.5 rounds where FP16 has its last bit.
  const Ints small = AsInts(AsFloats(magnitude) + 0.5f) - 0x3f000000;
  const Words odd = (AsWords(magnitude) >> 13) & 1u;
  const Ints normal = AsInts((AsWords(magnitude) + (0xc8000fffu + odd)) >> 13);
  Ints half = magnitude < 0x38800000 ? small : normal;
  half = magnitude >= 0x47800000 ? SplatInt(0x7c00) : half;
  half |= AsInts(sign);
  return magnitude > 0x7f800000 ? SplatInt(0x7e00) : half;
}

/// The number that an FP16 stands for. Precondition: 0 <= half < 2^16.
inline Floats FromHalf(Ints half) {
  const Ints magnitude = (half & 0x7fff) << 13;
  Floats value = AsFloats(magnitude) * AsFloats(SplatInt((127 + 112) << 23));
  const Floats special = AsFloats(magnitude | 0x7f800000);
  value = magnitude >= 0x0f800000 ? special : value;
  return AsFloats(AsWords(value) | (AsWords(half) & 0x8000u) << 16);
}

template <size_t kHalf, size_t... kIndex>
inline Floats Interleave(Floats a, Floats b, std::index_sequence<kIndex...>) {
  return __builtin_shufflevector(
      a, b, (kHalf * kLanes / 2 + kIndex / 2 + kIndex % 2 * kLanes)...);
}

/// Vector i gets number i of each vector.
inline void Transpose(Floats (&vectors)[kLanes]) {
  constexpr auto kAll = std::make_index_sequence<kLanes>{};
  for (size_t width = 1; width < kLanes; width *= 2) {
    Floats next[kLanes];
#pragma GCC unroll 16
    for (size_t i = 0; i < kLanes / 2; ++i) {
      const Floats a = vectors[i];
      const Floats b = vectors[i + kLanes / 2];
      next[2 * i] = Interleave<0>(a, b, kAll);
      next[2 * i + 1] = Interleave<1>(a, b, kAll);
    }
#pragma GCC unroll 16
    for (size_t i = 0; i < kLanes; ++i) vectors[i] = next[i];
  }
}

/// to[i] = number i of each of `lanes` (1 to kLanes) blocks, the first number
/// of block b at from[b]; further lanes repeat the first block. NaNs become
/// one. `count` is a multiple of 16.
inline void LoadLanes(const float* const* from, size_t lanes, size_t count,
                      Floats* to) {
  for (size_t i = 0; i < count; i += kLanes) {
    Floats vectors[kLanes];
#pragma GCC unroll 16
    for (size_t lane = 0; lane < kLanes; ++lane) {
      std::memcpy(&vectors[lane], from[lane < lanes ? lane : 0] + i,
                  sizeof(Floats));
    }
    Transpose(vectors);
#pragma GCC unroll 16
    for (size_t k = 0; k < kLanes; ++k) to[i + k] = OneNan(vectors[k]);
  }
}

/// The low kSize bytes of lane b of numbers[i] go to to + b * stride + i *
/// kSize, for `lanes` blocks.
template <size_t kSize, typename Vector>
inline void StoreLanes(const Vector* numbers, size_t count, size_t lanes,
                       size_t stride, uint8_t* to) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(numbers);
  for (size_t lane = 0; lane < lanes; ++lane) {
    for (size_t i = 0; i < count; ++i) {
      std::memcpy(to + lane * stride + i * kSize,
                  bytes + 4 * (i * kLanes + lane), kSize);
    }
  }
}

/// Byte i of block b, at to + b * stride, becomes the low 8 bits of number b of
/// bytes[i], for `lanes` blocks of `count` bytes.
inline void StoreBytes(const Ints* bytes, size_t count, size_t lanes,
                       size_t stride, uint8_t* to) {
  StoreLanes<1>(bytes, count, lanes, stride, to);
}

}  // namespace
}  // namespace zipllm::quantizers

#endif  // ZIPLLM_QUANTIZERS_LANES_H_
