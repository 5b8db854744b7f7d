// What a CTA does with a block (format-spec/gpu.md).
#ifndef ZIPLLM_CUDA_DECODE_CORE_H_
#define ZIPLLM_CUDA_DECODE_CORE_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "cuda/blocks.h"
#include "cuda/cascade_core.h"
#include "cuda/core.h"
#include "cuda/float_core.h"
#include "cuda/xxh3_core.h"

namespace zipllm::cuda {

/// A CTA's shared memory.
struct Shared {
  Block block;
  Tables tables;
  CascadeShared cascade;
  Xxh3Shared hash;
  uint32_t result;
};

/// A CTA copies words to its shared memory; `T` is made of such.
template <typename Cta, typename T>
ZIPLLM_DEVICE void CopyToShared(Cta& cta, const T* from, T* to) {
  static_assert(sizeof(T) % sizeof(uint32_t) == 0);
  cta.Each([&](uint32_t thread) {
    for (size_t i = thread; i < sizeof(T) / sizeof(uint32_t); i += kThreads) {
      std::memcpy(reinterpret_cast<char*>(to) + i * sizeof(uint32_t),
                  reinterpret_cast<const char*>(from) + i * sizeof(uint32_t),
                  sizeof(uint32_t));
    }
  });
}

template <typename Kind, typename Cta>
ZIPLLM_DEVICE void DecodeFloat(Cta& cta, Shared& shared, const uint8_t* bytes,
                               uint8_t* out) {
  const FloatParts& parts = shared.block.floats;
  cta.EachWarp([&](auto& warp, uint32_t number) {
    if (number < parts.streams &&
        !DecodeStream<Kind>(warp, parts, shared.tables.floats,
                            shared.block.size, number, bytes, out)) {
      shared.result = kWrongEnd;  // whichever thread writes it
    }
  });
}

template <typename Kind, typename Cta>
ZIPLLM_DEVICE void DecodeCascade(Cta& cta, Shared& shared, const uint8_t* bytes,
                                 uint8_t* out) {
  const CascadeParts& parts = shared.block.cascade;
  const CascadeLayers& layers = shared.tables.cascade;
  const uint32_t group_size = kGroup * sizeof(typename Kind::Element);
  const uint32_t groups = (shared.block.size + group_size - 1) / group_size;
  const bool ok =
      CountEscapes(cta, parts, layers, groups, bytes, shared.cascade);
  cta.EachWarp([&](auto& warp, uint32_t number) {
    if (ok) {
      DecodeGroups<Kind>(warp, parts, layers, shared.block.size, number,
                         shared.cascade, bytes, out);
    } else {
      shared.result = kWrongEnd;
    }
  });
}

/// A CTA decodes `block` from the batch's bytes `in` into `out` and says how it
/// went. What a wrong block leaves in its output is not defined.
template <typename Cta>
ZIPLLM_DEVICE void DecodeBlock(Cta& cta, Shared& shared, const Block* block_at,
                               const Tables* tables, const uint8_t* in,
                               uint8_t* out, bool check_hash,
                               uint32_t* result) {
  CopyToShared(cta, block_at, &shared.block);
  const Block& block = shared.block;
  in += block.in;
  out += block.out;
  if (block.kind == kCopy) {
    cta.Each([&](uint32_t thread) {
      for (size_t i = thread; i < block.size; i += kThreads) {
        out[i] = static_cast<uint8_t>(Load8(in + i));
      }
      if (thread == 0) *result = kOk;
    });
    return;
  }
  CopyToShared(cta, tables + block.table, &shared.tables);
  cta.Each([&](uint32_t thread) {
    if (thread == 0) shared.result = kOk;
  });
  switch (block.kind) {
    case kFloatBf16:
      DecodeFloat<FloatBf16>(cta, shared, in, out);
      break;
    case kFloatFp16:
      DecodeFloat<FloatFp16>(cta, shared, in, out);
      break;
    case kFloatFp32:
      DecodeFloat<FloatFp32>(cta, shared, in, out);
      break;
    case kCascadeBf16:
      DecodeCascade<CascadeBf16>(cta, shared, in, out);
      break;
    case kCascadeFp16:
      DecodeCascade<CascadeFp16>(cta, shared, in, out);
      break;
    case kCascadeFp32:
      DecodeCascade<CascadeFp32>(cta, shared, in, out);
      break;
  }
  if (check_hash && shared.result == kOk) {
    Accumulate(cta, out, block.size, shared.hash);
  }
  cta.Each([&](uint32_t thread) {
    if (thread != 0) return;
    if (check_hash && shared.result == kOk &&
        MergeAccumulators(shared.hash.accumulators, block.size) != block.hash) {
      shared.result = kWrongHash;
    }
    *result = shared.result;
  });
}

}  // namespace zipllm::cuda

#endif  // ZIPLLM_CUDA_DECODE_CORE_H_
