// What the numbers of a column are: decimals, multiples of a step, few values.
#include <algorithm>
#include <memory>
#include <numeric>
#include <utility>

#include "base/log2.h"
#include "codecs/table/table_columns.h"

namespace zipllm::codecs::table {
namespace {

double AsDouble(uint64_t raw, const Field& field) {
  return field.log2_width == 3
             ? std::bit_cast<double>(raw)
             : std::bit_cast<float>(static_cast<uint32_t>(raw));
}

/// The integer that, divided by the field's power of ten, is the element;
/// false where there is none that is small enough to be one by design.
bool DecimalOf(uint64_t raw, const Field& field, int64_t* number) {
  const double x = AsDouble(raw, field);
  const double scaled = x * PowerOfTen(field.decimals);
  const double most = field.log2_width == 3 ? 1e15 : 1e7;
  if (!(scaled > -most && scaled < most)) return false;
  const auto m = static_cast<int64_t>(scaled + (scaled < 0 ? -0.5 : 0.5));
  *number = m;
  return RawOf(m, field) == raw;
}

bool IsNan(uint64_t raw, const Field& field) {
  const double x = AsDouble(raw, field);
  return x != x;
}

}  // namespace

uint32_t Log2OfCount(size_t x) {
  static const auto* const table = [] {
    auto* logarithms = new std::array<uint32_t, (size_t{1} << 14) + 1>();
    for (uint32_t i = 1; i < logarithms->size(); ++i) {
      (*logarithms)[i] = Log2Q16(i);
    }
    return logarithms;
  }();
  return x < table->size() ? (*table)[x] : Log2Q16(static_cast<uint32_t>(x));
}

bool FindDecimals(const Elements& elements, size_t records, size_t f,
                  Field* field) {
  constexpr size_t kSamples = 512;
  const size_t stride = std::max<size_t>(records / kSamples, 1);
  Field trial = *field;
  trial.kind = kDecimal;
  size_t most = 0;
  for (uint8_t k = 0; k <= 12; ++k) {
    trial.decimals = k;
    size_t all = 0, good = 0;
    for (size_t i = 0; i * stride < records; ++i) {
      // Not in step with what repeats.
      const size_t t =
          std::min(i * stride + i * 0x9E3779B1 % stride, records - 1);
      const uint64_t raw = elements.At(t, f);
      if (IsNan(raw, trial)) continue;
      int64_t number = 0;
      good += DecimalOf(raw, trial, &number) ? 1 : 0;
      ++all;
    }
    // More decimals must be for more than a few.
    if (good * 16 < all * 15 || good <= most + all / 256) continue;
    most = good;
    *field = trial;
  }
  return most > 0;
}

void ReadColumn(const Elements& elements, size_t records, size_t f,
                const Field& field, Column* column) {
  column->values.resize(records);
  column->is_special.assign(records, 0);
  const bool is_float = field.kind == kOrdered || field.kind == kDecimal;
  for (size_t t = 0; t < records; ++t) {
    const uint64_t raw = elements.At(t, f);
    int64_t& value = column->values[t];
    value = 0;
    if (field.kind == kDecimal) {
      column->is_special[t] = !DecimalOf(raw, field, &value);
    } else if (is_float && IsNan(raw, field)) {
      column->is_special[t] = 1;
    } else {
      value = NumberOf(raw, field);
    }
  }
}

void FindScale(Column* column, Field* field) {
  int64_t least = INT64_MAX, most = INT64_MIN;
  const std::vector<int64_t>& v = column->values;
  for (size_t t = 0; t < v.size(); ++t) {
    if (column->is_special[t]) continue;
    least = std::min(least, v[t]);
    most = std::max(most, v[t]);
  }
  if (least >= most || Magnitude(Minus(most, least)) >> 62 != 0 ||
      Minus(most, least) < 0) {
    return;
  }
  uint64_t step = 0;
  for (size_t t = 0; t < v.size() && step != 1; ++t) {
    if (column->is_special[t]) continue;
    step = std::gcd(step, static_cast<uint64_t>(v[t] - least));
  }
  if (step <= 1) return;
  // 0 stays 0 where it can.
  const auto s = static_cast<int64_t>(step);
  const int64_t base = least % s == 0 ? 0 : least;
  field->scale = step;
  field->base = base;
  for (size_t t = 0; t < v.size(); ++t) {
    if (!column->is_special[t]) column->values[t] = (v[t] - base) / s;
  }
}

void FindDictionary(Column* column, Field* field) {
  const size_t records = column->values.size();
  std::vector<int64_t> sorted;
  sorted.reserve(records);
  for (size_t t = 0; t < records; ++t) {
    if (!column->is_special[t]) sorted.push_back(column->values[t]);
  }
  if (sorted.empty()) return;
  // First a part, since sorting takes time.
  const size_t most = std::min(kMaxDictionary, sorted.size() / 8);
  std::vector<int64_t> part(
      sorted.begin(), sorted.begin() + static_cast<ptrdiff_t>(std::min<size_t>(
                                           sorted.size(), 8192)));
  std::sort(part.begin(), part.end());
  const auto distinct = [](std::vector<int64_t>* of) {
    of->erase(std::unique(of->begin(), of->end()), of->end());
    return of->size();
  };
  const size_t in_part = part.size();
  if (distinct(&part) > std::min(most, in_part * 3 / 4)) return;
  std::sort(sorted.begin(), sorted.end());
  if (distinct(&sorted) > most) return;
  const uint64_t range = Magnitude(Minus(sorted.back(), sorted.front()));
  // Without gaps the numbers are as good.
  if (range < sorted.size() + sorted.size() / 4) return;
  for (size_t t = 0; t < records; ++t) {
    if (column->is_special[t]) continue;
    int64_t& value = column->values[t];
    value =
        std::lower_bound(sorted.begin(), sorted.end(), value) - sorted.begin();
  }
  field->dictionary = std::move(sorted);
}

void FindNumeric(const Column& column, uint64_t row, Field* field) {
  constexpr size_t kChunks = 16;
  constexpr size_t kChunk = 1024;
  const std::vector<int64_t>& v = column.values;
  auto plain = std::make_unique<Histogram>();
  auto left = std::make_unique<Histogram>();
  auto above = std::make_unique<Histogram>();
  std::vector<int64_t> middle;
  uint64_t low_left = 0, low_above = 0;
  for (size_t c = 0; c < kChunks; ++c) {
    const size_t begin = v.size() / kChunks * c;
    const size_t end = std::min(begin + kChunk, v.size());
    int64_t before = 0;
    for (size_t t = begin; t < end; ++t) {
      if (column.is_special[t]) continue;
      const auto add = [](int64_t x, Histogram* to, uint64_t* low) {
        // Far from zero only the magnitude is told apart.
        const int bits = std::max(BitLength(x) - 10, 0);
        to->Add(static_cast<uint64_t>(x >> bits) * 64 +
                static_cast<uint64_t>(bits));
        *low += static_cast<uint64_t>(bits) << 16;
      };
      plain->Add(static_cast<uint64_t>(v[t]));
      add(Minus(v[t], before), left.get(), &low_left);
      if (row != 0 && t >= row) {
        add(Minus(v[t], v[t - row]), above.get(), &low_above);
      }
      middle.push_back(v[t]);
      before = v[t];
    }
  }
  if (middle.empty()) return;
  std::vector<int64_t> sorted = middle;
  std::sort(sorted.begin(), sorted.end());
  const int64_t center = sorted[sorted.size() / 2];
  // All different: nothing is learnt of values by themselves.
  sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
  if (sorted.size() > middle.size() / 2 || sorted.size() > 3000) return;
  uint64_t near = left->Cost() + low_left;
  if (row != 0) near = std::min(near, above->Cost() + low_above);
  if (plain->Cost() < near) {
    field->numeric = false;
    field->center = center;
  }
}

void FindSpecials(const Elements& elements, size_t f, const Column& column,
                  Field* field) {
  std::vector<uint64_t> raws;
  for (size_t t = 0; t < column.is_special.size(); ++t) {
    if (column.is_special[t]) raws.push_back(elements.At(t, f));
  }
  field->has_specials = !raws.empty();
  if (raws.empty()) return;
  std::sort(raws.begin(), raws.end());
  std::vector<std::pair<size_t, uint64_t>> counted;
  for (size_t i = 0; i < raws.size();) {
    size_t j = i;
    while (j < raws.size() && raws[j] == raws[i]) ++j;
    counted.push_back({j - i, raws[i]});
    i = j;
  }
  std::sort(counted.rbegin(), counted.rend());
  for (const auto& [count, raw] : counted) {
    if (count < 2 || field->specials.size() == kMaxSpecials) break;
    field->specials.push_back(raw);
  }
}

}  // namespace zipllm::codecs::table
