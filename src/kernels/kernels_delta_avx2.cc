// The kernels of codecs against references for x86-64 with AVX2.
#include "kernels/kernels_delta.h"

#if defined(__x86_64__)

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

}  // namespace zipllm::kernels

#endif
