// XXH3-64 with seed 0 of more than 240 bytes, by a CTA. Eight accumulators take
// 16 stripes of 64 bytes a round, then are scrambled. What a round's stripes
// add does not depend on what was there before: threads sum 16 rounds at once,
// and eight of them chain the sums.
#ifndef ZIPLLM_CUDA_XXH3_CORE_H_
#define ZIPLLM_CUDA_XXH3_CORE_H_

#include <cstddef>
#include <cstdint>

#include "cuda/blocks.h"
#include "cuda/core.h"

namespace zipllm::cuda {

inline constexpr uint32_t kStripe = 64;
inline constexpr uint32_t kRoundStripes = 16;
inline constexpr uint32_t kRound = kStripe * kRoundStripes;
inline constexpr uint32_t kAccumulators = 8;
inline constexpr uint32_t kTileRounds = kThreads / kAccumulators;

ZIPLLM_CONSTANT uint8_t kSecret[192] = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c,
    0xf7, 0x21, 0xad, 0x1c, 0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb,
    0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f, 0xcb, 0x79, 0xe6, 0x4e,
    0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6,
    0x81, 0x3a, 0x26, 0x4c, 0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb,
    0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3, 0x71, 0x64, 0x48, 0x97,
    0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7,
    0xc7, 0x0b, 0x4f, 0x1d, 0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31,
    0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64, 0xea, 0xc5, 0xac, 0x83,
    0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26,
    0x29, 0xd4, 0x68, 0x9e, 0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc,
    0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce, 0x45, 0xcb, 0x3a, 0x8f,
    0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e};

ZIPLLM_CONSTANT uint64_t kFirstAccumulators[kAccumulators] = {
    0xC2B2AE3D,         0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F,
    0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x85EBCA77,
    0x27D4EB2F165667C5, 0x9E3779B1};

ZIPLLM_DEVICE uint64_t Secret(uint32_t offset) {
  uint64_t value = 0;
  for (uint32_t i = 0; i < 8; ++i) {
    value |= uint64_t{kSecret[offset + i]} << (8 * i);
  }
  return value;
}

/// What stripe `data` adds to accumulator i.
ZIPLLM_DEVICE uint64_t StripeSum(const uint8_t* data, uint32_t i,
                                 uint32_t secret) {
  const uint64_t key = LoadWritten64(data + 8 * i) ^ Secret(secret + 8 * i);
  return LoadWritten64(data + 8 * (i ^ 1)) + (key & 0xFFFFFFFF) * (key >> 32);
}
/// What the first `stripes` stripes of a round add to accumulator i.
ZIPLLM_DEVICE uint64_t RoundSum(const uint8_t* round, uint32_t i,
                                uint32_t stripes) {
  uint64_t sum = 0;
  for (uint32_t s = 0; s < stripes; ++s) {
    sum += StripeSum(round + s * kStripe, i, 8 * s);
  }
  return sum;
}
ZIPLLM_DEVICE uint64_t Scramble(uint64_t accumulator, uint32_t i) {
  return (accumulator ^ accumulator >> 47 ^ Secret(128 + 8 * i)) * 0x9E3779B1;
}
ZIPLLM_DEVICE uint64_t MergeAccumulators(const uint64_t* accumulators,
                                         uint64_t size) {
  uint64_t hash = size * 0x9E3779B185EBCA87;
  for (uint32_t i = 0; i < kAccumulators; i += 2) {
    const auto product =
        static_cast<unsigned __int128>(accumulators[i] ^ Secret(11 + 8 * i)) *
        (accumulators[i + 1] ^ Secret(19 + 8 * i));
    hash +=
        static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
  }
  hash = (hash ^ hash >> 37) * 0x165667919E3779F9;
  return hash ^ hash >> 32;
}

/// What a CTA shares while it hashes.
struct Xxh3Shared {
  uint64_t sums[kTileRounds][kAccumulators];
  uint64_t accumulators[kAccumulators];
};

/// A CTA hashes `size` > kMinHashed bytes that it wrote; thread 0 may then
/// merge the accumulators.
template <typename Cta>
ZIPLLM_DEVICE void Accumulate(Cta& cta, const uint8_t* data, uint32_t size,
                              Xxh3Shared& shared) {
  const uint32_t rounds = (size - 1) / kRound;  // but for the last
  cta.Each([&](uint32_t thread) {
    if (thread < kAccumulators) {
      shared.accumulators[thread] = kFirstAccumulators[thread];
    }
  });
  for (uint32_t tile = 0; tile < rounds; tile += kTileRounds) {
    cta.Each([&](uint32_t thread) {
      const uint32_t round = thread / kAccumulators, i = thread % kAccumulators;
      if (tile + round < rounds) {
        shared.sums[round][i] =
            RoundSum(data + size_t{tile + round} * kRound, i, kRoundStripes);
      }
    });
    cta.Each([&](uint32_t thread) {
      if (thread >= kAccumulators) return;
      uint64_t accumulator = shared.accumulators[thread];
      for (uint32_t r = 0; r < kTileRounds && tile + r < rounds; ++r) {
        accumulator = Scramble(accumulator + shared.sums[r][thread], thread);
      }
      shared.accumulators[thread] = accumulator;
    });
  }
  cta.Each([&](uint32_t thread) {
    if (thread >= kAccumulators) return;
    const uint8_t* const rest = data + size_t{rounds} * kRound;
    shared.accumulators[thread] +=
        RoundSum(rest, thread, (size - 1) % kRound / kStripe) +
        StripeSum(data + size - kStripe, thread, 121);
  });
}

}  // namespace zipllm::cuda

#endif  // ZIPLLM_CUDA_XXH3_CORE_H_
