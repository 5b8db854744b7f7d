#include "llm/rope.h"

#include <bit>

namespace zipllm::llm {
namespace {

// Series in double, of additions, products and divisions in the order that
// they stand: no function of a library is the same everywhere.

constexpr double kLn2 = 0x1.62e42fefa39efp-1;
constexpr double kHalfTurn = 0x1.921fb54442d18p+1;  // pi

/// Natural logarithm. Precondition: x is normal and positive.
double Log(double x) {
  const auto bits = std::bit_cast<uint64_t>(x);
  const int exponent = static_cast<int>(bits >> 52) - 1023;
  const double mantissa =
      std::bit_cast<double>((bits & 0xfffffffffffff) | uint64_t{1023} << 52);
  // ln m = 2 artanh((m - 1) / (m + 1))
  const double z = (mantissa - 1) / (mantissa + 1);
  const double square = z * z;
  double sum = 0;
  for (int k = 41; k >= 1; k -= 2) sum = sum * square + 1.0 / k;
  return 2 * z * sum + exponent * kLn2;
}

/// Precondition: -700 < x <= 0.
double Exp(double x) {
  const int power = static_cast<int>(x / kLn2);
  const double rest = x - power * kLn2;
  double sum = 1;
  for (int k = 20; k >= 1; --k) sum = sum * rest / k + 1;
  return sum * std::bit_cast<double>(static_cast<uint64_t>(power + 1023) << 52);
}

}  // namespace

Rope::Rope(size_t pairs, double base, double scale,
           std::span<const float> factors, bool neighbours)
    : turns_(pairs), neighbours_(neighbours) {
  if (!(base >= 1 && base <= 1e30)) return;
  const double log = Log(base);
  for (size_t i = 0; i < pairs; ++i) {
    const double factor = factors.empty() ? 1.0 : double{factors[i]};
    const double exponent =
        log * static_cast<double>(i) / static_cast<double>(pairs);
    const double turn = Exp(-exponent) * scale / factor / (2 * kHalfTurn);
    if (turn >= 0 && turn < 1) {
      turns_[i] = static_cast<uint64_t>(turn * 0x1p64);
    }
  }
}

void Rope::At(uint64_t position, Rotation* to) const {
  for (uint64_t turn : turns_) {
    const uint64_t phase = position * turn;
    // The nearest quarter, and what is left of it: at most an eighth of a turn.
    const uint64_t quarter = (phase + (uint64_t{1} << 61)) >> 62;
    const auto rest = static_cast<int64_t>(phase - (quarter << 62));
    const double angle = static_cast<double>(rest) * (kHalfTurn * 0x1p-63);
    const double square = angle * angle;
    double sine = 1;
    double cosine = 1;
    for (int k = 14; k >= 2; k -= 2) {
      sine = 1 - sine * square / (k * (k + 1));
      cosine = 1 - cosine * square / (k * (k - 1));
    }
    sine = sine * angle;
    if (quarter & 1) {
      const double swapped = sine;
      sine = cosine;
      cosine = -swapped;
    }
    if (quarter & 2) {
      sine = -sine;
      cosine = -cosine;
    }
    *to++ = {static_cast<float>(cosine), static_cast<float>(sine)};
  }
}

void Rope::Turn(const Rotation* by, float* vector) const {
  const size_t step = neighbours_ ? 2 : 1;
  const size_t distance = neighbours_ ? 1 : pairs();
  for (size_t i = 0; i < pairs(); ++i) {
    float& first = vector[i * step];
    float& second = vector[i * step + distance];
    const float x = first;
    const float y = second;
    first = x * by[i].cosine - y * by[i].sine;
    second = x * by[i].sine + y * by[i].cosine;
  }
}

}  // namespace zipllm::llm
