// The kernels of codecs against references: loops that compilers vectorize,
// compiled once for each target.
#ifndef ZIPLLM_KERNELS_KERNELS_DELTA_H_
#define ZIPLLM_KERNELS_KERNELS_DELTA_H_

#include <cstring>

#include "kernels/kernels.h"

namespace zipllm::kernels {

void DeltaStepsScalar(const uint8_t* predictions, size_t size, int shift,
                      uint32_t mask, int scale, const int16_t* columns,
                      size_t count, uint8_t* steps);
void DeltaStepsAvx2(const uint8_t* predictions, size_t size, int shift,
                    uint32_t mask, int scale, const int16_t* columns,
                    size_t count, uint8_t* steps);
void DeltaStepsAvx512(const uint8_t* predictions, size_t size, int shift,
                      uint32_t mask, int scale, const int16_t* columns,
                      size_t count, uint8_t* steps);

uint64_t DeltaMeasureScalar(const uint8_t* elements, const uint8_t* predictions,
                            NumberKind kind, float factor, size_t count,
                            uint32_t* columns);
uint64_t DeltaMeasureAvx2(const uint8_t* elements, const uint8_t* predictions,
                          NumberKind kind, float factor, size_t count,
                          uint32_t* columns);
uint64_t DeltaMeasureAvx512(const uint8_t* elements, const uint8_t* predictions,
                            NumberKind kind, float factor, size_t count,
                            uint32_t* columns);

void ResidualSymbolsScalar(const uint8_t* elements, const uint8_t* predictions,
                           size_t size, bool is_float, size_t count,
                           uint8_t* symbols);
void ResidualApplyScalar(const uint8_t* symbols, const uint8_t* predictions,
                         size_t size, bool is_float, size_t count,
                         uint8_t* elements);
void MapBytesScalar(const uint8_t* bytes, size_t count, const uint8_t* map,
                    uint8_t* mapped);
void ResidualSymbolsAvx2(const uint8_t* elements, const uint8_t* predictions,
                         size_t size, bool is_float, size_t count,
                         uint8_t* symbols);
void ResidualApplyAvx2(const uint8_t* symbols, const uint8_t* predictions,
                       size_t size, bool is_float, size_t count,
                       uint8_t* elements);
void MapBytesAvx2(const uint8_t* bytes, size_t count, const uint8_t* map,
                  uint8_t* mapped);
void ResidualSymbolsAvx512(const uint8_t* elements, const uint8_t* predictions,
                           size_t size, bool is_float, size_t count,
                           uint8_t* symbols);
void ResidualApplyAvx512(const uint8_t* symbols, const uint8_t* predictions,
                         size_t size, bool is_float, size_t count,
                         uint8_t* elements);
void MapBytesAvx512(const uint8_t* bytes, size_t count, const uint8_t* map,
                    uint8_t* mapped);

// In a namespace without name, so that each target has its own.
namespace {

template <size_t kBytes>
struct DeltaSize {
  static constexpr size_t value = kBytes;
};

template <typename Word>
inline Word DeltaLoad(const uint8_t* from) {
  Word word;
  std::memcpy(&word, from, sizeof word);
  return word;
}

template <typename Word, bool kColumns>
inline void DeltaStepsLoop(const uint8_t* __restrict predictions, int shift,
                           uint32_t mask, int scale,
                           const int16_t* __restrict columns, size_t count,
                           uint8_t* __restrict steps) {
  const auto base = static_cast<int16_t>(scale);
  const auto wide_mask = static_cast<Word>(mask);
  for (size_t i = 0; i < count; ++i) {
    const auto word = DeltaLoad<Word>(predictions + i * sizeof(Word));
    auto exponent = static_cast<int16_t>((word >> shift) & wide_mask);
    exponent = exponent < 1 ? int16_t{1} : exponent;
    auto step = static_cast<int16_t>(base - 4 * exponent);
    if constexpr (kColumns) step = static_cast<int16_t>(step + columns[i]);
    step = step < 0 ? int16_t{0} : step;
    step = step > 63 ? int16_t{63} : step;
    steps[i] = static_cast<uint8_t>(step);
  }
}

template <typename Word>
inline void DeltaStepsOf(const uint8_t* predictions, int shift, uint32_t mask,
                         int scale, const int16_t* columns, size_t count,
                         uint8_t* steps) {
  if (columns != nullptr) {
    DeltaStepsLoop<Word, true>(predictions, shift, mask, scale, columns, count,
                               steps);
  } else {
    DeltaStepsLoop<Word, false>(predictions, shift, mask, scale, columns, count,
                                steps);
  }
}

inline void DeltaStepsLoops(const uint8_t* predictions, size_t size, int shift,
                            uint32_t mask, int scale, const int16_t* columns,
                            size_t count, uint8_t* steps) {
  switch (size) {
    case 1:
      return DeltaStepsOf<uint8_t>(predictions, shift, mask, scale, columns,
                                   count, steps);
    case 2:
      return DeltaStepsOf<uint16_t>(predictions, shift, mask, scale, columns,
                                    count, steps);
    case 4:
      return DeltaStepsOf<uint32_t>(predictions, shift, mask, scale, columns,
                                    count, steps);
    default:
      return DeltaStepsOf<uint64_t>(predictions, shift, mask, scale, columns,
                                    count, steps);
  }
}

inline float DeltaFloat(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

/// Floats of fewer bits: moved to where those of a float are, their exponent
/// set right by a product, which is exact. What is infinite becomes large.
template <typename Word, int kUp, int kBias>
inline float DeltaWiden(const uint8_t* from) {
  constexpr int kTop = 8 * sizeof(Word) - 1;
  const uint32_t bits = DeltaLoad<Word>(from);
  const uint32_t magnitude = (bits & ((uint32_t{1} << kTop) - 1)) << kUp;
  const uint32_t sign = bits >> kTop << 31;
  return DeltaFloat(magnitude | sign) *
         DeltaFloat(static_cast<uint32_t>(127 + kBias) << 23);
}

template <size_t kSize, bool kColumns, typename Distance>
inline uint64_t DeltaMeasureLoop(const uint8_t* __restrict elements,
                                 const uint8_t* __restrict predictions,
                                 size_t count, uint32_t* __restrict columns,
                                 const Distance& distance) {
  uint64_t sum = 0;
  for (size_t i = 0; i < count; ++i) {
    const uint32_t far =
        distance(elements + i * kSize, predictions + i * kSize);
    if constexpr (kColumns) columns[i] += far;
    sum += far;
  }
  return sum;
}

template <size_t kSize, typename Distance>
inline uint64_t DeltaMeasureOf(const uint8_t* elements,
                               const uint8_t* predictions, size_t count,
                               uint32_t* columns, const Distance& distance) {
  return columns != nullptr
             ? DeltaMeasureLoop<kSize, true>(elements, predictions, count,
                                             columns, distance)
             : DeltaMeasureLoop<kSize, false>(elements, predictions, count,
                                              columns, distance);
}

inline uint64_t DeltaMeasureLoops(const uint8_t* elements,
                                  const uint8_t* predictions, NumberKind kind,
                                  float factor, size_t count,
                                  uint32_t* columns) {
  constexpr float kMost = kDeltaMost;
  const auto floats = [&](auto size, auto load) {
    return DeltaMeasureOf<decltype(size)::value>(
        elements, predictions, count, columns,
        [&](const uint8_t* element, const uint8_t* prediction) {
          float far = load(element) - load(prediction);
          far = (far < 0 ? -far : far) * factor;
          far = far < kMost ? far : kMost;
          return static_cast<uint32_t>(static_cast<int32_t>(far));
        });
  };
  const auto integers = [&](auto word) {
    using Word = decltype(word);
    return DeltaMeasureOf<sizeof(Word)>(
        elements, predictions, count, columns,
        [](const uint8_t* element, const uint8_t* prediction) {
          const auto x = DeltaLoad<Word>(element);
          const auto p = DeltaLoad<Word>(prediction);
          const auto far = static_cast<Word>(x > p ? x - p : p - x);
          // The lesser way around.
          const auto other = static_cast<Word>(Word{0} - far);
          const Word least = far < other ? far : other;
          return static_cast<uint32_t>(least < kDeltaMost ? least : kDeltaMost);
        });
  };
  switch (kind) {
    case NumberKind::kBf16:
      return floats(DeltaSize<2>{}, [](const uint8_t* from) {
        return DeltaFloat(uint32_t{DeltaLoad<uint16_t>(from)} << 16);
      });
    case NumberKind::kFp16:
      return floats(DeltaSize<2>{}, DeltaWiden<uint16_t, 13, 112>);
    case NumberKind::kFp32:
      return floats(DeltaSize<4>{}, [](const uint8_t* from) {
        return DeltaFloat(DeltaLoad<uint32_t>(from));
      });
    case NumberKind::kFp64:
      return floats(DeltaSize<8>{}, [](const uint8_t* from) {
        const auto bits = DeltaLoad<uint64_t>(from);
        double value;
        std::memcpy(&value, &bits, sizeof value);
        return static_cast<float>(value);
      });
    case NumberKind::kE4m3:
      return floats(DeltaSize<1>{}, DeltaWiden<uint8_t, 20, 120>);
    case NumberKind::kE5m2:
      return floats(DeltaSize<1>{}, DeltaWiden<uint8_t, 21, 112>);
    case NumberKind::kInteger8:
      return integers(uint8_t{});
    case NumberKind::kInteger16:
      return integers(uint16_t{});
    case NumberKind::kInteger32:
      return integers(uint32_t{});
    default:
      return integers(uint64_t{});
  }
}

inline uint32_t DeltaBits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

/// Differences of up to 32 bits; their octave and the bits below the first are
/// those of the float.
template <typename Word, bool kFloat>
inline void ResidualSymbolsLoop(const uint8_t* __restrict elements,
                                const uint8_t* __restrict predictions,
                                size_t count, uint8_t* __restrict symbols) {
  constexpr int kBits = 8 * sizeof(Word);
  constexpr int kShift = 32 - kBits + (kFloat ? 1 : 0);
  // Octaves 4 to 23 of 32-bit words have 3 bits, those above none; of other
  // words all have 1, and two symbols each for the sign.
  constexpr bool kWide = kBits == 32;
  constexpr int kOctaves = kBits - (kFloat ? 1 : 0);
  constexpr uint32_t kDirect = 31;
  constexpr uint32_t kCrossing =
      kDirect + (kWide ? 8 * 20 + kOctaves - 24 : 4 * (kOctaves - 4));
  for (size_t i = 0; i < count; ++i) {
    const uint32_t x = DeltaLoad<Word>(elements + i * sizeof(Word));
    const uint32_t p = DeltaLoad<Word>(predictions + i * sizeof(Word));
    const auto difference = static_cast<int32_t>((x - p) << kShift) >> kShift;
    const uint32_t negative = difference < 0 ? 1 : 0;
    const uint32_t m =
        (static_cast<uint32_t>(difference) ^ (0 - negative)) + negative;
    // Conversion does not round up to the next octave.
    const uint32_t exact = kWide && m >= 1u << 24 ? m & ~0xffu : m;
    const uint32_t bits =
        kWide && m == 1u << 31
            ? uint32_t{127 + 31} << 23
            : DeltaBits(static_cast<float>(static_cast<int32_t>(exact)));
    uint32_t symbol =
        m < 16         ? 2 * m - (m != 0 ? 1 - negative : 0)
        : !kWide       ? kDirect + 2 * ((bits >> 22) - 2 * (127 + 4)) + negative
        : m < 1u << 24 ? kDirect + ((bits >> 20) - 8 * (127 + 4))
                       : kDirect + 160 + ((bits >> 23) - (127 + 24));
    if constexpr (kFloat) {
      const uint32_t crossing = kCrossing + (m == 0 ? 0 : (bits >> 23) - 126);
      symbol = ((x ^ p) >> (kBits - 1)) != 0 ? crossing : symbol;
    }
    symbols[i] = static_cast<uint8_t>(symbol);
  }
}

inline void ResidualSymbolsLoops(const uint8_t* elements,
                                 const uint8_t* predictions, size_t size,
                                 bool is_float, size_t count,
                                 uint8_t* symbols) {
  const auto run = [&](auto floats, auto integers) {
    (is_float ? floats : integers)(elements, predictions, count, symbols);
  };
  switch (size) {
    case 1:
      return run(ResidualSymbolsLoop<uint8_t, true>,
                 ResidualSymbolsLoop<uint8_t, false>);
    case 2:
      return run(ResidualSymbolsLoop<uint16_t, true>,
                 ResidualSymbolsLoop<uint16_t, false>);
    default:
      return run(ResidualSymbolsLoop<uint32_t, true>,
                 ResidualSymbolsLoop<uint32_t, false>);
  }
}

template <typename Word, bool kFloat>
inline void ResidualApplyLoop(const uint8_t* __restrict symbols,
                              const uint8_t* predictions, size_t count,
                              uint8_t* elements) {
  constexpr auto kSign = static_cast<Word>(Word{1} << (8 * sizeof(Word) - 1));
  for (size_t i = 0; i < count; ++i) {
    const auto p = DeltaLoad<Word>(predictions + i * sizeof(Word));
    // 1, 2, 3, 4, ... are 1, -1, 2, -2, ...
    const auto symbol = static_cast<Word>(symbols[i]);
    const auto half = static_cast<Word>((symbol + 1) >> 1);
    const auto positive = static_cast<Word>(symbol & 1);
    const auto mask = static_cast<Word>(positive - 1);
    const auto difference =
        static_cast<Word>(static_cast<Word>(half ^ mask) - mask);
    const auto sum = static_cast<Word>(p + difference);
    const Word x =
        kFloat
            ? static_cast<Word>((sum & static_cast<Word>(~kSign)) | (p & kSign))
            : sum;
    std::memcpy(elements + i * sizeof(Word), &x, sizeof x);
  }
}

inline void ResidualApplyLoops(const uint8_t* symbols,
                               const uint8_t* predictions, size_t size,
                               bool is_float, size_t count, uint8_t* elements) {
  const auto run = [&](auto floats, auto integers) {
    (is_float ? floats : integers)(symbols, predictions, count, elements);
  };
  switch (size) {
    case 1:
      return run(ResidualApplyLoop<uint8_t, true>,
                 ResidualApplyLoop<uint8_t, false>);
    case 2:
      return run(ResidualApplyLoop<uint16_t, true>,
                 ResidualApplyLoop<uint16_t, false>);
    case 4:
      return run(ResidualApplyLoop<uint32_t, true>,
                 ResidualApplyLoop<uint32_t, false>);
    default:
      return run(ResidualApplyLoop<uint64_t, true>,
                 ResidualApplyLoop<uint64_t, false>);
  }
}

}  // namespace

}  // namespace zipllm::kernels

#endif  // ZIPLLM_KERNELS_KERNELS_DELTA_H_
