// Kind number: numbers written alike, perhaps as differences to those beside.
#include "codecs/columns/number_format.h"
#include "codecs/columns/numbers.h"
#include "entropy/bits.h"

namespace zipllm::codecs::columns {
namespace {

using entropy::UnZigZag64;

absl::StatusOr<NumberFormat> ReadFormat(ByteReader& body) {
  NumberFormat format;
  ASSIGN_OR_RETURN(format.flags, body.Le<uint8_t>());
  ASSIGN_OR_RETURN(format.width, body.Le<uint8_t>());
  ASSIGN_OR_RETURN(format.scale, body.Le<uint8_t>());
  if (!format.IsValid())
    return body.Error("numbers are written in no known way");
  return format;
}

absl::Status Decode(ByteReader& body, const DecodeContext& context,
                    Values* out) {
  ASSIGN_OR_RETURN(const NumberFormat format, ReadFormat(body));
  // 0: by themselves; else 1 + the column they are differences to.
  ASSIGN_OR_RETURN(const uint64_t relative, body.Varint(kMaxBesides));
  const Beside* beside = nullptr;
  if (relative != 0) {
    if (relative > context.beside.size() ||
        !IsSound(context.beside[relative - 1], context.count)) {
      return body.Error("there is no column ", relative - 1, " beside");
    }
    beside = &context.beside[relative - 1];
  }
  Exceptions exceptions;
  RETURN_IF_ERROR(exceptions.Decode(body, context));
  DecodeContext of_numbers = context;
  of_numbers.count -= exceptions.size();
  RowsBeside rows_beside;
  if (exceptions.size() != 0) {
    RETURN_IF_ERROR(rows_beside.Set(
        context.beside, exceptions.OtherRows(context.count), context.count));
    of_numbers.beside = rows_beside.besides();
  }
  Numbers numbers;
  RETURN_IF_ERROR(DecodeNumbers(body, of_numbers.count, of_numbers, &numbers));
  const bool zigzagged = format.Is(NumberFormat::kSigned) || beside != nullptr;
  out->Reserve(context.count, context.count * 8);
  size_t next = 0;
  std::array<uint8_t, kMaxNumberBytes> printed;
  uint8_t* const end = printed.data() + printed.size();
  for (size_t i = 0; i < context.count; ++i) {
    if (exceptions.IsNext(i)) {
      out->Append(exceptions.Take());
    } else {
      uint64_t number = numbers[next++];
      if (zigzagged) number = UnZigZag64(number);
      if (beside != nullptr) {
        number +=
            ParseNumber(format, (*beside->values)[BesideIndex(*beside, i)])
                .value_or(0);
      }
      out->Append({PrintNumber(format, number, end), end});
    }
    if (out->bytes().size() > context.max_bytes) {
      return body.Error("values are too long");
    }
  }
  return absl::OkStatus();
}

}  // namespace

extern const KindDecoder kNumberDecoder = {.decode = Decode};

}  // namespace zipllm::codecs::columns
