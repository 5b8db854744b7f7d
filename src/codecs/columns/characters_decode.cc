// Kind characters: values of one length, by rANS with a table for each place
// or one for all.
#include "codecs/columns/kinds.h"
#include "entropy/class_rans.h"

namespace zipllm::codecs::columns {
namespace {

absl::Status Decode(ByteReader& body, const DecodeContext& context,
                    Values* out) {
  Exceptions exceptions;
  RETURN_IF_ERROR(exceptions.Decode(body, context));
  ASSIGN_OR_RETURN(const uint64_t length, body.Varint(entropy::kMaxClasses));
  const size_t regular = context.count - exceptions.size();
  if (length == 0 || regular == 0) return body.Error("there are no characters");
  if (length > context.max_bytes / regular) {
    return body.Error("values are too long");
  }
  ASSIGN_OR_RETURN(const entropy::ClassFrequencies frequencies,
                   entropy::ParseClassFrequencies(body));
  if (frequencies.size() != 1 && frequencies.size() != length) {
    return body.Error("characters have ", frequencies.size(), " tables");
  }
  const entropy::ClassDecodeTables tables(frequencies);
  const size_t size = regular * length;
  std::vector<uint8_t> places(size);
  if (frequencies.size() > 1) {
    for (size_t i = 0; i < size; ++i) {
      places[i] = static_cast<uint8_t>(i % length);
    }
  }
  Buffer characters(size);
  RETURN_IF_ERROR(entropy::DecodeClassRans(tables, places.data(), size, body,
                                           characters.data()));
  out->Reserve(context.count, size);
  ByteReader next(characters.span());
  for (size_t i = 0; i < context.count; ++i) {
    if (exceptions.IsNext(i)) {
      out->Append(exceptions.Take());
    } else {
      ASSIGN_OR_RETURN(const ByteSpan value, next.Bytes(length));
      out->Append(value);
    }
  }
  return absl::OkStatus();
}

}  // namespace

extern const KindDecoder kCharactersDecoder = {.decode = Decode};

}  // namespace zipllm::codecs::columns
