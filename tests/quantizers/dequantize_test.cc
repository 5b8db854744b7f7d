#include "quantizers/dequantize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <initializer_list>
#include <iterator>
#include <set>

#include "kernels/by_target.h"
#include "quantizers/dequantize_loops.h"
#include "quantizers/inputs.h"

namespace zipllm::quantizers {
namespace {

/// Of 64 blocks of AnyBytes(), as oracle.py prints it.
struct Golden {
  DType dtype;
  const char* sha256;
};
constexpr Golden kGolden[] = {
    {DType::kGgmlQ40,
     "7ebd67865157c4ab0e48b202f26ebddf84cb3179061a476a2365c2a0ca0bf277"},
    {DType::kGgmlQ41,
     "889db3b29561480e27f7c82c96189087973eecbf6fef90a041d2baa590565114"},
    {DType::kGgmlQ50,
     "989af7933053565399abf1314b676603ad41fe0b1d7ece78d7925d2281f3313c"},
    {DType::kGgmlQ51,
     "25879626e32a8a45c653958938d43c1a243e2b3f7ba1e97384ad8cab065a355f"},
    {DType::kGgmlQ80,
     "04ec285769ae0203abfe0da7bbd6a90e631afe9d0328ee7c7d2030b955e7bf6b"},
    {DType::kGgmlQ2K,
     "7758165b76e1c9028503ed3458c22fa92c2ea21f994c2bc75717d015ffa8a7e0"},
    {DType::kGgmlQ3K,
     "ccf8db8203c471eb671374a367f59ba2e7f5a414d2592e5dfa034b0262d86288"},
    {DType::kGgmlQ4K,
     "fd3465e13baea95063e81818061e0f60f9af531f9293402f0449b5f069a97219"},
    {DType::kGgmlQ5K,
     "7ac13703d3c209ded18292ea02f00f3161c05c80817ad52a6e1ab0247d9988e6"},
    {DType::kGgmlQ6K,
     "be0e71b8fe3a4be92acb216d9755767e26c4cde0fd163ca0e6130b4de5b16be0"},
    {DType::kGgmlIQ4NL,
     "7bf19146c59ab020597c95bcf72eabbe0b99f1f6d1fcd6c6f51090e84a418cce"},
    {DType::kGgmlIQ4XS,
     "8a804016b210d276675e9178c3517ea5492c76930f00324dfb14dc8c95244c35"},
    {DType::kGgmlMXFP4,
     "eda6b5df233816a8e456730be5e0fd14de0de2e04309ea18cf2527af820a439b"},
    {DType::kGgmlNVFP4,
     "65bb6ee1b23dc1a33774f54d58b5c5fc0bf3fa18f693ae264675b7b7c2bb35b5"},
    {DType::kGgmlTQ10,
     "5dbc9c59e125412c44368273ebfe4f2710c80ebe63469cbed473f1eddf590e3e"},
    {DType::kGgmlTQ20,
     "61efd915f9d61562b5cf35dc3153e3fdf750b1b6fa306035eebdc38264bb04d6"},
    {DType::kGgmlIQ1S,
     "0e42b56ec417c46496429a39a42a02bb5399b399748a8e21dcc0e10b3bef0e98"},
    {DType::kGgmlIQ1M,
     "34630298b80397216a8e4a53258a4ce707cb22c3a716fe4a8f000aaf0d439ff3"},
    {DType::kGgmlIQ2XXS,
     "be436b2d1bdd7def6e9c42f73acea991ec36882614db0e58aeab706516785a85"},
    {DType::kGgmlIQ2XS,
     "aad72a99c3d3a41321502a9a9f8f83cecabbc36e4b9d0a09d707fc3139f933d1"},
    {DType::kGgmlIQ2S,
     "00c860150d4001d0e927c58a3cfd2ec92f2f0c4073faee3502c378f8bb8b7809"},
    {DType::kGgmlIQ3XXS,
     "327aeff0bb2a7309f3d42d5386b6c9ab2d59cc8bff3c08e6da00b69e9cd29ce1"},
    {DType::kGgmlIQ3S,
     "17bd96f7f33ab015ecb4934f7594145aadaf75c29555f3918f61d9a3e244b9ad"},
};

struct Blocks {
  explicit Blocks(DType type, size_t blocks = 64)
      : dtype(type),
        count(blocks),
        bytes(AnyBytes(blocks * FindDType(type)->block_bytes)) {}
  size_t elements() const { return count * FindDType(dtype)->block_elements; }

  std::vector<float> Numbers() const {
    std::vector<float> numbers(elements());
    EXPECT_TRUE(Dequantize(dtype, bytes.data(), count, numbers.data()));
    return numbers;
  }
  std::vector<float> StepsOfNumbers() const {
    std::vector<float> steps(elements());
    EXPECT_TRUE(Steps(dtype, bytes.data(), count, steps.data()));
    return steps;
  }

  DType dtype;
  size_t count;
  std::vector<uint8_t> bytes;
};

std::vector<uint8_t> BytesOf(const std::vector<float>& numbers) {
  std::vector<uint8_t> bytes(numbers.size() * sizeof(float));
  std::memcpy(bytes.data(), numbers.data(), bytes.size());
  return bytes;
}

TEST(Dequantize, NumbersAreThoseOfLibgguf) {
  for (const Golden& golden : kGolden) {
    EXPECT_EQ(Sha256Hex(BytesOf(Blocks(golden.dtype).Numbers())), golden.sha256)
        << FindDType(golden.dtype)->name;
  }
}

constexpr DType kAll[] = {
#define ZIPLLM_DTYPE(id, symbol, name, elements, bytes) DType::k##symbol,
#include "zipllm/dtype_list.inc"
#undef ZIPLLM_DTYPE
};
bool IsGgml(DType dtype) { return static_cast<int>(dtype) >= 64; }

TEST(Dequantize, KnowsAllQuantizedTypesAndNoOthers) {
  for (const DType dtype : kAll) {
    EXPECT_EQ(CanDequantize(dtype), IsGgml(dtype)) << FindDType(dtype)->name;
  }
  EXPECT_FALSE(Dequantize(DType::kF32, nullptr, 0, nullptr));
  EXPECT_FALSE(Steps(DType::kF32, nullptr, 0, nullptr));
}

TEST(Dequantize, TargetsAgree) {
  constexpr kernels::ByTarget<decltype(DequantizeScalar)> kFunctions =
      ZIPLLM_BY_TARGET(Dequantize);
  for (const DType dtype : kAll) {
    // Grid types have one function for all targets.
    if (!DequantizeScalar(dtype, false, nullptr, 0, nullptr)) continue;
    const Blocks blocks(dtype);
    for (const bool steps : {false, true}) {
      const std::vector<float> expected =
          steps ? blocks.StepsOfNumbers() : blocks.Numbers();
      for (const kernels::Target target : Targets()) {
        std::vector<float> numbers(blocks.elements());
        (*kFunctions.Find(target))(dtype, steps, blocks.bytes.data(),
                                   blocks.count, numbers.data());
        EXPECT_EQ(BytesOf(numbers), BytesOf(expected))
            << FindDType(dtype)->name;
      }
    }
  }
}

/// One block of 32 elements with scale 1, whose nibbles are all codes twice.
void ExpectStepsBetweenLevels(DType dtype, const std::vector<uint8_t>& scale) {
  std::vector<uint8_t> block = scale;
  for (uint8_t i = 0; i < 16; ++i) {
    block.push_back(static_cast<uint8_t>(i << 4 | i));
  }
  float numbers[32];
  float steps[32];
  ASSERT_TRUE(Dequantize(dtype, block.data(), 1, numbers));
  ASSERT_TRUE(Steps(dtype, block.data(), 1, steps));
  const std::set<float> levels(numbers, numbers + 32);
  for (size_t i = 0; i < 32; ++i) {
    const auto level = levels.find(numbers[i]);
    const float below = level == levels.begin() ? 2 * *level - *std::next(level)
                                                : *std::prev(level);
    const float above = std::next(level) == levels.end()
                            ? 2 * *level - *std::prev(level)
                            : *std::next(level);
    EXPECT_EQ(steps[i], (above - below) / 2) << numbers[i];
  }
}

TEST(Steps, AreHalfTheDistanceOfTheLevelsAround) {
  ExpectStepsBetweenLevels(DType::kGgmlQ40, {0x00, 0x3c});
  ExpectStepsBetweenLevels(DType::kGgmlIQ4NL, {0x00, 0x3c});
  ExpectStepsBetweenLevels(DType::kGgmlMXFP4, {128});
}

TEST(Steps, WeightsLieWithinHalfOfThem) {
  const Matrix matrix = Plain();
  for (const uint8_t id :
       std::initializer_list<uint8_t>{1, 3, 5}) {  // Q8_0, Q4_1, Q5_1
    const Quantizer& quantizer = *FindQuantizer(id);
    const auto bytes = Quantize(quantizer, kernels::Target::kScalar, matrix);
    const size_t count = matrix.weights.size();
    std::vector<float> numbers(count);
    std::vector<float> steps(count);
    ASSERT_TRUE(
        Dequantize(quantizer.dtype, bytes.data(), count / 32, numbers.data()));
    ASSERT_TRUE(Steps(quantizer.dtype, bytes.data(), count / 32, steps.data()));
    for (size_t i = 0; i < count; ++i) {
      // Scales and minima are FP16: one part in 2^11, at least 2^-25.
      const float weight = matrix.weights[i];
      const float most = steps[i] / 2 +
                         (std::fabs(weight) + 32 * steps[i]) * 0x1p-10f +
                         0x1p-18f;
      ASSERT_LE(std::fabs(weight - numbers[i]), most)
          << quantizer.name << " " << i;
    }
  }
}

}  // namespace
}  // namespace zipllm::quantizers
