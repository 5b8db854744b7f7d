#ifndef ZIPLLM_BASE_MEMORY_BUDGET_H_
#define ZIPLLM_BASE_MEMORY_BUDGET_H_

#include <cstdint>
#include <string>

#include "base/status.h"

namespace zipllm {

/// Counts memory that untrusted input asks for: reserve before allocating.
/// Thread-compatible.
class MemoryBudget {
 public:
  /// `what` is for the message: "the archive's index".
  MemoryBudget(std::string what, uint64_t limit)
      : what_(std::move(what)), limit_(limit), left_(limit) {}
  /// RESOURCE_EXHAUSTED if that is more than what is left.
  absl::Status Reserve(uint64_t bytes) {
    if (bytes > left_) {
      return ResourceExhausted(
          what_, " needs more than the ", limit_,
          " bytes of memory allowed: allow more (--memory)");
    }
    left_ -= bytes;
    return absl::OkStatus();
  }

 private:
  std::string what_;
  uint64_t limit_;
  uint64_t left_;
};

}  // namespace zipllm

#endif  // ZIPLLM_BASE_MEMORY_BUDGET_H_
