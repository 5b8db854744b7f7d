// The targets' versions of the kernels of cascades.
#ifndef ZIPLLM_KERNELS_KERNELS_CASCADE_H_
#define ZIPLLM_KERNELS_KERNELS_CASCADE_H_

#include "kernels/kernels.h"

namespace zipllm::kernels {

size_t CascadeExpandScalar(const uint8_t* codes, size_t groups, int width,
                           const uint8_t* symbols, const uint8_t* escaped,
                           uint8_t* out);
size_t CascadeExpandAvx2(const uint8_t* codes, size_t groups, int width,
                         const uint8_t* symbols, const uint8_t* escaped,
                         uint8_t* out);
size_t CascadeExpandAvx512(const uint8_t* codes, size_t groups, int width,
                           const uint8_t* symbols, const uint8_t* escaped,
                           uint8_t* out);

size_t CascadeReduceScalar(const uint8_t* ranks, size_t groups, int width,
                           uint8_t* codes, uint8_t* escaped);
size_t CascadeReduceAvx2(const uint8_t* ranks, size_t groups, int width,
                         uint8_t* codes, uint8_t* escaped);
size_t CascadeReduceAvx512(const uint8_t* ranks, size_t groups, int width,
                           uint8_t* codes, uint8_t* escaped);

void JoinRestsScalar(const uint8_t* exponents, const uint8_t* rests,
                     const uint8_t* low, size_t groups, int shift,
                     uint8_t* units);
void JoinRestsAvx2(const uint8_t* exponents, const uint8_t* rests,
                   const uint8_t* low, size_t groups, int shift,
                   uint8_t* units);
void JoinRestsAvx512(const uint8_t* exponents, const uint8_t* rests,
                     const uint8_t* low, size_t groups, int shift,
                     uint8_t* units);

void TakeRestsScalar(const uint16_t* units, size_t groups, int shift,
                     uint8_t* rests, uint8_t* low);
void TakeRestsAvx2(const uint16_t* units, size_t groups, int shift,
                   uint8_t* rests, uint8_t* low);
void TakeRestsAvx512(const uint16_t* units, size_t groups, int shift,
                     uint8_t* rests, uint8_t* low);

}  // namespace zipllm::kernels

#endif  // ZIPLLM_KERNELS_KERNELS_CASCADE_H_
