// Encoder of codec 26, table: finds the layout of numbers and what they are,
// and codes them. Format: format-spec/codecs/26-table.md.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>

#include "base/bytes.h"
#include "base/dtype.h"
#include "base/log2.h"
#include "codecs/codec.h"
#include "codecs/table/table_format.h"
#include "codecs/table/table_models.h"
#include "codecs/tensor/byte_plane_encode.h"
#include "codecs/text/coded_plan.h"
#include "entropy/binary_coder.h"
#include "entropy/bits.h"
#include "entropy/class_rans.h"

namespace zipllm::codecs {
namespace {

using entropy::ZigZag64;
using namespace table;

int BitLength(int64_t difference) {
  return static_cast<int>(std::bit_width(Magnitude(difference)));
}

/// log2(x) in 1/65536, for counts of samples.
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

/// What the elements of a request are.
std::optional<Field> FieldOf(DType dtype) {
  const auto field = [](int log2_width, Kind kind, bool big = false) {
    Field made;
    made.log2_width = static_cast<uint8_t>(log2_width);
    made.kind = kind;
    made.big_endian = big;
    return made;
  };
  switch (dtype) {
    case DType::kI8:
      return field(0, kSigned);
    case DType::kU8:
      return field(0, kUnsigned);
    case DType::kI16:
      return field(1, kSigned);
    case DType::kU16:
      return field(1, kUnsigned);
    case DType::kI32:
      return field(2, kSigned);
    case DType::kU32:
      return field(2, kUnsigned);
    case DType::kI64:
    case DType::kU64:
      return field(3, kSigned);
    case DType::kF32:
      return field(2, kOrdered);
    case DType::kF64:
      return field(3, kOrdered);
    case DType::kF32Be:
      return field(2, kOrdered, true);
    case DType::kF64Be:
      return field(3, kOrdered, true);
    default:
      return std::nullopt;
  }
}

/// The number of an element that is not a decimal.
int64_t NumberOf(uint64_t raw, const Field& field) {
  switch (field.kind) {
    case kSigned:
      return SignExtend(raw, field.bits());
    case kOrdered: {
      const uint64_t top = uint64_t{1} << (field.bits() - 1);
      return (raw & top) != 0 ? static_cast<int64_t>(~(raw & (top - 1)))
                              : static_cast<int64_t>(raw);
    }
    default:
      return static_cast<int64_t>(raw);
  }
}

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

/// Elements of a block, by record and field.
class Elements {
 public:
  Elements(ByteSpan data, const Table& table) : data_(data), table_(table) {
    size_t offset = 0;
    for (const Field& field : table.fields) {
      offsets_.push_back(offset);
      offset += field.width();
    }
  }
  uint64_t At(size_t record, size_t field) const {
    return LoadRaw(
        data_.data() + record * table_.record_bytes + offsets_[field],
        table_.fields[field]);
  }

 private:
  ByteSpan data_;
  const Table& table_;
  std::vector<size_t> offsets_;
};

// ---- Layout ----

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

struct Found {
  size_t fields = 1;
  uint64_t row = 0;
  bool correlated = false;
};

/// Whether `cost` is less than `over` by more than chance.
bool Gains(uint64_t cost, uint64_t over) {
  return cost + over / 16 + 102 < over;
}

/// The number of fields and records a row of numbers of one type.
Found FindLayout(const Sample& sample, uint64_t row, int level) {
  constexpr size_t kSamples = 2048;
  constexpr int kThorough = 6;
  const size_t few = level >= kThorough ? 256 : 128;
  Found found;
  const size_t n = sample.count();
  const uint64_t chance = sample.CostOfChance(kSamples);
  uint64_t least = sample.CostOfLag(1, kSamples);
  const auto has_rows = [&](uint64_t of) {
    return of > kMaxFields && of * kLeastRows <= n;
  };
  if (row >= 2 && row <= kMaxFields && row * kLeastRows <= n) {
    const uint64_t cost = sample.CostOfLag(row, kSamples);
    if (cost < least + least / 16) {
      found.fields = row;
      least = cost;
    }
  } else if (has_rows(row)) {
    found.row = row;
    least = std::min(least, sample.CostOfLag(row, kSamples));
  } else {
    uint64_t best = least;
    for (size_t lag = 2; lag <= kMaxFields && lag * 64 < n; ++lag) {
      if (!Gains(sample.CostOfLag(lag, few), best)) continue;
      const uint64_t cost = sample.CostOfLag(lag, kSamples);
      if (!Gains(cost, best)) continue;
      best = cost;
      found.fields = lag;
    }
    least = best;
  }
  // Numbers that are small for their type are worth a look in any case.
  found.correlated =
      Gains(least, chance) ||
      (sample.width() >= 4 && chance < (uint64_t{4096} * sample.width()));
  if (found.row != 0 || !found.correlated) return found;
  // A row shows as a lag after which numbers are alike again.
  const size_t most = std::min<size_t>(n / kLeastRows / found.fields,
                                       level >= kThorough ? 8192 : 2048);
  constexpr size_t kFirst = 8;
  if (most <= kFirst) return found;
  std::vector<uint64_t> sums(most + 1);  // of the costs of shorter lags
  std::vector<std::pair<uint64_t, size_t>> peaks;
  for (size_t lag = 1; lag < most; ++lag) {
    const uint64_t cost = sample.CostOfLag(lag * found.fields, few);
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
  uint64_t best = UINT64_MAX;
  for (size_t k = 0; k < kept; ++k) {
    const size_t lag = peaks[k].second;
    const uint64_t cost = sample.CostOfLag(lag * found.fields, kSamples);
    const size_t near = lag - lag / 4;
    const uint64_t before =
        std::min(sample.CostOfLag(near * found.fields, kSamples),
                 sample.CostOfLag((near - 1) * found.fields, kSamples));
    if (!Gains(cost, before)) continue;
    // Of about as good ones the shortest.
    if (cost + cost / 16 < best ||
        (cost <= best + best / 16 && lag < found.row)) {
      best = std::min(best, cost);
      found.row = lag;
    }
  }
  return found;
}

// ---- Numbers ----

/// Numbers of one field and which elements have none.
struct Column {
  std::vector<int64_t> values;
  std::vector<uint8_t> is_special;
};

/// Whether most of some elements are decimals; sets the field so.
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

/// Numbers of the field as it stands.
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

/// Makes the field scaled where its numbers have a common step.
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

/// The entropy of what is hashed into some counts, in 1/65536 bit.
class Histogram {
 public:
  void Add(uint64_t key) {
    ++counts_[(key * 0x9E3779B97F4A7C15) >> 52];
    ++total_;
  }
  uint64_t Cost() const {
    uint64_t sum = 0, used = 0;
    for (const uint32_t c : counts_) {
      if (c == 0) continue;
      ++used;
      sum += uint64_t{c} * Log2OfCount(c);
    }
    if (total_ == 0) return 0;
    return uint64_t{total_} * Log2OfCount(total_) - sum + used * (4 << 16);
  }

 private:
  std::array<uint32_t, 4096> counts_{};
  uint32_t total_ = 0;
};

/// Values that are few get numbers of their own, in their order; and whether
/// neighbours are alike.
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

// ---- Bins ----

struct Bin {
  int64_t lower;
  int bits;
};

/// Divides numbers (sorted, a sample) into bins: for each the lowest number
/// that goes into it. By dynamic programming over quantiles.
std::vector<int64_t> DivideIntoBins(const std::vector<int64_t>& sorted,
                                    size_t all) {
  constexpr size_t kCuts = 128;
  const size_t n = sorted.size();
  // Of a bin's description, in proportion; and what chance makes of a sample.
  const uint64_t bin_cost = (uint64_t{24 << 16} * n / all) + (4 << 16);
  // Where bins may begin.
  std::vector<size_t> cuts;
  std::vector<size_t> changes;
  for (size_t i = 0; i < n; ++i) {
    if (i == 0 || sorted[i] != sorted[i - 1]) changes.push_back(i);
  }
  if (changes.size() <= kCuts) {
    cuts = changes;
  } else {
    // Quantiles; what is frequent has a bin of its own.
    const auto add = [&](size_t i) {
      if (i < n && (cuts.empty() || i > cuts.back())) cuts.push_back(i);
    };
    for (size_t k = 0; k < kCuts; ++k) {
      const auto [begin, end] =
          std::equal_range(sorted.begin(), sorted.end(), sorted[n * k / kCuts]);
      add(static_cast<size_t>(begin - sorted.begin()));
      if (static_cast<size_t>(end - begin) >= n / kCuts) {
        add(static_cast<size_t>(end - sorted.begin()));
      }
    }
  }
  cuts.push_back(n);
  const size_t c = cuts.size() - 1;
  std::vector<uint64_t> cost(c + 1, UINT64_MAX);
  std::vector<size_t> from(c + 1);
  cost[0] = 0;
  const uint64_t log_n = Log2OfCount(n);
  for (size_t b = 1; b <= c; ++b) {
    for (size_t a = 0; a < b; ++a) {
      const size_t count = cuts[b] - cuts[a];
      const int bits = BitLength(Minus(sorted[cuts[b] - 1], sorted[cuts[a]]));
      const uint64_t here = count * (log_n - Log2OfCount(count) +
                                     (static_cast<uint64_t>(bits) << 16)) +
                            bin_cost;
      if (cost[a] + here < cost[b]) {
        cost[b] = cost[a] + here;
        from[b] = a;
      }
    }
  }
  std::vector<int64_t> lowers;
  for (size_t b = c; b > 0; b = from[b])
    lowers.push_back(sorted[cuts[from[b]]]);
  std::reverse(lowers.begin(), lowers.end());
  return lowers;
}

// ---- Blocks ----

/// A block as it is coded.
class BlockCoder {
 public:
  BlockCoder(ByteSpan block, Table table)
      : block_(block), table_(std::move(table)), elements_(block, table_) {}

  /// A quick look at what Prepare may find.
  bool MayBeUseful() const {
    Field field = table_.fields[0];
    if (field.kind != kOrdered) return field.log2_width >= 2;
    return FindDecimals(elements_, table_.records, 0, &field);
  }
  /// False where this codec is not for the block.
  bool Prepare(bool correlated) {
    const size_t fields = table_.fields.size();
    columns_.resize(fields);
    size_t useful = 0;
    for (size_t f = 0; f < fields; ++f) {
      Field& field = table_.fields[f];
      Column& column = columns_[f];
      if (field.kind == kOrdered) {
        useful += FindDecimals(elements_, table_.records, f, &field);
      }
      ReadColumn(elements_, table_.records, f, field, &column);
      if (field.kind != kOrdered) FindScale(&column, &field);
      useful += field.scale > 1;
      if (table_.method != kBins) {
        FindDictionary(&column, &field);
        useful += !field.dictionary.empty() && field.log2_width >= 2;
        FindNumeric(column, table_.row, &field);
      }
      FindSpecials(f);
    }
    return correlated || useful > 0;
  }

  bool Encode(Scratch& scratch, Buffer* out) {
    WriteHeader(scratch, out);
    const size_t whole = table_.records * table_.record_bytes;
    out->Append(block_.subspan(whole));
    if (table_.HasSpecials()) WriteSpecials(out);
    switch (table_.method) {
      case kBins:
        WriteBins(scratch, out);
        return true;
      case kFast:
        return WriteMixed<false>(scratch, out);
      default:
        return WriteMixed<true>(scratch, out);
    }
  }
  Table& table() { return table_; }

 private:
  void FindSpecials(size_t f) {
    Field& field = table_.fields[f];
    std::vector<uint64_t> raws;
    for (size_t t = 0; t < table_.records; ++t) {
      if (columns_[f].is_special[t]) raws.push_back(elements_.At(t, f));
    }
    field.has_specials = !raws.empty();
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
      if (count < 2 || field.specials.size() == kMaxSpecials) break;
      field.specials.push_back(raw);
    }
  }

  void WriteHeader(Scratch& scratch, Buffer* out) {
    ByteWriter writer(out);
    writer.Le<uint8_t>(table_.method);
    writer.Varint(table_.fields.size());
    writer.Varint(table_.row);
    if (table_.method == kBins) {
      for (size_t f = 0; f < table_.fields.size(); ++f) FindPredictor(f);
    }
    for (const Field& field : table_.fields) {
      const bool scaled = field.scale != 1 || field.base != 0;
      writer.Le(static_cast<uint8_t>(
          field.log2_width | field.kind << kKindShift |
          (field.big_endian ? kBigEndian : 0) | (scaled ? kScaled : 0) |
          (field.dictionary.empty() ? 0 : kHasDictionary) |
          (field.has_specials ? kHasSpecials : 0)));
      if (field.kind == kDecimal) writer.Le(field.decimals);
      if (scaled) {
        writer.Varint(field.scale);
        writer.Varint(ZigZag64(field.base));
      }
      if (table_.method == kBins) {
        writer.Le(field.predictor);
      } else {
        writer.Le<uint8_t>(field.numeric ? 0 : 1);
        if (!field.numeric) writer.Varint(ZigZag64(field.center));
      }
      if (!field.dictionary.empty()) {
        writer.Varint(field.dictionary.size());
        Buffer& plane = scratch.buffers[0];
        plane.Clear();
        ByteWriter steps(&plane);
        steps.Varint(ZigZag64(field.dictionary[0]));
        for (size_t i = 1; i < field.dictionary.size(); ++i) {
          steps.Varint(static_cast<uint64_t>(Minus(field.dictionary[i],
                                                   field.dictionary[i - 1])) -
                       1);
        }
        writer.Varint(plane.size());
        AppendBytePlane(plane.span(), 9, &scratch.buffers[1], out);
      }
      if (field.has_specials) {
        writer.Varint(field.specials.size());
        for (const uint64_t raw : field.specials) {
          std::memcpy(out->Extend(field.width()), &raw, field.width());
        }
      }
    }
  }

  void WriteSpecials(Buffer* out) const {
    const size_t fields = table_.fields.size();
    Buffer coded;
    entropy::BinaryEncoder coder(&coded);
    SpecialModels models(fields);
    for (size_t t = 0; t < table_.records; ++t) {
      models.BeginRecord();
      for (size_t f = 0; f < fields; ++f) {
        const Field& field = table_.fields[f];
        if (!field.has_specials) continue;
        const std::vector<uint8_t>& is_special = columns_[f].is_special;
        const bool above = table_.row != 0 && t >= table_.row &&
                           is_special[t - table_.row] != 0;
        if (!models.Flag(coder, f, above, is_special[t] != 0)) continue;
        const uint64_t raw = elements_.At(t, f);
        const auto which = static_cast<uint32_t>(
            std::find(field.specials.begin(), field.specials.end(), raw) -
            field.specials.begin());
        models.Which(coder, f, which);
        if (which == field.specials.size()) {
          SpecialModels::Raw(coder, field.bits(), raw);
        }
      }
    }
    coder.Finish();
    ByteWriter writer(out);
    writer.Varint(coded.size());
    writer.Bytes(coded.span());
  }

  template <bool kStrongModel>
  bool WriteMixed(Scratch& scratch, Buffer* out) const {
    const Shape shape = ShapeOf(table_);
    const auto model =
        std::make_unique<Model<kStrongModel>>(shape, SlotsLog2(table_));
    entropy::BinaryEncoder coder(out);
    size_t told = 0;
    for (size_t t = 0; t < table_.records; ++t) {
      for (size_t f = 0; f < shape.fields; ++f) {
        if (columns_[f].is_special[t]) {
          model->Skip(t, f);
        } else {
          model->Code(coder, t, f, columns_[f].values[t]);
        }
      }
      if (out->size() > block_.size()) return false;
      told += table_.record_bytes;
      if (told >= size_t{1} << 16) {
        if (!scratch.Advance(told)) return false;
        told = 0;
      }
    }
    coder.Finish();
    return true;
  }

  /// A field's values, those of specials like the ones before them, with zeros
  /// in front.
  std::vector<int64_t> Filled(size_t f, size_t pad) const {
    std::vector<int64_t> values(pad + table_.records);
    for (size_t t = 0; t < table_.records; ++t) {
      values[pad + t] = columns_[f].is_special[t] ? values[pad + t - 1]
                                                  : columns_[f].values[t];
    }
    return values;
  }
  ptrdiff_t Row() const {
    return static_cast<ptrdiff_t>(std::max<uint64_t>(table_.row, 1));
  }
  size_t Pad() const { return static_cast<size_t>(Row()) + 4; }

  void FindPredictor(size_t f) {
    constexpr size_t kSamples = 2048;
    Field& field = table_.fields[f];
    const std::vector<int64_t> values = Filled(f, Pad());
    const size_t stride = std::max<size_t>(table_.records / kSamples, 1) | 1;
    uint64_t least = UINT64_MAX;
    for (uint8_t p = 0; p <= kLastPredictor; ++p) {
      if ((p == 3 || p == 4) && table_.row == 0) continue;
      auto histogram = std::make_unique<Histogram>();
      uint64_t low = 0;
      for (size_t t = 0; t < table_.records; t += stride) {
        if (columns_[f].is_special[t]) continue;
        const int64_t* const v = &values[Pad() + t];
        const int64_t r = Minus(*v, PredictFrom(v, Row(), p));
        const int bits = std::max(BitLength(r) - 9, 0);
        histogram->Add(static_cast<uint64_t>(r >> bits) * 64 +
                       static_cast<uint64_t>(bits));
        low += static_cast<uint64_t>(bits) << 16;
      }
      const uint64_t cost = histogram->Cost() + low;
      if (cost < least) {
        least = cost;
        field.predictor = p;
      }
    }
  }

  void WriteBins(Scratch& scratch, Buffer* out) {
    constexpr size_t kSamples = 8192;
    const size_t fields = table_.fields.size();
    ByteWriter writer(out);
    entropy::ClassFrequencies frequencies;
    Buffer& classes = scratch.buffers[0];
    Buffer& symbols = scratch.buffers[1];
    classes.Clear();
    symbols.Clear();
    Buffer raw;
    entropy::BitWriter bits(&raw);
    for (size_t f = 0; f < fields; ++f) {
      const Field& field = table_.fields[f];
      const std::vector<int64_t> values = Filled(f, Pad());
      std::vector<int64_t> residuals;
      residuals.reserve(table_.records);
      for (size_t t = 0; t < table_.records; ++t) {
        if (columns_[f].is_special[t]) continue;
        const int64_t* const v = &values[Pad() + t];
        residuals.push_back(Minus(*v, PredictFrom(v, Row(), field.predictor)));
      }
      entropy::ByteCounts counts{};
      if (residuals.empty()) {
        writer.Varint(0);
        frequencies.push_back(entropy::NormalizeBytes(counts));
        continue;
      }
      std::vector<int64_t> sample;
      const size_t stride =
          std::max<size_t>(residuals.size() / kSamples, 1) | 1;
      for (size_t i = 0; i < residuals.size(); i += stride) {
        sample.push_back(residuals[i]);
      }
      const int64_t least =
          *std::min_element(residuals.begin(), residuals.end());
      sample.push_back(least);
      std::sort(sample.begin(), sample.end());
      const std::vector<int64_t> lowers =
          DivideIntoBins(sample, residuals.size());
      std::vector<uint64_t> most(lowers.size());
      const size_t begin = symbols.size();
      uint8_t* symbol = symbols.Extend(residuals.size());
      std::memset(classes.Extend(residuals.size()), static_cast<int>(f),
                  residuals.size());
      for (const int64_t r : residuals) {
        const int64_t* at = lowers.data();
        for (size_t left = lowers.size(); left > 1;) {
          const size_t half = left / 2;
          at = at[half] <= r ? at + half : at;
          left -= half;
        }
        const auto b = static_cast<size_t>(at - lowers.data());
        *symbol++ = static_cast<uint8_t>(b);
        ++counts[b];
        most[b] |= static_cast<uint64_t>(Minus(r, lowers[b]));
      }
      writer.Varint(lowers.size());
      std::vector<int> width(lowers.size());
      for (size_t b = 0; b < lowers.size(); ++b) {
        writer.Varint(
            b == 0 ? ZigZag64(lowers[0])
                   : static_cast<uint64_t>(Minus(lowers[b], lowers[b - 1])));
        width[b] = static_cast<int>(std::bit_width(most[b]));
        writer.Le(static_cast<uint8_t>(width[b]));
      }
      for (size_t i = 0; i < residuals.size(); ++i) {
        const size_t b = symbols.data()[begin + i];
        bits.Put(static_cast<uint64_t>(Minus(residuals[i], lowers[b])),
                 width[b]);
      }
      frequencies.push_back(entropy::NormalizeBytes(counts));
    }
    bits.Finish();
    entropy::WriteClassFrequencies(frequencies, out);
    if (symbols.empty()) return;
    const entropy::ClassEncodeTables tables(frequencies);
    entropy::EncodeClassRans(tables, symbols.data(), classes.data(),
                             symbols.size(), &scratch.buffers[2], out);
    writer.Bytes(raw.span());
  }

  ByteSpan block_;
  Table table_;
  Elements elements_;
  std::vector<Column> columns_;
};

/// Appends the coded block; false where the codec is not for it.
bool EncodeBlock(const EncodeRequest& request, ByteSpan block, Scratch& scratch,
                 Buffer* out) {
  const std::optional<Field> field = FieldOf(request.dtype);
  if (!field || block.size() > table::kMaxBytes) return false;
  const Sample sample(block, *field);
  if (sample.count() < 64) return false;
  const Found found = FindLayout(sample, request.row, request.level);
  Table table;
  // Of bytes there are too many for their time at the default.
  const int mixing = field->log2_width == 0 ? 7 : 6;
  table.method = request.level < mixing ? kBins
                 : request.level < 8    ? kFast
                                        : table::kStrong;
  table.row = found.row;
  table.fields.assign(found.fields, *field);
  table.record_bytes = found.fields * field->width();
  table.records = block.size() / table.record_bytes;
  const size_t start = out->size();
  BlockCoder coder(block, std::move(table));
  if ((found.correlated || coder.MayBeUseful()) &&
      coder.Prepare(found.correlated) && coder.Encode(scratch, out) &&
      out->size() - start < block.size()) {
    return true;
  }
  out->Resize(start);
  return false;
}

std::unique_ptr<EncodePlan> MakePlan(const EncodeRequest& request,
                                     Scratch& scratch) {
  constexpr int kFirstLevel = 3;
  if (request.level < kFirstLevel || !request.references.empty()) {
    return nullptr;
  }
  Buffer first;
  if (!EncodeBlock(request, FirstBlock(request), scratch, &first)) {
    return nullptr;
  }
  return std::make_unique<CodedPlan>(
      request, ByteSpan(), std::move(first),
      [request](ByteSpan block, Scratch& own, Buffer* out) {
        return EncodeBlock(request, block, own, out);
      });
}

}  // namespace

extern const Encoder kTableEncoder = {
    .id = 26, .name = "table", .plan = MakePlan};

}  // namespace zipllm::codecs
