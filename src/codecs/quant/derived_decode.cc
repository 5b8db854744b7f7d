// Codec 19, derived: packed blocks by how far they are from what is made of the
// weights they came from. Format: format-spec/codecs/19-derived.md.
#include <algorithm>

#include "base/bytes.h"
#include "base/dtype.h"
#include "codecs/codec.h"
#include "codecs/quant/derived_format.h"
#include "codecs/quant/derived_pieces.h"

namespace zipllm::codecs {
namespace {

using namespace derived;

struct Params final : DecodeParams {
  Recipe recipe;
};

absl::StatusOr<std::unique_ptr<const DecodeParams>> Parse(ByteSpan bytes) {
  ByteReader reader(bytes, "derived parameters");
  auto params = std::make_unique<Params>();
  RETURN_IF_ERROR(ReadRecipe(reader, &params->recipe));
  RETURN_IF_ERROR(reader.ExpectEnd());
  return std::unique_ptr<const DecodeParams>(std::move(params));
}

absl::Status Decode(const DecodeParams* decode_params,
                    const BlockContext& context, ByteSpan coded,
                    MutableByteSpan out, Scratch& scratch) {
  if (decode_params == nullptr) {
    return DataLoss("derived block has no parameters");
  }
  const Recipe& recipe = static_cast<const Params*>(decode_params)->recipe;
  const DTypeInfo& type = *FindDType(recipe.dtype);
  if (out.size() % type.block_bytes != 0) {
    return DataLoss("derived block of ", out.size(),
                    " bytes has no whole number of ", type.name, " blocks");
  }
  const uint64_t count = out.size() / type.block_bytes * type.block_elements;
  ASSIGN_OR_RETURN(const Source source, Source::Open(recipe, context, count));
  entropy::BinaryDecoder decoder(coded.data(), coded.size());
  PieceCoder<entropy::BinaryDecoder> pieces(recipe, source, &decoder,
                                            &scratch.buffers[0]);
  for (uint64_t first = 0; first < count; first += source.piece()) {
    const auto n =
        static_cast<size_t>(std::min<uint64_t>(source.piece(), count - first));
    pieces.Code(first, n,
                out.data() + first / type.block_elements * type.block_bytes);
  }
  if (!decoder.IsAtEnd()) {
    return DataLoss("derived block does not end where its code ends");
  }
  return absl::OkStatus();
}

}  // namespace

extern const Decoder kDerivedDecoder = {.id = 19,
                                        .name = "derived",
                                        .parse = Parse,
                                        .decode = nullptr,
                                        .decode_against = Decode};

}  // namespace zipllm::codecs
