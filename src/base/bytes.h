// The only way to read untrusted bytes, and its counterpart for writing.
// Little-endian, canonical LEB128 varints (format-spec/container.md,
// "Numbers").
#ifndef ZIPLLM_BASE_BYTES_H_
#define ZIPLLM_BASE_BYTES_H_

#include <bit>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>

#include "base/buffer.h"
#include "base/status.h"
#include "zipllm/types.h"

namespace zipllm {

static_assert(std::endian::native == std::endian::little,
              "loads and stores here assume a little-endian machine");

/// Loads a little-endian integer from unaligned memory.
template <typename T>
T LoadLe(const void* p) {
  static_assert(std::is_trivially_copyable_v<T>);
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}
template <typename T>
void StoreLe(void* p, T value) {
  std::memcpy(p, &value, sizeof value);
}

/// a + b, false on overflow.
[[nodiscard]] inline bool CheckedAdd(uint64_t a, uint64_t b, uint64_t* sum) {
  return !__builtin_add_overflow(a, b, sum);
}
/// a * b, false on overflow.
[[nodiscard]] inline bool CheckedMul(uint64_t a, uint64_t b,
                                     uint64_t* product) {
  return !__builtin_mul_overflow(a, b, product);
}

/// Reads from a span of untrusted bytes; every read is checked, errors are
/// DATA_LOSS and name `what` and the offset. A sub-reader cannot leave its
/// parent. Thread-compatible.
class ByteReader {
 public:
  /// `what` names the thing read in messages ("index"); it must outlive the
  /// reader. `base` is added to offsets in messages.
  explicit ByteReader(ByteSpan data, std::string_view what = "data",
                      uint64_t base = 0)
      : data_(data), what_(what), base_(base) {}

  size_t remaining() const { return data_.size() - pos_; }
  size_t position() const { return pos_; }
  bool AtEnd() const { return pos_ == data_.size(); }

  template <typename T>
  absl::StatusOr<T> Le() {
    if (remaining() < sizeof(T)) return Truncated(sizeof(T));
    T value = LoadLe<T>(data_.data() + pos_);
    pos_ += sizeof(T);
    return value;
  }
  /// A varint of at most `max`; refuses one that is not the shortest for its
  /// value.
  absl::StatusOr<uint64_t> Varint(uint64_t max = UINT64_MAX);
  /// The next `count` bytes, as a view into the data.
  absl::StatusOr<ByteSpan> Bytes(uint64_t count) {
    if (remaining() < count) return Truncated(count);
    ByteSpan view = data_.subspan(pos_, count);
    pos_ += count;
    return view;
  }
  /// A varint length of at most `max_length`, then that many bytes.
  absl::StatusOr<std::string> String(uint64_t max_length);
  absl::StatusOr<ByteReader> Sub(uint64_t count, std::string_view what);
  /// OK only if everything was read.
  absl::Status ExpectEnd() const;
  /// DATA_LOSS that says where the reader stands.
  template <typename... Parts>
  absl::Status Error(const Parts&... parts) const {
    return DataLoss(what_, " at byte ", base_ + pos_, ": ", parts...);
  }

 private:
  absl::Status Truncated(uint64_t wanted) const {
    return Error("ends early (", wanted, " bytes wanted, ", remaining(),
                 " left)");
  }
  ByteSpan data_;
  std::string_view what_;
  uint64_t base_;
  size_t pos_ = 0;
};

/// Appends to a Buffer it does not own. Thread-compatible.
class ByteWriter {
 public:
  explicit ByteWriter(Buffer* out) : out_(out) {}
  template <typename T>
  void Le(T value) {
    StoreLe(out_->Extend(sizeof(T)), value);
  }
  void Varint(uint64_t value);
  void Bytes(ByteSpan bytes) { out_->Append(bytes); }
  /// A varint length, then the bytes.
  void String(std::string_view text);

 private:
  Buffer* out_;
};

/// How many bytes `value` takes as a varint: 1 to 10.
inline size_t VarintSize(uint64_t value) {
  return (std::bit_width(value | 1) + 6) / 7;
}

inline ByteSpan AsBytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

}  // namespace zipllm

#endif  // ZIPLLM_BASE_BYTES_H_
