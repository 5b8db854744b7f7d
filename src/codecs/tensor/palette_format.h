// What encoder and decoder of codec 13 share.
// Format: format-spec/codecs/13-palette.md.
#ifndef ZIPLLM_CODECS_TENSOR_PALETTE_FORMAT_H_
#define ZIPLLM_CODECS_TENSOR_PALETTE_FORMAT_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace zipllm::codecs::palette_format {

/// Values of a palette, at most.
inline constexpr size_t kMaxValues = 256;
/// Elements of a group, at most.
inline constexpr uint64_t kMaxGroup = uint64_t{1} << 40;
/// Elements decoded at a time: whole steps of streams.
inline constexpr size_t kPiece = 2048;

enum Flags : uint8_t {
  kFromZero = 1,  ///< values are numbered from zero up and down, not from the
                  ///< first
  kMirrored = 2,  ///< negative values are told by the positive ones
};
inline constexpr uint8_t kAllFlags = kFromZero | kMirrored;

/// A block's elements, divided into groups.
class Groups {
 public:
  /// Of `size` elements each, the first `phase` (below `size`) elements of the
  /// first group being before the block.
  Groups(size_t elements, uint64_t size, uint64_t phase)
      : elements_(elements),
        size_(size),
        phase_(phase),
        count_(static_cast<size_t>((phase + elements - 1) / size + 1)) {}

  size_t count() const { return count_; }
  /// Where group `g` begins; for g = count(), where the last one ends.
  size_t Begin(size_t g) const {
    if (g == 0) return 0;
    return g == count_ ? elements_ : static_cast<size_t>(g * size_ - phase_);
  }

 private:
  size_t elements_;
  uint64_t size_;
  uint64_t phase_;
  size_t count_;
};

/// All bits but the highest.
template <typename Element>
inline constexpr auto kAllButTop = static_cast<Element>(Element(-1) >> 1);

/// How many of `count` values have the highest bit set: the negative ones.
template <typename Element>
size_t Negative(const Element* values, size_t count) {
  constexpr int kTop = 8 * sizeof(Element) - 1;
  size_t negative = 0;
  for (size_t i = 0; i < count; ++i) negative += values[i] >> kTop;
  return negative;
}

/// Combines (all but the highest bits) the negative values of a palette, which
/// come first, the last one being the nearest to zero, with the others, from
/// the first that is not 0 on; and takes them apart again.
template <typename Element>
void Mirror(Element* values, size_t count) {
  const size_t negative = Negative(values, count);
  const size_t zero = negative < count && values[negative] == 0 ? 1 : 0;
  const Element* const positive = values + negative + zero;
  const size_t pairs = std::min(negative, count - negative - zero);
  for (size_t i = 0; i < pairs; ++i) {
    Element& value = values[negative - 1 - i];
    value = static_cast<Element>(value ^ (positive[i] & kAllButTop<Element>));
  }
}

}  // namespace zipllm::codecs::palette_format

#endif  // ZIPLLM_CODECS_TENSOR_PALETTE_FORMAT_H_
