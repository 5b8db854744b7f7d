// A language model as a codec sees it: tokens in, the chances of the next one
// out, by the same bits on every machine. src/llm implements it.
#ifndef ZIPLLM_CODECS_TEXT_TEXT_MODEL_H_
#define ZIPLLM_CODECS_TEXT_TEXT_MODEL_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "base/status.h"
#include "zipllm/types.h"

namespace zipllm::codecs {

/// Immutable; used by several threads at once.
class TextModel {
 public:
  virtual ~TextModel() = default;

  /// Of the model's file: its name in an archive.
  virtual const Sha256Digest& sha256() const = 0;

  /// The bytes that each token stands for, in ascending order of these bytes,
  /// then of the model's own ids. A token's number in this interface is its
  /// place here. Tokens that stand for no text (control, unused) are not in it.
  virtual std::span<const std::string_view> vocabulary() const = 0;

  /// Appends the tokens whose bytes, one after the other, are `text`: those
  /// that the model was trained to see where that is possible; kNone for a byte
  /// that no token stands for. In time and memory near proportional to the
  /// text's.
  virtual void Tokenize(ByteSpan text, std::vector<uint32_t>* tokens) const = 0;

  /// Texts that are read at once, so that products with weights serve all of
  /// them. Thread-compatible.
  class Session {
   public:
    virtual ~Session() = default;
    /// Reads the next token of each stream, by number; kNone: this stream
    /// rests. The first call has kBegin for each.
    virtual void Step(std::span<const uint32_t> tokens) = 0;
    /// What may come next in a stream after the last Step: sums over the
    /// vocabulary, of which entry i is the weight of all tokens before i; the
    /// last entry, vocabulary().size(), is the weight of all. Each token weighs
    /// at least 1, all together less than 2^48. Valid until the next Step.
    virtual std::span<const uint64_t> Sums(size_t stream) const = 0;
  };
  static constexpr uint32_t kNone = UINT32_MAX;
  static constexpr uint32_t kBegin = UINT32_MAX - 1;

  /// Begins to read `streams` texts by up to `threads` threads; the result does
  /// not depend on their number. RESOURCE_EXHAUSTED where keys and values would
  /// take more than `max_memory` bytes.
  virtual absl::StatusOr<std::unique_ptr<Session>> Start(
      size_t streams, int threads, uint64_t max_memory) const = 0;
};

}  // namespace zipllm::codecs

#endif  // ZIPLLM_CODECS_TEXT_TEXT_MODEL_H_
