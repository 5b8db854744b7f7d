// Codec 23, text_lm: text by context mixing with a small language model.
// Format: format-spec/codecs/23-text_lm.md.
#include <algorithm>
#include <bit>

#include "codecs/codec.h"
#include "codecs/text/cm_format.h"
#include "codecs/text/cm_primed.h"
#include "codecs/text/kept_params.h"
#include "codecs/text/lm.h"
#include "codecs/text/lm_format.h"

namespace zipllm::codecs {
namespace lm {
namespace {

/// Of the prior, the last bytes are read.
constexpr size_t kPriorBytes = 1 << 12;

/// Whether a block of `size` bytes has use for such tables: as in text_cm.
bool AreJustified(const Params& params, uint64_t size) {
  return params.profile == Profile::kAlone || params.lines <= 1 + size / 32768;
}

ByteSpan PriorOf(const Params& params) {
  const ByteSpan text = PriorText(params.prior);
  return text.last(std::min(text.size(), kPriorBytes));
}

cm::MaxSizes SizesOf(const Params& params, uint64_t size) {
  const uint64_t text = PriorOf(params).size() + size;
  return {
      .lines = uint32_t{params.lines} << 16,
      .index_bits = std::clamp(static_cast<int>(std::bit_width(text)), 10, 22),
      .text_size = static_cast<uint32_t>(text)};
}

}  // namespace

absl::StatusOr<Params> ParseParams(ByteSpan bytes) {
  if (bytes.size() != kParamsBytes) {
    return DataLoss("text_lm parameters are ", bytes.size(), " bytes, not ",
                    kParamsBytes);
  }
  if (bytes[0] != kWeightsNumber) {
    return DataLoss("text_lm weights ", int{bytes[0]},
                    " are not in this build; a newer one may have them");
  }
  const Params params{.profile = static_cast<Profile>(bytes[1]),
                      .lines = bytes[2],
                      .prior = static_cast<Prior>(bytes[3])};
  const bool is_valid = params.profile == Profile::kMixed
                            ? params.lines >= 1 &&
                                  params.lines <= cm::kMaxLineUnits &&
                                  bytes[3] < kPriors
                            : params.profile == Profile::kAlone &&
                                  params.lines == 0 && bytes[3] == 0;
  if (!is_valid) {
    return DataLoss("text_lm profile ", int{bytes[1]}, " with tables of size ",
                    int{bytes[2]}, " and prior ", int{bytes[3]},
                    " is not known");
  }
  return params;
}

std::array<uint8_t, kParamsBytes> StoreParams(const Params& params) {
  return {kWeightsNumber, static_cast<uint8_t>(params.profile), params.lines,
          static_cast<uint8_t>(params.prior)};
}

uint64_t MemoryOf(const Params& params, uint64_t size) {
  return cm::kStateBytes + (params.profile == Profile::kAlone
                                ? kAloneBytes
                                : cm::MaxBytes(SizesOf(params, size)));
}

namespace {

/// The model that codes a block of `size` bytes.
cm::Primed PrimedFor(const Params& params, uint64_t size) {
  const Coder& coder = kCoders.Best();
  const auto profile = static_cast<size_t>(params.profile);
  const cm::MaxSizes sizes = SizesOf(params, size);
  const uint64_t memory_size = MemoryOf(params, size);
  const bool alone = params.profile == Profile::kAlone;
  return {
      .key =
          cm::PrimedKey(23, StoreParams(params), alone ? 0 : sizes.index_bits),
      // Texts are the last of the memory.
      .used = alone ? memory_size : memory_size - size,
      .size = memory_size,
      .prime =
          [=, prime = coder.prime[profile],
           prior = PriorOf(params)](uint8_t* memory) {
            prime(memory, sizes, BuiltInWeights(), prior.data(), prior.size());
          },
      .coder = &coder.block[profile]};
}

}  // namespace

bool EncodeBlock(const Params& params, ByteSpan block, Buffer* out,
                 const cm::Follower& follower) {
  return cm::EncodePrimed(PrimedFor(params, block.size()), block, out,
                          follower);
}

absl::Status DecodeBlock(const Params& params, ByteSpan coded,
                         MutableByteSpan out, const cm::Follower& follower) {
  if (!AreJustified(params, out.size())) {
    return DataLoss("text_lm tables of size ", int{params.lines},
                    " are too large for a block of ", out.size(), " bytes");
  }
  return cm::DecodePrimed(PrimedFor(params, out.size()), "text_lm", coded, out,
                          follower);
}

}  // namespace lm

namespace {

using Params = lm::Params;

absl::Status Decode(const DecodeParams* params, ByteSpan coded,
                    MutableByteSpan out, Scratch& scratch) {
  if (params == nullptr) return DataLoss("text_lm block has no parameters");
  return lm::DecodeBlock(KeptParams<Params>::Of(*params), coded, out,
                         cm::FollowerOf(scratch));
}

}  // namespace

extern const Decoder kTextLmDecoder = {
    .id = 23,
    .name = "text_lm",
    .parse = ParseKept<Params, lm::ParseParams>,
    .decode = Decode,
    .is_slow = true,
    .memory = MemoryOfKept<Params, lm::MemoryOf>};

}  // namespace zipllm::codecs
