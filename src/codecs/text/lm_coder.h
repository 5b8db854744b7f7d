// Whole blocks coded with the language model, for one target.
#ifndef ZIPLLM_CODECS_TEXT_LM_CODER_H_
#define ZIPLLM_CODECS_TEXT_LM_CODER_H_

#include <span>

#include "codecs/text/lm.h"
#include "codecs/text/lm_format.h"

namespace zipllm::codecs::lm {
inline namespace ZIPLLM_CM_TARGET {

/// The scores are inputs of text_cm's mixers.
class Mixed {
 public:
  Mixed(uint8_t* memory, const cm::MaxSizes& sizes, const Weights& weights)
      : model_(memory, sizes), language_(weights) {}
  uint32_t Predict() {
    std::array<int32_t, LanguageModel::kScores> scores;
    language_.Predict(scores.data());
    return model_.Predict(scores);
  }
  void Update(bool bit) {
    model_.Update(bit);
    language_.Update(bit);
  }
  void Relocate(const cm::Relocation& moved) { model_.Relocate(moved); }

 private:
  cm::MaxModel model_;
  LanguageModel language_;
};

/// The output weights go on learning while the text is read.
class Alone {
 public:
  /// `memory` is kAloneBytes, 64-byte aligned.
  Alone(uint8_t* memory, const cm::MaxSizes& /*sizes*/, const Weights& weights)
      : language_(weights), sets_(reinterpret_cast<Set*>(memory)) {
    for (size_t n = 0; n < 256; ++n) {
      for (size_t i = 0; i < kUnits; ++i) {
        sets_[n][i] = weights.output[n][i] * 256;
      }
      sets_[n][kUnits] = weights.output_bias[n] * 256;
    }
    inputs_.fill(0);
    inputs_[kUnits] = 256;
    LoadUnits();
  }
  uint32_t Predict() {
    const int mix =
        (cm::MixDot(inputs_.data(), sets_[path_].data(), kAloneInputs) + 128) >>
        8;
    p_ = cm::Squash(mix);
    return p_;
  }
  void Update(bool bit) {
    const int32_t error = (bit ? 65536 : 0) - static_cast<int32_t>(p_);
    cm::MixTrain(inputs_.data(), sets_[path_].data(), kAloneInputs,
                 error * kRate >> 10);
    path_ = path_ << 1 | uint32_t{bit};
    language_.Update(bit);
    if (path_ < 256) return;
    path_ = 1;
    LoadUnits();
  }
  void Relocate(const cm::Relocation& moved) { moved(sets_); }

 private:
  using Set = std::array<int32_t, kAloneInputs>;
  static constexpr int kRate = 2560;

  void LoadUnits() {
    const auto& units = language_.units();
    for (size_t i = 0; i < kUnits; ++i) inputs_[i] = units[i] * 8;
  }

  LanguageModel language_;
  uint32_t path_ = 1;
  uint32_t p_ = 32768;
  alignas(64) Set inputs_;
  Set* sets_;
};

template <typename Model>
void Prime(uint8_t* memory, const cm::MaxSizes& sizes, const Weights& weights,
           const uint8_t* prior, size_t prior_size) {
  auto* state = new (memory) cm::ModelState<Model>{
      .model = Model(memory + cm::kStateBytes, sizes, weights)};
  cm::LearnAll(state->model, prior, prior_size);
}

inline constexpr Coder kCoder = {
    .prime = {Prime<Mixed>, Prime<Alone>},
    .block = {cm::MakeBlockCoder<cm::ModelState<Mixed>>(),
              cm::MakeBlockCoder<cm::ModelState<Alone>>()}};

}  // namespace ZIPLLM_CM_TARGET
}  // namespace zipllm::codecs::lm

#endif  // ZIPLLM_CODECS_TEXT_LM_CODER_H_
