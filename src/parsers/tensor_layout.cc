#include "parsers/tensor_layout.h"

#include <algorithm>
#include <string>
#include <tuple>
#include <utility>

#include "base/bytes.h"
#include "parsers/parser.h"

namespace zipllm::parsers {
namespace {

bool HasDuplicateName(const std::vector<Segment>& tensors) {
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  for (const Segment& tensor : tensors) names.push_back(tensor.name);
  std::sort(names.begin(), names.end());
  return std::adjacent_find(names.begin(), names.end()) != names.end();
}

/// Offset first; at one offset those of no length come first, as they must to
/// tile. Names are unique, so that the order does not depend on the sort.
bool ComesBefore(const Segment& a, const Segment& b) {
  return std::tie(a.offset, a.length, a.name) <
         std::tie(b.offset, b.length, b.name);
}

}  // namespace

bool ElementCount(const std::vector<uint64_t>& shape, uint64_t* elements) {
  // A zero anywhere makes the product 0, however large the others are.
  *elements = 0;
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return true;
  *elements = 1;
  for (uint64_t dimension : shape) {
    if (!CheckedMul(*elements, dimension, elements)) return false;
  }
  return true;
}

std::optional<Layout> LayOutTensors(std::string_view format,
                                    const std::vector<uint64_t>& header_ends,
                                    std::vector<Segment> tensors,
                                    std::optional<uint64_t> file_size) {
  if (HasDuplicateName(tensors)) return std::nullopt;
  std::sort(tensors.begin(), tensors.end(), ComesBefore);

  const uint64_t limit = file_size.value_or(UINT64_MAX);
  Layout layout{.format = std::string(format), .segments = {}};
  layout.segments.reserve(header_ends.size() + tensors.size() + 1);
  uint64_t end = 0;  // of what is laid out
  auto fill_up_to = [&](uint64_t offset) {
    if (offset == end) return;
    Segment& gap = layout.segments.emplace_back();
    gap.offset = end;
    gap.length = offset - end;
    end = offset;
  };
  if (header_ends.back() > limit) return std::nullopt;
  for (uint64_t part_end : header_ends) fill_up_to(part_end);
  for (size_t i = 0; i < tensors.size(); ++i) {
    Segment& tensor = tensors[i];
    if (tensor.offset < end || tensor.offset > limit) return std::nullopt;
    fill_up_to(tensor.offset);
    if (tensor.length == kUnknownLength) {
      const uint64_t next =
          i + 1 < tensors.size() ? tensors[i + 1].offset : limit;
      if (next <= end) return std::nullopt;
      tensor.length = next - end;
    }
    if (tensor.length > limit - end) return std::nullopt;
    end += tensor.length;
    layout.segments.push_back(std::move(tensor));
    // One is left for the tail.
    if (layout.segments.size() >= kMaxSegments) return std::nullopt;
  }
  if (file_size) fill_up_to(*file_size);
  return layout;
}

}  // namespace zipllm::parsers
