// Importance matrices as llama-imatrix wrote them before GGUF (".dat"),
// little-endian: how many there are; then each: its name, how many calls were
// summed up, and the sums, FP32; at the end the chunks, and the name of the
// text.
#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "parsers/parser.h"
#include "parsers/tensor_layout.h"

namespace zipllm::parsers {
namespace {

constexpr uint64_t kWord = 4;
// Rows of quantized tensors are no shorter.
constexpr uint32_t kMinSums = 32;
constexpr uint64_t kMinEntryBytes = 3 * kWord + 1 + kMinSums * kWord;
constexpr size_t kMaxEntries = kMaxSegments / 4;
// Names are those of tensors in GGUF files; the format has no magic number.
constexpr size_t kMaxEntryName = 256;

bool IsPlainName(std::string_view name) {
  return std::ranges::all_of(name,
                             [](char c) { return c > ' ' && c <= '~'; }) &&
         name.find('.') != std::string_view::npos;
}

/// Reads entries front to back. Their data stand between their headers, so that
/// the prefix must reach to the last of them.
class EntryReader {
 public:
  EntryReader(ByteSpan prefix, uint64_t limit)
      : reader_(prefix, "imatrix"), limit_(limit) {}

  bool Read() {
    uint32_t entries = 0;
    if (!Number(&entries) || entries == 0 || entries > kMaxEntries ||
        entries > limit_ / kMinEntryBytes) {
      return false;
    }
    for (uint32_t i = 0; i < entries; ++i) {
      if (!Entry()) return false;
    }
    return true;
  }

  /// It goes on behind the prefix; and the bytes are worth asking for.
  bool ran_out() const { return ran_out_; }
  bool short_of_bytes() const { return short_of_bytes_; }
  std::vector<Segment> TakeTensors() { return std::move(tensors_); }

 private:
  bool Number(uint32_t* value) {
    if (reader_.remaining() < kWord) return Short(kWord);
    *value = *reader_.Le<uint32_t>();
    return true;
  }
  bool Short(uint64_t count) {
    ran_out_ = true;
    short_of_bytes_ =
        reader_.position() <= limit_ && count <= limit_ - reader_.position();
    return false;
  }
  bool Entry();

  ByteReader reader_;
  uint64_t limit_;
  bool ran_out_ = false;
  bool short_of_bytes_ = false;
  std::vector<Segment> tensors_;
};

bool EntryReader::Entry() {
  uint32_t name_bytes = 0;
  if (!Number(&name_bytes) || name_bytes == 0 || name_bytes > kMaxEntryName) {
    return false;
  }
  if (reader_.remaining() < name_bytes) return Short(name_bytes);
  const ByteSpan bytes = *reader_.Bytes(name_bytes);
  const std::string name(bytes.begin(), bytes.end());
  if (!IsPlainName(name)) return false;

  // As in GGUF files: NAME.counts and NAME.in_sum2.
  Segment calls;
  calls.name = name + ".counts";
  calls.dtype = DType::kI32;
  calls.shape = {1};
  calls.offset = reader_.position();
  calls.length = kWord;
  uint32_t count = 0;
  if (!Number(&count)) return false;
  Segment sums;
  sums.name = name + ".in_sum2";
  sums.dtype = DType::kF32;
  if (!Number(&count) || count < kMinSums || count > INT32_MAX) return false;
  sums.shape = {count};
  sums.offset = reader_.position();
  sums.length = kWord * count;
  tensors_.push_back(std::move(calls));
  tensors_.push_back(std::move(sums));
  const uint64_t length = tensors_.back().length;
  if (reader_.remaining() < length) return Short(length);
  return reader_.Bytes(length).ok();
}

Outcome ParseImatrix(ByteSpan prefix, std::optional<uint64_t> file_size) {
  const uint64_t limit = std::min(kMaxPrefix, file_size.value_or(kMaxPrefix));
  EntryReader entries(prefix, limit);
  const bool read = entries.Read();
  // Of longer files what follows is bytes.
  const bool cut = !read && entries.ran_out() && !entries.short_of_bytes() &&
                   file_size.value_or(UINT64_MAX) > kMaxPrefix;
  if (read || cut) {
    return {.layout = LayOutTensors("imatrix", {kWord}, entries.TakeTensors(),
                                    file_size)};
  }
  if (!entries.short_of_bytes()) return {};
  const uint64_t twice = std::max<uint64_t>(2 * prefix.size(), 64);
  return {.need_prefix = std::min(twice, kMaxPrefix)};
}

}  // namespace

extern const Parser kImatrixParser;
constexpr Parser kImatrixParser = {"imatrix", ParseImatrix};

}  // namespace zipllm::parsers
