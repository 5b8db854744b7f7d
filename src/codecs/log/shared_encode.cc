#include <algorithm>
#include <utility>

#include "base/bytes.h"
#include "codecs/log/log_format.h"
#include "codecs/log/shared.h"

namespace zipllm::codecs::log {
namespace {

/// A copy takes six bytes at most, as a rule.
constexpr size_t kShortest = sizeof(uint64_t);

/// Bytes of the text at `at` that belong together.
size_t UnitAt(ByteSpan text, size_t at) {
  return text[at] == kEscape && at + 1 < text.size() ? 2 : 1;
}

}  // namespace

SharedTexts::SharedTexts(Buffer texts) : texts_(std::move(texts)) {
  for (size_t i = 0; i + kShortest <= texts_.size(); ++i) {
    places_.try_emplace(LoadLe<uint64_t>(texts_.data() + i),
                        static_cast<uint32_t>(i));
  }
}

ByteSpan SharedTexts::Longest(ByteSpan text, size_t at) const {
  if (text.size() - at < kShortest) return {};
  const auto found = places_.find(LoadLe<uint64_t>(&text[at]));
  if (found == places_.end()) return {};
  const ByteSpan rest = text.subspan(at);
  const ByteSpan there = texts_.span().subspan(found->second);
  const auto end = std::ranges::mismatch(rest, there).in1;
  // It must not part what belongs together.
  size_t size = 0;
  const auto most = static_cast<size_t>(end - rest.begin());
  for (size_t next = 0; next <= most;) {
    size = next;
    if (next == rest.size()) break;
    next += UnitAt(rest, next);
  }
  return there.first(size);
}

void SharedTexts::Shorten(ByteSpan text, Buffer* out) const {
  ByteWriter writer(out);
  for (size_t i = 0; i < text.size();) {
    const ByteSpan copy = Longest(text, i);
    if (copy.size() >= kShortest) {
      writer.Le<uint8_t>(kCopyOfShared);
      writer.Varint(static_cast<uint64_t>(copy.data() - texts_.data()));
      writer.Varint(copy.size());
      i += copy.size();
    } else {
      const size_t unit = UnitAt(text, i);
      writer.Bytes(text.subspan(i, unit));
      i += unit;
    }
  }
}

}  // namespace zipllm::codecs::log
