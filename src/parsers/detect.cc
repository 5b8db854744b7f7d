// Table of parsers, made of parser_list.inc, and the choice among them.
#include <array>
#include <utility>

#include "base/bytes.h"
#include "parsers/parser.h"

namespace zipllm::parsers {

#define ZIPLLM_PARSER(Name) extern const Parser k##Name##Parser;
#include "parsers/parser_list.inc"
#undef ZIPLLM_PARSER

namespace {

constexpr std::array kParsers = {
#define ZIPLLM_PARSER(Name) &k##Name##Parser,
#include "parsers/parser_list.inc"
#undef ZIPLLM_PARSER
};

/// Where a layout that tiles from 0 ends; nullopt if it does not tile.
std::optional<uint64_t> TiledEnd(const Layout& layout) {
  if (layout.segments.size() > kMaxSegments) return std::nullopt;
  uint64_t end = 0;
  for (const Segment& segment : layout.segments) {
    if (segment.offset != end) return std::nullopt;
    if (!CheckedAdd(end, segment.length, &end)) return std::nullopt;
  }
  return end;
}

Segment Gap(uint64_t begin, uint64_t end) {
  Segment gap;
  gap.offset = begin;
  gap.length = end - begin;
  return gap;
}

/// True if `layout` tiles the file; of unknown size: once it is closed by a
/// segment for whatever may follow.
bool CloseLayout(std::optional<uint64_t> file_size, Layout* layout) {
  const std::optional<uint64_t> end = TiledEnd(*layout);
  if (!end) return false;
  if (file_size) return *end == *file_size;
  if (*end != UINT64_MAX) layout->segments.push_back(Gap(*end, UINT64_MAX));
  return true;
}

}  // namespace

std::span<const Parser* const> AllParsers() { return kParsers; }

Outcome DetectWith(std::span<const Parser* const> parsers, ByteSpan prefix,
                   std::optional<uint64_t> file_size) {
  const bool complete = file_size && *file_size <= prefix.size();
  for (const Parser* parser : parsers) {
    Outcome outcome = parser->parse(prefix, file_size);
    if (outcome.layout) {
      if (CloseLayout(file_size, &*outcome.layout)) return outcome;
    } else if (!complete && outcome.need_prefix > prefix.size() &&
               outcome.need_prefix <= kMaxPrefix) {
      return outcome;
    }
  }
  Layout bytes{.format = "bytes", .segments = {}};
  const uint64_t size = file_size.value_or(UINT64_MAX);
  if (size != 0) bytes.segments.push_back(Gap(0, size));
  return {.layout = std::move(bytes)};
}

Outcome Detect(ByteSpan prefix, std::optional<uint64_t> file_size) {
  return DetectWith(kParsers, prefix, file_size);
}

}  // namespace zipllm::parsers
