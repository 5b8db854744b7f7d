#include "codecs/generators.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace zipllm::codecs {
namespace {

/// Sign, exponent and mantissa of a float type, in bits.
struct FloatFormat {
  int exponent_bits;
  int mantissa_bits;
};

FloatFormat FormatOf(DType dtype) {
  switch (dtype) {
    case DType::kF64:
    case DType::kC128:
    case DType::kF64Be:
      return {11, 52};
    case DType::kF32:
    case DType::kC64:
    case DType::kF32Be:
      return {8, 23};
    case DType::kF16:
    case DType::kF16Be:
      return {5, 10};
    case DType::kBF16:
    case DType::kBF16Be:
      return {8, 7};
    case DType::kF8E4M3:
      return {4, 3};
    case DType::kF8E5M2:
      return {5, 2};
    default:
      return {0, 0};
  }
}

bool IsBigEndian(DType dtype) {
  return dtype == DType::kF64Be || dtype == DType::kF32Be ||
         dtype == DType::kF16Be || dtype == DType::kBF16Be;
}

/// About normal with a deviation of 1/16, by adding uniform numbers.
double Gaussian(Random& random) {
  int64_t sum = 0;
  for (int i = 0; i < 12; ++i) {
    sum += static_cast<int64_t>(random.Next() >> 11) - (int64_t{1} << 52);
  }
  return static_cast<double>(sum) / static_cast<double>(int64_t{1} << 57);
}

/// Bits of `value` in the format, cut; 0 where it is too small.
uint64_t ToBits(double value, FloatFormat format) {
  const uint64_t bits = std::bit_cast<uint64_t>(value);
  const int bias = (1 << (format.exponent_bits - 1)) - 1;
  const int exponent = static_cast<int>(bits >> 52 & 0x7FF) - 1023 + bias;
  const uint64_t sign = (bits >> 63)
                        << (format.exponent_bits + format.mantissa_bits);
  if (exponent <= 0) return sign;
  const uint64_t mantissa =
      (bits & ((uint64_t{1} << 52) - 1)) >> (52 - format.mantissa_bits);
  return sign | static_cast<uint64_t>(exponent) << format.mantissa_bits |
         mantissa;
}

uint64_t SpecialBits(Random& random, FloatFormat format) {
  const uint64_t mantissa =
      random.Next() & ((uint64_t{1} << format.mantissa_bits) - 1);
  const uint64_t infinity = ((uint64_t{1} << format.exponent_bits) - 1)
                            << format.mantissa_bits;
  const uint64_t sign = (random.Next() & 1)
                        << (format.exponent_bits + format.mantissa_bits);
  switch (random.Below(5)) {
    case 0:
      return sign | infinity | mantissa;  // mostly NaN
    case 1:
      return sign | infinity;
    case 2:
      return sign | mantissa;  // denormal
    case 3:
      return sign;  // zero
    default:
      return ToBits(Gaussian(random), format);
  }
}

std::vector<uint8_t> MakeText(size_t size, Random& random) {
  static constexpr std::string_view kWords[] = {"the",
                                                "weight",
                                                "of ",
                                                "layer",
                                                "attention",
                                                "\n",
                                                ", ",
                                                "vector",
                                                "model",
                                                "12",
                                                "3.5",
                                                "head",
                                                ". ",
                                                "tokens",
                                                "and",
                                                "\"key\": ",
                                                "norm",
                                                "a",
                                                "\xC3\xA9t\xC3\xA9"};
  std::vector<uint8_t> text;
  while (text.size() < size) {
    const std::string_view word = kWords[random.Below(std::size(kWords))];
    text.insert(text.end(), word.begin(), word.end());
    text.push_back(' ');
  }
  text.resize(size);
  return text;
}

}  // namespace

std::string_view KindName(Kind kind) {
  static constexpr std::string_view kNames[] = {
      "random", "text", "gaussian", "constant", "ramp", "sparse", "special"};
  return kNames[static_cast<size_t>(kind)];
}

size_t ElementBytes(DType dtype) { return FindDType(dtype)->block_bytes; }

std::vector<uint8_t> MakeInput(Kind kind, DType dtype, size_t elements,
                               uint64_t seed) {
  Random random(seed);
  const size_t width = ElementBytes(dtype);
  const size_t size = width * elements;
  if (kind == Kind::kText) return MakeText(size, random);

  const FloatFormat format = FormatOf(dtype);
  const size_t float_bytes =
      static_cast<size_t>(1 + format.exponent_bits + format.mantissa_bits) / 8;
  std::vector<uint8_t> bytes(size);
  const auto fill = [&](size_t step, auto number) {
    for (size_t i = 0; i + step <= size; i += step) {
      const uint64_t value = number(i / step);
      std::memcpy(bytes.data() + i, &value, std::min<size_t>(step, 8));
    }
  };
  const auto small = [&](size_t) {
    return static_cast<uint64_t>(static_cast<int64_t>(Gaussian(random) * 256));
  };
  switch (kind) {
    case Kind::kRandom:
      fill(1, [&](size_t) { return random.Next(); });
      break;
    case Kind::kGaussian:
      if (format.exponent_bits != 0) {
        fill(float_bytes,
             [&](size_t) { return ToBits(Gaussian(random), format); });
      } else {
        fill(width, small);
      }
      break;
    case Kind::kSpecial:
      if (format.exponent_bits != 0) {
        fill(float_bytes, [&](size_t) { return SpecialBits(random, format); });
      } else {
        fill(width, [&](size_t i) { return i % 3 == 0 ? ~uint64_t{0} : i; });
      }
      break;
    case Kind::kConstant:
      fill(width, [&](size_t) { return uint64_t{0x3C2A190807060504}; });
      break;
    case Kind::kRamp:
      fill(width, [&](size_t i) { return uint64_t{100000} + i; });
      break;
    case Kind::kSparse:
      fill(width,
           [&](size_t) { return random.Below(50) == 0 ? random.Next() : 0; });
      break;
    case Kind::kText:
      break;
  }
  if (IsBigEndian(dtype)) {
    for (size_t i = 0; i < size; i += width) {
      std::reverse(bytes.data() + i, bytes.data() + i + width);
    }
  }
  return bytes;
}

}  // namespace zipllm::codecs
