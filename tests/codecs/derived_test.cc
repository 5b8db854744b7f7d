// Codec 19: packed blocks given what they were made of.
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "codecs/coding.h"
#include "codecs/generators.h"
#include "codecs/quant/derived_format.h"
#include "codecs/quant/derived_trial.h"
#include "quantizers/dequantize.h"
#include "quantizers/formula.h"
#include "quantizers/inputs.h"

namespace zipllm::codecs {
namespace {

using quantizers::LadderTensor;
using quantizers::ReadLadder;

constexpr CodecId kDerived = 19;

/// Blocks beside a base, and an importance if there is one.
Input MakePair(DType dtype, Bytes blocks, DType base_dtype, Bytes base,
               uint64_t row, const std::vector<float>& importance = {}) {
  Input input;
  input.dtype = dtype;
  input.data = std::move(blocks);
  input.row = row;
  input.arrays.reserve(2);
  input.arrays.push_back(std::move(base));
  input.references.push_back({Role::kBase, base_dtype, input.arrays[0], 0});
  if (!importance.empty()) {
    input.arrays.emplace_back(4 * importance.size());
    std::memcpy(input.arrays[1].data(), importance.data(),
                input.arrays[1].size());
    input.references.push_back(
        {Role::kImportance, DType::kF32, input.arrays[1], importance.size()});
  }
  return input;
}

/// Bits a weight of a frame, after checking that it comes back.
double BitsPerWeight(const Input& input, int level) {
  const DTypeInfo& type = *FindDType(input.dtype);
  const size_t weights =
      input.data.size() / type.block_bytes * type.block_elements;
  const EncodeRequest request =
      input.Request(262144 / type.block_elements * type.block_bytes, level);
  EXPECT_GT(CheckRoundTrip(kDerived, request), 0u);
  Scratch scratch;
  const auto coded = EncodeFrame(*FindEncoder(kDerived), request, scratch);
  if (!coded) return 1e9;
  size_t bytes = coded->params.size();
  for (const auto& block : coded->blocks) {
    bytes += block ? block->size() : type.block_bytes;
  }
  return 8.0 * static_cast<double>(bytes) / static_cast<double>(weights);
}

const LadderTensor* FindTensor(const std::vector<LadderTensor>& tensors,
                               const std::string& name) {
  for (const LadderTensor& tensor : tensors) {
    if (tensor.name == name) return &tensor;
  }
  return nullptr;
}

struct Rung {
  const char* file;
  double formula;  // bits a weight at most
  double recipe;
};

TEST(Derived, LadderTakesFewBits) {
  const auto sources = ReadLadder("BF16");
  if (sources.empty()) GTEST_SKIP() << "../shared/data/ladder is not here";
  // The targets of issue 6.
  for (const Rung& rung :
       {Rung{"Q8_0", 0.03, 0.01}, Rung{"Q4_0", 0.01, 0.01},
        Rung{"Q4_1", 0.01, 0.01}, Rung{"Q5_0", 0.01, 0.01},
        Rung{"Q5_1", 0.01, 0.01}, Rung{"Q2_K", 0.27, 0.01},
        Rung{"Q3_K_M", 0.16, 0.01}, Rung{"Q4_K_M", 0.20, 0.01},
        Rung{"Q5_K_M", 0.14, 0.01}, Rung{"Q6_K", 0.15, 0.01},
        Rung{"IQ4_NL", 0.26, 0.01}, Rung{"IQ4_XS", 0.10, 0.01},
        Rung{"imatrix.Q4_0", 0.29, 0.29}, Rung{"imatrix.Q4_K_M", 0.22, 0.22},
        Rung{"imatrix.Q6_K", 0.17, 0.17}}) {
    for (const LadderTensor& tensor : ReadLadder(rung.file)) {
      const LadderTensor* const source = FindTensor(sources, tensor.name);
      if (source == nullptr || FindDType(tensor.dtype)->block_elements == 1) {
        continue;
      }
      SCOPED_TRACE(std::string(rung.file) + " " + tensor.name);
      const Input input = MakePair(tensor.dtype, tensor.blocks, source->dtype,
                                   source->blocks, 768);
      EXPECT_LE(BitsPerWeight(input, 1), rung.formula);
      EXPECT_LE(BitsPerWeight(input, 6), rung.recipe);
    }
  }
}

TEST(Derived, SiblingsTellMuch) {
  const auto larger = ReadLadder("Q8_0");
  const auto smaller = ReadLadder("Q4_K_M");
  if (larger.empty()) GTEST_SKIP() << "../shared/data/ladder is not here";
  const LadderTensor& tensor = smaller[0];
  const LadderTensor& base = *FindTensor(larger, tensor.name);
  EXPECT_LT(BitsPerWeight(MakePair(tensor.dtype, tensor.blocks, base.dtype,
                                   base.blocks, 768),
                          6),
            0.3);
}

/// Weights of bell shape, as floats.
Bytes Bell(size_t count, uint64_t seed) {
  return MakeInput(Kind::kGaussian, DType::kF32, count, seed);
}

TEST(Derived, AllTypesOfRandomBlocksComeBack) {
  constexpr size_t kCount = 512 * 20;
  for (const quant::BlockType& type : quant::kBlockTypes) {
    const DTypeInfo& info = *FindDType(type.dtype);
    SCOPED_TRACE(info.name);
    const Bytes blocks =
        MakeInput(Kind::kRandom, type.dtype, kCount / info.block_elements);
    for (const Kind kind :
         {Kind::kGaussian, Kind::kSpecial, Kind::kRandom, Kind::kConstant}) {
      for (const DType base : {DType::kF32, DType::kF16, DType::kBF16}) {
        const Input input = MakePair(type.dtype, blocks, base,
                                     MakeInput(kind, base, kCount), 512);
        CheckRoundTrip(kDerived, input.Request(blocks.size() / 2, 2));
      }
    }
    for (const DType base : {DType::kGgmlQ80, DType::kGgmlQ4K}) {
      const Input input =
          MakePair(type.dtype, blocks, base,
                   MakeInput(Kind::kRandom, base,
                             kCount / FindDType(base)->block_elements),
                   512);
      CheckRoundTrip(kDerived, input.Request(blocks.size() / 4, 2));
    }
  }
}

TEST(Derived, NearlyPredictedBlocksComeBack) {
  // What quantizers make, with some bytes changed.
  constexpr size_t kRow = 1024;
  const quantizers::Matrix plain = quantizers::Plain();
  Bytes base(4 * plain.weights.size());
  std::memcpy(base.data(), plain.weights.data(), base.size());
  for (const quantizers::Quantizer* quantizer : quantizers::AllQuantizers()) {
    SCOPED_TRACE(quantizer->name);
    Bytes blocks =
        quantizers::Quantize(*quantizer, kernels::Best().target, plain);
    const std::vector<float> importance =
        quantizer->needs_importance ? plain.importance : std::vector<float>{};
    const Input exact =
        MakePair(quantizer->dtype, blocks, DType::kF32, base, kRow, importance);
    EXPECT_LT(BitsPerWeight(exact, 6), 0.01);
    Random random(7);
    for (size_t i = 0; i < blocks.size() / 100; ++i) {
      blocks[random.Below(blocks.size())] ^=
          static_cast<uint8_t>(1 << random.Below(8));
    }
    const Input changed =
        MakePair(quantizer->dtype, blocks, DType::kF32, base, kRow, importance);
    EXPECT_GT(CheckRoundTrip(kDerived, changed.Request(blocks.size(), 6)), 0u);
    EXPECT_GT(CheckRoundTrip(kDerived, changed.Request(blocks.size(), 1)), 0u);
  }
}

TEST(Derived, TrialsAgreeWithFrames) {
  const quantizers::Matrix plain = quantizers::Plain();
  const quantizers::Quantizer& quantizer = *quantizers::FindQuantizer(1);
  const Bytes blocks =
      quantizers::Quantize(quantizer, kernels::Target::kScalar, plain);
  const ByteSpan base = {reinterpret_cast<const uint8_t*>(plain.weights.data()),
                         4 * plain.weights.size()};
  uint8_t found = 0;
  EXPECT_LT(DerivedBitsPerWeight(quantizer.dtype, blocks, DType::kF32, base,
                                 plain.columns, 0, {}, 6, &found),
            0.01);
  EXPECT_EQ(found, 1);
  Bytes predicted(blocks.size());
  EXPECT_TRUE(PredictBlocks(1, quantizer.dtype, DType::kF32, base,
                            plain.columns, 0, {}, predicted));
  EXPECT_EQ(predicted, blocks);
  EXPECT_FALSE(PredictBlocks(1, DType::kGgmlQ40, DType::kF32, base,
                             plain.columns, 0, {}, predicted));
  EXPECT_GT(DerivedBitsPerWeight(DType::kBF16, blocks, DType::kF32, base, 0, 0,
                                 {}, 6, nullptr),
            16);
  // Other weights are of no use.
  const Bytes other = Bell(plain.weights.size(), 99);
  EXPECT_GT(DerivedBitsPerWeight(quantizer.dtype, blocks, DType::kF32, other,
                                 plain.columns, 0, {}, 6, nullptr),
            3);
}

TEST(Formula, TargetsAgree) {
  using quantizers::FormulaKernels;
  std::vector<float> weights;
  std::vector<quantizers::Matrix> all = quantizers::Hostile();
  all.push_back(quantizers::Plain());
  for (const quantizers::Matrix& matrix : all) {
    weights.insert(weights.end(), matrix.weights.begin(), matrix.weights.end());
  }
  std::vector<float> ones(weights.size(), 0.5f);
  const FormulaKernels& scalar =
      *quantizers::FindFormula(kernels::Target::kScalar);
  for (const quant::BlockType& type : quant::kBlockTypes) {
    const derived::Form* const form = derived::FindForm(type.dtype);
    if (form == nullptr) continue;
    SCOPED_TRACE(FindDType(type.dtype)->name);
    // A number of groups that is no multiple of the lanes.
    const size_t groups = weights.size() / form->shape.group - 3;
    const size_t count = groups * form->shape.group;
    for (int weighting = 0; weighting < quantizers::kWeightings; ++weighting) {
      const quantizers::Candidates candidates = {
          static_cast<quantizers::Weighting>(weighting), -4, 3,
          static_cast<uint8_t>(weighting == 0 ? 0 : 3)};
      struct Result {
        std::vector<float> scales, offsets;
        Bytes codes, bins;
      };
      const auto run = [&](const FormulaKernels& kernels) {
        Result result{std::vector<float>(groups), std::vector<float>(groups),
                      Bytes(count), Bytes(count)};
        kernels.fit(form->shape, candidates, weights.data(),
                    weighting % 2 == 0 ? nullptr : ones.data(), ones.data(),
                    groups, result.scales.data(), result.offsets.data());
        const float doubt[3] = {0.01f, 0.01f, 0.5f};
        kernels.codes(form->shape, weights.data(), ones.data(), doubt, groups,
                      result.scales.data(), result.offsets.data(),
                      result.codes.data(), result.bins.data());
        return result;
      };
      // All NaNs are one: nothing depends on their bits.
      const auto same = [](const std::vector<float>& a,
                           const std::vector<float>& b) {
        for (size_t i = 0; i < a.size(); ++i) {
          if (std::memcmp(&a[i], &b[i], 4) != 0 &&
              (a[i] == a[i] || b[i] == b[i])) {
            return false;
          }
        }
        return true;
      };
      const Result expected = run(scalar);
      for (const kernels::Target target : quantizers::Targets()) {
        const Result result = run(*quantizers::FindFormula(target));
        EXPECT_TRUE(same(result.scales, expected.scales));
        EXPECT_TRUE(same(result.offsets, expected.offsets));
        EXPECT_EQ(result.codes, expected.codes);
        EXPECT_EQ(result.bins, expected.bins);
      }
    }
  }
}

TEST(Derived, OtherReferencesAreRefused) {
  const quantizers::Matrix plain = quantizers::Plain();
  const quantizers::Quantizer& quantizer = *quantizers::FindQuantizer(1);
  const Bytes blocks =
      quantizers::Quantize(quantizer, kernels::Target::kScalar, plain);
  Bytes base(4 * plain.weights.size());
  std::memcpy(base.data(), plain.weights.data(), base.size());
  const Input input =
      MakePair(quantizer.dtype, blocks, DType::kF32, base, plain.columns);
  const EncodeRequest request = input.Request(blocks.size(), 6);
  Scratch scratch;
  const auto coded = EncodeFrame(*FindEncoder(kDerived), request, scratch);
  ASSERT_TRUE(coded.has_value());
  const auto decodes = [&](auto change) {
    Context context(request, request.data);
    change(context);
    return DecodeBlock(*FindDecoder(kDerived), coded->params, context.get(),
                       *coded->blocks[0], request.data.size())
        .has_value();
  };
  EXPECT_TRUE(decodes([](Context&) {}));
  EXPECT_FALSE(decodes([](Context& c) { c.references.clear(); }));
  EXPECT_FALSE(
      decodes([](Context& c) { c.references[0].role = Role::kFactor; }));
  EXPECT_FALSE(
      decodes([](Context& c) { c.references[0].dtype = DType::kI32; }));
  EXPECT_FALSE(
      decodes([](Context& c) { c.references[0].dtype = DType::kBF16; }));
  EXPECT_FALSE(decodes([](Context& c) {
    c.references[0].data = c.references[0].data.first(4);
  }));
}

}  // namespace
}  // namespace zipllm::codecs
