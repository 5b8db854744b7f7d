// Pure loops behind one run-time dispatch. The scalar version of each defines
// it; every other target gives the same bits. Kernels never allocate and never
// fail on the CPU they run on; preconditions stand in the comments. Includes no
// other project header.
#ifndef ZIPLLM_KERNELS_KERNELS_H_
#define ZIPLLM_KERNELS_KERNELS_H_

#include <cstddef>
#include <cstdint>

namespace zipllm::kernels {

// ---- rANS, 32 lanes a stream (format-spec/codecs/5-float.md) ----

inline constexpr size_t kLanes = 32;
inline constexpr size_t kMaxStreams = 4;
inline constexpr size_t kMaxSymbols = 32;
inline constexpr int kProbabilityBits = 12;
inline constexpr size_t kSlots = size_t{1} << kProbabilityBits;
inline constexpr uint32_t kStateLow = uint32_t{1}
                                      << 16;  // states lie in [2^16, 2^32)
inline constexpr size_t kGroup = 128;         // elements of a plane's group

/// One frequency table for decoding, in the alias layout: slot s = state & 4095
/// lies in bucket b = s >> 7 of 128 slots, with r = s & 127; entry e = b + (r
/// >= threshold[b] ? 32 : 0). Symbol and frequency are the entry's, and the
/// rank of the slot within its symbol is r + bias[e]. The next state is
/// frequency * (state >> 12) + rank.
struct RansDecodeTable {
  alignas(64) uint16_t threshold[32];  ///< 0 to 128
  alignas(64) uint16_t frequency[64];  ///< by entry
  alignas(64) uint16_t bias[64];       ///< by entry, modulo 2^16
  alignas(64) uint16_t symbol[64];     ///< by entry
  /// The same by slot, for targets that look up: frequency | rank << 13 |
  /// symbol << 25.
  alignas(64) uint32_t slots[kSlots];
  /// What a symbol stands for: its key (at most 10 bits: exponent << 2 | top
  /// two mantissa bits, those 0 where kKeyBare), with the flags below.
  alignas(64) uint16_t keys[kMaxSymbols];
};
/// The two mantissa bits are not in the symbol: the next 2 bits of the stream's
/// extra bits are added to the key.
inline constexpr uint16_t kKeyBare = 0x8000;
/// The exponent is not in the symbol: the stream's next escape byte << 2 is
/// added to the key. Always together with kKeyBare.
inline constexpr uint16_t kKeyEscape = 0x4000;

/// Where decoding of one stream stands. Pointers need no alignment.
struct RansStream {
  alignas(64) uint32_t states[kLanes];
  const uint8_t* words;      ///< 16-bit little-endian words, taken in order
  const uint8_t* words_end;  ///< words_end - words is even
  const uint8_t*
      extra;  ///< extra bits, from bit 0 of each byte; `extra_bit` of them gone
  const uint8_t* extra_end;
  uint64_t extra_bit;
  const uint8_t* escapes;  ///< a byte each
  const uint8_t* escapes_end;
};

/// Decodes `steps` steps of `streams` (1 or 4) streams. A step gives kLanes *
/// streams keys: keys[(step * streams + s) * 32 + lane] is the key of lane
/// `lane` of stream s, without flags. In a step each lane decodes one symbol;
/// then those lanes of the stream whose state is below 2^16 take, by ascending
/// lane, one word each: state = state << 16 | word; bare lanes take, by
/// ascending lane, 2 extra bits each, and escaped ones an escape byte each.
/// Any input is safe: where a stream runs out of words, extra bits or escapes
/// it takes zeros and the result is false. States may be any 32-bit values.
using RansDecodeFn = bool (*)(RansStream* streams_state, int streams,
                              const RansDecodeTable& table, uint16_t* keys,
                              size_t steps);

/// One frequency table for encoding.
struct RansEncodeTable {
  /// By symbol; frequency 0: the symbol does not occur.
  uint32_t frequency[kMaxSymbols];
  /// Where the symbol's ranks begin in `slot_of`.
  uint32_t start[kMaxSymbols];
  /// slot_of[start[symbol] + rank] is the slot with that rank: the inverse of
  /// the decode table. Gathers read the 2 bytes before it, so it is not first.
  alignas(64) uint16_t slot_of[kSlots];
};

/// Encodes `steps` steps, last to first, so that RansDecodeFn gives them first
/// to last. `symbols` are laid out as its keys are; all have frequency > 0 in
/// the table of their step. `states` (streams x 32) start as given and end as
/// the decoder's first states. The words of stream s are written downwards,
/// ending at words_end[s], which is moved to the first word; room for 2 bytes x
/// steps x 32 below each is a precondition. Encoding lane x with symbol s: if
/// state >= frequency << 20, the low 16 bits go out as a word (in a step, by
/// descending lane, since the stream is written backwards) and state >>= 16;
/// then state = (state / frequency) << 12 | slot_of[start + state % frequency].
using RansEncodeFn = void (*)(uint32_t* states, int streams,
                              const RansEncodeTable& table,
                              const uint8_t* symbols, size_t steps,
                              uint8_t** words_end);

// ---- rANS with a table by class (format-spec/codecs/8-classes.md) ----
//
// Symbols are bytes. The table of each is that of its class, which decoders
// know beforehand. Lanes, states and words as above.

/// By class and slot: (frequency - 1) | rank << 12 | symbol << 24, the rank
/// being that of the slot among the symbol's.
using ClassSlots = uint32_t[kSlots];
/// By class and symbol: (frequency - 1) | first slot << 12. A symbol's slots
/// are contiguous.
using ClassRanges = uint32_t[256];

/// Where decoding of one stream stands.
struct ClassStream {
  alignas(64) uint32_t states[kLanes];
  const uint8_t* words;      ///< 16-bit little-endian words, taken in order
  const uint8_t* words_end;  ///< words_end - words is even
};

/// Decodes `steps` steps of `streams` (1 or 4) streams: symbols[(step * streams
/// + s) * 32 + lane] is of lane `lane` of stream s and the class that `classes`
/// has at that place, an index into `tables`. Renormalisation as in
/// RansDecodeFn. Any words and states are safe: a stream that runs out of words
/// takes zeros, and the result is false.
using ClassRansDecodeFn = bool (*)(ClassStream* streams_state, int streams,
                                   const ClassSlots* tables,
                                   const uint8_t* classes, uint8_t* symbols,
                                   size_t steps);
/// Encodes `steps` steps, last to first, as RansEncodeFn does; the slot of a
/// rank is first slot + rank.
using ClassRansEncodeFn = void (*)(uint32_t* states, int streams,
                                   const ClassRanges* tables,
                                   const uint8_t* classes,
                                   const uint8_t* symbols, size_t steps,
                                   uint8_t** words_end);

// ---- Planes: some bits of 16-bit values, in groups of 128 elements ----
//
// A plane of width w takes 16 * w bytes a group:
//   w = 1: bit i % 8 of byte i / 8 is element i;
//   w = 4: the low half of byte i is element i, the high half element i + 64 (i
//   = 0 to 63); w = 8: byte i is element i.

/// plane = bits [shift, shift + width) of the values of `groups` whole groups.
using ExtractPlaneFn = void (*)(const uint16_t* values, size_t groups,
                                int width, int shift, uint8_t* plane);
/// values |= plane << shift, for `groups` whole groups.
using InsertPlaneFn = void (*)(uint16_t* values, size_t groups, int width,
                               int shift, const uint8_t* plane);

/// symbols[i] = map[(values[i] >> shift) & mask]; `map` has 1024 entries, mask
/// <= 1023.
using MapSymbolsFn = void (*)(const uint16_t* values, size_t count, int shift,
                              uint16_t mask, const uint8_t* map,
                              uint8_t* symbols);
/// Where the extra bits of a stream go: `held_bits` (below 8) are not in memory
/// yet.
struct BitSink {
  uint8_t* to;
  uint64_t held;
  uint32_t held_bits;
};
/// Flags above the symbol in what map_symbols gives: the element has extra
/// bits; its symbol is the escape (always together with kHasExtra).
inline constexpr uint8_t kHasExtra = 32;
inline constexpr uint8_t kHasEscape = 64;
/// For `rows` rows of 32 elements, of which row r belongs to stream r %
/// streams: elements with kHasExtra append (values[i] >> shift) & 3 to their
/// stream's sink, in order; all flags are cleared. Returns the flags that were
/// seen. Up to 8 bytes past what a sink has in memory are written.
using TakeExtraFn = uint8_t (*)(const uint16_t* values, int shift, size_t rows,
                                int streams, uint8_t* symbols, BitSink* sinks);

// ---- Cascades (format-spec/codecs/7-cascade.md) ----
//
// A layer of a cascade has a code of `width` (1, 2 or 4) bits for each of its
// elements; the greatest code escapes: the element goes on to the next layer.
// Groups of 128 codes take 16 * width bytes:
//   width 1: bit i % 8 of byte i / 8 is element i;
//   width 2: bits 2 * (i / 32) and up of byte i % 32 are element i;
//   width 4: the low half of byte i is element i, the high half element i + 64
//   (i = 0 to 63).

/// out[i] = symbols[code i]; where it escapes, the next of `escaped` instead.
/// For `groups` whole groups; returns how many of `escaped` were taken.
/// `symbols` has 16 bytes, `escaped` groups * 128 + 64 that can be read. Any
/// codes are safe.
using CascadeExpandFn = size_t (*)(const uint8_t* codes, size_t groups,
                                   int width, const uint8_t* symbols,
                                   const uint8_t* escaped, uint8_t* out);
/// The reverse: rank r < 2^width - 1 has code r; greater ones escape and go to
/// `escaped` as r - (2^width - 1), in order. Returns how many. `escaped` has
/// room for groups * 128 + 64 bytes, all of which may be written.
using CascadeReduceFn = size_t (*)(const uint8_t* ranks, size_t groups,
                                   int width, uint8_t* codes, uint8_t* escaped);

/// A rest byte has the sign in bit 0 and seven bits of the mantissa above.
/// Little-endian 16-bit unit i = rest bit 0 << 15 | (exponents[i] << 7 | rest
/// >> 1) << shift, cut to 16 bits, for `groups` whole groups; shift is 0 or 3.
/// With shift 3 `low` may be other than null: three planes of width 1 a group,
/// one after the other, for the bits 0, 1 and 2.
using JoinRestsFn = void (*)(const uint8_t* exponents, const uint8_t* rests,
                             const uint8_t* low, size_t groups, int shift,
                             uint8_t* units);
/// The reverse: rests[i] = ((units[i] >> shift) & 127) << 1 | units[i] >> 15;
/// `low`, if not null, gets the planes of the bits 0, 1 and 2.
using TakeRestsFn = void (*)(const uint16_t* units, size_t groups, int shift,
                             uint8_t* rests, uint8_t* low);

/// values[i] = keys[i] << shift (16 bits).
using PlaceKeysFn = void (*)(const uint16_t* keys, size_t count, int shift,
                             uint16_t* values);
// ---- Units: keys and planes together ----

/// What a 16-bit unit is made of: its key << the key's shift, and planes, in
/// this order (width @ shift).
enum class UnitKind {
  kBf16,  ///< key << 5; 4@0, 1@4, 1@15
  kFp16,  ///< key << 8; 1@0, 1@1, 1@2, 4@3, 1@7, 1@15
};
inline constexpr size_t kUnitChunk = 1024;  // units that share a table

/// Where the groups of a plane lie: each `stride` bytes after the one before.
/// Stride 0 repeats one group, such as zeros.
struct PlaneRef {
  const uint8_t* first;
  size_t stride;
};

/// Decodes `chunks` chunks of kUnitChunk units, little-endian, to `units`: keys
/// as RansDecodeFn gives them for 4 streams, with the bits of the planes, one
/// of `planes` for each that the kind has. The table of chunk c is
/// tables[selector], the selector being bits 2 * (c % 4) and the next of
/// selectors[c / 4], or 0 where `selectors` is null. Words and extra bits lie
/// in one array that is readable up to `readable_end`. Any input is safe; where
/// a stream runs out of anything the result is false, `units` is anything, and
/// the streams are not to be used again.
using DecodeUnitsFn = bool (*)(RansStream* streams,
                               const RansDecodeTable* tables,
                               const uint8_t* selectors, UnitKind kind,
                               const PlaneRef* planes, size_t chunks,
                               const uint8_t* readable_end, uint8_t* units);

/// 32-bit little-endian elements from and to their 16-bit halves.
using SplitHalvesFn = void (*)(const uint8_t* elements, size_t count,
                               uint16_t* low, uint16_t* high);
using JoinHalvesFn = void (*)(const uint16_t* low, const uint16_t* high,
                              size_t count, uint8_t* elements);
/// XXH3-64, seed 0.
using Xxh3Fn = uint64_t (*)(const uint8_t* data, size_t size);

enum class Target { kScalar = 0, kNeon, kAvx2, kAvx512 };

/// to[i] += (by * (factor[i] / 2^16)) / 64, modulo 2^32, divisions rounding
/// down; |by| < 2^15. `to` and `factor` do not overlap.
using AddScaledFn = void (*)(int32_t by, const int32_t* factor, size_t count,
                             uint32_t* to);

/// rest[i] -= (by * (factor[i] / 2^16)) / 2^13, then factor[i] += (step *
/// rest[i]) / 2^shift, modulo 2^32, the last division rounding to nearest, the
/// others down; |by| < 2^15, shift < 31. `rest` and `factor` do not overlap.
using LearnScaledFn = void (*)(int32_t by, int32_t step, int shift,
                               size_t count, int32_t* rest, int32_t* factor);

// ---- Sums of tensors (codec 16) ----

enum class FloatType : uint8_t { kBF16 = 0, kF16 = 1, kF32 = 2 };

/// values[i] = element i; NaNs stay NaNs.
using WidenFn = void (*)(FloatType type, const uint8_t* elements, size_t count,
                         double* values);

/// to[i] += by[k] * factors[k * stride + i], for each k below `rank`,
/// ascending; each product and each sum is rounded. Arrays do not overlap.
using AddProductFn = void (*)(const double* by, const double* factors,
                              size_t stride, size_t rank, size_t count,
                              double* to);
/// The same, with each sum rounded to an FP32 number, too, and where not
/// `fused` each product before.
using AddProductF32Fn = void (*)(const double* by, const double* factors,
                                 size_t stride, size_t rank, bool fused,
                                 size_t count, double* to);
/// to[k * stride + i] += by[k] * values[i].
using AddOuterFn = void (*)(const double* by, size_t rank, const double* values,
                            size_t count, size_t stride, double* to);
/// Sum of a[i] * b[i]: that of i modulo 16 each, ascending; then those of 8
/// more added to each, those of 4 more, 2 and 1.
using DotFn = double (*)(const double* a, const double* b, size_t count);

/// Each value of less than 2^200 to the nearest one that the type would have if
/// it had no greatest number, ties to even. Others stay.
using RoundToFn = void (*)(FloatType type, size_t count, double* values);

struct SettleOptions {
  uint64_t noise_exponent = 0;  ///< field in a double
  bool noisy_bases = false;
};
/// predictions[i] = sums[i] in the type, ties to even; contexts[i] tells how
/// sure that is (format-spec/codecs/16-sum.md, "Contexts"). `bases` are read
/// where they are noisy alone.
using SettleSumsFn = void (*)(FloatType type, const SettleOptions& options,
                              const double* sums, const double* bases,
                              size_t count, uint8_t* predictions,
                              uint8_t* contexts);

// ---- Quantized weights with scales (format-spec/codecs/20-scaled.md) ----

/// values[i] = element i; NaNs stay NaNs.
using WidenF32Fn = void (*)(FloatType type, const uint8_t* elements,
                            size_t count, float* values);

/// How a weight becomes a code.
struct CodeRule {
  bool divides = true;  ///< a weight is divided by its scale, not multiplied
  FloatType steps = FloatType::kF32;  ///< what each result is rounded to
  bool is_float = false;
  // Floats: a byte, the sign at the top, the magnitude at the bottom.
  uint8_t mantissa_bits = 3;       ///< 1 to 7
  uint8_t bias = 7;                ///< 1 to 31
  bool has_negative_zero = false;  ///< else zeros have no sign
  float most = 0;                  ///< greatest magnitude, one of the type
  // Integers, modulo 256.
  bool zero_first = false;  ///< the zero point is added before rounding
  float low = 0;            ///< the least one, and the greatest: -256 to 256
  float high = 0;
  int32_t shift = 0;  ///< added then
};
/// codes[i] is what weights[i] becomes with scale (or what it is multiplied
/// with) by[i] and zero point zeros[i] (integers of at most 2^16; read where
/// codes are integers alone), contexts[i] (below kRestContexts), unless
/// `contexts` is null, how sure that is. NaNs are taken for 0.
inline constexpr size_t kRestContexts = 56;
using CodeWeightsFn = void (*)(const CodeRule& rule, const float* weights,
                               const float* by, const float* zeros,
                               size_t count, uint8_t* codes, uint8_t* contexts);

/// low[i] and high[i] are the least and the greatest of the `size` (at least 1)
/// elements of group i, -0 being below 0; NaNs are beyond infinities.
using GroupRangesFn = void (*)(FloatType type, const uint8_t* elements,
                               size_t size, size_t groups, float* low,
                               float* high);

// ---- Against a reference (format-spec/codecs/15-delta.md) ----

/// How large a typical step is beside a unit of a prediction's last place, in
/// quarter octaves: steps[i] = scale + columns[i] - 4 * max(exponent, 1), cut
/// to 0 to 63, the exponent being (prediction >> shift) & mask, a prediction an
/// integer of `size` (1, 2, 4 or 8) bytes. `columns` may be null: zeros. All
/// sums fit 16 bits.
using DeltaStepsFn = void (*)(const uint8_t* predictions, size_t size,
                              int shift, uint32_t mask, int scale,
                              const int16_t* columns, size_t count,
                              uint8_t* steps);

/// symbols[i] is how elements[i] differs from predictions[i], integers of
/// `size` (1, 2 or 4) bytes (format-spec/codecs/15-delta.md, "Symbols").
using ResidualSymbolsFn = void (*)(const uint8_t* elements,
                                   const uint8_t* predictions, size_t size,
                                   bool is_float, size_t count,
                                   uint8_t* symbols);
/// The reverse, of 1, 2, 4 or 8 bytes, for symbols below 31; for others
/// elements[i] is anything.
using ResidualApplyFn = void (*)(const uint8_t* symbols,
                                 const uint8_t* predictions, size_t size,
                                 bool is_float, size_t count,
                                 uint8_t* elements);
/// mapped[i] = map[bytes[i]]; `map` has 256 bytes. `mapped` may be `bytes`.
using MapBytesFn = void (*)(const uint8_t* bytes, size_t count,
                            const uint8_t* map, uint8_t* mapped);

enum class NumberKind {
  kBf16,
  kFp16,
  kFp32,
  kFp64,
  kE4m3,
  kE5m2,
  kInteger8,
  kInteger16,
  kInteger32,
  kInteger64,
};
inline constexpr uint32_t kDeltaMost = uint32_t{1} << 17;

/// For floats far = |element - prediction| * factor, computed in floats (32
/// bits) and cut to an integer; for integers that difference, the lesser way
/// around; at most kDeltaMost, which also what is not a number counts for. Adds
/// far to columns[i], unless that is null; returns the sum.
using DeltaMeasureFn = uint64_t (*)(const uint8_t* elements,
                                    const uint8_t* predictions, NumberKind kind,
                                    float factor, size_t count,
                                    uint32_t* columns);

struct Table {
  Target target;
  const char* name;  ///< "scalar", "neon", "avx2", "avx512"
  /// Whether decoding looks at RansDecodeTable::slots, 16 KiB that take longer
  /// to fill than all else there.
  bool reads_slots;
  RansDecodeFn rans_decode;
  RansEncodeFn rans_encode;
  ClassRansDecodeFn class_rans_decode;
  ClassRansEncodeFn class_rans_encode;
  ExtractPlaneFn extract_plane;
  InsertPlaneFn insert_plane;
  MapSymbolsFn map_symbols;
  TakeExtraFn take_extra;
  CascadeExpandFn cascade_expand;
  CascadeReduceFn cascade_reduce;
  JoinRestsFn join_rests;
  TakeRestsFn take_rests;
  PlaceKeysFn place_keys;
  DecodeUnitsFn decode_units;
  SplitHalvesFn split_halves;
  JoinHalvesFn join_halves;
  DeltaStepsFn delta_steps;
  DeltaMeasureFn delta_measure;
  ResidualSymbolsFn residual_symbols;
  ResidualApplyFn residual_apply;
  MapBytesFn map_bytes;
  AddScaledFn add_scaled;
  LearnScaledFn learn_scaled;
  WidenFn widen;
  AddProductFn add_product;
  AddProductF32Fn add_product_f32;
  AddOuterFn add_outer;
  DotFn dot;
  RoundToFn round_to;
  SettleSumsFn settle_sums;
  WidenF32Fn widen_f32;
  CodeWeightsFn code_weights;
  GroupRangesFn group_ranges;
  Xxh3Fn xxh3;
};

/// The best table for this CPU, chosen once; the environment variable
/// ZIPLLM_CPU (scalar, neon, avx2, avx512) asks for a lesser one.
const Table& Best();
/// The table of a target; null if this build or CPU has not got it.
const Table* Find(Target target);

// Each target's file defines its own; null where the build has not got it.
const Table* ScalarTable();
const Table* NeonTable();
const Table* Avx2Table();
const Table* Avx512Table();

}  // namespace zipllm::kernels

#endif  // ZIPLLM_KERNELS_KERNELS_H_
