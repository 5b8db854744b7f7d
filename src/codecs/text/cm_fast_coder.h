// Whole blocks coded by the fast profile of text_cm, for one target.
#ifndef ZIPLLM_CODECS_TEXT_CM_FAST_CODER_H_
#define ZIPLLM_CODECS_TEXT_CM_FAST_CODER_H_

#include "codecs/text/cm_fast.h"

namespace zipllm::codecs::cm {
inline namespace ZIPLLM_CM_TARGET {

/// A model at one of its cursors.
template <bool kRecords>
struct FastAt {
  FastModel<kRecords>& model;
  typename FastModel<kRecords>::Cursor& cursor;
  uint32_t Predict() { return model.Predict(cursor); }
  void Update(bool bit) { model.Update(cursor, bit); }
};

template <bool kRecords>
void ReadPriors(const Priors& priors, FastModel<kRecords>& model,
                typename FastModel<kRecords>::Cursor& cursor) {
  FastAt<kRecords> at{model, cursor};
  size_t noted = priors.size - priors.learnt;
  for (size_t i = 0; i < priors.count; ++i) {
    const uint8_t* text = priors.texts[i].data();
    size_t size = priors.texts[i].size();
    const size_t ahead = size < noted ? size : noted;
    model.ReadAll(cursor, text, ahead);
    noted -= ahead;
    LearnAll(at, text + ahead, size - ahead);
  }
}

/// A model and where it is in a text.
template <bool kRecords>
struct FastState {
  FastModel<kRecords> model;
  typename FastModel<kRecords>::Cursor cursor;

  size_t Encode(const uint8_t* plain, size_t size, uint8_t* coded, size_t room,
                const Follower& follower) {
    FastAt<kRecords> at{model, cursor};
    return EncodeAll(at, plain, size, coded, room, follower);
  }
  bool Decode(const uint8_t* coded, size_t coded_size, uint8_t* plain,
              size_t size, const Follower& follower) {
    FastAt<kRecords> at{model, cursor};
    return DecodeAll(at, coded, coded_size, plain, size, follower);
  }
  void Relocate(const Relocation& moved) {
    model.Relocate(moved);
    FastModel<kRecords>::Relocate(cursor, moved);
  }
};

template <bool kRecords>
void PrimeFast(uint8_t* memory, const FastSizes& sizes, const Priors& priors) {
  auto* state = new (memory) FastState<kRecords>{
      .model = FastModel<kRecords>(memory + kStateBytes, sizes), .cursor = {}};
  state->model.Start(state->cursor, kArenaMargin);
  ReadPriors(priors, state->model, state->cursor);
}

inline constexpr FastCoder kFastCoder = {
    .prime = {PrimeFast<false>, PrimeFast<true>},
    .block = {MakeBlockCoder<FastState<false>>(),
              MakeBlockCoder<FastState<true>>()}};

}  // namespace ZIPLLM_CM_TARGET
}  // namespace zipllm::codecs::cm

#endif  // ZIPLLM_CODECS_TEXT_CM_FAST_CODER_H_
