// Replaces operator new of the test program. In a file of its own, or gcc sees
// through it and calls new and free mismatched.
#include "archive/out_of_memory.h"

#include <cstddef>
#include <cstdlib>
#include <new>

namespace {
constexpr int64_t kNoLimit = -1;
thread_local int64_t allocations_left = kNoLimit;
}  // namespace

void* operator new(size_t size) {
  if (allocations_left == 0) throw std::bad_alloc();
  if (allocations_left > 0) --allocations_left;
  void* memory = std::malloc(size != 0 ? size : 1);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void* operator new[](size_t size) { return operator new(size); }
// std::stable_sort asks so, and does without.
void* operator new(size_t size, const std::nothrow_t&) noexcept {
  if (allocations_left == 0) return nullptr;
  if (allocations_left > 0) --allocations_left;
  return std::malloc(size != 0 ? size : 1);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }

namespace zipllm::testing {

MemoryThatRunsOut::MemoryThatRunsOut(int64_t allocations) {
  allocations_left = allocations;
}
MemoryThatRunsOut::~MemoryThatRunsOut() { allocations_left = kNoLimit; }

}  // namespace zipllm::testing
