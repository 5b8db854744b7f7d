// Codec 15, and the casts it predicts by.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "codecs/coding.h"
#include "codecs/generators.h"
#include "codecs/reference/casts.h"
#include "zipllm/types.h"

namespace zipllm::codecs {
namespace {

constexpr CodecId kDelta = 15;
constexpr size_t kBlock = size_t{1} << 16;

constexpr DType kTypes[] = {
    DType::kF64,    DType::kF32,    DType::kF16,        DType::kBF16,
    DType::kF8E4M3, DType::kF8E5M2, DType::kF8E4M3FNUZ, DType::kF8E5M2FNUZ,
    DType::kF8E8M0, DType::kI8,     DType::kI16,        DType::kI32,
    DType::kI64,    DType::kU8,     DType::kU16,        DType::kU32,
    DType::kU64,    DType::kBool};
constexpr DType kFloats[] = {DType::kF64,  DType::kF32,    DType::kF16,
                             DType::kBF16, DType::kF8E4M3, DType::kF8E5M2};

// The value of an element; NaN where it is none.
double ValueOf(DType type, const uint8_t* element) {
  uint8_t wide[8];
  Cast(type, DType::kF64, element, 1, wide, nullptr);
  double value;
  std::memcpy(&value, wide, sizeof value);
  return value;
}

TEST(Delta, TypesAndBesidesComeBack) {
  for (const DType type : kTypes) {
    for (const Kind kind :
         {Kind::kGaussian, Kind::kRandom, Kind::kSpecial, Kind::kSparse}) {
      for (const Beside beside :
           {Beside::kBase, Beside::kBaseOtherDType, Beside::kTwoBases}) {
        const Input input =
            PutBeside(beside, type, MakeInput(kind, type, 9001), 5);
        CheckRoundTrip(kDelta, input.Request(kBlock / 8 * 8, 3));
      }
    }
  }
}

TEST(Delta, CodesWhatIsNearItsBase) {
  for (const DType type :
       {DType::kF32, DType::kF16, DType::kBF16, DType::kF64}) {
    for (const Beside beside : {Beside::kBase, Beside::kBaseOtherDType}) {
      const Input input =
          PutBeside(beside, type, MakeInput(Kind::kGaussian, type, 50000), 6);
      EXPECT_GE(CheckRoundTrip(kDelta, input.Request(kBlock, 3)), 1u);
    }
  }
}

TEST(Delta, SizesComeBack) {
  for (const size_t elements : {1, 2, 3, 59, 60, 61, 128, 384, 4095, 4097, 8191,
                                8192, 8193, 40000, 300000}) {
    for (const DType type : {DType::kBF16, DType::kF32, DType::kI8}) {
      const Input input = PutBeside(
          Beside::kBase, type, MakeInput(Kind::kGaussian, type, elements), 7);
      CheckRoundTrip(kDelta, input.Request(kBlock, 3));
      CheckRoundTrip(kDelta, input.Request(size_t{1} << 20, 3));
    }
  }
}

TEST(Delta, FloatsOfAllTypesBesideEachOtherComeBack) {
  for (const DType type : kFloats) {
    for (const DType other : kFloats) {
      for (const Kind kind : {Kind::kGaussian, Kind::kRandom, Kind::kSpecial}) {
        Input input;
        input.dtype = type;
        input.row = 100;
        input.data = MakeInput(kind, type, 20000);
        std::vector<uint8_t> base(20000 * ElementBytes(other));
        Cast(type, other, input.data.data(), 20000, base.data(), nullptr);
        input.arrays.push_back(std::move(base));
        input.references.push_back(
            {Role::kBase, other, input.arrays.back(), 0});
        CheckRoundTrip(kDelta, input.Request(kBlock, 3));
      }
    }
  }
}

TEST(Delta, CastsTakeNearlyNothing) {
  for (const auto& [from, to] : {std::pair(DType::kF32, DType::kBF16),
                                 {DType::kF32, DType::kF16},
                                 {DType::kBF16, DType::kF16},
                                 {DType::kBF16, DType::kF32},
                                 {DType::kF16, DType::kF32}}) {
    constexpr size_t kElements = 300000;
    Input input;
    input.dtype = to;
    input.row = 500;
    input.arrays.push_back(MakeInput(Kind::kGaussian, from, kElements));
    input.data.resize(kElements * ElementBytes(to));
    Cast(from, to, input.arrays[0].data(), kElements, input.data.data(),
         nullptr);
    input.references.push_back({Role::kBase, from, input.arrays[0], 0});
    const EncodeRequest request = input.Request(size_t{1} << 18, 3);
    EXPECT_GE(CheckRoundTrip(kDelta, request), 1u);
    Scratch scratch;
    const auto coded = EncodeFrame(*FindEncoder(kDelta), request, scratch);
    ASSERT_TRUE(coded.has_value());
    EXPECT_LT(coded->params.size(), 32u);
    for (const auto& block : coded->blocks) {
      ASSERT_TRUE(block.has_value());
      EXPECT_EQ(block->size(), 0u);
    }
  }
}

TEST(Delta, FrozenRowsTakeNearlyNothing) {
  // One row in ten was trained.
  constexpr size_t kRow = 500;
  Input input;
  input.dtype = DType::kBF16;
  input.row = kRow;
  input.data = MakeInput(Kind::kGaussian, DType::kBF16, 100 * kRow);
  std::vector<uint8_t> base = input.data;
  Random random(4);
  for (size_t r = 0; r < 100; r += 10) {
    for (size_t i = r * kRow; i < (r + 1) * kRow; ++i) {
      base[2 * i] = static_cast<uint8_t>(base[2 * i] ^ random.Below(4));
    }
  }
  input.arrays.push_back(std::move(base));
  input.references.push_back(
      {Role::kBase, DType::kBF16, input.arrays.back(), 0});
  const EncodeRequest request = input.Request(size_t{1} << 20, 3);
  EXPECT_EQ(CheckRoundTrip(kDelta, request), 1u);
  Scratch scratch;
  const auto coded = EncodeFrame(*FindEncoder(kDelta), request, scratch);
  ASSERT_TRUE(coded.has_value());
  // Two bits for each element of the ten rows.
  EXPECT_LT(coded->params.size() + coded->blocks[0]->size(),
            2 * 10 * kRow * 2 / 8);
}

TEST(Delta, EstimateIsWhatFramesTake) {
  for (const size_t elements : {384, 20000, 300000}) {
    const Input input =
        PutBeside(Beside::kBase, DType::kBF16,
                  MakeInput(Kind::kGaussian, DType::kBF16, elements), 9);
    Scratch scratch;
    const auto coded = EncodeFrame(*FindEncoder(kDelta),
                                   input.Request(kBlock * 8, 3), scratch);
    ASSERT_TRUE(coded.has_value());
    size_t size = 0;
    for (const auto& block : coded->blocks) size += block->size();
    EXPECT_NEAR(static_cast<double>(coded->estimate), static_cast<double>(size),
                40 + 0.01 * static_cast<double>(size));
  }
}

TEST(Delta, OtherReferencesAreRefused) {
  const Input input =
      PutBeside(Beside::kBase, DType::kBF16,
                MakeInput(Kind::kGaussian, DType::kBF16, 10000), 8);
  const EncodeRequest request = input.Request(size_t{1} << 20, 3);
  Scratch scratch;
  const auto coded = EncodeFrame(*FindEncoder(kDelta), request, scratch);
  ASSERT_TRUE(coded.has_value());
  const auto decodes = [&](auto change) {
    Context context(request, request.data);
    change(context);
    return DecodeBlock(*FindDecoder(kDelta), coded->params, context.get(),
                       *coded->blocks[0], request.data.size())
        .has_value();
  };
  EXPECT_TRUE(decodes([](Context&) {}));
  EXPECT_FALSE(decodes([](Context& c) { c.references.clear(); }));
  EXPECT_FALSE(
      decodes([](Context& c) { c.references[0].role = Role::kFirstMoment; }));
  EXPECT_FALSE(
      decodes([](Context& c) { c.references[0].dtype = DType::kF32; }));
  EXPECT_FALSE(
      decodes([](Context& c) { c.references[0].dtype = DType::kI16; }));
  EXPECT_FALSE(
      decodes([](Context& c) { c.references[0].dtype = DType::kBytes; }));
  EXPECT_FALSE(decodes([](Context& c) {
    c.references[0].data = c.references[0].data.first(100);
  }));
}

TEST(Delta, OffersNothingWithoutABase) {
  const std::vector<uint8_t> data =
      MakeInput(Kind::kGaussian, DType::kBF16, 1000);
  const Input input = PutBeside(Beside::kNothing, DType::kBF16, data);
  Scratch scratch;
  EXPECT_EQ(FindEncoder(kDelta)->plan(input.Request(kBlock, 3), scratch),
            nullptr);
}

// ---- Casts ----

TEST(Cast, ThereAndBackIsTheSame) {
  for (const DType narrow :
       {DType::kF16, DType::kBF16, DType::kF8E4M3, DType::kF8E5M2}) {
    const size_t size = ElementBytes(narrow);
    for (const DType wide : {DType::kF32, DType::kF64}) {
      for (uint32_t bits = 0; bits < uint32_t{1} << (8 * size); ++bits) {
        uint8_t wider[8];
        uint32_t back = 0;
        int32_t rest = 1;
        Cast(narrow, wide, reinterpret_cast<const uint8_t*>(&bits), 1, wider,
             nullptr);
        Cast(wide, narrow, wider, 1, reinterpret_cast<uint8_t*>(&back), &rest);
        if (std::isnan(ValueOf(narrow, reinterpret_cast<uint8_t*>(&bits)))) {
          EXPECT_TRUE(
              std::isnan(ValueOf(narrow, reinterpret_cast<uint8_t*>(&back))));
        } else {
          ASSERT_EQ(back, bits);
        }
        EXPECT_EQ(rest, 0);
      }
    }
  }
}

TEST(Cast, DoublesToFloatsAsTheMachineDoes) {
  Random random(3);
  for (int i = 0; i < 200000; ++i) {
    uint64_t bits = random.Next();
    // Exponents around those of floats, too.
    if (i % 2 != 0) {
      bits = (bits & 0x800fffffffffffff) |
             (uint64_t{860 + random.Below(300)} << 52);
    }
    double value;
    std::memcpy(&value, &bits, sizeof value);
    if (std::isnan(value)) continue;
    const auto expected = static_cast<float>(value);
    float made;
    Cast(DType::kF64, DType::kF32, reinterpret_cast<const uint8_t*>(&bits), 1,
         reinterpret_cast<uint8_t*>(&made), nullptr);
    ASSERT_EQ(std::memcmp(&made, &expected, sizeof made), 0) << value;
  }
}

TEST(Cast, GoesToTheNearestAndTellsTheRest) {
  Random random(5);
  for (const DType type :
       {DType::kF16, DType::kBF16, DType::kF8E4M3, DType::kF8E5M2}) {
    const size_t size = ElementBytes(type);
    for (int i = 0; i < 50000; ++i) {
      auto bits = static_cast<uint32_t>(random.Next());
      if (i % 2 != 0) {
        bits = (bits & 0x807fffff) |
               static_cast<uint32_t>(100 + random.Below(45)) << 23;
      }
      float value;
      std::memcpy(&value, &bits, sizeof value);
      if (std::isnan(value)) continue;
      uint32_t made = 0;
      int32_t rest;
      Cast(DType::kF32, type, reinterpret_cast<const uint8_t*>(&bits), 1,
           reinterpret_cast<uint8_t*>(&made), &rest);
      const auto number = [&](uint32_t of) {
        return std::fabs(ValueOf(type, reinterpret_cast<uint8_t*>(&of)));
      };
      const double far = std::fabs(std::fabs(double{value}) - number(made));
      const double above = number(made + 1);
      const double below = number(made - 1);
      if (!std::isfinite(number(made)) || !std::isfinite(above)) continue;
      ASSERT_LE(far, std::fabs(std::fabs(double{value}) - above));
      if ((made & ((1u << (8 * size - 1)) - 1)) == 0) continue;
      ASSERT_LE(far, std::fabs(std::fabs(double{value}) - below));
      const double unit =
          rest < 0 ? number(made) - below : above - number(made);
      ASSERT_NEAR((std::fabs(double{value}) - number(made)) / unit,
                  rest / 65536.0, 1.0 / 65536);
    }
  }
}

}  // namespace
}  // namespace zipllm::codecs
