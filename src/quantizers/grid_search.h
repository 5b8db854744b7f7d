// Cheap guesses at what blocks of grid types hold, given the weights that they
// came from (format-spec/codecs/19-derived.md, "Grids"): what codec 19 predicts
// such blocks by where their quantizer is not known. Bits are the same on every
// machine.
#ifndef ZIPLLM_QUANTIZERS_GRID_SEARCH_H_
#define ZIPLLM_QUANTIZERS_GRID_SEARCH_H_

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"
#include "quantizers/grids.h"

namespace zipllm::quantizers {

/// The points that are looked at.
inline constexpr int kCandidates = 16;
/// Places are in these parts of the distance between levels.
inline constexpr int kPlaceUnit = 128;
/// Classes of how sure a guess is: below.
inline constexpr int kSearchClasses = 16;
inline constexpr int kSignClasses = 8;
inline constexpr int kShiftClasses = 4;

/// By levels, the first coordinate lowest, in base `levels`: the codes of the
/// nearest points, by distance, then by index.
struct alignas(32) GridCandidates {
  uint16_t codes[kCandidates];
};
/// Made when first asked for, in some milliseconds. Thread-safe.
const GridCandidates* CandidatesOf(const Grid& grid);

/// Where the weights of a group lie between levels: at weight * `factor` +
/// `offset` (of the weight's magnitude where the type has signs), in units of
/// 1 / kPlaceUnit.
struct GridPlacing {
  float factor;
  float offset;
};

struct GridKernels {
  /// About what a quantizer takes as the scale of each of `groups` groups.
  void (*scales)(const GridType& type, const float* weights, size_t groups,
                 float* scales);
  /// Of each 8 weights: a bit each, the first lowest, set where the weight is
  /// below zero; which is nearest to zero, the first of them; a class by how
  /// much nearer it is than the next.
  void (*signs)(const float* weights, size_t eights, uint8_t* signs,
                uint8_t* least, uint8_t* classes);
  /// Codes of the nearest candidates of each point of `blocks` blocks, and a
  /// class by how much further the second is. `placings` has one for each 8
  /// weights, `flips` a byte of signs.
  void (*search)(const GridType& type, const GridCandidates* candidates,
                 const float* weights, const GridPlacing* placings,
                 const uint8_t* flips, size_t blocks, uint16_t* codes,
                 uint8_t* classes);
  /// As search for the point that begins at weight `at` of 8 weights: the
  /// `count` (at most kCandidates) nearest candidates, the nearest first.
  void (*rank)(const GridType& type, const GridCandidates* candidates,
               const float* weights, GridPlacing placing, uint8_t flips, int at,
               int count, uint16_t* codes);
};

/// The fastest for this machine.
const GridKernels& BestGridKernels();
/// Null where the machine lacks it.
const GridKernels* FindGridKernels(kernels::Target target);

extern const GridKernels kGridKernelsScalar;
#if defined(__x86_64__)
extern const GridKernels kGridKernelsAvx2;
extern const GridKernels kGridKernelsAvx512;
#endif

}  // namespace zipllm::quantizers

#endif  // ZIPLLM_QUANTIZERS_GRID_SEARCH_H_
