// The definition of the kernels of cascades: eight symbols at a time in the
// bytes of a 64-bit number.
#include <cstring>

#include "kernels/kernels_cascade.h"

namespace zipllm::kernels {
namespace {

constexpr uint64_t kOnes = 0x0101010101010101;

uint64_t Load64(const uint8_t* from) {
  uint64_t value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

void Store64(uint8_t* to, uint64_t value) {
  std::memcpy(to, &value, sizeof value);
}

/// Bit b of `bits` in byte b.
uint64_t Spread(uint8_t bits) {
  const uint64_t spread = bits * kOnes & 0x8040201008040201;
  return (spread + 0x7F * kOnes) >> 7 & kOnes;
}

/// The codes i to i + 7 of a group; i is a multiple of 8.
template <int kWidth>
uint64_t LoadCodes(const uint8_t* codes, size_t i) {
  if constexpr (kWidth == 1) {
    return Spread(codes[i / 8]);
  } else if constexpr (kWidth == 2) {
    return Load64(codes + i % 32) >> (i / 32 * 2) & 3 * kOnes;
  } else {
    return Load64(codes + i % 64) >> (i / 64 * 4) & 15 * kOnes;
  }
}

/// Adds the codes i to i + 7 to a group that is zero there.
template <int kWidth>
void AddCodes(uint64_t codes, size_t i, uint8_t* to) {
  if constexpr (kWidth == 1) {
    to[i / 8] = static_cast<uint8_t>(codes * 0x0102040810204080 >> 56);
  } else {
    constexpr size_t kBytes = 16 * kWidth;
    uint8_t* const at = to + i % kBytes;
    Store64(at, Load64(at) | codes << (i / kBytes * kWidth));
  }
}

/// 1 in each byte that is the greatest code.
template <int kWidth>
uint64_t Escapes(uint64_t codes) {
  if constexpr (kWidth == 1) return codes;
  if constexpr (kWidth == 2) return codes & codes >> 1 & kOnes;
  return (codes + kOnes) >> 4 & kOnes;
}

/// The symbols of codes; 0 where they escape.
template <int kWidth>
uint64_t LookUp(uint64_t codes, uint64_t escapes, const uint8_t* symbols) {
  // A byte that is 0 or 1, times a symbol, stays in its byte.
  if constexpr (kWidth == 1) return (codes ^ kOnes) * symbols[0];
  if constexpr (kWidth == 2) {
    const uint64_t low = codes & kOnes;
    const uint64_t high = codes >> 1 & kOnes;
    return ((low | high) ^ kOnes) * symbols[0] + (low ^ escapes) * symbols[1] +
           (high ^ escapes) * symbols[2];
  }
  uint64_t result = 0;
  for (int bit = 0; bit < 64; bit += 8) {
    result |= uint64_t{symbols[codes >> bit & 15]} << bit;
  }
  return result & ~(escapes * 255);
}

template <int kWidth>
size_t Expand(const uint8_t* codes, size_t groups, const uint8_t* symbols,
              const uint8_t* escaped, uint8_t* out) {
  const uint8_t* next = escaped;
  for (; groups > 0; --groups, codes += 16 * kWidth, out += kGroup) {
    for (size_t i = 0; i < kGroup; i += 8) {
      const uint64_t code = LoadCodes<kWidth>(codes, i);
      const uint64_t escapes = Escapes<kWidth>(code);
      // Byte b: how many of bytes 0 to b escape.
      const uint64_t counts = escapes * kOnes;
      uint64_t taken = next[0];
      for (int bit = 8; bit < 64; bit += 8) {
        taken |= uint64_t{next[counts >> (bit - 8) & 15]} << bit;
      }
      Store64(out + i,
              LookUp<kWidth>(code, escapes, symbols) | (taken & escapes * 255));
      next += counts >> 56;
    }
  }
  return static_cast<size_t>(next - escaped);
}

template <int kWidth>
size_t Reduce(const uint8_t* ranks, size_t groups, uint8_t* codes,
              uint8_t* escaped) {
  constexpr uint8_t kEscape = (1 << kWidth) - 1;
  uint8_t* next = escaped;
  std::memset(codes, 0, groups * 16 * kWidth);
  for (; groups > 0; --groups, ranks += kGroup, codes += 16 * kWidth) {
    for (size_t i = 0; i < kGroup; i += 8) {
      uint64_t code = 0;
      for (size_t j = 0; j < 8; ++j) {
        const uint8_t rank = ranks[i + j];
        const bool escapes = rank >= kEscape;
        code |= uint64_t{escapes ? kEscape : rank} << (8 * j);
        *next = static_cast<uint8_t>(rank - kEscape);
        next += escapes;
      }
      AddCodes<kWidth>(code, i, codes);
    }
  }
  return static_cast<size_t>(next - escaped);
}

}  // namespace

size_t CascadeExpandScalar(const uint8_t* codes, size_t groups, int width,
                           const uint8_t* symbols, const uint8_t* escaped,
                           uint8_t* out) {
  switch (width) {
    case 1:
      return Expand<1>(codes, groups, symbols, escaped, out);
    case 2:
      return Expand<2>(codes, groups, symbols, escaped, out);
    default:
      return Expand<4>(codes, groups, symbols, escaped, out);
  }
}

size_t CascadeReduceScalar(const uint8_t* ranks, size_t groups, int width,
                           uint8_t* codes, uint8_t* escaped) {
  switch (width) {
    case 1:
      return Reduce<1>(ranks, groups, codes, escaped);
    case 2:
      return Reduce<2>(ranks, groups, codes, escaped);
    default:
      return Reduce<4>(ranks, groups, codes, escaped);
  }
}

void JoinRestsScalar(const uint8_t* exponents, const uint8_t* rests,
                     const uint8_t* low, size_t groups, int shift,
                     uint8_t* units) {
  for (size_t i = 0; i < groups * kGroup; ++i) {
    const uint32_t magnitude = uint32_t{exponents[i]} << 7 | rests[i] >> 1;
    const auto unit =
        static_cast<uint16_t>(magnitude << shift | uint32_t{rests[i]} << 15);
    std::memcpy(units + 2 * i, &unit, sizeof unit);
  }
  if (low == nullptr) return;
  constexpr size_t kPlane = kGroup / 8;
  for (; groups > 0; --groups, low += 3 * kPlane) {
    for (size_t i = 0; i < kPlane; ++i, units += 16) {
      const uint64_t bits = Spread(low[i]) | Spread(low[kPlane + i]) << 1 |
                            Spread(low[2 * kPlane + i]) << 2;
      for (size_t j = 0; j < 8; ++j) {
        units[2 * j] |= static_cast<uint8_t>(bits >> (8 * j));
      }
    }
  }
}

void TakeRestsScalar(const uint16_t* units, size_t groups, int shift,
                     uint8_t* rests, uint8_t* low) {
  for (size_t i = 0; i < groups * kGroup; ++i) {
    const uint32_t unit = units[i];
    rests[i] = static_cast<uint8_t>((unit >> shift & 127) << 1 | unit >> 15);
  }
  if (low == nullptr) return;
  for (; groups > 0; --groups, units += kGroup) {
    for (int p = 0; p < 3; ++p) {
      for (size_t i = 0; i < kGroup; i += 8) {
        uint32_t bits = 0;
        for (size_t j = 0; j < 8; ++j) bits |= (units[i + j] >> p & 1u) << j;
        *low++ = static_cast<uint8_t>(bits);
      }
    }
  }
}

}  // namespace zipllm::kernels
