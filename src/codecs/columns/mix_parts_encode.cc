// The encoding half of what surrounds context mixing.
#include <algorithm>
#include <cstring>

#include "codecs/columns/beside_scores.h"
#include "codecs/columns/mix.h"

namespace zipllm::codecs::columns {

void ChooseBesides(std::span<const uint32_t> ids, const EncodeContext& context,
                   MixBesides* besides, Buffer* out) {
  const BesideScores scores = ScoreBesides(ids, context.beside);
  std::vector<size_t> chosen;
  for (const BesideScore& score : scores.best) {
    // It is to tell about as much as the value before, which is known anyway.
    if (score.hits * 8 < scores.usual * 7 || chosen.size() == 2) break;
    if (HashBeside(context.beside[score.which], ids.size(),
                   &besides->hashes[chosen.size()])) {
      chosen.push_back(score.which);
    }
  }
  ByteWriter writer(out);
  writer.Varint(chosen.size());
  for (const size_t which : chosen) writer.Varint(which);
}

bool EncodeMix(const MixRecords& records, ByteSpan plain, size_t room,
               Buffer* out) {
  const MixSizes sizes = MixSizesOf(plain.size());
  Buffer memory(MixBytes(sizes, plain.size()));
  std::memset(memory.data(), 0, memory.size());
  Buffer coded(room);
  const size_t size =
      kMixCoders.Best().encode(memory.data(), sizes, records, plain.data(),
                               plain.size(), coded.data(), room);
  if (size == 0) return false;
  ByteWriter writer(out);
  writer.Varint(size);
  writer.Bytes(coded.span().first(size));
  return true;
}

}  // namespace zipllm::codecs::columns
