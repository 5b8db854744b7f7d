// Tokenizers that GGUF files of language models bring: byte pairs over bytes
// (Sennrich, Haddow, Birch 2016; Radford et al. 2019) and SentencePiece's
// (Kudo, Richardson 2018).
#ifndef ZIPLLM_LLM_TOKENIZER_H_
#define ZIPLLM_LLM_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "llm/gguf.h"
#include "llm/split_words.h"
#include "zipllm/types.h"

namespace zipllm::llm {

/// What metadata say of a tokenizer (keys tokenizer.ggml.*).
struct TokenizerMetadata {
  std::string_view model;  ///< "gpt2": byte pairs; "llama": SentencePiece
  std::string_view pre;    ///< how "gpt2" cuts words; may be empty
  std::vector<std::string_view> tokens;
  std::vector<int64_t> types;            ///< of tokens; empty: all normal
  std::vector<float> scores;             ///< of tokens, "llama" only
  std::vector<std::string_view> merges;  ///< "left right", "gpt2" only
};

/// Immutable; used by several threads at once.
class Tokenizer {
 public:
  /// INVALID_ARGUMENT where the metadata contradict themselves, or no token
  /// stands for text; UNIMPLEMENTED for models that are not known, naming them.
  static absl::StatusOr<std::unique_ptr<const Tokenizer>> Make(
      const TokenizerMetadata& metadata);
  /// As Make, of the file's metadata. Messages name the file.
  static absl::StatusOr<std::unique_ptr<const Tokenizer>> FromGguf(
      const Gguf& gguf);

  /// Tokens longer than this stand for no text here.
  static constexpr size_t kMaxTokenBytes = 1024;

  /// As TextModel::vocabulary().
  std::span<const std::string_view> vocabulary() const { return vocabulary_; }
  /// The model's own id of each token of the vocabulary.
  std::span<const uint32_t> ids() const { return ids_; }
  /// As TextModel::Tokenize(). The space before a text that some models are
  /// trained to see (add_space_prefix) is not part of it, and not made up.
  void Tokenize(ByteSpan text, std::vector<uint32_t>* tokens) const;

 private:
  /// What two neighbours become; merges of lower ranks come first.
  struct Merge {
    uint32_t rank;
    uint32_t token;
  };
  class Merger;

  Tokenizer() = default;
  void AddVocabulary(std::vector<std::pair<std::string, uint32_t>> tokens);
  uint32_t Find(std::string_view bytes) const;
  absl::Status ReadMerges(const TokenizerMetadata& metadata);
  void RankByScores(const TokenizerMetadata& metadata);
  std::optional<Merge> FindMerge(uint32_t left, uint32_t right,
                                 std::string_view bytes) const;
  size_t LongestWhole(ByteSpan text, uint32_t* token) const;
  void TokenizePart(ByteSpan text, Merger& merger,
                    std::vector<uint32_t>* tokens) const;
  void TokenizeWord(std::string_view word, Merger& merger,
                    std::vector<uint32_t>* tokens) const;

  bool is_byte_pairs_ = false;
  bool whole_words_first_ = false;
  WordRule word_rule_ = WordRule::kGpt2;
  std::string bytes_;  // of all tokens
  std::vector<std::string_view> vocabulary_;
  std::vector<uint32_t> ids_;
  /// By bytes: tokens that merging makes.
  std::unordered_map<std::string_view, uint32_t> tokens_;
  /// Tokens that are found before anything is merged, ascending.
  std::vector<uint32_t> whole_;
  /// By byte: the token to fall back to, or kNone.
  std::vector<uint32_t> byte_tokens_;
  /// By left and right token (byte pairs).
  std::unordered_map<uint64_t, Merge> merges_;
  /// By token (SentencePiece).
  std::vector<uint32_t> ranks_;
};

}  // namespace zipllm::llm

#endif  // ZIPLLM_LLM_TOKENIZER_H_
