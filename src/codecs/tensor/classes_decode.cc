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
  // By symbol: what it says of the element's unit. Those (less the sign) from
  // `exact` on leave `group_bits` of the key to say, the escape all.
  std::array<uint16_t, 256> units{};
  uint8_t exact = 0;
  int group_bits = 0;
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

/// What symbols stand for.
struct Alphabet {
  uint32_t exact = 0;   // symbols of one key
  uint32_t listed = 0;  // with those of groups of keys
  int group_bits = 0;
  std::array<uint16_t, 256> units{};
};

absl::Status ReadAlphabet(const Kind& kind, BitReader& bits,
                          const ByteReader& reader, Alphabet* alphabet) {
  alphabet->group_bits = static_cast<int>(bits.Get(3));
  alphabet->exact = bits.Get(8);
  alphabet->listed = alphabet->exact + bits.Get(8);
  if (alphabet->listed > kind.escape()) {
    return reader.Error(alphabet->listed, " symbols; ", int{kind.escape()},
                        " is the most");
  }
  AdaptiveRice code;
  uint64_t next = 0;
  for (uint32_t s = 0; s < alphabet->listed; ++s) {
    if (s == alphabet->exact) next = 0;
    next += code.Read(&bits);
    const int group_bits = s < alphabet->exact ? 0 : alphabet->group_bits;
    if (next >> kind.key_bits != 0 ||
        next << group_bits >> kind.key_bits != 0) {
      return reader.Error("a key is out of range");
    }
    alphabet->units[s] =
        static_cast<uint16_t>(next << group_bits << kind.key_shift);
    ++next;
  }
  if (kind.has_sign) {
    const int shift = kind.element_size == 1 ? 0 : 8;
    for (uint32_t s = 0; s < kSign; ++s) {
      alphabet->units[s | kSign] =
          static_cast<uint16_t>(alphabet->units[s] | kSign << shift);
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
  if (map.flags > (kind.has_sign ? kAllFlags : kAllFlags & ~kBySigns)) {
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

  Alphabet alphabet;
  RETURN_IF_ERROR(ReadAlphabet(kind, bits, reader, &alphabet));
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
    for (uint32_t s = 0; s < table.size(); ++s) {
      const uint32_t symbol = s & kind.escape();
      if (table[s] != 0 && symbol >= alphabet.listed &&
          symbol != kind.escape()) {
        return reader.Error("a frequency for symbol ", symbol, " of ",
                            alphabet.listed);
      }
    }
  }
  RETURN_IF_ERROR(reader.ExpectEnd());
  auto params = std::make_unique<Params>(frequencies);
  params->kind = &kind;
  params->map = std::move(map);
  params->units = alphabet.units;
  params->exact = static_cast<uint8_t>(alphabet.exact);
  params->group_bits = alphabet.group_bits;
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

/// The bits of keys that symbols leave to say.
class ExtraBits {
 public:
  /// Copies `bits` to `padded`, so that reading needs no test.
  ExtraBits(const Params& params, ByteSpan bits, Buffer* padded)
      : params_(params), size_(bits.size()) {
    padded->Clear();
    padded->Append(bits);
    std::memset(padded->Extend(8), 0, 8);
    bits_ = padded->data();
    const uint8_t escape = params.kind->escape();
    for (uint32_t s = 0; s < count_.size(); ++s) {
      const uint32_t symbol = s & escape;
      count_[s] =
          static_cast<uint8_t>(symbol < params.exact ? 0
                               : symbol == escape    ? params.kind->key_bits
                                                     : params.group_bits);
    }
  }

  /// Adds them to the `units` of `count` symbols.
  template <typename Unit>
  void Add(const uint8_t* symbols, size_t count, Unit* units) {
    const int shift = params_.kind->key_shift;
    uint64_t position = position_;
    ForExtra(*params_.kind, params_.exact, symbols, count, [&](size_t i) {
      const uint32_t width = count_[symbols[i]];
      const uint64_t next =
          LoadLe<uint64_t>(bits_ + std::min<uint64_t>(position / 8, size_)) >>
          (position % 8);
      const auto extra = static_cast<uint32_t>(next & ((1u << width) - 1));
      units[i] = static_cast<Unit>(units[i] | extra << shift);
      position += width;
    });
    position_ = position;
  }

  /// Whether all were taken, no more, and what is left of the last byte is 0.
  bool AtEnd() const {
    return (position_ + 7) / 8 == size_ &&
           (position_ % 8 == 0 || bits_[size_ - 1] >> (position_ % 8) == 0);
  }

 private:
  const Params& params_;
  size_t size_;
  const uint8_t* bits_;
  uint64_t position_ = 0;
  std::array<uint8_t, 256> count_;  // by symbol
};

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
  ASSIGN_OR_RETURN(const uint64_t extra_size,
                   reader.Varint(reader.remaining()));
  ASSIGN_OR_RETURN(const ByteSpan extra_bits, reader.Bytes(extra_size));
  ASSIGN_OR_RETURN(PlaneReader planes,
                   PlaneReader::Start(kind.planes, PlaneGroups(count), reader,
                                      &scratch.buffers[0], scratch));
  RETURN_IF_ERROR(reader.ExpectEnd());

  ClassCursor cursor(map, phase, rows.data(), &scratch.buffers[2]);
  uint64_t column = phase;
  ExtraBits extra(params, extra_bits, &scratch.buffers[3]);
  std::array<uint8_t, 256> bytes;
  for (size_t s = 0; s < bytes.size(); ++s) {
    bytes[s] = static_cast<uint8_t>(params.units[s]);
  }
  alignas(64) uint8_t classes[kPiece];
  alignas(64) uint8_t symbols[kPiece];
  alignas(64) uint16_t units[kPiece] = {};
  alignas(64) uint16_t low[kPiece];
  for (size_t i = 0; i < count; i += kPiece) {
    const size_t n = std::min(kPiece, count - i);
    cursor.Next(n, classes);
    decoder.Next(classes, n, symbols);
    if (map.flags & kBySigns) FlipSigns(map, &column, n, symbols);
    uint8_t* const to = out.data() + i * kind.element_size;
    if (kind.element_size == 1) {
      for (size_t j = 0; j < n; ++j) to[j] = bytes[symbols[j]];
      extra.Add(symbols, n, to);
      continue;
    }
    for (size_t j = 0; j < n; ++j) units[j] = params.units[symbols[j]];
    extra.Add(symbols, n, units);
    if (kind.element_size == 4) std::memset(low, 0, sizeof low);
    planes.Insert(i / kernels::kGroup, PlaneGroups(n), units, low);
    if (kind.element_size == 4) {
      kernels::Best().join_halves(low, units, n, to);
    } else {
      std::memcpy(to, units, n * sizeof *units);
    }
  }
  if (!extra.AtEnd()) {
    return reader.Error("extra bits do not end where they should");
  }
  return decoder.Finish();
}

}  // namespace

extern const Decoder kClassesDecoder = {
    .id = 8, .name = "classes", .parse = Parse, .decode = Decode};

}  // namespace zipllm::codecs
