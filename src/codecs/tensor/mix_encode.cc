// Codec 10, mix: every bit of an element by mixed models. Integers only, so
// that every machine codes alike.
#include <cstring>

#include "base/bytes.h"
#include "base/log2.h"
#include "codecs/codec.h"
#include "codecs/quant/quant_format.h"
#include "codecs/tensor/mix_blocks.h"
#include "codecs/tensor/mix_models.h"
#include "entropy/binary_coder.h"
#include "entropy/bits.h"

namespace zipllm::codecs {
namespace {

using mix::Kind;

uint32_t LoadElement(const Kind& kind, ByteSpan block, uint64_t i) {
  uint32_t element = 0;
  std::memcpy(&element, block.data() + i * kind.element_size,
              kind.element_size);
  return element;
}

/// The exponent next to the mean magnitude of some elements.
uint8_t UnitOf(const Kind& kind, ByteSpan data) {
  constexpr size_t kSamples = 65536;
  const size_t count = data.size() / kind.element_size;
  const size_t stride = count / kSamples + 1;
  const uint32_t width = 8u * kind.element_size;
  std::array<uint64_t, 256> counts{};
  uint64_t all = 0;
  for (size_t i = 0; i < count; i += stride) {
    uint32_t element = LoadElement(kind, data, i);
    const bool negative = element >> (width - 1);
    element &= (uint32_t{1} << (width - 1)) - 1;
    if (kind.is_integer() && negative) element ^= 127;
    const uint32_t exponent =
        kind.is_integer() ? static_cast<uint32_t>(std::bit_width(element))
                          : element >> kind.mantissa_bits;
    if (exponent == 0) continue;  // zeros say nothing of the others
    ++counts[exponent];
    ++all;
  }
  // What exceeds all but one in 256 counts as much as these do.
  uint64_t above = 0;
  size_t top = 255;
  while (top > 0 && above + counts[top] <= all / 256) above += counts[top--];
  uint64_t sum = above << 32;
  for (size_t e = 0; e <= top; ++e) {
    sum += top - e < 32 ? counts[e] << (32 - (top - e)) : 0;
  }
  if (all == 0) return 0;
  // Magnitudes of an exponent are 1.5 times the least on average.
  const uint64_t mean = sum / all * 3 / 2;
  const int unit = static_cast<int>(top + std::bit_width(mean | 1)) - 33 -
                   (kind.is_integer() ? 1 : 0);
  return static_cast<uint8_t>(std::clamp(unit, 0, 255));
}

/// Whether more of the tails end in zeros than chance would have it.
bool HasZeros(const mix::Params& params, ByteSpan data) {
  constexpr size_t kSamples = 65536;
  const Kind& kind = *params.kind;
  const size_t count = data.size() / kind.element_size;
  const size_t stride = count / kSamples + 1;
  size_t all = 0;
  std::array<size_t, 33> ending{};
  for (size_t i = 0; i < count; i += stride, ++all) {
    const uint32_t element = LoadElement(kind, data, i);
    const uint32_t mask = (uint32_t{1} << params.tail_bits()) - 1;
    ++ending[element & mask ? std::countr_zero(element) : params.tail_bits()];
  }
  size_t sum = 0;
  for (size_t zeros = 32; zeros > 0; --zeros) {
    sum += ending[zeros];
    for (const uint8_t bits : kind.zeros) {
      if (bits == zeros && bits <= params.tail_bits() &&
          sum > (all >> bits) * 2 + 4)
        return true;
    }
  }
  return false;
}

/// The exponent next to the mean deviation of weights, in units of 2^-24.
uint8_t UnitOf(const quant::BlockType& type, ByteSpan data) {
  constexpr size_t kSamples = 2048;
  const size_t blocks = std::min(kSamples, data.size() / type.bytes);
  mix::Symbols symbols = mix::MakeSymbols(type, blocks);
  for (size_t f = 0; f < type.fields; ++f) {
    quant::SplitField(type, type.field[f], data.data(), blocks,
                      symbols[f].data());
  }
  const mix::Meaning meaning(type, mix::kUnitBits);
  const size_t group = type.quants.group;
  const std::vector<uint8_t>& quants = symbols[type.fields - 1u];
  uint64_t sum = 1;
  for (size_t i = 0; i < blocks * type.quants.count; ++i) {
    const mix::Weights weights = meaning.WeightsOf(
        symbols, i / type.quants.count, i % type.quants.count / group);
    const mix::Fixed weight =
        weights.step * meaning.NumberOf(meaning.LevelOf(quants[i])) +
        weights.offset;
    sum += static_cast<uint64_t>(std::min(std::abs(weight), mix::kFixedMax));
  }
  return static_cast<uint8_t>(
      std::bit_width(sum / (blocks * type.quants.count) | 1) - 1);
}

void EncodeNumbers(const mix::Params& params, uint64_t phase, ByteSpan block,
                   entropy::BinaryEncoder& coder, entropy::BitWriter& bits) {
  const Kind& kind = *params.kind;
  const mix::Grid grid(params.row, phase, block.size() / kind.element_size);
  mix::CodeGrid(params, grid, coder,
                [&](uint64_t i, auto& models, size_t column) {
                  const uint32_t element = LoadElement(kind, block, i);
                  models.Code(coder, column, element);
                  if (const int tail = params.tail_bits(); tail > 0) {
                    const uint32_t rest = element & ((uint32_t{1} << tail) - 1);
                    const int zeros = models.CodeZeros(coder, column, rest);
                    bits.Put(rest >> zeros, tail - zeros);
                  }
                });
}

void EncodeBlocks(const mix::Params& params, uint64_t phase, ByteSpan block,
                  entropy::BinaryEncoder& coder) {
  const quant::BlockType& type = *params.blocks;
  const size_t blocks = block.size() / type.bytes;
  mix::Symbols symbols = mix::MakeSymbols(type, blocks);
  for (size_t f = 0; f < type.fields; ++f) {
    quant::SplitField(type, type.field[f], block.data(), blocks,
                      symbols[f].data());
  }
  const mix::Grid grid(params.row, phase, blocks * type.quants.count);
  mix::CodeBlocks(type, params, grid, blocks, coder, symbols);
}

void AppendBlock(const mix::Params& params, uint64_t phase, ByteSpan block,
                 Buffer* out) {
  Buffer code, tails;
  entropy::BinaryEncoder coder(&code);
  entropy::BitWriter bits(&tails);
  if (params.blocks != nullptr) {
    EncodeBlocks(params, phase, block, coder);
  } else {
    EncodeNumbers(params, phase, block, coder, bits);
  }
  coder.Finish();
  bits.Finish();
  ByteWriter writer(out);
  writer.Varint(phase);
  writer.Varint(code.size());
  writer.Bytes(code.span());
  writer.Bytes(tails.span());
}

/// Bytes of an element, or of a block of quants.
size_t UnitSize(const mix::Params& params) {
  return params.blocks != nullptr ? params.blocks->bytes
                                  : params.kind->element_size;
}

class Plan final : public EncodePlan {
 public:
  Plan(const EncodeRequest& request, const mix::Params& params, uint8_t kind)
      : request_(request), mix_(params) {
    ByteWriter writer(&params_);
    writer.Le(kind);
    writer.Le(mix_.modelled);
    writer.Le(mix_.unit);
    for (const uint8_t ridge : mix_.ridge) writer.Le(ridge);
    writer.Le<uint8_t>(mix_.zeros);
    writer.Varint(mix_.row);
    // How well mixing does is only known afterwards: the blocks are coded here.
    for (size_t pos = 0; pos < request.data.size(); pos += request.block_size) {
      const ByteSpan block = request.data.subspan(
          pos, std::min(request.block_size, request.data.size() - pos));
      Buffer& coded = blocks_.emplace_back();
      if (IsWhole(block)) AppendBlock(mix_, PhaseOf(pos), block, &coded);
      estimate_ += coded.empty() ? block.size() : coded.size();
    }
  }
  ByteSpan params() const override { return params_.span(); }
  uint64_t estimate() const override { return estimate_; }
  bool Encode(ByteSpan block, Scratch& scratch, Buffer* out) const override;

 private:
  bool IsWhole(ByteSpan block) const {
    return block.size() % UnitSize(mix_) == 0 &&
           block.size() <= mix::kMaxBlockBytes;
  }
  uint64_t PhaseOf(size_t offset) const {
    const size_t numbers =
        mix_.blocks != nullptr ? mix_.blocks->quants.count : 1;
    return mix_.row == 0
               ? 0
               : (request_.position + offset / UnitSize(mix_) * numbers) %
                     mix_.row;
  }

  EncodeRequest request_;
  mix::Params mix_;
  Buffer params_;
  std::vector<Buffer> blocks_;
  uint64_t estimate_ = 0;
};

bool Plan::Encode(ByteSpan block, Scratch&, Buffer* out) const {
  if (!IsWhole(block)) return false;
  const size_t offset = reinterpret_cast<uintptr_t>(block.data()) -
                        reinterpret_cast<uintptr_t>(request_.data.data());
  const size_t start = out->size();
  if (offset < request_.data.size() && offset % request_.block_size == 0) {
    out->Append(blocks_[offset / request_.block_size].span());
  } else {
    AppendBlock(mix_, 0, block, out);
  }
  const bool smaller = out->size() - start < block.size();
  if (!smaller) out->Resize(start);
  return smaller;
}

std::unique_ptr<EncodePlan> MakePlan(const EncodeRequest& request, Scratch&) {
  constexpr int kLevel = 9;
  if (request.level < kLevel) return nullptr;
  mix::Params params;
  params.kind = FindKind(mix::kKinds, request.dtype);
  params.blocks = mix::FindBlockType(request.dtype);
  params.ridge = {2, 64};
  params.row = request.row <= mix::kMaxRow ? request.row : 0;
  if (params.kind == nullptr && params.blocks == nullptr) return nullptr;
  if (request.data.size() < UnitSize(params)) return nullptr;
  if (params.blocks != nullptr) {
    params.unit = UnitOf(*params.blocks, request.data);
    if (params.row % params.blocks->quants.count != 0) params.row = 0;
    return std::make_unique<Plan>(request, params,
                                  static_cast<uint8_t>(request.dtype));
  }
  params.modelled = std::min<uint8_t>(params.kind->mantissa_bits, 4);
  params.unit = UnitOf(*params.kind, request.data);
  params.zeros = HasZeros(params, request.data);
  return std::make_unique<Plan>(request, params, params.kind->number);
}

}  // namespace

extern const Encoder kMixEncoder = {.id = 10, .name = "mix", .plan = MakePlan};

}  // namespace zipllm::codecs
