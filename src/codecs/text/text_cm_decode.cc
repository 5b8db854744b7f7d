// Codec 22, text_cm: text by context mixing.
// Format: format-spec/codecs/22-text_cm.md.
#include <algorithm>
#include <bit>

#include "codecs/codec.h"
#include "codecs/text/cm_format.h"
#include "codecs/text/cm_log_coder.h"
#include "codecs/text/cm_max_coder.h"
#include "codecs/text/cm_primed.h"
#include "codecs/text/kept_params.h"

namespace zipllm::codecs {
namespace cm {
namespace {

/// Bytes of priors that a model learns from in full: what takes no longer than
/// some hundredths of a second.
constexpr size_t kLearntByFast = 1 << 13;
constexpr size_t kLearntByMax = 1 << 12;
constexpr size_t kLearntByLog = 1 << 13;

/// Smaller blocks are not worth their tables.
constexpr size_t kMinBlock = 16;

/// Whether a block of `size` bytes has use for such tables.
bool AreJustified(const Params& params, uint64_t size) {
  if (params.profile == Profile::kMax) return params.lines <= 1 + size / 32768;
  const uint64_t text = PriorsOf(params).size + size;
  return params.lines <=
         std::max(kMinLineBits, static_cast<int>(std::bit_width(text)));
}

MaxSizes MaxSizesOf(const Params& params, uint64_t size) {
  const uint64_t text = PriorsOf(params).learnt + size;
  return {
      .lines = uint32_t{params.lines} << 16,
      .index_bits = std::clamp(static_cast<int>(std::bit_width(text)), 10, 22),
      .text_size = static_cast<uint32_t>(text)};
}

LogSizes LogSizesOf(const Params& params, uint64_t size) {
  const uint64_t text = PriorsOf(params).size + size;
  return {
      .line_bits = params.lines,
      .index_bits = std::clamp(static_cast<int>(std::bit_width(text)), 10, 20),
      .text_size = static_cast<uint32_t>(text)};
}

/// The prior that the parameters name.
ByteSpan NamedOf(const Priors& priors) {
  return priors.count == 0 ? ByteSpan() : priors.texts[priors.count - 1];
}
/// What max reads before a block.
ByteSpan LearntOf(const Priors& priors) {
  return NamedOf(priors).last(priors.learnt);
}

}  // namespace

absl::StatusOr<Params> ParseParams(ByteSpan bytes) {
  if (bytes.size() != kParamsBytes) {
    return DataLoss("text_cm parameters are ", bytes.size(), " bytes, not ",
                    kParamsBytes);
  }
  const Params params{.profile = static_cast<Profile>(bytes[0]),
                      .lines = bytes[1],
                      .prior = static_cast<Prior>(bytes[2]),
                      .reads_family = (bytes[3] & kReadsFamily) != 0,
                      .records = (bytes[3] & kRecords) != 0};
  if (params.profile > Profile::kLog) {
    return DataLoss("text_cm profile ", int{bytes[0]}, " is not known");
  }
  const bool is_max = params.profile == Profile::kMax;
  if (params.lines < (is_max ? 1 : kMinLineBits) ||
      params.lines > (is_max ? kMaxLineUnits : kMaxLineBits)) {
    return DataLoss("text_cm tables of size ", int{params.lines},
                    " are out of bounds");
  }
  const int flags =
      params.profile == Profile::kLog ? 0 : kReadsFamily | kRecords;
  if (bytes[2] >= kPriors || bytes[3] > flags) {
    return DataLoss("text_cm prior ", int{bytes[2]}, " with flags ",
                    int{bytes[3]}, " is not known");
  }
  return params;
}

std::array<uint8_t, kParamsBytes> StoreParams(const Params& params) {
  return {static_cast<uint8_t>(params.profile), params.lines,
          static_cast<uint8_t>(params.prior),
          static_cast<uint8_t>((params.reads_family ? kReadsFamily : 0) |
                               (params.records ? kRecords : 0))};
}

Priors PriorsOf(const Params& params) {
  Priors priors;
  const auto add = [&priors](Prior prior) {
    priors.texts[priors.count++] = PriorText(prior);
    priors.size += PriorText(prior).size();
  };
  if (params.prior == Prior::kNone) return priors;
  if (params.reads_family) {
    const bool for_machines = params.prior >= kFirstForMachines;
    for (int i = 1; i < kPriors; ++i) {
      const auto prior = static_cast<Prior>(i);
      if (prior != params.prior &&
          (prior >= kFirstForMachines) == for_machines) {
        add(prior);
      }
    }
  }
  add(params.prior);
  constexpr std::array kLearnt = {kLearntByFast, kLearntByMax, kLearntByLog};
  priors.learnt = std::min(PriorText(params.prior).size(),
                           kLearnt[static_cast<size_t>(params.profile)]);
  return priors;
}

uint64_t MemoryOf(const Params& params, uint64_t size) {
  switch (params.profile) {
    case Profile::kFast:
      return kStateBytes + FastBytes(FastSizesOf(params, size));
    case Profile::kMax:
      return kStateBytes + MaxBytes(MaxSizesOf(params, size));
    case Profile::kLog:
      return kStateBytes + LogBytes(LogSizesOf(params, size));
  }
  return 0;
}

namespace {

/// The model that codes a block of `size` bytes.
Primed PrimedFor(const Params& params, uint64_t size) {
  Primed primed;
  primed.size = MemoryOf(params, size);
  // Texts are the last of the memory.
  primed.used = primed.size - size;
  int index_bits = 0;
  const Priors priors = PriorsOf(params);
  switch (params.profile) {
    case Profile::kFast: {
      const FastSizes sizes = FastSizesOf(params, size);
      const FastCoder& coder = kFastCoders.Best();
      index_bits = sizes.index_bits;
      primed.coder = &coder.block[params.records];
      primed.prime = [=, prime = coder.prime[params.records]](uint8_t* memory) {
        prime(memory, sizes, priors);
      };
      break;
    }
    case Profile::kMax: {
      const MaxSizes sizes = MaxSizesOf(params, size);
      const MaxCoder& coder = kMaxCoders.Best();
      index_bits = sizes.index_bits;
      primed.coder = &coder.block;
      primed.prime = [=, prime = coder.prime,
                      prior = LearntOf(priors)](uint8_t* memory) {
        prime(memory, sizes, prior.data(), prior.size());
      };
      break;
    }
    case Profile::kLog: {
      const LogSizes sizes = LogSizesOf(params, size);
      const LogCoder& coder = kLogCoders.Best();
      index_bits = sizes.index_bits;
      primed.coder = &coder.block;
      primed.prime = [=, prime = coder.prime, prior = NamedOf(priors),
                      learnt = priors.learnt](uint8_t* memory) {
        prime(memory, sizes, prior.data(), prior.size(), learnt);
      };
      break;
    }
  }
  primed.key = PrimedKey(22, StoreParams(params), index_bits);
  return primed;
}

}  // namespace

bool EncodeBlock(const Params& params, ByteSpan block, Buffer* out,
                 const Follower& follower) {
  if (block.size() < kMinBlock) return false;
  return EncodePrimed(PrimedFor(params, block.size()), block, out, follower);
}

absl::Status DecodeBlock(const Params& params, ByteSpan coded,
                         MutableByteSpan out, const Follower& follower) {
  if (!AreJustified(params, out.size())) {
    return DataLoss("text_cm tables of size ", int{params.lines},
                    " are too large for a block of ", out.size(), " bytes");
  }
  return DecodePrimed(PrimedFor(params, out.size()), "text_cm", coded, out,
                      follower);
}

}  // namespace cm

namespace {

using Params = cm::Params;

absl::Status Decode(const DecodeParams* params, ByteSpan coded,
                    MutableByteSpan out, Scratch& scratch) {
  if (params == nullptr) return DataLoss("text_cm block has no parameters");
  return cm::DecodeBlock(KeptParams<Params>::Of(*params), coded, out,
                         cm::FollowerOf(scratch));
}

}  // namespace

extern const Decoder kTextCmDecoder = {
    .id = 22,
    .name = "text_cm",
    .parse = ParseKept<Params, cm::ParseParams>,
    .decode = Decode,
    .is_slow = true,
    .memory = MemoryOfKept<Params, cm::MemoryOf>};

}  // namespace zipllm::codecs
