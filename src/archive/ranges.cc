#include "archive/ranges.h"

#include <algorithm>
#include <array>
#include <bit>
#include <optional>

#include "base/bytes.h"
#include "base/log2.h"
#include "codecs/table/table_records.h"

namespace zipllm::archive {
static_assert(kMaxRecord == codecs::table::kMaxRecord);

namespace {

// Every second window is looked at.
constexpr size_t kWindow = 4096;
constexpr size_t kStride = 2 * kWindow;
// Shorter stretches of numbers are not worth a frame of their own.
constexpr size_t kMinNumbers = 2 * kStride;
// What a frame costs beside its coded bytes, roughly.
constexpr uint32_t kFrameBits = 64 * 8;
constexpr size_t kMaxSize = kMaxElement;

/// A way to read bytes: elements of `size` bytes, of which the first begins at
/// an offset that is `phase` modulo the size.
struct Reading {
  DType dtype = DType::kBytes;
  uint8_t size = 1;
  uint8_t phase = 0;
  bool big_endian = false;

  bool operator==(const Reading&) const = default;
  size_t AlignUp(size_t offset) const {
    return offset + (phase + size - offset % size) % size;
  }
  size_t AlignDown(size_t offset) const {
    return offset - (offset % size + size - phase) % size;
  }
};

/// The bits of a float that are counted: its exponent, and as much of its
/// mantissa as fits 8 bits.
struct Key {
  int shift;
  uint64_t mask;
};

std::optional<Key> KeyOf(DType dtype) {
  switch (dtype) {
    case DType::kBF16:
    case DType::kBF16Be:
      return Key{7, 255};
    case DType::kF16:
      return Key{8, 127};
    case DType::kF32:
    case DType::kF32Be:
      return Key{23, 255};
    default:
      return std::nullopt;
  }
}

/// log2(x) in 1/65536, for counts of a window.
uint32_t Log2OfCount(size_t x) {
  static const auto* const table = [] {
    auto* logarithms = new std::array<uint32_t, kWindow + 1>();
    for (uint32_t i = 1; i <= kWindow; ++i) (*logarithms)[i] = Log2Q16(i);
    return logarithms;
  }();
  return (*table)[x];
}

/// What elements cost in bits, learned from a window: floats by a code for
/// their keys, all others by a code for each of their bytes.
class Model {
 public:
  Model(ByteSpan data, const Reading& reading, size_t begin, size_t end)
      : reading_(reading), key_(KeyOf(reading.dtype)) {
    std::array<std::array<uint32_t, 256>, kMaxSize> counts;
    const size_t tables = key_ ? 1 : reading.size;
    std::fill_n(counts.begin(), tables, std::array<uint32_t, 256>{});
    size_t elements = 0;
    for (size_t at = reading.AlignUp(begin); at + reading.size <= end;
         at += reading.size, ++elements) {
      if (key_) {
        const uint64_t element = ElementAt(data, at);
        ++counts[0][KeyIn(element)];
        used_ |= element;
      } else {
        for (size_t i = 0; i < reading.size; ++i) ++counts[i][data[at + i]];
      }
    }
    const uint32_t total = Log2OfCount(elements);
    for (size_t t = 0; t < tables; ++t) {
      uint64_t symbols = 0;
      uint64_t sum = 0;
      for (size_t s = 0; s < 256; ++s) {
        const uint32_t count = counts[t][s];
        const uint32_t bits =
            total + 65536 - (count == 0 ? 0 : Log2OfCount(count) + 65536);
        costs_[t][s] = static_cast<uint16_t>(bits >> 8);
        symbols += count != 0;
        sum += uint64_t{count} * bits;
      }
      // What it takes to learn the table: half a logarithm a symbol (Rissanen
      // 1984).
      cost_ += std::min<uint64_t>((sum + symbols * total / 2) >> 8,
                                  elements * 8 << 8);
    }
    if (key_) cost_ += elements * RawCost();
    if (elements != 0) cost_ = cost_ * kWindow / (elements * reading.size);
  }

  /// Of the window, in 1/256 bit.
  uint64_t cost() const { return cost_; }
  const Reading& reading() const { return reading_; }
  bool IsPositiveFloat() const {
    return key_ && used_ >> (8 * reading_.size - 1) == 0;
  }

  /// Of the element at `at`, in 1/256 bit.
  uint32_t CostAt(ByteSpan data, size_t at) const {
    if (key_) {
      const uint64_t element = ElementAt(data, at);
      // Bits that were never set before are a surprise.
      const uint32_t surprise = (element & ~used_) != 0 ? 16 << 8 : 0;
      return costs_[0][KeyIn(element)] + RawCost() + surprise;
    }
    uint32_t cost = 0;
    for (size_t i = 0; i < reading_.size; ++i) cost += costs_[i][data[at + i]];
    return cost;
  }

 private:
  uint64_t ElementAt(ByteSpan data, size_t at) const {
    const uint8_t* const from = &data[at];
    if (reading_.size == 2) {
      const auto unit = LoadLe<uint16_t>(from);
      return reading_.big_endian ? __builtin_bswap16(unit) : unit;
    }
    const auto element = LoadLe<uint32_t>(from);
    return reading_.big_endian ? __builtin_bswap32(element) : element;
  }
  size_t KeyIn(uint64_t element) const {
    return (element >> key_->shift) & key_->mask;
  }
  /// Bits beside the key that are ever set.
  uint32_t RawCost() const {
    return static_cast<uint32_t>(
               std::popcount(used_ & ~(key_->mask << key_->shift)))
           << 8;
  }

  Reading reading_;
  std::optional<Key> key_;
  uint64_t used_ = 0;  // bits of floats that are ever set
  uint64_t cost_ = 0;
  std::array<std::array<uint16_t, 256>, kMaxSize> costs_;
};

bool IsText(ByteSpan window) {
  size_t other = 0;
  for (uint8_t byte : window) {
    other += (byte < 32 && byte != '\n' && byte != '\t' && byte != '\r') ||
             byte >= 127;
  }
  return other * 16 < window.size();
}

/// How skewed the bytes at offset `residue` modulo `size` are: the sum of the
/// squares of their counts.
uint64_t Skew(const std::array<std::array<uint32_t, 256>, kMaxSize>& counts,
              size_t size, size_t residue) {
  uint64_t skew = 0;
  for (size_t s = 0; s < 256; ++s) {
    uint64_t count = 0;
    for (size_t r = residue; r < kMaxSize; r += size) count += counts[r][s];
    skew += count * count;
  }
  return skew;
}

/// The best reading of a window that begins at `begin`.
Model Read(ByteSpan data, size_t begin) {
  const ByteSpan window = data.subspan(begin, kWindow);
  const Model bytes(data, Reading{}, begin, begin + kWindow);
  if (IsText(window)) return bytes;
  std::array<std::array<uint32_t, 256>, kMaxSize> counts{};
  for (size_t i = 0; i < kWindow; ++i) {
    ++counts[(begin + i) % kMaxSize][window[i]];
  }
  Model best = bytes;
  // Numbers must win clearly: other codecs find more in bytes than this model.
  uint64_t limit = bytes.cost() - bytes.cost() / 32;
  for (const uint8_t size : {uint8_t{2}, uint8_t{4}, uint8_t{8}}) {
    // The highest byte is the most skewed.
    std::array<uint64_t, kMaxSize> skew{};
    for (size_t r = 0; r < size; ++r) skew[r] = Skew(counts, size, r);
    const auto highest = std::max_element(skew.begin(), skew.begin() + size);
    const auto lowest = std::min_element(skew.begin(), skew.begin() + size);
    if (*highest * 4 < *lowest * 5) continue;  // all alike: no numbers
    const auto consider = [&](DType dtype, size_t phase, bool big_endian,
                              uint64_t handicap) {
      const Model model(
          data, {dtype, size, static_cast<uint8_t>(phase % size), big_endian},
          begin, begin + kWindow);
      // What is never negative is more likely an integer.
      if (model.IsPositiveFloat()) handicap += bytes.cost() / 8;
      if (model.cost() + handicap >= limit) return;
      best = model;
      limit = model.cost() + handicap;
    };
    // The byte with most of the exponent is the most skewed, but for those that
    // are always the same: what was cut off before the float became longer.
    constexpr uint64_t kConstant = uint64_t{kWindow} * kWindow;
    size_t exponent = size;
    for (size_t r = 0; r < size; ++r) {
      if (skew[r] * size * size < kConstant &&
          (exponent == size || skew[r] > skew[exponent])) {
        exponent = r;
      }
    }
    if (exponent != size) {
      const uint64_t rare = bytes.cost() / 1024;
      if (size == 2) {
        consider(DType::kBF16, exponent + 1, false, 0);
        // One byte holds its exponent: either order of bytes will do.
        consider(DType::kF16, exponent + 1, false, 0);
        consider(DType::kBF16Be, exponent, true, rare);
      } else if (size == 4) {
        consider(DType::kF32, exponent + 1, false, 0);
        consider(DType::kF32Be, exponent, true, rare);
      }
    }
    // The highest of the most skewed, after which the next integer begins.
    auto last = static_cast<size_t>(highest - skew.begin());
    while (last + 1 < size && skew[last + 1] == *highest) ++last;
    const DType integers = size == 2   ? DType::kI16
                           : size == 4 ? DType::kI32
                                       : DType::kI64;
    // They take for integers what floats can be, too.
    consider(integers, last + 1, false, bytes.cost() / 16);
  }
  return best;
}

/// Bytes from a reading to the next: the first ends at `end`, the second starts
/// at `begin`.
struct Border {
  size_t end;
  size_t begin;
};

/// Finds where one model gives way to the next, between `from` and `to`. What
/// lies between costs 8 bits a byte.
Border FindBorder(ByteSpan data, const Model& first, const Model& second,
                  size_t from, size_t to) {
  // Least cost of [from, offset) by state: in the first, between, in the
  // second.
  constexpr uint64_t kNever = UINT64_MAX / 2;
  struct Path {
    uint64_t cost = kNever;
    size_t end = 0;
    size_t begin = 0;
  };
  const auto better = [](const Path& a, const Path& b) {
    return b.cost < a.cost ? b : a;
  };
  const size_t a = first.reading().size;
  const size_t b = second.reading().size;
  from = first.reading().AlignUp(from);
  to = second.reading().AlignDown(to);
  if (from >= to) return {from, second.reading().AlignUp(from)};
  const size_t n = to - from;
  std::vector<Path> in_first(n + 1), between(n + 1), in_second(n + 1);
  in_first[0] = {0, from, from};
  for (size_t i = 0; i <= n; ++i) {
    const size_t at = from + i;
    if (i > 0) {
      Path stay = between[i - 1];
      stay.cost += 8 << 8;
      between[i] = stay;
    }
    if (in_first[i].cost < kNever) {
      Path leave = in_first[i];
      leave.end = at;
      if (second.reading().AlignUp(at) == at) {
        leave.begin = at;
        in_second[i] = better(in_second[i], leave);
      }
      leave.cost += uint64_t{kFrameBits} << 8;
      between[i] = better(between[i], leave);
      if (i + a <= n) {
        Path stay = in_first[i];
        stay.cost += first.CostAt(data, at);
        in_first[i + a] = better(in_first[i + a], stay);
      }
    }
    if (between[i].cost < kNever && second.reading().AlignUp(at) == at) {
      Path enter = between[i];
      enter.begin = at;
      in_second[i] = better(in_second[i], enter);
    }
    if (in_second[i].cost < kNever && i + b <= n) {
      Path stay = in_second[i];
      stay.cost += second.CostAt(data, at);
      in_second[i + b] = better(in_second[i + b], stay);
    }
  }
  const Path& path = in_second[n];
  if (path.cost == kNever) return {from, second.reading().AlignUp(from)};
  return {path.end, path.begin};
}

bool IsConstant(ByteSpan window) {
  return std::all_of(window.begin(), window.end(),
                     [&](uint8_t byte) { return byte == window[0]; });
}

/// Windows in a row that read alike.
struct Run {
  Model model;   // of the last window
  size_t first;  // offset of the first window
  size_t last;   // of the last one
};

std::vector<Run> FindRuns(ByteSpan data) {
  std::vector<Run> runs;
  for (size_t at = 0; at + kWindow <= data.size(); at += kStride) {
    if (IsConstant(data.subspan(at, kWindow))) continue;  // fits anything
    if (!runs.empty()) {
      Run& run = runs.back();
      const Reading& reading = run.model.reading();
      const Model same(data, reading, at, at + kWindow);
      // Numbers go on while they cost what they did.
      if (reading.size > 1 &&
          same.cost() < run.model.cost() + run.model.cost() / 32) {
        run.last = at;
        run.model = same;
        continue;
      }
    }
    const Model model = Read(data, at);
    if (!runs.empty() && runs.back().model.reading() == model.reading()) {
      runs.back().last = at;
      runs.back().model = model;
      continue;
    }
    runs.push_back({model, at, at});
  }
  // What is too short is bytes, and bytes in a row are one.
  std::vector<Run> kept;
  for (const Run& run : runs) {
    const bool is_short = run.last + kStride - run.first < kMinNumbers;
    const bool is_bytes = run.model.reading().size == 1 || is_short;
    if (is_bytes && !kept.empty() && kept.back().model.reading().size == 1) {
      kept.back().last = run.last;
      continue;
    }
    kept.push_back(run);
    if (is_bytes && run.model.reading().size != 1) {
      kept.back().model =
          Model(data, Reading{}, run.first, run.first + kWindow);
    }
  }
  return kept;
}

void Append(size_t begin, size_t end, DType dtype, std::vector<Range>* ranges) {
  if (begin >= end) return;
  const bool joins = !ranges->empty() && ranges->back().dtype == dtype &&
                     dtype == DType::kBytes;
  if (joins) {
    ranges->back().size += end - begin;
  } else {
    ranges->push_back({begin, end - begin, dtype});
  }
}

/// Empty if the data is not of records.
std::vector<Range> RangesOfRecords(ByteSpan data) {
  const codecs::table::Records found = codecs::table::FindRecords(data);
  std::vector<Range> ranges;
  if (found.size == 0) return ranges;
  const size_t left = (data.size() - found.begin) % found.size;
  const size_t size = data.size() - found.begin - left;
  if (found.begin != 0) ranges.push_back({0, found.begin});
  ranges.push_back({found.begin, size, DType::kBytes, found.size});
  if (left != 0) ranges.push_back({found.begin + size, left});
  return ranges;
}

// ---- Rows ----

constexpr size_t kMinRow = 16;
constexpr size_t kMaxRow = 8192;
// Of longer rows only multiples of kRowStep are tried: others are rare.
constexpr size_t kAllRows = 512;
constexpr size_t kRowStep = 8;

constexpr size_t StepAt(size_t lag) { return lag < kAllRows ? 1 : kRowStep; }
constexpr size_t kRowSample = size_t{1} << 15;

/// One bit an element.
class Bits {
 public:
  explicit Bits(size_t size) : words_(size / 64 + 2) {}
  void Set(size_t i) { words_[i / 64] |= uint64_t{1} << (i % 64); }
  /// How many of the first `count` bits (a multiple of 64, count + lag <= size)
  /// equal the one `lag` further on.
  size_t Matches(size_t lag, size_t count) const {
    const uint64_t* const other = words_.data() + lag / 64;
    const unsigned shift = lag % 64;
    size_t differ = 0;
    for (size_t w = 0; w < count / 64; ++w) {
      const uint64_t moved =
          other[w] >> shift | (other[w + 1] << 1 << (63 - shift));
      differ += static_cast<size_t>(std::popcount(words_[w] ^ moved));
    }
    return count - differ;
  }

 private:
  std::vector<uint64_t> words_;
};

/// How many elements agree with the one `lag` further on, in sign or in whether
/// they are large, for the lags asked for.
class Repetition {
 public:
  /// `values`: the highest 16 bits of at least 4 kMinRow elements.
  explicit Repetition(const std::vector<uint16_t>& values)
      : signs_(values.size()),
        large_(values.size()),
        longest_(std::min(kMaxRow, values.size() / 4)),
        count_((values.size() - longest_ - kFar) / 64 * 64),
        known_(longest_ + kFar + 1, SIZE_MAX) {
    std::vector<uint16_t> magnitudes(values);
    for (uint16_t& value : magnitudes) value &= 0x7FFF;
    const auto middle =
        magnitudes.begin() + static_cast<ptrdiff_t>(values.size() / 2);
    std::nth_element(magnitudes.begin(), middle, magnitudes.end());
    for (size_t i = 0; i < values.size(); ++i) {
      if (values[i] >> 15) signs_.Set(i);
      if ((values[i] & 0x7FFF) > *middle) large_.Set(i);
    }
    // Eight standard deviations of two sums of `count_` bits, sqrt(count / 2)
    // together: more than chance gives among all lags.
    while (accident_ * accident_ < 32 * count_) ++accident_;
  }

  size_t longest() const { return longest_; }
  /// By how much elements agree more at `lag` than around it, if that is no
  /// accident; else 0.
  size_t Peak(size_t lag) {
    size_t around = 0;
    const size_t step = StepAt(lag);
    for (const size_t near :
         {lag - 3 * step, lag - 2 * step, lag + 2 * step, lag + 3 * step}) {
      around = std::max(around, Matches(near));
    }
    const size_t here = Matches(lag);
    return here > around + accident_ ? here - around : 0;
  }

 private:
  // How far around a peak is looked.
  static constexpr size_t kFar = 3 * kRowStep;

  size_t Matches(size_t lag) {
    if (known_[lag] == SIZE_MAX) {
      known_[lag] = signs_.Matches(lag, count_) + large_.Matches(lag, count_);
    }
    return known_[lag];
  }

  Bits signs_;
  Bits large_;
  size_t longest_;
  size_t count_;
  std::vector<size_t> known_;
  size_t accident_ = 1;
};

}  // namespace

std::vector<Range> FindRanges(ByteSpan data, bool with_records) {
  if (with_records) {
    std::vector<Range> records = RangesOfRecords(data);
    if (!records.empty()) return records;
  }
  const std::vector<Run> runs = FindRuns(data);
  std::vector<Range> ranges;
  size_t begin = 0;  // of the current run
  for (size_t i = 0; i < runs.size(); ++i) {
    const Run& run = runs[i];
    const Reading& reading = run.model.reading();
    if (i == 0) {
      begin = reading.AlignUp(0);
      Append(0, begin, DType::kBytes, &ranges);
    }
    if (i + 1 == runs.size()) {
      const size_t end = std::max(begin, reading.AlignDown(data.size()));
      Append(begin, end, reading.dtype, &ranges);
      Append(end, data.size(), DType::kBytes, &ranges);
      return ranges;
    }
    const Run& next = runs[i + 1];
    // Windows that were passed over stay with the run before them.
    const size_t from =
        std::max({begin, run.last, next.first - std::min(next.first, kStride)});
    const Border border =
        FindBorder(data, run.model, next.model, from, next.first + kWindow);
    Append(begin, border.end, reading.dtype, &ranges);
    Append(std::max(begin, border.end), border.begin, DType::kBytes, &ranges);
    begin = std::max(begin, border.begin);
  }
  Append(0, data.size(), DType::kBytes, &ranges);  // no runs
  return ranges;
}

uint64_t FindRowLength(ByteSpan data, DType dtype) {
  if (!KeyOf(dtype)) return 0;
  const bool big_endian = dtype == DType::kBF16Be || dtype == DType::kF32Be;
  const size_t size = FindDType(dtype)->block_bytes;
  std::vector<uint16_t> values(std::min(data.size() / size, kRowSample));
  if (values.size() < 8 * kMinRow) return 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const uint8_t* const element = &data[i * size];
    values[i] = big_endian ? static_cast<uint16_t>(element[0] << 8 | element[1])
                           : LoadLe<uint16_t>(element + size - 2);
  }
  Repetition repetition(values);
  // Multiples of the row length are peaks as well: the first high one counts.
  std::vector<std::pair<size_t, size_t>> peaks;
  size_t highest = 0;
  for (size_t lag = kMinRow; lag <= repetition.longest(); lag += StepAt(lag)) {
    const size_t height = repetition.Peak(lag);
    if (height == 0) continue;
    peaks.push_back({lag, height});
    highest = std::max(highest, height);
  }
  for (const auto& [lag, height] : peaks) {
    if (2 * height >= highest) return lag;
  }
  return 0;
}

}  // namespace zipllm::archive
