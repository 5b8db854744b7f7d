// Models that have read what comes before a block, kept for the blocks to come:
// reading it takes longer than coding a small block.
#ifndef ZIPLLM_CODECS_TEXT_CM_PRIMED_H_
#define ZIPLLM_CODECS_TEXT_CM_PRIMED_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>

#include "base/buffer.h"
#include "base/status.h"
#include "codecs/text/cm_memory.h"
#include "codecs/text/cm_parts.h"

namespace zipllm::codecs::cm {

/// A model that is about to code a block.
struct Primed {
  /// Of what the model is made by, but for its block: those with equal keys are
  /// equal.
  uint64_t key = 0;
  /// Bytes of its memory that may be other than zero before the block.
  uint64_t used = 0;
  /// Of its memory in all.
  uint64_t size = 0;
  /// Makes it in as many zeros.
  std::function<void(uint8_t* memory)> prime;
  const BlockCoder* coder = nullptr;
};

/// The key of a codec's model by its frame's parameters and the binary
/// logarithm of its indices. Models of other targets are not equal.
uint64_t PrimedKey(uint8_t codec, const std::array<uint8_t, 4>& params,
                   int index_bits);

/// The memory of such a model. Thread-safe: what is kept is the process's, up
/// to kMaxKeptImages for what models are, and kMaxKeptMemory to put them in.
class PrimedMemory {
 public:
  explicit PrimedMemory(const Primed& model);
  ~PrimedMemory();
  PrimedMemory(const PrimedMemory&) = delete;
  PrimedMemory& operator=(const PrimedMemory&) = delete;

  /// Null where there is not as much.
  uint8_t* data() const { return memory_ ? memory_->data() : nullptr; }

  static constexpr size_t kMaxKeptImages = size_t{96} << 20;
  static constexpr size_t kMaxKeptMemory = size_t{96} << 20;
  /// Larger ones take longer to code than to prime, and are not kept.
  static constexpr size_t kMaxKeptSize = size_t{48} << 20;

 private:
  std::unique_ptr<ZeroedMemory> memory_;
};

/// Appends the coded form of a block to `*out`; false, leaving it as it was,
/// where that is not smaller. Throws std::bad_alloc.
bool EncodePrimed(const Primed& model, ByteSpan block, Buffer* out,
                  const Follower& follower);
/// Decodes what EncodePrimed wrote; `coded` is untrusted. Messages name
/// `codec`.
absl::Status DecodePrimed(const Primed& model, std::string_view codec,
                          ByteSpan coded, MutableByteSpan out,
                          const Follower& follower);

}  // namespace zipllm::codecs::cm

#endif  // ZIPLLM_CODECS_TEXT_CM_PRIMED_H_
