// Codec 16, sum: the encoder. What a tensor is made of is learnt once; frames
// then only code what that leaves.
#include <algorithm>
#include <cstring>

#include "base/bytes.h"
#include "codecs/reference/sum_model.h"

namespace zipllm::codecs {
namespace {

using namespace sum_format;
using residuals::ResidualCounts;
using residuals::ResidualEncoder;
using sum_fit::Fit;
using sum_fit::Product;
using sum_fit::SumModel;

constexpr int kMinLevel = 2;
/// Elements that formulas are tried on.
constexpr size_t kSampleElements = 65536;
/// Classes of elements' contexts: so many at most, since their tables take
/// 16 KiB each to decode, and one for so many elements.
constexpr size_t kMaxClasses = 48;
constexpr size_t kElementsOfClass = 8192;

// ---- Factors ----

/// Integers with the number of the component each is of, as residuals of 0.
struct CodedIntegers {
  std::vector<int32_t> integers;
  std::vector<uint8_t> contexts;
  std::vector<uint8_t> symbols;
  std::vector<uint8_t> zeros;

  void MakeSymbols() {
    zeros.assign(integers.size() * sizeof(int32_t), 0);
    symbols.resize(integers.size());
    residuals::ToSymbols(FactorAlphabet(), elements(), zeros.data(),
                         integers.size(), symbols.data());
  }
  const uint8_t* elements() const {
    return reinterpret_cast<const uint8_t*>(integers.data());
  }
};

/// What ParseColumnFactors reads.
Buffer SharedFactors(const Product& product) {
  Buffer shared;
  if (product.rank == 0) return shared;
  const size_t columns = product.columns.size() / product.rank;
  ByteWriter writer(&shared);
  writer.Varint(product.rank);
  writer.Varint(columns);
  for (const double scale : product.scales) writer.Le(scale);
  CodedIntegers coded;
  for (size_t i = 0; i < product.columns.size(); ++i) {
    coded.integers.push_back(static_cast<int32_t>(product.columns[i]));
    coded.contexts.push_back(static_cast<uint8_t>(i / columns));
  }
  coded.MakeSymbols();
  ResidualCounts counts(product.rank);
  counts.Add(coded.contexts.data(), coded.symbols.data(),
             coded.integers.size());
  const ResidualEncoder encoder(FactorAlphabet(), counts,
                                {.columns = product.rank});
  encoder.Write(&shared);
  Buffer a;
  Buffer b;
  encoder.Encode(coded.contexts.data(), coded.symbols.data(), coded.elements(),
                 coded.zeros.data(), coded.integers.size(), &a, &b, &shared);
  return shared;
}

// ---- Learning ----

std::unique_ptr<const TensorModel> Learn(const TensorView& view,
                                         Scratch& /*scratch*/) {
  if (view.level < kMinLevel || !FloatTypeOf(view.dtype) || view.elements < 2 ||
      sum_fit::BasesOf(view).empty()) {
    return nullptr;
  }
  sum_fit::TensorReader reader(view);
  sum_fit::Sample sample;
  if (!sample.Take(reader, kSampleElements)) return nullptr;
  std::optional<Fit> fit = sum_fit::FitAdapter(reader, sample);
  if (!fit) fit = sum_fit::FitMerge(reader, sample);
  if (!fit) fit = sum_fit::FitLowRank(reader, sample);
  if (!fit) return nullptr;
  Buffer shared = SharedFactors(fit->product);
  if (shared.size() > kMaxSharedBytes) return nullptr;
  return std::make_unique<SumModel>(std::move(*fit), view.elements,
                                    std::move(shared));
}

// ---- Frames ----

class Plan final : public EncodePlan {
 public:
  Plan(const EncodeRequest& request, const SumModel& model)
      : request_(request),
        model_(model),
        width_(WidthOf(model.formula().target)),
        count_(request.data.size() / width_) {
    PredictAll();
    const residuals::Alphabet& alphabet = ElementAlphabet(formula().target);
    ResidualCounts counts(kContexts);
    symbols_.Resize(count_);
    residuals::ToSymbols(alphabet, request.data.data(), predictions_.data(),
                         count_, symbols_.data());
    counts.Add(contexts_.data(), symbols_.data(), count_);
    elements_ = std::make_unique<const ResidualEncoder>(
        alphabet, counts,
        residuals::ContextGrid{
            .columns = kContextColumns,
            .max_classes =
                std::min(kMaxClasses, 4 + count_ / kElementsOfClass)});

    uint64_t bits = elements_->cost();
    sum_format::WriteFormula(formula(), &params_);
    if (formula().product == ProductKind::kOwn) {
      ResidualCounts factor_counts(formula().rank);
      const CodedIntegers rows = RowsOf(request.position, count_);
      factor_counts.Add(rows.contexts.data(), rows.symbols.data(),
                        rows.symbols.size());
      rows_ = std::make_unique<const ResidualEncoder>(
          FactorAlphabet(), factor_counts,
          residuals::ContextGrid{.columns = formula().rank});
      bits += rows_->cost();
      rows_->Write(&params_);
    }
    elements_->Write(&params_);
    const size_t blocks =
        (request.data.size() + request.block_size - 1) / request.block_size;
    // What is stored once is every frame's in part.
    estimate_ =
        bits / 8 + blocks * BlockOverhead() +
        static_cast<uint64_t>(static_cast<double>(model.shared().size()) *
                              static_cast<double>(count_) /
                              static_cast<double>(model.elements()));
  }

  ByteSpan params() const override { return params_.span(); }
  uint64_t estimate() const override { return estimate_; }

  bool Encode(ByteSpan block, Scratch& scratch, Buffer* out) const override {
    const size_t before = out->size();
    const size_t begin =
        static_cast<size_t>(block.data() - request_.data.data()) / width_;
    const size_t count = block.size() / width_;
    Buffer* const a = &scratch.buffers[0];
    Buffer* const b = &scratch.buffers[1];
    if (formula().product == ProductKind::kOwn) {
      const CodedIntegers rows = RowsOf(request_.position + begin, count);
      rows_->Encode(rows.contexts.data(), rows.symbols.data(), rows.elements(),
                    rows.zeros.data(), rows.integers.size(), a, b, out);
    }
    elements_->Encode(contexts_.data() + begin, symbols_.data() + begin,
                      block.data(), predictions_.data() + begin * width_, count,
                      a, b, out);
    if (out->size() - before >= block.size()) {
      out->Resize(before);
      return false;
    }
    return true;
  }

 private:
  const Formula& formula() const { return model_.formula(); }

  size_t BlockOverhead() const {
    const size_t elements = request_.block_size / width_;
    const size_t streams = elements >= entropy::kFourStreams ? 4 : 1;
    return elements < residuals::kFewElements ? 8 : 132 * streams;
  }

  void PredictAll() {
    predictions_.Resize(request_.data.size());
    contexts_.Resize(count_);
    Factors factors;
    std::vector<double> columns;
    const Product& product = model_.product();
    if (formula().product == ProductKind::kOwn) {
      factors.rank = product.rank;
      factors.columns = product.columns.data();
      factors.scales = product.scales.data();
      factors.rows = product.rows.data();
    } else if (formula().product == ProductKind::kReferences) {
      const Reference& a = request_.references[formula().a];
      factors.b = &request_.references[formula().b];
      factors.rank = static_cast<size_t>(factors.b->row);
      columns.resize(factors.rank * static_cast<size_t>(a.row));
      kernels::Best().widen(*FloatTypeOf(a.dtype), a.data.data(),
                            columns.size(), columns.data());
      factors.columns = columns.data();
    }
    Predict(formula(), factors,
            {request_.references, 0, request_.position, request_.row}, count_,
            predictions_.data(), contexts_.data());
  }

  /// The factors of the rows that `count` elements from `position` on are in.
  CodedIntegers RowsOf(uint64_t position, size_t count) const {
    const size_t rank = formula().rank;
    const auto first = static_cast<size_t>(position / request_.row);
    const auto end =
        static_cast<size_t>((position + count - 1) / request_.row) + 1;
    const std::vector<int32_t>& all = model_.product().rows;
    CodedIntegers rows;
    rows.integers.assign(
        all.begin() + static_cast<std::ptrdiff_t>(first * rank),
        all.begin() + static_cast<std::ptrdiff_t>(end * rank));
    for (size_t i = 0; i < rows.integers.size(); ++i) {
      rows.contexts.push_back(static_cast<uint8_t>(i % rank));
    }
    rows.MakeSymbols();
    return rows;
  }

  const EncodeRequest request_;
  const SumModel& model_;
  const size_t width_;
  const size_t count_;
  Buffer predictions_;
  Buffer contexts_;
  Buffer symbols_;
  std::unique_ptr<const ResidualEncoder> elements_;
  std::unique_ptr<const ResidualEncoder> rows_;
  Buffer params_;
  uint64_t estimate_ = 0;
};

/// Whether the frame's references are those that the model was learnt with.
bool Fits(const EncodeRequest& request, const Formula& formula) {
  const auto has = [&](uint8_t number, Role role) {
    return number < request.references.size() &&
           request.references[number].role == role &&
           FloatTypeOf(request.references[number].dtype);
  };
  const size_t count = request.data.size() / WidthOf(formula.target);
  for (const Term& term : formula.terms) {
    if (!has(term.reference, Role::kBase)) return false;
    const Reference& reference = request.references[term.reference];
    if (reference.data.size() !=
        count * WidthOf(*FloatTypeOf(reference.dtype))) {
      return false;
    }
  }
  return formula.product != ProductKind::kReferences ||
         (has(formula.a, Role::kFactor) && has(formula.b, Role::kFactor));
}

std::unique_ptr<EncodePlan> MakePlan(const EncodeRequest& request,
                                     Scratch& /*scratch*/) {
  if (request.model == nullptr) return nullptr;
  const auto& model = static_cast<const SumModel&>(*request.model);
  const size_t width = WidthOf(model.formula().target);
  if (FloatTypeOf(request.dtype) != model.formula().target ||
      request.data.size() % width != 0 || request.block_size % width != 0 ||
      !Fits(request, model.formula())) {
    return nullptr;
  }
  auto plan = std::make_unique<Plan>(request, model);
  if (plan->estimate() >= request.data.size() ||
      plan->params().size() > kMaxParamsBytes) {
    return nullptr;
  }
  return plan;
}

}  // namespace

extern const Encoder kSumEncoder = {
    .id = 16, .name = "sum", .plan = MakePlan, .learn = Learn};

}  // namespace zipllm::codecs
