// The kernels of cascades: the scalar ones against their definition in words,
// every other target against them.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace zipllm::kernels {
namespace {

using Bytes = std::vector<uint8_t>;

constexpr size_t kSlack = 64;
constexpr int kWidths[] = {1, 2, 4};

size_t CodeBytes(int width) { return 16 * static_cast<size_t>(width); }

/// A heap copy of exactly these bytes, `offset` behind the allocation's begin.
class Exact {
 public:
  explicit Exact(const Bytes& bytes, size_t offset = 0)
      : data_(new uint8_t[bytes.size() + offset]), offset_(offset) {
    std::copy(bytes.begin(), bytes.end(), data());
  }
  uint8_t* data() { return data_.get() + offset_; }

 private:
  std::unique_ptr<uint8_t[]> data_;
  size_t offset_;
};

/// Code i of a group, as kernels.h words it.
uint32_t CodeOf(const uint8_t* group, int width, size_t i) {
  switch (width) {
    case 1:
      return (uint32_t{group[i / 8]} >> (i % 8)) & 1;
    case 2:
      return (uint32_t{group[i % 32]} >> (2 * (i / 32))) & 3;
    default:
      return i < 64 ? group[i] & 15u : group[i - 64] >> 4;
  }
}

class CascadeKernelTest : public testing::TestWithParam<Target> {
 protected:
  void SetUp() override {
    table_ = Find(GetParam());
    if (table_ == nullptr) GTEST_SKIP() << "not on this CPU";
  }
  /// `escapes` of 8 bytes have all bits set.
  Bytes RandomBytes(size_t size, uint32_t escapes = 0) {
    Bytes bytes(size);
    for (uint8_t& byte : bytes) {
      byte = random_() % 8 < escapes ? uint8_t{255}
                                     : static_cast<uint8_t>(random_());
    }
    return bytes;
  }
  const Table* table_ = nullptr;
  std::mt19937 random_{7};
};

std::string TargetName(const testing::TestParamInfo<Target>& target) {
  constexpr const char* kNames[] = {"Scalar", "Neon", "Avx2", "Avx512"};
  return kNames[static_cast<size_t>(target.param)];
}
INSTANTIATE_TEST_SUITE_P(Targets, CascadeKernelTest,
                         testing::Values(Target::kScalar, Target::kNeon,
                                         Target::kAvx2, Target::kAvx512),
                         TargetName);

TEST_P(CascadeKernelTest, ExpandsByTheDefinition) {
  for (const int width : kWidths) {
    for (const size_t groups : {0, 1, 2, 7, 33}) {
      for (const uint32_t escapes : {0, 4, 8}) {
        const Bytes codes = RandomBytes(groups * CodeBytes(width), escapes);
        const Bytes symbols = RandomBytes(16);
        const Bytes escaped = RandomBytes(groups * kGroup + kSlack);
        Bytes expected;
        size_t taken = 0;
        for (size_t i = 0; i < groups * kGroup; ++i) {
          const uint32_t code =
              CodeOf(&codes[i / kGroup * CodeBytes(width)], width, i % kGroup);
          const bool escape = code == (1u << width) - 1;
          expected.push_back(escape ? escaped[taken++] : symbols[code]);
        }
        const size_t offset = random_() % 64;
        Exact out(Bytes(groups * kGroup), offset);
        EXPECT_EQ(
            table_->cascade_expand(Exact(codes, offset).data(), groups, width,
                                   Exact(symbols).data(),
                                   Exact(escaped, offset).data(), out.data()),
            taken);
        EXPECT_EQ(Bytes(out.data(), out.data() + groups * kGroup), expected)
            << "width " << width << ", " << groups << " groups";
      }
    }
  }
}

TEST_P(CascadeKernelTest, ReducesByTheDefinition) {
  for (const int width : kWidths) {
    const uint32_t escape = (1u << width) - 1;
    for (const size_t groups : {0, 1, 2, 7, 33}) {
      for (const uint32_t greatest : {0, 1, 3, 20, 255}) {
        Bytes ranks(groups * kGroup);
        for (uint8_t& rank : ranks) {
          rank = static_cast<uint8_t>(random_() % (greatest + 1));
        }
        const size_t offset = random_() % 64;
        Exact codes(Bytes(groups * CodeBytes(width)), offset);
        Exact escaped(Bytes(groups * kGroup + kSlack), offset);
        const size_t count =
            table_->cascade_reduce(Exact(ranks, offset).data(), groups, width,
                                   codes.data(), escaped.data());
        Bytes expected;
        for (size_t i = 0; i < ranks.size(); ++i) {
          const uint32_t code = CodeOf(
              codes.data() + i / kGroup * CodeBytes(width), width, i % kGroup);
          ASSERT_EQ(code, std::min<uint32_t>(ranks[i], escape))
              << "width " << width << ", element " << i;
          if (ranks[i] >= escape) {
            expected.push_back(static_cast<uint8_t>(ranks[i] - escape));
          }
        }
        EXPECT_EQ(Bytes(escaped.data(), escaped.data() + count), expected);
      }
    }
  }
}

TEST_P(CascadeKernelTest, JoinsAndTakesRests) {
  for (const size_t groups : {0, 1, 3, 16}) {
    for (const int shift : {0, 3}) {
      for (const bool has_low : {false, true}) {
        if (has_low && shift == 0) continue;
        const Bytes exponents = RandomBytes(groups * kGroup);
        const Bytes rests = RandomBytes(groups * kGroup);
        const Bytes low = RandomBytes(groups * 3 * kGroup / 8);
        const size_t offset = random_() % 64;
        Exact joined(Bytes(groups * kGroup * 2), offset);
        table_->join_rests(Exact(exponents, offset).data(),
                           Exact(rests, offset).data(),
                           has_low ? Exact(low, offset).data() : nullptr,
                           groups, shift, joined.data());
        std::vector<uint16_t> units(groups * kGroup);
        for (size_t i = 0; i < units.size(); ++i) {
          const uint32_t magnitude =
              (uint32_t{exponents[i]} * 128 + rests[i] / 2) << shift;
          uint32_t expected = (magnitude | rests[i] % 2u << 15) & 0xFFFF;
          for (size_t p = 0; has_low && p < 3; ++p) {
            const size_t byte = i / kGroup * 48 + p * 16 + i % kGroup / 8;
            expected |= (uint32_t{low[byte]} >> (i % 8) & 1) << p;
          }
          units[i] = static_cast<uint16_t>(joined.data()[2 * i] |
                                           joined.data()[2 * i + 1] << 8);
          ASSERT_EQ(units[i], expected) << "shift " << shift << ", " << i;
        }
        Exact taken(Bytes(groups * kGroup), offset);
        Exact taken_low(Bytes(low.size()), offset);
        table_->take_rests(units.data(), groups, shift, taken.data(),
                           has_low ? taken_low.data() : nullptr);
        if (has_low) {
          EXPECT_EQ(Bytes(taken_low.data(), taken_low.data() + low.size()),
                    low);
        }
        for (size_t i = 0; i < units.size(); ++i) {
          ASSERT_EQ(taken.data()[i],
                    (units[i] >> shift) % 128 * 2 + (units[i] >> 15));
        }
      }
    }
  }
}

}  // namespace
}  // namespace zipllm::kernels
