// Codec 24, text_llm, on hostile code, by a language model of the tests. Input:
// u8 streams (6 bits) and which of two models (1 bit), u8 bytes less 1, code.
#include <cstdint>
#include <vector>

#include "../tests/codecs/toy_text_model.h"
#include "base/bytes.h"
#include "check.h"
#include "codecs/text/text_llm_model.h"

namespace zipllm::codecs {
namespace {

void Fuzz(ByteReader reader) {
  static const ToyTextModel kModels[] = {
      ToyTextModel(ToyTokens(), "the thing of the king and the end"),
      ToyTextModel(ToyTokens("\xE2z"), "the abc of the aba")};
  const auto choice = reader.Le<uint8_t>();
  const auto size = reader.Le<uint8_t>();
  if (!size.ok()) return;
  const ByteSpan code = *reader.Bytes(reader.remaining());
  const TextModel& model = kModels[*choice >> 6 & 1];
  text_llm::Params params;
  params.streams = static_cast<uint8_t>(1 + *choice % 64);
  params.cm.lines = cm::kMinLineBits;
  params.model = model.sha256();
  const Decoder& decoder = *FindDecoder(24);
  const auto parsed = decoder.parse(text_llm::StoreParams(params));
  FUZZ_CHECK(parsed.ok());
  BlockContext context;
  context.text_model = &model;
  std::vector<uint8_t> out(size_t{*size} + 1);
  Scratch scratch;
  const absl::Status status =
      decoder.decode_against(parsed->get(), context, code, out, scratch);
  FUZZ_CHECK(status.ok() || !status.message().empty());
}

}  // namespace
}  // namespace zipllm::codecs

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  zipllm::codecs::Fuzz(zipllm::ByteReader({data, size}));
  return 0;
}
