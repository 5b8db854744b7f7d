#include "archive/sketch.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "base/bytes.h"
#include "base/log2.h"

namespace zipllm::archive {
namespace {

constexpr uint64_t kRuns = 16;
constexpr uint64_t kRunLength = kSampled / kRuns;

uint32_t Bits(float value) { return std::bit_cast<uint32_t>(value); }

int32_t Order(uint32_t bits) {
  const int32_t value = static_cast<int32_t>(bits);
  return value < 0 ? value ^ 0x7fffffff : value;
}

// A float of fewer bits whose exponent is 8 bits or less: its fields moved to
// where FP32 has them, times 2^(127 - bias). Subnormals come out right, too;
// infinities as large numbers, which keep their place in the order.
template <typename T, int mantissa_bits, int bias>
int32_t OrderSmall(T value) {
  constexpr int kBits = 8 * sizeof(T);
  constexpr float kScale = std::bit_cast<float>((254U - bias) << 23);
  const uint32_t sign = uint32_t{value} >> (kBits - 1);
  const uint32_t rest = value & ((1U << (kBits - 1)) - 1);
  const float magnitude =
      std::bit_cast<float>(rest << (23 - mantissa_bits)) * kScale;
  return Order(Bits(magnitude) | sign << 31);
}

template <typename T>
int32_t Clamp(T value) {
  using Limits = std::numeric_limits<int32_t>;
  if constexpr (sizeof(T) < 4) {
    return value;
  } else if constexpr (std::is_signed_v<T>) {
    return static_cast<int32_t>(
        std::clamp<int64_t>(value, Limits::min(), Limits::max()));
  } else {
    return static_cast<int32_t>(
        std::min<uint64_t>(value, uint64_t{Limits::max()}));
  }
}

template <typename T, typename Map>
void MapAll(const uint8_t* data, std::span<int32_t> out, const Map& map) {
  for (int32_t& value : out) {
    value = map(LoadLe<T>(data));
    data += sizeof(T);
  }
}

int32_t OrderF64(uint64_t bits) {
  return ToOrdered(static_cast<float>(std::bit_cast<double>(bits)));
}
uint32_t CostOf(const ElementFormat& format, int32_t value, int32_t predicted) {
  const int64_t half = (int64_t{1} << format.ulp_bits) >> 1;
  const int64_t d = int64_t{value} - predicted;
  return StepCost(static_cast<uint64_t>((d < 0 ? -d : d) + half) >>
                  format.ulp_bits);
}

// Sets the bits of values above `middle`; how many of the rarer kind there are.
uint32_t SetBits(std::span<const int32_t> values, int64_t middle,
                 Sketch* sketch) {
  sketch->bits.fill(0);
  uint32_t above = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const uint64_t bit = values[i] > middle;
    sketch->bits[i / 64] |= bit << (i % 64);
    above += static_cast<uint32_t>(bit);
  }
  return std::min(above, sketch->count - above);
}

int32_t OrderBf16(uint16_t bits) { return Order(uint32_t{bits} << 16); }

// Values that have a scale of their own.
constexpr size_t kScaled = 32;
// Fewer say too little.
constexpr size_t kMinNear = 4 * kScaled;
constexpr uint32_t kAll = 1U << 24;

// The part of the variance of `values` that no multiple of `predicted` and
// constant explains, in 1 / kAll.
uint32_t Unexplained(std::span<const int32_t> values,
                     std::span<const int32_t> predicted) {
  constexpr float kLargest = 1e30F;  // infinities and NaNs count as 0
  const auto real = [](int32_t ordered) {
    const float value = FromOrdered(ordered);
    return value > -kLargest && value < kLargest ? double{value} : 0.0;
  };
  double mean = 0;
  double predicted_mean = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    mean += real(values[i]);
    predicted_mean += real(predicted[i]);
  }
  mean /= static_cast<double>(values.size());
  predicted_mean /= static_cast<double>(values.size());
  double squares = 0;
  double predicted_squares = 0;
  double products = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double x = real(values[i]) - mean;
    const double y = real(predicted[i]) - predicted_mean;
    squares += x * x;
    predicted_squares += y * y;
    products += x * y;
  }
  if (squares == 0 && predicted_squares == 0) return 0;
  if (!(products > 0)) return kAll;
  const double explained = products * products / (squares * predicted_squares);
  return explained < 1 ? static_cast<uint32_t>((1 - explained) * kAll) : 0;
}

}  // namespace

std::optional<ElementFormat> FindElementFormat(DType dtype) {
  const auto real = [&](uint8_t size, uint8_t ulp_bits) {
    return ElementFormat{dtype, size, true, ulp_bits};
  };
  const auto integer = [&](uint8_t size) {
    return ElementFormat{dtype, size, false, 0};
  };
  switch (dtype) {
    case DType::kF64:
    case DType::kF64Be:
      return real(8, 0);
    case DType::kF32:
    case DType::kF32Be:
      return real(4, 0);
    case DType::kF16:
    case DType::kF16Be:
      return real(2, 13);
    case DType::kBF16:
    case DType::kBF16Be:
      return real(2, 16);
    case DType::kF8E4M3:
    case DType::kF8E4M3FNUZ:
      return real(1, 20);
    case DType::kF8E5M2:
    case DType::kF8E5M2FNUZ:
      return real(1, 21);
    case DType::kI8:
    case DType::kU8:
      return integer(1);
    case DType::kI16:
    case DType::kU16:
      return integer(2);
    case DType::kI32:
    case DType::kU32:
      return integer(4);
    case DType::kI64:
    case DType::kU64:
      return integer(8);
    default:
      return std::nullopt;
  }
}

void ToOrdered(const ElementFormat& format, const uint8_t* data,
               std::span<int32_t> out) {
  const auto clamp = []<typename T>(T value) { return Clamp(value); };
  switch (format.dtype) {
    case DType::kF64:
      return MapAll<uint64_t>(data, out, OrderF64);
    case DType::kF64Be:
      return MapAll<uint64_t>(
          data, out, [](uint64_t v) { return OrderF64(__builtin_bswap64(v)); });
    case DType::kF32:
      return MapAll<uint32_t>(data, out, Order);
    case DType::kF32Be:
      return MapAll<uint32_t>(
          data, out, [](uint32_t v) { return Order(__builtin_bswap32(v)); });
    case DType::kF16:
      return MapAll<uint16_t>(data, out, OrderSmall<uint16_t, 10, 15>);
    case DType::kF16Be:
      return MapAll<uint16_t>(data, out, [](uint16_t v) {
        return OrderSmall<uint16_t, 10, 15>(__builtin_bswap16(v));
      });
    case DType::kBF16:
      return MapAll<uint16_t>(data, out, OrderBf16);
    case DType::kBF16Be:
      return MapAll<uint16_t>(data, out, [](uint16_t v) {
        return OrderBf16(__builtin_bswap16(v));
      });
    case DType::kF8E4M3:
      return MapAll<uint8_t>(data, out, OrderSmall<uint8_t, 3, 7>);
    case DType::kF8E4M3FNUZ:
      return MapAll<uint8_t>(data, out, OrderSmall<uint8_t, 3, 8>);
    case DType::kF8E5M2:
      return MapAll<uint8_t>(data, out, OrderSmall<uint8_t, 2, 15>);
    case DType::kF8E5M2FNUZ:
      return MapAll<uint8_t>(data, out, OrderSmall<uint8_t, 2, 16>);
    case DType::kI8:
      return MapAll<int8_t>(data, out, clamp);
    case DType::kU8:
      return MapAll<uint8_t>(data, out, clamp);
    case DType::kI16:
      return MapAll<int16_t>(data, out, clamp);
    case DType::kU16:
      return MapAll<uint16_t>(data, out, clamp);
    case DType::kI32:
      return MapAll<int32_t>(data, out, clamp);
    case DType::kU32:
      return MapAll<uint32_t>(data, out, clamp);
    case DType::kI64:
      return MapAll<int64_t>(data, out, clamp);
    default:
      return MapAll<uint64_t>(data, out, clamp);
  }
}

float FromOrdered(int32_t ordered) {
  return std::bit_cast<float>(ordered < 0 ? ordered ^ 0x7fffffff : ordered);
}
int32_t ToOrdered(float value) { return Order(Bits(value)); }

uint32_t StepCost(uint64_t distance) {
  // log2(1 + 2 * distance), between powers of two by a straight line.
  const uint64_t x = 2 * distance + 1;
  const auto whole = static_cast<uint32_t>(std::bit_width(x)) - 1;
  const uint64_t fraction = whole >= 4 ? x >> (whole - 4) : x << (4 - whole);
  return whole * 16 + static_cast<uint32_t>(fraction & 15);
}

uint32_t MeanCost(const ElementFormat& format, std::span<const int32_t> values,
                  std::span<const int32_t> predicted) {
  if (values.empty()) return UINT32_MAX;
  uint64_t sum = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    sum += CostOf(format, values[i], predicted[i]);
  }
  return static_cast<uint32_t>(16 * sum / values.size());
}

Comparison Compare(const ElementFormat& format, std::span<const int32_t> values,
                   std::span<const int32_t> predicted) {
  const size_t n = values.size();
  if (n == 0) return {UINT32_MAX, UINT32_MAX, false};
  // Not by a whole number of runs or rows.
  size_t other = n * 5 / 13;
  int64_t cost = 0;
  int64_t chance = 0;
  int64_t squares = 0;
  for (size_t i = 0; i < n; ++i) {
    const int64_t a = CostOf(format, values[i], predicted[i]);
    const int64_t b = CostOf(format, values[i], predicted[other]);
    other = other + 1 == n ? 0 : other + 1;
    cost += a;
    chance += b;
    squares += (b - a) * (b - a);
  }
  const int64_t gain = chance - cost;
  const auto count = static_cast<int64_t>(n);
  const int64_t variance = squares - gain * gain / count;
  return {static_cast<uint32_t>(16 * cost / count),
          static_cast<uint32_t>(16 * chance / count),
          gain > 0 && gain * gain > 25 * variance};
}

Comparison CompareNear(std::span<const int32_t> values,
                       std::span<const int32_t> predicted) {
  const size_t n = values.size();
  if (n < kMinNear) return {UINT32_MAX, UINT32_MAX, false};
  std::vector<int32_t> others(predicted.begin(), predicted.end());
  std::rotate(others.begin(),
              others.begin() + static_cast<ptrdiff_t>(n * 5 / 13),
              others.end());
  int64_t left = 0;
  int64_t chance = 0;
  int64_t squares = 0;
  const auto count = static_cast<int64_t>(n / kScaled);
  for (size_t i = 0; i + kScaled <= n; i += kScaled) {
    const auto part = values.subspan(i, kScaled);
    const int64_t a = Unexplained(part, predicted.subspan(i, kScaled));
    const int64_t b =
        Unexplained(part, std::span<const int32_t>(others).subspan(i, kScaled));
    left += a;
    chance += b;
    squares += (b - a) * (b - a);
  }
  const int64_t gain = chance - left;
  const int64_t variance = squares - gain * gain / count;
  // Half the logarithm, in 1/256.
  const auto cost = [&](int64_t part) {
    return Log2Q16(static_cast<uint32_t>(part / count) + 1) >> 9;
  };
  return {cost(left), cost(chance), gain > 0 && gain * gain > 25 * variance};
}

std::vector<Run> SampleRuns(uint64_t elements) {
  if (elements <= kSampled) return {{0, elements}};
  std::vector<Run> runs;
  const uint64_t part = elements / kRuns;
  uint64_t random = elements;
  for (uint64_t i = 0; i < kRuns; ++i) {
    // Not at equal distances, which may be columns of a matrix.
    random = random * 6364136223846793005 + 1442695040888963407;
    const uint64_t shift = (random >> 33) % (part - kRunLength + 1);
    runs.push_back({i * part + shift, kRunLength});
  }
  return runs;
}

uint32_t Sketch::Distance(const Sketch& other) const {
  int distance = 0;
  for (size_t i = 0; i < bits.size(); ++i) {
    distance += std::popcount(bits[i] ^ other.bits[i]);
  }
  return static_cast<uint32_t>(distance);
}

Sketch SketchOf(std::span<const int32_t> values) {
  Sketch sketch;
  sketch.count = static_cast<uint32_t>(values.size());
  if (values.empty()) return sketch;
  int64_t sum = 0;
  for (const int32_t value : values) sum += value;
  uint32_t rarer =
      SetBits(values, sum / static_cast<int64_t>(values.size()), &sketch);
  // A few values far from the others: their median takes longer to find.
  if (rarer < sketch.count / 4) {
    std::vector<int32_t> sorted(values.begin(), values.end());
    const auto middle =
        sorted.begin() + static_cast<ptrdiff_t>((sorted.size() - 1) / 2);
    std::ranges::nth_element(sorted, middle);
    rarer = SetBits(values, *middle, &sketch);
  }
  sketch.telling = rarer > 0 && rarer >= sketch.count / 8;
  return sketch;
}

}  // namespace zipllm::archive
