// zipllm grep: the lines of compressed files that match a pattern, as GNU grep
// prints them.
#include <algorithm>
#include <fstream>
#include <iterator>

#include "base/status.h"
#include "tools/command.h"
#include "tools/format.h"
#include "tools/grep_matcher.h"
#include "tools/open_archive.h"
#include "tools/paths.h"

namespace zipllm::tools {
namespace {

using List = GrepOptions::List;
using Span = GrepMatcher::Span;

constexpr size_t kNone = std::string_view::npos;

std::string_view AsText(ByteSpan bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

int64_t CountLines(std::string_view text) {
  return std::ranges::count(text, '\n');
}

// GNU grep reads so many bytes at a time, and takes a file for binary from the
// piece on that has the first NUL: what stands before was printed by then.
constexpr uint64_t kPiece = 96 << 10;

// Standard output, in large writes.
class Printer {
 public:
  explicit Printer(std::unique_ptr<Sink> sink) : sink_(std::move(sink)) {}
  Printer& operator<<(std::string_view text) {
    text_ += text;
    return *this;
  }
  absl::Status Flush() {
    if (text_.empty()) return absl::OkStatus();
    const absl::Status status = sink_->Write(
        {reinterpret_cast<const uint8_t*>(text_.data()), text_.size()});
    text_.clear();
    return status;
  }

  bool has_lines = false;  // of any file

 private:
  std::unique_ptr<Sink> sink_;
  std::string text_;
};

// What a thread found in a block.
struct Looked {
  bool has_nul = false;
  std::vector<Span> lines;  // that match; of a block without NUL
};

// Searches one file, whose bytes come in order.
class FileSearch : public BlockVisitor {
 public:
  FileSearch(const GrepOptions& options, const GrepMatcher& matcher,
             const std::string& name, const Archive& archive, size_t entry,
             Printer& out)
      : options_(options),
        matcher_(matcher),
        name_(name),
        archive_(archive),
        entry_(entry),
        size_(archive.entries()[entry].size),
        out_(out),
        left_(options.max_count),
        stop_at_first_(options.silent || options.list != List::kNone),
        quiet_(options.count || stop_at_first_) {}

  // Whether text in which nothing matches may be passed over.
  bool MaySkip() const { return !options_.invert; }

  std::shared_ptr<void> Look(ByteSpan plain) override {
    auto looked = std::make_shared<Looked>();
    const std::string_view text = AsText(plain);
    looked->has_nul = !options_.text && text.find('\0') != kNone;
    const size_t first = text.find('\n');
    if (looked->has_nul || first == kNone) return looked;
    // Lines that lie in the block whole.
    const size_t begin = first + 1;
    looked->lines = matcher_.MatchingLines(
        text.substr(begin, text.rfind('\n') + 1 - begin));
    for (Span& line : looked->lines) {
      line.first += begin;
      line.second += begin;
    }
    return looked;
  }

  absl::StatusOr<bool> Take(const FileBlock& block, const ByteSpan* plain,
                            const std::shared_ptr<void>& looked) override {
    if (plain == nullptr) {
      ProcessRest();
      if (pending_ > 0) {
        ASSIGN_OR_RETURN(const std::string text, Read(end_, block.size));
        end_ += block.size;
        TakeText(text, {});
      } else {
        context_.clear();
        line_ += static_cast<int64_t>(block.line_ends.value_or(0));
        skipped_end_ = end_ += block.size;
      }
    } else {
      const std::string_view text = AsText(*plain);
      const auto* found = static_cast<const Looked*>(looked.get());
      end_ += text.size();
      if (is_binary_ || found->has_nul) {
        TakeBinary(text);
      } else {
        TakeText(text, found->lines);
      }
    }
    if (end_ == size_) ProcessRest();
    RETURN_IF_ERROR(failure_);
    RETURN_IF_ERROR(out_.Flush());
    return !done_;
  }

  // Lines that were selected. After the last block.
  int64_t selected() const { return selected_; }
  // Whether lines were not printed since the file is binary.
  bool HidesLines() const {
    const bool would_print = !options_.count && !options_.silent &&
                             options_.list == List::kNone && !options_.text;
    return would_print &&
           (bad_characters_ || (is_binary_ && before_nul_ < selected_));
  }

 private:
  void TakeText(std::string_view text, const std::vector<Span>& lines) {
    const uint64_t begin = end_ - text.size();
    // What may stand in one piece with a NUL that comes waits.
    const uint64_t limit = options_.text ? end_ : end_ / kPiece * kPiece;
    const size_t last =
        limit > begin ? text.rfind('\n', limit - begin - 1) : kNone;
    if (last == kNone) {
      rest_ += text;
      return;
    }
    const size_t first = text.find('\n');
    rest_ += text.substr(0, first + 1);
    ProcessRest(begin + first + 1);
    Process(text.substr(0, last + 1), first + 1, begin, lines);
    rest_ = text.substr(last + 1);
  }

  void TakeBinary(std::string_view text) {
    rest_ += text;
    const uint64_t begin = end_ - rest_.size();
    if (!is_binary_) {
      const uint64_t piece = (begin + rest_.find('\0')) / kPiece * kPiece;
      ProcessLines(piece > begin ? rest_.rfind('\n', piece - begin - 1)
                                 : kNone);
      is_binary_ = true;
      before_nul_ = selected_;
      if (!options_.count) quiet_ = stop_at_first_ = true;
    }
    std::ranges::replace(rest_, '\0', '\n');
    ProcessLines(rest_.rfind('\n'));
  }

  // Those of `rest_` up to a line end, if there is one.
  void ProcessLines(size_t last) {
    if (last == kNone) return;
    std::string after = rest_.substr(last + 1);
    rest_.resize(last + 1);
    ProcessRest(end_ - after.size());
    rest_ = std::move(after);
  }

  void ProcessRest() { ProcessRest(end_); }
  // `end`: where `rest_` ends in the file.
  void ProcessRest(uint64_t end) {
    const std::string text = std::move(rest_);
    rest_.clear();
    if (!text.empty()) {
      Process(text, 0, end - text.size(), matcher_.MatchingLines(text));
    }
  }

  // Selects among the lines of `text` from `from` on, and prints. `text` stands
  // at `offset` of the file; `lines` are those of it that match, and more.
  void Process(std::string_view text, size_t from, uint64_t offset,
               const std::vector<Span>& lines) {
    if (done_ || from >= text.size()) return;
    if (options_.before == 0) {
      ProcessWithContext(text, from, offset, from, lines);
      return;
    }
    // Lines before these may be wanted too.
    const auto first = std::ranges::lower_bound(lines, from, {}, &Span::first);
    if (first != lines.end() && !quiet_) {
      AddSkipped(offset + from - context_.size(),
                 CountLines(context_) +
                     CountLines(text.substr(from, first->first - from)));
    }
    const size_t more = context_.size();
    context_ += text.substr(from);
    std::vector<Span> moved;
    for (const auto& [begin, end] : lines) {
      if (begin < from || begin >= text.size()) continue;
      moved.emplace_back(begin - from + more, end - from + more);
    }
    const std::string joined = std::move(context_);
    ProcessWithContext(joined, more, offset + from - more, 0, moved);
    size_t keep = joined.size();
    for (int64_t i = 0; i < options_.before && keep > 0; ++i) {
      keep = LineBefore(joined, keep);
    }
    context_ = joined.substr(keep);
  }

  // Decodes bytes of the file again.
  absl::StatusOr<std::string> Read(uint64_t offset, uint64_t size) const {
    std::string text(size, '\0');
    RETURN_IF_ERROR(archive_.ReadRange(
        entry_, offset,
        {reinterpret_cast<uint8_t*>(text.data()), text.size()}));
    return text;
  }

  // Puts in front of `context_`, which begins at `begin` of the file, lines
  // before that if they were passed over and `lines` are not enough.
  void AddSkipped(uint64_t begin, int64_t lines) {
    if (begin != skipped_end_ || begin == 0 || lines >= options_.before) return;
    const int64_t wanted = options_.before - lines;
    for (uint64_t size = kPiece;; size *= 8) {
      size = std::min(size, begin);
      absl::StatusOr<std::string> text = Read(begin - size, size);
      if (!text.ok()) {
        failure_ = text.status();
        return;
      }
      // The first line may be cut.
      if (CountLines(*text) <= wanted && size < begin) {
        continue;
      }
      context_ = *text + context_;
      return;
    }
  }

  // The start of the line that ends before `at`, which is above 0.
  static size_t LineBefore(std::string_view text, size_t at) {
    const size_t end = at < 2 ? kNone : text.rfind('\n', at - 2);
    return end == kNone ? 0 : end + 1;
  }
  // Behind the line that begins at `at`.
  size_t NextLine(size_t at) const {
    const size_t end = text_.find('\n', at);
    return end == kNone ? text_.size() : end + 1;
  }

  // The same; lines from `floor` on may be printed as context.
  void ProcessWithContext(std::string_view text, size_t from, uint64_t offset,
                          size_t floor, const std::vector<Span>& lines) {
    text_ = text;
    offset_ = offset;
    floor_ = floor;
    counted_ = from;
    size_t at = from;
    const int64_t before = selected_;
    const auto is_enough = [&] {
      return selected_ > before && (left_ == 0 || stop_at_first_);
    };
    if (left_ > 0) {
      for (const auto& [begin, end] : lines) {
        if (begin < from) continue;
        if (begin >= text.size()) break;
        if (!options_.invert) {
          Select(begin, NextLine(end));
        } else if (at < begin) {
          Select(at, begin);
        }
        at = NextLine(end);
        if (is_enough()) break;
      }
      if (options_.invert && at < text.size() && !is_enough()) {
        Select(at, text.size());
      }
    }
    PrintPending(text.size());
    if (options_.line_numbers) {
      line_ += CountLines(text.substr(counted_));
    }
    done_ = (left_ == 0 && pending_ == 0) ||
            (stop_at_first_ && selected_ > (is_binary_ ? before_nul_ : 0));
  }

  // One line, or with `invert` several.
  void Select(size_t begin, size_t end) {
    if (!quiet_) {
      PrintPending(begin);
      size_t context = begin;
      const size_t floor = std::max(floor_, Printed());
      for (int64_t i = 0; i < options_.before && context > floor; ++i) {
        context = LineBefore(text_, context);
      }
      const bool adjacent =
          printed_.has_value() && *printed_ == offset_ + context;
      if (options_.has_context && out_.has_lines && !adjacent) out_ << "--\n";
      while (context < begin) {
        const size_t next = NextLine(context);
        PrintLine(context, next, '-');
        context = next;
      }
    }
    int64_t count = 0;
    for (size_t at = begin; at < end && count < left_; ++count) {
      const size_t next = NextLine(at);
      if (!quiet_) PrintLine(at, next, ':');
      at = next;
    }
    pending_ = quiet_ ? 0 : options_.after;
    out_.has_lines = true;
    left_ -= count;
    selected_ += count;
  }

  // Where what was printed ends in `text_`.
  size_t Printed() const {
    return printed_.has_value() && *printed_ > offset_
               ? static_cast<size_t>(*printed_ - offset_)
               : 0;
  }

  // Lines after one that was selected.
  void PrintPending(size_t end) {
    if (pending_ > 0 && !printed_.has_value()) printed_ = offset_;
    for (; pending_ > 0 && Printed() < end; --pending_) {
      PrintLine(Printed(), NextLine(Printed()), '-');
    }
  }

  void PrintLine(size_t begin, size_t end, char separator) {
    std::string_view line = text_.substr(begin, end - begin);
    if (line.ends_with('\n')) line.remove_suffix(1);
    if (options_.only_matching) {
      const bool matches = (separator == ':') != options_.invert;
      if (matches && !PrintMatches(line, begin)) return;
    } else {
      if (!PrintHead(line, begin, separator)) return;
      out_ << line << "\n";
    }
    printed_ = offset_ + end;
  }

  bool PrintMatches(std::string_view line, size_t begin) {
    const char separator = options_.invert ? '-' : ':';
    for (size_t at = 0; at < line.size();) {
      const std::optional<Span> match = matcher_.Find(line, at);
      if (!match.has_value() || match->first >= line.size()) break;
      if (match->second == match->first) {
        at = match->first + 1;
        continue;
      }
      const std::string_view text =
          line.substr(match->first, match->second - match->first);
      if (!PrintHead(text, begin, separator)) return false;
      out_ << text << "\n";
      at = match->second;
    }
    return true;
  }

  // False: `text` is none, and is not printed.
  bool PrintHead(std::string_view text, size_t at, char separator) {
    if (!options_.text && !matcher_.IsEncoded(text)) {
      bad_characters_ = true;
      return false;
    }
    const std::string_view mark(&separator, 1);
    if (options_.with_filename) out_ << name_ << mark;
    if (options_.line_numbers) {
      if (at >= counted_) {
        line_ += CountLines(text_.substr(counted_, at - counted_));
      } else {
        line_ -= CountLines(text_.substr(at, counted_ - at));
      }
      counted_ = at;
      out_ << std::to_string(line_ + 1) << mark;
    }
    return true;
  }

  const GrepOptions& options_;
  const GrepMatcher& matcher_;
  const std::string& name_;
  const Archive& archive_;
  const size_t entry_;
  const uint64_t size_;  // of the file
  Printer& out_;
  int64_t left_;  // lines that may still be selected
  bool stop_at_first_;
  bool quiet_;  // what is selected is not printed
  int64_t selected_ = 0;
  int64_t pending_ = 0;              // lines to print after a selected one
  std::optional<uint64_t> printed_;  // where what was printed ends
  bool done_ = false;

  uint64_t end_ = 0;          // of what came
  std::string rest_;          // the last of it, which waits
  std::string context_;       // lines before what waits
  uint64_t skipped_end_ = 0;  // of the block that was passed over last
  absl::Status failure_;
  bool is_binary_ = false;
  int64_t before_nul_ = 0;  // what was selected before the file was binary
  bool bad_characters_ = false;

  // What is processed.
  std::string_view text_;
  uint64_t offset_ = 0;
  size_t floor_ = 0;
  int64_t line_ = 0;    // lines of the file before `counted_`
  size_t counted_ = 0;  // in `text_`
};

// Single lines: those of -e and of the files of -f.
absl::StatusOr<std::vector<std::string>> Patterns(const GrepOptions& options,
                                                  const Console& console) {
  std::vector<std::string> patterns;
  const auto add = [&](const std::string& text) {
    for (size_t at = 0; at <= text.size();) {
      const size_t end = std::min(text.find('\n', at), text.size());
      patterns.push_back(text.substr(at, end - at));
      at = end + 1;
    }
  };
  for (const std::string& text : options.patterns) add(text);
  for (const std::string& path : options.pattern_files) {
    std::string text;
    absl::StatusOr<std::unique_ptr<Source>> source =
        OpenArchiveSource(path, console);
    RETURN_IF_ERROR(source.status());
    std::array<uint8_t, 1 << 16> piece;
    while (true) {
      ASSIGN_OR_RETURN(const size_t n, (*source)->Read(piece));
      if (n == 0) break;
      text += AsText({piece.data(), n});
    }
    if (text.ends_with('\n'))
      text.pop_back();
    else if (text.empty())
      continue;
    add(text);
  }
  // Once each, in order.
  std::vector<std::string> distinct;
  for (std::string& pattern : patterns) {
    if (std::ranges::find(distinct, pattern) == distinct.end()) {
      distinct.push_back(std::move(pattern));
    }
  }
  return distinct;
}

// What an archive's content was called: its name without the suffix.
std::string OriginalName(const std::string& input) {
  if (input == "-") return "(standard input)";
  if (input.ends_with(kSuffix)) {
    return input.substr(0, input.size() - std::string_view(kSuffix).size());
  }
  return input;
}

// Works out what options come to that change each other or PATTERN's place.
bool Settle(CommandOptions& settings, Console& console) {
  GrepOptions& options = settings.grep;
  if (options.before < 0) options.before = options.context;
  if (options.after < 0) options.after = options.context;
  if (options.silent) options.list = List::kNone;
  if (options.silent || options.list != List::kNone) options.count = false;
  if (options.patterns.empty() && options.pattern_files.empty()) {
    if (!options.pattern.has_value()) {
      console.FailUsage("no PATTERN: give one, or -e or -f");
      return false;
    }
    options.patterns.push_back(*options.pattern);
  } else if (options.pattern.has_value()) {
    settings.inputs.insert(settings.inputs.begin(), *options.pattern);
  }
  return true;
}

// Whether it is plain that no line is selected: then GNU grep reads no file,
// prints nothing, not even a count, and does not mind a pattern that is none.
bool SelectsNothing(const GrepOptions& options,
                    const std::vector<std::string>& patterns) {
  if (options.list == List::kNonMatching) return false;
  const GrepSyntax& syntax = options.syntax;
  const bool all_match = patterns == std::vector<std::string>{""} &&
                         !syntax.whole_lines && !syntax.whole_words;
  return options.max_count == 0 || (options.invert && all_match);
}

// Searches archives, one after the other.
class Search {
 public:
  Search(const CommandOptions& settings, const GrepMatcher& matcher,
         Console& console)
      : settings_(settings),
        options_(settings.grep),
        matcher_(matcher),
        console_(console),
        inputs_(InputsOf(settings)),
        out_(console.OpenOutput(false)) {}

  void Run() {
    for (const std::string& input : inputs_) {
      const absl::Status status = SearchArchive(input);
      if (!status.ok()) console_.FailToAnswer(DisplayName(input), status);
      if (IsAnswered()) break;
    }
    if (!any_) console_.AnswerNo();
  }

 private:
  bool IsAnswered() const { return any_ && options_.silent; }

  absl::Status SearchArchive(const std::string& input) {
    ASSIGN_OR_RETURN(const Archive archive,
                     OpenArchive(input, settings_, console_));
    const std::vector<Entry>& entries = archive.entries();
    const bool is_file =
        entries.size() == 1 && entries.front().kind == EntryKind::kFile;
    options_.with_filename =
        options_.show_filename.value_or(inputs_.size() > 1 || !is_file);
    for (size_t i = 0; i < entries.size(); ++i) {
      if (entries[i].kind != EntryKind::kFile) continue;
      std::string name = OriginalName(input);
      if (!is_file) name += "/" + entries[i].path;
      RETURN_IF_ERROR(SearchFile(name, archive, i));
      if (IsAnswered()) return absl::OkStatus();
    }
    console_.Detail(Format(
        "%s: read %llu of %llu bytes", Printable(DisplayName(input)).c_str(),
        static_cast<unsigned long long>(archive.bytes_read()),
        static_cast<unsigned long long>(archive.size())));
    return absl::OkStatus();
  }

  absl::Status SearchFile(const std::string& name, const Archive& archive,
                          size_t entry) {
    static const Needles everything;
    FileSearch search(options_, matcher_, name, archive, entry, out_);
    RETURN_IF_ERROR(archive.VisitBlocks(
        entry, search.MaySkip() ? matcher_.needles() : everything, search));
    any_ = any_ || search.selected() > 0;
    if (options_.count) {
      if (options_.with_filename) out_ << name << ":";
      out_ << std::to_string(search.selected()) << "\n";
    }
    if (options_.list ==
        (search.selected() > 0 ? List::kMatching : List::kNonMatching)) {
      out_ << name << "\n";
    }
    RETURN_IF_ERROR(out_.Flush());
    if (search.HidesLines()) console_.Tell(name + ": binary file matches");
    return absl::OkStatus();
  }

  const CommandOptions& settings_;
  GrepOptions options_;
  const GrepMatcher& matcher_;
  Console& console_;
  const std::vector<std::string> inputs_;
  Printer out_;
  bool any_ = false;  // whether a line was selected
};

}  // namespace

void RunGrep(const CommandOptions& command, Console& console) {
  CommandOptions settings = command;
  GrepOptions& options = settings.grep;
  if (!Settle(settings, console) || !CheckInputs(settings, console)) return;
  absl::StatusOr<std::vector<std::string>> patterns =
      Patterns(options, console);
  if (!patterns.ok()) {
    console.FailToAnswer("-f", patterns.status());
    return;
  }
  if (patterns->empty()) {  // nothing matches: the contrary of all
    *patterns = {""};
    options.invert = !options.invert;
    options.syntax.whole_words = options.syntax.whole_lines = false;
  }
  if (SelectsNothing(options, *patterns)) {
    console.AnswerNo();
    return;
  }
  const absl::StatusOr<std::unique_ptr<GrepMatcher>> matcher =
      GrepMatcher::Compile(*patterns, options.syntax);
  if (!matcher.ok()) {
    console.FailToAnswer("PATTERN", matcher.status());
    return;
  }
  Search(settings, **matcher, console).Run();
}

}  // namespace zipllm::tools
