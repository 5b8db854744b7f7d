// Which tensors are quantized weights, and the numbers that they stand for.
#include "archive/scale_roles.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "base/dtype.h"

namespace zipllm::archive {
namespace {

/// A model of a few tensors.
class Model final : public LineageReader {
 public:
  template <typename Element>
  void Add(std::string name, DType dtype, std::vector<uint64_t> shape,
           const std::vector<Element>& elements) {
    LineageTensor tensor;
    tensor.name = std::move(name);
    tensor.dtype = dtype;
    tensor.shape = std::move(shape);
    std::vector<uint8_t> bytes(elements.size() * sizeof(Element));
    std::memcpy(bytes.data(), elements.data(), bytes.size());
    tensor.elements = bytes.size() / FindDType(dtype)->block_bytes;
    tensors_.push_back(std::move(tensor));
    bytes_.push_back(std::move(bytes));
  }
  bool Read(size_t tensor, uint64_t begin, MutableByteSpan out) override {
    const size_t at = begin * FindDType(tensors_[tensor].dtype)->block_bytes;
    if (at + out.size() > bytes_[tensor].size()) return false;
    std::memcpy(out.data(), bytes_[tensor].data() + at, out.size());
    return true;
  }
  const std::vector<LineageTensor>& tensors() const { return tensors_; }

  std::vector<float> Numbers(const QuantizedWeights& weights) {
    std::vector<float> numbers(weights.weights());
    WeightNumbers reader(weights, tensors_, *this);
    EXPECT_TRUE(reader.Read(0, numbers));
    // From within, too.
    std::vector<float> last(1);
    EXPECT_TRUE(reader.Read(numbers.size() - 1, last));
    EXPECT_EQ(last[0], numbers.back());
    return numbers;
  }

 private:
  std::vector<LineageTensor> tensors_;
  std::vector<std::vector<uint8_t>> bytes_;
};

TEST(ScaleRoles, Float8ByRowsAndBlocks) {
  Model model;
  // 1, 2, -1, 0.5
  model.Add<uint8_t>("a.weight", DType::kF8E4M3, {2, 2},
                     {0x38, 0x40, 0xB8, 0x30});
  model.Add<float>("a.weight_scale", DType::kF32, {2, 1}, {2, 4});
  model.Add<uint8_t>("b.weight", DType::kF8E5M2, {1, 2}, {0x3C, 0xBC});
  model.Add<float>("b.weight_scale_inv", DType::kF32, {1, 1}, {3});
  model.Add<float>("c.weight", DType::kF32, {1}, {3});
  const auto found = FindScales(model.tensors(), model);
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].codes, 0u);
  EXPECT_EQ(found[0].scale, 1u);
  EXPECT_EQ(model.Numbers(found[0]), (std::vector<float>{2, 4, -4, 2}));
  EXPECT_EQ(model.Numbers(found[1]), (std::vector<float>{3, -3}));
  EXPECT_EQ(SixteenthsOf(found[0], model.tensors()), 16 * (4 * 8 + 64) / 4);
}

TEST(ScaleRoles, Float4) {
  Model model;
  // 32 weights, the first two 1 and -6.
  std::vector<uint8_t> codes(16);
  codes[0] = 0xF2;
  model.Add<uint8_t>("n.weight_packed", DType::kU8, {1, 16}, codes);
  model.Add<uint8_t>("n.weight_scale", DType::kF8E4M3, {1, 2}, {0x40, 0x38});
  model.Add<float>("n.weight_global_scale", DType::kF32, {1}, {4});
  model.Add<uint8_t>("m_blocks", DType::kU8, {1, 1, 16}, codes);
  model.Add<uint8_t>("m_scales", DType::kU8, {1, 1}, {128});
  const auto found = FindScales(model.tensors(), model);
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].per_element, 2);
  EXPECT_EQ(found[0].global_scale, 2u);
  EXPECT_EQ(found[0].shape, (std::vector<uint64_t>{1, 32}));
  EXPECT_EQ(found[0].scale_columns, 16u);
  EXPECT_EQ(model.Numbers(found[0])[0], 0.5F);
  EXPECT_EQ(model.Numbers(found[0])[1], -3.0F);
  EXPECT_EQ(found[1].shape, (std::vector<uint64_t>{1, 32}));
  EXPECT_EQ(model.Numbers(found[1])[1], -12.0F);
}

TEST(ScaleRoles, PackedIntegersAndThoseOfTransposedMatrices) {
  Model model;
  model.Add<uint32_t>("p.weight_packed", DType::kI32, {1, 1}, {0x76543210});
  model.Add<float>("p.weight_scale", DType::kF32, {1, 1}, {1});
  model.Add<int64_t>("p.weight_shape", DType::kI64, {2}, {1, 8});
  // 8 x 8; column j of the source's rows holds the codes of qweight j.
  std::vector<uint32_t> gptq(8, 0x88888888);
  gptq[1] = 0x888888A8;
  model.Add<uint32_t>("g.qweight", DType::kI32, {1, 8}, gptq);
  model.Add<float>("g.scales", DType::kF32, {1, 8}, std::vector<float>(8, 2));
  model.Add<uint32_t>("g.qzeros", DType::kI32, {1, 1}, {0x77777777});
  std::vector<uint32_t> awq(8, 0x88888888);
  awq[0] = 0x888A8888;  // part 4 is column 1
  model.Add<uint32_t>("h.qweight", DType::kI32, {8, 1}, awq);
  model.Add<float>("h.scales", DType::kF32, {1, 8}, std::vector<float>(8, 2));
  model.Add<uint32_t>("h.qzeros", DType::kI32, {1, 1}, {0x88888888});
  const auto found = FindScales(model.tensors(), model);
  ASSERT_EQ(found.size(), 3u);
  EXPECT_EQ(model.Numbers(found[0]),
            (std::vector<float>{-8, -7, -6, -5, -4, -3, -2, -1}));
  EXPECT_EQ(found[1].interleaved, 8);
  std::vector<float> expected(64, 0);
  expected[1 * 8 + 1] = 4;
  EXPECT_EQ(model.Numbers(found[1]), expected);
  EXPECT_TRUE(found[2].alternating);
  expected.assign(64, 0);
  expected[1] = 4;
  EXPECT_EQ(model.Numbers(found[2]), expected);
}

TEST(ScaleRoles, ScalesThatDoNotFitAreNone) {
  Model model;
  model.Add<uint8_t>("a.weight", DType::kF8E4M3, {2, 2}, {0, 0, 0, 0});
  model.Add<float>("a.weight_scale", DType::kF32, {7}, std::vector<float>(7));
  model.Add<uint8_t>("b.weight", DType::kU8, {4}, {0, 0, 0, 0});
  EXPECT_TRUE(FindScales(model.tensors(), model).empty());
}

}  // namespace
}  // namespace zipllm::archive
