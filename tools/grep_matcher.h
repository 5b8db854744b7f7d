// What lines a pattern of grep matches.
#ifndef ZIPLLM_TOOLS_GREP_MATCHER_H_
#define ZIPLLM_TOOLS_GREP_MATCHER_H_

#include <locale.h>
#include <regex.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tools/command_line.h"
#include "zipllm/archive.h"

namespace zipllm::tools {

/// Matches lines as GNU grep does, in the locale of the environment: patterns
/// are compiled by the C library's regular expressions, which grep's are kept
/// in step with. Thread-safe.
class GrepMatcher {
 public:
  /// A line of `text`: where it begins and ends, without its line end.
  using Span = std::pair<size_t, size_t>;

  /// `patterns` are single lines. INVALID_ARGUMENT for one that is none.
  static absl::StatusOr<std::unique_ptr<GrepMatcher>> Compile(
      const std::vector<std::string>& patterns, const GrepSyntax& syntax);
  ~GrepMatcher();

  /// What a line that matches must contain.
  const Needles& needles() const { return needles_; }
  /// Whether characters may have several bytes.
  bool is_multibyte() const { return is_multibyte_; }
  /// Whether all of `text` is characters of the locale.
  bool IsEncoded(std::string_view text) const;

  /// The lines of `text` that match, in order; all of them end in it.
  std::vector<Span> MatchingLines(std::string_view text) const;
  /// The first and longest match in a line from `from` on: begin and end.
  std::optional<Span> Find(std::string_view line, size_t from) const;

 private:
  struct Regexes;  // one for each pattern; not thread-safe
  class Borrowed;
  struct Pattern {
    std::string text;
    std::optional<std::string>
        selecting;  // what lines are selected by, where it is another
    reg_syntax_t syntax;
  };

  GrepMatcher() = default;
  absl::StatusOr<std::unique_ptr<Regexes>> CompileAll(bool bytes) const;
  bool Matches(std::string_view line, Borrowed& regexes) const;
  std::optional<Span> FindIn(std::string_view line, size_t from, bool exactly,
                             Regexes& regexes) const;

  std::vector<Pattern> patterns_;
  GrepSyntax syntax_;
  Needles needles_;
  bool is_literal_ = false;  // what contains a needle matches
  bool is_multibyte_ = false;
  // Lines of ASCII alone match as in the locale "C".
  bool ascii_is_simple_ = false;
  locale_t locale_ = nullptr;
  locale_t bytes_locale_ = nullptr;
  mutable std::mutex mutex_;
  // Those that nobody uses: for bytes, and for characters of the locale.
  mutable std::vector<std::unique_ptr<Regexes>> idle_[2];
};

}  // namespace zipllm::tools

#endif  // ZIPLLM_TOOLS_GREP_MATCHER_H_
