// Tables of context mixing, all made at compile time by integer arithmetic.
#include "codecs/text/cm_parts.h"

namespace zipllm::codecs::cm {
namespace {

constexpr Tables MakeTables() {
  Tables tables{};
  // exp(-x / 256) for x = 0, 1, ... in 1/2^32.
  constexpr uint64_t kStep = 4278222805;  // exp(-1 / 256)
  uint64_t exponential = uint64_t{1} << 32;
  for (size_t x = 0; x <= kStretchMax; ++x) {
    const uint64_t sum = (uint64_t{1} << 32) + exponential;
    const uint64_t p = ((uint64_t{1} << 48) + sum / 2) / sum;
    const uint64_t bounded = p > 65535 ? 65535 : p;
    tables.squash[kStretchMax + 1 + x] = static_cast<uint16_t>(bounded);
    tables.squash[kStretchMax + 1 - x] = static_cast<uint16_t>(65536 - bounded);
    exponential = (exponential * kStep + (uint64_t{1} << 31)) >> 32;
  }
  tables.squash[0] = 1;
  int x = -kStretchMax;
  for (size_t p = 0; p < tables.stretch.size(); ++p) {
    while (tables.squash[static_cast<size_t>(x + kStretchMax + 1)] <
           p * 16 + 8) {
      ++x;
    }
    tables.stretch[p] = static_cast<int16_t>(x);
  }
  for (uint32_t n = 0; n < tables.step.size(); ++n) {
    tables.step[n] = static_cast<int32_t>(65536 * 2 / (2 * n + 3));
  }
  return tables;
}

// A history has seen a bits of the kind that is in the majority and b of the
// other; up to kMost[b] of the former are kept apart. While it has seen few,
// and both kinds, it also knows which came last.
constexpr int kMinorities = 6;
constexpr std::array<int, kMinorities> kMost = {41, 40, 12, 8, 6, 5};
constexpr int kLastKnownUpTo = 12;

constexpr int Lower(int a, int b) { return a < b ? a : b; }
constexpr int Higher(int a, int b) { return a < b ? b : a; }

constexpr bool Exists(int zeros, int ones) {
  const int minority = Lower(zeros, ones);
  return minority < kMinorities &&
         Higher(zeros, ones) <= kMost[static_cast<size_t>(minority)];
}
constexpr bool KnowsLast(int zeros, int ones) {
  return zeros > 0 && ones > 0 && zeros + ones <= kLastKnownUpTo;
}

constexpr Histories MakeHistories() {
  Histories histories{};
  constexpr int kSide = 48;
  // By zeros, ones and the last bit.
  std::array<std::array<std::array<uint8_t, 2>, kSide>, kSide> state{};
  size_t count = 0;
  std::array<uint8_t, 256> last{};
  for (int total = 0; total < 2 * kSide; ++total) {
    for (int ones = 0; ones <= total; ++ones) {
      const int zeros = total - ones;
      if (!Exists(zeros, ones)) continue;
      auto& both = state[static_cast<size_t>(zeros)][static_cast<size_t>(ones)];
      for (uint8_t bit = 0; bit < (KnowsLast(zeros, ones) ? 2 : 1); ++bit) {
        both[bit] = static_cast<uint8_t>(count);
        if (bit == 0) both[1] = static_cast<uint8_t>(count);
        histories.counts[count] = {static_cast<uint8_t>(zeros),
                                   static_cast<uint8_t>(ones)};
        last[count] = bit;
        ++count;
      }
    }
  }
  for (size_t i = 0; i < 256; ++i) {
    const size_t from = i < count ? i : 0;
    for (int bit = 0; bit < 2; ++bit) {
      int n[2] = {histories.counts[from][0], histories.counts[from][1]};
      ++n[bit];
      // What contradicts old bits makes them count less.
      int& other = n[1 - bit];
      if (other > 2) {
        constexpr std::array<int, 12> kKept = {0, 1, 2, 2, 3, 3,
                                               4, 4, 4, 5, 5, 5};
        other = other < 12 ? kKept[static_cast<size_t>(other)] : 6;
      }
      // The nearest that exists, of about the same share.
      while (!Exists(n[0], n[1])) {
        const int big = n[0] > n[1] ? 0 : 1;
        const int small = Lower(n[1 - big], kMinorities - 1);
        const bool too_big = n[big] > kMost[static_cast<size_t>(small)];
        --n[n[1 - big] < kMinorities && too_big ? big : 1 - big];
      }
      histories.next[i][static_cast<size_t>(bit)] =
          state[static_cast<size_t>(n[0])][static_cast<size_t>(n[1])]
               [static_cast<size_t>(bit)];
    }
    const uint32_t zeros = histories.counts[from][0];
    const uint32_t ones = histories.counts[from][1];
    uint32_t p = ((ones * 5 + 2) * 65536 / ((zeros + ones) * 5 + 4));
    if (KnowsLast(static_cast<int>(zeros), static_cast<int>(ones))) {
      p = (p * 7 + (last[from] ? 65536 : 0)) / 8;
    }
    histories.p[i] = static_cast<uint16_t>(p);
    histories.certain[i] = (zeros == 0) != (ones == 0) ? -1 : 0;
  }
  return histories;
}

constexpr size_t CountStates() {
  size_t count = 0;
  for (int zeros = 0; zeros < 48; ++zeros) {
    for (int ones = 0; ones < 48; ++ones) {
      if (Exists(zeros, ones)) count += KnowsLast(zeros, ones) ? 2 : 1;
    }
  }
  return count;
}
static_assert(CountStates() <= 256);

}  // namespace

constexpr Tables kTables = MakeTables();
constexpr Histories kHistories = MakeHistories();

}  // namespace zipllm::codecs::cm
