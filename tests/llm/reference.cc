#include "llm/reference.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace zipllm::llm {
namespace {

constexpr size_t kBlock = 32;

void Cap(std::vector<double>* x, double cap) {
  for (double& value : *x) value = cap * std::tanh(value / cap);
}

void Soften(std::vector<double>* x) {
  const double greatest = *std::max_element(x->begin(), x->end());
  double sum = 0;
  for (double& value : *x) sum += value = std::exp(value - greatest);
  for (double& value : *x) value /= sum;
}

}  // namespace

Reference::Reference(const TinyModel& model, const Weights& weights)
    : model_(model),
      weights_(weights),
      is_gemma_(model.architecture.starts_with("gemma")) {}

const std::vector<float>& Reference::At(const std::string& name) const {
  return weights_.at(name);
}

Reference::Vector Reference::Product(const std::string& name,
                                     const Vector& x) const {
  const std::vector<float>& matrix = At(name + ".weight");
  Vector out(matrix.size() / x.size());
  for (size_t row = 0; row < out.size(); ++row) {
    for (size_t i = 0; i < x.size(); ++i) {
      out[row] += matrix[row * x.size() + i] * x[i];
    }
  }
  const auto bias = weights_.find(name + ".bias");
  for (size_t row = 0; row < out.size() && bias != weights_.end(); ++row) {
    out[row] += bias->second[row];
  }
  return out;
}

Reference::Vector Reference::Norm(const std::string& name, const double* x,
                                  size_t count) const {
  double squares = 0;
  for (size_t i = 0; i < count; ++i) squares += x[i] * x[i];
  const double factor =
      1 / std::sqrt(squares / static_cast<double>(count) + 1e-5);
  Vector out(x, x + count);
  const auto weights = weights_.find(name + ".weight");
  for (size_t i = 0; i < count; ++i) {
    if (weights != weights_.end()) out[i] *= factor * weights->second[i];
  }
  return out;
}

Reference::Vector Reference::Turn(Vector x, bool is_local,
                                  double position) const {
  const size_t pairs = x.size() / 2;
  const double base = is_local && model_.architecture == "gemma3" ? 1e4 : 1e3;
  for (size_t i = 0; i < pairs; ++i) {
    double angle = position * std::pow(base, -static_cast<double>(i) /
                                                 static_cast<double>(pairs));
    if (model_.has_rope_factors) angle /= At("rope_freqs.weight")[i];
    const bool neighbours = model_.architecture == "llama";
    double& a = x[neighbours ? 2 * i : i];
    double& b = x[neighbours ? 2 * i + 1 : i + pairs];
    const double turned = a * std::cos(angle) - b * std::sin(angle);
    b = a * std::sin(angle) + b * std::cos(angle);
    a = turned;
  }
  return x;
}

Reference::Vector Reference::Attend(size_t layer, const Vector& x) {
  const std::string blk = "blk." + std::to_string(layer) + ".";
  const size_t width = model_.head_width;
  const size_t period = model_.architecture == "gemma2" ? 2 : 6;
  const bool is_local = is_gemma_ && (layer + 1) % period != 0;
  const bool has_window = is_local && model_.window + kBlock <= model_.context;
  const Vector queries = Product(blk + "attn_q", x);
  const Vector keys = Product(blk + "attn_k", x);
  const Vector values = Product(blk + "attn_v", x);
  Vector out;
  for (size_t head = 0; head < model_.heads; ++head) {
    const size_t key_head = head * model_.key_heads / model_.heads;
    auto& kept = keys_[{layer, key_head}];
    auto& kept_values = values_[{layer, key_head}];
    if (kept.size() == position_) {
      kept.push_back(Norm(blk + "attn_k_norm", &keys[key_head * width], width));
      kept_values.emplace_back(&values[key_head * width],
                               &values[key_head * width] + width);
    }
    const Vector query =
        Turn(Norm(blk + "attn_q_norm", &queries[head * width], width), is_local,
             static_cast<double>(position_));
    Vector chances;
    std::vector<size_t> seen;
    const size_t block = position_ / kBlock;
    const size_t slots = model_.context / kBlock;
    const size_t dropped = block >= slots ? block - slots + 1 : 0;
    for (size_t i = 0; i <= position_; ++i) {
      double at = static_cast<double>(i);
      if (has_window) {
        if (i + model_.window <= position_) continue;
      } else if (i < kBlock) {
        at += static_cast<double>(dropped * kBlock);
      } else if (i < (dropped + 1) * kBlock) {
        continue;
      }
      const Vector key = Turn(kept[i], is_local, at);
      double score = 0;
      for (size_t k = 0; k < width; ++k) score += query[k] * key[k];
      chances.push_back(score / std::sqrt(static_cast<double>(width)));
      seen.push_back(i);
    }
    if (model_.architecture == "gemma2") Cap(&chances, 20);
    Soften(&chances);
    for (size_t k = 0; k < width; ++k) {
      double sum = 0;
      for (size_t i = 0; i < seen.size(); ++i) {
        sum += chances[i] * kept_values[seen[i]][k];
      }
      out.push_back(sum);
    }
  }
  return Product(blk + "attn_output", out);
}

std::vector<double> Reference::Step(size_t token) {
  const std::vector<float>& tokens = At("token_embd.weight");
  const size_t width = model_.width;
  Vector x(tokens.begin() + token * width,
           tokens.begin() + (token + 1) * width);
  for (double& value : x) {
    if (is_gemma_) value *= std::sqrt(static_cast<double>(width));
  }
  const auto add = [&](const std::string& norm, const Vector& y) {
    const Vector sum = Norm(norm, y.data(), width);
    for (size_t i = 0; i < width; ++i) x[i] += sum[i];
  };
  for (size_t layer = 0; layer < model_.layers; ++layer) {
    const std::string blk = "blk." + std::to_string(layer) + ".";
    add(blk + "post_attention_norm",
        Attend(layer, Norm(blk + "attn_norm", x.data(), width)));
    const Vector normal = Norm(blk + "ffn_norm", x.data(), width);
    Vector gate = Product(blk + "ffn_gate", normal);
    const Vector up = Product(blk + "ffn_up", normal);
    for (size_t i = 0; i < gate.size(); ++i) {
      const double g = gate[i];
      const double u =
          std::sqrt(2 / std::numbers::pi) * (g + 0.044715 * g * g * g);
      gate[i] = up[i] * (is_gemma_ ? g * (1 + std::tanh(u)) / 2
                                   : g / (1 + std::exp(-g)));
    }
    add(blk + "post_ffw_norm", Product(blk + "ffn_down", gate));
  }
  ++position_;
  Vector logits = Product(model_.has_output ? "output" : "token_embd",
                          Norm("output_norm", x.data(), width));
  if (model_.architecture == "gemma2") Cap(&logits, 10);
  logits.pop_back();  // what begins a text is no output
  Soften(&logits);
  return logits;
}

}  // namespace zipllm::llm
