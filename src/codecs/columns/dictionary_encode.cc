// Kind dictionary: the distinct values in the order in which they come first,
// and for each value whether it is the next of them or which one again.
#include "codecs/columns/numbers.h"

namespace zipllm::codecs::columns {
namespace {

/// Above it, how far back an entry was seen may be less than which one it is.
constexpr size_t kFew = 32;

bool Encode(const Values& values, const EncodeContext& context, Buffer* out) {
  const Distinct& distinct = *context.distinct;
  const size_t count = values.size();
  if (distinct.size() == count) return false;
  ByteWriter writer(out);
  writer.Varint(distinct.size());
  Values entries;
  for (const uint32_t first : distinct.firsts()) entries.Append(values[first]);
  EncodeContext alone = context;
  alone.beside = {};
  EncodePart(entries, alone, out);

  const auto ids = distinct.ids();
  Numbers entry(count);
  Numbers distance(count);
  std::vector<size_t> last(distinct.size());
  for (size_t i = 0; i < count; ++i) {
    const uint32_t id = ids[i];
    const bool is_new = distinct.firsts()[id] == i;
    entry[i] = is_new ? 0 : id + 1;
    distance[i] = is_new ? 0 : i - last[id];
    last[id] = i;
  }
  const bool is_distance =
      distinct.size() > kFew &&
      QuickSize(distance, context) < QuickSize(entry, context);
  writer.Varint(is_distance);
  EncodeNumbers(is_distance ? distance : entry, context, out);
  return true;
}

}  // namespace

extern const KindEncoder kDictionaryEncoder = {.encode = Encode};

}  // namespace zipllm::codecs::columns
