#include "tools/grep_matcher.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <cwchar>
#include <deque>
#include <optional>

#include "base/status.h"

namespace zipllm::tools {
namespace {

constexpr bool IsAscii(char c) { return static_cast<unsigned char>(c) < 128; }
bool IsAscii(std::string_view text) {
  unsigned char all = 0;
  for (const char c : text) all |= static_cast<unsigned char>(c);
  return all < 128;
}
constexpr char ToLower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
}

// The locale of this thread, for a while.
class LocaleScope {
 public:
  explicit LocaleScope(locale_t locale) : before_(uselocale(locale)) {}
  ~LocaleScope() { uselocale(before_); }
  LocaleScope(const LocaleScope&) = delete;
  LocaleScope& operator=(const LocaleScope&) = delete;

 private:
  locale_t before_;
};

// Behind the set of characters whose '[' stands before `at`.
size_t SetEnd(std::string_view pattern, size_t at) {
  if (at < pattern.size() && pattern[at] == '^') ++at;
  if (at < pattern.size() && pattern[at] == ']') ++at;
  while (at < pattern.size() && pattern[at] != ']') {
    const char kind = at + 1 < pattern.size() ? pattern[at + 1] : '\0';
    if (pattern[at] != '[' || (kind != ':' && kind != '.' && kind != '=')) {
      ++at;
      continue;
    }
    const size_t end = pattern.find(std::string{kind, ']'}, at + 2);
    at = end == std::string_view::npos ? pattern.size() : end + 2;
  }
  return std::min(at + 1, pattern.size());
}

// What begins at `at`: a set, something escaped, or a byte.
std::string_view TokenAt(std::string_view pattern, size_t at) {
  if (pattern[at] == '[') {
    return pattern.substr(at, SetEnd(pattern, at + 1) - at);
  }
  return pattern.substr(at, pattern[at] == '\\' ? 2 : 1);
}

// Whether "[:space:]" stands where "[[:space:]]" is meant.
bool HasBareClass(std::string_view pattern) {
  for (size_t at = 0; at < pattern.size();) {
    std::string_view token = TokenAt(pattern, at);
    at += token.size();
    if (!token.starts_with('[') || !token.ends_with(":]")) continue;
    token.remove_prefix(token.starts_with("[^") ? 2 : 1);
    if (token.size() > 3 && token.front() == ':' &&
        token.find_first_of("[-") == std::string_view::npos) {
      return true;
    }
  }
  return false;
}

// The length of '*', '+', '?' or an interval at `at`, 0 where there is none;
// and whether it allows for nothing.
std::pair<size_t, bool> RepetitionAt(std::string_view pattern, size_t at) {
  if (pattern[at] != '{') {
    const bool is_one =
        std::strchr("*+?", pattern[at]) != nullptr && pattern[at] != '\0';
    return {is_one ? 1 : 0, pattern[at] != '+'};
  }
  const size_t end = pattern.find('}', at);
  if (end == std::string_view::npos) return {0, false};
  const std::string_view inner = pattern.substr(at + 1, end - at - 1);
  const size_t comma = inner.find(',');
  if (inner.empty() ||
      inner.find_first_not_of("0123456789,") != std::string_view::npos ||
      (comma != std::string_view::npos &&
       inner.find(',', comma + 1) != std::string_view::npos)) {
    return {0, false};
  }
  const std::string_view least = inner.substr(0, comma);
  return {end + 1 - at, least.find_first_not_of('0') == std::string_view::npos};
}

// An extended expression as GNU grep reads it to select lines, written for the
// C library, which reads otherwise: a '{' that begins no interval is a
// character, and an anchor, or nothing at all, can be repeated. What -o prints,
// and all of an expression with back references or edges of words, GNU grep too
// leaves to the C library.
std::string AsSelecting(std::string_view pattern) {
  constexpr size_t kNone = std::string_view::npos;
  std::string out;
  size_t empty = 0;  // where what matches nothing begins in `out`
  for (size_t at = 0; at < pattern.size();) {
    const std::string_view token = TokenAt(pattern, at);
    constexpr std::string_view kLeft = "123456789<>bB";
    if (token.size() == 2 && kLeft.find(token[1]) != kNone) {
      return std::string(pattern);
    }
    const auto [repetition, may_be_none] = RepetitionAt(pattern, at);
    if (repetition > 0) {
      if (empty == kNone) {
        out += pattern.substr(at, repetition);
      } else if (may_be_none) {
        out.resize(empty);
      }
      at += repetition;
      continue;
    }
    empty = token == "^" || token == "$" ? out.size() : kNone;
    out += token == "{" ? "\\{" : token;
    if (token == "(" || token == "|") empty = out.size();
    at += token.size();
  }
  return out;
}

// Reads a regular expression for strings that all of its matches contain: so
// little of its syntax that what it does not understand only ends a string.
class LiteralFinder {
 public:
  LiteralFinder(std::string_view pattern, const GrepSyntax& syntax,
                bool is_multibyte)
      : pattern_(pattern),
        syntax_(syntax),
        folds_(syntax.ignore_case && is_multibyte) {}

  // One string for each alternative; empty: one of them has none.
  std::vector<std::string> Find() {
    if (syntax_.kind == GrepSyntax::Kind::kFixed) {
      for (const char c : pattern_) Literal(c);
      EndAlternative();
    } else {
      while (at_ < pattern_.size()) Step();
      if (depth_ > 0) best_.clear();
      EndAlternative();
    }
    return hopeless_ ? std::vector<std::string>() : std::move(found_);
  }
  // Whether a string is the whole pattern.
  bool is_whole() const { return is_whole_; }

 private:
  char Next() { return at_ < pattern_.size() ? pattern_[at_++] : '\0'; }
  bool extended() const { return syntax_.kind == GrepSyntax::Kind::kExtended; }

  void Literal(char c) {
    // Letters that characters outside of ASCII are the other case of.
    if (folds_ && (!IsAscii(c) || std::strchr("iks", ToLower(c)) != nullptr)) {
      Break();
      return;
    }
    if (depth_ == 0) run_ += syntax_.ignore_case ? ToLower(c) : c;
  }
  void EndRun() {
    if (run_.size() > best_.size()) best_ = run_;
    run_.clear();
  }
  // Something that is no literal.
  void Break() {
    is_whole_ = false;
    EndRun();
  }
  // What comes before may be left out.
  void Optional() {
    is_whole_ = false;
    if (!run_.empty()) run_.pop_back();
    // The byte may be the last one of a character.
    while (!run_.empty() && !IsAscii(run_.back())) run_.pop_back();
    EndRun();
  }
  void EndAlternative() {
    EndRun();
    if (best_.empty()) hopeless_ = true;
    found_.push_back(std::move(best_));
    best_.clear();
  }
  void Alternative() {
    is_whole_ = false;
    if (depth_ == 0) EndAlternative();
  }
  void Group(int by) {
    Break();
    depth_ = std::max(depth_ + by, 0);
  }
  void Interval() {
    Optional();
    const size_t end = pattern_.find('}', at_);
    at_ = end == std::string_view::npos ? pattern_.size() : end + 1;
  }

  void Bracket() {
    Break();
    at_ = SetEnd(pattern_, at_);
  }

  void Step() {
    const char c = Next();
    switch (c) {
      case '\\':
        Escaped();
        return;
      case '[':
        Bracket();
        return;
      case '*':
        Optional();
        return;
      case '.':
      case '^':
      case '$':
        Break();
        return;
      default:
        break;
    }
    if (extended() && Operator(c)) return;
    Literal(c);
  }
  // What extended expressions write so, and basic ones with '\' before it.
  bool Operator(char c) {
    switch (c) {
      case '+':
        Break();
        return true;
      case '?':
        Optional();
        return true;
      case '{':
        Interval();
        return true;
      case '(':
        Group(1);
        return true;
      case ')':
        Group(-1);
        return true;
      case '|':
        Alternative();
        return true;
      default:
        return false;
    }
  }
  void Escaped() {
    const char c = Next();
    if (!extended() && Operator(c)) return;
    constexpr std::string_view kPlain = ".[]*^$\\/+?{}()|-";
    if (kPlain.find(c) != std::string_view::npos) {
      Literal(c);
    } else {
      Break();
    }
  }

  const std::string_view pattern_;
  const GrepSyntax& syntax_;
  const bool folds_;
  size_t at_ = 0;
  int depth_ = 0;
  bool is_whole_ = true;
  bool hopeless_ = false;
  std::string run_, best_;
  std::vector<std::string> found_;
};

// Places of strings in a text, in order.
class NeedleSearch {
 public:
  NeedleSearch(std::string_view text, const std::vector<std::string>& needles)
      : text_(text), needles_(needles), next_(needles.size()) {
    for (size_t i = 0; i < needles_.size(); ++i) Advance(i, 0);
  }
  // The first place from `from` on; npos if there is none.
  size_t Find(size_t from) {
    size_t first = std::string_view::npos;
    for (size_t i = 0; i < needles_.size(); ++i) {
      if (next_[i] < from) Advance(i, from);
      first = std::min(first, next_[i]);
    }
    return first;
  }

 private:
  void Advance(size_t i, size_t from) {
    const void* found = memmem(text_.data() + from, text_.size() - from,
                               needles_[i].data(), needles_[i].size());
    next_[i] = found == nullptr
                   ? std::string_view::npos
                   : static_cast<size_t>(static_cast<const char*>(found) -
                                         text_.data());
  }

  const std::string_view text_;
  const std::vector<std::string>& needles_;
  std::vector<size_t> next_;
};

// More strings than these are looked for line by line.
constexpr size_t kMaxNeedles = 32;

size_t LineEnd(std::string_view text, size_t at) {
  const size_t end = text.find('\n', at);
  return end == std::string_view::npos ? text.size() : end;
}

bool IsSimpleLocale() {
  for (const int category : {LC_CTYPE, LC_COLLATE}) {
    const char* value = nullptr;
    for (const char* name :
         {"LC_ALL", category == LC_CTYPE ? "LC_CTYPE" : "LC_COLLATE", "LANG"}) {
      value = std::getenv(name);
      if (value != nullptr && *value != '\0') break;
    }
    if (value == nullptr || *value == '\0') continue;
    const std::string_view name = value;
    if (name != "C" && name != "POSIX" && name != "C.UTF-8" &&
        name != "C.utf8") {
      return false;
    }
  }
  return true;
}

}  // namespace

struct GrepMatcher::Regexes {
  struct Regex {
    re_pattern_buffer buffer{};
    std::array<char, 256> fastmap;

    Regex() = default;
    ~Regex() {
      buffer.fastmap = nullptr;
      regfree(&buffer);
    }
    Regex(const Regex&) = delete;
    Regex& operator=(const Regex&) = delete;
  };

  ~Regexes() {
    std::free(registers.start);
    std::free(registers.end);
  }

  struct Alternative {
    Regex exact;
    std::unique_ptr<Regex> selecting;  // where it is another
  };
  std::deque<Alternative> all;
  re_registers registers{};
};

// Regular expressions that are this thread's for a while; made when they are
// needed.
class GrepMatcher::Borrowed {
 public:
  explicit Borrowed(const GrepMatcher& matcher) : matcher_(matcher) {}
  ~Borrowed() {
    std::lock_guard lock(matcher_.mutex_);
    for (const size_t bytes : {0, 1}) {
      if (taken_[bytes] != nullptr) {
        matcher_.idle_[bytes].push_back(std::move(taken_[bytes]));
      }
    }
  }
  Borrowed(const Borrowed&) = delete;
  Borrowed& operator=(const Borrowed&) = delete;

  // Null only where memory is out.
  Regexes* Get(bool bytes) {
    std::unique_ptr<Regexes>& regexes = taken_[bytes ? 1 : 0];
    if (regexes != nullptr) return regexes.get();
    {
      std::lock_guard lock(matcher_.mutex_);
      auto& idle = matcher_.idle_[bytes ? 1 : 0];
      if (!idle.empty()) {
        regexes = std::move(idle.back());
        idle.pop_back();
        return regexes.get();
      }
    }
    auto compiled = matcher_.CompileAll(bytes);
    if (!compiled.ok()) throw std::bad_alloc();
    regexes = std::move(*compiled);
    return regexes.get();
  }

 private:
  const GrepMatcher& matcher_;
  std::unique_ptr<Regexes> taken_[2];
};

absl::StatusOr<std::unique_ptr<GrepMatcher>> GrepMatcher::Compile(
    const std::vector<std::string>& patterns, const GrepSyntax& syntax) {
  std::unique_ptr<GrepMatcher> made(new GrepMatcher);
  made->syntax_ = syntax;
  made->bytes_locale_ = newlocale(LC_ALL_MASK, "C", nullptr);
  made->locale_ = newlocale(LC_ALL_MASK, "", nullptr);
  if (made->locale_ == nullptr) {
    made->locale_ = newlocale(LC_ALL_MASK, "C", nullptr);
  }
  {
    const LocaleScope scope(made->locale_);
    made->is_multibyte_ = MB_CUR_MAX > 1;
  }
  bool ascii = true, brackets = false;
  made->is_literal_ = !syntax.whole_words && !syntax.whole_lines &&
                      !(syntax.ignore_case && made->is_multibyte_);
  bool hopeless = false;
  for (const std::string& pattern : patterns) {
    const bool is_fixed = syntax.kind == GrepSyntax::Kind::kFixed;
    if (!is_fixed && HasBareClass(pattern)) {
      return InvalidArgument(
          "character class syntax is [[:space:]], not [:space:]");
    }
    const std::string selecting = syntax.kind == GrepSyntax::Kind::kExtended
                                      ? AsSelecting(pattern)
                                      : pattern;
    ascii = ascii && IsAscii(pattern);
    brackets = brackets || pattern.find('[') != std::string::npos;
    LiteralFinder finder(selecting, syntax, made->is_multibyte_);
    std::vector<std::string> found = finder.Find();
    made->is_literal_ =
        made->is_literal_ && finder.is_whole() && made->IsEncoded(pattern);
    hopeless = hopeless || found.empty();
    std::ranges::move(found, std::back_inserter(made->needles_.any));
    reg_syntax_t bits = syntax.kind == GrepSyntax::Kind::kExtended
                            ? RE_SYNTAX_EGREP
                            : RE_SYNTAX_GREP;
    std::string text = pattern;
    if (is_fixed) {
      text.clear();
      for (const char c : pattern) {
        if (std::strchr("\\[.*^$", c) != nullptr && c != '\0') text += '\\';
        text += c;
      }
    }
    if (syntax.ignore_case) bits |= RE_ICASE;
    made->patterns_.push_back(
        {std::move(text),
         selecting == pattern ? std::nullopt : std::optional(selecting), bits});
  }
  if (hopeless) {
    made->needles_.any.clear();
    made->is_literal_ = false;
  }
  made->needles_.ignore_case = syntax.ignore_case;
  made->ascii_is_simple_ =
      ascii && (IsSimpleLocale() || (!brackets && !syntax.ignore_case));
  ASSIGN_OR_RETURN(auto regexes, made->CompileAll(!made->is_multibyte_));
  made->idle_[made->is_multibyte_ ? 0 : 1].push_back(std::move(regexes));
  return made;
}

GrepMatcher::~GrepMatcher() {
  if (locale_ != nullptr) freelocale(locale_);
  if (bytes_locale_ != nullptr) freelocale(bytes_locale_);
}

absl::StatusOr<std::unique_ptr<GrepMatcher::Regexes>> GrepMatcher::CompileAll(
    bool bytes) const {
  // The syntax is a global variable of the C library.
  static std::mutex mutex;
  std::lock_guard lock(mutex);
  const LocaleScope scope(bytes && is_multibyte_ ? bytes_locale_ : locale_);
  auto regexes = std::make_unique<Regexes>();
  const auto compile = [&](const std::string& text, reg_syntax_t syntax,
                           Regexes::Regex& regex) -> absl::Status {
    // With RE_ICASE it may lack characters (glibc bug 20381).
    if (!syntax_.ignore_case) regex.buffer.fastmap = regex.fastmap.data();
    re_set_syntax(syntax);
    const char* error =
        re_compile_pattern(text.data(), text.size(), &regex.buffer);
    if (error != nullptr) return absl::InvalidArgumentError(error);
    regex.buffer.newline_anchor = 1;
    return absl::OkStatus();
  };
  for (const Pattern& pattern : patterns_) {
    Regexes::Alternative& made = regexes->all.emplace_back();
    RETURN_IF_ERROR(compile(pattern.text, pattern.syntax, made.exact));
    if (!pattern.selecting.has_value()) continue;
    made.selecting = std::make_unique<Regexes::Regex>();
    RETURN_IF_ERROR(
        compile(*pattern.selecting, pattern.syntax, *made.selecting));
  }
  return regexes;
}

bool GrepMatcher::IsEncoded(std::string_view text) const {
  if (!is_multibyte_ || IsAscii(text)) return true;
  const LocaleScope scope(locale_);
  std::mbstate_t state{};
  while (!text.empty()) {
    const size_t size = mbrlen(text.data(), text.size(), &state);
    if (size > text.size()) return false;
    text.remove_prefix(std::max<size_t>(size, 1));
  }
  return true;
}

// As GNU grep searches a line: each pattern by itself, and where only whole
// words count shorter matches at the same place, then later ones.
std::optional<GrepMatcher::Span> GrepMatcher::FindIn(std::string_view line,
                                                     size_t from, bool exactly,
                                                     Regexes& regexes) const {
  const auto size = static_cast<regoff_t>(line.size());
  const auto begin = static_cast<regoff_t>(from);
  const auto is_word = [&](regoff_t at, bool before) {
    if (before ? at == 0 : at == size) return false;
    const auto c =
        static_cast<unsigned char>(line[static_cast<size_t>(at - before)]);
    if (c < 128) return c == '_' || std::isalnum(c) != 0;
    if (!is_multibyte_) return false;
    // The character that this byte is of.
    size_t start = static_cast<size_t>(at - before);
    while (before && start > 0 && (line[start] & 0xC0) == 0x80) --start;
    wchar_t wide = 0;
    std::mbstate_t state{};
    const size_t length =
        mbrtowc(&wide, line.data() + start, line.size() - start, &state);
    return length <= line.size() - start && iswalnum(static_cast<wint_t>(wide));
  };
  std::optional<Span> best;
  const auto search = [&](Regexes::Regex& regex, regoff_t start) {
    regex.buffer.not_eol = 0;
    return re_search(&regex.buffer, line.data(), size, start, size - start,
                     &regexes.registers);
  };
  for (Regexes::Alternative& pattern : regexes.all) {
    Regexes::Regex& regex = exactly || pattern.selecting == nullptr
                                ? pattern.exact
                                : *pattern.selecting;
    regoff_t start = search(regex, begin);
    if (start < 0) continue;
    regoff_t length = regexes.registers.end[0] - start;
    const auto best_start =
        best.has_value() ? static_cast<regoff_t>(best->first) : size + 1;
    if (start > best_start) continue;
    bool found = (exactly && !syntax_.whole_words) ||
                 (!syntax_.whole_lines && !syntax_.whole_words) ||
                 (syntax_.whole_lines && length == size - begin);
    if (!found && !syntax_.whole_lines) {
      while (start <= best_start) {
        if (!is_word(start + length, false) && !is_word(start, true)) {
          found = true;
          break;
        }
        regoff_t shorter = 0;
        if (length > 0) {
          --length;
          regex.buffer.not_eol = 1;
          shorter = re_match(&regex.buffer, line.data(), start + length - begin,
                             start, &regexes.registers);
        }
        if (shorter > 0) {
          length = shorter;
          continue;
        }
        if (start == best_start || start >= size) break;
        start = search(regex, start + 1);
        if (start < 0) break;
        length = regexes.registers.end[0] - start;
      }
    }
    if (!found) continue;
    const Span span(static_cast<size_t>(start),
                    static_cast<size_t>(start + length));
    if (!exactly) return span;
    if (!best.has_value() || span.first < best->first ||
        (span.first == best->first && span.second > best->second)) {
      best = span;
    }
  }
  return best;
}

bool GrepMatcher::Matches(std::string_view line, Borrowed& regexes) const {
  const bool bytes = !is_multibyte_ || (ascii_is_simple_ && IsAscii(line));
  const LocaleScope scope(bytes && is_multibyte_ ? bytes_locale_ : locale_);
  return FindIn(line, 0, false, *regexes.Get(bytes)).has_value();
}

std::vector<GrepMatcher::Span> GrepMatcher::MatchingLines(
    std::string_view text) const {
  std::vector<Span> lines;
  if (patterns_.empty()) return lines;
  Borrowed regexes(*this);
  if (needles_.any.empty() || needles_.any.size() > kMaxNeedles) {
    for (size_t at = 0; at < text.size();) {
      const size_t end = LineEnd(text, at);
      if (Matches(text.substr(at, end - at), regexes)) {
        lines.emplace_back(at, end);
      }
      at = end + 1;
    }
    return lines;
  }
  std::string folded;
  if (needles_.ignore_case) {
    folded.resize(text.size());
    std::ranges::transform(text, folded.begin(), ToLower);
  }
  NeedleSearch search(needles_.ignore_case ? std::string_view(folded) : text,
                      needles_.any);
  for (size_t at = 0; at < text.size();) {
    const size_t found = search.Find(at);
    if (found == std::string_view::npos) break;
    const size_t before = text.rfind('\n', found);
    const size_t begin = before == std::string_view::npos ? 0 : before + 1;
    const size_t end = LineEnd(text, found);
    if (is_literal_ || Matches(text.substr(begin, end - begin), regexes)) {
      lines.emplace_back(begin, end);
    }
    at = end + 1;
  }
  return lines;
}

std::optional<GrepMatcher::Span> GrepMatcher::Find(std::string_view line,
                                                   size_t from) const {
  if (patterns_.empty()) return std::nullopt;
  Borrowed regexes(*this);
  const bool bytes = !is_multibyte_ || (ascii_is_simple_ && IsAscii(line));
  const LocaleScope scope(bytes && is_multibyte_ ? bytes_locale_ : locale_);
  return FindIn(line, from, true, *regexes.Get(bytes));
}

}  // namespace zipllm::tools
