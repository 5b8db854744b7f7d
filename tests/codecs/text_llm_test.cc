// Codec 24 by a toy language model.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "codecs/coding.h"
#include "codecs/generators.h"
#include "codecs/text/text_llm_model.h"
#include "codecs/toy_text_model.h"

namespace zipllm::codecs {
namespace {

constexpr CodecId kId = 24;

const Encoder& TextLlm() { return *FindEncoder(kId); }

EncodeRequest RequestOf(ByteSpan data, const TextModel* model) {
  return {.data = data,
          .block_size = data.size(),
          .dtype = DType::kBytes,
          .level = 6,
          .is_text = true,
          .text_model = model};
}

const TextModel& Toy() {
  static const ToyTextModel model(
      ToyTokens(), "the thing of the king and the abc of the aba and the end ");
  return model;
}
/// One that some bytes have no token in.
const TextModel& Gapped() {
  static const ToyTextModel model(ToyTokens("\xE2\x01z"), "zzz the abc");
  return model;
}

std::string Prose(size_t size) {
  std::string text;
  Random random(7);
  constexpr std::array<std::string_view, 8> kWords = {
      " the", " of", " thing", " king", " and", " abc", " \xE2\x82\xAC", ".\n"};
  while (text.size() < size) text += kWords[random.Below(kWords.size())];
  text.resize(size);
  return text;
}

struct Coded {
  Bytes params;
  Bytes block;
};
Coded Encode(ByteSpan text, const TextModel& model) {
  Scratch scratch;
  auto frame = EncodeFrame(TextLlm(), RequestOf(text, &model), scratch);
  EXPECT_TRUE(frame && frame->blocks[0]);
  if (!frame || !frame->blocks[0]) return {};
  return {frame->params, *frame->blocks[0]};
}
std::optional<Bytes> Decode(const Coded& coded, const TextModel* model,
                            size_t size, absl::Status* why = nullptr) {
  BlockContext context;
  context.text_model = model;
  return DecodeBlock(*FindDecoder(kId), coded.params, context, coded.block,
                     size, why);
}
void CheckRoundTrip(ByteSpan text, const TextModel& model) {
  const Coded coded = Encode(text, model);
  EXPECT_EQ(Decode(coded, &model, text.size()),
            Bytes(text.begin(), text.end()));
}

TEST(TextLlmTest, RoundTripsProseInAnyNumberOfStreams) {
  for (const size_t size : {40, 1023, 2048, 5001}) {
    SCOPED_TRACE(size);
    CheckRoundTrip(AsBytes(Prose(size)), Toy());
  }
}

TEST(TextLlmTest, UsesWhatTheModelKnows) {
  const std::string text = Prose(4000);
  const ToyTextModel knows(ToyTokens(), Prose(20000));
  const ToyTextModel knows_nothing(ToyTokens(), "");
  EXPECT_LT(Encode(AsBytes(text), knows).block.size() * 10,
            Encode(AsBytes(text), knows_nothing).block.size() * 9);
}

TEST(TextLlmTest, BytesWithoutATokenAreEscaped) {
  const std::string text =
      Prose(900) + "zz\x01z\xE2\x82z" + Prose(900) + "\x01\x01\x01";
  CheckRoundTrip(AsBytes(text), Gapped());
}

TEST(TextLlmTest, BytesOfAnyKindRoundTrip) {
  Bytes bytes(3000);
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<uint8_t>(i < 1500 ? i : i % 7 * i);
  }
  const std::string prose = Prose(6000);
  bytes.insert(bytes.end(), prose.begin(), prose.end());
  CheckRoundTrip(bytes, Toy());
  CheckRoundTrip(bytes, Gapped());
}

TEST(TextLlmTest, IsForTextWithAModel) {
  const std::string text = Prose(500);
  Scratch scratch;
  EXPECT_EQ(TextLlm().plan(RequestOf(AsBytes(text), nullptr), scratch),
            nullptr);
  EncodeRequest request = RequestOf(AsBytes(text), &Toy());
  request.is_text = false;
  EXPECT_EQ(TextLlm().plan(request, scratch), nullptr);
}

TEST(TextLlmTest, AnotherModelOrNoneIsRefusedByName) {
  const std::string text = Prose(500);
  const Coded coded = Encode(AsBytes(text), Toy());
  for (const TextModel* model :
       {static_cast<const TextModel*>(nullptr), &Gapped()}) {
    absl::Status why;
    EXPECT_FALSE(Decode(coded, model, text.size(), &why));
    EXPECT_EQ(why.code(), absl::StatusCode::kFailedPrecondition);
    const std::string message(why.message());
    EXPECT_NE(message.find(Hex(Toy().sha256())), std::string::npos) << message;
    EXPECT_NE(message.find("--text-model"), std::string::npos) << message;
  }
}

TEST(TextLlmTest, TruncatedAtEveryByteIsNotTheText) {
  const std::string text = Prose(100);
  const Coded coded = Encode(AsBytes(text), Gapped());
  for (size_t size = 0; size < coded.block.size(); ++size) {
    Coded cut = coded;
    cut.block.resize(size);
    // The container's checksums see what happens to look like a whole code.
    const auto bytes = Decode(cut, &Gapped(), text.size());
    EXPECT_NE(bytes, Bytes(text.begin(), text.end())) << size;
  }
  for (size_t size = 0; size < coded.params.size(); ++size) {
    Coded cut = coded;
    cut.params.resize(size);
    EXPECT_FALSE(Decode(cut, &Gapped(), text.size())) << size;
  }
  Coded more = coded;
  more.block.push_back(0);
  EXPECT_FALSE(Decode(more, &Gapped(), text.size()));
  // Another size than was coded, and fewer bytes than streams.
  EXPECT_FALSE(Decode(coded, &Gapped(), text.size() / 2));
  EXPECT_FALSE(Decode(Encode(AsBytes(Prose(4000)), Toy()), &Toy(), 2));
}

TEST(TextLlmTest, DamageEndsInAnErrorOrInBytes) {
  const std::string text = Prose(300);
  const Coded coded = Encode(AsBytes(text), Gapped());
  Random random(1);
  for (int trial = 0; trial < 24; ++trial) {
    Coded damaged = coded;
    Bytes& bytes = trial % 4 == 0 ? damaged.params : damaged.block;
    bytes[random.Below(bytes.size())] ^=
        static_cast<uint8_t>(1 << random.Below(8));
    Decode(damaged, &Gapped(), text.size());
  }
  for (uint64_t seed = 0; seed < 6; ++seed) {
    Coded noise = coded;
    noise.block = MakeInput(Kind::kRandom, DType::kBytes, 300, seed);
    Decode(noise, &Gapped(), text.size());
  }
}

TEST(TextLlmTest, StopsWhenNobodyWantsTheResult) {
  class Impatient final : public Watch {
   public:
    bool Advance(uint64_t) override { return ++calls < 5; }
    int calls = 0;
  };
  const std::string text = Prose(2000);
  Impatient watch;
  Scratch scratch;
  scratch.watch = &watch;
  EXPECT_EQ(TextLlm().plan(RequestOf(AsBytes(text), &Toy()), scratch), nullptr);
  EXPECT_EQ(watch.calls, 5);
}

TEST(TextLlmTest, StreamsTileTheBlock) {
  for (const size_t size : {1, 15, 16, 17, 1000}) {
    for (const size_t streams : {1, 7, 16}) {
      EXPECT_EQ(text_llm::StreamBegin(size, streams, 0), 0u);
      EXPECT_EQ(text_llm::StreamBegin(size, streams, streams), size);
      for (size_t i = 0; i < streams && streams <= size; ++i) {
        EXPECT_LT(text_llm::StreamBegin(size, streams, i),
                  text_llm::StreamBegin(size, streams, i + 1));
      }
    }
  }
}

}  // namespace
}  // namespace zipllm::codecs
