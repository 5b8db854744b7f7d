// Codec 7 on the device (format-spec/codecs/7-cascade.md, gpu.md). A lane
// follows its element down the layers: ballots of the escapes give the place of
// its code in the next one.
#ifndef ZIPLLM_CUDA_CASCADE_CORE_H_
#define ZIPLLM_CUDA_CASCADE_CORE_H_

#include <cstddef>
#include <cstdint>

#include "cuda/blocks.h"
#include "cuda/core.h"

namespace zipllm::cuda {

/// Code `place` of a layer.
ZIPLLM_DEVICE uint32_t CodeAt(const uint8_t* codes, uint32_t width,
                              uint32_t place) {
  const uint8_t* const group = codes + size_t{place / kGroup} * (16 * width);
  const uint32_t i = place % kGroup;
  return width == 1   ? GroupBits<1>(group, i)
         : width == 2 ? GroupBits<2>(group, i)
                      : GroupBits<4>(group, i);
}

/// Reads the runs of a block, forwards.
class CascadeRuns {
 public:
  ZIPLLM_DEVICE CascadeRuns(const CascadeParts& parts, const uint8_t* bytes)
      : next_(bytes + parts.runs), left_(parts.run_count) {
    Advance();
  }
  /// The run of `group`; no lower than those asked for before.
  ZIPLLM_DEVICE const CascadeRun& Of(uint32_t group) {
    while (left_ != 0 && Load32(next_) <= group) Advance();
    return run_;
  }
  /// Groups before `group` that are not kNothing.
  ZIPLLM_DEVICE uint32_t PresentBefore(uint32_t group) {
    const CascadeRun& run = Of(group);
    return run.present + (run.mode == kNothing ? 0 : group - run.first);
  }

 private:
  ZIPLLM_DEVICE void Advance() {
    run_ = {Load32(next_), Load32(next_ + 4), Load32(next_ + 8),
            Load32(next_ + 12)};
    next_ += 16;
    --left_;
  }
  CascadeRun run_;
  const uint8_t* next_;
  uint32_t left_;
};

/// The groups of a warp are `FirstGroup(groups, number)` to that of the next.
ZIPLLM_DEVICE uint32_t FirstGroup(uint32_t groups, uint32_t number) {
  return static_cast<uint32_t>(uint64_t{groups} * number / kWarps);
}

/// What a CTA shares while it decodes.
struct CascadeShared {
  /// Where each warp's codes begin in each layer, and in the raw exponents.
  uint32_t begin[kMaxLayers + 1][kWarps];
  uint32_t escapes[kWarps];
  bool ok;
};

/// A CTA counts the escapes of all layers: finds where its warps' codes begin.
/// False where a layer's escapes do not fit the next.
template <typename Cta>
ZIPLLM_DEVICE bool CountEscapes(Cta& cta, const CascadeParts& parts,
                                const CascadeLayers& layers, uint32_t groups,
                                const uint8_t* bytes, CascadeShared& shared) {
  cta.EachWarp([&](auto&, uint32_t number) {
    CascadeRuns runs(parts, bytes);
    const uint32_t first = FirstGroup(groups, number);
    shared.begin[0][number] = runs.PresentBefore(first) * kGroup;
  });
  for (uint32_t k = 0; k < layers.count; ++k) {
    const uint32_t width = layers.width[k];
    const uint8_t* const codes = bytes + parts.codes[k];
    cta.EachWarp([&](auto& warp, uint32_t number) {
      const uint32_t end = number + 1 < kWarps ? shared.begin[k][number + 1]
                                               : parts.groups[k] * kGroup;
      shared.escapes[number] = warp.Sum([&](Lane& lane) {
        uint32_t count = 0;
        for (uint32_t place = shared.begin[k][number] + lane.index; place < end;
             place += kLanes) {
          count += CodeAt(codes, width, place) == (1u << width) - 1 ? 1 : 0;
        }
        return count;
      });
    });
    cta.Each([&](uint32_t thread) {
      if (thread != 0) return;
      uint32_t sum = 0;
      for (uint32_t number = 0; number < kWarps; ++number) {
        shared.begin[k + 1][number] = sum;
        sum += shared.escapes[number];
      }
      shared.ok = k + 1 == layers.count
                      ? sum == parts.raw_count
                      : (sum + kGroup - 1) / kGroup == parts.groups[k + 1];
    });
    if (!shared.ok) return false;
  }
  return true;
}

/// A kind of elements: `kLowBytes` is what an element's low bits take in a
/// list, 0 where it has none.
template <typename T, uint32_t kShift, uint32_t kThreeAt, uint32_t kLowBytes>
struct CascadeKind {
  using Element = T;
  static constexpr uint32_t kFewBytes = 1 + kLowBytes;
  static constexpr bool kHasLow = kLowBytes != 0;

  ZIPLLM_DEVICE static uint32_t Join(uint32_t exponent, uint32_t rest) {
    return (rest & 1) << (8 * sizeof(T) - 1) | (exponent << 7 | rest >> 1)
                                                   << kShift;
  }
  /// Low bits of element i of a group.
  ZIPLLM_DEVICE static uint32_t Low(uint32_t mode, const uint8_t* low,
                                    uint32_t i) {
    if (mode == kAll) return Load16(low + 2 * i);
    if (mode != kThree) return 0;
    return (GroupBits<1>(low, i) | GroupBits<1>(low + 16, i) << 1 |
            GroupBits<1>(low + 32, i) << 2)
           << kThreeAt;
  }
  /// Low bits of a listed element.
  ZIPLLM_DEVICE static uint32_t Few(const uint8_t* p) {
    return kLowBytes == 1 ? Load8(p) : Load16(p);
  }
};
using CascadeBf16 = CascadeKind<uint16_t, 0, 0, 0>;
using CascadeFp16 = CascadeKind<uint16_t, 3, 0, 1>;
using CascadeFp32 = CascadeKind<uint32_t, 16, 13, 2>;

/// A warp decodes its groups of a block to final elements. CountEscapes has
/// said that all fits.
template <typename Kind, typename Warp>
ZIPLLM_DEVICE void DecodeGroups(Warp& warp, const CascadeParts& parts,
                                const CascadeLayers& layers, uint32_t size,
                                uint32_t number, const CascadeShared& shared,
                                const uint8_t* bytes, uint8_t* out) {
  using Element = typename Kind::Element;
  const uint32_t count = size / sizeof(Element);
  const uint32_t groups = (count + kGroup - 1) / kGroup;
  uint32_t at[kMaxLayers + 1];  // the next code, by layer
  ZIPLLM_UNROLL for (uint32_t k = 0; k <= kMaxLayers; ++k) {
    at[k] = k <= layers.count ? shared.begin[k][number] : 0;
  }
  CascadeRuns runs(parts, bytes);
  const uint32_t end = FirstGroup(groups, number + 1);
  for (uint32_t group = FirstGroup(groups, number); group < end; ++group) {
    const CascadeRun& run = runs.Of(group);
    const uint32_t mode = run.mode;
    const uint8_t* const low =
        bytes + run.low +
        size_t{group - run.first} * (mode == kThree ? kThreeBytes : kAllBytes);
    for (uint32_t in_group = 0; in_group < kGroup; in_group += kLanes) {
      warp.Each([&](Lane& lane) { lane.value = 0; });
      if (mode != kNothing) {
        warp.Each([&](Lane& lane) {
          lane.place = at[0] + lane.index;
          lane.escaped = true;
        });
        ZIPLLM_UNROLL for (uint32_t k = 0; k < kMaxLayers; ++k) {
          if (k == layers.count) break;
          const uint32_t width = layers.width[k];
          const uint32_t escaped = warp.Ballot([&](Lane& lane) {
            if (!lane.escaped) return false;
            const uint32_t code =
                CodeAt(bytes + parts.codes[k], width, lane.place);
            lane.value = layers.exponents[k][code];
            lane.escaped = code == (1u << width) - 1;
            return lane.escaped;
          });
          if (escaped == 0) break;
          warp.Each([&](Lane& lane) {
            if (lane.escaped) lane.place = at[k + 1] + lane.Rank(escaped);
          });
          at[k + 1] += CountBits(escaped);
        }
        warp.Each([&](Lane& lane) {
          if (lane.escaped) lane.value = Load8(bytes + parts.raw + lane.place);
          const uint32_t rest = Load8(bytes + parts.rests + at[0] + lane.index);
          lane.value = Kind::Join(lane.value, rest);
          if constexpr (Kind::kHasLow) {
            lane.value |= Kind::Low(mode, low, in_group + lane.index);
          }
        });
        at[0] += kLanes;
      }
      warp.Each([&](Lane& lane) {
        const uint32_t i = group * kGroup + in_group + lane.index;
        if (i < count) {
          Store(out + size_t{i} * sizeof(Element),
                static_cast<Element>(lane.value));
        }
      });
    }
    if (Kind::kHasLow && mode == kFew) {
      warp.Sync();
      warp.Each([&](Lane& lane) {
        const uint32_t listed = Load8(low);
        for (uint32_t n = lane.index; n < listed; n += kLanes) {
          const uint8_t* const few = low + 1 + n * Kind::kFewBytes;
          const uint32_t i = group * kGroup + Load8(few);
          if (i >= count) continue;
          uint8_t* const element = out + size_t{i} * sizeof(Element);
          Store(element, static_cast<Element>(LoadWritten<Element>(element) |
                                              Kind::Few(few + 1)));
        }
      });
    }
  }
}

}  // namespace zipllm::cuda

#endif  // ZIPLLM_CUDA_CASCADE_CORE_H_
