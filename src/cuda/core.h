// The language of the device's code: C++ that nvcc compiles for a GPU, and any
// compiler for the CPU. It says what each lane of a warp, or each thread of a
// CTA, does by functions that it gives to
//
//   warp.Each(f)     calls f(Lane&) for each of the 32 lanes
//   warp.Ballot(f)   the same; bit i of the result is what f said of lane i
//   warp.Sum(f)      the same; the sum of what f said
//   warp.Sync()      lanes see what others stored
//   cta.Each(f)      calls f(thread) for each of the 128 threads
//   cta.EachWarp(f)  calls f(warp, its number) for each of the 4 warps
//
// The last two end with a barrier. On the device each thread calls f once, for
// itself (decode.cu); on the CPU loops do (tests/cuda/emulation.h).
#ifndef ZIPLLM_CUDA_CORE_H_
#define ZIPLLM_CUDA_CORE_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define ZIPLLM_DEVICE __device__ __forceinline__
#define ZIPLLM_CONSTANT __constant__ const
#define ZIPLLM_UNROLL _Pragma("unroll")
#else
#define ZIPLLM_DEVICE inline
#define ZIPLLM_CONSTANT inline constexpr
#define ZIPLLM_UNROLL
#endif

namespace zipllm::cuda {

// ---- Loads and stores ----

ZIPLLM_DEVICE uint32_t Load8(const uint8_t* p) {
#ifdef __CUDACC__
  return __ldg(p);
#else
  return *p;
#endif
}
ZIPLLM_DEVICE uint32_t Load16(const uint8_t* p) {
  return Load8(p) | Load8(p + 1) << 8;
}
ZIPLLM_DEVICE uint32_t Load32(const uint8_t* p) {
  return Load16(p) | Load16(p + 2) << 16;
}
/// From memory that the kernel wrote. `p` is aligned for T on the device.
template <typename T>
ZIPLLM_DEVICE T LoadWritten(const uint8_t* p) {
#ifdef __CUDACC__
  return *reinterpret_cast<const T*>(p);
#else
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
#endif
}
/// The same, `p` being any; fast where it is aligned.
ZIPLLM_DEVICE uint64_t LoadWritten64(const uint8_t* p) {
#ifdef __CUDACC__
  if (reinterpret_cast<uintptr_t>(p) % sizeof(uint64_t) != 0) {
    uint64_t value = 0;
    for (uint32_t i = 0; i < 8; ++i) value |= uint64_t{p[i]} << (8 * i);
    return value;
  }
#endif
  return LoadWritten<uint64_t>(p);
}
/// `p` is aligned for T on the device.
template <typename T>
ZIPLLM_DEVICE void Store(uint8_t* p, T value) {
#ifdef __CUDACC__
  *reinterpret_cast<T*>(p) = value;
#else
  std::memcpy(p, &value, sizeof value);
#endif
}
ZIPLLM_DEVICE uint32_t CountBits(uint32_t bits) {
#ifdef __CUDACC__
  return static_cast<uint32_t>(__popc(bits));
#else
  return static_cast<uint32_t>(__builtin_popcount(bits));
#endif
}

/// Number i of a group of 128, of `kWidth` bits each (5-float.md, "Planes";
/// 7-cascade.md, "Codes").
template <uint32_t kWidth>
ZIPLLM_DEVICE uint32_t GroupBits(const uint8_t* group, uint32_t i) {
  static_assert(kWidth == 1 || kWidth == 2 || kWidth == 4 || kWidth == 8);
  if constexpr (kWidth == 1) return Load8(group + i / 8) >> (i % 8) & 1;
  if constexpr (kWidth == 2) return Load8(group + i % 32) >> (i / 32 * 2) & 3;
  if constexpr (kWidth == 4) return Load8(group + i % 64) >> (i / 64 * 4) & 15;
  if constexpr (kWidth == 8) return Load8(group + i);
}

/// What a thread holds of its lane.
struct Lane {
  uint32_t index;  ///< 0 to 31
  uint32_t value;  ///< the element
  uint32_t state;  ///< codec 5: of its rANS
  uint32_t key;    ///< codec 5
  uint32_t place;  ///< codec 7: of its code in a layer
  bool escaped;    ///< codec 7

  /// How many lanes below this one are in `mask`.
  ZIPLLM_DEVICE uint32_t Rank(uint32_t mask) const {
    return CountBits(mask & ((1u << index) - 1));
  }
};

}  // namespace zipllm::cuda

#endif  // ZIPLLM_CUDA_CORE_H_
