// Codec 25, log: finds the templates of a block's records, and codes what
// varies in columns.
#include <algorithm>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "codecs/bytes/zstd_encode.h"
#include "codecs/log/log_format.h"
#include "codecs/log/mine.h"
#include "codecs/log/neighbours.h"
#include "codecs/log/records.h"
#include "codecs/log/shared.h"
#include "codecs/text/coded_plan.h"

namespace zipllm::codecs {
namespace log {
namespace {

using columns::Values;

constexpr int kMinLevel = 3;
constexpr uint32_t kNone = UINT32_MAX;

/// The values of a block, by column, and the templates around them.
class Table {
 public:
  Table(ByteSpan block, const Records& records, const Mined& mined)
      : block_(block), drafts_(mined.drafts) {
    for (const Draft& draft : drafts_) AddColumns(draft);
    Fill(records, mined);
    FindConstants();
    JoinShortColumns();
  }

  /// Appends all as the format has it.
  bool Write(int level, const SharedTexts* shared, Scratch& scratch,
             Buffer* out);
  /// The texts of its templates, those first that are used most.
  Values TakeTexts() { return ListTemplates().texts; }

 private:
  struct Listed {
    std::vector<uint32_t> order;  // of drafts
    Values texts;
    Values slots;
    std::vector<uint32_t> columns;  // by number, from 1 on
  };
  Listed ListTemplates();

  struct Column {
    Values values;
    bool is_constant = false;
    uint32_t number = 0;  // in the format, from 1 on; 0: none yet
  };

  void AddColumns(const Draft& draft) {
    auto& slots = slots_.emplace_back();
    for (const Draft::Slot& slot : draft.slots) {
      const auto [found, is_new] = column_of_.try_emplace(
          slot.column, static_cast<uint32_t>(columns_.size()));
      if (is_new) columns_.emplace_back();
      slots.push_back(found->second);
    }
  }

  ByteSpan Part(size_t begin, size_t end) const {
    return block_.subspan(begin, end - begin);
  }

  static bool Equal(ByteSpan a, ByteSpan b) {
    return a.size() == b.size() &&
           (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
  }

  /// Whether a record is as its draft says.
  bool Fits(const Draft& draft, const Record& record,
            const Token* tokens) const {
    size_t at = record.begin;
    for (const Draft::Slot& slot : draft.slots) {
      const size_t literal = slot.literal_end - slot.literal_begin;
      if (slot.token == Draft::kRest) {
        const size_t tail = draft.tail_end - draft.tail_begin;
        if (at + literal + tail > record.end ||
            !Equal(Part(at, at + literal),
                   Part(slot.literal_begin, slot.literal_end))) {
          return false;
        }
        at = record.end - tail;
        break;
      }
      if (slot.token >= record.end_token - record.first_token) return false;
      const Token& token = tokens[slot.token];
      if (token.begin < at ||
          !Equal(Part(at, token.begin),
                 Part(slot.literal_begin, slot.literal_end))) {
        return false;
      }
      at = token.end;
    }
    return Equal(Part(at, record.end), Part(draft.tail_begin, draft.tail_end));
  }

  void Fill(const Records& records, const Mined& mined) {
    uint32_t raw = kNone;  // the draft of what does not fit
    for (size_t i = 0; i < records.records.size(); ++i) {
      const Record& record = records.records[i];
      const Token* tokens = records.tokens.data() + record.first_token;
      uint32_t number = mined.draft_of[i];
      if (!Fits(drafts_[number], record, tokens)) {
        if (raw == kNone) {
          raw = static_cast<uint32_t>(drafts_.size());
          drafts_.push_back({.slots = {{0, 0, Draft::kRest, 0}},
                             .tail_begin = 0,
                             .tail_end = 0});
          AddColumns(drafts_.back());
        }
        number = raw;
      }
      numbers_.push_back(number);
      const Draft& draft = drafts_[number];
      size_t at = record.begin;
      for (size_t k = 0; k < draft.slots.size(); ++k) {
        const Draft::Slot& slot = draft.slots[k];
        Values& values = columns_[slots_[number][k]].values;
        if (slot.token == Draft::kRest) {
          values.Append(Part(at + slot.literal_end - slot.literal_begin,
                             record.end - (draft.tail_end - draft.tail_begin)));
        } else {
          const Token& token = tokens[slot.token];
          values.Append(Part(token.begin, token.end));
          at = token.end;
        }
      }
    }
  }

  void FindConstants() {
    for (Column& column : columns_) {
      const Values& values = column.values;
      if (values.size() == 0) continue;
      column.is_constant = true;
      for (size_t i = 1; i < values.size() && column.is_constant; ++i) {
        column.is_constant = Equal(values[i], values[0]);
      }
    }
  }

  /// A column of a few values costs more than they do.
  void JoinShortColumns() {
    constexpr size_t kShort = 12;
    uint32_t joined[2] = {kNone, kNone};  // numbers, and all else
    std::vector<uint32_t> into(columns_.size(), kNone);
    const auto own = static_cast<uint32_t>(columns_.size());
    for (uint32_t c = 0; c < own; ++c) {
      const Values& values = columns_[c].values;
      if (columns_[c].is_constant || values.size() >= kShort) continue;
      if (values.size() == 0) continue;
      const ByteSpan value = values[0];
      uint32_t& to = joined[value.empty() || value.back() > '9'];
      if (to == kNone) {
        to = static_cast<uint32_t>(columns_.size());
        columns_.emplace_back();
      }
      into[c] = to;
    }
    std::vector<uint32_t> taken(own);
    for (const uint32_t draft : numbers_) {
      for (const uint32_t c : slots_[draft]) {
        if (into[c] == kNone) continue;
        columns_[into[c]].values.Append(columns_[c].values[taken[c]++]);
      }
    }
    for (auto& slots : slots_) {
      for (uint32_t& c : slots) {
        if (into[c] != kNone) c = into[c];
      }
    }
  }

  ByteSpan block_;
  std::vector<Draft> drafts_;
  std::vector<std::vector<uint32_t>> slots_;  // by draft: columns
  std::unordered_map<uint64_t, uint32_t> column_of_;
  std::vector<Column> columns_;
  std::vector<uint32_t> numbers_;  // by record: the draft
};

void AppendEscaped(ByteSpan literal, Buffer* text) {
  for (const uint8_t byte : literal) {
    if (byte <= kCopyOfShared) *text->Extend(1) = kEscape;
    *text->Extend(1) = byte;
  }
}

Table::Listed Table::ListTemplates() {
  // Templates by how often they are used.
  std::vector<uint32_t> uses(drafts_.size());
  for (const uint32_t number : numbers_) ++uses[number];
  Listed listed;
  for (uint32_t d = 0; d < drafts_.size(); ++d) {
    if (uses[d] != 0) listed.order.push_back(d);
  }
  std::ranges::stable_sort(
      listed.order, [&](uint32_t a, uint32_t b) { return uses[a] > uses[b]; });
  for (const uint32_t d : listed.order) {
    const Draft& draft = drafts_[d];
    Buffer text;
    Buffer slot_numbers;
    ByteWriter writer(&slot_numbers);
    for (size_t k = 0; k < draft.slots.size(); ++k) {
      const Draft::Slot& slot = draft.slots[k];
      AppendEscaped(Part(slot.literal_begin, slot.literal_end), &text);
      Column& column = columns_[slots_[d][k]];
      if (column.is_constant) {
        AppendEscaped(column.values[0], &text);
        continue;
      }
      *text.Extend(1) = kSlot;
      writer.Varint(column.number);
      if (column.number == 0) {
        listed.columns.push_back(slots_[d][k]);
        column.number = static_cast<uint32_t>(listed.columns.size());
      }
    }
    AppendEscaped(Part(draft.tail_begin, draft.tail_end), &text);
    listed.texts.Append(text.span());
    listed.slots.Append(slot_numbers.span());
  }
  return listed;
}

bool Table::Write(int level, const SharedTexts* shared, Scratch& scratch,
                  Buffer* out) {
  const Listed listed = ListTemplates();
  const std::vector<uint32_t>& order = listed.order;
  if (listed.columns.size() >= kMaxColumns || order.size() > kMaxTemplates) {
    return false;
  }
  Values shortened;
  for (size_t i = 0; shared != nullptr && i < order.size(); ++i) {
    Buffer text;
    shared->Shorten(listed.texts[i], &text);
    shortened.Append(text.span());
  }

  const size_t start = out->size();
  ByteWriter writer(out);
  writer.Varint(order.size());
  columns::EncodeColumn(shared == nullptr ? listed.texts : shortened, {}, level,
                        scratch, out);
  columns::EncodeColumn(listed.slots, {}, level, scratch, out);

  std::vector<uint16_t> number_of(drafts_.size());
  for (size_t i = 0; i < order.size(); ++i) {
    number_of[order[i]] = static_cast<uint16_t>(i);
  }
  Values numbers;
  const size_t number_bytes = NumberBytes(order.size());
  numbers.Reserve(numbers_.size(), numbers_.size() * number_bytes);
  for (const uint32_t d : numbers_) {
    std::memcpy(numbers.Extend(number_bytes), &number_of[d], number_bytes);
  }
  writer.Varint(numbers_.size());
  columns::EncodeColumn(numbers, {}, level, scratch, out);

  // What a decoder knows of the columns before it has their values.
  Templates templates;
  ByteReader reader(out->span().subspan(start));
  const ByteSpan known = shared == nullptr ? ByteSpan() : shared->shared();
  if (!templates.Read(reader, block_.size(), known, scratch).ok()) return false;
  const Neighbours neighbours(templates, FindPlaces(templates, numbers));
  std::vector<const Values*> all = {&numbers};
  for (const uint32_t c : listed.columns) all.push_back(&columns_[c].values);

  size_t left = block_.size();
  for (uint32_t c = 1; c < all.size(); ++c) {
    const Values& values = *all[c];
    const std::vector<uint32_t> chosen = neighbours.Choose(all, c);
    std::vector<columns::Beside> besides;
    std::vector<std::vector<uint32_t>> indexes;
    writer.Varint(chosen.size());
    for (const uint32_t other : chosen) {
      writer.Varint(other);
      indexes.push_back(neighbours.Index(c, other));
    }
    for (size_t i = 0; i < chosen.size(); ++i) {
      besides.push_back({all[chosen[i]], indexes[i]});
    }
    columns::EncodeColumn(values, besides, level, scratch, out);
    left -= values.bytes().size();
    if (!scratch.Advance(values.bytes().size())) return false;
  }
  return scratch.Advance(left);
}

}  // namespace
}  // namespace log

namespace {

using columns::Values;

/// Records that are alike take less than so many eighths of what Zstandard
/// makes of them; what takes more is better coded as text, most of all from the
/// level on at which contexts are mixed.
constexpr size_t EighthsAt(int level) { return level >= 6 ? 5 : 6; }
/// Whatever takes less than this is measured beside other codecs anyway.
constexpr size_t kSmall = size_t{1} << 16;

bool Append(ByteSpan block, int level, const log::SharedTexts* shared,
            Scratch& scratch, Buffer* out) {
  const std::optional<log::Records> records = log::Split(block);
  if (!records.has_value()) return false;
  log::Table table(block, *records, log::Mine(block, *records));
  const size_t before = out->size();
  if (!table.Write(level, shared, scratch, out) ||
      out->size() - before >= block.size()) {
    out->Resize(before);
    return false;
  }
  return true;
}

std::unique_ptr<EncodePlan> MakePlan(const EncodeRequest& request,
                                     Scratch& scratch) {
  if (!request.is_text || request.level < log::kMinLevel ||
      request.block_size > log::kMaxBlockSize) {
    return nullptr;
  }
  const ByteSpan block = FirstBlock(request);
  const int level = request.level;
  const auto* shared = static_cast<const log::SharedTexts*>(request.model);
  Buffer coded;
  if (!Append(block, level, shared, scratch, &coded)) return nullptr;
  Buffer plain;
  const size_t usual =
      AppendZstdFrame(block, 3, &plain) ? plain.size() : block.size();
  if (block.size() > kSmall && coded.size() * 8 > usual * EighthsAt(level)) {
    return nullptr;
  }
  return std::make_unique<CodedPlan>(
      request, ByteSpan{}, std::move(coded),
      [level, shared](ByteSpan rest, Scratch& other, Buffer* out) {
        return Append(rest, level, shared, other, out);
      });
}

std::unique_ptr<const TensorModel> LearnText(const EncodeRequest& first_block,
                                             Scratch& /*scratch*/) {
  constexpr size_t kMost = size_t{1} << 18;
  if (first_block.level < log::kMinLevel ||
      first_block.block_size > log::kMaxBlockSize) {
    return nullptr;
  }
  const ByteSpan block = FirstBlock(first_block);
  const std::optional<log::Records> records = log::Split(block);
  if (!records.has_value()) return nullptr;
  const Values texts =
      log::Table(block, *records, log::Mine(block, *records)).TakeTexts();
  Buffer shared;
  shared.Append(texts.bytes().first(std::min(texts.bytes().size(), kMost)));
  return std::make_unique<log::SharedTexts>(std::move(shared));
}

}  // namespace

extern const Encoder kLogEncoder = {
    .id = 25, .name = "log", .plan = MakePlan, .learn_text = LearnText};

}  // namespace zipllm::codecs
