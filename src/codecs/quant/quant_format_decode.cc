#include <cstring>

#include "codecs/quant/quant_format.h"

namespace zipllm::codecs::quant {
namespace {

/// Calls `function` with the span as a constant, so that compilers turn its
/// loops into vectors.
template <typename Function>
void WithSpan(int span, Function function) {
  switch (span) {
    case 1:
      return function(std::integral_constant<size_t, 1>());
    case 3:
      return function(std::integral_constant<size_t, 3>());
    case 4:
      return function(std::integral_constant<size_t, 4>());
    case 8:
      return function(std::integral_constant<size_t, 8>());
    case 16:
      return function(std::integral_constant<size_t, 16>());
    case 32:
      return function(std::integral_constant<size_t, 32>());
    default:
      return function(std::integral_constant<size_t, 64>());
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

/// An FP16's magnitude in units of its least one.
uint64_t HalfUnits(uint32_t high, uint32_t low) {
  const uint32_t exponent = high >> 2 & 31;
  const uint64_t mantissa = (high & 3) << 8 | low;
  return exponent == 0 ? mantissa : (mantissa | 1024) << (exponent - 1);
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

/// The classes of a group of kGroup elements by keys and columns alone.
template <size_t kGroup>
void ContextClasses(const Model& model, const GroupKey& key,
                    const uint8_t* column_scale, const uint8_t* column_group,
                    uint8_t* classes) {
  const int first = static_cast<int>(model.quant_class);
  if (column_scale == nullptr) {
    const int index = model.scale.Index(key.scale) * model.second.count +
                      model.second.Index(key.zero);
    std::memset(classes, first + index, kGroup);
    return;
  }
  const auto scale = static_cast<int16_t>(key.scale - model.scale.base);
  const auto last = static_cast<int16_t>(model.scale.count - 1);
  const int shift = model.scale.shift;
  const auto seconds = static_cast<int16_t>(model.second.count);
  const auto second = static_cast<int16_t>(
      model.by_column_group ? first : first + model.second.Index(key.zero));
  for (size_t i = 0; i < kGroup; ++i) {
    auto index = static_cast<int16_t>(
        static_cast<int16_t>(scale - 4 * column_scale[i]) >> shift);
    index = std::max<int16_t>(index, 0);
    index = std::min(index, last);
    classes[i] = static_cast<uint8_t>(index * seconds + second);
  }
  if (model.by_column_group) {
    for (size_t i = 0; i < kGroup; ++i) {
      classes[i] = static_cast<uint8_t>(classes[i] + column_group[i]);
    }
  }
}

template <size_t kGroup>
void ClassesOfGroups(const Model& model, const GroupKey* keys, size_t blocks,
                     size_t column,
                     const std::array<const uint8_t*, kMaxAnchors>& positions,
                     uint8_t* classes) {
  const bool columns = model.row_blocks != 0;
  const size_t groups = model.groups_per_block();
  size_t g = 0;
  for (size_t b = 0; b < blocks; ++b) {
    for (size_t j = 0; j < groups; ++j, ++g, classes += kGroup) {
      const size_t at = column * model.type->quants.count + j * kGroup;
      ContextClasses<kGroup>(
          model, keys[g], columns ? &model.column_scale[at] : nullptr,
          model.by_column_group ? &model.column_group[at] : nullptr, classes);
      if (model.split_by_anchors) {
        auto step = static_cast<uint8_t>(model.contexts);
        for (size_t a = 0; a < model.anchors; ++a) {
          const uint8_t position = positions[a][g];
          for (size_t i = 0; i < kGroup; ++i) {
            const auto before =
                static_cast<uint8_t>(-(static_cast<uint8_t>(i) < position));
            classes[i] = static_cast<uint8_t>(classes[i] + (before & step));
          }
          step = static_cast<uint8_t>(step * 2);
        }
      }
      for (size_t a = 0; a < model.anchors; ++a) {
        const uint8_t position = positions[a][g];
        if (position < kGroup) classes[position] = model.anchor_class[a];
      }
    }
    if (columns && ++column == model.row_blocks) column = 0;
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
  const auto add = [&](size_t count) {
    const auto first = next;
    next += static_cast<std::ptrdiff_t>(count);
    if (count != 0) ranges.push_back({first, next});
  };
  add(1);
  for (size_t f = 0; f < side_fields(); ++f) {
    add(hinted(f) ? size_t{1} << type->field[f].hint.bits : 1);
  }
  for (size_t a = 0; a < anchors; ++a) {
    add(1);
    add(1);
  }
  add(classes - quant_class);
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
    const auto mask = static_cast<uint8_t>((1 << part.width) - 1);
    if (IsBits(part)) {
      for (size_t b = 0; b < blocks; ++b) {
        const uint8_t* from = data + b * type.bytes + part.offset;
        uint8_t* to = symbols + b * field.count + part.first;
        for (size_t i = 0; i < part.count; i += 8) {
          // Bit k of the byte goes to byte k.
          uint64_t bits = from[i / 8] * uint64_t{0x0101010101010101};
          bits &= 0x8040201008040201;
          bits = (bits + 0x7f7f7f7f7f7f7f7f) | bits;
          bits = (bits >> 7 & 0x0101010101010101) << part.to;
          uint64_t old;
          std::memcpy(&old, to + i, sizeof old);
          old |= bits;
          std::memcpy(to + i, &old, sizeof old);
        }
      }
      continue;
    }
    WithSpan(part.span, [&](auto span) {
      ForRuns(part, [&](size_t byte, size_t element, int shift) {
        for (size_t b = 0; b < blocks; ++b) {
          const uint8_t* from = data + b * type.bytes + byte;
          uint8_t* to = symbols + b * field.count + element;
          for (size_t k = 0; k < span; ++k) {
            to[k] = static_cast<uint8_t>(to[k] | (from[k] >> shift & mask)
                                                     << part.to);
          }
        }
      });
    });
  }
}

void MergeField(const BlockType& type, const Field& field,
                const uint8_t* symbols, size_t blocks, uint8_t* data) {
  for (const Part& part : field.parts) {
    if (part.count == 0) continue;
    const auto mask = static_cast<uint8_t>((1 << part.width) - 1);
    if (IsBits(part)) {
      for (size_t b = 0; b < blocks; ++b) {
        const uint8_t* from = symbols + b * field.count + part.first;
        uint8_t* to = data + b * type.bytes + part.offset;
        for (size_t i = 0; i < part.count; i += 8) {
          uint64_t bits;
          std::memcpy(&bits, from + i, sizeof bits);
          bits = bits >> part.to & 0x0101010101010101;
          // Byte k goes to bit 56 + k.
          bits *= 0x0102040810204080;
          to[i / 8] = static_cast<uint8_t>(to[i / 8] | bits >> 56);
        }
      }
      continue;
    }
    WithSpan(part.span, [&](auto span) {
      ForRuns(part, [&](size_t byte, size_t element, int shift) {
        for (size_t b = 0; b < blocks; ++b) {
          const uint8_t* from = symbols + b * field.count + element;
          uint8_t* to = data + b * type.bytes + byte;
          for (size_t k = 0; k < span; ++k) {
            to[k] = static_cast<uint8_t>(to[k] | (from[k] >> part.to & mask)
                                                     << shift);
          }
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
  const uint32_t mask = (1u << hint.bits) - 1;
  for (size_t i = 0; i < count; ++i) {
    // Counts divide each other or are equal: no element is cut.
    const size_t at = (first + i) * source_count / field.count;
    classes[i] = static_cast<uint8_t>(model.first_class[f] +
                                      (source[at] >> hint.shift & mask));
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
    return Log(HalfUnits(symbols(field)[b], symbols(field + 1)[b]));
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
  const auto mask = static_cast<uint8_t>(
      (1 << model.type->field[model.side_fields()].bits) - 1);
  for (size_t b = 0; b < blocks; ++b) {
    for (size_t g = 0; g < groups; ++g, ++keys, symbols += quants.group) {
      const uint8_t* flip =
          &model.column_flip[column * quants.count + g * quants.group];
      const auto negative = static_cast<uint8_t>(-keys->negative);
      for (size_t i = 0; i < quants.group; ++i) {
        const auto all = static_cast<uint8_t>(flip[i] ^ negative);
        symbols[i] = static_cast<uint8_t>(((symbols[i] ^ all) - all) & mask);
      }
    }
    if (++column == model.row_blocks) column = 0;
  }
}

}  // namespace zipllm::codecs::quant
