#include "llm/transformer.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "llm/float_mode.h"

namespace zipllm::llm {
namespace {

// More is taken as damage.
constexpr uint64_t kMaxLayers = 1024;
constexpr uint64_t kMaxWidth = 1 << 17;
constexpr uint64_t kMaxHeads = 1024;
constexpr uint64_t kMaxHeadWidth = 1024;
constexpr uint64_t kMaxVocabulary = uint64_t{1} << 24;

/// An integer of 1 to `most`.
absl::StatusOr<size_t> Size(const Gguf& gguf, const std::string& key,
                            uint64_t most) {
  ASSIGN_OR_RETURN(const uint64_t value, gguf.Integer(key));
  if (value >= 1 && value <= most) return value;
  return InvalidArgument(gguf.name(), ": '", key, "' is ", value,
                         ", which is not from 1 to ", most);
}

}  // namespace

absl::Status Transformer::ReadShape(const Gguf& gguf) {
  ASSIGN_OR_RETURN(const std::string_view name,
                   gguf.Text("general.architecture"));
  const std::string family(name);
  const bool is_gemma2 = family == "gemma2";
  const bool is_gemma3 = family == "gemma3";
  is_gemma_ = is_gemma2 || is_gemma3;
  has_head_norms_ = is_gemma3 || family == "qwen3";
  if (!is_gemma_ && family != "llama" && family != "qwen2" &&
      family != "qwen3") {
    return Unimplemented(gguf.name(), ": models of the architecture '", family,
                         "' are not known: use one of llama, qwen2, qwen3, "
                         "gemma2, gemma3");
  }
  const std::string key = family + ".";
  const std::string attention = key + "attention.";
  ASSIGN_OR_RETURN(const uint64_t experts,
                   gguf.IntegerOr(key + "expert_count", 0));
  if (experts != 0) {
    return Unimplemented(gguf.name(), ": models of experts are not known");
  }
  ASSIGN_OR_RETURN(layer_count_, Size(gguf, key + "block_count", kMaxLayers));
  ASSIGN_OR_RETURN(width_, Size(gguf, key + "embedding_length", kMaxWidth));
  ASSIGN_OR_RETURN(feed_width_,
                   Size(gguf, key + "feed_forward_length", kMaxWidth));
  ASSIGN_OR_RETURN(heads_, Size(gguf, attention + "head_count", kMaxHeads));
  key_heads_ = heads_;
  if (gguf.Has(attention + "head_count_kv")) {
    ASSIGN_OR_RETURN(key_heads_,
                     Size(gguf, attention + "head_count_kv", kMaxHeads));
  }
  head_width_ = width_ / heads_;
  if (gguf.Has(attention + "key_length")) {
    ASSIGN_OR_RETURN(head_width_,
                     Size(gguf, attention + "key_length", kMaxHeadWidth));
  }
  ASSIGN_OR_RETURN(const uint64_t value_width,
                   gguf.IntegerOr(attention + "value_length", head_width_));
  if (value_width != head_width_ || head_width_ % kBlock != 0 ||
      head_width_ > kMaxHeadWidth || heads_ % key_heads_ != 0 ||
      width_ % kBlock != 0 || feed_width_ % kBlock != 0) {
    return Unimplemented(gguf.name(),
                         ": a model of this shape is not known: widths must be "
                         "multiples of 32");
  }
  ASSIGN_OR_RETURN(epsilon_, gguf.Number(attention + "layer_norm_rms_epsilon"));
  ASSIGN_OR_RETURN(const size_t trained,
                   Size(gguf, key + "context_length", uint64_t{1} << 40));
  context_ = std::min(kMaxContext, trained) / kBlock * kBlock;
  if (context_ < 2 * kBlock) {
    return Unimplemented(gguf.name(), ": a context of ", trained,
                         " tokens is too short");
  }

  float query_width = static_cast<float>(head_width_);
  if (is_gemma_) {
    ASSIGN_OR_RETURN(
        window_, Size(gguf, attention + "sliding_window", uint64_t{1} << 40));
    ASSIGN_OR_RETURN(local_period_,
                     gguf.IntegerOr(attention + "sliding_window_pattern",
                                    is_gemma2 ? 2 : 6));
    if (local_period_ == 0) window_ = 0;
    // The largest of both families, of 27 billion weights.
    if (layer_count_ == (is_gemma2 ? 46 : 62)) {
      query_width = static_cast<float>(width_ / heads_);
    }
  }
  if (is_gemma2) {
    ASSIGN_OR_RETURN(attention_cap_,
                     gguf.NumberOr(key + "attn_logit_softcapping", 50));
    ASSIGN_OR_RETURN(output_cap_,
                     gguf.NumberOr(key + "final_logit_softcapping", 30));
  }
  query_scale_ = 1.0f / __builtin_sqrtf(query_width);
  return absl::OkStatus();
}

absl::Status Transformer::ReadRopes(const Gguf& gguf, WeightReader& reader) {
  ASSIGN_OR_RETURN(const std::string_view name,
                   gguf.Text("general.architecture"));
  const std::string key = std::string(name) + ".rope.";
  ASSIGN_OR_RETURN(const uint64_t turned,
                   gguf.IntegerOr(key + "dimension_count", head_width_));
  if (turned % 2 != 0 || turned > head_width_) {
    return InvalidArgument(gguf.name(), ": '", key,
                           "dimension_count' does not fit the model");
  }
  const size_t pairs = turned / 2;
  ASSIGN_OR_RETURN(const float base, gguf.NumberOr(key + "freq_base", 10000));
  float scale = 1;
  if (gguf.Has(key + "scaling.type")) {
    ASSIGN_OR_RETURN(const std::string_view type,
                     gguf.Text(key + "scaling.type"));
    if (type == "linear") {
      ASSIGN_OR_RETURN(const float factor, gguf.Number(key + "scaling.factor"));
      if (!(factor > 0)) {
        return InvalidArgument(gguf.name(), ": '", key,
                               "scaling.factor' is not positive");
      }
      scale = 1 / factor;
    } else if (type != "none") {
      return Unimplemented(gguf.name(), ": positions of the kind '",
                           std::string(type), "' are not known");
    }
  }
  std::vector<float> factors;
  if (reader.Has("rope_freqs.weight")) {
    ASSIGN_OR_RETURN(factors, reader.Vector("rope_freqs.weight", pairs));
  }
  const bool neighbours = name == "llama";
  rope_ = Rope(pairs, base, scale, factors, neighbours);
  local_rope_ = rope_;
  if (name == "gemma3") {
    ASSIGN_OR_RETURN(const float local_base,
                     gguf.NumberOr(key + "freq_base_swa", 10000));
    local_rope_ = Rope(pairs, local_base, 1, {}, neighbours);
  }
  return absl::OkStatus();
}

absl::Status Transformer::ReadLayer(WeightReader& reader, size_t index) {
  const std::string key = StrCat("blk.", index, ".");
  const size_t queries = heads_ * head_width_;
  const size_t keys = key_heads_ * head_width_;
  Layer layer;
  layer.is_local = window_ != 0 && (index + 1) % local_period_ != 0;
  const auto norm = [&](const char* name, size_t width,
                        std::vector<float>* out) -> absl::Status {
    ASSIGN_OR_RETURN(*out, reader.Vector(key + name + ".weight", width));
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(norm("attn_norm", width_, &layer.attention_norm));
  RETURN_IF_ERROR(norm("ffn_norm", width_, &layer.feed_norm));
  if (has_head_norms_) {
    RETURN_IF_ERROR(norm("attn_q_norm", head_width_, &layer.query_norm));
    RETURN_IF_ERROR(norm("attn_k_norm", head_width_, &layer.key_norm));
  }
  if (is_gemma_) {
    RETURN_IF_ERROR(
        norm("post_attention_norm", width_, &layer.attention_output_norm));
    RETURN_IF_ERROR(norm("post_ffw_norm", width_, &layer.feed_output_norm));
  }
  const WeightReader::Part query_key_value[] = {
      {key + "attn_q.weight", queries},
      {key + "attn_k.weight", keys},
      {key + "attn_v.weight", keys}};
  ASSIGN_OR_RETURN(layer.query_key_value,
                   reader.ReadMatrix(query_key_value, width_));
  if (reader.Has(key + "attn_q.bias")) {
    for (const WeightReader::Part& part : query_key_value) {
      const std::string name =
          part.name.substr(0, part.name.size() - 6) + "bias";
      ASSIGN_OR_RETURN(const std::vector<float> bias,
                       reader.Vector(name, part.rows));
      layer.query_key_value_bias.insert(layer.query_key_value_bias.end(),
                                        bias.begin(), bias.end());
    }
  }
  const WeightReader::Part output[] = {{key + "attn_output.weight", width_}};
  ASSIGN_OR_RETURN(layer.attention_output, reader.ReadMatrix(output, queries));
  const WeightReader::Part gate_up[] = {{key + "ffn_gate.weight", feed_width_},
                                        {key + "ffn_up.weight", feed_width_}};
  ASSIGN_OR_RETURN(layer.gate_up, reader.ReadMatrix(gate_up, width_));
  const WeightReader::Part down[] = {{key + "ffn_down.weight", width_}};
  ASSIGN_OR_RETURN(layer.down, reader.ReadMatrix(down, feed_width_));
  layers_.push_back(std::move(layer));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<const Transformer>> Transformer::Load(
    const Gguf& gguf, Source& source, std::span<const uint32_t> ids,
    uint64_t max_memory) {
  [[maybe_unused]] const FloatMode mode;
  if (ids.size() < 2 || ids.size() - 1 > kMaxOutputs) {
    return Unimplemented(gguf.name(), ": a vocabulary of ", ids.size(),
                         " tokens is not known");
  }
  std::unique_ptr<Transformer> model(new Transformer);
  RETURN_IF_ERROR(model->ReadShape(gguf));
  WeightReader reader(gguf, source, max_memory);
  RETURN_IF_ERROR(model->ReadRopes(gguf, reader));
  const std::string tokens = "token_embd.weight";
  const Segment* tensor = gguf.FindTensor(tokens);
  if (tensor == nullptr || tensor->shape.size() != 2 ||
      tensor->shape[0] > kMaxVocabulary) {
    return InvalidArgument(gguf.name(), ": the model has no matrix '", tokens,
                           "'");
  }
  const size_t rows = tensor->shape[0];
  model->outputs_ = ids.size() - 1;
  ASSIGN_OR_RETURN(model->tokens_,
                   reader.ReadRows(tokens, rows, model->width_, ids));
  if (reader.Has("output.weight")) {
    ASSIGN_OR_RETURN(model->output_,
                     reader.ReadRows("output.weight", rows, model->width_,
                                     ids.first(model->outputs_)));
  }
  ASSIGN_OR_RETURN(model->output_norm_,
                   reader.Vector("output_norm.weight", model->width_));
  for (size_t i = 0; i < model->layer_count_; ++i) {
    RETURN_IF_ERROR(model->ReadLayer(reader, i));
  }
  return model;
}

}  // namespace zipllm::llm
