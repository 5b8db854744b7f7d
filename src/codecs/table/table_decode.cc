// Codec 26, table: arrays of numbers and records of fields.
// Format: format-spec/codecs/26-table.md.
#include <algorithm>
#include <memory>

#include "base/bytes.h"
#include "codecs/codec.h"
#include "codecs/table/table_format.h"
#include "codecs/table/table_models.h"
#include "codecs/tensor/byte_plane_decode.h"
#include "entropy/binary_coder.h"
#include "entropy/bits.h"
#include "entropy/class_rans.h"

namespace zipllm::codecs {
namespace {

using entropy::UnZigZag64;
using namespace table;

absl::Status ReadDictionary(ByteReader& reader, size_t most, Scratch& scratch,
                            std::vector<int64_t>* dictionary) {
  ASSIGN_OR_RETURN(const uint64_t count, reader.Varint(most));
  if (count == 0) return reader.Error("a dictionary of nothing");
  ASSIGN_OR_RETURN(const uint64_t size, reader.Varint(10 * count));
  if (size == 0) return reader.Error("an empty plane");
  scratch.buffers[0].Resize(size);
  ASSIGN_OR_RETURN(
      const uint8_t* const plane,
      ReadBytePlane(reader, scratch.buffers[0].mutable_span(), scratch));
  ByteReader steps({plane, size}, "table dictionary");
  ASSIGN_OR_RETURN(const uint64_t first, steps.Varint());
  int64_t value = UnZigZag64(first);
  dictionary->reserve(count);
  dictionary->push_back(value);
  for (uint64_t i = 1; i < count; ++i) {
    ASSIGN_OR_RETURN(const uint64_t step, steps.Varint());
    value = Plus(value, Plus(static_cast<int64_t>(step), 1));
    dictionary->push_back(value);
  }
  return steps.ExpectEnd();
}

absl::Status ReadField(ByteReader& reader, size_t out_bytes, Method method,
                       Scratch& scratch, Field* field) {
  ASSIGN_OR_RETURN(const uint8_t flags, reader.Le<uint8_t>());
  field->log2_width = flags & kWidthMask;
  field->kind = static_cast<Kind>(flags >> kKindShift & 3);
  field->big_endian = (flags & kBigEndian) != 0;
  field->has_specials = (flags & kHasSpecials) != 0;
  if (field->kind == kOrdered && field->log2_width == 0) {
    return reader.Error("floats of one byte");
  }
  if (field->kind == kDecimal) {
    if (field->log2_width < 2) return reader.Error("decimals of few bytes");
    ASSIGN_OR_RETURN(field->decimals, reader.Le<uint8_t>());
    if (field->decimals > kMaxDecimals) {
      return reader.Error(int{field->decimals}, " decimals");
    }
  }
  if ((flags & kScaled) != 0) {
    ASSIGN_OR_RETURN(field->scale, reader.Varint());
    ASSIGN_OR_RETURN(const uint64_t base, reader.Varint());
    field->base = UnZigZag64(base);
  }
  ASSIGN_OR_RETURN(const uint8_t model, reader.Le<uint8_t>());
  if (model > (method == kBins ? kLastPredictor : 1)) {
    return reader.Error("unknown model ", int{model});
  }
  if (method == kBins) {
    field->predictor = model;
  } else {
    field->numeric = model == 0;
    if (!field->numeric) {
      ASSIGN_OR_RETURN(const uint64_t center, reader.Varint());
      field->center = UnZigZag64(center);
    }
  }
  if ((flags & kHasDictionary) != 0) {
    RETURN_IF_ERROR(ReadDictionary(reader, std::min(kMaxDictionary, out_bytes),
                                   scratch, &field->dictionary));
  }
  if (field->has_specials) {
    ASSIGN_OR_RETURN(const uint64_t count, reader.Varint(kMaxSpecials));
    for (uint64_t i = 0; i < count; ++i) {
      ASSIGN_OR_RETURN(const ByteSpan raw, reader.Bytes(field->width()));
      uint64_t special = 0;
      std::memcpy(&special, raw.data(), raw.size());
      field->specials.push_back(special);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Table> ReadTable(ByteReader& reader, size_t out_bytes,
                                Scratch& scratch) {
  Table table;
  ASSIGN_OR_RETURN(const uint8_t method, reader.Le<uint8_t>());
  if (method > table::kStrong)
    return reader.Error("unknown method ", int{method});
  table.method = static_cast<Method>(method);
  ASSIGN_OR_RETURN(const uint64_t fields, reader.Varint(kMaxFields));
  if (fields == 0) return reader.Error("a record without fields");
  ASSIGN_OR_RETURN(table.row, reader.Varint(kMaxRow));
  table.fields.resize(fields);
  for (Field& field : table.fields) {
    RETURN_IF_ERROR(
        ReadField(reader, out_bytes, table.method, scratch, &field));
    table.record_bytes += field.width();
  }
  table.records = out_bytes / table.record_bytes;
  if (table.row > table.records / kLeastRows) {
    return reader.Error("rows of ", table.row, " records of ", table.records);
  }
  return table;
}

/// Marks the special elements of `out` by 1 in `is_special` (a byte a value, in
/// order) and writes them.
absl::Status DecodeSpecials(const Table& table, ByteReader& reader,
                            MutableByteSpan out,
                            std::vector<uint8_t>* is_special) {
  const size_t fields = table.fields.size();
  is_special->assign(table.records * fields, 0);
  if (!table.HasSpecials()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const uint64_t size, reader.Varint(kMaxBytes * 2));
  ASSIGN_OR_RETURN(const ByteSpan coded, reader.Bytes(size));
  entropy::BinaryDecoder coder(coded.data(), coded.size());
  SpecialModels models(fields);
  uint8_t* at = out.data();
  const uint64_t up = table.row * fields;
  size_t i = 0;
  for (size_t t = 0; t < table.records; ++t) {
    models.BeginRecord();
    for (size_t f = 0; f < fields; ++f, ++i) {
      const Field& field = table.fields[f];
      if (field.has_specials) {
        const bool above = up != 0 && i >= up && (*is_special)[i - up] != 0;
        if (models.Flag(coder, f, above, false)) {
          (*is_special)[i] = 1;
          const uint32_t which = models.Which(coder, f, 0);
          if (which > field.specials.size()) {
            return reader.Error("no special ", which);
          }
          StoreRaw(which < field.specials.size()
                       ? field.specials[which]
                       : SpecialModels::Raw(coder, field.bits(), 0),
                   field, at);
        }
      }
      at += field.width();
    }
    if (coder.IsPastEnd()) return reader.Error("specials end early");
  }
  if (!coder.IsAtEnd()) return reader.Error("specials end late");
  return absl::OkStatus();
}

/// From values to elements.
class Writer {
 public:
  explicit Writer(const Field& field) : field_(field) {}
  /// False where the value has no element.
  bool Write(int64_t value, uint8_t* to) const {
    if (!field_.dictionary.empty()) {
      if (static_cast<uint64_t>(value) >= field_.dictionary.size())
        return false;
      value = field_.dictionary[static_cast<size_t>(value)];
    }
    const auto number =
        static_cast<int64_t>(static_cast<uint64_t>(value) * field_.scale +
                             static_cast<uint64_t>(field_.base));
    StoreRaw(RawOf(number, field_), field_, to);
    return true;
  }

 private:
  const Field& field_;
};

template <bool kStrongModel>
absl::Status DecodeMixed(const Table& table, ByteReader& reader,
                         const std::vector<uint8_t>& is_special,
                         MutableByteSpan out, Scratch& scratch) {
  ASSIGN_OR_RETURN(const ByteSpan coded, reader.Bytes(reader.remaining()));
  entropy::BinaryDecoder coder(coded.data(), coded.size());
  const Shape shape = ShapeOf(table);
  const auto model =
      std::make_unique<Model<kStrongModel>>(shape, SlotsLog2(table));
  uint8_t* at = out.data();
  const uint8_t* special = is_special.data();
  size_t told = 0;
  for (size_t t = 0; t < table.records; ++t) {
    for (size_t f = 0; f < shape.fields; ++f) {
      const Field& field = table.fields[f];
      if (*special++ != 0) {
        model->Skip(t, f);
      } else if (!Writer(field).Write(model->Code(coder, t, f, 0), at)) {
        return reader.Error("a value that is not in the dictionary");
      }
      at += field.width();
    }
    if (coder.IsPastEnd()) return reader.Error("values end early");
    told += table.record_bytes;
    if (told >= size_t{1} << 16) {
      if (!scratch.Advance(told)) return absl::CancelledError("stopped");
      told = 0;
    }
  }
  if (!coder.IsAtEnd()) return reader.Error("values end late");
  return absl::OkStatus();
}

struct Bin {
  int64_t lower;
  int bits;
};

absl::Status DecodeBins(const Table& table, ByteReader& reader,
                        const std::vector<uint8_t>& is_special,
                        MutableByteSpan out, Scratch& scratch) {
  const size_t fields = table.fields.size();
  std::vector<std::array<Bin, kMaxBins>> bins(fields);
  for (auto& of_field : bins) {
    ASSIGN_OR_RETURN(const uint64_t count, reader.Varint(kMaxBins));
    uint64_t lower = 0;
    for (uint64_t b = 0; b < count; ++b) {
      ASSIGN_OR_RETURN(const uint64_t step, reader.Varint());
      ASSIGN_OR_RETURN(const uint8_t bits, reader.Le<uint8_t>());
      if (bits > 64) return reader.Error("a bin of ", int{bits}, " bits");
      lower += b == 0 ? static_cast<uint64_t>(UnZigZag64(step)) : step;
      of_field[b] = {static_cast<int64_t>(lower), bits};
    }
    std::fill(of_field.begin() + static_cast<ptrdiff_t>(count), of_field.end(),
              Bin{0, 0});
  }
  ASSIGN_OR_RETURN(const entropy::ClassFrequencies frequencies,
                   entropy::ParseClassFrequencies(reader));
  if (frequencies.size() != fields) {
    return reader.Error(frequencies.size(), " tables for ", fields, " fields");
  }
  const entropy::ClassDecodeTables tables(frequencies);
  // How many values each field has.
  std::vector<size_t> counts(fields);
  size_t total = 0;
  for (size_t f = 0; f < fields; ++f) {
    for (size_t t = 0; t < table.records; ++t) {
      counts[f] += is_special[t * fields + f] == 0;
    }
    total += counts[f];
  }
  if (total == 0) return reader.ExpectEnd();
  scratch.buffers[0].Resize(total);
  scratch.buffers[1].Resize(total);
  uint8_t* const classes = scratch.buffers[0].data();
  uint8_t* symbol = scratch.buffers[1].data();
  size_t at = 0;
  for (size_t f = 0; f < fields; ++f) {
    std::memset(classes + at, static_cast<int>(f), counts[f]);
    at += counts[f];
  }
  RETURN_IF_ERROR(
      entropy::DecodeClassRans(tables, classes, total, reader, symbol));
  ASSIGN_OR_RETURN(const ByteSpan raw, reader.Bytes(reader.remaining()));
  entropy::BitReader bits(raw);
  const auto row = static_cast<ptrdiff_t>(std::max<uint64_t>(table.row, 1));
  const size_t pad = static_cast<size_t>(row) + 4;
  std::vector<int64_t> values(pad + table.records);
  size_t offset = 0;  // of the field in the record
  for (size_t f = 0; f < fields; ++f) {
    const Field& field = table.fields[f];
    const Writer writer(field);
    uint8_t* to = out.data() + offset;
    int64_t* v = values.data() + pad;
    for (size_t t = 0; t < table.records; ++t, ++v, to += table.record_bytes) {
      if (is_special[t * fields + f] != 0) {
        *v = v[-1];
        continue;
      }
      const Bin& bin = bins[f][*symbol++];
      const auto low = static_cast<int64_t>(bits.Get64(bin.bits));
      *v = Plus(PredictFrom(v, row, field.predictor), Plus(bin.lower, low));
      if (!writer.Write(*v, to)) {
        return reader.Error("a value that is not in the dictionary");
      }
    }
    offset += field.width();
  }
  return bits.AtEnd() ? absl::OkStatus()
                      : reader.Error("bits of another number of values");
}

absl::Status Decode(const DecodeParams*, ByteSpan coded, MutableByteSpan out,
                    Scratch& scratch) {
  ByteReader reader(coded, "table block");
  if (out.size() > table::kMaxBytes) {
    return reader.Error("a block of ", out.size(), " bytes");
  }
  ASSIGN_OR_RETURN(const Table table, ReadTable(reader, out.size(), scratch));
  const size_t whole = table.records * table.record_bytes;
  ASSIGN_OR_RETURN(const ByteSpan tail, reader.Bytes(out.size() - whole));
  std::copy(tail.begin(), tail.end(),
            out.begin() + static_cast<ptrdiff_t>(whole));
  std::vector<uint8_t> is_special;
  RETURN_IF_ERROR(DecodeSpecials(table, reader, out, &is_special));
  switch (table.method) {
    case kBins:
      return DecodeBins(table, reader, is_special, out, scratch);
    case kFast:
      return DecodeMixed<false>(table, reader, is_special, out, scratch);
    default:
      return DecodeMixed<true>(table, reader, is_special, out, scratch);
  }
}

uint64_t Memory(const DecodeParams*, uint64_t size) {
  // Values, residuals and flags of elements of one byte; slots, memories.
  return 20 * size + (uint64_t{40} << 20);
}

}  // namespace

extern const Decoder kTableDecoder = {.id = 26,
                                      .name = "table",
                                      .parse = nullptr,
                                      .decode = Decode,
                                      .is_slow = true,
                                      .memory = Memory};

}  // namespace zipllm::codecs
