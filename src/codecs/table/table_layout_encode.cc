// The layout of numbers of one type: a lag after which they are alike is a
// record, or a row of records.
#include <algorithm>
#include <utility>
#include <vector>

#include "codecs/table/table_columns.h"
#include "codecs/table/table_layout.h"

namespace zipllm::codecs::table {
namespace {

/// Numbers of a block as seen before anything is known of fields.
class Sample {
 public:
  Sample(ByteSpan data, const Field& field)
      : data_(data), field_(field), count_(data.size() / field.width()) {}
  size_t count() const { return count_; }
  size_t width() const { return field_.width(); }
  int64_t At(size_t i) const {
    return NumberOf(LoadRaw(data_.data() + i * field_.width(), field_), field_);
  }
  /// Bits, about, of differences over `lag` elements, of some elements.
  uint64_t CostOfLag(size_t lag, size_t samples) const {
    const size_t span = count_ - lag;
    const size_t stride = std::max<size_t>(span / samples, 1) | 1;
    uint64_t bits = 0;
    size_t n = 0;
    for (size_t i = lag; i < count_; i += stride, ++n) {
      bits += static_cast<uint64_t>(BitLength(Minus(At(i), At(i - lag))));
    }
    return n == 0 ? 0 : (bits << 10) / n;
  }
  /// The same between elements that have nothing to do with each other.
  uint64_t CostOfChance(size_t samples) const {
    uint64_t bits = 0;
    uint64_t random = 1;
    const auto pick = [&] {
      random = random * 6364136223846793005 + 1442695040888963407;
      return static_cast<size_t>((random >> 33) % count_);
    };
    for (size_t k = 0; k < samples; ++k) {
      const int64_t a = At(pick());
      bits += static_cast<uint64_t>(BitLength(Minus(a, At(pick()))));
    }
    return (bits << 10) / samples;
  }

 private:
  ByteSpan data_;
  const Field& field_;
  size_t count_;
};

/// Whether `cost` is less than `over` by more than chance.
bool Gains(uint64_t cost, uint64_t over) {
  return cost + over / 16 + 102 < over;
}

constexpr size_t kSamples = 2048;
constexpr size_t kFewSamples = 128;
/// Levels from here on look at more.
constexpr int kThorough = 6;

/// How many numbers a record has, if a lag of so many costs less than `*least`;
/// which is then set.
size_t FindFields(const Sample& sample, size_t few, uint64_t* least) {
  size_t fields = 1;
  for (size_t lag = 2; lag <= kMaxFields && lag * 64 < sample.count(); ++lag) {
    if (!Gains(sample.CostOfLag(lag, few), *least)) continue;
    const uint64_t cost = sample.CostOfLag(lag, kSamples);
    if (!Gains(cost, *least)) continue;
    *least = cost;
    fields = lag;
  }
  return fields;
}

/// The records of a row, at most `most`: a lag after which they are alike
/// again; 0 if there is none.
uint64_t FindRow(const Sample& sample, size_t fields, size_t most, size_t few) {
  constexpr size_t kFirst = 8;
  if (most <= kFirst) return 0;
  std::vector<uint64_t> sums(most + 1);  // of the costs of shorter lags
  std::vector<std::pair<uint64_t, size_t>> peaks;
  for (size_t lag = 1; lag < most; ++lag) {
    const uint64_t cost = sample.CostOfLag(lag * fields, few);
    sums[lag + 1] = sums[lag] + cost;
    if (lag < kFirst) continue;
    // Compared with those half to three quarters as long.
    const size_t from = lag / 2, to = lag - lag / 4;
    const uint64_t before = (sums[to] - sums[from]) / (to - from);
    if (Gains(cost, before)) peaks.push_back({(cost << 16) / before, lag});
  }
  constexpr size_t kPeaks = 16;
  const size_t kept = std::min(kPeaks, peaks.size());
  std::partial_sort(peaks.begin(), peaks.begin() + static_cast<ptrdiff_t>(kept),
                    peaks.end());
  uint64_t row = 0;
  uint64_t best = UINT64_MAX;
  for (size_t k = 0; k < kept; ++k) {
    const size_t lag = peaks[k].second;
    const uint64_t cost = sample.CostOfLag(lag * fields, kSamples);
    const size_t near = lag - lag / 4;
    const uint64_t before =
        std::min(sample.CostOfLag(near * fields, kSamples),
                 sample.CostOfLag((near - 1) * fields, kSamples));
    if (!Gains(cost, before)) continue;
    // Of about as good ones the shortest.
    if (cost + cost / 16 < best || (cost <= best + best / 16 && lag < row)) {
      best = std::min(best, cost);
      row = lag;
    }
  }
  return row;
}

}  // namespace

Layout FindLayout(ByteSpan data, const Field& field, uint64_t row, int level) {
  const Sample sample(data, field);
  const size_t n = sample.count();
  const size_t few = level >= kThorough ? 2 * kFewSamples : kFewSamples;
  const uint64_t chance = sample.CostOfChance(kSamples);
  uint64_t least = sample.CostOfLag(1, kSamples);
  Layout found;
  if (row < 2 || row > n / kLeastRows) {
    found.fields = FindFields(sample, few, &least);
  } else if (row <= kMaxFields) {
    const uint64_t cost = sample.CostOfLag(row, kSamples);
    if (cost < least + least / 16) {
      found.fields = row;
      least = cost;
    }
  } else {
    found.row = row;
    least = std::min(least, sample.CostOfLag(row, kSamples));
  }
  // Numbers that are small for their type are worth a look in any case.
  found.correlated =
      Gains(least, chance) ||
      (sample.width() >= 4 && chance < (uint64_t{4096} * sample.width()));
  if (found.row == 0 && found.correlated) {
    const size_t most = std::min<size_t>(n / kLeastRows / found.fields,
                                         level >= kThorough ? 8192 : 2048);
    found.row = FindRow(sample, found.fields, most, few);
  }
  return found;
}

}  // namespace zipllm::codecs::table
