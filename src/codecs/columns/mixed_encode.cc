// Kind mixed: values by context mixing, each ended by a byte that is in none.
#include <algorithm>
#include <array>

#include "codecs/columns/mix.h"

namespace zipllm::codecs::columns {
namespace {

bool Encode(const Values& values, const EncodeContext& context, Buffer* out) {
  if (context.level < kMixLevel) return false;
  std::array<bool, 256> seen{};
  for (const uint8_t byte : values.bytes()) seen[byte] = true;
  const auto* const end = std::ranges::find(seen, false);
  if (end == seen.end()) return false;
  MixRecords records{.count = values.size(),
                     .width = 0,
                     .end = static_cast<uint8_t>(end - seen.begin())};
  const size_t size = values.bytes().size() + values.size();
  Buffer plain;
  plain.Reserve(size);
  for (size_t i = 0; i < values.size(); ++i) {
    plain.Append(values[i]);
    *plain.Extend(1) = records.end;
  }
  const size_t start = out->size();
  ByteWriter writer(out);
  writer.Le(records.end);
  writer.Varint(size);
  MixBesides besides;
  ChooseBesides(context.distinct->ids(), context, &besides, out);
  besides.Set(&records);
  if (EncodeMix(records, plain.span(), size + 8, out)) return true;
  out->Resize(start);
  return false;
}

}  // namespace

extern const KindEncoder kMixedEncoder = {.encode = Encode};

}  // namespace zipllm::codecs::columns
