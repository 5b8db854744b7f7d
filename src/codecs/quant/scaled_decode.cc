// Codec 20, scaled: codes of weights, given the weights and their scales.
// Format: format-spec/codecs/20-scaled.md.
#include <algorithm>

#include "base/bytes.h"
#include "codecs/codec.h"
#include "codecs/quant/scaled_format.h"

namespace zipllm::codecs {
namespace {

using namespace scaled;
using residuals::ResidualBlock;
using residuals::ResidualDecoder;

struct Params final : DecodeParams {
  Recipe recipe;
  std::optional<ResidualDecoder> residuals;
};

absl::StatusOr<std::unique_ptr<const DecodeParams>> Parse(ByteSpan bytes) {
  ByteReader reader(bytes, "scaled parameters");
  auto params = std::make_unique<Params>();
  ASSIGN_OR_RETURN(params->recipe, ParseRecipe(reader));
  if (reader.remaining() != 0) {
    ASSIGN_OR_RETURN(params->residuals,
                     ResidualDecoder::Parse(CodeAlphabet(params->recipe),
                                            kContexts, reader));
  }
  RETURN_IF_ERROR(reader.ExpectEnd());
  return params;
}

/// Reads places and codes of those that are not as predicted.
class Few {
 public:
  static absl::StatusOr<Few> Start(size_t count, ByteReader& reader) {
    Few few(reader);
    ASSIGN_OR_RETURN(few.left_, reader.Varint(count));
    few.last_ = count;
    RETURN_IF_ERROR(few.Advance(0));
    return few;
  }

  /// Sets those of `count` codes from number `begin` on.
  absl::Status Set(size_t begin, size_t count, uint8_t* codes) {
    while (next_ < begin + count) {
      ASSIGN_OR_RETURN(codes[next_ - begin], reader_->Le<uint8_t>());
      --left_;
      RETURN_IF_ERROR(Advance(next_ + 1));
    }
    return absl::OkStatus();
  }

 private:
  explicit Few(ByteReader& reader) : reader_(&reader) {}

  absl::Status Advance(uint64_t from) {
    next_ = UINT64_MAX;
    if (left_ == 0) return absl::OkStatus();
    if (from >= last_) return reader_->Error("a code beyond the block");
    ASSIGN_OR_RETURN(const uint64_t gap, reader_->Varint(last_ - 1 - from));
    next_ = from + gap;
    return absl::OkStatus();
  }

  ByteReader* reader_;
  uint64_t left_ = 0;
  uint64_t next_ = 0;  // place of the next one
  uint64_t last_ = 0;  // none is there or beyond
};

absl::Status Decode(const DecodeParams* decode_params,
                    const BlockContext& context, ByteSpan coded,
                    MutableByteSpan out, Scratch& scratch) {
  if (decode_params == nullptr) return DataLoss("scaled: no parameters");
  const auto& params = *static_cast<const Params*>(decode_params);
  const Recipe& recipe = params.recipe;
  const size_t count = out.size() * 8 / recipe.bits;
  if (count % UnitOf(recipe) != 0) {
    return DataLoss("scaled: ", out.size(), " bytes are not whole units");
  }
  ASSIGN_OR_RETURN(const Predictor predictor,
                   Predictor::Make(recipe, context.references, context.row,
                                   context.position, count));
  ByteReader reader(coded, "scaled block");
  ASSIGN_OR_RETURN(const uint8_t form_byte, reader.Le<uint8_t>());
  const auto form = static_cast<Form>(form_byte);
  std::optional<ResidualBlock> residuals;
  std::optional<Few> few;
  switch (form) {
    case Form::kEqual:
      break;
    case Form::kResiduals: {
      if (!params.residuals.has_value()) {
        return reader.Error("residuals without tables");
      }
      ASSIGN_OR_RETURN(residuals,
                       ResidualBlock::Start(*params.residuals, count, reader,
                                            &scratch.buffers[0]));
      break;
    }
    case Form::kFew: {
      ASSIGN_OR_RETURN(few, Few::Start(count, reader));
      break;
    }
    default:
      return reader.Error("form ", int{form_byte});
  }
  alignas(64) uint8_t codes[kPiece];
  alignas(64) uint8_t contexts[kPiece];
  for (size_t i = 0; i < count; i += kPiece) {
    const size_t n = std::min(kPiece, count - i);
    predictor.Predict(i, n, codes, residuals.has_value() ? contexts : nullptr);
    if (residuals.has_value()) residuals->Next(contexts, codes, n, codes);
    if (few.has_value()) RETURN_IF_ERROR(few->Set(i, n, codes));
    PackCodes(recipe, codes, n, out.data() + StoredBytes(i, recipe.bits));
  }
  if (residuals.has_value()) RETURN_IF_ERROR(residuals->Finish());
  return reader.ExpectEnd();
}

}  // namespace

extern const Decoder kScaledDecoder = {.id = 20,
                                       .name = "scaled",
                                       .parse = Parse,
                                       .decode = nullptr,
                                       .decode_against = Decode};

}  // namespace zipllm::codecs
