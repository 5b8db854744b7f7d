#include "archive/lines.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "base/bytes.h"

namespace zipllm::archive {
namespace {

using container::BlockLines;
using Times = BlockLines::Times;

constexpr int64_t kMillisecond = 1'000'000;

// The first line end from `at` on; `end` where there is none.
const uint8_t* LineEnd(const uint8_t* at, const uint8_t* end) {
  const void* found =
      at == end ? nullptr
                : std::memchr(at, '\n', static_cast<size_t>(end - at));
  return found == nullptr ? end : static_cast<const uint8_t*>(found);
}

int64_t FloorToMilliseconds(Timestamp time) {
  return time / kMillisecond - (time % kMillisecond < 0 ? 1 : 0);
}

void AddTime(Timestamp time, BlockLines* block) {
  const int64_t floor = FloorToMilliseconds(time);
  const int64_t ceiling = floor + (time % kMillisecond != 0 ? 1 : 0);
  if (block->times == Times::kNone) {
    block->times = Times::kSome;
    block->earliest = floor;
    block->latest = ceiling;
  } else {
    block->earliest = std::min(block->earliest, floor);
    block->latest = std::max(block->latest, ceiling);
  }
}

// So many lines are enough to say that the others will have no time either.
constexpr size_t kSample = 200;

bool SampleHasTimes(ByteSpan block) {
  if (block.size() < kSample * 100) return true;
  const uint8_t* const end = block.data() + block.size();
  for (size_t i = 0; i < kSample; ++i) {
    const uint8_t* at = LineEnd(block.data() + block.size() / kSample * i, end);
    if (at == end) continue;
    ++at;
    if (FindTimestamp({at, static_cast<size_t>(end - at)}).has_value()) {
      return true;
    }
  }
  return false;
}

// The start of the last line of `block` if its end is not there; `end` if there
// is no such line.
const uint8_t* CutLine(ByteSpan block, bool begins_line) {
  const uint8_t* const end = block.data() + block.size();
  if (block.empty() || block.back() == '\n') return end;
  const void* last = memrchr(block.data(), '\n', block.size());
  if (last != nullptr) return static_cast<const uint8_t*>(last) + 1;
  return begins_line ? block.data() : end;
}

// 0 to 25, of either case; 255 for what is no letter.
constexpr std::array<uint8_t, 256> kLetters = [] {
  std::array<uint8_t, 256> letters{};
  letters.fill(255);
  for (uint8_t i = 0; i < 26; ++i) letters['a' + i] = letters['A' + i] = i;
  return letters;
}();

// Calls `take` with the bit of each four letters that follow each other in
// `text`, until it returns false.
template <typename Take>
void ForEachFourLetters(ByteSpan text, Take take) {
  uint32_t a = 0, b = 0, c = 0;
  size_t run = 0;
  for (const uint8_t byte : text) {
    const uint32_t d = kLetters[byte];
    run = d == 255 ? 0 : run + 1;
    if (run >= 4 && !take(container::LetterBit(a, b, c, d))) return;
    a = b;
    b = c;
    c = d;
  }
}

// About how many bytes the set takes after that of the block before.
size_t CostOfLetters(const std::vector<uint8_t>& letters,
                     const std::vector<uint8_t>* before) {
  size_t changed = 0;
  for (size_t i = 0; i < letters.size(); ++i) {
    const uint8_t old = before == nullptr ? 0 : (*before)[i];
    changed += static_cast<size_t>(
        std::popcount(static_cast<uint8_t>(letters[i] ^ old)));
  }
  if (changed == 0) return 2;
  const auto bits = static_cast<size_t>(
      std::bit_width(8 * container::kLetterBytes / changed) + 2);
  return std::min(container::kLetterBytes, changed * bits / 8 + 2);
}

}  // namespace

BlockLines LinesOf(ByteSpan block, bool begins_line, bool is_text) {
  BlockLines facts;
  facts.has_nul =
      !block.empty() && std::memchr(block.data(), 0, block.size()) != nullptr;
  if (is_text) {
    facts.letters.resize(container::kLetterBytes);
    ForEachFourLetters(block, [&](uint32_t bit) {
      facts.letters[bit / 8] |= static_cast<uint8_t>(1 << bit % 8);
      return true;
    });
  }
  facts.ends_line = !block.empty() && block.back() == '\n';
  if (!is_text || !SampleHasTimes(block)) {
    facts.line_ends = static_cast<uint32_t>(std::ranges::count(block, '\n'));
    return facts;
  }
  facts.times = Times::kNone;
  const uint8_t* at = block.data();
  const uint8_t* const end = at + block.size();
  for (bool begins = begins_line; at != end; begins = true) {
    const auto left = static_cast<size_t>(end - at);
    const uint8_t* const line_end = LineEnd(at, end);
    // What is cut is left to LineCollector.
    if (begins && (line_end != end || left >= kTimestampReach)) {
      const std::optional<Timestamp> time = FindTimestamp({at, left});
      if (time.has_value()) AddTime(*time, &facts);
    }
    if (line_end == end) break;
    ++facts.line_ends;
    at = line_end + 1;
  }
  return facts;
}

void LineCollector::EndCutLine() {
  BlockLines& block = blocks_[cut_block_];
  if (block.times != Times::kUnknown) {
    const std::optional<Timestamp> time = FindTimestamp(cut_.span());
    if (time.has_value()) AddTime(*time, &block);
  }
  cut_.Clear();
}

void LineCollector::DropLetters() {
  for (; with_letters_ < blocks_.size(); ++with_letters_) {
    blocks_[with_letters_].letters = {};
  }
}

void LineCollector::Add(const BlockLines& facts, ByteSpan block) {
  if (given_up_) return;
  blocks_.push_back(facts);
  has_letters_ = has_letters_ && !facts.letters.empty() &&
                 blocks_.size() <= kMostWithLetters;
  if (!has_letters_) DropLetters();
  const bool begins_line = begins_line_;
  begins_line_ = facts.ends_line;
  if (!cut_.empty()) {
    const ByteSpan rest =
        block.first(std::min(block.size(), kTimestampReach - cut_.size()));
    cut_.Append(rest);
    if (facts.line_ends == 0 && cut_.size() < kTimestampReach) return;
    EndCutLine();
  }
  const uint8_t* const cut = CutLine(block, begins_line);
  const auto size = static_cast<size_t>(block.data() + block.size() - cut);
  if (size >= kTimestampReach) return;  // its time was found
  cut_.Append({cut, size});
  cut_block_ = blocks_.size() - 1;
}

std::vector<BlockLines> LineCollector::Finish(uint64_t coded_size) {
  if (given_up_ || !has_text_ || blocks_.size() < 2) return {};
  if (!cut_.empty()) EndCutLine();
  if (!has_letters_) return std::move(blocks_);
  size_t cost = 0;
  const std::vector<uint8_t>* before = nullptr;
  for (const BlockLines& block : blocks_) {
    cost += CostOfLetters(block.letters, before);
    before = &block.letters;
  }
  constexpr uint64_t kPart = 250;  // of what the file takes
  if (cost > coded_size / kPart) DropLetters();
  return std::move(blocks_);
}

bool MayContain(const Needles& needles, const std::vector<uint8_t>& letters) {
  if (letters.empty() || needles.any.empty()) return true;
  return std::ranges::any_of(needles.any, [&](const std::string& needle) {
    bool all = true;
    ForEachFourLetters(AsBytes(needle), [&](uint32_t bit) {
      return all = (letters[bit / 8] >> bit % 8 & 1) != 0;
    });
    return all;
  });
}

size_t LastLineEnd(ByteSpan text) {
  const size_t window = std::min(text.size(), kMaxCutLine);
  if (window == 0) return 0;
  const void* last = memrchr(text.data() + text.size() - window, '\n', window);
  if (last == nullptr) return 0;
  return static_cast<size_t>(static_cast<const uint8_t*>(last) - text.data()) +
         1;
}

// Where the line or the bounds name no year, all are compared within one; a
// range may then go around its end.
bool Contains(const TimeRange& range, Timestamp time) {
  const bool with_year = HasYear(time) && HasYear(range.since.value_or(time)) &&
                         HasYear(range.until.value_or(time));
  if (with_year) {
    return time >= range.since.value_or(time) &&
           time <= range.until.value_or(time);
  }
  constexpr Timestamp kYear = Timestamp{366} * 86400 * 1'000'000'000;
  const bool both = range.since.has_value() && range.until.has_value();
  if (both && HasYear(*range.since) == HasYear(*range.until) &&
      (*range.until < *range.since || *range.until - *range.since >= kYear)) {
    return HasYear(*range.since) ? *range.until >= *range.since
                                 : WithoutYear(time) >= *range.since ||
                                       WithoutYear(time) <= *range.until;
  }
  time = WithoutYear(time);
  const bool since =
      !range.since.has_value() || time >= WithoutYear(*range.since);
  const bool until =
      !range.until.has_value() || time <= WithoutYear(*range.until);
  const bool around =
      both && WithoutYear(*range.until) < WithoutYear(*range.since);
  return around ? since || until : since && until;
}

bool MayContain(const TimeRange& range, const BlockLines& block) {
  if (block.times != Times::kSome) return block.times == Times::kUnknown;
  Timestamp earliest = 0, latest = 0;
  if (__builtin_mul_overflow(block.earliest, kMillisecond, &earliest) ||
      __builtin_mul_overflow(block.latest, kMillisecond, &latest)) {
    return true;
  }
  const auto has_year = [](const std::optional<Timestamp>& bound) {
    return !bound.has_value() || HasYear(*bound);
  };
  if (HasYear(earliest) && has_year(range.since) && has_year(range.until)) {
    return latest >= range.since.value_or(latest) &&
           earliest <= range.until.value_or(earliest);
  }
  // Within a year: times between the two are asked for if one of them is, or
  // if a bound lies between them.
  if (HasYear(earliest) != HasYear(latest) ||
      WithoutYear(earliest) > WithoutYear(latest) ||
      latest - earliest != WithoutYear(latest) - WithoutYear(earliest)) {
    return true;
  }
  const auto between = [&](const std::optional<Timestamp>& bound) {
    return bound.has_value() && WithoutYear(*bound) >= WithoutYear(earliest) &&
           WithoutYear(*bound) <= WithoutYear(latest);
  };
  return Contains(range, earliest) || Contains(range, latest) ||
         between(range.since) || between(range.until);
}

absl::Status NumberFilter::Add(ByteSpan text) {
  const uint8_t* at = text.data();
  const uint8_t* const end = at + text.size();
  while (at != end && line_ < first_) {
    const uint8_t* const line_end = LineEnd(at, end);
    if (line_end == end) return absl::OkStatus();
    at = line_end + 1;
    ++line_;
  }
  const uint8_t* const begin = at;
  while (at != end && line_ <= last_) {
    const uint8_t* const line_end = LineEnd(at, end);
    at = line_end;
    if (line_end == end) break;
    ++at;
    ++line_;
  }
  if (at == begin) return absl::OkStatus();
  return take_({begin, static_cast<size_t>(at - begin)});
}

absl::Status TimeFilter::EndCutLine() {
  const std::optional<Timestamp> time = FindTimestamp(cut_.span());
  if (time.has_value()) inside_ = Contains(range_, *time);
  const absl::Status status = inside_ ? take_(cut_.span()) : absl::OkStatus();
  cut_.Clear();
  return status;
}

absl::Status TimeFilter::Add(ByteSpan text) {
  const uint8_t* at = text.data();
  const uint8_t* const end = at + text.size();
  if (!cut_.empty()) {
    const ByteSpan more =
        text.first(std::min(text.size(), kTimestampReach - cut_.size()));
    const uint8_t* const line_end = LineEnd(at, at + more.size());
    const bool is_whole = line_end != at + more.size();
    const auto size = static_cast<size_t>(line_end - at) + (is_whole ? 1 : 0);
    cut_.Append({at, size});
    at += size;
    if (!is_whole && cut_.size() < kTimestampReach) return absl::OkStatus();
    begins_line_ = is_whole;
    RETURN_IF_ERROR(EndCutLine());
  }
  const uint8_t* begin = at;  // of what is taken together
  while (at != end) {
    const uint8_t* const line_end = LineEnd(at, end);
    const auto left = static_cast<size_t>(end - at);
    if (begins_line_) {
      const bool is_cut = line_end == end && left < kTimestampReach;
      const std::optional<Timestamp> time =
          is_cut ? std::nullopt : FindTimestamp({at, left});
      const bool inside = time.has_value() ? Contains(range_, *time) : inside_;
      if ((is_cut || inside != inside_) && inside_ && at != begin) {
        RETURN_IF_ERROR(take_({begin, static_cast<size_t>(at - begin)}));
      }
      if (is_cut) {
        cut_.Append({at, left});
        return absl::OkStatus();
      }
      if (inside != inside_) begin = at;
      inside_ = inside;
    }
    begins_line_ = line_end != end;
    at = begins_line_ ? line_end + 1 : end;
    if (!inside_) begin = at;
  }
  if (!inside_ || begin == end) return absl::OkStatus();
  return take_({begin, static_cast<size_t>(end - begin)});
}

absl::Status TimeFilter::Finish() {
  return cut_.empty() ? absl::OkStatus() : EndCutLine();
}

void TimeFilter::Skip(bool begins_line) {
  inside_ = false;
  cut_.Clear();
  begins_line_ = begins_line;
}

}  // namespace zipllm::archive
