// The coder of elements against predictions that codecs share.
#include "codecs/reference/residuals.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "codecs/reference/residuals_models.h"

namespace zipllm::codecs::residuals {
namespace {

using ::testing::TestParamInfo;

struct Kind {
  size_t size;
  Number number;
};

class ResidualsTest : public testing::TestWithParam<Kind> {
 protected:
  const Alphabet& alphabet() const {
    return AlphabetOf(GetParam().size, GetParam().number);
  }
};

std::string Name(const TestParamInfo<Kind>& info) {
  return (info.param.number == Number::kFloat ? "Float" : "Integer") +
         std::to_string(8 * info.param.size);
}

/// What is coded: elements beside predictions and contexts.
struct Data {
  size_t contexts = 1;
  std::vector<uint8_t> context, element, prediction;
};

Data MakeData(size_t size, size_t count, size_t contexts, uint32_t seed) {
  std::mt19937_64 random(seed);
  Data data;
  data.contexts = contexts;
  data.context.resize(count);
  data.element.resize(count * size);
  data.prediction.resize(count * size);
  for (size_t i = 0; i < count; ++i) {
    data.context[i] = static_cast<uint8_t>(random() % contexts);
    const uint64_t prediction = random();
    // Anything from the same to any other bits, and the sign at times.
    const size_t most = 1 + random() % (8 * size);
    uint64_t difference = random() & ((uint64_t{2} << (most - 1)) - 1);
    if (data.context[i] % 2 == 0) difference >>= random() % 64;
    uint64_t element =
        random() % 2 ? prediction + difference : prediction - difference;
    if (random() % 16 == 0) element ^= uint64_t{1} << (8 * size - 1);
    std::memcpy(&data.prediction[i * size], &prediction, size);
    std::memcpy(&data.element[i * size], &element, size);
  }
  return data;
}

/// Parameters and one block.
struct Coded {
  Buffer params, block;
};

Coded Encode(const Alphabet& alphabet, const Data& data,
             const ContextGrid& grid = {}) {
  const size_t count = data.context.size();
  std::vector<uint8_t> symbols(count);
  ToSymbols(alphabet, data.element.data(), data.prediction.data(), count,
            symbols.data());
  ResidualCounts counts(data.contexts);
  counts.Add(data.context.data(), symbols.data(), count);
  const ResidualEncoder encoder(alphabet, counts, grid);
  Coded coded;
  encoder.Write(&coded.params);
  Buffer a, b;
  encoder.Encode(data.context.data(), symbols.data(), data.element.data(),
                 data.prediction.data(), count, &a, &b, &coded.block);
  return coded;
}

/// Whether what comes out was reported to be right; `elements` is what came.
absl::Status Decode(const Alphabet& alphabet, const Data& data, ByteSpan params,
                    ByteSpan block, size_t piece,
                    std::vector<uint8_t>* elements) {
  ByteReader params_reader(params);
  ASSIGN_OR_RETURN(
      const ResidualDecoder decoder,
      ResidualDecoder::Parse(alphabet, data.contexts, params_reader));
  RETURN_IF_ERROR(params_reader.ExpectEnd());
  ByteReader reader(block);
  Buffer buffer;
  const size_t count = data.context.size();
  const size_t size = alphabet.element_size;
  ASSIGN_OR_RETURN(ResidualBlock decoding,
                   ResidualBlock::Start(decoder, count, reader, &buffer));
  RETURN_IF_ERROR(reader.ExpectEnd());
  *elements = data.prediction;
  for (size_t i = 0; i < count; i += piece) {
    uint8_t* const at = elements->data() + i * size;
    decoding.Next(&data.context[i], at, std::min(piece, count - i), at);
  }
  return decoding.Finish();
}

TEST_P(ResidualsTest, AlphabetFitsInABytesSymbols) {
  EXPECT_LE(alphabet().size, 256);
  EXPECT_GT(alphabet().size, 31);
}

TEST_P(ResidualsTest, EverythingComesBack) {
  const size_t size = GetParam().size;
  for (const size_t count : {1, 2, 31, 384, 8191, 8192, 8193, 100000, 262144}) {
    for (const size_t contexts : {1, 2, 64, 256}) {
      if (count > 10000 && contexts == 2) continue;
      const Data data = MakeData(size, count, contexts, 7);
      const Coded coded = Encode(alphabet(), data, {.columns = 16});
      std::vector<uint8_t> elements;
      const absl::Status status =
          Decode(alphabet(), data, coded.params.span(), coded.block.span(),
                 ResidualBlock::kPiece * 3, &elements);
      ASSERT_TRUE(status.ok()) << count << " " << status;
      ASSERT_EQ(elements, data.element) << count << " " << contexts;
    }
  }
}

TEST_P(ResidualsTest, AllPairsOfSmallNumbersComeBack) {
  const size_t size = GetParam().size;
  Data data;
  data.contexts = 1;
  for (uint32_t x = 0; x < 256; ++x) {
    for (uint32_t p = 0; p < 256; ++p) {
      // In the lowest byte and in the highest.
      const auto add = [&](size_t place) {
        data.context.push_back(0);
        for (size_t b = 0; b < size; ++b) {
          data.element.push_back(static_cast<uint8_t>(b == place ? x : 0));
          data.prediction.push_back(static_cast<uint8_t>(b == place ? p : 0));
        }
      };
      add(0);
      add(size - 1);
    }
  }
  const Coded coded = Encode(alphabet(), data);
  std::vector<uint8_t> elements;
  const absl::Status status =
      Decode(alphabet(), data, coded.params.span(), coded.block.span(),
             data.context.size(), &elements);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(elements, data.element);
}

TEST_P(ResidualsTest, EqualElementsTakeNearlyNothing) {
  Data data = MakeData(GetParam().size, 100000, 64, 3);
  data.element = data.prediction;
  const Coded coded = Encode(alphabet(), data);
  EXPECT_LT(coded.params.size(), 20u);
  EXPECT_LT(coded.block.size(), 150u);
  data = MakeData(GetParam().size, 384, 64, 3);
  data.element = data.prediction;
  EXPECT_LT(Encode(alphabet(), data).block.size(), 10u);
}

TEST_P(ResidualsTest, ContextsThatSayNothingShareAClass) {
  // Symbols do not depend on the context: more contexts take no more.
  Data data = MakeData(GetParam().size, 20000, 1, 5);
  const size_t one = Encode(alphabet(), data).params.size();
  std::mt19937 random(1);
  data.contexts = 64;
  for (uint8_t& context : data.context) {
    context = static_cast<uint8_t>(random() % 64);
  }
  EXPECT_LT(Encode(alphabet(), data).params.size(), one + 10);
}

TEST_P(ResidualsTest, CostIsWhatABlockTakes) {
  const Data data = MakeData(GetParam().size, 50000, 16, 9);
  std::vector<uint8_t> symbols(data.context.size());
  ToSymbols(alphabet(), data.element.data(), data.prediction.data(),
            symbols.size(), symbols.data());
  ResidualCounts counts(16);
  counts.Add(data.context.data(), symbols.data(), symbols.size());
  const ResidualEncoder encoder(alphabet(), counts, {});
  const Coded coded = Encode(alphabet(), data);
  EXPECT_NEAR(static_cast<double>(encoder.cost()) / 8,
              static_cast<double>(coded.block.size()),
              200 + 0.002 * static_cast<double>(coded.block.size()));
}

TEST_P(ResidualsTest, DamageIsReportedOrHarmless) {
  const Data data = MakeData(GetParam().size, 9000, 4, 11);
  const Coded coded = Encode(alphabet(), data);
  std::mt19937 random(2);
  std::vector<uint8_t> elements;
  for (int round = 0; round < 300; ++round) {
    std::vector<uint8_t> params(coded.params.span().begin(),
                                coded.params.span().end());
    std::vector<uint8_t> block(coded.block.span().begin(),
                               coded.block.span().end());
    std::vector<uint8_t>& hit = round % 2 ? params : block;
    if (round % 3 == 0) {
      hit.resize(random() % hit.size());
    } else {
      hit[random() % hit.size()] ^= static_cast<uint8_t>(1 << random() % 8);
    }
    const absl::Status status = Decode(alphabet(), data, params, block,
                                       ResidualBlock::kPiece, &elements);
    if (round % 3 == 0) {
      EXPECT_FALSE(status.ok());
    }
  }
}

TEST_P(ResidualsTest, ContextsBeyondThoseKnownAreReported) {
  Data data = MakeData(GetParam().size, 100, 4, 11);
  const Coded coded = Encode(alphabet(), data);
  data.context[50] = 200;
  std::vector<uint8_t> elements;
  EXPECT_FALSE(Decode(alphabet(), data, coded.params.span(), coded.block.span(),
                      128, &elements)
                   .ok());
}

TEST(Frequencies, AddUpWhateverTheLevels) {
  std::mt19937 random(3);
  for (int round = 0; round < 2000; ++round) {
    ClassLevels levels{};
    const size_t used = 1 + random() % 256;
    const int most = 1 + static_cast<int>(random() % (kLevels - 1));
    for (size_t s = 0; s < used; ++s) {
      // Many rare ones beside a few that are equally frequent.
      levels[s] = static_cast<uint8_t>(round % 2 != 0
                                           ? random() % 4 != 0 ? 1 : most
                                           : static_cast<int>(random()) & 63);
    }
    const entropy::ByteFrequencies frequencies = FrequenciesOf(levels);
    uint32_t sum = 0;
    for (size_t s = 0; s < levels.size(); ++s) {
      EXPECT_EQ(frequencies[s] != 0, levels[s] != 0);
      sum += frequencies[s];
    }
    const bool any = std::ranges::any_of(levels, [](int l) { return l != 0; });
    EXPECT_EQ(sum, any ? 4096u : 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, ResidualsTest,
    testing::Values(Kind{1, Number::kFloat}, Kind{2, Number::kFloat},
                    Kind{4, Number::kFloat}, Kind{8, Number::kFloat},
                    Kind{1, Number::kInteger}, Kind{2, Number::kInteger},
                    Kind{4, Number::kInteger}, Kind{8, Number::kInteger}),
    Name);

}  // namespace
}  // namespace zipllm::codecs::residuals
