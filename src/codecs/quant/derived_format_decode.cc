#include <algorithm>
#include <bit>
#include <cmath>

#include "base/dtype.h"
#include "codecs/quant/derived_format.h"
#include "codecs/quant/quant_format.h"
#include "quantizers/dequantize.h"
#include "quantizers/grids.h"

namespace zipllm::codecs::derived {
namespace {

using quantizers::Rounding;

constexpr Form kForms[] = {
    {.dtype = DType::kGgmlQ40,
     .shape =
         {.low = -8, .high = 7, .rounding = Rounding::kFloor, .anchor = -8},
     .from_exact_scale = true},
    {.dtype = DType::kGgmlQ41,
     .shape = {.high = 15,
               .ranged = true,
               .free_offset = true,
               .rounding = Rounding::kFloor},
     .from_exact_scale = true},
    {.dtype = DType::kGgmlQ50,
     .shape =
         {.low = -16, .high = 15, .rounding = Rounding::kFloor, .anchor = -16},
     .from_exact_scale = true},
    {.dtype = DType::kGgmlQ51,
     .shape = {.high = 31,
               .ranged = true,
               .free_offset = true,
               .rounding = Rounding::kFloor},
     .from_exact_scale = true},
    {.dtype = DType::kGgmlQ80,
     .shape = {.low = -128,
               .high = 127,
               .positive = true,
               .rounding = Rounding::kAway,
               .anchor = 127},
     .from_exact_scale = true},
    {.dtype = DType::kGgmlQ2K,
     .shape = {.group = 16, .high = 3, .ranged = true},
     .divisor = 15,
     .most_scale = 15},
    {.dtype = DType::kGgmlQ3K,
     .shape = {.group = 16, .low = -4, .high = 3, .anchor = -4},
     .divisor = -32,
     .least_scale = -32,
     .most_scale = 31},
    {.dtype = DType::kGgmlQ4K,
     .shape = {.high = 15, .ranged = true},
     .divisor = 63,
     .most_scale = 63},
    {.dtype = DType::kGgmlQ5K,
     .shape = {.high = 31, .ranged = true},
     .divisor = 63,
     .most_scale = 63},
    {.dtype = DType::kGgmlQ6K,
     .shape = {.group = 16, .low = -32, .high = 31, .anchor = -32},
     .divisor = -128,
     .least_scale = -128,
     .most_scale = 127},
    {.dtype = DType::kGgmlIQ4NL,
     .shape =
         {.high = 15, .rounding = Rounding::kTable, .anchor = -127, .unit = 1},
     .from_exact_scale = true},
    {.dtype = DType::kGgmlIQ4XS,
     .shape =
         {.high = 15, .rounding = Rounding::kTable, .anchor = -127, .unit = 1},
     .divisor = -32,
     .least_scale = -32,
     .most_scale = 31,
     .from_exact_scale = true},
};

float FloatOfBits(uint32_t bits) { return std::bit_cast<float>(bits); }

/// sums[k] of the squares of the numbers k modulo 16, then folded by halves.
float SumOfSquares(const float* x, size_t count) {
  float sums[16] = {};
  for (size_t i = 0; i < count; i += 16) {
    for (size_t k = 0; k < 16; ++k) sums[k] += x[i + k] * x[i + k];
  }
  for (size_t half = 8; half > 0; half /= 2) {
    for (size_t k = 0; k < half; ++k) sums[k] += sums[k + half];
  }
  return sums[0];
}

const quant::Field& CodesOf(const quant::BlockType& type) {
  return type.field[type.fields - 1u];
}

/// Q8_0 has codes in two's complement.
uint8_t FlipOf(const Form& form) { return form.shape.low == -128 ? 128 : 0; }

template <typename T>
T* Take(size_t count, uint8_t** at) {
  auto* const array = reinterpret_cast<T*>(*at);
  *at += (count * sizeof(T) + 63) / 64 * 64;
  return array;
}

}  // namespace

const Form* FindForm(DType dtype) {
  for (const Form& form : kForms) {
    if (form.dtype == dtype) return &form;
  }
  return nullptr;
}

void WriteRecipe(const Recipe& recipe, Buffer* out) {
  ByteWriter writer(out);
  writer.Le(static_cast<uint8_t>(recipe.dtype));
  writer.Le(recipe.quantizer);
  writer.Le(static_cast<uint8_t>(recipe.has_importance ? 1 : 0));
  writer.Le(static_cast<uint8_t>(recipe.candidates.weighting));
  writer.Le(static_cast<uint8_t>(recipe.candidates.first));
  writer.Le(recipe.candidates.step);
  writer.Le(recipe.candidates.count);
  for (const uint8_t doubt : recipe.doubt) writer.Le(doubt);
}

absl::Status ReadRecipe(ByteReader& reader, Recipe* recipe) {
  std::array<uint8_t, kRecipeBytes> bytes;
  for (uint8_t& byte : bytes) {
    ASSIGN_OR_RETURN(byte, reader.Le<uint8_t>());
  }
  recipe->dtype = static_cast<DType>(bytes[0]);
  recipe->quantizer = bytes[1];
  recipe->has_importance = bytes[2] != 0;
  recipe->candidates.weighting = static_cast<quantizers::Weighting>(bytes[3]);
  recipe->candidates.first = static_cast<int8_t>(bytes[4]);
  recipe->candidates.step = bytes[5];
  recipe->candidates.count = bytes[6];
  std::copy_n(bytes.begin() + 7, 3, recipe->doubt.begin());
  if (quant::FindBlockType(recipe->dtype) == nullptr) {
    return reader.Error("elements of type ", int{bytes[0]});
  }
  if (bytes[2] > 1 || bytes[3] >= quantizers::kWeightings ||
      bytes[6] > kMaxCandidates ||
      std::ranges::any_of(recipe->doubt,
                          [](uint8_t v) { return v > kMaxDoubt; })) {
    return reader.Error("a recipe that is out of range");
  }
  if (recipe->quantizer != 0) {
    const quantizers::Quantizer* const quantizer =
        quantizers::FindQuantizer(recipe->quantizer);
    if (quantizer == nullptr || quantizer->dtype != recipe->dtype ||
        quantizer->needs_importance > recipe->has_importance) {
      return reader.Error("quantizer ", int{recipe->quantizer},
                          " is not known for this type");
    }
  } else if (FindForm(recipe->dtype) == nullptr &&
             quantizers::FindGridType(recipe->dtype) == nullptr) {
    return reader.Error("a type without a formula, and no quantizer");
  }
  return absl::OkStatus();
}

uint16_t ToHalf(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = bits >> 16 & 0x8000;
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return 0x7e00;
  if (magnitude >= 0x47800000) return static_cast<uint16_t>(sign | 0x7c00);
  uint32_t half;
  if (magnitude < 0x38800000) {
    half = std::bit_cast<uint32_t>(FloatOfBits(magnitude) + 0.5f) - 0x3f000000;
  } else {
    half = (magnitude + 0xc8000fff + (magnitude >> 13 & 1)) >> 13;
  }
  return static_cast<uint16_t>(sign | half);
}

float FromHalf(uint16_t half) {
  const uint32_t magnitude = uint32_t{half} << 13 & 0x0fffe000;
  const uint32_t sign = (uint32_t{half} & 0x8000) << 16;
  if (magnitude >= 0x0f800000) {
    return FloatOfBits((magnitude | 0x7f800000) | sign);
  }
  return FloatOfBits(
      std::bit_cast<uint32_t>(FloatOfBits(magnitude) * 0x1p112f) | sign);
}

float DoubtOf(uint8_t v) {
  return v == 0 ? 0
                : FloatOfBits(static_cast<uint32_t>(v - kDoubtOne + 127) << 23);
}

absl::StatusOr<Source> Source::Open(const Recipe& recipe,
                                    const BlockContext& context,
                                    uint64_t count) {
  Source source;
  const Reference* base = nullptr;
  const Reference* importance = nullptr;
  for (const Reference& reference : context.references) {
    if (reference.role == Role::kBase && base == nullptr) base = &reference;
    if (reference.role == Role::kImportance && importance == nullptr) {
      importance = &reference;
    }
  }
  if (base == nullptr) return DataLoss("derived block has no base");
  const DTypeInfo* const type = FindDType(base->dtype);
  const DTypeInfo* const own = FindDType(recipe.dtype);
  source.dtype_ = base->dtype;
  source.packed_ = quantizers::CanDequantize(base->dtype);
  if (type == nullptr ||
      (!source.packed_ && base->dtype != DType::kF32 &&
       base->dtype != DType::kF16 && base->dtype != DType::kBF16) ||
      (recipe.doubt[2] != 0 && !source.packed_) ||
      count % type->block_elements != 0 ||
      base->data.size() != count / type->block_elements * type->block_bytes) {
    return DataLoss("base of a derived block is of another type or size");
  }
  source.base_ = base->data;
  source.row_ = context.row;
  source.position_ = context.position;
  if (recipe.has_importance) {
    if (importance == nullptr || importance->dtype != DType::kF32 ||
        context.row == 0 || context.row > kMaxRow ||
        context.row % own->block_elements != 0 ||
        context.position % own->block_elements != 0 ||
        importance->data.size() != 4 * context.row) {
      return DataLoss("derived block has no importance of its columns");
    }
    source.importance_ = importance->data;
    source.columns_.resize(context.row);
    std::memcpy(source.columns_.data(), importance->data.data(),
                importance->data.size());
  }
  if (recipe.quantizer != 0) {
    if (quantizers::FindQuantizer(recipe.quantizer)->needs_rows) {
      if (context.row == 0 || context.row > kMaxRow ||
          context.row % own->block_elements != 0 ||
          context.row % type->block_elements != 0 ||
          context.position % context.row != 0 || count % context.row != 0) {
        return DataLoss("derived block is no number of whole rows");
      }
      source.piece_ = std::max<size_t>(1, kPiece / context.row) * context.row;
    }
  }
  return source;
}

bool ToFloats(DType dtype, const uint8_t* from, size_t count, float* out) {
  switch (dtype) {
    case DType::kF32:
      std::memcpy(out, from, 4 * count);
      return true;
    case DType::kBF16:
      for (size_t i = 0; i < count; ++i) {
        out[i] = FloatOfBits(uint32_t{LoadLe<uint16_t>(from + 2 * i)} << 16);
      }
      return true;
    case DType::kF16:
      for (size_t i = 0; i < count; ++i) {
        out[i] = FromHalf(LoadLe<uint16_t>(from + 2 * i));
      }
      return true;
    default:
      return quantizers::Dequantize(
          dtype, from, count / FindDType(dtype)->block_elements, out);
  }
}

void Source::Weights(uint64_t first, size_t count, float* out) const {
  const DTypeInfo& type = *FindDType(dtype_);
  ToFloats(dtype_,
           base_.data() + first / type.block_elements * type.block_bytes, count,
           out);
}

void Source::Steps(uint64_t first, size_t count, float* out) const {
  const DTypeInfo& type = *FindDType(dtype_);
  quantizers::Steps(
      dtype_, base_.data() + first / type.block_elements * type.block_bytes,
      count / type.block_elements, out);
}

void Source::Importance(uint64_t first, size_t count, float* out) const {
  auto column = static_cast<size_t>((position_ + first) % row_);
  while (count > 0) {
    const size_t run = std::min(count, columns_.size() - column);
    std::memcpy(out, columns_.data() + column, run * sizeof(float));
    out += run;
    count -= run;
    column = 0;
  }
}

void Source::Quantize(const quantizers::Quantizer& quantizer,
                      const float* weights, uint64_t first, size_t count,
                      uint8_t* out) const {
  const quantizers::QuantizeFn quantize = quantizer.Best();
  if (quantizer.needs_rows) {
    const auto row = static_cast<size_t>(row_);
    quantize(weights, count / row, row,
             columns_.empty() ? nullptr : columns_.data(), out);
    return;
  }
  if (columns_.empty()) return quantize(weights, 1, count, nullptr, out);
  const DTypeInfo& type = *FindDType(quantizer.dtype);
  auto column = static_cast<size_t>((position_ + first) % row_);
  while (count > 0) {
    const size_t run = std::min(count, columns_.size() - column);
    quantize(weights, 1, run, columns_.data() + column, out);
    weights += run;
    out += run / type.block_elements * type.block_bytes;
    count -= run;
    column = 0;
  }
}

Workspace::Workspace(size_t count, const DTypeInfo& type, const Form* form,
                     Buffer* buffer) {
  const size_t blocks = count / type.block_elements;
  const size_t groups = form == nullptr ? 0 : count / form->shape.group;
  buffer->Clear();
  buffer->Resize(count * (3 * sizeof(float) + 3) +
                 groups * (5 * sizeof(float) + 2) +
                 blocks * (2 * sizeof(float) + type.block_bytes + 5) + 24 * 64);
  uint8_t* at = buffer->data();
  weights = Take<float>(count, &at);
  steps = Take<float>(count, &at);
  importance = Take<float>(count, &at);
  codes = Take<uint8_t>(count, &at);
  expected = Take<uint8_t>(count, &at);
  bins = Take<uint8_t>(count, &at);
  fitted_scales = Take<float>(groups, &at);
  fitted_offsets = Take<float>(groups, &at);
  spread = Take<float>(groups, &at);
  scales = Take<float>(groups, &at);
  offsets = Take<float>(groups, &at);
  s = Take<uint8_t>(groups, &at);
  m = Take<uint8_t>(groups, &at);
  d = Take<float>(blocks, &at);
  dmin = Take<float>(blocks, &at);
  predicted = Take<uint8_t>(blocks * type.block_bytes, &at);
  equal = Take<uint8_t>(blocks, &at);
  half_d = Take<uint16_t>(blocks, &at);
  half_dmin = Take<uint16_t>(blocks, &at);
}

void Predict(const Recipe& recipe, const Form& form, size_t count,
             Workspace& work) {
  const DTypeInfo& type = *FindDType(form.dtype);
  const quant::BlockType& block_type = *quant::FindBlockType(form.dtype);
  const size_t blocks = count / type.block_elements;
  const size_t per_block = type.block_elements / form.shape.group;
  const bool ranged = form.shape.ranged;
  if (recipe.quantizer != 0) {
    SplitBlocks(form, work.predicted, blocks, work.s, work.m, work.expected);
    for (size_t b = 0; b < blocks; ++b) {
      const uint8_t* const block = work.predicted + b * type.block_bytes;
      work.d[b] = FromHalf(LoadLe<uint16_t>(block + PlaceOfD(block_type)));
      work.dmin[b] = 0;
      if (ranged) {
        work.dmin[b] =
            FromHalf(LoadLe<uint16_t>(block + PlaceOfDmin(block_type)));
      }
      for (size_t g = b * per_block; g < (b + 1) * per_block; ++g) {
        work.fitted_scales[g] = work.d[b];
        work.fitted_offsets[g] = work.dmin[b];
        if (form.divisor == 0) {
          if (ranged) work.fitted_offsets[g] = -work.dmin[b];
          continue;
        }
        work.fitted_scales[g] *=
            static_cast<float>(ScaleOfField(form, work.s[g]));
        if (ranged) work.fitted_offsets[g] *= static_cast<float>(work.m[g]);
      }
    }
    return;
  }
  const quantizers::Weighting weighting = recipe.candidates.weighting;
  if (recipe.candidates.count != 0 && quantizers::NeedsSpread(weighting)) {
    for (size_t b = 0; b < blocks; ++b) {
      const float sum = SumOfSquares(work.weights + b * type.block_elements,
                                     type.block_elements);
      std::fill_n(work.spread + b * per_block, per_block,
                  sum / static_cast<float>(type.block_elements));
    }
  }
  quantizers::BestFormula().fit(
      form.shape, recipe.candidates, work.weights,
      recipe.has_importance ? work.importance : nullptr, work.spread,
      blocks * per_block, work.fitted_scales, work.fitted_offsets);
  for (size_t b = 0; b < blocks; ++b) {
    const float* const scales = work.fitted_scales + b * per_block;
    const float* const offsets = work.fitted_offsets + b * per_block;
    work.d[b] = scales[0];
    work.dmin[b] = ranged ? -offsets[0] : 0;
    if (form.divisor == 0) continue;
    float most = 0;
    float anchor = 0;
    float most_offset = 0;
    for (size_t g = 0; g < per_block; ++g) {
      const float magnitude = std::fabs(scales[g]);
      if (magnitude > most) {
        most = magnitude;
        anchor = scales[g];
      }
      if (offsets[g] > most_offset) most_offset = offsets[g];
    }
    work.d[b] = most > 0 ? anchor / static_cast<float>(form.divisor) : 0;
    work.dmin[b] = most_offset / static_cast<float>(form.divisor);
  }
}

void SplitBlocks(const Form& form, const uint8_t* blocks, size_t count,
                 uint8_t* s, uint8_t* m, uint8_t* codes) {
  const quant::BlockType& type = *quant::FindBlockType(form.dtype);
  if (type.quants.s >= 0) {
    quant::SplitField(type, type.field[static_cast<size_t>(type.quants.s)],
                      blocks, count, s);
  }
  if (type.quants.m >= 0) {
    quant::SplitField(type, type.field[static_cast<size_t>(type.quants.m)],
                      blocks, count, m);
  }
  quant::SplitField(type, CodesOf(type), blocks, count, codes);
  if (const uint8_t flip = FlipOf(form)) {
    for (size_t i = 0; i < count * CodesOf(type).count; ++i) codes[i] ^= flip;
  }
}

void MergeBlocks(const Form& form, const uint8_t* s, const uint8_t* m,
                 uint8_t* codes, size_t count, uint8_t* blocks) {
  const quant::BlockType& type = *quant::FindBlockType(form.dtype);
  std::memset(blocks, 0, count * type.bytes);
  if (type.quants.s >= 0) {
    quant::MergeField(type, type.field[static_cast<size_t>(type.quants.s)], s,
                      count, blocks);
  }
  if (type.quants.m >= 0) {
    quant::MergeField(type, type.field[static_cast<size_t>(type.quants.m)], m,
                      count, blocks);
  }
  if (const uint8_t flip = FlipOf(form)) {
    for (size_t i = 0; i < count * CodesOf(type).count; ++i) codes[i] ^= flip;
  }
  quant::MergeField(type, CodesOf(type), codes, count, blocks);
}

size_t PlaceOfD(const quant::BlockType& type) {
  return type.field[static_cast<size_t>(type.quants.d)].parts[0].offset - 1u;
}
size_t PlaceOfDmin(const quant::BlockType& type) {
  return type.field[static_cast<size_t>(type.quants.dmin)].parts[0].offset - 1u;
}

}  // namespace zipllm::codecs::derived
