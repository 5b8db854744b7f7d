// The tokens that a token being coded may still be: a range of the vocabulary,
// which is in the order of its bytes, narrowed bit by bit.
#ifndef ZIPLLM_CODECS_TEXT_TOKEN_RANGE_H_
#define ZIPLLM_CODECS_TEXT_TOKEN_RANGE_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/log2.h"
#include "codecs/text/cm_parts.h"

namespace zipllm::codecs {

/// A vocabulary, with what is looked up in it again and again. Immutable;
/// refers to the span.
class SortedVocabulary {
 public:
  explicit SortedVocabulary(std::span<const std::string_view> tokens)
      : tokens_(tokens) {
    for (size_t byte = 0; byte < 256; ++byte) {
      first_[byte + 1] = Search(0, static_cast<uint32_t>(tokens.size()), 0,
                                static_cast<uint32_t>(byte) + 1);
      const uint32_t first = first_[byte];
      has_all_bytes_ &= first < first_[byte + 1] && tokens[first].size() == 1;
    }
  }

  uint32_t size() const { return first_[256]; }
  std::string_view operator[](uint32_t i) const { return tokens_[i]; }
  /// Whether each byte is a token by itself: what is not, escapes are for.
  bool has_all_bytes() const { return has_all_bytes_; }

  /// The first token of [low, high), all longer than `depth` and alike up to
  /// there, whose byte at `depth` is `byte` (up to 256) or more; `high` if none
  /// is.
  uint32_t FirstFrom(uint32_t low, uint32_t high, size_t depth,
                     uint32_t byte) const {
    return depth == 0 ? std::clamp(first_[byte], low, high)
                      : Search(low, high, depth, byte);
  }

 private:
  uint32_t Search(uint32_t low, uint32_t high, size_t depth,
                  uint32_t byte) const {
    while (low < high) {
      const uint32_t middle = low + (high - low) / 2;
      if (static_cast<uint8_t>(tokens_[middle][depth]) < byte) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  }

  std::span<const std::string_view> tokens_;
  std::array<uint32_t, 257> first_{};
  bool has_all_bytes_ = true;
};

/// ln(ones / zeros) in 1/256, as probabilities are stretched (cm_parts.h), of
/// weights below 2^48, at least 1 each.
inline int StretchRatio(uint64_t ones, uint64_t zeros) {
  const auto log2 = [](uint64_t x) {
    const int shift = std::max(0, 32 - std::countl_zero(x));
    return int64_t{Log2Q16(static_cast<uint32_t>(x >> shift))} +
           (int64_t{shift} << 16);
  };
  constexpr int64_t kLn2 = 11629080;  // ln(2) * 2^24
  const int64_t ratio = ((log2(ones) - log2(zeros)) * kLn2) >> 32;
  return static_cast<int>(
      std::clamp<int64_t>(ratio, -cm::kStretchMax, cm::kStretchMax));
}

/// Begins with all tokens; what is in it begins with the same bytes.
class TokenRange {
 public:
  /// `sums` is TextModel::Session::Sums.
  TokenRange(const SortedVocabulary& vocabulary, std::span<const uint64_t> sums)
      : vocabulary_(vocabulary), sums_(sums), high_(vocabulary.size()) {}

  /// Bytes that are known.
  size_t depth() const { return depth_; }
  uint32_t low() const { return low_; }

  /// After a byte: where the tokens end that have no more bytes.
  bool MayEnd() const { return depth_ > 0 && ended_ > low_; }
  bool MayGoOn() const { return ended_ < high_; }
  /// How likely it is that the token ends here, stretched; it may end, and may
  /// go on.
  int EndChance() const {
    return StretchRatio(Weight(low_, ended_), Weight(ended_, high_));
  }
  /// The likeliest of the tokens that end here.
  uint32_t End() const {
    uint32_t best = low_;
    for (uint32_t i = low_ + 1; i < ended_; ++i) {
      if (Weight(i, i + 1) > Weight(best, best + 1)) best = i;
    }
    return best;
  }

  /// Goes on, to the next byte.
  void BeginByte() {
    low_ = ended_;
    path_ = 1;
  }
  enum class Bit { kZero, kOne, kOpen };
  /// What the next bit of the byte must be; if it is open, `*chance` is how
  /// likely it is a one, stretched.
  Bit Next(int* chance) {
    const int bits = std::bit_width(path_) - 1;
    const uint32_t one = (path_ * 2 + 1) << (7 - bits) & 255;
    middle_ = vocabulary_.FirstFrom(low_, high_, depth_, one);
    if (middle_ == low_) return Bit::kOne;
    if (middle_ == high_) return Bit::kZero;
    *chance = StretchRatio(Weight(middle_, high_), Weight(low_, middle_));
    return Bit::kOpen;
  }
  /// After Next.
  void Take(bool bit) {
    (bit ? low_ : high_) = middle_;
    path_ = path_ * 2 + bit;
  }
  /// After eight bits; returns the byte.
  uint8_t EndByte() {
    ++depth_;
    ended_ = low_;
    while (ended_ < high_ && vocabulary_[ended_].size() == depth_) ++ended_;
    return static_cast<uint8_t>(path_);
  }

 private:
  uint64_t Weight(uint32_t low, uint32_t high) const {
    return sums_[high] - sums_[low];
  }

  const SortedVocabulary& vocabulary_;
  std::span<const uint64_t> sums_;
  size_t depth_ = 0;
  uint32_t low_ = 0;
  uint32_t high_;
  uint32_t ended_ = 0;
  uint32_t middle_ = 0;
  uint32_t path_ = 1;
};

}  // namespace zipllm::codecs

#endif  // ZIPLLM_CODECS_TEXT_TOKEN_RANGE_H_
