#include "llm/load.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/buffer.h"
#include "llm/gguf.h"
#include "llm/tokenizer.h"
#include "llm/transformer.h"

namespace zipllm::llm {
namespace {

constexpr size_t kReadBytes = size_t{1} << 20;

class Model final : public codecs::TextModel {
 public:
  Model(const Sha256Digest& sha256, std::unique_ptr<const Tokenizer> tokenizer,
        std::unique_ptr<const Transformer> transformer)
      : sha256_(sha256),
        tokenizer_(std::move(tokenizer)),
        transformer_(std::move(transformer)) {}

  const Sha256Digest& sha256() const override { return sha256_; }
  std::span<const std::string_view> vocabulary() const override {
    return tokenizer_->vocabulary();
  }
  void Tokenize(ByteSpan text, std::vector<uint32_t>* tokens) const override {
    tokenizer_->Tokenize(text, tokens);
  }
  absl::StatusOr<std::unique_ptr<Session>> Start(
      size_t streams, int threads, uint64_t max_memory) const override {
    return transformer_->Start(streams, threads, max_memory);
  }

 private:
  const Sha256Digest sha256_;
  const std::unique_ptr<const Tokenizer> tokenizer_;
  const std::unique_ptr<const Transformer> transformer_;
};

absl::StatusOr<Sha256Digest> HashFile(Source& source) {
  Sha256 hash;
  Buffer bytes(kReadBytes);
  for (uint64_t offset = 0;;) {
    ASSIGN_OR_RETURN(const size_t got,
                     source.ReadAt(offset, bytes.mutable_span()));
    if (got == 0) return hash.Finish();
    hash.Update(bytes.span().first(got));
    offset += got;
  }
}

/// The model's own id of what it has seen before a text: where no such token is
/// put there by rule, the one that divides texts.
absl::StatusOr<uint32_t> FindBegin(const Gguf& gguf) {
  const std::string key = "tokenizer.ggml.";
  ASSIGN_OR_RETURN(const std::string_view model, gguf.Text(key + "model"));
  ASSIGN_OR_RETURN(const uint64_t add_begin,
                   gguf.IntegerOr(key + "add_bos_token", model == "llama"));
  ASSIGN_OR_RETURN(const std::vector<std::string_view> tokens,
                   gguf.Texts(key + "tokens"));
  if (add_begin == 0) {
    const auto found = std::find(tokens.begin(), tokens.end(), "<|endoftext|>");
    if (found != tokens.end()) {
      return static_cast<uint32_t>(found - tokens.begin());
    }
  }
  const bool has_begin = gguf.Has(key + "bos_token_id");
  ASSIGN_OR_RETURN(
      const uint64_t id,
      gguf.Integer(key + (has_begin ? "bos_token_id" : "eos_token_id")));
  if (id < tokens.size()) return static_cast<uint32_t>(id);
  return InvalidArgument(gguf.name(), ": the token that begins a text is ", id,
                         ", but there are ", tokens.size());
}

absl::StatusOr<std::shared_ptr<const codecs::TextModel>> Load(
    Source& source, uint64_t max_memory) {
  ASSIGN_OR_RETURN(const Gguf gguf, Gguf::Read(source));
  ASSIGN_OR_RETURN(std::unique_ptr<const Tokenizer> tokenizer,
                   Tokenizer::FromGguf(gguf));
  std::vector<uint32_t> ids(tokenizer->ids().begin(), tokenizer->ids().end());
  ASSIGN_OR_RETURN(const uint32_t begin, FindBegin(gguf));
  ids.push_back(begin);
  ASSIGN_OR_RETURN(std::unique_ptr<const Transformer> transformer,
                   Transformer::Load(gguf, source, ids, max_memory));
  ASSIGN_OR_RETURN(const Sha256Digest sha256, HashFile(source));
  return std::make_shared<const Model>(sha256, std::move(tokenizer),
                                       std::move(transformer));
}

}  // namespace

absl::StatusOr<std::shared_ptr<const codecs::TextModel>> LoadModel(
    Source& gguf, uint64_t max_memory) {
  return CatchExceptions([&] { return Load(gguf, max_memory); });
}

}  // namespace zipllm::llm
