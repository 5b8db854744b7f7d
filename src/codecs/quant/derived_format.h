// What encoder and decoder of codec 19 share: how blocks are predicted from
// weights, and how what remains is coded. Format:
// format-spec/codecs/19-derived.md.
#ifndef ZIPLLM_CODECS_QUANT_DERIVED_FORMAT_H_
#define ZIPLLM_CODECS_QUANT_DERIVED_FORMAT_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "base/buffer.h"
#include "base/bytes.h"
#include "codecs/codec.h"
#include "codecs/quant/ggml_blocks.h"
#include "quantizers/formula.h"
#include "quantizers/quantizer.h"

namespace zipllm::codecs::derived {

/// Blocks of d * s * code (- dmin * m), and how formulas find these.
struct Form {
  DType dtype;
  quantizers::CodeShape shape;
  /// The largest scale of a block over d; 0: there are no scales but d.
  int16_t divisor = 0;
  int16_t least_scale = 0;
  int16_t most_scale = 0;
  /// Codes are made with the scale as it was before it became FP16.
  bool from_exact_scale = false;
};
/// Null where the type's blocks are of another kind.
const Form* FindForm(DType dtype);

/// What a frame's parameters say.
struct Recipe {
  DType dtype = DType::kBytes;
  uint8_t quantizer = 0;        ///< 0: the formula
  bool has_importance = false;  ///< the formula, or the quantizer, is given it
  quantizers::Candidates candidates;
  /// Coefficients of FormulaKernels::codes: 0, or 2^(v - kDoubtOne).
  std::array<uint8_t, 3> doubt{};

  bool doubts() const { return (doubt[0] | doubt[1] | doubt[2]) != 0; }
};
inline constexpr int kDoubtOne = 32;
inline constexpr int kMaxDoubt = 48;
inline constexpr size_t kRecipeBytes = 10;
inline constexpr int kMaxCandidates = 64;

/// Weights of a piece, of which blocks are coded together: all scales, then all
/// codes. A quantizer that needs rows takes as many whole rows, at least one.
inline constexpr size_t kPiece = 8192;
/// The most weights of a row that a quantizer is given as a whole.
inline constexpr uint64_t kMaxRow = uint64_t{1} << 20;

/// Appends kRecipeBytes.
void WriteRecipe(const Recipe& recipe, Buffer* out);
/// DATA_LOSS where it is none.
absl::Status ReadRecipe(ByteReader& reader, Recipe* recipe);

/// FP16 and back; NaNs become 0x7e00.
uint16_t ToHalf(float value);
float FromHalf(uint16_t half);

/// `count` elements, whole blocks of a packed type, as floats. False, writing
/// nothing, where the type has no numbers.
bool ToFloats(DType dtype, const uint8_t* from, size_t count, float* out);

/// What a block was made of, and what lies beside it.
class Source {
 public:
  /// `count` weights of a block of the recipe's type, `weights_in_block` a
  /// ggml block. DATA_LOSS where references do not fit the recipe. Keeps views
  /// of `context`'s data.
  static absl::StatusOr<Source> Open(const Recipe& recipe,
                                     const BlockContext& context,
                                     uint64_t count);

  /// Weights of a piece; the last may be shorter.
  size_t piece() const { return piece_; }
  bool packed() const { return packed_; }
  bool has_importance() const { return !importance_.empty(); }

  /// Weights [first, first + count) as floats.
  void Weights(uint64_t first, size_t count, float* out) const;
  /// How far apart a packed base's numbers are there.
  void Steps(uint64_t first, size_t count, float* out) const;
  /// The importance of each of them; only if there is one.
  void Importance(uint64_t first, size_t count, float* out) const;
  /// What the quantizer makes of them. `weights` are those of Weights().
  void Quantize(const quantizers::Quantizer& quantizer, const float* weights,
                uint64_t first, size_t count, uint8_t* out) const;

 private:
  DType dtype_ = DType::kBytes;  // of the base
  bool packed_ = false;
  ByteSpan base_;
  ByteSpan importance_;  // floats, one a column
  std::vector<float> columns_;
  uint64_t row_ = 0;
  uint64_t position_ = 0;
  size_t piece_ = kPiece;
};

/// The arrays of a piece, in one buffer.
struct Workspace {
  Workspace(size_t weights, const DTypeInfo& type, const Form* form,
            Buffer* buffer);

  // By weight.
  float* weights;
  float* steps;
  float* importance;
  uint8_t* codes;     // what is coded: code - low
  uint8_t* expected;  // the code that the scales suggest, likewise
  uint8_t* bins;
  // By group.
  float* fitted_scales;
  float* fitted_offsets;
  float* spread;
  float* scales;
  float* offsets;
  uint8_t* s;  // fields of the blocks
  uint8_t* m;
  // By block.
  float* d;  // predictions, before they become FP16
  float* dmin;
  uint8_t* predicted;  // blocks
  uint8_t* equal;      // 1: the block is what was predicted
  uint16_t* half_d;    // as decoded
  uint16_t* half_dmin;
};

/// Fits scales and offsets of a piece to the recipe; `work` has the weights and
/// all else that lies beside them, and with a quantizer the predicted blocks.
void Predict(const Recipe& recipe, const Form& form, size_t count,
             Workspace& work);

/// 2^(v - kDoubtOne), or 0.
float DoubtOf(uint8_t v);

/// Fields of whole blocks: bytes of s, m and codes (code - low).
void SplitBlocks(const Form& form, const uint8_t* blocks, size_t count,
                 uint8_t* s, uint8_t* m, uint8_t* codes);
/// The other way: all bytes are written, d and dmin as 0. Changes `codes`.
void MergeBlocks(const Form& form, const uint8_t* s, const uint8_t* m,
                 uint8_t* codes, size_t count, uint8_t* blocks);

/// Places of d and dmin in a block's bytes.
size_t PlaceOfD(const quant::BlockType& type);
size_t PlaceOfDmin(const quant::BlockType& type);

/// A field of scales as a number, and back.
inline int ScaleOfField(const Form& form, uint8_t field) {
  if (form.least_scale >= 0) return field;
  return form.most_scale == 127 ? static_cast<int8_t>(field)
                                : field + form.least_scale;
}
inline uint8_t FieldOfScale(const Form& form, int scale) {
  if (form.least_scale >= 0) return static_cast<uint8_t>(scale);
  return static_cast<uint8_t>(
      form.most_scale == 127 ? scale : scale - form.least_scale);
}

}  // namespace zipllm::codecs::derived

#endif  // ZIPLLM_CODECS_QUANT_DERIVED_FORMAT_H_
