#include "archive/moments_roles.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace zipllm::archive {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

LineageTensor Tensor(std::string name, std::vector<uint64_t> shape) {
  LineageTensor tensor;
  tensor.name = std::move(name);
  tensor.shape = std::move(shape);
  tensor.dtype = DType::kF32;
  return tensor;
}

ParameterState Of(std::optional<size_t> parameter, std::optional<size_t> first,
                  std::optional<size_t> second) {
  return {parameter, first, second};
}

TEST(MomentsRoles, SuffixesOfTheParametersNames) {
  EXPECT_THAT(
      FindMoments({Tensor("h.0.w", {4, 8}), Tensor("h.0.b", {4}),
                   Tensor("h.0.b.exp_avg", {4}),
                   Tensor("h.0.b.exp_avg_sq", {4}), Tensor("h.0.b.step", {}),
                   Tensor("h.0.w.exp_avg", {4, 8}),
                   Tensor("h.0.w.exp_avg_sq", {4, 8})}),
      ElementsAre(Of(0, 5, 6), Of(1, 2, 3)));
}

TEST(MomentsRoles, PrefixesOfThem) {
  EXPECT_THAT(FindMoments({Tensor("optimizer.state.exp_avg.model.w", {4, 8}),
                           Tensor("optimizer.state.exp_avg_sq.model.w", {4, 8}),
                           Tensor("model.w", {4, 8})}),
              ElementsAre(Of(2, 0, 1)));
  EXPECT_THAT(
      FindMoments({Tensor("mu/layers/w", {3}), Tensor("nu/layers/w", {3}),
                   Tensor("params/layers/w", {3})}),
      ElementsAre(Of(2, 0, 1)));
}

TEST(MomentsRoles, NumbersByTheOrderOfEqualShapes) {
  // 10 comes after 2.
  EXPECT_THAT(
      FindMoments({Tensor("a", {4, 8}), Tensor("b", {4}), Tensor("c", {4, 8}),
                   Tensor("state.10.exp_avg", {4, 8}),
                   Tensor("state.10.exp_avg_sq", {4, 8}),
                   Tensor("state.2.exp_avg", {4, 8}),
                   Tensor("state.2.exp_avg_sq", {4, 8}),
                   Tensor("state.3.exp_avg", {4}),
                   Tensor("state.3.exp_avg_sq", {4})}),
      ElementsAre(Of(0, 5, 6), Of(1, 7, 8), Of(2, 3, 4)));
}

TEST(MomentsRoles, MomentumAlone) {
  EXPECT_THAT(
      FindMoments({Tensor("w", {5}), Tensor("state.0.momentum_buffer", {5})}),
      ElementsAre(Of(0, 1, std::nullopt)));
}

TEST(MomentsRoles, ShapesDecide) {
  // Factored second moments (Adafactor) have no element for each of the
  // parameter's.
  EXPECT_THAT(FindMoments({Tensor("w", {4, 8}), Tensor("w.exp_avg_sq", {4}),
                           Tensor("w.exp_avg", {4, 8})}),
              ElementsAre(Of(0, 2, std::nullopt)));
}

TEST(MomentsRoles, OptimizerFilesWithoutParameters) {
  EXPECT_THAT(FindMoments({Tensor("state.0.exp_avg", {5}),
                           Tensor("state.0.exp_avg_sq", {5})}),
              ElementsAre(Of(std::nullopt, 0, 1)));
}

TEST(MomentsRoles, NamesOfModelsAreNoMoments) {
  EXPECT_THAT(FindMoments({Tensor("layers.0.attention.q.weight", {8, 8}),
                           Tensor("layers.0.attention.k.weight", {8, 8}),
                           Tensor("layers.0.attention.v.weight", {8, 8}),
                           Tensor("attention.m", {8}), Tensor("v", {3}),
                           Tensor("", {}), Tensor("..", {2})}),
              IsEmpty());
}

TEST(MomentsRoles, EqualNamesAreTakenOnce) {
  EXPECT_THAT(
      FindMoments({Tensor("w", {5}), Tensor("w.exp_avg", {5}),
                   Tensor("w.exp_avg", {5}), Tensor("w.exp_avg_sq", {5})}),
      ElementsAre(Of(0, 1, 3)));
}

}  // namespace
}  // namespace zipllm::archive
