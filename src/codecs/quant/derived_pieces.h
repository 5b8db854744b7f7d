// Codec 19's blocks, coded piece by piece: which are as predicted; then scales
// by how far they are from those that fit the weights; then codes by those that
// follow from weights and scales. Format: format-spec/codecs/19-derived.md.
#ifndef ZIPLLM_CODECS_QUANT_DERIVED_PIECES_H_
#define ZIPLLM_CODECS_QUANT_DERIVED_PIECES_H_

#include <array>
#include <cmath>
#include <cstdlib>
#include <optional>

#include "codecs/quant/derived_format.h"
#include "codecs/quant/derived_grids.h"
#include "codecs/quant/derived_models.h"

namespace zipllm::codecs::derived {

/// Codes the blocks of one block of the container, one piece after the other.
/// Coder: as of BitModels. Keeps views of all but the recipe.
template <class Coder>
class PieceCoder {
 public:
  PieceCoder(const Recipe& recipe, const Source& source, Coder* coder,
             Buffer* buffer)
      : recipe_(recipe),
        source_(&source),
        type_(*FindDType(recipe.dtype)),
        form_(FindForm(recipe.dtype)),
        quantizer_(recipe.quantizer == 0
                       ? nullptr
                       : quantizers::FindQuantizer(recipe.quantizer)),
        doubt_{DoubtOf(recipe.doubt[0]), DoubtOf(recipe.doubt[1]),
               DoubtOf(recipe.doubt[2])},
        work_(source.piece(), type_, form_, buffer),
        coder_(coder),
        models_(coder) {
    if (const auto* grid = quantizers::FindGridType(recipe.dtype)) {
      grid_.emplace(*grid, coder);
    }
    if (form_ != nullptr) {
      block_type_ = quant::FindBlockType(recipe.dtype);
      place_of_d_ = PlaceOfD(*block_type_);
      if (form_->shape.ranged) place_of_dmin_ = PlaceOfDmin(*block_type_);
    }
  }

  /// Goes on with another one, whose pieces are as long.
  void GoOn(const Source& source) { source_ = &source; }

  /// The weights from `first` on, `count` of them: those of a piece. Their ggml
  /// blocks are read by encoders, written by decoders.
  void Code(uint64_t first, size_t count, uint8_t* blocks) {
    const size_t block_count = count / type_.block_elements;
    source_->Weights(first, count, work_.weights);
    if (recipe_.has_importance && quantizer_ == nullptr) {
      source_->Importance(first, count, work_.importance);
    }
    bool all_equal = false;
    if (quantizer_ != nullptr) {
      source_->Quantize(*quantizer_, work_.weights, first, count,
                        work_.predicted);
      all_equal = CodeEqual(block_count, blocks);
    } else {
      std::memset(work_.equal, 0, block_count);
    }
    if (all_equal) {
      if constexpr (kDecodes<Coder>) {
        std::memcpy(blocks, work_.predicted, block_count * type_.block_bytes);
      }
    } else if (form_ != nullptr) {
      CodeForm(first, count, blocks);
    } else {
      CodeOther(first, block_count, blocks);
    }
  }

 private:
  /// Where a number lies beside the nearest integer.
  struct Guess {
    int value;
    int bin;  // of the distance: 0 to 3
    bool up;  // it lies above
  };
  struct HalfModels {
    entropy::AdaptiveBit differs;
    SignedModel difference;
  };
  struct ScaleModels {
    std::array<entropy::AdaptiveBit, 64> differs;
    std::array<entropy::AdaptiveBit, 4> away;
    std::array<NumberModel, 3> more;
  };
  struct CodeModels {
    std::array<entropy::AdaptiveBit, quantizers::kSure + 1> differs;
    std::array<entropy::AdaptiveBit, quantizers::kSure + 1> away;
    NumberModel more;
  };

  size_t per_block() const { return type_.block_elements / form_->shape.group; }

  /// Whether each block is what was predicted; true if all are.
  bool CodeEqual(size_t block_count, const uint8_t* blocks) {
    bool all = true;
    for (size_t b = 0; b < block_count; ++b) {
      const size_t at = b * type_.block_bytes;
      const bool equal =
          !kDecodes<Coder> && std::memcmp(blocks + at, work_.predicted + at,
                                          type_.block_bytes) == 0;
      work_.equal[b] = models_.Bit(equal_[last_equal_], equal) ? 1 : 0;
      last_equal_ = (last_equal_ << 1 | work_.equal[b]) & 3;
      all = all && work_.equal[b] != 0;
    }
    return all;
  }

  void CodeOther(uint64_t first, size_t block_count, uint8_t* blocks) {
    if (grid_ && recipe_.has_importance) {
      source_->Importance(first, block_count * type_.block_elements,
                          work_.importance);
    }
    for (size_t b = 0; b < block_count; ++b) {
      uint8_t* const block = blocks + b * type_.block_bytes;
      const uint8_t* const predicted =
          quantizer_ == nullptr ? nullptr
                                : work_.predicted + b * type_.block_bytes;
      if (work_.equal[b] != 0) {
        if constexpr (kDecodes<Coder>) {
          std::memcpy(block, predicted, type_.block_bytes);
        }
      } else if (grid_) {
        const size_t weight = b * type_.block_elements;
        grid_->Code(
            work_.weights + weight,
            recipe_.has_importance ? work_.importance + weight : nullptr,
            predicted, block);
      } else {
        CodeBytes(predicted, block);
      }
    }
  }

  void CodeBytes(const uint8_t* predicted, uint8_t* block) {
    for (size_t i = 0; i < type_.block_bytes; ++i) {
      const uint8_t expected = predicted == nullptr ? uint8_t{0} : predicted[i];
      const uint8_t byte = kDecodes<Coder> ? uint8_t{0} : block[i];
      const bool differs = models_.Bit(byte_differs_, byte != expected);
      const uint32_t coded = differs ? models_.Raw(byte, 8) : expected;
      if constexpr (kDecodes<Coder>) block[i] = static_cast<uint8_t>(coded);
    }
  }

  void CodeForm(uint64_t first, size_t count, uint8_t* blocks) {
    const size_t block_count = count / type_.block_elements;
    Predict(recipe_, *form_, count, work_);
    if constexpr (!kDecodes<Coder>) {
      SplitBlocks(*form_, blocks, block_count, work_.s, work_.m, work_.codes);
    }
    for (size_t b = 0; b < block_count; ++b) {
      uint8_t* const block = blocks + b * type_.block_bytes;
      if (work_.equal[b] == 0) {
        CodeScales(b, block);
      } else {
        std::fill_n(work_.scales + b * per_block(), per_block(), 0.0f);
        std::fill_n(work_.offsets + b * per_block(), per_block(), 0.0f);
      }
    }
    const bool doubts = recipe_.doubts();
    if (recipe_.doubt[2] != 0) source_->Steps(first, count, work_.steps);
    quantizers::BestFormula().codes(form_->shape, work_.weights, work_.steps,
                                    doubt_.data(), count / form_->shape.group,
                                    work_.scales, work_.offsets, work_.expected,
                                    doubts ? work_.bins : nullptr);
    if (!doubts) std::memset(work_.bins, quantizers::kSure, count);
    for (size_t b = 0; b < block_count; ++b) {
      if (work_.equal[b] == 0) CodeCodes(b);
    }
    if constexpr (kDecodes<Coder>) Finish(block_count, blocks);
  }

  /// Writes the decoded blocks.
  void Finish(size_t block_count, uint8_t* blocks) {
    MergeBlocks(*form_, work_.s, work_.m, work_.expected, block_count, blocks);
    for (size_t b = 0; b < block_count; ++b) {
      uint8_t* const block = blocks + b * type_.block_bytes;
      if (work_.equal[b] != 0) {
        std::memcpy(block, work_.predicted + b * type_.block_bytes,
                    type_.block_bytes);
        continue;
      }
      StoreLe(block + place_of_d_, work_.half_d[b]);
      if (form_->shape.ranged) {
        StoreLe(block + place_of_dmin_, work_.half_dmin[b]);
      }
    }
  }

  static Guess GuessOf(float value, int least, int most) {
    // NaNs are the least.
    const auto low = static_cast<float>(least);
    const auto high = static_cast<float>(most);
    float near = value > low ? value : low;
    near = near < high ? near : high;
    const float whole = (near + 12582912.0f) - 12582912.0f;
    const float past = near - whole;
    const auto eighths = static_cast<int>(std::fabs(past) * 8);
    return {static_cast<int>(whole), std::min(eighths, 3), past >= 0};
  }

  /// A scale of a group; returns it, and how far it is from the guess.
  ZIPLLM_INLINE static int CodeScale(BitModels<Coder>& bits,
                                     ScaleModels& models, size_t context,
                                     const Guess& guess, int least, int most,
                                     int value, int* error) {
    *error = 0;
    if (!bits.Bit(models.differs[context * 4 + static_cast<size_t>(guess.bin)],
                  value != guess.value)) {
      return guess.value;
    }
    const bool above = value > guess.value;
    const bool away = bits.Bit(models.away[static_cast<size_t>(guess.bin)],
                               above != guess.up);
    const auto more = static_cast<int>(
        bits.Number(models.more[std::min<size_t>(context / 4, 2)],
                    static_cast<uint32_t>(std::abs(value - guess.value) - 1)));
    *error = away == guess.up ? -1 - more : 1 + more;
    return std::clamp(guess.value + *error, least, most);
  }

  /// An FP16; `*miss` is 0 where it is as predicted, 1 if it is near, else 2.
  uint16_t CodeHalf(HalfModels& models, uint16_t predicted, uint16_t half,
                    int* miss) {
    // In the order of the numbers.
    const auto ordered = [](uint16_t bits) {
      return static_cast<uint16_t>(bits & 0x8000 ? ~bits : bits | 0x8000);
    };
    *miss = 0;
    if (!models_.Bit(models.differs, half != predicted)) return predicted;
    const auto wanted =
        static_cast<int16_t>(ordered(half) - ordered(predicted));
    const int32_t difference = models_.SignedNumber(models.difference, wanted);
    *miss = std::abs(difference) <= 2 ? 1 : 2;
    const auto sum = static_cast<uint16_t>(ordered(predicted) + difference);
    return static_cast<uint16_t>(sum & 0x8000 ? sum ^ 0x8000 : ~sum);
  }

  void CodeScales(size_t b, const uint8_t* block) {
    const bool ranged = form_->shape.ranged;
    const uint16_t predicted_d = ToHalf(work_.d[b]);
    const uint16_t predicted_dmin =
        ranged ? ToHalf(work_.dmin[b]) : uint16_t{0};
    uint16_t d = 0;
    uint16_t dmin = 0;
    if constexpr (!kDecodes<Coder>) {
      d = LoadLe<uint16_t>(block + place_of_d_);
      if (ranged) dmin = LoadLe<uint16_t>(block + place_of_dmin_);
    }
    const size_t begin = b * per_block();
    const size_t end = begin + per_block();
    if (form_->divisor == 0) {
      int miss;
      d = CodeHalf(halves_[0], predicted_d, d, &miss);
      if (ranged) {
        dmin = CodeHalf(halves_[1 + (miss != 0)], predicted_dmin, dmin, &miss);
      }
      work_.scales[begin] = Exact(work_.d[b], predicted_d, d);
      work_.offsets[begin] =
          ranged ? -Exact(work_.dmin[b], predicted_dmin, dmin) : 0;
    } else {
      // All at once where they are as predicted.
      bool hit = !kDecodes<Coder> && d == predicted_d && dmin == predicted_dmin;
      Guess scales[16];
      Guess mins[16];
      if (hit || kDecodes<Coder>) {
        GuessScales(begin, end, Exact(work_.d[b], predicted_d, predicted_d),
                    FromHalf(predicted_dmin), scales, mins);
        if constexpr (!kDecodes<Coder>) {
          for (size_t g = begin; g < end; ++g) {
            hit = hit &&
                  scales[g - begin].value == ScaleOfField(*form_, work_.s[g]) &&
                  (!ranged || mins[g - begin].value == work_.m[g]);
          }
        }
      }
      hit = models_.Bit(hit_[last_hit_ ? 1 : 0], hit);
      last_hit_ = hit;
      if (hit) {
        d = predicted_d;
        dmin = predicted_dmin;
        for (size_t g = begin; g < end; ++g) {
          work_.s[g] = FieldOfScale(*form_, scales[g - begin].value);
          if (ranged) {
            work_.m[g] = static_cast<uint8_t>(mins[g - begin].value);
          }
        }
      } else {
        int miss;
        int miss_of_min = 0;
        d = CodeHalf(halves_[0], predicted_d, d, &miss);
        if (ranged) {
          dmin = CodeHalf(halves_[1 + (miss != 0)], predicted_dmin, dmin,
                          &miss_of_min);
        }
        GuessScales(begin, end, Exact(work_.d[b], predicted_d, d),
                    FromHalf(dmin), scales, mins);
        CodeGroups(begin, end, miss, miss_of_min, scales, mins);
      }
      const float exact = Exact(work_.d[b], predicted_d, d);
      const float least = FromHalf(dmin);
      for (size_t g = begin; g < end; ++g) {
        const float scale =
            exact * static_cast<float>(ScaleOfField(*form_, work_.s[g]));
        // A quantizer leaves codes as they were where the scale became 0.
        work_.scales[g] = scale == 0 ? work_.fitted_scales[g] : scale;
        work_.offsets[g] = scale == 0 ? work_.fitted_offsets[g]
                           : ranged   ? least * static_cast<float>(work_.m[g])
                                      : 0;
      }
    }
    if constexpr (kDecodes<Coder>) {
      work_.half_d[b] = d;
      work_.half_dmin[b] = dmin;
    }
  }

  /// What codes were made with.
  float Exact(float fitted, uint16_t predicted, uint16_t half) const {
    return form_->from_exact_scale && half == predicted ? fitted
                                                        : FromHalf(half);
  }

  void GuessScales(size_t begin, size_t end, float d, float dmin, Guess* scales,
                   Guess* mins) const {
    float ratios[16];
    Divide(work_.fitted_scales + begin, end - begin, d, ratios);
    for (size_t g = 0; g < end - begin; ++g) {
      scales[g] = GuessOf(ratios[g], form_->least_scale, form_->most_scale);
    }
    if (!form_->shape.ranged) return;
    Divide(work_.fitted_offsets + begin, end - begin, dmin, ratios);
    for (size_t g = 0; g < end - begin; ++g) {
      mins[g] = GuessOf(ratios[g], 0, form_->most_scale);
    }
  }
  /// 0 where the divisor is.
  static void Divide(const float* from, size_t count, float by, float* to) {
    if (by == 0) {
      std::fill_n(to, count, 0.0f);
      return;
    }
    for (size_t i = 0; i < count; ++i) to[i] = from[i] / by;
  }

  void CodeGroups(size_t begin, size_t end, int miss, int miss_of_min,
                  const Guess* scales, const Guess* mins) {
    Coder local = *coder_;
    BitModels<Coder> bits(&local);
    size_t before = 0;  // whether the scale before was as guessed
    for (size_t g = begin; g < end; ++g) {
      const Guess& guess = scales[g - begin];
      const bool extreme = std::abs(guess.value) >= form_->most_scale;
      int error;
      const int scale = CodeScale(
          bits, scales_[0],
          static_cast<size_t>(miss) * 4 + (extreme ? 2 : 0) + before, guess,
          form_->least_scale, form_->most_scale,
          kDecodes<Coder> ? 0 : ScaleOfField(*form_, work_.s[g]), &error);
      before = error != 0 ? 1 : 0;
      if constexpr (kDecodes<Coder>) {
        work_.s[g] = FieldOfScale(*form_, scale);
      }
      if (!form_->shape.ranged) continue;
      const Guess& min_guess = mins[g - begin];
      // Mins move with scales.
      const size_t relation = error == 0                    ? 0
                              : (error > 0) == min_guess.up ? 1
                              : std::abs(error) > 1         ? 2
                                                            : 3;
      int min_error;
      const int min = CodeScale(
          bits, scales_[1], static_cast<size_t>(miss_of_min) * 4 + relation,
          min_guess, 0, form_->most_scale, work_.m[g], &min_error);
      if constexpr (kDecodes<Coder>) work_.m[g] = static_cast<uint8_t>(min);
    }
    *coder_ = local;
  }

  void CodeCodes(size_t b) {
    const size_t begin = b * type_.block_elements;
    const size_t end = begin + type_.block_elements;
    uint8_t* const expected = work_.expected;
    const uint8_t* const bins = work_.bins;
    bool exceptions = false;
    if constexpr (!kDecodes<Coder>) {
      for (size_t i = begin; i < end; ++i) {
        exceptions |=
            bins[i] == quantizers::kSure && expected[i] != work_.codes[i];
      }
    }
    Coder local = *coder_;
    BitModels<Coder> bits(&local);
    exceptions = bits.Bit(exceptions_, exceptions);
    const int most = form_->shape.high - form_->shape.low;
    constexpr uint64_t kAllSure = 0x0101010101010101 * quantizers::kSure;
    for (size_t i = begin; i < end; ++i) {
      if (!exceptions) {
        if (i % 8 == 0) {
          while (i < end && LoadLe<uint64_t>(bins + i) == kAllSure) i += 8;
          if (i == end) break;
        }
        if (bins[i] == quantizers::kSure) continue;
      }
      const size_t bin = bins[i] & 31;
      const bool up = bins[i] >= quantizers::kUp;
      const int code = kDecodes<Coder> ? 0 : work_.codes[i];
      const int guess = expected[i];
      if (!bits.Bit(codes_.differs[bin], code != guess)) continue;
      const bool away = bits.Bit(codes_.away[bin], (code > guess) != up);
      const auto more = static_cast<int>(bits.Number(
          codes_.more, static_cast<uint32_t>(std::abs(code - guess) - 1)));
      if constexpr (kDecodes<Coder>) {
        const int error = away == up ? -1 - more : 1 + more;
        expected[i] = static_cast<uint8_t>(std::clamp(guess + error, 0, most));
      }
    }
    *coder_ = local;
  }

  const Recipe recipe_;
  const Source* source_;
  const DTypeInfo& type_;
  const Form* form_;                        // null: another kind of blocks
  const quantizers::Quantizer* quantizer_;  // null: the formula
  const quant::BlockType* block_type_ = nullptr;
  size_t place_of_d_ = 0;
  size_t place_of_dmin_ = 0;
  const std::array<float, 3> doubt_;
  Workspace work_;
  Coder* const coder_;
  BitModels<Coder> models_;
  std::optional<GridCoder<Coder>> grid_;

  size_t last_equal_ = 3;  // of the two blocks before
  std::array<entropy::AdaptiveBit, 4> equal_;
  bool last_hit_ = true;
  std::array<entropy::AdaptiveBit, 2> hit_;
  std::array<HalfModels, 3> halves_;  // d; dmin where d is as predicted, or not
  std::array<ScaleModels, 2> scales_;  // scales, mins
  entropy::AdaptiveBit exceptions_;
  CodeModels codes_;
  entropy::AdaptiveBit byte_differs_;
};

}  // namespace zipllm::codecs::derived

#endif  // ZIPLLM_CODECS_QUANT_DERIVED_PIECES_H_
