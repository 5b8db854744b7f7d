// Lines of text in blocks: what is told of them when they are coded, and how
// those that a reader asks for are found.
#ifndef ZIPLLM_ARCHIVE_LINES_H_
#define ZIPLLM_ARCHIVE_LINES_H_

#include <functional>
#include <optional>
#include <vector>

#include "base/buffer.h"
#include "base/status.h"
#include "base/timestamp.h"
#include "container/format.h"
#include "zipllm/archive.h"

namespace zipllm::archive {

/// What is known of the lines of `block` alone: the time of a line that its end
/// cuts may be missing. `begins_line`: it begins with a line. Times are looked
/// for in text, and given up where a sample of its lines has none.
container::BlockLines LinesOf(ByteSpan block, bool begins_line, bool is_text);

/// Puts together what is known of the blocks of a file.
class LineCollector {
 public:
  /// `facts` are LinesOf `block`; blocks come in order.
  void Add(const container::BlockLines& facts, ByteSpan block);
  /// Of all blocks; empty where a reader has no use for it: there is no text,
  /// or one block alone. Letters are left out where they would take much beside
  /// the `coded_size` of the file.
  std::vector<container::BlockLines> Finish(uint64_t coded_size);
  /// There is a block of which nothing is known.
  void GiveUp() {
    given_up_ = true;
    blocks_ = {};
  }
  /// Some of the blocks are text.
  void FoundText() { has_text_ = true; }

 private:
  void EndCutLine();
  void DropLetters();

  // What is kept of letters until the file ends is bounded.
  static constexpr size_t kMostWithLetters = 4096;

  std::vector<container::BlockLines> blocks_;
  bool has_letters_ = true;
  size_t with_letters_ = 0;  // the first block whose letters are not dropped
  bool given_up_ = false;
  bool has_text_ = false;
  bool begins_line_ = true;  // what comes
  // The start of a line that goes on in the next block.
  Buffer cut_;
  size_t cut_block_ = 0;
};

/// Where a block that ends before `text` does should end: behind its last line
/// end, unless that is far from its own; 0: anywhere.
size_t LastLineEnd(ByteSpan text);
inline constexpr size_t kMaxCutLine = size_t{1} << 16;

/// Whether one of `needles` may be in a block of these letters.
bool MayContain(const Needles& needles, const std::vector<uint8_t>& letters);

/// Whether a line of this time is asked for.
bool Contains(const TimeRange& range, Timestamp time);
/// Whether a line of `block` may be.
bool MayContain(const TimeRange& range, const container::BlockLines& block);

/// Gives `take` those lines of a text that are asked for; the text comes in
/// pieces.
using TakeLines = std::function<absl::Status(ByteSpan)>;

/// Lines by number.
class NumberFilter {
 public:
  /// Lines `first` to `last`, counted from 0, of a text that begins in line
  /// `line`.
  NumberFilter(uint64_t first, uint64_t last, uint64_t line, TakeLines take)
      : first_(first), last_(last), line_(line), take_(std::move(take)) {}
  absl::Status Add(ByteSpan text);
  /// Nothing that comes is asked for.
  bool done() const { return line_ > last_; }

 private:
  const uint64_t first_;
  const uint64_t last_;
  uint64_t line_;
  TakeLines take_;
};

/// Lines by time. A line without one belongs to the line before it; those
/// before the first that has one come before all times.
class TimeFilter {
 public:
  TimeFilter(const TimeRange& range, TakeLines take)
      : range_(range),
        take_(std::move(take)),
        inside_(!range.since.has_value()) {}
  absl::Status Add(ByteSpan text);
  /// The text ends.
  absl::Status Finish();
  /// Text was left out, in which no line is asked for; `begins_line`: what
  /// comes begins with a line.
  void Skip(bool begins_line);
  /// Whether it takes what comes to know if it is asked for.
  bool NeedsMore() const { return inside_ || !cut_.empty(); }

 private:
  absl::Status EndCutLine();

  const TimeRange range_;
  TakeLines take_;
  bool inside_;
  bool begins_line_ = true;
  Buffer cut_;  // the start of a line whose time is not known yet
};

}  // namespace zipllm::archive

#endif  // ZIPLLM_ARCHIVE_LINES_H_
