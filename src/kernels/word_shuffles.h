#ifndef ZIPLLM_KERNELS_WORD_SHUFFLES_H_
#define ZIPLLM_KERNELS_WORD_SHUFFLES_H_

#include <cstdint>

namespace zipllm::kernels {

// Byte shuffles by a mask of 8 words.
struct Shuffles {
  // Word k of the source goes to the k-th set bit; the others become 0.
  alignas(64) uint8_t expand[256][16];
  // The set bits' words go to the end, in order.
  alignas(64) uint8_t compress[256][16];
};

constexpr Shuffles MakeShuffles() {
  Shuffles shuffles{};
  for (unsigned mask = 0; mask < 256; ++mask) {
    unsigned taken = 0;
    for (unsigned i = 0; i < 8; ++i) {
      const bool set = (mask >> i & 1) != 0;
      for (unsigned byte = 0; byte < 2; ++byte) {
        shuffles.expand[mask][2 * i + byte] =
            static_cast<uint8_t>(set ? 2 * taken + byte : 0x80);
      }
      taken += set;
    }
    unsigned to = 8;
    for (unsigned i = 8; i-- > 0;) {
      if ((mask >> i & 1) == 0) continue;
      --to;
      for (unsigned byte = 0; byte < 2; ++byte) {
        shuffles.compress[mask][2 * to + byte] =
            static_cast<uint8_t>(2 * i + byte);
      }
    }
  }
  return shuffles;
}
inline constexpr Shuffles kShuffles = MakeShuffles();

}  // namespace zipllm::kernels

#endif  // ZIPLLM_KERNELS_WORD_SHUFFLES_H_
