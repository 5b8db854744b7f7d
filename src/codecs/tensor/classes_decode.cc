// Codec 8, classes: symbols by rANS with a table by the scale of their row and
// column, the rest in planes. Format: format-spec/codecs/8-classes.md.
#include <algorithm>
#include <cstring>

#include "base/bytes.h"
#include "codecs/codec.h"
#include "codecs/tensor/bit_planes_decode.h"
#include "codecs/tensor/classes_format.h"
#include "entropy/bits.h"
#include "entropy/class_rans.h"
#include "kernels/kernels.h"

namespace zipllm::codecs {
namespace {

using namespace classes_format;
using entropy::AdaptiveRice;
using entropy::BitReader;

struct Params final : DecodeParams {
  explicit Params(const entropy::ClassFrequencies& frequencies)
      : tables(frequencies) {}

  const Kind* kind = nullptr;
  ClassMap map;
  std::array<uint16_t, 256> units{};  // by symbol; 0 for the escape
  entropy::ClassDecodeTables tables;
};

/// Reads one offset, told by its difference to `*last`. False if there is none.
bool ReadOffset(AdaptiveRice& code, BitReader& bits, uint8_t* last) {
  const int64_t offset = int64_t{*last} + entropy::UnZigZag(code.Read(&bits));
  if (offset < 0 || offset > kMaxOffset) return false;
  *last = static_cast<uint8_t>(offset);
  return true;
}

absl::Status ReadColumns(BitReader& bits, const ByteReader& reader,
                         ClassMap* map) {
  map->offsets.assign(map->row, kNoOffset);
  map->contexts.assign(map->row, 0);
  map->flips.assign(map->row, 0);
  if (map->flags & kByColumns) {
    AdaptiveRice code;
    uint8_t last = kNoOffset;
    for (uint8_t& offset : map->offsets) {
      if (!ReadOffset(code, bits, &last)) {
        return reader.Error("a column's offset is out of range");
      }
      offset = last;
    }
  }
  if (map->flags & kBySigns) {
    AdaptiveRice code;
    for (size_t j = 0; j < map->row; ++j) {
      const uint32_t coded = code.Read(&bits);
      if (coded > 2 * (kSkews - 1)) {
        return reader.Error("a column's skew is out of range");
      }
      map->contexts[j] = static_cast<uint8_t>(kScales * ((coded + 1) / 2));
      map->flips[j] = coded % 2 != 0 ? kSign : uint8_t{0};
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<const DecodeParams>> Parse(ByteSpan bytes) {
  ByteReader reader(bytes, "classes parameters");
  ASSIGN_OR_RETURN(const uint8_t number, reader.Le<uint8_t>());
  if (number < 1 || number > kKinds.size()) {
    return reader.Error("unknown kind of elements ", int{number});
  }
  const Kind& kind = kKinds[number - 1];
  ClassMap map;
  ASSIGN_OR_RETURN(map.flags, reader.Le<uint8_t>());
  if (map.flags > kAllFlags) {
    return reader.Error("unknown flags ", int{map.flags});
  }
  if (map.flags != 0) {
    ASSIGN_OR_RETURN(map.row,
                     reader.Varint(map.has_columns() ? kMaxColumns : kMaxRow));
    if (map.row == 0) return reader.Error("rows of no elements");
  }
  ASSIGN_OR_RETURN(const uint64_t size, reader.Varint(reader.remaining()));
  ASSIGN_OR_RETURN(const ByteSpan coded, reader.Bytes(size));
  BitReader bits(coded);

  std::array<uint16_t, 256> units{};
  uint32_t listed = kMaxKeys;
  if (kind.element_size > 1) {
    listed = bits.Get(7);
    AdaptiveRice code;
    uint64_t next = 0;
    for (uint32_t i = 0; i < listed; ++i) {
      next += code.Read(&bits);
      if (next >> kind.key_bits != 0) {
        return reader.Error("a key is out of range");
      }
      units[i] = static_cast<uint16_t>(next << kind.key_shift);
      ++next;
    }
    for (uint32_t i = 0; i < kSign; ++i) {
      units[i | kSign] = static_cast<uint16_t>(units[i] | 0x8000);
    }
  }
  if (map.has_columns()) RETURN_IF_ERROR(ReadColumns(bits, reader, &map));

  uint32_t classes = 0;
  AdaptiveRice code;
  for (size_t skew = 0; skew < (map.flags & kBySigns ? kSkews : 1); ++skew) {
    for (uint32_t scale = 0; scale < kScales; ++classes) {
      const uint32_t more = code.Read(&bits);
      if (more >= kScales - scale || classes == entropy::kMaxClasses) {
        return reader.Error("classes do not divide the scales");
      }
      std::fill_n(map.classes.begin() +
                      static_cast<std::ptrdiff_t>(kScales * skew + scale),
                  more + 1, static_cast<uint8_t>(classes));
      scale += more + 1;
    }
  }
  if (!bits.AtEnd()) return reader.Error("bits do not end where they should");

  ASSIGN_OR_RETURN(const entropy::ClassFrequencies frequencies,
                   entropy::ParseClassFrequencies(reader));
  if (frequencies.size() != classes) {
    return reader.Error(frequencies.size(), " tables for ", classes,
                        " classes");
  }
  for (const entropy::ByteFrequencies& table : frequencies) {
    for (uint32_t symbol = listed; symbol < kEscape; ++symbol) {
      if (table[symbol] != 0 || table[symbol | kSign] != 0) {
        return reader.Error("a frequency for symbol ", symbol, " of ", listed);
      }
    }
  }
  RETURN_IF_ERROR(reader.ExpectEnd());
  auto params = std::make_unique<Params>(frequencies);
  params->kind = &kind;
  params->map = std::move(map);
  params->units = units;
  return params;
}

/// Reads the offsets of a block's rows.
absl::Status ReadRows(size_t rows, ByteReader& reader, Buffer* offsets) {
  ASSIGN_OR_RETURN(const uint64_t size, reader.Varint(reader.remaining()));
  ASSIGN_OR_RETURN(const ByteSpan coded, reader.Bytes(size));
  if (rows > 8 * size) return reader.Error("too few bits for ", rows, " rows");
  BitReader bits(coded);
  offsets->Resize(rows);
  AdaptiveRice code;
  uint8_t last = kNoOffset;
  for (uint8_t& offset : offsets->mutable_span()) {
    if (!ReadOffset(code, bits, &last)) {
      return reader.Error("a row's offset is out of range");
    }
    offset = last;
  }
  if (!bits.AtEnd()) {
    return reader.Error("bits of rows do not end where they should");
  }
  return absl::OkStatus();
}

/// The keys that symbols do not tell, in order.
class Escapes {
 public:
  explicit Escapes(ByteSpan keys) : keys_(keys) {}
  /// Adds the next ones to those of `count` units that have the escape. False
  /// where there are too few, or one is out of range.
  bool Add(const Kind& kind, const uint8_t* symbols, size_t count,
           uint16_t* units) {
    for (size_t i = 0; i < count; ++i) {
      if ((symbols[i] & kEscape) != kEscape) continue;
      if (keys_.empty()) return false;
      const uint16_t key = LoadLe<uint16_t>(keys_.data());
      keys_ = keys_.subspan(sizeof key);
      if (key >> kind.key_bits != 0) return false;
      units[i] = static_cast<uint16_t>(units[i] | key << kind.key_shift);
    }
    return true;
  }
  bool AtEnd() const { return keys_.empty(); }

 private:
  ByteSpan keys_;
};

bool HasEscape(const uint8_t* symbols, size_t count) {
  uint8_t any = 0;
  for (size_t i = 0; i < count; ++i) {
    any |= static_cast<uint8_t>((symbols[i] & kEscape) == kEscape);
  }
  return any != 0;
}

absl::Status Decode(const DecodeParams* decode_params, ByteSpan coded,
                    MutableByteSpan out, Scratch& scratch) {
  if (decode_params == nullptr) {
    return DataLoss("classes block has no parameters");
  }
  const Params& params = *static_cast<const Params*>(decode_params);
  const Kind& kind = *params.kind;
  const ClassMap& map = params.map;
  if (out.size() % kind.element_size != 0) {
    return DataLoss("classes block of ", out.size(), " bytes has no whole ",
                    "number of elements of ", int{kind.element_size}, " bytes");
  }
  const size_t count = out.size() / kind.element_size;
  ByteReader reader(coded, "classes block");
  uint64_t phase = 0;
  if (map.flags != 0) {
    ASSIGN_OR_RETURN(phase, reader.Varint(map.row - 1));
  }
  Buffer& rows = scratch.buffers[1];
  rows.Clear();
  if (map.flags & kByRows) {
    RETURN_IF_ERROR(ReadRows((phase + count - 1) / map.row + 1, reader, &rows));
  }
  ASSIGN_OR_RETURN(
      entropy::ClassRansDecoder decoder,
      entropy::ClassRansDecoder::Start(params.tables, count, reader));
  ClassCursor cursor(map, phase, rows.data());
  uint64_t column = phase;
  alignas(64) uint8_t classes[kPiece];

  if (kind.element_size == 1) {
    RETURN_IF_ERROR(reader.ExpectEnd());
    for (size_t i = 0; i < count; i += kPiece) {
      const size_t n = std::min(kPiece, count - i);
      cursor.Next(n, classes);
      decoder.Next(classes, n, out.data() + i);
      if (map.flags & kBySigns) FlipSigns(map, &column, n, out.data() + i);
    }
    return decoder.Finish();
  }

  ASSIGN_OR_RETURN(const uint64_t escaped, reader.Varint(count));
  ASSIGN_OR_RETURN(const ByteSpan keys, reader.Bytes(2 * escaped));
  Escapes escapes(keys);
  ASSIGN_OR_RETURN(PlaneReader planes,
                   PlaneReader::Start(kind.planes, PlaneGroups(count), reader,
                                      &scratch.buffers[0], scratch));
  RETURN_IF_ERROR(reader.ExpectEnd());
  const bool wide = kind.element_size == 4;
  alignas(64) uint8_t symbols[kPiece];
  alignas(64) uint16_t units[kPiece] = {};
  alignas(64) uint16_t low[kPiece];
  for (size_t i = 0; i < count; i += kPiece) {
    const size_t n = std::min(kPiece, count - i);
    cursor.Next(n, classes);
    decoder.Next(classes, n, symbols);
    if (map.flags & kBySigns) FlipSigns(map, &column, n, symbols);
    for (size_t j = 0; j < n; ++j) units[j] = params.units[symbols[j]];
    if (HasEscape(symbols, n) && !escapes.Add(kind, symbols, n, units)) {
      return reader.Error("escaped keys are missing or out of range");
    }
    if (wide) std::memset(low, 0, sizeof low);
    planes.Insert(i / kernels::kGroup, PlaneGroups(n), units, low);
    uint8_t* const to = out.data() + i * kind.element_size;
    if (wide) {
      kernels::Best().join_halves(low, units, n, to);
    } else {
      std::memcpy(to, units, n * sizeof *units);
    }
  }
  if (!escapes.AtEnd()) return reader.Error("more escaped keys than escapes");
  return decoder.Finish();
}

}  // namespace

extern const Decoder kClassesDecoder = {
    .id = 8, .name = "classes", .parse = Parse, .decode = Decode};

}  // namespace zipllm::codecs
