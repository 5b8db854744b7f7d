// A language model for tests: counts of pairs of tokens in a text.
#ifndef ZIPLLM_TESTS_CODECS_TOY_TEXT_MODEL_H_
#define ZIPLLM_TESTS_CODECS_TOY_TEXT_MODEL_H_

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "codecs/text/text_model.h"

namespace zipllm::codecs {

class ToyTextModel final : public TextModel {
 public:
  /// `tokens` may be in any order, and some of them equal. `seen` is what the
  /// model knows.
  ToyTextModel(std::vector<std::string> tokens, std::string_view seen)
      : tokens_(std::move(tokens)) {
    std::ranges::sort(tokens_);
    std::string all;
    for (const std::string& token : tokens_) {
      vocabulary_.push_back(token);
      all += token + "\n";
    }
    all += seen;
    sha256_ = Sha256Of(AsBytes(all));
    std::vector<uint32_t> text;
    Tokenize(AsBytes(seen), &text);
    uint32_t before = kBegin;
    for (const uint32_t token : text) {
      if (token != kNone) ++counts_[{before, token}];
      before = token;
    }
  }

  const Sha256Digest& sha256() const override { return sha256_; }
  std::span<const std::string_view> vocabulary() const override {
    return vocabulary_;
  }
  /// The longest token at each place.
  void Tokenize(ByteSpan text, std::vector<uint32_t>* tokens) const override {
    while (!text.empty()) {
      uint32_t best = kNone;
      for (uint32_t i = 0; i < vocabulary_.size(); ++i) {
        const ByteSpan token = AsBytes(vocabulary_[i]);
        if (token.size() <= text.size() &&
            std::ranges::equal(token, text.first(token.size())) &&
            (best == kNone || token.size() > vocabulary_[best].size())) {
          best = i;
        }
      }
      tokens->push_back(best);
      text = text.subspan(best == kNone ? 1 : vocabulary_[best].size());
    }
  }
  absl::StatusOr<std::unique_ptr<Session>> Start(
      size_t streams, int /*threads*/, uint64_t /*max_memory*/) const override {
    return std::make_unique<ToySession>(*this, streams);
  }

 private:
  class ToySession final : public Session {
   public:
    ToySession(const ToyTextModel& model, size_t streams)
        : model_(model), sums_(streams) {}
    void Step(std::span<const uint32_t> tokens) override {
      for (size_t i = 0; i < tokens.size(); ++i) {
        if (tokens[i] == kNone) continue;
        std::vector<uint64_t>& sums = sums_[i];
        sums.assign(1, 0);
        for (uint32_t t = 0; t < model_.vocabulary_.size(); ++t) {
          const auto count = model_.counts_.find({tokens[i], t});
          sums.push_back(
              sums.back() + 1 +
              (count == model_.counts_.end() ? 0 : 64 * count->second));
        }
      }
    }
    std::span<const uint64_t> Sums(size_t stream) const override {
      return sums_[stream];
    }

   private:
    const ToyTextModel& model_;
    std::vector<std::vector<uint64_t>> sums_;
  };

  std::vector<std::string> tokens_;
  std::vector<std::string_view> vocabulary_;
  Sha256Digest sha256_;
  std::map<std::pair<uint32_t, uint32_t>, uint64_t> counts_;
};

/// All bytes but those given, and some tokens of several bytes, one of them
/// twice.
inline std::vector<std::string> ToyTokens(std::string_view without = "") {
  std::vector<std::string> tokens = {" the", " the", " of",  "ing",  "th",
                                     "the",  "ed ",  " and", "a b",  "\xE2\x82",
                                     "ab",   "abc",  "aba",  "\r\n", "  "};
  for (int byte = 0; byte < 256; ++byte) {
    const auto c = static_cast<char>(byte);
    if (without.find(c) == std::string_view::npos) tokens.emplace_back(1, c);
  }
  return tokens;
}

}  // namespace zipllm::codecs

#endif  // ZIPLLM_TESTS_CODECS_TOY_TEXT_MODEL_H_
