// What the implementations of DecodeUnitsFn share. Private to the kernels.
#ifndef ZIPLLM_KERNELS_KERNELS_UNITS_H_
#define ZIPLLM_KERNELS_KERNELS_UNITS_H_

#include "kernels/kernels.h"

namespace zipllm::kernels {

/// DecodeUnitsFn by the kernels for keys and planes of `kernels`, reading no
/// words and extra bits behind their ends.
bool DecodeUnitsByParts(const Table& kernels, RansStream* streams,
                        const RansDecodeTable* tables, const uint8_t* selectors,
                        UnitKind kind, const PlaneRef* planes, size_t chunks,
                        uint8_t* units);

namespace {

constexpr size_t kUnitSteps = kUnitChunk / (kLanes * kMaxStreams);
constexpr size_t kMaxUnitPlanes = 6;

constexpr int KeyShift(UnitKind kind) {
  return kind == UnitKind::kBf16 ? 5 : 8;
}
constexpr size_t PlaneCount(UnitKind kind) {
  return kind == UnitKind::kBf16 ? 3 : 6;
}

inline unsigned Selector(const uint8_t* selectors, size_t chunk) {
  return selectors == nullptr ? 0
                              : selectors[chunk / 4] >> (chunk % 4 * 2) & 3u;
}

/// For how many chunks no read of 64 bytes of words and 9 of extra bits a step
/// can pass `readable_end`.
inline size_t SafeChunks(const RansStream* streams,
                         const uint8_t* readable_end) {
  size_t safe = SIZE_MAX;
  for (size_t s = 0; s < kMaxStreams; ++s) {
    const auto words = static_cast<size_t>(readable_end - streams[s].words);
    const auto extra = static_cast<size_t>(
        readable_end - streams[s].extra -
        static_cast<std::ptrdiff_t>(streams[s].extra_bit / 8));
    const size_t by_words = words / (64 * kUnitSteps);
    const size_t by_extra = extra < 8 ? 0 : (extra - 8) / (8 * kUnitSteps);
    if (by_words < safe) safe = by_words;
    if (by_extra < safe) safe = by_extra;
  }
  return safe;
}

/// Whether a stream took more than it had.
inline bool TookTooMuch(const RansStream* streams) {
  for (size_t s = 0; s < kMaxStreams; ++s) {
    const auto bits =
        static_cast<uint64_t>(streams[s].extra_end - streams[s].extra) * 8;
    if (streams[s].words > streams[s].words_end ||
        streams[s].extra_bit > bits) {
      return true;
    }
  }
  return false;
}

/// The stream's next 64 extra bits, of which `pairs` pairs are taken; 9 bytes
/// can be read.
inline uint64_t NextExtraBits(RansStream& stream, int pairs) {
  const uint8_t* const from = stream.extra + stream.extra_bit / 8;
  const auto shift = static_cast<unsigned>(stream.extra_bit % 8);
  uint64_t bits;
  __builtin_memcpy(&bits, from, sizeof bits);
  bits >>= shift;
  if (pairs > 28) [[unlikely]] {  // maybe more than those 57 bits
    bits |= uint64_t{from[8]} << 1 << (63 - shift);
  }
  stream.extra_bit += 2 * static_cast<unsigned>(pairs);
  return bits;
}

/// Adds the escaped exponents to `units`, 32 of a stream; false where there are
/// too few.
inline bool AddEscapes(uint32_t escaped, int shift, RansStream& stream,
                       uint8_t* units) {
  for (; escaped != 0; escaped &= escaped - 1) {
    if (stream.escapes == stream.escapes_end) return false;
    uint8_t* const at = units + 2 * __builtin_ctz(escaped);
    uint16_t unit;
    __builtin_memcpy(&unit, at, sizeof unit);
    unit = static_cast<uint16_t>(unit + (*stream.escapes++ << shift));
    __builtin_memcpy(at, &unit, sizeof unit);
  }
  return true;
}

/// DecodeUnitsFn by `fast`(streams, tables, selectors, first chunk, chunks,
/// planes, units) where reads are safe, else by parts.
template <typename Fast>
bool DecodeUnitsBy(const Fast& fast, const Table& kernels, RansStream* streams,
                   const RansDecodeTable* tables, const uint8_t* selectors,
                   UnitKind kind, const PlaneRef* planes, size_t chunks,
                   const uint8_t* readable_end, uint8_t* units) {
  PlaneRef at[kMaxUnitPlanes];
  bool complete = true;
  for (size_t done = 0; done < chunks && complete;) {
    const size_t safe = SafeChunks(streams, readable_end);
    size_t now = safe < chunks - done ? safe : chunks - done;
    for (size_t p = 0; p < PlaneCount(kind); ++p) {
      at[p] = {planes[p].first + done * kUnitSteps * planes[p].stride,
               planes[p].stride};
    }
    uint8_t* const to = units + done * kUnitChunk * 2;
    if (now > 0) {
      complete = fast(done, now, at, to) && !TookTooMuch(streams);
    } else {
      now = 1;
      const uint8_t selector = static_cast<uint8_t>(Selector(selectors, done));
      complete = DecodeUnitsByParts(kernels, streams, tables, &selector, kind,
                                    at, now, to);
    }
    done += now;
  }
  return complete;
}

}  // namespace
}  // namespace zipllm::kernels

#endif  // ZIPLLM_KERNELS_KERNELS_UNITS_H_
