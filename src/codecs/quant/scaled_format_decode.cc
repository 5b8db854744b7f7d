#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "base/dtype.h"
#include "codecs/quant/scaled_format.h"
#include "codecs/reference/sum_format.h"
#include "entropy/bits.h"

namespace zipllm::codecs::scaled {
namespace {

using kernels::FloatType;
using sum_format::FloatTypeOf;

/// Facts of the types of codes that are floats.
struct FloatCode {
  uint8_t mantissa_bits;
  uint8_t bias;
  bool has_negative_zero;
  float most;
};
constexpr std::array<FloatCode, kCodeTypes - 1> kFloatCodes = {{
    {3, 7, true, 448},
    {2, 15, true, 57344},
    {3, 8, false, 240},
    {2, 16, false, 57344},
    {1, 1, true, 6},
}};

/// What the bytes of scales of 8 bits stand for.
using ByteScales = std::array<float, 256>;

ByteScales MakeE4M3() {
  ByteScales values;
  for (uint32_t b = 0; b < 256; ++b) {
    const uint32_t magnitude = b & 127;
    // A float of a too small exponent, times 2^120.
    float value = std::bit_cast<float>(magnitude << 20) * 0x1p120F;
    if (magnitude == 127) value = std::bit_cast<float>(0x7FC00000);
    values[b] = b > 127 ? -value : value;
  }
  return values;
}

ByteScales MakeE8M0() {
  ByteScales values;
  for (uint32_t b = 0; b < 256; ++b) {
    values[b] = std::bit_cast<float>(b == 0     ? 0x00400000
                                     : b == 255 ? 0x7FC00000
                                                : b << 23);
  }
  return values;
}

/// Null for types that are not scales of a byte.
const ByteScales* ByteScalesOf(DType dtype) {
  static const ByteScales e4m3 = MakeE4M3();
  static const ByteScales e8m0 = MakeE8M0();
  switch (dtype) {
    case DType::kF8E4M3:
      return &e4m3;
    case DType::kF8E8M0:
    case DType::kU8:
      return &e8m0;
    default:
      return nullptr;
  }
}

bool IsScaleType(DType dtype) {
  return FloatTypeOf(dtype).has_value() || ByteScalesOf(dtype) != nullptr;
}

/// `count` (of at most kPiece) scales from number `first` on.
void WidenScales(const Reference& scales, uint64_t first, size_t count,
                 float* values) {
  if (const auto type = FloatTypeOf(scales.dtype)) {
    const size_t width = *type == FloatType::kF32 ? 4 : 2;
    kernels::Best().widen_f32(*type, scales.data.data() + first * width, count,
                              values);
    return;
  }
  const ByteScales& table = *ByteScalesOf(scales.dtype);
  const uint8_t* const bytes = scales.data.data() + first;
  for (size_t i = 0; i < count; ++i) values[i] = table[bytes[i]];
}

uint64_t CountOf(const Reference& reference) {
  return reference.data.size() / FindDType(reference.dtype)->block_bytes;
}

/// To BF16 or F16 and back, of what is at least 2^-14.
float RoundOne(FloatType type, float value) {
  if (type == FloatType::kF32) return value;
  const int cut = type == FloatType::kBF16 ? 16 : 13;
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7F800000) == 0x7F800000) return value;
  return std::bit_cast<float>(
      (bits + ((uint32_t{1} << (cut - 1)) - 1) + (bits >> cut & 1)) >>
      cut << cut);
}

absl::Status CheckRole(std::span<const Reference> references, uint8_t number,
                       Role role) {
  if (number >= references.size() || references[number].role != role) {
    return DataLoss("scaled: no reference ", int{number}, " of role ",
                    int{static_cast<uint8_t>(role)});
  }
  return absl::OkStatus();
}

}  // namespace

void WriteRecipe(const Recipe& recipe, Buffer* out) {
  ByteWriter writer(out);
  writer.Le(recipe.base);
  writer.Le(recipe.scale);
  writer.Le(recipe.global);
  writer.Le(recipe.zero);
  writer.Le(static_cast<uint8_t>(recipe.type));
  writer.Le(static_cast<uint8_t>(recipe.bits | (recipe.alternating ? 128 : 0)));
  writer.Le(static_cast<uint8_t>(
      static_cast<int>(recipe.use) | static_cast<int>(recipe.global_use) << 2 |
      static_cast<int>(recipe.steps) << 3 | (recipe.zero_first ? 32 : 0)));
  writer.Le(std::bit_cast<uint32_t>(recipe.factor));
  writer.Varint(recipe.scale_rows);
  writer.Varint(recipe.scale_columns);
  writer.Varint(recipe.scales_a_row);
  writer.Varint(recipe.global_rows);
  if (recipe.is_float()) return;
  writer.Varint(entropy::ZigZag(recipe.low));
  writer.Varint(entropy::ZigZag(recipe.high));
  writer.Varint(entropy::ZigZag(recipe.offset));
  writer.Varint(entropy::ZigZag(recipe.shift));
  writer.Le(
      static_cast<uint8_t>(recipe.zero_bits | (recipe.zero_down ? 128 : 0)));
}

absl::StatusOr<Recipe> ParseRecipe(ByteReader& reader) {
  Recipe recipe;
  for (uint8_t* const number :
       {&recipe.base, &recipe.scale, &recipe.global, &recipe.zero}) {
    ASSIGN_OR_RETURN(*number, reader.Le<uint8_t>());
    if (*number >= kMaxReferences &&
        (*number != kNone || number == &recipe.base)) {
      return reader.Error("reference ", int{*number});
    }
  }
  ASSIGN_OR_RETURN(const uint8_t type, reader.Le<uint8_t>());
  ASSIGN_OR_RETURN(const uint8_t stored, reader.Le<uint8_t>());
  ASSIGN_OR_RETURN(const uint8_t steps, reader.Le<uint8_t>());
  recipe.type = static_cast<CodeType>(type);
  recipe.bits = stored & 127;
  recipe.alternating = stored > 127;
  const bool bits_fit =
      recipe.type == CodeType::kE2M1 ? recipe.bits == 4
      : recipe.type < CodeType::kE2M1
          ? recipe.bits == 8
          : recipe.bits == 2 || recipe.bits == 4 || recipe.bits == 8;
  if (type >= kCodeTypes || !bits_fit ||
      (recipe.alternating && recipe.bits != 4)) {
    return reader.Error("codes of type ", int{type}, ", stored as ",
                        int{stored});
  }
  recipe.use = static_cast<ScaleUse>(steps & 3);
  recipe.global_use = static_cast<GlobalUse>(steps >> 2 & 1);
  recipe.steps = static_cast<FloatType>(steps >> 3 & 3);
  recipe.zero_first = (steps & 32) != 0;
  if ((steps & 3) == 3 || (steps >> 3 & 3) == 3 || steps > 63) {
    return reader.Error("arithmetic ", int{steps});
  }
  ASSIGN_OR_RETURN(const uint32_t factor, reader.Le<uint32_t>());
  recipe.factor = std::bit_cast<float>(factor);
  for (uint64_t* const count : {&recipe.scale_rows, &recipe.scale_columns,
                                &recipe.scales_a_row, &recipe.global_rows}) {
    ASSIGN_OR_RETURN(*count, reader.Varint(kMaxCount));
    if (*count == 0) return reader.Error("scales of no weights");
  }
  if (recipe.is_float()) {
    if (recipe.zero != kNone) return reader.Error("zero points of floats");
    return recipe;
  }
  const auto read = [&](int32_t most, int32_t* value) -> absl::Status {
    ASSIGN_OR_RETURN(const uint64_t coded,
                     reader.Varint(2 * static_cast<uint64_t>(most)));
    *value = entropy::UnZigZag(static_cast<uint32_t>(coded));
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(read(kMaxCode, &recipe.low));
  RETURN_IF_ERROR(read(kMaxCode, &recipe.high));
  RETURN_IF_ERROR(read(kMaxOffset, &recipe.offset));
  RETURN_IF_ERROR(read(kMaxCode, &recipe.shift));
  ASSIGN_OR_RETURN(const uint8_t zeros, reader.Le<uint8_t>());
  recipe.zero_bits = zeros & 127;
  recipe.zero_down = zeros > 127;
  const uint8_t bits = recipe.zero_bits;
  if (recipe.low > recipe.high ||
      (bits != 0 && bits != 2 && bits != 4 && bits != 8) ||
      (recipe.zero_down && bits == 0) ||
      (recipe.alternating && bits != 0 && bits != 4)) {
    return reader.Error("codes from ", recipe.low, " to ", recipe.high,
                        ", zero points ", int{zeros});
  }
  return recipe;
}

void UnpackCodes(const Recipe& recipe, const uint8_t* stored, size_t count,
                 uint8_t* codes) {
  switch (recipe.bits) {
    case 2:
      for (size_t i = 0; i < count / 4; ++i) {
        for (unsigned k = 0; k < 4; ++k) {
          codes[4 * i + k] = stored[i] >> (2 * k) & 3;
        }
      }
      return;
    case 4:
      for (size_t i = 0; i < count / 2; ++i) {
        codes[2 * i] = stored[i] & 15;
        codes[2 * i + 1] = stored[i] >> 4;
      }
      break;
    default:
      std::memcpy(codes, stored, count);
      return;
  }
  if (recipe.alternating) {
    for (size_t i = 0; i + 8 <= count; i += 8) {
      uint8_t in[8];
      std::memcpy(in, codes + i, 8);
      for (size_t k = 0; k < 8; ++k) codes[i + 2 * (k % 4) + k / 4] = in[k];
    }
  }
  if (recipe.is_float()) {
    for (size_t i = 0; i < count; ++i) {
      codes[i] = static_cast<uint8_t>((codes[i] & 7) | (codes[i] & 8) << 4);
    }
  }
}

void PackCodes(const Recipe& recipe, const uint8_t* codes, size_t count,
               uint8_t* stored) {
  if (recipe.bits == 8) {
    std::memcpy(stored, codes, count);
  } else if (recipe.bits == 2) {
    for (size_t i = 0; i < count / 4; ++i) {
      const uint8_t* const c = codes + 4 * i;
      stored[i] = static_cast<uint8_t>((c[0] & 3) | (c[1] & 3) << 2 |
                                       (c[2] & 3) << 4 | (c[3] & 3) << 6);
    }
  } else if (recipe.is_float()) {
    const auto nibble = [](uint8_t code) {
      return (code & 7) | (code >> 4 & 8);
    };
    for (size_t i = 0; i < count / 2; ++i) {
      stored[i] = static_cast<uint8_t>(nibble(codes[2 * i]) |
                                       nibble(codes[2 * i + 1]) << 4);
    }
  } else if (recipe.alternating) {
    for (size_t i = 0; i < count / 8; ++i) {
      const uint8_t* const c = codes + 8 * i;
      uint8_t* const to = stored + 4 * i;
      to[0] = static_cast<uint8_t>((c[0] & 15) | c[2] << 4);
      to[1] = static_cast<uint8_t>((c[4] & 15) | c[6] << 4);
      to[2] = static_cast<uint8_t>((c[1] & 15) | c[3] << 4);
      to[3] = static_cast<uint8_t>((c[5] & 15) | c[7] << 4);
    }
  } else {
    for (size_t i = 0; i < count / 2; ++i) {
      stored[i] =
          static_cast<uint8_t>((codes[2 * i] & 15) | codes[2 * i + 1] << 4);
    }
  }
}

Predictor::Predictor(const Recipe& recipe,
                     std::span<const Reference> references)
    : recipe_(&recipe), references_(references) {
  rule_.divides = recipe.use == ScaleUse::kDivide;
  rule_.steps = recipe.steps;
  rule_.is_float = recipe.is_float();
  if (rule_.is_float) {
    const FloatCode& code = kFloatCodes[static_cast<size_t>(recipe.type)];
    rule_.mantissa_bits = code.mantissa_bits;
    rule_.bias = code.bias;
    rule_.has_negative_zero = code.has_negative_zero;
    rule_.most = code.most;
  } else {
    rule_.zero_first = recipe.zero_first;
    rule_.low = static_cast<float>(recipe.low);
    rule_.high = static_cast<float>(recipe.high);
    rule_.shift = recipe.shift;
  }
}

absl::StatusOr<Predictor> Predictor::Make(const Recipe& recipe,
                                          std::span<const Reference> references,
                                          uint64_t row, uint64_t position,
                                          size_t count) {
  Predictor predictor(recipe, references);
  RETURN_IF_ERROR(CheckRole(references, recipe.base, Role::kBase));
  const Reference& base = references[recipe.base];
  const std::optional<FloatType> type = FloatTypeOf(base.dtype);
  if (!type.has_value() ||
      base.data.size() != count * (*type == FloatType::kF32 ? 4 : 2)) {
    return DataLoss("scaled: a base of ", base.data.size(), " bytes beside ",
                    count, " weights");
  }
  uint64_t end;
  if (!CheckedAdd(position, count, &end) || end > kMaxCount || count == 0) {
    return DataLoss("scaled: weights beyond any tensor");
  }
  predictor.row_ = row == 0 ? kMaxCount : row;
  predictor.position_ = position;

  // The last scale that is looked at.
  const uint64_t line = (end - 1) / predictor.row_ / recipe.scale_rows;
  const uint64_t columns = std::min(predictor.row_, end);
  const uint64_t across = (columns - 1) / recipe.scale_columns;
  uint64_t last;
  if (!CheckedMul(line, recipe.scales_a_row, &last) ||
      !CheckedAdd(last, across, &last)) {
    return DataLoss("scaled: scales beyond any tensor");
  }
  if (recipe.scale != kNone) {
    RETURN_IF_ERROR(CheckRole(references, recipe.scale, Role::kScale));
    const Reference& scale = references[recipe.scale];
    if (!IsScaleType(scale.dtype) || last >= CountOf(scale)) {
      return DataLoss("scaled: no scale number ", last);
    }
  }
  if (recipe.global != kNone) {
    RETURN_IF_ERROR(CheckRole(references, recipe.global, Role::kScale));
    const Reference& global = references[recipe.global];
    if (!IsScaleType(global.dtype) ||
        (end - 1) / predictor.row_ / recipe.global_rows >= CountOf(global)) {
      return DataLoss("scaled: a global scale is missing");
    }
  }
  if (recipe.zero != kNone) {
    RETURN_IF_ERROR(CheckRole(references, recipe.zero, Role::kZero));
    const Reference& zero = references[recipe.zero];
    uint64_t last_zero = last;
    if (recipe.zero_bits != 0) {
      const uint64_t per_element = 32 / recipe.zero_bits;
      last_zero = recipe.zero_down
                      ? line / per_element * recipe.scales_a_row + across
                      : last / per_element;
    }
    const bool is_known = recipe.zero_bits != 0 ? zero.dtype == DType::kI32
                                                : zero.dtype == DType::kI8 ||
                                                      zero.dtype == DType::kU8;
    if (!is_known || last_zero >= CountOf(zero)) {
      return DataLoss("scaled: no zero point number ", last_zero);
    }
  }
  return predictor;
}

void Predictor::Scales(uint64_t line, uint64_t column, size_t count,
                       float* by) const {
  const Recipe& recipe = *recipe_;
  const Reference* const scales = At(recipe.scale);
  float global = 1;
  if (const Reference* const of = At(recipe.global)) {
    WidenScales(*of, line / recipe.global_rows, 1, &global);
  }
  const auto finish = [&](float scale) {
    scale *= recipe.factor;
    if (recipe.global != kNone) {
      scale = recipe.global_use == GlobalUse::kMultiplies ? scale * global
                                                          : scale / global;
    }
    return recipe.use == ScaleUse::kReciprocal
               ? RoundOne(recipe.steps, 1.0F / scale)
               : scale;
  };
  if (scales == nullptr) {
    std::fill_n(by, count, finish(1));
    return;
  }
  const uint64_t first = column / recipe.scale_columns;
  const uint64_t last = (column + count - 1) / recipe.scale_columns;
  const auto n = static_cast<size_t>(last - first + 1);
  float values[kPiece];
  WidenScales(*scales, line / recipe.scale_rows * recipe.scales_a_row + first,
              n, values);
  for (size_t k = 0; k < n; ++k) values[k] = finish(values[k]);
  size_t done = 0;
  for (size_t k = 0; k < n; ++k) {
    const auto end = static_cast<size_t>(std::min<uint64_t>(
        (first + k + 1) * recipe.scale_columns - column, count));
    for (; done < end; ++done) by[done] = values[k];
  }
}

float Predictor::ZeroAt(uint64_t scale_line, uint64_t scale_column) const {
  const Recipe& recipe = *recipe_;
  const Reference& zeros = references_[recipe.zero];
  const uint64_t number = scale_line * recipe.scales_a_row + scale_column;
  int32_t zero;
  if (recipe.zero_bits == 0) {
    const uint8_t byte = zeros.data[number];
    zero = zeros.dtype == DType::kI8 ? static_cast<int8_t>(byte) : byte;
  } else {
    const unsigned bits = recipe.zero_bits;
    const uint64_t per_element = 32 / bits;
    uint64_t element = number / per_element;
    uint64_t part = number % per_element;
    if (recipe.zero_down) {
      element = scale_line / per_element * recipe.scales_a_row + scale_column;
      part = scale_line % per_element;
    } else if (recipe.alternating) {
      // The order in which the parts of eight are stored.
      constexpr std::array<uint8_t, 8> kPlaces = {0, 4, 1, 5, 2, 6, 3, 7};
      part = kPlaces[part % 8];
    }
    zero = static_cast<int32_t>(
        LoadLe<uint32_t>(zeros.data.data() + 4 * element) >> (part * bits) &
        ((uint32_t{1} << bits) - 1));
  }
  return static_cast<float>(zero + recipe.offset);
}

void Predictor::Zeros(uint64_t line, uint64_t column, size_t count,
                      float* zeros) const {
  const Recipe& recipe = *recipe_;
  if (recipe.zero == kNone) {
    std::fill_n(zeros, count, static_cast<float>(recipe.offset));
    return;
  }
  size_t done = 0;
  while (done < count) {
    const uint64_t number = (column + done) / recipe.scale_columns;
    const auto end = static_cast<size_t>(std::min<uint64_t>(
        (number + 1) * recipe.scale_columns - column, count));
    const float zero = ZeroAt(line / recipe.scale_rows, number);
    for (; done < end; ++done) zeros[done] = zero;
  }
}

void Predictor::Predict(size_t begin, size_t count, uint8_t* codes,
                        uint8_t* contexts) const {
  const kernels::Table& kernel = kernels::Best();
  const Reference& base = references_[recipe_->base];
  const FloatType type = *FloatTypeOf(base.dtype);
  alignas(64) float weights[kPiece];
  alignas(64) float by[kPiece];
  alignas(64) float zeros[kPiece];
  kernel.widen_f32(type,
                   base.data.data() + begin * (type == FloatType::kF32 ? 4 : 2),
                   count, weights);
  for (size_t done = 0; done < count;) {
    const uint64_t place = position_ + begin + done;
    const uint64_t line = place / row_;
    const uint64_t column = place % row_;
    const auto run =
        static_cast<size_t>(std::min<uint64_t>(count - done, row_ - column));
    Scales(line, column, run, by + done);
    if (!rule_.is_float) Zeros(line, column, run, zeros + done);
    done += run;
  }
  kernel.code_weights(rule_, weights, by, zeros, count, codes, contexts);
}

}  // namespace zipllm::codecs::scaled
