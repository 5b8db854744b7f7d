// Codec 9, quant: ggml's quantized blocks by their fields, each in contexts.
// Format: format-spec/codecs/9-quant.md.
#include <algorithm>
#include <cstring>
#include <memory>

#include "base/bytes.h"
#include "codecs/codec.h"
#include "codecs/quant/quant_format.h"
#include "entropy/bits.h"

namespace zipllm::codecs {
namespace {

using entropy::ClassDecodeTables;
using entropy::ClassRansDecoder;
using namespace quant;

class Params final : public DecodeParams {
 public:
  Params(Model model, const entropy::ClassFrequencies& tables)
      : model_(std::move(model)), tables_(tables) {}
  const Model& model() const { return model_; }
  const ClassDecodeTables& tables() const { return tables_; }

 private:
  Model model_;
  ClassDecodeTables tables_;
};

absl::StatusOr<Axis> ParseAxis(ByteReader& reader) {
  constexpr uint8_t kMaxShift = 12;
  constexpr int kMaxBase = 16384;
  Axis axis;
  ASSIGN_OR_RETURN(axis.count, reader.Le<uint8_t>());
  ASSIGN_OR_RETURN(axis.shift, reader.Le<uint8_t>());
  ASSIGN_OR_RETURN(axis.base, reader.Le<int16_t>());
  if (axis.count < 1 || axis.count > entropy::kMaxClasses ||
      axis.shift > kMaxShift || axis.base > kMaxBase || axis.base < -kMaxBase) {
    return reader.Error("an axis of ", int{axis.count}, " steps of 2^",
                        int{axis.shift}, " from ", axis.base);
  }
  return axis;
}

absl::Status ParseColumns(ByteReader& reader, Model* model) {
  if (model->scale.shift < kColumnShift) {
    return reader.Error("steps of 2^", int{model->scale.shift},
                        " are too short for columns");
  }
  const size_t count = model->type->quants.count;
  ASSIGN_OR_RETURN(const uint64_t blocks, reader.Varint(kMaxColumns / count));
  if (blocks == 0) return reader.Error("rows of no blocks");
  model->row_blocks = static_cast<uint32_t>(blocks);
  ASSIGN_OR_RETURN(const uint64_t size, reader.Varint(reader.remaining()));
  ASSIGN_OR_RETURN(const ByteSpan coded, reader.Bytes(size));
  const size_t columns = blocks * count;
  entropy::BitReader bits(coded);
  entropy::AdaptiveRice code;
  uint32_t scale = 0;
  model->column_scale.reserve(columns);
  for (size_t i = 0; i < columns; ++i) {
    scale += static_cast<uint32_t>(entropy::UnZigZag(code.Read(&bits)));
    if (scale > 255) return reader.Error("a column's scale is not a byte");
    model->column_scale.push_back(static_cast<uint8_t>(scale));
  }
  if (model->by_column_group) {
    model->column_group.reserve(columns);
    model->column_flip.reserve(columns);
    for (size_t i = 0; i < columns; ++i) {
      const uint32_t group = bits.Get(3);
      if (group >= model->second.count) {
        return reader.Error("a column of group ", group, " of ",
                            int{model->second.count});
      }
      model->column_group.push_back(static_cast<uint8_t>(group));
      model->column_flip.push_back(bits.Get(1) != 0 ? 255 : 0);
    }
  }
  if (!bits.AtEnd()) {
    return reader.Error("bits of columns do not end where they should");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<const DecodeParams>> Parse(ByteSpan params) {
  ByteReader reader(params, "quant parameters");
  Model model;
  ASSIGN_OR_RETURN(const uint8_t number, reader.Le<uint8_t>());
  model.type = FindBlockType(static_cast<DType>(number));
  if (model.type == nullptr) {
    return reader.Error("unknown type of blocks ", int{number});
  }
  ASSIGN_OR_RETURN(model.hints, reader.Le<uint8_t>());
  for (size_t f = 0; f < 8; ++f) {
    if (model.hinted(f) &&
        (f >= model.side_fields() || model.type->field[f].hint.field < 0)) {
      return reader.Error("field ", f, " has nothing to be coded by");
    }
  }
  if (model.has_quants()) {
    ASSIGN_OR_RETURN(const uint8_t flags, reader.Le<uint8_t>());
    model.anchors = flags & kAnchorBits;
    model.split_by_anchors = (flags & kSplitByAnchors) != 0;
    model.by_column_group = (flags & kByColumnGroup) != 0;
    const bool columns = (flags & kColumns) != 0;
    if (flags > kAllFlags || model.anchors > kMaxAnchors ||
        (model.by_column_group && !columns)) {
      return reader.Error("unknown flags ", int{flags});
    }
    ASSIGN_OR_RETURN(model.scale, ParseAxis(reader));
    ASSIGN_OR_RETURN(model.second, ParseAxis(reader));
    if (columns) RETURN_IF_ERROR(ParseColumns(reader, &model));
  }
  model.Number();
  if (model.classes > entropy::kMaxClasses) {
    return reader.Error(model.classes, " classes");
  }
  entropy::ClassFrequencies tables;
  for (const ClassRange& range : model.TableRanges()) {
    ASSIGN_OR_RETURN(const entropy::ClassFrequencies some,
                     entropy::ParseClassFrequencies(reader));
    if (std::ssize(some) != range.last - range.first) {
      return reader.Error(some.size(), " tables for ", range.last - range.first,
                          " classes");
    }
    for (const entropy::ByteFrequencies& table : some) {
      if (std::any_of(table.begin() + range.symbols, table.end(),
                      [](uint16_t frequency) { return frequency != 0; })) {
        return reader.Error("a symbol that its field cannot hold");
      }
    }
    tables.insert(tables.end(), some.begin(), some.end());
  }
  RETURN_IF_ERROR(reader.ExpectEnd());
  return std::make_unique<Params>(std::move(model), tables);
}

/// Decodes the side fields and the anchors' positions into `side`.
void DecodeSide(const Model& model, const SideLayout& layout, size_t blocks,
                ClassRansDecoder& decoder, uint8_t* side) {
  uint8_t classes[kPiece];
  const auto decode = [&](size_t count, uint8_t* symbols, auto fill_classes) {
    for (size_t first = 0; first < count; first += kPiece) {
      const size_t n = std::min(kPiece, count - first);
      fill_classes(first, n);
      std::memset(classes + n, 0, Padded(n) - n);
      decoder.Next(classes, Padded(n), symbols + first);
    }
  };
  for (size_t f = 0; f < model.side_fields(); ++f) {
    const Field& field = model.type->field[f];
    const uint8_t* source =
        model.hinted(f)
            ? side + layout.field[static_cast<size_t>(field.hint.field)]
            : nullptr;
    decode(blocks * field.count, side + layout.field[f],
           [&](size_t first, size_t n) {
             SideClasses(model, f, source, first, n, classes);
           });
  }
  for (size_t a = 0; a < model.anchors; ++a) {
    decode(blocks * model.groups_per_block(), side + layout.position[a],
           [&](size_t, size_t n) {
             std::memset(classes, model.position_class[a], n);
           });
  }
}

/// Decodes the quants into `out`, where their bits are 0.
void DecodeQuants(const Model& model, const SideLayout& layout, size_t blocks,
                  size_t column, ClassRansDecoder& decoder, const uint8_t* side,
                  uint8_t* out) {
  const BlockType& type = *model.type;
  const Field& field = type.field[model.side_fields()];
  const size_t groups = model.groups_per_block();
  uint8_t classes[kPiece];
  uint8_t symbols[kPiece];
  GroupKey keys[kPiece / 16];
  const size_t step = kPiece / type.quants.count;
  for (size_t first = 0; first < blocks; first += step) {
    const size_t n = std::min(step, blocks - first);
    const size_t count = n * type.quants.count;
    FindKeys(type, side, layout, first, n, keys);
    std::array<const uint8_t*, kMaxAnchors> positions{};
    for (size_t a = 0; a < model.anchors; ++a) {
      positions[a] = side + layout.position[a] + first * groups;
    }
    QuantClasses(model, keys, n, column, positions, classes);
    std::memset(classes + count, 0, Padded(count) - count);
    decoder.Next(classes, Padded(count), symbols);
    FlipQuants(model, keys, n, column, symbols);
    MergeField(type, field, symbols, n, out + first * type.bytes);
    if (model.row_blocks != 0) column = (column + n) % model.row_blocks;
  }
}

absl::Status Decode(const DecodeParams* params, ByteSpan coded,
                    MutableByteSpan out, Scratch& scratch) {
  if (params == nullptr) return DataLoss("quant block has no parameters");
  const Model& model = static_cast<const Params*>(params)->model();
  const ClassDecodeTables& tables =
      static_cast<const Params*>(params)->tables();
  const BlockType& type = *model.type;
  const size_t blocks = out.size() / type.bytes;
  if (out.size() % type.bytes != 0) {
    return DataLoss("quant block of ", out.size(),
                    " bytes is not of ggml "
                    "blocks of ",
                    type.bytes, " bytes");
  }
  ByteReader reader(coded, "quant block");
  size_t column = 0;
  if (model.row_blocks != 0) {
    ASSIGN_OR_RETURN(column, reader.Varint(model.row_blocks - 1));
  }
  const SideLayout layout(model, blocks);
  ASSIGN_OR_RETURN(
      ClassRansDecoder decoder,
      ClassRansDecoder::Start(
          tables, layout.size + Padded(blocks * type.quants.count), reader));
  RETURN_IF_ERROR(reader.ExpectEnd());

  Buffer& side = scratch.buffers[0];
  side.Resize(layout.size);
  DecodeSide(model, layout, blocks, decoder, side.data());
  std::memset(out.data(), 0, out.size());
  for (size_t f = 0; f < model.side_fields(); ++f) {
    MergeField(type, type.field[f], side.data() + layout.field[f], blocks,
               out.data());
  }
  if (model.has_quants()) {
    DecodeQuants(model, layout, blocks, column, decoder, side.data(),
                 out.data());
  }
  return decoder.Finish();
}

}  // namespace

extern const Decoder kQuantDecoder = {
    .id = 9, .name = "quant", .parse = Parse, .decode = Decode};

}  // namespace zipllm::codecs
