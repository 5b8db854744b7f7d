// Context mixing of columns as part of a coded column. Format:
// format-spec/codecs/columns.md, "Mixing".
#ifndef ZIPLLM_CODECS_COLUMNS_MIX_H_
#define ZIPLLM_CODECS_COLUMNS_MIX_H_

#include <vector>

#include "codecs/columns/kinds.h"
#include "codecs/columns/mix_coder.h"

namespace zipllm::codecs::columns {

/// Hashes of what stands beside each record, as MixRecords wants them.
struct MixBesides {
  std::array<std::vector<uint32_t>, 2> hashes;
  void Set(MixRecords* records) const {
    for (size_t b = 0; b < hashes.size(); ++b) {
      records->beside[b] = hashes[b].empty() ? nullptr : hashes[b].data();
    }
  }
};

/// What a model knows of a value beside.
uint32_t HashOfBeside(ByteSpan value);
/// A hash of each of the `count` values beside; false where there are fewer.
bool HashBeside(const Beside& beside, size_t count, std::vector<uint32_t>* out);

/// Appends up to two besides that tell most of the records, which are numbered
/// by `ids` (equal: equal number), and sets what they are.
void ChooseBesides(std::span<const uint32_t> ids, const EncodeContext& context,
                   MixBesides* besides, Buffer* out);
absl::Status ReadBesides(ByteReader& reader, const DecodeContext& context,
                         MixBesides* besides);

/// Appends the coded size and the code; false, leaving `*out`, where that is
/// not below `room`.
bool EncodeMix(const MixRecords& records, ByteSpan plain, size_t room,
               Buffer* out);
absl::Status DecodeMix(ByteReader& reader, const MixRecords& records,
                       MutableByteSpan plain);

}  // namespace zipllm::codecs::columns

#endif  // ZIPLLM_CODECS_COLUMNS_MIX_H_
