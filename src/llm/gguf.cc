#include "llm/gguf.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "base/bytes.h"
#include "base/dtype.h"
#include "parsers/parser.h"
#include "parsers/tensor_layout.h"

namespace zipllm::llm {

uint64_t Gguf::SizeOf(Type type) {
  switch (type) {
    case Type::kUint8:
    case Type::kInt8:
    case Type::kBool:
      return 1;
    case Type::kUint16:
    case Type::kInt16:
      return 2;
    case Type::kUint32:
    case Type::kInt32:
    case Type::kFloat32:
      return 4;
    case Type::kUint64:
    case Type::kInt64:
    case Type::kFloat64:
      return 8;
    case Type::kString:
    case Type::kArray:
      break;
  }
  return 0;
}

template <typename T>
T Gguf::Load(Type type, const uint8_t* from) {
  switch (type) {
    case Type::kUint8:
    case Type::kBool:
      return static_cast<T>(LoadLe<uint8_t>(from));
    case Type::kInt8:
      return static_cast<T>(LoadLe<int8_t>(from));
    case Type::kUint16:
      return static_cast<T>(LoadLe<uint16_t>(from));
    case Type::kInt16:
      return static_cast<T>(LoadLe<int16_t>(from));
    case Type::kUint32:
      return static_cast<T>(LoadLe<uint32_t>(from));
    case Type::kInt32:
      return static_cast<T>(LoadLe<int32_t>(from));
    case Type::kUint64:
      return static_cast<T>(LoadLe<uint64_t>(from));
    case Type::kInt64:
      return static_cast<T>(LoadLe<int64_t>(from));
    case Type::kFloat32:
      return static_cast<T>(LoadLe<float>(from));
    case Type::kFloat64:
      return static_cast<T>(LoadLe<double>(from));
    case Type::kString:
    case Type::kArray:
      break;
  }
  return T{};
}

absl::StatusOr<Gguf> Gguf::Read(Source& source) {
  Gguf gguf;
  gguf.name_ = source.Name();
  const std::optional<uint64_t> size = source.Size();
  if (!source.Seekable() || !size) {
    return InvalidArgument(gguf.name_, ": a model is read from a regular file");
  }
  std::optional<Layout> layout;
  uint64_t want = std::min<uint64_t>(parsers::kFirstPrefix, *size);
  while (!layout) {
    const size_t have = gguf.header_.size();
    gguf.header_.Resize(want);
    ASSIGN_OR_RETURN(
        const size_t got,
        source.ReadAt(have, {gguf.header_.data() + have, want - have}));
    if (got != want - have) {
      return InvalidArgument(gguf.name_, ": shorter than its size says");
    }
    parsers::Outcome outcome = parsers::Detect(gguf.header_.span(), size);
    layout = std::move(outcome.layout);
    want = std::min(outcome.need_prefix, *size);
    if (!layout && want <= gguf.header_.size()) break;
  }
  if (!layout || layout->format != "gguf") {
    return InvalidArgument(gguf.name_,
                           ": not a GGUF file, or a damaged one: a model is "
                           "taken from a GGUF file of version 2 or 3");
  }
  RETURN_IF_ERROR(gguf.ReadValues(gguf.header_.span()));
  for (Segment& segment : layout->segments) {
    if (segment.name.empty()) continue;
    std::string name = segment.name;
    gguf.tensors_.emplace(std::move(name), std::move(segment));
  }
  return gguf;
}

absl::Status Gguf::ReadValues(ByteSpan header) {
  ByteReader reader(header, "GGUF header");
  const auto text = [&reader](std::string_view* out) -> absl::Status {
    ASSIGN_OR_RETURN(const uint64_t length, reader.Le<uint64_t>());
    ASSIGN_OR_RETURN(const ByteSpan bytes, reader.Bytes(length));
    *out = {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    return absl::OkStatus();
  };
  const auto elements = [&](Type type, uint64_t count) -> absl::Status {
    if (type == Type::kString) {
      std::string_view skipped;
      for (uint64_t i = 0; i < count; ++i) RETURN_IF_ERROR(text(&skipped));
      return absl::OkStatus();
    }
    uint64_t bytes = 0;
    if (SizeOf(type) == 0 || !CheckedMul(count, SizeOf(type), &bytes)) {
      return reader.Error("a value of a type that is not known");
    }
    return reader.Bytes(bytes).status();
  };
  // Magic, version and the number of tensors, which the parser has checked.
  RETURN_IF_ERROR(reader.Bytes(16).status());
  ASSIGN_OR_RETURN(const uint64_t pairs, reader.Le<uint64_t>());
  for (uint64_t pair = 0; pair < pairs; ++pair) {
    std::string_view key;
    RETURN_IF_ERROR(text(&key));
    ASSIGN_OR_RETURN(const uint32_t type, reader.Le<uint32_t>());
    Value value = {static_cast<Type>(type), false, 1, {}};
    if (value.type == Type::kArray) {
      value.is_array = true;
      ASSIGN_OR_RETURN(const uint32_t inner, reader.Le<uint32_t>());
      value.type = static_cast<Type>(inner);
      ASSIGN_OR_RETURN(value.count, reader.Le<uint64_t>());
    }
    const size_t begin = reader.position();
    if (value.type == Type::kArray) {
      for (uint64_t i = 0; i < value.count; ++i) {
        ASSIGN_OR_RETURN(const uint32_t inner, reader.Le<uint32_t>());
        ASSIGN_OR_RETURN(const uint64_t count, reader.Le<uint64_t>());
        RETURN_IF_ERROR(elements(static_cast<Type>(inner), count));
      }
      value.count = 0;
    } else {
      RETURN_IF_ERROR(elements(value.type, value.count));
    }
    value.bytes = header.subspan(begin, reader.position() - begin);
    if (!values_.emplace(key, value).second) {
      return InvalidArgument(name_, ": the key '", key, "' stands twice");
    }
  }
  return absl::OkStatus();
}

absl::Status Gguf::Wrong(std::string_view key, std::string_view wanted) const {
  return InvalidArgument(name_, ": the value of '", key, "' is not ", wanted);
}

absl::StatusOr<const Gguf::Value*> Gguf::Find(std::string_view key,
                                              bool is_array) const {
  const auto found = values_.find(key);
  if (found == values_.end()) {
    return MakeStatus(absl::StatusCode::kNotFound, name_,
                      ": the model has no '", key, "' in its metadata");
  }
  if (found->second.is_array != is_array) {
    return Wrong(key, is_array ? "an array" : "a single value");
  }
  return &found->second;
}

absl::StatusOr<std::string_view> Gguf::Text(std::string_view key) const {
  ASSIGN_OR_RETURN(const Value* value, Find(key, false));
  if (value->type != Type::kString) return Wrong(key, "a string");
  // The length comes first.
  const ByteSpan bytes = value->bytes.subspan(8);
  return std::string_view(reinterpret_cast<const char*>(bytes.data()),
                          bytes.size());
}

absl::StatusOr<uint64_t> Gguf::Integer(std::string_view key) const {
  ASSIGN_OR_RETURN(const Value* value, Find(key, false));
  switch (value->type) {
    case Type::kString:
    case Type::kFloat32:
    case Type::kFloat64:
      return Wrong(key, "an integer");
    case Type::kUint64:
      return LoadLe<uint64_t>(value->bytes.data());
    default:
      break;
  }
  const auto number = Load<int64_t>(value->type, value->bytes.data());
  if (number < 0) return Wrong(key, "an integer from 0");
  return static_cast<uint64_t>(number);
}

absl::StatusOr<uint64_t> Gguf::IntegerOr(std::string_view key,
                                         uint64_t otherwise) const {
  if (!Has(key)) return otherwise;
  return Integer(key);
}

absl::StatusOr<float> Gguf::Number(std::string_view key) const {
  ASSIGN_OR_RETURN(const Value* value, Find(key, false));
  if (value->type == Type::kString) return Wrong(key, "a number");
  const auto number = Load<double>(value->type, value->bytes.data());
  if (!(std::fabs(number) <= 3.4e38)) return Wrong(key, "a finite number");
  return static_cast<float>(number);
}

absl::StatusOr<float> Gguf::NumberOr(std::string_view key,
                                     float otherwise) const {
  if (!Has(key)) return otherwise;
  return Number(key);
}

absl::StatusOr<std::vector<std::string_view>> Gguf::Texts(
    std::string_view key) const {
  ASSIGN_OR_RETURN(const Value* value, Find(key, true));
  if (value->type != Type::kString) return Wrong(key, "an array of strings");
  std::vector<std::string_view> texts;
  texts.reserve(value->count);
  ByteReader reader(value->bytes, "GGUF header");
  for (uint64_t i = 0; i < value->count; ++i) {
    ASSIGN_OR_RETURN(const uint64_t length, reader.Le<uint64_t>());
    ASSIGN_OR_RETURN(const ByteSpan bytes, reader.Bytes(length));
    texts.emplace_back(reinterpret_cast<const char*>(bytes.data()),
                       bytes.size());
  }
  return texts;
}

absl::StatusOr<std::vector<int64_t>> Gguf::Integers(
    std::string_view key) const {
  ASSIGN_OR_RETURN(const Value* value, Find(key, true));
  const uint64_t size = SizeOf(value->type);
  if (size == 0 || value->type == Type::kFloat32 ||
      value->type == Type::kFloat64) {
    return Wrong(key, "an array of integers");
  }
  std::vector<int64_t> numbers(value->count);
  for (size_t i = 0; i < numbers.size(); ++i) {
    numbers[i] = Load<int64_t>(value->type, value->bytes.data() + i * size);
  }
  return numbers;
}

absl::StatusOr<std::vector<float>> Gguf::Numbers(std::string_view key) const {
  ASSIGN_OR_RETURN(const Value* value, Find(key, true));
  const uint64_t size = SizeOf(value->type);
  if (size == 0) return Wrong(key, "an array of numbers");
  std::vector<float> numbers(value->count);
  for (size_t i = 0; i < numbers.size(); ++i) {
    const auto number =
        Load<double>(value->type, value->bytes.data() + i * size);
    if (!(std::fabs(number) <= 3.4e38)) {
      return Wrong(key, "an array of finite numbers");
    }
    numbers[i] = static_cast<float>(number);
  }
  return numbers;
}

const Segment* Gguf::FindTensor(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

}  // namespace zipllm::llm
