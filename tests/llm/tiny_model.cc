#include "llm/tiny_model.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <random>

#include "base/dtype.h"
#include "quantizers/dequantize.h"
#include "quantizers/quantizer.h"

namespace zipllm::llm {
namespace {

constexpr uint64_t kAlignment = 32;

/// How byte-pair vocabularies spell bytes (GPT-2): as characters that can be
/// seen.
std::string SpellByte(int byte) {
  int character = byte;
  const auto is_plain = [](int b) {
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  };
  if (!is_plain(byte)) {
    character = 256;
    for (int b = 0; b < byte; ++b) character += !is_plain(b);
  }
  if (character < 128) return std::string(1, static_cast<char>(character));
  return {static_cast<char>(0xc0 | character >> 6),
          static_cast<char>(0x80 | (character & 63))};
}

uint32_t GgmlType(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 0;
    case DType::kF16:
      return 1;
    case DType::kBF16:
      return 30;
    default:
      return static_cast<uint32_t>(dtype) - kGgmlDTypeBase;
  }
}

/// Rounds `numbers` to what the bytes hold.
std::vector<uint8_t> Encode(DType dtype, size_t columns,
                            std::vector<float>* numbers) {
  std::vector<uint8_t> bytes;
  const size_t count = numbers->size();
  if (dtype == DType::kF32) {
    bytes.resize(4 * count);
    std::memcpy(bytes.data(), numbers->data(), bytes.size());
    return bytes;
  }
  if (dtype == DType::kBF16 || dtype == DType::kF16) {
    bytes.resize(2 * count);
    for (size_t i = 0; i < count; ++i) {
      float& number = (*numbers)[i];
      uint16_t code = 0;
      if (dtype == DType::kBF16) {
        code = static_cast<uint16_t>(std::bit_cast<uint32_t>(number) >> 16);
        number = std::bit_cast<float>(uint32_t{code} << 16);
      } else {
        // Magnitudes of 2^-14 to 1: ten bits of fraction, cut.
        const uint32_t bits = std::bit_cast<uint32_t>(number) & 0xffffe000;
        const uint32_t exponent = bits >> 23 & 255;
        if (exponent >= 127 - 14) {
          code = static_cast<uint16_t>(bits >> 16 & 0x8000) |
                 static_cast<uint16_t>((exponent - 112) << 10 |
                                       (bits >> 13 & 1023));
        }
        number = code == 0 ? 0 : std::bit_cast<float>(bits);
      }
      std::memcpy(&bytes[2 * i], &code, 2);
    }
    return bytes;
  }
  const DTypeInfo& info = *FindDType(dtype);
  bytes.resize(count / info.block_elements * info.block_bytes);
  for (const quantizers::Quantizer* quantizer : quantizers::AllQuantizers()) {
    if (quantizer->dtype != dtype || quantizer->needs_importance) continue;
    quantizer->scalar(numbers->data(), count / columns, columns, nullptr,
                      bytes.data());
    break;
  }
  quantizers::Dequantize(dtype, bytes.data(), count / info.block_elements,
                         numbers->data());
  return bytes;
}

}  // namespace

template <typename T>
void GgufWriter::Put(std::vector<uint8_t>* to, T value) {
  const size_t size = to->size();
  to->resize(size + sizeof value);
  std::memcpy(to->data() + size, &value, sizeof value);
}

void GgufWriter::PutText(std::vector<uint8_t>* to, const std::string& text) {
  Put(to, uint64_t{text.size()});
  to->insert(to->end(), text.begin(), text.end());
}

void GgufWriter::Key(const std::string& key, uint32_t type) {
  ++pairs_;
  PutText(&metadata_, key);
  Put(&metadata_, type);
}

void GgufWriter::Array(const std::string& key, uint32_t type, size_t count) {
  Key(key, 9);
  Put(&metadata_, type);
  Put(&metadata_, uint64_t{count});
}

void GgufWriter::Text(const std::string& key, const std::string& value) {
  Key(key, 8);
  PutText(&metadata_, value);
}

void GgufWriter::Integer(const std::string& key, uint32_t value) {
  Key(key, 4);
  Put(&metadata_, value);
}

void GgufWriter::Float(const std::string& key, float value) {
  Key(key, 6);
  Put(&metadata_, value);
}

void GgufWriter::Bool(const std::string& key, bool value) {
  Key(key, 7);
  Put(&metadata_, uint8_t{value});
}

void GgufWriter::Texts(const std::string& key,
                       const std::vector<std::string>& values) {
  Array(key, 8, values.size());
  for (const std::string& value : values) PutText(&metadata_, value);
}

void GgufWriter::Integers(const std::string& key,
                          const std::vector<int32_t>& values) {
  Array(key, 5, values.size());
  for (int32_t value : values) Put(&metadata_, value);
}

void GgufWriter::Floats(const std::string& key,
                        const std::vector<float>& values) {
  Array(key, 6, values.size());
  for (float value : values) Put(&metadata_, value);
}

void GgufWriter::Tensor(const std::string& name, std::vector<uint64_t> shape,
                        uint32_t ggml_type, const std::vector<uint8_t>& bytes) {
  ++tensors_;
  PutText(&descriptions_, name);
  Put(&descriptions_, static_cast<uint32_t>(shape.size()));
  for (size_t i = shape.size(); i-- > 0;) Put(&descriptions_, shape[i]);
  Put(&descriptions_, ggml_type);
  Put(&descriptions_, uint64_t{data_.size()});
  data_.insert(data_.end(), bytes.begin(), bytes.end());
  data_.resize((data_.size() + kAlignment - 1) / kAlignment * kAlignment);
}

std::vector<uint8_t> GgufWriter::Finish() const {
  std::vector<uint8_t> file = {'G', 'G', 'U', 'F'};
  Put(&file, uint32_t{3});
  Put(&file, tensors_);
  Put(&file, pairs_);
  file.insert(file.end(), metadata_.begin(), metadata_.end());
  file.insert(file.end(), descriptions_.begin(), descriptions_.end());
  file.resize((file.size() + kAlignment - 1) / kAlignment * kAlignment);
  file.insert(file.end(), data_.begin(), data_.end());
  return file;
}

std::vector<uint8_t> TinyModel::Make(
    const std::vector<std::string>& words) const {
  GgufWriter file;
  const bool is_gemma2 = architecture == "gemma2";
  const bool is_gemma = is_gemma2 || architecture == "gemma3";
  const std::string key = architecture + ".";
  const auto integer = [&](const char* name, size_t value) {
    file.Integer(key + name, static_cast<uint32_t>(value));
  };
  file.Text("general.architecture", architecture);
  integer("block_count", layers);
  integer("context_length", context);
  integer("embedding_length", width);
  integer("feed_forward_length", feed_width);
  integer("attention.head_count", heads);
  integer("attention.head_count_kv", key_heads);
  integer("attention.key_length", head_width);
  integer("attention.value_length", head_width);
  if (is_gemma) integer("attention.sliding_window", window);
  if (is_gemma2) file.Float(key + "attn_logit_softcapping", 20);
  if (is_gemma2) file.Float(key + "final_logit_softcapping", 10);
  file.Float(key + "attention.layer_norm_rms_epsilon", 1e-5f);
  file.Float(key + "rope.freq_base", 1000);

  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.push_back(SpellByte(byte));
  tokens.insert(tokens.end(), words.begin(), words.end());
  tokens.push_back("<|endoftext|>");
  std::vector<int32_t> types(tokens.size(), 1);
  types.back() = 3;
  std::vector<std::string> merges;
  for (const std::string& word : words) {
    // Of the word without its last character, which must be a word before it.
    merges.push_back(word.substr(0, word.size() - 1) + " " + word.back());
  }
  file.Text("tokenizer.ggml.model", "gpt2");
  file.Text("tokenizer.ggml.pre", "gpt-2");
  file.Texts("tokenizer.ggml.tokens", tokens);
  file.Integers("tokenizer.ggml.token_type", types);
  file.Texts("tokenizer.ggml.merges", merges);
  file.Integer("tokenizer.ggml.bos_token_id",
               static_cast<uint32_t>(tokens.size() - 1));

  std::mt19937 random(seed);
  const auto put = [&](const std::string& name, std::vector<uint64_t> shape,
                       float middle, float spread, DType dtype) {
    size_t count = 1;
    for (uint64_t n : shape) count *= n;
    std::vector<float> numbers(count);
    for (float& number : numbers) {
      const float uniform = static_cast<float>(random() >> 8) * 0x1p-23f - 1;
      number = middle + spread * uniform;
    }
    const std::vector<uint8_t> bytes = Encode(dtype, shape.back(), &numbers);
    file.Tensor(name, shape, GgmlType(dtype), bytes);
    if (see) see(name, numbers);
  };
  DType dtype = DType::kBytes;
  for (const DTypeInfo& info : AllDTypes()) {
    if (info.name == weights) dtype = info.dtype;
  }
  const auto matrix = [&](const std::string& name, size_t rows,
                          size_t columns) {
    put(name + ".weight", {rows, columns}, 0,
        1.7f / std::sqrt(static_cast<float>(columns)), dtype);
  };
  const auto norm = [&](const std::string& name, size_t count) {
    put(name + ".weight", {count}, 1, 0.3f, DType::kF32);
  };
  matrix("token_embd", tokens.size(), width);
  norm("output_norm", width);
  if (has_output) matrix("output", tokens.size(), width);
  if (has_rope_factors) {
    put("rope_freqs.weight", {head_width / 2}, 2, 1, DType::kF32);
  }
  for (size_t i = 0; i < layers; ++i) {
    const std::string blk = "blk." + std::to_string(i) + ".";
    norm(blk + "attn_norm", width);
    norm(blk + "ffn_norm", width);
    if (is_gemma) norm(blk + "post_attention_norm", width);
    if (is_gemma) norm(blk + "post_ffw_norm", width);
    if (architecture == "gemma3" || architecture == "qwen3") {
      norm(blk + "attn_q_norm", head_width);
      norm(blk + "attn_k_norm", head_width);
    }
    matrix(blk + "attn_q", heads * head_width, width);
    matrix(blk + "attn_k", key_heads * head_width, width);
    matrix(blk + "attn_v", key_heads * head_width, width);
    if (architecture == "qwen2") {
      put(blk + "attn_q.bias", {heads * head_width}, 0, 1, DType::kF32);
      put(blk + "attn_k.bias", {key_heads * head_width}, 0, 2, DType::kF32);
      put(blk + "attn_v.bias", {key_heads * head_width}, 0, 1, DType::kF32);
    }
    matrix(blk + "attn_output", width, heads * head_width);
    matrix(blk + "ffn_gate", feed_width, width);
    matrix(blk + "ffn_up", feed_width, width);
    matrix(blk + "ffn_down", width, feed_width);
  }
  return file.Finish();
}

}  // namespace zipllm::llm
