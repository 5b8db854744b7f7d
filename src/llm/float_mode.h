#ifndef ZIPLLM_LLM_FLOAT_MODE_H_
#define ZIPLLM_LLM_FLOAT_MODE_H_

#include <cstdint>

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace zipllm::llm {

/// While it lives, this thread's floats round to nearest, ties to even, and
/// keep subnormal numbers, whatever the caller has set.
class FloatMode {
 public:
  FloatMode(const FloatMode&) = delete;
  FloatMode& operator=(const FloatMode&) = delete;
#if defined(__SSE2__)
  FloatMode() : saved_(_mm_getcsr()) { _mm_setcsr(0x1f80); }
  ~FloatMode() { _mm_setcsr(saved_); }

 private:
  const unsigned saved_;
#elif defined(__aarch64__)
  FloatMode() {
    asm volatile("mrs %0, fpcr" : "=r"(saved_));
    asm volatile("msr fpcr, %0" : : "r"(uint64_t{0}));
  }
  ~FloatMode() { asm volatile("msr fpcr, %0" : : "r"(saved_)); }

 private:
  uint64_t saved_;
#else
  FloatMode() = default;
#endif
};

}  // namespace zipllm::llm

#endif  // ZIPLLM_LLM_FLOAT_MODE_H_
