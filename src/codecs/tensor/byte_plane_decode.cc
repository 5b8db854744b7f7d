#include "codecs/tensor/byte_plane_decode.h"

#include <algorithm>

#include "codecs/bytes/zstd_decode.h"
#include "codecs/tensor/byte_plane.h"

namespace zipllm::codecs {

absl::StatusOr<const uint8_t*> ReadBytePlane(ByteReader& reader,
                                             MutableByteSpan room,
                                             Scratch& scratch) {
  ASSIGN_OR_RETURN(const uint8_t kind, reader.Le<uint8_t>());
  switch (static_cast<BytePlaneKind>(kind)) {
    case BytePlaneKind::kRaw: {
      ASSIGN_OR_RETURN(const ByteSpan bytes, reader.Bytes(room.size()));
      return bytes.data();
    }
    case BytePlaneKind::kFill: {
      ASSIGN_OR_RETURN(const uint8_t byte, reader.Le<uint8_t>());
      std::fill(room.begin(), room.end(), byte);
      return room.data();
    }
    case BytePlaneKind::kZstd: {
      ASSIGN_OR_RETURN(const uint64_t size, reader.Varint(reader.remaining()));
      ASSIGN_OR_RETURN(const ByteSpan frame, reader.Bytes(size));
      const absl::Status status = DecodeZstdFrame(frame, room, scratch);
      if (!status.ok()) return reader.Error(status.message());
      return room.data();
    }
  }
  return reader.Error("unknown kind of plane ", int{kind});
}

}  // namespace zipllm::codecs
