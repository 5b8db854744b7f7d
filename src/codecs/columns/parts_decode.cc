// What kinds are made of: bytes, exceptions.
#include "codecs/bytes/zstd_decode.h"
#include "codecs/columns/numbers.h"

namespace zipllm::codecs::columns {

absl::Status DecodeBytes(ByteReader& reader, MutableByteSpan out,
                         const DecodeContext& context) {
  // 0: as they are; else the size of a Zstandard frame.
  ASSIGN_OR_RETURN(const uint64_t coded, reader.Varint());
  ASSIGN_OR_RETURN(const ByteSpan bytes,
                   reader.Bytes(coded == 0 ? out.size() : coded));
  if (coded != 0) return DecodeZstdFrame(bytes, out, context.scratch);
  if (!bytes.empty()) std::memcpy(out.data(), bytes.data(), bytes.size());
  return absl::OkStatus();
}

absl::Status Exceptions::Decode(ByteReader& reader,
                                const DecodeContext& context) {
  ASSIGN_OR_RETURN(const uint64_t count, reader.Varint(context.count));
  DecodeContext inner = context;
  inner.beside = {};
  // Each place is told by how many values lie between it and the one before.
  RETURN_IF_ERROR(DecodeNumbers(reader, count, inner, &places_));
  uint64_t next = 0;
  for (uint64_t& place : places_) {
    if (place >= context.count - next) {
      return reader.Error("an exception lies behind the column");
    }
    place += next;
    next = place + 1;
  }
  if (count == 0) return absl::OkStatus();
  return DecodePart(reader, count, context.max_bytes, inner, &values_);
}

std::vector<uint32_t> Exceptions::OtherRows(size_t count) const {
  std::vector<uint32_t> rows;
  rows.reserve(count - places_.size());
  size_t next = 0;
  for (size_t i = 0; i < count; ++i) {
    if (next < places_.size() && places_[next] == i) {
      ++next;
    } else {
      rows.push_back(static_cast<uint32_t>(i));
    }
  }
  return rows;
}

}  // namespace zipllm::codecs::columns
