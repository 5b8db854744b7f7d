// Kind text: lengths, and all bytes joined.
#include "codecs/columns/numbers.h"

namespace zipllm::codecs::columns {
namespace {

bool Encode(const Values& values, const EncodeContext& context, Buffer* out) {
  Numbers lengths(values.size());
  for (size_t i = 0; i < lengths.size(); ++i) lengths[i] = values[i].size();
  EncodeNumbers(lengths, context, out);
  EncodeBytes(values.bytes(), context, out);
  return true;
}

}  // namespace

extern const KindEncoder kTextEncoder = {.encode = Encode};

}  // namespace zipllm::codecs::columns
