// What a GPU does with a block (format-spec/gpu.md), as C++ that nvcc compiles
// for the device and any compiler for the CPU. Code says what each lane of a
// warp, or each thread of a CTA, does by functions that it gives to
//
//   warp.Each(f)    calls f(Lane&) for each of the 32 lanes
//   warp.Ballot(f)  the same; bit i of the result is what f said of lane i
//   cta.EachWarp(f) calls f(warp, its number) for each of the 4 warps
//   cta.Each(f)     calls f(thread) for each of the 128 threads
//
// The last two end with a barrier. On the device each thread calls f once, for
// itself (decode.cu); on the CPU loops do (tests/cuda/emulation.h).
//
// The host has checked everything in a Block (batch.cc). What depends on the
// coded bits is checked here: any words, states and bits are safe.
#ifndef ZIPLLM_CUDA_DECODE_CORE_H_
#define ZIPLLM_CUDA_DECODE_CORE_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define ZIPLLM_DEVICE __device__ __forceinline__
#define ZIPLLM_CONSTANT __constant__ const
#else
#define ZIPLLM_DEVICE inline
#define ZIPLLM_CONSTANT inline constexpr
#endif

namespace zipllm::cuda {

inline constexpr uint32_t kLanes = 32;
inline constexpr uint32_t kWarps = 4;
inline constexpr uint32_t kThreads = kLanes * kWarps;

// ---- What the host makes ready ----

/// The alias method's table: slot s lies in bucket b = s / 128, at r = s % 128;
/// its entry is b + (r >= threshold[b] ? 32 : 0). One bank of shared memory a
/// threshold, at most two entries a bank.
struct AliasTable {
  uint32_t threshold[32];
  /// (frequency - 1) | bias << 12 | symbol << 24; the slot's rank is (r + bias)
  /// % 4096.
  uint32_t entry[64];
};

inline constexpr uint32_t kMaxTables = 4;
/// Codec 5's parameters.
struct FloatTables {
  AliasTable tables[kMaxTables];
  uint16_t keys[32];  ///< by symbol, with the flags below
};
/// The low two bits of the key are the stream's next extra bits.
inline constexpr uint32_t kKeyBare = 0x8000;
/// The rest of the key is the stream's next escape. Always with kKeyBare.
inline constexpr uint32_t kKeyEscape = 0x4000;

/// Where a stream's parts begin, in bytes from the block's first, and how many
/// there are.
struct Stream {
  uint32_t states;
  uint32_t words, word_count;
  uint32_t pairs, pair_count;
  uint32_t escapes, escape_count;
};

enum PlaneMode : uint32_t { kZero = 0, kGroups = 1, kRuns = 2 };
/// A plane's groups, all of them or those that the bitmap has.
struct Plane {
  uint32_t mode;
  uint32_t groups;  ///< bytes from the block's first
  uint32_t bitmap;  ///< likewise
};
inline constexpr uint32_t kMaxPlanes = 9;

enum BlockKind : uint32_t { kCopy = 0, kBf16 = 1, kFp16 = 2, kFp32 = 3 };

/// One block's work.
struct Block {
  uint64_t in;     ///< where its bytes begin in the batch's
  uint64_t out;    ///< where what it decodes to begins in the output
  uint64_t hash;   ///< XXH3 of that; not looked at for kCopy
  uint32_t size;   ///< bytes of that; above kMinHashed but for kCopy
  uint32_t kind;   ///< BlockKind
  uint32_t table;  ///< which of the batch's FloatTables
  uint32_t streams;
  uint32_t selectors;  ///< bytes from the block's first; 0: one table
  Stream stream[kWarps];
  Plane plane[kMaxPlanes];
};

enum Result : uint32_t {
  kOk = 0,
  kWrongEnd = 1,  ///< a stream does not end where it should
  kWrongHash = 2
};

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
/// From memory that this kernel wrote; fast where `p` is aligned.
ZIPLLM_DEVICE uint64_t LoadWritten64(const uint8_t* p) {
#ifdef __CUDACC__
  if (reinterpret_cast<uintptr_t>(p) % sizeof(uint64_t) == 0) {
    return *reinterpret_cast<const uint64_t*>(p);
  }
  uint64_t value = 0;
  for (uint32_t i = 0; i < 8; ++i) value |= uint64_t{p[i]} << (8 * i);
  return value;
#else
  uint64_t value;
  std::memcpy(&value, p, sizeof value);
  return value;
#endif
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

// ---- Codec 5 (format-spec/codecs/5-float.md) ----

inline constexpr uint32_t kStateLow = 1u << 16;
inline constexpr uint32_t kChunk = 1024;  // elements of a selector
inline constexpr uint32_t kGroup = 128;   // elements of a plane's group

/// What a thread holds of its lane.
struct Lane {
  uint32_t index;  ///< 0 to 31
  uint32_t state;
  uint32_t key;
  uint32_t value;  ///< the element

  /// How many lanes below this one are in `mask`.
  ZIPLLM_DEVICE uint32_t Rank(uint32_t mask) const {
    return CountBits(mask & ((1u << index) - 1));
  }
};

/// Bits [shift, shift + width) of an element.
struct PlaneShape {
  uint32_t width;
  uint32_t shift;
};

/// The bits that element i of a group has in a plane.
template <uint32_t kWidth>
ZIPLLM_DEVICE uint32_t PlaneBits(const uint8_t* group, uint32_t i) {
  static_assert(kWidth == 1 || kWidth == 4 || kWidth == 8);
  if constexpr (kWidth == 1) return Load8(group + i / 8) >> (i % 8) & 1;
  if constexpr (kWidth == 4) return Load8(group + i % 64) >> (i / 64 * 4) & 15;
  if constexpr (kWidth == 8) return Load8(group + i);
}

/// A kind of elements: shifts are those of the whole element.
template <typename T, uint32_t kShift, PlaneShape... kShapes>
struct FloatKind {
  using Element = T;
  static constexpr uint32_t kKeyShift = kShift;
  static constexpr uint32_t kPlanes = sizeof...(kShapes);

  /// Adds the planes' bits to the values of the warp's elements, `first` to
  /// `first` + 31. `next` has where each plane's group stands; the warp's last
  /// elements of a group move it on.
  template <typename Warp>
  ZIPLLM_DEVICE static void AddPlanes(Warp& warp, const Block& block,
                                      const uint8_t* bytes, uint32_t first,
                                      uint32_t* next) {
    const bool last =
        block.streams == kWarps || first % kGroup == kGroup - kLanes;
    uint32_t p = 0;
    ((AddPlane<kShapes>(warp, block.plane[p], bytes, first, last, next[p]),
      ++p),
     ...);
  }

 private:
  template <PlaneShape kShape, typename Warp>
  ZIPLLM_DEVICE static void AddPlane(Warp& warp, const Plane& plane,
                                     const uint8_t* bytes, uint32_t first,
                                     bool last, uint32_t& next) {
    if (plane.mode == kZero) return;
    const uint32_t group = first / kGroup;
    if (plane.mode == kRuns &&
        (Load8(bytes + plane.bitmap + group / 8) >> (group % 8) & 1) == 0) {
      return;
    }
    warp.Each([&](Lane& lane) {
      lane.value |=
          PlaneBits<kShape.width>(bytes + next, first % kGroup + lane.index)
          << kShape.shift;
    });
    if (last) next += 16 * kShape.width;
  }
};

using Bf16 = FloatKind<uint16_t, 5, PlaneShape{4, 0}, PlaneShape{1, 4},
                       PlaneShape{1, 15}>;
using Fp16 =
    FloatKind<uint16_t, 8, PlaneShape{1, 0}, PlaneShape{1, 1}, PlaneShape{1, 2},
              PlaneShape{4, 3}, PlaneShape{1, 7}, PlaneShape{1, 15}>;
using Fp32 = FloatKind<uint32_t, 21, PlaneShape{8, 0}, PlaneShape{4, 8},
                       PlaneShape{1, 12}, PlaneShape{1, 13}, PlaneShape{1, 14},
                       PlaneShape{1, 15}, PlaneShape{4, 16}, PlaneShape{1, 20},
                       PlaneShape{1, 31}>;

/// Moves a state on by its symbol, which it returns.
ZIPLLM_DEVICE uint32_t NextSymbol(const AliasTable& table, uint32_t& state) {
  const uint32_t bucket = state >> 7 & 31;
  const uint32_t r = state & 127;
  const uint32_t entry =
      table.entry[bucket + (r >= table.threshold[bucket] ? 32 : 0)];
  state = ((entry & 4095) + 1) * (state >> 12) + ((r + (entry >> 12)) & 4095);
  return entry >> 24;
}

/// A warp decodes stream `number` of a block to final elements. False where
/// the stream does not end as it must. Reads nothing outside the block's parts
/// and writes nothing outside its output.
template <typename Kind, typename Warp>
ZIPLLM_DEVICE bool DecodeStream(Warp& warp, const Block& block,
                                const FloatTables& tables, uint32_t number,
                                const uint8_t* bytes, uint8_t* out) {
  using Element = typename Kind::Element;
  const Stream& stream = block.stream[number];
  const uint32_t count = block.size / sizeof(Element);
  const uint32_t step = kLanes * block.streams;
  const uint32_t steps = (count + step - 1) / step;
  uint32_t words = 0, pairs = 0, escapes = 0;  // taken, or missed
  uint32_t next[Kind::kPlanes];
  for (uint32_t p = 0; p < Kind::kPlanes; ++p) next[p] = block.plane[p].groups;
  const uint8_t* const word_bytes = bytes + stream.words;

  warp.Each([&](Lane& lane) {
    lane.state = Load32(bytes + stream.states + 4 * lane.index);
  });
  for (uint32_t t = 0; t < steps; ++t) {
    const uint32_t first = t * step + kLanes * number;
    const uint32_t chunk = first / kChunk;
    const uint32_t selector =
        block.selectors == 0
            ? 0
            : Load8(bytes + block.selectors + chunk / 4) >> (chunk % 4 * 2) & 3;
    const AliasTable& table = tables.tables[selector];

    const uint32_t hungry = warp.Ballot([&](Lane& lane) {
      lane.key = tables.keys[NextSymbol(table, lane.state)];
      return lane.state < kStateLow;
    });
    const uint32_t bare =
        warp.Ballot([&](Lane& lane) { return (lane.key & kKeyBare) != 0; });
    warp.Each([&](Lane& lane) {
      if (lane.state >= kStateLow) return;
      const uint32_t word = words + lane.Rank(hungry);
      lane.state <<= 16;
      if (word < stream.word_count) lane.state |= Load16(word_bytes + 2 * word);
    });
    words += CountBits(hungry);
    if (bare != 0) {
      const uint32_t escaped =
          warp.Ballot([&](Lane& lane) { return (lane.key & kKeyEscape) != 0; });
      warp.Each([&](Lane& lane) {
        if ((lane.key & kKeyBare) == 0) return;
        const uint32_t pair = pairs + lane.Rank(bare);
        if (pair < stream.pair_count) {
          lane.key |=
              Load8(bytes + stream.pairs + pair / 4) >> (pair % 4 * 2) & 3;
        }
        const uint32_t escape = escapes + lane.Rank(escaped);
        if ((lane.key & kKeyEscape) != 0 && escape < stream.escape_count) {
          lane.key |= Load8(bytes + stream.escapes + escape) << 2;
        }
        lane.key &= ~(kKeyBare | kKeyEscape);
      });
      pairs += CountBits(bare);
      escapes += CountBits(escaped);
    }

    warp.Each([&](Lane& lane) { lane.value = lane.key << Kind::kKeyShift; });
    Kind::AddPlanes(warp, block, bytes, first, next);
    warp.Each([&](Lane& lane) {
      const uint32_t i = first + lane.index;
      if (i < count) {
        Store(out + size_t{i} * sizeof(Element),
              static_cast<Element>(lane.value));
      }
    });
  }
  const uint32_t ended =
      warp.Ballot([&](Lane& lane) { return lane.state == kStateLow; });
  return ended == ~0u && words == stream.word_count &&
         pairs == stream.pair_count && escapes == stream.escape_count;
}

// ---- XXH3-64, seed 0, of more than 240 bytes ----
//
// Eight accumulators take 16 stripes of 64 bytes a round, then are scrambled.
// What a round's stripes add does not depend on what was there before: threads
// sum 16 rounds at once, and eight lanes chain the sums.

inline constexpr uint32_t kMinHashed = 240;  ///< more bytes than this
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

// ---- A block ----

/// A CTA's shared memory.
struct Shared {
  Block block;
  FloatTables tables;
  uint64_t sums[kTileRounds][kAccumulators];
  uint64_t accumulators[kAccumulators];
  uint32_t result;
};

/// A CTA hashes `size` > kMinHashed bytes that it wrote; thread 0 may then
/// merge the accumulators.
template <typename Cta>
ZIPLLM_DEVICE void Accumulate(Cta& cta, const uint8_t* data, uint32_t size,
                              Shared& shared) {
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

/// A CTA decodes `block` from the batch's bytes `in` into `out` and says how it
/// went. What a wrong block leaves in its output is not defined.
template <typename Cta>
ZIPLLM_DEVICE void DecodeBlock(Cta& cta, Shared& shared, const Block* block_at,
                               const FloatTables* tables, const uint8_t* in,
                               uint8_t* out, bool check_hash,
                               uint32_t* result) {
  CopyToShared(cta, block_at, &shared.block);
  const Block& block = shared.block;
  in += block.in;
  out += block.out;
  if (block.kind == kCopy) {
    cta.Each([&](uint32_t thread) {
      for (uint32_t i = thread; i < block.size; i += kThreads) {
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
  cta.EachWarp([&](auto& warp, uint32_t number) {
    if (number >= block.streams) return;
    const auto decode = [&](auto kind) {
      return DecodeStream<decltype(kind)>(warp, block, shared.tables, number,
                                          in, out);
    };
    const bool ok = block.kind == kBf16   ? decode(Bf16())
                    : block.kind == kFp16 ? decode(Fp16())
                                          : decode(Fp32());
    if (!ok) shared.result = kWrongEnd;  // whichever thread writes it
  });
  if (check_hash && shared.result == kOk) {
    Accumulate(cta, out, block.size, shared);
  }
  cta.Each([&](uint32_t thread) {
    if (thread != 0) return;
    if (check_hash && shared.result == kOk &&
        MergeAccumulators(shared.accumulators, block.size) != block.hash) {
      shared.result = kWrongHash;
    }
    *result = shared.result;
  });
}

}  // namespace zipllm::cuda

#endif  // ZIPLLM_CUDA_DECODE_CORE_H_
