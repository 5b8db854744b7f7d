// Codec 12, swapped: another codec for elements whose highest byte comes first.
// Format: format-spec/codecs/12-swapped.md.
#include "base/bytes.h"
#include "codecs/tensor/swapped.h"

namespace zipllm::codecs {
namespace {

struct Params final : DecodeParams {
  uint8_t width = 0;
  const Decoder* inner = nullptr;
  std::unique_ptr<const DecodeParams> inner_params;  // null: none
};

absl::StatusOr<std::unique_ptr<const DecodeParams>> Parse(ByteSpan bytes) {
  auto params = std::make_unique<Params>();
  ByteReader reader(bytes, "swapped parameters");
  ASSIGN_OR_RETURN(params->width, reader.Le<uint8_t>());
  if (params->width != 2 && params->width != 4 && params->width != 8) {
    return reader.Error("elements of ", int{params->width}, " bytes");
  }
  ASSIGN_OR_RETURN(const uint8_t id, reader.Le<uint8_t>());
  params->inner = FindDecoderOfOneBlock(id);
  if (params->inner == nullptr || id == kSwapped) {
    return reader.Error("codec ", int{id}, " cannot be swapped");
  }
  ASSIGN_OR_RETURN(const ByteSpan rest, reader.Bytes(reader.remaining()));
  if (params->inner->parse != nullptr) {
    ASSIGN_OR_RETURN(params->inner_params, params->inner->parse(rest));
  } else if (!rest.empty()) {
    return reader.Error("codec ", int{id}, " takes no parameters");
  }
  return params;
}

absl::Status Decode(const DecodeParams* decode_params, ByteSpan coded,
                    MutableByteSpan out, Scratch& scratch) {
  if (decode_params == nullptr) {
    return DataLoss("swapped block has no parameters");
  }
  const Params& params = *static_cast<const Params*>(decode_params);
  if (out.size() % params.width != 0) {
    return DataLoss("swapped block of ", out.size(),
                    " bytes has no whole number of elements of ",
                    int{params.width});
  }
  RETURN_IF_ERROR(
      params.inner->decode(params.inner_params.get(), coded, out, scratch));
  SwapElements(params.width, out);
  return absl::OkStatus();
}

}  // namespace

extern const Decoder kSwappedDecoder = {
    .id = kSwapped, .name = "swapped", .parse = Parse, .decode = Decode};

}  // namespace zipllm::codecs
