#include "llm/tokenizer.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <queue>
#include <utility>

#include "base/bytes.h"
#include "codecs/text/text_model.h"
#include "llm/characters.h"

namespace zipllm::llm {
namespace {

constexpr uint32_t kNone = codecs::TextModel::kNone;

/// Numbers of tokenizer.ggml.token_type. The others stand for no text.
enum TokenType : int64_t { kNormal = 1, kUserDefined = 4, kByte = 6 };

/// Texts are cut before they are made tokens, so that memory is bounded: before
/// a space between these sizes that follows something else, if there is one.
constexpr size_t kMinPart = size_t{1} << 16;
constexpr size_t kMaxPart = kMinPart + 4096;

std::string_view AsText(ByteSpan bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// The byte that a character of a byte-level token stands for (GPT-2's
/// bytes_to_unicode): printable characters of Latin-1 for themselves, those
/// from 256 on for the other bytes in order; -1 for any other character.
int ByteOfCharacter(uint32_t code) {
  const auto is_printable = [](uint32_t c) {
    return (c >= 33 && c <= 126) || (c >= 161 && c <= 172) ||
           (c >= 174 && c <= 255);
  };
  if (code < 256) return is_printable(code) ? static_cast<int>(code) : -1;
  uint32_t character = 256;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    if (is_printable(byte)) continue;
    if (character++ == code) return static_cast<int>(byte);
  }
  return -1;
}

class ByteLevel {
 public:
  ByteLevel() {
    for (uint32_t code = 0; code < table_.size(); ++code) {
      table_[code] = static_cast<int16_t>(ByteOfCharacter(code));
    }
  }
  /// False where `token` has a character that stands for no byte.
  bool Decode(std::string_view token, std::string* bytes) const {
    bytes->clear();
    for (ByteSpan rest = AsBytes(token); !rest.empty();) {
      const Character character = FirstCharacter(rest);
      if (character.code >= table_.size() || table_[character.code] < 0) {
        return false;
      }
      bytes->push_back(static_cast<char>(table_[character.code]));
      rest = rest.subspan(character.size);
    }
    return true;
  }

 private:
  std::array<int16_t, 256 + 68> table_;
};

/// SentencePiece writes a space as U+2581.
std::string WithSpaces(std::string_view token) {
  constexpr std::string_view kMark = "\u2581";
  std::string text;
  for (size_t at = 0; at < token.size();) {
    if (token.substr(at).starts_with(kMark)) {
      text += ' ';
      at += kMark.size();
    } else {
      text += token[at++];
    }
  }
  return text;
}

/// "<0x0A>" is the byte 10; nullopt where it is not written so.
std::optional<uint8_t> ParseByte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') {
    return std::nullopt;
  }
  uint8_t byte = 0;
  const char* end = token.data() + 5;
  const auto result = std::from_chars(token.data() + 3, end, byte, 16);
  if (result.ec != std::errc() || result.ptr != end) return std::nullopt;
  return byte;
}

}  // namespace

/// Merges neighbours of a word, best first, until none merge any more: in time
/// n log n. Keeps its memory from word to word.
class Tokenizer::Merger {
 public:
  explicit Merger(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  void Begin(std::string_view word) {
    word_ = word;
    symbols_.clear();
  }
  void Add(size_t begin, size_t end, uint32_t token) {
    const auto index = static_cast<uint32_t>(symbols_.size());
    symbols_.push_back({static_cast<uint32_t>(begin),
                        static_cast<uint32_t>(end), index + 1, index - 1,
                        token});
  }
  /// Calls take(bytes, token) for what is left, in order.
  template <typename Take>
  void Finish(Take take) {
    const auto count = static_cast<uint32_t>(symbols_.size());
    for (uint32_t i = 0; i + 1 < count; ++i) Consider(i, i + 1);
    while (!queue_.empty()) {
      const Candidate best = queue_.top();
      queue_.pop();
      Symbol& left = symbols_[best.left];
      if (left.end != best.middle || left.next == count) continue;
      Symbol& right = symbols_[left.next];
      if (right.end != best.end) continue;
      left.end = std::exchange(right.end, 0);  // it is no more
      left.token = best.token;
      left.next = right.next;
      if (left.next != count) {
        symbols_[left.next].previous = best.left;
        Consider(best.left, left.next);
      }
      if (left.previous != kNone) Consider(left.previous, best.left);
    }
    for (uint32_t i = 0; i < count; i = symbols_[i].next) {
      const Symbol& symbol = symbols_[i];
      take(word_.substr(symbol.begin, symbol.end - symbol.begin), symbol.token);
    }
  }

 private:
  struct Symbol {
    uint32_t begin;
    uint32_t end;
    uint32_t next;
    uint32_t previous;
    uint32_t token;
  };
  struct Candidate {
    uint32_t rank;
    uint32_t left;
    uint32_t middle;  // bounds of both symbols, to know them again
    uint32_t end;
    uint32_t token;
    bool operator<(const Candidate& other) const {
      return std::pair(rank, left) > std::pair(other.rank, other.left);
    }
  };

  void Consider(uint32_t i, uint32_t j) {
    const Symbol& left = symbols_[i];
    const Symbol& right = symbols_[j];
    const size_t size = right.end - left.begin;
    if (size > kMaxTokenBytes) return;
    const std::optional<Merge> merge = tokenizer_.FindMerge(
        left.token, right.token, word_.substr(left.begin, size));
    if (merge) {
      queue_.push({merge->rank, i, left.end, right.end, merge->token});
    }
  }

  const Tokenizer& tokenizer_;
  std::string_view word_;
  std::vector<Symbol> symbols_;
  std::priority_queue<Candidate> queue_;
};

absl::StatusOr<std::unique_ptr<const Tokenizer>> Tokenizer::Make(
    const TokenizerMetadata& metadata) {
  std::unique_ptr<Tokenizer> tokenizer(new Tokenizer);
  if (metadata.model != "gpt2" && metadata.model != "llama") {
    return Unimplemented("tokenizers of the model \"", metadata.model,
                         "\" are not known; \"gpt2\" and \"llama\" are");
  }
  tokenizer->is_byte_pairs_ = metadata.model == "gpt2";
  tokenizer->word_rule_ = FindWordRule(metadata.pre);
  tokenizer->whole_words_first_ = tokenizer->word_rule_ == WordRule::kLlama3;
  const size_t count = metadata.tokens.size();
  if (count >= kNone - 1) return InvalidArgument(count, " tokens");
  if (!metadata.types.empty() && metadata.types.size() != count) {
    return InvalidArgument(metadata.types.size(), " types for ", count,
                           " tokens");
  }
  if (!tokenizer->is_byte_pairs_ && metadata.scores.size() != count) {
    return InvalidArgument(metadata.scores.size(), " scores for ", count,
                           " tokens");
  }

  const ByteLevel byte_level;
  std::vector<std::pair<std::string, uint32_t>> tokens;
  std::vector<std::pair<uint8_t, uint32_t>> bytes;  // and ids
  std::vector<uint32_t> whole;                      // ids
  for (uint32_t id = 0; id < count; ++id) {
    const std::string_view token = metadata.tokens[id];
    const int64_t type = metadata.types.empty() ? kNormal : metadata.types[id];
    std::string text;
    if (type == kUserDefined) {
      text = token;
      whole.push_back(id);
    } else if (type == kByte) {
      const std::optional<uint8_t> byte = ParseByte(token);
      if (!byte) return InvalidArgument("byte token \"", token, "\"");
      text = static_cast<char>(*byte);
      bytes.emplace_back(*byte, id);
    } else if (type == kNormal) {
      if (!tokenizer->is_byte_pairs_) {
        text = WithSpaces(token);
      } else if (!byte_level.Decode(token, &text)) {
        continue;
      }
    }
    if (text.empty() || text.size() > kMaxTokenBytes) continue;
    tokens.emplace_back(std::move(text), id);
  }
  if (tokens.empty()) return InvalidArgument("no token stands for text");
  tokenizer->AddVocabulary(std::move(tokens));

  std::vector<uint32_t> number_of(count, kNone);
  const size_t vocabulary = tokenizer->vocabulary_.size();
  for (uint32_t i = 0; i < vocabulary; ++i) {
    number_of[tokenizer->ids_[i]] = i;
  }
  for (const uint32_t id : whole) {
    if (number_of[id] != kNone) tokenizer->whole_.push_back(number_of[id]);
  }
  std::ranges::sort(tokenizer->whole_);
  // A byte's own token, or else any of one byte.
  tokenizer->byte_tokens_.assign(256, kNone);
  for (uint32_t i = 0; i < vocabulary; ++i) {
    const std::string_view token = tokenizer->vocabulary_[i];
    if (token.size() == 1) {
      tokenizer->byte_tokens_[static_cast<uint8_t>(token[0])] = i;
    }
  }
  for (const auto& [byte, id] : bytes) {
    tokenizer->byte_tokens_[byte] = number_of[id];
  }
  for (uint32_t i = 0; i < vocabulary; ++i) {
    const uint32_t id = tokenizer->ids_[i];
    if (metadata.types.empty() || metadata.types[id] == kNormal) {
      tokenizer->tokens_.emplace(tokenizer->vocabulary_[i], i);
    }
  }
  if (tokenizer->is_byte_pairs_) {
    RETURN_IF_ERROR(tokenizer->ReadMerges(metadata));
  } else {
    tokenizer->RankByScores(metadata);
  }
  return tokenizer;
}

absl::StatusOr<std::unique_ptr<const Tokenizer>> Tokenizer::FromGguf(
    const Gguf& gguf) {
  const auto read = [&]() -> absl::StatusOr<std::unique_ptr<const Tokenizer>> {
    TokenizerMetadata metadata;
    ASSIGN_OR_RETURN(metadata.model, gguf.Text("tokenizer.ggml.model"));
    ASSIGN_OR_RETURN(metadata.tokens, gguf.Texts("tokenizer.ggml.tokens"));
    if (gguf.Has("tokenizer.ggml.pre")) {
      ASSIGN_OR_RETURN(metadata.pre, gguf.Text("tokenizer.ggml.pre"));
    }
    if (gguf.Has("tokenizer.ggml.token_type")) {
      ASSIGN_OR_RETURN(metadata.types,
                       gguf.Integers("tokenizer.ggml.token_type"));
    }
    if (gguf.Has("tokenizer.ggml.scores")) {
      ASSIGN_OR_RETURN(metadata.scores, gguf.Numbers("tokenizer.ggml.scores"));
    }
    if (gguf.Has("tokenizer.ggml.merges")) {
      ASSIGN_OR_RETURN(metadata.merges, gguf.Texts("tokenizer.ggml.merges"));
    }
    return Make(metadata);
  };
  auto tokenizer = read();
  if (!tokenizer.ok()) {
    return Annotate(tokenizer.status(), gguf.name(), ": tokenizer: ");
  }
  return tokenizer;
}

void Tokenizer::AddVocabulary(
    std::vector<std::pair<std::string, uint32_t>> tokens) {
  std::ranges::sort(tokens);
  size_t size = 0;
  for (const auto& [bytes, id] : tokens) size += bytes.size();
  bytes_.reserve(size);
  for (const auto& [bytes, id] : tokens) {
    vocabulary_.emplace_back(bytes_.data() + bytes_.size(), bytes.size());
    bytes_ += bytes;
    ids_.push_back(id);
  }
}

uint32_t Tokenizer::Find(std::string_view bytes) const {
  const auto found = tokens_.find(bytes);
  return found == tokens_.end() ? kNone : found->second;
}

absl::Status Tokenizer::ReadMerges(const TokenizerMetadata& metadata) {
  if (metadata.merges.size() > std::numeric_limits<uint32_t>::max()) {
    return InvalidArgument(metadata.merges.size(), " merges");
  }
  const ByteLevel byte_level;
  std::string left, right;
  for (uint32_t rank = 0; rank < metadata.merges.size(); ++rank) {
    const std::string_view merge = metadata.merges[rank];
    const size_t space = merge.find(' ', 1);
    if (space == std::string_view::npos ||
        !byte_level.Decode(merge.substr(0, space), &left) ||
        !byte_level.Decode(merge.substr(space + 1), &right)) {
      return InvalidArgument("merge ", rank, ", \"", merge,
                             "\", is not of two tokens");
    }
    const uint32_t l = Find(left), r = Find(right), both = Find(left + right);
    if (l == kNone || r == kNone || both == kNone) continue;
    merges_.emplace(uint64_t{l} << 32 | r, Merge{rank, both});
  }
  return absl::OkStatus();
}

void Tokenizer::RankByScores(const TokenizerMetadata& metadata) {
  std::vector<uint32_t> order;
  for (const auto& [bytes, token] : tokens_) order.push_back(token);
  const auto score = [&](uint32_t token) {
    return metadata.scores[ids_[token]];
  };
  std::ranges::sort(order, [&](uint32_t a, uint32_t b) {
    return score(a) > score(b) || (score(a) == score(b) && a < b);
  });
  ranks_.assign(vocabulary_.size(), kNone);
  uint32_t rank = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && score(order[i]) != score(order[i - 1])) ++rank;
    ranks_[order[i]] = rank;
  }
}

std::optional<Tokenizer::Merge> Tokenizer::FindMerge(
    uint32_t left, uint32_t right, std::string_view bytes) const {
  if (is_byte_pairs_) {
    const auto merge = merges_.find(uint64_t{left} << 32 | right);
    if (merge == merges_.end()) return std::nullopt;
    return merge->second;
  }
  const uint32_t token = Find(bytes);
  if (token == kNone) return std::nullopt;
  return Merge{ranks_[token], token};
}

size_t Tokenizer::LongestWhole(ByteSpan text, uint32_t* token) const {
  auto begin = whole_.begin();
  auto end = whole_.end();
  size_t longest = 0;
  // Of those that begin with the text's first `size` bytes.
  for (size_t size = 0; begin != end; ++size) {
    while (begin != end && vocabulary_[*begin].size() == size) {
      longest = size;
      *token = *begin++;
    }
    if (size == text.size()) break;
    const auto byte_at = [&](uint32_t i) {
      return static_cast<uint8_t>(vocabulary_[i][size]);
    };
    // Not equal_range: clang 14 cannot compile libstdc++'s.
    begin = std::ranges::lower_bound(begin, end, text[size], {}, byte_at);
    end = std::ranges::upper_bound(begin, end, text[size], {}, byte_at);
  }
  return longest;
}

void Tokenizer::TokenizeWord(std::string_view word, Merger& merger,
                             std::vector<uint32_t>* tokens) const {
  if (whole_words_first_) {
    if (const uint32_t token = Find(word); token != kNone) {
      tokens->push_back(token);
      return;
    }
  }
  merger.Begin(word);
  for (size_t at = 0; at < word.size();) {
    const size_t size =
        is_byte_pairs_ ? 1 : FirstCharacter(AsBytes(word.substr(at))).size;
    merger.Add(at, at + size, Find(word.substr(at, size)));
    at += size;
  }
  merger.Finish([&](std::string_view bytes, uint32_t token) {
    if (token != kNone) {
      tokens->push_back(token);
      return;
    }
    for (const char byte : bytes) {
      tokens->push_back(byte_tokens_[static_cast<uint8_t>(byte)]);
    }
  });
}

void Tokenizer::TokenizePart(ByteSpan text, Merger& merger,
                             std::vector<uint32_t>* tokens) const {
  if (!is_byte_pairs_) {
    TokenizeWord(AsText(text), merger, tokens);
    return;
  }
  std::vector<size_t> ends;
  SplitWords(word_rule_, text, &ends);
  size_t begin = 0;
  for (const size_t end : ends) {
    TokenizeWord(AsText(text.subspan(begin, end - begin)), merger, tokens);
    begin = end;
  }
}

void Tokenizer::Tokenize(ByteSpan text, std::vector<uint32_t>* tokens) const {
  Merger merger(*this);
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    uint32_t token = kNone;
    if (const size_t size = LongestWhole(text.subspan(at), &token); size > 0) {
      TokenizePart(text.subspan(begin, at - begin), merger, tokens);
      tokens->push_back(token);
      begin = at += size;
      continue;
    }
    ++at;
    const size_t size = at - begin;
    if (size >= kMaxPart || (size >= kMinPart && at < text.size() &&
                             text[at] == ' ' && text[at - 1] > ' ')) {
      TokenizePart(text.subspan(begin, size), merger, tokens);
      begin = at;
    }
  }
  TokenizePart(text.subspan(begin), merger, tokens);
}

}  // namespace zipllm::llm
