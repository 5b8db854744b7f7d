// Kind constant: all values are the body.
#include "codecs/columns/kinds.h"

namespace zipllm::codecs::columns {
namespace {

bool Encode(const Values& values, const EncodeContext& context, Buffer* out) {
  if (context.distinct->size() != 1) return false;
  out->Append(values[0]);
  return true;
}

}  // namespace

extern const KindEncoder kConstantEncoder = {.encode = Encode};

}  // namespace zipllm::codecs::columns
