// GGUF, versions 2 and 3, little-endian (ggml, docs/gguf.md): a header of
// counts, key-value pairs and tensor descriptions; then, from an aligned
// position, the tensors' bytes.
#include <algorithm>
#include <bit>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/dtype.h"
#include "base/utf8.h"
#include "parsers/parser.h"
#include "parsers/tensor_layout.h"

namespace zipllm::parsers {
namespace {

constexpr std::string_view kMagic = "GGUF";
constexpr size_t kFixedBytes = 24;  // magic, version, counts
constexpr uint32_t kDefaultAlignment = 32;
constexpr uint32_t kMaxAlignment = 1 << 20;
constexpr uint32_t kMaxDimensions = 8;  // ggml itself has at most 4
// The least that a pair and a tensor description can take.
constexpr uint64_t kMinPairBytes = 13;
constexpr uint64_t kMinTensorBytes = 24;
// A pair of this size is a segment of its own: the files of one model have the
// same tokenizer, and equal segments are stored once.
constexpr uint64_t kOwnSegmentBytes = 4096;

enum class ValueType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

/// Bytes of a value of fixed size; 0 for strings, arrays and unknown types.
uint64_t FixedSize(ValueType type) {
  switch (type) {
    case ValueType::kUint8:
    case ValueType::kInt8:
    case ValueType::kBool:
      return 1;
    case ValueType::kUint16:
    case ValueType::kInt16:
      return 2;
    case ValueType::kUint32:
    case ValueType::kInt32:
    case ValueType::kFloat32:
      return 4;
    case ValueType::kUint64:
    case ValueType::kInt64:
    case ValueType::kFloat64:
      return 8;
    case ValueType::kString:
    case ValueType::kArray:
      break;
  }
  return 0;
}

/// The element type of a ggml type number; `bytes` for one that is not known.
DType FromGgml(uint32_t type) {
  switch (type) {
    case 0:
      return DType::kF32;
    case 1:
      return DType::kF16;
    case 24:
      return DType::kI8;
    case 25:
      return DType::kI16;
    case 26:
      return DType::kI32;
    case 27:
      return DType::kI64;
    case 28:
      return DType::kF64;
    case 30:
      return DType::kBF16;
    default:
      break;
  }
  if (type > UINT8_MAX - kGgmlDTypeBase) return DType::kBytes;
  const auto quantized = static_cast<DType>(kGgmlDTypeBase + type);
  return FindDType(quantized) != nullptr ? quantized : DType::kBytes;
}

/// Reads a header front to back. Each step returns false where the header is
/// malformed or goes on behind the prefix; `short_of_bytes` tells which.
class HeaderReader {
 public:
  /// The header cannot be longer than `limit`.
  HeaderReader(ByteSpan prefix, uint64_t limit)
      : reader_(prefix, "GGUF header"), limit_(limit) {}

  bool Read();

  bool short_of_bytes() const { return short_of_bytes_; }
  /// Where the parts of the header end; the last at the first tensor.
  const std::vector<uint64_t>& ends() const { return ends_; }
  /// With offsets from the start of the file.
  std::vector<Segment> TakeTensors() { return std::move(tensors_); }

 private:
  template <typename T>
  bool Number(T* value) {
    if (reader_.remaining() < sizeof(T)) return Short(sizeof(T));
    *value = *reader_.Le<T>();
    return true;
  }
  bool Type(ValueType* type) {
    uint32_t number = 0;
    if (!Number(&number)) return false;
    *type = static_cast<ValueType>(number);
    return true;
  }
  bool Text(std::string_view* text) {
    uint64_t length = 0;
    if (!Number(&length)) return false;
    if (reader_.remaining() < length) return Short(length);
    const ByteSpan bytes = *reader_.Bytes(length);
    *text = {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    return true;
  }
  bool Skip(uint64_t count) {
    if (reader_.remaining() < count) return Short(count);
    return reader_.Bytes(count).ok();
  }
  bool Short(uint64_t count) {
    short_of_bytes_ =
        reader_.position() <= limit_ && count <= limit_ - reader_.position();
    return false;
  }

  bool Pair();
  bool SkipValue(ValueType type);
  bool SkipElements(ValueType type, uint64_t count);
  bool Tensor();

  ByteReader reader_;
  uint64_t limit_;
  bool short_of_bytes_ = false;
  std::optional<uint32_t> alignment_;
  std::vector<uint64_t> ends_;
  std::vector<Segment> tensors_;
};

bool HeaderReader::Read() {
  uint32_t version = 0;
  uint64_t tensor_count = 0;
  uint64_t pair_count = 0;
  if (!Skip(kMagic.size()) || !Number(&version)) return false;
  // The version of a big-endian file reads as a huge number.
  if (version != 2 && version != 3) return false;
  if (!Number(&tensor_count) || !Number(&pair_count)) return false;
  if (tensor_count > kMaxSegments) return false;
  if (tensor_count > kMaxPrefix / kMinTensorBytes) return false;
  if (pair_count > kMaxPrefix / kMinPairBytes) return false;
  for (uint64_t i = 0; i < pair_count; ++i) {
    const uint64_t begin = reader_.position();
    if (!Pair()) return false;
    if (reader_.position() - begin < kOwnSegmentBytes) continue;
    if (ends_.empty() || ends_.back() != begin) ends_.push_back(begin);
    ends_.push_back(reader_.position());
  }
  for (uint64_t i = 0; i < tensor_count; ++i) {
    if (!Tensor()) return false;
  }
  uint64_t end = reader_.position();
  if (!tensors_.empty()) {
    const uint64_t alignment = alignment_.value_or(kDefaultAlignment);
    end = (end + alignment - 1) / alignment * alignment;
  }
  if (ends_.empty() || ends_.back() != end) ends_.push_back(end);
  for (Segment& tensor : tensors_) {
    if (!CheckedAdd(tensor.offset, end, &tensor.offset)) return false;
  }
  return true;
}

bool HeaderReader::Pair() {
  std::string_view key;
  ValueType type{};
  if (!Text(&key) || !Type(&type)) return false;
  if (key != "general.alignment") return SkipValue(type);
  uint32_t alignment = 0;
  if (alignment_ || type != ValueType::kUint32) return false;
  if (!Number(&alignment)) return false;
  alignment_ = alignment;
  return std::has_single_bit(alignment) && alignment <= kMaxAlignment;
}

bool HeaderReader::SkipValue(ValueType type) {
  if (type != ValueType::kArray) return SkipElements(type, 1);
  ValueType inner{};
  uint64_t count = 0;
  if (!Type(&inner) || !Number(&count)) return false;
  if (inner != ValueType::kArray) return SkipElements(inner, count);
  // Arrays of arrays, as far as the format's own readers go and one further.
  for (uint64_t i = 0; i < count; ++i) {
    ValueType innermost{};
    uint64_t inner_count = 0;
    if (!Type(&innermost) || !Number(&inner_count)) return false;
    if (!SkipElements(innermost, inner_count)) return false;
  }
  return true;
}

bool HeaderReader::SkipElements(ValueType type, uint64_t count) {
  if (type == ValueType::kString) {
    std::string_view text;
    for (uint64_t i = 0; i < count; ++i) {
      if (!Text(&text)) return false;
    }
    return true;
  }
  const uint64_t size = FixedSize(type);
  uint64_t bytes = 0;
  return size != 0 && CheckedMul(count, size, &bytes) && Skip(bytes);
}

bool HeaderReader::Tensor() {
  std::string_view name;
  uint32_t dimension_count = 0;
  if (!Text(&name) || !Number(&dimension_count)) return false;
  if (name.size() > kMaxNameBytes || !IsUtf8(name)) return false;
  if (dimension_count > kMaxDimensions) return false;
  Segment tensor;
  tensor.name = name;
  tensor.shape.resize(dimension_count);
  for (uint64_t& dimension : tensor.shape) {
    if (!Number(&dimension)) return false;
  }
  // The file has the row length first; a shape has it last.
  std::reverse(tensor.shape.begin(), tensor.shape.end());
  uint32_t type = 0;
  if (!Number(&type) || !Number(&tensor.offset)) return false;

  tensor.dtype = FromGgml(type);
  const DTypeInfo& info = *FindDType(tensor.dtype);
  const uint64_t row = tensor.shape.empty() ? 1 : tensor.shape.back();
  uint64_t elements = 0;
  if (row % info.block_elements != 0) return false;
  if (!ElementCount(tensor.shape, &elements)) return false;
  if (!ByteSize(info, elements, &tensor.length)) return false;
  if (tensor.dtype == DType::kBytes) {
    tensor.shape.clear();
    if (elements != 0) tensor.length = kUnknownLength;
  }
  tensors_.push_back(std::move(tensor));
  return true;
}

Outcome ParseGguf(ByteSpan prefix, std::optional<uint64_t> file_size) {
  const size_t shown = std::min(prefix.size(), kMagic.size());
  if (!std::equal(kMagic.begin(), kMagic.begin() + shown, prefix.begin())) {
    return {};
  }
  if (file_size && *file_size < kFixedBytes) return {};
  const uint64_t limit = std::min(kMaxPrefix, file_size.value_or(kMaxPrefix));
  HeaderReader header(prefix, limit);
  if (header.Read()) {
    return {.layout = LayOutTensors("gguf", header.ends(), header.TakeTensors(),
                                    file_size)};
  }
  if (!header.short_of_bytes()) return {};
  const uint64_t twice = std::max<uint64_t>(2 * prefix.size(), kFixedBytes);
  return {.need_prefix = std::min(twice, kMaxPrefix)};
}

}  // namespace

extern const Parser kGgufParser;
constexpr Parser kGgufParser = {"gguf", ParseGguf};

}  // namespace zipllm::parsers
