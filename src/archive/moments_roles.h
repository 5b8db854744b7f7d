// Finds, by names and shapes, which tensors of a checkpoint are an optimizer's
// moments, and of which parameters.
#ifndef ZIPLLM_ARCHIVE_MOMENTS_ROLES_H_
#define ZIPLLM_ARCHIVE_MOMENTS_ROLES_H_

#include <cstddef>
#include <optional>
#include <vector>

#include "archive/lineage.h"

namespace zipllm::archive {

/// What a checkpoint holds for one parameter, as places in the list of tensors;
/// all that are there have the same shape. At least two are.
struct ParameterState {
  std::optional<size_t> parameter;
  std::optional<size_t> first;   ///< mean of gradients, or momentum
  std::optional<size_t> second;  ///< mean of their squares

  bool operator==(const ParameterState&) const = default;
};

/// Looks at the names and shapes of all tensors of a checkpoint, in the order
/// of its files. A moment is told by a part of its name (exp_avg_sq, exp_avg,
/// momentum_buffer, moment2, nu ...); its parameter by the rest of the name,
/// or, where states are only numbered ("state.12.exp_avg"), by the order of
/// equal shapes. No tensor is in two states. By ascending place of the first
/// tensor of a state. What is wrong costs compression, nothing else.
std::vector<ParameterState> FindMoments(
    const std::vector<LineageTensor>& tensors);

}  // namespace zipllm::archive

#endif  // ZIPLLM_ARCHIVE_MOMENTS_ROLES_H_
