// What kinds are made of: bytes, exceptions.
#include "codecs/bytes/zstd_encode.h"
#include "codecs/columns/numbers.h"

namespace zipllm::codecs::columns {
namespace {

/// Zstandard's level for ours.
int EffortOf(const EncodeContext& context) {
  constexpr std::array kEfforts = {1, 3, 7, 12, 16, 12, 16, 19, 19};
  const int effort = kEfforts[static_cast<size_t>(context.level - 1)];
  return context.is_trial ? std::min(effort, 2) : effort;
}

}  // namespace

void EncodeBytes(ByteSpan bytes, const EncodeContext& context, Buffer* out) {
  Buffer coded;
  const bool smaller = AppendZstdFrame(bytes, EffortOf(context), &coded);
  ByteWriter writer(out);
  writer.Varint(smaller ? coded.size() : 0);
  writer.Bytes(smaller ? coded.span() : bytes);
}

void Exceptions::Encode(const EncodeContext& context, Buffer* out) const {
  ByteWriter(out).Varint(places_.size());
  EncodeContext inner = context;
  inner.beside = {};
  Numbers gaps(places_);
  for (size_t i = gaps.size(); i-- > 1;) gaps[i] -= gaps[i - 1] + 1;
  EncodeNumbers(gaps, inner, out);
  if (!places_.empty()) EncodePart(values_, inner, out);
}

}  // namespace zipllm::codecs::columns
