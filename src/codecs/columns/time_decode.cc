// Kind time: times of one format, as counts of ticks.
#include "codecs/columns/numbers.h"
#include "codecs/columns/time_format.h"

namespace zipllm::codecs::columns {
namespace {

absl::Status Decode(ByteReader& body, const DecodeContext& context,
                    Values* out) {
  ASSIGN_OR_RETURN(const std::string text, body.String(TimeFormat::kMaxText));
  const auto format = TimeFormat::Parse(text);
  if (!format.has_value()) return body.Error("times have no known format");
  Exceptions exceptions;
  RETURN_IF_ERROR(exceptions.Decode(body, context));
  DecodeContext alone = context;
  alone.beside = {};
  Numbers ticks;
  RETURN_IF_ERROR(
      DecodeNumbers(body, context.count - exceptions.size(), alone, &ticks));
  out->Reserve(context.count, context.count * text.size());
  std::array<uint8_t, TimeFormat::kMaxBytes> printed;
  size_t next = 0;
  for (size_t i = 0; i < context.count; ++i) {
    if (exceptions.IsNext(i)) {
      out->Append(exceptions.Take());
    } else {
      const size_t size = format->Print(ticks[next++], printed.data());
      if (size == 0) return body.Error("there is no such time");
      out->Append(ByteSpan(printed).first(size));
    }
    if (out->bytes().size() > context.max_bytes) {
      return body.Error("values are too long");
    }
  }
  return absl::OkStatus();
}

}  // namespace

extern const KindDecoder kTimeDecoder = {.decode = Decode};

}  // namespace zipllm::codecs::columns
