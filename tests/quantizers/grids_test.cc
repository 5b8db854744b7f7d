#include "quantizers/grids.h"

#include <gtest/gtest.h>

#include <bit>
#include <fstream>
#include <random>
#include <set>
#include <string>

#include "quantizers/dequantize.h"
#include "quantizers/grid_search.h"
#include "quantizers/inputs.h"

namespace zipllm::quantizers {
namespace {

constexpr DType kTypes[] = {
    DType::kGgmlIQ1S, DType::kGgmlIQ1M,   DType::kGgmlIQ2XXS, DType::kGgmlIQ2XS,
    DType::kGgmlIQ2S, DType::kGgmlIQ3XXS, DType::kGgmlIQ3S,
};

class EachGridType : public testing::TestWithParam<DType> {
 protected:
  const GridType& type() const { return *FindGridType(GetParam()); }
};

INSTANTIATE_TEST_SUITE_P(All, EachGridType, testing::ValuesIn(kTypes));

TEST(Grids, PointsAreThoseOfTheSpecification) {
  std::ifstream file(ZIPLLM_SOURCE_DIR "/format-spec/grids.txt");
  ASSERT_TRUE(file);
  constexpr DType kOrder[] = {DType::kGgmlIQ2XXS, DType::kGgmlIQ2XS,
                              DType::kGgmlIQ2S,   DType::kGgmlIQ1S,
                              DType::kGgmlIQ3XXS, DType::kGgmlIQ3S};
  for (const DType dtype : kOrder) {
    const Grid& grid = *FindGridType(dtype)->grid;
    std::string name;
    int size = 0;
    file >> name >> size;
    ASSERT_EQ(size, grid.size) << name;
    for (int i = 0; i < size; ++i) {
      int code = 0;
      file >> code;
      ASSERT_EQ(code, grid.codes[i]) << name;
      ASSERT_EQ(grid.index[code], i);
    }
  }
}

TEST_P(EachGridType, FieldsHoldEachBit) {
  std::mt19937 random(1);
  std::vector<uint8_t> block(type().bytes), packed(type().bytes);
  for (int i = 0; i < 200; ++i) {
    for (uint8_t& byte : block) byte = static_cast<uint8_t>(random());
    GridFields fields;
    UnpackGridBlock(type(), block.data(), &fields);
    PackGridBlock(type(), fields, packed.data());
    ASSERT_EQ(block, packed);
    if (type().even_signs) {
      for (const uint8_t signs : fields.signs) {
        EXPECT_EQ(std::popcount(signs) % 2, 0);
      }
    }
  }
}

// The numbers of a block, from its fields by the words of the specification.
TEST_P(EachGridType, NumbersAreMadeOfFields) {
  std::mt19937 random(2);
  const bool ternary = type().shifts;
  const float unit = ternary ? 0.125f : type().unit;
  std::vector<uint8_t> block(type().bytes);
  for (int n = 0; n < 50; ++n) {
    for (uint8_t& byte : block) byte = static_cast<uint8_t>(random());
    GridFields fields;
    UnpackGridBlock(type(), block.data(), &fields);
    fields.d = 0x3c00;  // 1
    PackGridBlock(type(), fields, block.data());
    float numbers[kGridBlock];
    ASSERT_TRUE(Dequantize(GetParam(), block.data(), 1, numbers));
    for (int i = 0; i < kGridBlock; ++i) {
      const int width = type().grid->width;
      const int code = type().grid->codes[fields.index[i / width]];
      const int bits = type().grid->bits;
      const int level = code >> bits * (i % width) & ((1 << bits) - 1);
      const int scale = 2 * fields.scale[i / type().group] + 1;
      int value = type().values[level];
      if (ternary) {
        EXPECT_EQ(value, 8 * (level - 1));
        value += fields.signs[i / type().sign_group] != 0 ? -1 : 1;
      } else if (fields.signs[i / 8] >> i % 8 & 1) {
        value = -value;
      }
      ASSERT_EQ(numbers[i], unit * static_cast<float>(scale * value)) << i;
    }
  }
}

TEST_P(EachGridType, NeighboursAreTheNearestPoints) {
  const Grid& grid = *type().grid;
  const auto distance = [&](uint32_t a, uint32_t b) {
    int sum = 0;
    for (int k = 0; k < grid.width; ++k) {
      const auto at = [&](uint32_t code) {
        return static_cast<int>(code >> grid.bits * k &
                                ((1u << grid.bits) - 1));
      };
      sum += (at(a) - at(b)) * (at(a) - at(b));
    }
    return sum;
  };
  std::mt19937 random(3);
  const GridNeighbours& neighbours = NeighboursOf(grid);
  for (int n = 0; n < 100;) {
    uint32_t code = 0;
    for (int k = 0; k < grid.width; ++k) {
      const auto level =
          static_cast<uint32_t>(random()) % static_cast<uint32_t>(grid.levels);
      code |= level << grid.bits * k;
    }
    if (grid.index[code] >= 0) continue;
    ++n;
    std::set<std::pair<int, uint16_t>> nearest;
    std::set<int> shells;
    for (int i = 0; i < grid.size; ++i) {
      shells.insert(distance(code, grid.codes[i]));
    }
    const int farthest = *std::next(shells.begin(), grid.shells - 1);
    for (int i = 0; i < grid.size; ++i) {
      const int far = distance(code, grid.codes[i]);
      if (far <= farthest) nearest.emplace(far, grid.codes[i]);
    }
    const auto list = neighbours.Of(code);
    ASSERT_GE(list.size(), nearest.size());
    ASSERT_LT(list.size(), nearest.size() + GridNeighbours::kMultiple);
    size_t i = 0;
    for (const auto& [far, point] : nearest) ASSERT_EQ(list[i++], point);
    for (; i < list.size(); ++i) ASSERT_EQ(list[i], list[0]);
  }
}

TEST_P(EachGridType, KernelsAgree) {
  std::vector<Matrix> matrices = Hostile();
  matrices.push_back(Plain());
  const GridCandidates* candidates = CandidatesOf(*type().grid);
  const GridKernels& scalar = kGridKernelsScalar;
  std::mt19937 random(4);
  for (const Matrix& matrix : matrices) {
    const float* weights = matrix.weights.data();
    const size_t blocks = 8;
    const size_t eights = blocks * kGridBlock / 8;
    const size_t groups = blocks * kGridBlock / type().group;
    ASSERT_LE(blocks * kGridBlock, matrix.weights.size());
    std::vector<GridPlacing> placings(eights);
    std::vector<uint8_t> flips(eights);
    for (size_t e = 0; e < eights; ++e) {
      const float factor = 64 * 8 / weights[8 * e];  // infinite or NaN, too
      placings[e] = {factor, -64};
      flips[e] = static_cast<uint8_t>(random());
    }
    struct Results {
      std::vector<float> scales;
      std::vector<uint8_t> signs, least, sign_classes, classes;
      std::vector<uint16_t> codes, ranked;
    };
    const auto run = [&](const GridKernels& kernels) {
      Results r;
      r.scales.resize(groups);
      kernels.scales(type(), weights, groups, r.scales.data());
      for (auto* bytes : {&r.signs, &r.least, &r.sign_classes}) {
        bytes->resize(eights);
      }
      kernels.signs(weights, eights, r.signs.data(), r.least.data(),
                    r.sign_classes.data());
      r.codes.resize(blocks * type().points);
      r.classes.resize(r.codes.size());
      kernels.search(type(), candidates, weights, placings.data(), flips.data(),
                     blocks, r.codes.data(), r.classes.data());
      r.ranked.resize(kCandidates);
      kernels.rank(type(), candidates, weights, placings[0], flips[0], 0,
                   kCandidates, r.ranked.data());
      return r;
    };
    const Results expected = run(scalar);
    EXPECT_EQ(expected.ranked[0], expected.codes[0]);
    for (const uint16_t code : expected.codes) {
      EXPECT_GE(type().grid->index[code], 0);
    }
    for (const kernels::Target target : Targets()) {
      const Results results = run(*FindGridKernels(target));
      for (size_t g = 0; g < groups; ++g) {
        const bool nan = expected.scales[g] != expected.scales[g];
        EXPECT_TRUE(nan ? results.scales[g] != results.scales[g]
                        : results.scales[g] == expected.scales[g]);
      }
      EXPECT_EQ(results.signs, expected.signs) << matrix.name;
      EXPECT_EQ(results.least, expected.least) << matrix.name;
      EXPECT_EQ(results.sign_classes, expected.sign_classes) << matrix.name;
      EXPECT_EQ(results.codes, expected.codes) << matrix.name;
      EXPECT_EQ(results.classes, expected.classes) << matrix.name;
      EXPECT_EQ(results.ranked, expected.ranked) << matrix.name;
    }
  }
}

}  // namespace
}  // namespace zipllm::quantizers
