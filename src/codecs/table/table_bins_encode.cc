// The encoder's side of the method of bins.
#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>

#include "base/bytes.h"
#include "codecs/table/table_bins.h"
#include "entropy/bits.h"
#include "entropy/class_rans.h"

namespace zipllm::codecs::table {
namespace {

using entropy::ZigZag64;

/// Values of a column, those of specials like the ones before them, with zeros
/// in front.
class History {
 public:
  History(const Column& column, uint64_t row)
      : row_(static_cast<ptrdiff_t>(std::max<uint64_t>(row, 1))),
        pad_(static_cast<size_t>(row_) + 4),
        values_(pad_ + column.values.size()) {
    for (size_t t = 0; t < column.values.size(); ++t) {
      values_[pad_ + t] =
          column.is_special[t] ? values_[pad_ + t - 1] : column.values[t];
    }
  }
  /// What the prediction of value `t` leaves of it.
  int64_t Residual(size_t t, uint8_t predictor) const {
    const int64_t* const v = &values_[pad_ + t];
    return Minus(*v, PredictFrom(v, row_, predictor));
  }

 private:
  ptrdiff_t row_;
  size_t pad_;
  std::vector<int64_t> values_;
};

std::vector<int64_t> ResidualsOf(const Column& column, uint64_t row,
                                 uint8_t predictor) {
  const History history(column, row);
  std::vector<int64_t> residuals;
  residuals.reserve(column.values.size());
  for (size_t t = 0; t < column.values.size(); ++t) {
    if (!column.is_special[t])
      residuals.push_back(history.Residual(t, predictor));
  }
  return residuals;
}

/// The places in sorted numbers where bins may begin, and the end.
std::vector<size_t> CutsOf(const std::vector<int64_t>& sorted) {
  constexpr size_t kCuts = 128;
  const size_t n = sorted.size();
  std::vector<size_t> cuts;
  for (size_t i = 0; i < n; ++i) {
    if (i == 0 || sorted[i] != sorted[i - 1]) cuts.push_back(i);
  }
  if (cuts.size() > kCuts) {
    // Quantiles; what is frequent has a bin of its own.
    cuts.clear();
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
  return cuts;
}

/// Divides numbers (sorted, a sample) into bins: for each the lowest number
/// that goes into it. By dynamic programming over quantiles.
std::vector<int64_t> DivideIntoBins(const std::vector<int64_t>& sorted,
                                    size_t all) {
  const size_t n = sorted.size();
  // Of a bin's description, in proportion; and what chance makes of a sample.
  const uint64_t bin_cost = (uint64_t{24 << 16} * n / all) + (4 << 16);
  const std::vector<size_t> cuts = CutsOf(sorted);
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
  for (size_t b = c; b > 0; b = from[b]) {
    lowers.push_back(sorted[cuts[from[b]]]);
  }
  std::reverse(lowers.begin(), lowers.end());
  return lowers;
}

/// The lowest numbers of the bins that `residuals` are best divided into; the
/// first is the least of all.
std::vector<int64_t> FindBins(const std::vector<int64_t>& residuals) {
  constexpr size_t kSamples = 8192;
  std::vector<int64_t> sample;
  const size_t stride = std::max<size_t>(residuals.size() / kSamples, 1) | 1;
  for (size_t i = 0; i < residuals.size(); i += stride) {
    sample.push_back(residuals[i]);
  }
  sample.push_back(*std::min_element(residuals.begin(), residuals.end()));
  std::sort(sample.begin(), sample.end());
  return DivideIntoBins(sample, residuals.size());
}

/// The bin of a number, by bisection without branches.
size_t BinOf(const std::vector<int64_t>& lowers, int64_t number) {
  const int64_t* at = lowers.data();
  for (size_t left = lowers.size(); left > 1;) {
    const size_t half = left / 2;
    at = at[half] <= number ? at + half : at;
    left -= half;
  }
  return static_cast<size_t>(at - lowers.data());
}

/// Writes columns one by one: bins at once, then together which bin each number
/// is in, and where in it.
class BinsWriter {
 public:
  BinsWriter(Scratch& scratch, Buffer* out)
      : symbols_(scratch.buffers[0]),
        classes_(scratch.buffers[1]),
        coded_(&scratch.buffers[2]),
        out_(out) {
    symbols_.Clear();
    classes_.Clear();
  }

  void Add(const std::vector<int64_t>& residuals) {
    entropy::ByteCounts counts{};
    if (residuals.empty()) {
      ByteWriter(out_).Varint(0);
    } else {
      const std::vector<int64_t> lowers = FindBins(residuals);
      std::vector<uint64_t> most(lowers.size());
      std::memset(classes_.Extend(residuals.size()),
                  static_cast<int>(frequencies_.size()), residuals.size());
      uint8_t* const symbols = symbols_.Extend(residuals.size());
      for (size_t i = 0; i < residuals.size(); ++i) {
        const size_t b = BinOf(lowers, residuals[i]);
        symbols[i] = static_cast<uint8_t>(b);
        ++counts[b];
        most[b] |= static_cast<uint64_t>(Minus(residuals[i], lowers[b]));
      }
      const std::vector<int> widths = WriteDescription(lowers, most);
      for (size_t i = 0; i < residuals.size(); ++i) {
        const size_t b = symbols[i];
        bits_.Put(static_cast<uint64_t>(Minus(residuals[i], lowers[b])),
                  widths[b]);
      }
    }
    frequencies_.push_back(entropy::NormalizeBytes(counts));
  }

  void Finish() {
    bits_.Finish();
    entropy::WriteClassFrequencies(frequencies_, out_);
    if (symbols_.empty()) return;
    const entropy::ClassEncodeTables tables(frequencies_);
    entropy::EncodeClassRans(tables, symbols_.data(), classes_.data(),
                             symbols_.size(), coded_, out_);
    out_->Append(raw_.span());
  }

 private:
  /// Returns the bits of a place in each bin; `most` has those that are used.
  std::vector<int> WriteDescription(const std::vector<int64_t>& lowers,
                                    const std::vector<uint64_t>& most) {
    ByteWriter writer(out_);
    writer.Varint(lowers.size());
    std::vector<int> widths;
    for (size_t b = 0; b < lowers.size(); ++b) {
      writer.Varint(
          b == 0 ? ZigZag64(lowers[0])
                 : static_cast<uint64_t>(Minus(lowers[b], lowers[b - 1])));
      widths.push_back(static_cast<int>(std::bit_width(most[b])));
      writer.Le(static_cast<uint8_t>(widths.back()));
    }
    return widths;
  }

  Buffer& symbols_;
  Buffer& classes_;
  Buffer* const coded_;
  Buffer* const out_;
  Buffer raw_;
  entropy::BitWriter bits_{&raw_};
  entropy::ClassFrequencies frequencies_;
};

}  // namespace

uint8_t FindPredictor(const Column& column, uint64_t row) {
  constexpr size_t kSamples = 2048;
  const size_t records = column.values.size();
  const History history(column, row);
  const size_t stride = std::max<size_t>(records / kSamples, 1) | 1;
  uint64_t least = UINT64_MAX;
  uint8_t best = 0;
  for (uint8_t p = 0; p <= kLastPredictor; ++p) {
    if ((p == 3 || p == 4) && row == 0) continue;
    const auto histogram = std::make_unique<Histogram>();
    uint64_t low = 0;
    for (size_t t = 0; t < records; t += stride) {
      if (column.is_special[t]) continue;
      const int64_t r = history.Residual(t, p);
      const int bits = std::max(BitLength(r) - 9, 0);
      histogram->Add(static_cast<uint64_t>(r >> bits) * 64 +
                     static_cast<uint64_t>(bits));
      low += static_cast<uint64_t>(bits) << 16;
    }
    const uint64_t cost = histogram->Cost() + low;
    if (cost < least) {
      least = cost;
      best = p;
    }
  }
  return best;
}

void WriteBins(const Table& table, const std::vector<Column>& columns,
               Scratch& scratch, Buffer* out) {
  BinsWriter writer(scratch, out);
  for (size_t f = 0; f < columns.size(); ++f) {
    writer.Add(ResidualsOf(columns[f], table.row, table.fields[f].predictor));
  }
  writer.Finish();
}

}  // namespace zipllm::codecs::table
