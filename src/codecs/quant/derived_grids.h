// Blocks of grid types (IQ1 to IQ3) in codec 19, given the weights they came
// from. Format: format-spec/codecs/19-derived.md, "Grid types".
#ifndef ZIPLLM_CODECS_QUANT_DERIVED_GRIDS_H_
#define ZIPLLM_CODECS_QUANT_DERIVED_GRIDS_H_

#include <cstddef>
#include <cstdint>

#include "codecs/quant/derived_models.h"
#include "quantizers/grids.h"

namespace zipllm::codecs::derived {

/// Codes blocks of one type, one after the other, and learns from each; a new
/// one for each block of the container. Coder: BinaryEncoder, BinaryDecoder or
/// BitCounter.
template <class Coder>
class GridCoder {
 public:
  GridCoder(const quantizers::GridType& type, Coder* coder)
      : type_(type), models_(coder) {}

  /// One ggml block of the type that is not what was predicted. `weights`: what
  /// its 256 elements came from, any floats. `importance`: a factor for each
  /// weight, or null. `predicted`: what a quantizer made of them, or null.
  /// `block` is read by encoders, written by decoders.
  void Code(const float* weights, const float* importance,
            const uint8_t* predicted, uint8_t* block) {
    static_cast<void>(weights);
    static_cast<void>(importance);
    for (size_t i = 0; i < type_.bytes; ++i) {
      const uint8_t expected = predicted == nullptr ? uint8_t{0} : predicted[i];
      const uint8_t byte = kDecodes<Coder> ? uint8_t{0} : block[i];
      if (!models_.Bit(differs_, byte != expected)) {
        block[i] = expected;
      } else {
        block[i] = static_cast<uint8_t>(models_.Raw(byte, 8));
      }
    }
  }

 private:
  const quantizers::GridType& type_;
  BitModels<Coder> models_;
  entropy::AdaptiveBit differs_;
};

}  // namespace zipllm::codecs::derived

#endif  // ZIPLLM_CODECS_QUANT_DERIVED_GRIDS_H_
