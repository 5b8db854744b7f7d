// Kind split: values that have the same punctuation; what stands between is a
// part each, beside those before.
#include <algorithm>

#include "codecs/columns/kinds.h"
#include "codecs/columns/split.h"

namespace zipllm::codecs::columns {
namespace {

bool IsWord(uint8_t byte) { return (ClassOf(byte) & 31) != 0; }

/// Ends of fields and marks in turn: the mark before the first field, that
/// field, and so on up to the last mark. Empty where there are too many.
std::vector<uint32_t> CutsOf(ByteSpan value) {
  std::vector<uint32_t> cuts;
  bool word = false;
  for (size_t i = 0; i < value.size(); ++i) {
    if (IsWord(value[i]) == word) continue;
    if (cuts.size() > 2 * kMaxFields) return {};
    cuts.push_back(static_cast<uint32_t>(i));
    word = !word;
  }
  cuts.push_back(static_cast<uint32_t>(value.size()));
  if (word) cuts.push_back(static_cast<uint32_t>(value.size()));
  return cuts;
}

ByteSpan Piece(ByteSpan value, std::span<const uint32_t> cuts, size_t k) {
  const uint32_t begin = k == 0 ? 0 : cuts[k - 1];
  return value.subspan(begin, cuts[k] - begin);
}

bool HasMarks(ByteSpan value, std::span<const uint32_t> cuts,
              const std::vector<ByteSpan>& marks) {
  if (cuts.size() != 2 * marks.size() - 1) return false;
  for (size_t m = 0; m < marks.size(); ++m) {
    if (!std::ranges::equal(Piece(value, cuts, 2 * m), marks[m])) return false;
  }
  return true;
}

bool Encode(const Values& values, const EncodeContext& context, Buffer* out) {
  if (context.depth > kMaxSplitDepth || values.size() < 16) return false;
  // As a value from the middle has it: the first are often odd.
  const ByteSpan model = values[values.size() / 2];
  const std::vector<uint32_t> model_cuts = CutsOf(model);
  if (model_cuts.size() < 5) return false;
  std::vector<ByteSpan> marks;
  for (size_t k = 0; k < model_cuts.size(); k += 2) {
    marks.push_back(Piece(model, model_cuts, k));
  }
  const size_t fields = marks.size() - 1;
  if (fields > kMaxFields) return false;
  std::vector<Values> parts(fields);
  std::vector<uint32_t> rows;
  Exceptions exceptions;
  for (size_t i = 0; i < values.size(); ++i) {
    const ByteSpan value = values[i];
    const std::vector<uint32_t> cuts = CutsOf(value);
    if (!HasMarks(value, cuts, marks)) {
      exceptions.Add(i, value);
      if (exceptions.size() * 4 > values.size()) return false;
      continue;
    }
    rows.push_back(static_cast<uint32_t>(i));
    for (size_t f = 0; f < fields; ++f) {
      parts[f].Append(Piece(value, cuts, 2 * f + 1));
    }
  }
  RowsBeside rows_beside;
  if (!rows_beside.Set(context.beside, rows, values.size()).ok()) return false;
  ByteWriter writer(out);
  writer.Varint(fields);
  for (const ByteSpan mark : marks) {
    writer.Varint(mark.size());
    writer.Bytes(mark);
  }
  exceptions.Encode(context, out);
  for (size_t f = 0; f < fields; ++f) {
    const std::vector<Beside> beside =
        BesideField(parts, f, rows_beside.besides());
    EncodeContext part = context;
    part.beside = beside;
    EncodePart(parts[f], part, out);
  }
  return true;
}

}  // namespace

extern const KindEncoder kSplitEncoder = {.encode = Encode};

}  // namespace zipllm::codecs::columns
