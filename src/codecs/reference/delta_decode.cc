// Codec 15, delta: elements by how far they are from a base, with contexts by
// how large a typical step is there. Format: format-spec/codecs/15-delta.md.
#include <algorithm>
#include <cstring>

#include "base/bytes.h"
#include "codecs/codec.h"
#include "codecs/reference/delta_format.h"
#include "entropy/bits.h"

namespace zipllm::codecs {
namespace {

using namespace delta;
using entropy::AdaptiveRice;
using entropy::BitReader;

struct Params final : DecodeParams {
  Params(Scales made_scales, uint8_t made_which,
         residuals::ResidualDecoder made_decoder)
      : scales(std::move(made_scales)),
        which(made_which),
        decoder(std::move(made_decoder)) {}

  Scales scales;
  uint8_t which;  // of the references
  residuals::ResidualDecoder decoder;
};

/// Reads offsets, each told by its difference to the one before.
template <typename Offset>
absl::Status ReadOffsets(ByteReader& reader, std::span<Offset> offsets) {
  ASSIGN_OR_RETURN(const uint64_t size, reader.Varint(reader.remaining()));
  ASSIGN_OR_RETURN(const ByteSpan coded, reader.Bytes(size));
  BitReader bits(coded);
  AdaptiveRice code;
  int64_t last = 0;
  for (Offset& offset : offsets) {
    last += entropy::UnZigZag(code.Read(&bits));
    if (last < -kMaxOffset || last > kMaxOffset) {
      return reader.Error("an offset is out of range");
    }
    offset = static_cast<Offset>(last);
  }
  if (!bits.AtEnd()) {
    return reader.Error("bits of offsets do not end where they should");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<const DecodeParams>> Parse(ByteSpan bytes) {
  ByteReader reader(bytes, "delta parameters");
  Scales scales;
  ASSIGN_OR_RETURN(const uint8_t dtype, reader.Le<uint8_t>());
  scales.kind = KindOf(static_cast<DType>(dtype));
  if (scales.kind.size == 0) {
    return reader.Error("elements of type ", int{dtype});
  }
  ASSIGN_OR_RETURN(const uint8_t which, reader.Le<uint8_t>());
  ASSIGN_OR_RETURN(scales.flags, reader.Le<uint8_t>());
  if (which >= kMaxReferences || scales.flags > kAllFlags) {
    return reader.Error("reference ", int{which}, ", flags ",
                        int{scales.flags});
  }
  ASSIGN_OR_RETURN(const uint64_t scale, reader.Varint(2 * kMaxScale));
  scales.scale = entropy::UnZigZag(static_cast<uint32_t>(scale));
  if (scales.flags & (kByRows | kByColumns)) {
    ASSIGN_OR_RETURN(
        scales.row,
        reader.Varint(scales.flags & kByColumns ? kMaxColumns : kMaxRow));
    if (scales.row == 0) return reader.Error("rows of no elements");
  }
  if (scales.flags & kByColumns) {
    scales.columns.resize(scales.row);
    RETURN_IF_ERROR(ReadOffsets<int16_t>(reader, scales.columns));
  }
  ASSIGN_OR_RETURN(
      residuals::ResidualDecoder decoder,
      residuals::ResidualDecoder::Parse(
          residuals::AlphabetOf(scales.kind.size, scales.kind.number),
          ContextsOf(scales.flags), reader));
  RETURN_IF_ERROR(reader.ExpectEnd());
  return std::make_unique<const Params>(std::move(scales), which,
                                        std::move(decoder));
}

absl::Status Decode(const DecodeParams* decode_params,
                    const BlockContext& context, ByteSpan coded,
                    MutableByteSpan out, Scratch& scratch) {
  if (decode_params == nullptr) {
    return DataLoss("delta block has no parameters");
  }
  const Params& params = *static_cast<const Params*>(decode_params);
  const Scales& scales = params.scales;
  const Kind& kind = scales.kind;
  if (out.size() % kind.size != 0) {
    return DataLoss("delta block of ", out.size(), " bytes has no whole ",
                    "number of elements of ", int{kind.size}, " bytes");
  }
  const size_t count = out.size() / kind.size;
  if (params.which >= context.references.size()) {
    return DataLoss("delta block has no reference ", int{params.which});
  }
  const Reference& base = context.references[params.which];
  const size_t base_size = KindOf(base.dtype).size;
  if (base.role != Role::kBase || base_size == 0 ||
      !CanCast(base.dtype, kind.dtype) ||
      base.data.size() != count * base_size) {
    return DataLoss("reference of a delta block is of another type or size");
  }

  if (coded.empty()) {
    Cast(base.dtype, kind.dtype, base.data.data(), count, out.data(), nullptr);
    return absl::OkStatus();
  }
  ByteReader reader(coded, "delta block");
  const uint64_t phase = context.position % scales.row;
  Buffer& rows = scratch.buffers[0];
  rows.Clear();
  if (scales.flags & kByRows) {
    const uint64_t row_count = (phase + count - 1) / scales.row + 1;
    rows.Resize(row_count);
    RETURN_IF_ERROR(ReadOffsets<int8_t>(
        reader, {reinterpret_cast<int8_t*>(rows.data()), row_count}));
  }
  ASSIGN_OR_RETURN(residuals::ResidualBlock block,
                   residuals::ResidualBlock::Start(
                       params.decoder, count, reader, &scratch.buffers[1]));
  RETURN_IF_ERROR(reader.ExpectEnd());

  ContextCursor cursor(scales, phase,
                       reinterpret_cast<const int8_t*>(rows.data()));
  const bool casts = base.dtype != kind.dtype;
  const bool by_rests = (scales.flags & kByRests) != 0;
  alignas(64) uint8_t contexts[kPiece];
  alignas(64) uint8_t predicted[8 * kPiece];
  int32_t rests[kPiece];
  for (size_t i = 0; i < count; i += kPiece) {
    const size_t n = std::min(kPiece, count - i);
    const uint8_t* predictions = base.data.data() + i * base_size;
    if (casts || by_rests) {
      Cast(base.dtype, kind.dtype, predictions, n, predicted,
           by_rests ? rests : nullptr);
      predictions = predicted;
    }
    cursor.Next(predictions, rests, n, contexts);
    block.Next(contexts, predictions, n, out.data() + i * kind.size);
  }
  return block.Finish();
}

}  // namespace

extern const Decoder kDeltaDecoder = {.id = 15,
                                      .name = "delta",
                                      .parse = Parse,
                                      .decode = nullptr,
                                      .decode_against = Decode};

}  // namespace zipllm::codecs
