// Files made by hand, and what all parser tests ask of a layout.
#ifndef ZIPLLM_TESTS_PARSERS_FILES_H_
#define ZIPLLM_TESTS_PARSERS_FILES_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "parsers/parser.h"
#include "zipllm/types.h"

namespace zipllm::parsers {

using Bytes = std::vector<uint8_t>;

/// Appends `value` in little-endian order.
template <typename T>
void Put(Bytes* out, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) {
    out->push_back(static_cast<uint8_t>(static_cast<uint64_t>(value) >> 8 * i));
  }
}
inline void PutText(Bytes* out, std::string_view text) {
  for (char c : text) out->push_back(static_cast<uint8_t>(c));
}

inline Bytes SafetensorsFile(std::string_view json, size_t data_bytes) {
  Bytes file;
  Put<uint64_t>(&file, json.size());
  PutText(&file, json);
  file.resize(file.size() + data_bytes, 0xA5);
  return file;
}

/// One entry of a safetensors header.
inline std::string Entry(std::string_view name, std::string_view dtype,
                         std::string_view shape, uint64_t begin, uint64_t end) {
  return "\"" + std::string(name) + "\":{\"dtype\":\"" + std::string(dtype) +
         "\",\"shape\":[" + std::string(shape) + "],\"data_offsets\":[" +
         std::to_string(begin) + "," + std::to_string(end) + "]}";
}

/// Writes a GGUF header field by field.
class GgufFile {
 public:
  explicit GgufFile(uint64_t tensors, uint64_t pairs, uint32_t version = 3) {
    PutText(&bytes_, "GGUF");
    Put<uint32_t>(&bytes_, version);
    Put<uint64_t>(&bytes_, tensors);
    Put<uint64_t>(&bytes_, pairs);
  }
  GgufFile& Text(std::string_view text) {
    Put<uint64_t>(&bytes_, text.size());
    PutText(&bytes_, text);
    return *this;
  }
  GgufFile& U8(uint8_t v) { return Number(v); }
  GgufFile& U32(uint32_t v) { return Number(v); }
  GgufFile& U64(uint64_t v) { return Number(v); }
  GgufFile& Fill(size_t count) {
    bytes_.resize(bytes_.size() + count, 0x5A);
    return *this;
  }
  /// `dims` as in the file: row length first.
  GgufFile& Tensor(std::string_view name, const std::vector<uint64_t>& dims,
                   uint32_t type, uint64_t offset) {
    Text(name).U32(static_cast<uint32_t>(dims.size()));
    for (uint64_t d : dims) U64(d);
    return U32(type).U64(offset);
  }
  GgufFile& Align(size_t alignment = 32) {
    bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment, 0);
    return *this;
  }
  size_t size() const { return bytes_.size(); }
  const Bytes& bytes() const { return bytes_; }

 private:
  template <typename T>
  GgufFile& Number(T value) {
    Put<T>(&bytes_, value);
    return *this;
  }
  Bytes bytes_;
};

inline Segment Tensor(std::string name, DType dtype,
                      std::vector<uint64_t> shape, uint64_t offset,
                      uint64_t length) {
  Segment tensor;
  tensor.name = std::move(name);
  tensor.dtype = dtype;
  tensor.shape = std::move(shape);
  tensor.offset = offset;
  tensor.length = length;
  return tensor;
}
inline Segment GapAt(uint64_t offset, uint64_t length) {
  return Tensor("", DType::kBytes, {}, offset, length);
}

inline std::string Show(const Segment& s) {
  std::string text =
      "[" + std::to_string(s.offset) + " +" + std::to_string(s.length) + " " +
      std::to_string(static_cast<int>(s.dtype)) + " '" + s.name + "' (";
  for (uint64_t d : s.shape) text += std::to_string(d) + " ";
  return text + ")]";
}
inline std::vector<std::string> Show(const std::vector<Segment>& segments) {
  std::vector<std::string> text;
  for (const Segment& segment : segments) text.push_back(Show(segment));
  return text;
}
inline bool Same(const Layout& a, const Layout& b) {
  return a.format == b.format && Show(a.segments) == Show(b.segments);
}

inline void ExpectTiles(const Layout& layout, uint64_t size) {
  ASSERT_LE(layout.segments.size(), kMaxSegments);
  uint64_t end = 0;
  for (const Segment& segment : layout.segments) {
    ASSERT_EQ(segment.offset, end);
    ASSERT_LE(segment.length, size - end);
    if (segment.length == 0) {
      ASSERT_NE(layout.format, "bytes");
    }
    end += segment.length;
  }
  ASSERT_EQ(end, size);
}

/// Labels a file as a reader does that begins with `first` bytes. As from a
/// pipe, the size is told only once it has been read past the end.
inline Layout DetectInSteps(ByteSpan file, size_t first, bool pipe,
                            int* calls = nullptr) {
  uint64_t want = first;
  for (int call = 1;; ++call) {
    if (calls != nullptr) *calls = call;
    const bool all = want > file.size();
    const size_t have = all ? file.size() : static_cast<size_t>(want);
    std::optional<uint64_t> size;
    if (!pipe || all) size = file.size();
    Outcome outcome = Detect(file.first(have), size);
    if (outcome.layout) return *outcome.layout;
    EXPECT_GT(outcome.need_prefix, have);
    EXPECT_LE(outcome.need_prefix, kMaxPrefix);
    if (outcome.need_prefix <= have) return {};
    want = outcome.need_prefix;
  }
}
/// Labels a complete file.
inline Layout Label(const Bytes& file) {
  return DetectInSteps(file, kFirstPrefix, false);
}
inline void ExpectBytes(const Bytes& file) {
  const Layout layout = Label(file);
  EXPECT_EQ(layout.format, "bytes") << Show(layout.segments).size();
  ExpectTiles(layout, file.size());
}

}  // namespace zipllm::parsers

#endif  // ZIPLLM_TESTS_PARSERS_FILES_H_
