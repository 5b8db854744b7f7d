// What holds for every parser and every file.
#ifndef ZIPLLM_FUZZ_PARSER_PROPERTIES_H_
#define ZIPLLM_FUZZ_PARSER_PROPERTIES_H_

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>

#include "base/dtype.h"
#include "base/utf8.h"
#include "check.h"
#include "parsers/parser.h"
#include "zipllm/types.h"

namespace zipllm::parsers {

inline bool SameSegment(const Segment& a, const Segment& b) {
  return a.name == b.name && a.dtype == b.dtype && a.shape == b.shape &&
         a.offset == b.offset && a.length == b.length;
}
inline bool SameLayout(const Layout& a, const Layout& b) {
  return a.format == b.format &&
         std::equal(a.segments.begin(), a.segments.end(), b.segments.begin(),
                    b.segments.end(), SameSegment);
}

/// Tiles [0, size), within the limits, and each tensor is as long as its shape
/// says.
inline void CheckLayout(const Layout& layout, uint64_t size) {
  FUZZ_CHECK(layout.segments.size() <= kMaxSegments);
  uint64_t end = 0;
  for (const Segment& segment : layout.segments) {
    FUZZ_CHECK(segment.offset == end);
    FUZZ_CHECK(segment.length <= size - end);
    end += segment.length;
    FUZZ_CHECK(segment.name.size() <= kMaxNameBytes);
    FUZZ_CHECK(IsUtf8(segment.name));
    FUZZ_CHECK(segment.shape.size() <= kMaxRank);
    const DTypeInfo* info = FindDType(segment.dtype);
    FUZZ_CHECK(info != nullptr);
    if (segment.dtype == DType::kBytes) {
      FUZZ_CHECK(segment.shape.empty());
      continue;
    }
    // In 128 bits, of which a product of 64-bit lengths that fit the file
    // needs no more; a zero makes all others irrelevant.
    unsigned __int128 elements = 1;
    const bool none = std::find(segment.shape.begin(), segment.shape.end(),
                                0) != segment.shape.end();
    for (uint64_t dimension : segment.shape) {
      if (none) break;
      elements *= dimension;
      FUZZ_CHECK(elements <= UINT64_MAX);
    }
    if (none) elements = 0;
    FUZZ_CHECK(elements * info->block_bytes ==
               static_cast<unsigned __int128>(segment.length) *
                   info->block_elements);
  }
  FUZZ_CHECK(end == size);
}

/// Labels `file` as a reader does that begins with `first` bytes and reads on
/// as far as it is asked to. From a pipe, the size shows at the end.
inline Layout LabelInSteps(const Parser& parser, ByteSpan file, uint64_t first,
                           bool pipe) {
  const Parser* const parsers[] = {&parser};
  for (uint64_t want = first;;) {
    const bool all = want > file.size();
    const ByteSpan prefix = all ? file : file.first(want);
    std::optional<uint64_t> size;
    if (!pipe || all) size = file.size();
    Outcome outcome = DetectWith(parsers, prefix, size);
    if (outcome.layout) return *std::move(outcome.layout);
    FUZZ_CHECK(outcome.need_prefix > want);
    FUZZ_CHECK(outcome.need_prefix <= kMaxPrefix);
    want = outcome.need_prefix;
  }
}

/// Cuts a pipe's layout where the pipe ends.
inline Layout Cut(Layout layout, uint64_t size) {
  while (!layout.segments.empty()) {
    Segment& last = layout.segments.back();
    const bool gap = last.dtype == DType::kBytes && last.name.empty();
    if (last.offset < size || (last.offset == size && !gap)) {
      last.length = std::min(last.length, size - last.offset);
      break;
    }
    layout.segments.pop_back();
  }
  return layout;
}

inline void CheckParser(const Parser& parser, ByteSpan file) {
  const Layout whole = LabelInSteps(parser, file, file.size(), false);
  CheckLayout(whole, file.size());
  for (uint64_t first : {0, 1, 8, 64}) {
    FUZZ_CHECK(SameLayout(LabelInSteps(parser, file, first, false), whole));
  }
  const Layout piped = LabelInSteps(parser, file, 0, true);
  if (!piped.segments.empty()) {
    const Segment& last = piped.segments.back();
    CheckLayout(piped, last.offset + last.length);
  }
  // What is whole as a file is the same from a pipe; a cut file may still be
  // labelled as far as it goes.
  if (whole.format != "bytes") {
    FUZZ_CHECK(SameLayout(Cut(piped, file.size()), whole));
  }
}

}  // namespace zipllm::parsers

/// The fuzz target of a parser whose input is a file of its format.
#define FUZZ_PARSER(name)                                                   \
  namespace zipllm::parsers {                                               \
  extern const Parser name;                                                 \
  }                                                                         \
  extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) { \
    zipllm::parsers::CheckParser(zipllm::parsers::name, {data, size});      \
    return 0;                                                               \
  }

#endif  // ZIPLLM_FUZZ_PARSER_PROPERTIES_H_
