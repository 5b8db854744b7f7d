// Codec 24, text_llm: text by the chances that a language model of the user's
// gives to tokens, mixed with text_cm's.
// Format: format-spec/codecs/24-text_llm.md.
#include <algorithm>
#include <bit>
#include <thread>

#include "base/bytes.h"
#include "codecs/codec.h"
#include "codecs/text/kept_params.h"
#include "codecs/text/text_llm_model.h"
#include "entropy/binary_coder.h"

namespace zipllm::codecs {
namespace text_llm {

absl::StatusOr<Params> ParseParams(ByteSpan bytes) {
  ByteReader reader(bytes, "text_llm parameters");
  ASSIGN_OR_RETURN(const uint8_t version, reader.Le<uint8_t>());
  if (version != kVersion) {
    return Unimplemented("text_llm of version ", int{version},
                         " is not known: a newer zipllm made it");
  }
  Params params;
  ASSIGN_OR_RETURN(params.streams, reader.Le<uint8_t>());
  if (params.streams < 1 || params.streams > kMaxStreams) {
    return reader.Error(int{params.streams}, " streams");
  }
  ASSIGN_OR_RETURN(const ByteSpan cm, reader.Bytes(cm::kParamsBytes));
  ASSIGN_OR_RETURN(params.cm, cm::ParseParams(cm));
  if (params.cm.profile != cm::Profile::kFast || params.cm.records) {
    return reader.Error("not the profile of text_cm that there is here");
  }
  ASSIGN_OR_RETURN(const ByteSpan model, reader.Bytes(params.model.size()));
  std::ranges::copy(model, params.model.begin());
  RETURN_IF_ERROR(reader.ExpectEnd());
  return params;
}

std::array<uint8_t, kParamsBytes> StoreParams(const Params& params) {
  std::array<uint8_t, kParamsBytes> bytes = {kVersion, params.streams};
  const auto cm = cm::StoreParams(params.cm);
  std::ranges::copy(params.model, std::ranges::copy(cm, bytes.begin() + 2).out);
  return bytes;
}

int Threads() {
  return static_cast<int>(
      std::clamp(std::thread::hardware_concurrency(), 1u, 64u));
}

}  // namespace text_llm

namespace {

using text_llm::Params;

absl::Status Decode(const DecodeParams* decode_params,
                    const BlockContext& context, ByteSpan coded,
                    MutableByteSpan out, Scratch& scratch) {
  if (decode_params == nullptr) {
    return DataLoss("text_llm block has no parameters");
  }
  const Params& params = KeptParams<Params>::Of(*decode_params);
  const TextModel* model = context.text_model;
  if (model == nullptr || model->sha256() != params.model) {
    const std::string given =
        model == nullptr ? "none is given"
                         : "the one that is given has " + Hex(model->sha256());
    return MakeStatus(absl::StatusCode::kFailedPrecondition,
                      "needs the language model whose file has the SHA-256 ",
                      Hex(params.model), ", and ", given,
                      ": give its GGUF file by --text-model");
  }
  const uint64_t text = cm::PriorsOf(params.cm).size + out.size();
  if (out.size() < params.streams ||
      params.cm.lines >
          std::max(cm::kMinLineBits, static_cast<int>(std::bit_width(text)))) {
    return DataLoss("text_llm block of ", out.size(), " bytes in ",
                    int{params.streams}, " streams, with tables of size ",
                    int{params.cm.lines});
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<TextModel::Session> session,
                   model->Start(params.streams, text_llm::Threads(),
                                text_llm::kMaxSessionMemory));
  const cm::PrimedMemory memory(text_llm::PrimedFor(params, out.size()));
  if (memory.data() == nullptr) {
    return ResourceExhausted("no memory for the tables of text_llm");
  }
  const SortedVocabulary vocabulary(model->vocabulary());
  entropy::BinaryDecoder coder(coded.data(), coded.size());
  const auto models =
      std::make_unique<text_llm::BitModels<entropy::BinaryDecoder>>(
          params, out.size(), memory.data(), coder);
  RETURN_IF_ERROR(text_llm::CodeBlock(params, vocabulary, *session, *models, {},
                                      coder, out, scratch));
  if (!coder.IsAtEnd()) {
    return DataLoss("text_llm block: the code does not end where it does");
  }
  return absl::OkStatus();
}

}  // namespace

extern const Decoder kTextLlmDecoder = {
    .id = 24,
    .name = "text_llm",
    .parse = ParseKept<Params, text_llm::ParseParams>,
    .decode_against = Decode,
    .is_slow = true,
    .alone = true,
    .needs_text_model = true,
    .memory = MemoryOfKept<Params, text_llm::TableBytes>};

}  // namespace zipllm::codecs
