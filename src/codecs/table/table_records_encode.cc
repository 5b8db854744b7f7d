// How long records are is told by bytes that are the same again; what fields
// they have, by what each reading of their bytes costs.
#include <algorithm>
#include <array>
#include <numeric>
#include <span>
#include <utility>

#include "codecs/bytes/zstd_encode.h"
#include "codecs/table/table_columns.h"
#include "codecs/table/table_records.h"

namespace zipllm::codecs::table {
namespace {

// Costs are in 1/65536 bit, as those of Histogram.
constexpr uint64_t kBit = uint64_t{1} << 16;
constexpr uint64_t kNever = UINT64_MAX / 8;
constexpr size_t kMaxWidth = 8;

/// Records here and there in the data, in chunks of some that follow each
/// other.
class Sample {
 public:
  Sample(ByteSpan data, size_t size) : size_(size) {
    const size_t most = std::clamp<size_t>(kChunkBytes / size, 16, 64);
    // A head may come before the first one.
    const size_t skipped = data.size() / size / 16;
    const size_t whole = data.size() / size - skipped;
    const size_t chunks = whole < 2 * kChunks * most ? 1 : kChunks;
    in_chunk_ = std::min(whole, chunks == 1 ? kChunks * most : most);
    for (size_t c = 0; c < chunks; ++c) {
      const size_t first =
          skipped + (chunks == 1 ? 0 : (whole - in_chunk_) / (chunks - 1) * c);
      for (size_t t = first; t < first + in_chunk_; ++t) {
        if ((t + 1) * size + kMaxWidth > data.size()) break;
        records_.push_back(data.data() + t * size);
      }
    }
  }
  size_t records() const { return records_.size(); }
  size_t size() const { return size_; }
  bool Begins(size_t t) const { return t % in_chunk_ == 0; }
  /// The element at `offset`, less than size(), of record `t`; it may reach
  /// into the next one.
  uint64_t At(size_t t, size_t offset, const Field& field) const {
    return LoadRaw(records_[t] + offset, field);
  }

 private:
  static constexpr size_t kChunks = 8;
  static constexpr size_t kChunkBytes = 4096;
  size_t size_;
  size_t in_chunk_;
  std::vector<const uint8_t*> records_;
};

uint64_t EntropyOf(std::span<const uint32_t> counts, size_t total) {
  uint64_t sum = 0;
  for (const uint32_t count : counts) {
    if (count != 0) sum += uint64_t{count} * Log2OfCount(count);
  }
  return uint64_t{total} * Log2OfCount(total) - sum;
}

/// What numbers cost by their magnitudes.
class Magnitudes {
 public:
  void Add(int64_t x) {
    const auto bits = static_cast<size_t>(BitLength(x));
    ++counts_[2 * bits + (x < 0 ? 1 : 0)];
    low_ += bits == 0 ? 0 : bits - 1;
    ++total_;
  }
  uint64_t Cost() const {
    return total_ == 0 ? 0 : EntropyOf(counts_, total_) + low_ * kBit;
  }

 private:
  std::array<uint32_t, 130> counts_{};
  uint64_t low_ = 0;
  size_t total_ = 0;
};

/// What numbers cost that are few; kNever if they are not.
uint64_t CostOfFew(std::vector<int64_t> numbers, size_t width) {
  if (numbers.empty()) return 0;
  // First a part, since sorting takes time.
  const size_t some = std::min<size_t>(numbers.size(), 64);
  const auto end = numbers.begin() + static_cast<ptrdiff_t>(some);
  std::sort(numbers.begin(), end);
  const auto different = std::ranges::adjacent_find(numbers.begin(), end);
  if (some == 64 && different == end) return kNever;
  std::sort(numbers.begin(), numbers.end());
  std::vector<uint32_t> counts(1);
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (i > 0 && numbers[i] != numbers[i - 1]) counts.push_back(0);
    ++counts.back();
  }
  if (counts.size() > numbers.size() / 4) return kNever;
  return EntropyOf(counts, numbers.size()) + counts.size() * width * 4 * kBit;
}

/// Divides numbers by their common step, as whoever codes them does.
void DivideByStep(std::vector<int64_t>* numbers) {
  uint64_t step = 0;
  const int64_t first = (*numbers)[0];
  for (const int64_t number : *numbers) {
    step = std::gcd(step, Magnitude(Minus(number, first)));
    if (step == 1) return;
  }
  if (step < 2 || step > INT64_MAX) return;
  for (int64_t& number : *numbers) {
    number = Minus(number, first) / static_cast<int64_t>(step);
  }
}

/// Of a field's numbers in a sample, by the best of some simple codes.
uint64_t CostOf(const Sample& sample, const Column& column, size_t width) {
  Magnitudes plain, left, slope;
  std::vector<int64_t> numbers;
  numbers.reserve(column.values.size());
  uint64_t specials = 0;
  int64_t before = 0;
  int64_t step = 0;
  for (size_t t = 0; t < column.values.size(); ++t) {
    if (sample.Begins(t)) step = 0;
    if (column.is_special[t]) {
      specials += width * 8 * kBit;
      continue;
    }
    const int64_t value = column.values[t];
    const int64_t now = Minus(value, before);
    numbers.push_back(value);
    plain.Add(value);
    if (!sample.Begins(t)) {
      left.Add(now);
      slope.Add(Minus(now, step));
      step = now;
    }
    before = value;
  }
  return specials + std::min({plain.Cost(), left.Cost(), slope.Cost(),
                              CostOfFew(std::move(numbers), width)});
}

/// Whether nearly all of a field's elements have exponents as measurements do.
bool MayBeFloats(const Sample& sample, size_t offset, const Field& field) {
  const bool is_double = field.log2_width == 3;
  const size_t stride = std::max<size_t>(sample.records() / 64, 1);
  size_t all = 0, good = 0;
  for (size_t t = 0; t < sample.records(); t += stride) {
    const uint64_t raw = sample.At(t, offset, field);
    if (raw == 0) continue;
    const auto exponent =
        static_cast<int>(is_double ? raw >> 52 & 0x7FF : raw >> 23 & 0xFF);
    const int from_one = exponent - (is_double ? 1023 : 127);
    const bool is_nan = exponent == (is_double ? 0x7FF : 0xFF);
    good += is_nan || (from_one > -40 && from_one < 40) ? 1 : 0;
    ++all;
  }
  return all >= 8 && good * 8 >= all * 7;
}

struct Reading {
  Field field;
  uint64_t cost = kNever;
  uint64_t as_integers = kNever;
  uint64_t as_floats = kNever;
};

/// The best reading of the `width` bytes at `offset` of each record.
class Reader {
 public:
  Reader(const Sample& sample, size_t offset)
      : sample_(sample), offset_(offset) {}

  Reading Best(uint8_t log2_width) {
    Reading best;
    for (const bool big : {false, true}) {
      if (big && log2_width == 0) break;
      Field field;
      field.log2_width = log2_width;
      field.big_endian = big;
      ReadIntegers(field, &best);
      if (log2_width >= 2) ReadFloats(field, &best);
    }
    return best;
  }

 private:
  static void Consider(const Field& field, uint64_t cost, Reading* best) {
    uint64_t& of_kind =
        field.kind == kOrdered ? best->as_floats : best->as_integers;
    of_kind = std::min(of_kind, cost);
    if (cost >= best->cost) return;
    best->cost = cost;
    best->field = field;
  }

  void ReadIntegers(Field field, Reading* best) {
    const int bits = field.bits();
    Fill(field, [&](uint64_t raw) { return SignExtend(raw, bits); });
    const auto [low, high] =
        std::minmax_element(column_.values.begin(), column_.values.end());
    if (*low < 0 && *high >= 0 && field.log2_width < 3) {
      // Which of the two borders the values do not cross.
      int64_t least = INT64_MAX, most = 0;
      for (const int64_t value : column_.values) {
        const auto raw = static_cast<int64_t>(static_cast<uint64_t>(value) &
                                              (UINT64_MAX >> (64 - bits)));
        least = std::min(least, raw);
        most = std::max(most, raw);
      }
      if (most - least < *high - *low) {
        field.kind = kUnsigned;
        Fill(field, [](uint64_t raw) { return static_cast<int64_t>(raw); });
      }
    }
    DivideByStep(&column_.values);
    Consider(field, CostOf(sample_, column_, field.width()), best);
  }

  void ReadFloats(Field field, Reading* best) {
    field.kind = kOrdered;
    if (!MayBeFloats(sample_, offset_, field)) return;
    // Decimals are found as in any column.
    Table table;
    table.fields = {field};
    table.record_bytes = field.width();
    table.records = sample_.records();
    raw_.resize(table.records * table.record_bytes);
    for (size_t t = 0; t < table.records; ++t) {
      StoreRaw(sample_.At(t, offset_, field), field,
               &raw_[t * table.record_bytes]);
    }
    const Elements elements(raw_, table);
    Field decimal = field;
    FindDecimals(elements, table.records, 0, &decimal);
    ReadColumn(elements, table.records, 0, decimal, &column_);
    const uint64_t cost = CostOf(sample_, column_, field.width());
    // Whoever codes the column finds out by itself whether these are decimals.
    Consider(field, cost, best);
  }

  template <typename Number>
  void Fill(const Field& field, const Number& number) {
    column_.values.resize(sample_.records());
    column_.is_special.assign(sample_.records(), 0);
    for (size_t t = 0; t < sample_.records(); ++t) {
      column_.values[t] = number(sample_.At(t, offset_, field));
    }
  }

  const Sample& sample_;
  const size_t offset_;
  Column column_;
  std::vector<uint8_t> raw_;
};

/// What readings of all parts of a record cost.
class Costs {
 public:
  Costs(ByteSpan data, size_t size) : sample_(data, size), readings_(size) {
    for (size_t offset = 0; offset < size; ++offset) {
      Reader reader(sample_, offset);
      for (uint8_t w = 0; w < kWidths; ++w) {
        if (size_t{1} << w > size) break;
        readings_[offset][w] = reader.Best(w);
      }
    }
  }
  size_t size() const { return readings_.size(); }
  /// Bytes of the sample.
  uint64_t bytes() const { return sample_.records() * size(); }

  /// The cheapest fields of records that begin at `phase`, and what they cost.
  std::pair<uint64_t, std::vector<Field>> Divide(size_t phase) const {
    struct Step {
      uint64_t cost = kNever;
      uint8_t log2_width = 0;
    };
    const size_t n = size();
    std::vector<Step> best(n + 1);
    best[0].cost = 0;
    for (size_t end = 1; end <= n; ++end) {
      for (uint8_t w = 0; w < kWidths && size_t{1} << w <= end; ++w) {
        const size_t begin = end - (size_t{1} << w);
        // What a field's description takes, in proportion to the sample.
        const uint64_t cost = best[begin].cost +
                              readings_[(phase + begin) % n][w].cost +
                              16 * kBit;
        // The widest of those that cost the same.
        if (cost <= best[end].cost) best[end] = {cost, w};
      }
    }
    std::vector<Field> fields;
    for (size_t end = n; end > 0;) {
      const uint8_t w = best[end].log2_width;
      end -= size_t{1} << w;
      fields.push_back(readings_[(phase + end) % n][w].field);
    }
    std::reverse(fields.begin(), fields.end());
    return {best[n].cost, std::move(fields)};
  }

  /// The least that numbers of one type cost.
  uint64_t CostOfOneType() const {
    uint64_t least = kNever;
    for (uint8_t w = 1; w < kWidths; ++w) {
      const size_t width = size_t{1} << w;
      if (size() % width != 0) break;
      for (size_t phase = 0; phase < width; ++phase) {
        uint64_t integers = 0, floats = 0;
        for (size_t at = phase; at < size(); at += width) {
          const Reading& reading = readings_[at][w];
          integers += reading.as_integers + 16 * kBit;
          floats = std::min(floats + reading.as_floats + 16 * kBit, kNever);
        }
        least = std::min({least, integers, floats});
      }
    }
    return least;
  }

 private:
  static constexpr uint8_t kWidths = 4;
  Sample sample_;
  std::vector<std::array<Reading, kWidths>> readings_;
};

/// How many bytes are the same again, in parts of the data.
class Repetition {
 public:
  /// Of at least kLeastBytes.
  explicit Repetition(ByteSpan data) {
    const size_t last = data.size() - kPart - kMaxRecord;
    for (size_t p = 0; p < kParts; ++p) {
      const uint8_t* const from = data.data() + last / (kParts - 1) * p;
      for (size_t lag = 1; lag <= kMaxRecord; ++lag) {
        matches_[p][lag - 1] = Matches(from, lag);
      }
      auto sorted = matches_[p];
      const auto middle = sorted.begin() + kMaxRecord / 2;
      std::nth_element(sorted.begin(), middle, sorted.end());
      usual_[p] = *middle;
    }
  }

  /// By how much more bytes equal those `lag` on than at most lags: 0 where
  /// that may be an accident in some of the parts.
  uint32_t Excess(size_t lag) const {
    constexpr uint32_t kAccident = kPart / 32;
    uint32_t sum = 0;
    size_t clear = 0;
    for (size_t p = 0; p < kParts; ++p) {
      const uint32_t here = matches_[p][lag - 1];
      if (here <= usual_[p] + kAccident) continue;
      sum += here - usual_[p];
      ++clear;
    }
    return clear * 8 >= kParts * 7 ? sum : 0;
  }

  static constexpr size_t kParts = 8;
  static constexpr size_t kPart = 1024;
  static constexpr uint32_t kAll = kParts * kPart;
  static constexpr size_t kLeastBytes = 2 * (kPart + kMaxRecord);

 private:
  static uint32_t Matches(const uint8_t* from, size_t lag) {
    uint32_t sum = 0;
    for (size_t begin = 0; begin < kPart; begin += 128) {
      uint8_t same = 0;  // a byte, so that many are counted at once
      for (size_t i = begin; i < begin + 128; ++i) {
        same = static_cast<uint8_t>(same + (from[i] == from[i + lag] ? 1 : 0));
      }
      sum += same;
    }
    return sum;
  }

  std::array<std::array<uint32_t, kMaxRecord>, kParts> matches_;
  std::array<uint32_t, kParts> usual_;
};

/// Sizes that records may have, the likeliest first.
std::vector<size_t> LikelySizes(ByteSpan data) {
  constexpr size_t kShortest = 3;
  constexpr size_t kMost = 3;
  const Repetition repetition(data);
  uint32_t highest = 0;
  for (size_t lag = kShortest; lag <= kMaxRecord; ++lag) {
    highest = std::max(highest, repetition.Excess(lag));
  }
  std::vector<size_t> sizes;
  // Other bytes repeat by a tenth, too.
  if (highest < Repetition::kAll / 5) return sizes;
  // Multiples of a size repeat as well as it does.
  for (size_t lag = kShortest; lag <= kMaxRecord; ++lag) {
    if (repetition.Excess(lag) * uint64_t{4} < highest * uint64_t{3}) continue;
    sizes.push_back(lag);
    if (sizes.size() == kMost) break;
  }
  return sizes;
}

bool AreOfOneType(const std::vector<Field>& fields) {
  return std::ranges::all_of(fields, [&](const Field& field) {
    return field.log2_width == fields[0].log2_width &&
           (field.kind == kOrdered) == (fields[0].kind == kOrdered);
  });
}

/// The bytes of records from `records` on that are none: a file's head. Numbers
/// are far from those of the sample there.
size_t HeadBytes(ByteSpan records, const std::vector<Field>& fields,
                 size_t size) {
  constexpr size_t kMost = 8192;
  struct Range {
    int64_t least = INT64_MAX;
    int64_t most = INT64_MIN;
  };
  const Sample sample(records, size);
  std::vector<Range> ranges(fields.size());
  for (size_t t = 0; t < sample.records(); ++t) {
    size_t offset = 0;
    for (size_t f = 0; f < fields.size(); offset += fields[f++].width()) {
      const int64_t value =
          NumberOf(sample.At(t, offset, fields[f]), fields[f]);
      ranges[f].least = std::min(ranges[f].least, value);
      ranges[f].most = std::max(ranges[f].most, value);
    }
  }
  const auto is_far = [](int64_t value, const Range& range) {
    const auto difference = [](int64_t a, int64_t b) {
      return static_cast<uint64_t>(a) - static_cast<uint64_t>(b);
    };
    const uint64_t span = difference(range.most, range.least);
    return value < range.least  ? difference(range.least, value) > span
           : value > range.most ? difference(value, range.most) > span
                                : false;
  };
  size_t head = 0;
  const size_t end = std::min(kMost, records.size() / 16);
  for (size_t at = 0; at + size <= end; at += size) {
    size_t offset = at;
    for (size_t f = 0; f < fields.size(); offset += fields[f++].width()) {
      const int64_t value =
          NumberOf(LoadRaw(records.data() + offset, fields[f]), fields[f]);
      if (is_far(value, ranges[f])) head = at + size;
    }
  }
  // Where that goes on and on, numbers are only slow to come.
  return head <= end / 2 ? head : 0;
}

/// What Zstandard makes of parts of the data, in 1/65536 bit a byte.
uint64_t CostByZstd(ByteSpan data) {
  constexpr size_t kPart = size_t{1} << 17;
  constexpr int kLevel = 3;
  const size_t part = std::min(kPart, data.size() / 2);
  Buffer coded;
  for (const size_t begin : {data.size() / 4, data.size() / 4 * 3 - part / 2}) {
    if (!AppendZstdFrame(data.subspan(begin, part), kLevel, &coded)) {
      return 8 * kBit;
    }
  }
  return coded.size() * 8 * kBit / (2 * part);
}

/// Whether so many 1/65536 bit a byte are clearly less than Zstandard needs.
/// Tables in programs repeat as records do, and are better left to it.
bool PaysMoreThanZstd(ByteSpan data, uint64_t a_byte) {
  const uint64_t usual = CostByZstd(data);
  return a_byte + kBit / 2 < usual && a_byte < usual / 8 * 7;
}

/// Whether `cost` is less than `other` by more than measuring errs.
bool IsClearlyLess(uint64_t cost, uint64_t other) {
  return cost < other - other / 32;
}

}  // namespace

Records FindRecords(ByteSpan data) {
  constexpr size_t kLeastRecords = 128;
  Records found;
  if (data.size() < Repetition::kLeastBytes) return found;
  uint64_t least = kNever;  // a record's byte
  for (const size_t size : LikelySizes(data)) {
    if (data.size() / size < kLeastRecords) break;
    if (found.size != 0 && size % found.size == 0) continue;
    const Costs costs(data, size);
    size_t begin = 0;
    auto [cost, fields] = costs.Divide(0);
    for (size_t phase = 1; phase < size; ++phase) {
      auto [other, divided] = costs.Divide(phase);
      if (other + cost / 256 >= cost) continue;
      begin = phase;
      cost = other;
      fields = std::move(divided);
    }
    const uint64_t a_byte = cost / costs.bytes();
    if (!IsClearlyLess(a_byte, least)) continue;
    least = a_byte;
    const bool pays = fields.size() <= kMaxFields && !AreOfOneType(fields) &&
                      cost + cost / 128 < costs.CostOfOneType() &&
                      PaysMoreThanZstd(data, a_byte);
    if (pays) begin += HeadBytes(data.subspan(begin), fields, size);
    found = pays ? Records{begin, size} : Records{};
  }
  return found;
}

std::vector<Field> FindFieldsOfRecords(ByteSpan data, size_t size) {
  std::vector<Field> fields = Costs(data, size).Divide(0).second;
  if (fields.size() > kMaxFields) fields.clear();
  return fields;
}

}  // namespace zipllm::codecs::table
