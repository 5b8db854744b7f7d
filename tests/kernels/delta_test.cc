// The kernels of codec 15: every target that this CPU has against the scalar
// ones, which are the definition.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <random>
#include <vector>

#include "kernels/kernels.h"

namespace zipllm::kernels {
namespace {

constexpr Target kTargets[] = {Target::kNeon, Target::kAvx2, Target::kAvx512};

/// Elements beside predictions that are equal, near, or anything.
struct Pair {
  std::vector<uint8_t> elements, predictions;
};
Pair MakePair(size_t size, size_t count, uint32_t seed) {
  std::mt19937_64 random(seed);
  Pair pair{std::vector<uint8_t>(count * size),
            std::vector<uint8_t>(count * size)};
  for (size_t i = 0; i < count; ++i) {
    const uint64_t prediction = random();
    uint64_t element = prediction + (random() >> (random() % 64));
    if (random() % 4 == 0) element = prediction;
    for (size_t b = 0; b < size; ++b) {
      pair.elements[i * size + b] = static_cast<uint8_t>(element >> 8 * b);
      pair.predictions[i * size + b] =
          static_cast<uint8_t>(prediction >> 8 * b);
    }
  }
  return pair;
}

template <typename Body>
void ForTargets(const Body& body) {
  for (const Target target : kTargets) {
    if (const Table* table = Find(target)) {
      SCOPED_TRACE(table->name);
      body(*table);
    }
  }
}

TEST(DeltaKernels, Steps) {
  std::mt19937 random(1);
  for (const size_t size : {1, 2, 4, 8}) {
    for (const size_t count : {1, 63, 64, 65, 1000}) {
      const Pair pair = MakePair(size, count, 2);
      std::vector<int16_t> columns(count);
      for (int16_t& c : columns) c = static_cast<int16_t>(random() % 127 - 63);
      for (const bool by_columns : {false, true}) {
        const int16_t* const offsets = by_columns ? columns.data() : nullptr;
        const auto steps = [&](const Table& table) {
          std::vector<uint8_t> made(count);
          table.delta_steps(pair.predictions.data(), size, 3, 15, 40, offsets,
                            count, made.data());
          return made;
        };
        const std::vector<uint8_t> expected = steps(*ScalarTable());
        ForTargets([&](const Table& table) {
          EXPECT_EQ(steps(table), expected) << size << " " << count;
        });
      }
    }
  }
}

TEST(DeltaKernels, Measure) {
  constexpr size_t kCount = 777;
  constexpr size_t kSizes[] = {2, 2, 4, 8, 1, 1, 1, 2, 4, 8};
  for (int kind = 0; kind < 10; ++kind) {
    const Pair pair = MakePair(kSizes[kind], kCount, 3);
    const auto measure = [&](const Table& table) {
      std::vector<uint32_t> columns(kCount, 5);
      const uint64_t sum = table.delta_measure(
          pair.elements.data(), pair.predictions.data(),
          static_cast<NumberKind>(kind), 1024.0f, kCount, columns.data());
      EXPECT_EQ(sum, table.delta_measure(pair.elements.data(),
                                         pair.predictions.data(),
                                         static_cast<NumberKind>(kind), 1024.0f,
                                         kCount, nullptr));
      return columns;
    };
    const std::vector<uint32_t> expected = measure(*ScalarTable());
    ForTargets([&](const Table& table) {
      EXPECT_EQ(measure(table), expected) << kind;
    });
  }
}

TEST(DeltaKernels, SymbolsAndBack) {
  constexpr size_t kCount = 20011;
  for (const size_t size : {1, 2, 4}) {
    for (const bool is_float : {false, true}) {
      const Pair pair = MakePair(size, kCount, 4);
      const auto symbols = [&](const Table& table) {
        std::vector<uint8_t> made(kCount);
        table.residual_symbols(pair.elements.data(), pair.predictions.data(),
                               size, is_float, kCount, made.data());
        return made;
      };
      const std::vector<uint8_t> expected = symbols(*ScalarTable());
      ForTargets(
          [&](const Table& table) { EXPECT_EQ(symbols(table), expected); });
      const auto apply = [&](const Table& table) {
        std::vector<uint8_t> made(pair.elements.size());
        table.residual_apply(expected.data(), pair.predictions.data(), size,
                             is_float, kCount, made.data());
        for (size_t i = 0; i < kCount; ++i) {
          if (expected[i] < 31) continue;
          std::fill_n(made.begin() + static_cast<std::ptrdiff_t>(i * size),
                      size, uint8_t{0});
        }
        return made;
      };
      const std::vector<uint8_t> applied = apply(*ScalarTable());
      ForTargets([&](const Table& table) { EXPECT_EQ(apply(table), applied); });
      for (size_t i = 0; i < kCount; ++i) {
        if (expected[i] >= 31) continue;
        for (size_t b = i * size; b < (i + 1) * size; ++b) {
          ASSERT_EQ(applied[b], pair.elements[b]);
        }
      }
    }
  }
}

TEST(DeltaKernels, MapBytes) {
  std::mt19937 random(5);
  std::vector<uint8_t> map(256);
  for (uint8_t& m : map) m = static_cast<uint8_t>(random());
  for (const size_t count : {0, 1, 31, 32, 63, 64, 65, 500}) {
    std::vector<uint8_t> bytes(count);
    for (uint8_t& b : bytes) b = static_cast<uint8_t>(random());
    const auto mapped = [&](const Table& table) {
      std::vector<uint8_t> made = bytes;
      table.map_bytes(made.data(), count, map.data(), made.data());
      return made;
    };
    const std::vector<uint8_t> expected = mapped(*ScalarTable());
    for (size_t i = 0; i < count; ++i) EXPECT_EQ(expected[i], map[bytes[i]]);
    ForTargets([&](const Table& table) { EXPECT_EQ(mapped(table), expected); });
  }
}

}  // namespace
}  // namespace zipllm::kernels
