// Encoder of codec 26, table: finds the layout of numbers and what they are,
// and codes them. Format: format-spec/codecs/26-table.md.
#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/dtype.h"
#include "codecs/codec.h"
#include "codecs/table/table_bins.h"
#include "codecs/table/table_columns.h"
#include "codecs/table/table_format.h"
#include "codecs/table/table_layout.h"
#include "codecs/table/table_models.h"
#include "codecs/table/table_records.h"
#include "codecs/tensor/byte_plane_encode.h"
#include "codecs/text/coded_plan.h"
#include "entropy/binary_coder.h"
#include "entropy/bits.h"

namespace zipllm::codecs {
namespace {

using entropy::ZigZag64;
using namespace table;

constexpr size_t kLeastCount = 64;  // of numbers, or of records

/// What the elements of a request are.
std::optional<Field> FieldOf(DType dtype) {
  const auto field = [](int log2_width, Kind kind, bool big = false) {
    Field made;
    made.log2_width = static_cast<uint8_t>(log2_width);
    made.kind = kind;
    made.big_endian = big;
    return made;
  };
  switch (dtype) {
    case DType::kI8:
      return field(0, kSigned);
    case DType::kU8:
      return field(0, kUnsigned);
    case DType::kI16:
      return field(1, kSigned);
    case DType::kU16:
      return field(1, kUnsigned);
    case DType::kI32:
      return field(2, kSigned);
    case DType::kU32:
      return field(2, kUnsigned);
    case DType::kI64:
    case DType::kU64:
      return field(3, kSigned);
    case DType::kF32:
      return field(2, kOrdered);
    case DType::kF64:
      return field(3, kOrdered);
    case DType::kF32Be:
      return field(2, kOrdered, true);
    case DType::kF64Be:
      return field(3, kOrdered, true);
    default:
      return std::nullopt;
  }
}

/// A block as it is coded.
class BlockCoder {
 public:
  BlockCoder(ByteSpan block, Table table)
      : block_(block), table_(std::move(table)), elements_(block, table_) {}

  /// A quick look at what Prepare may find.
  bool MayBeUseful() const {
    Field field = table_.fields[0];
    if (field.kind != kOrdered) return field.log2_width >= 2;
    return FindDecimals(elements_, table_.records, 0, &field);
  }
  /// False where this codec is not for the block.
  bool Prepare(bool correlated) {
    const size_t fields = table_.fields.size();
    columns_.resize(fields);
    size_t useful = 0;
    for (size_t f = 0; f < fields; ++f) {
      Field& field = table_.fields[f];
      Column& column = columns_[f];
      if (field.kind == kOrdered) {
        useful += FindDecimals(elements_, table_.records, f, &field);
      }
      ReadColumn(elements_, table_.records, f, field, &column);
      if (field.kind != kOrdered) FindScale(&column, &field);
      useful += field.scale > 1;
      if (table_.method != kBins) {
        FindDictionary(&column, &field);
        useful += !field.dictionary.empty() && field.log2_width >= 2;
        FindNumeric(column, table_.row, &field);
      }
      FindSpecials(elements_, f, column, &field);
    }
    return correlated || useful > 0;
  }

  bool Encode(Scratch& scratch, Buffer* out) {
    if (table_.method == kBins) {
      for (size_t f = 0; f < columns_.size(); ++f) {
        table_.fields[f].predictor = FindPredictor(columns_[f], table_.row);
      }
    }
    WriteHeader(scratch, out);
    const size_t whole = table_.records * table_.record_bytes;
    out->Append(block_.subspan(whole));
    if (table_.HasSpecials()) WriteSpecials(out);
    switch (table_.method) {
      case kBins:
        WriteBins(table_, columns_, scratch, out);
        return true;
      case kFast:
        return WriteMixed<false>(scratch, out);
      default:
        return WriteMixed<true>(scratch, out);
    }
  }

 private:
  void WriteHeader(Scratch& scratch, Buffer* out) const {
    ByteWriter writer(out);
    writer.Le<uint8_t>(table_.method);
    writer.Varint(table_.fields.size());
    writer.Varint(table_.row);
    for (const Field& field : table_.fields) {
      const bool scaled = field.scale != 1 || field.base != 0;
      writer.Le(static_cast<uint8_t>(
          field.log2_width | field.kind << kKindShift |
          (field.big_endian ? kBigEndian : 0) | (scaled ? kScaled : 0) |
          (field.dictionary.empty() ? 0 : kHasDictionary) |
          (field.has_specials ? kHasSpecials : 0)));
      if (field.kind == kDecimal) writer.Le(field.decimals);
      if (scaled) {
        writer.Varint(field.scale);
        writer.Varint(ZigZag64(field.base));
      }
      if (table_.method == kBins) {
        writer.Le(field.predictor);
      } else {
        writer.Le<uint8_t>(field.numeric ? 0 : 1);
        if (!field.numeric) writer.Varint(ZigZag64(field.center));
      }
      if (!field.dictionary.empty()) {
        WriteDictionary(field.dictionary, scratch, out);
      }
      if (field.has_specials) {
        writer.Varint(field.specials.size());
        for (const uint64_t raw : field.specials) {
          std::memcpy(out->Extend(field.width()), &raw, field.width());
        }
      }
    }
  }

  static void WriteDictionary(const std::vector<int64_t>& dictionary,
                              Scratch& scratch, Buffer* out) {
    ByteWriter writer(out);
    writer.Varint(dictionary.size());
    Buffer& plane = scratch.buffers[0];
    plane.Clear();
    ByteWriter steps(&plane);
    steps.Varint(ZigZag64(dictionary[0]));
    for (size_t i = 1; i < dictionary.size(); ++i) {
      steps.Varint(
          static_cast<uint64_t>(Minus(dictionary[i], dictionary[i - 1])) - 1);
    }
    writer.Varint(plane.size());
    AppendBytePlane(plane.span(), 9, &scratch.buffers[1], out);
  }

  void WriteSpecials(Buffer* out) const {
    const size_t fields = table_.fields.size();
    Buffer coded;
    entropy::BinaryEncoder coder(&coded);
    SpecialModels models(fields);
    for (size_t t = 0; t < table_.records; ++t) {
      models.BeginRecord();
      for (size_t f = 0; f < fields; ++f) {
        const Field& field = table_.fields[f];
        if (!field.has_specials) continue;
        const std::vector<uint8_t>& is_special = columns_[f].is_special;
        const bool above = table_.row != 0 && t >= table_.row &&
                           is_special[t - table_.row] != 0;
        if (!models.Flag(coder, f, above, is_special[t] != 0)) continue;
        const uint64_t raw = elements_.At(t, f);
        const auto which = static_cast<uint32_t>(
            std::find(field.specials.begin(), field.specials.end(), raw) -
            field.specials.begin());
        models.Which(coder, f, which);
        if (which == field.specials.size()) {
          SpecialModels::Raw(coder, field.bits(), raw);
        }
      }
    }
    coder.Finish();
    ByteWriter writer(out);
    writer.Varint(coded.size());
    writer.Bytes(coded.span());
  }

  template <bool kStrongModel>
  bool WriteMixed(Scratch& scratch, Buffer* out) const {
    const Shape shape = ShapeOf(table_);
    const auto model =
        std::make_unique<Model<kStrongModel>>(shape, SlotsLog2(table_));
    entropy::BinaryEncoder coder(out);
    size_t told = 0;
    for (size_t t = 0; t < table_.records; ++t) {
      for (size_t f = 0; f < shape.fields; ++f) {
        if (columns_[f].is_special[t]) {
          model->Skip(t, f);
        } else {
          model->Code(coder, t, f, columns_[f].values[t]);
        }
      }
      if (out->size() > block_.size()) return false;
      told += table_.record_bytes;
      if (told >= size_t{1} << 16) {
        if (!scratch.Advance(told)) return false;
        told = 0;
      }
    }
    coder.Finish();
    return true;
  }

  ByteSpan block_;
  Table table_;
  Elements elements_;
  std::vector<Column> columns_;
};

/// What the block is seen as; false where the codec is not for it. Sets
/// `correlated` as Layout has it.
bool FindTable(const EncodeRequest& request, ByteSpan block, Table* table,
               bool* correlated) {
  // Of bytes there are too many for their time at the default.
  int mixing = 6;
  if (request.dtype == DType::kBytes) {
    // In rows: records of fields of several types.
    if (request.row == 0 || request.row > kMaxRecord) return false;
    if (block.size() / request.row < kLeastCount) return false;
    table->record_bytes = request.row;
    table->fields = FindFieldsOfRecords(block, request.row);
    *correlated = true;
    if (table->fields.empty()) return false;
  } else {
    const std::optional<Field> field = FieldOf(request.dtype);
    if (!field || block.size() / field->width() < kLeastCount) return false;
    const Layout found = FindLayout(block, *field, request.row, request.level);
    table->row = found.row;
    table->fields.assign(found.fields, *field);
    table->record_bytes = found.fields * field->width();
    *correlated = found.correlated;
    if (field->log2_width == 0) ++mixing;
  }
  table->records = block.size() / table->record_bytes;
  table->method = request.level < mixing ? kBins
                  : request.level < 8    ? kFast
                                         : table::kStrong;
  return true;
}

/// Appends the block coded as `table`; false where that is not for it.
bool Append(ByteSpan block, Table table, bool correlated, Scratch& scratch,
            Buffer* out) {
  const size_t start = out->size();
  BlockCoder coder(block, std::move(table));
  if ((correlated || coder.MayBeUseful()) && coder.Prepare(correlated) &&
      coder.Encode(scratch, out) && out->size() - start < block.size()) {
    return true;
  }
  out->Resize(start);
  return false;
}

/// Appends the coded block; false where the codec is not for it.
bool EncodeBlock(const EncodeRequest& request, ByteSpan block, Scratch& scratch,
                 Buffer* out) {
  Table table;
  bool correlated = false;
  if (block.size() > table::kMaxBytes ||
      !FindTable(request, block, &table, &correlated)) {
    return false;
  }
  if (request.dtype != DType::kBytes || table.method == kBins) {
    return Append(block, std::move(table), correlated, scratch, out);
  }
  // Where much looks random, as often in records, mixing gains nothing, and it
  // is slow: below its own level it must be for more than a little.
  Table bins = table;
  bins.method = kBins;
  const size_t least_gain = table.method == kFast ? 50 : SIZE_MAX;
  Buffer mixed;
  const size_t start = out->size();
  const bool as_bins = Append(block, std::move(bins), correlated, scratch, out);
  const size_t of_bins = out->size() - start;
  if (!Append(block, std::move(table), correlated, scratch, &mixed) ||
      (as_bins && mixed.size() + of_bins / least_gain >= of_bins)) {
    return as_bins;
  }
  out->Resize(start);
  out->Append(mixed.span());
  return true;
}

std::unique_ptr<EncodePlan> MakePlan(const EncodeRequest& request,
                                     Scratch& scratch) {
  constexpr int kFirstLevel = 3;
  if (request.level < kFirstLevel || !request.references.empty()) {
    return nullptr;
  }
  Buffer first;
  if (!EncodeBlock(request, FirstBlock(request), scratch, &first)) {
    return nullptr;
  }
  return std::make_unique<CodedPlan>(
      request, ByteSpan(), std::move(first),
      [request](ByteSpan block, Scratch& own, Buffer* out) {
        return EncodeBlock(request, block, own, out);
      });
}

}  // namespace

extern const Encoder kTableEncoder = {
    .id = 26, .name = "table", .plan = MakePlan};

}  // namespace zipllm::codecs
