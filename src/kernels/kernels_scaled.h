// The kernels of quantized weights with scales (codec 20): loops that compilers
// vectorize, compiled once for each target. Each float is made by the same
// operations in the same order everywhere.
#ifndef ZIPLLM_KERNELS_KERNELS_SCALED_H_
#define ZIPLLM_KERNELS_KERNELS_SCALED_H_

#include <bit>
#include <cstring>
#include <type_traits>

#include "kernels/kernels.h"

namespace zipllm::kernels {

#define ZIPLLM_SCALED_KERNELS(Target)                                          \
  void WidenF32##Target(FloatType type, const uint8_t* elements, size_t count, \
                        float* values);                                        \
  void CodeWeights##Target(const CodeRule& rule, const float* weights,         \
                           const float* by, const float* zeros, size_t count,  \
                           uint8_t* codes, uint8_t* contexts);                 \
  void GroupRanges##Target(FloatType type, const uint8_t* elements,            \
                           size_t size, size_t groups, float* low,             \
                           float* high);
ZIPLLM_SCALED_KERNELS(Scalar)
ZIPLLM_SCALED_KERNELS(Avx2)
ZIPLLM_SCALED_KERNELS(Avx512)
#undef ZIPLLM_SCALED_KERNELS

// In a namespace without name, so that each target has its own.
namespace {

/// Adding and subtracting it rounds floats up to 2^21 to integers.
constexpr float kToIntegers = 12582912.0F;  // 1.5 * 2^23

template <typename Element>
inline float WidenF32One(FloatType type, const uint8_t* from) {
  Element bits;
  std::memcpy(&bits, from, sizeof bits);
  if constexpr (sizeof(Element) == 4) {
    return std::bit_cast<float>(bits);
  } else {
    const uint32_t wide = bits;
    if (type == FloatType::kBF16) return std::bit_cast<float>(wide << 16);
    // The magnitude as a float that is too small by 2^112. What is infinite or
    // no number has the greatest exponent, too.
    const float small = std::bit_cast<float>((wide & 0x7FFF) << 13) * 0x1p112F;
    const uint32_t special = (wide & 0x3FF) << 13 | 0x7F800000;
    const uint32_t magnitude =
        (wide & 0x7C00) == 0x7C00 ? special : std::bit_cast<uint32_t>(small);
    return std::bit_cast<float>(magnitude | (wide & 0x8000) << 16);
  }
}

inline void WidenF32Loops(FloatType type, const uint8_t* elements, size_t count,
                          float* values) {
  const auto loop = [&](auto element, FloatType of) {
    using Element = decltype(element);
    for (size_t i = 0; i < count; ++i) {
      values[i] = WidenF32One<Element>(of, elements + i * sizeof(Element));
    }
  };
  switch (type) {
    case FloatType::kBF16:
      return loop(uint16_t{0}, FloatType::kBF16);
    case FloatType::kF16:
      return loop(uint16_t{0}, FloatType::kF16);
    case FloatType::kF32:
      return loop(uint32_t{0}, FloatType::kF32);
  }
}

/// To the nearest number of the type, ties to even. Of F16 there may be larger
/// ones than there are.
template <FloatType kType>
inline float RoundF32(float value) {
  if constexpr (kType == FloatType::kF32) {
    return value;
  } else {
    constexpr int kCut = kType == FloatType::kBF16 ? 16 : 13;
    const auto bits = std::bit_cast<uint32_t>(value);
    const uint32_t rounded =
        (bits + ((uint32_t{1} << (kCut - 1)) - 1) + (bits >> kCut & 1)) >>
        kCut << kCut;
    // Infinities stay; so does what is no number, whatever it then is.
    const bool is_finite = (bits & 0x7F800000) != 0x7F800000;
    const float near = std::bit_cast<float>(is_finite ? rounded : bits);
    if constexpr (kType == FloatType::kBF16) return near;
    // F16 has multiples of 2^-24 below 2^-14.
    const float magnitude = std::bit_cast<float>(bits & 0x7FFFFFFF);
    const float small = magnitude + 0.5F - 0.5F;
    const uint32_t with_sign =
        std::bit_cast<uint32_t>(small) | (bits & 0x80000000);
    return magnitude < 0x1p-14F ? std::bit_cast<float>(with_sign) : near;
  }
}

/// The context of a number that is `rest` / 2^16 of a step above its code.
inline uint32_t ContextOfRest(int32_t rest) {
  const int32_t far = rest < 0 ? -rest : rest;
  const int32_t left = 32768 - far;
  // Bits of `left`.
  const auto fine = static_cast<int32_t>(
      (std::bit_cast<uint32_t>(static_cast<float>(left)) >> 23));
  const int32_t coarse = 11 + (left >> 11);
  int32_t context = left < 2048 ? (fine < 126 ? 0 : fine - 126) : coarse;
  context += rest < 0 ? 28 : 0;
  return static_cast<uint32_t>(context);
}

enum class CodeKind { kFloat, kZeroFirst, kZeroLast };

template <bool kDivides, FloatType kSteps, CodeKind kKind, bool kContexts>
inline void CodeWeightsLoop(const CodeRule& rule,
                            const float* __restrict weights,
                            const float* __restrict by,
                            const float* __restrict zeros, size_t count,
                            uint8_t* __restrict codes,
                            uint8_t* __restrict contexts) {
  const int shift = 23 - rule.mantissa_bits;
  const uint32_t half_less = (uint32_t{1} << (shift - 1)) - 1;
  const uint32_t rebias = static_cast<uint32_t>(127 - rule.bias)
                          << rule.mantissa_bits;
  const float least_normal =
      std::bit_cast<float>(static_cast<uint32_t>(128 - rule.bias) << 23);
  // What numbers below that are multiples of, times 2^23, and in 2^-16.
  const float magic = std::bit_cast<float>(
      static_cast<uint32_t>(128 - rule.bias - rule.mantissa_bits + 23) << 23);
  const auto magic_bits = std::bit_cast<uint32_t>(magic);
  const float in_rests = std::bit_cast<float>(
      static_cast<uint32_t>(126 + rule.bias + rule.mantissa_bits + 16) << 23);
  const float most = rule.most;
  const float low = rule.low;
  const float high = rule.high;
  const int32_t shift_codes = rule.shift;
  const uint32_t zero_sign = rule.has_negative_zero ? 0x80 : 0;
  for (size_t i = 0; i < count; ++i) {
    float t;
    if constexpr (kDivides) {
      t = weights[i] / by[i];
    } else {
      t = weights[i] * by[i];
    }
    t = RoundF32<kSteps>(t);
    uint32_t code;
    int32_t rest;
    if constexpr (kKind == CodeKind::kFloat) {
      // What is no number has any sign.
      const uint32_t given = t == t ? std::bit_cast<uint32_t>(t) : 0;
      float m = std::bit_cast<float>(given & 0x7FFFFFFF);
      m = m < most ? m : most;
      const auto bits = std::bit_cast<uint32_t>(m);
      const uint32_t rounded =
          (bits + half_less + (bits >> shift & 1)) >> shift;
      const auto cut = static_cast<int32_t>(bits - (rounded << shift));
      const int32_t far = (cut < 0 ? -cut : cut) >> (shift - 16);
      const float raised = m + magic;
      const auto small_cut =
          static_cast<int32_t>((m - (raised - magic)) * in_rests);
      const bool is_small = m < least_normal;
      rest = is_small ? small_cut : (cut < 0 ? -far : far);
      code = is_small ? std::bit_cast<uint32_t>(raised) - magic_bits
                      : rounded - rebias;
      const uint32_t sign = given >> 31 << 7;
      code |= code != 0 ? sign : (sign & zero_sign);
    } else if constexpr (kKind == CodeKind::kZeroFirst) {
      t = RoundF32<kSteps>(t + zeros[i]);
      t = t == t ? t : 0.0F;
      t = t < high ? t : high;
      t = t > low ? t : low;
      const float whole = (t + kToIntegers) - kToIntegers;
      rest = static_cast<int32_t>((t - whole) * 65536.0F);
      code = static_cast<uint32_t>(static_cast<int32_t>(whole) + shift_codes);
    } else {
      constexpr float kFar = 1048576;
      t = t == t ? t : 0.0F;
      t = t < kFar ? t : kFar;
      t = t > -kFar ? t : -kFar;
      const float whole = (t + kToIntegers) - kToIntegers;
      float sum = whole + zeros[i];
      const bool is_inside = sum >= low && sum <= high;
      const auto inside_rest = static_cast<int32_t>((t - whole) * 65536.0F);
      rest = is_inside ? inside_rest : 0;
      sum = sum < high ? sum : high;
      sum = sum > low ? sum : low;
      code = static_cast<uint32_t>(static_cast<int32_t>(sum) + shift_codes);
    }
    codes[i] = static_cast<uint8_t>(code);
    if constexpr (kContexts) {
      contexts[i] = static_cast<uint8_t>(ContextOfRest(rest));
    }
  }
}

inline void CodeWeightsLoops(const CodeRule& rule, const float* weights,
                             const float* by, const float* zeros, size_t count,
                             uint8_t* codes, uint8_t* contexts) {
  const auto with_contexts =
      [&]<bool kDivides, FloatType kSteps, CodeKind kKind>() {
        if (contexts != nullptr) {
          CodeWeightsLoop<kDivides, kSteps, kKind, true>(
              rule, weights, by, zeros, count, codes, contexts);
        } else {
          CodeWeightsLoop<kDivides, kSteps, kKind, false>(
              rule, weights, by, zeros, count, codes, contexts);
        }
      };
  const auto with_kind = [&]<bool kDivides, FloatType kSteps>() {
    if (rule.is_float) {
      with_contexts.template operator()<kDivides, kSteps, CodeKind::kFloat>();
    } else if (rule.zero_first) {
      with_contexts
          .template operator()<kDivides, kSteps, CodeKind::kZeroFirst>();
    } else {
      with_contexts
          .template operator()<kDivides, kSteps, CodeKind::kZeroLast>();
    }
  };
  const auto with_steps = [&]<bool kDivides>() {
    switch (rule.steps) {
      case FloatType::kBF16:
        return with_kind.template operator()<kDivides, FloatType::kBF16>();
      case FloatType::kF16:
        return with_kind.template operator()<kDivides, FloatType::kF16>();
      case FloatType::kF32:
        return with_kind.template operator()<kDivides, FloatType::kF32>();
    }
  };
  if (rule.divides) {
    with_steps.template operator()<true>();
  } else {
    with_steps.template operator()<false>();
  }
}

/// Integers in the order of floats, and back.
inline int32_t Ordered(float value) {
  const auto bits = std::bit_cast<int32_t>(value);
  return bits ^ ((bits >> 31) & 0x7FFFFFFF);
}
inline float FromOrdered(int32_t ordered) {
  return std::bit_cast<float>(ordered ^ ((ordered >> 31) & 0x7FFFFFFF));
}

template <typename Element, FloatType kType>
inline void GroupRangesLoop(const uint8_t* __restrict elements, size_t size,
                            size_t groups, float* __restrict low,
                            float* __restrict high) {
  for (size_t g = 0; g < groups; ++g) {
    const uint8_t* const from = elements + g * size * sizeof(Element);
    int32_t least = INT32_MAX;
    int32_t most = INT32_MIN;
    for (size_t i = 0; i < size; ++i) {
      const int32_t value =
          Ordered(WidenF32One<Element>(kType, from + i * sizeof(Element)));
      least = value < least ? value : least;
      most = value > most ? value : most;
    }
    low[g] = FromOrdered(least);
    high[g] = FromOrdered(most);
  }
}

inline void GroupRangesLoops(FloatType type, const uint8_t* elements,
                             size_t size, size_t groups, float* low,
                             float* high) {
  switch (type) {
    case FloatType::kBF16:
      return GroupRangesLoop<uint16_t, FloatType::kBF16>(elements, size, groups,
                                                         low, high);
    case FloatType::kF16:
      return GroupRangesLoop<uint16_t, FloatType::kF16>(elements, size, groups,
                                                        low, high);
    case FloatType::kF32:
      return GroupRangesLoop<uint32_t, FloatType::kF32>(elements, size, groups,
                                                        low, high);
  }
}

#define ZIPLLM_DEFINE_SCALED_KERNELS(Target)                                   \
  void WidenF32##Target(FloatType type, const uint8_t* elements, size_t count, \
                        float* values) {                                       \
    WidenF32Loops(type, elements, count, values);                              \
  }                                                                            \
  void CodeWeights##Target(const CodeRule& rule, const float* weights,         \
                           const float* by, const float* zeros, size_t count,  \
                           uint8_t* codes, uint8_t* contexts) {                \
    CodeWeightsLoops(rule, weights, by, zeros, count, codes, contexts);        \
  }                                                                            \
  void GroupRanges##Target(FloatType type, const uint8_t* elements,            \
                           size_t size, size_t groups, float* low,             \
                           float* high) {                                      \
    GroupRangesLoops(type, elements, size, groups, low, high);                 \
  }

}  // namespace
}  // namespace zipllm::kernels

#endif  // ZIPLLM_KERNELS_KERNELS_SCALED_H_
