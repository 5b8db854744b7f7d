// The kernels of codec 20: every target that this CPU has against the scalar
// ones, which are the definition.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <random>
#include <vector>

#include "kernels/kernels.h"

namespace zipllm::kernels {
namespace {

constexpr Target kTargets[] = {Target::kNeon, Target::kAvx2, Target::kAvx512};

/// Weights near those of models, and any bits.
std::vector<float> MakeFloats(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> floats(count);
  for (float& value : floats) {
    const auto bits = static_cast<uint32_t>(random());
    value = bits % 4 == 0
                ? std::bit_cast<float>(bits)
                : static_cast<float>(static_cast<int32_t>(bits)) * 0x1p-26F;
  }
  return floats;
}

std::vector<CodeRule> AllRules() {
  std::vector<CodeRule> rules;
  for (const bool divides : {false, true}) {
    for (const FloatType steps :
         {FloatType::kBF16, FloatType::kF16, FloatType::kF32}) {
      CodeRule rule;
      rule.divides = divides;
      rule.steps = steps;
      rule.is_float = true;
      rules.push_back(rule);
      rules.back().has_negative_zero = true;
      rules.back().most = 448;
      rules.push_back(rule);
      rules.back().mantissa_bits = 2;
      rules.back().bias = 16;
      rules.back().most = 57344;
      rules.push_back(rule);
      rules.back().mantissa_bits = 1;
      rules.back().bias = 1;
      rules.back().most = 6;
      rule.is_float = false;
      for (const bool zero_first : {false, true}) {
        rule.zero_first = zero_first;
        rule.low = -128;
        rule.high = 127;
        rules.push_back(rule);
        rule.low = -8;
        rule.high = 7;
        rule.shift = 8;
        rules.push_back(rule);
      }
    }
  }
  return rules;
}

TEST(ScaledKernels, TargetsAgree) {
  for (const size_t count : {1, 7, 16, 33, 4096}) {
    const std::vector<float> weights = MakeFloats(count, 1);
    const std::vector<float> by = MakeFloats(count, 2);
    std::vector<float> zeros(count);
    for (size_t i = 0; i < count; ++i) zeros[i] = static_cast<float>(i % 16);
    for (const CodeRule& rule : AllRules()) {
      const auto code = [&](const Table& table) {
        std::vector<uint8_t> made(3 * count);
        table.code_weights(rule, weights.data(), by.data(), zeros.data(), count,
                           made.data(), made.data() + count);
        table.code_weights(rule, weights.data(), by.data(), zeros.data(), count,
                           made.data() + 2 * count, nullptr);
        return made;
      };
      const std::vector<uint8_t> expected = code(*ScalarTable());
      for (size_t i = 0; i < count; ++i) {
        EXPECT_LT(expected[count + i], kRestContexts);
        EXPECT_EQ(expected[i], expected[2 * count + i]);
      }
      for (const Target target : kTargets) {
        const Table* table = Find(target);
        if (table == nullptr) continue;
        EXPECT_EQ(code(*table), expected) << table->name;
      }
    }
  }
}

TEST(ScaledKernels, IntegersAreTheNearest) {
  CodeRule rule;
  rule.low = -8;
  rule.high = 7;
  for (int i = -4000; i <= 4000; ++i) {
    const float weight = static_cast<float>(i) * 0x1p-7F;
    const float by = 0.5F;
    const float zero = 3;
    uint8_t code;
    uint8_t context;
    ScalarTable()->code_weights(rule, &weight, &by, &zero, 1, &code, &context);
    const double expected =
        std::clamp(std::nearbyint(double{weight} / by) + 3, -8.0, 7.0);
    EXPECT_EQ(static_cast<int8_t>(code), expected) << weight;
  }
}

TEST(ScaledKernels, Ranges) {
  for (const FloatType type :
       {FloatType::kBF16, FloatType::kF16, FloatType::kF32}) {
    const size_t width = type == FloatType::kF32 ? 4 : 2;
    for (const size_t size : {1, 5, 16, 128}) {
      constexpr size_t kGroups = 9;
      std::mt19937 random(3);
      std::vector<uint8_t> elements(size * kGroups * width);
      for (uint8_t& byte : elements) byte = static_cast<uint8_t>(random());
      // Numbers.
      for (size_t i = width - 1; i < elements.size(); i += width) {
        elements[i] = static_cast<uint8_t>(elements[i] & 0xBF);
      }
      std::vector<float> values(size * kGroups);
      ScalarTable()->widen_f32(type, elements.data(), values.size(),
                               values.data());
      const auto ranges = [&](const Table& table) {
        std::vector<float> made(2 * kGroups);
        table.group_ranges(type, elements.data(), size, kGroups, made.data(),
                           made.data() + kGroups);
        return made;
      };
      const std::vector<float> expected = ranges(*ScalarTable());
      for (size_t g = 0; g < kGroups; ++g) {
        const auto begin =
            values.begin() + static_cast<std::ptrdiff_t>(g * size);
        const auto [low, high] = std::minmax_element(
            begin, begin + static_cast<std::ptrdiff_t>(size));
        EXPECT_EQ(expected[g], *low);
        EXPECT_EQ(expected[kGroups + g], *high);
      }
      for (const Target target : kTargets) {
        const Table* table = Find(target);
        if (table == nullptr) continue;
        EXPECT_EQ(ranges(*table), expected) << table->name;
      }
    }
  }
}

}  // namespace
}  // namespace zipllm::kernels
