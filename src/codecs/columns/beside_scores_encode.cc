// Which of the columns beside tell most of a column.
#include <algorithm>

#include "codecs/columns/beside_scores.h"
#include "codecs/columns/mix.h"

namespace zipllm::codecs::columns {
namespace {

/// Rows that are looked at, in the middle.
constexpr size_t kRows = 2048;

class Foretold {
 public:
  /// Of `ids` beside `keys`, which are hashes.
  size_t Count(std::span<const uint32_t> ids, std::span<const uint32_t> keys) {
    ++round_;
    size_t hits = 0;
    for (size_t i = 0; i < ids.size(); ++i) {
      Slot& slot = slots_[keys[i] >> (32 - kBits)];
      hits += slot.round == round_ && slot.id == ids[i];
      slot = {round_, ids[i]};
    }
    return hits;
  }

 private:
  static constexpr int kBits = 13;
  struct Slot {
    uint32_t round = 0;
    uint32_t id = 0;
  };
  std::vector<Slot> slots_{size_t{1} << kBits};
  uint32_t round_ = 0;
};

}  // namespace

BesideScores ScoreBesides(std::span<const uint32_t> ids,
                          std::span<const Beside> beside) {
  const size_t count = std::min(ids.size(), kRows);
  const size_t begin = (ids.size() - count) / 2;
  const auto looked = ids.subspan(begin, count);
  Foretold foretold;
  std::vector<uint32_t> keys(count);
  for (size_t i = 1; i < count; ++i) keys[i] = looked[i - 1] * 0x9E3779B1u;
  BesideScores scores{
      .rows = count, .usual = foretold.Count(looked, keys), .best = {}};
  for (size_t which = 0; which < beside.size(); ++which) {
    if (!HasBeside(beside[which], ids.size())) continue;
    bool is_sound = true;
    for (size_t i = 0; i < count && is_sound; ++i) {
      const size_t at = BesideIndex(beside[which], begin + i);
      is_sound = at < beside[which].values->size();
      if (is_sound) keys[i] = HashOfBeside((*beside[which].values)[at]);
    }
    if (!is_sound) continue;
    const size_t hits = foretold.Count(looked, keys);
    if (hits != 0) scores.best.push_back({which, hits});
  }
  std::ranges::stable_sort(scores.best,
                           [](const BesideScore& a, const BesideScore& b) {
                             return a.hits > b.hits;
                           });
  return scores;
}

}  // namespace zipllm::codecs::columns
