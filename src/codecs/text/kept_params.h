// What a decoder of text keeps of a frame: the codec's parameters.
#ifndef ZIPLLM_CODECS_TEXT_KEPT_PARAMS_H_
#define ZIPLLM_CODECS_TEXT_KEPT_PARAMS_H_

#include <memory>

#include "codecs/codec.h"

namespace zipllm::codecs {

template <class Params>
struct KeptParams final : DecodeParams {
  explicit KeptParams(const Params& p) : params(p) {}
  Params params;

  static const Params& Of(const DecodeParams& kept) {
    return static_cast<const KeptParams&>(kept).params;
  }
};

/// Decoder::parse by the codec's `kParse`.
template <class Params, absl::StatusOr<Params> (*kParse)(ByteSpan)>
absl::StatusOr<std::unique_ptr<const DecodeParams>> ParseKept(ByteSpan bytes) {
  ASSIGN_OR_RETURN(const Params params, kParse(bytes));
  return std::make_unique<KeptParams<Params>>(params);
}

/// Decoder::memory by the codec's `kMemory`.
template <class Params, uint64_t (*kMemory)(const Params&, uint64_t)>
uint64_t MemoryOfKept(const DecodeParams* params, uint64_t size) {
  return params == nullptr ? 0 : kMemory(KeptParams<Params>::Of(*params), size);
}

}  // namespace zipllm::codecs

#endif  // ZIPLLM_CODECS_TEXT_KEPT_PARAMS_H_
