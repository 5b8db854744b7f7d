#include "entropy/row_predictor.h"

#include <algorithm>
#include <bit>

#include "kernels/kernels.h"

namespace zipllm::entropy {
namespace {

// L is in 1/2^29; products take its upper half, in 1/2^13. Sums are modulo
// 2^32: what overflows predicts badly, and alike everywhere.
constexpr int kAlphaBits = 20;
constexpr int kMomentShift = 8;  // D is in 2^8
constexpr uint64_t kMaxWeight = uint64_t{1} << 43;

int32_t Clip(int32_t value, int32_t limit) {
  return std::clamp(value, -limit, limit);
}

// What a moment and the step towards an innovation become.
struct Step {
  int32_t step;
  int shift;
};
Step Advance(int32_t by, uint64_t* weight, uint64_t* alpha) {
  const uint64_t square = static_cast<uint64_t>(int64_t{by} * by);
  const uint64_t before = *weight;
  const uint64_t after = std::min(
      before + ((*alpha * square) >> (kAlphaBits + kMomentShift)), kMaxWeight);
  const int shift = std::max(0, static_cast<int>(std::bit_width(after)) - 20);
  const int64_t scaled =
      int64_t{by} * static_cast<int64_t>(*alpha) * (int64_t{2} << shift);
  const int64_t step =
      std::clamp<int64_t>(scaled / static_cast<int64_t>(after), -8192, 8192);
  *alpha = *alpha * ((before << kAlphaBits) / after) >> kAlphaBits;
  *weight = after;
  return {static_cast<int32_t>(step), shift};
}

}  // namespace

RowPredictor::RowPredictor(size_t columns, uint32_t ridge)
    : columns_(columns), prediction_(columns), row_(columns) {
  const size_t groups = (columns + kGroup - 1) / kGroup;
  groups_.resize(groups);
  for (size_t g = 0; g < groups; ++g) {
    Group& group = groups_[g];
    group.first = columns * g / groups;
    group.count = columns * (g + 1) / groups - group.first;
    constexpr uint64_t kRow = uint64_t{kScale} * kScale >> kMomentShift;
    group.constant_weight = 4 * kRow;
    group.constant.assign(group.count, 0);
    group.factor.assign(group.count * group.count, 0);
    group.weight.assign(group.count, group.count * ridge * (kRow / 16) + kRow);
  }
}

void RowPredictor::BeginRow() {
  std::fill(prediction_.begin(), prediction_.end(), 0);
  for (const Group& group : groups_) {
    kernels::Best().add_scaled(kScale, group.constant.data(), group.count,
                               &prediction_[group.first]);
  }
}

void RowPredictor::Set(size_t column, int32_t value) {
  row_[column] = value;
  const int32_t predicted = Prediction(column) >> kPredictionBits;
  const int32_t innovation = Clip(value - Clip(predicted, 65535), 32767);
  const Group& group =
      groups_[groups_.size() == 1
                  ? 0
                  : ((column + 1) * groups_.size() - 1) / columns_];
  const size_t i = column - group.first;
  kernels::Best().add_scaled(
      innovation, group.factor.data() + i * group.count + i + 1,
      group.count - i - 1, prediction_.data() + column + 1);
}

void RowPredictor::EndRow() {
  for (Group& group : groups_) EndGroup(group);
}

void RowPredictor::EndGroup(Group& group) {
  uint64_t alpha = uint64_t{1} << kAlphaBits;
  int32_t* rest = &row_[group.first];
  const Step first = Advance(kScale, &group.constant_weight, &alpha);
  kernels::Best().learn_scaled(kScale, first.step, first.shift, group.count,
                               rest, group.constant.data());
  for (size_t i = 0; i + 1 < group.count; ++i) {
    const int32_t by = Clip(rest[i], 32767);
    const Step next = Advance(by, &group.weight[i], &alpha);
    kernels::Best().learn_scaled(by, next.step, next.shift, group.count - i - 1,
                                 rest + i + 1,
                                 group.factor.data() + i * group.count + i + 1);
  }
}

}  // namespace zipllm::entropy
