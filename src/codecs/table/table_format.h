// What encoder and decoder of codec 26 share: fields, how values stand for
// their bytes, and the models of specials.
// Format: format-spec/codecs/26-table.md.
#ifndef ZIPLLM_CODECS_TABLE_TABLE_FORMAT_H_
#define ZIPLLM_CODECS_TABLE_TABLE_FORMAT_H_

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/bytes.h"
#include "codecs/table/table_models.h"
#include "entropy/mixing.h"

namespace zipllm::codecs::table {

/// Decoded bytes of a block, at most: bounds the models' memory.
inline constexpr size_t kMaxBytes = size_t{1} << 22;
inline constexpr size_t kMaxFields = 64;
inline constexpr uint64_t kMaxRow = uint64_t{1} << 24;
/// Rows of a table that has rows, at least.
inline constexpr size_t kLeastRows = 4;
inline constexpr size_t kMaxDictionary = size_t{1} << 16;
inline constexpr size_t kMaxSpecials = 64;
inline constexpr int kMaxDecimals = 22;
inline constexpr size_t kMaxBins = 256;
/// Steps of linear extrapolation that the method of bins knows, and others.
inline constexpr uint8_t kLastPredictor = 7;

enum Method : uint8_t { kBins = 0, kFast = 1, kStrong = 2 };

enum Kind : uint8_t {
  kSigned = 0,
  kUnsigned = 1,
  kOrdered = 2,  ///< floats by their bits, in the order of their values
  kDecimal = 3,  ///< floats that are integers divided by a power of ten
};

enum FieldFlags : uint8_t {
  kWidthMask = 3,  ///< log2 of the bytes
  kKindShift = 2,
  kBigEndian = 16,
  kScaled = 32,
  kHasDictionary = 64,
  kHasSpecials = 128,
};

/// One of the columns of a table.
struct Field {
  uint8_t log2_width = 0;
  Kind kind = kSigned;
  bool big_endian = false;
  uint8_t decimals = 0;
  /// Numbers are `base` + `scale` times a value.
  uint64_t scale = 1;
  int64_t base = 0;
  /// If not empty, the values are places in it.
  std::vector<int64_t> dictionary;
  /// Elements that no number stands for, by their bits.
  bool has_specials = false;
  std::vector<uint64_t> specials;
  /// Of methods that mix: whether values near each other are alike; else the
  /// value around which the others lie.
  bool numeric = true;
  int64_t center = 0;
  uint8_t predictor = 0;  ///< of the method of bins

  size_t width() const { return size_t{1} << log2_width; }
  int bits() const { return 8 << log2_width; }
};

struct Table {
  Method method = kBins;
  std::vector<Field> fields;
  uint64_t row = 0;  ///< records from a value to the one above it; 0: none
  size_t record_bytes = 0;
  size_t records = 0;

  bool HasSpecials() const {
    for (const Field& field : fields) {
      if (field.has_specials) return true;
    }
    return false;
  }
};

inline uint64_t LoadRaw(const uint8_t* from, const Field& field) {
  uint64_t raw = 0;
  std::memcpy(&raw, from, field.width());
  if (field.big_endian) raw = __builtin_bswap64(raw) >> (64 - field.bits());
  return raw;
}
inline void StoreRaw(uint64_t raw, const Field& field, uint8_t* to) {
  if (field.big_endian) raw = __builtin_bswap64(raw << (64 - field.bits()));
  std::memcpy(to, &raw, field.width());
}

inline int64_t SignExtend(uint64_t raw, int bits) {
  return static_cast<int64_t>(raw << (64 - bits)) >> (64 - bits);
}

/// Exact: powers of ten up to 10^22 are doubles.
inline double PowerOfTen(int k) {
  static constexpr std::array<double, kMaxDecimals + 1> kTens = {
      1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
      1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
  return kTens[static_cast<size_t>(k)];
}

/// The element's bits that a number stands for.
inline uint64_t RawOf(int64_t number, const Field& field) {
  const auto bits = static_cast<uint64_t>(number);
  switch (field.kind) {
    case kSigned:
    case kUnsigned:
      return bits & (UINT64_MAX >> (64 - field.bits()));
    case kOrdered: {
      // From two's complement to sign and magnitude.
      const uint64_t mask = UINT64_MAX >> (65 - field.bits());
      return number < 0 ? (~bits & mask) | (mask + 1) : bits & mask;
    }
    default: {
      const double quotient =
          static_cast<double>(number) / PowerOfTen(field.decimals);
      return field.log2_width == 3
                 ? std::bit_cast<uint64_t>(quotient)
                 : std::bit_cast<uint32_t>(static_cast<float>(quotient));
    }
  }
}

/// Which elements are special, and which special each is: binary decisions with
/// adaptive probabilities. Thread-compatible.
class SpecialModels {
 public:
  explicit SpecialModels(size_t fields)
      : flags_(fields * 64), history_(fields), which_(fields * 128) {}

  void BeginRecord() { in_record_ = 0; }
  template <typename Coder>
  bool Flag(Coder& coder, size_t field, bool above, bool special) {
    const uint32_t context = (history_[field] & 15u) * 4 + (above ? 2u : 0u) +
                             (in_record_ != 0 ? 1u : 0u);
    entropy::AdaptiveBit& bit = flags_[field * 64 + context];
    const bool coded =
        coder.Code(special, entropy::ClampProbability(bit.p16()));
    bit.Update(tables_, coded, kLimit);
    history_[field] =
        static_cast<uint8_t>(history_[field] << 1 | (coded ? 1 : 0));
    in_record_ |= coded ? 1 : 0;
    return coded;
  }
  /// Which of the field's specials, below 128.
  template <typename Coder>
  uint32_t Which(Coder& coder, size_t field, uint32_t which) {
    uint32_t node = 1;
    for (int b = 6; b >= 0; --b) {
      entropy::AdaptiveBit& bit = which_[field * 128 + node];
      const bool coded = coder.Code((which >> b & 1) != 0,
                                    entropy::ClampProbability(bit.p16()));
      bit.Update(tables_, coded, kLimit);
      node = node << 1 | (coded ? 1 : 0);
    }
    return node - 128;
  }
  /// Bits that nothing is known of.
  template <typename Coder>
  static uint64_t Raw(Coder& coder, int bits, uint64_t raw) {
    uint64_t coded = 0;
    for (int b = bits - 1; b >= 0; --b) {
      coded = coded << 1 | (coder.Code((raw >> b & 1) != 0, 32768) ? 1 : 0);
    }
    return coded;
  }

 private:
  static constexpr uint32_t kLimit = 250;
  const entropy::MixingTables& tables_ = entropy::GetMixingTables();
  std::vector<entropy::AdaptiveBit> flags_;
  std::vector<uint8_t> history_;
  std::vector<entropy::AdaptiveBit> which_;
  int in_record_ = 0;
};

/// What models are made of for a table.
inline Shape ShapeOf(const Table& table) {
  Shape shape;
  shape.fields = table.fields.size();
  shape.records = table.records;
  shape.row = table.row;
  for (const Field& field : table.fields) {
    shape.numeric.push_back(field.numeric ? 1 : 0);
    shape.center.push_back(field.center);
  }
  return shape;
}
/// Slots of the contexts, as a binary logarithm.
inline int SlotsLog2(const Table& table) {
  const size_t values = table.records * table.fields.size();
  return std::clamp(static_cast<int>(std::bit_width(values)) + 3, 14, 22);
}

inline int64_t Times3(int64_t x) { return Plus(Plus(x, x), x); }

/// What the method of bins predicts of value `i` (of those of one field, with
/// at least row + 4 zeros before them).
inline int64_t PredictFrom(const int64_t* v, ptrdiff_t row, uint8_t predictor) {
  switch (predictor) {
    case 1:
      return v[-1];
    case 2:
      return Minus(Plus(v[-1], v[-1]), v[-2]);
    case 3:
      return v[-row];
    case 4:
      return Plus(v[-1], Minus(v[-row], v[-row - 1]));
    case 5:
      return Plus(v[-1], Minus(v[-1], v[-2]) / 2);
    case 6:
      return Plus(v[-3], Times3(Minus(v[-1], v[-2])));
    case 7:
      return Minus(
          Plus(Plus(Times3(Minus(v[-1], v[-2])), Times3(Minus(v[-1], v[-2]))),
               Minus(Plus(Times3(v[-3]), v[-3]), Plus(v[-1], v[-1]))),
          v[-4]);
    default:
      return 0;
  }
}

}  // namespace zipllm::codecs::table

#endif  // ZIPLLM_CODECS_TABLE_TABLE_FORMAT_H_
