// Kind characters: values of one length, by rANS with a table for each place
// or one for all.
#include <algorithm>

#include "codecs/columns/kinds.h"
#include "entropy/class_rans.h"

namespace zipllm::codecs::columns {
namespace {

/// Fewer are not worth the states of rANS.
constexpr size_t kLeast = 512;

/// The length of most values.
size_t UsualLength(const Values& values) {
  std::vector<size_t> counts(entropy::kMaxClasses + 1);
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i].size() < counts.size()) ++counts[values[i].size()];
  }
  return static_cast<size_t>(std::ranges::max_element(counts) - counts.begin());
}

bool Encode(const Values& values, const EncodeContext& context, Buffer* out) {
  const size_t length = UsualLength(values);
  if (length == 0 || length * values.size() < kLeast) return false;
  Exceptions exceptions;
  Buffer characters;
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i].size() == length) {
      characters.Append(values[i]);
    } else {
      exceptions.Add(i, values[i]);
    }
  }
  if (exceptions.size() * 4 > values.size()) return false;
  const ByteSpan bytes = characters.span();

  std::vector<entropy::ByteCounts> counts(length);
  entropy::ByteCounts all{};
  for (size_t i = 0; i < bytes.size(); ++i) {
    ++counts[i % length][bytes[i]];
    ++all[bytes[i]];
  }
  // A table takes about a byte for each character in it.
  uint64_t by_place = 0;
  for (const entropy::ByteCounts& place : counts) {
    by_place += (entropy::EntropyCost(place) >> 19) +
                static_cast<uint64_t>(std::ranges::count_if(
                    place, [](uint32_t count) { return count != 0; }));
  }
  const bool one_table = entropy::EntropyCost(all) >> 19 <= by_place;
  if (one_table) counts.assign(1, all);
  entropy::ClassFrequencies frequencies;
  for (const entropy::ByteCounts& place : counts) {
    frequencies.push_back(entropy::NormalizeBytes(place));
  }
  std::vector<uint8_t> places(bytes.size());
  for (size_t i = 0; !one_table && i < bytes.size(); ++i) {
    places[i] = static_cast<uint8_t>(i % length);
  }
  exceptions.Encode(context, out);
  ByteWriter(out).Varint(length);
  entropy::WriteClassFrequencies(frequencies, out);
  Buffer scratch;
  entropy::EncodeClassRans(entropy::ClassEncodeTables(frequencies),
                           bytes.data(), places.data(), bytes.size(), &scratch,
                           out);
  return true;
}

}  // namespace

extern const KindEncoder kCharactersEncoder = {.encode = Encode};

}  // namespace zipllm::codecs::columns
