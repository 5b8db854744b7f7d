// What encoder and decoder of codec 24, text_llm, share: streams of a block,
// their tokens bit by bit, and the mixing of a language model's chances with
// those of text_cm's fast profile. Format: format-spec/codecs/24-text_llm.md.
#ifndef ZIPLLM_CODECS_TEXT_TEXT_LLM_MODEL_H_
#define ZIPLLM_CODECS_TEXT_TEXT_LLM_MODEL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/hash.h"
#include "base/status.h"
#include "codecs/codec.h"
#include "codecs/text/cm_fast_coder.h"
#include "codecs/text/cm_format.h"
#include "codecs/text/cm_primed.h"
#include "codecs/text/text_model.h"
#include "codecs/text/token_range.h"
#include "entropy/binary_coder.h"

namespace zipllm::codecs::text_llm {

/// Of a language model's inference, of the mixing here: 1 is the first.
inline constexpr uint8_t kVersion = 1;
inline constexpr size_t kMaxStreams = 64;
/// What the language model may take for the streams' state.
inline constexpr uint64_t kMaxSessionMemory = uint64_t{2} << 30;

/// A frame's parameters. Stored in this order.
struct Params {
  uint8_t streams = 1;
  cm::Params cm;  ///< fast, not for records
  Sha256Digest model{};
};
inline constexpr size_t kParamsBytes = 2 + cm::kParamsBytes + 32;
absl::StatusOr<Params> ParseParams(ByteSpan bytes);
std::array<uint8_t, kParamsBytes> StoreParams(const Params& params);

/// For the language model: as many as there are cores.
int Threads();

/// Bytes that the tables of a block take, without the language model's.
inline uint64_t TableBytes(const Params& params, uint64_t size) {
  return cm::kStateBytes + cm::FastBytes(cm::FastSizesOf(params.cm, size));
}
/// The model of text_cm for such a block, with TableBytes of memory.
inline cm::Primed PrimedFor(const Params& params, uint64_t size) {
  const cm::FastSizes sizes = cm::FastSizesOf(params.cm, size);
  return {
      .key = cm::PrimedKey(24, cm::StoreParams(params.cm), sizes.index_bits),
      .used = TableBytes(params, size) - size,
      .size = TableBytes(params, size),
      .prime =
          [=, priors = cm::PriorsOf(params.cm)](uint8_t* memory) {
            cm::kFastCoderScalar.prime[0](memory, sizes, priors);
          },
      .coder = cm::kFastCoderScalar.block.data()};
}

/// Where stream `i` of a block of `size` bytes begins.
inline size_t StreamBegin(size_t size, size_t streams, size_t i) {
  return size / streams * i + std::min(i, size % streams);
}

/// Codes bits of several streams by what all of them showed before. Coder is
/// BinaryEncoder or BinaryDecoder.
template <typename Coder>
class BitModels {
 public:
  /// `memory` is of PrimedFor(params, size) and outlives this.
  BitModels(const Params& params, size_t size, uint8_t* memory, Coder& coder)
      : coder_(coder), cm_(cm::StateAt<cm::FastState<false>>(memory).model) {
    const size_t prior = cm::PriorsOf(params.cm).size;
    cursors_.resize(params.streams);
    for (size_t i = 0; i < cursors_.size(); ++i) {
      const size_t begin = StreamBegin(size, params.streams, i) + prior;
      cm_.Start(cursors_[i], cm::kArenaMargin + static_cast<uint32_t>(begin));
    }
    byte_mixer_.Init(kByteSets, {60000, 8000});
    end_mixer_.Init(kEndSets, {65536, 6000, 6000});
    ends_.assign(kEndContexts, cm::MakeMapEntry(32768, 0));
    end_shapes_.fill(cm::MakeMapEntry(32768, 0));
    escapes_.fill(cm::MakeMapEntry(64, 20));
  }

  /// Whether a byte without a token comes; `after_escape`: one just came.
  bool CodeEscape(bool after_escape, bool escape) {
    cm::MapEntry& entry = escapes_[after_escape];
    escape = coder_.Code(escape, Clamp(cm::MapP(entry)));
    cm::UpdateMap(entry, escape, 255);
    return escape;
  }

  /// Whether a token ends, of which `bytes` bytes are known; `first` is the
  /// first token that begins with these, `chance` the language model's
  /// (stretched).
  bool CodeEnd(size_t bytes, uint32_t first, int chance, bool ends) {
    const uint32_t depth = Depth(bytes);
    cm::MapEntry& entry =
        ends_[cm::Hash(first, depth) >> (32 - kEndContextBits)];
    cm::MapEntry& shape = end_shapes_[depth * 32 + Bucket(chance)];
    auto& inputs = end_mixer_.state.inputs;
    inputs[0] = chance;
    inputs[1] = cm::Stretch(Clamp(cm::MapP(entry)));
    inputs[2] = cm::Stretch(Clamp(cm::MapP(shape)));
    inputs[3] = 256;
    const int x = end_mixer_.Predict(
        {depth, std::min<uint32_t>(cm::MapCount(entry), 15)});
    ends = coder_.Code(ends, cm::Squash(x));
    end_mixer_.Update(ends);
    cm::UpdateMap(entry, ends, 60);
    cm::UpdateMap(shape, ends, 255);
    return ends;
  }

  /// A bit of a token's byte, before which `bytes` are known; `chance` is the
  /// language model's of a one (stretched).
  bool CodeBit(size_t stream, size_t bytes, int chance, bool bit) {
    Cursor& cursor = cursors_[stream];
    const uint32_t p = cm_.Predict(cursor);
    const int by_cm = cm::Stretch(p);
    auto& inputs = byte_mixer_.state.inputs;
    inputs[0] = chance;
    inputs[1] = by_cm;
    inputs[2] = 256;
    const uint32_t depth = Depth(bytes);
    const auto bits = static_cast<uint32_t>(std::bit_width(cursor.path) - 1);
    const int x = byte_mixer_.Predict(
        {depth * 8 + bits, Bucket(chance) * 32 + Bucket(by_cm)});
    bit = coder_.Code(bit, cm::Squash(x));
    byte_mixer_.Update(bit);
    cm_.Update(cursor, bit);
    return bit;
  }
  /// A bit that is known.
  void LearnBit(size_t stream, bool bit) {
    cm_.Predict(cursors_[stream]);
    cm_.Update(cursors_[stream], bit);
  }
  /// A byte without a token.
  uint8_t CodeByteAlone(size_t stream, uint8_t byte) {
    Cursor& cursor = cursors_[stream];
    uint32_t path = 1;
    for (int k = 7; k >= 0; --k) {
      const bool bit = coder_.Code(byte >> k & 1, cm_.Predict(cursor));
      cm_.Update(cursor, bit);
      path = path << 1 | bit;
    }
    return static_cast<uint8_t>(path);
  }

 private:
  using Model = cm::FastModel<false>;
  using Cursor = Model::Cursor;
  static constexpr size_t kInputs = 8;

  /// Two selected sets of weights and what mixes them.
  struct Mixers {
    static constexpr size_t kSelectors = 2;
    using Network = cm::MixerNetwork<kInputs, kSelectors>;

    void Init(const std::array<uint32_t, kSelectors>& sets,
              const std::array<int32_t, kInputs>& first) {
      weights.clear();
      for (uint32_t i = 0; i < sets[0] + sets[1]; ++i) {
        weights.insert(weights.end(), first.begin(), first.end());
      }
      final_weights.fill(65536 / kSelectors);
      network.sets = {weights.data(), weights.data() + kInputs * sets[0]};
      network.final_sets = final_weights.data();
      state.inputs.fill(0);
    }
    int Predict(const std::array<uint32_t, kSelectors>& chosen) {
      return network.Predict(state, chosen, 0);
    }
    void Update(bool bit) { network.Update(state, bit, 64, 8); }

    Network network;
    Network::State state;
    std::vector<int32_t> weights;
    std::array<int32_t, kSelectors> final_weights;
  };

  static constexpr int kEndContextBits = 16;
  static constexpr size_t kEndContexts = size_t{1} << kEndContextBits;
  static constexpr uint32_t kDepths = 4;
  static constexpr std::array<uint32_t, 2> kByteSets = {kDepths * 8, 32 * 32};
  static constexpr std::array<uint32_t, 2> kEndSets = {kDepths, 16};

  static uint32_t Clamp(uint32_t p) { return std::clamp(p, 1u, 65535u); }
  static uint32_t Depth(size_t bytes) {
    return static_cast<uint32_t>(std::min<size_t>(bytes, kDepths - 1));
  }
  /// 0 to 31 by what is stretched, finer near 0.
  static uint32_t Bucket(int x) {
    const int size = std::abs(x);
    const int bucket = size < 256    ? size / 64
                       : size < 1024 ? 4 + (size - 256) / 128
                                     : std::min(15, 10 + (size - 1024) / 256);
    return static_cast<uint32_t>(x < 0 ? 15 - bucket : 16 + bucket);
  }

  Coder& coder_;
  Model& cm_;
  std::vector<Cursor> cursors_;
  Mixers byte_mixer_;
  Mixers end_mixer_;
  std::vector<cm::MapEntry> ends_;
  std::array<cm::MapEntry, kDepths * 32> end_shapes_;
  std::array<cm::MapEntry, 2> escapes_;
};

/// Codes a token of a stream: the one with the bytes `token`, if an encoder
/// does. Returns it; nullopt where it is longer than `room`.
template <typename Coder>
std::optional<uint32_t> CodeToken(const SortedVocabulary& vocabulary,
                                  std::span<const uint64_t> sums,
                                  BitModels<Coder>& models, size_t stream,
                                  std::string_view token, size_t room) {
  TokenRange range(vocabulary, sums);
  for (;;) {
    if (range.MayEnd() &&
        (!range.MayGoOn() ||
         models.CodeEnd(range.depth(), range.low(), range.EndChance(),
                        token.size() == range.depth()))) {
      return range.End();
    }
    if (range.depth() == room) return std::nullopt;
    const uint32_t byte =
        token.empty() ? 0 : static_cast<uint8_t>(token[range.depth()]);
    range.BeginByte();
    for (int k = 7; k >= 0; --k) {
      bool bit = byte >> k & 1;
      int chance = 0;
      switch (range.Next(&chance)) {
        case TokenRange::Bit::kOpen:
          bit = models.CodeBit(stream, range.depth(), chance, bit);
          break;
        case TokenRange::Bit::kZero:
          bit = false;
          models.LearnBit(stream, bit);
          break;
        case TokenRange::Bit::kOne:
          bit = true;
          models.LearnBit(stream, bit);
          break;
      }
      range.Take(bit);
    }
    range.EndByte();
  }
}

/// What an encoder reads, or a decoder writes.
template <typename Coder>
using Plain = std::conditional_t<std::is_same_v<Coder, entropy::BinaryEncoder>,
                                 ByteSpan, MutableByteSpan>;

/// Codes a block by `session`, which is new and has params.streams streams.
/// BinaryEncoder: codes `plain`, of which `tokens` are those of each stream,
/// kNone for a byte without one. BinaryDecoder: writes to `plain`, and knows no
/// tokens; DATA_LOSS where the code is of no such block. CANCELLED where nobody
/// wants the result.
template <typename Coder>
absl::Status CodeBlock(const Params& params, const SortedVocabulary& vocabulary,
                       TextModel::Session& session, BitModels<Coder>& models,
                       std::span<const std::vector<uint32_t>> tokens,
                       Coder& coder, Plain<Coder> plain,
                       const Scratch& scratch) {
  constexpr bool kEncodes = std::is_same_v<Coder, entropy::BinaryEncoder>;
  struct Stream {
    size_t at;
    size_t end;
    size_t coded = 0;  // tokens
    bool after_escape = false;
  };
  std::vector<Stream> streams(params.streams);
  for (size_t i = 0; i < streams.size(); ++i) {
    streams[i].at = StreamBegin(plain.size(), streams.size(), i);
    streams[i].end = StreamBegin(plain.size(), streams.size(), i + 1);
  }
  std::vector<uint32_t> read(streams.size(), TextModel::kBegin);
  for (size_t left = streams.size(); left > 0;) {
    session.Step(read);
    size_t done = 0;
    for (size_t i = 0; i < streams.size(); ++i) {
      Stream& stream = streams[i];
      read[i] = TextModel::kNone;
      if (stream.at == stream.end) continue;
      const size_t begin = stream.at;
      while (stream.at < stream.end && read[i] == TextModel::kNone) {
        uint32_t token = kEncodes ? tokens[i][stream.coded++] : 0;
        if (!vocabulary.has_all_bytes() &&
            models.CodeEscape(stream.after_escape, token == TextModel::kNone)) {
          stream.after_escape = true;
          const uint8_t byte = models.CodeByteAlone(i, plain[stream.at]);
          if constexpr (!kEncodes) plain[stream.at] = byte;
          ++stream.at;
          continue;
        }
        stream.after_escape = false;
        const std::optional<uint32_t> coded =
            CodeToken(vocabulary, session.Sums(i), models, i,
                      kEncodes ? vocabulary[token] : std::string_view(),
                      stream.end - stream.at);
        if (!coded) return DataLoss("a token goes beyond its stream");
        const std::string_view bytes = vocabulary[*coded];
        if constexpr (!kEncodes) {
          std::memcpy(&plain[stream.at], bytes.data(), bytes.size());
        }
        stream.at += bytes.size();
        read[i] = *coded;
      }
      done += stream.at - begin;
      left -= stream.at == stream.end;
    }
    if constexpr (!kEncodes) {
      if (coder.IsPastEnd()) return DataLoss("the code ends early");
    }
    if (!scratch.Advance(done)) return absl::CancelledError("stopped");
  }
  return absl::OkStatus();
}

}  // namespace zipllm::codecs::text_llm

#endif  // ZIPLLM_CODECS_TEXT_TEXT_LLM_MODEL_H_
