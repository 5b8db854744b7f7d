// Tells from samples whether a tensor seems to be made of several others: a
// weighted sum, or a base and a low-rank product. IEEE basic operations in a
// fixed order: the same answer on every machine.
#ifndef ZIPLLM_ARCHIVE_COMBINE_H_
#define ZIPLLM_ARCHIVE_COMBINE_H_

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "archive/sketch.h"

namespace zipllm::archive {

/// Which parents' sum, weighted by least squares, predicts values, and what
/// they then cost (as of MeanCost).
struct WeightedSum {
  std::vector<size_t> parents;  ///< two or three, ascending
  uint32_t cost;
};

/// At most so many parents are looked at: the first ones.
inline constexpr size_t kMaxParents = 6;

/// The best sum of two or three of `parents`, each with as many ordered values
/// as `values`; nothing if none costs clearly less than `single`, the cost
/// against the best parent alone.
std::optional<WeightedSum> FindWeightedSum(
    const ElementFormat& format, std::span<const int32_t> values,
    const std::vector<std::span<const int32_t>>& parents, uint32_t single);

/// How much of the differences values - base a multiple of `product` explains:
/// 0 nothing, 1 all.
double Explained(std::span<const int32_t> values, std::span<const int32_t> base,
                 std::span<const double> product);

}  // namespace zipllm::archive

#endif  // ZIPLLM_ARCHIVE_COMBINE_H_
