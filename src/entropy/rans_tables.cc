#include "entropy/rans_tables.h"

#include <algorithm>

namespace zipllm::entropy {
namespace {

using kernels::kMaxSymbols;
using kernels::kSlots;

constexpr size_t kBuckets = 32;
constexpr size_t kBucketSlots = kSlots / kBuckets;
static_assert(kBuckets == kMaxSymbols);

/// Bucket b holds symbol b in its slots below `threshold`, `other` above.
struct Bucket {
  uint16_t threshold;
  uint8_t other;
};

std::array<Bucket, kBuckets> MakeBuckets(const Frequencies& frequencies) {
  std::array<Bucket, kBuckets> buckets{};
  Frequencies left = frequencies;
  // Ascending queues; a symbol that drops below a bucket's size joins the end
  // of `small`.
  std::array<uint8_t, kMaxSymbols> small, large;
  size_t small_begin = 0, small_end = 0, large_begin = 0, large_end = 0;
  for (uint8_t symbol = 0; symbol < kMaxSymbols; ++symbol) {
    if (left[symbol] < kBucketSlots) {
      small[small_end++] = symbol;
    } else {
      large[large_end++] = symbol;
    }
  }
  while (small_begin < small_end) {
    const uint8_t symbol = small[small_begin++];
    const uint8_t donor = large[large_begin];
    buckets[symbol] = {left[symbol], donor};
    left[donor] =
        static_cast<uint16_t>(left[donor] - (kBucketSlots - left[symbol]));
    if (left[donor] < kBucketSlots) {
      small[small_end++] = donor;
      ++large_begin;
    }
  }
  for (; large_begin < large_end; ++large_begin) {
    const uint8_t symbol = large[large_begin];
    buckets[symbol] = {kBucketSlots, symbol};
  }
  return buckets;
}

}  // namespace

void Normalize(std::span<const uint64_t> counts,
               std::span<uint16_t> frequencies) {
  const size_t symbols = counts.size();
  std::fill(frequencies.begin(), frequencies.end(), uint16_t{0});
  uint64_t total = 0;
  for (uint64_t count : counts) total += count;
  if (total == 0) return;
  int32_t left = kSlots;
  for (size_t s = 0; s < symbols; ++s) {
    if (counts[s] == 0) continue;
    const uint64_t share = (counts[s] * kSlots + total / 2) / total;
    frequencies[s] = static_cast<uint16_t>(std::max<uint64_t>(share, 1));
    left -= frequencies[s];
  }
  // One by one where the code length changes least: d/df (c log f) = c / f,
  // taken at the middle of the step. Products stay below 2^50 * 2^13.
  for (; left > 0; --left) {
    size_t best = symbols;
    for (size_t s = 0; s < symbols; ++s) {
      if (counts[s] == 0) continue;
      if (best == symbols || counts[s] * (2u * frequencies[best] + 1) >
                                 counts[best] * (2u * frequencies[s] + 1)) {
        best = s;
      }
    }
    ++frequencies[best];
  }
  for (; left < 0; ++left) {
    size_t best = symbols;
    for (size_t s = 0; s < symbols; ++s) {
      if (frequencies[s] <= 1) continue;
      if (best == symbols || counts[s] * (2u * frequencies[best] - 1) <
                                 counts[best] * (2u * frequencies[s] - 1)) {
        best = s;
      }
    }
    --frequencies[best];
  }
}

Frequencies Normalize(const Counts& counts) {
  Frequencies frequencies;
  Normalize(counts, frequencies);
  return frequencies;
}

void BuildDecodeTable(const Frequencies& frequencies,
                      const std::array<uint16_t, kMaxSymbols>& keys,
                      kernels::RansDecodeTable* table, bool with_slots) {
  const auto buckets = MakeBuckets(frequencies);
  std::copy(keys.begin(), keys.end(), table->keys);
  // Ranks of a symbol ascend with its slots.
  std::array<uint32_t, kMaxSymbols> next_rank{};
  for (size_t b = 0; b < kBuckets; ++b) {
    const uint32_t threshold = buckets[b].threshold;
    table->threshold[b] = buckets[b].threshold;
    for (size_t half = 0; half < 2; ++half) {
      const uint32_t symbol =
          half == 0 ? static_cast<uint32_t>(b) : buckets[b].other;
      const uint32_t begin = half == 0 ? 0 : threshold;
      const uint32_t end = half == 0 ? threshold : kBucketSlots;
      const size_t entry = b + 32 * half;
      table->frequency[entry] = frequencies[symbol];
      table->bias[entry] = static_cast<uint16_t>(next_rank[symbol] - begin);
      table->symbol[entry] = static_cast<uint16_t>(symbol);
      const uint32_t first_rank = next_rank[symbol];
      next_rank[symbol] += end - begin;
      if (!with_slots) continue;
      uint32_t slot = frequencies[symbol] | first_rank << 13 | symbol << 25;
      for (uint32_t r = begin; r < end; ++r, slot += 1 << 13) {
        table->slots[b * kBucketSlots + r] = slot;
      }
    }
  }
}

void BuildEncodeTable(const Frequencies& frequencies,
                      kernels::RansEncodeTable* table) {
  uint32_t start = 0;
  for (size_t s = 0; s < kMaxSymbols; ++s) {
    const uint32_t f = frequencies[s];
    table->frequency[s] = f;
    table->start[s] = start;
    start += f;
  }
  uint16_t* next[kMaxSymbols];
  for (size_t s = 0; s < kMaxSymbols; ++s) {
    next[s] = table->slot_of + table->start[s];
  }
  const auto buckets = MakeBuckets(frequencies);
  uint16_t slot = 0;
  for (size_t b = 0; b < kBuckets; ++b) {
    const size_t threshold = buckets[b].threshold;
    uint16_t*& lower = next[b];
    for (size_t i = 0; i < threshold; ++i) *lower++ = slot++;
    uint16_t*& upper = next[buckets[b].other];
    for (size_t i = threshold; i < kBucketSlots; ++i) *upper++ = slot++;
  }
}

}  // namespace zipllm::entropy
