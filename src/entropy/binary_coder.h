// Arithmetic coding of single bits (Witten, Neal, Cleary 1987, in the carryless
// form of Mahoney's paq): a range of 32-bit numbers is split in proportion to
// the probability of a one.
#ifndef ZIPLLM_ENTROPY_BINARY_CODER_H_
#define ZIPLLM_ENTROPY_BINARY_CODER_H_

#include <cstddef>
#include <cstdint>

#include "base/buffer.h"

namespace zipllm::entropy {

/// Where the range [low, high] is split for a one with probability `p` of
/// 65536, 1 to 65535.
inline uint32_t SplitRange(uint32_t low, uint32_t high, uint32_t p) {
  return low + static_cast<uint32_t>((uint64_t{high - low} * p) >> 16);
}

/// Appends to a buffer. Thread-compatible.
class BinaryEncoder {
 public:
  explicit BinaryEncoder(Buffer* out) : out_(out) {}

  /// Codes `bit`, which is 1 with probability `p` of 65536 (1 to 65535).
  /// Returns `bit`.
  bool Code(bool bit, uint32_t p) {
    const uint32_t split = SplitRange(low_, high_, p);
    if (bit) {
      high_ = split;
    } else {
      low_ = split + 1;
    }
    while (((low_ ^ high_) >> 24) == 0) {
      *out_->Extend(1) = static_cast<uint8_t>(high_ >> 24);
      low_ <<= 8;
      high_ = high_ << 8 | 255;
    }
    return bit;
  }

  /// Ends the code: one byte, after which the decoder reads zeros.
  void Finish() { *out_->Extend(1) = static_cast<uint8_t>((low_ >> 24) + 1); }

 private:
  Buffer* out_;
  uint32_t low_ = 0;
  uint32_t high_ = UINT32_MAX;
};

/// Reads what BinaryEncoder wrote; zeros past the end. Any bytes decode to
/// something. Thread-compatible.
class BinaryDecoder {
 public:
  BinaryDecoder(const uint8_t* data, size_t size) : data_(data), size_(size) {
    for (int i = 0; i < 4; ++i) code_ = code_ << 8 | NextByte();
  }

  /// The next bit. The first argument is there so that models call encoder and
  /// decoder alike.
  bool Code(bool, uint32_t p) {
    const uint32_t split = SplitRange(low_, high_, p);
    const bool bit = code_ <= split;
    if (bit) {
      high_ = split;
    } else {
      low_ = split + 1;
    }
    while (((low_ ^ high_) >> 24) == 0) {
      low_ <<= 8;
      high_ = high_ << 8 | 255;
      code_ = code_ << 8 | NextByte();
    }
    return bit;
  }

  /// Whether the code is as long as an encoder of the same bits makes it.
  bool IsAtEnd() const { return next_ == size_ + 3; }
  /// Whether it is shorter already.
  bool IsPastEnd() const { return next_ > size_ + 3; }

 private:
  uint32_t NextByte() {
    const size_t i = next_++;
    return i < size_ ? data_[i] : 0;
  }

  const uint8_t* data_;
  size_t size_;
  size_t next_ = 0;
  uint32_t code_ = 0;
  uint32_t low_ = 0;
  uint32_t high_ = UINT32_MAX;
};

}  // namespace zipllm::entropy

#endif  // ZIPLLM_ENTROPY_BINARY_CODER_H_
