// Kind given: a value is what stood last beside the same value of an earlier
// column, or else, there, that value itself. What is neither is a part.
#include "codecs/columns/given.h"
#include "codecs/columns/numbers.h"

namespace zipllm::codecs::columns {
namespace {

absl::Status Decode(ByteReader& body, const DecodeContext& context,
                    Values* out) {
  ASSIGN_OR_RETURN(const uint64_t which, body.Varint(kMaxBesides));
  std::vector<uint32_t> keys;
  if (which >= context.beside.size() ||
      !KeysOf(context.beside[which], context.count, &keys)) {
    return body.Error("there is no column ", which, " beside");
  }
  const Beside& beside = context.beside[which];
  Numbers misses;
  RETURN_IF_ERROR(DecodeNumbers(body, context.count, context, &misses));
  std::vector<uint32_t> rows;
  for (size_t i = 0; i < misses.size(); ++i) {
    if (misses[i] > 1) return body.Error("value is neither given nor new");
    if (misses[i] != 0) rows.push_back(static_cast<uint32_t>(i));
  }
  RowsBeside part_beside;
  RETURN_IF_ERROR(part_beside.Set(context.beside, rows, context.count));
  DecodeContext part = context;
  part.beside = part_beside.besides();
  Values values;
  RETURN_IF_ERROR(
      DecodePart(body, rows.size(), context.max_bytes, part, &values));

  // By key: 1 + where the value beside it stood last; 0: nowhere yet.
  std::vector<uint32_t> last(context.count);
  out->Reserve(context.count, context.max_bytes / 4);
  size_t next = 0;
  for (size_t i = 0; i < context.count; ++i) {
    uint32_t& seen = last[keys[i]];
    if (misses[i] != 0) {
      out->Append(values[next++]);
    } else if (seen == 0) {
      out->Append((*beside.values)[BesideIndex(beside, i)]);
    } else {
      out->AppendAgain(seen - 1);
    }
    seen = static_cast<uint32_t>(i + 1);
    if (out->bytes().size() > context.max_bytes) {
      return body.Error("values are too long");
    }
  }
  return absl::OkStatus();
}

}  // namespace

bool KeysOf(const Beside& beside, size_t count, std::vector<uint32_t>* keys) {
  if (!IsSound(beside, count)) return false;
  const Distinct distinct(*beside.values);
  const auto ids = distinct.ids();
  // Numbers of what occurs here, from 0.
  std::vector<uint32_t> numbers(distinct.size(), UINT32_MAX);
  uint32_t known = 0;
  keys->resize(count);
  for (size_t i = 0; i < count; ++i) {
    uint32_t& number = numbers[ids[BesideIndex(beside, i)]];
    if (number == UINT32_MAX) number = known++;
    (*keys)[i] = number;
  }
  return true;
}

extern const KindDecoder kGivenDecoder = {.decode = Decode};

}  // namespace zipllm::codecs::columns
