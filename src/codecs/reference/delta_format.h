// What encoder and decoder of codec 15 share: elements' kinds, and the contexts
// of elements. Format: format-spec/codecs/15-delta.md.
#ifndef ZIPLLM_CODECS_REFERENCE_DELTA_FORMAT_H_
#define ZIPLLM_CODECS_REFERENCE_DELTA_FORMAT_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/buffer.h"
#include "codecs/reference/casts.h"
#include "codecs/reference/residuals.h"
#include "kernels/kernels.h"

namespace zipllm::codecs::delta {

/// What elements of a type are coded as.
struct Kind {
  DType dtype;  ///< of references
  residuals::Number number = residuals::Number::kInteger;
  uint8_t size = 0;            ///< bytes; 0: the codec is not for the type
  uint8_t exponent_shift = 0;  ///< where a float's exponent lies
  uint16_t exponent_mask = 0;  ///< 0: no exponent
};

inline Kind KindOf(DType dtype) {
  if (const FloatFormat* const format = FindFloatFormat(dtype)) {
    return {dtype, residuals::Number::kFloat, format->bytes,
            format->mantissa_bits,
            static_cast<uint16_t>((1 << format->exponent_bits) - 1)};
  }
  switch (dtype) {
    case DType::kF8E4M3FNUZ:
      return {dtype, residuals::Number::kFloat, 1, 3, 15};
    case DType::kF8E5M2FNUZ:
      return {dtype, residuals::Number::kFloat, 1, 2, 31};
    case DType::kI8:
    case DType::kU8:
    case DType::kBool:
    case DType::kF8E8M0:
      return {dtype, residuals::Number::kInteger, 1};
    case DType::kI16:
    case DType::kU16:
      return {dtype, residuals::Number::kInteger, 2};
    case DType::kI32:
    case DType::kU32:
      return {dtype, residuals::Number::kInteger, 4};
    case DType::kI64:
    case DType::kU64:
      return {dtype, residuals::Number::kInteger, 8};
    default:
      return {dtype};
  }
}

enum Flags : uint8_t { kByRows = 1, kByColumns = 2, kByRests = 4 };
inline constexpr uint8_t kAllFlags = kByRows | kByColumns | kByRests;

/// Scales of rows and columns, in quarter octaves: -kMaxOffset to kMaxOffset.
inline constexpr int kMaxOffset = 63;
/// The frame's scale: up to this, or less that.
inline constexpr int kMaxScale = 16383;
/// Steps, in quarter octaves: 0 to kSteps - 1.
inline constexpr int kSteps = 64;
/// Classes of rests.
inline constexpr size_t kRests = 8;
/// Without rests a context is a step; with them, a step of half octaves and the
/// class of the rest.
inline constexpr size_t kRestColumns = kSteps / 2;
/// Rows with columns of their own are at most as long.
inline constexpr uint64_t kMaxColumns = uint64_t{1} << 15;
inline constexpr uint64_t kMaxRow = uint64_t{1} << 40;

/// Elements at a time.
inline constexpr size_t kPiece = 4096;

inline size_t ContextsOf(uint8_t flags) {
  return flags & kByRests ? kRests * kRestColumns : size_t{kSteps};
}

/// Where contexts come from: how large a typical step is beside a unit of the
/// last place of the base.
struct Scales {
  Kind kind;
  uint8_t flags = 0;
  int scale = 0;
  uint64_t row = kMaxRow;        ///< elements
  std::vector<int16_t> columns;  ///< offsets, by column; zeros unless
                                 ///< kByColumns, empty for long rows
};

/// Which of the kRests classes a rest (as of Cast) is of: its sign, and how far
/// it is from where rounding changes.
inline uint8_t RestClass(int32_t rest) {
  const int32_t left = 32768 - (rest < 0 ? -rest : rest);
  return static_cast<uint8_t>((rest < 0 ? 4 : 0) + (left < 512) +
                              (left < 2048) + (left < 8192));
}

/// Walks a block's elements in order. Thread-compatible.
class ContextCursor {
 public:
  /// The first element is in column `phase`; `rows` are the offsets of its row
  /// and those that follow (unused unless kByRows).
  ContextCursor(const Scales& scales, uint64_t phase, const int8_t* rows)
      : scales_(scales), column_(phase), rows_(rows) {}

  /// The contexts of the next `count` (at most kPiece) elements. `rests` only
  /// with kByRests.
  void Next(const uint8_t* predictions, const int32_t* rests, size_t count,
            uint8_t* contexts) {
    const kernels::Table& kernel = kernels::Best();
    const Kind& kind = scales_.kind;
    for (size_t done = 0; done < count;) {
      const auto run = static_cast<size_t>(
          std::min<uint64_t>(count - done, scales_.row - column_));
      const int row = scales_.flags & kByRows ? *rows_ : 0;
      kernel.delta_steps(
          predictions + done * kind.size, kind.size, kind.exponent_shift,
          kind.exponent_mask, scales_.scale + row,
          scales_.flags & kByColumns ? scales_.columns.data() + column_
                                     : nullptr,
          run, contexts + done);
      done += run;
      column_ += run;
      if (column_ < scales_.row) continue;
      column_ = 0;
      if (scales_.flags & kByRows) ++rows_;
    }
    if ((scales_.flags & kByRests) == 0) return;
    for (size_t i = 0; i < count; ++i) {
      contexts[i] = static_cast<uint8_t>(contexts[i] / 2 +
                                         kRestColumns * RestClass(rests[i]));
    }
  }

 private:
  const Scales& scales_;
  uint64_t column_;
  const int8_t* rows_;
};

}  // namespace zipllm::codecs::delta

#endif  // ZIPLLM_CODECS_REFERENCE_DELTA_FORMAT_H_
