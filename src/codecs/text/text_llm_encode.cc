// Codec 24, text_llm: text by the chances that a language model of the user's
// gives to tokens. Blocks are cut into streams, so that weights which were
// fetched once serve all of them.
#include <algorithm>
#include <bit>
#include <memory>
#include <vector>

#include "codecs/codec.h"
#include "codecs/text/coded_plan.h"
#include "codecs/text/text_llm_model.h"
#include "entropy/binary_coder.h"

namespace zipllm::codecs {
namespace {

/// A stream starts without having read anything: this many bytes of it make up
/// for that.
constexpr size_t kMinStreamBytes = 1024;
constexpr size_t kUsualStreams = 16;
/// Smaller blocks read one prior only.
constexpr size_t kMinSizeForFamily = 2048;

text_llm::Params ChooseParams(ByteSpan block, const TextModel& model) {
  text_llm::Params params;
  params.model = model.sha256();
  params.streams = static_cast<uint8_t>(
      std::clamp<size_t>(block.size() / kMinStreamBytes, 1, kUsualStreams));
  params.cm.prior = ChoosePrior(block);
  params.cm.reads_family = block.size() >= kMinSizeForFamily;
  const size_t size = block.size() + cm::PriorsOf(params.cm).size;
  params.cm.lines = static_cast<uint8_t>(
      std::clamp(static_cast<int>(std::bit_width(size - 1)) - 2,
                 cm::kMinLineBits, cm::kMaxLineBits));
  return params;
}

/// The tokens of each stream; empty where they are not `block`.
std::vector<std::vector<uint32_t>> Tokenize(const text_llm::Params& params,
                                            const SortedVocabulary& vocabulary,
                                            const TextModel& model,
                                            ByteSpan block) {
  std::vector<std::vector<uint32_t>> tokens(params.streams);
  for (size_t i = 0; i < tokens.size(); ++i) {
    const size_t begin = text_llm::StreamBegin(block.size(), params.streams, i);
    const size_t end =
        text_llm::StreamBegin(block.size(), params.streams, i + 1);
    ByteSpan rest = block.subspan(begin, end - begin);
    model.Tokenize(rest, &tokens[i]);
    for (const uint32_t token : tokens[i]) {
      if (token == TextModel::kNone) {
        if (rest.empty() || vocabulary.has_all_bytes()) return {};
        rest = rest.subspan(1);
        continue;
      }
      if (token >= vocabulary.size()) return {};
      const std::string_view bytes = vocabulary[token];
      if (bytes.empty() || bytes.size() > rest.size() ||
          std::memcmp(bytes.data(), rest.data(), bytes.size()) != 0) {
        return {};
      }
      rest = rest.subspan(bytes.size());
    }
    if (!rest.empty()) return {};
  }
  return tokens;
}

bool EncodeBlock(const text_llm::Params& params, const TextModel& model,
                 ByteSpan block, const Scratch& scratch, Buffer* out) {
  if (block.size() < params.streams) return false;
  const SortedVocabulary vocabulary(model.vocabulary());
  const auto tokens = Tokenize(params, vocabulary, model, block);
  if (tokens.empty()) return false;
  auto session = model.Start(params.streams, text_llm::Threads(),
                             text_llm::kMaxSessionMemory);
  const cm::PrimedMemory memory(text_llm::PrimedFor(params, block.size()));
  if (!session.ok() || memory.data() == nullptr) return false;
  const size_t before = out->size();
  entropy::BinaryEncoder coder(out);
  const auto models =
      std::make_unique<text_llm::BitModels<entropy::BinaryEncoder>>(
          params, block.size(), memory.data(), coder);
  const absl::Status status = text_llm::CodeBlock(
      params, vocabulary, **session, *models, tokens, coder, block, scratch);
  coder.Finish();
  if (!status.ok() || out->size() - before >= block.size()) {
    out->Resize(before);
    return false;
  }
  return true;
}

std::unique_ptr<EncodePlan> MakePlan(const EncodeRequest& request,
                                     Scratch& scratch) {
  if (!request.is_text || request.text_model == nullptr) return nullptr;
  const ByteSpan block = FirstBlock(request);
  const text_llm::Params params = ChooseParams(block, *request.text_model);
  Buffer first;
  if (!EncodeBlock(params, *request.text_model, block, scratch, &first)) {
    return nullptr;
  }
  return std::make_unique<CodedPlan>(
      request, text_llm::StoreParams(params), std::move(first),
      [params, &model = *request.text_model](ByteSpan other, Scratch& own,
                                             Buffer* out) {
        return EncodeBlock(params, model, other, own, out);
      });
}

}  // namespace

extern const Encoder kTextLlmEncoder = {
    .id = 24, .name = "text_llm", .plan = MakePlan};

}  // namespace zipllm::codecs
