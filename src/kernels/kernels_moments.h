// The kernels of linear prediction: loops that compilers vectorize, compiled
// once for each target.
#ifndef ZIPLLM_KERNELS_KERNELS_MOMENTS_H_
#define ZIPLLM_KERNELS_KERNELS_MOMENTS_H_

#include "kernels/kernels.h"

namespace zipllm::kernels {

void AddScaledScalar(int32_t by, const int32_t* factor, size_t count,
                     uint32_t* to);
void AddScaledAvx2(int32_t by, const int32_t* factor, size_t count,
                   uint32_t* to);
void AddScaledAvx512(int32_t by, const int32_t* factor, size_t count,
                     uint32_t* to);

void LearnScaledScalar(int32_t by, int32_t step, int shift, size_t count,
                       int32_t* rest, int32_t* factor);
void LearnScaledAvx2(int32_t by, int32_t step, int shift, size_t count,
                     int32_t* rest, int32_t* factor);
void LearnScaledAvx512(int32_t by, int32_t step, int shift, size_t count,
                       int32_t* rest, int32_t* factor);

namespace {

inline void AddScaledLoop(int32_t by, const int32_t* __restrict factor,
                          size_t count, uint32_t* __restrict to) {
  for (size_t i = 0; i < count; ++i) {
    to[i] += static_cast<uint32_t>((by * (factor[i] >> 16)) >> 6);
  }
}

inline void LearnScaledLoop(int32_t by, int32_t step, int shift, size_t count,
                            int32_t* __restrict rest,
                            int32_t* __restrict factor) {
  const uint32_t half = (uint32_t{1} << shift) >> 1;
  const auto slope = static_cast<uint32_t>(step);
  for (size_t i = 0; i < count; ++i) {
    const uint32_t left = static_cast<uint32_t>(rest[i]) -
                          static_cast<uint32_t>((by * (factor[i] >> 16)) >> 13);
    const auto moved = static_cast<int32_t>(slope * left + half);
    rest[i] = static_cast<int32_t>(left);
    factor[i] = static_cast<int32_t>(static_cast<uint32_t>(factor[i]) +
                                     static_cast<uint32_t>(moved >> shift));
  }
}

}  // namespace

}  // namespace zipllm::kernels

#endif  // ZIPLLM_KERNELS_KERNELS_MOMENTS_H_
