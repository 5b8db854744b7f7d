// What encoder and decoder of codec 12 share.
#ifndef ZIPLLM_CODECS_TENSOR_SWAPPED_H_
#define ZIPLLM_CODECS_TENSOR_SWAPPED_H_

#include <cstring>

#include "codecs/codec.h"

namespace zipllm::codecs {

inline constexpr CodecId kSwapped = 12;

/// Reverses the bytes of each element of `width` bytes: 2, 4 or 8. What is left
/// over stays.
inline void SwapElements(size_t width, MutableByteSpan data) {
  const auto swap = [&](auto element, auto reverse) {
    for (size_t at = 0; at + sizeof element <= data.size();
         at += sizeof element) {
      std::memcpy(&element, &data[at], sizeof element);
      element = reverse(element);
      std::memcpy(&data[at], &element, sizeof element);
    }
  };
  if (width == 2) {
    swap(uint16_t{}, [](uint16_t x) { return __builtin_bswap16(x); });
  } else if (width == 4) {
    swap(uint32_t{}, [](uint32_t x) { return __builtin_bswap32(x); });
  } else {
    swap(uint64_t{}, [](uint64_t x) { return __builtin_bswap64(x); });
  }
}

}  // namespace zipllm::codecs

#endif  // ZIPLLM_CODECS_TENSOR_SWAPPED_H_
