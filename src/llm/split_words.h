// Pre-tokenizers: text is cut into words, in each of which tokens are made.
#ifndef ZIPLLM_LLM_SPLIT_WORDS_H_
#define ZIPLLM_LLM_SPLIT_WORDS_H_

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "zipllm/types.h"

namespace zipllm::llm {

/// How text is cut: what regular expressions of the models' tokenizers do.
enum class WordRule {
  /// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
  kGpt2,
  /// Each \p{N} by itself, what is between them as kGpt2.
  kSmolLm,
  /// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|
  /// ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
  kLlama3,
  /// As kLlama3, with \p{N} for \p{N}{1,3}.
  kQwen2,
};

/// The rule of a model whose metadata name it `pre` (tokenizer.ggml.pre). Names
/// that are not known have kGpt2: that costs some bytes, and nothing else.
WordRule FindWordRule(std::string_view pre);

/// Puts where the words of `text` end into `*ends`, ascending; the last is
/// text.size(). In time proportional to the text's size.
void SplitWords(WordRule rule, ByteSpan text, std::vector<size_t>* ends);

}  // namespace zipllm::llm

#endif  // ZIPLLM_LLM_SPLIT_WORDS_H_
