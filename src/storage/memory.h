#ifndef ZIPLLM_STORAGE_MEMORY_H_
#define ZIPLLM_STORAGE_MEMORY_H_

#include <cstdint>
#include <memory>

#include "storage/storage.h"

namespace zipllm::storage {

/// Values in memory, for tests.
class MemoryStorage : public Storage {
 public:
  /// Its clock goes ahead of that of the machine.
  virtual void AdvanceClock(int64_t seconds) = 0;
};
std::unique_ptr<MemoryStorage> MakeMemoryStorage();

}  // namespace zipllm::storage

#endif  // ZIPLLM_STORAGE_MEMORY_H_
