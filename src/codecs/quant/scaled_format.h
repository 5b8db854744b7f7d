// Codec 20, scaled: what encoder and decoder share. Codes of weights are
// predicted from the weights and their scales.
// Format: format-spec/codecs/20-scaled.md.
#ifndef ZIPLLM_CODECS_QUANT_SCALED_FORMAT_H_
#define ZIPLLM_CODECS_QUANT_SCALED_FORMAT_H_

#include <optional>
#include <span>

#include "base/bytes.h"
#include "codecs/codec.h"
#include "codecs/reference/residuals.h"
#include "kernels/kernels.h"

namespace zipllm::codecs::scaled {

/// What codes are. In this codec each is a byte: of floats the sign is the top
/// bit, the magnitude at the bottom; integers are modulo 256.
enum class CodeType : uint8_t {
  kE4M3 = 0,
  kE5M2 = 1,
  kE4M3Fnuz = 2,
  kE5M2Fnuz = 3,
  kE2M1 = 4,
  kInteger = 5,
};
inline constexpr size_t kCodeTypes = 6;

enum class ScaleUse : uint8_t {
  kDivide = 0,      ///< weight / scale
  kReciprocal = 1,  ///< weight * (1 / scale)
  kMultiply = 2,    ///< weight * scale
};
enum class GlobalUse : uint8_t {
  kMultiplies = 0,  ///< scale * global scale
  kDivides = 1,     ///< scale / global scale
};

/// No such reference.
inline constexpr uint8_t kNone = 255;

/// How codes come from weights.
struct Recipe {
  uint8_t base = 0;  ///< numbers of references; all but `base` may be kNone
  uint8_t scale = kNone;
  uint8_t global = kNone;
  uint8_t zero = kNone;

  CodeType type = CodeType::kInteger;
  uint8_t bits = 8;  ///< of a code as it is stored: 2, 4, 8; floats: 4 or 8
  /// Of eight codes, of 4 bits each, the k-th stored is that of weight
  /// 0 2 4 6 1 3 5 7.
  bool alternating = false;

  ScaleUse use = ScaleUse::kDivide;
  GlobalUse global_use = GlobalUse::kMultiplies;
  kernels::FloatType steps = kernels::FloatType::kF32;
  float factor = 1;  ///< of scales; alone where there are none

  /// The scale of weight (i, j) is number i / scale_rows * scales_a_row + j /
  /// scale_columns.
  uint64_t scale_rows = 1;
  uint64_t scale_columns = 1;
  uint64_t scales_a_row = 1;
  uint64_t global_rows = 1;  ///< the global scale of row i: i / global_rows

  // Integers.
  bool zero_first = false;
  int32_t low = 0;
  int32_t high = 255;
  int32_t offset = 0;     ///< added to zero points
  int32_t shift = 0;      ///< added to codes that are within low and high
  uint8_t zero_bits = 0;  ///< of a zero point; 0: one an element
  bool zero_down = false;

  bool is_float() const { return type != CodeType::kInteger; }
};

inline constexpr uint64_t kMaxCount = uint64_t{1} << 48;
inline constexpr int32_t kMaxCode = 256;
inline constexpr int32_t kMaxOffset = 65535;

void WriteRecipe(const Recipe& recipe, Buffer* out);
absl::StatusOr<Recipe> ParseRecipe(ByteReader& reader);

/// Weights at a time: a multiple of what fits any unit.
inline constexpr size_t kPiece = 4096;

/// Contexts of codes: how far a weight is from where rounding turns, by sign.
inline constexpr size_t kContexts = kernels::kRestContexts;
inline constexpr size_t kContextColumns = kContexts / 2;

inline const residuals::Alphabet& CodeAlphabet(const Recipe& recipe) {
  return residuals::AlphabetOf(1, recipe.is_float()
                                      ? residuals::Number::kFloat
                                      : residuals::Number::kInteger);
}

/// How a block is coded.
enum class Form : uint8_t {
  kEqual = 0,      ///< all codes are as predicted
  kResiduals = 1,  ///< residuals of codes
  kFew = 2,        ///< places and codes of those that are not
};

/// Bytes that `count` codes take.
constexpr size_t StoredBytes(size_t count, unsigned bits) {
  return count * bits / 8;
}
/// Weights of the least that is stored as a whole.
inline size_t UnitOf(const Recipe& recipe) {
  return recipe.alternating ? 8 : 8 / recipe.bits;
}
/// Takes codes from, and puts them, where they are stored. `count` is a
/// multiple of UnitOf.
void UnpackCodes(const Recipe& recipe, const uint8_t* stored, size_t count,
                 uint8_t* codes);
void PackCodes(const Recipe& recipe, const uint8_t* codes, size_t count,
               uint8_t* stored);

/// Predicts the codes of a block's weights. Views the recipe and references.
/// Thread-compatible.
class Predictor {
 public:
  /// For `count` weights from number `position` on, of rows of `row` (0: one
  /// row). DATA_LOSS where references are not as they have to be.
  static absl::StatusOr<Predictor> Make(const Recipe& recipe,
                                        std::span<const Reference> references,
                                        uint64_t row, uint64_t position,
                                        size_t count);

  /// The codes of weights `begin` to `begin + count` of the block, count at
  /// most kPiece. `contexts` may be null.
  void Predict(size_t begin, size_t count, uint8_t* codes,
               uint8_t* contexts) const;

 private:
  Predictor(const Recipe& recipe, std::span<const Reference> references);

  const Reference* At(uint8_t number) const {
    return number == kNone ? nullptr : &references_[number];
  }
  /// Fills in what the weights of a part of row `line` are divided by or
  /// multiplied with, and their zero points.
  void Scales(uint64_t line, uint64_t column, size_t count, float* by) const;
  void Zeros(uint64_t line, uint64_t column, size_t count, float* zeros) const;
  float ZeroAt(uint64_t scale_line, uint64_t scale_column) const;

  const Recipe* recipe_;
  std::span<const Reference> references_;
  uint64_t row_ = 0;
  uint64_t position_ = 0;
  kernels::CodeRule rule_;
};

}  // namespace zipllm::codecs::scaled

#endif  // ZIPLLM_CODECS_QUANT_SCALED_FORMAT_H_
