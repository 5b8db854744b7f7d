// Memory for tables of context mixing.
#ifndef ZIPLLM_CODECS_TEXT_CM_MEMORY_H_
#define ZIPLLM_CODECS_TEXT_CM_MEMORY_H_

#include <cstddef>
#include <cstdint>

namespace zipllm::codecs::cm {

/// Zeros, aligned to a cache line at least, in large pages where the system has
/// them: finding pages takes most of the time of random access.
class ZeroedMemory {
 public:
  explicit ZeroedMemory(uint64_t size);
  ~ZeroedMemory();
  ZeroedMemory(const ZeroedMemory&) = delete;
  ZeroedMemory& operator=(const ZeroedMemory&) = delete;

  /// Null where there is not as much.
  uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  void* mapped_ = nullptr;
  size_t mapped_size_ = 0;
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace zipllm::codecs::cm

#endif  // ZIPLLM_CODECS_TEXT_CM_MEMORY_H_
