// Trying sources: how well codec 19 would code packed blocks given other
// numbers, without a frame. For choosing among sources, and for telling what a
// file was made by.
#ifndef ZIPLLM_CODECS_QUANT_DERIVED_TRIAL_H_
#define ZIPLLM_CODECS_QUANT_DERIVED_TRIAL_H_

#include <cstdint>
#include <span>

#include "zipllm/types.h"

namespace zipllm::codecs {

/// Bits a weight that codec 19 would take, about, for `blocks` (a sample: whole
/// blocks of the packed type `dtype`, some thousand weights or more) given as
/// many elements of `base_dtype` (F32, F16, BF16 or packed) in `base`. They
/// begin at element `position` of a tensor in rows of `row` elements (0: none).
/// `importance` is empty or has one number a column. At levels 1 and 2 slow
/// quantizers are not tried. `*quantizer`, unless null, is the number of the
/// one that did best, 0 for the codec's own formula. More than the type's bits
/// a weight where the pair cannot be coded. The same on every machine.
/// Thread-safe.
double DerivedBitsPerWeight(DType dtype, ByteSpan blocks, DType base_dtype,
                            ByteSpan base, uint64_t row, uint64_t position,
                            std::span<const float> importance, int level,
                            uint8_t* quantizer);

/// Writes what quantizer `quantizer` (of any number but 0) makes of the
/// elements of `base` to `blocks`: equal bytes prove the recipe. Other
/// arguments as above. False, writing nothing, where it cannot: there is no
/// such quantizer or it is of another type, it needs an importance or whole
/// rows that are not there, sizes do not fit. Thread-safe.
bool PredictBlocks(uint8_t quantizer, DType dtype, DType base_dtype,
                   ByteSpan base, uint64_t row, uint64_t position,
                   std::span<const float> importance, MutableByteSpan blocks);

}  // namespace zipllm::codecs

#endif  // ZIPLLM_CODECS_QUANT_DERIVED_TRIAL_H_
