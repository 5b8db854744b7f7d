// Codec 0, stored: the bytes as they are.
// Format: format-spec/codecs/0-stored.md.
#include <cstring>

#include "codecs/codec.h"

namespace zipllm::codecs {
namespace {

absl::Status Decode(const DecodeParams* /*params*/, ByteSpan coded,
                    MutableByteSpan out, Scratch& /*scratch*/) {
  if (coded.size() != out.size()) {
    return DataLoss("stored block has ", coded.size(), " bytes where ",
                    out.size(), " are due");
  }
  if (!out.empty()) std::memcpy(out.data(), coded.data(), out.size());
  return absl::OkStatus();
}

}  // namespace

extern const Decoder kStoredDecoder = {
    .id = 0, .name = "stored", .parse = nullptr, .decode = Decode};

}  // namespace zipllm::codecs
