// Codec 16: samples of tensors, and what formulas leave of them.
#include <algorithm>
#include <array>
#include <bit>

#include "base/dtype.h"
#include "codecs/reference/sum_model.h"

namespace zipllm::codecs::sum_fit {

FloatType TensorReader::TypeOf(int which) const {
  const DType dtype = which < 0
                          ? view_.dtype
                          : view_.references[static_cast<size_t>(which)].dtype;
  return *FloatTypeOf(dtype);
}

bool TensorReader::Bytes(int which, uint64_t begin, size_t count,
                         uint8_t* out) const {
  return view_.Read(which, begin, {out, count * WidthOf(TypeOf(which))}).ok();
}

bool TensorReader::Values(int which, uint64_t begin, size_t count,
                          double* values) {
  const FloatType type = TypeOf(which);
  bytes_.Resize(count * WidthOf(type));
  if (!Bytes(which, begin, count, bytes_.data())) return false;
  kernels::Best().widen(type, bytes_.data(), count, values);
  return true;
}

std::vector<uint8_t> BasesOf(const TensorView& view) {
  std::vector<uint8_t> bases;
  const size_t most = std::min(view.references.size(), kMaxReferences);
  for (size_t i = 0; i < most; ++i) {
    const TensorView::Beside& beside = view.references[i];
    if (beside.role == Role::kBase && FloatTypeOf(beside.dtype) &&
        beside.elements == view.elements) {
      bases.push_back(static_cast<uint8_t>(i));
    }
  }
  return bases;
}

double SquaredPlace(FloatType type, double value) {
  const uint64_t least =
      type == FloatType::kF16 ? uint64_t{1023 - 14} : uint64_t{1023 - 126};
  const int bits = type == FloatType::kBF16  ? 7
                   : type == FloatType::kF16 ? 10
                                             : 23;
  const uint64_t exponent = std::clamp<uint64_t>(
      (std::bit_cast<uint64_t>(value) >> 52) & 0x7FF, least, 1023 + 200);
  const double place =
      std::bit_cast<double>((exponent - static_cast<uint64_t>(bits)) << 52);
  return place * place;
}

uint64_t NoiseExponentOf(ByteSpan elements, FloatType type) {
  const size_t count = elements.size() / WidthOf(type);
  std::array<size_t, 2048> counts{};
  constexpr size_t kRun = 256;
  double values[kRun];
  for (size_t at = 0; at < count; at += kRun) {
    const size_t n = std::min(kRun, count - at);
    kernels::Best().widen(type, elements.data() + at * WidthOf(type), n,
                          values);
    for (size_t i = 0; i < n; ++i) {
      ++counts[(std::bit_cast<uint64_t>(values[i]) >> 52) & 0x7FF];
    }
  }
  size_t below = 0;
  uint64_t median = 0;
  while (median < 2047 && (below += counts[median]) * 2 < count) ++median;
  return std::min(median - std::min<uint64_t>(median, 3), kMaxNoiseExponent);
}

bool Sample::Take(TensorReader& reader, size_t elements) {
  constexpr size_t kRun = 512;
  const TensorView& view = reader.view();
  type_ = reader.target();
  row_ = view.row;
  begins_.clear();
  if (view.elements <= elements) {
    run_ = static_cast<size_t>(view.elements);
    begins_.push_back(0);
    count_ = run_;
  } else {
    run_ = kRun;
    const uint64_t runs = elements / kRun;
    // Runs at different columns: an odd multiple of a fraction of the tensor.
    for (uint64_t i = 0; i < runs; ++i) {
      begins_.push_back((view.elements - kRun) / (runs - 1) * i);
    }
    count_ = static_cast<size_t>(runs) * kRun;
  }
  const auto take = [&](int which, size_t width, Buffer* to) {
    to->Resize(count_ * width);
    bool ok = true;
    ForRuns([&](uint64_t begin, size_t at, size_t n) {
      ok = ok && reader.Bytes(which, begin, n, to->data() + at * width);
    });
    return ok;
  };
  if (!take(-1, WidthOf(type_), &target_)) return false;
  const size_t others = std::min(view.references.size(), kMaxReferences);
  arrays_.clear();
  arrays_.resize(others);
  references_.clear();
  for (size_t i = 0; i < others; ++i) {
    const TensorView::Beside& beside = view.references[i];
    const int which = static_cast<int>(i);
    const std::optional<FloatType> type = FloatTypeOf(beside.dtype);
    Buffer& array = arrays_[i];
    if (type && beside.role == Role::kFactor &&
        beside.elements <= kMaxColumnFactors) {
      array.Resize(static_cast<size_t>(beside.elements) * WidthOf(*type));
      if (!reader.Bytes(which, 0, static_cast<size_t>(beside.elements),
                        array.data())) {
        return false;
      }
    } else if (type && beside.role == Role::kBase &&
               beside.elements == view.elements &&
               !take(which, WidthOf(*type), &array)) {
      return false;
    }
    references_.push_back(
        {beside.role, beside.dtype, array.span(), beside.row});
  }
  return true;
}

Sample::Outcome Sample::Try(const Formula& formula, const Factors& factors,
                            size_t most_runs) {
  const size_t width = WidthOf(type_);
  const size_t step = (begins_.size() - 1) / most_runs + 1;
  const residuals::Alphabet& alphabet = ElementAlphabet(type_);
  residuals::ResidualCounts counts(kContexts);
  predictions_.Resize(run_ * width);
  contexts_.Resize(run_);
  symbols_.Resize(run_);
  size_t tried = 0;
  for (size_t i = 0; i < begins_.size(); i += step) {
    Predict(formula, factors, {references_, i * run_, begins_[i], row_}, run_,
            predictions_.data(), contexts_.data());
    residuals::ToSymbols(alphabet, target_.data() + i * run_ * width,
                         predictions_.data(), run_, symbols_.data());
    counts.Add(contexts_.data(), symbols_.data(), run_);
    tried += run_;
  }
  Outcome outcome;
  uint64_t cost = 0;
  uint64_t raw = 0;
  uint64_t hits = 0;
  for (size_t c = 0; c < kContexts; ++c) {
    cost += entropy::EntropyCost(counts[c]) >> 16;
    hits += counts[c][0];
    for (size_t s = 0; s < alphabet.size; ++s) {
      raw += uint64_t{counts[c][s]} * alphabet.symbols[s].raw_bits();
    }
  }
  outcome.bits = static_cast<double>(cost + raw) / static_cast<double>(tried);
  outcome.misses = tried - hits;
  return outcome;
}

}  // namespace zipllm::codecs::sum_fit
