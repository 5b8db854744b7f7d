// How ggml's quantized blocks are made of fields: scales, mins, quants, signs,
// grid indices (ggml/src/ggml-common.h of llama.cpp;
// format-spec/codecs/9-quant.md, "Types"). Each bit of a block belongs to one
// element of one field.
#ifndef ZIPLLM_CODECS_QUANT_GGML_BLOCKS_H_
#define ZIPLLM_CODECS_QUANT_GGML_BLOCKS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "zipllm/types.h"

namespace zipllm::codecs::quant {

/// Where some bits of `count` elements of a field lie in a block, from element
/// `first` on. They come in groups of span * levels elements, `stride` bytes
/// each: element l * span + k of a group has `width` bits from bit shift +
/// width * l of byte k on; they are bits [to, to + width) of the element.
struct Part {
  uint16_t first;
  uint16_t count;
  uint16_t offset;
  uint16_t stride;
  uint8_t span;
  uint8_t levels;
  uint8_t width;
  uint8_t shift;
  uint8_t to;
};

/// A field whose elements may be coded by what an earlier field holds at the
/// same place: `bits` bits of it from bit `shift` on.
struct Hint {
  int8_t field = -1;
  uint8_t shift = 0;
  uint8_t bits = 0;
};

inline constexpr size_t kMaxParts = 4;

struct Field {
  uint16_t count;                     // elements a block
  uint8_t bits;                       // of an element, at most 8
  std::array<Part, kMaxParts> parts;  // those with count 0 are none
  Hint hint;
};

/// What a block's scale d is.
enum class Scale : uint8_t {
  kNone,
  kHalf,  // FP16 in two fields of one element: low byte, high byte
  kE8M0,  // a byte, an exponent
  kE4M3,  // a byte a group, FP8 E4M3
};
/// How the scales within a block are read from their field.
enum class SubScale : uint8_t { kNone, kUnsigned, kSigned, kMinus32 };

/// The field of the weights themselves, the last one, and what is known of
/// them: w = d * s * q - dmin * m, with d and dmin a block's, s and m a
/// group's.
struct Quants {
  uint16_t count = 0;  // a block; 0: the type has no such field
  uint16_t group = 0;  // elements that share s and m
  Scale scale = Scale::kNone;
  int8_t d = -1;  // fields
  SubScale sub_scale = SubScale::kNone;
  int8_t s = -1;
  int8_t dmin = -1;  // always FP16
  int8_t m = -1;
  /// Whether q is the element as a number, -element modulo 2^bits its opposite.
  bool linear = false;
  /// What nearly each group has at least once (the largest magnitude, or the
  /// ends of the range): up to two sets of elements; a set of one twice has one
  /// member.
  uint8_t anchors = 0;
  std::array<std::array<uint8_t, 2>, 2> anchor{};
};

inline constexpr size_t kMaxFields = 8;

struct BlockType {
  DType dtype;
  uint16_t bytes;
  uint8_t fields;  // the quants are the last if there are any
  std::array<Field, kMaxFields> field;
  Quants quants;
};

// ---- Descriptions ----

/// `count` whole bytes from `offset` on.
constexpr Part Bytes(int offset, int count) {
  const int span = count % 32 == 0   ? 32
                   : count % 16 == 0 ? 16
                   : count % 4 == 0  ? 4
                                     : 1;
  return {0,
          static_cast<uint16_t>(count),
          static_cast<uint16_t>(offset),
          static_cast<uint16_t>(span),
          static_cast<uint8_t>(span),
          1,
          8,
          0,
          0};
}
/// `count` pieces of `width` bits from bit `shift` of every `stride`-th byte.
constexpr Part Every(int stride, int offset, int count, int width = 8,
                     int shift = 0, int to = 0) {
  return {0,
          static_cast<uint16_t>(count),
          static_cast<uint16_t>(offset),
          static_cast<uint16_t>(stride),
          1,
          1,
          static_cast<uint8_t>(width),
          static_cast<uint8_t>(shift),
          static_cast<uint8_t>(to)};
}
/// `count` elements of `width` bits that fill bytes from `offset` on: of each
/// `span` bytes first the lowest bits, then the next.
constexpr Part Packed(int width, int span, int offset, int count, int to = 0) {
  return {0,
          static_cast<uint16_t>(count),
          static_cast<uint16_t>(offset),
          static_cast<uint16_t>(span),
          static_cast<uint8_t>(span),
          static_cast<uint8_t>(8 / width),
          static_cast<uint8_t>(width),
          0,
          static_cast<uint8_t>(to)};
}
constexpr Part Slice(int first, int count, int offset, int width, int shift,
                     int to) {
  return {static_cast<uint16_t>(first),  static_cast<uint16_t>(count),
          static_cast<uint16_t>(offset), static_cast<uint16_t>(count),
          static_cast<uint8_t>(count),   1,
          static_cast<uint8_t>(width),   static_cast<uint8_t>(shift),
          static_cast<uint8_t>(to)};
}

constexpr Field F(int count, int bits, std::array<Part, kMaxParts> parts,
                  Hint hint = {}) {
  return {static_cast<uint16_t>(count), static_cast<uint8_t>(bits), parts,
          hint};
}
/// Any number of whole bytes.
constexpr Field ByteField(int offset, int count, Hint hint = {}) {
  return F(count, 8, {Bytes(offset, count)}, hint);
}
// An FP16 is its high byte and, in a field after it, its low byte, whose bits
// are often set by those of the mantissa above: weights that came from BF16
// leave few values.
constexpr Field HalfHigh(int offset, Hint hint = {}) {
  return ByteField(offset + 1, 1, hint);
}
constexpr Field HalfLow(int offset, int high) {
  return ByteField(offset, 1, {static_cast<int8_t>(high), 0, 2});
}
/// The scales and mins of Q4_K and Q5_K: 6 bits each in 12 bytes.
constexpr Field KScales(int offset, bool mins, Hint hint = {}) {
  const int at = offset + (mins ? 4 : 0);
  const int nibble = mins ? 4 : 0;
  return F(8, 6,
           {Slice(0, 4, at, 6, 0, 0), Slice(4, 4, offset + 8, 4, nibble, 0),
            Slice(4, 4, at, 2, 6, 4)},
           hint);
}

constexpr std::array<std::array<uint8_t, 2>, 2> Ends(int low, int high) {
  return {{{static_cast<uint8_t>(low), static_cast<uint8_t>(low)},
           {static_cast<uint8_t>(high), static_cast<uint8_t>(high)}}};
}

inline constexpr std::array kBlockTypes = {
    BlockType{DType::kGgmlQ40,
              18,
              3,
              {HalfHigh(0), HalfLow(0, 0), F(32, 4, {Packed(4, 16, 2, 32)})},
              {.count = 32,
               .group = 32,
               .scale = Scale::kHalf,
               .d = 0,
               .linear = true,
               .anchors = 1,
               .anchor = Ends(0, 0)}},
    BlockType{DType::kGgmlQ41,
              20,
              5,
              {HalfHigh(0), HalfLow(0, 0), HalfHigh(2, {0, 0, 3}),
               HalfLow(2, 2), F(32, 4, {Packed(4, 16, 4, 32)})},
              {.count = 32,
               .group = 32,
               .scale = Scale::kHalf,
               .d = 0,
               .dmin = 2,
               .anchors = 2,
               .anchor = Ends(0, 15)}},
    BlockType{DType::kGgmlQ50,
              22,
              3,
              {HalfHigh(0), HalfLow(0, 0),
               F(32, 5, {Packed(4, 16, 6, 32), Packed(1, 1, 2, 32, 4)})},
              {.count = 32,
               .group = 32,
               .scale = Scale::kHalf,
               .d = 0,
               .linear = true,
               .anchors = 1,
               .anchor = Ends(0, 0)}},
    BlockType{
        DType::kGgmlQ51,
        24,
        5,
        {HalfHigh(0), HalfLow(0, 0), HalfHigh(2, {0, 0, 3}), HalfLow(2, 2),
         F(32, 5, {Packed(4, 16, 8, 32), Packed(1, 1, 4, 32, 4)})},
        {.count = 32,
         .group = 32,
         .scale = Scale::kHalf,
         .d = 0,
         .dmin = 2,
         .anchors = 2,
         .anchor = Ends(0, 31)}},
    BlockType{DType::kGgmlQ80,
              34,
              3,
              {HalfHigh(0), HalfLow(0, 0), ByteField(2, 32)},
              {.count = 32,
               .group = 32,
               .scale = Scale::kHalf,
               .d = 0,
               .linear = true,
               .anchors = 1,
               .anchor = {{{127, 129}, {}}}}},
    BlockType{DType::kGgmlQ81,
              36,
              5,
              {HalfHigh(0), HalfLow(0, 0), HalfHigh(2), HalfLow(2, 2),
               ByteField(4, 32)},
              {.count = 32,
               .group = 32,
               .scale = Scale::kHalf,
               .d = 0,
               .linear = true,
               .anchors = 1,
               .anchor = {{{127, 129}, {}}}}},
    BlockType{DType::kGgmlQ2K,
              84,
              7,
              {HalfHigh(80), HalfLow(80, 0), HalfHigh(82, {0, 0, 3}),
               HalfLow(82, 2), F(16, 4, {Every(1, 0, 16, 4, 0)}),
               F(16, 4, {Every(1, 0, 16, 4, 4)}, {4, 1, 3}),
               F(256, 2, {Packed(2, 32, 16, 256)})},
              {.count = 256,
               .group = 16,
               .scale = Scale::kHalf,
               .d = 0,
               .sub_scale = SubScale::kUnsigned,
               .s = 4,
               .dmin = 2,
               .m = 5,
               .anchors = 2,
               .anchor = Ends(0, 3)}},
    BlockType{DType::kGgmlQ3K,
              110,
              4,
              {HalfHigh(108), HalfLow(108, 0),
               F(16, 6, {Packed(4, 8, 96, 16), Packed(2, 4, 104, 16, 4)}),
               F(256, 3, {Packed(2, 32, 32, 256), Packed(1, 32, 0, 256, 2)})},
              {.count = 256,
               .group = 16,
               .scale = Scale::kHalf,
               .d = 0,
               .sub_scale = SubScale::kMinus32,
               .s = 2,
               .linear = true,
               .anchors = 2,
               .anchor = Ends(0, 7)}},
    BlockType{DType::kGgmlQ4K,
              144,
              7,
              {HalfHigh(0), HalfLow(0, 0), HalfHigh(2, {0, 0, 3}),
               HalfLow(2, 2), KScales(4, false), KScales(4, true, {4, 3, 3}),
               F(256, 4, {Packed(4, 32, 16, 256)})},
              {.count = 256,
               .group = 32,
               .scale = Scale::kHalf,
               .d = 0,
               .sub_scale = SubScale::kUnsigned,
               .s = 4,
               .dmin = 2,
               .m = 5,
               .anchors = 2,
               .anchor = Ends(0, 15)}},
    BlockType{DType::kGgmlQ5K,
              176,
              7,
              {HalfHigh(0), HalfLow(0, 0), HalfHigh(2, {0, 0, 3}),
               HalfLow(2, 2), KScales(4, false), KScales(4, true, {4, 3, 3}),
               F(256, 5, {Packed(4, 32, 48, 256), Packed(1, 32, 16, 256, 4)})},
              {.count = 256,
               .group = 32,
               .scale = Scale::kHalf,
               .d = 0,
               .sub_scale = SubScale::kUnsigned,
               .s = 4,
               .dmin = 2,
               .m = 5,
               .anchors = 2,
               .anchor = Ends(0, 31)}},
    BlockType{DType::kGgmlQ6K,
              210,
              4,
              {HalfHigh(208), HalfLow(208, 0), ByteField(192, 16),
               F(256, 6, {Packed(4, 64, 0, 256), Packed(2, 32, 128, 256, 4)})},
              {.count = 256,
               .group = 16,
               .scale = Scale::kHalf,
               .d = 0,
               .sub_scale = SubScale::kSigned,
               .s = 2,
               .linear = true,
               .anchors = 2,
               .anchor = Ends(0, 63)}},
    BlockType{DType::kGgmlQ8K,
              292,
              7,
              {ByteField(3, 1), ByteField(2, 1), ByteField(1, 1),
               ByteField(0, 1), F(16, 8, {Every(2, 261, 16)}),
               F(16, 8, {Every(2, 260, 16)}), ByteField(4, 256)},
              {.count = 256,
               .group = 32,
               .anchors = 1,
               .anchor = {{{127, 129}, {}}}}},
    BlockType{DType::kGgmlIQ2XXS,
              66,
              6,
              {HalfHigh(0), HalfLow(0, 0), F(8, 4, {Every(8, 9, 8, 4, 4)}),
               F(32, 8, {Part{0, 32, 2, 8, 4, 1, 8, 0, 0}}, {2, 0, 4}),
               F(24, 8, {Part{0, 24, 6, 8, 3, 1, 8, 0, 0}}),
               F(8, 4, {Every(8, 9, 8, 4, 0)})},
              {}},
    BlockType{DType::kGgmlIQ2XS,
              74,
              6,
              {HalfHigh(0), HalfLow(0, 0), F(16, 4, {Packed(4, 1, 66, 16)}),
               F(32, 1, {Every(2, 3, 32, 1, 0)}),
               F(32, 8, {Every(2, 2, 32)}, {3, 0, 1}),
               F(32, 7, {Every(2, 3, 32, 7, 1)})},
              {}},
    BlockType{DType::kGgmlIQ3XXS,
              98,
              6,
              {HalfHigh(0), HalfLow(0, 0), F(8, 4, {Every(4, 69, 8, 4, 4)}),
               ByteField(2, 64, {2, 0, 4}),
               F(24, 8, {Part{0, 24, 66, 4, 3, 1, 8, 0, 0}}),
               F(8, 4, {Every(4, 69, 8, 4, 0)})},
              {}},
    BlockType{DType::kGgmlIQ1S,
              50,
              5,
              {HalfHigh(0), HalfLow(0, 0), F(8, 8, {Every(2, 35, 8)}),
               F(8, 8, {Every(2, 34, 8)}), ByteField(2, 32)},
              {}},
    BlockType{DType::kGgmlIQ4NL,
              18,
              3,
              {HalfHigh(0), HalfLow(0, 0), F(32, 4, {Packed(4, 16, 2, 32)})},
              {.count = 32,
               .group = 32,
               .scale = Scale::kHalf,
               .d = 0,

               .anchors = 1,
               .anchor = Ends(0, 0)}},
    BlockType{DType::kGgmlIQ3S,
              110,
              6,
              {HalfHigh(0), HalfLow(0, 0), F(8, 4, {Packed(4, 1, 106, 8)}),
               F(64, 1, {Packed(1, 1, 66, 64)}), ByteField(2, 64, {3, 0, 1}),
               ByteField(74, 32)},
              {}},
    BlockType{DType::kGgmlIQ2S,
              82,
              6,
              {HalfHigh(0), HalfLow(0, 0), F(16, 4, {Packed(4, 1, 74, 16)}),
               F(32, 2, {Packed(2, 1, 66, 32)}), ByteField(2, 32, {3, 0, 2}),
               ByteField(34, 32)},
              {}},
    BlockType{DType::kGgmlIQ4XS,
              136,
              4,
              {HalfHigh(0), HalfLow(0, 0),
               F(8, 6, {Packed(4, 1, 4, 8), Packed(2, 1, 2, 8, 4)}),
               F(256, 4, {Packed(4, 16, 8, 256)})},
              {.count = 256,
               .group = 32,
               .scale = Scale::kHalf,
               .d = 0,
               .sub_scale = SubScale::kMinus32,
               .s = 2,

               .anchors = 1,
               .anchor = Ends(0, 0)}},
    BlockType{DType::kGgmlIQ1M,
              56,
              5,
              {F(4, 4, {Every(2, 49, 4, 4, 4)}), F(4, 8, {Every(2, 48, 4)}),
               F(4, 4, {Every(2, 49, 4, 4, 0)}),
               F(32, 4, {Packed(4, 1, 32, 32)}), ByteField(0, 32)},
              {}},
    BlockType{DType::kGgmlTQ10,
              54,
              3,
              {HalfHigh(52), HalfLow(52, 0), ByteField(0, 52)},
              {}},
    BlockType{DType::kGgmlTQ20,
              66,
              3,
              {HalfHigh(64), HalfLow(64, 0), ByteField(0, 64)},
              {}},
    BlockType{DType::kGgmlMXFP4,
              17,
              2,
              {ByteField(0, 1), F(32, 4, {Packed(4, 16, 1, 32)})},
              {.count = 32, .group = 32, .scale = Scale::kE8M0, .d = 0}},
    BlockType{DType::kGgmlNVFP4,
              36,
              2,
              {ByteField(0, 4), F(64, 4, {Packed(4, 8, 4, 64)})},
              {.count = 64, .group = 16, .scale = Scale::kE4M3, .d = 0}},
    BlockType{DType::kGgmlQ10,
              18,
              3,
              {HalfHigh(0), HalfLow(0, 0), ByteField(2, 16)},
              {}},
    BlockType{DType::kGgmlQ20,
              18,
              3,
              {HalfHigh(0), HalfLow(0, 0), ByteField(2, 16)},
              {}},
};

/// The description of `dtype`'s blocks; null if it is not a quantized ggml
/// type.
constexpr const BlockType* FindBlockType(DType dtype) {
  for (const BlockType& type : kBlockTypes) {
    if (type.dtype == dtype) return &type;
  }
  return nullptr;
}

/// Whether the fields take each bit of a block once, and elements have the bits
/// they should.
consteval bool IsTiling(const BlockType& type) {
  std::array<uint8_t, 292> taken{};
  for (size_t f = 0; f < type.fields; ++f) {
    const Field& field = type.field[f];
    std::array<uint8_t, 256> bits_of{};
    for (const Part& p : field.parts) {
      if (p.count == 0) continue;
      const int group = p.span * p.levels;
      if (p.count % group != 0) return false;
      for (int i = 0; i < p.count; ++i) {
        const int byte = p.offset + i / group * p.stride + i % p.span;
        const int mask = ((1 << p.width) - 1)
                         << (p.shift + p.width * (i % group / p.span));
        if (byte >= type.bytes || mask > 255) return false;
        auto& in_byte = taken[static_cast<size_t>(byte)];
        if ((in_byte & mask) != 0) return false;
        in_byte = static_cast<uint8_t>(in_byte | mask);
        auto& bits = bits_of[static_cast<size_t>(p.first + i)];
        const int bit_mask = ((1 << p.width) - 1) << p.to;
        if ((bits & bit_mask) != 0) return false;
        bits = static_cast<uint8_t>(bits | bit_mask);
      }
    }
    for (size_t i = 0; i < field.count; ++i) {
      if (bits_of[i] != (1 << field.bits) - 1) return false;
    }
  }
  for (size_t byte = 0; byte < type.bytes; ++byte) {
    if (taken[byte] != 255) return false;
  }
  return true;
}
consteval bool AllTile() {
  for (const BlockType& type : kBlockTypes) {
    if (!IsTiling(type)) return false;
  }
  return true;
}
static_assert(AllTile(), "a bit of a block is in no field or in two");

}  // namespace zipllm::codecs::quant

#endif  // ZIPLLM_CODECS_QUANT_GGML_BLOCKS_H_
