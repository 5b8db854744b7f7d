// What the blocks of a log share: the texts of templates that its first block
// has. Format: format-spec/codecs/25-log.md.
#ifndef ZIPLLM_CODECS_LOG_SHARED_H_
#define ZIPLLM_CODECS_LOG_SHARED_H_

#include <unordered_map>
#include <vector>

#include "base/buffer.h"
#include "codecs/codec.h"

namespace zipllm::codecs::log {

/// Learnt from a log's first block. Immutable; shared by threads.
class SharedTexts final : public TensorModel {
 public:
  /// `texts` are as templates have them, without copies.
  explicit SharedTexts(Buffer texts);
  ByteSpan shared() const override { return texts_.span(); }
  /// Appends `text`, with copies in place of what is shared.
  void Shorten(ByteSpan text, Buffer* out) const;

 private:
  /// The longest part that is shared and begins as `text` does at `at`.
  ByteSpan Longest(ByteSpan text, size_t at) const;

  const Buffer texts_;
  /// Where each string of kStep bytes is first.
  std::unordered_map<uint64_t, uint32_t> places_;
};

}  // namespace zipllm::codecs::log

#endif  // ZIPLLM_CODECS_LOG_SHARED_H_
