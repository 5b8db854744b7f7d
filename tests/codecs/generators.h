// Inputs for codec tests and fuzz seeds, made from seeds by integer arithmetic,
// so that they are the same everywhere.
#ifndef ZIPLLM_TESTS_CODECS_GENERATORS_H_
#define ZIPLLM_TESTS_CODECS_GENERATORS_H_

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "codecs/codec.h"

namespace zipllm::codecs {

/// SplitMix64 (Steele, Lea, Flood 2014).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t Next() {
    uint64_t z = state_ += 0x9E3779B97F4A7C15;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }
  /// 0 to `bound` - 1.
  size_t Below(size_t bound) { return static_cast<size_t>(Next() % bound); }

 private:
  uint64_t state_;
};

enum class Kind {
  kRandom,    ///< all bytes equally likely
  kText,      ///< words
  kGaussian,  ///< floats of the type, like weights; small numbers else
  kConstant,  ///< one element, over and over
  kRamp,      ///< integers counting up
  kSparse,    ///< one element in 50 is not zero
  kSpecial,   ///< NaN payloads, infinities, denormals, -0 and a few weights
  kLines,     ///< lines of a log; not among kKinds
};
inline constexpr std::array kKinds = {
    Kind::kRandom, Kind::kText,   Kind::kGaussian, Kind::kConstant,
    Kind::kRamp,   Kind::kSparse, Kind::kSpecial};
std::string_view KindName(Kind kind);

/// `elements` elements of `dtype` (for block types: as many blocks).
std::vector<uint8_t> MakeInput(Kind kind, DType dtype, size_t elements,
                               uint64_t seed = 1);

/// Bytes of one element or block of `dtype`.
size_t ElementBytes(DType dtype);

/// What lies beside an input.
enum class Beside {
  kNothing,
  kEqual,           ///< a base that is the input
  kBase,            ///< a base, from which 40 % of the elements went a few ulps
  kBaseOtherDType,  ///< the same, rounded to F32 (BF16 beside F32), or what was
                    ///< rounded to the input
  kTwoBases,        ///< two bases, of which the input is about the mean
  kMoments,         ///< a base and Adam's moments (F32), which made the step
  kSecondMoment,    ///< squares (F32) near the input's: it is a first moment
  kFactors,         ///< a base, A (2 x row) and B (rows x 2), both F32: the
                    ///< input is about base + B A
  kScales,   ///< a base and a scale for each row (both F32), of which the
             ///< input has the codes: of U8 two of 4 bits an element, of
             ///< I32 eight
  kWeights,  ///< the weights (F32) that most blocks of the input, of a packed
             ///< type, are made of; the input itself is not that of `data`
};
std::string_view BesideName(Beside beside);

/// An input with what lies beside it. Pointers within: it moves, but is not
/// copied.
struct Input {
  DType dtype;
  std::vector<uint8_t> data;
  uint64_t row = 0;
  std::vector<std::vector<uint8_t>> arrays;
  std::vector<Reference> references;  ///< to `arrays`

  Input() = default;
  Input(Input&&) = default;
  Input& operator=(Input&&) = default;

  /// The request to code all of it as one frame.
  EncodeRequest Request(size_t block_size, int level) const;
};

/// `data` of `dtype`, whose elements are single values (FindDType), with
/// references.
Input PutBeside(Beside beside, DType dtype, std::vector<uint8_t> data,
                uint64_t seed = 1);

/// Weights for each element of the request: more than one of codes that are
/// packed.
size_t WeightsAnElement(const EncodeRequest& request);

/// A request as a whole tensor; it outlives this.
class RequestTensor final : public TensorView {
 public:
  explicit RequestTensor(const EncodeRequest& request);
  absl::Status Read(int which, uint64_t begin,
                    MutableByteSpan out) const override;

 private:
  const EncodeRequest& request_;
};

/// What a codec is there for: an input that it must code at `level`.
struct Home {
  std::string_view codec;
  Kind kind;
  DType dtype;
  int level;
  Beside beside = Beside::kNothing;

  Input Make(size_t elements) const;
};
/// At least one row for every registered codec; the registry's tests and the
/// fuzzer's seeds are made from these.
inline constexpr std::array kHomes = {
    Home{"stored", Kind::kRandom, DType::kBytes, 3},
    Home{"fill", Kind::kConstant, DType::kF32, 3},
    Home{"fill", Kind::kConstant, DType::kBytes, 1},
    Home{"zstd", Kind::kText, DType::kBytes, 3},
    Home{"zstd", Kind::kSparse, DType::kI8, 1},
    Home{"lzma", Kind::kText, DType::kBytes, 7},
    Home{"lzma", Kind::kRamp, DType::kI32, 9},
    Home{"float", Kind::kGaussian, DType::kBF16, 3},
    Home{"float", Kind::kGaussian, DType::kF16, 3},
    Home{"float", Kind::kGaussian, DType::kF32, 3},
    Home{"classes", Kind::kGaussian, DType::kF8E4M3, 3},
    Home{"classes", Kind::kGaussian, DType::kI8, 2},
    Home{"classes", Kind::kSparse, DType::kU8, 3},
    Home{"classes", Kind::kGaussian, DType::kBF16, 6},
    Home{"classes", Kind::kGaussian, DType::kF16, 6},
    Home{"classes", Kind::kGaussian, DType::kF32, 6},
    Home{"planes", Kind::kRamp, DType::kI64, 3},
    Home{"planes", Kind::kGaussian, DType::kF64, 3},
    Home{"planes", Kind::kSparse, DType::kU16, 3},
    Home{"cascade", Kind::kGaussian, DType::kBF16, 1},
    Home{"cascade", Kind::kGaussian, DType::kF16, 1},
    Home{"cascade", Kind::kGaussian, DType::kF32, 1},
    Home{"quant", Kind::kGaussian, DType::kGgmlQ40, 3},
    Home{"quant", Kind::kGaussian, DType::kGgmlQ4K, 1},
    Home{"quant", Kind::kSparse, DType::kGgmlQ80, 3},
    Home{"quant", Kind::kGaussian, DType::kGgmlIQ2XXS, 3},
    Home{"swapped", Kind::kGaussian, DType::kBF16Be, 1},
    Home{"swapped", Kind::kGaussian, DType::kF32Be, 3},
    Home{"swapped", Kind::kRamp, DType::kF64Be, 3},
    Home{"mix", Kind::kGaussian, DType::kBF16, 9},
    Home{"mix", Kind::kSparse, DType::kI8, 9},
    Home{"palette", Kind::kGaussian, DType::kI32, 3},
    Home{"palette", Kind::kSparse, DType::kF16, 2},
    Home{"palette", Kind::kSparse, DType::kU64, 6},
    Home{"copy", Kind::kGaussian, DType::kBF16, 3, Beside::kEqual},
    Home{"copy", Kind::kRandom, DType::kBytes, 1, Beside::kEqual},
    Home{"delta", Kind::kGaussian, DType::kBF16, 3, Beside::kBase},
    Home{"delta", Kind::kGaussian, DType::kBF16, 3, Beside::kBaseOtherDType},
    Home{"delta", Kind::kGaussian, DType::kF32, 1, Beside::kBaseOtherDType},
    Home{"delta", Kind::kGaussian, DType::kF8E4M3, 6, Beside::kBase},
    Home{"delta", Kind::kGaussian, DType::kI8, 3, Beside::kBase},
    Home{"sum", Kind::kGaussian, DType::kBF16, 3, Beside::kTwoBases},
    Home{"sum", Kind::kGaussian, DType::kF16, 6, Beside::kTwoBases},
    Home{"sum", Kind::kGaussian, DType::kF32, 2, Beside::kFactors},
    Home{"moments", Kind::kGaussian, DType::kF32, 3, Beside::kMoments},
    Home{"moments", Kind::kGaussian, DType::kF32, 1, Beside::kSecondMoment},
    Home{"moments", Kind::kGaussian, DType::kBF16, 9, Beside::kMoments},
    Home{"mixdelta", Kind::kGaussian, DType::kBF16, 9, Beside::kBase},
    Home{"mixdelta", Kind::kGaussian, DType::kBF16, 9, Beside::kBaseOtherDType},
    Home{"scaled", Kind::kGaussian, DType::kF8E4M3, 3, Beside::kScales},
    Home{"scaled", Kind::kGaussian, DType::kI8, 1, Beside::kScales},
    Home{"scaled", Kind::kRandom, DType::kU8, 3, Beside::kScales},
    Home{"scaled", Kind::kRandom, DType::kI32, 6, Beside::kScales},
    Home{"bwt", Kind::kText, DType::kBytes, 3},
    Home{"bwt", Kind::kSparse, DType::kBytes, 5},
    Home{"text_cm", Kind::kText, DType::kBytes, 6},
    Home{"text_cm", Kind::kSparse, DType::kBytes, 8},
    Home{"text_lm", Kind::kText, DType::kBytes, 9},
    Home{"log", Kind::kLines, DType::kBytes, 3},
    Home{"log", Kind::kLines, DType::kBytes, 6},
    Home{"table", Kind::kRamp, DType::kI32, 3},
    Home{"table", Kind::kRamp, DType::kU16, 6},
    Home{"table", Kind::kRamp, DType::kF64, 9},
    Home{"derived", Kind::kGaussian, DType::kGgmlQ40, 3, Beside::kWeights},
    Home{"derived", Kind::kGaussian, DType::kGgmlIQ4NL, 1, Beside::kWeights},
    Home{"derived", Kind::kGaussian, DType::kGgmlMXFP4, 3, Beside::kWeights},
};

}  // namespace zipllm::codecs

#endif  // ZIPLLM_TESTS_CODECS_GENERATORS_H_
