// The plan of a codec that has to code a block to know what it takes.
#ifndef ZIPLLM_CODECS_TEXT_CODED_PLAN_H_
#define ZIPLLM_CODECS_TEXT_CODED_PLAN_H_

#include <algorithm>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "base/buffer.h"
#include "codecs/codec.h"

namespace zipllm::codecs {

/// The first block of a request's frame.
inline ByteSpan FirstBlock(const EncodeRequest& request) {
  return request.data.first(std::min(request.block_size, request.data.size()));
}

/// Keeps the coded form of a frame's first block, which is all of it as a rule.
class CodedPlan final : public EncodePlan {
 public:
  using Encoding = std::function<bool(ByteSpan, Scratch&, Buffer*)>;

  /// `encode` codes what other blocks there are; `stored` are the parameters.
  CodedPlan(const EncodeRequest& request, ByteSpan stored, Buffer first,
            Encoding encode)
      : block_(FirstBlock(request)),
        stored_(stored.begin(), stored.end()),
        first_(std::move(first)),
        estimate_(first_.size() * request.data.size() / block_.size()),
        encode_(std::move(encode)) {}
  ByteSpan params() const override { return stored_; }
  uint64_t estimate() const override { return estimate_; }
  bool Encode(ByteSpan block, Scratch& scratch, Buffer* out) const override {
    if (block.data() != block_.data() || block.size() != block_.size()) {
      return encode_(block, scratch, out);
    }
    out->Append(first_.span());
    return true;
  }

 private:
  const ByteSpan block_;
  const std::vector<uint8_t> stored_;
  const Buffer first_;
  const uint64_t estimate_;
  const Encoding encode_;
};

}  // namespace zipllm::codecs

#endif  // ZIPLLM_CODECS_TEXT_CODED_PLAN_H_
