#include "entropy/mixing.h"

namespace zipllm::entropy {
namespace {

MixingTables Make() {
  MixingTables tables;
  // exp(-x / 256) for x = 0, 1, ... in 1/2^32.
  constexpr uint64_t kStep = 4278222805;  // exp(-1 / 256)
  std::array<uint64_t, 2048> exponential;
  exponential[0] = uint64_t{1} << 32;
  for (size_t x = 1; x < exponential.size(); ++x) {
    exponential[x] = (exponential[x - 1] * kStep + (uint64_t{1} << 31)) >> 32;
  }
  for (size_t x = 0; x < exponential.size(); ++x) {
    const uint64_t sum = (uint64_t{1} << 32) + exponential[x];
    const auto p = static_cast<uint16_t>(((uint64_t{1} << 48) + sum / 2) / sum);
    tables.squash[2048 + x] = p;
    tables.squash[2048 - x] = static_cast<uint16_t>(65536 - p);
  }
  tables.squash[0] = tables.squash[1];
  int x = -kStretchMax;
  for (int p = 0; p < 4096; ++p) {
    while (x < kStretchMax && tables.squash[x + 2048] < p * 16 + 8) ++x;
    tables.stretch[p] = static_cast<int16_t>(x);
  }
  for (uint32_t n = 0; n < tables.step.size(); ++n) {
    tables.step[n] = static_cast<uint16_t>(65536 * 2 / (2 * n + 3));
  }
  return tables;
}

}  // namespace

const MixingTables& GetMixingTables() {
  static const MixingTables tables = Make();
  return tables;
}

}  // namespace zipllm::entropy
