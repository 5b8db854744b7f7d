// Codec 5 on the device (format-spec/codecs/5-float.md, gpu.md). Any words,
// states and bits are safe.
#ifndef ZIPLLM_CUDA_FLOAT_CORE_H_
#define ZIPLLM_CUDA_FLOAT_CORE_H_

#include <cstddef>
#include <cstdint>

#include "cuda/blocks.h"
#include "cuda/core.h"

namespace zipllm::cuda {

inline constexpr uint32_t kStateLow = 1u << 16;
inline constexpr uint32_t kChunk = 1024;  // elements of a selector

/// Bits [shift, shift + width) of an element.
struct PlaneShape {
  uint32_t width;
  uint32_t shift;
};

/// A kind of elements: shifts are those of the whole element.
template <typename T, uint32_t kShift, PlaneShape... kShapes>
struct FloatKind {
  using Element = T;
  static constexpr uint32_t kKeyShift = kShift;
  static constexpr uint32_t kPlanes = sizeof...(kShapes);

  /// Where the planes of a block stand for one warp.
  struct Planes {
    const uint8_t* next[kPlanes];  ///< the next group; null: all bits are 0
    uint32_t runs;                 ///< bit p: plane p has a bitmap

    ZIPLLM_DEVICE Planes(const FloatParts& parts, const uint8_t* bytes)
        : runs(0) {
      for (uint32_t p = 0; p < kPlanes; ++p) {
        const Plane& plane = parts.plane[p];
        next[p] = plane.mode == kZero ? nullptr : bytes + plane.groups;
        runs |= (plane.mode == kRuns ? 1u : 0u) << p;
      }
    }
    /// Adds the planes' bits to the values of the warp's elements, `first` to
    /// `first` + 31; `last` where these are its last ones of a group.
    template <typename Warp>
    ZIPLLM_DEVICE void Add(Warp& warp, const FloatParts& parts,
                           const uint8_t* bytes, uint32_t first, bool last) {
      uint32_t p = 0;
      ((AddPlane<kShapes>(warp, parts, bytes, first, last, p), ++p), ...);
    }

   private:
    template <PlaneShape kShape, typename Warp>
    ZIPLLM_DEVICE void AddPlane(Warp& warp, const FloatParts& parts,
                                const uint8_t* bytes, uint32_t first, bool last,
                                uint32_t p) {
      if (next[p] == nullptr) return;
      if ((runs >> p & 1) != 0) {
        const uint32_t group = first / kGroup;
        const uint8_t* const bitmap = bytes + parts.plane[p].bitmap;
        if ((Load8(bitmap + group / 8) >> (group % 8) & 1) == 0) return;
      }
      warp.Each([&](Lane& lane) {
        lane.value |=
            GroupBits<kShape.width>(next[p], first % kGroup + lane.index)
            << kShape.shift;
      });
      if (last) next[p] += 16 * kShape.width;
    }
  };
};

using FloatBf16 = FloatKind<uint16_t, 5, PlaneShape{4, 0}, PlaneShape{1, 4},
                            PlaneShape{1, 15}>;
using FloatFp16 =
    FloatKind<uint16_t, 8, PlaneShape{1, 0}, PlaneShape{1, 1}, PlaneShape{1, 2},
              PlaneShape{4, 3}, PlaneShape{1, 7}, PlaneShape{1, 15}>;
using FloatFp32 =
    FloatKind<uint32_t, 21, PlaneShape{8, 0}, PlaneShape{4, 8},
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
ZIPLLM_DEVICE bool DecodeStream(Warp& warp, const FloatParts& parts,
                                const FloatTables& tables, uint32_t size,
                                uint32_t number, const uint8_t* bytes,
                                uint8_t* out) {
  using Element = typename Kind::Element;
  const Stream stream = parts.stream[number];
  const uint32_t count = size / sizeof(Element);
  const uint32_t step = kLanes * parts.streams;
  const uint8_t* const word_bytes = bytes + stream.words;
  typename Kind::Planes planes(parts, bytes);
  uint32_t words = 0, pairs = 0, escapes = 0;  // taken, or missed

  warp.Each([&](Lane& lane) {
    lane.state = Load32(bytes + stream.states + 4 * lane.index);
  });
  // A step is 32 elements of each stream; all of it lies in one chunk.
  const AliasTable* table = tables.tables;
  for (uint32_t start = 0; start < count; start += step) {
    const uint32_t first = start + kLanes * number;
    if (parts.selectors != 0 && start % kChunk == 0) {
      const uint32_t chunk = start / kChunk;
      const uint32_t byte = Load8(bytes + parts.selectors + chunk / 4);
      table = tables.tables + (byte >> (chunk % 4 * 2) & 3);
    }

    const uint32_t hungry = warp.Ballot([&](Lane& lane) {
      lane.key = tables.keys[NextSymbol(*table, lane.state)];
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
    planes.Add(warp, parts, bytes, first,
               step == kGroup || first % kGroup == kGroup - kLanes);
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

}  // namespace zipllm::cuda

#endif  // ZIPLLM_CUDA_FLOAT_CORE_H_
