// Columns of a log or a table: byte strings that stand one below the other and
// are alike. Format: format-spec/codecs/columns.md.
//
// A column is coded by one of several kinds (kind_list.inc), whichever takes
// the fewest bytes: constant, dictionary, numbers, times, text and so on. A
// kind proves of each value that it comes back as it was, or puts it among the
// column's exceptions. So any bytes may be values.
#ifndef ZIPLLM_CODECS_COLUMNS_COLUMNS_H_
#define ZIPLLM_CODECS_COLUMNS_COLUMNS_H_

#include <cstring>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "codecs/codec.h"

namespace zipllm::codecs::columns {

/// Byte strings, one after the other; below 2^32 bytes in all.
/// Thread-compatible.
class Values {
 public:
  size_t size() const { return ends_.size(); }
  ByteSpan operator[](size_t i) const {
    const size_t begin = i == 0 ? 0 : ends_[i - 1];
    return bytes_.span().subspan(begin, ends_[i] - begin);
  }
  /// All of them, joined.
  ByteSpan bytes() const { return bytes_.span(); }
  void Append(ByteSpan value) {
    bytes_.Append(value);
    ends_.push_back(static_cast<uint32_t>(bytes_.size()));
  }
  /// Appends a value of `length` bytes, which are for the caller to fill at
  /// once.
  uint8_t* Extend(size_t length) {
    uint8_t* bytes = bytes_.Extend(length);
    ends_.push_back(static_cast<uint32_t>(bytes_.size()));
    return bytes;
  }
  /// Appends value `i` once more.
  void AppendAgain(size_t i) {
    const size_t begin = i == 0 ? 0 : ends_[i - 1];
    const size_t length = ends_[i] - begin;
    uint8_t* copy = Extend(length);
    if (length != 0) std::memcpy(copy, bytes_.data() + begin, length);
  }
  /// Takes `bytes` as values of these lengths.
  void Adopt(Buffer&& bytes, std::span<const uint64_t> lengths) {
    bytes_ = std::move(bytes);
    ends_.resize(lengths.size());
    uint32_t end = 0;
    for (size_t i = 0; i < lengths.size(); ++i) {
      ends_[i] = end += static_cast<uint32_t>(lengths[i]);
    }
  }
  void Reserve(size_t values, size_t bytes) {
    ends_.reserve(values);
    bytes_.Reserve(bytes);
  }
  void Clear() {
    ends_.clear();
    bytes_.Clear();
  }

 private:
  Buffer bytes_;
  std::vector<uint32_t> ends_;
};

/// An earlier column: value i of the column that is coded stands in one row
/// with value index[i] of `values` (index empty: with value i). The encoder
/// looks at the first kMaxBesides; put first what may tell most.
struct Beside {
  const Values* values;
  std::span<const uint32_t> index;
};
inline constexpr size_t kMaxBesides = 32;

/// What is known of a column before it is decoded.
struct Stamp {
  uint8_t kind = 0;
  bool is_empty = false;  ///< there are no values
  /// False: the column is short, and nothing of the below is known.
  bool has_classes = false;
  uint32_t longest = UINT32_MAX;  ///< bytes of the longest value, at least
  /// Bits of ClassOf(byte) of all bytes in values, at least.
  uint8_t classes = 0xff;
  ByteSpan body;  ///< what is behind the stamp
};
/// One bit: which class of characters a byte belongs to.
constexpr uint8_t ClassOf(uint8_t byte) {
  if (byte >= '0' && byte <= '9') return 1;
  if (byte >= 'a' && byte <= 'f') return 2;
  if (byte >= 'g' && byte <= 'z') return 4;
  if (byte >= 'A' && byte <= 'F') return 8;
  if (byte >= 'G' && byte <= 'Z') return 16;
  if (byte == ' ') return 32;
  return byte > ' ' && byte < 0x7f ? 64 : 128;
}

/// Appends the coded column: its coded size first, then a stamp, so that
/// readers skip it or judge it unread. A column of a few values costs some
/// bytes more than they do: join small ones that are alike. The decoder is
/// given the same `beside`; `level` is 1 to 9.
void EncodeColumn(const Values& values, std::span<const Beside> beside,
                  int level, Scratch& scratch, Buffer* out);

/// Sets `*out` to the `count` values, of at most `max_bytes` in all; DATA_LOSS
/// on damage. Memory: a few times `count` words and `max_bytes`.
absl::Status DecodeColumn(ByteReader& reader, size_t count, size_t max_bytes,
                          std::span<const Beside> beside, Scratch& scratch,
                          Values* out);

/// Leaves the reader behind the column.
absl::StatusOr<Stamp> ReadStamp(ByteReader& reader);

}  // namespace zipllm::codecs::columns

#endif  // ZIPLLM_CODECS_COLUMNS_COLUMNS_H_
