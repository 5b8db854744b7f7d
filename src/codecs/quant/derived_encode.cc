// Codec 19, derived: which recipe predicts a frame's blocks best is found by
// trying on a part of it.
#include <algorithm>
#include <initializer_list>
#include <memory>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "base/dtype.h"
#include "codecs/codec.h"
#include "codecs/quant/derived_format.h"
#include "codecs/quant/derived_pieces.h"
#include "codecs/quant/derived_trial.h"

namespace zipllm::codecs {
namespace {

using namespace derived;
using quantizers::Candidates;
using quantizers::Quantizer;
using quantizers::Weighting;

/// Up to the last of these levels, decoding is to run at hundreds of MB/s.
constexpr int kFastLevel = 2;

/// Blocks with what lies beside them.
struct Pair {
  ByteSpan blocks;
  BlockContext context;

  uint64_t count(const DTypeInfo& type) const {
    return blocks.size() / type.block_bytes * type.block_elements;
  }
};

/// A part of a pair: runs of it, each with the tensor's place of its own.
std::vector<Pair> SampleOf(const Pair& pair, const DTypeInfo& type,
                           std::vector<Reference>* references) {
  constexpr size_t kRuns = 4;
  constexpr uint64_t kRun = 8192;
  const uint64_t count = pair.count(type);
  // Whole rows where there are some, else whole blocks of any type.
  uint64_t unit = 256;
  if (pair.context.row != 0 && pair.context.row % type.block_elements == 0 &&
      pair.context.position % pair.context.row == 0 &&
      count % pair.context.row == 0) {
    unit = pair.context.row;
    while (unit % 256 != 0 && unit <= kMaxRow) unit += pair.context.row;
  }
  const uint64_t run = (kRun + unit - 1) / unit * unit;
  if (count <= kRuns * run) return {pair};
  std::vector<Pair> sample;
  references->clear();
  references->reserve(kRuns * pair.context.references.size());
  for (uint64_t i = 0; i < kRuns; ++i) {
    const uint64_t first = (count - run) / (kRuns - 1) * i / unit * unit;
    Pair part = pair;
    part.blocks =
        pair.blocks.subspan(first / type.block_elements * type.block_bytes,
                            run / type.block_elements * type.block_bytes);
    part.context.position += first;
    const size_t begin = references->size();
    for (Reference reference : pair.context.references) {
      if (!IsWhole(reference.role)) {
        const DTypeInfo& its = *FindDType(reference.dtype);
        reference.data =
            reference.data.subspan(first / its.block_elements * its.block_bytes,
                                   run / its.block_elements * its.block_bytes);
      }
      references->push_back(reference);
    }
    part.context.references =
        std::span(*references).subspan(begin, pair.context.references.size());
    sample.push_back(part);
  }
  return sample;
}

template <class Coder>
void CodePieces(const Pair& pair, const DTypeInfo& type, const Source& source,
                PieceCoder<Coder>* pieces) {
  const uint64_t count = pair.count(type);
  for (uint64_t first = 0; first < count; first += source.piece()) {
    const auto n =
        static_cast<size_t>(std::min<uint64_t>(source.piece(), count - first));
    // Encoders leave blocks as they are.
    pieces->Code(first, n,
                 const_cast<uint8_t*>(pair.blocks.data()) +
                     first / type.block_elements * type.block_bytes);
  }
}

constexpr uint64_t kNoFit = UINT64_MAX;

/// In 1/65536 bit; kNoFit where the recipe does not fit.
uint64_t CostOf(const Recipe& recipe, std::span<const Pair> sample,
                Buffer* buffer) {
  const DTypeInfo& type = *FindDType(recipe.dtype);
  BitCounter counter;
  std::optional<PieceCoder<BitCounter>> pieces;
  for (const Pair& pair : sample) {
    const auto source = Source::Open(recipe, pair.context, pair.count(type));
    if (!source.ok()) return kNoFit;
    if (pieces) {
      pieces->GoOn(*source);
    } else {
      pieces.emplace(recipe, *source, &counter, buffer);
    }
    CodePieces(pair, type, *source, &*pieces);
  }
  return counter.cost();
}

/// Formulas that are tried for a type. Candidates are those of ggml's own
/// quantizers, or every third one.
std::vector<Candidates> FormulasFor(const Form& form, bool fast) {
  std::vector<Candidates> all;
  const auto add = [&](std::initializer_list<Weighting> weightings, int first,
                       int count) {
    for (const Weighting weighting : weightings) {
      const int step = fast ? 3 : 1;
      all.push_back({weighting, static_cast<int8_t>(first),
                     static_cast<uint8_t>(step),
                     static_cast<uint8_t>((count + step - 1) / step)});
    }
  };
  if (form.divisor == 0) all.push_back({});
  if (form.shape.positive) return all;
  if (form.shape.ranged) {
    if (form.divisor == 0 || form.shape.high == 15) {
      add({Weighting::kRmsAndMagnitude, Weighting::kRootOfThose}, -10, 21);
    } else {
      add({form.shape.high == 3 ? Weighting::kMagnitudeAbsolute
                                : Weighting::kRmsAndMagnitude,
           Weighting::kRootOfThose},
          -5, 16);
    }
  } else if (form.shape.rounding == quantizers::Rounding::kTable) {
    add({Weighting::kSquare, Weighting::kRootOfThose}, -7, 15);
  } else {
    if (form.divisor == -32) all.push_back({Weighting::kSquare, 0, 1, 1});
    add({Weighting::kSquare, Weighting::kRootOfThose}, -9, 19);
  }
  return all;
}

/// The best recipe for a sample; `*cost` is kNoFit where there is none.
Recipe ChooseRecipe(DType dtype, std::span<const Pair> sample, int level,
                    uint64_t* cost, Buffer* buffer) {
  const BlockContext& context = sample[0].context;
  const auto has = [&](Role role) {
    return std::ranges::any_of(
        context.references, [&](const Reference& r) { return r.role == role; });
  };
  const bool has_importance = has(Role::kImportance);
  const auto base =
      std::ranges::find(context.references, Role::kBase, &Reference::role);
  const bool packed = base != context.references.end() &&
                      FindDType(base->dtype) != nullptr &&
                      FindDType(base->dtype)->block_elements > 1;
  const Form* const form = FindForm(dtype);
  Recipe best;
  *cost = kNoFit;
  const auto consider = [&](const Recipe& recipe) {
    const uint64_t its = CostOf(recipe, sample, buffer);
    if (its >= *cost) return;
    *cost = its;
    best = recipe;
  };

  Recipe recipe;
  recipe.dtype = dtype;
  if (form != nullptr) {
    if (form->from_exact_scale) recipe.doubt[1] = kDoubtOne - 9;
    if (packed) recipe.doubt = {0, 0, kDoubtOne};
  }
  for (const Quantizer* quantizer : quantizers::AllQuantizers()) {
    if (quantizer->dtype != dtype ||
        (level <= kFastLevel && !quantizer->is_fast)) {
      continue;
    }
    for (const bool with : {false, true}) {
      if (with != quantizer->needs_importance || with > has_importance) {
        continue;
      }
      recipe.quantizer = quantizer->id;
      recipe.has_importance = with;
      consider(recipe);
    }
  }
  recipe.quantizer = 0;
  uint64_t count = 0;
  for (const Pair& pair : sample) count += pair.count(*FindDType(dtype));
  // Nothing left to gain.
  if (*cost <= count / 1000 << 16) return best;
  if (form != nullptr) {
    for (const Candidates& candidates :
         FormulasFor(*form, level <= kFastLevel)) {
      recipe.candidates = candidates;
      recipe.has_importance = false;
      consider(recipe);
      if (has_importance && candidates.count != 0) {
        recipe.has_importance = true;
        consider(recipe);
      }
    }
  } else if (quantizers::FindGridType(dtype) != nullptr) {
    recipe.has_importance = has_importance;
    consider(recipe);
  }
  if (*cost == kNoFit || form == nullptr) return best;
  // How far codes may be from the nearest.
  std::vector<std::array<uint8_t, 3>> doubts;
  constexpr uint8_t kOne = kDoubtOne;
  if (packed) {
    doubts = {{0, 0, kOne + 1}, {kOne - 1, 0, 0}};
  } else {
    doubts = {{0, 0, 0}, {0, kOne - 7, 0}, {kOne - 3, 0, 0}, {kOne - 1, 0, 0}};
  }
  for (const auto& doubt : doubts) {
    recipe = best;
    recipe.doubt = doubt;
    consider(recipe);
  }
  return best;
}

class Plan final : public EncodePlan {
 public:
  Plan(const EncodeRequest& request, const Recipe& recipe, uint64_t estimate)
      : request_(request), recipe_(recipe), estimate_(estimate) {
    WriteRecipe(recipe, &params_);
  }

  ByteSpan params() const override { return params_.span(); }
  uint64_t estimate() const override { return estimate_; }

  bool Encode(ByteSpan block, Scratch& scratch, Buffer* out) const override {
    const DTypeInfo& type = *FindDType(recipe_.dtype);
    const auto byte = static_cast<size_t>(block.data() - request_.data.data());
    const uint64_t first =
        byte / type.block_bytes * uint64_t{type.block_elements};
    Pair pair{.blocks = block,
              .context = {.references = {},
                          .row = request_.row,
                          .position = request_.position + first,
                          .shared = {}}};
    const uint64_t count = pair.count(type);
    std::vector<Reference> references;
    for (Reference reference : request_.references) {
      if (!IsWhole(reference.role)) {
        const DTypeInfo& its = *FindDType(reference.dtype);
        if (first % its.block_elements != 0) return false;
        const size_t begin = first / its.block_elements * its.block_bytes;
        const size_t size = (count + its.block_elements - 1) /
                            its.block_elements * its.block_bytes;
        if (begin + size > reference.data.size()) return false;
        reference.data = reference.data.subspan(begin, size);
      }
      references.push_back(reference);
    }
    pair.context.references = references;
    const auto source = Source::Open(recipe_, pair.context, count);
    if (!source.ok()) return false;
    const size_t start = out->size();
    entropy::BinaryEncoder encoder(out);
    PieceCoder<entropy::BinaryEncoder> pieces(recipe_, *source, &encoder,
                                              &scratch.buffers[0]);
    CodePieces(pair, type, *source, &pieces);
    encoder.Finish();
    if (out->size() - start < block.size()) return true;
    out->Resize(start);
    return false;
  }

 private:
  const EncodeRequest request_;
  const Recipe recipe_;
  const uint64_t estimate_;
  Buffer params_;
};

/// Whether sizes fit each other, so that parts can be taken.
bool FitsTogether(const Pair& pair, const DTypeInfo& type) {
  if (pair.blocks.empty() || pair.blocks.size() % type.block_bytes != 0) {
    return false;
  }
  const uint64_t count = pair.count(type);
  bool has_base = false;
  for (const Reference& reference : pair.context.references) {
    if (IsWhole(reference.role)) continue;
    const DTypeInfo* const its = FindDType(reference.dtype);
    if (its == nullptr || count % its->block_elements != 0 ||
        reference.data.size() !=
            count / its->block_elements * its->block_bytes) {
      return false;
    }
    has_base = has_base || reference.role == Role::kBase;
  }
  return has_base;
}

std::unique_ptr<EncodePlan> MakePlan(const EncodeRequest& request,
                                     Scratch& scratch) {
  if (request.references.empty() ||
      quant::FindBlockType(request.dtype) == nullptr) {
    return nullptr;
  }
  const DTypeInfo& type = *FindDType(request.dtype);
  const Pair pair{.blocks = request.data,
                  .context = {.references = request.references,
                              .row = request.row,
                              .position = request.position,
                              .shared = {}}};
  if (!FitsTogether(pair, type) || request.block_size % type.block_bytes != 0) {
    return nullptr;
  }
  std::vector<Reference> references;
  const std::vector<Pair> sample = SampleOf(pair, type, &references);
  uint64_t cost;
  const Recipe recipe = ChooseRecipe(request.dtype, sample, request.level,
                                     &cost, &scratch.buffers[0]);
  if (cost == kNoFit) return nullptr;
  uint64_t sampled = 0;
  for (const Pair& part : sample) sampled += part.count(type);
  const uint64_t blocks =
      (request.data.size() + request.block_size - 1) / request.block_size;
  const auto estimate = static_cast<uint64_t>(
      (cost >> 19) * pair.count(type) / sampled + 4 * blocks);
  if (estimate >= request.data.size()) return nullptr;
  return std::make_unique<Plan>(request, recipe, estimate);
}

}  // namespace

double DerivedBitsPerWeight(DType dtype, ByteSpan blocks, DType base_dtype,
                            ByteSpan base, uint64_t row, uint64_t position,
                            std::span<const float> importance, int level,
                            uint8_t* quantizer) {
  constexpr double kNone = 1e9;
  if (quant::FindBlockType(dtype) == nullptr) return kNone;
  const DTypeInfo& type = *FindDType(dtype);
  std::vector<Reference> references = {{Role::kBase, base_dtype, base, 0}};
  if (!importance.empty()) {
    references.push_back({Role::kImportance,
                          DType::kF32,
                          {reinterpret_cast<const uint8_t*>(importance.data()),
                           importance.size_bytes()},
                          importance.size()});
  }
  const Pair pair{.blocks = blocks,
                  .context = {.references = references,
                              .row = row,
                              .position = position,
                              .shared = {}}};
  if (!FitsTogether(pair, type)) return kNone;
  Buffer buffer;
  uint64_t cost;
  const Recipe recipe =
      ChooseRecipe(dtype, std::span(&pair, 1), level, &cost, &buffer);
  if (cost == kNoFit) return kNone;
  if (quantizer != nullptr) *quantizer = recipe.quantizer;
  return static_cast<double>(cost) / 65536 /
         static_cast<double>(pair.count(type));
}

bool PredictBlocks(uint8_t quantizer, DType dtype, DType base_dtype,
                   ByteSpan base, uint64_t row, uint64_t position,
                   std::span<const float> importance, MutableByteSpan blocks) {
  const Quantizer* const found = quantizers::FindQuantizer(quantizer);
  if (found == nullptr || found->dtype != dtype) return false;
  const DTypeInfo& type = *FindDType(dtype);
  if (blocks.size() % type.block_bytes != 0) return false;
  std::vector<Reference> references = {{Role::kBase, base_dtype, base, 0}};
  if (found->needs_importance) {
    if (importance.empty()) return false;
    references.push_back({Role::kImportance,
                          DType::kF32,
                          {reinterpret_cast<const uint8_t*>(importance.data()),
                           importance.size_bytes()},
                          importance.size()});
  }
  const Recipe recipe{.dtype = dtype,
                      .quantizer = quantizer,
                      .has_importance = found->needs_importance,
                      .candidates = {},
                      .doubt = {}};
  const uint64_t count = blocks.size() / type.block_bytes * type.block_elements;
  const auto source = Source::Open(recipe,
                                   {.references = references,
                                    .row = row,
                                    .position = position,
                                    .shared = {}},
                                   count);
  if (!source.ok()) return false;
  std::vector<float> weights(source->piece());
  for (uint64_t first = 0; first < count; first += source->piece()) {
    const auto n =
        static_cast<size_t>(std::min<uint64_t>(source->piece(), count - first));
    source->Weights(first, n, weights.data());
    source->Quantize(
        *found, weights.data(), first, n,
        blocks.data() + first / type.block_elements * type.block_bytes);
  }
  return true;
}

extern const Encoder kDerivedEncoder = {
    .id = 19, .name = "derived", .plan = MakePlan};

}  // namespace zipllm::codecs
