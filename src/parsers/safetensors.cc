// safetensors (https://github.com/huggingface/safetensors, "Format"): a 64-bit
// length N, N bytes of JSON, then the tensors' bytes. The JSON maps each
// tensor's name to {"dtype", "shape", "data_offsets": [begin, end]}, offsets
// counted from the end of the JSON; "__metadata__" holds text.
#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/dtype.h"
#include "parsers/parser.h"
#include "parsers/tensor_layout.h"

namespace zipllm::parsers {
namespace {

constexpr uint64_t kLengthBytes = 8;
// Of metadata and of keys that the format does not define.
constexpr int kMaxDepth = 4;

/// The element type with this name; `bytes`, for a type newer than this code.
DType FindDTypeByName(std::string_view name) {
  for (const DTypeInfo& info : AllDTypes()) {
    if (static_cast<int>(info.dtype) >= kGgmlDTypeBase) break;
    if (info.name == name) return info.dtype;
  }
  return DType::kBytes;
}

/// Takes the events of the JSON reader, which itself does not recurse and does
/// not keep values. Each handler returns false to stop at what breaks the
/// format. A tensor's offset is relative to the end of the header.
class HeaderHandler final : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::vector<Segment> TakeTensors() { return std::move(tensors_); }

  bool start_object(size_t) override {
    ++depth_;
    return depth_ <= 2 || InIgnored();
  }
  bool end_object() override {
    --depth_;
    return depth_ != 1 || in_metadata_ || FinishTensor();
  }
  bool start_array(size_t) override {
    ++depth_;
    return (depth_ == 3 && (field_ == kShape || field_ == kOffsets)) ||
           (depth_ >= 3 && InIgnored());
  }
  bool end_array() override {
    --depth_;
    return true;
  }

  bool key(std::string& text) override {
    if (depth_ == 1) return StartEntry(text);
    if (depth_ > 2 || in_metadata_) return true;
    field_ = text == "dtype"          ? kDType
             : text == "shape"        ? kShape
             : text == "data_offsets" ? kOffsets
                                      : kIgnored;
    if (field_ == kIgnored) return true;
    return !std::exchange(seen_[field_], true);
  }

  bool string(std::string& text) override {
    if (depth_ == 2 && field_ == kDType) {
      tensors_.back().dtype = FindDTypeByName(text);
      return true;
    }
    return InIgnored();
  }
  bool number_unsigned(uint64_t value) override {
    if (depth_ == 3 && field_ == kShape) {
      tensors_.back().shape.push_back(value);
      return tensors_.back().shape.size() <= kMaxRank;
    }
    if (depth_ == 3 && field_ == kOffsets) {
      if (offset_count_ == offsets_.size()) return false;
      offsets_[offset_count_++] = value;
      return true;
    }
    return InIgnored();
  }
  bool null() override { return InIgnored(); }
  bool boolean(bool) override { return InIgnored(); }
  bool number_integer(int64_t) override { return InIgnored(); }
  bool number_float(double, const std::string&) override { return InIgnored(); }
  bool binary(nlohmann::json::binary_t&) override { return false; }
  bool parse_error(size_t, const std::string&,
                   const nlohmann::detail::exception&) override {
    return false;
  }

 private:
  enum Field { kDType, kShape, kOffsets, kFieldCount, kIgnored = kFieldCount };

  bool InIgnored() const {
    return field_ == kIgnored && depth_ >= 2 && depth_ <= kMaxDepth;
  }

  bool StartEntry(std::string& name) {
    // Metadata is not read, and counts as a field that is not known.
    in_metadata_ = name == "__metadata__";
    field_ = kIgnored;
    if (in_metadata_) return !std::exchange(metadata_seen_, true);
    if (name.size() > kMaxNameBytes) return false;
    if (tensors_.size() == kMaxSegments) return false;
    tensors_.emplace_back().name = name;
    seen_ = {};
    offset_count_ = 0;
    return true;
  }

  bool FinishTensor() {
    if (seen_ != std::array{true, true, true}) return false;
    if (offset_count_ != 2 || offsets_[0] > offsets_[1]) return false;
    Segment& tensor = tensors_.back();
    tensor.offset = offsets_[0];
    tensor.length = offsets_[1] - offsets_[0];
    if (tensor.dtype == DType::kBytes) {
      tensor.shape.clear();
      return true;
    }
    uint64_t elements = 0;
    uint64_t bytes = 0;
    return ElementCount(tensor.shape, &elements) &&
           ByteSize(*FindDType(tensor.dtype), elements, &bytes) &&
           bytes == tensor.length;
  }

  std::vector<Segment> tensors_;
  int depth_ = 0;
  bool in_metadata_ = false;
  bool metadata_seen_ = false;
  // Of the tensor that is being read:
  Field field_ = kIgnored;
  std::array<bool, kFieldCount> seen_ = {};
  std::array<uint64_t, 2> offsets_ = {};
  size_t offset_count_ = 0;
};

Outcome ParseSafetensors(ByteSpan prefix, std::optional<uint64_t> file_size) {
  // The first character must be '{', and tells most other files apart.
  const uint64_t least = kLengthBytes + 1;
  if (file_size && *file_size < least) return {};
  if (prefix.size() < least) return {.need_prefix = least};
  const auto json_bytes = LoadLe<uint64_t>(prefix.data());
  if (json_bytes > kMaxPrefix - kLengthBytes) return {};
  if (prefix[kLengthBytes] != '{') return {};
  const uint64_t header_bytes = kLengthBytes + json_bytes;
  if (file_size && *file_size < header_bytes) return {};
  if (prefix.size() < header_bytes) return {.need_prefix = header_bytes};

  const ByteSpan json = prefix.subspan(kLengthBytes, json_bytes);
  HeaderHandler handler;
  if (!nlohmann::json::sax_parse(json.begin(), json.end(), &handler)) return {};
  std::vector<Segment> tensors = handler.TakeTensors();
  for (Segment& tensor : tensors) {
    if (!CheckedAdd(tensor.offset, header_bytes, &tensor.offset)) return {};
  }
  return {.layout = LayOutTensors("safetensors", {header_bytes},
                                  std::move(tensors), file_size)};
}

}  // namespace

extern const Parser kSafetensorsParser;
constexpr Parser kSafetensorsParser = {"safetensors", ParseSafetensors};

}  // namespace zipllm::parsers
