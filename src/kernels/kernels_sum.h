// The kernels of sums of tensors: loops that compilers vectorize, compiled once
// for each target. Each double is made by the same operations in the same order
// everywhere.
#ifndef ZIPLLM_KERNELS_KERNELS_SUM_H_
#define ZIPLLM_KERNELS_KERNELS_SUM_H_

#include <algorithm>
#include <bit>
#include <cstring>
#include <type_traits>

#include "kernels/kernels.h"

namespace zipllm::kernels {

#define ZIPLLM_SUM_KERNELS(Target)                                           \
  void Widen##Target(FloatType type, const uint8_t* elements, size_t count,  \
                     double* values);                                        \
  void AddProduct##Target(const double* by, const double* factors,           \
                          size_t stride, size_t rank, size_t count,          \
                          double* to);                                       \
  void AddProductF32##Target(const double* by, const double* factors,        \
                             size_t stride, size_t rank, bool fused,         \
                             size_t count, double* to);                      \
  void AddOuter##Target(const double* by, size_t rank, const double* values, \
                        size_t count, size_t stride, double* to);            \
  double Dot##Target(const double* a, const double* b, size_t count);        \
  void RoundTo##Target(FloatType type, size_t count, double* values);        \
  void SettleSums##Target(FloatType type, const SettleOptions& options,      \
                          const double* sums, const double* bases,           \
                          size_t count, uint8_t* predictions,                \
                          uint8_t* contexts);
ZIPLLM_SUM_KERNELS(Scalar)
ZIPLLM_SUM_KERNELS(Avx2)
ZIPLLM_SUM_KERNELS(Avx512)
#undef ZIPLLM_SUM_KERNELS

namespace {

constexpr int kDoubleBits = 52;  // of the fraction
constexpr uint64_t kExponentMask = 0x7FF;
/// Exponent field of 2^200: larger numbers are not rounded.
constexpr uint64_t kHugeExponent = 1023 + 200;

struct FloatFacts {
  int fraction_bits;
  uint64_t least_exponent;  // field in a double of the least normal number's
};

inline FloatFacts FactsOf(FloatType type) {
  switch (type) {
    case FloatType::kBF16:
      return {7, 1023 - 126};
    case FloatType::kF16:
      return {10, 1023 - 14};
    default:
      return {23, 1023 - 126};
  }
}

// Without branches, which would keep loops scalar; of numbers that are less
// than 2^63 apart.
/// All ones where a < b, else 0.
inline uint64_t LessMask(uint64_t a, uint64_t b) { return 0 - ((a - b) >> 63); }
inline uint64_t Select(uint64_t mask, uint64_t a, uint64_t b) {
  return (a & mask) | (b & ~mask);
}
inline uint64_t Lesser(uint64_t a, uint64_t b) {
  return Select(LessMask(a, b), a, b);
}
inline uint64_t Greater(uint64_t a, uint64_t b) {
  return Select(LessMask(a, b), b, a);
}

inline uint64_t ExponentOf(double value) {
  return (std::bit_cast<uint64_t>(value) >> kDoubleBits) & kExponentMask;
}

inline uint64_t ClampedExponent(double value, const FloatFacts& facts) {
  return Lesser(Greater(ExponentOf(value), facts.least_exponent),
                kHugeExponent);
}

constexpr uint64_t kSignBit = uint64_t{1} << 63;

/// `value`, of that (clamped) exponent, rounded to as many bits as the type
/// has: adding a number of which the last bit is worth as much does it. Zeros
/// have the sign of `value`.
inline double Rounded(double value, uint64_t exponent, int fraction_bits) {
  const double magic = std::bit_cast<double>(
      (exponent + static_cast<uint64_t>(kDoubleBits - fraction_bits))
          << kDoubleBits |
      uint64_t{1} << (kDoubleBits - 1));
  return std::bit_cast<double>(
      std::bit_cast<uint64_t>((value + magic) - magic) |
      (std::bit_cast<uint64_t>(value) & kSignBit));
}

template <typename Element>
inline double WidenOne(FloatType type, Element element) {
  if constexpr (sizeof(Element) == 4) {
    return static_cast<double>(std::bit_cast<float>(element));
  } else {
    const uint32_t bits = element;
    if (type == FloatType::kBF16) {
      return static_cast<double>(std::bit_cast<float>(bits << 16));
    }
    // Magnitude as a float that is too small by 2^112; infinities and NaNs
    // become infinities and NaNs.
    const uint32_t magnitude = (bits & 0x7FFF) << 13;
    const double value =
        static_cast<double>(std::bit_cast<float>(magnitude)) * 0x1p112;
    const double special = std::bit_cast<double>(
        uint64_t{kExponentMask} << kDoubleBits | uint64_t{bits & 0x3FF} << 42);
    const double positive = (bits & 0x7C00) == 0x7C00 ? special : value;
    return std::bit_cast<double>(std::bit_cast<uint64_t>(positive) |
                                 uint64_t{bits & 0x8000} << 48);
  }
}

inline void WidenLoop(FloatType type, const uint8_t* elements, size_t count,
                      double* __restrict values) {
  const auto all = [&]<typename Element>(FloatType of, Element) {
    for (size_t i = 0; i < count; ++i) {
      Element element;
      std::memcpy(&element, elements + i * sizeof element, sizeof element);
      values[i] = WidenOne(of, element);
    }
  };
  switch (type) {
    case FloatType::kBF16:
      return all(FloatType::kBF16, uint16_t{0});
    case FloatType::kF16:
      return all(FloatType::kF16, uint16_t{0});
    default:
      return all(FloatType::kF32, uint32_t{0});
  }
}

/// Elements that a loop works on at once, so that they stay in registers.
constexpr size_t kTile = 32;

inline void AddProductLoop(const double* by, const double* factors,
                           size_t stride, size_t rank, size_t count,
                           double* __restrict to) {
  size_t i = 0;
  for (; i + kTile <= count; i += kTile) {
    double sums[kTile];
    for (size_t j = 0; j < kTile; ++j) sums[j] = to[i + j];
    for (size_t k = 0; k < rank; ++k) {
      const double* const factor = factors + k * stride + i;
      for (size_t j = 0; j < kTile; ++j) sums[j] += by[k] * factor[j];
    }
    for (size_t j = 0; j < kTile; ++j) to[i + j] = sums[j];
  }
  for (; i < count; ++i) {
    double sum = to[i];
    for (size_t k = 0; k < rank; ++k) sum += by[k] * factors[k * stride + i];
    to[i] = sum;
  }
}

inline double ToF32(double value) {
  return static_cast<double>(static_cast<float>(value));
}

inline void AddProductF32Loop(const double* by, const double* factors,
                              size_t stride, size_t rank, bool fused,
                              size_t count, double* __restrict to) {
  for (size_t k = 0; k < rank; ++k) {
    const double* const factor = factors + k * stride;
    if (fused) {
      for (size_t i = 0; i < count; ++i) {
        to[i] = ToF32(to[i] + by[k] * factor[i]);
      }
    } else {
      for (size_t i = 0; i < count; ++i) {
        to[i] = ToF32(to[i] + ToF32(by[k] * factor[i]));
      }
    }
  }
}

inline void AddOuterLoop(const double* by, size_t rank, const double* values,
                         size_t count, size_t stride, double* __restrict to) {
  for (size_t k = 0; k < rank; ++k) {
    double* const row = to + k * stride;
    for (size_t i = 0; i < count; ++i) row[i] += by[k] * values[i];
  }
}

inline double DotLoop(const double* a, const double* b, size_t count) {
  constexpr size_t kSums = 16;
  double sums[kSums] = {};
  size_t i = 0;
  for (; i + kSums <= count; i += kSums) {
    for (size_t j = 0; j < kSums; ++j) sums[j] += a[i + j] * b[i + j];
  }
  for (size_t j = 0; i < count; ++i, ++j) sums[j] += a[i] * b[i];
  for (size_t half = kSums / 2; half > 0; half /= 2) {
    for (size_t j = 0; j < half; ++j) sums[j] += sums[j + half];
  }
  return sums[0];
}

inline void RoundToLoop(FloatType type, size_t count, double* values) {
  const FloatFacts facts = FactsOf(type);
  for (size_t i = 0; i < count; ++i) {
    const double value = values[i];
    const uint64_t exponent = ClampedExponent(value, facts);
    const double rounded = Rounded(value, exponent, facts.fraction_bits);
    values[i] = std::bit_cast<double>(Select(LessMask(exponent, kHugeExponent),
                                             std::bit_cast<uint64_t>(rounded),
                                             std::bit_cast<uint64_t>(value)));
  }
}

// Numbers below 2^52 as integers: the low bits of their sum with this.
constexpr double kIntegerMagic = 0x1p52;

template <FloatType kType>
inline void SettleSumsOf(const SettleOptions& options, const double* sums,
                         const double* bases, size_t count,
                         uint8_t* predictions, uint8_t* contexts) {
  using Element =
      std::conditional_t<kType == FloatType::kF32, uint32_t, uint16_t>;
  constexpr uint64_t kFraction = kType == FloatType::kBF16  ? 7
                                 : kType == FloatType::kF16 ? 10
                                                            : 23;
  constexpr uint64_t kLeast = kType == FloatType::kF16 ? 1023 - 14 : 1023 - 126;
  constexpr uint64_t kInfinity = kType == FloatType::kF16
                                     ? uint64_t{31} << kFraction
                                     : uint64_t{255} << kFraction;
  // Subnormal numbers are so many of the least one.
  const double per_least = std::bit_cast<double>(
      (uint64_t{2046} + kFraction - kLeast) << kDoubleBits);
  constexpr size_t kRun = 64;
  const uint64_t noise = options.noise_exponent;
  const uint64_t base_mask = options.noisy_bases ? kExponentMask : 0;
  const double* const beside = options.noisy_bases ? bases : sums;
  uint64_t bits[kRun];
  uint64_t of_run[kRun];
  for (size_t at = 0; at < count; at += kRun) {
    const size_t n = std::min(kRun, count - at);
    for (size_t i = 0; i < n; ++i) {
      const double sum = sums[at + i];
      const uint64_t sign = std::bit_cast<uint64_t>(sum) & kSignBit;
      const uint64_t field =
          (std::bit_cast<uint64_t>(sum) >> kDoubleBits) & kExponentMask;
      const uint64_t low = Greater(field, kLeast);
      const uint64_t exponent = Lesser(low, kHugeExponent);
      const uint64_t keep = LessMask(exponent, kHugeExponent);
      const double rounded =
          Rounded(sum, exponent, static_cast<int>(kFraction));

      // The prediction.
      const uint64_t magnitude = std::bit_cast<uint64_t>(rounded) & ~kSignBit;
      const uint64_t normal = (magnitude >> (kDoubleBits - kFraction)) -
                              ((kLeast - 1) << kFraction);
      const uint64_t subnormal =
          std::bit_cast<uint64_t>(std::bit_cast<double>(magnitude) * per_least +
                                  kIntegerMagic) &
          ((uint64_t{1} << kFraction) - 1);
      const uint64_t finite =
          Select(LessMask(magnitude >> kDoubleBits, kLeast), subnormal, normal);
      const uint64_t code = Lesser(finite, kInfinity);
      bits[i] = (code | sign >> (64 - 8 * sizeof(Element))) & keep;

      // How far from where rounding turns, in 64ths of the last place, and on
      // which side of the prediction.
      const double per_place = std::bit_cast<double>(
          (uint64_t{2046} + kFraction - exponent) << kDoubleBits);
      const uint64_t rest =
          std::bit_cast<uint64_t>((sum - rounded) * per_place) ^ sign;
      const double distance =
          32 - std::bit_cast<double>(rest & ~kSignBit) * 64 + kIntegerMagic;
      const uint64_t step = std::bit_cast<uint64_t>(distance) & 63;
      // As a floating-point number with two bits of fraction.
      const uint64_t octaves =
          (std::bit_cast<uint64_t>(distance - kIntegerMagic) >>
           (kDoubleBits - 2)) -
          4 * 1023 - 4;
      const uint64_t bent = Select(LessMask(step, 4), step, octaves);
      const uint64_t column = Lesser(bent, 15) ^ (((rest >> 63) - 1) & 31);

      // How large the element is beside the noise.
      const uint64_t other =
          (std::bit_cast<uint64_t>(beside[at + i]) >> kDoubleBits) & base_mask;
      const uint64_t doubt = Greater(Lesser(other, kHugeExponent), noise);
      const uint64_t scale = Lesser(Greater(exponent + 3, doubt) - doubt, 7);
      of_run[i] = (scale * 32 + column) & keep;
    }
    uint8_t* const to = predictions + at * sizeof(Element);
    for (size_t i = 0; i < n; ++i) {
      const auto element = static_cast<Element>(bits[i]);
      std::memcpy(to + i * sizeof element, &element, sizeof element);
    }
    for (size_t i = 0; i < n; ++i) {
      contexts[at + i] = static_cast<uint8_t>(of_run[i]);
    }
  }
}

inline void SettleSumsLoop(FloatType type, const SettleOptions& options,
                           const double* sums, const double* bases,
                           size_t count, uint8_t* predictions,
                           uint8_t* contexts) {
  switch (type) {
    case FloatType::kBF16:
      return SettleSumsOf<FloatType::kBF16>(options, sums, bases, count,
                                            predictions, contexts);
    case FloatType::kF16:
      return SettleSumsOf<FloatType::kF16>(options, sums, bases, count,
                                           predictions, contexts);
    default:
      return SettleSumsOf<FloatType::kF32>(options, sums, bases, count,
                                           predictions, contexts);
  }
}

}  // namespace

/// What each target's file defines.
#define ZIPLLM_DEFINE_SUM_KERNELS(Target)                                     \
  void Widen##Target(FloatType type, const uint8_t* elements, size_t count,   \
                     double* values) {                                        \
    WidenLoop(type, elements, count, values);                                 \
  }                                                                           \
  void AddProduct##Target(const double* by, const double* factors,            \
                          size_t stride, size_t rank, size_t count,           \
                          double* to) {                                       \
    AddProductLoop(by, factors, stride, rank, count, to);                     \
  }                                                                           \
  void AddProductF32##Target(const double* by, const double* factors,         \
                             size_t stride, size_t rank, bool fused,          \
                             size_t count, double* to) {                      \
    AddProductF32Loop(by, factors, stride, rank, fused, count, to);           \
  }                                                                           \
  void AddOuter##Target(const double* by, size_t rank, const double* values,  \
                        size_t count, size_t stride, double* to) {            \
    AddOuterLoop(by, rank, values, count, stride, to);                        \
  }                                                                           \
  double Dot##Target(const double* a, const double* b, size_t count) {        \
    return DotLoop(a, b, count);                                              \
  }                                                                           \
  void RoundTo##Target(FloatType type, size_t count, double* values) {        \
    RoundToLoop(type, count, values);                                         \
  }                                                                           \
  void SettleSums##Target(FloatType type, const SettleOptions& options,       \
                          const double* sums, const double* bases,            \
                          size_t count, uint8_t* predictions,                 \
                          uint8_t* contexts) {                                \
    SettleSumsLoop(type, options, sums, bases, count, predictions, contexts); \
  }

}  // namespace zipllm::kernels

#endif  // ZIPLLM_KERNELS_KERNELS_SUM_H_
