#include <sys/mman.h>

#include "codecs/text/cm_memory.h"

namespace zipllm::codecs::cm {
namespace {

constexpr size_t kLargePage = size_t{1} << 21;

}  // namespace

ZeroedMemory::ZeroedMemory(uint64_t size) {
  if (size > PTRDIFF_MAX - kLargePage) return;
  const size_t mapped_size = static_cast<size_t>(size) + kLargePage;
  void* mapped = mmap(nullptr, mapped_size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return;
  mapped_ = mapped;
  mapped_size_ = mapped_size;
  const auto begin = reinterpret_cast<uintptr_t>(mapped);
  const size_t skip = (kLargePage - begin % kLargePage) % kLargePage;
  data_ = static_cast<uint8_t*>(mapped) + skip;
  size_ = static_cast<size_t>(size);
#ifdef MADV_HUGEPAGE
  // Advice alone: what cannot be had is done without.
  (void)madvise(data_, mapped_size - skip, MADV_HUGEPAGE);
#endif
}

ZeroedMemory::~ZeroedMemory() {
  if (mapped_ != nullptr) munmap(mapped_, mapped_size_);
}

}  // namespace zipllm::codecs::cm
