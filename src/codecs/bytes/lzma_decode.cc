// Codec 4, lzma: one raw LZMA2 stream a block.
// Format: format-spec/codecs/4-lzma.md.
#include <lzma.h>

#include <algorithm>

#include "codecs/codec.h"

namespace zipllm::codecs {
namespace {

// As in .xz: codes count up by half powers of two from 4 KiB.
constexpr uint8_t kMaxDictionaryCode = 28;  // 64 MiB

class Params final : public DecodeParams {
 public:
  explicit Params(uint8_t code)
      : dictionary_((uint32_t{2} | (code & 1)) << (code / 2 + 11)) {}
  uint32_t dictionary() const { return dictionary_; }

 private:
  uint32_t dictionary_;  // bytes
};

absl::StatusOr<std::unique_ptr<const DecodeParams>> Parse(ByteSpan params) {
  if (params.size() != 1 || params[0] > kMaxDictionaryCode) {
    return DataLoss(
        "lzma parameters are not one dictionary size code of at most ",
        int{kMaxDictionaryCode});
  }
  return std::make_unique<Params>(params[0]);
}

absl::Status Decode(const DecodeParams* params, ByteSpan coded,
                    MutableByteSpan out, Scratch& /*scratch*/) {
  if (params == nullptr) return DataLoss("lzma block has no parameters");
  // No match reaches back beyond the block, so that its size bounds memory.
  lzma_options_lzma options{};
  options.dict_size = static_cast<uint32_t>(
      std::min<size_t>(static_cast<const Params*>(params)->dictionary(),
                       std::max<size_t>(out.size(), LZMA_DICT_SIZE_MIN)));
  const lzma_filter filters[] = {{LZMA_FILTER_LZMA2, &options},
                                 {LZMA_VLI_UNKNOWN, nullptr}};
  size_t read = 0;
  size_t written = 0;
  const lzma_ret ret =
      lzma_raw_buffer_decode(filters, nullptr, coded.data(), &read,
                             coded.size(), out.data(), &written, out.size());
  if (ret == LZMA_MEM_ERROR) {
    return ResourceExhausted("no memory for an lzma dictionary of ",
                             options.dict_size, " bytes");
  }
  if (ret != LZMA_OK) {
    return DataLoss("lzma block is damaged (liblzma error ", int{ret}, ")");
  }
  if (written != out.size()) {
    return DataLoss("lzma block holds ", written, " bytes where ", out.size(),
                    " are due");
  }
  if (read != coded.size()) {
    return DataLoss("lzma block has ", coded.size() - read,
                    " bytes after its stream");
  }
  return absl::OkStatus();
}

}  // namespace

extern const Decoder kLzmaDecoder = {
    .id = 4, .name = "lzma", .parse = Parse, .decode = Decode, .is_slow = true};

}  // namespace zipllm::codecs
