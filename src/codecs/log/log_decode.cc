// Codec 25, log: records of a log or a table, made of templates and columns of
// values. Format: format-spec/codecs/25-log.md.
#include "codecs/log/log_format.h"

namespace zipllm::codecs {
namespace log {
namespace {

/// Appends the text of a template, its copies replaced by what they are of, as
/// far as `*left` bytes reach.
absl::Status ExpandText(ByteSpan text, ByteSpan shared, size_t* left,
                        Buffer* out) {
  ByteReader reader(text, "text of a template");
  while (reader.remaining() > 0) {
    ASSIGN_OR_RETURN(ByteSpan piece, reader.Bytes(1));
    if (piece[0] == kCopyOfShared) {
      ASSIGN_OR_RETURN(const uint64_t begin, reader.Varint(shared.size()));
      ASSIGN_OR_RETURN(const uint64_t size,
                       reader.Varint(shared.size() - begin));
      piece = shared.subspan(begin, size);
    } else if (piece[0] == kEscape) {
      if (reader.remaining() == 0) return reader.Error("ends in an escape");
      ASSIGN_OR_RETURN(const ByteSpan escaped, reader.Bytes(1));
      piece = {piece.data(), piece.size() + escaped.size()};
    }
    if (piece.size() > *left) return reader.Error("longer than the block");
    *left -= piece.size();
    out->Append(piece);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Templates::Read(ByteReader& reader, size_t max_bytes,
                             ByteSpan shared, Scratch& scratch) {
  ASSIGN_OR_RETURN(const uint64_t count, reader.Varint(kMaxTemplates));
  columns::Values texts;
  columns::Values slots;
  // An escape doubles a byte at most.
  RETURN_IF_ERROR(
      columns::DecodeColumn(reader, count, 2 * max_bytes, {}, scratch, &texts));
  RETURN_IF_ERROR(
      columns::DecodeColumn(reader, count, 3 * max_bytes, {}, scratch, &slots));
  literals_.Reserve(texts.bytes().size());
  size_t left = 2 * max_bytes;
  Buffer expanded;
  for (size_t i = 0; i < count; ++i) {
    expanded.Clear();
    RETURN_IF_ERROR(ExpandText(texts[i], shared, &left, &expanded));
    const ByteSpan text = expanded.span();
    ByteReader slot(slots[i], "slots of a template");
    auto begin = static_cast<uint32_t>(literals_.size());
    const auto end_item = [&](uint32_t column) {
      const auto end = static_cast<uint32_t>(literals_.size());
      items_.push_back({begin, end, column});
      begin = end;
    };
    for (size_t k = 0; k < text.size(); ++k) {
      if (text[k] == kSlot) {
        ASSIGN_OR_RETURN(const uint64_t column, slot.Varint(columns_ - 1));
        if (column == 0 && columns_ == kMaxColumns) {
          return slot.Error("more than ", kMaxColumns, " columns");
        }
        end_item(
            static_cast<uint32_t>(column == 0 ? columns_++ : size_t{column}));
        continue;
      }
      k += text[k] == kEscape;
      if (k == text.size()) return DataLoss("log template ends in an escape");
      *literals_.Extend(1) = text[k];
    }
    end_item(kNoColumn);
    RETURN_IF_ERROR(slot.ExpectEnd());
    firsts_.push_back(static_cast<uint32_t>(items_.size()));
  }
  return absl::OkStatus();
}

std::vector<std::vector<uint32_t>> FindPlaces(const Templates& templates,
                                              const columns::Values& numbers) {
  std::vector<std::vector<uint32_t>> places(templates.columns());
  uint32_t place = 0;
  for (size_t i = 0; i < numbers.size(); ++i) {
    places[0].push_back(place++);
    for (const Item& item : templates[NumberAt(numbers[i])]) {
      if (item.column != kNoColumn) places[item.column].push_back(place++);
    }
  }
  return places;
}

std::vector<uint32_t> FindBeside(std::span<const uint32_t> places,
                                 std::span<const uint32_t> others) {
  std::vector<uint32_t> index(places.size());
  size_t after = 0;  // the first of the others that stands behind
  for (size_t i = 0; i < places.size(); ++i) {
    while (after < others.size() && others[after] < places[i]) ++after;
    index[i] = static_cast<uint32_t>(after == 0 ? 0 : after - 1);
  }
  return index;
}

absl::Status ReadNumbers(ByteReader& reader, size_t records, size_t templates,
                         Scratch& scratch, columns::Values* numbers) {
  const size_t bytes = NumberBytes(templates);
  RETURN_IF_ERROR(columns::DecodeColumn(reader, records, bytes * records, {},
                                        scratch, numbers));
  for (size_t i = 0; i < records; ++i) {
    if ((*numbers)[i].size() != bytes || NumberAt((*numbers)[i]) >= templates) {
      return reader.Error("record ", i, " has no template");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<uint32_t>> CountValues(
    const Templates& templates, const columns::Values& numbers, size_t size) {
  std::vector<uint32_t> uses(templates.size());
  for (size_t i = 0; i < numbers.size(); ++i) ++uses[NumberAt(numbers[i])];
  std::vector<uint32_t> counts(templates.columns());
  uint64_t sum = 0;
  for (size_t t = 0; t < uses.size(); ++t) {
    if (uses[t] == 0) continue;
    sum += uint64_t{uses[t]} * (templates[t].size() - 1);
    if (sum > size) return DataLoss("log block has too many values");
    for (const Item& item : templates[t]) {
      if (item.column != kNoColumn) counts[item.column] += uses[t];
    }
  }
  counts[0] = static_cast<uint32_t>(numbers.size());
  return counts;
}

}  // namespace log

namespace {

using columns::Values;
using log::Item;
using log::kNoColumn;
using log::Templates;

absl::Status ReadColumns(ByteReader& reader, const Templates& templates,
                         size_t size, Scratch& scratch,
                         std::vector<Values>* all) {
  ASSIGN_OR_RETURN(const auto counts,
                   log::CountValues(templates, (*all)[0], size));
  std::vector<std::vector<uint32_t>> places;
  size_t left = size;
  for (size_t c = 1; c < counts.size(); ++c) {
    ASSIGN_OR_RETURN(const uint64_t chosen, reader.Varint(log::kMaxChosen));
    std::vector<columns::Beside> besides(chosen);
    std::vector<std::vector<uint32_t>> indexes(chosen);
    for (size_t k = 0; k < chosen; ++k) {
      ASSIGN_OR_RETURN(const uint64_t other, reader.Varint(c - 1));
      if (!log::MayStandBeside(counts[c], counts[other])) {
        return reader.Error(counts[other], " values beside ", counts[c]);
      }
      if (places.empty()) places = FindPlaces(templates, (*all)[0]);
      indexes[k] = log::FindBeside(places[c], places[other]);
      besides[k] = {&(*all)[other], indexes[k]};
    }
    RETURN_IF_ERROR(columns::DecodeColumn(reader, counts[c], left, besides,
                                          scratch, &(*all)[c]));
    const size_t bytes = (*all)[c].bytes().size();
    left -= bytes;
    if (!scratch.Advance(bytes)) return absl::CancelledError("stopped");
  }
  if (!scratch.Advance(left)) return absl::CancelledError("stopped");
  return reader.ExpectEnd();
}

/// Puts the records together; false if they are not exactly `out`.
bool Join(const Templates& templates, const std::vector<Values>& all,
          MutableByteSpan out) {
  uint8_t* next = out.data();
  uint8_t* const end = next + out.size();
  const auto append = [&](ByteSpan bytes) {
    if (bytes.size() > static_cast<size_t>(end - next)) return false;
    if (!bytes.empty()) std::memcpy(next, bytes.data(), bytes.size());
    next += bytes.size();
    return true;
  };
  std::vector<uint32_t> taken(all.size());
  const Values& numbers = all[0];
  for (size_t i = 0; i < numbers.size(); ++i) {
    for (const Item& item : templates[log::NumberAt(numbers[i])]) {
      if (!append(templates.Literal(item))) return false;
      if (item.column == kNoColumn) break;
      if (!append(all[item.column][taken[item.column]++])) return false;
    }
  }
  return next == end;
}

absl::Status Decode(const DecodeParams* /*params*/, const BlockContext& context,
                    ByteSpan coded, MutableByteSpan out, Scratch& scratch) {
  if (out.size() > log::kMaxBlockSize) {
    return DataLoss("log block of ", out.size(), " bytes, of at most ",
                    log::kMaxBlockSize);
  }
  ByteReader reader(coded, "log block");
  Templates templates;
  RETURN_IF_ERROR(templates.Read(reader, out.size(), context.shared, scratch));
  ASSIGN_OR_RETURN(const uint64_t records, reader.Varint(out.size()));
  std::vector<Values> all(templates.columns());
  RETURN_IF_ERROR(
      log::ReadNumbers(reader, records, templates.size(), scratch, &all[0]));
  RETURN_IF_ERROR(ReadColumns(reader, templates, out.size(), scratch, &all));
  if (!Join(templates, all, out)) {
    return DataLoss("log block does not have ", out.size(), " bytes");
  }
  return absl::OkStatus();
}

}  // namespace

extern const Decoder kLogDecoder = {.id = 25,
                                    .name = "log",
                                    .parse = nullptr,
                                    .decode_against = Decode,
                                    .is_slow = true,
                                    .alone = true};

}  // namespace zipllm::codecs
