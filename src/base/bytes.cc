#include "base/bytes.h"

namespace zipllm {

absl::StatusOr<uint64_t> ByteReader::Varint(uint64_t max) {
  uint64_t value = 0;
  size_t pos = pos_;
  for (int shift = 0; shift < 64; shift += 7) {
    if (pos == data_.size()) return Truncated(pos - pos_ + 1);
    uint8_t byte = data_[pos++];
    uint64_t bits = byte & 0x7F;
    if (shift == 63 && bits > 1) return Error("number does not fit 64 bits");
    value |= bits << shift;
    if ((byte & 0x80) == 0) {
      if (byte == 0 && shift != 0)
        return Error("number is not in its shortest form");
      if (value > max)
        return Error("number ", value, " is above its limit ", max);
      pos_ = pos;
      return value;
    }
  }
  return Error("number does not fit 64 bits");
}

absl::StatusOr<std::string> ByteReader::String(uint64_t max_length) {
  ASSIGN_OR_RETURN(uint64_t length, Varint(max_length));
  ASSIGN_OR_RETURN(ByteSpan bytes, Bytes(length));
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

absl::StatusOr<ByteReader> ByteReader::Sub(uint64_t count,
                                           std::string_view what) {
  uint64_t base = base_ + pos_;
  ASSIGN_OR_RETURN(ByteSpan bytes, Bytes(count));
  return ByteReader(bytes, what, base);
}

absl::Status ByteReader::ExpectEnd() const {
  if (AtEnd()) return absl::OkStatus();
  return Error(remaining(), " bytes too many");
}

void ByteWriter::Varint(uint64_t value) {
  uint8_t bytes[10];
  size_t count = 0;
  do {
    bytes[count] =
        static_cast<uint8_t>((value & 0x7F) | (value > 0x7F ? 0x80 : 0));
    value >>= 7;
    ++count;
  } while (value != 0);
  out_->Append({bytes, count});
}

void ByteWriter::String(std::string_view text) {
  Varint(text.size());
  Bytes(AsBytes(text));
}

}  // namespace zipllm
