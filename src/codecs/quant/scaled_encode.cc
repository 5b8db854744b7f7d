// Codec 20, scaled: the encoder. How codes come from weights is found by trial
// on a sample of the tensor; frames then only code what that leaves.
#include <algorithm>
#include <cstring>

#include "base/bytes.h"
#include "base/dtype.h"
#include "codecs/codec.h"
#include "codecs/quant/scaled_format.h"

namespace zipllm::codecs {
namespace {

using namespace scaled;
using kernels::FloatType;
using residuals::ResidualCounts;
using residuals::ResidualEncoder;

/// Weights that recipes are tried on: few for all of them, more for the
/// likeliest.
constexpr size_t kRun = 512;
constexpr size_t kCoarseRuns = 16;
constexpr size_t kRuns = 96;
/// Scales, whole, are looked at up to so many bytes.
constexpr uint64_t kMaxScaleBytes = uint64_t{1} << 26;

class ScaledModel final : public TensorModel {
 public:
  explicit ScaledModel(const Recipe& recipe) : recipe_(recipe) {}
  const Recipe& recipe() const { return recipe_; }

 private:
  const Recipe recipe_;
};

/// Runs of weights, evenly spread over a tensor, with what lies beside them.
class Sample {
 public:
  /// False if it cannot be read.
  bool Take(const TensorView& view) {
    row_ = view.row;
    bits_ = BitsOf(view);
    // The last run ends at the end, as far as units let it.
    const uint64_t runs = std::clamp<uint64_t>(view.elements / kRun, 1, kRuns);
    run_ = static_cast<size_t>(std::min<uint64_t>(view.elements, kRun));
    run_ -= run_ % kUnit;
    if (run_ == 0) return false;
    for (uint64_t i = 0; i < runs; ++i) {
      const uint64_t at =
          runs == 1 ? 0 : (view.elements - run_) / (runs - 1) * i;
      begins_.push_back(at - at % kUnit);
    }
    const size_t stored = StoredBytes(run_, bits_);
    codes_.Resize(begins_.size() * stored);
    for (size_t r = 0; r < begins_.size(); ++r) {
      if (!view.Read(-1, begins_[r], {codes_.data() + r * stored, stored})
               .ok()) {
        return false;
      }
    }
    arrays_.resize(std::min(view.references.size(), kMaxReferences));
    for (size_t k = 0; k < arrays_.size(); ++k) {
      const TensorView::Beside& beside = view.references[k];
      const uint64_t width = FindDType(beside.dtype)->block_bytes;
      const int which = static_cast<int>(k);
      Buffer& array = arrays_[k];
      if (IsWhole(beside.role)) {
        if (beside.elements > kMaxScaleBytes / width) return false;
        array.Resize(beside.elements * width);
        if (!view.Read(which, 0, array.mutable_span()).ok()) return false;
      } else if (beside.role == Role::kBase &&
                 FindDType(beside.dtype)->block_elements == 1) {
        array.Resize(begins_.size() * run_ * width);
        for (size_t r = 0; r < begins_.size(); ++r) {
          if (!view.Read(which, begins_[r],
                         array.mutable_span().subspan(r * run_ * width,
                                                      run_ * width))
                   .ok()) {
            return false;
          }
        }
      }
      references_.push_back(
          {beside.role, beside.dtype, array.span(), beside.row});
    }
    return true;
  }

  size_t runs() const { return begins_.size(); }

  /// Bits a weight that a recipe leaves of about `most` runs, about; more than
  /// any code has where it does not fit.
  double Try(const Recipe& recipe, size_t most) {
    constexpr double kNever = 64;
    const size_t step = (begins_.size() - 1) / most + 1;
    const residuals::Alphabet& alphabet = CodeAlphabet(recipe);
    const size_t width = FindDType(references_[recipe.base].dtype)->block_bytes;
    const size_t stored = StoredBytes(run_, bits_);
    ResidualCounts counts(kContexts);
    uint8_t codes[kRun];
    uint8_t predicted[kRun];
    uint8_t contexts[kRun];
    uint8_t symbols[kRun];
    size_t tried = 0;
    for (size_t r = 0; r < begins_.size(); r += step) {
      std::vector<Reference> references = references_;
      for (Reference& reference : references) {
        if (IsWhole(reference.role) || reference.data.empty()) continue;
        reference.data = reference.data.subspan(r * run_ * width, run_ * width);
      }
      const auto predictor =
          Predictor::Make(recipe, references, row_, begins_[r], run_);
      if (!predictor.ok()) return kNever;
      predictor->Predict(0, run_, predicted, contexts);
      UnpackCodes(recipe, codes_.data() + r * stored, run_, codes);
      residuals::ToSymbols(alphabet, codes, predicted, run_, symbols);
      counts.Add(contexts, symbols, run_);
      tried += run_;
    }
    uint64_t cost = 0;
    for (size_t c = 0; c < kContexts; ++c) {
      cost += entropy::EntropyCost(counts[c]);
      for (size_t s = 0; s < alphabet.size; ++s) {
        cost += uint64_t{counts[c][s]} * alphabet.symbols[s].raw_bits() << 16;
      }
    }
    return static_cast<double>(cost) / 65536 / static_cast<double>(tried);
  }

  /// Bits of a code as it is stored; 0 if codes do not fit elements.
  static unsigned BitsOf(const TensorView& view) {
    const unsigned bytes = FindDType(view.dtype)->block_bytes;
    return 8 * bytes / view.weights_an_element;
  }

 private:
  static constexpr size_t kUnit = 16;

  uint64_t row_ = 0;
  unsigned bits_ = 8;
  size_t run_ = 0;
  std::vector<uint64_t> begins_;
  Buffer codes_;
  std::vector<Buffer> arrays_;
  std::vector<Reference> references_;
};

/// Finds the recipe that leaves least.
class Search {
 public:
  Search(const TensorView& view, Sample& sample)
      : view_(view), sample_(sample) {}

  /// nullopt where none leaves much less than codes have.
  std::optional<Recipe> Find() {
    Recipe start;
    size_t scales = 0;
    bool has_base = false;
    for (size_t k = 0; k < view_.references.size() && k < kMaxReferences; ++k) {
      const auto number = static_cast<uint8_t>(k);
      switch (view_.references[k].role) {
        case Role::kBase:
          if (!has_base) start.base = number;
          has_base = true;
          break;
        case Role::kScale:
          (scales++ == 0 ? start.scale : start.global) = number;
          break;
        case Role::kZero:
          start.zero = number;
          break;
        default:
          break;
      }
    }
    if (!has_base) return std::nullopt;
    start.bits = static_cast<uint8_t>(Sample::BitsOf(view_));
    ForTypes(start, [&](const Recipe& typed) {
      ForScales(typed, [&](const Recipe& scaled) {
        ForZeros(scaled, [&](const Recipe& recipe) {
          ForUses(recipe,
                  [&](const Recipe& used) { Consider(used, kCoarseRuns); });
        });
      });
    });
    if (bits_ > start.bits * kMostLeft) return std::nullopt;
    // The ways of rounding, which matter little by little.
    const Recipe coarse = best_;
    bits_ = sample_.Try(coarse, sample_.runs());
    ForSteps(coarse,
             [&](const Recipe& recipe) { Consider(recipe, sample_.runs()); });
    if (bits_ > start.bits * kMostLeft) return std::nullopt;
    return best_;
  }

 private:
  static constexpr double kMostLeft = 0.95;

  void Consider(const Recipe& recipe, size_t runs) {
    if (bits_ == 0) return;
    const double bits = sample_.Try(recipe, runs);
    if (bits >= bits_) return;
    bits_ = bits;
    best_ = recipe;
  }

  template <typename Body>
  void ForTypes(Recipe recipe, const Body& body) {
    const int32_t half = 1 << (recipe.bits - 1);
    const auto integers = [&](int32_t low, int32_t offset, int32_t shift) {
      recipe.type = CodeType::kInteger;
      recipe.low = low;
      recipe.high = low + 2 * half - 1;
      recipe.offset = offset;
      recipe.shift = shift;
      body(recipe);
    };
    const auto floats = [&](CodeType type) {
      recipe.zero = kNone;
      recipe.type = type;
      body(recipe);
    };
    switch (view_.dtype) {
      case DType::kF8E4M3:
        return floats(CodeType::kE4M3);
      case DType::kF8E5M2:
        return floats(CodeType::kE5M2);
      case DType::kF8E4M3FNUZ:
        return floats(CodeType::kE4M3Fnuz);
      case DType::kF8E5M2FNUZ:
        return floats(CodeType::kE5M2Fnuz);
      case DType::kI8:
        integers(-half, 0, 0);
        if (recipe.bits == 8) return;
        break;
      default:
        break;
    }
    // Stored without sign: moved up, or with a zero point.
    const auto unsigned_integers = [&] {
      integers(-half, 0, half);
      if (recipe.zero == kNone) return;
      integers(-half, -half, half);
      integers(0, 0, 0);
      integers(0, 1, 0);
    };
    unsigned_integers();
    if (recipe.bits == 4) {
      recipe.alternating = true;
      unsigned_integers();
      recipe.alternating = false;
      floats(CodeType::kE2M1);
    }
  }

  /// Ways in which scales may be those of parts of the matrix.
  template <typename Body>
  void ForScales(Recipe recipe, const Body& body) {
    const uint64_t row = view_.row == 0 ? view_.elements : view_.row;
    const uint64_t rows = (view_.elements + row - 1) / row;
    if (recipe.global != kNone) {
      const uint64_t globals = view_.references[recipe.global].elements;
      recipe.global_rows = globals == 0 ? 1 : (rows + globals - 1) / globals;
    }
    if (recipe.scale == kNone) {
      if (view_.dtype == DType::kI8) return;
      return body(recipe);
    }
    const TensorView::Beside& scale = view_.references[recipe.scale];
    const uint64_t across = std::max<uint64_t>(scale.row, 1);
    const auto parted = [&](uint64_t down, uint64_t columns) {
      if (down == 0 || columns == 0 || down > rows || columns > row) return;
      recipe.scales_a_row = columns;
      for (const uint64_t by : PartsOf(rows, down)) {
        for (const uint64_t of : PartsOf(row, columns)) {
          recipe.scale_rows = by;
          recipe.scale_columns = of;
          body(recipe);
        }
      }
    };
    parted(scale.elements / across, across);
    // Of one dimension, or of more than two.
    if (across != 1) parted(scale.elements, 1);
  }

  /// How many of `count` each of `parts` may have: 128, or as many as go.
  static std::vector<uint64_t> PartsOf(uint64_t count, uint64_t parts) {
    constexpr uint64_t kUsual = 128;
    const uint64_t even = (count + parts - 1) / parts;
    std::vector<uint64_t> found = {even};
    if (parts != 1 && even != kUsual &&
        (count + kUsual - 1) / kUsual == parts) {
      found.push_back(kUsual);
    }
    return found;
  }

  template <typename Body>
  void ForZeros(Recipe recipe, const Body& body) {
    if (recipe.zero == kNone) return body(recipe);
    const TensorView::Beside& zero = view_.references[recipe.zero];
    if (zero.dtype != DType::kI32) return body(recipe);
    recipe.zero_bits = recipe.bits;
    body(recipe);
    recipe.zero_down = true;
    body(recipe);
  }

  template <typename Body>
  void ForUses(Recipe recipe, const Body& body) {
    for (const ScaleUse use : {ScaleUse::kDivide, ScaleUse::kMultiply}) {
      recipe.use = use;
      for (const GlobalUse global :
           {GlobalUse::kMultiplies, GlobalUse::kDivides}) {
        recipe.global_use = global;
        body(recipe);
        if (recipe.global == kNone) break;
      }
      if (recipe.scale == kNone) return;
    }
  }

  template <typename Body>
  void ForSteps(Recipe recipe, const Body& body) {
    const bool multiplies = recipe.use == ScaleUse::kMultiply;
    for (const FloatType steps :
         {FloatType::kF32, FloatType::kBF16, FloatType::kF16}) {
      recipe.steps = steps;
      for (const bool zero_first : {false, true}) {
        recipe.zero_first = zero_first;
        for (const ScaleUse use : {ScaleUse::kDivide, ScaleUse::kReciprocal}) {
          recipe.use = multiplies ? ScaleUse::kMultiply : use;
          body(recipe);
          if (multiplies) break;
        }
        if (recipe.is_float()) break;
      }
    }
  }

  const TensorView& view_;
  Sample& sample_;
  Recipe best_;
  double bits_ = 1e9;
};

bool MayBeCodes(const TensorView& view) {
  switch (view.dtype) {
    case DType::kF8E4M3:
    case DType::kF8E5M2:
    case DType::kF8E4M3FNUZ:
    case DType::kF8E5M2FNUZ:
      return view.weights_an_element == 1;
    case DType::kI8:
    case DType::kU8:
    case DType::kI32: {
      const unsigned bits = Sample::BitsOf(view);
      return (bits == 2 || bits == 4 || bits == 8) &&
             bits * view.weights_an_element ==
                 8 * FindDType(view.dtype)->block_bytes;
    }
    default:
      return false;
  }
}

std::unique_ptr<const TensorModel> Learn(const TensorView& view,
                                         Scratch& /*scratch*/) {
  if (!MayBeCodes(view) || view.elements == 0) return nullptr;
  Sample sample;
  if (!sample.Take(view)) return nullptr;
  const std::optional<Recipe> recipe = Search(view, sample).Find();
  if (!recipe.has_value()) return nullptr;
  return std::make_unique<ScaledModel>(*recipe);
}

class Plan final : public EncodePlan {
 public:
  Plan(const EncodeRequest& request, const Recipe& recipe,
       const Predictor& predictor, size_t count)
      : request_(request), recipe_(recipe) {
    codes_.Resize(count);
    predictions_.Resize(count);
    contexts_.Resize(count);
    UnpackCodes(recipe, request.data.data(), count, codes_.data());
    uint64_t few = 0;  // bytes of places and codes
    for (size_t i = 0; i < count; i += kPiece) {
      const size_t n = std::min(kPiece, count - i);
      predictor.Predict(i, n, predictions_.data() + i, contexts_.data() + i);
      if (std::memcmp(codes_.data() + i, predictions_.data() + i, n) == 0) {
        continue;
      }
      for (size_t k = i; k < i + n; ++k) {
        few += codes_.data()[k] != predictions_.data()[k] ? kFewBytes : 0;
      }
    }
    WriteRecipe(recipe, &params_);
    const size_t blocks =
        (request.data.size() + request.block_size - 1) / request.block_size;
    estimate_ = blocks + few;
    if (few <= kLeastForTables) return;

    const residuals::Alphabet& alphabet = CodeAlphabet(recipe);
    symbols_.Resize(count);
    residuals::ToSymbols(alphabet, codes_.data(), predictions_.data(), count,
                         symbols_.data());
    ResidualCounts counts(kContexts);
    counts.Add(contexts_.data(), symbols_.data(), count);
    auto encoder = std::make_unique<const ResidualEncoder>(
        alphabet, counts, residuals::ContextGrid{.columns = kContextColumns});
    const size_t block_weights =
        std::min(request.block_size * 8 / recipe.bits, count);
    const uint64_t streams = block_weights >= entropy::kFourStreams ? 4 : 1;
    const uint64_t coded =
        (encoder->cost() + encoder->table_cost()) / 8 +
        blocks * (block_weights < residuals::kFewElements ? 8 : 132 * streams);
    if (coded >= few) return;
    estimate_ = blocks + coded - encoder->table_cost() / 8;
    encoder->Write(&params_);
    encoder_ = std::move(encoder);
  }

  ByteSpan params() const override { return params_.span(); }
  uint64_t estimate() const override { return estimate_; }

  bool Encode(ByteSpan block, Scratch& scratch, Buffer* out) const override {
    const auto begin =
        static_cast<size_t>(block.data() - request_.data.data()) * 8 /
        recipe_.bits;
    const size_t count = block.size() * 8 / recipe_.bits;
    const uint8_t* const codes = codes_.data() + begin;
    const uint8_t* const predictions = predictions_.data() + begin;
    const size_t start = out->size();
    ByteWriter writer(out);
    uint64_t wrong = 0;
    for (size_t i = 0; i < count; ++i) wrong += codes[i] != predictions[i];
    if (wrong == 0) {
      writer.Le(static_cast<uint8_t>(Form::kEqual));
    } else if (encoder_ == nullptr || wrong * kFewBytes <= kLeastForTables) {
      writer.Le(static_cast<uint8_t>(Form::kFew));
      writer.Varint(wrong);
      size_t from = 0;
      for (size_t i = 0; i < count; ++i) {
        if (codes[i] == predictions[i]) continue;
        writer.Varint(i - from);
        writer.Le(codes[i]);
        from = i + 1;
      }
    } else {
      writer.Le(static_cast<uint8_t>(Form::kResiduals));
      encoder_->Encode(contexts_.data() + begin, symbols_.data() + begin, codes,
                       predictions, count, &scratch.buffers[0],
                       &scratch.buffers[1], out);
    }
    if (out->size() - start < block.size()) return true;
    out->Resize(start);
    return false;
  }

 private:
  /// Bytes of a code that is not as predicted.
  static constexpr uint64_t kFewBytes = 3;
  /// Bytes of such codes in a frame, or in a block, that tables cost more than.
  static constexpr uint64_t kLeastForTables = 120;

  const EncodeRequest request_;
  const Recipe recipe_;
  Buffer codes_;
  Buffer predictions_;
  Buffer contexts_;
  Buffer symbols_;
  std::unique_ptr<const ResidualEncoder> encoder_;
  Buffer params_;
  uint64_t estimate_ = 0;
};

std::unique_ptr<EncodePlan> MakePlan(const EncodeRequest& request,
                                     Scratch& /*scratch*/) {
  if (request.model == nullptr) return nullptr;
  const Recipe& recipe =
      static_cast<const ScaledModel&>(*request.model).recipe();
  const size_t count = request.data.size() * 8 / recipe.bits;
  const size_t unit_bytes = UnitOf(recipe) * recipe.bits / 8;
  if (request.data.size() % unit_bytes != 0 ||
      request.block_size % unit_bytes != 0) {
    return nullptr;
  }
  const auto predictor = Predictor::Make(recipe, request.references,
                                         request.row, request.position, count);
  if (!predictor.ok()) return nullptr;
  auto plan = std::make_unique<Plan>(request, recipe, *predictor, count);
  if (plan->estimate() >= request.data.size() ||
      plan->params().size() > kMaxParamsBytes) {
    return nullptr;
  }
  return plan;
}

}  // namespace

extern const Encoder kScaledEncoder = {
    .id = 20, .name = "scaled", .plan = MakePlan, .learn = Learn};

}  // namespace zipllm::codecs
