// Kind dictionary: the distinct values in the order in which they come first,
// and for each value whether it is the next of them or which one again.
#include "codecs/columns/numbers.h"

namespace zipllm::codecs::columns {
namespace {

absl::Status Decode(ByteReader& body, const DecodeContext& context,
                    Values* out) {
  ASSIGN_OR_RETURN(const uint64_t size, body.Varint(context.count));
  Values entries;
  DecodeContext alone = context;
  alone.beside = {};
  RETURN_IF_ERROR(DecodePart(body, size, context.max_bytes, alone, &entries));
  ASSIGN_OR_RETURN(const uint64_t by_distance, body.Varint(1));
  Numbers numbers;
  RETURN_IF_ERROR(DecodeNumbers(body, context.count, context, &numbers));
  // Becomes the entries' numbers.
  uint64_t known = 0;
  uint64_t bytes = 0;
  for (size_t i = 0; i < numbers.size(); ++i) {
    const uint64_t number = numbers[i];
    uint64_t entry = known;
    if (number == 0) {
      if (known == size) return body.Error("dictionary is too small");
      ++known;
    } else if (number > (by_distance != 0 ? i : known)) {
      return body.Error("dictionary has no such entry");
    } else {
      entry = by_distance != 0 ? numbers[i - number] : number - 1;
    }
    numbers[i] = entry;
    bytes += entries[entry].size();
    if (bytes > context.max_bytes) return body.Error("values are too long");
  }
  if (known != size) return body.Error("dictionary is too large");
  out->Reserve(context.count, bytes);
  for (const uint64_t entry : numbers) out->Append(entries[entry]);
  return absl::OkStatus();
}

}  // namespace

extern const KindDecoder kDictionaryDecoder = {.decode = Decode};

}  // namespace zipllm::codecs::columns
