#include <algorithm>
#include <array>
#include <utility>

#include "codecs/log/neighbours.h"
#include "codecs/log/records.h"

namespace zipllm::codecs::log {
namespace {

constexpr size_t kMaxCandidates = 24;
constexpr size_t kMostChosen = 3;
/// Values looked at, one after the other.
constexpr size_t kSample = 512;

}  // namespace

Neighbours::Neighbours(const Templates& templates,
                       std::vector<std::vector<uint32_t>> places)
    : places_(std::move(places)), before_(templates.columns()) {
  std::vector<uint32_t> uses(templates.columns());
  for (size_t t = 0; t < templates.size(); ++t) {
    std::vector<uint32_t> seen;
    for (const Item& item : templates[t]) {
      if (item.column == kNoColumn) break;
      auto& before = before_[item.column];
      if (uses[item.column]++ == 0) {
        for (size_t i = seen.size(); i > 0 && before.size() < kMaxCandidates;
             --i) {
          before.push_back(seen[i - 1]);
        }
      }
      seen.push_back(item.column);
    }
  }
  for (size_t c = 1; c < before_.size(); ++c) {
    if (uses[c] > 1) before_[c].push_back(0);
  }
}

std::vector<uint32_t> Neighbours::Choose(
    std::span<const columns::Values* const> all, uint32_t c) const {
  const columns::Values& values = *all[c];
  const size_t count = std::min(values.size(), kSample);
  const size_t begin = (values.size() - count) / 2;
  if (count < 8) return {};
  std::array<uint64_t, kSample> hashes;
  size_t same = 0;  // as the value before
  for (size_t i = 0; i < count; ++i) {
    hashes[i] = HashBytes(values[begin + i]) | 1;
    same += i > 0 && hashes[i] == hashes[i - 1];
  }
  // A value is expected to be what stood last beside the same value of the
  // other column, or that value itself.
  struct Seen {
    uint64_t key;
    uint64_t value;
  };
  std::vector<std::pair<size_t, uint32_t>> scores;
  for (const uint32_t other : before_[c]) {
    if (other >= c) continue;
    const auto& places = places_[other];
    if (!MayStandBeside(values.size(), places.size())) continue;
    auto after = std::ranges::upper_bound(places, places_[c][begin]);
    std::array<Seen, 1024> table{};
    size_t hits = 0;
    for (size_t i = 0; i < count; ++i) {
      while (after != places.end() && *after < places_[c][begin + i]) ++after;
      const auto at = static_cast<size_t>(after - places.begin());
      const uint64_t key = HashBytes((*all[other])[at == 0 ? 0 : at - 1]) | 1;
      Seen& seen = table[(key >> 1) % table.size()];
      hits += seen.key == key ? seen.value == hashes[i] : key == hashes[i];
      seen = {key, hashes[i]};
    }
    if (hits > same + count / 32) scores.emplace_back(hits, other);
  }
  std::ranges::stable_sort(
      scores, [](const auto& a, const auto& b) { return a.first > b.first; });
  std::vector<uint32_t> chosen;
  for (const auto& [hits, other] : scores) {
    if (chosen.size() < kMostChosen) chosen.push_back(other);
  }
  return chosen;
}

}  // namespace zipllm::codecs::log
