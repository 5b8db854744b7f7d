// The definition of every kernel, in plain C++.
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <bit>
#include <cstring>

#include "kernels/kernels.h"
#include "kernels/kernels_cascade.h"
#include "kernels/kernels_class_rans.h"
#include "kernels/kernels_moments.h"

namespace zipllm::kernels {
namespace {

static_assert(std::endian::native == std::endian::little);

// ---- rANS ----

/// What the longest step of a stream takes, with room for a load of 8 bytes.
constexpr std::ptrdiff_t kStepWords = 2 * kLanes;
constexpr std::ptrdiff_t kStepExtra = kLanes / 4 + 8;

/// Takes from a stream: zeros, and *ok = false, where there is nothing left.
/// Without kChecked there must be enough for a step; then there is no branch on
/// what the data are, but for escapes.
template <bool kChecked>
uint32_t TakeWord(RansStream& stream, bool wanted, bool* ok) {
  if (kChecked) {
    if (!wanted) return 0;
    if (stream.words == stream.words_end) {
      *ok = false;
      return 0;
    }
  }
  uint16_t word;
  std::memcpy(&word, stream.words, sizeof word);
  stream.words += sizeof word * wanted;
  return word & -uint32_t{wanted};
}

template <bool kChecked>
uint32_t TakeExtra(RansStream& stream, bool wanted, bool* ok) {
  const uint64_t byte = stream.extra_bit / 8;
  if (kChecked) {
    if (!wanted) return 0;
    if (byte >= static_cast<uint64_t>(stream.extra_end - stream.extra)) {
      *ok = false;
      return 0;
    }
  }
  const uint32_t bits =
      (uint32_t{stream.extra[byte]} >> (stream.extra_bit % 8)) & 3;
  stream.extra_bit += 2 * uint64_t{wanted};
  return bits & -uint32_t{wanted};
}

uint32_t TakeEscape(RansStream& stream, bool* ok) {
  if (stream.escapes == stream.escapes_end) {
    *ok = false;
    return 0;
  }
  return *stream.escapes++;
}

template <bool kChecked>
bool DecodeStep(RansStream& stream, const RansDecodeTable& table,
                uint16_t* keys) {
  bool ok = true;
  for (size_t lane = 0; lane < kLanes; ++lane) {
    uint32_t state = stream.states[lane];
    const uint32_t slot = table.slots[state & (kSlots - 1)];
    const uint32_t frequency = (slot & (kSlots - 1)) + 1;
    const uint32_t rank = (slot >> 12) & (kSlots - 1);
    state = frequency * (state >> kProbabilityBits) + rank;
    const bool low = state < kStateLow;
    const uint32_t word = TakeWord<kChecked>(stream, low, &ok);
    stream.states[lane] = state << (16 * uint32_t{low}) | word;
    uint32_t key = table.keys[slot >> 24];
    key += TakeExtra<kChecked>(stream, (key & kKeyBare) != 0, &ok);
    if (key & kKeyEscape) key += TakeEscape(stream, &ok) << 2;
    keys[lane] = static_cast<uint16_t>(key & 0x3FF);
  }
  return ok;
}

bool RansDecode(RansStream* streams_state, int streams,
                const RansDecodeTable& table, uint16_t* keys, size_t steps) {
  bool ok = true;
  for (size_t step = 0; step < steps; ++step) {
    for (int s = 0; s < streams; ++s, keys += kLanes) {
      RansStream& stream = streams_state[s];
      const auto extra_byte = static_cast<std::ptrdiff_t>(stream.extra_bit / 8);
      if (stream.words_end - stream.words >= kStepWords &&
          stream.extra_end - stream.extra - extra_byte >= kStepExtra) {
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
        for (size_t i = 0; i < kGroup; ++i) {
          insert(values[i], (uint32_t{plane[i / 8]} >> (i % 8)) & 1);
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
    .split_halves = SplitHalves,
    .join_halves = JoinHalves,
    .add_scaled = AddScaledScalar,
    .learn_scaled = LearnScaledScalar,
    .xxh3 = Xxh3,
};

}  // namespace

const Table* ScalarTable() { return &kTable; }

}  // namespace zipllm::kernels
