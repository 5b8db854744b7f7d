#include "entropy/rans_tables.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

namespace zipllm::entropy {
namespace {

using kernels::kMaxSymbols;
using kernels::kSlots;

uint32_t Sum(const Frequencies& frequencies) {
  return std::accumulate(frequencies.begin(), frequencies.end(), 0u);
}

/// Frequencies of every shape: flat, skewed, few symbols, one symbol.
std::vector<Frequencies> ManyFrequencies() {
  std::vector<Frequencies> all;
  std::mt19937 random(7);
  for (int trial = 0; trial < 400; ++trial) {
    Counts counts{};
    const size_t symbols = 1 + random() % kMaxSymbols;
    const uint64_t skew = random() % 24;
    for (size_t s = 0; s < symbols; ++s) {
      counts[random() % kMaxSymbols] += 1 + (random() >> random() % (skew + 1));
    }
    all.push_back(Normalize(counts));
  }
  for (size_t s = 0; s < kMaxSymbols; ++s) {
    Counts one{};
    one[s] = 12345;
    all.push_back(Normalize(one));
  }
  all.emplace_back();
  all.back().fill(kSlots / kMaxSymbols);
  return all;
}

TEST(Normalize, AddsUpAndKeepsWhatOccurs) {
  std::mt19937_64 random(1);
  for (int trial = 0; trial < 2000; ++trial) {
    Counts counts{};
    for (uint64_t& count : counts) {
      if (random() % 3 != 0) count = random() >> (19 + random() % 45);
    }
    counts[random() % kMaxSymbols] += 1;
    const Frequencies frequencies = Normalize(counts);
    EXPECT_EQ(Sum(frequencies), kSlots);
    for (size_t s = 0; s < kMaxSymbols; ++s) {
      EXPECT_EQ(frequencies[s] > 0, counts[s] > 0);
    }
  }
}

TEST(Normalize, IsCloseToTheEntropy) {
  Counts counts{};
  for (size_t s = 0; s < 20; ++s) counts[s] = uint64_t{1} << s;
  const Frequencies frequencies = Normalize(counts);
  double entropy = 0, cost = 0, total = (1 << 20) - 1;
  for (size_t s = 0; s < 20; ++s) {
    const double share = static_cast<double>(counts[s]) / total;
    entropy -= share * std::log2(share);
    cost -= share * std::log2(frequencies[s] / 4096.0);
  }
  EXPECT_LT(cost, entropy * 1.003);
}

TEST(Normalize, IsExactWherePossible) {
  Counts counts{};
  counts[3] = 3 << 20;
  counts[9] = 1 << 20;
  const Frequencies frequencies = Normalize(counts);
  EXPECT_EQ(frequencies[3], 3072);
  EXPECT_EQ(frequencies[9], 1024);
}

// The spec's words, "Slots".
std::vector<int> SlotsBySpec(const Frequencies& frequencies) {
  std::vector<int> left(frequencies.begin(), frequencies.end());
  std::vector<int> small, large;
  for (int s = 0; s < 32; ++s) (left[s] < 128 ? small : large).push_back(s);
  std::vector<int> slots(4096);
  const auto fill = [&](int bucket, int threshold, int other) {
    for (int r = 0; r < 128; ++r) {
      slots[128 * bucket + r] = r < threshold ? bucket : other;
    }
  };
  while (!small.empty()) {
    const int s = small.front();
    small.erase(small.begin());
    const int donor = large.front();
    fill(s, left[s], donor);
    left[donor] -= 128 - left[s];
    if (left[donor] < 128) {
      large.erase(large.begin());
      small.push_back(donor);
    }
  }
  for (int s : large) fill(s, 128, s);
  return slots;
}

TEST(DecodeTable, FollowsTheSpec) {
  auto table = std::make_unique<kernels::RansDecodeTable>();
  std::array<uint16_t, kMaxSymbols> keys;
  std::iota(keys.begin(), keys.end(), uint16_t{100});
  for (const Frequencies& frequencies : ManyFrequencies()) {
    BuildDecodeTable(frequencies, keys, table.get());
    EXPECT_TRUE(std::equal(keys.begin(), keys.end(), table->keys));
    const std::vector<int> slots = SlotsBySpec(frequencies);
    std::array<uint32_t, kMaxSymbols> rank{};
    for (uint32_t slot = 0; slot < kSlots; ++slot) {
      const uint32_t symbol = static_cast<uint32_t>(slots[slot]);
      const uint32_t bucket = slot >> 7, r = slot & 127;
      const uint32_t e = bucket + (r >= table->threshold[bucket] ? 32 : 0);
      ASSERT_EQ(table->symbol[e], symbol);
      ASSERT_EQ(table->frequency[e], frequencies[symbol]);
      ASSERT_EQ((r + table->bias[e]) & 0xFFFF, rank[symbol]);
      ASSERT_EQ(table->slots[slot],
                frequencies[symbol] | rank[symbol] << 13 | symbol << 25);
      ++rank[symbol];
    }
    for (size_t s = 0; s < kMaxSymbols; ++s) {
      EXPECT_EQ(rank[s], frequencies[s]);
    }
  }
}

TEST(EncodeTable, InvertsTheSlots) {
  auto table = std::make_unique<kernels::RansEncodeTable>();
  for (const Frequencies& frequencies : ManyFrequencies()) {
    BuildEncodeTable(frequencies, table.get());
    const std::vector<int> slots = SlotsBySpec(frequencies);
    std::array<uint32_t, kMaxSymbols> rank{};
    for (uint32_t slot = 0; slot < kSlots; ++slot) {
      const int symbol = slots[slot];
      ASSERT_EQ(table->slot_of[table->start[symbol] + rank[symbol]++], slot);
    }
    for (size_t s = 0; s < kMaxSymbols; ++s) {
      ASSERT_EQ(table->frequency[s], frequencies[s]);
    }
  }
}

}  // namespace
}  // namespace zipllm::entropy
