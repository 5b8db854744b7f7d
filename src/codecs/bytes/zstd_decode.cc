// Codec 3, zstd: one Zstandard frame a block (RFC 8878).
// Format: format-spec/codecs/3-zstd.md.
#include "codecs/bytes/zstd_decode.h"

#include <zstd.h>

#include "base/bytes.h"

namespace zipllm::codecs {
namespace {

// RFC 8878, 3.1.1: magic number, frame header descriptor, window descriptor.
constexpr size_t kHeaderBytes = 6;

/// Checks that the frame has a window descriptor of at most kMaxBlockBytes, and
/// no checksum, content size or dictionary (frame header descriptor 0).
absl::Status CheckHeader(ByteSpan coded) {
  if (coded.size() < kHeaderBytes ||
      LoadLe<uint32_t>(coded.data()) != ZSTD_MAGICNUMBER) {
    return DataLoss("zstd block does not start with a Zstandard frame");
  }
  if (coded[4] != 0) {
    return DataLoss("zstd block has frame header descriptor ", int{coded[4]},
                    "; 0 is the only one allowed");
  }
  const uint64_t base = uint64_t{1} << (10 + (coded[5] >> 3));
  if (base + base / 8 * (coded[5] & 7) > kMaxBlockBytes) {
    return DataLoss("zstd block wants a window above 64 MiB");
  }
  return absl::OkStatus();
}

absl::Status Decode(const DecodeParams* /*params*/, ByteSpan coded,
                    MutableByteSpan out, Scratch& scratch) {
  return DecodeZstdFrame(coded, out, scratch);
}

}  // namespace

absl::Status DecodeZstdFrame(ByteSpan coded, MutableByteSpan out,
                             Scratch& scratch) {
  RETURN_IF_ERROR(CheckHeader(coded));
  const size_t frame = ZSTD_findFrameCompressedSize(coded.data(), coded.size());
  if (ZSTD_isError(frame)) {
    return DataLoss("zstd block is damaged: ", ZSTD_getErrorName(frame));
  }
  if (frame != coded.size()) {
    return DataLoss("zstd block has ", coded.size() - frame,
                    " bytes after its frame");
  }
  if (scratch.zstd_decoder == nullptr) {
    scratch.zstd_decoder.reset(ZSTD_createDCtx(), ZSTD_freeDCtx);
    if (scratch.zstd_decoder == nullptr) {
      return ResourceExhausted("no memory for a zstd decoder");
    }
  }
  const size_t size =
      ZSTD_decompressDCtx(static_cast<ZSTD_DCtx*>(scratch.zstd_decoder.get()),
                          out.data(), out.size(), coded.data(), coded.size());
  if (ZSTD_isError(size)) {
    return DataLoss("zstd block is damaged: ", ZSTD_getErrorName(size));
  }
  if (size != out.size()) {
    return DataLoss("zstd block holds ", size, " bytes where ", out.size(),
                    " are due");
  }
  return absl::OkStatus();
}

extern const Decoder kZstdDecoder = {
    .id = 3, .name = "zstd", .parse = nullptr, .decode = Decode};

}  // namespace zipllm::codecs
