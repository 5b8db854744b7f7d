// Codec float against its spec page: coded bytes written by hand and damaged
// with aim, every value of 16 bits, real tensors, all kernel targets alike.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/bytes.h"
#include "codecs/coding.h"
#include "codecs/generators.h"
#include "kernels/kernels.h"

namespace zipllm::codecs {
namespace {

using testing::HasSubstr;

constexpr CodecId kFloat = 5;
constexpr DType kTypes[] = {DType::kBF16, DType::kF16, DType::kF32};

void Append16(Bytes* bytes, uint32_t value) {
  bytes->push_back(static_cast<uint8_t>(value));
  bytes->push_back(static_cast<uint8_t>(value >> 8));
}

/// Codes as one block and decodes; the coded size, or nullopt if not coded.
std::optional<size_t> RoundTrip(const Bytes& data, DType dtype) {
  const EncodeRequest request = {data, data.size(), dtype, 3};
  if (CheckRoundTrip(kFloat, request) == 0) return std::nullopt;
  Scratch scratch;
  const auto frame = EncodeFrame(*FindEncoder(kFloat), request, scratch);
  return frame->params.size() + frame->blocks[0]->size();
}

// ---- The spec's example and aimed damage ----

Bytes ExampleParams() {
  return {0x01, 0x01, 0x7F, 0x01, 0x01, 0x80, 0x20, 0x00, 0x00, 0x00};
}

Bytes ExampleBlock() {
  Bytes block = {0, 0, 0};
  for (int lane = 0; lane < 32; ++lane) {
    block.insert(block.end(), {0, 0, 1, 0});
  }
  block.insert(block.end(), {0, 0, 0});
  return block;
}

absl::Status Refusal(const Bytes& params, const Bytes& coded, size_t size) {
  absl::Status why;
  EXPECT_EQ(DecodeBlock(*FindDecoder(kFloat), params, coded, size, &why),
            std::nullopt);
  EXPECT_EQ(why.code(), absl::StatusCode::kDataLoss);
  return why;
}

void ExpectRefusedParams(const Bytes& params, const std::string& message) {
  const auto parsed = FindDecoder(kFloat)->parse(params);
  ASSERT_FALSE(parsed.ok()) << "expected: " << message;
  EXPECT_EQ(parsed.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(parsed.status().message()), HasSubstr(message));
}

TEST(FloatSpecTest, Example) {
  const auto decoded =
      DecodeBlock(*FindDecoder(kFloat), ExampleParams(), ExampleBlock(), 8);
  EXPECT_EQ(decoded, (Bytes{0x80, 0x3F, 0x80, 0x3F, 0x80, 0x3F, 0x80, 0x3F}));
}

TEST(FloatSpecTest, PlanesOfTheExample) {
  // Sign plane as runs: element 1 is -1.0. Low mantissa raw: element 0 ends in
  // 5.
  Bytes block = ExampleBlock();
  block.resize(block.size() - 3);
  block.push_back(1);
  Bytes mantissa(64, 0);
  mantissa[0] = 5;
  block.insert(block.end(), mantissa.begin(), mantissa.end());
  block.push_back(0);
  Bytes sign(16, 0);
  sign[0] = 2;
  block.insert(block.end(), {2, 1});
  block.insert(block.end(), sign.begin(), sign.end());
  const auto decoded =
      DecodeBlock(*FindDecoder(kFloat), ExampleParams(), block, 4);
  EXPECT_EQ(decoded, (Bytes{0x85, 0x3F, 0x80, 0xBF}));
}

TEST(FloatSpecTest, RefusesWrongParameters) {
  ExpectRefusedParams({}, "ends early");
  ExpectRefusedParams({0}, "kind");
  ExpectRefusedParams({4}, "kind");
  ExpectRefusedParams({1, 32}, "32 exponents");
  ExpectRefusedParams({1, 2, 5, 5, 0, 1, 0, 0}, "ascend");
  ExpectRefusedParams({2, 1, 32, 0, 1, 0}, "ascend");
  ExpectRefusedParams({1, 1, 7, 2, 1, 0}, "are not 0");
  ExpectRefusedParams({1, 1, 7, 0, 0}, "0 tables");
  ExpectRefusedParams({1, 1, 7, 0, 5, 0}, "5 tables");
  ExpectRefusedParams({1, 1, 7, 0, 1}, "ends early");
  ExpectRefusedParams({1, 1, 7, 0, 1, 0, 0}, "byte 6");
  Bytes joined = {1, 8, 0, 1, 2, 3, 4, 5, 6, 7, 0xFF, 1};
  joined.resize(joined.size() + 32);
  ExpectRefusedParams(joined, "32 symbols");
  // 4096 + 1 in all.
  ExpectRefusedParams({1, 2, 5, 6, 0, 1, 0x80, 0x20, 1}, "");
}

TEST(FloatSpecTest, RefusesWrongBlocks) {
  const Bytes params = ExampleParams(), good = ExampleBlock();
  const auto message = [&](const Bytes& block, size_t size = 8) {
    return std::string(Refusal(params, block, size).message());
  };
  EXPECT_THAT(message(good, 7), HasSubstr("whole number"));
  Bytes block = good;
  block[0] = 33;  // words, of at most 32
  EXPECT_THAT(message(block), HasSubstr("byte 0"));
  block = good;
  block[3] = 1;  // a state that ends elsewhere
  EXPECT_THAT(message(block), HasSubstr("do not end"));
  block = good;
  block[0] = 1;  // a word too many
  block.insert(block.begin() + 3 + 128, {0, 0});
  EXPECT_THAT(message(block), HasSubstr("do not end"));
  block = good;
  block[1] = 1;  // extra bits that nothing takes
  block.insert(block.begin() + 3 + 128, 0);
  EXPECT_THAT(message(block), HasSubstr("do not end"));
  block = good;
  block[1] = 1;
  block.insert(block.begin() + 3 + 128, 4);  // past the pair
  EXPECT_THAT(message(block), HasSubstr("are not 0"));
  block = good;
  block.back() = 4;
  EXPECT_THAT(message(block), HasSubstr("mode of plane 4"));
  block = good;
  block.back() = 2;
  block.push_back(2);  // of one group
  EXPECT_THAT(message(block), HasSubstr("are not 0"));
  block = good;
  block.push_back(0);
  (void)Refusal(params, block, 8);
  EXPECT_THAT(std::string(FindDecoder(kFloat)
                              ->decode(nullptr, good, Exact(8).mutable_span(),
                                       *std::make_unique<Scratch>())
                              .message()),
              HasSubstr("no parameters"));
}

TEST(FloatSpecTest, RefusesWrongSelectorsAndEscapes) {
  // Two tables: all to key 508, and all to the escape.
  const Bytes params = {0x02, 0x01, 0x0F, 0x01, 0x02, 0x80, 0x20,
                        0,    0,    0,    0,    0,    0,    0};
  Bytes block = ExampleBlock();
  block.insert(block.begin() + 3, 0);
  block.insert(block.end(), {0, 0, 0});
  EXPECT_TRUE(DecodeBlock(*FindDecoder(kFloat), params, block, 8).has_value());
  block[3] = 2;
  EXPECT_THAT(std::string(Refusal(params, block, 8).message()),
              HasSubstr("selector 2"));
  block[3] = 4;  // of a second chunk
  (void)Refusal(params, block, 8);
  // The escape, 32 times: pairs and exponents must be there.
  block[3] = 1;
  (void)Refusal(params, block, 8);
  block[1] = block[2] = 32;
  Bytes escapes(8 + 32, 0x0A);
  block.insert(block.begin() + 4 + 128, escapes.begin(), escapes.end());
  const auto decoded = DecodeBlock(*FindDecoder(kFloat), params, block, 4);
  // Exponent 10; mantissa bits 2, 2, 0, 0 of each four.
  EXPECT_EQ(decoded, (Bytes{0, 0x2A, 0, 0x2A}));
  block[4 + 128 + 8] = 32;
  EXPECT_THAT(std::string(Refusal(params, block, 4).message()),
              HasSubstr("escaped exponent 32"));
}

// ---- Values and sizes ----

TEST(FloatTest, EveryValueAmongWeights) {
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    Bytes data = MakeInput(Kind::kGaussian, dtype, 200000);
    for (uint32_t v = 0; v < 65536; ++v) Append16(&data, v);
    EXPECT_TRUE(RoundTrip(data, dtype).has_value());
  }
  Bytes data = MakeInput(Kind::kGaussian, DType::kF32, 200000);
  for (uint32_t v = 0; v < 65536; ++v) {
    Append16(&data, v * 40503);
    Append16(&data, v);
  }
  EXPECT_TRUE(RoundTrip(data, DType::kF32).has_value());
}

TEST(FloatTest, PlanMadeForOtherValues) {
  // Whatever a block holds, a plan for something else codes it or says no.
  const Bytes constant(8192, 0x3F);
  for (const DType dtype : kTypes) {
    Scratch scratch;
    const auto plan =
        FindEncoder(kFloat)->plan({constant, 4096, dtype, 3}, scratch);
    ASSERT_NE(plan, nullptr);
    const auto params =
        std::move(FindDecoder(kFloat)->parse(plan->params())).value();
    for (const Kind kind : kKinds) {
      const Bytes block = MakeInput(kind, dtype, 4096 / ElementBytes(dtype));
      Buffer coded;
      if (!plan->Encode(block, scratch, &coded)) continue;
      Exact out(block.size());
      const absl::Status status = FindDecoder(kFloat)->decode(
          params.get(), coded.span(), out.mutable_span(), scratch);
      ASSERT_TRUE(status.ok()) << status.message();
      EXPECT_TRUE(std::ranges::equal(out.span(), block));
    }
  }
}

TEST(FloatTest, EverySizeUpTo4100) {
  for (const DType dtype : kTypes) {
    const Bytes all = MakeInput(Kind::kGaussian, dtype, 4100);
    size_t coded = 0;
    for (size_t n = 1; n <= 4100; n += n < 300 ? 1 : 37) {
      const size_t size = n * ElementBytes(dtype);
      coded +=
          RoundTrip(Bytes(all.begin(), all.begin() + size), dtype).has_value();
    }
    EXPECT_GT(coded, 50u);
  }
}

TEST(FloatTest, SizesAroundFourStreams) {
  for (const DType dtype : kTypes) {
    const Bytes all = MakeInput(Kind::kGaussian, dtype, 70000);
    for (size_t n : {65535, 65536, 65537, 65568, 65664, 66559, 66560, 69999}) {
      const size_t size = n * ElementBytes(dtype);
      EXPECT_TRUE(
          RoundTrip(Bytes(all.begin(), all.begin() + size), dtype).has_value());
    }
  }
}

TEST(FloatTest, LevelsOfRarity) {
  // Exponents from frequent to single: listed, escaped, joined.
  Bytes data;
  Random random(5);
  for (int i = 0; i < 100000; ++i) {
    const uint64_t bits = random.Next();
    const auto exponent = static_cast<uint32_t>(std::countl_zero(bits | 1) * 4);
    Append16(&data, exponent << 7 | (bits & 0x807F));
  }
  const auto coded = RoundTrip(data, DType::kBF16);
  ASSERT_TRUE(coded.has_value());
  // 2 bits of exponent and 8 of sign and mantissa: 10 of 16.
  EXPECT_LT(*coded, data.size() * 10 / 16 * 101 / 100 + 700);
}

// ---- What planes are for ----

TEST(FloatTest, UpcastsTakeNoMoreThanTheirSource) {
  const Bytes bf16 = MakeInput(Kind::kGaussian, DType::kBF16, 100000);
  const auto narrow = RoundTrip(bf16, DType::kBF16);
  Bytes fp32;
  for (size_t i = 0; i < bf16.size(); i += 2) {
    fp32.insert(fp32.end(), {0, 0, bf16[i], bf16[i + 1]});
  }
  const auto wide = RoundTrip(fp32, DType::kF32);
  ASSERT_TRUE(narrow && wide);
  EXPECT_LE(*wide, *narrow + 16);
}

TEST(FloatTest, RowsOfFewerBitsAreRuns) {
  // A third of the rows of 384 elements has only zeros in the low halves.
  Bytes data = MakeInput(Kind::kGaussian, DType::kF32, 384 * 300);
  const auto full = RoundTrip(data, DType::kF32);
  for (size_t row = 0; row < 300; row += 3) {
    for (size_t i = row * 384; i < (row + 1) * 384; ++i) {
      data[4 * i] = data[4 * i + 1] = 0;
    }
  }
  const auto less = RoundTrip(data, DType::kF32);
  ASSERT_TRUE(full && less);
  EXPECT_LT(*less + 384 * 100 * 2 * 98 / 100, *full);
}

TEST(FloatTest, SkewedPlanesAreCompressed) {
  // Multiples of 1/64 in [-1, 1): mantissas end in zeros, more or fewer.
  Bytes data;
  Random random(9);
  for (int i = 0; i < 50000; ++i) {
    const float value =
        static_cast<float>(static_cast<int>(random.Below(128)) - 64) / 64;
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    Append16(&data, bits >> 16);
  }
  const auto coded = RoundTrip(data, DType::kBF16);
  ASSERT_TRUE(coded.has_value());
  EXPECT_LT(*coded, data.size() * 8 / 16);  // 7 bits and some
}

TEST(FloatTest, SmallTensorsGain) {
  const Bytes data = MakeInput(Kind::kGaussian, DType::kBF16, 1536);
  const auto coded = RoundTrip(data, DType::kBF16);
  ASSERT_TRUE(coded.has_value());
  EXPECT_LT(*coded, data.size() * 3 / 4);
}

TEST(FloatTest, RandomBitsHaveNoPlan) {
  for (const DType dtype : kTypes) {
    const Bytes data = MakeInput(Kind::kRandom, dtype, 70000);
    Scratch scratch;
    EXPECT_EQ(FindEncoder(kFloat)->plan({data, data.size(), dtype, 3}, scratch),
              nullptr);
  }
}

TEST(FloatTest, EstimateIsClose) {
  for (const DType dtype : kTypes) {
    const Bytes data = MakeInput(Kind::kGaussian, dtype, 500000);
    const size_t block = 100000 * ElementBytes(dtype);
    Scratch scratch;
    const auto frame =
        EncodeFrame(*FindEncoder(kFloat), {data, block, dtype, 3}, scratch);
    ASSERT_TRUE(frame.has_value());
    size_t coded = 0;
    for (const auto& bytes : frame->blocks) coded += bytes.value().size();
    EXPECT_LT(frame->estimate, coded * 101 / 100);
    EXPECT_GT(frame->estimate, coded * 99 / 100);
  }
}

// ---- Kernel targets ----

/// A number that depends on every coded byte of inputs of all kinds (FNV-1a).
uint64_t DigestOfManyFrames() {
  uint64_t digest = 0xCBF29CE484222325;
  for (const DType dtype : kTypes) {
    for (const Kind kind : kKinds) {
      for (const size_t elements : {1000, 70001}) {
        const Bytes data = MakeInput(kind, dtype, elements);
        const EncodeRequest request = {data, 33000 * ElementBytes(dtype), dtype,
                                       3};
        CheckRoundTrip(kFloat, request);
        Scratch scratch;
        const auto frame = EncodeFrame(*FindEncoder(kFloat), request, scratch);
        if (!frame) continue;
        for (const auto& block : frame->blocks) {
          for (uint8_t byte : block.value_or(Bytes{1})) {
            digest = (digest ^ byte) * 0x100000001B3;
          }
        }
      }
    }
  }
  return digest;
}

TEST(FloatTargetTest, Digest) {
  std::printf("digest %s %016llx\n", kernels::Best().name,
              static_cast<unsigned long long>(DigestOfManyFrames()));
}

/// What the test above prints where ZIPLLM_CPU is `target`.
std::string DigestOn(const std::string& target) {
  const std::string command =
      "ZIPLLM_CPU=" + target + " '" +
      std::filesystem::read_symlink("/proc/self/exe").string() +
      "' --gtest_filter=FloatTargetTest.Digest";
  std::FILE* pipe = popen(command.c_str(), "r");
  EXPECT_NE(pipe, nullptr);
  std::string line, digest;
  for (int c; (c = std::fgetc(pipe)) != EOF;) {
    if (c != '\n') {
      line.push_back(static_cast<char>(c));
      continue;
    }
    if (line.starts_with("digest " + target))
      digest = line.substr(8 + target.size());
    line.clear();
  }
  EXPECT_EQ(pclose(pipe), 0) << "round trips fail on " << target;
  return digest;
}

TEST(FloatTargetTest, AllTargetsCodeAlike) {
  const std::string scalar = DigestOn("scalar");
  EXPECT_EQ(scalar.size(), 16u);
  for (const kernels::Target target :
       {kernels::Target::kNeon, kernels::Target::kAvx2,
        kernels::Target::kAvx512}) {
    const kernels::Table* table = kernels::Find(target);
    if (table == nullptr) continue;
    EXPECT_EQ(DigestOn(table->name), scalar) << table->name;
  }
}

// ---- Real tensors ----

/// The bytes of all tensors of a safetensors file.
std::optional<Bytes> TensorBytes(const std::string& name) {
  std::ifstream file(
      std::filesystem::path(ZIPLLM_SOURCE_DIR) / "../shared/data/family" / name,
      std::ios::binary);
  if (!file) return std::nullopt;
  Bytes bytes((std::istreambuf_iterator<char>(file)), {});
  const uint64_t header = LoadLe<uint64_t>(bytes.data());
  bytes.erase(bytes.begin(),
              bytes.begin() + static_cast<std::ptrdiff_t>(8 + header));
  return bytes;
}

/// Codes in frames of eight blocks, as the archive does; coded per plain byte.
double Ratio(const Bytes& data, DType dtype) {
  const size_t block = (size_t{1} << 18) * ElementBytes(dtype);
  size_t coded = 0;
  for (size_t start = 0; start < data.size(); start += 8 * block) {
    const ByteSpan part =
        ByteSpan(data).subspan(start, std::min(8 * block, data.size() - start));
    const EncodeRequest request = {part, block, dtype, 3};
    EXPECT_EQ(CheckRoundTrip(kFloat, request), BlocksOf(request).size());
    Scratch scratch;
    const auto frame = EncodeFrame(*FindEncoder(kFloat), request, scratch);
    coded += frame->params.size();
    for (const auto& bytes : frame->blocks) coded += bytes.value().size();
  }
  return static_cast<double>(coded) / static_cast<double>(data.size());
}

/// Order-0 entropy of the exponents of BF16 or FP32 elements.
double ExponentBits(const Bytes& data, size_t element_size) {
  std::array<double, 256> counts{};
  for (size_t i = element_size - 2; i < data.size(); i += element_size) {
    ++counts[LoadLe<uint16_t>(&data[i]) >> 7 & 255];
  }
  const double total = static_cast<double>(data.size() / element_size);
  double bits = 0;
  for (double count : counts) {
    if (count > 0) bits += count / total * std::log2(total / count);
  }
  return bits;
}

TEST(FloatRealTest, Weights) {
  const auto bf16 = TensorBytes("base.bf16.safetensors");
  const auto fp32 = TensorBytes("base.fp32.safetensors");
  if (!bf16 || !fp32) GTEST_SKIP() << "no ../shared/data/family";
  // Everything but exponents stored would be:
  EXPECT_LT(Ratio(*bf16, DType::kBF16), (8 + ExponentBits(*bf16, 2)) / 16);
  EXPECT_LT(Ratio(*fp32, DType::kF32), (24 + ExponentBits(*fp32, 4)) / 32);
}

}  // namespace
}  // namespace zipllm::codecs
