#ifndef ZIPLLM_BASE_BUFFER_H_
#define ZIPLLM_BASE_BUFFER_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <utility>

#include "zipllm/types.h"

namespace zipllm {

/// A growable byte buffer, 64-byte aligned, that does not initialise what it
/// grows by. Throws std::bad_alloc when memory is out; sizes from untrusted
/// input are bounded by the caller first (see limits.h). Thread-compatible.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t size) { Resize(size); }
  /// What is moved from is empty.
  Buffer(Buffer&& other) noexcept
      : data_(std::move(other.data_)),
        size_(std::exchange(other.size_, 0)),
        capacity_(std::exchange(other.capacity_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    data_ = std::move(other.data_);
    size_ = std::exchange(other.size_, 0);
    capacity_ = std::exchange(other.capacity_, 0);
    return *this;
  }

  uint8_t* data() { return data_.get(); }
  const uint8_t* data() const { return data_.get(); }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  uint8_t* begin() { return data(); }
  uint8_t* end() { return data() + size_; }
  ByteSpan span() const { return {data_.get(), size_}; }
  MutableByteSpan mutable_span() { return {data_.get(), size_}; }
  void Clear() { size_ = 0; }

  /// Makes room for `capacity` bytes, keeping the content.
  void Reserve(size_t capacity) {
    if (capacity <= capacity_) return;
    if (capacity > PTRDIFF_MAX) throw std::bad_alloc();
    size_t rounded = (capacity + 63) / 64 * 64;
    auto* fresh = static_cast<uint8_t*>(std::aligned_alloc(64, rounded));
    if (fresh == nullptr) throw std::bad_alloc();
    if (size_ != 0) std::memcpy(fresh, data_.get(), size_);
    data_.reset(fresh);
    capacity_ = rounded;
  }
  /// Sets the size; new bytes are uninitialised.
  void Resize(size_t size) {
    Reserve(size);
    size_ = size;
  }
  /// Grows by `count` uninitialised bytes (amortised) and returns where they
  /// start.
  uint8_t* Extend(size_t count) {
    if (count > capacity_ - size_) {
      if (count > PTRDIFF_MAX) throw std::bad_alloc();
      Reserve(std::max(size_ + count, 2 * capacity_));
    }
    size_ += count;
    return data_.get() + size_ - count;
  }
  /// `bytes` lie outside this buffer.
  void Append(ByteSpan bytes) {
    if (!bytes.empty())
      std::memcpy(Extend(bytes.size()), bytes.data(), bytes.size());
  }

 private:
  struct Free {
    void operator()(uint8_t* p) const { std::free(p); }
  };
  std::unique_ptr<uint8_t, Free> data_;
  size_t size_ = 0;
  size_t capacity_ = 0;
};

}  // namespace zipllm

#endif  // ZIPLLM_BASE_BUFFER_H_
