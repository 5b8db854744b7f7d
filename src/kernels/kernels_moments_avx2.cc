#include "kernels/kernels_moments.h"

namespace zipllm::kernels {

void AddScaledAvx2(int32_t by, const int32_t* factor, size_t count,
                   uint32_t* to) {
  AddScaledLoop(by, factor, count, to);
}

void LearnScaledAvx2(int32_t by, int32_t step, int shift, size_t count,
                     int32_t* rest, int32_t* factor) {
  LearnScaledLoop(by, step, shift, count, rest, factor);
}

}  // namespace zipllm::kernels
