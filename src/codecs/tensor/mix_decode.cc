// Codec 10, mix: every bit of an element by mixed models.
// Format: format-spec/codecs/10-mix.md.
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
namespace mix {

Distribution::Distribution() {
  // Densities of the normal distribution and of one three times as wide, by
  // g(z + h) = g(z) exp(-z h - h^2 / 2), in 1/2^32; h is 1/64.
  struct Density {
    uint64_t value = uint64_t{1} << 32;
    uint64_t ratio;  // exp(-z h - h^2 / 2)
    uint64_t step;   // exp(-h^2)
    void Next() {
      value = (value * ratio) >> 32;
      ratio = (ratio * step) >> 32;
    }
  };
  Density narrow{.ratio = 4294443040, .step = 4293918848};
  Density wide{.ratio = 4294909042, .step = 4294850789};
  constexpr size_t kMiddle = 512;
  std::array<uint64_t, kMiddle + 1> sum;
  sum[0] = 0;
  for (size_t i = 0; i < kMiddle; ++i) {
    const uint64_t before = kNarrow * narrow.value + wide.value;
    narrow.Next();
    wide.Next();
    sum[i + 1] = sum[i] + before + kNarrow * narrow.value + wide.value;
  }
  const uint64_t all = sum[kMiddle] >> 20;
  for (size_t i = 0; i <= kMiddle; ++i) {
    const auto half = static_cast<int64_t>(((sum[i] >> 20) << 29) / all);
    table_[kMiddle + i] = kOne / 2 + half;
    table_[kMiddle - i] = kOne / 2 - half;
  }
}

const Distribution& Distribution::Get() {
  static const Distribution distribution;
  return distribution;
}

LogRatio::LogRatio() {
  for (uint64_t i = 0; i < table_.size(); ++i) {
    table_[i] = static_cast<int16_t>(
        (Log2Q16(static_cast<uint32_t>(1024 + i)) - (10u << 16) + 8) >> 4);
  }
}

const LogRatio& LogRatio::Get() {
  static const LogRatio log_ratio;
  return log_ratio;
}

}  // namespace mix

namespace {

struct FrameParams final : DecodeParams {
  mix::Params params;
};

absl::StatusOr<std::unique_ptr<const DecodeParams>> Parse(ByteSpan bytes) {
  auto frame = std::make_unique<FrameParams>();
  mix::Params& params = frame->params;
  ByteReader reader(bytes, "mix parameters");
  ASSIGN_OR_RETURN(const uint8_t number, reader.Le<uint8_t>());
  int most_modelled = 0, most_unit = mix::kMaxBlockUnit;
  if (number >= mix::kFirstBlockKind) {
    params.blocks = mix::FindBlockType(static_cast<DType>(number));
  } else if (number >= 1 && number <= mix::kKinds.size()) {
    params.kind = &mix::kKinds[number - 1];
    most_modelled =
        std::min<int>(params.kind->mantissa_bits, mix::kMaxModelled);
    most_unit = static_cast<int>(params.kind->max_exponent());
  }
  if (params.kind == nullptr && params.blocks == nullptr) {
    return reader.Error("unknown kind of elements ", int{number});
  }
  ASSIGN_OR_RETURN(params.modelled, reader.Le<uint8_t>());
  if (params.modelled > most_modelled) {
    return reader.Error(int{params.modelled}, " bits of mantissas modelled");
  }
  ASSIGN_OR_RETURN(params.unit, reader.Le<uint8_t>());
  if (params.unit > most_unit) {
    return reader.Error("unit exponent ", int{params.unit}, "; ", most_unit,
                        " is the most");
  }
  for (uint8_t& ridge : params.ridge) {
    ASSIGN_OR_RETURN(ridge, reader.Le<uint8_t>());
  }
  ASSIGN_OR_RETURN(const uint8_t zeros, reader.Le<uint8_t>());
  if (zeros > (params.kind == nullptr ? 0 : 1))
    return reader.Error("mode of zeros ", int{zeros});
  params.zeros = zeros == 1;
  ASSIGN_OR_RETURN(params.row, reader.Varint(mix::kMaxRow));
  RETURN_IF_ERROR(reader.ExpectEnd());
  return frame;
}

void DecodeNumbers(const mix::Params& params, uint64_t phase,
                   entropy::BinaryDecoder& coder, entropy::BitReader& bits,
                   MutableByteSpan out) {
  const size_t size = params.kind->element_size;
  const mix::Grid grid(params.row, phase, out.size() / size);
  mix::CodeGrid(params, grid, coder,
                [&](uint64_t i, auto& models, size_t column) {
                  uint32_t element = models.Code(coder, column, 0);
                  if (const int tail = params.tail_bits(); tail > 0) {
                    const int zeros = models.CodeZeros(coder, column, 0);
                    element |= bits.Get(tail - zeros) << zeros;
                  }
                  std::memcpy(out.data() + i * size, &element, size);
                });
}

void DecodeBlocks(const mix::Params& params, uint64_t phase,
                  entropy::BinaryDecoder& coder, MutableByteSpan out) {
  const quant::BlockType& type = *params.blocks;
  const size_t blocks = out.size() / type.bytes;
  const mix::Grid grid(params.row, phase, blocks * type.quants.count);
  mix::Symbols symbols = mix::MakeSymbols(type, blocks);
  mix::CodeBlocks(type, params, grid, blocks, coder, symbols);
  std::memset(out.data(), 0, out.size());
  for (size_t f = 0; f < type.fields; ++f) {
    quant::MergeField(type, type.field[f], symbols[f].data(), blocks,
                      out.data());
  }
}

absl::Status Decode(const DecodeParams* decode_params, ByteSpan coded,
                    MutableByteSpan out, Scratch&) {
  if (decode_params == nullptr) {
    return DataLoss("mix block has no parameters");
  }
  const mix::Params& params =
      static_cast<const FrameParams*>(decode_params)->params;
  const size_t size =
      params.kind != nullptr ? params.kind->element_size : params.blocks->bytes;
  if (out.size() % size != 0 || out.size() > mix::kMaxBlockBytes) {
    return DataLoss("mix block of ", out.size(), " bytes; at most ",
                    mix::kMaxBlockBytes, " and whole elements of ", size,
                    " bytes are possible");
  }
  ByteReader reader(coded, "mix block");
  ASSIGN_OR_RETURN(const uint64_t phase,
                   reader.Varint(params.row == 0 ? 0 : params.row - 1));
  ASSIGN_OR_RETURN(const uint64_t length, reader.Varint(reader.remaining()));
  ASSIGN_OR_RETURN(const ByteSpan code, reader.Bytes(length));
  ASSIGN_OR_RETURN(const ByteSpan tails, reader.Bytes(reader.remaining()));

  entropy::BinaryDecoder coder(code.data(), code.size());
  entropy::BitReader bits(tails);
  if (params.blocks != nullptr) {
    DecodeBlocks(params, phase, coder, out);
  } else {
    DecodeNumbers(params, phase, coder, bits, out);
  }
  if (!coder.IsAtEnd() || !bits.AtEnd()) {
    return reader.Error("the code does not end where the block does");
  }
  return absl::OkStatus();
}

}  // namespace

extern const Decoder kMixDecoder = {
    .id = 10, .name = "mix", .parse = Parse, .decode = Decode, .is_slow = true};

}  // namespace zipllm::codecs
