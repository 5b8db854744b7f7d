// What encoder and decoder of codec 5 share: the kinds of elements and the
// shape of a block. Format: format-spec/codecs/5-float.md.
#ifndef ZIPLLM_CODECS_TENSOR_FLOAT_FORMAT_H_
#define ZIPLLM_CODECS_TENSOR_FLOAT_FORMAT_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "codecs/tensor/bit_planes.h"
#include "codecs/tensor/kinds.h"
#include "kernels/kernels.h"

namespace zipllm::codecs::float_format {

/// A kind of elements. A key is (unit >> key_shift) & key_mask: the exponent
/// and the top two bits of the mantissa.
struct Kind {
  DType dtype;
  uint8_t number;
  uint8_t element_size;
  uint8_t key_shift;
  uint16_t key_mask;
  kernels::UnitKind unit_kind;
  std::span<const Plane> planes;  // those of low halves first

  constexpr uint32_t Key(uint16_t unit) const {
    return (uint32_t{unit} >> key_shift) & key_mask;
  }
  constexpr uint32_t max_exponent() const { return key_mask >> 2; }
  constexpr size_t low_planes() const {
    size_t count = 0;
    while (planes[count].low) ++count;
    return count;
  }
};

inline constexpr std::array kBf16Planes = {
    Plane{4, 0, false}, Plane{1, 4, false}, Plane{1, 15, false}};
inline constexpr std::array kFp16Planes = {
    Plane{1, 0, false}, Plane{1, 1, false}, Plane{1, 2, false},
    Plane{4, 3, false}, Plane{1, 7, false}, Plane{1, 15, false}};
inline constexpr std::array kFp32Planes = {
    Plane{8, 0, true},  Plane{4, 8, true},  Plane{1, 12, true},
    Plane{1, 13, true}, Plane{1, 14, true}, Plane{1, 15, true},
    Plane{4, 0, false}, Plane{1, 4, false}, Plane{1, 15, false}};
inline constexpr std::array kKinds = {
    Kind{DType::kBF16, 1, 2, 5, 1023, kernels::UnitKind::kBf16, kBf16Planes},
    Kind{DType::kF16, 2, 2, 8, 127, kernels::UnitKind::kFp16, kFp16Planes},
    Kind{DType::kF32, 3, 4, 5, 1023, kernels::UnitKind::kBf16, kFp32Planes},
};
static_assert(kFp32Planes.size() <= kMaxPlanes);

/// Elements that share a table; what a selector is for.
inline constexpr size_t kChunk = kernels::kUnitChunk;
inline constexpr size_t kMaxTables = 4;
/// Exponents that can be listed: symbols but for the escape.
inline constexpr size_t kMaxExponents = kernels::kMaxSymbols - 1;
/// Blocks of as many elements have four streams.
inline constexpr size_t kFourStreams = 65536;

/// How a block of `elements` (at least 1) is laid out.
struct Shape {
  explicit Shape(size_t elements)
      : count(elements),
        streams(elements >= kFourStreams ? 4 : 1),
        step(kernels::kLanes * static_cast<size_t>(streams)),
        steps((elements + step - 1) / step),
        chunks((elements + kChunk - 1) / kChunk),
        groups(PlaneGroups(elements)) {}
  /// Elements of chunk `c`, without padding.
  size_t ChunkCount(size_t c) const {
    return c + 1 < chunks ? kChunk : count - c * kChunk;
  }
  /// Steps of chunk `c`.
  size_t ChunkSteps(size_t c) const {
    return (ChunkCount(c) + step - 1) / step;
  }

  size_t count;   // elements
  int streams;    // 1 or 4
  size_t step;    // elements of a step
  size_t steps;   // of each stream
  size_t chunks;  // of kChunk elements
  size_t groups;  // of kernels::kGroup elements
};

}  // namespace zipllm::codecs::float_format

#endif  // ZIPLLM_CODECS_TENSOR_FLOAT_FORMAT_H_
