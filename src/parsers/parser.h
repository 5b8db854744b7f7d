// What a parser is: it labels a file's bytes and never changes one. A file that
// is malformed or of no known format costs ratio, not correctness: it becomes
// one segment of `bytes`. Plugging in: NAME.cc here and one line in
// parser_list.inc.
#ifndef ZIPLLM_PARSERS_PARSER_H_
#define ZIPLLM_PARSERS_PARSER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "zipllm/types.h"

namespace zipllm::parsers {

/// No parser may ask for a longer prefix than this: a header is kept in memory
/// whole.
inline constexpr uint64_t kMaxPrefix = uint64_t{16} << 20;
/// A header that names more segments than this is taken as malformed.
inline constexpr size_t kMaxSegments = size_t{1} << 20;
/// Likewise a tensor with a longer name (in bytes, of UTF-8) or more
/// dimensions.
inline constexpr size_t kMaxNameBytes = 4096;
inline constexpr size_t kMaxRank = 32;

/// What a parser makes of a file's first bytes.
struct Outcome {
  /// Tiles [0, file size) exactly, where the size is known; else from 0 as far
  /// as the header says. Of the segments only tensors may have length 0: those
  /// of no elements.
  std::optional<Layout> layout = std::nullopt;
  /// If not 0 (and no layout): call again with that many bytes or the whole
  /// file, whichever is shorter. More than the prefix it was called with and at
  /// most kMaxPrefix.
  uint64_t need_prefix = 0;
  /// If not 0 (and a layout): what of the file begins there is of the same
  /// format, and can be labelled as if it were a file. That is done where the
  /// file can be read at offsets; the layout is complete without.
  uint64_t next = 0;
  // Neither: not this parser's format, or malformed.
};

/// One file format. Stateless; `parse` may be called by several threads at
/// once. It takes time in proportion to the prefix (times the logarithm of the
/// number of tensors) and memory of at most 12 times the prefix plus 64 KiB,
/// whatever the bytes are.
struct Parser {
  std::string_view name;
  /// `prefix` is untrusted: the first bytes of the file. `file_size` is nullopt
  /// while the end is not known, as in a pipe; where the end has come, it is
  /// the number of bytes there were.
  Outcome (*parse)(ByteSpan prefix, std::optional<uint64_t> file_size);
};

/// How many bytes to read before the first call of `Detect`.
inline constexpr size_t kFirstPrefix = size_t{64} << 10;

/// Labels a file: asks the registered parsers in order of their list, and the
/// first that gives a layout or asks for a longer prefix has its way. If none
/// does, or if a layout does not tile the file, the file is one segment of
/// `bytes` with format "bytes" (no segment if it is empty).
///
/// With the size unknown (a pipe) the last segment reaches to UINT64_MAX and
/// stands for whatever follows, which may be nothing. The pipe may also end
/// within an earlier segment: whoever reads it cuts the layout there.
Outcome Detect(ByteSpan prefix, std::optional<uint64_t> file_size);

/// The same with the parsers given.
Outcome DetectWith(std::span<const Parser* const> parsers, ByteSpan prefix,
                   std::optional<uint64_t> file_size);

/// The registered parsers, in order of parser_list.inc.
std::span<const Parser* const> AllParsers();

}  // namespace zipllm::parsers

#endif  // ZIPLLM_PARSERS_PARSER_H_
