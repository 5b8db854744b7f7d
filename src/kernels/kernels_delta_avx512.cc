// The kernels of codecs against references for x86-64 with AVX-512.
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

void DeltaStepsAvx512(const uint8_t* predictions, size_t size, int shift,
                      uint32_t mask, int scale, const int16_t* columns,
                      size_t count, uint8_t* steps) {
  DeltaStepsLoops(predictions, size, shift, mask, scale, columns, count, steps);
}

uint64_t DeltaMeasureAvx512(const uint8_t* elements, const uint8_t* predictions,
                            NumberKind kind, float factor, size_t count,
                            uint32_t* columns) {
  return DeltaMeasureLoops(elements, predictions, kind, factor, count, columns);
}

void ResidualSymbolsAvx512(const uint8_t* elements, const uint8_t* predictions,
                           size_t size, bool is_float, size_t count,
                           uint8_t* symbols) {
  ResidualSymbolsLoops(elements, predictions, size, is_float, count, symbols);
}

void ResidualApplyAvx512(const uint8_t* symbols, const uint8_t* predictions,
                         size_t size, bool is_float, size_t count,
                         uint8_t* elements) {
  ResidualApplyLoops(symbols, predictions, size, is_float, count, elements);
}

void MapBytesAvx512(const uint8_t* bytes, size_t count, const uint8_t* map,
                    uint8_t* mapped) {
  const __m512i tables[4] = {
      _mm512_loadu_si512(map), _mm512_loadu_si512(map + 64),
      _mm512_loadu_si512(map + 128), _mm512_loadu_si512(map + 192)};
  size_t i = 0;
  for (; i + 64 <= count; i += 64) {
    const __m512i in = _mm512_loadu_si512(bytes + i);
    const __m512i low = _mm512_permutex2var_epi8(tables[0], in, tables[1]);
    const __m512i high = _mm512_permutex2var_epi8(tables[2], in, tables[3]);
    _mm512_storeu_si512(
        mapped + i, _mm512_mask_blend_epi8(_mm512_movepi8_mask(in), low, high));
  }
  for (; i < count; ++i) mapped[i] = map[bytes[i]];
}

}  // namespace zipllm::kernels

#endif
