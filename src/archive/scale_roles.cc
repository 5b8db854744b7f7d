#include "archive/scale_roles.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <map>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/dtype.h"
#include "codecs/reference/casts.h"

namespace zipllm::archive {
namespace {

/// Suffixes of the names of tensors that belong together; an empty one: there
/// is no such tensor.
struct Naming {
  std::string_view codes;
  std::string_view scale;
  std::string_view global_scale = "";
  std::string_view zero = "";
  bool divides_by_global = false;
};
/// The first whose codes and scale are there counts.
constexpr std::array kNamings = {
    // compressed-tensors
    Naming{"weight_packed", "weight_scale", "weight_global_scale",
           "weight_zero_point", true},
    // modelopt; FP8 and INT8 of compressed-tensors and others
    Naming{"weight", "weight_scale", "weight_scale_2", "weight_zero_point"},
    // DeepSeek
    Naming{"weight", "weight_scale_inv"},
    Naming{"weight", "scale"},
    // gpt-oss
    Naming{"_blocks", "_scales"},
    // GPTQ, AWQ
    Naming{"qweight", "scales", "", "qzeros"},
    // torchao
    Naming{"weight_qdata", "weight_scale", "weight_per_tensor_scale",
           "weight_zero_point"},
    Naming{"weight:qdata", "weight:scale", "weight:per_tensor_scale",
           "weight:zero_point"},
    // whatever has "_scale" behind its name (stacks of experts)
    Naming{"", "_scale_inv"},
    Naming{"", "_scale", "_scale_2", "_zero_point"},
};

uint64_t ElementsOf(const std::vector<uint64_t>& shape) {
  uint64_t count = 1;
  for (const uint64_t n : shape) count *= n;
  return count;
}

uint64_t Up(uint64_t count, uint64_t by) { return (count + by - 1) / by; }

/// How many of `count` rows or columns each of `parts` has; 0: they are not so
/// parted.
uint64_t PartOf(uint64_t count, uint64_t parts) {
  constexpr uint64_t kUsual = 128;
  if (parts == 0 || parts > count) return 0;
  if (parts > 1 && Up(count, kUsual) == parts) return kUsual;
  return count % parts == 0 ? count / parts : 0;
}

bool IsFloat8(DType dtype) {
  return dtype == DType::kF8E4M3 || dtype == DType::kF8E5M2 ||
         dtype == DType::kF8E4M3FNUZ || dtype == DType::kF8E5M2FNUZ;
}

class Finder {
 public:
  Finder(const std::vector<LineageTensor>& tensors, LineageReader& reader)
      : tensors_(tensors), reader_(reader) {
    for (size_t i = 0; i < tensors.size(); ++i) {
      by_name_.try_emplace(tensors[i].name, i);
    }
  }

  std::optional<QuantizedWeights> Find(size_t codes) {
    for (const Naming& naming : kNamings) {
      const std::string& name = tensors_[codes].name;
      if (!name.ends_with(naming.codes)) continue;
      stem_ = name.substr(0, name.size() - naming.codes.size());
      QuantizedWeights weights;
      weights.codes = codes;
      weights.scale = Named(naming.scale);
      if (!weights.scale.has_value()) continue;
      weights.global_scale = Named(naming.global_scale);
      weights.zero = Named(naming.zero);
      weights.divides_by_global = naming.divides_by_global;
      const bool found =
          naming.codes == "qweight" ? Transposed(&weights) : InRows(&weights);
      if (found) return weights;
    }
    return std::nullopt;
  }

 private:
  std::optional<size_t> Named(std::string_view suffix) const {
    if (suffix.empty()) return std::nullopt;
    const auto found = by_name_.find(stem_ + std::string(suffix));
    if (found == by_name_.end()) return std::nullopt;
    return found->second;
  }

  /// A tensor of a few integers.
  std::vector<int64_t> Integers(size_t tensor) const {
    constexpr uint64_t kMost = uint64_t{1} << 20;
    const LineageTensor& info = tensors_[tensor];
    const bool wide = info.dtype == DType::kI64;
    if ((!wide && info.dtype != DType::kI32) || info.elements > kMost) {
      return {};
    }
    const size_t width = wide ? 8 : 4;
    std::vector<uint8_t> bytes(info.elements * width);
    if (!reader_.Read(tensor, 0, bytes)) return {};
    std::vector<int64_t> integers;
    for (size_t i = 0; i < info.elements; ++i) {
      const uint8_t* const at = &bytes[i * width];
      integers.push_back(wide ? LoadLe<int64_t>(at) : LoadLe<int32_t>(at));
    }
    return integers;
  }

  /// Sets how many codes of so many bits an element holds.
  void SetBits(QuantizedWeights* weights, unsigned bits) const {
    const DType dtype = tensors_[weights->codes].dtype;
    weights->bits = static_cast<uint8_t>(bits);
    weights->per_element =
        static_cast<uint16_t>(8 * FindDType(dtype)->block_bytes / bits);
  }

  /// Sets which weights a scale is for; false if it does not fit them.
  bool SetScales(QuantizedWeights* weights) const {
    const std::vector<uint64_t>& shape = tensors_[*weights->scale].shape;
    const uint64_t columns = weights->shape.back();
    const uint64_t rows = weights->weights() / std::max<uint64_t>(columns, 1);
    if (rows == 0 || columns == 0) return false;
    const uint64_t scales = ElementsOf(shape);
    uint64_t across = shape.empty() ? 1 : shape.back();
    // Of one dimension: by rows.
    if (shape.size() == 1 && weights->interleaved == 1 &&
        (scales == rows || scales == weights->shape[0])) {
      across = 1;
    }
    if (across == 0) return false;
    weights->scale_columns = PartOf(columns, across);
    weights->scale_rows = PartOf(rows, scales / across);
    weights->scales_a_row = across;
    return weights->scale_columns != 0 && weights->scale_rows != 0;
  }

  /// Codes lie row by row as the weights do.
  bool InRows(QuantizedWeights* weights) const {
    const LineageTensor& codes = tensors_[weights->codes];
    const LineageTensor& scale = tensors_[*weights->scale];
    weights->shape = codes.shape;
    if (codes.shape.empty() || codes.elements == 0) return false;
    const bool narrow_scales = scale.dtype == DType::kU8 ||
                               scale.dtype == DType::kF8E8M0 ||
                               scale.dtype == DType::kF8E4M3;
    switch (codes.dtype) {
      case DType::kF8E4M3:
        weights->type = CodeType::kE4M3;
        break;
      case DType::kF8E5M2:
        weights->type = CodeType::kE5M2;
        break;
      case DType::kF8E4M3FNUZ:
        weights->type = CodeType::kE4M3Fnuz;
        break;
      case DType::kF8E5M2FNUZ:
        weights->type = CodeType::kE5M2Fnuz;
        break;
      case DType::kI8:
        break;
      case DType::kU8: {
        if (!narrow_scales) {
          if (!weights->zero.has_value()) return false;
          break;
        }
        // NVFP4, MXFP4. gpt-oss has blocks as a dimension of their own.
        weights->type = CodeType::kE2M1;
        SetBits(weights, 4);
        if (stem_ + "_blocks" == codes.name) {
          if (codes.shape.size() < 2) return false;
          weights->shape.pop_back();
          weights->shape.back() *= codes.shape.back();
        }
        weights->shape.back() *= weights->per_element;
        break;
      }
      case DType::kI32:
        if (!SetPacked(weights)) return false;
        break;
      default:
        return false;
    }
    return SetScales(weights);
  }

  /// compressed-tensors' integers, 2 to 16 an element.
  bool SetPacked(QuantizedWeights* weights) const {
    const LineageTensor& codes = tensors_[weights->codes];
    uint64_t per_element = 8;
    if (const auto shape = Named("weight_shape"); shape.has_value()) {
      const std::vector<int64_t> sizes = Integers(*shape);
      if (sizes.empty() || sizes.back() <= 0) return false;
      per_element =
          std::bit_ceil(Up(static_cast<uint64_t>(sizes.back()),
                           std::max<uint64_t>(codes.shape.back(), 1)));
    }
    if (per_element < 4 || per_element > 16) return false;
    SetBits(weights, static_cast<unsigned>(32 / per_element));
    weights->shape.back() *= per_element;
    weights->offset = 1 << (weights->bits - 1);
    if (weights->zero.has_value() &&
        tensors_[*weights->zero].dtype == DType::kI32) {
      // Both have the same offset.
      weights->offset = 0;
      weights->zero_bits = weights->bits;
      weights->zero_down = true;
    }
    return true;
  }

  /// GPTQ and AWQ: rows are the source's columns.
  bool Transposed(QuantizedWeights* weights) const {
    const LineageTensor& codes = tensors_[weights->codes];
    const LineageTensor& scale = tensors_[*weights->scale];
    if (codes.dtype != DType::kI32 || codes.shape.size() != 2 ||
        scale.shape.size() != 2 || scale.elements == 0 ||
        !weights->zero.has_value()) {
      return false;
    }
    const LineageTensor& zero = tensors_[*weights->zero];
    const uint64_t out = scale.shape[1];
    if (zero.dtype != DType::kI32 || zero.elements == 0 ||
        zero.shape.size() != 2 || out % zero.shape[1] != 0) {
      return false;
    }
    const uint64_t per_element = out / zero.shape[1];
    if (per_element < 4 || per_element > 16 ||
        !std::has_single_bit(per_element)) {
      return false;
    }
    SetBits(weights, static_cast<unsigned>(32 / per_element));
    weights->zero_bits = weights->bits;
    if (codes.shape[1] == out) {
      weights->shape = {codes.shape[0] * per_element, out};
      weights->interleaved = static_cast<uint16_t>(per_element);
      // Its first version stores zero points less 1.
      std::array<uint8_t, 4> first;
      const bool is_symmetric_2 = weights->bits == 4 &&
                                  reader_.Read(*weights->zero, 0, first) &&
                                  LoadLe<uint32_t>(first.data()) == 0x88888888;
      weights->offset = is_symmetric_2 ? 0 : 1;
    } else if (codes.shape[1] * per_element == out) {
      weights->shape = {codes.shape[0], out};
      weights->alternating = per_element == 8;
    } else {
      return false;
    }
    if (!SetScales(weights)) return false;
    // Groups may be of columns that are no neighbours.
    if (const auto groups = Named("g_idx"); groups.has_value()) {
      const std::vector<int64_t> of = Integers(*groups);
      for (size_t i = 0; i < of.size(); ++i) {
        if (of[i] != static_cast<int64_t>(i / weights->scale_rows)) {
          return false;
        }
      }
    }
    return true;
  }

  const std::vector<LineageTensor>& tensors_;
  LineageReader& reader_;
  std::map<std::string, size_t> by_name_;
  std::string stem_;  // of the name of the tensor that is looked at
};

/// Whether an element of the type may hold codes.
bool MayBeCodes(DType dtype) {
  return IsFloat8(dtype) || dtype == DType::kI8 || dtype == DType::kU8 ||
         dtype == DType::kI32;
}

float Float(uint32_t bits) { return std::bit_cast<float>(bits); }

/// A scale; NaN where it is of no type for scales.
float ScaleOf(DType dtype, const uint8_t* element) {
  if (dtype == DType::kU8 || dtype == DType::kF8E8M0) {
    return Float(element[0] == 0 ? 0x00400000 : uint32_t{element[0]} << 23);
  }
  if (!codecs::CanCast(dtype, DType::kF32)) return Float(0x7FC00000);
  std::array<uint8_t, 4> wide;
  codecs::Cast(dtype, DType::kF32, element, 1, wide.data(), nullptr);
  return Float(LoadLe<uint32_t>(wide.data()));
}

/// A float of few bits: sign, exponent, mantissa. Of what is no number, some
/// large one.
float SmallFloat(uint32_t code, int exponent_bits, int mantissa_bits,
                 int bias) {
  const uint32_t top = code >> (exponent_bits + mantissa_bits) & 1;
  const uint32_t magnitude =
      code & ((uint32_t{1} << (exponent_bits + mantissa_bits)) - 1);
  // As a float whose exponent is too small, set right by a product.
  const float value = Float(magnitude << (23 - mantissa_bits)) *
                      Float(static_cast<uint32_t>(127 + 127 - bias) << 23);
  return top != 0 ? -value : value;
}

float CodeValue(CodeType type, uint32_t code) {
  switch (type) {
    case CodeType::kE4M3:
      return SmallFloat(code, 4, 3, 7);
    case CodeType::kE5M2:
      return SmallFloat(code, 5, 2, 15);
    case CodeType::kE4M3Fnuz:
      return SmallFloat(code, 4, 3, 8);
    case CodeType::kE5M2Fnuz:
      return SmallFloat(code, 5, 2, 16);
    case CodeType::kE2M1:
      return SmallFloat(code, 2, 1, 1);
    case CodeType::kInteger:
      break;
  }
  return 0;
}

}  // namespace

std::vector<QuantizedWeights> FindScales(
    const std::vector<LineageTensor>& tensors, LineageReader& reader) {
  Finder finder(tensors, reader);
  std::vector<QuantizedWeights> found;
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (!MayBeCodes(tensors[i].dtype)) continue;
    if (std::optional<QuantizedWeights> weights = finder.Find(i)) {
      found.push_back(std::move(*weights));
    }
  }
  return found;
}

uint16_t SixteenthsOf(const QuantizedWeights& weights,
                      const std::vector<LineageTensor>& tensors) {
  uint64_t bits = uint64_t{weights.bits} * weights.weights();
  for (const auto& beside : {weights.scale, weights.zero}) {
    if (!beside.has_value()) continue;
    const LineageTensor& tensor = tensors[*beside];
    bits += 8 * tensor.elements * FindDType(tensor.dtype)->block_bytes;
  }
  return static_cast<uint16_t>(
      std::min<uint64_t>(16 * bits / weights.weights(), UINT16_MAX));
}

WeightNumbers::Elements::Elements(std::optional<size_t> tensor,
                                  const std::vector<LineageTensor>& tensors,
                                  LineageReader& reader)
    : reader_(&reader) {
  if (!tensor.has_value()) return;
  tensor_ = *tensor;
  dtype_ = tensors[tensor_].dtype;
  count_ = tensors[tensor_].elements;
  width_ = FindDType(dtype_)->block_bytes;
}

const uint8_t* WeightNumbers::Elements::At(uint64_t index) {
  constexpr uint64_t kPiece = 4096;
  if (index >= count_) return nullptr;
  if (index < begin_ || (index - begin_) * width_ >= bytes_.size()) {
    begin_ = index;
    bytes_.resize(std::min(kPiece, count_ - index) * width_);
    if (!reader_->Read(tensor_, begin_, bytes_)) {
      bytes_.clear();
      return nullptr;
    }
  }
  return &bytes_[(index - begin_) * width_];
}

WeightNumbers::WeightNumbers(const QuantizedWeights& weights,
                             const std::vector<LineageTensor>& tensors,
                             LineageReader& reader)
    : weights_(weights),
      columns_(std::max<uint64_t>(weights.shape.back(), 1)),
      rows_(std::max<uint64_t>(weights.weights() / columns_, 1)),
      codes_(weights.codes, tensors, reader),
      scales_(weights.scale, tensors, reader),
      globals_(weights.global_scale, tensors, reader),
      zeros_(weights.zero, tensors, reader) {}

bool WeightNumbers::ReadFactor(uint64_t row, uint64_t scale, float* factor) {
  *factor = 1;
  if (weights_.scale.has_value()) {
    const uint8_t* const at = scales_.At(scale);
    if (at == nullptr) return false;
    *factor = ScaleOf(scales_.dtype(), at);
  }
  if (weights_.global_scale.has_value()) {
    const uint64_t number =
        row / Up(rows_, std::max<uint64_t>(globals_.count(), 1));
    const uint8_t* const at = globals_.At(number);
    if (at == nullptr) return false;
    const float global = ScaleOf(globals_.dtype(), at);
    *factor = weights_.divides_by_global ? *factor / global : *factor * global;
  }
  return true;
}

bool WeightNumbers::ReadZero(uint64_t row, uint64_t scale, int32_t* zero) {
  *zero = weights_.offset;
  if (!weights_.zero.has_value()) return true;
  const unsigned bits = weights_.zero_bits;
  if (bits == 0) {
    const uint8_t* const at = zeros_.At(scale);
    if (at == nullptr) return false;
    switch (zeros_.dtype()) {
      case DType::kI8:
        *zero += static_cast<int8_t>(*at);
        return true;
      case DType::kU8:
        *zero += *at;
        return true;
      case DType::kI32:
        *zero += LoadLe<int16_t>(at);
        return true;
      default:
        return true;
    }
  }
  const uint64_t per_element = 32 / bits;
  uint64_t element = scale / per_element;
  uint64_t part = scale % per_element;
  if (weights_.zero_down) {
    const uint64_t line = row / weights_.scale_rows;
    element = line / per_element * weights_.scales_a_row +
              scale % weights_.scales_a_row;
    part = line % per_element;
  } else if (weights_.alternating) {
    part = part / 2 + part % 2 * 4;
  }
  const uint8_t* const at = zeros_.At(element);
  if (at == nullptr) return false;
  *zero += static_cast<int32_t>(LoadLe<uint32_t>(at) >> (part * bits) &
                                ((uint32_t{1} << bits) - 1));
  return true;
}

bool WeightNumbers::Read(uint64_t begin, std::span<float> out) {
  const unsigned bits = weights_.bits;
  const uint32_t mask = (uint32_t{1} << bits) - 1;
  uint64_t known = UINT64_MAX;  // number of the scale that is known
  float factor = 1;
  int32_t zero = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    const uint64_t row = (begin + i) / columns_;
    const uint64_t column = (begin + i) % columns_;
    const uint64_t scale = row / weights_.scale_rows * weights_.scales_a_row +
                           column / weights_.scale_columns;
    if (scale != known) {
      if (!ReadFactor(row, scale, &factor) || !ReadZero(row, scale, &zero)) {
        return false;
      }
      known = scale;
    }
    uint64_t element;
    uint64_t part;
    if (weights_.interleaved != 1) {
      element = row / weights_.interleaved * columns_ + column;
      part = row % weights_.interleaved;
    } else {
      element = (begin + i) / weights_.per_element;
      part = (begin + i) % weights_.per_element;
      if (weights_.alternating) part = part / 2 + part % 2 * 4;
    }
    const uint8_t* const at = codes_.At(element);
    if (at == nullptr) return false;
    uint32_t code = *at;
    if (weights_.per_element != 1) {
      code = codes_.dtype() == DType::kI32
                 ? LoadLe<uint32_t>(at) >> (part * bits)
                 : code >> (part * bits);
      code &= mask;
    }
    if (weights_.type != CodeType::kInteger) {
      out[i] = CodeValue(weights_.type, code) * factor;
      continue;
    }
    const int32_t number = codes_.dtype() == DType::kI8
                               ? static_cast<int8_t>(code)
                               : static_cast<int32_t>(code);
    out[i] = static_cast<float>(number - zero) * factor;
  }
  return true;
}

}  // namespace zipllm::archive
