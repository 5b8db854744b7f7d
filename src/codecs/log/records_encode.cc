#include <algorithm>
#include <array>
#include <cstring>
#include <map>

#include "codecs/log/records.h"

namespace zipllm::codecs::log {
namespace {

// --- Lines of words and values -------------------------------------------

enum Class : uint8_t { kLetter, kDigit, kMark, kBreak, kSpace, kQuote };

constexpr std::array<Class, 256> MakeClasses() {
  std::array<Class, 256> classes{};
  for (size_t c = 0; c < 256; ++c) {
    const bool is_letter =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 128;
    classes[c] = is_letter              ? kLetter
                 : c >= '0' && c <= '9' ? kDigit
                 : c == '"'             ? kQuote
                 : c <= ' '             ? kSpace
                                        : kBreak;
  }
  for (const char c :
       {'-', '_', '.', '/', '\\', '+', '*', '%', '$', '#', '~', '^'}) {
    classes[static_cast<uint8_t>(c)] = kMark;
  }
  return classes;
}
constexpr auto kClasses = MakeClasses();

bool IsDigit(uint8_t byte) { return kClasses[byte] == kDigit; }

/// Cuts one record; see the functions below for what is more than a run of
/// letters, digits and marks.
class LineSplitter {
 public:
  LineSplitter(ByteSpan block, size_t begin, size_t end,
               std::vector<Token>* tokens)
      : block_(block),
        begin_(begin),
        end_(end),
        first_(tokens->size()),
        tokens_(*tokens) {}

  void Split() {
    size_t i = begin_;
    while (i < end_) {
      Class byte = kClasses[block_[i]];
      if (byte == kQuote) {
        i = SplitQuoted(i) + 1;
        continue;
      }
      if (byte >= kBreak) {
        ++i;
        continue;
      }
      const size_t begin = i;
      unsigned seen = 0;
      do {
        seen |= 1u << byte;
      } while (++i < end_ && (byte = kClasses[block_[i]]) < kBreak);
      const bool is_dash = i == begin + 1 && block_[begin] == '-';
      if ((seen & 1u << kDigit) == 0 && !is_dash) {
        AddWord(begin, i);
      } else {
        i = AddValue(begin, i);
      }
    }
  }

 private:
  void AddWord(size_t begin, size_t end) {
    const uint64_t hash = HashBytes(block_.subspan(begin, end - begin));
    tokens_.push_back({static_cast<uint32_t>(begin), static_cast<uint32_t>(end),
                       static_cast<uint32_t>(hash) | 1});
  }

  /// What follows an opening quote is one token: a word before a colon (a name
  /// in JSON), else a value. Returns where its last byte, or the quote, is.
  size_t SplitQuoted(size_t open) {
    for (size_t i = open + 1; i < end_; ++i) {
      const void* found = std::memchr(block_.data() + i, '"', end_ - i);
      if (found == nullptr) return open;
      i = static_cast<size_t>(static_cast<const uint8_t*>(found) -
                              block_.data());
      size_t escapes = 0;
      while (block_[i - 1 - escapes] == '\\') ++escapes;
      if (escapes % 2 == 1) continue;
      const uint8_t next = i + 1 < end_ ? block_[i + 1] : ' ';
      if (next == ':') {
        AddWord(open + 1, i);
      } else {
        tokens_.push_back(
            {static_cast<uint32_t>(open + 1), static_cast<uint32_t>(i), 0});
      }
      return i;
    }
    return open;
  }

  bool AreDigits(size_t at, size_t count) const {
    if (at + count > end_) return false;
    for (size_t i = 0; i < count; ++i) {
      if (!IsDigit(block_[at + i])) return false;
    }
    return true;
  }

  /// Where a time of day ends whose hours end at `hours_end`; 0 if there is
  /// none: HH:MM:SS, then perhaps a fraction and a zone.
  size_t TimeEnd(size_t begin, size_t hours_end) const {
    if (hours_end + 6 > end_ || block_[hours_end] != ':' ||
        block_[hours_end + 3] != ':' || !AreDigits(hours_end + 1, 2) ||
        !AreDigits(hours_end + 4, 2) || hours_end < begin + 2 ||
        !AreDigits(hours_end - 2, 2)) {
      return 0;
    }
    size_t i = hours_end + 6;
    if (i < end_ && (block_[i] == ':' || kClasses[block_[i]] == kLetter)) {
      return block_[i] == 'Z' ? i + 1 : 0;
    }
    if (i + 1 < end_ && (block_[i] == '.' || block_[i] == ',') &&
        IsDigit(block_[i + 1])) {
      for (++i; i < end_ && IsDigit(block_[i]);) ++i;
    }
    if (i < end_ && block_[i] == 'Z') ++i;
    return i;
  }

  /// The length of the gap between the last token and `begin`; 0 if there is no
  /// token.
  size_t Gap(size_t begin) const {
    return tokens_.size() == first_ ? 0 : begin - tokens_.back().end;
  }

  /// Joins a time of day to a date before it: 2026-11-22, 22/Nov/2026, Nov 22.
  size_t DateBegin(size_t begin) {
    if (Gap(begin) != 1 || tokens_.back().word != 0) return begin;
    const Token day = tokens_.back();
    const size_t length = day.end - day.begin;
    if (length >= 5 && length <= 11) {
      const bool has_marks = std::any_of(
          &block_[day.begin], &block_[day.begin] + length,
          [](uint8_t c) { return c == '-' || c == '/' || c == '.'; });
      if (!has_marks) return begin;
      tokens_.pop_back();
      return day.begin;
    }
    if (length > 2 || tokens_.size() < first_ + 2) return begin;
    const Token& month = tokens_[tokens_.size() - 2];
    if (month.word == 0 || month.end - month.begin != 3 ||
        day.begin != month.end + 1) {
      return begin;
    }
    const size_t month_begin = month.begin;
    tokens_.resize(tokens_.size() - 2);
    return month_begin;
  }

  /// Appends the value that begins with a run of letters, digits and marks.
  /// Returns where it ends.
  size_t AddValue(size_t begin, size_t end) {
    if (const size_t time_end = TimeEnd(begin, end)) {
      if (end == begin + 2) begin = DateBegin(begin);
      end = time_end;
    }
    // Numbers in a list are one value.
    const size_t gap = Gap(begin);
    if (gap != 0 && gap <= 2 && tokens_.back().word == 0 &&
        block_[tokens_.back().end] == ',' &&
        (gap == 1 || block_[begin - 1] == ' ')) {
      tokens_.back().end = static_cast<uint32_t>(end);
      return end;
    }
    // Spaces that pad a number to a width are its own, but for the first.
    const size_t before =
        tokens_.size() == first_ ? begin_ : tokens_.back().end;
    while (begin >= before + 2 && block_[begin - 1] == ' ' &&
           block_[begin - 2] == ' ') {
      --begin;
    }
    tokens_.push_back(
        {static_cast<uint32_t>(begin), static_cast<uint32_t>(end), 0});
    return end;
  }

  const ByteSpan block_;
  const size_t begin_;
  const size_t end_;
  const size_t first_;
  std::vector<Token>& tokens_;
};

bool AlwaysFits(ByteSpan /*block*/) { return true; }

void SplitLine(ByteSpan block, size_t begin, size_t end,
               std::vector<Token>* tokens) {
  LineSplitter(block, begin, end, tokens).Split();
}

// --- Fields between separators -------------------------------------------

/// The end of a record without its line end.
size_t TextEnd(ByteSpan block, size_t begin, size_t end) {
  if (end > begin && block[end - 1] == '\n') --end;
  if (end > begin && block[end - 1] == '\r') --end;
  return end;
}

/// The end of the field at `begin`. A field in quotes may have separators.
template <char kSeparator>
size_t FieldEnd(ByteSpan block, size_t begin, size_t end) {
  const auto find = [&](size_t from, char byte) {
    const void* found = from < end
                            ? std::memchr(block.data() + from, byte, end - from)
                            : nullptr;
    return found == nullptr
               ? end
               : static_cast<size_t>(static_cast<const uint8_t*>(found) -
                                     block.data());
  };
  if (begin < end && block[begin] == '"') {
    for (size_t i = find(begin + 1, '"'); i < end; i = find(i + 2, '"')) {
      if (i + 1 == end || block[i + 1] == kSeparator) return i + 1;
      if (block[i + 1] != '"') break;
    }
  }
  return find(begin, kSeparator);
}

template <char kSeparator>
void SplitFields(ByteSpan block, size_t begin, size_t end,
                 std::vector<Token>* tokens) {
  end = TextEnd(block, begin, end);
  for (;; ++begin) {
    const size_t field_end = FieldEnd<kSeparator>(block, begin, end);
    tokens->push_back(
        {static_cast<uint32_t>(begin), static_cast<uint32_t>(field_end), 0});
    if (field_end == end) return;
    begin = field_end;
  }
}

/// Adds to `counts` how many fields the lines have that are whole in `sample`.
template <char kSeparator>
void CountFields(ByteSpan sample, std::map<size_t, uint32_t>* counts) {
  std::vector<Token> tokens;
  const auto next_line = [&](size_t from) {
    const auto end = std::find(sample.begin() + static_cast<ptrdiff_t>(from),
                               sample.end(), uint8_t{'\n'});
    return static_cast<size_t>(end - sample.begin()) + (end != sample.end());
  };
  for (size_t begin = next_line(0); begin < sample.size();) {
    const size_t end = next_line(begin);
    if (end == sample.size() && sample.back() != '\n') break;
    // Objects of JSON have commas too.
    tokens.clear();
    if (sample[begin] != '{') {
      SplitFields<kSeparator>(sample, begin, end, &tokens);
    }
    ++(*counts)[tokens.size()];
    begin = end;
  }
}

/// Whether nearly all lines, here and there in the block, have equally many
/// fields.
template <char kSeparator>
bool HasFields(ByteSpan block) {
  constexpr size_t kSamples = 4;
  constexpr size_t kSample = size_t{1} << 14;
  std::map<size_t, uint32_t> counts;
  if (block.size() <= kSamples * kSample) {
    CountFields<kSeparator>(block, &counts);
  } else {
    for (size_t i = 0; i < kSamples; ++i) {
      CountFields<kSeparator>(
          block.subspan((block.size() - kSample) / (kSamples - 1) * i, kSample),
          &counts);
    }
  }
  uint32_t lines = 0;
  std::pair<size_t, uint32_t> most;
  for (const auto& count : counts) {
    lines += count.second;
    if (count.second > most.second) most = count;
  }
  return lines >= 8 && most.first >= 3 && most.second >= lines - lines / 32;
}

/// The first that fits is taken.
constexpr Splitter kSplitters[] = {
    {HasFields<'\t'>, SplitFields<'\t'>},
    {HasFields<','>, SplitFields<','>},
    {HasFields<';'>, SplitFields<';'>},
    {HasFields<'|'>, SplitFields<'|'>},
    {AlwaysFits, SplitLine},
};

// --- Records --------------------------------------------------------------

/// Sets what a record's tokens tell.
void Describe(ByteSpan block, const Token* tokens, Record* record) {
  size_t at = record->begin;
  uint64_t shape = 0;
  uint64_t words = 0;
  const size_t count = record->end_token - record->first_token;
  for (size_t i = 0; i < count; ++i) {
    const Token& token = tokens[i];
    shape = Mix(shape, HashBytes(block.subspan(at, token.begin - at)) +
                           (token.word != 0));
    if (token.word != 0) words += WordAt(token.word, i);
    at = token.end;
  }
  record->shape = Mix(shape, HashBytes(block.subspan(at, record->end - at)));
  record->words = words;
}

/// Where the record at `begin` ends: behind a line end or, where a block has
/// few of them, behind the comma between two objects of JSON.
size_t RecordEnd(ByteSpan block, size_t begin, bool in_lines) {
  for (size_t i = begin; i < block.size(); ++i) {
    const void* found =
        std::memchr(block.data() + i, in_lines ? '\n' : '}', block.size() - i);
    if (found == nullptr) break;
    i = static_cast<size_t>(static_cast<const uint8_t*>(found) - block.data());
    if (in_lines) return i + 1;
    if (i + 2 < block.size() && block[i + 1] == ',' && block[i + 2] == '{') {
      return i + 2;
    }
  }
  return block.size();
}

/// Whether a block's lines are as short as those of records.
bool IsInLines(ByteSpan block) {
  constexpr size_t kLong = 16384;
  const auto lines = std::ranges::count(block, uint8_t{'\n'});
  return static_cast<size_t>(lines) >= block.size() / kLong;
}

}  // namespace

std::optional<Records> Split(ByteSpan block) {
  constexpr size_t kShortest = 8;  // bytes a record, on the average
  const bool in_lines = IsInLines(block);
  const Splitter& splitter = *std::ranges::find_if(
      kSplitters, [&](const Splitter& s) { return s.fits(block); });
  Records out;
  out.tokens.reserve(block.size() / 8);
  out.records.reserve(block.size() / 64);
  for (size_t begin = 0; begin < block.size();) {
    const size_t end = RecordEnd(block, begin, in_lines);
    const size_t first = out.tokens.size();
    splitter.split(block, begin, end, &out.tokens);
    Record record = {.begin = static_cast<uint32_t>(begin),
                     .end = static_cast<uint32_t>(end),
                     .first_token = static_cast<uint32_t>(first),
                     .end_token = static_cast<uint32_t>(out.tokens.size()),
                     .shape = 0,
                     .words = 0};
    Describe(block, out.tokens.data() + first, &record);
    out.records.push_back(record);
    if (out.records.size() > 64 + block.size() / kShortest) return {};
    begin = end;
  }
  return out;
}

}  // namespace zipllm::codecs::log
