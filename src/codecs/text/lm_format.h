// Parameters of text_lm, and what its coder is to its binding.
#ifndef ZIPLLM_CODECS_TEXT_LM_FORMAT_H_
#define ZIPLLM_CODECS_TEXT_LM_FORMAT_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/buffer.h"
#include "base/status.h"
#include "codecs/text/cm_max.h"
#include "codecs/text/prior.h"
#include "kernels/by_target.h"
#include "zipllm/types.h"

namespace zipllm::codecs::lm {

struct Weights;

/// Of the weights that BuiltInWeights has. Others make another number.
inline constexpr uint8_t kWeightsNumber = 1;

enum class Profile : uint8_t {
  kMixed = 0,  ///< one more model among those of text_cm's profile max
  kAlone = 1,  ///< the language model, whose output weights adapt
};

/// A frame's parameters. Stored in four bytes: the number of the weights, then
/// these.
struct Params {
  Profile profile = Profile::kMixed;
  /// Mixed: cache lines of histories in units of 2^16, as in text_cm. Alone: 0.
  uint8_t lines = 0;
  /// Mixed: what is read before the block. Alone: kNone.
  Prior prior = Prior::kNone;
};
inline constexpr size_t kParamsBytes = 4;

absl::StatusOr<Params> ParseParams(ByteSpan bytes);
std::array<uint8_t, kParamsBytes> StoreParams(const Params& params);

/// Bytes that coding a block of `size` bytes takes.
uint64_t MemoryOf(const Params& params, uint64_t size);
/// Appends the coded form of a block to `*out`; false, leaving it as it was,
/// where that is not smaller. Throws std::bad_alloc.
bool EncodeBlock(const Params& params, ByteSpan block, Buffer* out,
                 const cm::Follower& follower = {});
/// Decodes what EncodeBlock wrote; `coded` is untrusted.
absl::Status DecodeBlock(const Params& params, ByteSpan coded,
                         MutableByteSpan out,
                         const cm::Follower& follower = {});

/// Of one node's output weights, when they adapt: the units, a constant, zeros.
inline constexpr size_t kAloneInputs = 240;
inline constexpr size_t kAloneBytes = 256 * kAloneInputs * sizeof(int32_t);

/// What the profiles do, by their numbers.
struct Coder {
  /// Makes a model in `memory`, which is cm::kStateBytes and, of zeros,
  /// MaxBytes(sizes) or kAloneBytes, 64-byte aligned, and lets it learn
  /// `prior`.
  std::array<void (*)(uint8_t* memory, const cm::MaxSizes& sizes,
                      const Weights& weights, const uint8_t* prior,
                      size_t prior_size),
             2>
      prime;
  std::array<cm::BlockCoder, 2> block;
};
// Each target's file defines its own.
extern const Coder kCoderScalar;
extern const Coder kCoderAvx2;
extern const Coder kCoderAvx512;
extern const kernels::ByTarget<Coder> kCoders;

}  // namespace zipllm::codecs::lm

#endif  // ZIPLLM_CODECS_TEXT_LM_FORMAT_H_
