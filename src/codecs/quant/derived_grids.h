// Blocks of grid types (IQ1 to IQ3) in codec 19, given the weights they came
// from. Format: format-spec/codecs/19-derived.md, "Grid types".
#ifndef ZIPLLM_CODECS_QUANT_DERIVED_GRIDS_H_
#define ZIPLLM_CODECS_QUANT_DERIVED_GRIDS_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "codecs/quant/derived_models.h"
#include "quantizers/grid_search.h"
#include "quantizers/grids.h"

namespace zipllm::codecs::derived {

/// What quantizers do to scales, by type: constants of the format.
struct GridHabits {
  float d;       ///< d by the largest scale of the block
  float scale;   ///< a group's scale by d * (2 * code + 1), to tell the code
  float points;  ///< the same, to tell the points
};
GridHabits HabitsOf(DType dtype);

/// The FP16 nearest to a number from 0 on; what is not below 65504 (NaNs too)
/// gives that.
uint16_t NearestHalf(float number);
float HalfValue(uint16_t half);

/// Codes blocks of one type, one after the other, and learns from each; a new
/// one for each block of the container. Coder: BinaryEncoder, BinaryDecoder or
/// BitCounter.
template <class Coder>
class GridCoder {
 public:
  GridCoder(const quantizers::GridType& type, Coder* coder)
      : type_(type),
        habits_(HabitsOf(type.dtype)),
        kernels_(quantizers::BestGridKernels()),
        candidates_(quantizers::CandidatesOf(*type.grid)),
        models_(coder) {}

  /// One ggml block of the type that is not what was predicted. `weights`: what
  /// its 256 elements came from, any floats. `importance`: a factor for each
  /// weight, or null. `predicted`: what a quantizer made of them, or null.
  /// `block` is read by encoders, written by decoders.
  void Code(const float* weights, const float* /*importance*/,
            const uint8_t* predicted, uint8_t* block) {
    quantizers::GridFields fields;
    if constexpr (!kDecodes<Coder>) {
      quantizers::UnpackGridBlock(type_, block, &fields);
    }
    quantizers::GridFields expected;
    if (predicted != nullptr) {
      quantizers::UnpackGridBlock(type_, predicted, &expected);
    }
    const quantizers::GridFields* guess =
        predicted != nullptr ? &expected : nullptr;
    CodeScales(weights, guess, &fields);
    if (type_.shifts) {
      CodeShifts(weights, guess, &fields);
    } else {
      CodeSigns(weights, guess, &fields);
    }
    CodePoints(weights, guess, &fields);
    if constexpr (kDecodes<Coder>) {
      quantizers::PackGridBlock(type_, fields, block);
    }
  }

 private:
  using Fields = quantizers::GridFields;
  static constexpr int kBlock = quantizers::kGridBlock;

  void CodeScales(const float* weights, const Fields* guess, Fields* fields) {
    const size_t groups = static_cast<size_t>(kBlock / type_.group);
    const int last = (1 << type_.scale_bits) - 1;
    float scales[16];
    uint16_t d;
    if (guess != nullptr) {
      d = guess->d;
    } else {
      kernels_.scales(type_, weights, groups, scales);
      float largest = scales[0];
      for (size_t g = 1; g < groups; ++g) {
        largest = scales[g] > largest ? scales[g] : largest;
      }
      d = NearestHalf(largest * habits_.d);
    }
    const int far = fields->d - d;
    fields->d = models_.Bit(d_differs_[guess != nullptr], far != 0)
                    ? static_cast<uint16_t>(d + models_.SignedNumber(d_, far))
                    : d;
    const float inverse = habits_.scale / HalfValue(fields->d);
    for (size_t g = 0; g < groups; ++g) {
      int code;
      if (guess != nullptr) {
        code = guess->scale[g];
      } else {
        // What is odd, NaNs too, is cut.
        float number = 0.5f * (scales[g] * inverse);
        number = number > 0.0f ? number : 0.0f;
        number = number < 15.0f ? number : 15.0f;
        code = std::min(static_cast<int>(number), last);
      }
      const auto at = static_cast<size_t>(code + (guess != nullptr ? 16 : 0));
      const int step = fields->scale[g] - code;
      if (models_.Bit(scale_differs_[at], step != 0)) {
        code += models_.SignedNumber(scale_[at], step);
      }
      fields->scale[g] = static_cast<uint8_t>(code & last);
    }
  }

  void CodeSigns(const float* weights, const Fields* guess, Fields* fields) {
    std::array<uint8_t, kBlock / 8> below, least, classes;
    kernels_.signs(weights, below.size(), below.data(), least.data(),
                   classes.data());
    bool plain = true;
    if constexpr (!kDecodes<Coder>) {
      for (size_t i = 0; i < below.size(); ++i) {
        plain &=
            std::popcount(static_cast<unsigned>(fields->signs[i] ^ below[i])) ==
            (IsOdd(below[i]) ? 1 : 0);
      }
    }
    plain = !models_.Bit(signs_differ_, !plain);
    for (size_t i = 0; i < below.size(); ++i) {
      const auto flips = static_cast<uint8_t>(fields->signs[i] ^ below[i]);
      if (!plain) {
        const auto coded = static_cast<uint8_t>(models_.Raw(
            type_.even_signs ? flips & 127 : flips, type_.even_signs ? 7 : 8));
        fields->signs[i] = coded ^ below[i];
        if (type_.even_signs) {
          fields->signs[i] = quantizers::EvenSigns(fields->signs[i]);
        }
      } else if (!IsOdd(below[i])) {
        fields->signs[i] = below[i];
      } else {
        uint8_t flip = least[i];
        size_t context = classes[i];
        if (guess != nullptr) {
          const auto other = static_cast<uint8_t>(guess->signs[i] ^ below[i]);
          if (std::has_single_bit(other)) {
            flip = static_cast<uint8_t>(std::countr_zero(other));
            context = quantizers::kSignClasses;
          }
        }
        const auto actual = static_cast<uint8_t>(std::countr_zero(flips));
        if (models_.Bit(flip_differs_[context], actual != flip)) {
          flip = static_cast<uint8_t>(models_.Raw(actual, 3));
        }
        fields->signs[i] = static_cast<uint8_t>(below[i] ^ 1u << flip);
      }
    }
  }

  void CodeShifts(const float* weights, const Fields* guess, Fields* fields) {
    const int group = type_.sign_group;
    for (int i = 0; i < kBlock / group; ++i, weights += group) {
      float sum = 0;
      float magnitudes = 0;
      for (int k = 0; k < group; ++k) {
        sum += weights[k];
        magnitudes += weights[k] < 0 ? -weights[k] : weights[k];
      }
      bool down = sum < 0;
      const float skew = down ? -sum : sum;
      size_t context = 0;
      for (const float bound : {0.125f, 0.25f, 0.5f}) {
        context += skew > bound * magnitudes ? 1 : 0;
      }
      if (guess != nullptr) {
        down = guess->signs[i] != 0;
        context = 4;
      }
      down ^=
          models_.Bit(shift_differs_[context], (fields->signs[i] != 0) != down);
      fields->signs[i] = down ? 1 : 0;
    }
  }

  void CodePoints(const float* weights, const Fields* guess, Fields* fields) {
    const quantizers::Grid& grid = *type_.grid;
    std::array<quantizers::GridPlacing, kBlock / 8> placings;
    const float d = HalfValue(fields->d);
    for (int i = 0; i < kBlock / 8; ++i) {
      const int code = fields->scale[8 * i / type_.group];
      const float inverse =
          habits_.points / (d * static_cast<float>(2 * code + 1));
      const bool down = fields->signs[8 * i / type_.sign_group] != 0;
      placings[static_cast<size_t>(i)] =
          type_.shifts ? quantizers::GridPlacing{128.0f * inverse,
                                                 down ? 144.0f : 112.0f}
                       : quantizers::GridPlacing{64.0f * inverse, -64.0f};
    }
    std::array<uint16_t, 64> codes;
    std::array<uint8_t, 64> classes;
    kernels_.search(type_, candidates_, weights, placings.data(), fields->signs,
                    1, codes.data(), classes.data());
    for (int i = 0; i < type_.points; ++i) {
      const auto p = static_cast<size_t>(i);
      size_t context = classes[p];
      uint16_t code = codes[p];
      if (guess != nullptr) {
        code = grid.codes[guess->index[p] % grid.size];
        context = code == codes[p] ? context + 16 : 32;
      }
      const uint16_t actual = grid.codes[fields->index[p] % grid.size];
      if (models_.Bit(point_differs_[context], actual != code)) {
        code =
            CodeRank(weights, placings[p * grid.width / 8], *fields, i, actual);
      }
      fields->index[p] = static_cast<uint16_t>(grid.index[code]);
    }
  }

  /// A point that is not the one guessed at.
  uint16_t CodeRank(const float* weights, quantizers::GridPlacing placing,
                    const Fields& fields, int point, uint16_t actual) {
    const quantizers::Grid& grid = *type_.grid;
    const int at = point * grid.width;
    std::array<uint16_t, quantizers::kCandidates> ranked;
    const auto rank_first = [&](uint32_t count) {
      kernels_.rank(type_, candidates_, weights + at / 8 * 8, placing,
                    fields.signs[at / 8], at % 8, static_cast<int>(count),
                    ranked.data());
    };
    uint32_t rank = 0;
    if constexpr (!kDecodes<Coder>) {
      rank_first(quantizers::kCandidates);
      rank = static_cast<uint32_t>(
          std::find(ranked.begin(), ranked.end(), actual) - ranked.begin());
    }
    rank = models_.Number(rank_, rank);
    if (rank < ranked.size()) {
      rank_first(rank + 1);
      return ranked[rank];
    }
    const auto index = models_.Raw(static_cast<uint32_t>(grid.index[actual]),
                                   std::bit_width(grid.size - 1u));
    return grid.codes[index];
  }

  /// Whether one sign is not as the weight's, so that signs are even.
  bool IsOdd(uint8_t below) const {
    return type_.even_signs && std::popcount(below) % 2 != 0;
  }

  const quantizers::GridType& type_;
  const GridHabits habits_;
  const quantizers::GridKernels& kernels_;
  const quantizers::GridCandidates* candidates_;
  BitModels<Coder> models_;
  entropy::AdaptiveBit d_differs_[2];
  SignedModel d_;
  entropy::AdaptiveBit scale_differs_[32];
  SignedModel scale_[32];
  entropy::AdaptiveBit signs_differ_;
  entropy::AdaptiveBit flip_differs_[quantizers::kSignClasses + 1];
  entropy::AdaptiveBit shift_differs_[5];
  entropy::AdaptiveBit point_differs_[2 * quantizers::kSearchClasses + 1];
  NumberModel rank_;
};

}  // namespace zipllm::codecs::derived

#endif  // ZIPLLM_CODECS_QUANT_DERIVED_GRIDS_H_
