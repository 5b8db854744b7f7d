// What surrounds context mixing: the values beside, sizes, memory.
#include <cstring>

#include "codecs/columns/mix.h"

namespace zipllm::codecs::columns {

/// FNV-1a, and a mix: its high bits are to be good.
uint32_t HashOfBeside(ByteSpan value) {
  uint32_t h = 2166136261u;
  for (const uint8_t byte : value) h = (h ^ byte) * 16777619u;
  h ^= h >> 15;
  return h * 0x85EBCA6Bu;
}

bool HashBeside(const Beside& beside, size_t count,
                std::vector<uint32_t>* out) {
  if (!HasBeside(beside, count)) return false;
  const Values& values = *beside.values;
  out->resize(count);
  if (beside.index.empty()) {
    for (size_t i = 0; i < count; ++i) (*out)[i] = HashOfBeside(values[i]);
    return true;
  }
  for (size_t i = 0; i < count; ++i) {
    if (beside.index[i] >= values.size()) return false;
    (*out)[i] = HashOfBeside(values[beside.index[i]]);
  }
  return true;
}

absl::Status ReadBesides(ByteReader& reader, const DecodeContext& context,
                         MixBesides* besides) {
  ASSIGN_OR_RETURN(const uint64_t count, reader.Varint(2));
  for (size_t b = 0; b < count; ++b) {
    ASSIGN_OR_RETURN(const uint64_t which, reader.Varint(kMaxBesides));
    if (which >= context.beside.size() ||
        !HashBeside(context.beside[which], context.count,
                    &besides->hashes[b])) {
      return reader.Error("there is no column ", which, " beside");
    }
  }
  return absl::OkStatus();
}

absl::Status DecodeMix(ByteReader& reader, const MixRecords& records,
                       MutableByteSpan plain) {
  ASSIGN_OR_RETURN(const uint64_t coded_size, reader.Varint());
  ASSIGN_OR_RETURN(const ByteSpan coded, reader.Bytes(coded_size));
  const MixSizes sizes = MixSizesOf(plain.size());
  Buffer memory(MixBytes(sizes, plain.size()));
  std::memset(memory.data(), 0, memory.size());
  if (!kMixCoders.Best().decode(memory.data(), sizes, records, coded.data(),
                                coded.size(), plain.data(), plain.size())) {
    return reader.Error("mixed records are damaged");
  }
  return absl::OkStatus();
}

}  // namespace zipllm::codecs::columns
