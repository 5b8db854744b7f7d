// Bits, lowest first.
#ifndef ZIPLLM_ENTROPY_BITS_H_
#define ZIPLLM_ENTROPY_BITS_H_

#include <cstddef>
#include <cstdint>

#include "base/buffer.h"
#include "base/bytes.h"
#include "zipllm/types.h"

namespace zipllm::entropy {

/// Appends bits to a Buffer it does not own, which has all of them after
/// `Finish` only: that fills the last byte with zeros. Thread-compatible.
class BitWriter {
 public:
  explicit BitWriter(Buffer* out) : out_(out) {}
  /// The lowest `count` (at most 64) bits of `value`, which has no others.
  void Put(uint64_t value, int count) {
    if (count > 32) {
      Put(value & UINT32_MAX, 32);
      value >>= 32;
      count -= 32;
    }
    held_ |= value << held_bits_;
    held_bits_ += count;
    if (held_bits_ >= 32) {
      StoreLe(out_->Extend(4), static_cast<uint32_t>(held_));
      held_ >>= 32;
      held_bits_ -= 32;
    }
  }
  void Finish() {
    for (; held_bits_ > 0; held_bits_ -= 8, held_ >>= 8) {
      *out_->Extend(1) = static_cast<uint8_t>(held_);
    }
    held_bits_ = 0;
  }

 private:
  Buffer* out_;
  uint64_t held_ = 0;  // below 32 bits between calls
  int held_bits_ = 0;
};

/// Reads what BitWriter wrote. Beyond the end there are zeros; `AtEnd` tells.
/// Thread-compatible.
class BitReader {
 public:
  explicit BitReader(ByteSpan data) : data_(data) {}
  /// The next `count` (at most 32) bits.
  uint32_t Get(int count) {
    const uint64_t mask = (uint64_t{1} << count) - 1;
    const auto value = static_cast<uint32_t>(Next() & mask);
    bit_ += static_cast<size_t>(count);
    return value;
  }
  /// The next `count` (at most 64) bits.
  uint64_t Get64(int count) {
    if (count <= 32) return Get(count);
    const uint64_t low = Get(32);
    return low | uint64_t{Get(count - 32)} << 32;
  }
  /// Whether all bytes were read, nothing beyond, and what is left of the last
  /// one is zeros.
  bool AtEnd() const { return (bit_ + 7) / 8 == data_.size() && Next() == 0; }

 private:
  /// What comes next, in at least 57 bits.
  uint64_t Next() const {
    const size_t byte = bit_ / 8;
    uint64_t word = 0;
    if (byte + 8 <= data_.size()) {
      word = LoadLe<uint64_t>(data_.data() + byte);
    } else {
      for (size_t i = byte; i < data_.size(); ++i) {
        word |= uint64_t{data_[i]} << (8 * (i - byte));
      }
    }
    return word >> (bit_ % 8);
  }

  ByteSpan data_;
  size_t bit_ = 0;
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
/// The same for any of 64 bits.
constexpr uint64_t ZigZag64(int64_t value) {
  return static_cast<uint64_t>(value) << 1 ^ static_cast<uint64_t>(value >> 63);
}
constexpr int64_t UnZigZag64(uint64_t value) {
  return static_cast<int64_t>(value >> 1 ^ (0 - (value & 1)));
}

}  // namespace zipllm::entropy

#endif  // ZIPLLM_ENTROPY_BITS_H_
