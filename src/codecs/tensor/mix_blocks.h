// The models of codec 10 for ggml's blocks: first the fields that scale, block
// by block, then the quants as the weights that they stand for.
#ifndef ZIPLLM_CODECS_TENSOR_MIX_BLOCKS_H_
#define ZIPLLM_CODECS_TENSOR_MIX_BLOCKS_H_

#include <array>
#include <cstdint>
#include <vector>

#include "codecs/quant/ggml_blocks.h"
#include "codecs/tensor/mix_models.h"

namespace zipllm::codecs::mix {

/// The type's description where quants are weights by FP16 scales; null for
/// others.
inline const quant::BlockType* FindBlockType(DType dtype) {
  for (const quant::BlockType& type : quant::kBlockTypes) {
    if (type.dtype == dtype && type.quants.count != 0 &&
        type.quants.scale == quant::Scale::kHalf) {
      return &type;
    }
  }
  return nullptr;
}

/// Blocks as fields: symbols[f][block * field.count + i].
using Symbols = std::vector<std::vector<uint8_t>>;

inline Symbols MakeSymbols(const quant::BlockType& type, size_t blocks) {
  constexpr size_t kSlack = 64;  // what splitting fields may touch
  Symbols symbols(type.fields);
  for (size_t f = 0; f < type.fields; ++f) {
    symbols[f].resize(blocks * type.field[f].count + kSlack);
  }
  return symbols;
}

/// An FP16 in units of 2^-24.
inline int64_t HalfUnits(uint32_t half) {
  const uint32_t exponent = half >> 10 & 31;
  const int64_t mantissa = half & 1023;
  const int64_t units =
      exponent == 0 ? mantissa : (mantissa | 1024) << (exponent - 1);
  return half >> 15 ? -units : units;
}

/// Non-linear quants: IQ4_NL and IQ4_XS.
inline constexpr std::array<int8_t, 16> kNonLinear = {
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/// The weight of a quant: number * step + offset, the number being that of its
/// level.
struct Weights {
  Fixed step = 0;
  Fixed offset = 0;
};

/// What a type's quants mean.
class Meaning {
 public:
  Meaning(const quant::BlockType& type, int unit) : type_(type), unit_(unit) {
    const quant::Field& field = type.field[type.fields - 1u];
    bits_ = field.bits;
    const int levels = 1 << bits_;
    const bool centred =
        type.quants.linear || type.quants.sub_scale == quant::SubScale::kSigned;
    for (int level = 0; level < levels; ++level) {
      numbers_[static_cast<size_t>(level)] = static_cast<int16_t>(
          IsNonLinear() ? kNonLinear[static_cast<size_t>(level)]
          : centred     ? level - levels / 2
                        : level);
    }
  }
  int bits() const { return bits_; }
  /// Levels ascend with the numbers; bytes are in two's complement.
  uint32_t LevelOf(uint32_t symbol) const {
    return bits_ == 8 ? symbol ^ 128 : symbol;
  }
  int64_t NumberOf(uint32_t level) const { return numbers_[level]; }
  /// Twice the number between `level` - 1 and `level`.
  int64_t TwiceBound(uint32_t level) const {
    return int64_t{numbers_[level]} + numbers_[level - 1];
  }
  /// Of the quants of group `group` of block `block`.
  Weights WeightsOf(const Symbols& symbols, size_t block, size_t group) const {
    const quant::Quants& quants = type_.quants;
    const int64_t d = Half(symbols, quants.d, block);
    int64_t scale = 1;
    if (quants.sub_scale != quant::SubScale::kNone) {
      scale = Sub(symbols, quants.s, block, group);
      if (quants.sub_scale == quant::SubScale::kSigned) {
        scale = static_cast<int8_t>(scale);
      } else if (quants.sub_scale == quant::SubScale::kMinus32) {
        scale -= 32;
      }
    }
    int64_t offset = 0;
    if (quants.dmin >= 0) {
      offset = Half(symbols, quants.dmin, block);
      if (quants.m >= 0) offset *= -Sub(symbols, quants.m, block, group);
    }
    return {ToFixed(d * scale), ToFixed(offset)};
  }

 private:
  bool IsNonLinear() const {
    return type_.dtype == DType::kGgmlIQ4NL || type_.dtype == DType::kGgmlIQ4XS;
  }
  static int64_t Half(const Symbols& symbols, int field, size_t block) {
    const auto f = static_cast<size_t>(field);
    return HalfUnits(uint32_t{symbols[f][block]} << 8 | symbols[f + 1][block]);
  }
  int64_t Sub(const Symbols& symbols, int field, size_t block,
              size_t group) const {
    const auto f = static_cast<size_t>(field);
    return symbols[f][block * type_.field[f].count + group];
  }
  Fixed ToFixed(int64_t units) const {
    const int shift = kUnitBits - unit_;
    if (shift <= 0) {
      return std::clamp<Fixed>(units >> -shift, -kFixedMax, kFixedMax);
    }
    const Fixed limit = kFixedMax >> shift;
    return std::clamp<Fixed>(units, -limit, limit) * (Fixed{1} << shift);
  }

  const quant::BlockType& type_;
  int unit_;
  int bits_;
  std::array<int16_t, 256> numbers_{};
};

/// Codes the fields that scale: a symbol's bits from the top, by what stood
/// there in the block before and in the one above, and by the hint.
template <class Coder>
class SideModels {
 public:
  explicit SideModels(const quant::BlockType& type)
      : type_(type),
        mixer_(type.fields * 8, {16000, 16000, 16000, 16000, 16000}, 15) {
    for (size_t f = 0; f + 1 < type.fields; ++f) {
      for (auto& models : models_[f]) models.resize(size_t{1} << 16);
    }
  }
  void Code(Coder& coder, Symbols& symbols, size_t block, size_t row_blocks) {
    for (size_t f = 0; f + 1 < type_.fields; ++f) {
      for (size_t i = 0; i < type_.field[f].count; ++i) {
        CodeSymbol(coder, symbols, f, i, block, row_blocks);
      }
    }
  }

 private:
  static constexpr size_t kInputs = 5;

  void CodeSymbol(Coder& coder, Symbols& symbols, size_t f, size_t i,
                  size_t block, size_t row_blocks) {
    const quant::Field& field = type_.field[f];
    std::vector<uint8_t>& here = symbols[f];
    const size_t at = block * field.count + i;
    uint32_t hint = 0;
    if (field.hint.field >= 0) {
      const auto source = static_cast<size_t>(field.hint.field);
      const size_t count = type_.field[source].count;
      hint = symbols[source][block * count + i * count / field.count];
    }
    // Of the field before in the block, where it has as many elements.
    const uint32_t beside = f > 0 && type_.field[f - 1].count == field.count
                                ? symbols[f - 1][at]
                                : static_cast<uint32_t>(i);
    const uint32_t contexts[kInputs] = {
        beside, hint, at >= field.count ? here[at - field.count] : 0u,
        row_blocks != 0 && block >= row_blocks
            ? here[at - row_blocks * field.count]
            : 0u,
        at > 0 ? here[at - 1] : 0u};
    uint32_t node = 1;
    for (int b = field.bits - 1; b >= 0; --b) {
      typename entropy::Mixer<kInputs>::Inputs inputs;
      entropy::AdaptiveBit* used[kInputs];
      for (size_t k = 0; k < kInputs; ++k) {
        used[k] = &models_[f][k][contexts[k] << 8 | node];
        inputs[k] = tables_.stretch[used[k]->p16() >> 4];
      }
      const int32_t mixed = mixer_.Mix(inputs, f * 8 + static_cast<size_t>(b));
      const uint32_t p = tables_.squash[mixed + 2048];
      const bool bit =
          coder.Code((here[at] >> b) & 1, entropy::ClampProbability(p));
      mixer_.Update(p, bit);
      for (entropy::AdaptiveBit* model : used) {
        model->Update(tables_, bit, 255);
      }
      node = node << 1 | bit;
    }
    here[at] = static_cast<uint8_t>(node - (1u << field.bits));
  }

  const quant::BlockType& type_;
  const entropy::MixingTables& tables_ = entropy::GetMixingTables();
  entropy::Mixer<kInputs> mixer_;
  std::array<std::vector<entropy::AdaptiveBit>, kInputs>
      models_[quant::kMaxFields];
};

/// Codes quants: which half of the levels, and so on down.
template <class Coder>
class QuantModels {
 public:
  QuantModels(const quant::BlockType& type, const Params& params,
              const Grid& grid, size_t blocks)
      : type_(type),
        meaning_(type, params.unit),
        experts_(params, grid.columns, kNodes,
                 {12000, 12000, 8000, 8000, 4000, 4000, 4000, 14000}),
        levels_(2 * 256),
        places_(kSeen * kPlaces * 256),
        seen_(blocks * type.quants.count / type.quants.group) {}

  /// Codes the quant at element `i` of the block, in `column` of the grid.
  uint8_t Code(Coder& coder, const Symbols& symbols, uint64_t i, size_t column,
               uint8_t symbol);
  void BeginLine() { experts_.BeginLine(); }
  void EndLine() { experts_.EndLine(); }
  void Skip(size_t column) { experts_.Skip(column); }

 private:
  static constexpr size_t kTop = 64;
  static constexpr size_t kNodes = kTop + 8;
  static constexpr size_t kSeen = 4;
  static constexpr size_t kPlaces = 32;

  const quant::BlockType& type_;
  Meaning meaning_;
  Experts<Coder, 2> experts_;
  std::vector<entropy::AdaptiveBit> levels_;
  std::vector<entropy::AdaptiveBit> places_;
  std::vector<uint8_t> seen_;  // by group: bit a, one of anchor a
};

template <class Coder>
uint8_t QuantModels<Coder>::Code(Coder& coder, const Symbols& symbols,
                                 uint64_t i, size_t column, uint8_t symbol) {
  const quant::Quants& quants = type_.quants;
  const size_t block = i / quants.count;
  const size_t place = i % quants.group;
  const size_t group = i % quants.count / quants.group;
  uint8_t& seen = seen_[i / quants.group];
  const Weights weights = meaning_.WeightsOf(symbols, block, group);
  experts_.Begin(column);
  // Where the step is negative, levels are numbered from the other end.
  const int bits = meaning_.bits();
  const uint32_t last = (1u << bits) - 1;
  const bool down = weights.step < 0;
  const uint32_t wanted = meaning_.LevelOf(symbol) ^ (down ? last : 0);
  uint32_t level = 0;
  for (int b = bits - 1; b >= 0; --b) {
    const uint32_t middle = level | 1u << b;
    const int64_t twice =
        meaning_.TwiceBound(down ? last + 1 - middle : middle);
    const Fixed bound = ((weights.step * twice) >> 1) + weights.offset;
    const size_t node = (size_t{1} << (bits - 1 - b)) + (level >> (b + 1));
    const bool bit = experts_.Bit(
        coder, bound, node < kTop ? node : kTop + static_cast<size_t>(b),
        {&levels_[(weights.step == 0) * 256 + node],
         &places_[(seen * kPlaces + place) * 256 + node]},
        (wanted >> b & 1) != 0);
    if (bit) level = middle;
  }
  level ^= down ? last : 0;
  const uint32_t result = meaning_.LevelOf(level);
  for (size_t a = 0; a < quants.anchors; ++a) {
    for (const uint8_t member : quants.anchor[a]) {
      if (member == result) seen |= static_cast<uint8_t>(1u << a);
    }
  }
  experts_.End(column,
               std::clamp<Fixed>(
                   weights.step * meaning_.NumberOf(level) + weights.offset,
                   -kFixedMax, kFixedMax));
  return static_cast<uint8_t>(result);
}

/// Codes whole blocks: all fields but the quants, then these in the grid's
/// order.
template <class Coder>
void CodeBlocks(const quant::BlockType& type, const Params& params,
                const Grid& grid, size_t blocks, Coder& coder,
                Symbols& symbols) {
  {
    SideModels<Coder> side(type);
    const size_t row_blocks =
        static_cast<size_t>(params.row / type.quants.count);
    for (size_t block = 0; block < blocks; ++block) {
      side.Code(coder, symbols, block, row_blocks);
    }
  }
  std::vector<uint8_t>& quants = symbols[type.fields - 1u];
  QuantModels<Coder> models(type, params, grid, blocks);
  for (uint64_t line = 0; line < grid.lines; ++line) {
    models.BeginLine();
    for (uint64_t column = 0; column < grid.columns; ++column) {
      const uint64_t i = grid.At(line, column);
      if (i < grid.count) {
        quants[i] = models.Code(coder, symbols, i, column, quants[i]);
      } else {
        models.Skip(column);
      }
    }
    models.EndLine();
  }
}

}  // namespace zipllm::codecs::mix

#endif  // ZIPLLM_CODECS_TENSOR_MIX_BLOCKS_H_
