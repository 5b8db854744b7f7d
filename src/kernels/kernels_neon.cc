// Kernels for AArch64: planes, keys and halves in NEON, which all its CPUs
// have; rANS and symbols, which look up in memory, as scalar code.
#include "kernels/kernels.h"
#include "kernels/kernels_cascade.h"
#include "kernels/kernels_class_rans.h"
#include "kernels/kernels_delta.h"
#include "kernels/kernels_moments.h"
#include "kernels/kernels_scaled.h"
#include "kernels/kernels_sum.h"
#include "kernels/kernels_units.h"

#if defined(__aarch64__)

#include <arm_neon.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace zipllm::kernels {
namespace {

constexpr size_t kWords = 8;  // in a vector

// A negative count shifts right.
inline uint16x8_t ShiftLeft(uint16x8_t words, int count) {
  return vshlq_u16(words, vdupq_n_s16(static_cast<int16_t>(count)));
}

// Bit i of a byte, for the bytes of a vector.
inline uint8x16_t EachBit() {
  return vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201));
}

bool RansDecode(RansStream* streams_state, int streams,
                const RansDecodeTable& table, uint16_t* keys, size_t steps) {
  return ScalarTable()->rans_decode(streams_state, streams, table, keys, steps);
}

void RansEncode(uint32_t* states, int streams, const RansEncodeTable& table,
                const uint8_t* symbols, size_t steps, uint8_t** words_end) {
  ScalarTable()->rans_encode(states, streams, table, symbols, steps, words_end);
}

void ExtractPlane(const uint16_t* values, size_t groups, int width, int shift,
                  uint8_t* plane) {
  for (; groups > 0; --groups, values += kGroup) {
    // The low bytes of 16 shifted values from i on.
    const auto bytes = [&](size_t i) {
      return vmovn_high_u16(vmovn_u16(ShiftLeft(vld1q_u16(values + i), -shift)),
                            ShiftLeft(vld1q_u16(values + i + kWords), -shift));
    };
    if (width == 1) {
      for (size_t i = 0; i < kGroup; i += 16) {
        const uint8x16_t bits =
            vandq_u8(vtstq_u8(bytes(i), vdupq_n_u8(1)), EachBit());
        plane[0] = vaddv_u8(vget_low_u8(bits));
        plane[1] = vaddv_u8(vget_high_u8(bits));
        plane += 2;
      }
    } else if (width == 4) {
      // Inserts the high half above the low one.
      for (size_t i = 0; i < kGroup / 2; i += 16, plane += 16) {
        vst1q_u8(plane, vsliq_n_u8(vandq_u8(bytes(i), vdupq_n_u8(15)),
                                   bytes(i + kGroup / 2), 4));
      }
    } else {
      for (size_t i = 0; i < kGroup; i += 16, plane += 16) {
        vst1q_u8(plane, bytes(i));
      }
    }
  }
}

void InsertPlane(uint16_t* values, size_t groups, int width, int shift,
                 const uint8_t* plane) {
  for (; groups > 0; --groups, values += kGroup) {
    // Puts 16 bytes into the values from i on.
    const auto insert = [&](size_t i, uint8x16_t bytes) {
      const auto put = [&](uint16_t* at, uint16x8_t bits) {
        vst1q_u16(at, vorrq_u16(vld1q_u16(at), ShiftLeft(bits, shift)));
      };
      put(values + i, vmovl_u8(vget_low_u8(bytes)));
      put(values + i + kWords, vmovl_high_u8(bytes));
    };
    if (width == 1) {
      for (size_t i = 0; i < kGroup; i += 16, plane += 2) {
        const uint8x16_t bits =
            vcombine_u8(vdup_n_u8(plane[0]), vdup_n_u8(plane[1]));
        insert(i, vandq_u8(vtstq_u8(bits, EachBit()), vdupq_n_u8(1)));
      }
    } else if (width == 4) {
      for (size_t i = 0; i < kGroup / 2; i += 16, plane += 16) {
        const uint8x16_t bytes = vld1q_u8(plane);
        insert(i, vandq_u8(bytes, vdupq_n_u8(15)));
        insert(i + kGroup / 2, vshrq_n_u8(bytes, 4));
      }
    } else {
      for (size_t i = 0; i < kGroup; i += 16, plane += 16) {
        insert(i, vld1q_u8(plane));
      }
    }
  }
}

void MapSymbols(const uint16_t* values, size_t count, int shift, uint16_t mask,
                const uint8_t* map, uint8_t* symbols) {
  ScalarTable()->map_symbols(values, count, shift, mask, map, symbols);
}

void PlaceKeys(const uint16_t* keys, size_t count, int shift,
               uint16_t* values) {
  size_t i = 0;
  for (; i + kWords <= count; i += kWords) {
    vst1q_u16(values + i, ShiftLeft(vld1q_u16(keys + i), shift));
  }
  ScalarTable()->place_keys(keys + i, count - i, shift, values + i);
}

bool DecodeUnits(RansStream* streams, const RansDecodeTable* tables,
                 const uint8_t* selectors, UnitKind kind,
                 const PlaneRef* planes, size_t chunks, const uint8_t*,
                 uint8_t* units) {
  return DecodeUnitsByParts(*NeonTable(), streams, tables, selectors, kind,
                            planes, chunks, units);
}

void SplitHalves(const uint8_t* elements, size_t count, uint16_t* low,
                 uint16_t* high) {
  size_t i = 0;
  for (; i + kWords <= count; i += kWords) {
    const uint16x8_t a = vreinterpretq_u16_u8(vld1q_u8(elements + 4 * i));
    const uint16x8_t b = vreinterpretq_u16_u8(vld1q_u8(elements + 4 * i + 16));
    vst1q_u16(low + i, vuzp1q_u16(a, b));
    vst1q_u16(high + i, vuzp2q_u16(a, b));
  }
  ScalarTable()->split_halves(elements + 4 * i, count - i, low + i, high + i);
}

void JoinHalves(const uint16_t* low, const uint16_t* high, size_t count,
                uint8_t* elements) {
  size_t i = 0;
  for (; i + kWords <= count; i += kWords) {
    const uint16x8_t l = vld1q_u16(low + i);
    const uint16x8_t h = vld1q_u16(high + i);
    vst1q_u8(elements + 4 * i, vreinterpretq_u8_u16(vzip1q_u16(l, h)));
    vst1q_u8(elements + 4 * i + 16, vreinterpretq_u8_u16(vzip2q_u16(l, h)));
  }
  ScalarTable()->join_halves(low + i, high + i, count - i, elements + 4 * i);
}

uint8_t TakeExtra(const uint16_t* values, int shift, size_t rows, int streams,
                  uint8_t* symbols, BitSink* sinks) {
  return ScalarTable()->take_extra(values, shift, rows, streams, symbols,
                                   sinks);
}

uint64_t Xxh3(const uint8_t* data, size_t size) {
  return XXH3_64bits(data, size);
}

constexpr Table kTable = {
    .target = Target::kNeon,
    .name = "neon",
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

const Table* NeonTable() { return &kTable; }

}  // namespace zipllm::kernels

#else

namespace zipllm::kernels {
const Table* NeonTable() { return nullptr; }
}  // namespace zipllm::kernels

#endif
