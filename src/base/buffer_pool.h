#ifndef ZIPLLM_BASE_BUFFER_POOL_H_
#define ZIPLLM_BASE_BUFFER_POOL_H_

#include <memory>
#include <mutex>
#include <vector>

#include "base/buffer.h"

namespace zipllm {

/// Hands out buffers and takes them back when the last owner lets go, so that
/// large ones are not mapped anew each time. Thread-safe; buffers may outlive
/// the pool.
class BufferPool {
 public:
  std::shared_ptr<Buffer> Get() {
    std::unique_ptr<Buffer> buffer;
    {
      std::lock_guard lock(free_->mutex);
      if (!free_->buffers.empty()) {
        buffer = std::move(free_->buffers.back());
        free_->buffers.pop_back();
      }
    }
    if (buffer == nullptr) buffer = std::make_unique<Buffer>();
    buffer->Clear();
    return {buffer.release(), [free = free_](Buffer* returned) {
              std::unique_ptr<Buffer> owned(returned);
              std::lock_guard lock(free->mutex);
              free->buffers.push_back(std::move(owned));
            }};
  }

 private:
  struct Free {
    std::mutex mutex;
    std::vector<std::unique_ptr<Buffer>> buffers;
  };
  std::shared_ptr<Free> free_ = std::make_shared<Free>();
};

}  // namespace zipllm

#endif  // ZIPLLM_BASE_BUFFER_POOL_H_
