// Codec 20: codes of weights that a tool might have made.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <vector>

#include "codecs/coding.h"
#include "codecs/generators.h"
#include "codecs/reference/casts.h"

namespace zipllm::codecs {
namespace {

constexpr CodecId kScaled = 20;
constexpr size_t kRows = 96;
constexpr size_t kRow = 256;
constexpr size_t kWeights = kRows * kRow;

float ToFloat(DType type, const uint8_t* element) {
  float value;
  Cast(type, DType::kF32, element, 1, reinterpret_cast<uint8_t*>(&value),
       nullptr);
  return value;
}

Bytes FromFloats(DType type, const std::vector<float>& values) {
  Bytes bytes(values.size() * ElementBytes(type));
  Cast(DType::kF32, type, reinterpret_cast<const uint8_t*>(values.data()),
       values.size(), bytes.data(), nullptr);
  return bytes;
}

/// Weights and what a test makes of them.
struct Quantized {
  Input input;
  std::vector<float> weights;

  explicit Quantized(DType dtype, DType base = DType::kBF16) {
    input.dtype = dtype;
    input.row = kRow;
    Bytes bytes = MakeInput(Kind::kGaussian, base, kWeights, 11);
    for (size_t i = 0; i < kWeights; ++i) {
      weights.push_back(ToFloat(base, &bytes[i * ElementBytes(base)]));
    }
    Add(Role::kBase, base, std::move(bytes), 0);
  }
  void Add(Role role, DType type, Bytes bytes, uint64_t row) {
    input.arrays.push_back(std::move(bytes));
    input.references.push_back({role, type, input.arrays.back(), row});
  }
  /// Greatest magnitude of rows [i, i + down) and columns [j, j + across).
  float Most(size_t i, size_t j, size_t down, size_t across) const {
    float most = 0;
    for (size_t r = i; r < std::min(i + down, kRows); ++r) {
      for (size_t c = j; c < std::min(j + across, kRow); ++c) {
        most = std::max(most, std::abs(weights[r * kRow + c]));
      }
    }
    return most;
  }
  /// A scale for each part of the matrix, from its greatest magnitude.
  std::vector<float> Scales(size_t down, size_t across, float most_code) const {
    std::vector<float> scales;
    for (size_t i = 0; i < kRows; i += down) {
      for (size_t j = 0; j < kRow; j += across) {
        scales.push_back(Most(i, j, down, across) / most_code);
      }
    }
    return scales;
  }
};

/// Bits a weight that the input takes as one frame, which comes back.
double BitsOf(const Input& input) {
  const EncodeRequest request =
      input.Request(input.data.size() / 3 / 16 * 16, 3);
  EXPECT_GE(CheckRoundTrip(kScaled, request), 1u);
  Scratch scratch;
  const auto coded = EncodeFrame(*FindEncoder(kScaled), request, scratch);
  EXPECT_TRUE(coded.has_value());
  if (!coded.has_value()) return 64;
  size_t size = coded->params.size();
  for (const auto& block : coded->blocks) {
    size += block.has_value() ? block->size() : input.data.size();
  }
  return 8.0 * static_cast<double>(size) / kWeights;
}

/// What is left where all is as predicted: parameters.
constexpr double kNearlyNothing = 0.02;

TEST(Scaled, CodesByRegisteredCast) {
  // Casts of codec 15 round likewise; what is saturated there is elsewhere.
  for (const DType type : {DType::kF8E4M3, DType::kF8E5M2}) {
    for (const size_t across : {size_t{1}, size_t{32}, kRow}) {
      Quantized q(type);
      const std::vector<float> scales =
          q.Scales(1, across, type == DType::kF8E4M3 ? 448 : 57344);
      const size_t a_row = kRow / across;
      std::vector<float> divided;
      for (size_t i = 0; i < kWeights; ++i) {
        const float scale = scales[i / kRow * a_row + i % kRow / across];
        divided.push_back(scale == 0 ? 0 : q.weights[i] / scale);
      }
      q.input.data = FromFloats(type, divided);
      q.Add(Role::kScale, DType::kF32, FromFloats(DType::kF32, scales), a_row);
      EXPECT_LT(BitsOf(q.input), kNearlyNothing) << across;
    }
  }
}

TEST(Scaled, BlocksOf128) {
  Quantized q(DType::kF8E4M3, DType::kF32);
  const std::vector<float> scales = q.Scales(128, 128, 448);
  std::vector<float> divided;
  for (size_t i = 0; i < kWeights; ++i) {
    divided.push_back(q.weights[i] / scales[i % kRow / 128]);
  }
  q.input.data = FromFloats(DType::kF8E4M3, divided);
  q.Add(Role::kScale, DType::kF32, FromFloats(DType::kF32, scales), 2);
  EXPECT_LT(BitsOf(q.input), kNearlyNothing);
}

TEST(Scaled, ScalesMayBeOneToARowInOneDimension) {
  Quantized q(DType::kI8, DType::kF16);
  const std::vector<float> scales = q.Scales(1, kRow, 127);
  for (size_t i = 0; i < kWeights; ++i) {
    q.input.data.push_back(static_cast<uint8_t>(
        static_cast<int8_t>(std::nearbyintf(q.weights[i] / scales[i / kRow]))));
  }
  q.Add(Role::kScale, DType::kF32, FromFloats(DType::kF32, scales), kRows);
  EXPECT_LT(BitsOf(q.input), kNearlyNothing);
}

/// Integers from 0 to 15, with a scale and a zero point for each group.
struct Groups {
  std::vector<float> scales;
  std::vector<int> zeros;
  std::vector<uint8_t> codes;
};
constexpr size_t kGroup = 32;
constexpr size_t kGroupsARow = kRow / kGroup;

Groups MakeGroups(const Quantized& q) {
  Groups groups;
  for (size_t g = 0; g < kWeights / kGroup; ++g) {
    const auto begin =
        q.weights.begin() + static_cast<std::ptrdiff_t>(g * kGroup);
    const auto [low, high] =
        std::minmax_element(begin, begin + static_cast<std::ptrdiff_t>(kGroup));
    const float scale = (*high - *low) / 15;
    const int zero =
        std::clamp(static_cast<int>(std::nearbyintf(-*low / scale)), 0, 15);
    groups.scales.push_back(scale);
    groups.zeros.push_back(zero);
    for (size_t i = 0; i < kGroup; ++i) {
      const int code = static_cast<int>(std::nearbyintf(
                           begin[static_cast<std::ptrdiff_t>(i)] / scale)) +
                       zero;
      groups.codes.push_back(static_cast<uint8_t>(std::clamp(code, 0, 15)));
    }
  }
  return groups;
}

/// Eight to a number, `at(k)` saying which code is its k-th from below.
Bytes PackEights(const std::vector<uint8_t>& codes,
                 const std::function<size_t(size_t)>& at) {
  Bytes bytes(codes.size() / 2);
  for (size_t i = 0; i < codes.size(); ++i) {
    const size_t from = i / 8 * 8 + at(i % 8);
    bytes[i / 2] =
        static_cast<uint8_t>(bytes[i / 2] | codes[from] << (i % 2 * 4));
  }
  return bytes;
}

TEST(Scaled, ZeroPointsDownColumns) {
  Quantized q(DType::kI32, DType::kF32);
  const Groups groups = MakeGroups(q);
  q.input.data = PackEights(groups.codes, [](size_t k) { return k; });
  q.Add(Role::kScale, DType::kF32, FromFloats(DType::kF32, groups.scales),
        kGroupsARow);
  Bytes zeros(kRows / 8 * kGroupsARow * 4);
  for (size_t r = 0; r < kRows; ++r) {
    for (size_t g = 0; g < kGroupsARow; ++g) {
      uint8_t& to = zeros[(r / 8 * kGroupsARow + g) * 4 + r % 8 / 2];
      to = static_cast<uint8_t>(to | groups.zeros[r * kGroupsARow + g]
                                         << (r % 2 * 4));
    }
  }
  q.Add(Role::kZero, DType::kI32, zeros, kGroupsARow);
  EXPECT_LT(BitsOf(q.input), kNearlyNothing);
}

TEST(Scaled, AlternatingCodesAndZeroPoints) {
  constexpr size_t kOrder[] = {0, 2, 4, 6, 1, 3, 5, 7};
  Quantized q(DType::kI32, DType::kF32);
  const Groups groups = MakeGroups(q);
  q.input.data = PackEights(groups.codes, [&](size_t k) { return kOrder[k]; });
  q.Add(Role::kScale, DType::kF32, FromFloats(DType::kF32, groups.scales),
        kGroupsARow);
  const std::vector<uint8_t> zeros(groups.zeros.begin(), groups.zeros.end());
  q.Add(Role::kZero, DType::kI32,
        PackEights(zeros, [&](size_t k) { return kOrder[k]; }),
        kGroupsARow / 8);
  EXPECT_LT(BitsOf(q.input), kNearlyNothing);
}

/// The code of E2M1 that is nearest, the even one of two.
uint8_t NearestE2M1(float value) {
  constexpr float kValues[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  size_t best = 0;
  for (size_t k = 1; k < 8; ++k) {
    const float far = std::abs(kValues[k] - std::abs(value));
    const float least = std::abs(kValues[best] - std::abs(value));
    if (far < least || (far == least && k % 2 == 0)) best = k;
  }
  return static_cast<uint8_t>(best | (std::signbit(value) ? 8u : 0u));
}

TEST(Scaled, FloatsOfFourBitsWithScalesOfScales) {
  for (const bool divides : {false, true}) {
    Quantized q(DType::kU8);
    const float global = divides ? 2688 / q.Most(0, 0, kRows, kRow)
                                 : q.Most(0, 0, kRows, kRow) / 2688;
    std::vector<float> scales = q.Scales(1, 16, 6);
    for (float& scale : scales) {
      scale = divides ? scale * global : scale / global;
    }
    const Bytes stored = FromFloats(DType::kF8E4M3, scales);
    for (size_t i = 0; i < kWeights; ++i) {
      const float scale = ToFloat(DType::kF8E4M3, &stored[i / 16]);
      const uint8_t code = NearestE2M1(
          q.weights[i] / (divides ? scale / global : scale * global));
      if (i % 2 == 0) {
        q.input.data.push_back(code);
      } else {
        q.input.data.back() =
            static_cast<uint8_t>(q.input.data.back() | code << 4);
      }
    }
    q.Add(Role::kScale, DType::kF8E4M3, stored, kRow / 16);
    q.Add(Role::kScale, DType::kF32, FromFloats(DType::kF32, {global}), 1);
    EXPECT_LT(BitsOf(q.input), kNearlyNothing);
  }
}

TEST(Scaled, NearlyTheNearestCostsLittle) {
  // One code in three is one more or one less.
  Quantized q(DType::kI8);
  const std::vector<float> scales = q.Scales(1, kRow, 100);
  Random random(3);
  for (size_t i = 0; i < kWeights; ++i) {
    const float code = std::nearbyintf(q.weights[i] / scales[i / kRow]);
    const size_t by = random.Below(6);
    q.input.data.push_back(
        static_cast<uint8_t>(static_cast<int8_t>(code + (by == 0   ? 1.0F
                                                         : by == 1 ? -1.0F
                                                                   : 0.0F))));
  }
  q.Add(Role::kScale, DType::kF32, FromFloats(DType::kF32, scales), 1);
  // An entropy of 1.25, and the states of three blocks.
  EXPECT_LT(BitsOf(q.input), 1.25 + 8.0 * 3 * 128 / kWeights + 0.02);
}

TEST(Scaled, WhatIsNotMadeOfTheBaseIsLeftAlone) {
  Quantized q(DType::kI8);
  q.input.data = MakeInput(Kind::kRandom, DType::kI8, kWeights, 5);
  q.Add(Role::kScale, DType::kF32, FromFloats(DType::kF32, {0.01F}), 1);
  Scratch scratch;
  EXPECT_FALSE(
      EncodeFrame(*FindEncoder(kScaled), q.input.Request(65536, 3), scratch)
          .has_value());
}

TEST(Scaled, OddScalesComeBack) {
  // 0, infinities, NaNs, numbers near 0.
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16}) {
    const Bytes special = MakeInput(Kind::kSpecial, type, kRows, 2);
    for (const DType codes : {DType::kI8, DType::kF8E4M3, DType::kU8}) {
      Quantized q(codes);
      q.input.data = MakeInput(Kind::kSparse, codes,
                               codes == DType::kU8 ? kWeights / 2 : kWeights);
      q.Add(Role::kScale, type, special, 1);
      CheckRoundTrip(kScaled, q.input.Request(4096, 3));
    }
  }
}

TEST(Scaled, OtherReferencesAreRefused) {
  const Input input =
      PutBeside(Beside::kScales, DType::kI8,
                MakeInput(Kind::kGaussian, DType::kI8, 12000), 8);
  const EncodeRequest request = input.Request(size_t{1} << 20, 3);
  Scratch scratch;
  const auto coded = EncodeFrame(*FindEncoder(kScaled), request, scratch);
  ASSERT_TRUE(coded.has_value());
  const auto decodes = [&](auto change) {
    Context context(request, request.data);
    change(context);
    return DecodeBlock(*FindDecoder(kScaled), coded->params, context.get(),
                       *coded->blocks[0], request.data.size())
        .has_value();
  };
  EXPECT_TRUE(decodes([](Context&) {}));
  EXPECT_FALSE(decodes([](Context& c) { c.references.clear(); }));
  EXPECT_FALSE(decodes([](Context& c) { c.references.pop_back(); }));
  EXPECT_FALSE(
      decodes([](Context& c) { std::swap(c.references[0], c.references[1]); }));
  EXPECT_FALSE(decodes([](Context& c) {
    c.references[0].data = c.references[0].data.first(100);
  }));
  EXPECT_FALSE(decodes([](Context& c) {
    c.references[1].data = c.references[1].data.first(400);
  }));
  EXPECT_FALSE(
      decodes([](Context& c) { c.references[1].dtype = DType::kI64; }));
  EXPECT_FALSE(decodes([](Context& c) { c.references[0].dtype = DType::kI8; }));
  EXPECT_FALSE(decodes([](Context& c) { c.position = UINT64_MAX - 5; }));
  EXPECT_FALSE(decodes([](Context& c) { c.position = 60 * 200; }));
  EXPECT_FALSE(decodes([](Context& c) { c.row = 1; }));
}

}  // namespace
}  // namespace zipllm::codecs
