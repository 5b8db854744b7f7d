// Kind mixed: values by context mixing, each ended by a byte that is in none.
#include "codecs/columns/mix.h"

namespace zipllm::codecs::columns {
namespace {

absl::Status Decode(ByteReader& body, const DecodeContext& context,
                    Values* out) {
  MixRecords records{.count = context.count, .width = 0};
  ASSIGN_OR_RETURN(records.end, body.Le<uint8_t>());
  ASSIGN_OR_RETURN(const uint64_t size,
                   body.Varint(context.max_bytes + context.count));
  MixBesides besides;
  RETURN_IF_ERROR(ReadBesides(body, context, &besides));
  besides.Set(&records);
  Buffer plain(size);
  RETURN_IF_ERROR(DecodeMix(body, records, plain.mutable_span()));
  out->Reserve(context.count, size);
  const uint8_t* next = plain.begin();
  for (size_t i = 0; i < context.count; ++i) {
    const auto left = static_cast<size_t>(plain.end() - next);
    const auto* end =
        left == 0
            ? nullptr
            : static_cast<const uint8_t*>(std::memchr(next, records.end, left));
    if (end == nullptr) return body.Error("mixed records end early");
    out->Append({next, end});
    next = end + 1;
  }
  if (next != plain.end()) return body.Error("mixed records do not end");
  return absl::OkStatus();
}

}  // namespace

extern const KindDecoder kMixedDecoder = {.decode = Decode};

}  // namespace zipllm::codecs::columns
