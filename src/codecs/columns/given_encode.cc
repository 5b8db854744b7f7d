// Kind given: a value is what stood last beside the same value of an earlier
// column, or else, there, that value itself. What is neither is a part.
#include <algorithm>

#include "codecs/columns/beside_scores.h"
#include "codecs/columns/given.h"
#include "codecs/columns/numbers.h"

namespace zipllm::codecs::columns {
namespace {

/// By value: whether it is another than foretold.
Numbers MissesOf(const Values& values, std::span<const uint32_t> ids,
                 const Beside& beside, std::span<const uint32_t> keys) {
  Numbers misses(values.size());
  std::vector<uint32_t> last(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    uint32_t& seen = last[keys[i]];
    misses[i] = seen != 0
                    ? ids[i] != ids[seen - 1]
                    : !std::ranges::equal(
                          values[i], (*beside.values)[BesideIndex(beside, i)]);
    seen = static_cast<uint32_t>(i + 1);
  }
  return misses;
}

bool Encode(const Values& values, const EncodeContext& context, Buffer* out) {
  if (context.depth + 1 >= kMaxDepth || values.size() < 8) return false;
  const auto ids = context.distinct->ids();
  const BesideScores scores = ScoreBesides(ids, context.beside);
  // Columns that stand beside only once, such as the same ids again, show no
  // hits: equality does.
  std::vector<size_t> promising;
  for (const BesideScore& score : scores.best) {
    if (promising.size() < 2 && score.hits * 3 > scores.rows) {
      promising.push_back(score.which);
    }
  }
  const size_t middle = values.size() / 2;
  for (size_t which = 0; which < context.beside.size(); ++which) {
    const Beside& beside = context.beside[which];
    if (promising.size() < 2 &&
        std::ranges::find(promising, which) == promising.end() &&
        IsSound(beside, values.size()) &&
        std::ranges::equal(values[middle],
                           (*beside.values)[BesideIndex(beside, middle)])) {
      promising.push_back(which);
    }
  }
  size_t best = values.size() / 2 + 1;
  size_t chosen = 0;
  Numbers misses;
  std::vector<uint32_t> keys;
  for (const size_t which : promising) {
    const Beside& beside = context.beside[which];
    if (!KeysOf(beside, values.size(), &keys)) continue;
    Numbers found = MissesOf(values, ids, beside, keys);
    const auto missed =
        static_cast<size_t>(std::ranges::count(found, uint64_t{1}));
    if (missed >= best) continue;
    best = missed;
    chosen = which;
    misses = std::move(found);
    if (missed == 0) break;
  }
  if (misses.empty()) return false;
  ByteWriter(out).Varint(chosen);
  EncodeNumbers(misses, context, out);
  Values part;
  std::vector<uint32_t> rows;
  for (size_t i = 0; i < values.size(); ++i) {
    if (misses[i] == 0) continue;
    part.Append(values[i]);
    rows.push_back(static_cast<uint32_t>(i));
  }
  RowsBeside part_beside;
  if (!part_beside.Set(context.beside, rows, values.size()).ok()) return false;
  EncodeContext inner = context;
  inner.beside = part_beside.besides();
  EncodePart(part, inner, out);
  return true;
}

}  // namespace

extern const KindEncoder kGivenEncoder = {.encode = Encode};

}  // namespace zipllm::codecs::columns
