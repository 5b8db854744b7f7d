// What a GGUF file says of a language model: metadata and where tensors lie.
#ifndef ZIPLLM_LLM_GGUF_H_
#define ZIPLLM_LLM_GGUF_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/buffer.h"
#include "base/status.h"
#include "zipllm/io.h"
#include "zipllm/types.h"

namespace zipllm::llm {

/// The header of a GGUF file, versions 2 and 3 (ggml, docs/gguf.md), which is
/// untrusted. Getters return NOT_FOUND where the key is missing and
/// INVALID_ARGUMENT where its value is of another kind. Thread-safe; what is
/// viewed lives as long as the object, also when it is moved.
class Gguf {
 public:
  /// Reads the header of `source` (seekable): at most 16 MiB, and memory of a
  /// few times that. INVALID_ARGUMENT where it is no GGUF file, malformed or
  /// cut short.
  static absl::StatusOr<Gguf> Read(Source& source);

  /// What messages call the file.
  const std::string& name() const { return name_; }

  bool Has(std::string_view key) const { return values_.contains(key); }
  absl::StatusOr<std::string_view> Text(std::string_view key) const;
  /// Of any integer type, not negative; a boolean is 0 or 1.
  absl::StatusOr<uint64_t> Integer(std::string_view key) const;
  /// `otherwise` where the key is missing.
  absl::StatusOr<uint64_t> IntegerOr(std::string_view key,
                                     uint64_t otherwise) const;
  /// Of any type of numbers; finite.
  absl::StatusOr<float> Number(std::string_view key) const;
  absl::StatusOr<float> NumberOr(std::string_view key, float otherwise) const;
  absl::StatusOr<std::vector<std::string_view>> Texts(
      std::string_view key) const;
  absl::StatusOr<std::vector<int64_t>> Integers(std::string_view key) const;
  absl::StatusOr<std::vector<float>> Numbers(std::string_view key) const;

  /// Null where there is none of that name. Its bytes lie within the file and
  /// are as many as shape and type say, unless the type is `bytes` (one that is
  /// not known).
  const Segment* FindTensor(std::string_view name) const;
  size_t tensor_count() const { return tensors_.size(); }

 private:
  /// Numbers of the format.
  enum class Type : uint32_t {
    kUint8,
    kInt8,
    kUint16,
    kInt16,
    kUint32,
    kInt32,
    kFloat32,
    kBool,
    kString,
    kArray,
    kUint64,
    kInt64,
    kFloat64,
  };
  /// A value, or the elements of an array. Arrays of arrays have no elements.
  struct Value {
    Type type;
    bool is_array;
    uint64_t count;
    ByteSpan bytes;
  };

  static uint64_t SizeOf(Type type);
  template <typename T>
  static T Load(Type type, const uint8_t* from);
  absl::Status ReadValues(ByteSpan header);
  absl::Status Wrong(std::string_view key, std::string_view wanted) const;
  absl::StatusOr<const Value*> Find(std::string_view key, bool is_array) const;

  std::string name_;
  Buffer header_;
  std::map<std::string_view, Value> values_;
  std::map<std::string, Segment, std::less<>> tensors_;
};

}  // namespace zipllm::llm

#endif  // ZIPLLM_LLM_GGUF_H_
