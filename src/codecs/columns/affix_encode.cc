// Kind affix: what all values begin and end with, and a part of what is
// between.
#include <algorithm>

#include "codecs/columns/kinds.h"

namespace zipllm::codecs::columns {
namespace {

bool IsDigit(uint8_t byte) { return byte >= '0' && byte <= '9'; }

bool Encode(const Values& values, const EncodeContext& context, Buffer* out) {
  // Of a part it was cut off already, or is of no use.
  if (context.depth > 1 || values.size() < 2) return false;
  const ByteSpan first = values[0];
  size_t prefix = first.size();
  size_t suffix = first.size();
  size_t shortest = first.size();
  size_t longest = 0;
  for (size_t i = 0; i < values.size() && (prefix | suffix) != 0; ++i) {
    const ByteSpan value = values[i];
    shortest = std::min(shortest, value.size());
    longest = std::max(longest, value.size());
    prefix = std::min(prefix, value.size());
    suffix = std::min(suffix, value.size());
    size_t same = 0;
    while (same < prefix && value[same] == first[same]) ++same;
    prefix = same;
    same = 0;
    while (same < suffix &&
           value[value.size() - 1 - same] == first[first.size() - 1 - same]) {
      ++same;
    }
    suffix = same;
  }
  if (prefix >= shortest) return false;
  suffix = std::min(suffix, shortest - prefix);
  // Numbers of several lengths are not cut in two.
  if (shortest != longest) {
    while (prefix > 0 && IsDigit(first[prefix - 1])) --prefix;
  }
  while (suffix > 0 && IsDigit(first[first.size() - suffix])) --suffix;
  if (prefix + suffix == 0) return false;

  Values middles;
  for (size_t i = 0; i < values.size(); ++i) {
    const ByteSpan value = values[i];
    middles.Append(value.subspan(prefix, value.size() - prefix - suffix));
  }
  ByteWriter writer(out);
  writer.Varint(prefix);
  writer.Bytes(first.first(prefix));
  writer.Varint(suffix);
  writer.Bytes(first.last(suffix));
  EncodePart(middles, context, out);
  return true;
}

}  // namespace

extern const KindEncoder kAffixEncoder = {.encode = Encode};

}  // namespace zipllm::codecs::columns
