// The definition of every kernel, in plain C++.
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <bit>
#include <cstring>

#include "kernels/kernels.h"
#include "kernels/kernels_cascade.h"
#include "kernels/kernels_class_rans.h"
#include "kernels/kernels_delta.h"
#include "kernels/kernels_moments.h"
#include "kernels/kernels_scaled.h"
#include "kernels/kernels_sum.h"
#include "kernels/kernels_units.h"

namespace zipllm::kernels {
namespace {

static_assert(std::endian::native == std::endian::little);

// ---- rANS ----

/// The stream's next extra bits, 64 of them, zeros where there are fewer; of
/// these `count` are taken.
uint64_t TakeExtraBits(RansStream& stream, uint64_t count, bool* ok) {
  const uint64_t byte = stream.extra_bit / 8;
  const uint64_t shift = stream.extra_bit % 8;
  const auto size = static_cast<uint64_t>(stream.extra_end - stream.extra);
  uint64_t bits = 0, last = 0;
  if (byte + 9 <= size) {
    std::memcpy(&bits, stream.extra + byte, sizeof bits);
    last = stream.extra[byte + 8];
  } else {
    for (uint64_t i = byte; i < size; ++i) {
      bits |= uint64_t{stream.extra[i]} << (8 * (i - byte));
    }
    const uint64_t left = 8 * size - stream.extra_bit;
    if (count > left) {
      *ok = false;
      count = left;
    }
  }
  stream.extra_bit += count;
  return bits >> shift | last << 1 << (63 - shift);
}

/// The high bits of 32 keys: which are bare.
uint32_t BareMask(const uint16_t* keys) {
  uint32_t mask = 0;
  for (size_t i = 0; i < kLanes; i += 4) {
    uint64_t four;
    std::memcpy(&four, keys + i, sizeof four);
    // From bits 15, 31, 47, 63 to bits 48 to 51 of the product.
    four = (four >> 15 & 0x0001000100010001) * 0x0001000200040008;
    mask |= static_cast<uint32_t>(four >> 48 & 15) << i;
  }
  return mask;
}

/// Completes the bare ones of a stream's 32 keys and clears the flags.
bool CompleteKeys(RansStream& stream, uint16_t* keys) {
  bool ok = true;
  uint32_t bare = BareMask(keys);
  if (bare == 0) return true;
  uint64_t bits = TakeExtraBits(stream, 2 * uint64_t(std::popcount(bare)), &ok);
  for (; bare != 0; bare &= bare - 1, bits >>= 2) {
    uint16_t& key = keys[std::countr_zero(bare)];
    uint64_t whole = (key & ~uint64_t{kKeyBare}) + (bits & 3);
    if (whole & kKeyEscape) {
      whole &= ~uint64_t{kKeyEscape};
      if (stream.escapes == stream.escapes_end) {
        ok = false;
      } else {
        whole += uint64_t{*stream.escapes++} << 2;
      }
    }
    key = static_cast<uint16_t>(whole);
  }
  return ok;
}

/// One step of a stream. Unless `kChecked` there are 32 words to read, and no
/// branch on what the data are.
template <bool kChecked>
bool DecodeStep(RansStream& stream, const RansDecodeTable& table,
                uint16_t* keys) {
  bool ok = true;
  const uint8_t* words = stream.words;
#pragma GCC unroll 1
  for (size_t lane = 0; lane < kLanes; ++lane) {
    uint32_t state = stream.states[lane];
    const uint32_t slot = table.slots[state & (kSlots - 1)];
    keys[lane] = table.keys[slot >> 25];
    const uint32_t frequency = slot & (2 * kSlots - 1);
    const uint32_t rank = (slot >> 13) & (kSlots - 1);
    state = frequency * (state >> kProbabilityBits) + rank;
    // All ones or none: what is taken must be no branch.
    const uint32_t low = -uint32_t{state < kStateLow};
    uint16_t word = 0;
    if (!kChecked || words != stream.words_end) {
      std::memcpy(&word, words, sizeof word);
      words += sizeof word & low;
    } else {
      ok &= low == 0;
    }
    stream.states[lane] = state ^ (((state << 16 | word) ^ state) & low);
  }
  stream.words = words;
  return ok & CompleteKeys(stream, keys);
}

bool RansDecode(RansStream* streams_state, int streams,
                const RansDecodeTable& table, uint16_t* keys, size_t steps) {
  bool ok = true;
  for (size_t step = 0; step < steps; ++step) {
    for (int s = 0; s < streams; ++s, keys += kLanes) {
      RansStream& stream = streams_state[s];
      if (stream.words_end - stream.words >=
          static_cast<std::ptrdiff_t>(2 * kLanes)) {
        ok &= DecodeStep<false>(stream, table, keys);
      } else {
        ok &= DecodeStep<true>(stream, table, keys);
      }
    }
  }
  return ok;
}

void RansEncode(uint32_t* states, int streams, const RansEncodeTable& table,
                const uint8_t* symbols, size_t steps, uint8_t** words_end) {
  const size_t count = static_cast<size_t>(streams);
  for (size_t row = steps * count; row-- > 0;) {
    const size_t stream = row % count;
    uint8_t* end = words_end[stream];
    for (size_t lane = kLanes; lane-- > 0;) {
      uint32_t state = states[stream * kLanes + lane];
      const uint8_t symbol = symbols[row * kLanes + lane];
      const uint32_t frequency = table.frequency[symbol];
      // Stored in any case, kept where it goes out: no branch to mispredict.
      const bool high = state >> 20 >= frequency;
      const uint16_t word = static_cast<uint16_t>(state);
      std::memcpy(end - sizeof word, &word, sizeof word);
      end -= sizeof word * high;
      state >>= 16 * uint32_t{high};
      const uint32_t rank = state % frequency;
      states[stream * kLanes + lane] =
          (state / frequency) << kProbabilityBits |
          table.slot_of[table.start[symbol] + rank];
    }
    words_end[stream] = end;
  }
}

// ---- Planes ----

void ExtractPlane(const uint16_t* values, size_t groups, int width, int shift,
                  uint8_t* plane) {
  for (size_t group = 0; group < groups; ++group, values += kGroup) {
    switch (width) {
      case 1:
        for (size_t byte = 0; byte < kGroup / 8; ++byte) {
          uint32_t bits = 0;
          for (size_t i = 0; i < 8; ++i) {
            bits |= ((uint32_t{values[8 * byte + i]} >> shift) & 1) << i;
          }
          *plane++ = static_cast<uint8_t>(bits);
        }
        break;
      case 4:
        for (size_t i = 0; i < kGroup / 2; ++i) {
          const uint32_t low = (uint32_t{values[i]} >> shift) & 15;
          const uint32_t high =
              (uint32_t{values[i + kGroup / 2]} >> shift) & 15;
          *plane++ = static_cast<uint8_t>(low | high << 4);
        }
        break;
      default:
        for (size_t i = 0; i < kGroup; ++i) {
          *plane++ = static_cast<uint8_t>(uint32_t{values[i]} >> shift);
        }
        break;
    }
  }
}

void InsertPlane(uint16_t* values, size_t groups, int width, int shift,
                 const uint8_t* plane) {
  const auto insert = [shift](uint16_t& value, uint32_t bits) {
    value = static_cast<uint16_t>(value | bits << shift);
  };
  for (size_t group = 0; group < groups; ++group, values += kGroup) {
    switch (width) {
      case 1:
        for (size_t byte = 0; byte < kGroup / 8; ++byte) {
          for (size_t half = 0; half < 2; ++half) {
            // Four bits to the four 16-bit parts of a product.
            const uint64_t bits = plane[byte] >> (4 * half) & 15u;
            const uint64_t spread =
                (bits * 0x0000200040008001) & 0x0001000100010001;
            uint16_t* const at = values + 8 * byte + 4 * half;
            uint64_t four;
            std::memcpy(&four, at, sizeof four);
            four |= spread << shift;
            std::memcpy(at, &four, sizeof four);
          }
        }
        plane += kGroup / 8;
        break;
      case 4:
        for (size_t i = 0; i < kGroup / 2; ++i) {
          insert(values[i], plane[i] & 15u);
          insert(values[i + kGroup / 2], uint32_t{plane[i]} >> 4);
        }
        plane += kGroup / 2;
        break;
      default:
        for (size_t i = 0; i < kGroup; ++i) insert(values[i], plane[i]);
        plane += kGroup;
        break;
    }
  }
}

void MapSymbols(const uint16_t* values, size_t count, int shift, uint16_t mask,
                const uint8_t* map, uint8_t* symbols) {
  for (size_t i = 0; i < count; ++i) {
    symbols[i] = map[(uint32_t{values[i]} >> shift) & mask];
  }
}

void PlaceKeys(const uint16_t* keys, size_t count, int shift,
               uint16_t* values) {
  for (size_t i = 0; i < count; ++i) {
    values[i] = static_cast<uint16_t>(uint32_t{keys[i]} << shift);
  }
}

bool DecodeUnits(RansStream* streams, const RansDecodeTable* tables,
                 const uint8_t* selectors, UnitKind kind,
                 const PlaneRef* planes, size_t chunks, const uint8_t*,
                 uint8_t* units) {
  return DecodeUnitsByParts(*ScalarTable(), streams, tables, selectors, kind,
                            planes, chunks, units);
}

void SplitHalves(const uint8_t* elements, size_t count, uint16_t* low,
                 uint16_t* high) {
  for (size_t i = 0; i < count; ++i) {
    uint32_t element;
    std::memcpy(&element, elements + 4 * i, sizeof element);
    low[i] = static_cast<uint16_t>(element);
    high[i] = static_cast<uint16_t>(element >> 16);
  }
}

void JoinHalves(const uint16_t* low, const uint16_t* high, size_t count,
                uint8_t* elements) {
  for (size_t i = 0; i < count; ++i) {
    const uint32_t element = low[i] | uint32_t{high[i]} << 16;
    std::memcpy(elements + 4 * i, &element, sizeof element);
  }
}

uint8_t TakeExtra(const uint16_t* values, int shift, size_t rows, int streams,
                  uint8_t* symbols, BitSink* sinks) {
  uint32_t flags = 0;
  for (size_t row = 0; row < rows; ++row) {
    BitSink sink = sinks[row % static_cast<size_t>(streams)];
    for (size_t i = row * kLanes; i < (row + 1) * kLanes; ++i) {
      const uint32_t has_extra = symbols[i] / kHasExtra & 1;
      const uint64_t bits = values[i] >> shift & (has_extra * 3);
      flags |= symbols[i];
      symbols[i] &= kMaxSymbols - 1;
      sink.held |= bits << sink.held_bits;
      sink.held_bits += 2 * has_extra;
      if (i % 16 == 15) {  // at most 7 + 32 bits
        std::memcpy(sink.to, &sink.held, sizeof sink.held);
        sink.to += sink.held_bits / 8;
        sink.held >>= sink.held_bits / 8 * 8;
        sink.held_bits %= 8;
      }
    }
    sinks[row % static_cast<size_t>(streams)] = sink;
  }
  return static_cast<uint8_t>(flags & (kHasExtra | kHasEscape));
}

uint64_t Xxh3(const uint8_t* data, size_t size) {
  return XXH3_64bits(data, size);
}

constexpr Table kTable = {
    .target = Target::kScalar,
    .name = "scalar",
    .reads_slots = true,
    .rans_decode = RansDecode,
    .rans_encode = RansEncode,
    .class_rans_decode = ClassRansDecodeScalar,
    .class_rans_encode = ClassRansEncodeScalar,
    .extract_plane = ExtractPlane,
    .insert_plane = InsertPlane,
    .map_symbols = MapSymbols,
    .take_extra = TakeExtra,
    .cascade_expand = CascadeExpandScalar,
    .cascade_reduce = CascadeReduceScalar,
    .join_rests = JoinRestsScalar,
    .take_rests = TakeRestsScalar,
    .place_keys = PlaceKeys,
    .decode_units = DecodeUnits,
    .split_halves = SplitHalves,
    .join_halves = JoinHalves,
    .delta_steps = DeltaStepsScalar,
    .delta_measure = DeltaMeasureScalar,
    .residual_symbols = ResidualSymbolsScalar,
    .residual_apply = ResidualApplyScalar,
    .map_bytes = MapBytesScalar,
    .add_scaled = AddScaledScalar,
    .learn_scaled = LearnScaledScalar,
    .widen = WidenScalar,
    .add_product = AddProductScalar,
    .add_product_f32 = AddProductF32Scalar,
    .add_outer = AddOuterScalar,
    .dot = DotScalar,
    .round_to = RoundToScalar,
    .settle_sums = SettleSumsScalar,
    .widen_f32 = WidenF32Scalar,
    .code_weights = CodeWeightsScalar,
    .group_ranges = GroupRangesScalar,
    .xxh3 = Xxh3,
};

}  // namespace

const Table* ScalarTable() { return &kTable; }

bool DecodeUnitsByParts(const Table& kernels, RansStream* streams,
                        const RansDecodeTable* tables, const uint8_t* selectors,
                        UnitKind kind, const PlaneRef* planes, size_t chunks,
                        uint8_t* units) {
  struct Bits {
    int width, shift;
  };
  static constexpr Bits kBf16[] = {{4, 0}, {1, 4}, {1, 15}};
  static constexpr Bits kFp16[] = {{1, 0}, {1, 1}, {1, 2},
                                   {4, 3}, {1, 7}, {1, 15}};
  const Bits* const bits = kind == UnitKind::kBf16 ? kBf16 : kFp16;
  alignas(64) uint16_t keys[kUnitChunk];
  alignas(64) uint16_t values[kUnitChunk];
  bool complete = true;
  for (size_t c = 0; c < chunks; ++c) {
    complete &= kernels.rans_decode(
        streams, kMaxStreams, tables[Selector(selectors, c)], keys, kUnitSteps);
    kernels.place_keys(keys, kUnitChunk, KeyShift(kind), values);
    for (size_t p = 0; p < PlaneCount(kind); ++p) {
      const size_t stride = planes[p].stride;
      const uint8_t* const groups = planes[p].first + c * kUnitSteps * stride;
      if (stride == kGroup / 8 * static_cast<size_t>(bits[p].width)) {
        kernels.insert_plane(values, kUnitSteps, bits[p].width, bits[p].shift,
                             groups);
        continue;
      }
      for (size_t g = 0; g < kUnitSteps; ++g) {
        kernels.insert_plane(values + g * kGroup, 1, bits[p].width,
                             bits[p].shift, groups + g * stride);
      }
    }
    std::memcpy(units + c * sizeof values, values, sizeof values);
  }
  return complete;
}

}  // namespace zipllm::kernels
