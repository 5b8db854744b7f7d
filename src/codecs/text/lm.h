// A small language model: int8 rows of numbers for the contexts that are common
// in text, a hidden layer over them, and for each bit of a byte a score that is
// linear in both. In the manner of neural models over embedded n-grams (Bengio
// et al. 2003, "A neural probabilistic language model"; Joulin et al. 2017,
// "Bag of tricks for efficient text classification"), with the byte as a path
// in a binary tree (Morin, Bengio 2005). Trained once by tools/train/lm.cc;
// nothing in it changes while it reads. Format:
// format-spec/codecs/23-text_lm.md.
//
// Integers throughout: int8 and int16 weights, int32 sums that cannot overflow.
#ifndef ZIPLLM_CODECS_TEXT_LM_H_
#define ZIPLLM_CODECS_TEXT_LM_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "codecs/text/cm_parts.h"

namespace zipllm::codecs::lm {

inline constexpr size_t kContexts = 12;
inline constexpr size_t kWidth = 16;  ///< of a row
inline constexpr size_t kDirect = kContexts * kWidth;
inline constexpr size_t kHidden = 32;
inline constexpr size_t kUnits = kDirect + kHidden;
inline constexpr uint32_t kLines = 61440;  ///< of four rows
inline constexpr size_t kLineBytes = 64;
/// What stands first in the row of a context that is known.
inline constexpr int kKnown = 32;
/// Rows and hidden units: 32 is 1. Hidden weights: 64 is 1. Output weights: 256
/// is 1; at most 2047, so that no sum overflows.
inline constexpr int kHiddenShift = 6;
inline constexpr int kOutputShift = 5;
inline constexpr int kHiddenMax = 511;
inline constexpr int kOutputMax = 2047;

/// Numbers as they lie in the file, one part after the other, little-endian.
struct File {
  /// Rows of a check and 15 numbers.
  std::array<uint8_t, size_t{kLines} * kLineBytes> lines;
  std::array<std::array<int8_t, kDirect>, kHidden> hidden;
  std::array<int16_t, kHidden> hidden_bias;
  /// By node of the binary tree of a byte: 1, then its bits so far.
  std::array<std::array<int16_t, kUnits>, 256> output;
  std::array<int16_t, 256> output_bias;
};
static_assert(sizeof(File) <= size_t{4} << 20);

/// The weights of this build, for what runs.
struct Weights {
  const uint8_t* lines;
  /// For pairs of direct units and all hidden ones: what pmaddwd wants.
  alignas(64) std::array<std::array<int16_t, 2 * kHidden>, kDirect / 2> hidden;
  alignas(64) std::array<int32_t, kHidden> hidden_bias;
  alignas(64) std::array<std::array<int16_t, kUnits>, 256> output;
  alignas(64) std::array<int32_t, 256> output_bias;
};
/// Thread-safe; made at the first call.
const Weights& BuiltInWeights();

inline namespace ZIPLLM_CM_TARGET {

/// What the contexts are made of.
struct History {
  uint32_t last4 = 0;    ///< bytes, the last one lowest
  uint32_t before4 = 0;  ///< the bytes before those
  uint32_t word = 0;     ///< hash of the letters at the end, 0 if none
  uint32_t word1 = 0;    ///< of the word before
  uint32_t word2 = 0;    ///< of the one before that
  uint32_t shape = 0;    ///< kinds of the last eight bytes

  static constexpr uint32_t KindOf(uint32_t c) {
    if (c >= 'a' && c <= 'z') return 4;
    if (c >= 'A' && c <= 'Z') return 5;
    if (c >= '0' && c <= '9') return 3;
    if (c >= 128) return 6;
    switch (c) {
      case '\n':
        return 1;
      case ' ':
        return 2;
      case '.':
      case ',':
        return 7;
      case '<':
      case '>':
      case '&':
        return 8;
      case '(':
      case ')':
      case '[':
      case ']':
      case '{':
      case '}':
        return 9;
      case '"':
      case '\'':
        return 10;
      default:
        return 11;
    }
  }

  void Add(uint8_t byte) {
    before4 = before4 << 8 | last4 >> 24;
    last4 = last4 << 8 | byte;
    const uint32_t kind = KindOf(byte);
    shape = shape << 4 | kind;
    if (kind >= 4 && kind <= 6) {
      const uint32_t lower = kind == 5 ? byte + 32u : byte;
      word = (word + lower + 1) * 0x2F0B4C47;
      word ^= word >> 15;
    } else if (word != 0) {
      word2 = word1;
      word1 = word;
      word = 0;
    }
  }

  static uint32_t Mix(uint32_t number, uint32_t low, uint32_t high) {
    uint64_t x = (uint64_t{high} << 32 | low) + number * 0x9E3779B97F4A7C15;
    x *= 0xD6E8FEB86659FD93;
    x ^= x >> 32;
    x *= 0xD6E8FEB86659FD93;
    return static_cast<uint32_t>(x >> 32);
  }

  std::array<uint32_t, kContexts> Hashes() const {
    const uint32_t c1 = last4 & 0xFF;
    return {Mix(1, c1, 0),
            Mix(2, last4 & 0xFFFF, 0),
            Mix(3, last4 & 0xFFFFFF, 0),
            Mix(4, last4, 0),
            Mix(5, last4, before4 & 0xFF),
            Mix(6, last4, before4 & 0xFFFF),
            Mix(7, word, c1),
            Mix(8, word, word1),
            Mix(9, word, word2),
            Mix(10, word, word1 * 0x2F0B4C47 + word2),
            Mix(11, shape, 0),
            Mix(12, last4 & 0xFFFF00, 0)};
  }
};

inline uint32_t LineOf(uint32_t hash) {
  return static_cast<uint32_t>(uint64_t{hash} * kLines >> 32);
}
/// Never 0: a row without a context.
inline uint8_t CheckOf(uint32_t hash) { return static_cast<uint8_t>(hash | 1); }

/// Reads a text and says what bit it expects next. Thread-compatible.
class LanguageModel {
 public:
  /// The score, then its parts.
  static constexpr size_t kScores = 5;

  explicit LanguageModel(const Weights& weights) : weights_(weights) {
    BeginByte();
  }

  /// Scores of a one, stretched (cm_parts.h), at most 2047 either way: of all,
  /// of the contexts 0 to 3, 4 to 7, 8 to 11, of the hidden units.
  void Predict(int32_t* scores) const {
    std::array<int32_t, 4> parts;
    Dots(weights_.output[path_].data(), parts.data());
    int32_t sum = weights_.output_bias[path_];
    for (size_t i = 0; i < 4; ++i) {
      const int32_t part = parts[i] >> kOutputShift;
      sum += part;
      scores[1 + i] = Clamp(part);
    }
    scores[0] = Clamp(sum);
  }

  void Update(bool bit) {
    path_ = path_ << 1 | uint32_t{bit};
    if (path_ < 256) return;
    history_.Add(static_cast<uint8_t>(path_));
    BeginByte();
  }

  /// What the contexts of the byte being read say.
  const std::array<int16_t, kUnits>& units() const { return units_; }

 private:
  static int32_t Clamp(int32_t x) {
    x = x > 2047 ? 2047 : x;
    return x < -2047 ? -2047 : x;
  }

  void BeginByte() {
    path_ = 1;
    const auto hashes = history_.Hashes();
    for (const uint32_t hash : hashes) {
      __builtin_prefetch(weights_.lines + LineOf(hash) * kLineBytes);
    }
    for (size_t i = 0; i < kContexts; ++i) {
      Load(weights_.lines + LineOf(hashes[i]) * kLineBytes, CheckOf(hashes[i]),
           units_.data() + i * kWidth);
    }
    Hide();
  }

  /// The row of `check` in a line, zeros if it has none.
  static void Load(const uint8_t* line, uint8_t check, int16_t* out) {
    for (size_t row = 0; row < 4; ++row, line += kWidth) {
      if (line[0] != check) continue;
      out[0] = kKnown;
      for (size_t i = 1; i < kWidth; ++i) {
        out[i] = static_cast<int8_t>(line[i]);
      }
      return;
    }
    std::memset(out, 0, kWidth * sizeof(*out));
  }

  void Hide() {
    int16_t* hidden = units_.data() + kDirect;
#if defined(__AVX512VBMI2__)
    static_assert(kHidden == 32);
    __m512i low = _mm512_load_si512(weights_.hidden_bias.data());
    __m512i high = _mm512_load_si512(weights_.hidden_bias.data() + 16);
    for (size_t i = 0; i < kDirect / 2; ++i) {
      uint32_t pair;
      std::memcpy(&pair, units_.data() + 2 * i, sizeof(pair));
      const __m512i x = _mm512_set1_epi32(static_cast<int>(pair));
      const int16_t* w = weights_.hidden[i].data();
      low = _mm512_dpwssd_epi32(low, x, _mm512_load_si512(w));
      high = _mm512_dpwssd_epi32(high, x, _mm512_load_si512(w + 32));
    }
    const __m512i zero = _mm512_setzero_si512();
    const __m512i most = _mm512_set1_epi32(kHiddenMax);
    low = _mm512_min_epi32(
        most, _mm512_max_epi32(zero, _mm512_srai_epi32(low, kHiddenShift)));
    high = _mm512_min_epi32(
        most, _mm512_max_epi32(zero, _mm512_srai_epi32(high, kHiddenShift)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(hidden),
                        _mm512_cvtepi32_epi16(low));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(hidden + 16),
                        _mm512_cvtepi32_epi16(high));
#elif defined(__AVX2__)
    __m256i sums[kHidden / 8];
    for (size_t k = 0; k < kHidden / 8; ++k) {
      sums[k] = _mm256_load_si256(
          reinterpret_cast<const __m256i*>(&weights_.hidden_bias[8 * k]));
    }
    for (size_t i = 0; i < kDirect / 2; ++i) {
      uint32_t pair;
      std::memcpy(&pair, units_.data() + 2 * i, sizeof(pair));
      const __m256i x = _mm256_set1_epi32(static_cast<int>(pair));
      for (size_t k = 0; k < kHidden / 8; ++k) {
        const __m256i w = _mm256_load_si256(
            reinterpret_cast<const __m256i*>(&weights_.hidden[i][16 * k]));
        sums[k] = _mm256_add_epi32(sums[k], _mm256_madd_epi16(x, w));
      }
    }
    for (size_t k = 0; k < kHidden / 8; ++k) {
      alignas(32) std::array<int32_t, 8> eight;
      _mm256_store_si256(reinterpret_cast<__m256i*>(eight.data()), sums[k]);
      for (size_t j = 0; j < 8; ++j) hidden[8 * k + j] = Activation(eight[j]);
    }
#else
    for (size_t h = 0; h < kHidden; ++h) {
      int32_t sum = weights_.hidden_bias[h];
      for (size_t i = 0; i < kDirect; ++i) {
        sum += units_[i] * weights_.hidden[i / 2][2 * h + i % 2];
      }
      hidden[h] = Activation(sum);
    }
#endif
  }

  static int16_t Activation(int32_t sum) {
    sum >>= kHiddenShift;
    sum = sum < 0 ? 0 : sum;
    return static_cast<int16_t>(sum > kHiddenMax ? kHiddenMax : sum);
  }

  /// Products of units 0 to 63, 64 to 127, 128 to 191, 192 and on with `w`.
  void Dots(const int16_t* w, int32_t* out) const {
#if defined(__AVX512VBMI2__)
    const auto dot = [this, w](__m512i sum, size_t i) {
      return _mm512_dpwssd_epi32(sum, _mm512_load_si512(&units_[32 * i]),
                                 _mm512_load_si512(w + 32 * i));
    };
    const __m512i zero = _mm512_setzero_si512();
    out[0] = _mm512_reduce_add_epi32(dot(dot(zero, 0), 1));
    out[1] = _mm512_reduce_add_epi32(dot(dot(zero, 2), 3));
    out[2] = _mm512_reduce_add_epi32(dot(dot(zero, 4), 5));
    out[3] = _mm512_reduce_add_epi32(dot(zero, 6));
#elif defined(__AVX2__)
    constexpr std::array<size_t, 5> kEnds = {0, 4, 8, 12, 14};
    for (size_t part = 0; part < 4; ++part) {
      __m256i sum = _mm256_setzero_si256();
      for (size_t i = kEnds[part]; i < kEnds[part + 1]; ++i) {
        sum = _mm256_add_epi32(
            sum, _mm256_madd_epi16(
                     _mm256_load_si256(
                         reinterpret_cast<const __m256i*>(&units_[16 * i])),
                     _mm256_load_si256(
                         reinterpret_cast<const __m256i*>(w + 16 * i))));
      }
      __m128i four = _mm_add_epi32(_mm256_castsi256_si128(sum),
                                   _mm256_extracti128_si256(sum, 1));
      four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
      four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0xB1));
      out[part] = _mm_cvtsi128_si32(four);
    }
#else
    constexpr std::array<size_t, 5> kEnds = {0, 64, 128, kDirect, kUnits};
    for (size_t part = 0; part < 4; ++part) {
      out[part] = 0;
      for (size_t i = kEnds[part]; i < kEnds[part + 1]; ++i) {
        out[part] += units_[i] * w[i];
      }
    }
#endif
  }

  const Weights& weights_;
  History history_;
  uint32_t path_;
  alignas(64) std::array<int16_t, kUnits> units_;
};

}  // namespace ZIPLLM_CM_TARGET
}  // namespace zipllm::codecs::lm

#endif  // ZIPLLM_CODECS_TEXT_LM_H_
