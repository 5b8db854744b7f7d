// What a parser is: it labels a file's bytes and never changes one. A file that
// is malformed or of no known format costs ratio, not correctness: it becomes
// one segment of `bytes`. Plugging in: NAME.cc here and one line in
// parser_list.inc.
#ifndef ZIPLLM_PARSERS_PARSER_H_
#define ZIPLLM_PARSERS_PARSER_H_

#include <optional>
#include <string_view>

#include "zipllm/types.h"

namespace zipllm::parsers {

/// No parser may ask for a longer prefix than this: a header is kept in memory
/// whole.
inline constexpr uint64_t kMaxPrefix = uint64_t{32} << 20;
/// A header that names more segments than this is taken as malformed.
inline constexpr size_t kMaxSegments = size_t{1} << 20;

/// What a parser makes of a file's first bytes.
struct Outcome {
  /// Tiles [0, file size) exactly, where the size is known; else as far as the
  /// header says.
  std::optional<Layout> layout;
  /// If not 0 (and no layout): call again with that many bytes or the whole
  /// file, whichever is shorter. More than the prefix it was called with and at
  /// most kMaxPrefix.
  uint64_t need_prefix = 0;
  // Neither: not this parser's format, or malformed.
};

/// One file format. Stateless; `parse` may be called by several threads at
/// once.
struct Parser {
  std::string_view name;
  /// `prefix` is untrusted: the first bytes of the file. `file_size` is nullopt
  /// for a pipe.
  Outcome (*parse)(ByteSpan prefix, std::optional<uint64_t> file_size);
};

/// How many bytes to read before the first call of `Detect`.
inline constexpr size_t kFirstPrefix = size_t{64} << 10;

/// Tries all registered parsers in order of the list: the first layout wins; a
/// request for more is passed on; else the layout is one segment of `bytes`
/// with format "bytes" (for a pipe, its length is UINT64_MAX: as far as it
/// goes).
Outcome Detect(ByteSpan prefix, std::optional<uint64_t> file_size);

std::span<const Parser* const> AllParsers();

}  // namespace zipllm::parsers

#endif  // ZIPLLM_PARSERS_PARSER_H_
