// What encoders look at to tell how well they would do on a frame: a bounded
// part of it. Integers only, so that every machine decides alike.
#ifndef ZIPLLM_CODECS_SAMPLE_H_
#define ZIPLLM_CODECS_SAMPLE_H_

#include <array>

#include "base/log2.h"
#include "codecs/codec.h"

namespace zipllm::codecs {

/// Up to 64 KiB of a frame at levels to 3, 128 KiB to 6, 256 KiB above: all of
/// it if it is no longer, else four pieces, evenly spread, at offsets that are
/// multiples of 16. Views `request.data` or `buffer`.
inline ByteSpan TakeSample(const EncodeRequest& request, Buffer* buffer) {
  constexpr size_t kPieces = 4;
  const size_t piece = size_t{16384} << (request.level > 6   ? 2
                                         : request.level > 3 ? 1
                                                             : 0);
  const ByteSpan data = request.data;
  if (data.size() <= kPieces * piece) return data;
  buffer->Clear();
  for (size_t i = 0; i < kPieces; ++i) {
    const size_t offset = (data.size() - piece) / (kPieces - 1) * i;
    buffer->Append(data.subspan(offset / 16 * 16, piece));
  }
  return buffer->span();
}

/// What `total` bytes take where a sample of `sample` bytes takes `coded`.
inline uint64_t ScaleUp(uint64_t coded, uint64_t sample, uint64_t total) {
  return (coded * total + sample - 1) / sample;
}

/// Order-0 entropy of `data` (1 byte to 64 MiB) in 1/65536 bit a byte.
inline uint64_t EntropyQ16(ByteSpan data) {
  std::array<uint32_t, 256> counts{};
  for (uint8_t byte : data) ++counts[byte];
  uint64_t sum = 0;
  const uint32_t log2_size = Log2Q16(static_cast<uint32_t>(data.size()));
  for (uint32_t count : counts) {
    if (count != 0) sum += uint64_t{count} * (log2_size - Log2Q16(count));
  }
  return sum / data.size();
}

/// Whether an order-0 coder would gain less than 1/128 on `data`.
inline bool LooksRandom(ByteSpan data) {
  return EntropyQ16(data) > (8 << 16) - (8 << 16) / 128;
}

}  // namespace zipllm::codecs

#endif  // ZIPLLM_CODECS_SAMPLE_H_
