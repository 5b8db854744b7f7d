// Bits, lowest first, for what is small: tables of parameters.
#ifndef ZIPLLM_ENTROPY_BITS_H_
#define ZIPLLM_ENTROPY_BITS_H_

#include <bit>
#include <cstdint>

#include "base/buffer.h"
#include "zipllm/types.h"

namespace zipllm::entropy {

/// Appends bits to a Buffer it does not own; `Finish` fills the last byte with
/// zeros. Thread-compatible.
class BitWriter {
 public:
  explicit BitWriter(Buffer* out) : out_(out) {}
  /// The lowest `count` (at most 32) bits of `value`, which has no others.
  void Put(uint32_t value, int count) {
    held_ |= uint64_t{value} << held_bits_;
    for (held_bits_ += count; held_bits_ >= 8; held_bits_ -= 8) {
      *out_->Extend(1) = static_cast<uint8_t>(held_);
      held_ >>= 8;
    }
  }
  void Finish() {
    if (held_bits_ > 0) Put(0, 8 - held_bits_);
  }

 private:
  Buffer* out_;
  uint64_t held_ = 0;
  int held_bits_ = 0;
};

/// Reads what BitWriter wrote. Beyond the end there are zeros; `AtEnd` tells.
/// Thread-compatible.
class BitReader {
 public:
  explicit BitReader(ByteSpan data) : data_(data) {}
  /// The next `count` (at most 32) bits.
  uint32_t Get(int count) {
    while (held_bits_ < count) {
      held_ |= uint64_t{next_ < data_.size() ? data_[next_] : uint8_t{0}}
               << held_bits_;
      ++next_;
      held_bits_ += 8;
    }
    const uint64_t value = held_ & ((uint64_t{1} << count) - 1);
    held_ >>= count;
    held_bits_ -= count;
    return static_cast<uint32_t>(value);
  }
  /// Whether all bytes were read, nothing beyond, and what is left of the last
  /// one is zeros.
  bool AtEnd() const { return next_ == data_.size() && held_ == 0; }

 private:
  ByteSpan data_;
  size_t next_ = 0;
  uint64_t held_ = 0;
  int held_bits_ = 0;
};

/// Integers in a Rice code whose parameter follows their mean (as in JPEG-LS,
/// ITU-T T.87, A.5): the parameter is the least k with count << k >= sum. The
/// code of v is v >> k ones and a zero, then the low k bits of v; from 16 ones
/// on, 16 ones (no zero) and v in 32 bits.
class AdaptiveRice {
 public:
  void Write(uint32_t value, BitWriter* writer) {
    const int k = Parameter();
    if (value >> k >= kMostOnes) {
      writer->Put(0xffff, kMostOnes);
      writer->Put(value, 32);
    } else {
      writer->Put((uint32_t{1} << (value >> k)) - 1,
                  static_cast<int>(value >> k) + 1);
      writer->Put(value & ((uint32_t{1} << k) - 1), k);
    }
    Update(value);
  }
  uint32_t Read(BitReader* reader) {
    const int k = Parameter();
    uint32_t ones = 0;
    while (ones < kMostOnes && reader->Get(1) != 0) ++ones;
    const uint32_t value =
        ones == kMostOnes ? reader->Get(32) : ones << k | reader->Get(k);
    Update(value);
    return value;
  }

 private:
  static constexpr int kMostOnes = 16;
  static constexpr uint32_t kMemory = 32;

  int Parameter() const {
    int k = 0;
    while (k < 24 && uint64_t{count_} << k < sum_) ++k;
    return k;
  }
  /// Halves both at times, so that the mean is one of late values.
  void Update(uint32_t value) {
    sum_ += value;
    if (++count_ == kMemory) {
      sum_ /= 2;
      count_ /= 2;
    }
  }

  uint64_t sum_ = 1;
  uint32_t count_ = 1;
};

/// 0, -1, 1, -2, ... as 0, 1, 2, 3, ... and back. For |value| below 2^30.
inline uint32_t ZigZag(int32_t value) {
  return value < 0 ? static_cast<uint32_t>(-2 * value - 1)
                   : static_cast<uint32_t>(2 * value);
}
inline int32_t UnZigZag(uint32_t value) {
  return static_cast<int32_t>(value >> 1) ^ -static_cast<int32_t>(value & 1);
}

}  // namespace zipllm::entropy

#endif  // ZIPLLM_ENTROPY_BITS_H_
