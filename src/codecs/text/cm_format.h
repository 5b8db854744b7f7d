// Parameters of text_cm, and what its profiles are to its binding.
#ifndef ZIPLLM_CODECS_TEXT_CM_FORMAT_H_
#define ZIPLLM_CODECS_TEXT_CM_FORMAT_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/buffer.h"
#include "base/status.h"
#include "codecs/codec.h"
#include "codecs/text/cm_parts.h"
#include "codecs/text/prior.h"
#include "kernels/by_target.h"
#include "zipllm/types.h"

namespace zipllm::codecs::cm {

enum class Profile : uint8_t { kFast = 0, kMax = 1, kLog = 2 };

/// A frame's parameters. Stored in four bytes, in this order; the last two
/// members are flags of the last byte.
struct Params {
  Profile profile = Profile::kFast;
  /// Fast and log: binary logarithm of the cache lines of histories,
  /// kMinLineBits to kMaxLineBits. Max: cache lines in units of 2^16, 1 to
  /// kMaxLineUnits.
  uint8_t lines = 0;
  /// What is read before the block, last of all.
  Prior prior = Prior::kNone;
  bool reads_family = false;  ///< fast: the priors like it are read before it
  bool records = false;       ///< fast: text in lines of fields
};
inline constexpr size_t kParamsBytes = 4;
inline constexpr int kMinLineBits = 10;
inline constexpr int kMaxLineBits = 21;
inline constexpr int kMaxLineUnits = 96;
inline constexpr size_t kLineUnitBytes = size_t{64} << 16;
/// What encoders give max for each byte of a block.
inline constexpr size_t kLineBytesAByte = 80;
inline constexpr uint8_t kReadsFamily = 1;
inline constexpr uint8_t kRecords = 2;

absl::StatusOr<Params> ParseParams(ByteSpan bytes);
std::array<uint8_t, kParamsBytes> StoreParams(const Params& params);

/// Texts that a model reads before a block, in this order. From the last
/// `learnt` bytes the fast profile learns as from the block, of those before it
/// notes the histories alone; max reads only these last ones, log notes the
/// text before.
struct Priors {
  std::array<ByteSpan, kPriors> texts;
  size_t count = 0;
  size_t size = 0;
  size_t learnt = 0;
};
Priors PriorsOf(const Params& params);

/// How large the fast profile's tables are.
struct FastSizes {
  int line_bits;        ///< binary logarithm of cache lines of histories
  int index_bits;       ///< of the match model's positions
  uint32_t arena_size;  ///< bytes that cursors can be in
};
/// What lies before and behind the arena's positions.
inline constexpr uint32_t kArenaMargin = 64;
inline constexpr size_t kFastOrder1Bytes = 256 * 17 * 16;
inline constexpr size_t kFastRefinerBytes = 65536 * 64;
/// For a block of `size` bytes.
FastSizes FastSizesOf(const Params& params, uint64_t size);
/// Memory that FastModel needs, in bytes.
uint64_t FastBytes(const FastSizes& sizes);

/// What the fast profile does; by Params::records.
struct FastCoder {
  /// Makes a model in `memory`, which is kStateBytes and FastBytes(sizes)
  /// zeros, 64-byte aligned, and lets it read `priors`.
  std::array<void (*)(uint8_t* memory, const FastSizes& sizes,
                      const Priors& priors),
             2>
      prime;
  std::array<BlockCoder, 2> block;
};
// Each target's file defines its own.
extern const FastCoder kFastCoderScalar;
extern const FastCoder kFastCoderAvx2;
extern const FastCoder kFastCoderAvx512;
extern const kernels::ByTarget<FastCoder> kFastCoders;

/// Who waits for what `scratch` is used for; `scratch` must outlive it.
inline Follower FollowerOf(const Scratch& scratch) {
  return {.advance =
              [](const void* who, size_t bytes) {
                return static_cast<const Scratch*>(who)->Advance(bytes);
              },
          .who = &scratch};
}

/// Whether the profile log is to code a request's text: lines, and what else is
/// for machines and gets smaller by it. Only where there are encoders.
bool SuitsLog(const EncodeRequest& request, Scratch& scratch);

/// Bytes that coding a block of `size` bytes takes.
uint64_t MemoryOf(const Params& params, uint64_t size);
/// Appends the coded form of a block to `*out`; false, leaving it as it was,
/// where that is not smaller. Throws std::bad_alloc.
bool EncodeBlock(const Params& params, ByteSpan block, Buffer* out,
                 const Follower& follower = {});
/// Decodes what EncodeBlock wrote; `coded` is untrusted.
absl::Status DecodeBlock(const Params& params, ByteSpan coded,
                         MutableByteSpan out, const Follower& follower = {});

}  // namespace zipllm::codecs::cm

#endif  // ZIPLLM_CODECS_TEXT_CM_FORMAT_H_
