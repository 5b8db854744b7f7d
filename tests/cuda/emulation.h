// The device's code on the CPU: loops stand for the threads.
#ifndef ZIPLLM_TESTS_CUDA_EMULATION_H_
#define ZIPLLM_TESTS_CUDA_EMULATION_H_

#include <algorithm>
#include <memory>
#include <vector>

#include "cuda/batch.h"
#include "cuda/decode_core.h"

namespace zipllm::cuda {

class EmulatedWarp {
 public:
  EmulatedWarp() {
    for (uint32_t i = 0; i < kLanes; ++i) lanes_[i].index = i;
  }
  template <typename F>
  void Each(F f) {
    for (Lane& lane : lanes_) f(lane);
  }
  template <typename F>
  uint32_t Ballot(F f) {
    uint32_t votes = 0;
    for (Lane& lane : lanes_) votes |= uint32_t{f(lane)} << lane.index;
    return votes;
  }
  template <typename F>
  uint32_t Sum(F f) {
    uint32_t sum = 0;
    for (Lane& lane : lanes_) sum += f(lane);
    return sum;
  }
  void Sync() {}

 private:
  Lane lanes_[kLanes] = {};
};

struct EmulatedCta {
  template <typename F>
  void Each(F f) {
    for (uint32_t thread = 0; thread < kThreads; ++thread) f(thread);
  }
  template <typename F>
  void EachWarp(F f) {
    for (uint32_t number = 0; number < kWarps; ++number) {
      EmulatedWarp warp;
      f(warp, number);
    }
  }
};

/// Decodes a batch into `out` (out_size() bytes) and returns the blocks'
/// results. Everything that a GPU would hold is a heap allocation of exactly
/// its size, so that AddressSanitizer sees a byte too far.
inline std::vector<uint32_t> Emulate(const Batch& batch, uint8_t* out,
                                     bool check_hash = true) {
  const ByteSpan bytes = batch.bytes();
  const std::unique_ptr<uint8_t[]> in(new uint8_t[bytes.size()]);
  std::ranges::copy(bytes, in.get());
  std::vector<uint32_t> results(batch.blocks().size(), ~0u);
  for (size_t i = 0; i < results.size(); ++i) {
    EmulatedCta cta;
    const auto shared = std::make_unique<Shared>();
    DecodeBlock(cta, *shared, &batch.blocks()[i], batch.tables().data(),
                in.get(), out, check_hash, &results[i]);
  }
  return results;
}

}  // namespace zipllm::cuda

#endif  // ZIPLLM_TESTS_CUDA_EMULATION_H_
