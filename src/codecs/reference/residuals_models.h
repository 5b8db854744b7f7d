// Models of bits that encoder and decoder of residuals share: for frequency
// tables, and for the residuals of small frames, which have no tables.
// Format: format-spec/codecs/15-delta.md, "Residuals".
#ifndef ZIPLLM_CODECS_REFERENCE_RESIDUALS_MODELS_H_
#define ZIPLLM_CODECS_REFERENCE_RESIDUALS_MODELS_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "codecs/reference/residuals.h"
#include "entropy/binary_coder.h"
#include "kernels/kernels.h"

namespace zipllm::codecs::residuals {

/// Calls body.operator()<Word>() with the type of elements.
template <typename Body>
void ForWord(const Alphabet& alphabet, const Body& body) {
  switch (alphabet.element_size) {
    case 1:
      return body.template operator()<uint8_t>();
    case 2:
      return body.template operator()<uint16_t>();
    case 4:
      return body.template operator()<uint32_t>();
    default:
      return body.template operator()<uint64_t>();
  }
}

/// Calls body(i), ascending, for the symbols that do not tell all.
template <typename Body>
void ForInexact(const uint8_t* symbols, size_t count, const Body& body) {
  // Bit 7 of each of 8 bytes is set where the symbol is as large; these bits
  // are drawn together.
  constexpr uint64_t kEach = 0x0101010101010101;
  constexpr uint64_t kAdd = (0x80 - kDirectSymbols) * kEach;
  size_t i = 0;
  for (; i + 64 <= count; i += 64) {
    uint64_t mask = 0;
    for (size_t part = 0; part < 8; ++part) {
      const auto eight = LoadLe<uint64_t>(symbols + i + 8 * part);
      uint64_t found = ((eight & (0x7f * kEach)) + kAdd) | eight;
      found = ((found >> 7) & kEach) * 0x0102040810204080 >> 56;
      mask |= found << (8 * part);
    }
    for (; mask != 0; mask &= mask - 1) {
      body(i + static_cast<size_t>(std::countr_zero(mask)));
    }
  }
  for (; i < count; ++i) {
    if (symbols[i] >= kDirectSymbols) body(i);
  }
}

/// How often a bit was 0 and 1.
class BitCount {
 public:
  /// The probability of a one, of 65536, where `p` is that of what is more
  /// general and counts for kPrior bits.
  uint32_t Probability(uint32_t p) const {
    constexpr uint32_t kPrior = 2;
    const uint32_t ones = ones_;
    return (ones * 65536 + p * kPrior) / (zeros_ + ones + kPrior);
  }
  void Update(bool bit) {
    if (zeros_ + ones_ == kMost) {
      zeros_ /= 2;
      ones_ /= 2;
    }
    ++(bit ? ones_ : zeros_);
  }

 private:
  static constexpr int kMost = 255;
  uint8_t zeros_ = 0;
  uint8_t ones_ = 0;
};

inline uint32_t CoderProbability(uint32_t p) {
  return std::clamp<uint32_t>(p, 32, 65536 - 32);
}

/// Codes with BinaryEncoder or BinaryDecoder, which give back the bit.
template <typename Coder>
bool CodeBit(Coder& coder, bool bit, BitCount* count) {
  bit = coder.Code(bit, CoderProbability(count->Probability(32768)));
  count->Update(bit);
  return bit;
}
/// The lowest `width` bits of a number, the highest first, as they are.
template <typename Coder>
uint64_t CodeRaw(Coder& coder, uint64_t value, int width) {
  uint64_t coded = 0;
  for (int i = width; i-- > 0;) {
    coded = coded << 1 | uint64_t{coder.Code((value >> i & 1) != 0, 32768)};
  }
  return coded;
}

// ---- Frequency tables ----

/// Codes which class each context is of: classes are numbered as they come.
/// Returns how many there are, 0 where what was read is none.
template <typename Coder>
size_t CodeClasses(Coder& coder, std::span<uint8_t> class_of) {
  BitCount changes;
  BitCount known;
  size_t classes = 1;
  uint8_t last = 0;
  for (uint8_t& number : class_of) {
    if (CodeBit(coder, number != last, &changes)) {
      if (CodeBit(coder, number < classes, &known)) {
        last = static_cast<uint8_t>(CodeRaw(coder, number, 6));
        if (last >= classes) return 0;
      } else {
        if (classes == entropy::kMaxClasses) return 0;
        last = static_cast<uint8_t>(classes++);
      }
    }
    number = last;
  }
  return classes;
}

/// A frequency f is told as its level: 0, or round(8 log2 f) + 1.
inline constexpr int kLevels = 8 * kernels::kProbabilityBits + 2;
using ClassLevels = std::array<uint8_t, 256>;

/// Frequencies in proportion to what levels stand for; the same on every
/// machine. All 0 if all levels are.
inline entropy::ByteFrequencies FrequenciesOf(const ClassLevels& levels) {
  // 2^(i / 8) in 1/32768, rounded.
  constexpr std::array<uint32_t, 8> kEighths = {32768, 35734, 38968, 42495,
                                                46341, 50535, 55109, 60097};
  constexpr uint64_t kSlots = kernels::kSlots;
  std::array<uint64_t, 256> weights{};
  uint64_t sum = 0;
  uint64_t used = 0;
  size_t best = 0;
  for (size_t s = 0; s < levels.size(); ++s) {
    if (levels[s] == 0) continue;
    weights[s] = uint64_t{kEighths[(levels[s] - 1) % 8]}
                 << ((levels[s] - 1) / 8);
    sum += weights[s];
    ++used;
    if (levels[s] > levels[best]) best = s;
  }
  entropy::ByteFrequencies frequencies{};
  if (sum == 0) return frequencies;
  // Shares of `slots`, with at least `least` and `more` besides; false where
  // nothing is left for the most frequent.
  const auto share = [&](uint64_t slots, uint64_t least, uint64_t more) {
    uint64_t taken = 0;
    for (size_t s = 0; s < levels.size(); ++s) {
      if (levels[s] == 0 || s == best) continue;
      const uint64_t part = std::max(weights[s] * slots / sum, least) + more;
      frequencies[s] = static_cast<uint16_t>(part);
      taken += part;
    }
    frequencies[best] = static_cast<uint16_t>(kSlots - taken);
    return taken < kSlots;
  };
  if (!share(kSlots, 1, 0)) share(kSlots - used, 0, 1);
  return frequencies;
}

/// Codes the levels of one class after the other.
template <typename Coder>
class LevelCoder {
 public:
  LevelCoder(const Alphabet& alphabet, Coder& coder)
      : alphabet_(alphabet), coder_(coder) {}

  /// Codes those of the next class, or reads them. False where what was read
  /// is none.
  bool Code(ClassLevels* levels) {
    for (size_t s = 0; s < alphabet_.size; ++s) {
      const size_t before = alphabet_.before[s];
      const int west = before == s ? last_[s] : (*levels)[before];
      const int north = last_[s];
      const int corner = before == s ? last_[s] : last_[before];
      // The predictor of JPEG-LS (ITU-T T.87, A.4.1).
      const int least = std::min(west, north);
      const int most = std::max(west, north);
      const int expected = std::clamp(west + north - corner, least, most);
      const size_t context =
          most == 0
              ? 0
              : 1 + std::min<size_t>(
                        std::bit_width(static_cast<unsigned>(most - least)), 4);
      const int level =
          expected + CodeSigned((*levels)[s] - expected, &contexts_[context]);
      if (level < 0 || level >= kLevels) return false;
      (*levels)[s] = static_cast<uint8_t>(level);
    }
    last_ = *levels;
    return true;
  }

 private:
  struct Context {
    BitCount zero;
    BitCount negative;
    std::array<BitCount, 12> more;
  };

  /// Whether it is 0, the sign, then the magnitude less 1: in ones and a zero,
  /// and from kOnes on in 7 bits.
  int CodeSigned(int value, Context* context) {
    constexpr int kOnes = 24;
    if (!CodeBit(coder_, value != 0, &context->zero)) return 0;
    const bool negative = CodeBit(coder_, value < 0, &context->negative);
    int magnitude = 1;
    while (magnitude <= kOnes &&
           CodeBit(coder_, (negative ? -value : value) > magnitude,
                   &context->more[std::min<size_t>(
                       static_cast<size_t>(magnitude) - 1, 11)])) {
      ++magnitude;
    }
    if (magnitude > kOnes) {
      magnitude = static_cast<int>(
          CodeRaw(coder_, static_cast<uint64_t>(negative ? -value : value), 7));
    }
    return negative ? -magnitude : magnitude;
  }

  const Alphabet& alphabet_;
  Coder& coder_;
  ClassLevels last_{};
  std::array<Context, 6> contexts_;
};

// ---- Small frames ----

/// How an element differs from its prediction.
struct Difference {
  uint64_t magnitude = 0;
  bool negative = false;
  bool crosses = false;
};

/// Codes differences with bits that are counted by context, by the context's
/// group of eight neighbours, and in all: who has seen little trusts the more
/// general.
template <typename Coder>
class FewCoder {
 public:
  FewCoder(size_t contexts, Coder& coder)
      : coder_(coder), fine_(contexts), coarse_(contexts / kGroup + 1) {}

  /// Codes a difference, or reads one: of at most 64 bits.
  Difference Code(const Difference& d, size_t context) {
    nodes_ = {&all_, &coarse_[context / kGroup], &fine_[context]};
    Difference coded;
    coded.crosses = CodeNode(d.crosses, kCrosses);
    const int width = static_cast<int>(std::bit_width(d.magnitude));
    int coded_width = 0;
    while (coded_width < 64 &&
           CodeNode(width > coded_width,
                    kWidths + static_cast<size_t>(coded_width))) {
      ++coded_width;
    }
    if (coded_width == 0) return coded;
    coded.negative = CodeNode(
        d.negative,
        kSigns + static_cast<size_t>(std::min(coded_width, kSignNodes)) - 1);
    // The two bits below the first, by the width.
    coded.magnitude = 1;
    int rest = coded_width - 1;
    if (rest > 0) {
      const size_t node = kBits + 3 * static_cast<size_t>(coded_width);
      bool bit = CodeNode((d.magnitude >> (rest - 1) & 1) != 0, node);
      coded.magnitude = coded.magnitude << 1 | uint64_t{bit};
      --rest;
      if (rest > 0) {
        bit = CodeNode((d.magnitude >> (rest - 1) & 1) != 0,
                       node + 1 + size_t{bit});
        coded.magnitude = coded.magnitude << 1 | uint64_t{bit};
        --rest;
      }
      coded.magnitude =
          coded.magnitude << rest | CodeRaw(coder_, d.magnitude, rest);
    }
    return coded;
  }

 private:
  static constexpr size_t kGroup = 8;
  static constexpr int kSignNodes = 3;
  static constexpr size_t kCrosses = 0;
  static constexpr size_t kSigns = 1;
  static constexpr size_t kWidths = kSigns + kSignNodes;
  static constexpr size_t kBits = kWidths + 64;
  using Nodes = std::array<BitCount, kBits + 3 * 65>;

  bool CodeNode(bool bit, size_t node) {
    uint32_t p = 32768;
    for (Nodes* const nodes : nodes_) p = (*nodes)[node].Probability(p);
    bit = coder_.Code(bit, CoderProbability(p));
    for (Nodes* const nodes : nodes_) (*nodes)[node].Update(bit);
    return bit;
  }

  Coder& coder_;
  std::vector<Nodes> fine_, coarse_;
  Nodes all_;
  std::array<Nodes*, 3> nodes_;
};

}  // namespace zipllm::codecs::residuals

#endif  // ZIPLLM_CODECS_REFERENCE_RESIDUALS_MODELS_H_
