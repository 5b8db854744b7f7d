// Codec 18, mixdelta: elements beside a base, every bit by mixed models.
// Format: format-spec/codecs/18-mixdelta.md.
#include <cstring>

#include "base/bytes.h"
#include "codecs/codec.h"
#include "codecs/reference/mixdelta_models.h"
#include "entropy/binary_coder.h"
#include "entropy/bits.h"

namespace zipllm::codecs {
namespace {

using mixdelta::Params;

struct FrameParams final : DecodeParams {
  Params params;
};

absl::StatusOr<std::unique_ptr<const DecodeParams>> Parse(ByteSpan bytes) {
  auto frame = std::make_unique<FrameParams>();
  Params& params = frame->params;
  ByteReader reader(bytes, "mixdelta parameters");
  ASSIGN_OR_RETURN(const uint8_t dtype, reader.Le<uint8_t>());
  params.dtype = static_cast<DType>(dtype);
  const FloatFormat* const format = mixdelta::FindFormat(params.dtype);
  if (format == nullptr) {
    return reader.Error("elements of type ", int{dtype});
  }
  ASSIGN_OR_RETURN(const uint8_t equal, reader.Le<uint8_t>());
  if (equal > 1) return reader.Error("flag ", int{equal});
  params.equal = equal == 1;
  ASSIGN_OR_RETURN(params.ridge, reader.Le<uint8_t>());
  ASSIGN_OR_RETURN(params.unit, reader.Le<int16_t>());
  if (params.unit < -mixdelta::kMaxUnit || params.unit > mixdelta::kMaxUnit) {
    return reader.Error("unit exponent ", int{params.unit});
  }
  RETURN_IF_ERROR(reader.ExpectEnd());
  return frame;
}

struct Reading {
  entropy::BinaryDecoder code;
  entropy::BitReader raw;
  bool Bit(bool, uint32_t p) { return code.Code(false, p); }
  uint32_t Raw(uint32_t, int count) { return raw.Get(count); }
};

absl::Status Decode(const DecodeParams* decode_params,
                    const BlockContext& context, ByteSpan coded,
                    MutableByteSpan out, Scratch& scratch) {
  if (decode_params == nullptr) {
    return DataLoss("mixdelta block has no parameters");
  }
  const Params& params = static_cast<const FrameParams*>(decode_params)->params;
  const size_t size = mixdelta::FindFormat(params.dtype)->bytes;
  if (out.size() % size != 0 || out.size() > mixdelta::kMaxBlockBytes) {
    return DataLoss("mixdelta block of ", out.size(), " bytes; at most ",
                    mixdelta::kMaxBlockBytes, " and whole elements of ", size,
                    " bytes are possible");
  }
  const size_t count = out.size() / size;
  const Reference* const base =
      mixdelta::FindBase(params, context.references, count);
  if (base == nullptr) {
    return DataLoss("mixdelta block of ", count,
                    " elements has no base of as many floats");
  }
  ByteReader reader(coded, "mixdelta block");
  ASSIGN_OR_RETURN(const uint64_t length, reader.Varint(reader.remaining()));
  ASSIGN_OR_RETURN(const ByteSpan code, reader.Bytes(length));
  ASSIGN_OR_RETURN(const ByteSpan raw, reader.Bytes(reader.remaining()));
  Reading reading{entropy::BinaryDecoder(code.data(), code.size()),
                  entropy::BitReader(raw)};
  mixdelta::CodeBlock(
      params, *base, context, count, reading, scratch,
      [](uint64_t) { return uint32_t{0}; },
      [&](uint64_t i, uint32_t element) {
        std::memcpy(out.data() + i * size, &element, size);
      });
  if (!reading.code.IsAtEnd() || !reading.raw.AtEnd()) {
    return reader.Error("the code does not end where the block does");
  }
  return absl::OkStatus();
}

}  // namespace

extern const Decoder kMixdeltaDecoder = {.id = 18,
                                         .name = "mixdelta",
                                         .parse = Parse,
                                         .decode = nullptr,
                                         .decode_against = Decode,
                                         .is_slow = true};

}  // namespace zipllm::codecs
