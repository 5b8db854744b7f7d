// Samples of tensors, by which those that may be related are told from others
// without reading them whole.
#ifndef ZIPLLM_ARCHIVE_SKETCH_H_
#define ZIPLLM_ARCHIVE_SKETCH_H_

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "zipllm/types.h"

namespace zipllm::archive {

/// How elements of a type are compared: as ordered integers. Those of floats
/// are the bits of the FP32 nearest to them (negative ones below zero), so
/// that different types can be compared.
struct ElementFormat {
  DType dtype;
  uint8_t size;      ///< bytes an element
  bool is_float;     ///< floats and integers are never compared
  uint8_t ulp_bits;  ///< 2^ulp_bits steps of FP32 are one of this type
};

/// Nothing for types that are not compared, packed ones among them.
std::optional<ElementFormat> FindElementFormat(DType dtype);

/// The ordered integers of `out.size()` elements.
void ToOrdered(const ElementFormat& format, const uint8_t* data,
               std::span<int32_t> out);

/// The float that an ordered integer stands for, and back.
float FromOrdered(int32_t ordered);
int32_t ToOrdered(float value);

/// About how many bits an element that is `distance` units of the last place
/// away from its prediction takes, in 1/16.
uint32_t StepCost(uint64_t distance);

/// The mean of StepCost over values of `format` predicted by others, in 1/256
/// bit; UINT32_MAX where there are none. Both have as many.
uint32_t MeanCost(const ElementFormat& format, std::span<const int32_t> values,
                  std::span<const int32_t> predicted);

/// The same, beside what chance gives: the same predictions in another order.
struct Comparison {
  uint32_t cost;
  uint32_t chance;
  /// Whether the difference is beyond that of unrelated values, by five
  /// standard errors.
  bool significant;

  /// Whether the prediction is worth something: `gain` in 1/256 bit, or nearly
  /// all of what chance costs.
  bool Tells(uint32_t gain) const {
    return significant && (cost + gain <= chance || 4 * cost <= chance);
  }
};
Comparison Compare(const ElementFormat& format, std::span<const int32_t> values,
                   std::span<const int32_t> predicted);

/// The same of floats that are only near to what they were made of, as those of
/// quantized tensors are: 12 bits and half the binary logarithm of what part of
/// the variance the prediction leaves unexplained, at least 0, if each 32
/// values have a scale and an offset of their own. Both in the same order.
Comparison CompareNear(std::span<const int32_t> values,
                       std::span<const int32_t> predicted);

/// Elements of a run that lies together in a file.
struct Run {
  uint64_t begin;
  uint64_t count;
};
inline constexpr size_t kSampled = 512;
/// Up to kSampled of `elements` elements, the same for every tensor with as
/// many: all, or short runs spread over them; ascending.
std::vector<Run> SampleRuns(uint64_t elements);

/// One bit for each of up to kSampled values: whether it is above the middle.
/// Related tensors differ in few, others in half of them, even where all values
/// have one sign.
struct Sketch {
  std::array<uint64_t, kSampled / 64> bits{};
  uint32_t count = 0;
  /// False where nearly all bits are equal, which says nothing.
  bool telling = false;

  uint32_t Distance(const Sketch& other) const;
};
Sketch SketchOf(std::span<const int32_t> values);

}  // namespace zipllm::archive

#endif  // ZIPLLM_ARCHIVE_SKETCH_H_
