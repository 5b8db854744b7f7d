// Language models that tests make: random weights, a vocabulary of bytes and
// some words.
#ifndef ZIPLLM_TESTS_LLM_TINY_MODEL_H_
#define ZIPLLM_TESTS_LLM_TINY_MODEL_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "zipllm/types.h"

namespace zipllm::llm {

/// A GGUF file in the making.
class GgufWriter {
 public:
  void Text(const std::string& key, const std::string& value);
  void Integer(const std::string& key, uint32_t value);
  void Float(const std::string& key, float value);
  void Bool(const std::string& key, bool value);
  void Texts(const std::string& key, const std::vector<std::string>& values);
  void Integers(const std::string& key, const std::vector<int32_t>& values);
  void Floats(const std::string& key, const std::vector<float>& values);
  /// `shape` has the rows first.
  void Tensor(const std::string& name, std::vector<uint64_t> shape,
              uint32_t ggml_type, const std::vector<uint8_t>& bytes);
  std::vector<uint8_t> Finish() const;

 private:
  template <typename T>
  static void Put(std::vector<uint8_t>* to, T value);
  static void PutText(std::vector<uint8_t>* to, const std::string& text);
  void Key(const std::string& key, uint32_t type);
  void Array(const std::string& key, uint32_t type, size_t count);

  uint64_t pairs_ = 0;
  uint64_t tensors_ = 0;
  std::vector<uint8_t> metadata_;
  std::vector<uint8_t> descriptions_;
  std::vector<uint8_t> data_;
};

struct TinyModel {
  std::string architecture = "llama";
  /// Of all matrices, by its name in FindDType: "F32", "Q4_K", ....
  std::string weights = "F16";
  size_t layers = 2;
  size_t width = 64;
  size_t feed_width = 96;
  size_t heads = 4;
  size_t key_heads = 2;
  size_t head_width = 32;
  size_t context = 96;
  size_t window = 40;       ///< of Gemma's local layers
  bool has_output = false;  ///< a matrix of its own
  bool has_rope_factors = false;
  uint32_t seed = 1;
  /// If set, gets each tensor's numbers as a reader finds them.
  std::function<void(const std::string&, const std::vector<float>&)> see =
      nullptr;

  /// With a tokenizer "gpt2" of the 256 bytes, `words` and "<|endoftext|>".
  std::vector<uint8_t> Make(const std::vector<std::string>& words = {}) const;
  size_t vocabulary(size_t words = 0) const { return 256 + words + 1; }
};

}  // namespace zipllm::llm

#endif  // ZIPLLM_TESTS_LLM_TINY_MODEL_H_
