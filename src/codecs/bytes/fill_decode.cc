// Codec 1, fill: a short pattern, repeated. Format:
// format-spec/codecs/1-fill.md.
#include <algorithm>
#include <bit>
#include <cstring>

#include "codecs/codec.h"

namespace zipllm::codecs {
namespace {

constexpr size_t kMaxPattern = 16;

absl::Status Decode(const DecodeParams* /*params*/, ByteSpan coded,
                    MutableByteSpan out, Scratch& /*scratch*/) {
  if (!std::has_single_bit(coded.size()) || coded.size() > kMaxPattern) {
    return DataLoss("fill block has a pattern of ", coded.size(),
                    " bytes; 1, 2, 4, 8 or 16 are allowed");
  }
  if (coded.size() > out.size()) {
    return DataLoss("fill block has a pattern of ", coded.size(),
                    " bytes for a block of ", out.size());
  }
  if (coded.size() == 1) {
    std::memset(out.data(), coded[0], out.size());
    return absl::OkStatus();
  }
  // What is filled is copied behind itself: doubling up to a piece that stays
  // in cache, then piece by piece. All sizes but the last are whole patterns.
  constexpr size_t kMaxPiece = 4096;
  size_t done = coded.size();
  std::memcpy(out.data(), coded.data(), done);
  while (done < out.size()) {
    size_t piece = std::min({done, out.size() - done, kMaxPiece});
    std::memcpy(out.data() + done, out.data(), piece);
    done += piece;
  }
  return absl::OkStatus();
}

}  // namespace

extern const Decoder kFillDecoder = {
    .id = 1, .name = "fill", .parse = nullptr, .decode = Decode};

}  // namespace zipllm::codecs
