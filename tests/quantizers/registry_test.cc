// What holds for every quantizer.
#include <gtest/gtest.h>

#include <cctype>
#include <cstring>
#include <string>

#include "quantizers/inputs.h"

namespace zipllm::quantizers {
namespace {

std::string NameOf(const testing::TestParamInfo<const Quantizer*>& info) {
  std::string name(info.param->name);
  for (char& c : name)
    c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
}

class EachQuantizer : public testing::TestWithParam<const Quantizer*> {};

TEST_P(EachQuantizer, TargetsAgree) {
  const Quantizer& quantizer = *GetParam();
  std::vector<Matrix> matrices = Hostile();
  matrices.push_back(Plain());
  for (const Matrix& matrix : matrices) {
    const auto expected = Quantize(quantizer, kernels::Target::kScalar, matrix);
    for (const kernels::Target target : Targets()) {
      EXPECT_TRUE(Quantize(quantizer, target, matrix) == expected)
          << matrix.name << ", target " << static_cast<int>(target);
    }
  }
}

TEST_P(EachQuantizer, RowsDoNotDependOnOthers) {
  const Quantizer& quantizer = *GetParam();
  const Matrix all = Plain();
  Matrix some = all;
  some.rows = 3;
  some.weights.assign(all.weights.begin() + 5 * 1024,
                      all.weights.begin() + 8 * 1024);
  for (const kernels::Target target : Targets()) {
    const std::vector<uint8_t> expected = Quantize(quantizer, target, all);
    const std::vector<uint8_t> blocks = Quantize(quantizer, target, some);
    EXPECT_EQ(
        std::memcmp(blocks.data(), expected.data() + expected.size() / 16 * 5,
                    blocks.size()),
        0)
        << "target " << static_cast<int>(target);
  }
}

INSTANTIATE_TEST_SUITE_P(All, EachQuantizer,
                         testing::ValuesIn(AllQuantizers().begin(),
                                           AllQuantizers().end()),
                         NameOf);

/// What llama-quantize made of the BF16 file, plain.
TEST(Ladder, PlainFilesAreWhatQuantizersMake) {
  size_t tensors = 0;
  for (const char* file :
       {"Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "Q4_0", "Q4_1",
        "Q5_0", "Q5_1", "IQ4_NL", "IQ4_XS"}) {
    for (const LadderTensor& tensor : ReadLadder(file)) {
      const auto source = ReadSource(tensor.name);
      ASSERT_TRUE(source);
      for (const Quantizer* quantizer : AllQuantizers()) {
        if (quantizer->dtype != tensor.dtype || quantizer->needs_importance) {
          continue;
        }
        ++tensors;
        EXPECT_TRUE(Quantize(*quantizer, kernels::Best().target, *source) ==
                    tensor.blocks)
            << file << ": " << tensor.name << " by " << quantizer->name;
      }
    }
  }
  if (tensors == 0) GTEST_SKIP() << "../shared/data/ladder is not here";
}

}  // namespace
}  // namespace zipllm::quantizers
