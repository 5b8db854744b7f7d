// The i-quants of ggml that take their magnitudes from a grid: IQ1_S, IQ1_M,
// IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S (format-spec/quantizers.md, "Grids").
#ifndef ZIPLLM_QUANTIZERS_GRIDS_H_
#define ZIPLLM_QUANTIZERS_GRIDS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "zipllm/types.h"

namespace zipllm::quantizers {

/// Weights of a block of any of these types.
inline constexpr int kGridBlock = 256;
inline constexpr int kGrids = 6;

/// The points that a type may use: vectors of levels, a few of all there are.
struct Grid {
  int size;
  int width;                   ///< coordinates of a point: 8, or 4
  int bits;                    ///< that a coordinate takes in a code: 2, or 3
  int levels;                  ///< a coordinate is below this: 3, or 8
  int shells;                  ///< distances at which points are neighbours
  int number;                  ///< of the grid, below kGrids
  const uint16_t* codes;       ///< ascending; the first coordinate lowest
  const uint8_t (*points)[8];  ///< their coordinates; 0 from `width` on
  const int16_t* index;        ///< of a code; -1: not on the grid
};

/// How a type's block is made.
struct GridType {
  DType dtype;
  uint16_t bytes;      ///< a block
  uint8_t points;      ///< a block
  uint8_t group;       ///< weights that share a scale: 32 or 16
  uint8_t scale_bits;  ///< of it
  uint8_t sign_group;  ///< weights that share a byte of `signs` below
  /// Signs of 8 weights are even in number: the last one is not stored.
  bool even_signs;
  /// No signs: 1 is added to what levels stand for, or subtracted.
  bool shifts;
  const Grid* grid;
  const int8_t* values;  ///< what levels stand for, times the group's scale
  const int8_t (*numbers)[8];  ///< the same of points
  /// A group's scale is d * (2 * scale + 1) * unit; no product is rounded.
  float unit;
};

/// What a block holds. Each bit of a block belongs to one of these.
struct GridFields {
  uint16_t d;          ///< FP16
  uint8_t scale[16];   ///< kGridBlock / group
  uint16_t index[64];  ///< of points, `points` of them
  /// Of weights 8 i to 8 i + 7, a bit each, the first lowest, set if negative;
  /// of `sign_group` weights, 1 if they are moved down, where the type shifts.
  uint8_t signs[32];
};

/// Null if the type is none of these.
const GridType* FindGridType(DType dtype);

/// Any bytes are valid blocks. Thread-safe.
void UnpackGridBlock(const GridType& type, const uint8_t* block,
                     GridFields* fields);
/// The inverse. What has more bits than there is room for loses the upper ones.
void PackGridBlock(const GridType& type, const GridFields& fields,
                   uint8_t* block);

/// As Dequantize and, if `steps`, Steps of dequantize.h; false for other types.
bool DequantizeGrids(DType dtype, bool steps, const uint8_t* blocks,
                     size_t count, float* out);

/// The points near to each one that is not on the grid: all that are as far as
/// the nearest, then all of the next distance, and so on, for as many distances
/// as the grid's `shells`; by distance, then by index.
struct GridNeighbours {
  /// Lists have a multiple of this many codes: the first one fills them up.
  static constexpr size_t kMultiple = 16;

  std::vector<uint32_t> start;  ///< by code; read where it is not on the grid
  std::vector<uint16_t> lists;  ///< each: its length, then codes of points

  std::span<const uint16_t> Of(uint32_t code) const {
    const uint16_t* list = lists.data() + start[code];
    return {list + 1, list[0]};
  }
};

/// Made when first asked for, in some milliseconds. Thread-safe.
const GridNeighbours& NeighboursOf(const Grid& grid);

/// The bits of signs whose number is made even by the eighth.
constexpr uint8_t EvenSigns(uint32_t seven) {
  uint32_t parity = seven & 127;
  parity ^= parity >> 4;
  parity ^= parity >> 2;
  parity ^= parity >> 1;
  return static_cast<uint8_t>((seven & 127) | (parity & 1) << 7);
}

}  // namespace zipllm::quantizers

#endif  // ZIPLLM_QUANTIZERS_GRIDS_H_
