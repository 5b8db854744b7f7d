#ifndef ZIPLLM_TESTS_ARCHIVE_OUT_OF_MEMORY_H_
#define ZIPLLM_TESTS_ARCHIVE_OUT_OF_MEMORY_H_

#include <cstdint>

namespace zipllm::testing {

/// While it lives, operator new of this thread succeeds `allocations` times,
/// then throws std::bad_alloc.
class MemoryThatRunsOut {
 public:
  explicit MemoryThatRunsOut(int64_t allocations);
  MemoryThatRunsOut(const MemoryThatRunsOut&) = delete;
  MemoryThatRunsOut& operator=(const MemoryThatRunsOut&) = delete;
  ~MemoryThatRunsOut();
};

}  // namespace zipllm::testing

#endif  // ZIPLLM_TESTS_ARCHIVE_OUT_OF_MEMORY_H_
