#include "codecs/quant/derived_grids.h"

namespace zipllm::codecs::derived {

GridHabits HabitsOf(DType dtype) {
  switch (dtype) {
    case DType::kGgmlIQ1S:
      return {1.125f / 15, 1, 1};
    case DType::kGgmlIQ1M:
      return {1.1125f / 15, 1, 1};
    case DType::kGgmlIQ2S:
      return {0.9875f / 31, 1, 1};
    case DType::kGgmlIQ3XXS:
      return {1.0125f / 31, 1.0125f, 1.0125f};
    case DType::kGgmlIQ3S:
      return {1.033f / 31, 1.033f, 1.033f};
    default:  // IQ2_XXS, IQ2_XS
      return {1.0f / 31, 1, 1};
  }
}

uint16_t NearestHalf(float number) {
  // NaNs are not below.
  if (!(number < 65504.0f)) return 0x7bff;
  uint32_t bits;
  std::memcpy(&bits, &number, sizeof bits);
  if (number < 0x1p-14f) {
    // The sum with 0.5 rounds where FP16 has its last bit.
    number = (number > 0.0f ? number : 0.0f) + 0.5f;
    std::memcpy(&bits, &number, sizeof bits);
    return static_cast<uint16_t>(bits - 0x3f000000);
  }
  return static_cast<uint16_t>((bits - 0x38000000 + 0xfff + (bits >> 13 & 1)) >>
                               13);
}

float HalfValue(uint16_t half) {
  const uint32_t magnitude = uint32_t{half} << 13 & 0x0fffe000;
  float value;
  std::memcpy(&value, &magnitude, sizeof value);
  // The exponent is set right by a product, which is exact.
  value *= 0x1p112f;
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  bits |= magnitude >= 0x0f800000 ? 0x7f800000 : 0;
  bits |= (uint32_t{half} & 0x8000) << 16;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace zipllm::codecs::derived
