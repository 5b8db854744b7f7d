// The kernels of codecs against references for x86-64 with AVX2.
#include "kernels/kernels_delta.h"

#if defined(__x86_64__)

// False alarms of gcc 12 on the headers of intrinsics (gcc bug 105593).
#pragma GCC diagnostic push
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop

namespace zipllm::kernels {

void DeltaStepsAvx2(const uint8_t* predictions, size_t size, int shift,
                    uint32_t mask, int scale, const int16_t* columns,
                    size_t count, uint8_t* steps) {
  DeltaStepsLoops(predictions, size, shift, mask, scale, columns, count, steps);
}

uint64_t DeltaMeasureAvx2(const uint8_t* elements, const uint8_t* predictions,
                          NumberKind kind, float factor, size_t count,
                          uint32_t* columns) {
  return DeltaMeasureLoops(elements, predictions, kind, factor, count, columns);
}

void ResidualSymbolsAvx2(const uint8_t* elements, const uint8_t* predictions,
                         size_t size, bool is_float, size_t count,
                         uint8_t* symbols) {
  ResidualSymbolsLoops(elements, predictions, size, is_float, count, symbols);
}

void ResidualApplyAvx2(const uint8_t* symbols, const uint8_t* predictions,
                       size_t size, bool is_float, size_t count,
                       uint8_t* elements) {
  ResidualApplyLoops(symbols, predictions, size, is_float, count, elements);
}

// By the high half of a byte, 16 tables that the low half looks up.
void MapBytesAvx2(const uint8_t* bytes, size_t count, const uint8_t* map,
                  uint8_t* mapped) {
  size_t i = 0;
  for (; i + 32 <= count; i += 32) {
    const __m256i in =
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes + i));
    const __m256i high =
        _mm256_and_si256(_mm256_srli_epi16(in, 4), _mm256_set1_epi8(15));
    const __m256i low = _mm256_and_si256(in, _mm256_set1_epi8(15));
    __m256i out = _mm256_setzero_si256();
    for (int t = 0; t < 16; ++t) {
      const __m256i table = _mm256_broadcastsi128_si256(
          _mm_loadu_si128(reinterpret_cast<const __m128i*>(map + 16 * t)));
      out = _mm256_blendv_epi8(
          out, _mm256_shuffle_epi8(table, low),
          _mm256_cmpeq_epi8(high, _mm256_set1_epi8(static_cast<char>(t))));
    }
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(mapped + i), out);
  }
  for (; i < count; ++i) mapped[i] = map[bytes[i]];
}

}  // namespace zipllm::kernels

#endif
