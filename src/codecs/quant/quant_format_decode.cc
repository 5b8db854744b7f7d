#include <algorithm>
#include <bit>
#include <cstring>
#include <type_traits>

#include "base/bytes.h"
#include "codecs/quant/quant_format.h"

namespace zipllm::codecs::quant {
namespace {

// Bytes are worked on eight at a time, as one number: that is as fast as
// vectors of the least x86-64, and needs none.

uint64_t Load(const uint8_t* from) { return LoadLe<uint64_t>(from); }

/// Calls function(T(), N): runs of span bytes are N numbers of type T.
template <typename Function>
void WithSpan(int span, Function function) {
  using std::integral_constant;
  switch (span) {
    case 1:
      return function(uint8_t(), integral_constant<size_t, 1>());
    case 3:
      return function(uint8_t(), integral_constant<size_t, 3>());
    case 4:
      return function(uint32_t(), integral_constant<size_t, 1>());
    case 8:
      return function(uint64_t(), integral_constant<size_t, 1>());
    case 16:
      return function(uint64_t(), integral_constant<size_t, 2>());
    case 32:
      return function(uint64_t(), integral_constant<size_t, 4>());
    default:
      return function(uint64_t(), integral_constant<size_t, 8>());
  }
}

/// to[i] |= (from[i] >> right & mask) << left for N numbers of bytes, `mask`
/// being in each byte.
template <typename T, size_t N>
void OrBits(const uint8_t* from, int right, uint64_t mask, int left,
            uint8_t* to) {
  for (size_t i = 0; i < N; ++i) {
    const T bits = LoadLe<T>(from + i * sizeof(T));
    const auto moved =
        static_cast<T>((bits >> right & static_cast<T>(mask)) << left);
    StoreLe(to + i * sizeof(T),
            static_cast<T>(LoadLe<T>(to + i * sizeof(T)) | moved));
  }
}

/// function(byte of the block, element, shift) for each run of span bytes and
/// elements of a part.
template <typename Function>
void ForRuns(const Part& part, Function function) {
  const size_t group = size_t{part.span} * part.levels;
  for (size_t i = 0; i < part.count; i += group) {
    const size_t byte = part.offset + i / group * part.stride;
    for (size_t level = 0; level < part.levels; ++level) {
      function(byte, part.first + i + level * part.span,
               part.shift + static_cast<int>(level) * part.width);
    }
  }
}

/// 8 elements of one bit that fill a byte.
bool IsBits(const Part& part) {
  return part.width == 1 && part.span == 1 && part.levels == 8 &&
         part.stride == 1;
}

/// The Log of an FP16's magnitude in units of its least one.
int LogOfHalf(uint32_t high, uint32_t low) {
  const uint32_t exponent = high >> 2 & 31;
  const uint32_t mantissa = (high & 3) << 8 | low;
  if (exponent == 0) return Log(mantissa);
  return 32 * static_cast<int>(exponent - 1) + Log(mantissa | 1024);
}

/// An FP8 E4M3's magnitude in units of its least one.
uint64_t E4m3Units(uint32_t bits) {
  const uint32_t exponent = bits >> 3 & 15;
  const uint64_t mantissa = bits & 7;
  return exponent == 0 ? mantissa : (mantissa | 8) << (exponent - 1);
}

constexpr std::array<int16_t, 256> kLogs = [] {
  std::array<int16_t, 256> logs{};
  for (size_t i = 0; i < logs.size(); ++i)
    logs[i] = static_cast<int16_t>(Log(i));
  return logs;
}();

/// classes[i] = the class of an element in a column of scale column_scale[i]
/// and of group column_group[i], or where that is null of group `second`.
/// `scale`: of the group of elements, as the axis has it.
template <size_t kGroup>
void ClassesByColumn(const Axis& axis, uint64_t seconds, uint8_t scale,
                     uint64_t first, const uint8_t* __restrict column_scale,
                     const uint8_t* __restrict column_group,
                     uint8_t* __restrict classes) {
  const int shift = axis.shift - kColumnShift;
  const uint64_t mask = (255u >> shift) * kEach;
  const auto highest =
      static_cast<uint8_t>(std::min((axis.count << shift) - 1, 255));
  std::array<uint8_t, kGroup> above;
  for (size_t i = 0; i < kGroup; ++i) {
    const uint8_t high = std::max(scale, column_scale[i]);
    above[i] = std::min(static_cast<uint8_t>(high - column_scale[i]), highest);
  }
  for (size_t i = 0; i < kGroup; i += 8) {
    const uint64_t index = Load(&above[i]) >> shift & mask;
    const uint64_t group = column_group == nullptr ? 0 : Load(column_group + i);
    StoreLe(classes + i, index * seconds + first * kEach + group);
  }
}

template <size_t kGroup>
void ClassesOfGroups(const Model& model, const GroupKey* keys, size_t blocks,
                     size_t column,
                     const std::array<const uint8_t*, kMaxAnchors>& positions,
                     uint8_t* classes) {
  const auto seconds = static_cast<int>(model.second.count);
  const auto first_class = static_cast<int>(model.quant_class);
  const Axis scale_axis = model.scale;
  const Axis second_axis = model.second;
  const bool by_group = model.by_column_group;
  const size_t row_blocks = model.row_blocks;
  const size_t count = model.type->quants.count;
  const size_t groups = model.groups_per_block();
  const size_t anchors = model.anchors;
  const auto step =
      static_cast<uint64_t>(model.split_by_anchors ? model.contexts : 0);
  const auto anchor_class = model.anchor_class;
  size_t g = 0;
  for (size_t b = 0; b < blocks; ++b) {
    for (size_t j = 0; j < groups; ++j, ++g, classes += kGroup) {
      const GroupKey key = keys[g];
      if (row_blocks == 0) {
        const int index =
            scale_axis.Index(key.scale) * seconds + second_axis.Index(key.zero);
        std::memset(classes, first_class + index, kGroup);
      } else {
        const size_t at = column * count + j * kGroup;
        const int scale = (key.scale - scale_axis.base) >> kColumnShift;
        const int second = by_group ? 0 : second_axis.Index(key.zero);
        ClassesByColumn<kGroup>(scale_axis, static_cast<uint64_t>(seconds),
                                static_cast<uint8_t>(std::clamp(scale, 0, 255)),
                                static_cast<uint64_t>(first_class + second),
                                &model.column_scale[at],
                                by_group ? &model.column_group[at] : nullptr,
                                classes);
      }
      for (size_t a = 0; a < anchors && step != 0; ++a) {
        const size_t position = std::min<size_t>(positions[a][g], kGroup);
        const uint8_t* before = &kBefore[kMaxGroup - position];
        const uint64_t add = (step << a) * kEach;
        for (size_t i = 0; i < kGroup; i += 8) {
          StoreLe(classes + i, Load(classes + i) + (Load(before + i) & add));
        }
      }
      for (size_t a = 0; a < anchors; ++a) {
        const uint8_t position = positions[a][g];
        if (position < kGroup) classes[position] = anchor_class[a];
      }
    }
    if (row_blocks != 0 && ++column == row_blocks) column = 0;
  }
}

}  // namespace

void Model::Number() {
  size_t next = 1;
  for (size_t f = 0; f < side_fields(); ++f) {
    first_class[f] = static_cast<uint8_t>(next);
    next += hinted(f) ? size_t{1} << type->field[f].hint.bits : 1;
  }
  for (size_t a = 0; a < anchors; ++a) {
    position_class[a] = static_cast<uint8_t>(next++);
    anchor_class[a] = static_cast<uint8_t>(next++);
  }
  quant_class = next;
  contexts = has_quants() ? size_t{scale.count} * second.count : 0;
  classes = next + (contexts << (split_by_anchors ? anchors : 0));
}

std::vector<ClassRange> Model::TableRanges() const {
  std::vector<ClassRange> ranges;
  std::ptrdiff_t next = 0;
  constexpr int kAny = 8;
  const auto add = [&](size_t count, int bits) {
    const auto first = next;
    next += static_cast<std::ptrdiff_t>(count);
    if (count != 0) ranges.push_back({first, next, size_t{1} << bits});
  };
  add(1, kAny);
  for (size_t f = 0; f < side_fields(); ++f) {
    const Field& field = type->field[f];
    add(hinted(f) ? size_t{1} << field.hint.bits : 1, field.bits);
  }
  if (!has_quants()) return ranges;
  const int bits = type->field[side_fields()].bits;
  for (size_t a = 0; a < anchors; ++a) {
    add(1, kAny);
    add(1, bits);
  }
  add(classes - quant_class, bits);
  return ranges;
}

SideLayout::SideLayout(const Model& model, size_t blocks) {
  for (size_t f = 0; f < model.side_fields(); ++f) {
    field[f] = size;
    size += Padded(blocks * model.type->field[f].count);
  }
  for (size_t a = 0; a < model.anchors; ++a) {
    position[a] = size;
    size += Padded(blocks * model.groups_per_block());
  }
}

void SplitField(const BlockType& type, const Field& field, const uint8_t* data,
                size_t blocks, uint8_t* symbols) {
  std::memset(symbols, 0, blocks * field.count);
  for (const Part& part : field.parts) {
    if (part.count == 0) continue;
    const uint64_t mask = ((1u << part.width) - 1) * kEach;
    if (IsBits(part)) {
      for (size_t b = 0; b < blocks; ++b) {
        const uint8_t* from = data + b * type.bytes + part.offset;
        uint8_t* to = symbols + b * field.count + part.first;
        for (size_t i = 0; i < part.count; i += 8) {
          // Bit k of the byte goes to byte k.
          uint64_t bits = from[i / 8] * kEach & 0x8040201008040201;
          bits = (bits + 127 * kEach) >> 7 & kEach;
          StoreLe(to + i, Load(to + i) | bits << part.to);
        }
      }
      continue;
    }
    const int left = part.to;
    WithSpan(part.span, [&](auto word, auto words) {
      ForRuns(part, [&](size_t byte, size_t element, int shift) {
        const uint8_t* from = data + byte;
        uint8_t* to = symbols + element;
        for (size_t b = 0; b < blocks; ++b) {
          OrBits<decltype(word), words()>(from, shift, mask, left, to);
          from += type.bytes;
          to += field.count;
        }
      });
    });
  }
}

void MergeField(const BlockType& type, const Field& field,
                const uint8_t* symbols, size_t blocks, uint8_t* data) {
  for (const Part& part : field.parts) {
    if (part.count == 0) continue;
    const uint64_t mask = ((1u << part.width) - 1) * kEach;
    if (IsBits(part)) {
      for (size_t b = 0; b < blocks; ++b) {
        const uint8_t* from = symbols + b * field.count + part.first;
        uint8_t* to = data + b * type.bytes + part.offset;
        for (size_t i = 0; i < part.count; i += 8) {
          // Byte k goes to bit 56 + k.
          const uint64_t bits =
              (Load(from + i) >> part.to & kEach) * 0x0102040810204080;
          to[i / 8] = static_cast<uint8_t>(to[i / 8] | bits >> 56);
        }
      }
      continue;
    }
    const int right = part.to;
    WithSpan(part.span, [&](auto word, auto words) {
      ForRuns(part, [&](size_t byte, size_t element, int shift) {
        const uint8_t* from = symbols + element;
        uint8_t* to = data + byte;
        for (size_t b = 0; b < blocks; ++b) {
          OrBits<decltype(word), words()>(from, right, mask, shift, to);
          from += field.count;
          to += type.bytes;
        }
      });
    });
  }
}

void SideClasses(const Model& model, size_t f, const uint8_t* source,
                 size_t first, size_t count, uint8_t* classes) {
  if (!model.hinted(f)) {
    std::memset(classes, model.first_class[f], count);
    return;
  }
  const Field& field = model.type->field[f];
  const Hint& hint = field.hint;
  const size_t source_count =
      model.type->field[static_cast<size_t>(hint.field)].count;
  // Counts are equal, or a power of two times the source's.
  const int ratio = std::countr_zero(field.count / source_count);
  const uint32_t mask = (1u << hint.bits) - 1;
  const uint32_t first_class = model.first_class[f];
  const int shift = hint.shift;
  for (size_t i = 0; i < count; ++i) {
    classes[i] = static_cast<uint8_t>(
        first_class + (source[(first + i) >> ratio] >> shift & mask));
  }
}

void FindKeys(const BlockType& type, const uint8_t* side,
              const SideLayout& layout, size_t first, size_t blocks,
              GroupKey* keys) {
  const Quants& quants = type.quants;
  const size_t groups = static_cast<size_t>(quants.count / quants.group);
  const auto symbols = [&](int field) {
    const auto f = static_cast<size_t>(field);
    return side + layout.field[f] + first * type.field[f].count;
  };
  const auto half = [&](int field, size_t b) {
    return LogOfHalf(symbols(field)[b], symbols(field + 1)[b]);
  };
  for (size_t b = 0; b < blocks; ++b) {
    int d = 0, dmin = 0;
    uint8_t negative = 0;
    if (quants.scale == Scale::kHalf) {
      d = half(quants.d, b);
      negative = symbols(quants.d)[b] >> 7;
    } else if (quants.scale == Scale::kE8M0) {
      d = 32 * symbols(quants.d)[b];
    }
    if (quants.dmin >= 0) dmin = half(quants.dmin, b);
    for (size_t g = 0; g < groups; ++g, ++keys) {
      const size_t at = b * groups + g;
      int scale = d;
      keys->negative = negative;
      if (quants.scale == Scale::kE4M3) {
        scale = Log(E4m3Units(symbols(quants.d)[at]));
      }
      if (quants.sub_scale != SubScale::kNone) {
        int s = symbols(quants.s)[at];
        if (quants.sub_scale == SubScale::kSigned) s = static_cast<int8_t>(s);
        if (quants.sub_scale == SubScale::kMinus32) s -= 32;
        keys->negative ^= static_cast<uint8_t>(s < 0);
        scale += kLogs[static_cast<size_t>(s < 0 ? -s : s)];
      }
      keys->scale = static_cast<int16_t>(scale);
      int zero = dmin - scale;
      if (quants.m >= 0) zero += kLogs[symbols(quants.m)[at]];
      keys->zero = static_cast<int16_t>(quants.dmin < 0 ? 0 : zero);
    }
  }
}

void QuantClasses(const Model& model, const GroupKey* keys, size_t blocks,
                  size_t column,
                  const std::array<const uint8_t*, kMaxAnchors>& positions,
                  uint8_t* classes) {
  if (model.type->quants.group == 16) {
    ClassesOfGroups<16>(model, keys, blocks, column, positions, classes);
  } else {
    ClassesOfGroups<32>(model, keys, blocks, column, positions, classes);
  }
}

void FlipQuants(const Model& model, const GroupKey* keys, size_t blocks,
                size_t column, uint8_t* symbols) {
  if (!model.by_column_group) return;
  const Quants& quants = model.type->quants;
  const size_t groups = model.groups_per_block();
  const int bits = model.type->field[model.side_fields()].bits;
  const uint64_t mask = ((1u << bits) - 1) * kEach;
  const uint8_t* const flips = model.column_flip.data();
  for (size_t b = 0; b < blocks; ++b) {
    const uint8_t* flip = flips + column * quants.count;
    for (size_t g = 0; g < groups; ++g, ++keys) {
      const uint64_t negative = keys->negative * ~uint64_t{0};
      for (size_t i = 0; i < quants.group; i += 8, symbols += 8, flip += 8) {
        // Where `all` is 255 the byte's complement plus 1; no carry between
        // bytes.
        const uint64_t all = Load(flip) ^ negative;
        const uint64_t x = Load(symbols) ^ all;
        const uint64_t sum =
            ((x & 127 * kEach) + (all & kEach)) ^ (x & 128 * kEach);
        StoreLe(symbols, sum & mask);
      }
    }
    if (++column == model.row_blocks) column = 0;
  }
}

}  // namespace zipllm::codecs::quant
