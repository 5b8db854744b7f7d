#include "llm/transformer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <ostream>

#include "llm/gguf.h"
#include "llm/load.h"
#include "llm/reference.h"
#include "llm/tiny_model.h"
#include "zipllm/io.h"

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace zipllm::llm {
namespace {

using codecs::TextModel;
using ::testing::HasSubstr;

constexpr uint64_t kMemory = uint64_t{1} << 28;
constexpr kernels::Target kTargets[] = {
    kernels::Target::kScalar, kernels::Target::kAvx2, kernels::Target::kAvx512};

using Sums = std::vector<uint64_t>;

absl::StatusOr<std::unique_ptr<const Transformer>> Load(
    const TinyModel& model, const std::vector<uint8_t>& file,
    uint64_t max_memory = kMemory) {
  const std::unique_ptr<Source> source = MakeMemorySource(file, "tiny.gguf");
  absl::StatusOr<Gguf> gguf = Gguf::Read(*source);
  if (!gguf.ok()) return gguf.status();
  std::vector<uint32_t> ids(model.vocabulary());
  std::iota(ids.begin(), ids.end(), 0);
  return Transformer::Load(*gguf, *source, ids, max_memory);
}

/// Some text of stream `seed`.
std::vector<uint32_t> Tokens(uint32_t seed, size_t count) {
  std::vector<uint32_t> tokens = {TextModel::kBegin};
  for (uint32_t i = 1; i < count; ++i) {
    tokens.push_back((i * i * 7 + i * (seed + 3) + seed * 31) % 251);
  }
  return tokens;
}

/// Sums after each token of one text, read alone.
std::vector<Sums> Read(const Transformer& model,
                       const std::vector<uint32_t>& tokens, int threads,
                       const Kernels& kernels) {
  auto session = model.Start(1, threads, kMemory, kernels);
  EXPECT_TRUE(session.ok()) << session.status();
  std::vector<Sums> sums;
  for (uint32_t token : tokens) {
    (*session)->Step({&token, 1});
    const auto now = (*session)->Sums(0);
    sums.emplace_back(now.begin(), now.end());
  }
  return sums;
}

struct Case {
  std::string name;
  TinyModel model;
};
std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.name;
}

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const char* type :
       {"F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"}) {
    cases.push_back({std::string("llama_") + type, {.weights = type}});
  }
  for (const char* type : {"Q4_K", "Q5_K", "Q6_K"}) {
    cases.push_back({std::string("llama_") + type,
                     {.weights = type,
                      .layers = 1,
                      .width = 256,
                      .feed_width = 256,
                      .heads = 8,
                      .key_heads = 2}});
  }
  cases.push_back({"llama_factors", {.has_rope_factors = true}});
  cases.push_back({"llama_output", {.key_heads = 4, .has_output = true}});
  cases.push_back({"qwen2", {.architecture = "qwen2", .key_heads = 1}});
  cases.push_back({"qwen3", {.architecture = "qwen3", .head_width = 64}});
  cases.push_back({"gemma2", {.architecture = "gemma2", .layers = 3}});
  cases.push_back(
      {"gemma2_wide_window", {.architecture = "gemma2", .window = 4096}});
  cases.push_back({"gemma3", {.architecture = "gemma3", .layers = 7}});
  return cases;
}

class Families : public ::testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(, Families, ::testing::ValuesIn(Cases()),
                         [](const auto& tested) { return tested.param.name; });

// Beyond the context, so that first positions have moved.
TEST_P(Families, ComputeWhatTheirDefinitionSays) {
  TinyModel tiny = GetParam().model;
  Reference::Weights weights;
  tiny.see = [&](const std::string& name, const std::vector<float>& numbers) {
    weights[name] = numbers;
  };
  const std::vector<uint8_t> file = tiny.Make();
  const auto model = Load(tiny, file);
  ASSERT_TRUE(model.ok()) << model.status();
  Reference reference(tiny, weights);
  const std::vector<uint32_t> tokens = Tokens(5, 150);
  const std::vector<Sums> sums = Read(**model, tokens, 1, BestKernels());
  double worst = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const size_t token =
        tokens[i] == TextModel::kBegin ? tiny.vocabulary() - 1 : tokens[i];
    const std::vector<double> chances = reference.Step(token);
    ASSERT_EQ(chances.size() + 1, sums[i].size());
    double distance = 0;
    for (size_t k = 0; k < chances.size(); ++k) {
      const double chance = static_cast<double>(sums[i][k + 1] - sums[i][k]) /
                            static_cast<double>(sums[i].back());
      distance += std::fabs(chance - chances[k]) / 2;
    }
    worst = std::max(worst, distance);
  }
  RecordProperty("worst", std::to_string(worst));
  // Weights and numbers of 8 bits; pairs turned in the wrong order give 0.5.
  EXPECT_LT(worst, 0.06);
}

TEST_P(Families, AreTheSameOnAllTargets) {
  const TinyModel tiny = GetParam().model;
  const std::vector<uint8_t> file = tiny.Make();
  const auto model = Load(tiny, file);
  ASSERT_TRUE(model.ok()) << model.status();
  const std::vector<uint32_t> tokens = Tokens(2, 140);
  const auto expected = Read(**model, tokens, 1, kKernelsScalar);
  for (kernels::Target target : kTargets) {
    const Kernels* kernels = FindKernels(target);
    if (kernels == nullptr) continue;
    EXPECT_EQ(Read(**model, tokens, 1, *kernels), expected)
        << static_cast<int>(target);
  }
}

TEST(Transformer, SumsAscend) {
  const TinyModel tiny;
  const auto model = Load(tiny, tiny.Make());
  ASSERT_TRUE(model.ok()) << model.status();
  for (const Sums& sums : Read(**model, Tokens(0, 3), 1, BestKernels())) {
    ASSERT_EQ(sums.size(), (*model)->outputs() + 1);
    EXPECT_EQ(sums[0], 0u);
    for (size_t i = 0; i + 1 < sums.size(); ++i) {
      EXPECT_LT(sums[i], sums[i + 1]);
    }
    EXPECT_LT(sums.back(), uint64_t{1} << 48);
  }
}

// Streams begin at different times, rest at times, and move beyond the context.
TEST(Transformer, TextsDoNotChangeEachOther) {
  for (const char* family : {"llama", "gemma3"}) {
    const TinyModel tiny{.architecture = family, .context = 64};
    const auto model = Load(tiny, tiny.Make());
    ASSERT_TRUE(model.ok()) << model.status();
    constexpr size_t kStreams = 19;
    constexpr size_t kSteps = 84;
    std::vector<std::vector<uint32_t>> texts;
    std::vector<std::vector<Sums>> alone;
    for (uint32_t i = 0; i < kStreams; ++i) {
      texts.push_back(Tokens(i, kSteps));
      if (i % 6 != 0) continue;
      alone.push_back(Read(**model, texts.back(), 1, BestKernels()));
    }
    for (int threads = 1; threads <= 4; ++threads) {
      auto session = (*model)->Start(kStreams, threads, kMemory);
      ASSERT_TRUE(session.ok()) << session.status();
      std::vector<size_t> read(kStreams);
      for (size_t step = 0; step < kSteps; ++step) {
        std::vector<uint32_t> tokens(kStreams, TextModel::kNone);
        for (size_t i = 0; i < kStreams; ++i) {
          if (i > step || (step + i) % 11 == 0) continue;
          tokens[i] = texts[i][read[i]++];
        }
        (*session)->Step(tokens);
        for (size_t i = 0; i < kStreams; i += 6) {
          if (tokens[i] == TextModel::kNone) continue;
          ASSERT_THAT((*session)->Sums(i),
                      ::testing::ElementsAreArray(alone[i / 6][read[i] - 1]))
              << family << " " << threads << " threads, step " << step
              << ", text " << i;
        }
      }
    }
  }
}

#if defined(__SSE2__)
TEST(Transformer, SettingsOfFloatsDoNotMatter) {
  const TinyModel tiny;
  const std::vector<uint8_t> file = tiny.Make();
  const std::vector<uint32_t> tokens = Tokens(1, 40);
  const auto model = Load(tiny, file);
  ASSERT_TRUE(model.ok()) << model.status();
  const auto expected = Read(**model, tokens, 1, BestKernels());
  const unsigned saved = _mm_getcsr();
  const unsigned odd = 0x1f80 | 0x8040 | 0x4000;  // no subnormals, rounds up
  _mm_setcsr(odd);
  const auto again = Load(tiny, file);
  const auto sums = again.ok() ? Read(**again, tokens, 2, BestKernels())
                               : std::vector<Sums>();
  const unsigned after = _mm_getcsr();
  _mm_setcsr(saved);
  EXPECT_EQ(after & ~0x3fu, odd);
  EXPECT_EQ(sums, expected);
}
#endif

TEST(Transformer, BoundsMemory) {
  const TinyModel tiny;
  const std::vector<uint8_t> file = tiny.Make();
  EXPECT_EQ(Load(tiny, file, 10000).status().code(),
            absl::StatusCode::kResourceExhausted);
  const auto model = Load(tiny, file);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->Start(4, 1, 50000).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ((*model)->Start(0, 1, kMemory).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ((*model)->Start(1 << 20, 1, UINT64_MAX).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(Transformer, NamesWhatItDoesNotKnow) {
  const auto message = [](const TinyModel& model) {
    const absl::Status status = Load(model, model.Make()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << status;
    return std::string(status.message());
  };
  EXPECT_THAT(message({.architecture = "mamba"}), HasSubstr("mamba"));
  EXPECT_THAT(message({.width = 48}), HasSubstr("multiples of 32"));
  EXPECT_THAT(message({.context = 40}), HasSubstr("context"));
}

TEST(Transformer, RefusesTensorsOfOtherShapes) {
  const TinyModel tiny;
  GgufWriter file;
  file.Text("general.architecture", "llama");
  for (const char* key : {"block_count", "attention.head_count"}) {
    file.Integer(std::string("llama.") + key, 1);
  }
  for (const char* key : {"embedding_length", "feed_forward_length"}) {
    file.Integer(std::string("llama.") + key, 64);
  }
  file.Integer("llama.context_length", 128);
  file.Float("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  file.Tensor("token_embd.weight", {tiny.vocabulary(), 32}, 0,
              std::vector<uint8_t>(tiny.vocabulary() * 32 * 4));
  const absl::Status status = Load(tiny, file.Finish()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("token_embd.weight"));
}

/// Whatever the bytes are: an error, or a model that reads.
void ReadHostile(const std::vector<uint8_t>& file) {
  const std::unique_ptr<Source> source = MakeMemorySource(file, "hostile");
  const auto model = LoadModel(*source, kMemory);
  if (!model.ok()) return;
  const auto session = (*model)->Start(1, 1, kMemory);
  if (!session.ok()) return;
  uint32_t token = TextModel::kBegin;
  for (int i = 0; i < 3; ++i) {
    (*session)->Step({&token, 1});
    const auto sums = (*session)->Sums(0);
    ASSERT_EQ(sums.size(), (*model)->vocabulary().size() + 1);
    for (size_t k = 0; k + 1 < sums.size(); ++k) {
      ASSERT_LT(sums[k], sums[k + 1]);
    }
    token = 7;
  }
}

TEST(HostileModel, Truncated) {
  const std::vector<uint8_t> file = TinyModel{.layers = 1}.Make();
  for (size_t size = 0; size < file.size(); size += 1 + size / 23) {
    const std::vector<uint8_t> part(file.begin(), file.begin() + size);
    const std::unique_ptr<Source> source = MakeMemorySource(part, "cut");
    EXPECT_FALSE(LoadModel(*source, kMemory).ok()) << size;
  }
}

TEST(HostileModel, Flipped) {
  const std::vector<uint8_t> file = TinyModel{.layers = 1}.Make();
  uint32_t state = 1;
  const auto random = [&] { return state = state * 1664525 + 1013904223; };
  for (int round = 0; round < 400; ++round) {
    std::vector<uint8_t> bad = file;
    // Metadata more often than weights.
    const size_t range = round % 4 == 0 ? bad.size() : 1200;
    for (uint32_t flips = random() >> 30; flips < 4; ++flips) {
      bad[(random() >> 8) % range] ^=
          static_cast<uint8_t>(1 << (random() >> 29));
    }
    ReadHostile(bad);
  }
}

// Infinities and NaNs in weights: still the same everywhere.
TEST(HostileModel, WeightsThatAreNoNumbers) {
  for (const char* family : {"llama", "gemma2", "gemma3"}) {
    TinyModel tiny{.architecture = family, .weights = "F32"};
    std::vector<uint8_t> file = tiny.Make();
    for (size_t at = file.size() - 4000; at > file.size() / 3; at -= 30000) {
      const uint32_t odd[] = {0x7f800000, 0xff800000, 0x7fc00001, 0xff7fffff};
      for (size_t i = 0; i < 40; ++i) {
        std::memcpy(&file[at / 4 * 4 + i * 52], &odd[i % 4], 4);
      }
    }
    const auto model = Load(tiny, file);
    ASSERT_TRUE(model.ok()) << model.status();
    const std::vector<uint32_t> tokens = Tokens(3, 100);
    const auto expected = Read(**model, tokens, 1, kKernelsScalar);
    for (kernels::Target target : kTargets) {
      const Kernels* kernels = FindKernels(target);
      if (kernels == nullptr) continue;
      EXPECT_EQ(Read(**model, tokens, 2, *kernels), expected);
    }
  }
}

}  // namespace
}  // namespace zipllm::llm
