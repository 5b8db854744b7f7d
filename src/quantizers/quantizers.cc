#include <array>

#include "quantizers/quantizer.h"

namespace zipllm::quantizers {

#define ZIPLLM_QUANTIZER(id, symbol) \
  extern const Quantizer k##symbol##Quantizer;
#include "quantizers/quantizer_list.inc"
#undef ZIPLLM_QUANTIZER

namespace {

constexpr uint8_t kIds[] = {
    0,
#define ZIPLLM_QUANTIZER(id, symbol) id,
#include "quantizers/quantizer_list.inc"
#undef ZIPLLM_QUANTIZER
};
constexpr bool Ascend() {
  for (size_t i = 1; i < std::size(kIds); ++i) {
    if (kIds[i] <= kIds[i - 1]) return false;
  }
  return true;
}
static_assert(Ascend(), "numbers of quantizers ascend, none twice");

}  // namespace

QuantizeFn Quantizer::For(kernels::Target target) const {
  if (target == kernels::Target::kAvx512 && avx512 != nullptr) return avx512;
  if (target == kernels::Target::kAvx2 && avx2 != nullptr) return avx2;
  return scalar;
}

std::span<const Quantizer* const> AllQuantizers() {
  static constexpr std::array<const Quantizer*, std::size(kIds) - 1> kAll = {
#define ZIPLLM_QUANTIZER(id, symbol) &k##symbol##Quantizer,
#include "quantizers/quantizer_list.inc"
#undef ZIPLLM_QUANTIZER
  };
  return kAll;
}

const Quantizer* FindQuantizer(uint8_t id) {
  for (const Quantizer* quantizer : AllQuantizers()) {
    if (quantizer->id == id) return quantizer;
  }
  return nullptr;
}

}  // namespace zipllm::quantizers
