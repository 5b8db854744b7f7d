// The kernels of codecs against references.
#include "kernels/kernels_delta.h"

namespace zipllm::kernels {

void DeltaStepsScalar(const uint8_t* predictions, size_t size, int shift,
                      uint32_t mask, int scale, const int16_t* columns,
                      size_t count, uint8_t* steps) {
  DeltaStepsLoops(predictions, size, shift, mask, scale, columns, count, steps);
}

uint64_t DeltaMeasureScalar(const uint8_t* elements, const uint8_t* predictions,
                            NumberKind kind, float factor, size_t count,
                            uint32_t* columns) {
  return DeltaMeasureLoops(elements, predictions, kind, factor, count, columns);
}

void ResidualSymbolsScalar(const uint8_t* elements, const uint8_t* predictions,
                           size_t size, bool is_float, size_t count,
                           uint8_t* symbols) {
  ResidualSymbolsLoops(elements, predictions, size, is_float, count, symbols);
}

void ResidualApplyScalar(const uint8_t* symbols, const uint8_t* predictions,
                         size_t size, bool is_float, size_t count,
                         uint8_t* elements) {
  ResidualApplyLoops(symbols, predictions, size, is_float, count, elements);
}

void MapBytesScalar(const uint8_t* bytes, size_t count, const uint8_t* map,
                    uint8_t* mapped) {
  for (size_t i = 0; i < count; ++i) mapped[i] = map[bytes[i]];
}

}  // namespace zipllm::kernels
