// Codec 15, delta: elements by how far they are from a base, with contexts by
// how large a typical step is there. Sums are integers, so that every machine
// decides alike.
#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <span>

#include "base/bytes.h"
#include "codecs/codec.h"
#include "codecs/reference/delta_format.h"
#include "entropy/bits.h"

namespace zipllm::codecs {
namespace {

using namespace delta;
using entropy::AdaptiveRice;
using entropy::BitWriter;
using kernels::NumberKind;
using residuals::Alphabet;
using residuals::ResidualCounts;

/// What is looked at to choose scales, in elements.
constexpr size_t kSample = size_t{1} << 15;
/// Rows of fewer elements are put together.
constexpr uint64_t kLeastRow = 128;
/// A row's scale is that of its elements and so many like all others.
constexpr uint64_t kPrior = 4;

NumberKind NumberKindOf(const Kind& kind) {
  switch (kind.dtype) {
    case DType::kBF16:
      return NumberKind::kBf16;
    case DType::kF16:
      return NumberKind::kFp16;
    case DType::kF32:
      return NumberKind::kFp32;
    case DType::kF64:
      return NumberKind::kFp64;
    case DType::kF8E4M3:
    case DType::kF8E4M3FNUZ:
      return NumberKind::kE4m3;
    case DType::kF8E5M2:
    case DType::kF8E5M2FNUZ:
      return NumberKind::kE5m2;
    default:
      switch (kind.size) {
        case 1:
          return NumberKind::kInteger8;
        case 2:
          return NumberKind::kInteger16;
        case 4:
          return NumberKind::kInteger32;
        default:
          return NumberKind::kInteger64;
      }
  }
}

/// Quarter octaves, rounded to nearest, that mean = sum / count is above
/// all / all_count.
int QuarterOctaves(uint64_t sum, uint64_t count, uint64_t all,
                   uint64_t all_count) {
  const auto log2 = [](uint64_t x) {
    const int shift = std::max(static_cast<int>(std::bit_width(x)) - 32, 0);
    return int64_t{residuals::FastLog2(static_cast<uint32_t>(x >> shift))} +
           (int64_t{shift} << 16);
  };
  const int64_t ratio = log2(sum) - log2(count) - log2(all) + log2(all_count);
  return static_cast<int>((4 * ratio + (1 << 15)) >> 16);
}

int8_t OffsetOf(uint64_t sum, uint64_t count, uint64_t all,
                uint64_t all_count) {
  // `all` is above 0; what the prior adds is a whole number.
  const int quarters =
      QuarterOctaves(sum * all_count + kPrior * all, count + kPrior,
                     all * all_count, all_count);
  return static_cast<int8_t>(std::clamp(quarters, -kMaxOffset, kMaxOffset));
}

template <typename Offset>
void WriteOffsets(std::span<const Offset> offsets, Buffer* out) {
  Buffer coded;
  BitWriter bits(&coded);
  AdaptiveRice code;
  int last = 0;
  for (const Offset offset : offsets) {
    code.Write(entropy::ZigZag(offset - last), &bits);
    last = offset;
  }
  bits.Finish();
  ByteWriter(out).Varint(coded.size());
  out->Append(coded.span());
}

residuals::ContextGrid GridOf(uint8_t flags) {
  return {.columns = flags & kByRests ? kRestColumns : size_t{kSteps}};
}

/// A frame beside its base, and the scales that were measured.
struct Frame {
  Kind kind;
  const uint8_t* elements;
  const uint8_t* predictions;  // of the elements' type
  const int32_t* rests;        // null where the cast cuts nothing off
  size_t count;
  uint64_t row;    // elements; kMaxRow: none
  uint64_t phase;  // column of the first element

  // Offsets of the rows from that of the first element on, and of the columns.
  std::vector<int8_t> rows;
  std::vector<int16_t> columns;

  size_t row_count() const {
    return static_cast<size_t>((phase + count - 1) / row + 1);
  }
};

/// 2^k as a float, |k| <= 126.
float PowerOfTwo(int k) {
  const uint32_t bits = static_cast<uint32_t>(k + 127) << 23;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

/// A factor that brings typical differences to about 2^10.
float FactorOf(const Frame& frame) {
  if (frame.kind.number == residuals::Number::kInteger) return 1;
  constexpr size_t kLooked = 2048;
  const size_t size = frame.kind.size;
  const size_t stride = std::max<size_t>(1, frame.count / kLooked);
  const size_t count = std::min(frame.count, kLooked);
  std::vector<uint8_t> elements(count * size);
  std::vector<uint8_t> predictions(count * size);
  for (size_t i = 0; i < count; ++i) {
    std::memcpy(&elements[i * size], frame.elements + i * stride * size, size);
    std::memcpy(&predictions[i * size], frame.predictions + i * stride * size,
                size);
  }
  // The greatest one at which the mean is not above.
  int low = -126;
  int high = 126;
  while (low < high) {
    const int middle = (low + high + 1) >> 1;
    const uint64_t sum = kernels::Best().delta_measure(
        elements.data(), predictions.data(), NumberKindOf(frame.kind),
        PowerOfTwo(middle), count, nullptr);
    if (sum > count << 10) {
      high = middle - 1;
    } else {
      low = middle;
    }
  }
  return PowerOfTwo(low);
}

/// Fills in the offsets of rows and columns. False where nothing differs as far
/// as one can see.
bool MeasureOffsets(Frame* frame) {
  const kernels::Table& kernel = kernels::Best();
  const NumberKind kind = NumberKindOf(frame->kind);
  const float factor = FactorOf(*frame);
  const size_t row_count = frame->row_count();
  const bool has_columns = frame->row <= kMaxColumns && row_count >= 4;
  std::vector<uint64_t> row_sums(row_count);
  std::vector<uint64_t> row_counts(row_count);
  std::vector<uint32_t> column_sums(has_columns ? frame->row : 0);
  uint64_t all = 0;
  uint64_t column = frame->phase;
  for (size_t at = 0, row = 0; at < frame->count; ++row) {
    const auto run = static_cast<size_t>(
        std::min<uint64_t>(frame->count - at, frame->row - column));
    const size_t byte = at * frame->kind.size;
    row_sums[row] = kernel.delta_measure(
        frame->elements + byte, frame->predictions + byte, kind, factor, run,
        has_columns ? column_sums.data() + column : nullptr);
    row_counts[row] = run;
    all += row_sums[row];
    at += run;
    column = 0;
  }
  if (all == 0) return false;
  frame->rows.resize(row_count);
  for (size_t r = 0; r < row_count; ++r) {
    frame->rows[r] = OffsetOf(row_sums[r], row_counts[r], all, frame->count);
  }
  frame->columns.resize(column_sums.size());
  const uint64_t per_column = frame->count / frame->row;
  for (size_t c = 0; c < column_sums.size(); ++c) {
    frame->columns[c] = OffsetOf(column_sums[c], per_column, all, frame->count);
  }
  return true;
}

/// A part of a frame, to compare choices of scales by.
class Sample {
 public:
  Sample(const Frame& frame, const Alphabet& alphabet)
      : frame_(frame), alphabet_(alphabet) {
    constexpr size_t kRun = 256;
    const size_t size = frame.kind.size;
    const size_t stride = std::max<size_t>(1, frame.count / kSample) * kRun;
    std::vector<uint8_t> elements;
    for (size_t start = 0; start < frame.count; start += stride) {
      const size_t end = std::min(start + kRun, frame.count);
      const auto append = [&](const uint8_t* from, std::vector<uint8_t>* to) {
        to->insert(to->end(), from + start * size, from + end * size);
      };
      append(frame.elements, &elements);
      append(frame.predictions, &predictions_);
      for (size_t i = start; i < end; ++i) {
        const uint64_t place = frame.phase + i;
        rows_.push_back(frame.rows.empty() ? int8_t{0}
                                           : frame.rows[place / frame.row]);
        columns_.push_back(frame.columns.empty()
                               ? int16_t{0}
                               : frame.columns[place % frame.row]);
        if (frame.rests != nullptr) {
          rests_.push_back(RestClass(frame.rests[i]));
        }
      }
    }
    symbols_.resize(rows_.size());
    residuals::ToSymbols(alphabet, elements.data(), predictions_.data(),
                         symbols_.size(), symbols_.data());
  }

  /// The scale that puts the median of steps at a third of kSteps: what a step
  /// is large for counts less.
  int ScaleFor(uint8_t flags) const {
    constexpr size_t kStride = 8;
    std::vector<int> steps;
    steps.reserve(symbols_.size() / kStride + 1);
    for (size_t i = 0; i < symbols_.size(); i += kStride) {
      uint64_t word = 0;
      std::memcpy(&word, &predictions_[i * frame_.kind.size], frame_.kind.size);
      const auto exponent = static_cast<int>(
          (word >> frame_.kind.exponent_shift) & frame_.kind.exponent_mask);
      steps.push_back(Offset(flags, i) - 4 * std::max(exponent, 1));
    }
    const auto middle =
        steps.begin() + static_cast<std::ptrdiff_t>(steps.size() / 2);
    std::nth_element(steps.begin(), middle, steps.end());
    return kSteps / 3 - *middle;
  }

  /// Bits that the whole frame would take, without offsets.
  uint64_t Cost(uint8_t flags, int scale) const {
    std::vector<int16_t> offsets(symbols_.size());
    for (size_t i = 0; i < offsets.size(); ++i) {
      offsets[i] = static_cast<int16_t>(Offset(flags, i));
    }
    std::vector<uint8_t> contexts(symbols_.size());
    kernels::Best().delta_steps(
        predictions_.data(), frame_.kind.size, frame_.kind.exponent_shift,
        frame_.kind.exponent_mask, scale, offsets.data(), contexts.size(),
        contexts.data());
    if (flags & kByRests) {
      for (size_t i = 0; i < contexts.size(); ++i) {
        contexts[i] =
            static_cast<uint8_t>(contexts[i] / 2 + kRestColumns * rests_[i]);
      }
    }
    ResidualCounts counts(ContextsOf(flags));
    counts.Add(contexts.data(), symbols_.data(), symbols_.size());
    return counts.Cost(alphabet_, frame_.count);
  }

 private:
  int Offset(uint8_t flags, size_t i) const {
    return (flags & kByRows ? rows_[i] : 0) +
           (flags & kByColumns ? columns_[i] : 0);
  }

  const Frame& frame_;
  const Alphabet& alphabet_;
  std::vector<uint8_t> predictions_;
  std::vector<uint8_t> symbols_;
  std::vector<int8_t> rows_;
  std::vector<int16_t> columns_;
  std::vector<uint8_t> rests_;
};

/// Bits that offsets take.
template <typename Offset>
uint64_t OffsetsCost(const std::vector<Offset>& offsets) {
  Buffer written;
  WriteOffsets<Offset>(offsets, &written);
  return 8 * uint64_t{written.size()};
}

/// Whether offsets are likely to tell more than they take.
template <typename Offset>
bool Varies(const std::vector<Offset>& offsets) {
  uint64_t sum = 0;
  for (const Offset offset : offsets) {
    sum += static_cast<uint64_t>(std::abs(int{offset}));
  }
  return 2 * sum >= offsets.size() && !offsets.empty();
}

Scales ChooseScales(const Frame& frame, const Alphabet& alphabet) {
  Scales best;
  best.kind = frame.kind;
  const Sample sample(frame, alphabet);
  best.scale = sample.ScaleFor(0);
  const bool rows_vary = frame.rows.size() > 1 && Varies(frame.rows);
  const bool columns_vary = Varies(frame.columns);
  if (rows_vary || columns_vary || frame.rests != nullptr) {
    uint64_t least = sample.Cost(0, best.scale);
    const auto consider = [&](int flags) {
      const auto choice = static_cast<uint8_t>(flags);
      const int scale = sample.ScaleFor(choice);
      uint64_t cost = sample.Cost(choice, scale);
      if (choice & kByRows) cost += OffsetsCost(frame.rows);
      if (choice & kByColumns) cost += OffsetsCost(frame.columns);
      if (cost >= least) return;
      least = cost;
      best.flags = choice;
      best.scale = scale;
    };
    if (rows_vary) consider(kByRows);
    if (columns_vary) {
      const bool by_rows = best.flags != 0;
      consider(kByColumns);
      if (by_rows) consider(kByRows | kByColumns);
    }
    if (frame.rests != nullptr) consider(best.flags | kByRests);
  }
  best.scale = std::clamp(best.scale, -kMaxScale, kMaxScale);
  if (best.flags & (kByRows | kByColumns)) best.row = frame.row;
  if (best.flags & kByColumns) best.columns = frame.columns;
  return best;
}

class Plan final : public EncodePlan {
 public:
  /// Of a base that is cast, `made` holds the predictions; rests may be there.
  Plan(const EncodeRequest& request, const Kind& kind, size_t which)
      : request_(request),
        kind_(kind),
        alphabet_(residuals::AlphabetOf(kind.size, kind.number)) {
    const Reference& base = request.references[which];
    count_ = request.data.size() / kind.size;
    predictions_ = base.data.data();
    std::vector<int32_t> rests;
    if (base.dtype != kind.dtype) {
      made_.Resize(request.data.size());
      rests.resize(count_);
      Cast(base.dtype, kind.dtype, predictions_, count_, made_.data(),
           rests.data());
      predictions_ = made_.data();
      if (std::ranges::all_of(rests, [](int32_t rest) { return rest == 0; })) {
        rests.clear();
      }
    }
    Frame frame{.kind = kind,
                .elements = request.data.data(),
                .predictions = predictions_,
                .rests = rests.empty() ? nullptr : rests.data(),
                .count = count_,
                .row = RowOf(request),
                .phase = 0,
                .rows = {},
                .columns = {}};
    frame.phase = request.position % frame.row;
    MeasureOffsets(&frame);
    scales_ = ChooseScales(frame, alphabet_);
    rows_ = std::move(frame.rows);
    phase_ = frame.phase;

    contexts_.Resize(count_);
    symbols_.Resize(count_);
    ContextCursor cursor(scales_, phase_, rows_.data());
    ResidualCounts counts(ContextsOf(scales_.flags));
    for (size_t i = 0; i < count_; i += kPiece) {
      const size_t n = std::min(kPiece, count_ - i);
      cursor.Next(predictions_ + i * kind.size,
                  rests.empty() ? nullptr : rests.data() + i, n,
                  contexts_.data() + i);
      residuals::ToSymbols(alphabet_, request.data.data() + i * kind.size,
                           predictions_ + i * kind.size, n,
                           symbols_.data() + i);
    }
    counts.Add(contexts_.data(), symbols_.data(), count_);
    encoder_.emplace(alphabet_, counts, GridOf(scales_.flags));
    WriteParams(which);

    const size_t block_elements =
        std::min(request.block_size / kind.size, count_);
    size_t blocks = 0;  // that are not as predicted
    for (size_t i = 0; i < count_; i += block_elements) {
      blocks += !IsZero(i, std::min(block_elements, count_ - i));
    }
    estimate_ = encoder_->cost() / 8 + 24 * blocks;
    if (block_elements >= residuals::kFewElements) {
      estimate_ +=
          blocks * (block_elements >= entropy::kFourStreams ? 512 : 128);
    }
    if (scales_.flags & kByRows) {
      estimate_ += OffsetsCost(rows_) / 8;
    }
  }

  ByteSpan params() const override { return params_.span(); }
  uint64_t estimate() const override { return estimate_; }

  bool Encode(ByteSpan block, Scratch& scratch, Buffer* out) const override {
    const size_t start = out->size();
    const auto first =
        static_cast<size_t>(block.data() - request_.data.data()) / kind_.size;
    const size_t count = block.size() / kind_.size;
    if (IsZero(first, count)) return true;
    if (scales_.flags & kByRows) {
      const auto row = [&](size_t i) {
        return static_cast<size_t>((phase_ + i) / scales_.row);
      };
      WriteOffsets<int8_t>(
          std::span(rows_).subspan(row(first),
                                   row(first + count - 1) - row(first) + 1),
          out);
    }
    encoder_->Encode(contexts_.data() + first, symbols_.data() + first,
                     block.data(), predictions_ + first * kind_.size, count,
                     &scratch.buffers[0], &scratch.buffers[1], out);
    if (out->size() - start < block.size()) return true;
    out->Resize(start);
    return false;
  }

 private:
  /// Whether elements are as predicted.
  bool IsZero(size_t first, size_t count) const {
    const uint8_t* const symbols = symbols_.data() + first;
    return std::all_of(symbols, symbols + count,
                       [](uint8_t symbol) { return symbol == 0; });
  }

  static uint64_t RowOf(const EncodeRequest& request) {
    if (request.row == 0) return kMaxRow;
    const uint64_t rows = (kLeastRow + request.row - 1) / request.row;
    return std::min(request.row * rows, kMaxRow);
  }

  void WriteParams(size_t which) {
    ByteWriter writer(&params_);
    writer.Le(static_cast<uint8_t>(kind_.dtype));
    writer.Le(static_cast<uint8_t>(which));
    writer.Le(scales_.flags);
    writer.Varint(entropy::ZigZag(scales_.scale));
    if (scales_.flags & (kByRows | kByColumns)) writer.Varint(scales_.row);
    if (scales_.flags & kByColumns) {
      WriteOffsets<int16_t>(scales_.columns, &params_);
    }
    encoder_->Write(&params_);
  }

  const EncodeRequest request_;
  const Kind kind_;
  const Alphabet& alphabet_;
  size_t count_;
  Buffer made_;
  const uint8_t* predictions_;
  Scales scales_;
  std::vector<int8_t> rows_;
  uint64_t phase_;
  Buffer contexts_;
  Buffer symbols_;
  std::optional<const residuals::ResidualEncoder> encoder_;
  Buffer params_;
  uint64_t estimate_;
};

/// The base that is nearest on a part of the frame; request.references.size()
/// where none fits.
size_t ChooseBase(const EncodeRequest& request, const Kind& kind) {
  const size_t count = request.data.size() / kind.size;
  size_t best = request.references.size();
  for (size_t r = 0; r < request.references.size(); ++r) {
    const Reference& base = request.references[r];
    const size_t size = KindOf(base.dtype).size;
    if (base.role != Role::kBase || size == 0 ||
        !CanCast(base.dtype, kind.dtype) || base.data.size() != count * size) {
      continue;
    }
    if (best == request.references.size()) best = r;
  }
  return best;
}

std::unique_ptr<EncodePlan> MakePlan(const EncodeRequest& request,
                                     Scratch& /*scratch*/) {
  const Kind kind = KindOf(request.dtype);
  if (request.references.empty() || kind.size == 0 ||
      request.data.size() % kind.size != 0 ||
      request.block_size % kind.size != 0) {
    return nullptr;
  }
  const size_t which = ChooseBase(request, kind);
  if (which == request.references.size()) return nullptr;
  auto plan = std::make_unique<Plan>(request, kind, which);
  if (plan->params().size() > kMaxParamsBytes ||
      plan->estimate() + plan->params().size() >= request.data.size()) {
    return nullptr;
  }
  return plan;
}

}  // namespace

extern const Encoder kDeltaEncoder = {
    .id = 15, .name = "delta", .plan = MakePlan};

}  // namespace zipllm::codecs
