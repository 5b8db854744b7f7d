// Columns: which kind is smallest.
#include <algorithm>
#include <array>

#include "codecs/columns/columns.h"
#include "codecs/columns/kinds.h"

namespace zipllm::codecs::columns {

#define ZIPLLM_COLUMN_KIND(id, name) extern const KindEncoder k##name##Encoder;
#include "codecs/columns/kind_list.inc"
#undef ZIPLLM_COLUMN_KIND

namespace {

constexpr std::array kEncoders = {
#define ZIPLLM_COLUMN_KIND(id, name) &k##name##Encoder,
#include "codecs/columns/kind_list.inc"
#undef ZIPLLM_COLUMN_KIND
};
constexpr std::array<uint8_t, kEncoders.size()> kIds = {
#define ZIPLLM_COLUMN_KIND(id, name) id,
#include "codecs/columns/kind_list.inc"
#undef ZIPLLM_COLUMN_KIND
};

constexpr size_t IndexOf(uint8_t id) {
  for (size_t i = 0; i < kIds.size(); ++i) {
    if (kIds[i] == id) return i;
  }
  return kIds.size();
}
constexpr size_t kText = IndexOf(0);
constexpr size_t kConstant = IndexOf(1);
constexpr size_t kDictionary = IndexOf(2);
constexpr size_t kMixed = IndexOf(8);

/// Values that kinds are tried on. They come in some runs.
constexpr size_t kRuns = 4;
constexpr size_t kSample = 1024;
/// Bytes of values that are mixed as text.
constexpr size_t kMostToMix = size_t{1} << 19;
/// A column of as many bytes is worth a stamp.
constexpr size_t kLeastForStamp = 128;

/// Appends kind and body.
bool TryKind(size_t kind, const Values& values, const EncodeContext& context,
             Buffer* out) {
  ByteWriter(out).Le(kIds[kind]);
  if (kEncoders[kind]->encode(values, context, out)) return true;
  out->Resize(out->size() - 1);
  return false;
}

/// Some values of a column, to try kinds on.
class Sample {
 public:
  Sample(const Values& values, const EncodeContext& context, size_t size,
         int level)
      : context_(context) {
    std::vector<uint32_t> rows;
    const size_t runs = size < values.size() ? kRuns : 1;
    const size_t run = std::min(size, values.size()) / runs;
    for (size_t r = 0; r < runs; ++r) {
      const size_t begin = (values.size() - run) * (r + 1) / (runs + 1);
      for (size_t i = begin; i < begin + run; ++i) {
        values_.Append(values[i]);
        rows.push_back(static_cast<uint32_t>(i));
      }
    }
    distinct_.emplace(values_);
    context_.is_trial = true;
    context_.level = level;
    context_.distinct = &*distinct_;
    context_.beside = {};
    if (beside_.Set(context.beside, rows, values.size()).ok()) {
      context_.beside = beside_.besides();
    }
  }
  /// What they take as this kind; none where they are not of it.
  std::optional<size_t> Try(size_t kind) {
    coded_.Clear();
    if (!TryKind(kind, values_, context_, &coded_)) return std::nullopt;
    return coded_.size();
  }

 private:
  Values values_;
  std::optional<Distinct> distinct_;
  RowsBeside beside_;
  EncodeContext context_;
  Buffer coded_;
};

/// The kinds to code wholly.
std::vector<size_t> ChooseKinds(const Values& values,
                                const EncodeContext& context) {
  const bool mixes = context.level >= kMixLevel;
  Sample sample(values, context, kSample,
                std::min(context.level, kMixLevel - 1));
  std::vector<std::pair<size_t, size_t>> sizes;
  size_t of_dictionary = SIZE_MAX;
  for (size_t kind = 0; kind < kEncoders.size(); ++kind) {
    const auto size = sample.Try(kind);
    if (!size.has_value()) continue;
    sizes.emplace_back(*size, kind);
    if (kind == kDictionary) of_dictionary = *size;
  }
  std::ranges::sort(sizes);
  std::vector<size_t> kinds = {sizes[0].second};
  const auto add = [&](size_t kind) {
    if (std::ranges::find(kinds, kind) == kinds.end()) kinds.push_back(kind);
  };
  const size_t distinct = context.distinct->size();
  // Others gain by mixing too, so that text is to be smaller by more.
  if (mixes && distinct * 2 > values.size() &&
      values.bytes().size() <= kMostToMix) {
    Sample mixed(values, context, kSample, context.level);
    const auto size = mixed.Try(kMixed);
    if (size < sizes[0].first - sizes[0].first / 8) kinds[0] = kMixed;
  }
  // A sample does not tell how often values come again.
  if (distinct * 2 < values.size() && of_dictionary / 2 < sizes[0].first) {
    if (kinds[0] == kText) kinds.clear();
    add(kDictionary);
  }
  if (sizes.size() > 1 &&
      sizes[1].first < sizes[0].first + sizes[0].first / 8) {
    add(sizes[1].second);
  }
  return kinds;
}

/// The best of some kinds, by coding all values in haste.
size_t ChooseWholly(std::span<const size_t> kinds, const Values& values,
                    const EncodeContext& context) {
  EncodeContext hasty = context;
  hasty.is_trial = true;
  hasty.level = std::min(context.level, kMixLevel - 1);
  size_t best = kText;
  size_t least = SIZE_MAX;
  Buffer coded;
  for (const size_t kind : kinds) {
    // Of what only mixing tells, the sample has to be believed.
    if (kind == kMixed) return kMixed;
    coded.Clear();
    if (TryKind(kind, values, hasty, &coded) && coded.size() < least) {
      least = coded.size();
      best = kind;
    }
  }
  return best;
}

/// Kind and body of at least one value.
Buffer EncodeBest(const Values& values, EncodeContext context) {
  const Distinct distinct(values);
  context.distinct = &distinct;
  std::vector<size_t> kinds;
  if (distinct.size() == 1) {
    kinds = {kConstant};
  } else if (context.depth >= kMaxDepth ||
             (context.is_trial && context.depth > 1)) {
    kinds = {kText};
  } else {
    kinds = ChooseKinds(values, context);
  }
  if (kinds.size() > 1) kinds = {ChooseWholly(kinds, values, context)};
  Buffer best;
  TryKind(kinds[0], values, context, &best);
  // Takes anything.
  if (best.empty()) TryKind(kText, values, context, &best);
  return best;
}

}  // namespace

void EncodeColumn(const Values& values, std::span<const Beside> beside,
                  int level, Scratch& scratch, Buffer* out) {
  ByteWriter writer(out);
  if (values.size() == 0) {
    writer.Varint(0);
    return;
  }
  const Buffer best = EncodeBest(
      values, {.beside = beside.first(std::min(beside.size(), kMaxBesides)),
               .level = level,
               .scratch = scratch});
  if (values.bytes().size() < kLeastForStamp) {
    writer.Varint(best.size());
    writer.Bytes(best.span());
    return;
  }
  size_t longest = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    longest = std::max(longest, values[i].size());
  }
  uint8_t classes = 0;
  std::array<bool, 256> seen{};
  for (const uint8_t byte : values.bytes()) seen[byte] = true;
  for (size_t byte = 0; byte < seen.size(); ++byte) {
    if (seen[byte]) classes |= ClassOf(static_cast<uint8_t>(byte));
  }
  writer.Varint(best.size() + VarintSize(longest) + 1);
  writer.Le(static_cast<uint8_t>(best.data()[0] | 0x80));
  writer.Varint(longest);
  writer.Le(classes);
  writer.Bytes(best.span().subspan(1));
}

void EncodePart(const Values& values, const EncodeContext& context,
                Buffer* out) {
  ByteWriter writer(out);
  if (values.size() == 0) {
    writer.Varint(0);
    return;
  }
  EncodeContext inner = context;
  ++inner.depth;
  const Buffer best = EncodeBest(values, inner);
  writer.Varint(best.size());
  writer.Bytes(best.span());
}

}  // namespace zipllm::codecs::columns
