// The targets' versions of class_rans_decode and class_rans_encode.
#ifndef ZIPLLM_KERNELS_KERNELS_CLASS_RANS_H_
#define ZIPLLM_KERNELS_KERNELS_CLASS_RANS_H_

#include "kernels/kernels.h"

namespace zipllm::kernels {

bool ClassRansDecodeScalar(ClassStream* streams_state, int streams,
                           const ClassSlots* tables, const uint8_t* classes,
                           uint8_t* symbols, size_t steps);
bool ClassRansDecodeAvx2(ClassStream* streams_state, int streams,
                         const ClassSlots* tables, const uint8_t* classes,
                         uint8_t* symbols, size_t steps);
bool ClassRansDecodeAvx512(ClassStream* streams_state, int streams,
                           const ClassSlots* tables, const uint8_t* classes,
                           uint8_t* symbols, size_t steps);

void ClassRansEncodeScalar(uint32_t* states, int streams,
                           const ClassRanges* tables, const uint8_t* classes,
                           const uint8_t* symbols, size_t steps,
                           uint8_t** words_end);
void ClassRansEncodeAvx2(uint32_t* states, int streams,
                         const ClassRanges* tables, const uint8_t* classes,
                         const uint8_t* symbols, size_t steps,
                         uint8_t** words_end);
void ClassRansEncodeAvx512(uint32_t* states, int streams,
                           const ClassRanges* tables, const uint8_t* classes,
                           const uint8_t* symbols, size_t steps,
                           uint8_t** words_end);

}  // namespace zipllm::kernels

#endif  // ZIPLLM_KERNELS_KERNELS_CLASS_RANS_H_
