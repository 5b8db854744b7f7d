// The device's code on the CPU: loops stand for the threads.
#ifndef ZIPLLM_TESTS_CUDA_EMULATION_H_
#define ZIPLLM_TESTS_CUDA_EMULATION_H_

#include <algorithm>
#include <memory>
#include <vector>

#include "cuda/batch.h"
#include "cuda/decode_core.h"

namespace zipllm::cuda {

/// In which order the loops take the threads. Between barriers it must not
/// matter.
enum class Order { kForwards, kBackwards };

template <typename F>
void Loop(Order order, uint32_t count, F f) {
  for (uint32_t i = 0; i < count; ++i) {
    f(order == Order::kForwards ? i : count - 1 - i);
  }
}

class EmulatedWarp {
 public:
  explicit EmulatedWarp(Order order) : order_(order) {
    for (uint32_t i = 0; i < kLanes; ++i) lanes_[i].index = i;
  }
  template <typename F>
  void Each(F f) {
    Loop(order_, kLanes, [&](uint32_t i) { f(lanes_[i]); });
  }
  template <typename F>
  uint32_t Ballot(F f) {
    uint32_t votes = 0;
    Each([&](Lane& lane) { votes |= uint32_t{f(lane)} << lane.index; });
    return votes;
  }
  template <typename F>
  uint32_t Sum(F f) {
    uint32_t sum = 0;
    Each([&](Lane& lane) { sum += f(lane); });
    return sum;
  }
  void Sync() {}

 private:
  Order order_;
  Lane lanes_[kLanes] = {};
};

class EmulatedCta {
 public:
  explicit EmulatedCta(Order order) : order_(order) {}
  template <typename F>
  void Each(F f) {
    Loop(order_, kThreads, f);
  }
  template <typename F>
  void EachWarp(F f) {
    Loop(order_, kWarps, [&](uint32_t number) {
      EmulatedWarp warp(order_);
      f(warp, number);
    });
  }

 private:
  Order order_;
};

/// Decodes a batch into `out` (out_size() bytes) and returns the blocks'
/// results. Everything that a GPU would hold is a heap allocation of exactly
/// its size, so that AddressSanitizer sees a byte too far.
inline std::vector<uint32_t> Emulate(const Batch& batch, uint8_t* out,
                                     bool check_hash = true,
                                     Order order = Order::kForwards) {
  const ByteSpan bytes = batch.bytes();
  const std::unique_ptr<uint8_t[]> in(new uint8_t[bytes.size()]);
  std::ranges::copy(bytes, in.get());
  std::vector<uint32_t> results(batch.blocks().size(), ~0u);
  for (size_t i = 0; i < results.size(); ++i) {
    EmulatedCta cta(order);
    const auto shared = std::make_unique<Shared>();
    DecodeBlock(cta, *shared, &batch.blocks()[i], batch.tables().data(),
                in.get(), out, check_hash, &results[i]);
  }
  return results;
}

}  // namespace zipllm::cuda

#endif  // ZIPLLM_TESTS_CUDA_EMULATION_H_
