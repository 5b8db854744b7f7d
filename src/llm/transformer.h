// Transformers of the families Llama, Qwen2, Qwen3, Gemma 2 and Gemma 3, with
// integer products and floats in one order: the same bits on every machine, for
// any number of texts at once and of threads (format-spec/inference.md).
#ifndef ZIPLLM_LLM_TRANSFORMER_H_
#define ZIPLLM_LLM_TRANSFORMER_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "codecs/text/text_model.h"
#include "llm/gguf.h"
#include "llm/kernels.h"
#include "llm/matrix.h"
#include "llm/rope.h"
#include "zipllm/io.h"

namespace zipllm::llm {

/// Weights and how to compute with them. Immutable; used by several threads at
/// once.
class Transformer {
 public:
  /// Texts are read by at most the last 1024 tokens (of which the first 32
  /// stay: models rely on the start of a text), and no more than the model was
  /// trained for.
  static constexpr size_t kMaxContext = 1024;
  /// So that sums of weights stay below 2^48.
  static constexpr size_t kMaxOutputs = size_t{1} << 19;
  static constexpr size_t kMaxStreams = 256;

  /// Reads the weights. Token i of a session is the model's ids[i]; the last of
  /// `ids` begins a text and is none of the outputs. Errors as LoadModel's.
  static absl::StatusOr<std::unique_ptr<const Transformer>> Load(
      const Gguf& gguf, Source& source, std::span<const uint32_t> ids,
      uint64_t max_memory);

  /// As TextModel::Start. INVALID_ARGUMENT for no stream or more than
  /// kMaxStreams. `kernels` outlive the session.
  absl::StatusOr<std::unique_ptr<codecs::TextModel::Session>> Start(
      size_t streams, int threads, uint64_t max_memory,
      const Kernels& kernels = BestKernels()) const;

  size_t outputs() const { return outputs_; }
  /// Tokens back that a text is read by.
  size_t context() const { return context_; }

 private:
  friend class TransformerSession;

  /// Vectors may be empty where a family has not got them.
  struct Layer {
    bool is_local;  ///< looks back window_ tokens only
    std::vector<float> attention_norm;
    Matrix query_key_value;
    std::vector<float> query_key_value_bias;
    std::vector<float> query_norm;
    std::vector<float> key_norm;
    Matrix attention_output;
    std::vector<float> attention_output_norm;
    std::vector<float> feed_norm;
    Matrix gate_up;
    Matrix down;
    std::vector<float> feed_output_norm;
  };

  Transformer() = default;
  absl::Status ReadShape(const Gguf& gguf);
  absl::Status ReadRopes(const Gguf& gguf, WeightReader& reader);
  absl::Status ReadLayer(WeightReader& reader, size_t index);

  size_t layer_count_ = 0;
  size_t width_ = 0;         // numbers that stand for a token between layers
  size_t feed_width_ = 0;    // numbers between the products of a feed-forward
  size_t heads_ = 0;         // queries
  size_t key_heads_ = 0;     // keys, each for heads_ / key_heads_ queries
  size_t head_width_ = 0;    // numbers of a query, key, value
  size_t context_ = 0;       // positions kept, whole blocks
  size_t window_ = 0;        // of local layers; 0: none is
  size_t local_period_ = 1;  // each so-manieth layer is not local
  bool is_gemma_ = false;
  bool has_head_norms_ = false;
  float epsilon_ = 0;
  float query_scale_ = 1;
  float attention_cap_ = 0;  // 0: none
  float output_cap_ = 0;

  Rope rope_;
  Rope local_rope_;
  size_t outputs_ = 0;
  Matrix tokens_;  // of ids; where output_ is empty it serves as that too
  Matrix output_;
  std::vector<float> output_norm_;
  std::vector<Layer> layers_;
};

}  // namespace zipllm::llm

#endif  // ZIPLLM_LLM_TRANSFORMER_H_
